"""Where pixels come from: a number of pictures, each read by its row.

An array in memory is one source; files, archives and tables are others. What the
pictures are called and labelled is not known here.
"""

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import array_api_compat
import numpy as np
from jaxtyping import Int, Shaped, UInt8

from repscope._arrays import host
from repscope._checking import InputError

# Rows that are hashed, converted or looked at at once.
BLOCK_ROWS = 1024


class Images(ABC):
    """Pictures by row; an interface.

    Attributes:
        name: of the source, for errors.
        shape: (height, width, channels) where all pictures share it, else None.
        parallel: whether reading from several threads at once is safe and worth it.
    """

    name: str
    shape: tuple[int, int, int] | None
    parallel: ClassVar[bool] = True

    @property
    @abstractmethod
    def n(self) -> int:
        """How many pictures there are."""

    @abstractmethod
    def read(self, row: int) -> UInt8[np.ndarray, "h w c"]:
        """Return one picture with 1 or 3 channels.

        Args:
            row: from 0 to n - 1.

        Raises:
            InputError: where the picture cannot be read; it names the picture.
        """

    @abstractmethod
    def fingerprint(self, rows: Int[np.ndarray, " m"]) -> str:
        """Return a hash of what some rows hold, the same on every machine.

        Pixels where they are in memory; names and sizes where they are files, so that
        nothing need be decoded.
        """


@dataclass(frozen=True, eq=False)
class ArrayImages(Images):
    """Pictures in memory.

    Args:
        array: (n, h, w, c) with 1 or 3 channels.
        name: what to call them.
    """

    array: UInt8[np.ndarray, "n h w c"]
    name: str = "images"
    parallel: ClassVar[bool] = False

    @property
    def n(self) -> int:
        """How many pictures there are."""
        return len(self.array)

    @property
    def shape(self) -> tuple[int, int, int]:  # type: ignore[override]
        """Height, width and channels of every picture."""
        height, width, channels = self.array.shape[1:]
        return height, width, channels

    def read(self, row: int) -> UInt8[np.ndarray, "h w c"]:
        """Return one picture."""
        return self.array[row]

    def fingerprint(self, rows: Int[np.ndarray, " m"]) -> str:
        """Return a hash of the pixels of some rows, and of their shape."""
        digest = hashlib.blake2b(repr((len(rows), self.shape)).encode(), digest_size=8)
        for start in range(0, len(rows), BLOCK_ROWS):
            digest.update(self.array[rows[start : start + BLOCK_ROWS]].tobytes())
        return digest.hexdigest()


def as_pixels(array: Any, name: str = "images") -> UInt8[np.ndarray, "n h w c"]:
    """Return an array or tensor of pictures as 8-bit, channels last.

    Args:
        array: (n, h, w), (n, h, w, c) or (n, c, h, w) with 1 or 3 channels; 8-bit, or
            integers within 0..255, booleans, or floats within [0, 1]. Where both the
            second and the last dimension could be channels, they are the second of a
            torch tensor and the last of any other array.
        name: what to call it in an error.

    Raises:
        InputError: for another shape, no pictures, or values outside of their range.
    """
    is_torch = array_api_compat.is_torch_array(array)
    values = _channels_last(host(array), name, prefer_first=is_torch)
    if not values.size:
        found = str(np.shape(array))
        raise InputError(f"{name}: there are no pictures", found=found)
    return _as_8_bit(values, name)


def _channels_last(
    values: Shaped[np.ndarray, "..."], name: str, *, prefer_first: bool
) -> Shaped[np.ndarray, "n h w c"]:
    if values.ndim == 3:
        return values[..., None]
    if values.ndim == 4:
        first, last = values.shape[1] in (1, 3), values.shape[3] in (1, 3)
        if first and (prefer_first or not last):
            return np.moveaxis(values, 1, 3)
        if last:
            return values
    raise InputError(
        f"{name}: an array of another shape",
        found=str(values.shape),
        expected="(n, height, width), or with 1 or 3 channels last or second",
    )


def _as_8_bit(
    values: Shaped[np.ndarray, "n h w c"], name: str
) -> UInt8[np.ndarray, "n h w c"]:
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    if values.dtype.kind not in "biuf":
        found = f"values of type {values.dtype}"
        raise InputError(f"{name}: pixels must be numbers", found=found)
    greatest = 1 if values.dtype.kind in "bf" else 255
    eight = np.empty(values.shape, dtype=np.uint8)
    for start in range(0, len(values), BLOCK_ROWS):
        block = values[start : start + BLOCK_ROWS]
        _check_range(block, start, greatest, name)
        if greatest == 1:
            block = np.round(block.astype(np.float32) * 255)
        eight[start : start + BLOCK_ROWS] = block.astype(np.uint8)
    return eight


def _check_range(
    block: Shaped[np.ndarray, "n h w c"], start: int, greatest: int, name: str
) -> None:
    # A comparison with NaN is False.
    good = ((block >= 0) & (block <= greatest)).all(axis=(1, 2, 3))
    if not good.all():
        row = int(np.argmin(good))
        raise InputError(
            f"{name}: row {start + row} has pixels outside of [0, {greatest}]",
            found=f"values from {block[row].min()} to {block[row].max()} "
            f"of type {block.dtype}",
            expected="8-bit pixels, or floats within [0, 1]",
            fix="undo the normalisation; a Preprocess carries mean and std",
        )
