"""What features keep when the image is augmented; needs q views of each of n images."""

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from repscope._arrays import Array, Scores, as_double, as_matrix, host, namespace
from repscope._checking import InputError, Undecidable, UsageError
from repscope._numerics import unit_rows
from repscope.metrics.image_means import mean_over_images
from repscope.metrics.intervals import jackknife
from repscope.metrics.metric import Estimate, metric
from repscope.representations.object_ids import GroupedRows, ObjectIds, checked_ids

Views = Float[Array, "n q d"]

# Exponent of the distance in alignment.
EXPONENT = 2.0


def check_views(views: Array, n: int | None = None) -> Array:
    """Return views as a float64 array (n images, q views, d features).

    Args:
        views: the array.
        n: the number of images expected; None for any.

    Raises:
        InputError: for another number of dimensions or images, a single view, or values
            that are not finite.
    """
    shape = tuple(getattr(views, "shape", ()))
    usable = len(shape) == 3 and shape[0] >= 1 and shape[1] >= 2 and shape[2] >= 1
    if not usable or (n is not None and shape[0] != n):
        images = "n" if n is None else f"{n:,}"
        raise InputError(
            "views: features of several views of each image are needed",
            found=f"an array of shape {shape}",
            expected=f"({images} images, at least 2 views, d features)",
            fix="group by image: views[i, k] is view k of image i",
        )
    rows = as_matrix(namespace(views).reshape(views, (-1, shape[2])), "views")
    doubled = as_double(namespace(rows).reshape(rows, shape))
    if not bool(namespace(doubled).all(namespace(doubled).isfinite(doubled))):
        raise InputError("views: some contain NaN or infinity")
    return doubled


def views_of_rows(features: Shaped[Array, "n d"], object_ids: ObjectIds) -> Array:
    """Return rows grouped by image: (images, q views, d), images in the order of ids.

    Args:
        features: one row for each view, in any order.
        object_ids: (n,) which image each row shows, integers or strings.

    Raises:
        InputError: where images have one view, or different numbers of views.
    """
    matrix = as_matrix(features)
    groups = GroupedRows.of(checked_ids(object_ids, matrix.shape[0]))
    least, most = int(groups.counts.min()), int(groups.counts.max())
    if least < 2 or least < most:
        raise InputError(
            "object_ids: as many views of each image are needed, and at least 2",
            found=f"{least} to {most} rows for an id"
            if most > least
            else "one row for each id",
            expected="the same number for each, 2 or more",
            fix="embed several views of each image",
        )
    xp = namespace(matrix)
    picked = matrix[xp.asarray(groups.order), :]
    return xp.reshape(picked, (len(groups.objects), most, matrix.shape[1]))


@metric(
    title="alignment",
    formula="mean over pairs of views of |u - u'|², u on the unit sphere",
    needs="views",
    range="[0, 4]",
    bounds=(0.0, 4.0),
    direction="lower",
    minimum_n=1,
    degree=0,
    invariances=("rotation", "duplication"),
    cost="O(n q d)",
    source="Wang, Isola 2020, Eq. 4 (exponent 2)",
    misleads="0 for a collapsed encoder: read it beside the spectrum",
)
def alignment(views: Views, *, exponent: float = EXPONENT) -> Estimate:
    """Return the mean distance between two views of one image, to a power.

    Over images, and over all pairs of the q views of each, on rows of unit length:
    mean |u - u'|^exponent. For exponent 2 that is
    2 q / (q - 1) mean_k |u_k - mean_k u_k|^2.

    Args:
        views: (n, q, d), q at least 2.
        exponent: of the distance, positive; alpha in the paper.

    Returns:
        From 0 (views agree) to 2^exponent; lower is better. The interval is Student's t
        over images. Details: `zero_images`, images left out for a view of zeros.

    Raises:
        InputError: for another shape.
        UsageError: where the exponent is not positive.
        Undecidable: where every image has a view of zeros.

    Source: Wang, Isola 2020, Eq. 4, alpha = 2. As in the source, over all pairs.
    """
    if not (math.isfinite(exponent) and exponent > 0):
        raise UsageError(
            "alignment: the exponent must be positive", found=f"{exponent}"
        )
    doubled = check_views(views)
    xp = namespace(doubled)
    n, q, d = doubled.shape
    unit = xp.reshape(unit_rows(xp.reshape(doubled, (n * q, d))), (n, q, d))
    has_direction = host(xp.all(xp.any(unit != 0, axis=2), axis=1))
    if not has_direction.any():
        raise Undecidable("every image has a view without direction: all zero")
    unit = unit[xp.asarray(np.flatnonzero(has_direction)), :, :]
    if exponent == 2:
        # Less the first view, equal views are at 0, not the rounding of a mean.
        shifted = unit - unit[:, :1, :]
        apart = shifted - xp.mean(shifted, axis=1, keepdims=True)
        distances = xp.sum(apart**2, axis=(1, 2)) * (2 / (q - 1))
    else:
        distances = _mean_powers(unit, exponent)
    estimate = mean_over_images(host(distances), bounds=(0.0, 2.0**exponent))
    zero_images = {"zero_images": int((~has_direction).sum())}
    return replace(estimate, details={**estimate.details, **zero_images})


