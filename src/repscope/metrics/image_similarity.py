"""How near is a reconstructed image to the true one? Scores of feature inversion.

Images are (n, h, w, c) in [0, 1]; every score is the mean over images.
"""

import numpy as np
import scipy.ndimage
from jaxtyping import Float, Shaped

from repscope._checking import InputError, Undecidable
from repscope.metrics.metric import Estimate, metric
from repscope.metrics.samples import mean_score

# Window and constants of SSIM, for values in [0, 1].
SSIM_WINDOW, SSIM_DEVIATION = 11, 1.5
SSIM_LUMINANCE, SSIM_CONTRAST = 0.01**2, 0.03**2
# Cells of the colour histogram along each channel.
COLOUR_BINS = 8
# Weights of red, green and blue (ITU-R 601).
_LUMA = np.array([0.299, 0.587, 0.114])

Images = Shaped[np.ndarray, "n ..."]
Others = Shaped[np.ndarray, "m ..."]
Doubles = Float[np.ndarray, "n h w c"]


def _pair(images: Images, reconstructions: Others) -> tuple[Doubles, Doubles]:
    if images.ndim != 4 or images.shape[0] == 0:
        raise InputError(
            "images: pictures (n, h, w, c) are needed",
            found=f"shape {images.shape}",
            fix="grey ones have c = 1: images[..., None]",
        )
    if images.shape != reconstructions.shape:
        raise InputError(
            "reconstructions: one for each image, of its size, is needed",
            found=f"shape {reconstructions.shape}",
            expected=f"{images.shape}",
        )
    pair = [np.asarray(one, dtype=np.float64) for one in (images, reconstructions)]
    for name, one in zip(("images", "reconstructions"), pair, strict=True):
        if not ((one >= 0) & (one <= 1)).all():
            raise InputError(
                f"{name}: pixels in [0, 1] are needed",
                found=f"values from {one.min():g} to {one.max():g}",
                fix="divide bytes by 255; cut at 0 and 1",
            )
    return pair[0], pair[1]


def _grey(images: Doubles) -> Float[np.ndarray, "n h w"]:
    return images @ _LUMA if images.shape[3] == 3 else images.mean(axis=3)


@metric(
    title="peak signal-to-noise ratio, dB",
    formula="mean over images of -10 log10(mean squared error), pixels in [0, 1]",
    needs="images",
    range="[0, ∞)",
    bounds=(0.0, None),
    direction="higher",
    cost="O(n h w c)",
    source="Huynh-Thu, Ghanbari 2008",
    misleads="a blurred image scores above a sharp one that is shifted by a pixel",
)
def psnr(images: Images, reconstructions: Others) -> Estimate:
    """Return the mean peak signal-to-noise ratio.

    Args:
        images: (n, h, w, c) in [0, 1].
        reconstructions: the same shape.

    Returns:
        Decibel, at least 0; higher is nearer. Interval: normal over images. Details:
        `exact`, images without any error, which have no number and are left out.

    Raises:
        InputError: for other shapes, or pixels outside [0, 1].
        Undecidable: where every image is exact.

    Source: Huynh-Thu, Ghanbari 2008. As in the source, peak 1.
    """
    one, two = _pair(images, reconstructions)
    errors = ((one - two) ** 2).mean(axis=(1, 2, 3))
    if not errors.any():
        raise Undecidable("every reconstruction is exact: there is no noise")
    estimate = mean_score(-10 * np.log10(errors[errors > 0]))
    details = {**estimate.details, "exact": int((errors == 0).sum())}
    return Estimate(estimate.value, estimate.interval, details)


