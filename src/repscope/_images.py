"""Encoded pictures to pixels, safely; pixels to what an encoder takes; thumbnails."""

import base64
import dataclasses
import io
import math
import struct
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Shaped, UInt8

from repscope._checking import InputError, UsageError, check_choice, did_you_mean

# Formats that are decoded; others (EPS runs an interpreter) never are.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
# Pictures larger than this are refused by their header, before they are decoded.
MAXIMUM_PIXELS = 50_000_000
THUMBNAIL_SIDE = 72
# A picture this many times as long as wide is cropped before it is resized: a line of
# 100,000 pixels would become 22 million pixels wide.
LONG_SIDE = 8

Interpolation = Literal["bilinear", "bicubic"]


@dataclass(frozen=True)
class Preprocess:
    """How a picture becomes an encoder's input: resize, centre crop, normalise.

    Args:
        size: side of the square input, in pixels.
        resize: the picture's short side before the crop; None for `size`.
        mean: per channel, of pixels in [0, 1], subtracted; one number serves for all.
        std: per channel, divided by; one number serves for all.
        interpolation: of the resize, always with antialiasing.
        channels: 3 for RGB, 1 for grey (ITU-R 601 luma).

    Raises:
        UsageError: for a size, crop, statistic or name that cannot be.

    Example:
        >>> print(Preprocess(224, 256, channels=1).describe())
        short side 256 (bilinear), centre crop 224 x 224, grey, mean 0, std 1
    """

    size: int
    resize: int | None = None
    mean: tuple[float, ...] = field(default=(0.0,), kw_only=True)
    std: tuple[float, ...] = field(default=(1.0,), kw_only=True)
    interpolation: Interpolation = field(default="bilinear", kw_only=True)
    channels: int = field(default=3, kw_only=True)

    def __post_init__(self) -> None:
        if self.size < 1 or self.short_side < self.size:
            raise UsageError(
                "preprocess: the crop is larger than the picture",
                found=f"size {self.size} of a short side of {self.short_side}",
                expected="1 <= size <= resize",
            )
        if self.channels not in (1, 3):
            found = str(self.channels)
            raise UsageError("preprocess: channels", found=found, expected="1 or 3")
        check_choice("interpolation", self.interpolation, get_args(Interpolation))
        for name in ("mean", "std"):
            values = tuple(float(value) for value in getattr(self, name))
            if len(values) == 1:
                values *= self.channels
            is_fit = all(math.isfinite(v) and (v > 0 or name == "mean") for v in values)
            if len(values) != self.channels or not is_fit:
                raise UsageError(
                    f"preprocess: {name}",
                    found=str(values),
                    expected=f"{self.channels} finite numbers"
                    + (" above 0" if name == "std" else ""),
                )
            object.__setattr__(self, name, values)

    @property
    def short_side(self) -> int:
        """The picture's short side before the crop."""
        return self.size if self.resize is None else self.resize

    def describe(self) -> str:
        """Return every parameter in one line."""
        colours = "RGB" if self.channels == 3 else "grey"
        mean = ", ".join(f"{value:g}" for value in self.mean)
        std = ", ".join(f"{value:g}" for value in self.std)
        return (
            f"short side {self.short_side} ({self.interpolation}), "
            f"centre crop {self.size} x {self.size}, {colours}, mean {mean}, std {std}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as primitives."""
        return dataclasses.asdict(self) | {"mean": [*self.mean], "std": [*self.std]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Preprocess":
        """Return what `to_dict` wrote.

        Raises:
            InputError: for a missing or an unknown field, or a value that cannot be.
        """
        names = [one.name for one in dataclasses.fields(cls)]
        unknown = sorted(set(values) - set(names))
        missing = [name for name in names if name not in values]
        if unknown:
            raise InputError(
                f"preprocess: unknown field {unknown[0]!r}",
                fix=did_you_mean(unknown[0], names),
            )
        if missing:
            raise InputError(f"preprocess: no field {missing[0]!r}")
        wrong = [name for name in names if not _is_primitive(name, values[name])]
        if wrong:
            found = repr(values[wrong[0]])
            raise InputError(f"preprocess: field {wrong[0]!r}", found=found)
        numbers = {name: tuple(map(float, values[name])) for name in ("mean", "std")}
        try:
            return cls(**dict(values) | numbers)
        except UsageError as error:
            raise InputError(
                error.what, found=error.found, expected=error.expected, fix=error.fix
            ) from error


def _is_primitive(name: str, value: Any) -> bool:
    """Return whether a field's value, read from a file, is of its type."""
    if name in ("mean", "std"):
        is_number = [type(one) in (int, float) for one in value or ()]
        return isinstance(value, list | tuple) and len(value) > 0 and all(is_number)
    if name == "interpolation":
        return value in get_args(Interpolation)
    return type(value) is int or (name == "resize" and value is None)


def fit(
    pixels: UInt8[np.ndarray, "h w c"], preprocess: Preprocess
) -> UInt8[np.ndarray, "side side k"]:
    """Return a picture resized by its short side and cropped at its centre, as 8-bit.

    The result is that of torchvision's Resize and CenterCrop on a Pillow image: the
    long side becomes int(short * long / short side), the crop starts at
    round((side - size) / 2), and a picture whose short side fits is not resampled. Of
    very long pictures only what the crop shows is computed. Normalisation comes later.

    Args:
        pixels: (h, w, 1) or (h, w, 3).
        preprocess: the size, the crop and the number of channels.
    """
    from PIL import Image

    pixels = with_channels(pixels, preprocess.channels)
    height, width = pixels.shape[:2]
    short, size = preprocess.short_side, preprocess.size
    tall = short if height <= width else int(short * height / width)
    wide = short if width <= height else int(short * width / height)
    top, left = round((tall - size) / 2), round((wide - size) / 2)
    if short != min(height, width):
        picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
        kind = getattr(Image.Resampling, preprocess.interpolation.upper())
        shown = (0.0, 0.0, float(width), float(height))
        if max(tall, wide) > LONG_SIDE * short:
            down, across = height / tall, width / wide
            right, bottom = (left + size) * across, (top + size) * down
            shown = (left * across, top * down, min(right, width), min(bottom, height))
            tall, wide, top, left = size, size, 0, 0
        resized = np.asarray(picture.resize((wide, tall), kind, box=shown))
        pixels = resized.reshape(tall, wide, preprocess.channels)
    return np.ascontiguousarray(pixels[top : top + size, left : left + size])


def with_channels(
    pixels: UInt8[np.ndarray, "*size c"], channels: int
) -> UInt8[np.ndarray, "*size k"]:
    """Return pixels with 1 channel (ITU-R 601 luma, as Pillow rounds it) or with 3.

    Args:
        pixels: with 1 or 3 channels.
        channels: 1 or 3.
    """
    if pixels.shape[-1] == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=-1)
    weights = np.array([19_595, 38_470, 7_471], dtype=np.uint32)
    luma = (pixels.astype(np.uint32) @ weights + np.uint32(32_768)) >> np.uint32(16)
    return luma[..., None].astype(np.uint8)


class _Quiet:
    """Warnings off while any thread decodes.

    `warnings.catch_warnings` puts back what it found: threads that overlap would leave
    the filters of another. Here the first thread in saves them, the last one restores.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.depth = 0
        self.saved = warnings.catch_warnings()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self.lock:
            self.depth += 1
            if self.depth == 1:
                self.saved = warnings.catch_warnings()
                self.saved.__enter__()
                warnings.simplefilter("ignore")
        try:
            yield
        finally:
            with self.lock:
                self.depth -= 1
                if self.depth == 0:
                    self.saved.__exit__(None, None, None)


# Pillow warns of damaged metadata, and of sizes that are checked here.
_quiet = _Quiet()


def decode(
    data: bytes, name: str, *, channels: Literal[1, 3] = 3
) -> UInt8[np.ndarray, "h w c"]:
    """Return an encoded picture as 8-bit RGB or grey.

    EXIF orientation is applied, the first frame of an animation taken, transparency
    laid on white, and 16-bit or floating-point pixels are scaled to 8 bits.

    Args:
        data: the encoded picture.
        name: what to call it in an error.
        channels: 3 for RGB, 1 for grey (ITU-R 601 luma).

    Raises:
        InputError: where it is no picture, truncated, of a refused format or too large.
    """
    from PIL import Image

    try:
        with _quiet(), Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            pixels = from_pillow(picture, name)
    except (*_UNREADABLE, Image.DecompressionBombError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name}: no readable picture ({error})") from error
    return with_channels(pixels, channels)


# What Pillow raises for damaged files: 45,000 of them showed the first three alone.
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error)


def from_pillow(picture: Any, name: str) -> UInt8[np.ndarray, "h w c"]:
    """Return a Pillow image as 8-bit pixels: grey ones with 1 channel, others with 3.

    Orientation, transparency and depth are treated as `decode` says.

    Args:
        picture: a Pillow image.
        name: what to call it in an error.

    Raises:
        InputError: where it cannot be loaded, or is too large.
    """
    from PIL import ImageOps

    if picture.width * picture.height > MAXIMUM_PIXELS:
        raise InputError(
            f"{name}: a picture of {picture.width} x {picture.height}",
            expected=f"at most {MAXIMUM_PIXELS:,} pixels",
        )
    try:
        pixels = np.asarray(_flat(ImageOps.exif_transpose(picture)))
    except _UNREADABLE as error:
        raise InputError(f"{name}: no readable picture ({error})") from error
    if _is_16_bit(picture):
        pixels = pixels >> 8
    eight = as_rgb8(pixels)
    return eight[..., :1] if pixels.ndim == 2 else eight


def _is_16_bit(picture: Any) -> bool:
    """Return whether pixels are 16-bit by the file's header, however dark they are."""
    wide = picture.mode == "I" and picture.format in ("PNG", "PPM")
    return wide or picture.mode.startswith("I;16")


def _flat(picture: Any) -> Any:
    """Return a picture without palette or transparency."""
    from PIL import Image

    if picture.mode in ("P", "PA", "LA", "RGBA", "La", "RGBa"):
        rgba = picture.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    if picture.mode in ("CMYK", "YCbCr", "LAB", "HSV", "1"):
        return picture.convert("RGB")
    return picture


def as_rgb8(pixels: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "h w 3"]:
    """Return pixels of any depth, grey or colour, as 8-bit RGB.

    Args:
        pixels: (h, w), (h, w, 1), (h, w, 3) or (h, w, 4); 8-bit as they are, 16-bit by
            their upper byte, floats from [0, 1] or else from their own range, NaN and
            infinity as 0.

    Raises:
        InputError: for another shape.
    """
    array = np.asarray(pixels)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise InputError(
            "images: a picture of another shape",
            found=str(np.asarray(pixels).shape),
            expected="(height, width), or with 1, 3 or 4 channels last",
        )
    array = array[:, :, :3]
    if array.dtype.kind in "iu" and array.dtype.itemsize > 1:
        deep = array.max(initial=0) > 255
        array = (array >> 8) if deep else array
    elif array.dtype.kind == "f":
        array = np.where(np.isfinite(array), array, 0)
        low, high = float(array.min()), float(array.max())
        if low < 0 or high > 1:
            array = (array - low) / max(high - low, 1e-12)
        array = np.round(array * 255)
    elif array.dtype == bool:
        array = array * np.uint8(255)
    eight = np.clip(array, 0, 255).astype(np.uint8)
    return np.repeat(eight, 3, axis=2) if eight.shape[2] == 1 else eight


def thumbnail(
    pixels: Shaped[np.ndarray, "h w 3"], side: int = THUMBNAIL_SIDE
) -> tuple[str, int, int]:
    """Return a small PNG as a ``data:`` address, with its width and height.

    Small pictures are enlarged by whole factors, so that their pixels stay visible.
    """
    from PIL import Image

    picture = Image.fromarray(pixels)
    factor = side / max(picture.size)
    if factor >= 2:
        factor = int(factor)
        size = (picture.width * factor, picture.height * factor)
        picture = picture.resize(size, Image.Resampling.NEAREST)
    elif factor < 1:
        picture.thumbnail((side, side))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    code = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f"data:image/png;base64,{code}", picture.width, picture.height
