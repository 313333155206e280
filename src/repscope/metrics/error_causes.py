"""Why is a row misclassified? Its class's feature is missing, spurious, or shared.

The dominant feature of a class is the greatest of its profile of right answers. Where a
wrong row lacks it, it is missing; where it is active but looks away from the object, it
is spurious; else the classes are confusable.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from repscope._arrays import Array, host, namespace
from repscope._checking import InputError, check_length
from repscope.metrics.profiles import ACTIVE_DEVIATIONS, ClassProfiles
from repscope.metrics.row_sums import row_sums
from repscope.records import Detail

# A heatmap below this quantile of those of right answers looks at something else.
SPURIOUS_QUANTILE = 0.1


class Cause(Enum):
    """Why a row is misclassified."""

    MISSING = "missing"
    SPURIOUS = "spurious"
    CONFUSABLE = "confusable"
    UNDECIDED = "undecided"


@dataclass(frozen=True, eq=False)
class HeatmapEnergies:
    """How much of a feature's heatmap falls on the object, row by row.

    Energy inside the object's mask, or the overlap with the mean heatmap of right
    answers of the class where there are no masks.

    Args:
        own: (n,) of the dominant feature of the row's class.
        predicted: (n,) of the dominant feature of the predicted class; None where it
            is not known, and only `own` can be spurious.
    """

    own: Float[np.ndarray, " n"]
    predicted: Float[np.ndarray, " n"] | None = None


@dataclass(frozen=True, eq=False)
class ErrorCauses:
    """The cause of each error.

    Args:
        rows: (m,) rows answered wrongly, ascending.
        causes: one per error.
        counts: class code -> cause -> errors of that class.
        details: `spurious_decided`, whether heatmaps were given, and errors in all by
            cause.
    """

    rows: Int[np.ndarray, " m"]
    causes: tuple[Cause, ...]
    counts: Mapping[int, Mapping[Cause, int]]
    details: Mapping[str, Detail] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Answers:
    """What a probe answers, and what is right.

    Args:
        labels: (n,) class codes; where they are not known, the predictions stand for
            them.
        predictions: (n,) class codes.
        right: (n,) whether the answer is right.
    """

    labels: Int[np.ndarray, " n"]
    predictions: Int[np.ndarray, " n"]
    right: Bool[np.ndarray, " n"]

    @classmethod
    def of(
        cls, labels: Int[np.ndarray, " n"], predictions: Int[np.ndarray, " n"]
    ) -> "Answers":
        """Return answers that are right where they are the label."""
        return cls(labels, predictions, labels == predictions)


def error_causes(
    features: Shaped[Array, "n d"],
    answers: Answers,
    profiles: ClassProfiles,
    *,
    energies: HeatmapEnergies | None = None,
) -> ErrorCauses:
    """Return why each wrong row is misclassified.

    With k(c) the dominant feature of class c, y the label and p the prediction:
    missing if the z-score of h_i,k(y) within its row is below 2; spurious if k(y), or
    k(p) where it is active (z at least 2), has less energy on the object than the 10th
    percentile of right answers of its class; else confusable. Undecided where class y
    has no right answer and so no dominant feature.

    Args:
        features: (n, d), finite, d at least 2.
        answers: of a probe, for these rows.
        profiles: of right and wrong answers.
        energies: of heatmaps; without them an active feature is confusable.

    Returns:
        The causes, with counts per class.

    Raises:
        InputError: where lengths differ, or values are not finite.

    Source: Kalibhat et al. 2022, Section 3 (two causes of errors). Differs from the
    source, which shows heatmaps, in thresholds and in the third cause.
    """
    n = features.shape[0]
    for name in ("labels", "predictions", "right"):
        check_length(name, len(getattr(answers, name)), n)
    wrong = np.flatnonzero(~answers.right)
    known = np.zeros(profiles.n_classes, dtype=bool)
    known[profiles.present("correct")] = True
    dominant = np.zeros(profiles.n_classes, dtype=np.int64)
    dominant[known] = profiles.dominant(1)[:, 0]
    y, p = answers.labels[wrong], answers.predictions[wrong]
    taken = features[namespace(features).asarray(wrong), :]
    active = [
        known[codes] & (scores_within_row(taken, dominant[codes]) >= ACTIVE_DEVIATIONS)
        for codes in (y, p)
    ]
    spurious = _spurious(answers, wrong, active, energies)
    causes = tuple(
        _cause(*row) for row in zip(known[y], active[0], spurious, strict=True)
    )
    return _counted(wrong, y, causes, energies is not None)


def _cause(is_known: np.bool, is_active: np.bool, is_spurious: np.bool) -> Cause:
    if not is_known:
        return Cause.UNDECIDED
    if not is_active:
        return Cause.MISSING
    return Cause.SPURIOUS if is_spurious else Cause.CONFUSABLE


def scores_within_row(
    features: Shaped[Array, "n d"], columns: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Return the z-score of one feature of each row among the row's features.

    (h_ik - mu_i) / sigma_i, ddof 0; 0 for a row of equal features.

    Args:
        features: (n, d), finite, d at least 2.
        columns: (n,) which feature of each row.

    Raises:
        InputError: with fewer than 2 features, or a value that is not finite.
    """
    if features.shape[0] == 0:
        return np.zeros(0)
    parts, start = [], 0
    for block in row_sums(features):
        size = block.values.shape[0]
        rows = np.arange(size)
        chosen = host(block.values)[rows, columns[start : start + size]]
        deviation = host(block.deviation)
        flat = deviation == 0
        z = (chosen - host(block.mean)) / np.where(flat, 1, deviation)
        parts.append(np.where(flat, 0, z))
        start += size
    return np.concatenate(parts)


