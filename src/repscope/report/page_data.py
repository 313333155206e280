"""What the page shows of the samples: the packed map, the map in words, the worst rows.

A page of 50,000 rows has to stay small and open at once, so positions and categories
travel as base64 integers, and long ids give way first.
"""

import base64
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from repscope.records import Samples, Scalar, Table
from repscope.report.wording import clean, cut, fixed, rounded, shorten

MAXIMUM_POINTS = 50_000
MAXIMUM_ROWS = 200
# Bytes that the ids of the map may take on the page.
ID_BYTES = 1_400_000
# The quality score that orders rows, the lowest being the worst.
QUALITY = "q_score"
# Scores worth a column on the page; the samples file holds them all.
SCORES = {
    "q_score": "Q-Score",
    "z_max": "z max",
    "l1_norm": "L1 norm",
    "soft_sparsity": "soft sparsity",
    "gini": "Gini",
}
_ID_LIMITS = (48, 32, 24, 16, 12, 8)
_NAME_LIMIT = 48
_NAMED_CATEGORIES = 40
_NAMES_OF_ROWS = ("row", "id")
_OUTCOMES = ("wrong", "correct", "not tested")
_NONE = "(none)"
_NOTHING = "\u2013"


@dataclass(frozen=True)
class Cell:
    """One cell of a table: what is shown and what it sorts by."""

    text: str
    number: float | None = None


@dataclass(frozen=True)
class Grid:
    """A table for the page.

    Args:
        columns: headings.
        numeric: whether each column holds numbers.
        rows: cells, one per column.
        total: rows there are; more than are shown where it exceeds them.
    """

    columns: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[Cell, ...], ...]
    total: int


def grid(table: Table, limit: int = MAXIMUM_ROWS) -> Grid:
    """Return the first rows of a table as cells."""
    columns = list(zip(*table.rows, strict=True)) or [()] * len(table.columns)
    cells = [
        _column_cells(name, values[:limit])
        for name, values in zip(table.columns, columns, strict=True)
    ]
    return Grid(
        columns=tuple(clean(name) for name in table.columns),
        numeric=tuple(_is_numeric(column) for column in columns),
        rows=tuple(zip(*cells, strict=True)),
        total=len(table.rows),
    )


def prefixed(samples: Samples, prefix: str) -> list[str]:
    """Return what follows `prefix` in the names of the columns that begin with it."""
    names = [name for name in samples.columns if name.startswith(prefix)]
    return [name.removeprefix(prefix) for name in names]


def worst_rows(samples: Samples, limit: int = MAXIMUM_ROWS) -> Shaped[np.ndarray, " m"]:
    """Return positions of the rows to list, the worst first.

    Those that a check listed, then those of lowest quality; without a quality score the
    first rows.
    """
    n = len(samples)
    listed = _numbers(samples, "listed", n, fill=0.0)
    quality = _numbers(samples, QUALITY, n, fill=np.inf)
    order = np.lexsort((np.arange(n), quality, -listed))
    return order[:limit]


def sample_grid(samples: Samples, limit: int = MAXIMUM_ROWS) -> Grid:
    """Return the worst rows with their labels, predictions and scores."""
    rows = worst_rows(samples, limit)
    names = {name: name for name in ("row", "id") if name in samples.columns}
    for level in prefixed(samples, "label:"):
        names[f"label:{level}"] = level
        if f"predicted:{level}" in samples.columns:
            names[f"predicted:{level}"] = f"predicted {level}"
    names |= {"split": "split"} if "split" in samples.columns else {}
    names |= {name: title for name, title in SCORES.items() if name in samples.columns}
    columns = {
        title: _cells(np.asarray(samples.columns[name])[rows], counts=name != "row")
        for name, title in names.items()
    }
    for level in dict.fromkeys(
        name.rpartition(":")[0] for name in prefixed(samples, "correct:")
    ):
        columns[f"wrong {level}"] = _wrong_probes(samples, level, rows)
    if "listed" in samples.columns:
        listed = np.asarray(samples.columns["listed"])[rows]
        columns["listed"] = [Cell("yes" if one else "") for one in listed]
    return Grid(
        columns=tuple(shorten(title, _NAME_LIMIT) for title in columns),
        numeric=tuple(
            any(cell.number is not None for cell in cells) for cells in columns.values()
        ),
        rows=tuple(zip(*columns.values(), strict=True)),
        total=len(samples),
    )


def map_rows(samples: Samples) -> Shaped[np.ndarray, " m"]:
    """Return positions of the rows on the map, evenly thinned to MAXIMUM_POINTS."""
    x = _numbers(samples, "map_x", len(samples), fill=np.nan)
    y = _numbers(samples, "map_y", len(samples), fill=np.nan)
    shown = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    if len(shown) <= MAXIMUM_POINTS:
        return shown
    return shown[np.linspace(0, len(shown) - 1, MAXIMUM_POINTS).astype(np.int64)]


