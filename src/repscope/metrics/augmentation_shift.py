"""Does augmentation change what an image is taken for?

Predictions of views against that of the image, classes under ever stronger
augmentation, and features of images with a square blanked out. Nothing here runs a
model: features and predictions come from it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float, Int

from repscope._arrays import Array, as_double, as_matrix, hash_ids, host, namespace
from repscope._checking import InputError, Undecidable, check_length
from repscope._numerics import unit_rows
from repscope.metrics.class_centres import nearest_class_centre
from repscope.metrics.clustering import cdnv
from repscope.metrics.failure import wilson_interval
from repscope.metrics.image_means import mean_over_images
from repscope.metrics.metric import Estimate, metric
from repscope.metrics.silhouette import silhouette
from repscope.representations.class_moments import ClassMoments

# Classes that the semantic shift is shown for.
SHOWN_CLASSES = 10


@metric(
    title="label consistency",
    formula="mean over images of the share of views whose predicted class is that of "
    "the image",
    needs="views",
    range="[0, 1]; by chance the sum over classes of both shares' product",
    bounds=(0.0, 1.0),
    direction="higher",
    degree=0,
    cost="O(n q)",
    source="share of augmented images that keep the predicted class",
    misleads="1 for a classifier that always answers one class: read it beside its "
    "accuracy and `expected`; measures the classifier as much as the augmentation",
)
def label_consistency(predictions: Array, view_predictions: Array) -> Estimate:
    """Return the share of augmented images that keep the predicted class.

    Args:
        predictions: (n,) class predicted for each image, any integers.
        view_predictions: (n, q) class predicted for each of its q augmented views.

    Returns:
        From 0 to 1; higher is better. The interval is Wilson's, as if all views of an
        image agreed, so rather too wide. Details: `expected`, the consistency of
        predictions of the same frequencies that know nothing of the image.

    Raises:
        InputError: for other shapes, or no images.

    Source: share of augmented images that keep the class predicted by a supervised
    extractor. As in the source.

    Example:
        >>> label_consistency(np.array([0, 1]), np.array([[0, 0], [1, 0]])).value
        0.75
    """
    own, of_views = np.asarray(host(predictions)), np.asarray(host(view_predictions))
    if own.ndim != 1 or of_views.ndim != 2 or 0 in of_views.shape:
        raise InputError(
            "label consistency: one prediction per image and one per view are needed",
            found=f"arrays of shape {own.shape} and {of_views.shape}",
            expected="(n images) and (n images, q views), at least one of each",
        )
    check_length("view_predictions", len(of_views), len(own), of="predictions")
    n, q = of_views.shape
    share = float((of_views == own[:, None]).mean())
    codes = np.unique(np.concatenate([own, of_views.ravel()]), return_inverse=True)[1]
    classes = int(codes.max()) + 1
    frequencies = np.bincount(codes[:n], minlength=classes) / n
    of_view = np.bincount(codes[n:], minlength=classes) / (n * q)
    details = {"expected": float(frequencies @ of_view), "n_views": q}
    return Estimate(
        share, wilson_interval(share * n, n), {**details, "interval": "Wilson, images"}
    )


@dataclass(frozen=True)
class ShiftRow:
    """One number of a protocol.

    Args:
        protocol: the augmentation, such as "none", "weak" or "strong".
        metric: the number's name.
        value: the number, or None where it cannot be decided; then `reason` says why.
        reason: why there is no value.
    """

    protocol: str
    metric: str
    value: float | None
    reason: str | None = None


def semantic_shift(
    features: Mapping[str, Array],
    labels: Int[np.ndarray, " n"],
    *,
    shown_classes: int = SHOWN_CLASSES,
    seed: int = 0,
) -> tuple[ShiftRow, ...]:
    """Return how classes gather under each augmentation, as tidy rows.

    For some random classes, the same under each protocol: `cdnv`, `silhouette`, and
    `ncc_accuracy`, the share of rows nearest to their class's centre under the first
    protocol. An image does not count in the centre that it is compared with.

    Args:
        features: per protocol, (n, d) features of the same images augmented so; the
            first is the reference without augmentation.
        labels: (n,) class codes.
        shown_classes: classes drawn.
        seed: of the draw.

    Returns:
        Three rows per protocol, in the order given: where augmentation changes what
        images show, accuracy and silhouette fall and the CDNV grows.

    Raises:
        InputError: for no protocol, rows of another number or width, or values that are
            not finite.
    """
    codes = np.asarray(labels)
    rows = {name: _finite_rows(given, name) for name, given in features.items()}
    if not rows:
        raise InputError("semantic shift: no protocol", expected="features by protocol")
    reference = next(iter(rows.values()))
    for name, one in rows.items():
        check_length(f"features[{name!r}]", len(one), len(codes), of="labels")
        _check_width(name, one, reference)
    classes = np.unique(codes)
    drawn = classes[np.argsort(hash_ids(classes, seed), kind="stable")[:shown_classes]]
    kept = np.isin(codes, drawn)
    codes = np.unique(codes[kept], return_inverse=True)[1]
    reference = reference[kept]
    found = []
    for name, one in rows.items():
        shown = one[kept]
        numbers: dict[str, Callable[[], float]] = {
            "cdnv": partial(_cdnv, shown, codes),
            "ncc_accuracy": partial(_accuracy, shown, reference, codes),
            "silhouette": partial(_silhouette, shown, codes),
        }
        found += [_row(name, number, take) for number, take in numbers.items()]
    return tuple(found)


def _row(protocol: str, number: str, take: Callable[[], float]) -> ShiftRow:
    try:
        return ShiftRow(protocol, number, take())
    except Undecidable as answer:
        return ShiftRow(protocol, number, None, answer.reason)


def _cdnv(rows: Float[np.ndarray, "n d"], codes: Int[np.ndarray, " n"]) -> float:
    return cdnv(_moments(rows, codes)).value


def _silhouette(rows: Float[np.ndarray, "n d"], codes: Int[np.ndarray, " n"]) -> float:
    return silhouette(rows, codes).value


def _moments(
    rows: Float[np.ndarray, "n d"], codes: Int[np.ndarray, " n"]
) -> ClassMoments:
    return ClassMoments(int(codes.max()) + 1, rows.shape[1]).update(rows, codes)


def _accuracy(
    rows: Float[np.ndarray, "n d"],
    reference: Float[np.ndarray, "n d"],
    codes: Int[np.ndarray, " n"],
) -> float:
    """Return the share of rows nearest to their own class's centre of the reference."""
    moments = _moments(reference, codes)
    counts, centres = moments.counts, moments.means
    if len(counts) < 2:
        raise Undecidable("one class only: there is nothing to tell apart")
    if counts.min() < 2:
        raise Undecidable("a class of one image has no centre without it")
    unit = max(float(np.abs(rows).max()), float(np.abs(centres).max()), 1e-300)
    rows, reference, centres = rows / unit, reference / unit, centres / unit
    # The centre of image i's class without image i.
    size = counts[codes][:, None]
    own = (centres[codes] * size - reference) / (size - 1)
    distances = np.empty((len(rows), len(centres)))
    for code, centre in enumerate(centres):
        distances[:, code] = ((rows - centre) ** 2).sum(axis=1)
    distances[np.arange(len(rows)), codes] = ((rows - own) ** 2).sum(axis=1)
    return float((distances.argmin(axis=1) == codes).mean())


