"""Drawn shapes in two label levels, with masks and the factors that drew them.

Each picture is a function of (seed, row) alone: a longer set begins with the shorter
one. The factors that do not decide the class are known, which real pictures never
grant, so that what an encoder keeps of them can be measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy.special
from jaxtyping import Float, Int, UInt8, UInt64

from repscope._checking import UsageError
from repscope._randomness import Purpose, sample_keys, uniform
from repscope.data.images import ArrayImages
from repscope.data.imageset import ImageSet
from repscope.data.levels import Level

SHAPES = ("ellipse", "rectangle", "triangle", "cross", "star")
VARIANTS = (
    *("ellipse", "flat ellipse", "hollow ellipse", "hollow flat ellipse"),
    *("rectangle", "flat rectangle", "hollow rectangle", "hollow flat rectangle"),
    *("triangle", "flat triangle", "hollow triangle", "hollow flat triangle"),
    *("upright cross", "diagonal cross"),
    *("hollow upright cross", "hollow diagonal cross"),
    *("three-armed star", "five-armed star"),
    *("hollow three-armed star", "hollow five-armed star"),
)
# What is drawn per picture, uniformly from these ranges: the rotation in radians,
# lengths in half sides of the picture, brightness from 0 to 1.
RANGES = {
    "rotation": (-0.2, 0.2),
    "scale": (0.75, 0.95),
    "centre_x": (-0.1, 0.1),
    "centre_y": (-0.1, 0.1),
    "contrast": (0.5, 1.0),
    "background": (0.0, 0.3),
}
FIFTHS = tuple(f"fifth {k}" for k in range(1, 6))
TINTS = ("red", "green", "blue")
PIXEL_NOISE = 0.05
# The edge of a shape: sigmoid(sharpness * (edge - gauge)).
SHARPNESS, OUTER_EDGE, INNER_EDGE = 14.0, 0.9, 0.55
# Draws of a picture's hash: its class, its factors, its tint, then its pixels.
_ORDER, _FACTOR, _TINT, _PIXEL = 0, 1, 10, 20


@dataclass(frozen=True, eq=False)
class Shapes:
    """Drawn pictures and the truth about them.

    Args:
        images: levels "variant" (20) and "shape" (5); each factor as an attribute, in
            fifths of its range; with colour also "tint", the strongest one.
        masks: (n, h, w) 1 where the shape is at least half opaque, else 0.
        factors: name -> (n,) what was drawn: rotation (radians), scale, centre_x,
            centre_y (half sides), contrast, background (0 to 1); with colour also red,
            green and blue (0 to 1).
    """

    images: ImageSet
    masks: UInt8[np.ndarray, "n h w"]
    factors: Mapping[str, Float[np.ndarray, " n"]]


def shapes20(n: int, *, size: int = 16, seed: int = 0, colour: float = 0.0) -> Shapes:
    """Return n pictures of 5 shapes in 4 variants each, every 20 rows one of each.

    Pixels are background + contrast * mask + N(0, .05), clipped to [0, 1]; with colour
    they are multiplied by 1 - colour * u, u uniform per picture and channel.

    Args:
        n: pictures, at least 1.
        size: side in pixels, at least 8.
        seed: another seed draws others.
        colour: from 0 (grey, 1 channel) to 1 (3 channels, tints down to black).

    Raises:
        UsageError: for an argument outside of its range.

    Example:
        >>> sorted(set(shapes20(40).images.labels["shape"].tolist()))[:3]
        ['cross', 'ellipse', 'rectangle']
    """
    if n < 1 or size < 8 or not 0 <= colour <= 1:
        raise UsageError(
            "shapes20: an argument outside of its range",
            found=f"n {n}, size {size}, colour {colour}",
            expected="n >= 1, size >= 8, 0 <= colour <= 1",
        )
    keys = sample_keys(Purpose.SHAPES, seed, np.arange(n, dtype=np.uint64))
    variants = _variants(seed, n)
    factors = {
        name: low + (high - low) * uniform(keys, _FACTOR + draw)
        for draw, (name, (low, high)) in enumerate(RANGES.items())
    }
    if colour:
        draws = [uniform(keys, _TINT + draw) for draw in range(len(TINTS))]
        tints = {name: 1 - colour * u for name, u in zip(TINTS, draws, strict=True)}
        factors |= tints
    opacity = _opacity(variants, factors, size)
    pixels = _pixels(opacity, factors, keys)
    array = np.round(pixels * 255).astype(np.uint8)
    return Shapes(
        images=ImageSet(
            images=ArrayImages(array, "shapes20"),
            name="shapes20",
            ids=np.arange(n),
            levels=_levels(variants),
            attributes=_attributes(factors),
            rows=np.arange(n),
        ),
        masks=(opacity >= 0.5).astype(np.uint8),
        factors=factors,
    )


def _variants(seed: int, n: int) -> Int[np.ndarray, " n"]:
    """Return the variant of each row: a new order of all 20 in every 20 rows."""
    rows = -(-n // len(VARIANTS)) * len(VARIANTS)
    keys = sample_keys(Purpose.SHAPES, seed, np.arange(rows, dtype=np.uint64))
    draws = uniform(keys, _ORDER).reshape(-1, len(VARIANTS))
    return np.argsort(draws, axis=1, kind="stable").ravel()[:n].astype(np.int64)


def _opacity(
    variants: Int[np.ndarray, " n"],
    factors: Mapping[str, Float[np.ndarray, " n"]],
    size: int,
) -> Float[np.ndarray, "n size size"]:
    """Return how much of each pixel a shape covers, from 0 to 1."""
    half_pixels = (2 * np.arange(size) + 1) / size - 1
    opacity = np.empty((len(variants), size, size))
    for row, variant in enumerate(variants.tolist()):
        one = {name: values[row] for name, values in factors.items()}
        x = half_pixels[None, :] - one["centre_x"]
        y = half_pixels[:, None] - one["centre_y"]
        cos, sin = np.cos(one["rotation"]), np.sin(one["rotation"])
        r = gauge(
            variant,
            (cos * x + sin * y) / one["scale"],
            (cos * y - sin * x) / one["scale"],
        )
        opacity[row] = scipy.special.expit(SHARPNESS * (OUTER_EDGE - r))
        if variant % 4 >= 2:
            opacity[row] -= scipy.special.expit(SHARPNESS * (INNER_EDGE - r))
    return opacity


def gauge(
    variant: int, x: Float[np.ndarray, "h w"], y: Float[np.ndarray, "h w"]
) -> Float[np.ndarray, "h w"]:
    """Return the gauge of a shape: 0 at its centre, about 1 at its rim.

    Args:
        variant: 4 * shape + variant, from 0 to 19.
        x: coordinates across, rotated, centred, and divided by the scale.
        y: coordinates down, likewise.
    """
    shape, is_odd = SHAPES[variant // 4], variant % 2 == 1
    flat = y / (0.5 if is_odd else 1.0)
    if shape == "ellipse":
        return np.hypot(x, flat)
    if shape == "rectangle":
        return 1.15 * np.maximum(abs(x), abs(flat))
    if shape == "triangle":
        return np.maximum(flat, 1.4 * abs(x) - 0.7 * flat)
    if shape == "star":
        arms = 5 if is_odd else 3
        return np.hypot(x, y) / (0.65 + 0.35 * np.cos(arms * np.arctan2(y, x)))
    if is_odd:
        rising, falling = abs(x + y), abs(x - y)
        return np.minimum(
            np.maximum(rising / 1.4, 2.2 * falling),
            np.maximum(2.2 * rising, falling / 1.4),
        )
    return np.minimum(np.maximum(abs(x), 3 * abs(y)), np.maximum(3 * abs(x), abs(y)))


def _pixels(
    opacity: Float[np.ndarray, "n size size"],
    factors: Mapping[str, Float[np.ndarray, " n"]],
    keys: UInt64[np.ndarray, " n"],
) -> Float[np.ndarray, "n size size c"]:
    """Return pixels in [0, 1], with noise that is a function of row and place."""
    n, size, _ = opacity.shape
    noise = np.empty((n, size * size))
    for place in range(size * size):
        noise[:, place] = uniform(keys, _PIXEL + place)
    # Half a step away from 0, whose normal quantile is infinite.
    noise = scipy.special.ndtri(noise + 2.0**-54).reshape(opacity.shape)
    contrast, background = factors["contrast"], factors["background"]
    pixels = background[:, None, None] + contrast[:, None, None] * opacity
    pixels = np.clip(pixels + PIXEL_NOISE * noise, 0, 1)[..., None]
    if TINTS[0] not in factors:
        return pixels
    return pixels * np.stack([factors[one] for one in TINTS], axis=1)[:, None, None]


def _levels(variants: Int[np.ndarray, " n"]) -> tuple[Level, Level]:
    return Level("variant", variants, VARIANTS), Level("shape", variants // 4, SHAPES)


def _attributes(factors: Mapping[str, Float[np.ndarray, " n"]]) -> tuple[Level, ...]:
    attributes = []
    for name, (low, high) in RANGES.items():
        fifths = np.floor(5 * (factors[name] - low) / (high - low))
        attributes.append(Level(name, np.clip(fifths, 0, 4).astype(np.int64), FIFTHS))
    if TINTS[0] in factors:
        strongest = np.argmax([factors[name] for name in TINTS], axis=0)
        attributes.append(Level("tint", strongest.astype(np.int64), TINTS))
    return tuple(attributes)
