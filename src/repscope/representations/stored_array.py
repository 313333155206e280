"""An array somewhere in a file: what its header promises, and how it is read.

What is promised is compared with what the file holds before anything is allocated.
Arrays of Python objects are pickles: they are refused, never loaded.
"""

import contextlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from repscope._checking import InputError
from repscope.files.file_access import (
    Stamp,
    check_unchanged,
    damaged,
    fill,
    open_unchanged,
)
from repscope.files.zip_archive import open_member

MAGIC = b"\x93NUMPY"
# Longer headers than this come from no array of numbers; NumPy has the same limit.
HEADER_LIMIT = 10_000

# A header is the text of a Python dictionary. It is matched, not evaluated.
_DESCR = re.compile(r"""['"]descr['"]\s*:\s*(?:'([^']*)'|"([^"]*)"|(\[))""")
_ORDER = re.compile(r"""['"]fortran_order['"]\s*:\s*(True|False)""")
_SHAPE = re.compile(r"""['"]shape['"]\s*:\s*\(([0-9L,\s]*)\)""")
_SIZE = re.compile(r"\d{1,18}")
_TYPE = re.compile(r"[<>|=]?([?biufcSUVMmO])(\d{0,9})(\[\w+\])?")
_NUMBERS, _TEXTS = "biuf", "US"
_MAXIMUM_CODE_POINT = 0x10FFFF


@dataclass(frozen=True)
class Place:
    """Where an array lies.

    Args:
        label: what to call it in an error.
        path: the file.
        stamp: the file's state when its header was read.
        member: name inside a zip archive; None for the file itself.
    """

    label: str
    path: Path
    stamp: Stamp
    member: str | None = None

    @contextlib.contextmanager
    def open(self) -> Iterator[BufferedIOBase]:
        """Open the file or the archive's member, unchanged since its header."""
        with open_unchanged(self.path, self.stamp) as file:
            if self.member is None:
                yield file
                return
            with open_member(file, self.member, self.label) as stream:
                yield stream


