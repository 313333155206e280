"""How do features gather by class? Distances between classes, widths within them.

All are pure functions of `ClassMoments`.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from repscope._checking import Undecidable
from repscope.metrics.class_centres import ClassCentres, in_squared_units
from repscope.metrics.intervals import jackknifed
from repscope.metrics.metric import Estimate, metric
from repscope.records import Detail
from repscope.representations.class_moments import ClassMoments

# Centres of fewer rows carry noise about as great as what is to be seen.
FEW_ROWS = 8

_SOURCE_CDNV = "Galanti, György, Hutter 2022, Section 3; Ben-Shaul et al. 2023"


@dataclass(frozen=True, eq=False)
class CdnvMatrix:
    """CDNV of each pair of classes.

    Args:
        classes: (k,) codes of the classes with two rows at least, ascending.
        values: (k, k) symmetric; infinite where two centres coincide, 0 on the
            diagonal, which is no pair.
    """

    classes: Int[np.ndarray, " k"]
    values: Float[np.ndarray, "k k"]


def cdnv_matrix(moments: ClassMoments) -> CdnvMatrix:
    """Return the class-distance normalised variance of each pair of classes.

    V(i, j) = (v_i + v_j) / (2 |mu_i - mu_j|^2), v_c = E |f - mu_c|^2

    Classes of a single row, whose variance is unknown, are left out.

    Args:
        moments: per-class moments.

    Raises:
        Undecidable: where fewer than two classes have two rows.

    Source: Galanti, György, Hutter 2022, Section 3. As in the source.
    """
    centres = ClassCentres.of(moments).of_several_rows()
    distances = centres.squared_distances()
    halves = (centres.variances[:, None] + centres.variances[None, :]) / 2
    separate = distances > 0
    ratios = halves / np.where(separate, distances, 1)
    values = np.where(separate, ratios, np.inf)
    np.fill_diagonal(values, 0)
    return CdnvMatrix(centres.classes, values)


def row_counts(moments: ClassMoments) -> dict[str, Detail]:
    """Return how many classes have a single row, and how many fewer than 8.

    Args:
        moments: per-class moments.

    Returns:
        `single_row_classes`, and `few_rows`, those among them.
    """
    counts = moments.counts[moments.counts > 0]
    return {
        "single_row_classes": int((counts == 1).sum()),
        "few_rows": int((counts < FEW_ROWS).sum()),
    }


@metric(
    title="class-distance normalised variance",
    formula="mean over i ≠ j of (v_i + v_j) / (2 |μ_i - μ_j|²), v_c = E|f - μ_c|², "
    "classes of two rows or more",
    needs="labels",
    range="[0, ∞)",
    bounds=(0.0, None),
    direction="lower",
    minimum_n=4,
    degree=0,
    invariances=("shift", "rotation", "duplication"),
    cost="O(n d + c² d)",
    source=_SOURCE_CDNV,
    misleads="falls when centres move apart although classes stay as wide; a few near "
    "pairs carry the mean, not the median; about half the rows per class for random "
    "labels: compare at equal n only",
)
def cdnv(moments: ClassMoments) -> Estimate:
    """Return the class-distance normalised variance.

    Classes of a single row, whose variance is unknown, are left out: every row twice
    changes nothing else, but makes them classes of two rows and no variance.

    Args:
        moments: per-class moments.

    Returns:
        From 0 (every class one point); lower is better. Details: `median` over the
        same pairs, `n_pairs` (unordered), `n_infinite`, the pairs with equal centres,
        which mean and median leave out, `single_row_classes`, left out, and `few_rows`,
        classes of fewer than 8 rows.

    Raises:
        Undecidable: where fewer than two classes have two rows, or all centres
            coincide.

    Source: Galanti, György, Hutter 2022. As in the source.
    """
    values = cdnv_matrix(moments).values
    pairs = values[np.triu_indices(len(values), 1)]
    finite = pairs[np.isfinite(pairs)]
    if len(finite) == 0:
        raise Undecidable("all class centres coincide")
    details: dict[str, Detail] = {
        "median": float(np.median(finite)),
        "n_pairs": len(pairs),
        "n_infinite": len(pairs) - len(finite),
        **row_counts(moments),
    }
    return Estimate(float(finite.mean()), details=details)


@metric(
    title="variance within classes",
    formula="mean over classes of two rows or more of v_c = E|f - μ_c|²",
    needs="labels",
    range="[0, ∞)",
    bounds=(0.0, None),
    direction="none",
    minimum_n=2,
    degree=2,
    invariances=("shift", "rotation", "duplication"),
    cost="O(n d)",
    source=_SOURCE_CDNV,
    misleads="has the units of the features squared: compare only on one scale",
)
def within_variance(moments: ClassMoments) -> Estimate:
    """Return the mean over classes of the mean squared distance to the class centre.

    Classes of a single row, whose variance is unknown, are left out: every row twice
    changes nothing else, but makes them classes of two rows and no variance.

    Args:
        moments: per-class moments.

    Returns:
        From 0, in squared units of the features. Details: `single_row_classes`, left
        out, and `few_rows`, classes of fewer than 8 rows.

    Raises:
        Undecidable: where no class has two rows, or squares exceed float64.

    Source: Ben-Shaul et al. 2023, Section 3. As in the source.
    """
    several = moments.counts > 1
    if not several.any():
        told = ("two rows: variances within are unknown", "samples")
        raise Undecidable(f"no class has {told[not moments.counts.any()]}")
    value = in_squared_units(moments.variances[several].mean(), 1.0)
    return Estimate(value, details=row_counts(moments))


@metric(
    title="squared distance between classes",
    formula="mean over i ≠ j of |μ_i - μ_j|²",
    needs="labels",
    range="[0, ∞)",
    bounds=(0.0, None),
    direction="none",
    minimum_n=2,
    degree=2,
    invariances=("shift", "rotation", "duplication"),
    cost="O(n d + c² d)",
    source=_SOURCE_CDNV,
    misleads="has the units of the features squared: compare only on one scale",
)
def between_squared_distance(moments: ClassMoments) -> float:
    """Return the mean squared distance between two class centres.

    Args:
        moments: per-class moments.

    Returns:
        From 0, in squared units of the features.

    Raises:
        Undecidable: with fewer than two classes, or where squares exceed float64.

    Source: Ben-Shaul et al. 2023, Section 3. As in the source.
    """
    centres = ClassCentres.of(moments)
    k = len(centres.classes)
    mean = centres.squared_distances().sum() / (k * (k - 1))
    return in_squared_units(mean, centres.unit)


@metric(
    title="share of variance between groups",
    formula="(B - (k - 1) W / (n - k)) / (B + W), B and W the sums of squares between "
    "and within the k groups",
    needs="attribute",
    range="(-∞, 1], near 0 for a factor without effect",
    bounds=(None, 1.0),
    direction="none",
    minimum_n=3,
    degree=0,
    invariances=("shift", "rotation"),
    cost="O(n d)",
    source="Kelley 1935, Eq. 15 (ε²), summed over dimensions",
    misleads="a factor can be perfectly readable with a share near 0",
)
def variance_share(moments: ClassMoments) -> float:
    """Return the share of the total variance that the groups explain, bias-corrected.

    Args:
        moments: moments per group: classes of a label level, or values of an attribute.

    Returns:
        1 where groups explain all variance, near 0 (slightly negative at times) where
        they explain none.

    Raises:
        Undecidable: with fewer than two groups, as many groups as rows, or no variance.

    Source: Kelley 1935. As in the source, with sums of squares over all dimensions.
    """
    groups = ClassCentres.of(moments)
    counts, centres = groups.counts, groups.centres
    n, k = counts.sum(), len(counts)
    if n <= k:
        raise Undecidable("as many groups as rows")
    between = counts @ ((centres - counts @ centres / n) ** 2).sum(axis=1)
    within = counts @ groups.variances
    if between + within == 0:
        raise Undecidable("all features are constant")
    return float((between - (k - 1) * within / (n - k)) / (between + within))


@metric(
    title="class-collapse index",
    formula="mean over classes of the mean distance between their subclass centres, "
    "over the mean distance between class centres; v_i/(n_i-1) + v_j/(n_j-1) is off "
    "each squared distance first",
    needs="labels",
    range="[0, ∞)",
    bounds=(0.0, None),
    direction="higher",
    minimum_n=4,
    degree=0,
    invariances=("shift", "rotation"),
    cost="O(n d + c² d)",
    source="Xue et al. 2023 (class collapse); noise floor removed",
    misleads="subclasses that images hardly tell apart score low for any encoder: "
    "read it beside a reference; with few rows per subclass some of the floor stays",
)
def class_collapse_index(
    fine: ClassMoments, parents: Int[np.ndarray, " c"]
) -> Estimate:
    """Return how far subclass centres lie apart, relative to class centres.

    A subclass of one row takes its variance from the other subclasses.

    Args:
        fine: moments per subclass.
        parents: (c,) the class code of each subclass.

    Returns:
        0 where the subclasses of each class share one centre, about 1 where they lie as
        far apart as classes do; higher is better. Interval: jackknife over classes.
        Details: `uncorrected`, the value with its finite-sample floor of .1 to .26;
        `noise_share` of the squared subclass distances that sampling explains, about 1
        where nothing is seen beyond it; `n_least` and `n_median` rows per subclass;
        `few_rows`, subclasses of fewer than 8 rows, whose floor is not quite removed.

    Raises:
        Undecidable: where no class has two subclasses, no subclass has two rows, or
            class centres coincide.

    Source: Xue et al. 2023. Differs from the source in subtracting the expected squared
    distance of two sample means of one distribution, v_i / (n_i - 1) +
    v_j / (n_j - 1) with variances v of ddof 0.
    """
    coarse, subclasses = _Apart.of(fine.grouped(parents)), _Apart.of(fine)
    pairs = _pairs_of_siblings(parents[subclasses.classes], coarse.classes)
    if not pairs:
        raise Undecidable("no class has two subclasses with samples")
    within = {one: float(subclasses.corrected[at].mean()) for one, at in pairs.items()}

    def index(left_out: int | None) -> float:
        inside = [value for one, value in within.items() if one != left_out]
        between = _mean_of_pairs(coarse.corrected, left_out)
        if not inside or between <= 0:
            raise Undecidable("class centres coincide within their sampling error")
        return float(np.mean(inside)) / between

    value = index(None)
    raw = float(np.mean([subclasses.raw[at].mean() for at in pairs.values()]))
    details = _sampling_of(subclasses, pairs)
    details["uncorrected"] = raw / _mean_of_pairs(coarse.raw, None)
    found = jackknifed(index, np.ones(len(coarse.classes), dtype=np.int64))
    if found is None:
        return Estimate(value, details=details)
    details["interval"] = "jackknife over classes"
    low, high = found.interval
    return Estimate(value, (max(low, 0.0), high), details)


@dataclass(frozen=True, eq=False)
class _Apart:
    """How far classes lie apart.

    Args:
        classes: codes of the classes with rows.
        counts: rows of each.
        squared: squared distances of centres, in a unit of their own.
        noise: expected squared distance of two centres of one distribution, likewise.
        raw: distances.
        corrected: roots of what `squared` exceeds `noise` by.
    """

    classes: Int[np.ndarray, " k"]
    counts: Float[np.ndarray, " k"]
    squared: Float[np.ndarray, "k k"]
    noise: Float[np.ndarray, "k k"]
    raw: Float[np.ndarray, "k k"]
    corrected: Float[np.ndarray, "k k"]

    @classmethod
    def of(cls, moments: ClassMoments) -> "_Apart":
        centres = ClassCentres.of(moments)
        squared, counts = centres.squared_distances(), centres.counts
        freedom = counts - 1
        if not freedom.any():
            raise Undecidable("no subclass has two rows: the noise of centres is open")
        # variances have ddof 0; that of one row is the mean one of the others
        pooled = counts @ centres.variances / freedom.sum()
        own = centres.variances / np.maximum(freedom, 1)
        noise = np.where(freedom > 0, own, pooled)
        both = noise[:, None] + noise[None, :]
        corrected = np.sqrt(np.maximum(squared - both, 0)) * centres.unit
        raw = np.sqrt(squared) * centres.unit
        return cls(centres.classes, counts, squared, both, raw, corrected)


_Pairs = tuple[Int[np.ndarray, " p"], Int[np.ndarray, " p"]]


def _pairs_of_siblings(
    parents: Int[np.ndarray, " k"], classes: Int[np.ndarray, " c"]
) -> dict[int, _Pairs]:
    """Return the pairs of subclasses of each class, by its position in `classes`."""
    pairs = {}
    for position, parent in enumerate(classes):
        members = np.flatnonzero(parents == parent)
        if len(members) >= 2:
            first, second = np.triu_indices(len(members), 1)
            pairs[position] = members[first], members[second]
    return pairs


def _mean_of_pairs(distances: Float[np.ndarray, "k k"], left_out: int | None) -> float:
    """Return the mean distance of two classes, one class left out; 0 without pairs."""
    k, total = len(distances), float(distances.sum())
    if left_out is not None:
        k, total = k - 1, total - 2 * float(distances[left_out].sum())
    return total / (k * (k - 1)) if k > 1 else 0.0


def _sampling_of(subclasses: _Apart, pairs: dict[int, _Pairs]) -> dict[str, Detail]:
    first, second = (np.concatenate(ends) for ends in zip(*pairs.values(), strict=True))
    counts = subclasses.counts[np.union1d(first, second)]
    squared = float(subclasses.squared[first, second].sum())
    noise = float(subclasses.noise[first, second].sum())
    return {
        "noise_share": noise / squared if squared > 0 else 1.0,
        "n_least": int(counts.min()),
        "n_median": float(np.median(counts)),
        "few_rows": int((counts < FEW_ROWS).sum()),
    }