def _spurious(
    answers: Answers,
    wrong: Int[np.ndarray, " m"],
    active: list[Bool[np.ndarray, " m"]],
    energies: HeatmapEnergies | None,
) -> Bool[np.ndarray, " m"]:
    """Return where an active dominant feature looks away from the object."""
    found = np.zeros(len(wrong), dtype=bool)
    if energies is None:
        return found
    n = len(answers.right)
    for energy in (energies.own, energies.predicted):
        if energy is not None:
            check_length("energies", len(energy), n)
    least = _least_energies(answers, energies.own)
    sides = [(energies.own, answers.labels)]
    if energies.predicted is not None:
        sides.append((energies.predicted, answers.predictions))
    for (energy, codes), is_active in zip(sides, active, strict=False):
        if not np.isfinite(energy[wrong]).all():
            raise InputError("energies: some of wrong rows are NaN or infinite")
        threshold = np.array([least.get(int(code), -np.inf) for code in codes[wrong]])
        found |= is_active & (energy[wrong] < threshold)
    return found


def _least_energies(
    answers: Answers, energies: Float[np.ndarray, " n"]
) -> dict[int, float]:
    """Return the 10th percentile over right answers of each class."""
    return {
        int(code): float(
            np.quantile(
                energies[answers.right & (answers.labels == code)], SPURIOUS_QUANTILE
            )
        )
        for code in np.unique(answers.labels[answers.right])
    }


def _counted(
    wrong: Int[np.ndarray, " m"],
    labels: Int[np.ndarray, " m"],
    causes: tuple[Cause, ...],
    decided: bool,
) -> ErrorCauses:
    counts: dict[int, dict[Cause, int]] = {
        int(code): dict.fromkeys(Cause, 0) for code in np.unique(labels)
    }
    for code, cause in zip(labels.tolist(), causes, strict=True):
        counts[code][cause] += 1
    details: dict[str, Detail] = {cause.value: causes.count(cause) for cause in Cause}
    details["spurious_decided"] = decided
    return ErrorCauses(wrong, causes, counts, details)
