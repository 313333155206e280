"""Features in NumPy's own files: `.npy`, and `.npz` read without extracting it.

An archive may hold several arrays: the two-dimensional one is the features, the
one-dimensional ones beside it are metadata columns.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import cast

import numpy as np
from jaxtyping import Shaped

from repscope._checking import InputError, UsageError
from repscope.files.file_access import closest, open_unchanged, stamp_of
from repscope.files.sniffing import SAVE_FIX
from repscope.files.zip_archive import checked_members, open_archive
from repscope.representations.abstract_store import (
    Store,
    check_column_length,
    check_matrix,
    check_rows,
    no_column,
    no_images,
)
from repscope.representations.stored_array import Place, StoredArray, read_npy_header

# Arrays listed in an error; more help nobody.
LISTED = 8


@dataclass(frozen=True)
class ArrayStore(Store):
    """Features in one array, metadata columns in one-dimensional ones beside it."""

    path: Path
    n: int
    d: int
    dtype: str
    column_names: tuple[str, ...]
    matrix: StoredArray
    vectors: Mapping[str, StoredArray]

    def blocks(self, rows: int) -> Iterator[np.ndarray]:
        """Yield consecutive blocks of rows."""
        check_rows(rows)
        return self.matrix.blocks(rows)

    def column(self, name: str) -> Shaped[np.ndarray, " n"]:
        """Return a one-dimensional array of the file."""
        if name not in self.vectors:
            raise no_column(self.name, name, self.column_names)
        vector = self.vectors[name]
        values = vector.vector()
        check_column_length(vector.label, len(values), self.n)
        return values

    def images(self, name: str, rows: Sequence[int]) -> list[bytes]:
        """Raise InputError: arrays hold no encoded images."""
        raise no_images(self.name, name)


def open_npy(path: Path, column: str | None) -> ArrayStore:
    """Return the store of a `.npy` file of shape (n, d).

    Raises:
        InputError: where it is truncated, of another shape, or holds no real numbers.
        UsageError: where a column is asked for; there are none.
    """
    if column is not None:
        raise UsageError(
            f"{path.name}: a .npy file has no column `{column}`",
            fix="leave --column out",
        )
    return store_of(path, stored_npy(path), {})


def open_npz(path: Path, column: str | None) -> ArrayStore:
    """Return the store of a `.npz` archive: its (n, d) array, or the one asked for.

    Raises:
        InputError: where no array or several could be meant, or the archive is damaged
            or unpacks to far more than its size.
    """
    return choose_store(path, stored_npz(path), column)


def stored_npy(path: Path) -> StoredArray:
    """Return where the array of a `.npy` file lies, its promise checked."""
    place = Place(path.name, path, stamp_of(path))
    with place.open() as file:
        return read_npy_header(file, place, place.stamp.size)


def stored_npz(path: Path) -> dict[str, StoredArray]:
    """Return where the arrays of a `.npz` archive lie, by name, promises checked."""
    stamp = stamp_of(path)
    arrays = {}
    with open_unchanged(path, stamp) as file, open_archive(file, path.name) as archive:
        for member in checked_members(archive, path.name, stamp.size):
            if not member.filename.endswith(".npy"):
                continue
            name = member.filename.removesuffix(".npy")
            label = f"{path.name}: array `{name}`"
            place = Place(label, path, stamp, member.filename)
            with archive.open(member) as stream:
                arrays[name] = read_npy_header(
                    cast(BufferedIOBase, stream), place, member.file_size
                )
    return arrays


def choose_store(
    path: Path, arrays: Mapping[str, StoredArray], column: str | None
) -> ArrayStore:
    """Return the store of a file of named arrays.

    Args:
        path: the file.
        arrays: all its arrays by name.
        column: the name of the features; None where only one array can be meant.

    Raises:
        InputError: where the array is missing, or several could be meant.
    """
    found = listing({name: array.described for name, array in arrays.items()})
    matrices = [
        name
        for name, array in arrays.items()
        if len(array.shape) == 2 and array.is_numbers
    ]
    if column is None:
        column = choose_name(path.name, matrices, found)
    elif column not in arrays:
        raise no_array(path.name, column, matrices, found)
    vectors = {name: array for name, array in arrays.items() if len(array.shape) == 1}
    return store_of(path, arrays[column], vectors)


def choose_name(name: str, matrices: Sequence[str], found: str) -> str:
    """Return the name of the only matrix.

    Args:
        name: the file.
        matrices: the names of its (n, d) arrays of numbers.
        found: all its arrays in words.

    Raises:
        InputError: where there is none or more than one.
    """
    if len(matrices) == 1:
        return matrices[0]
    if not matrices:
        raise InputError(
            f"{name}: no two-dimensional array of numbers", found=found, fix=SAVE_FIX
        )
    raise InputError(
        f"{name}: {len(matrices):,} arrays could be the features",
        found=found,
        expected="one array of n samples x d features",
        fix=f"say which, such as --column {matrices[0]}",
    )


def no_array(name: str, column: str, matrices: Sequence[str], found: str) -> InputError:
    """Return the error for an array that is not in the file."""
    return InputError(
        f"{name}: no array `{column}`", found=found, fix=closest(column, matrices)
    )


def listing(described: Mapping[str, str]) -> str:
    """Return the first few names, each with what it stands for."""
    parts = [f"`{name}` ({text})" for name, text in described.items()]
    rest = f" and {len(parts) - LISTED:,} more" if len(parts) > LISTED else ""
    return ", ".join(parts[:LISTED]) + rest if parts else "nothing"


def store_of(
    path: Path, matrix: StoredArray, vectors: Mapping[str, StoredArray]
) -> ArrayStore:
    """Return the store of a matrix and the vectors beside it.

    Raises:
        InputError: where the matrix is not (n, d) or holds no real numbers.
    """
    dtype = matrix.block_dtype
    check_matrix(matrix.label, matrix.shape)
    n, d = matrix.shape
    columns = [
        name
        for name, vector in vectors.items()
        if vector.is_column and vector.shape[0] == n
    ]
    return ArrayStore(path, n, d, dtype, tuple(columns), matrix, dict(vectors))
