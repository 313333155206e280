"""IDX files, the format of MNIST: bytes of any number of dimensions, perhaps gzipped.

What the header promises is compared with the file before anything is allocated.
"""

import gzip
import math
import zlib
from io import BufferedIOBase
from pathlib import Path
from typing import cast

import numpy as np
from jaxtyping import UInt8

from repscope._checking import InputError
from repscope.data.encoded_images import check_kind
from repscope.files.file_access import Stamp, damaged, fill, open_unchanged
from repscope.files.sniffing import Kind, kind_of_head
from repscope.files.zip_archive import ARCHIVE_BYTES, ARCHIVE_RATIO

# Two zeros, the type, the number of dimensions; each dimension in four bytes.
MAGIC_BYTES, SIZE_BYTES = 4, 4
UNSIGNED_BYTE = 0x08
MAXIMUM_DIMENSIONS = 4
_GZIP = b"\x1f\x8b"
_TYPES = {0x09: "signed bytes", 0x0B: "16-bit integers", 0x0C: "32-bit integers"}
_TYPES |= {0x0D: "32-bit floats", 0x0E: "64-bit floats"}


def read_idx(path: Path) -> UInt8[np.ndarray, "..."]:
    """Return the array in an IDX file of unsigned bytes, packed by gzip or not.

    Args:
        path: an existing regular file.

    Raises:
        InputError: where it is something else, truncated, or unpacks to more than
            ARCHIVE_BYTES and ARCHIVE_RATIO times its size.

    Source: LeCun, Cortes, Burges 1998, "The MNIST database", its file format.
    As in the source.
    """
    stamp = check_kind(path, Kind.IDX, Kind.COMPRESSED)
    try:
        with open_unchanged(path, stamp) as file:
            if file.peek(2).startswith(_GZIP):
                with gzip.GzipFile(fileobj=file) as unpacked:
                    return _array(cast(BufferedIOBase, unpacked), path.name, stamp)
            return _array(file, path.name, stamp, is_plain=True)
    except (EOFError, zlib.error) as error:
        raise damaged(path.name, f"a broken gzip file: {error}") from error


def _array(
    stream: BufferedIOBase, name: str, stamp: Stamp, *, is_plain: bool = False
) -> UInt8[np.ndarray, "..."]:
    shape = _shape(stream, name)
    promised = math.prod(shape)
    limit = max(ARCHIVE_BYTES, ARCHIVE_RATIO * stamp.size)
    described = " x ".join(f"{size:,}" for size in shape)
    available = stamp.size - MAGIC_BYTES - SIZE_BYTES * len(shape)
    if is_plain and promised != available:
        short = "truncated: its" if promised > available else "its"
        raise InputError(
            f"{name}: {short} header promises {described} = {promised:,} bytes, the "
            f"file has {available:,}",
            fix="copy, download or write it again",
        )
    if not is_plain and promised > limit:
        raise InputError(
            f"{name}: unpacks to {promised:,} bytes from {stamp.size:,}",
            expected=f"at most {limit:,} bytes",
            fix="if you trust it, unpack it with gunzip",
        )
    array = np.empty(shape, dtype=np.uint8)
    fill(stream, array, name)
    if stream.read(1):  # of a packed file, this compares the checksum
        raise damaged(name, f"it holds more than the {described} it promises")
    return array


def _shape(stream: BufferedIOBase, name: str) -> tuple[int, ...]:
    magic = stream.read(MAGIC_BYTES)
    if magic[:2] != b"\0\0" or len(magic) < MAGIC_BYTES:
        kind = kind_of_head(magic + stream.read(508))
        raise InputError(
            f"{name}: holds {kind.value.removeprefix('of ')}, not an IDX file",
            fix="unpack it and pass what is inside",
        )
    if magic[2] != UNSIGNED_BYTE:
        raise InputError(
            f"{name}: holds {_TYPES.get(magic[2], 'values of no known type')}",
            expected="unsigned bytes, as pictures and labels of MNIST have",
        )
    n_dimensions = magic[3]
    if not 1 <= n_dimensions <= MAXIMUM_DIMENSIONS:
        raise damaged(name, f"an IDX file of {n_dimensions} dimensions")
    sizes = stream.read(SIZE_BYTES * n_dimensions)
    if len(sizes) < SIZE_BYTES * n_dimensions:
        raise damaged(name, "it ends within its header")
    return tuple(int(size) for size in np.frombuffer(sizes, dtype=">u4"))