@metric(
    title="structural similarity",
    formula="mean over positions, channels and images of (2 μ_x μ_y + c1)(2 σ_xy + c2) "
    "/ ((μ_x² + μ_y² + c1)(σ_x² + σ_y² + c2)), Gaussian windows of 11 x 11, σ 1.5",
    needs="images",
    range="[-1, 1]",
    bounds=(-1.0, 1.0),
    direction="higher",
    cost="O(n h w c)",
    source="Wang, Bovik, Sheikh, Simoncelli 2004, Eq. 13",
    misleads="flat regions agree by nature; below 11 pixels there is no window",
)
def ssim(images: Images, reconstructions: Others) -> Estimate:
    """Return the mean structural similarity.

    Args:
        images: (n, h, w, c) in [0, 1], at least 11 x 11.
        reconstructions: the same shape.

    Returns:
        From -1 to 1, 1 for equal images. Interval: normal over images.

    Raises:
        InputError: for other shapes, or pixels outside [0, 1].
        Undecidable: below 11 x 11 pixels.

    Source: Wang et al. 2004, Eq. 13, c1 = .01², c2 = .03². As in the source, per
    channel and over the windows that lie within the image.
    """
    one, two = _pair(images, reconstructions)
    if min(one.shape[1:3]) < SSIM_WINDOW:
        raise Undecidable(f"windows of {SSIM_WINDOW} pixels do not fit into the images")
    mean_one, mean_two = _windowed(one), _windowed(two)
    variance_one = _windowed(one**2) - mean_one**2
    variance_two = _windowed(two**2) - mean_two**2
    shared = _windowed(one * two) - mean_one * mean_two
    above = (2 * mean_one * mean_two + SSIM_LUMINANCE) * (2 * shared + SSIM_CONTRAST)
    below = (mean_one**2 + mean_two**2 + SSIM_LUMINANCE) * (
        variance_one + variance_two + SSIM_CONTRAST
    )
    return mean_score((above / below).mean(axis=(1, 2, 3)))


def _windowed(images: Doubles) -> Float[np.ndarray, "n h3 w3 c"]:
    """Return Gaussian means over the windows that lie within the image."""
    offsets = np.arange(SSIM_WINDOW) - SSIM_WINDOW // 2
    weights = np.exp(-(offsets**2) / (2 * SSIM_DEVIATION**2))
    weights /= weights.sum()
    rim = SSIM_WINDOW // 2
    for axis in (1, 2):
        images = scipy.ndimage.correlate1d(images, weights, axis=axis)
    return images[:, rim:-rim, rim:-rim]


@metric(
    title="distance of colour histograms",
    formula="mean over images of 1/2 Σ |p_b - q_b| over 8 bins per channel",
    needs="images",
    range="[0, 1]",
    bounds=(0.0, 1.0),
    direction="lower",
    cost="O(n h w)",
    source="Swain, Ballard 1991 (histogram intersection; this is 1 less it)",
    misleads="knows nothing of where a colour is",
)
def colour_histogram_distance(images: Images, reconstructions: Others) -> Estimate:
    """Return how far the colours differ, wherever they are.

    Args:
        images: (n, h, w, c) in [0, 1].
        reconstructions: the same shape.

    Returns:
        From 0 (the same colours) to 1 (no colour in common). Interval: normal over
        images.

    Raises:
        InputError: for other shapes, or pixels outside [0, 1].

    Source: Swain, Ballard 1991, Section 2. As in the source, for equal sizes.
    """
    pair = _pair(images, reconstructions)
    n, height, width, channels = pair[0].shape
    powers = COLOUR_BINS ** np.arange(channels)
    bins = COLOUR_BINS**channels
    histograms = []
    for one in pair:
        cells = np.minimum((one * COLOUR_BINS).astype(np.int64), COLOUR_BINS - 1)
        codes = (cells @ powers).reshape(n, -1) + bins * np.arange(n)[:, None]
        histograms.append(np.bincount(codes.ravel(), minlength=n * bins))
    apart = np.abs(histograms[0] - histograms[1]).reshape(n, bins).sum(axis=1)
    return mean_score(apart / (2 * height * width))


