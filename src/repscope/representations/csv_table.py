"""Features and labels in CSV and other tables of text.

The delimiter and the header are recognised; rows are parsed block by block. An empty
cell among the features becomes NaN, so that it is counted where all NaN are.
"""

import contextlib
import csv
import io
import itertools
import operator
import re
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from repscope._checking import InputError
from repscope.files.file_access import (
    Stamp,
    check_unchanged,
    open_unchanged,
    stamp_of,
)
from repscope.representations.abstract_store import (
    Store,
    assembled,
    check_matrix,
    check_rows,
    is_a_feature,
    no_column,
    no_images,
)
from repscope.representations.feature_columns import (
    SERIES_LENGTH,
    choose_features,
    series,
)

# Rows from which the columns' types are told.
SAMPLE_ROWS = 200
# A line this long comes from no table; reading it whole could fill the memory.
LINE_CHARACTERS = 64 * 2**20
# Cells parsed at once: as Python objects they take ten times the memory of numbers.
PIECE_CELLS = 2**18
DELIMITERS = ",;\t|"

_NUMBER = re.compile(
    r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|infinity|nan)", re.I
)
_WHOLE = re.compile(r"-?(0|[1-9]\d{0,17})")
_DECIMAL = re.compile(r"[+-]?\d*\.\d*([eE][+-]?\d+)?|nan", re.I)
_MISSING = frozenset(["", "na", "n/a", "nan", "null", "none"])

_Row = tuple[int, list[str]]


@dataclass(frozen=True)
class Layout:
    """How a table of text is laid out.

    Args:
        delimiter: what separates cells.
        has_header: whether the first row names the columns.
        names: of the columns; c0, c1, ... without a header.
    """

    delimiter: str
    has_header: bool
    names: tuple[str, ...]


