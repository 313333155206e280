"""Which random parameters does each image get?

Everything here is a function of the images' keys (`repscope._randomness`), so that
batch size, order, workers and device cannot change a draw. Each purpose has a number
of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import IntEnum
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int, UInt64

from repscope._checking import InputError
from repscope._randomness import uniform
from repscope.data.autoaugment import (
    LEFT_OUT,
    OPERATIONS,
    POLICY_TABLES,
    SIGNED,
    PolicyDraws,
    Step,
    magnitudes_of,
)
from repscope.data.operations import (
    AutoAugment,
    ColorJitter,
    GaussianBlur,
    Grayscale,
    HorizontalFlip,
    Operation,
    RandomCrop,
    RandomResizedCrop,
    Solarize,
)

# torchvision tries this many boxes before it takes the middle of the image.
CROP_TRIES = 10
# Brightness, contrast, saturation and hue can follow one another in 4! orders.
N_ORDERS = 24

Keys = UInt64[np.ndarray, " n"]
Whether = Bool[np.ndarray, " n"]
Kind = TypeVar("Kind")


class Draw(IntEnum):
    """What each random number of an image decides; the numbers are for ever.

    The first two stand for as many numbers as there are tries.
    """

    CROP_AREA = 0
    CROP_RATIO = 100
    CROP_TOP = 200
    CROP_LEFT = 201
    FLIP = 210
    JITTER = 220
    JITTER_ORDER = 221
    BRIGHTNESS = 222
    CONTRAST = 223
    SATURATION = 224
    HUE = 225
    GRAYSCALE = 230
    BLUR = 240
    BLUR_SIGMA = 241
    SOLARIZE = 250
    POLICY = 260
    POLICY_FIRST = 261
    POLICY_SECOND = 262
    POLICY_FIRST_SIGN = 263
    POLICY_SECOND_SIGN = 264


@dataclass(frozen=True, eq=False)
class Boxes:
    """One box per image, in whole pixels; one of `RandomCrop` may begin before 0."""

    top: Int[np.ndarray, " n"]
    left: Int[np.ndarray, " n"]
    height: Int[np.ndarray, " n"]
    width: Int[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class JitterDraws:
    """What the colour jitter does to each image.

    Args:
        order: 0 to 23, a row of the permutations of (brightness, contrast, saturation,
            hue) in lexicographic order.
        brightness: factor; 1 changes nothing.
        contrast: factor.
        saturation: factor.
        hue: shift in turns.
    """

    order: Int[np.ndarray, " n"]
    brightness: Float[np.ndarray, " n"]
    contrast: Float[np.ndarray, " n"]
    saturation: Float[np.ndarray, " n"]
    hue: Float[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class Parameters:
    """What a view's operations do to each image.

    Args:
        boxes: what is cut out; the whole image where there is no crop.
        flipped: which images are mirrored.
        jittered: which change their colours.
        jitter: how they do, or would.
        greyed: which become grey.
        blurred: which are blurred.
        sigma: how widely they are, or would be, in pixels.
        solarised: which are solarised.
        policy: what AutoAugment does to each; None where it has no part in the view.
    """

    boxes: Boxes
    flipped: Whether
    jittered: Whether
    jitter: JitterDraws
    greyed: Whether
    blurred: Whether
    sigma: Float[np.ndarray, " n"]
    solarised: Whether
    policy: PolicyDraws | None = None


def rows_of(record: Any, rows: slice | np.ndarray) -> Any:
    """Return a record of this module for some of its images."""
    values = ((field.name, getattr(record, field.name)) for field in fields(record))
    return type(record)(
        **{
            name: rows_of(value, rows) if is_dataclass(value) else value[rows]
            for name, value in values
            if value is not None
        }
    )


def draw_parameters(
    keys: Keys, operations: Sequence[Operation], height: int, width: int
) -> Parameters:
    """Return what a view's operations do to each image.

    Args:
        keys: of the images, from `sample_keys`.
        operations: each kind at most once.
        height: of the images, in pixels.
        width: of the images, in pixels.

    Raises:
        InputError: where a crop is larger than the images with their border.
    """
    crop = _find(operations, RandomResizedCrop) or _find(operations, RandomCrop)
    policy = _find(operations, AutoAugment)
    # What a view does not have never happens.
    flip = _find(operations, HorizontalFlip) or HorizontalFlip(p=0.0)
    jitter = _find(operations, ColorJitter) or ColorJitter(p=0.0)
    grey = _find(operations, Grayscale) or Grayscale(p=0.0)
    blur = _find(operations, GaussianBlur) or GaussianBlur(1, p=0.0)
    solarise = _find(operations, Solarize) or Solarize(p=0.0)
    return Parameters(
        boxes=_boxes(keys, crop, height, width),
        flipped=uniform(keys, Draw.FLIP) < flip.p,
        jittered=uniform(keys, Draw.JITTER) < jitter.p,
        jitter=draw_jitter(keys, jitter),
        greyed=uniform(keys, Draw.GRAYSCALE) < grey.p,
        blurred=uniform(keys, Draw.BLUR) < blur.p,
        sigma=_between(*blur.sigma, uniform(keys, Draw.BLUR_SIGMA)),
        solarised=uniform(keys, Draw.SOLARIZE) < solarise.p,
        policy=None
        if policy is None
        else draw_policy(
            keys,
            policy,
            height if crop is None else crop.size,
            width if crop is None else crop.size,
        ),
    )


def _find(operations: Sequence[Operation], kind: type[Kind]) -> Kind | None:
    return next((one for one in operations if isinstance(one, kind)), None)


def _boxes(
    keys: Keys, crop: RandomResizedCrop | RandomCrop | None, height: int, width: int
) -> Boxes:
    match crop:
        case RandomResizedCrop():
            return draw_boxes(keys, crop, height, width)
        case RandomCrop():
            return draw_places(keys, crop, height, width)
    none = np.zeros(len(keys), np.int64)
    return Boxes(top=none, left=none, height=none + height, width=none + width)


def draw_boxes(keys: Keys, crop: RandomResizedCrop, height: int, width: int) -> Boxes:
    """Return the box that each image is cropped to.

    Area uniform on `crop.scale`, width over height log-uniform on `crop.ratio`, sides
    rounded to whole pixels; the first of ten tries that fits, placed uniformly, else
    the largest middle box whose shape `crop.ratio` allows.

    Args:
        keys: of the images.
        crop: with which ranges.
        height: of the images, in pixels.
        width: of the images, in pixels.

    Source: torchvision.transforms.RandomResizedCrop.get_params.
    Differs from the source in that the middle box has at least one pixel.
    """
    middle = _largest_middle_box(crop, height, width)
    heights, widths = (np.full(len(keys), side) for side in middle)
    waiting = np.arange(len(keys))
    for attempt in range(CROP_TRIES):
        tall, wide = _sides(keys[waiting], crop, height * width, attempt)
        fits = (tall > 0) & (tall <= height) & (wide > 0) & (wide <= width)
        heights[waiting[fits]], widths[waiting[fits]] = tall[fits], wide[fits]
        waiting = waiting[~fits]
        if not len(waiting):
            break
    top = _below(height - heights + 1, uniform(keys, Draw.CROP_TOP))
    left = _below(width - widths + 1, uniform(keys, Draw.CROP_LEFT))
    top[waiting], left[waiting] = (height - middle[0]) // 2, (width - middle[1]) // 2
    return Boxes(top=top, left=left, height=heights, width=widths)


def _sides(
    keys: Keys, crop: RandomResizedCrop, area: int, attempt: int
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Return height and width of one try."""
    areas = area * _between(*crop.scale, uniform(keys, Draw.CROP_AREA + attempt))
    narrow, wide = np.log(crop.ratio)
    ratios = np.exp(_between(narrow, wide, uniform(keys, Draw.CROP_RATIO + attempt)))
    heights, widths = np.rint(np.sqrt(areas / ratios)), np.rint(np.sqrt(areas * ratios))
    return heights.astype(np.int64), widths.astype(np.int64)


