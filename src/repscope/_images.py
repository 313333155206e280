"""Encoded pictures to pixels, safely; and back to small ones for a report."""

import base64
import io
import warnings
from typing import Any

import numpy as np
from jaxtyping import Shaped

from repscope._checking import InputError

# Formats that are decoded; others (EPS runs an interpreter) never are.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
# Pictures larger than this are refused by their header, before they are decoded.
MAXIMUM_PIXELS = 50_000_000
THUMBNAIL_SIDE = 72


def decode(data: bytes, name: str) -> Shaped[np.ndarray, "h w 3"]:
    """Return an encoded picture as 8-bit RGB.

    EXIF orientation is applied, the first frame of an animation taken, transparency
    laid on white, and 16-bit or floating-point pixels are scaled to 8 bits.

    Args:
        data: the encoded picture.
        name: what to call it in an error.

    Raises:
        InputError: where it is no picture, truncated, of a refused format or too large.
    """
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            # Pillow warns of damaged metadata and of sizes that are checked below.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
                if picture.width * picture.height > MAXIMUM_PIXELS:
                    raise InputError(
                        f"{name}: a picture of {picture.width} x {picture.height}",
                        expected=f"at most {MAXIMUM_PIXELS:,} pixels",
                    )
                picture.load()
                return as_rgb8(np.asarray(_flat(ImageOps.exif_transpose(picture))))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name}: no readable picture ({error})") from error


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