def map_data(samples: Samples) -> dict[str, Any] | None:
    """Return the map as a JSON object, None where no row has a place on it.

    Positions are 16-bit fractions of the longer side, categories 8- or 16-bit indices,
    scores 32-bit floats, all little-endian in base64.
    """
    rows = map_rows(samples)
    if not len(rows):
        return None
    chosen = {
        name: np.asarray(column)[rows] for name, column in samples.columns.items()
    }
    x, y = chosen["map_x"].astype(np.float64), chosen["map_y"].astype(np.float64)
    side = max(np.ptp(x), np.ptp(y)) or 1.0
    numbers = np.asarray(chosen.get("row", rows), np.int64)
    return {
        "n": len(rows),
        "x": _pack((x - (x.min() + x.max() - side) / 2) / side * 65535, "<u2"),
        "y": _pack((y - (y.min() + y.max() - side) / 2) / side * 65535, "<u2"),
        "row": _pack(numbers, "<u4"),
        "id": _ids(chosen.get("id"), numbers),
        "channels": _channels(chosen),
    }


def map_in_words(samples: Samples) -> Table | None:
    """Return where each label of the first level lies on the map.

    How many points it has, how wide they spread and which label is nearest; None
    without labels or map.
    """
    rows = map_rows(samples)
    levels = prefixed(samples, "label:")
    if not levels or not len(rows):
        return None
    names, codes = _categories(np.asarray(samples.columns[f"label:{levels[0]}"])[rows])
    points = np.column_stack(
        [np.asarray(samples.columns[name], np.float64)[rows] for name in _AXES]
    )
    width = float(np.ptp(points, axis=0).max()) or 1.0
    counts = np.bincount(codes, minlength=len(names))
    common = np.argsort(-counts, kind="stable")[:_NAMED_CATEGORIES]
    centres = np.array([points[codes == code].mean(axis=0) for code in common])
    distances = np.linalg.norm(centres[:, None] - centres[None], axis=2) / width
    np.fill_diagonal(distances, np.inf)
    return Table(
        name="map",
        title=f"Where the labels of \u201c{levels[0]}\u201d lie",
        columns=("label", "points", "spread", "nearest label", "distance"),
        rows=tuple(
            _place(index, names, common, points[codes == code] / width, distances)
            for index, code in enumerate(common)
        ),
        how_to_read="Spread is the root mean square distance of a label's points from "
        "their centre, distance that between two centres, both as a share of the "
        "map's width. A label whose spread exceeds its distance mixes with its "
        "neighbour on the map, which need not mean that it does in the features.",
    )


_AXES = ("map_x", "map_y")


def _place(
    index: int,
    names: Sequence[str],
    common: Int[np.ndarray, " k"],
    points: Float[np.ndarray, "m 2"],
    distances: Float[np.ndarray, "k k"],
) -> tuple[Scalar, ...]:
    spread = float(np.sqrt(((points - points.mean(axis=0)) ** 2).sum(axis=1).mean()))
    nearest = int(distances[index].argmin())
    alone = not np.isfinite(distances[index, nearest])
    return (
        names[common[index]],
        len(points),
        spread,
        None if alone else names[common[nearest]],
        None if alone else float(distances[index, nearest]),
    )


def _numbers(
    samples: Samples, name: str, n: int, fill: float
) -> Float[np.ndarray, " n"]:
    if name not in samples.columns:
        return np.full(n, fill)
    values = np.asarray(samples.columns[name], dtype=np.float64)
    return np.where(np.isnan(values), fill, values)


def _is_numeric(values: Iterable[Scalar]) -> bool:
    present = [value for value in values if value is not None]
    return bool(present) and all(
        isinstance(value, int | float) and not isinstance(value, bool)
        for value in present
    )


def _column_cells(name: str, values: Sequence[Scalar]) -> list[Cell]:
    """Return a column's cells: numbers to equal digits, names of rows as they are."""
    numbers = [value for value in values if isinstance(value, float)]
    is_fractional = any(not value.is_integer() for value in numbers)
    number_text = fixed if is_fractional else rounded
    is_name = name in _NAMES_OF_ROWS
    return [_cell(value, str if is_name else number_text) for value in values]


def _cell(value: Scalar, number_text: Callable[[float], str]) -> Cell:
    if value is None:
        return Cell(_NOTHING)
    if isinstance(value, bool):
        return Cell("yes" if value else "no", float(value))
    if isinstance(value, int | float):
        return Cell(number_text(value), float(value))
    return Cell(shorten(value, 2 * _NAME_LIMIT))


def _cells(values: Shaped[np.ndarray, " n"], *, counts: bool) -> list[Cell]:
    """Return cells; whole numbers that are no `counts` are names, shown as text."""
    if values.dtype.kind == "f":
        return [
            Cell(rounded(value), value) if np.isfinite(value) else Cell(_NOTHING)
            for value in values.tolist()
        ]
    if values.dtype.kind in "iu" and not counts:
        return [Cell(str(value), float(value)) for value in values.tolist()]
    texts = [shorten(str(value), _NAME_LIMIT) for value in values.tolist()]
    return [Cell(text or _NOTHING) for text in texts]


