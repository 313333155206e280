"""What do the published methods do to an image for each of its views?

One function for each, from the side of the views and the strength of the colour jitter
to lists of operations. Who published them and at which size is in
`repscope.data.protocols`.
"""

from collections.abc import Callable, Sequence

from repscope.data.operations import (
    ColorJitter,
    GaussianBlur,
    Grayscale,
    HorizontalFlip,
    Operation,
    RandomCrop,
    RandomResizedCrop,
    Solarize,
)

View = tuple[Operation, ...]
Views = tuple[View, ...]

# Brightness, contrast, saturation and hue of the colour jitter at strength 1.
SIMCLR_JITTER = (0.8, 0.8, 0.8, 0.2)
# Sides of SwAV's small crops and of its large ones.
SWAV_SIDES = (96, 224)
# The border of AutoAugment's and everybody's crop on CIFAR: 4 pixels of 32.
BORDER_SHARE = 8


def side_of(view: View) -> int | None:
    """Return the side of a view's crop in pixels; None where it has no crop.

    Args:
        view: operations, the crop first.
    """
    crops = [one for one in view if isinstance(one, RandomResizedCrop | RandomCrop)]
    return crops[0].size if crops else None


def blur_of(size: int, p: float) -> GaussianBlur:
    """Return a blur over a tenth of the side, as SimCLR's code rounds it, or 3 taps.

    Below 20 pixels SimCLR's own rounding leaves one tap, which blurs nothing.
    """
    return GaussianBlur(2 * max(size // 10 // 2, 1) + 1, p=p)


def jitter_of(amounts: Sequence[float], strength: float, p: float = 0.8) -> ColorJitter:
    """Return a colour jitter.

    Args:
        amounts: of brightness, contrast, saturation and hue, at strength 1.
        strength: factor on all four, 0 or more.
        p: probability for an image.

    Raises:
        UsageError: where an amount is out of range, as a hue above half a turn.
    """
    brightness, contrast, saturation, hue = (amount * strength for amount in amounts)
    return ColorJitter(brightness, contrast, saturation, hue, p=p)


def _twice(*operations: Operation) -> Views:
    return operations, operations


def simclr(size: int, strength: float) -> Views:
    """Return SimCLR's two views."""
    return _twice(
        RandomResizedCrop(size),
        HorizontalFlip(),
        jitter_of(SIMCLR_JITTER, strength),
        Grayscale(),
        blur_of(size, p=0.5),
    )


def simclr_without_blur(size: int, strength: float) -> Views:
    """Return SimCLR's two views for small images."""
    return tuple(view[:-1] for view in simclr(size, strength))


def reverse_engineering(size: int, strength: float) -> Views:
    """Return the two views of Ben-Shaul et al. 2023."""
    return _twice(
        RandomResizedCrop(size),
        HorizontalFlip(),
        jitter_of((0.4, 0.4, 0.2, 0.1), strength),
        Grayscale(),
        GaussianBlur(23, p=0.5),
        Solarize(p=0.1),
    )


def unequal_views(size: int, strength: float) -> Views:
    """Return BYOL's two views, of which the second is hardly blurred."""
    start = (
        RandomResizedCrop(size, interpolation="bicubic"),
        HorizontalFlip(),
        jitter_of((0.4, 0.4, 0.2, 0.1), strength),
        Grayscale(),
    )
    return (
        (*start, blur_of(size, p=1.0), Solarize(p=0.0)),
        (*start, blur_of(size, p=0.1), Solarize(p=0.2)),
    )


def moco_v1(size: int, strength: float) -> Views:
    """Return the two views of instance discrimination and of MoCo."""
    return _twice(
        RandomResizedCrop(size, (0.2, 1.0)),
        Grayscale(),
        jitter_of((0.4, 0.4, 0.4, 0.4), strength, p=1.0),
        HorizontalFlip(),
    )


def moco_v2(size: int, strength: float) -> Views:
    """Return MoCo v2's two views."""
    return _twice(
        RandomResizedCrop(size, (0.2, 1.0)),
        jitter_of((0.4, 0.4, 0.4, 0.1), strength),
        Grayscale(),
        blur_of(size, p=0.5),
        HorizontalFlip(),
    )


def small_images(least_area: float) -> Callable[[int, float], Views]:
    """Return what builds two views without blur, of so much of the area or more."""
    return lambda size, strength: _twice(
        RandomResizedCrop(size, (least_area, 1.0)),
        HorizontalFlip(),
        jitter_of((0.4, 0.4, 0.4, 0.1), strength),
        Grayscale(),
    )


def _small_side(size: int, share: float) -> int:
    """Return a share of a side as an even number, at least 4: 14 beside 32 for SwAV."""
    return min(size, max(4, 2 * round(size * share / 2)))


def multi_crop(size: int, strength: float) -> Views:
    """Return SwAV's two large crops and six small ones."""
    small, large = SWAV_SIDES
    small = _small_side(size, small / large)
    rest = (
        HorizontalFlip(),
        jitter_of(SIMCLR_JITTER, strength),
        Grayscale(),
        # with as many taps on small crops as on large ones
        blur_of(size, p=0.5),
    )
    return (
        *[(RandomResizedCrop(size, (0.14, 1.0)), *rest)] * 2,
        *[(RandomResizedCrop(small, (0.05, 0.14)), *rest)] * 6,
    )


def multi_crop_of_digits(size: int, strength: float) -> Views:
    """Return two large crops and four of half the side."""
    small = _small_side(size, 1 / 2)
    return (
        *[(RandomResizedCrop(size, (0.4, 1.0)),)] * 2,
        *[(RandomResizedCrop(small, (0.1, 0.4)),)] * 4,
    )


def one_view(*operations: Operation) -> Callable[[int, float], Views]:
    """Return what builds one crop that resizes nothing, flipped or not, and more."""
    return lambda size, strength: (
        (RandomCrop(size, size // BORDER_SHARE), HorizontalFlip(), *operations),
    )


def crop_alone(least_area: float) -> Callable[[int, float], Views]:
    """Return what builds two crops of so much of the area or more."""
    return lambda size, strength: _twice(RandomResizedCrop(size, (least_area, 1.0)))