@metric(
    title="cosine under occlusion",
    formula="mean over images of cos(h(x), h(x with a square blanked out))",
    needs="pair",
    range="[-1, 1]",
    bounds=(-1.0, 1.0),
    direction="higher",
    degree=0,
    invariances=("rotation", "duplication"),
    cost="O(n d)",
    source="occlusion invariance of features; cosine of two feature vectors",
    misleads="near 1 for any image where features share a large mean, and for a "
    "collapsed encoder: read it beside the mean cosine of different images",
)
def occlusion_cosine(features: Array, occluded: Array) -> Estimate:
    """Return the mean cosine of features with and without a blanked square.

    Args:
        features: (n, d) of the images.
        occluded: (n, d) of the same images, each with a random square blanked out.

    Returns:
        From -1 to 1, higher is better; a zero row has no direction and counts as 0.
        The interval is Student's t over images. Details: `expected`, the mean cosine
        of an image with another one occluded (the next row).

    Raises:
        InputError: for another number of rows or dimensions, or values that are not
            finite.
        Undecidable: where all features are zero.

    Source: mean cosine per occluded area. As in the source.
    """
    one, other = _units(features, "features"), _units(occluded, "occluded")
    check_length("occluded", other.shape[0], one.shape[0])
    _check_width("occluded", other, one)
    if not one.any() or not other.any():
        raise Undecidable("all features are zero: they have no direction")
    estimate = mean_over_images((one * other).sum(axis=1), bounds=(-1.0, 1.0))
    expected = float((one * np.roll(other, 1, axis=0)).sum(axis=1).mean())
    details = {**estimate.details, "expected": expected}
    return Estimate(estimate.value, estimate.interval, details)


