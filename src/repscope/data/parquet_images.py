"""Encoded pictures in a column of a Parquet file, as Hugging Face writes data sets.

The column is read by groups of rows as they are asked for. Groups stay in memory up to
CACHE_BYTES: a file below that is read once, a larger one as often as the order needs.
"""

import hashlib
import os
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from repscope._checking import InputError, UsageError, did_you_mean
from repscope.data.encoded_images import (
    AbstractEncoded,
    EncodedImages,
    check_encoded_size,
    check_kind,
)
from repscope.data.imageset import ImageSet
from repscope.data.label_columns import choose_levels, says_labels
from repscope.files.file_access import Stamp, damaged, local_path, open_unchanged
from repscope.files.parquet_file import check_footer, open_table, read_column
from repscope.files.parquet_names import class_names, is_image
from repscope.files.sniffing import Kind

# Groups of rows are kept in memory up to this much.
CACHE_BYTES = 2**29
# One group may unpack to this much.
GROUP_BYTES = 2**31
# Rows decoded at once.
STEP_ROWS = 256
# A Parquet file ends with the length of its footer and four letters.
FOOTER_END = 8
# More columns than this are not listed.
LISTED = 8
EMBED_FIX = "embed the pictures in the file; paths are not followed"


def open_parquet_images(
    path: str | os.PathLike[str],
    *,
    labels: Sequence[str] | None = None,
    column: str | None = None,
) -> ImageSet:
    """Return the pictures of a Parquet file, with the names of their classes.

    Ids are row numbers. Checksums of pages are compared where the file has them.

    Args:
        path: the file; its pictures are embedded, ``{bytes, path}`` or binary.
        labels: the label columns, from fine to coarse; () for none. By default those
            that Hugging Face marks as class labels, or else those called label or so;
            more classes first.
        column: the column of pictures; needed where there are several.

    Raises:
        InputError: where it is no Parquet file, damaged, or without pictures.
        UsageError: where a column is not there, or several could be meant.
        MissingExtraError: where pyarrow is not installed.
    """
    file = local_path(path)
    if file.is_dir():
        raise InputError(
            f"{file.name}: is a folder, not a Parquet table",
            fix="pass one of its .parquet files",
        )
    stamp = check_kind(file, Kind.PARQUET)
    check_footer(file, stamp)
    with open_table(file, stamp) as table:
        schema = table.schema_arrow
        if len(set(schema.names)) < len(schema.names):
            raise damaged(file.name, "two columns of one name")
        cells = ParquetCells(
            file,
            stamp,
            _image_column(file.name, schema, column),
            _ends(table),
            _mark(file, stamp),
        )
        if not cells.n:
            raise InputError(f"{file.name}: has no rows", fix="write it again")
        others = [field.name for field in schema if _may_be_labels(field.type)]
        named = [name for name in others if class_names(schema, name)]
        levels = choose_levels(
            file.name,
            others,
            lambda name: read_column(table, name),
            wanted=labels,
            likely=named or [name for name in others if says_labels(name)],
        )
    images = EncodedImages(file.name, range(cells.n), cells)
    return ImageSet.of(images, labels=levels, ids=np.arange(cells.n), name=file.name)