@dataclass(frozen=True)
class StoredArray:
    """An array's place and what its header promises; no value of it is in memory.

    Args:
        place: where it lies.
        dtype: type of the stored values; any type, readable or not.
        shape: as promised.
        offset: bytes before the first value.
        fortran_order: whether the first index runs fastest.
        bfloat16: whether the 16-bit integers are the upper halves of float32.
    """

    place: Place
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int
    fortran_order: bool = False
    bfloat16: bool = False

    @property
    def label(self) -> str:
        """What to call the array in an error."""
        return self.place.label

    @property
    def is_numbers(self) -> bool:
        """Whether it holds real numbers."""
        return self.dtype.kind in _NUMBERS

    @property
    def is_column(self) -> bool:
        """Whether it holds numbers or text in one dimension."""
        return len(self.shape) == 1 and self.dtype.kind in _NUMBERS + _TEXTS

    @property
    def promised(self) -> int:
        """Bytes of data that the header promises."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def type_name(self) -> str:
        """The type in words."""
        if self.bfloat16:
            return "bfloat16"
        words = {"O": "Python objects (a pickle)", "U": "text", "S": "bytes"}
        return words.get(self.dtype.kind) or str(self.dtype.newbyteorder("="))

    @property
    def described(self) -> str:
        """Shape and type in words, such as "1,000 x 10 float32"."""
        sizes = " x ".join(f"{size:,}" for size in self.shape) or "one value,"
        return f"{sizes} {self.type_name}"

    @property
    def block_dtype(self) -> str:
        """The NumPy name of the type that its blocks have.

        Raises:
            InputError: where it holds no real numbers.
        """
        if not self.is_numbers:
            raise self._refused("real numbers", "array.astype(np.float32)")
        if self.bfloat16:
            return "float32"
        if self.dtype.kind == "b":
            return "uint8"
        return "float64" if self.dtype.itemsize > 8 else self.dtype.name

    def blocks(self, rows: int) -> Iterator[np.ndarray]:
        """Yield consecutive (r, d) blocks of a two-dimensional array, r <= rows."""
        n = self.shape[0]
        with self.place.open() as file:
            file.seek(self.offset)
            for start in range(0, n, rows):
                block = self._read_rows(file, start, min(rows, n - start))
                if start + rows >= n:
                    self._check_end(file)
                check_unchanged(self.place.path, self.place.stamp)
                yield self._as_native(block)

    def vector(self) -> Shaped[np.ndarray, " n"]:
        """Return a one-dimensional array of numbers or text.

        Raises:
            InputError: where it has another shape or another type.
        """
        if self.dtype.kind not in _NUMBERS + _TEXTS:
            raise self._refused("integers, floats or text", "array.astype(str)")
        if len(self.shape) != 1:
            raise InputError(
                f"{self.label}: one value per row is needed",
                found=self.described,
                expected="one dimension",
                fix="save one column of it: array[:, 0]",
            )
        values = np.empty(self.shape[0], self.dtype)
        with self.place.open() as file:
            file.seek(self.offset)
            fill(file, values, self.label)
            self._check_end(file)
        return self._as_native(values) if self.is_numbers else self._as_text(values)

    def check_promise(self, available: int) -> None:
        """Raise InputError unless the file holds what the header promises.

        Args:
            available: bytes after the header.
        """
        if not self.dtype.itemsize and math.prod(self.shape) > 0:
            raise damaged(self.label, "values of no bytes")
        surplus = available - self.promised
        if not surplus:
            return
        promise = (
            f"header promises {self.described} = {self.promised:,} bytes, "
            f"file has {available:,}"
        )
        if surplus < 0:
            raise InputError(
                f"{self.label}: truncated: {promise}",
                fix="copy, download or write it again",
            )
        raise InputError(
            f"{self.label}: {surplus:,} bytes too many: {promise}",
            fix="write it again; perhaps two arrays were saved into one file",
        )

    def _refused(self, expected: str, conversion: str) -> InputError:
        trusted = "where you trust it, load, " if self.dtype.kind == "O" else ""
        return InputError(
            f"{self.label}: holds {self.type_name}, not {expected}",
            expected=expected,
            fix=f"{trusted}convert and save it again: {conversion}",
        )

    def _read_rows(self, file: BufferedIOBase, start: int, count: int) -> np.ndarray:
        n, d = self.shape
        if not self.fortran_order:
            block = np.empty((count, d), self.dtype)
            fill(file, block, self.label)
            return block
        columns = np.empty((d, count), self.dtype)
        for feature in range(d):
            file.seek(self.offset + (feature * n + start) * self.dtype.itemsize)
            fill(file, columns[feature], self.label)
        return np.ascontiguousarray(columns.T)

    def _check_end(self, file: BufferedIOBase) -> None:
        # reading past the last value of a zip member compares its checksum
        if self.place.member is not None and file.read(1):
            raise damaged(self.label, "more values than its header promises")

    def _as_native(self, values: np.ndarray) -> np.ndarray:
        """Return numbers in a type that NumPy computes with on this machine."""
        if self.bfloat16:
            return (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
        if values.dtype.kind == "b":
            return (values.view(np.uint8) != 0).view(np.uint8)
        if not values.dtype.isnative:
            native = values.dtype.newbyteorder("=")
            values = values.byteswap(inplace=True).view(native)
        return values.astype(np.float64) if values.dtype.itemsize > 8 else values

    def _as_text(self, values: np.ndarray) -> np.ndarray:
        if values.dtype.kind == "S":
            return np.char.decode(values, "utf-8", "replace")
        values = values.astype(values.dtype.newbyteorder("="), copy=False)
        if values.size and values.view(np.uint32).max() > _MAXIMUM_CODE_POINT:
            raise damaged(self.label, "text that is no Unicode")
        return values


def read_npy_header(file: BufferedIOBase, place: Place, size: int) -> StoredArray:
    """Return what a `.npy` header says; format versions 1.0, 2.0 and 3.0.

    Args:
        file: at the start of the header.
        place: where the array lies.
        size: bytes of header and data together.

    Raises:
        InputError: where there is no header, or it does not promise what is there.
    """
    prefix = file.read(8)
    width = {b"\1": 2, b"\2": 4, b"\3": 4}.get(prefix[6:7])
    if not prefix.startswith(MAGIC) or width is None:
        raise damaged(place.label, "no NumPy header")
    length = int.from_bytes(file.read(width), "little")
    if length > HEADER_LIMIT:
        raise damaged(place.label, f"a header of {length:,} bytes")
    header = file.read(length).decode("latin-1")
    shape, fortran_order = _promised_shape(header, place.label)
    dtype = _promised_type(header, place.label)
    offset = 8 + width + length
    array = StoredArray(place, dtype, shape, offset, fortran_order)
    if dtype.kind != "O":  # a pickle may have any length
        array.check_promise(size - offset)
    return array


def _promised_shape(header: str, label: str) -> tuple[tuple[int, ...], bool]:
    order, shape = _ORDER.search(header), _SHAPE.search(header)
    if order is None or shape is None:
        raise damaged(label, "its header names no shape")
    parts = [part.strip(" L") for part in shape[1].split(",")]
    sizes = [part for part in parts if part]
    if not all(_SIZE.fullmatch(size) for size in sizes):
        raise damaged(label, f"its header names the shape ({shape[1][:40]})")
    return tuple(int(size) for size in sizes), order[1] == "True"


def _promised_type(header: str, label: str) -> np.dtype:
    found = _DESCR.search(header)
    if found is None:
        raise damaged(label, "its header names no type")
    if found[3]:
        raise InputError(
            f"{label}: is a structured array, a table of named fields",
            expected="an array of numbers",
            fix='save one field: np.save("features.npy", array["features"])',
        )
    text = found[1] or found[2] or ""
    kind = _TYPE.fullmatch(text)
    if kind is not None and kind[1] == "O":
        return np.dtype(object)
    try:
        return np.dtype(text if kind else "unknown")
    except (TypeError, ValueError, OverflowError) as error:
        raise damaged(label, f"its header names the type {text[:40]!r}") from error
