"""LiDAR: in how many directions do objects differ more than views of one object?

Which views belong to one object decides everything: views of different objects taken
for one give a number all the same, flat or even inverted. So objects come as
`ObjectMoments`, built from (n, q, d) or from rows with object ids, and never from a
flat matrix.
"""

import math
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from jaxtyping import Float, Shaped

from repscope._arrays import Array
from repscope._checking import InputError, Undecidable, UsageError
from repscope._eigen import safe_eigh
from repscope.metrics.intervals import jackknifed
from repscope.metrics.metric import Estimate, metric
from repscope.records import Detail
from repscope.representations.object_ids import ObjectIds
from repscope.representations.object_moments import ObjectMoments

# Added to the within-object covariance, in squared units of the features.
DELTA = 1e-4
# Added to every normalised eigenvalue.
EPSILON = 1e-7
# Blocks of objects that an interval needs at least.
MINIMUM_BLOCKS = 3
# Above this share of the mean within-object variance, delta sets the scale.
DOMINANT_DELTA = 0.1
# Above this share of min(d, n - 1), more objects may give a greater value.
SATURATED = 0.9
# Above this share, views of one object differ about as much as objects do.
UNRELATED_VIEWS = 0.9
# Within-object covariances of a worse reciprocal condition are singular in float64.
CONDITION_FLOOR = 1e-13
# Squares of smaller features lose digits.
SMALLEST_VALUE = 1e-140


@metric(
    title="LiDAR",
    formula="exp(-Σ p_k log p_k), p_k = λ_k / Σλ + 1e-7, S_b v = λ S_w v; S_b = "
    "Σ_x (μ_x - μ)(μ_x - μ)ᵀ / (n - 1), S_w = Σ (e - μ_x)(e - μ_x)ᵀ / (n q) + 1e-4 I",
    needs="views",
    range="[1, min(d, n - 1)] for n objects, exceeded by up to about d² 1e-7 ln d",
    bounds=(1.0, None),
    direction="higher",
    minimum_n=2,
    degree=None,
    invariances=("shift", "rotation", "duplication"),
    cost="O(n q d² + d³)",
    source="Thilak et al. 2023 (arXiv:2312.04000), definition of LiDAR",
    misleads="delta sets a scale: features of another scale give another number; no "
    "more than n - 1 objects allow; compare at equal n, q and augmentations only",
)
def lidar(
    objects: ObjectMoments | Array,
    *,
    delta: float = DELTA,
    delta_relative: float | None = None,
) -> Estimate:
    """Return the effective rank of what tells objects apart beyond their views.

    With object means mu_x, their mean mu (each object once) and all views e,

        S_b = 1/(n - 1) sum_x (mu_x - mu)(mu_x - mu)^T
        S_w = 1/(number of views) sum (e - mu_x)(e - mu_x)^T + delta I
        S_b v = lambda S_w v,  p = lambda / sum lambda + 1e-7,  exp(-sum p log p)

    over all d eigenvalues, natural logarithm. The factor of S_b, 1/(n - 1) or 1/n,
    cancels in p. Objects may have different numbers of views: each object counts once
    in S_b, each view once in S_w.

    Args:
        objects: of n objects with at least two views each.
        delta: added to the within-object covariance, in squared units of the features.
        delta_relative: instead of `delta`, a share of the mean within-object variance;
            the value then does not depend on the scale of the features.

    Returns:
        From 1 (one direction) to min(d, n - 1), and an excess of the 1e-7; higher is
        better. The interval is a jackknife over the state's blocks of objects, for
        other objects of the same number. Details: `delta_share` of the mean
        within-object variance, `upper`, `unrelated_views` (variance between views of
        one object over that of all views, 1 for wrong groups), and `warnings`.

    Raises:
        UsageError: for anything but `ObjectMoments`, or a negative delta.
        InputError: where an object has one view only.
        Undecidable: with fewer than two objects, equal objects, or views that span
            fewer dimensions than the objects while delta is below rounding.

    Source: Thilak et al. 2023, definition of LiDAR. As in the source, but that one
    dimension gives 1, not 1 - 1e-7; `delta_relative` is ours.
    """
    checked = _checked(objects)
    penalty = Delta.of(delta, delta_relative)
    spectrum = DiscriminantSpectrum.of(checked, penalty)
    value = _exponential_entropy(spectrum.values)
    details = _details(checked, spectrum, value)

    def without(block: int | None) -> float:
        if block is None:
            return value
        rest = checked.without_block(block)
        return _exponential_entropy(DiscriminantSpectrum.of(rest, penalty).values)

    sizes = np.bincount(checked.blocks, minlength=checked.n_blocks)
    blocks = int((sizes > 0).sum())
    jackknife = jackknifed(without, sizes) if blocks >= MINIMUM_BLOCKS else None
    if jackknife is None:
        return Estimate(value, details=details)
    details["interval"] = f"jackknife over {blocks} blocks of objects"
    low, high = jackknife.interval
    return Estimate(value, (max(low, 1.0), high), details)