def _largest_middle_box(
    crop: RandomResizedCrop, height: int, width: int
) -> tuple[int, int]:
    narrow, wide = crop.ratio
    if width / height < narrow:
        return max(1, round(width / narrow)), width
    if width / height > wide:
        return height, max(1, round(height * wide))
    return height, width


def draw_places(keys: Keys, crop: RandomCrop, height: int, width: int) -> Boxes:
    """Return the box that each image with a border is cropped to, uniform on places.

    Args:
        keys: of the images.
        crop: with its border.
        height: of the images without it, in pixels.
        width: of the images without it, in pixels.

    Raises:
        InputError: where the crop is larger than the images with their border.

    Source: torchvision.transforms.RandomCrop.get_params. As in the source.
    """
    room = min(height, width) + 2 * crop.padding
    if room < crop.size:
        raise InputError(
            f"images: too small for a crop of {crop.size} x {crop.size}",
            found=f"{height} x {width} and a border of {crop.padding}",
            fix=f"resize them to {crop.size} x {crop.size}",
        )
    side = np.full(len(keys), crop.size)
    down, across = (one + 2 * crop.padding - side + 1 for one in (height, width))
    return Boxes(
        top=_below(down, uniform(keys, Draw.CROP_TOP)) - crop.padding,
        left=_below(across, uniform(keys, Draw.CROP_LEFT)) - crop.padding,
        height=side,
        width=side,
    )


