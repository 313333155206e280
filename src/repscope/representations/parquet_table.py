"""Features in Parquet: a column of vectors, or many columns of numbers.

Checksums of pages are verified where the file has them. Batches are read through a
small buffer, so that a file of one large row group does not fill the memory.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from repscope._checking import InputError
from repscope.files.file_access import (
    Stamp,
    check_unchanged,
    damaged,
    stamp_of,
)
from repscope.files.parquet_file import check_footer, open_table, read_column
from repscope.files.parquet_names import is_image
from repscope.representations.abstract_store import (
    Store,
    assembled,
    check_matrix,
    check_rows,
    is_a_feature,
    no_column,
    no_images,
)
from repscope.representations.parquet_schema import (
    choose_scalars,
    choose_vector,
    is_scalar,
    is_vector,
    scalars_dtype,
    vector_dtype,
)

# Values decoded at once: Arrow holds about five times as much meanwhile.
PIECE_BYTES = 4 * 2**20
# Rows per step where single rows are picked: encoded images are large.
IMAGE_ROWS = 256


@dataclass(frozen=True)
class ParquetStore(Store):
    """Features in one column of vectors or in several columns of numbers.

    Args:
        stamp: the file's state at opening.
        features: the name of the column of vectors, or the names of the columns.
        is_vector: whether `features` is one column of vectors.
        image_names: the columns that hold encoded images.
    """

    path: Path
    n: int
    d: int
    dtype: str
    column_names: tuple[str, ...]
    stamp: Stamp
    features: tuple[str, ...]
    is_vector: bool
    image_names: tuple[str, ...]

    def blocks(self, rows: int) -> Iterator[np.ndarray]:
        """Yield consecutive blocks of rows."""
        check_rows(rows)
        width = self.d * np.dtype(self.dtype).itemsize
        pieces = self._pieces(max(1, min(rows, PIECE_BYTES // width)))
        return assembled(pieces, self.n, rows)

    def column(self, name: str) -> Shaped[np.ndarray, " n"]:
        """Return a column of numbers or text."""
        if name in self.features:
            raise is_a_feature(self.name, name)
        if name not in self.column_names:
            raise no_column(self.name, name, self.column_names)
        with open_table(self.path, self.stamp) as table:
            return read_column(table, name)

    def images(self, name: str, rows: Sequence[int]) -> list[bytes]:
        """Return encoded images; of ``{bytes, path}`` only the bytes."""
        if name not in self.image_names:
            if not self.image_names:
                raise no_images(self.name, name)
            raise no_column(self.name, name, self.image_names)
        outside = [row for row in rows if not 0 <= row < self.n]
        if outside:
            raise InputError(
                f"{self.name}: no row {outside[0]}", expected=f"0 to {self.n - 1}"
            )
        with open_table(self.path, self.stamp) as table:
            found = _pick_images(table, name, sorted(set(rows)))
        missing = [row for row in rows if not found.get(row)]
        if missing:
            raise InputError(
                f"{self.name}: row {missing[0]} of `{name}` holds no image",
                expected="encoded images in the file; paths are not followed",
                fix="embed the images in the file, or pass their folder",
            )
        return [found[row] for row in rows]

    def _pieces(self, rows: int) -> Iterator[np.ndarray]:
        done = 0
        with open_table(self.path, self.stamp) as table:
            for batch in _batches(table, self.features, rows):
                if self.is_vector:
                    piece = _vectors(batch.column(0), self.d, self._place, done)
                else:
                    piece = _side_by_side(batch, self.dtype)
                done += len(piece)
                check_unchanged(self.path, self.stamp)
                if done > self.n:
                    break
                yield piece
        if done != self.n:
            raise damaged(self.name, f"{done:,} rows instead of {self.n:,}")

    @property
    def _place(self) -> str:
        return f"{self.name}: column `{self.features[0]}`"


def open_parquet(
    path: Path, column: str | None, metadata: Collection[str] = ()
) -> ParquetStore:
    """Return the store of a Parquet file.

    The features are the only column of lists of floats, the one asked for, or, where
    there is none, the columns of floats; `column` may be the prefix of a series.

    Raises:
        InputError: where no column or several could be meant, or the file is damaged.
        MissingExtraError: where pyarrow is not installed.
    """
    stamp = stamp_of(path)
    check_footer(path, stamp)
    with open_table(path, stamp) as table:
        schema = table.schema_arrow
        if len(set(schema.names)) < len(schema.names):
            raise damaged(path.name, "two columns of one name")
        n = table.metadata.num_rows
        check_matrix(path.name, (n, len(schema.names)))
        widths = _widths(table, path.name)
    vector = choose_vector(path.name, schema, widths, column)
    features: tuple[str, ...]
    if vector is not None:
        features, dtype = (vector,), vector_dtype(schema, vector)
        label = f"{path.name}: column `{vector}`"
        width = widths[vector]
        if width is None:
            raise _null_row(label, 0)
        check_matrix(label, (n, width))
    else:
        features = choose_scalars(path.name, schema, column, metadata)
        width, dtype = len(features), scalars_dtype(schema, features)
    names = [field.name for field in schema if is_scalar(field.type)]
    return ParquetStore(
        path,
        n,
        width,
        dtype,
        tuple(name for name in names if name not in features),
        stamp,
        features,
        vector is not None,
        tuple(field.name for field in schema if is_image(field.type)),
    )


def parquet_columns(path: Path) -> dict[str, Shaped[np.ndarray, " n"]]:
    """Return every column of numbers or text of a Parquet file."""
    stamp = stamp_of(path)
    check_footer(path, stamp)
    with open_table(path, stamp) as table:
        names = [f.name for f in table.schema_arrow if is_scalar(f.type)]
        return {name: read_column(table, name) for name in names}


def _widths(table: Any, name: str) -> dict[str, int | None]:
    """Return the length of the first vector of each column of vectors; None if null."""
    names = [field.name for field in table.schema_arrow if is_vector(field.type)]
    if not names:
        return {}
    batch = next(_batches(table, names, 1), None)
    if batch is None:
        raise damaged(name, "no rows")
    firsts = [getattr(column, "storage", column)[0].as_py() for column in batch.columns]
    lengths = [None if first is None else len(first) for first in firsts]
    return dict(zip(names, lengths, strict=True))


def _batches(table: Any, names: Sequence[str], rows: int) -> Iterator[Any]:
    """Yield batches of these columns, in this order, none of them empty."""
    for batch in table.iter_batches(batch_size=rows, columns=list(names)):
        if batch.num_rows:
            yield batch.select(list(names))


def _side_by_side(batch: Any, dtype: str) -> np.ndarray:
    block = np.empty((batch.num_rows, batch.num_columns), dtype)
    for feature, column in enumerate(batch.columns):
        block[:, feature] = column.to_numpy(zero_copy_only=False)
    return block


def _null_row(label: str, row: int) -> InputError:
    return InputError(
        f"{label}: row {row} is null",
        expected="a vector in every row",
        fix="drop the rows without features",
    )


def _vectors(column: Any, d: int, label: str, first: int) -> np.ndarray:
    """Return a batch of vectors as (rows, d); `first` is the row it begins with."""
    column = getattr(column, "storage", column)
    if column.null_count:
        row = first + int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
        raise _null_row(label, row)
    values = column.flatten()
    _check_lengths(column, len(values), d, label, first)
    if values.null_count:
        empty = int(np.argmax(values.is_null().to_numpy(zero_copy_only=False)))
        raise InputError(
            f"{label}: row {first + empty // d} holds a null",
            expected=f"{d:,} numbers in every row",
            fix="drop that row, or write NaN and use --drop-nonfinite",
        )
    return values.to_numpy(zero_copy_only=False).reshape(-1, d)


def _check_lengths(column: Any, n_values: int, d: int, label: str, first: int) -> None:
    import pyarrow.compute

    lengths = pyarrow.compute.list_value_length(column).to_numpy(zero_copy_only=False)
    ragged = np.flatnonzero(lengths != d)
    if len(ragged):
        row = int(ragged[0])
        raise InputError(
            f"{label}: row {first + row} has {lengths[row]:,} values, row 0 has {d:,}",
            expected="vectors of one length",
            fix="pool or pad them to one length before saving",
        )
    if n_values != d * len(column):
        raise damaged(label, "its lengths do not add up")


def _pick_images(table: Any, name: str, rows: Sequence[int]) -> dict[int, bytes]:
    """Return the images of some rows, ascending, reading only their row groups."""
    found: dict[int, bytes] = {}
    start = 0
    for group in range(table.num_row_groups):
        end = start + table.metadata.row_group(group).num_rows
        if any(start <= row < end for row in rows):
            batches = table.iter_batches(IMAGE_ROWS, row_groups=[group], columns=[name])
            for batch in batches:
                found.update(_images_of(batch.column(0), start, rows))
                start += batch.num_rows
        start = end
    return found


def _images_of(column: Any, start: int, rows: Sequence[int]) -> dict[int, bytes]:
    picked = {}
    for row in rows:
        if start <= row < start + len(column):
            value = column[row - start].as_py()
            image = value.get("bytes") if isinstance(value, dict) else value
            picked[row] = image or b""
    return picked