def _wrong_probes(
    samples: Samples, level: str, rows: Shaped[np.ndarray, " m"]
) -> list[Cell]:
    """Return for each row the probes that got the level wrong."""
    tested = np.zeros(len(rows), dtype=bool)
    wrong: list[list[str]] = [[] for _ in rows]
    for name, column in samples.columns.items():
        start, _, probe = name.rpartition(":")
        if start != f"correct:{level}":
            continue
        values = np.asarray(column, dtype=np.float64)[rows]
        tested |= np.isfinite(values)
        for index in np.flatnonzero(values == 0.0):
            wrong[index].append(clean(probe))
    return [
        Cell(", ".join(probes) if probes else "none" if seen else _NOTHING)
        for probes, seen in zip(wrong, tested, strict=True)
    ]


def _pack(values: Shaped[np.ndarray, " n"], kind: str) -> str:
    whole = values if kind == "<f4" else np.rint(values)
    return base64.b64encode(whole.astype(kind).tobytes()).decode("ascii")


def _ids(
    ids: Shaped[np.ndarray, " n"] | None, rows: Int[np.ndarray, " n"]
) -> list[str] | None:
    """Return the ids, shortened until they fit; None where they are the rows."""
    if ids is None or (ids.dtype.kind in "iu" and np.array_equal(ids, rows)):
        return None
    texts = [clean(str(one)) for one in ids.tolist()]
    for limit in _ID_LIMITS:
        short = [cut(text, limit) for text in texts]
        if len(json.dumps(short)) <= ID_BYTES:
            return short
    return None


def _categories(
    values: Shaped[np.ndarray, " n"],
) -> tuple[list[str], Int[np.ndarray, " n"]]:
    """Return the names, numbers inside them in order of size, and each row's index."""
    names, codes = np.unique(values.astype(str), return_inverse=True)
    order = sorted(range(len(names)), key=lambda place: _natural(str(names[place])))
    rank = np.empty(len(names), dtype=np.int64)
    rank[order] = np.arange(len(names))
    return [str(names[place]) for place in order], rank[codes.reshape(-1)]


def _natural(name: str) -> list[tuple[int, str]]:
    parts = re.split("([0-9]{1,15})", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _channels(columns: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Return what the map can be coloured by, in the order of the choice."""
    channels = []
    for prefix, title in (("label:", ""), ("predicted:", "predicted ")):
        for name, values in columns.items():
            if name.startswith(prefix):
                label = title + name.removeprefix(prefix)
                channels.append(_category_channel(label, *_categories(values)))
    if "split" in columns:
        channels.append(_category_channel("split", *_categories(columns["split"])))
    for name, values in columns.items():
        if name.startswith("correct:"):
            level, _, probe = name.removeprefix("correct:").rpartition(":")
            codes = np.where(np.isnan(values), 2, values == 1.0).astype(np.int64)
            title = f"{probe} probe on {level}"
            channels.append(_category_channel(title, list(_OUTCOMES), codes))
    score = next((name for name in SCORES if name in columns), None)
    if score is not None:
        channels.append(
            {
                "title": SCORES[score],
                "kind": "score",
                "values": _pack(np.asarray(columns[score], np.float64), "<f4"),
            }
        )
    return channels


def _category_channel(
    title: str, names: list[str], codes: Int[np.ndarray, " n"]
) -> dict[str, Any]:
    """Return a channel of categories; `silent` is the one that says nothing."""
    width = 1 if len(names) <= 256 else 2
    shown = [shorten(name, _NAME_LIMIT) or _NONE for name in names]
    silent = [
        place for place, name in enumerate(shown) if name in (_NONE, _OUTCOMES[2])
    ]
    return {
        "title": shorten(title, _NAME_LIMIT),
        "kind": "category",
        "names": shown,
        "silent": silent[0] if silent else -1,
        "bytes": width,
        "codes": _pack(codes, f"<u{width}"),
    }


def position(samples: Samples, row: int) -> int | None:
    """Return where in the samples a row of the features stands, None if nowhere."""
    if "row" not in samples.columns:
        return row if 0 <= row < len(samples) else None
    found = np.flatnonzero(np.asarray(samples.columns["row"]) == row)
    return int(found[0]) if len(found) else None


def row_in_words(samples: Samples, row: int) -> tuple[str, str]:
    """Return what is known of one row, in short and in full.

    In short its first label and what it was taken for; in full all labels, id and
    quality.
    """
    place = position(samples, row)
    if place is None:
        return f"row {row}", f"row {row}"
    known = {name: column[place] for name, column in samples.columns.items()}
    words = [f"row {row}"]
    short = []
    for level in prefixed(samples, "label:"):
        label, predicted = known[f"label:{level}"], known.get(f"predicted:{level}", "")
        words.append(f"{level}: {label}")
        words += [f"predicted {predicted}"] if predicted else []
        is_wrong = predicted and predicted != label
        short.append(f"{label}, taken for {predicted}" if is_wrong else str(label))
    words += [f"id {known['id']}"] if "id" in known else []
    if QUALITY in known and np.isfinite(known[QUALITY]):
        words.append(f"Q-Score {rounded(float(known[QUALITY]))}")
    full = ", ".join(shorten(word, 2 * _NAME_LIMIT) for word in words)
    return shorten((short or words)[0], _NAME_LIMIT), full
