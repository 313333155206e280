"""The samples on disk: ``samples.csv``, or ``samples.parquet`` where it is large.

In the CSV text is always quoted and numbers never are, so that reading restores every
column's type; a cell that a spreadsheet could take for a formula gets an apostrophe in
front, which reading takes away again. NaN is an empty cell.
"""

import csv
import importlib.util
import io
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from jaxtyping import Shaped

from repscope._checking import InputError, MissingExtraError
from repscope.records import Samples

CSV_NAME = "samples.csv"
PARQUET_NAME = "samples.parquet"
# Above this many rows Parquet is written, where pyarrow is installed.
CSV_MAXIMUM_ROWS = 200_000
_CHUNK_ROWS = 20_000
# Fixed-width text wider than this in total becomes an object array.
_FIXED_WIDTH_BYTES = 256 * 2**20

# A spreadsheet runs cells that begin like this, full-width signs and all; apostrophes
# in front are counted in, so that adding one can always be undone.
_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_CELL = re.compile('("(?:[^"]|"")*"|[^",\r\n]*)(,|$|\r\n|\n)')


def file_name(n: int) -> str:
    """Return the name under which n rows are kept."""
    large = n > CSV_MAXIMUM_ROWS and importlib.util.find_spec("pyarrow") is not None
    return PARQUET_NAME if large else CSV_NAME


def estimated_bytes(samples: Samples) -> int:
    """Return about how many bytes the samples take as CSV."""
    widths = {"U": 12, "O": 24, "f": 20, "i": 8, "u": 8, "b": 2}
    kinds = [column.dtype.kind for column in samples.columns.values()]
    return len(samples) * sum(widths.get(kind, 24) for kind in kinds)


def write_csv(samples: Samples, file: io.BufferedIOBase) -> None:
    """Write samples as UTF-8 CSV, some rows at a time.

    Args:
        samples: integer, real and text columns; truth values become 0 and 1, what is no
            valid Unicode is written as a backslash escape.
        file: open for bytes.
    """
    header = ",".join(_quoted(name) for name in samples.columns)
    file.write(f"{header}\r\n".encode("utf-8", "backslashreplace"))
    # a line of its own must not be empty: readers skip it
    missing = "" if len(samples.columns) > 1 else "nan"
    for start in range(0, len(samples), _CHUNK_ROWS):
        cells = [
            _cells(np.asarray(column)[start : start + _CHUNK_ROWS], missing)
            for column in samples.columns.values()
        ]
        lines = "\r\n".join(map(",".join, zip(*cells, strict=True)))
        file.write(f"{lines}\r\n".encode("utf-8", "backslashreplace"))