def lidar_of_views(
    views: Shaped[Array, "n q d"] | Shaped[Array, "n d"],
    object_ids: ObjectIds | None = None,
    *,
    delta: float = DELTA,
    delta_relative: float | None = None,
) -> Estimate:
    """Return the LiDAR of views (n objects, q views, d features), or of rows with ids.

    Args:
        views: views[i, k] is view k of object i; with `object_ids` also (n, d), each
            row a view of the object that its id names.
        object_ids: (n,) of rows; of objects where views of one are spread over several
            i.
        delta: as in `lidar`.
        delta_relative: as in `lidar`.

    Returns:
        From 1 to about min(d, n - 1); higher is better.

    Raises:
        UsageError: for a flat matrix without ids, which does not say what belongs
            together.
        InputError: for another shape, one view per object, or values that are not
            finite.
        Undecidable: as `lidar`.

    Source: Thilak et al. 2023, definition of LiDAR. As in the source.

    Example:
        >>> views = np.eye(3)[:, None, :] + np.array([[0.1], [-0.1]])
        >>> round(lidar_of_views(views).value, 4)
        2.0
    """
    if object_ids is not None and getattr(views, "ndim", 0) == 2:
        objects = ObjectMoments(views.shape[1]).update(views, object_ids)
    else:
        objects = ObjectMoments.of_views(views, object_ids)
    return lidar(objects, delta=delta, delta_relative=delta_relative)


@dataclass(frozen=True)
class Delta:
    """What is added to the within-object covariance.

    Args:
        value: absolute, or a share of the mean within-object variance.
        is_relative: which of the two.
    """

    value: float
    is_relative: bool

    @classmethod
    def of(cls, delta: float, delta_relative: float | None) -> "Delta":
        """Return the one that is asked for."""
        value = delta if delta_relative is None else delta_relative
        if not (math.isfinite(value) and value >= 0):
            name = "delta" if delta_relative is None else "delta_relative"
            raise UsageError(
                f"{name}: what is added to a covariance is finite and not negative",
                found=f"{value}",
            )
        return cls(value, delta_relative is not None)

    def for_variance(self, variance: float) -> float:
        """Return what is added where the mean within-object variance is this."""
        if not self.is_relative:
            return self.value
        if variance < SMALLEST_VALUE**2:
            raise Undecidable(
                "views of one object do not differ, or by too little to square: there "
                "is no variance to take delta_relative of"
            )
        return self.value * variance


@dataclass(frozen=True, eq=False)
class DiscriminantSpectrum:
    """Variance between objects in units of that within them.

    Args:
        values: (d,) eigenvalues of S_b v = lambda S_w v up to a common factor,
            descending.
        variance: mean within-object variance per dimension, delta not in it.
        delta: what was added to it.
    """

    values: Float[np.ndarray, " d"]
    variance: float
    delta: float

    @classmethod
    def of(cls, objects: ObjectMoments, delta: Delta) -> "DiscriminantSpectrum":
        """Return the spectrum of at least two objects.

        Raises:
            Undecidable: where objects are equal or S_w is singular in float64.
        """
        if objects.n < 2:
            raise Undecidable("one object: there is nothing to tell apart")
        within = objects.within() / objects.n_views
        variance = float(np.trace(within)) / objects.d
        added = delta.for_variance(variance)
        within[np.diag_indices_from(within)] += added
        # Each dimension in units of its own deviation: one of another scale costs
        # nothing, and nothing overflows. The generalised eigenvalues stay.
        units = np.sqrt(np.diag(within))
        factor = _cholesky(within, units, added)
        shifted = objects.means - objects.means[0]
        centred = _scaled(_scaled(shifted - shifted.mean(axis=0)) / _scaled(units))
        if not centred.any():
            raise Undecidable("all objects have one mean: nothing tells them apart")
        values = np.zeros(objects.d)
        found = safe_eigh(_whitened_product(centred, factor)).values
        # Centred means of n objects span n - 1 dimensions; what is left is rounding.
        rank = min(objects.n - 1, objects.d)
        values[:rank] = found[:rank]
        return cls(values, variance, added)


