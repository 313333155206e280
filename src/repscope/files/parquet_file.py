"""Parquet files that others wrote: opened unchanged, page checksums compared.

Whatever pyarrow says about a broken file becomes an error that names the file.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from repscope._checking import InputError, MissingExtraError, RepscopeError
from repscope.files.file_access import Stamp, damaged, open_unchanged
from repscope.files.parquet_names import class_names, with_class_names

BUFFER_BYTES = 2**18


@contextlib.contextmanager
def open_table(path: Path, stamp: Stamp) -> Iterator[Any]:
    """Open a Parquet file, unchanged; whatever is broken in it becomes an InputError.

    Raises:
        InputError: where it is damaged or has changed.
        MissingExtraError: where pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError(
            f"{path.name}: pyarrow is needed to read Parquet", "parquet"
        ) from error
    with open_unchanged(path, stamp) as file:
        try:
            with pyarrow.parquet.ParquetFile(
                file,
                buffer_size=BUFFER_BYTES,
                pre_buffer=False,
                page_checksum_verification=True,
            ) as table:
                yield table
        except RepscopeError:
            raise
        except (pyarrow.ArrowException, ValueError, LookupError) as error:
            raise damaged(path.name, _first_line(error)) from error
        except OSError as error:
            if error.errno is not None:
                raise
            raise damaged(path.name, _first_line(error)) from error


def read_column(table: Any, name: str) -> Shaped[np.ndarray, " n"]:
    """Return a column of numbers or text; a missing number is NaN, a missing text None.

    Args:
        table: the open file.
        name: the column.
    """
    column = table.read(columns=[name]).column(name)
    if str(column.type) == "bool":
        column = column.cast("uint8")
    values = column.to_numpy()
    if values.dtype.kind in "iu":
        return with_class_names(values, class_names(table.schema_arrow, name))
    if values.dtype.kind != "O":
        return np.array(values)
    kind = object if column.null_count else str
    return np.array(values.tolist(), dtype=kind)


def check_footer(path: Path, stamp: Stamp) -> None:
    """Raise InputError where a file does not end as a Parquet file does."""
    with open_unchanged(path, stamp) as file:
        file.seek(-min(stamp.size, 4), os.SEEK_END)
        if file.read() != b"PAR1":
            raise InputError(
                f"{path.name}: truncated: it does not end as a Parquet file does",
                found=f"{stamp.size:,} bytes",
                fix="copy, download or write it again",
            )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:120]
