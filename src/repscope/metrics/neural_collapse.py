"""How close are classes to neural collapse? Points, a simplex, nearest centres.

Classes of equal weight, centred on the mean of their centres, as the authors' balanced
data have them. All of it follows from sums that stream: class centres and the scatter
of all rows, of which the scatter between classes leaves the one within.
"""

import numpy as np
from jaxtyping import Float, Int

from repscope._checking import InputError, Undecidable, check_length
from repscope.metrics.class_centres import ClassCentres
from repscope.metrics.clustering import row_counts
from repscope.metrics.failure import wilson_interval
from repscope.metrics.metric import Estimate, metric
from repscope.records import Detail
from repscope.representations.class_moments import ClassMoments
from repscope.representations.moments import Moments

# A centre nearer to the mean of centres than this share of the farthest has no
# direction.
DIRECTION_FLOOR = 1e-9

_SOURCE = "Papyan, Han, Donoho 2020, Section 1"


@metric(
    title="NC1: variability within classes",
    formula="tr(S_W S_B⁺) / c; S_W = E (f - μ_y)(f - μ_y)ᵀ over rows, S_B = mean over "
    "classes of (μ_c - μ_G)(μ_c - μ_G)ᵀ, μ_G the mean of class centres; classes of two "
    "rows or more",
    needs="labels",
    range="[0, ∞)",
    bounds=(0.0, None),
    direction="lower",
    minimum_n=4,
    degree=0,
    invariances=("shift", "rotation", "duplication"),
    cost="O(n d² + c² d + c d²)",
    source=_SOURCE + " (NC1)",
    misleads="centres of few rows lie apart by noise alone: random labels give about "
    "n / d, little where d is great; two near classes carry it alone",
)
def nc1_variability(moments: ClassMoments, total: Moments) -> Estimate:
    """Return the variability within classes relative to that between them.

    tr(S_W S_B^+) / c = sum_k v_k^T S_W v_k / s_k^2 over the singular values s_k and
    right singular vectors v_k of the (c, d) matrix of centres less their mean, of which
    there are c - 1 at most. S_W = (scatter of all rows - scatter of centres) / n.
    Classes of a single row, whose scatter is unknown, are left out of c, n and the
    centres: every row twice changes nothing else, but makes them classes of two rows.
    Values s_k up to max(c, d) 2.2e-16 s_1, or up to the rounding of the centres
    (1e-12 of their length), count as 0.

    Args:
        moments: per-class moments.
        total: moments of the same rows.

    Returns:
        From 0 (every class one point), lower is more collapsed. Details: `rank` of the
        centres, `within_share`, tr S_W / tr S_T, `single_row_classes`, left out, and
        `few_rows`, classes of fewer than 8 rows.

    Raises:
        InputError: where the two describe different rows.
        Undecidable: where fewer than two classes have two rows, or all centres
            coincide.

    Source: Papyan, Han, Donoho 2020 (NC1). As in the source for classes of equal
    size; for others S_W weighs rows and S_B classes, as the authors' code does.
    """
    centres = ClassCentres.of(moments)
    if total.n != centres.counts.sum() or total.d != centres.centres.shape[1]:
        raise InputError(
            "neural collapse: class moments and total moments of different rows",
            found=f"{centres.counts.sum():,.0f} rows and {total.n:,} rows",
            expected="the same rows and features, each with a class",
        )
    several = centres.of_several_rows()
    axes, values = _axes_of_centres(several)
    # Along the axes: scatter of all rows, less that of the centres of all classes.
    scatter = (total.scatter / centres.unit) / centres.unit / total.n
    whole = np.vecdot(axes @ scatter, axes)
    between = centres.counts @ (_apart(centres) @ axes.T) ** 2 / total.n
    n = several.counts.sum()
    within = np.maximum(whole - between, 0) * (total.n / n)
    inner = float(several.counts @ several.variances) / n
    outer = float(several.counts @ (_apart(several) ** 2).sum(axis=1)) / n
    details: dict[str, Detail] = {
        "rank": len(values),
        "within_share": inner / (inner + outer),
        **row_counts(moments),
    }
    return Estimate(float((within / values**2).sum()), details=details)


def _apart(centres: ClassCentres) -> Float[np.ndarray, "k d"]:
    """Return the centres less the mean of all their rows."""
    return centres.centres - centres.counts @ centres.centres / centres.counts.sum()


def _axes_of_centres(
    centres: ClassCentres,
) -> tuple[Float[np.ndarray, "r d"], Float[np.ndarray, " r"]]:
    """Return right singular vectors and values of the centres less their mean."""
    apart = centres.centres - centres.centres.mean(axis=0)
    _, values, axes = np.linalg.svd(apart, full_matrices=False)
    floor = max(apart.shape) * np.finfo(np.float64).eps * values[0]
    kept = values > max(floor, float(np.sqrt(centres.roundings.sum())))
    kept[len(apart) - 1 :] = False  # c centres less their mean have rank c - 1
    if not kept.any():
        raise Undecidable("all class centres coincide")
    return axes[kept], values[kept]


def _directions(
    moments: ClassMoments,
) -> tuple[Float[np.ndarray, "k d"], Float[np.ndarray, " k"]]:
    """Return centres less their mean, and their lengths; rounding has length 0."""
    centres = ClassCentres.of(moments)
    if len(centres.classes) < 3:
        raise Undecidable("two centres are always opposite each other about their mean")
    apart = centres.centres - centres.centres.mean(axis=0)
    lengths = np.linalg.norm(apart, axis=1)
    told = lengths > np.sqrt(centres.roundings) + DIRECTION_FLOOR * lengths.max()
    if not told.any():
        raise Undecidable("all class centres coincide")
    return apart, np.where(told, lengths, 0)