def _mean_powers(unit: Views, exponent: float) -> Scores:
    """Return the mean over pairs of views of their distance to a power, per image."""
    xp = namespace(unit)
    pairs = list(itertools.combinations(range(unit.shape[1]), 2))
    total = xp.zeros_like(unit[:, 0, 0])
    for one, other in pairs:
        squared = xp.sum((unit[:, one, :] - unit[:, other, :]) ** 2, axis=1)
        total = total + squared ** (exponent / 2)
    return total / len(pairs)


@metric(
    title="invariance score",
    formula="mean over images of tr cov over views (ddof 1) / tr cov over all views "
    "and images",
    needs="views",
    range="[0, about 1]; 0 invariant, 1 views no closer than images",
    bounds=(0.0, None),
    direction="lower",
    minimum_n=2,
    degree=0,
    invariances=("shift", "rotation"),
    cost="O(n q d)",
    source="one-way analysis of variance: within-image over total variance",
    misleads="measures invariance to these augmentations only; 0 also for constants",
)
def invariance_score(views: Views) -> Estimate:
    """Return how much of the variance lies between views of one image.

    Args:
        views: (n, q, d), n and q at least 2.

    Returns:
        0 where all views of an image agree, about 1 where views of one image differ as
        much as images do; lower is better. The interval is the delete-one-image
        jackknife.

    Raises:
        InputError: for another shape.
        Undecidable: for one image, or where all features are constant.

    Source: one-way analysis of variance. As in the source, with ddof 1 over views, so
    that unrelated views score 1.
    """
    doubled = check_views(views)
    xp = namespace(doubled)
    n, q, _ = doubled.shape
    if n < 2:
        raise Undecidable("one image: there is nothing to compare its views with")
    # Less the first row, constant features are zero, not the rounding of a mean.
    shifted = doubled - doubled[:1, :1, :]
    greatest = float(xp.max(xp.abs(shifted)))
    if greatest == 0:
        raise Undecidable("all features are constant")
    # A power of two near the greatest keeps the squares of 1e-150 and 1e150.
    shifted = shifted * 2.0 ** -min(math.frexp(greatest)[1], 1023)
    means = xp.mean(shifted, axis=1, keepdims=True)
    within = host(xp.sum((shifted - means) ** 2, axis=(1, 2)))
    apart = host(xp.sum((means - xp.mean(means, axis=0)) ** 2, axis=(1, 2)))
    value = _variance_ratio(within.sum(), q * apart.sum(), n, q)
    if n < 3:
        return Estimate(value)
    # Without image i the squares between images lose n / (n - 1) of its own.
    between = q * (apart.sum() - apart * n / (n - 1))
    without = _variance_ratio(within.sum() - within, between, n - 1, q)
    if not np.isfinite(without).all():
        return Estimate(value)
    low, high = jackknife(value, without, np.ones(n, dtype=np.int64)).interval
    return Estimate(value, (max(low, 0.0), high), {"interval": "jackknife over images"})


def _variance_ratio(within: Any, between: Any, n: int, q: int) -> Any:
    """Return the variance within images over that of all views; NaN for neither."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return within / (n * (q - 1)) / ((within + between) / (n * q - 1))