def read_csv(path: Path) -> Samples:
    """Return the samples that `write_csv` wrote.

    Raises:
        InputError: where rows have different lengths or a number cannot be read.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return _read_rows(file, path)
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: no readable CSV: {error}") from error


def write_parquet(samples: Samples, file: io.BufferedIOBase) -> None:
    """Write samples as Parquet, with a checksum on every page.

    Raises:
        MissingExtraError: where pyarrow is not installed.
    """
    pyarrow, parquet = _pyarrow()
    columns = {}
    for name, column in samples.columns.items():
        values = np.asarray(column)
        if values.dtype.kind not in "fiub":
            values = pyarrow.array([_valid(str(value)) for value in values.tolist()])
        columns[_valid(name)] = values
    table = pyarrow.table(columns)
    parquet.write_table(table, file, write_page_checksum=True)


def read_parquet(path: Path) -> Samples:
    """Return the samples that `write_parquet` wrote.

    Raises:
        MissingExtraError: where pyarrow is not installed.
        InputError: where the file is damaged or no Parquet.
    """
    pyarrow, parquet = _pyarrow()
    try:
        with parquet.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path}: no readable Parquet: {error}") from error
    columns = {}
    for name in table.column_names:
        values = table.column(name)
        is_text = pyarrow.types.is_string(values.type)
        columns[name] = _text(values.to_pylist()) if is_text else values.to_numpy()
    return Samples(columns=columns)


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError(
            f"{PARQUET_NAME}: Parquet needs pyarrow", "parquet"
        ) from error
    return pyarrow, pyarrow.parquet


def _valid(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _quoted(text: str) -> str:
    guard = "'" if _FORMULA.match(text) else ""
    return f'"{guard}{text}"' if '"' not in text else _doubled(guard + text)


def _doubled(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _cells(values: Shaped[np.ndarray, " n"], missing: str) -> Iterable[str]:
    """Return one CSV cell per value."""
    kind = values.dtype.kind
    if kind in "iu":
        return map(str, values.tolist())
    if kind == "b":
        return map(str, values.astype(np.int8).tolist())
    if kind == "f":
        numbers = values.tolist()
        if np.isnan(values).any():
            return [missing if number != number else repr(number) for number in numbers]
        return map(repr, numbers)
    texts = [str(value) for value in values.tolist()]
    quoted = {text: _quoted(text) for text in set(texts)}  # labels repeat
    return [quoted[text] for text in texts]


def _read_rows(file: TextIO, path: Path) -> Samples:
    raw: list[str] = []
    start = csv.reader(_remembered(file, raw), strict=True)
    header = [_unguarded(name) for name in next(start, [])]
    raw.clear()
    first = next(start, None)
    if first is None:
        return Samples(columns={name: np.zeros(0) for name in header})
    kinds = _kinds("".join(raw))
    if len(kinds) != len(header):
        raise InputError(
            f"{path}: the first row has {len(kinds)} cells, the header {len(header)}"
        )
    parts: list[list[np.ndarray]] = [[] for _ in header]
    rows = itertools.chain([first], csv.reader(file, strict=True))
    while chunk := [row for row in itertools.islice(rows, _CHUNK_ROWS) if row]:
        for index, cells in enumerate(_columns(chunk, len(header), path)):
            parts[index].append(_values(cells, kinds[index], header[index], path))
    merged = [_merged(part) for part in parts]
    return Samples(columns=dict(zip(header, merged, strict=True)))


def _remembered(lines: Iterable[str], memory: list[str]) -> Iterator[str]:
    for line in lines:
        memory.append(line)
        yield line


def _kinds(record: str) -> list[str]:
    """Return for each cell of a raw CSV record: "text", "int" or "float"."""
    kinds, position = [], 0
    while match := _CELL.match(record, position):
        cell, end = match.groups()
        is_integer = re.fullmatch(r"-?\d+", cell) is not None
        kinds.append("text" if cell[:1] == '"' else "int" if is_integer else "float")
        if end != ",":
            break
        position = match.end()
    return kinds


def _columns(
    rows: list[list[str]], width: int, path: Path
) -> Iterator[tuple[str, ...]]:
    for row in rows:
        if len(row) != width:
            raise InputError(f"{path}: a row of {len(row)} cells instead of {width}")
    return zip(*rows, strict=True)


def _values(cells: Sequence[str], kind: str, name: str, path: Path) -> np.ndarray:
    if kind == "text":
        return _text([_unguarded(cell) for cell in cells])
    try:
        if kind == "int":
            return _integers(cells)
        return np.array([float(cell) if cell else math.nan for cell in cells])
    except ValueError as error:
        raise InputError(f"{path}: column {name!r}: {error}") from error


def _integers(cells: Sequence[str]) -> Shaped[np.ndarray, " n"]:
    numbers = [int(cell) for cell in cells]
    try:
        return np.array(numbers, dtype=np.int64)
    except OverflowError:
        return np.array(numbers, dtype=np.uint64)


def _unguarded(text: str) -> str:
    return text[1:] if text[:1] == "'" and _FORMULA.match(text) else text


def _text(values: list[str]) -> Shaped[np.ndarray, " n"]:
    """Return text as fixed-width strings, or as objects where these would be huge."""
    widest = max(map(len, values), default=1)
    if 4 * widest * len(values) > _FIXED_WIDTH_BYTES:
        return np.array(values, dtype=object)
    return np.array(values, dtype=np.str_)


def _merged(parts: list[np.ndarray]) -> np.ndarray:
    kinds = {part.dtype.kind for part in parts}
    if kinds == {"i", "u"}:
        return np.concatenate([part.astype(np.uint64) for part in parts])
    if "U" not in kinds:
        return np.concatenate(parts)
    widest = max(part.dtype.itemsize for part in parts)
    if widest * sum(map(len, parts)) > _FIXED_WIDTH_BYTES:
        parts = [part.astype(object) for part in parts]
    return np.concatenate(parts)