@metric(
    title="NC2: unequal lengths of class centres",
    formula="std_c |μ_c - μ_G| / mean_c |μ_c - μ_G|, μ_G the mean of class centres, "
    "ddof 0",
    needs="labels",
    range="[0, sqrt(c - 1)]",
    bounds=(0.0, None),
    direction="lower",
    minimum_n=3,
    degree=0,
    invariances=("shift", "rotation", "duplication"),
    cost="O(n d + c d)",
    source=_SOURCE + " (NC2, equinorm)",
    misleads="sampling noise lengthens all centres alike, so that random labels look "
    "equinorm in high dimensions; classes in groups need not be equinorm to be sound",
)
def nc2_norms(moments: ClassMoments) -> float:
    """Return the coefficient of variation of the lengths of class centres.

    Args:
        moments: per-class moments.

    Returns:
        0 where all centres are equally far from their mean; lower is more collapsed.

    Raises:
        Undecidable: with fewer than three classes, or where all centres coincide.

    Source: Papyan, Han, Donoho 2020 (NC2). As in the source, with ddof 0.
    """
    _, lengths = _directions(moments)
    return float(lengths.std() / lengths.mean())


def _cosines(moments: ClassMoments) -> Float[np.ndarray, " pairs"]:
    apart, lengths = _directions(moments)
    if lengths.min() == 0:
        raise Undecidable("a class centre lies at the mean of centres: no direction")
    unit = apart / lengths[:, None]
    return (unit @ unit.T)[np.triu_indices(len(unit), 1)]


@metric(
    title="NC2: unequal angles of class centres",
    formula="std over i ≠ j of cos(μ_i - μ_G, μ_j - μ_G), ddof 0",
    needs="labels",
    range="[0, 1]",
    bounds=(0.0, 1.0),
    direction="lower",
    minimum_n=3,
    degree=0,
    invariances=("shift", "rotation", "duplication"),
    cost="O(n d + c² d)",
    source=_SOURCE + " (NC2, equiangular)",
    misleads="sampling noise points everywhere alike, so that random labels look "
    "equiangular in high dimensions; classes in groups are not, and sound",
)
def nc2_angles(moments: ClassMoments) -> float:
    """Return the standard deviation of the cosines between class centres.

    Args:
        moments: per-class moments.

    Returns:
        0 where all pairs of centres include one angle; lower is more collapsed.

    Raises:
        Undecidable: with fewer than three classes, where all centres coincide, or one
            lies at their mean.

    Source: Papyan, Han, Donoho 2020 (NC2). As in the source, with ddof 0.
    """
    return float(_cosines(moments).std())


@metric(
    title="NC2: distance from the simplex",
    formula="mean over i ≠ j of |cos(μ_i - μ_G, μ_j - μ_G) + 1 / (c - 1)|",
    needs="labels",
    range="[0, 2]",
    bounds=(0.0, 2.0),
    direction="lower",
    minimum_n=3,
    degree=0,
    invariances=("shift", "rotation", "duplication"),
    cost="O(n d + c² d)",
    source=_SOURCE + " (NC2, maximal angles)",
    misleads="sampling noise alone comes near the simplex: random labels score low in "
    "high dimensions; read it beside NC1",
)
def nc2_simplex(moments: ClassMoments) -> float:
    """Return how far the angles of class centres are from those of a simplex.

    Args:
        moments: per-class moments.

    Returns:
        0 where the centres are as far apart in angle as c directions can be; lower is
        more collapsed.

    Raises:
        Undecidable: with fewer than three classes, where all centres coincide, or one
            lies at their mean.

    Source: Papyan, Han, Donoho 2020 (NC2, Fig. 4). As in the source.
    """
    cosines = _cosines(moments)
    # c (c - 1) / 2 pairs
    k = (1 + (1 + 8 * len(cosines)) ** 0.5) / 2
    return float(np.abs(cosines + 1 / (k - 1)).mean())


@metric(
    title="NC4: agreement with the nearest centre",
    formula="share of rows to which a classifier and the nearest class centre give "
    "one class",
    needs="probe",
    range="[0, 1]",
    bounds=(0.0, 1.0),
    direction="higher",
    minimum_n=1,
    cost="O(n)",
    source=_SOURCE + " (NC4)",
    misleads="high wherever both are nearly always right, collapsed or not",
)
def nc4_agreement(
    predictions: Int[np.ndarray, " n"], nearest: Int[np.ndarray, " n"]
) -> Estimate:
    """Return how often a classifier decides as the nearest class centre does.

    Args:
        predictions: (n,) class codes, of a linear head or probe.
        nearest: (n,) class codes by the nearest training centre, for the same rows.

    Returns:
        From 0 to 1; higher is more collapsed. Interval: Wilson.

    Raises:
        InputError: where the two differ in length.
        Undecidable: without rows.

    Source: Papyan, Han, Donoho 2020 (NC4, Fig. 7). Differs from the source in stating
    agreement, of which it plots the complement.

    Example:
        >>> nc4_agreement(np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2])).value
        0.75
    """
    check_length("nearest", len(nearest), len(predictions), "predictions")
    n = len(predictions)
    if n == 0:
        raise Undecidable("no rows")
    agreed = int((np.asarray(predictions) == np.asarray(nearest)).sum())
    return Estimate(agreed / n, wilson_interval(agreed, n), {"interval": "Wilson"})