@dataclass(frozen=True)
class OcclusionRow:
    """What is left of features when a square of some area is blanked out.

    Args:
        area: share of the image blanked out.
        cosine: mean cosine with the features of the whole image.
        cosine_interval: its 95 % interval; None for one image.
        unchanged: share of images whose nearest class centre stays the same.
        unchanged_interval: its 95 % interval, Wilson's.
        n: images.
    """

    area: float
    cosine: float
    cosine_interval: tuple[float, float] | None
    unchanged: float
    unchanged_interval: tuple[float, float]
    n: int


def occlusion_invariance(
    features: Array,
    occluded: Mapping[float, Array],
    centres: Array,
) -> tuple[OcclusionRow, ...]:
    """Return the curve of cosine and unchanged labels over the occluded area.

    Args:
        features: (n, d) of the whole images.
        occluded: per area (share of the image, 0 to 1), (n, d) features of the same
            images with a random square of that area blanked out.
        centres: (c, d) of at least two classes, such as `ClassMoments.means` of
            training rows.

    Returns:
        One row per area, ascending.

    Raises:
        InputError: for another number of rows or dimensions, an area outside (0, 1], or
            values that are not finite.
        Undecidable: where all features are zero, or with fewer than two centres.
    """
    rows, middle = _finite_rows(features, "features"), _finite_rows(centres, "centres")
    _check_width("centres", middle, rows)
    if len(middle) < 2:
        raise Undecidable("fewer than two class centres")
    classes = np.arange(len(middle))
    before = nearest_class_centre(rows, middle, classes)
    found = []
    for area in sorted(occluded):
        if not 0 < area <= 1:
            raise InputError(
                "occluded: an area is a share of the image",
                found=f"{area}",
                expected="above 0, at most 1",
            )
        blanked = _finite_rows(occluded[area], f"occluded[{area}]")
        check_length(f"occluded[{area}]", len(blanked), len(rows))
        _check_width(f"occluded[{area}]", blanked, rows)
        cosine = occlusion_cosine(rows, blanked)
        kept = int((nearest_class_centre(blanked, middle, classes) == before).sum())
        found.append(
            OcclusionRow(
                area=area,
                cosine=cosine.value,
                cosine_interval=cosine.interval,
                unchanged=kept / len(rows),
                unchanged_interval=wilson_interval(kept, len(rows)),
                n=len(rows),
            )
        )
    return tuple(found)


def _finite_rows(features: Array, name: str) -> np.ndarray:
    """Return rows as float64 on the host; raise where they are not finite."""
    rows = host(as_double(as_matrix(features, name)))
    if not np.isfinite(rows).all():
        raise InputError(f"{name}: some features are NaN or infinite")
    return rows


def _units(features: Array, name: str) -> np.ndarray:
    """Return rows of length 1 on the host, from where they live."""
    unit = unit_rows(as_double(as_matrix(features, name)))
    if not bool(namespace(unit).all(namespace(unit).isfinite(unit))):
        raise InputError(f"{name}: some features are NaN or infinite")
    return host(unit)


def _check_width(name: str, rows: np.ndarray, reference: np.ndarray) -> None:
    if rows.shape[1] != reference.shape[1]:
        raise InputError(
            f"{name}: features of another width",
            found=f"{rows.shape[1]} dimensions",
            expected=f"{reference.shape[1]}",
        )
