"""How features gather by class: nearest class centres, distances between and within.

All but the nearest-centre classifier are pure functions of `ClassMoments`.
"""

import numpy as np
from jaxtyping import Float, Int, Shaped

from repscope._checking import Undecidable
from repscope._numerics import row_blocks, squared_distances
from repscope.metrics.metric import Estimate, metric
from repscope.representations.moments import ClassMoments

# Sums of a million rows in another order differ by less than this share of their size.
CENTRE_ROUNDING = 1e-12

_SOURCE_CDNV = "Galanti, György, Hutter 2022, Section 3; Ben-Shaul et al. 2023"


def _occupied(moments: ClassMoments) -> Int[np.ndarray, " k"]:
    occupied = np.flatnonzero(moments.counts > 0)
    if len(occupied) < 2:
        raise Undecidable("fewer than two classes have samples")
    return occupied


def _centre_distances(
    moments: ClassMoments, classes: Int[np.ndarray, " k"]
) -> Float[np.ndarray, "k k"]:
    """Return squared distances between class centres, exact for near-equal centres.

    Centres that differ by rounding only, such as those of the same rows in another
    order, have a distance of 0.
    """
    centres = moments.means[classes]
    distances = squared_distances(centres, centres)
    # Pairs that the expansion cannot resolve are taken again by direct subtraction.
    spread = ((centres - centres.mean(axis=0)) ** 2).sum(axis=1)
    close = distances < 1e-6 * (spread[:, None] + spread[None, :])
    for i, j in zip(*np.nonzero(close), strict=True):
        distances[i, j] = ((centres[i] - centres[j]) ** 2).sum()
    size = (centres**2).sum(axis=1) + moments.variances[classes]
    rounding = CENTRE_ROUNDING**2 * (size[:, None] + size[None, :])
    return np.where(distances > rounding, distances, 0)


def nearest_class_centre(
    features: Shaped[np.ndarray, "n d"],
    centres: Float[np.ndarray, "c d"],
    classes: Int[np.ndarray, " c"],
) -> Int[np.ndarray, " n"]:
    """Return the class of the nearest centre of each row; ties go to the first centre.

    Args:
        features: rows to classify.
        centres: one per class, of the rows fitted.
        classes: the class code of each centre, ascending.

    Source: Ben-Shaul et al. 2023, Section 3. As in the source.
    """
    nearest = np.empty(len(features), dtype=np.int64)
    for block in row_blocks(len(features), features.shape[1] + len(centres)):
        rows = np.asarray(features[block], dtype=np.float64)
        nearest[block] = squared_distances(rows, centres).argmin(axis=1)
    return classes[nearest]


@metric(
    title="class-distance normalised variance",
    formula="mean over i ≠ j of (v_i + v_j) / (2 |μ_i - μ_j|²), v_c = E|f - μ_c|²",
    needs="labels",
    range="[0, ∞)",
    bounds=(0.0, None),
    direction="lower",
    minimum_n=2,
    cost="O(n d + c² d)",
    source=_SOURCE_CDNV,
    misleads="falls when centres move apart although classes stay as wide; grows with "
    "the "
    "number of samples per class for random labels: compare at equal n only",
)
def cdnv(moments: ClassMoments) -> Estimate:
    """Return the class-distance normalised variance.

    Args:
        moments: per-class moments.

    Returns:
        From 0 (every class one point); lower is better. Details: `median` over pairs
        and `n_infinite`, the pairs with equal centres, which the mean leaves out.

    Raises:
        Undecidable: with fewer than two classes, or where all centres coincide.

    Source: Galanti, György, Hutter 2022. As in the source.
    """
    classes = _occupied(moments)
    variances = moments.variances[classes]
    distances = _centre_distances(moments, classes)
    pairs = ~np.eye(len(classes), dtype=bool)
    separate = pairs & (distances > 0)
    if not separate.any():
        raise Undecidable("all class centres coincide")
    halves = (variances[:, None] + variances[None, :]) / 2
    ratios = halves[separate] / distances[separate]
    n_infinite = int(pairs.sum() - separate.sum()) // 2
    return Estimate(
        float(ratios.mean()),
        details={"median": float(np.median(ratios)), "n_infinite": n_infinite},
    )


