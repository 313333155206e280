"""What can be done to an image at random: the operations of a view, as records.

Each record says with which ranges and how often; it draws nothing and moves no pixel.
Ranges, orders and defaults have the meaning they have in torchvision's transforms v2.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from repscope._checking import UsageError, check_choice

INTERPOLATIONS = ("bilinear", "bicubic")
HUES = ("exact", "yiq")
POLICIES = ("cifar10",)
# In torchvision a crop's width over its height lies between these by default.
CROP_RATIO = (3 / 4, 4 / 3)
SOLARIZE_THRESHOLD = 128 / 255

Interpolation = Literal["bilinear", "bicubic"]
Hue = Literal["exact", "yiq"]
Policy = Literal["cifar10"]


@dataclass(frozen=True)
class RandomResizedCrop:
    """A box of random area and shape, resized to a square with antialiasing.

    Args:
        size: side of the result, in pixels.
        scale: least and largest share of the image's area, in (0, 1].
        ratio: least and largest width over height, drawn log-uniformly.
        interpolation: bilinear or bicubic; both widen when they shrink, as in PIL.
    """

    size: int
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = CROP_RATIO
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        if self.size < 1:
            raise _wrong("size", self.size, "at least 1 pixel")
        low, high = self.scale
        if not 0 < low <= high <= 1:
            raise _wrong("scale", self.scale, "0 < least <= largest <= 1")
        narrow, wide = self.ratio
        if not 0 < narrow <= wide < math.inf:
            raise _wrong("ratio", self.ratio, "0 < least <= largest")
        check_choice("interpolation", self.interpolation, INTERPOLATIONS)


@dataclass(frozen=True)
class RandomCrop:
    """A square placed anywhere in an image with a black border; nothing is resized.

    Args:
        size: side of the result, in pixels.
        padding: width of the border, in pixels, 0 or more.
    """

    size: int
    padding: int = 4

    def __post_init__(self) -> None:
        if self.size < 1:
            raise _wrong("size", self.size, "at least 1 pixel")
        if self.padding < 0:
            raise _wrong("padding", self.padding, "0 or more pixels")


@dataclass(frozen=True)
class HorizontalFlip:
    """Left and right exchanged.

    Args:
        p: probability for an image.
    """

    p: float = 0.5

    def __post_init__(self) -> None:
        _check_probability(self.p)


@dataclass(frozen=True)
class ColorJitter:
    """Brightness, contrast, saturation and hue changed, in an order random per image.

    Args:
        brightness: b; the factor is uniform on [max(0, 1 - b), 1 + b].
        contrast: as brightness.
        saturation: as brightness.
        hue: h in [0, 0.5]; the shift is uniform on [-h, h] of a full turn.
        p: probability for an image; the four come together or not at all.
        hue_method: "exact" shifts the hue of HSV, as torchvision and the published runs
            do, and so is the default; "yiq" turns the colour plane of YIQ, which keeps
            luma instead of value. It gives other colours, about as strong, and saves a
            fifth of the time of a view.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    p: float = 1.0
    hue_method: Hue = "exact"

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) < math.inf:
                raise _wrong(name, getattr(self, name), "0 or more")
        if not 0 <= self.hue <= 0.5:
            raise _wrong("hue", self.hue, "between 0 and 0.5 of a turn")
        _check_probability(self.p)
        check_choice("hue_method", self.hue_method, HUES)


@dataclass(frozen=True)
class Grayscale:
    """All three channels replaced by luma (0.2989 red, 0.587 green, 0.114 blue).

    Args:
        p: probability for an image.
    """

    p: float = 0.2

    def __post_init__(self) -> None:
        _check_probability(self.p)


@dataclass(frozen=True)
class GaussianBlur:
    """A Gaussian blur of random width, with reflected borders.

    Args:
        kernel: number of taps, odd; on small images at most
            2 floor((side - 1) / 2) - 1.
        sigma: least and largest deviation, in pixels.
        p: probability for an image.
    """

    kernel: int
    sigma: tuple[float, float] = (0.1, 2.0)
    p: float = 0.5

    def __post_init__(self) -> None:
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise _wrong("kernel", self.kernel, "an odd number of pixels")
        low, high = self.sigma
        if not 0 < low <= high < math.inf:
            raise _wrong("sigma", self.sigma, "0 < least <= largest")
        _check_probability(self.p)


@dataclass(frozen=True)
class Solarize:
    """Values at or above a threshold inverted.

    Args:
        threshold: in [0, 1].
        p: probability for an image.
    """

    threshold: float = SOLARIZE_THRESHOLD
    p: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise _wrong("threshold", self.threshold, "between 0 and 1")
        _check_probability(self.p)


@dataclass(frozen=True)
class AutoAugment:
    """One of the pairs of operations that a search has found, drawn for each image.

    It works on whole levels from 0 to 255, to which it rounds. Grey images keep what
    concerns colour.

    Args:
        policy: which pairs, how often and how strongly (`repscope.data.autoaugment`).
    """

    policy: Policy = "cifar10"

    def __post_init__(self) -> None:
        check_choice("policy", self.policy, POLICIES)


@dataclass(frozen=True)
class Normalize:
    """Each channel shifted by its mean and divided by its deviation.

    Args:
        mean: one per channel, of values in [0, 1].
        std: one per channel, positive.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not self.mean:
            raise UsageError(
                "mean and std: one of each per channel is needed",
                found=f"{len(self.mean)} and {len(self.std)}",
                expected="as many of one as of the other",
            )
        if not all(deviation > 0 for deviation in self.std):
            raise _wrong("std", self.std, "positive numbers")


Operation = (
    RandomResizedCrop
    | RandomCrop
    | HorizontalFlip
    | ColorJitter
    | Grayscale
    | GaussianBlur
    | Solarize
    | AutoAugment
    | Normalize
)


def to_dict(operation: Operation) -> dict[str, Any]:
    """Return the operation's name and every parameter, as primitives."""
    values = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in asdict(operation).items()
    }
    return {"operation": type(operation).__name__, **values}


def describe(operation: Operation) -> str:
    """Return the operation with every parameter.

    Example:
        >>> describe(GaussianBlur(kernel=3))
        'GaussianBlur(kernel=3, sigma=(0.1, 2), p=0.5)'
    """
    shown = (f"{name}={_shown(value)}" for name, value in asdict(operation).items())
    return f"{type(operation).__name__}({', '.join(shown)})"


def _shown(value: float | int | str | tuple[float | int, ...] | None) -> str:
    if isinstance(value, tuple):
        return "(" + ", ".join(_shown(one) for one in value) + ")"
    return value if isinstance(value, str) else f"{value:.6g}"


def _check_probability(p: float) -> None:
    if not 0 <= p <= 1:
        raise _wrong("p", p, "a probability between 0 and 1")


def _wrong(name: str, found: object, expected: str) -> UsageError:
    return UsageError(f"{name}: out of range", found=str(found), expected=expected)