@dataclass(frozen=True)
class CsvStore(Store):
    """Features in columns of numbers, metadata in the others."""

    path: Path
    n: int
    d: int
    dtype: str
    column_names: tuple[str, ...]
    stamp: Stamp
    layout: Layout
    features: tuple[str, ...]

    def blocks(self, rows: int) -> Iterator[np.ndarray]:
        """Yield consecutive blocks of rows, in float64."""
        check_rows(rows)
        pieces = self._pieces(max(1, min(rows, PIECE_CELLS // len(self.layout.names))))
        return assembled(pieces, self.n, rows)

    def column(self, name: str) -> Shaped[np.ndarray, " n"]:
        """Return a column of integers, floats or text."""
        if name in self.features:
            raise is_a_feature(self.name, name)
        if name not in self.column_names:
            raise no_column(self.name, name, self.column_names)
        place = self.layout.names.index(name)
        with _open_rows(self.path, self.stamp, self.layout) as table:
            return typed([cells[place] for _, cells in table])

    def images(self, name: str, rows: Sequence[int]) -> list[bytes]:
        """Raise InputError: text holds no encoded images."""
        raise no_images(self.name, name)

    def _pieces(self, rows: int) -> Iterator[np.ndarray]:
        places = [self.layout.names.index(name) for name in self.features]
        with _open_rows(self.path, self.stamp, self.layout) as table:
            while chunk := list(itertools.islice(table, rows)):
                piece = _numbers(chunk, places, self.path.name, self.layout.names)
                check_unchanged(self.path, self.stamp)
                yield piece


def open_csv(
    path: Path, column: str | None, metadata: Collection[str] = ()
) -> CsvStore:
    """Return the store of a CSV file: its numbered series, or all columns of numbers.

    Raises:
        InputError: where rows differ in length, there are no columns of numbers, or
            two series could be meant.
    """
    stamp = stamp_of(path)
    layout = _layout(path, stamp)
    with _open_rows(path, stamp, layout) as table:
        sample = [cells for _, cells in itertools.islice(table, SAMPLE_ROWS)]
        n = len(sample) + sum(1 for _ in table)
    check_matrix(path.name, (n, len(layout.names)))
    numeric = _numeric_names(layout, sample)
    _refuse_lists(path.name, layout.names, numeric, sample)
    features = tuple(
        choose_features(path.name, numeric, column=column, metadata=metadata)
    )
    others = tuple(key for key in layout.names if key and key not in features)
    return CsvStore(path, n, len(features), "float64", others, stamp, layout, features)


def csv_columns(path: Path) -> dict[str, Shaped[np.ndarray, " n"]]:
    """Return every column of a CSV file; the only one without a header by its stem."""
    stamp = stamp_of(path)
    layout = _layout(path, stamp)
    with _open_rows(path, stamp, layout) as table:
        columns = list(zip(*(cells for _, cells in table), strict=True))
    if not columns:
        raise InputError(f"{path.name}: there is nothing to read", found="no rows")
    names = layout.names
    if len(names) == 1 and not layout.has_header:
        names = (path.stem,)
    if len(names) == 1 and names[0] in columns[0]:  # the first label, not a header
        return {path.stem: typed([names[0], *columns[0]])}
    return {name: typed(cells) for name, cells in zip(names, columns, strict=True)}


def typed(cells: Sequence[str]) -> Shaped[np.ndarray, " n"]:
    """Return text as integers where all of it is, as floats where all is, else as text.

    A missing number is NaN, a missing text None. Text such as "007" is no integer.

    Example:
        >>> typed(["1", "2"]), typed(["1", ""]), typed(["a", "b"])
        (array([1, 2]), array([ 1., nan]), array(['a', 'b'], dtype='<U1'))
    """
    stripped = [cell.strip() for cell in cells]
    present = [cell for cell in stripped if cell.lower() not in _MISSING]
    whole = all(_WHOLE.fullmatch(cell) for cell in present)
    if whole and len(present) == len(stripped):
        return np.array([int(cell) for cell in stripped], dtype=np.int64)
    padded = any(_is_padded(cell) for cell in present)
    if present and not padded and all(_NUMBER.fullmatch(cell) for cell in present):
        return np.array([_number(cell) for cell in stripped])
    if "" in stripped:
        return np.array([cell or None for cell in stripped], dtype=object)
    return np.array(stripped, dtype=str)


def _is_padded(cell: str) -> bool:
    return cell.isdigit() and _WHOLE.fullmatch(cell) is None


def _number(cell: str) -> float:
    """Return a cell's number, NaN where it says that there is none.

    Raises:
        ValueError: where it says something else.
    """
    return float("nan") if cell.strip().lower() in _MISSING else float(cell)


@contextlib.contextmanager
def _open_rows(path: Path, stamp: Stamp, layout: Layout) -> Iterator[Iterator[_Row]]:
    """Open a table and hand out (line number, cells) of each row below the header."""
    with (
        open_unchanged(path, stamp) as file,
        contextlib.closing(_lines(file, path.name)) as lines,
        contextlib.closing(_rows(lines, path.name, layout)) as table,
    ):
        yield table


def _rows(
    lines: Iterator[str], name: str, layout: Layout
) -> Generator[_Row, None, None]:
    reader = _reader(lines, layout.delimiter)
    width = len(layout.names)
    is_header = layout.has_header
    try:
        for cells in reader:
            if not cells:
                continue
            if len(cells) != width:
                raise InputError(
                    f"{name}: line {reader.line_num} has {len(cells):,} cells, "
                    f"the first row {width:,}",
                    expected="the same number of cells in every row",
                    fix="mend or delete the line; quote cells that hold the delimiter",
                )
            if not is_header:
                yield reader.line_num, cells
            is_header = False
    except csv.Error as error:
        raise InputError(
            f"{name}: line {reader.line_num} is no row of a table ({error})",
            fix="write it again; quote cells that hold quotes or line ends",
        ) from error


def _reader(lines: Iterator[str], delimiter: str) -> Any:
    return csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)


def _lines(file: io.BufferedReader, name: str) -> Generator[str, None, None]:
    """Yield the lines of a UTF-8 file from its first row on: no comments before it."""
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    is_start = True
    try:
        while line := text.readline(LINE_CHARACTERS):
            if len(line) == LINE_CHARACTERS:
                raise InputError(f"{name}: a line of {len(line):,} characters or more")
            is_start = is_start and (line.startswith("#") or not line.strip())
            if not is_start:
                yield line
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name}: is not UTF-8 text",
            found=f"the bytes {error.object[error.start : error.start + 4].hex(' ')}",
            fix="save it as UTF-8",
        ) from error
    finally:
        text.detach()  # the file is closed by whoever opened it