@metric(
    title="variance within classes",
    formula="mean over classes of v_c = E|f - μ_c|²",
    needs="labels",
    range="[0, ∞)",
    bounds=(0.0, None),
    direction="none",
    minimum_n=1,
    cost="O(n d)",
    source=_SOURCE_CDNV,
    misleads="has the units of the features squared: compare only on one scale",
)
def within_variance(moments: ClassMoments) -> float:
    """Return the mean over classes of the mean squared distance to the class centre.

    Args:
        moments: per-class moments.

    Returns:
        From 0, in squared units of the features.

    Raises:
        Undecidable: where no class has samples.

    Source: Ben-Shaul et al. 2023, Section 3. As in the source.
    """
    occupied = moments.counts > 0
    if not occupied.any():
        raise Undecidable("no class has samples")
    return float(moments.variances[occupied].mean())


@metric(
    title="squared distance between classes",
    formula="mean over i ≠ j of |μ_i - μ_j|²",
    needs="labels",
    range="[0, ∞)",
    bounds=(0.0, None),
    direction="none",
    minimum_n=2,
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
        Undecidable: with fewer than two classes.

    Source: Ben-Shaul et al. 2023, Section 3. As in the source.
    """
    classes = _occupied(moments)
    distances = _centre_distances(moments, classes)
    return float(distances.sum() / (len(classes) * (len(classes) - 1)))


@metric(
    title="share of variance between groups",
    formula="(B - (k - 1) W / (n - k)) / (B + W), B and W the sums of squares between "
    "and "
    "within the k groups",
    needs="attribute",
    range="(-∞, 1], near 0 for a factor without effect",
    bounds=(None, 1.0),
    direction="none",
    minimum_n=3,
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
    classes = _occupied(moments)
    counts = moments.counts[classes]
    n, k = counts.sum(), len(classes)
    if n <= k:
        raise Undecidable("as many groups as rows")
    # Less the first centre, constant features are zero, not the rounding of a mean.
    centres = moments.means[classes] - moments.means[classes[0]]
    between = counts @ ((centres - counts @ centres / n) ** 2).sum(axis=1)
    within = moments.scatters[classes].sum()
    if between + within == 0:
        raise Undecidable("all features are constant")
    return float((between - (k - 1) * within / (n - k)) / (between + within))


@metric(
    title="class-collapse index",
    formula="mean over classes of the mean distance between their subclass centres, "
    "over "
    "the mean distance between class centres; v_i/(n_i-1) + v_j/(n_j-1) is off each "
    "squared "
    "distance first",
    needs="labels",
    range="[0, ∞)",
    bounds=(0.0, None),
    direction="higher",
    minimum_n=4,
    cost="O(n d + c² d)",
    source="Xue et al. 2023 (class collapse); noise floor removed",
    misleads="subclasses that images hardly tell apart score low for any encoder: "
    "read it "
    "beside a reference",
)
def class_collapse_index(
    fine: ClassMoments, parents: Int[np.ndarray, " c"]
) -> Estimate:
    """Return how far subclass centres lie apart, relative to class centres.

    Args:
        fine: moments per subclass.
        parents: (c,) the class code of each subclass.

    Returns:
        0 where the subclasses of each class share one centre, about 1 where they lie as
        far apart as classes do; higher is better. Details: `uncorrected`, the value
        with its finite-sample floor of .1 to .26.

    Raises:
        Undecidable: where no class has two subclasses, or class centres coincide.

    Source: Xue et al. 2023. Differs from the source in subtracting the expected squared
    distance of two sample means of one distribution, v_i / (n_i - 1) +
    v_j / (n_j - 1) with variances v of ddof 0.
    """
    coarse = fine.grouped(parents)
    subclass, subclass_raw = [], []
    for parent in np.unique(parents):
        members = np.flatnonzero((parents == parent) & (fine.counts > 0))
        if len(members) >= 2:
            raw, corrected = _mean_distances(fine, members)
            subclass_raw.append(raw)
            subclass.append(corrected)
    if not subclass:
        raise Undecidable("no class has two subclasses with samples")
    raw_between, between = _mean_distances(coarse, _occupied(coarse))
    if between == 0:
        raise Undecidable("class centres coincide within their sampling error")
    return Estimate(
        float(np.mean(subclass)) / between,
        details={"uncorrected": float(np.mean(subclass_raw)) / raw_between},
    )


def _mean_distances(
    moments: ClassMoments, classes: Int[np.ndarray, " k"]
) -> tuple[float, float]:
    """Return the mean distance of centres: raw, and less its noise floor."""
    squared = _centre_distances(moments, classes)
    # variances have ddof 0; of one row nothing is known, and nothing taken off
    noise = moments.variances[classes] / np.maximum(moments.counts[classes] - 1, 1)
    corrected = np.maximum(squared - noise[:, None] - noise[None, :], 0)
    pairs = ~np.eye(len(classes), dtype=bool)
    return float(np.sqrt(squared[pairs]).mean()), float(
        np.sqrt(corrected[pairs]).mean()
    )
