"""The arrays of a `.npz` file: what each header promises, and its values when asked.

No pickle is loaded: arrays of Python objects are seen and never read.
"""

import math
import re
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import cast

import numpy as np
from jaxtyping import Shaped

from repscope._checking import InputError
from repscope.files.file_access import Stamp, damaged, fill, open_unchanged
from repscope.files.zip_archive import checked_members, open_archive, open_member

# "\x93NUMPY", a version of two bytes, the header's length in two or four.
MAGIC = b"\x93NUMPY"
LENGTH_BYTES = {b"\1\0": 2, b"\2\0": 4, b"\3\0": 4}
HEADER_LIMIT = 10_000
# A header is the text of a Python dictionary: what np.savez writes, and nothing else.
_HEADER = re.compile(
    rb"\{'descr': (?:'([<>|=][biufSUO]\d{0,9})'|.*), "
    rb"'fortran_order': (True|False), 'shape': \(([0-9L, ]{0,200})\),? \} *\n?"
)


@dataclass(frozen=True)
class NpzArray:
    """An array in an archive; its values are not in memory.

    Args:
        name: without ".npy".
        shape: as its header promises.
        dtype: None where it holds objects or records, which are not read.
        fortran_order: whether the first index runs fastest.
        offset: bytes before its values.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype | None
    fortran_order: bool
    offset: int

    @property
    def described(self) -> str:
        """Name, shape and type in words."""
        sizes = " x ".join(f"{size:,}" for size in self.shape) or "one value,"
        kind = "Python objects" if self.dtype is None else self.dtype.name
        return f"{self.name} ({sizes} {kind})"


def npz_arrays(path: Path, stamp: Stamp) -> dict[str, NpzArray]:
    """Return the arrays of a `.npz` file by name.

    Args:
        path: the file.
        stamp: its state.

    Raises:
        InputError: where the archive or a header is damaged, or it unpacks to much
            more than it can.
    """
    arrays = {}
    with open_unchanged(path, stamp) as file, open_archive(file, path.name) as archive:
        for member in checked_members(archive, path.name, stamp.size):
            if member.filename.endswith(".npy"):
                name = member.filename.removesuffix(".npy")
                with archive.open(member) as stream:
                    arrays[name] = _header(
                        cast(BufferedIOBase, stream), name, path.name, member.file_size
                    )
    return arrays


def read_array(path: Path, stamp: Stamp, array: NpzArray) -> Shaped[np.ndarray, "..."]:
    """Return an array's values.

    Raises:
        InputError: where it holds Python objects, or the file is damaged or changed.
    """
    label = f"{path.name}: `{array.name}`"
    if array.dtype is None:
        raise InputError(
            f"{label} holds Python objects (a pickle), which are not loaded",
            fix="where you trust it, convert and save it again: array.astype(int) or "
            "array.astype(str)",
        )
    shape = array.shape[::-1] if array.fortran_order else array.shape
    values = np.empty(shape, array.dtype)
    with (
        open_unchanged(path, stamp) as file,
        open_member(file, f"{array.name}.npy", label) as stream,
    ):
        stream.seek(array.offset)
        fill(stream, values, label)
        stream.read(1)  # compares the checksum
    values = values.T if array.fortran_order else values
    return values.astype(array.dtype.newbyteorder("="), copy=False)


def _header(stream: BufferedIOBase, name: str, file: str, size: int) -> NpzArray:
    label = f"{file}: `{name}`"
    prefix = stream.read(len(MAGIC) + 2)
    width = LENGTH_BYTES.get(prefix[len(MAGIC) :], 0)
    length = int.from_bytes(stream.read(width), "little")
    if not prefix.startswith(MAGIC) or not width or length > HEADER_LIMIT:
        raise damaged(label, "no NumPy header")
    found = _HEADER.fullmatch(stream.read(length))
    if found is None:
        raise damaged(label, "its header is none that NumPy writes")
    sizes = [part.strip(b" L") for part in found[3].split(b",")]
    shape = tuple(int(part) for part in sizes if part)
    dtype = _dtype(found[1], label)
    offset = len(prefix) + width + length
    promised = math.prod(shape) * (dtype.itemsize if dtype else 0)
    if dtype is not None and promised != size - offset:
        raise damaged(
            label,
            f"its header promises {promised:,} bytes, it has {size - offset:,}",
        )
    return NpzArray(name, shape, dtype, found[2] == b"True", offset)


def _dtype(text: bytes | None, label: str) -> np.dtype | None:
    if text is None or b"O" in text:
        return None
    try:
        return np.dtype(text.decode("ascii"))
    except (TypeError, ValueError) as error:
        raise damaged(label, f"its header names the type {text!r}") from error