@dataclass(frozen=True, eq=False)
class ParquetCells(AbstractEncoded):
    """Pictures in a column.

    Args:
        path: the file.
        stamp: its state at opening.
        column: the column, binary or ``{bytes, ...}``.
        ends: for each group of rows, the row after its last.
        mark: a hash of the file's directory.
    """

    path: Path
    stamp: Stamp
    column: str
    ends: tuple[int, ...]
    mark: str
    _kept: OrderedDict[int, "_Group"] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def n(self) -> int:
        """How many rows there are."""
        return self.ends[-1] if self.ends else 0

    def mark_of(self, row: int) -> str:
        """Return the row number, and a hash of where all pictures lie."""
        return f"{row} {self.mark}"

    def bytes_of(self, row: int) -> bytes:
        """Return a picture's bytes.

        Raises:
            InputError: where the cell is empty, the file changed, or is damaged there.
            MissingExtraError: where pyarrow is not installed any more.
        """
        group = bisect_right(self.ends, row)
        first = self.ends[group - 1] if group else 0
        with self._lock:
            data = self._group(group)[row - first]
        label = f"{self.path.name}: row {row} of `{self.column}`"
        if not data:
            raise InputError(f"{label} holds no picture", fix=EMBED_FIX)
        check_encoded_size(label, len(data))
        return data

    def _group(self, group: int) -> list[bytes | None]:
        """Return a group of rows, from memory where it is there; call it locked."""
        if group in self._kept:
            self._kept.move_to_end(group)
            return self._kept[group].cells
        self._kept[group] = self._read(group)
        while len(self._kept) > 1 and self._size() > CACHE_BYTES:
            self._kept.popitem(last=False)
        return self._kept[group].cells

    def _size(self) -> int:
        return sum(group.size for group in self._kept.values())

    def _read(self, group: int) -> "_Group":
        cells: list[bytes | None] = []
        size = 0
        with open_table(self.path, self.stamp) as table:
            kind = table.schema_arrow.field(self.column).type
            is_struct = str(kind).startswith("struct<")
            leaf = f"{self.column}.bytes" if is_struct else self.column
            for batch in table.iter_batches(
                STEP_ROWS, row_groups=[group], columns=[leaf]
            ):
                size += batch.nbytes
                if size > GROUP_BYTES:
                    raise InputError(
                        f"{self.path.name}: row group {group} unpacks to more than "
                        f"{GROUP_BYTES:,} bytes",
                        fix="write it in groups of about 1,000 rows: row_group_size",
                    )
                values = batch.column(0).to_pylist()
                cells += (
                    [one and one["bytes"] for one in values] if is_struct else values
                )
        first = self.ends[group - 1] if group else 0
        if len(cells) != self.ends[group] - first:
            raise damaged(self.path.name, f"row group {group} lacks rows")
        return _Group(cells, size)


@dataclass(frozen=True)
class _Group:
    cells: list[bytes | None]
    size: int


def _ends(table: Any) -> tuple[int, ...]:
    groups = range(table.num_row_groups)
    return tuple(accumulate(table.metadata.row_group(k).num_rows for k in groups))


def _mark(path: Path, stamp: Stamp) -> str:
    """Return a hash of a file's footer: the sizes and places of all it holds."""
    with open_unchanged(path, stamp) as file:
        file.seek(stamp.size - FOOTER_END)
        length = int.from_bytes(file.read(4), "little")
        file.seek(max(0, stamp.size - FOOTER_END - length))
        footer = file.read()
    return hashlib.blake2b(footer, digest_size=8).hexdigest()


def _may_be_labels(kind: Any) -> bool:
    """Return whether a type is neither nested nor binary."""
    nested = ("struct<", "list<", "large_list<", "fixed_size_list<", "map<", "null")
    return not is_image(kind) and not str(kind).startswith(nested)


def _image_column(name: str, schema: Any, column: str | None) -> str:
    """Return the column of pictures.

    Raises:
        InputError: where there is none.
        UsageError: where it is not the one asked for, or several could be meant.
    """
    images = [field.name for field in schema if is_image(field.type)]
    if not images:
        kinds = [f"{field.name} ({str(field.type)[:24]})" for field in schema]
        raise InputError(
            f"{name}: holds no pictures",
            found=", ".join(kinds[:LISTED]) + (", ..." if len(kinds) > LISTED else ""),
            expected="a column such as `image`: {bytes, path}, or binary",
            fix=f"if it holds features: repscope diagnose {name}",
        )
    if column is None and len(images) > 1:
        raise UsageError(
            f"{name}: {len(images)} columns could be the pictures",
            found=", ".join(images),
            fix=f'say which: column="{images[0]}"',
        )
    if column is not None and column not in images:
        raise UsageError(
            f"{name}: has no column of pictures {column!r}",
            found=", ".join(images),
            fix=did_you_mean(column, images),
        )
    return column or images[0]