def _scaled(values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Return values over a power of two near the greatest of them."""
    greatest = float(np.abs(values).max())
    return values * 2.0 ** -math.frexp(greatest)[1] if greatest > 0 else values


def _cholesky(
    within: Float[np.ndarray, "d d"], units: Float[np.ndarray, " d"], delta: float
) -> Float[np.ndarray, "d d"]:
    """Return upper R with R^T R = S_w in these units."""
    singular = Undecidable(
        f"views span fewer dimensions than features have, and delta = {delta:.3g} is "
        "lost in rounding: give more views, or delta_relative"
    )
    if not (units > 0).all():
        raise singular
    correlation = within / units[:, None] / units[None, :]
    norm = float(np.abs(correlation).sum(axis=0).max())
    try:
        factor = scipy.linalg.cholesky(correlation, check_finite=False)
    except np.linalg.LinAlgError as error:
        raise singular from error
    if scipy.linalg.lapack.dpocon(factor, norm)[0] < CONDITION_FLOOR:
        raise singular
    return np.asarray(factor)


def _whitened_product(
    centred: Float[np.ndarray, "n d"], factor: Float[np.ndarray, "d d"]
) -> Float[np.ndarray, "k k"]:
    """Return S_b in the basis where S_w is the identity, or its n x n Gram matrix."""

    def whiten(columns: Float[np.ndarray, "d m"]) -> Float[np.ndarray, "d m"]:
        solved = scipy.linalg.solve_triangular(
            factor, columns, trans="T", check_finite=False
        )
        return np.asarray(solved)

    n, d = centred.shape
    if n <= d:
        white = whiten(centred.T)
        return white.T @ white
    return whiten(whiten(centred.T @ centred).T)


def _exponential_entropy(values: Float[np.ndarray, " d"]) -> float:
    shares = values / values.sum() + EPSILON
    # A single dimension would have 1 - 1e-7 directions.
    return max(float(np.exp(-(shares * np.log(shares)).sum())), 1.0)


def _checked(objects: ObjectMoments | Array) -> ObjectMoments:
    """Return the objects; raise for anything else, and for single views."""
    if not isinstance(objects, ObjectMoments):
        raise UsageError(
            "lidar: which views are of one object must be said, not guessed",
            found=type(objects).__name__,
            expected="ObjectMoments",
            fix="lidar_of_views(views) for views (n, q, d), or "
            "lidar(ObjectMoments(d).update(features, object_ids))",
        )
    alone = int((objects.counts < 2).sum())
    if alone:
        raise InputError(
            "lidar: an object needs at least two views",
            found=f"{alone:,} of {objects.n:,} objects with one view",
            expected="two or more augmented views of every object",
            fix="embed several views of each image; if there are, check object_ids",
        )
    return objects


def _details(
    objects: ObjectMoments, spectrum: DiscriminantSpectrum, value: float
) -> dict[str, Detail]:
    delta_share = spectrum.delta / (spectrum.delta + spectrum.variance)
    upper = min(objects.d, objects.n - 1)
    unrelated = _unrelated_views(objects)
    warnings = []
    if delta_share > DOMINANT_DELTA:
        warnings.append(
            f"delta is {delta_share:.0%} of the mean within-object variance: it sets "
            "the scale; delta_relative does not"
        )
    if value > SATURATED * upper:
        bound = "n - 1" if objects.n - 1 < objects.d else "d"
        warnings.append(f"near its upper bound, {bound} = {upper}")
    if unrelated > UNRELATED_VIEWS:
        warnings.append(
            "views of one object differ about as much as objects do: check which "
            "views belong together"
        )
    return {
        "n_objects": objects.n,
        "n_views": objects.n_views,
        "upper": upper,
        "delta": spectrum.delta,
        "delta_share": delta_share,
        "unrelated_views": unrelated,
        "warnings": tuple(warnings),
    }


def _unrelated_views(objects: ObjectMoments) -> float:
    """Return the variance between views of one object over that of all views.

    Both with ddof 1, so that views grouped at random give 1.
    """
    shifted = objects.means - objects.means[0]
    centred = shifted - objects.counts @ shifted / objects.n_views
    unit = float(np.abs(centred).max())
    within = float(np.trace(objects.within())) / unit / unit
    between = float(objects.counts @ ((centred / unit) ** 2).sum(axis=1))
    n, n_views = objects.n, objects.n_views
    return within / (n_views - n) / ((within + between) / (n_views - 1))