def draw_policy(
    keys: Keys, policy: AutoAugment, height: int, width: int
) -> PolicyDraws:
    """Return what a policy does to each image.

    Each pair is as likely; each of its operations is done with its probability, and
    with its magnitude, whose sign is as likely negative where it has one.

    Args:
        keys: of the images.
        policy: which.
        height: of the images when it is their turn, in pixels.
        width: of the images when it is their turn, in pixels.

    Source: torchvision.transforms.AutoAugment.get_params. As in the source.
    """
    table = POLICY_TABLES[policy.policy]
    pairs = _below(np.full(len(keys), len(table)), uniform(keys, Draw.POLICY))
    operations, magnitudes = [], []
    for turn, (happens, sign) in enumerate(
        (
            (Draw.POLICY_FIRST, Draw.POLICY_FIRST_SIGN),
            (Draw.POLICY_SECOND, Draw.POLICY_SECOND_SIGN),
        )
    ):
        steps = [_numbers(pair[turn], height, width) for pair in table]
        codes, p, magnitude, is_signed = np.array(steps).T[:, pairs]
        left_out = uniform(keys, happens) >= p
        negative = (uniform(keys, sign) < 0.5) & (is_signed > 0)
        operations.append(np.where(left_out, LEFT_OUT, codes.astype(np.int64)))
        magnitudes.append(np.where(negative, -magnitude, magnitude))
    return PolicyDraws(np.stack(operations, 1), np.stack(magnitudes, 1))


def _numbers(step: Step, height: int, width: int) -> tuple[float, float, float, float]:
    """Return operation, probability, magnitude, and whether this may be negative."""
    name, p, number = step
    size = 0.0 if number is None else magnitudes_of(name, height, width)[number]
    return float(OPERATIONS.index(name)), p, size, float(name in SIGNED)


def draw_jitter(keys: Keys, jitter: ColorJitter) -> JitterDraws:
    """Return order and factors of each image's colour jitter.

    Source: torchvision.transforms.v2.ColorJitter. As in the source.
    """
    factors = {}
    for draw in (Draw.BRIGHTNESS, Draw.CONTRAST, Draw.SATURATION):
        strength = getattr(jitter, draw.name.lower())
        low, high = max(0.0, 1 - strength), 1 + strength
        factors[draw.name.lower()] = _between(low, high, uniform(keys, draw))
    return JitterDraws(
        order=_below(np.full(len(keys), N_ORDERS), uniform(keys, Draw.JITTER_ORDER)),
        hue=_between(-jitter.hue, jitter.hue, uniform(keys, Draw.HUE)),
        **factors,
    )


def _between(
    low: float, high: float, numbers: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    return low + (high - low) * numbers


def _below(
    counts: Int[np.ndarray, " n"], numbers: Float[np.ndarray, " n"]
) -> Int[np.ndarray, " n"]:
    """Return whole numbers, uniform from 0 to each count - 1."""
    return np.floor(numbers * counts).astype(np.int64)