def _layout(path: Path, stamp: Stamp) -> Layout:
    with (
        open_unchanged(path, stamp) as file,
        contextlib.closing(_lines(file, path.name)) as lines,
    ):
        first_line = next(lines, "")
    delimiter = max(DELIMITERS, key=lambda one: len(_cells(first_line, one)))
    cells = _cells(first_line, delimiter)
    words = first_line.split()
    if len(cells) == 1 and all(_NUMBER.fullmatch(word) for word in words):
        delimiter, cells = " ", words  # as np.savetxt writes
    if not cells:
        raise InputError(f"{path.name}: is no table", fix="save it as CSV")
    if not _is_header(cells):
        return Layout(delimiter, False, tuple(f"c{k}" for k in range(len(cells))))
    names = tuple(cell.strip() for cell in cells)
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise InputError(
            f"{path.name}: two columns are named `{repeated[0]}`",
            fix="give each column a name of its own",
        )
    return Layout(delimiter, True, names)


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return next(_reader(iter([line]), delimiter), [])
    except csv.Error:
        return []


def _is_header(cells: Sequence[str]) -> bool:
    """Return whether a first row names columns rather than holding values.

    Decimals are values. Whole numbers are names only where they count the columns, as
    in a table that pandas wrote from an array.
    """
    stripped = [cell.strip() for cell in cells]
    if any(_DECIMAL.fullmatch(cell) for cell in stripped if cell):
        return False
    whole = [int(cell) for cell in stripped if _WHOLE.fullmatch(cell)]
    if whole:
        return len(whole) > 2 and whole == list(range(len(whole)))
    return any(stripped)


def _numeric_names(layout: Layout, sample: Sequence[Sequence[str]]) -> list[str]:
    """Return the columns of numbers; the majority of their cells decides.

    In a numbered series the majority of its columns decides. One bad cell or one empty
    column becomes an error or NaN there, not a feature that is silently left out.
    """
    numeric = set()
    for place, name in enumerate(layout.names):
        cells = [row[place].strip() for row in sample]
        present = [cell for cell in cells if cell.lower() not in _MISSING]
        numbers = sum(_NUMBER.fullmatch(cell) is not None for cell in present)
        if 2 * numbers > len(present) or (not present and not layout.has_header):
            numeric.add(name)
    for members in series(layout.names).values() if layout.has_header else ():
        if 2 * len(numeric.intersection(members)) > len(members):
            numeric.update(members)
    return [name for name in layout.names if name in numeric]


def _refuse_lists(
    name: str,
    names: Sequence[str],
    numeric: Sequence[str],
    sample: Sequence[Sequence[str]],
) -> None:
    """Raise InputError where the only vectors are lists written as text."""
    lists = [
        column
        for column, cell in zip(names, sample[0], strict=True)
        if cell.strip().startswith("[")
    ]
    longest = max(map(len, series(numeric).values()), default=0)
    if lists and longest < SERIES_LENGTH:
        raise InputError(
            f"{name}: column `{lists[0]}` holds lists written as text",
            expected="one number per cell",
            fix="save the table as Parquet, or the features with np.save",
        )


def _numbers(
    chunk: Sequence[_Row], places: Sequence[int], name: str, names: Sequence[str]
) -> Float[np.ndarray, "rows d"]:
    """Return some columns of some rows as float64."""
    pick = _picker(places)
    picked = [pick(cells) for _, cells in chunk]
    shape = (len(chunk), len(places))
    try:
        values = map(float, itertools.chain.from_iterable(picked))
        return np.fromiter(values, np.float64, shape[0] * shape[1]).reshape(shape)
    except ValueError:  # an empty cell, or one that is no number
        return _numbers_with_gaps(chunk, places, name, names)


def _picker(places: Sequence[int]) -> Callable[[list[str]], Sequence[str]]:
    first, last = places[0], places[-1]
    if list(places) == list(range(first, last + 1)):
        return operator.itemgetter(slice(first, last + 1))
    return operator.itemgetter(*places)


def _numbers_with_gaps(
    chunk: Sequence[_Row], places: Sequence[int], name: str, names: Sequence[str]
) -> Float[np.ndarray, "rows d"]:
    block = np.empty((len(chunk), len(places)))
    for row, (line, cells) in enumerate(chunk):
        for feature, place in enumerate(places):
            try:
                block[row, feature] = _number(cells[place])
            except ValueError as error:
                raise InputError(
                    f"{name}: line {line}, column `{names[place]}` is no number",
                    found=repr(cells[place][:40]),
                    expected="a number, or an empty cell",
                    fix="mend the cell, or select the features with --column PREFIX",
                ) from error
    return block
