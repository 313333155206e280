"""What features keep when the image is augmented; needs q views of each of n images."""

from jaxtyping import Float

from repscope._arrays import Array, as_double, host, namespace
from repscope._checking import InputError, Undecidable
from repscope._numerics import unit_rows
from repscope.metrics.metric import metric

Views = Float[Array, "n q d"]


def check_views(views: Array, n: int | None = None) -> Array:
    """Return views as a float64 array (n images, q views, d features).

    Args:
        views: the array.
        n: the number of images expected; None for any.

    Raises:
        InputError: for another number of dimensions or images, or a single view.
    """
    shape = tuple(getattr(views, "shape", ()))
    if len(shape) != 3 or shape[1] < 2 or (n is not None and shape[0] != n):
        images = "n" if n is None else f"{n:,}"
        raise InputError(
            "views: features of several views of each image are needed",
            found=f"an array of shape {shape}",
            expected=f"({images} images, at least 2 views, d features)",
            fix="group by image: views[i, k] is view k of image i",
        )
    doubled = as_double(views)
    if not bool(namespace(doubled).all(namespace(doubled).isfinite(doubled))):
        raise InputError("views: some contain NaN or infinity")
    return doubled


@metric(
    title="alignment",
    formula="mean over pairs of views of |u - u'|², u on the unit sphere",
    needs="views",
    range="[0, 4]",
    bounds=(0.0, 4.0),
    direction="lower",
    minimum_n=1,
    cost="O(n q d)",
    source="Wang, Isola 2020, Eq. 4 (exponent 2)",
    misleads="0 for a collapsed encoder: read it beside the spectrum",
)
def alignment(views: Views) -> float:
    """Return the mean squared distance between two views of one image.

    Over all pairs of the q views, on rows of unit length:
    2 q / (q - 1) (1 - |mean_k u_k|^2), averaged over images.

    Args:
        views: (n, q, d), q at least 2.

    Returns:
        From 0 (views agree) to 4; lower is better.

    Raises:
        InputError: for another shape.

    Source: Wang, Isola 2020, Eq. 4, alpha = 2. As in the source, over all pairs.
    """
    doubled = check_views(views)
    xp = namespace(doubled)
    n, q, d = doubled.shape
    unit = xp.reshape(unit_rows(xp.reshape(doubled, (n * q, d))), (n, q, d))
    lengths = xp.sum(unit**2, axis=(1, 2)) / q
    centre = xp.sum(xp.mean(unit, axis=1) ** 2, axis=1)
    return float(host(xp.mean(lengths - centre)) * 2 * q / (q - 1))


@metric(
    title="invariance score",
    formula="mean over images of tr cov over views (ddof 1) / tr cov over all views "
    "and "
    "images",
    needs="views",
    range="[0, about 1]; 0 invariant, 1 views no closer than images",
    bounds=(0.0, None),
    direction="lower",
    minimum_n=2,
    cost="O(n q d)",
    source="one-way analysis of variance: within-image over total variance",
    misleads="measures invariance to these augmentations only; 0 also for constants",
)
def invariance_score(views: Views) -> float:
    """Return how much of the variance lies between views of one image.

    Args:
        views: (n, q, d), n and q at least 2.

    Returns:
        0 where all views of an image agree, about 1 where views of one image differ as
        much as images do; lower is better.

    Raises:
        InputError: for another shape.
        Undecidable: where all features are constant.

    Source: one-way analysis of variance. As in the source, with ddof 1 over views, so
    that unrelated views score 1.
    """
    doubled = check_views(views)
    xp = namespace(doubled)
    n, q, _ = doubled.shape
    # Less the first row, constant features are zero, not the rounding of a mean.
    doubled = doubled - doubled[:1, :1, :]
    own = doubled - xp.mean(doubled, axis=1, keepdims=True)
    within = float(host(xp.sum(own**2))) / (n * (q - 1))
    centred = doubled - xp.mean(doubled, axis=(0, 1), keepdims=True)
    total = float(host(xp.sum(centred**2))) / (n * q - 1)
    if total == 0:
        raise Undecidable("all features are constant")
    return within / total