@metric(
    title="error of the foreground's centre",
    formula="mean over images of |c - c'| / diagonal, c the centre of |pixel - median "
    "of the border|",
    needs="images",
    range="[0, 1]",
    bounds=(0.0, 1.0),
    direction="lower",
    cost="O(n h w c)",
    source="ours; the place of what stands out from the border",
    misleads="a busy background stands out too",
)
def foreground_centroid_error(images: Images, reconstructions: Others) -> Estimate:
    """Return how far the centre of the foreground has moved.

    The foreground's weight is a pixel's distance from the median colour of the border.

    Args:
        images: (n, h, w, c) in [0, 1].
        reconstructions: the same shape.

    Returns:
        From 0, as a share of the image's diagonal. Interval: normal over images.
        Details: `left_out`, images without foreground.

    Raises:
        InputError: for other shapes, or pixels outside [0, 1].
        Undecidable: where no pair has a foreground.

    Source: ours. Appalaraju et al. 2020 compare inverted images by eye.
    """
    pair = _pair(images, reconstructions)
    (one, has_one), (two, has_two) = (_centroids(part) for part in pair)
    both = has_one & has_two
    if not both.any():
        raise Undecidable("no image stands out from its border")
    _, height, width, _ = images.shape
    diagonal = float(np.hypot(height, width))
    moved = np.linalg.norm(one[both] - two[both], axis=1) / diagonal
    estimate = mean_score(moved)
    details = {**estimate.details, "left_out": int((~both).sum())}
    return Estimate(estimate.value, estimate.interval, details)


def _centroids(images: Doubles) -> tuple[np.ndarray, np.ndarray]:
    """Return (n, 2) centres in pixels, and which images have a foreground."""
    n, height, width, channels = images.shape
    rim = np.ones((height, width), dtype=bool)
    rim[1:-1, 1:-1] = False
    background = np.median(images[:, rim], axis=1)[:, None, None]
    weights = np.linalg.norm(images - background, axis=3)
    totals = weights.sum(axis=(1, 2))
    safe = np.where(totals > 0, totals, 1)
    rows = weights.sum(axis=2) @ np.arange(height) / safe
    columns = weights.sum(axis=1) @ np.arange(width) / safe
    return np.column_stack([rows, columns]), totals > 0


@metric(
    title="correlation of edges",
    formula="mean over images of the correlation of |∇ grey| between image and "
    "reconstruction, central differences",
    needs="images",
    range="[-1, 1]",
    bounds=(-1.0, 1.0),
    direction="higher",
    cost="O(n h w)",
    source="ours, after gradient magnitude similarity (Xue et al. 2014)",
    misleads="a shift by a pixel takes thin edges apart",
)
def gradient_correlation(images: Images, reconstructions: Others) -> Estimate:
    """Return how well the edges agree.

    Args:
        images: (n, h, w, c) in [0, 1], at least 2 x 2.
        reconstructions: the same shape.

    Returns:
        From -1 to 1; higher is nearer. Interval: normal over images. Details:
        `left_out`, pairs with an image of even gradient.

    Raises:
        InputError: for other shapes, or pixels outside [0, 1].
        Undecidable: where no pair has edges, or below 2 x 2 pixels.

    Source: ours, after Xue, Zhang, Mou, Bovik 2014.
    """
    pair = _pair(images, reconstructions)
    if min(images.shape[1:3]) < 2:
        raise Undecidable("a gradient needs 2 x 2 pixels")
    edges = []
    for one in pair:
        down, right = np.gradient(_grey(one), axis=(1, 2))
        size = np.hypot(down, right).reshape(len(one), -1)
        edges.append(size - size.mean(axis=1, keepdims=True))
    lengths = [np.linalg.norm(one, axis=1) for one in edges]
    # An even gradient leaves the rounding of its mean.
    usable = np.minimum(*lengths) > 1e-12
    if not usable.any():
        raise Undecidable("no pair of images with edges")
    products = np.vecdot(edges[0][usable], edges[1][usable])
    estimate = mean_score(products / (lengths[0] * lengths[1])[usable])
    details = {**estimate.details, "left_out": int((~usable).sum())}
    return Estimate(estimate.value, estimate.interval, details)
