"""Which features stand for a class, in right and in wrong answers?

The profile of a class is its mean row, one over rows that a probe gets right and one
over those it gets wrong. Their sums are `ClassMoments` of 2 c groups, which stream and
merge as those of classes do.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.special
from jaxtyping import Bool, Float, Int, Shaped

from repscope._arrays import Array, as_matrix, host
from repscope._checking import Undecidable, UsageError, check_length
from repscope._numerics import row_blocks
from repscope.metrics.intervals import CONFIDENCE
from repscope.metrics.metric import Estimate, metric
from repscope.metrics.row_sums import Rows
from repscope.metrics.samples import discriminative_set, z_max
from repscope.records import Detail
from repscope.representations.class_moments import ClassMoments

# A feature is active in a row from this many deviations above the row's mean.
ACTIVE_DEVIATIONS = 2.0
# Dominant features per class that exclusivity is told for.
TOP_FEATURES = 5

Group = Literal["correct", "incorrect"]
# Groups of class c are codes 2 c + 1 and 2 c of the moments.
_OFFSETS: dict[Group, int] = {"correct": 1, "incorrect": 0}
_SOURCE = "Kalibhat et al. 2022, Section 3, Fig. 1"


@dataclass(frozen=True, eq=False)
class ClassProfiles:
    """Mean rows of each class, of right and of wrong answers.

    Args:
        groups: moments of 2 c groups, 2 y + 1 for right rows of class y, 2 y for wrong
            ones; `profile_codes` gives them, `merge` adds those of another shard.
    """

    groups: ClassMoments

    @property
    def n_classes(self) -> int:
        """Number of classes c."""
        return len(self.groups.counts) // 2

    def counts(self, group: Group) -> Float[np.ndarray, " c"]:
        """Return the rows of each class in a group."""
        return np.asarray(self.groups.counts)[_OFFSETS[group] :: 2]

    def means(self, group: Group) -> Float[np.ndarray, "c d"]:
        """Return the profile of each class; zeros where it has no rows."""
        return np.asarray(self.groups.means)[_OFFSETS[group] :: 2]

    def missing(self, group: Group) -> tuple[int, ...]:
        """Return the classes that have rows, but none in this group."""
        anywhere = self.counts("correct") + self.counts("incorrect") > 0
        return tuple(np.flatnonzero(anywhere & (self.counts(group) == 0)).tolist())

    def present(self, group: Group) -> Int[np.ndarray, " k"]:
        """Return the classes that have rows in this group, ascending."""
        return np.flatnonzero(self.counts(group) > 0)

    def deviances(self, group: Group) -> Float[np.ndarray, " k"]:
        """Return how far the greatest feature of each profile stands out.

        The z-score of the maximum, over the features of the mean row, of the classes
        that are `present`.

        Source: Kalibhat et al. 2022, Fig. 1. As in the source, put as a number.
        """
        present = self.present(group)
        if len(present) == 0:
            return np.zeros(0)
        return np.asarray(z_max(self.means(group)[present]))

    def dominant(self, top: int = 1) -> Int[np.ndarray, "k top"]:
        """Return the greatest features of the profiles of right answers.

        Args:
            top: how many of each class, from the greatest; ties go to the first.

        Returns:
            One row per class that is `present`.

        Raises:
            UsageError: where `top` is not from 1 to d.
        """
        means = self.means("correct")[self.present("correct")]
        if not 1 <= top <= means.shape[1]:
            raise UsageError(
                "top: how many features of each profile",
                found=f"{top}",
                expected=f"1 to {means.shape[1]}",
            )
        return np.argsort(-means, axis=1, kind="stable")[:, :top]


def profile_codes(
    labels: Int[np.ndarray, " n"], right: Bool[np.ndarray, " n"]
) -> Int[np.ndarray, " n"]:
    """Return the group of each row, 2 y + 1 where it is answered rightly, else 2 y."""
    check_length("right", len(right), len(labels), "labels")
    return 2 * np.asarray(labels, dtype=np.int64) + np.asarray(right, dtype=np.int64)


def class_profiles(
    features: Shaped[Array, "n d"],
    labels: Int[np.ndarray, " n"],
    right: Bool[np.ndarray, " n"],
    n_classes: int,
) -> ClassProfiles:
    """Return the profiles of rows in memory; a file's groups are updated by block.

    Args:
        features: (n, d), such as the test rows of a probe.
        labels: (n,) class codes.
        right: (n,) whether the probe is right.
        n_classes: number of classes c.

    Raises:
        InputError: where labels, answers and features differ in length.
    """
    matrix = as_matrix(features)
    check_length("labels", len(labels), matrix.shape[0])
    groups = ClassMoments(2 * n_classes, matrix.shape[1])
    groups.update(matrix, profile_codes(labels, right))
    return ClassProfiles(groups)


def _over_classes(
    values: Float[np.ndarray, " k"], details: dict[str, Detail]
) -> Estimate:
    """Return the mean over classes with its t interval."""
    k, mean = len(values), float(values.mean())
    details = {**details, "n_classes": k}
    if k < 2:
        return Estimate(mean, details=details)
    error = float(values.std(ddof=1)) / k**0.5
    half = float(scipy.special.stdtrit(k - 1, (1 + CONFIDENCE) / 2)) * error
    details["interval"] = "t over classes"
    return Estimate(mean, (mean - half, mean + half), details)


@metric(
    title="deviance of class profiles",
    formula="mean over classes of (max_k m_ck - mean_k m_ck) / std_k m_ck, m_c the "
    "mean row of right answers, ddof 0",
    needs="failure",
    range="[1 / sqrt(d - 1), sqrt(d - 1)]; 0 for a constant profile",
    bounds=(0.0, None),
    direction="higher",
    minimum_n=2,
    degree=0,
    cost="O(n d)",
    source=_SOURCE,
    misleads="grows with d; the profile of few rows is as noisy as a row, which lifts "
    "its maximum; a feature that all classes share counts as one of each",
)
def class_deviance(profiles: ClassProfiles) -> Estimate:
    """Return how far the greatest feature of a class stands out from the others.

    Args:
        profiles: of right and wrong answers.

    Returns:
        From 0 to sqrt(d - 1); higher is better. Interval: t over classes. Details:
        `least` over classes, `n_classes`, and `missing`, the classes without a right
        answer.

    Raises:
        InputError: with fewer than 2 features.
        Undecidable: where no answer is right.

    Source: Kalibhat et al. 2022, Section 3, Fig. 1. As in the source, put as a number.
    """
    deviances = profiles.deviances("correct")
    if len(deviances) == 0:
        raise Undecidable("no answer is right: no class has a profile")
    return _over_classes(
        deviances,
        {"least": float(deviances.min()), "missing": profiles.missing("correct")},
    )


@metric(
    title="deviance of right over wrong answers",
    formula="mean over classes of z_max(m_c, right) - z_max(m_c, wrong)",
    needs="failure",
    range="[-sqrt(d - 1), sqrt(d - 1)]; 0 where errors look like right answers",
    direction="none",
    minimum_n=4,
    degree=0,
    cost="O(n d)",
    source=_SOURCE,
    misleads="wrong answers are fewer, and the maximum of a noisier mean is greater, "
    "which lowers the gap: read `n_correct` and `n_incorrect`",
)
def deviance_gap(profiles: ClassProfiles) -> Estimate:
    """Return how much more right answers stand out than wrong ones of their class.

    Args:
        profiles: of right and wrong answers.

    Returns:
        Above 0 where right answers have the clearer profile. Interval: t over the
        classes that have both. Details: `n_classes`, median rows `n_correct` and
        `n_incorrect` of those classes, `missing_correct` and `missing_incorrect`.

    Raises:
        InputError: with fewer than 2 features.
        Undecidable: where no class has right and wrong answers.

    Source: Kalibhat et al. 2022, Section 3, Fig. 1. As in the source, put as a number.
    """
    correct, incorrect = profiles.present("correct"), profiles.present("incorrect")
    both = np.intersect1d(correct, incorrect)
    if len(both) == 0:
        raise Undecidable("no class has both right and wrong answers")
    gaps = (
        profiles.deviances("correct")[np.isin(correct, both)]
        - profiles.deviances("incorrect")[np.isin(incorrect, both)]
    )
    details: dict[str, Detail] = {
        "n_correct": float(np.median(profiles.counts("correct")[both])),
        "n_incorrect": float(np.median(profiles.counts("incorrect")[both])),
        "missing_correct": profiles.missing("correct"),
        "missing_incorrect": profiles.missing("incorrect"),
    }
    return _over_classes(gaps, details)


@metric(
    title="exclusivity of dominant features",
    formula="share of the features that are the greatest of a class's profile of right "
    "answers which are so for one class only",
    needs="failure",
    range="[0, 1]",
    bounds=(0.0, 1.0),
    direction="higher",
    minimum_n=2,
    degree=0,
    cost="O(n d)",
    source=_SOURCE,
    misleads="noise alone gives each class its own feature where d is far above c: "
    "read it beside the deviance",
)
def exclusivity(profiles: ClassProfiles, *, top: int = 1) -> Estimate:
    """Return the share of dominant features that belong to one class.

    Args:
        profiles: of right and wrong answers.
        top: features that each class counts as dominant, from the greatest.

    Returns:
        From 0 (every dominant feature is shared) to 1; higher is better. Details: the
        share for `top_1` to `top_5`, `n_features` that are dominant, `missing`.

    Raises:
        UsageError: where `top` is not from 1 to d.
        Undecidable: with fewer than two classes that have right answers.

    Source: Kalibhat et al. 2022, Section 3 ("in most cases, these features are unique
    to a given class"). As in the source, put as a number.
    """
    if len(profiles.present("correct")) < 2:
        raise Undecidable("fewer than two classes have right answers")
    value, n_features = _exclusive(profiles.dominant(top))
    details: dict[str, Detail] = {
        "n_features": n_features,
        "missing": profiles.missing("correct"),
    }
    d = profiles.groups.means.shape[1]
    for count in range(1, min(TOP_FEATURES, d) + 1):
        details[f"top_{count}"] = _exclusive(profiles.dominant(count))[0]
    return Estimate(value, details=details)


def _exclusive(dominant: Int[np.ndarray, "k top"]) -> tuple[float, int]:
    _, owners = np.unique(dominant, return_counts=True)
    return float((owners == 1).mean()), len(owners)


def activation_rates(
    features: Rows, *, deviations: float = ACTIVE_DEVIATIONS
) -> Float[np.ndarray, " d"]:
    """Return in which share of rows each feature is active.

    Active is h_ik > mu_i + deviations sigma_i, over the features of the row, ddof 0.
    Rates of blocks average to those of the whole by their rows.

    Args:
        features: (n, d), finite, d at least 2.
        deviations: above the mean of the row.

    Returns:
        From 0 to 1 for each feature.

    Raises:
        InputError: with fewer than 2 features, or a value that is not finite.

    Source: Kalibhat et al. 2022, Section 3 (features active across all samples are
    noisy). Differs from the source in stating a threshold.

    Example:
        >>> activation_rates(np.eye(8)[:2]).tolist()
        [0.5, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    """
    matrix = as_matrix(features)
    n, d = matrix.shape
    active = np.zeros(d)
    for rows in row_blocks(n, 2 * d):
        active += host(discriminative_set(matrix[rows, :], deviations)).sum(axis=0)
    return active / n


@metric(
    title="greatest activation rate",
    formula="max_k share of rows with h_ik > μ_i + 2 σ_i",
    needs="rows",
    range="[0, 1]",
    bounds=(0.0, 1.0),
    direction="lower",
    minimum_n=1,
    degree=0,
    invariances=("duplication",),
    cost="O(n d)",
    source="Kalibhat et al. 2022, Section 3 and Appendix A.1",
    misleads="one coordinate of a vision transformer is always active by nature; with "
    "5 features or fewer none can be active",
)
def activation_rate(features: Rows) -> Estimate:
    """Return the share of rows in which the most used feature is active.

    Args:
        features: (n, d), finite, d at least 2.

    Returns:
        From 0 to 1; lower is better: a feature active in all rows tells none apart.
        Details: its `feature`, `mean` over features, share `never` active.

    Raises:
        InputError: with fewer than 2 features, or a value that is not finite.

    Source: Kalibhat et al. 2022, Section 3. As in the source, put as a number.
    """
    rates = activation_rates(features)
    return Estimate(
        float(rates.max()),
        details={
            "feature": int(rates.argmax()),
            "mean": float(rates.mean()),
            "never": float((rates == 0).mean()),
        },
    )
