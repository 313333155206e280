"""What is said of rows: their numbers, ids and classes, checked once."""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from repscope._checking import InputError, UsageError, check_length
from repscope.data.levels import Level, as_vector, parents_of


def checked_rows(rows: Any, n: int, name: str) -> Int[np.ndarray, " m"]:
    """Return row numbers, of a mask those that are True.

    Args:
        rows: (m,) whole numbers from 0 to n - 1, or (n,) booleans.
        n: how many rows there are.
        name: of what has the rows, for errors.

    Raises:
        InputError: for a row that is not there.
    """
    chosen = np.asarray(rows)
    if chosen.dtype == bool:
        check_length("rows", len(chosen), n, of="images")
        chosen = np.flatnonzero(chosen)
    if chosen.size and chosen.dtype.kind not in "iu":
        found = f"values of type {chosen.dtype}"
        raise InputError(f"{name}: rows are whole numbers", found=found)
    chosen = chosen.astype(np.int64)
    outside = chosen[(chosen < 0) | (chosen >= n)]
    if len(outside):
        what = f"{name}: there is no row {outside[0]}"
        raise InputError(what, expected=f"0 to {n - 1}")
    return chosen


def encode_ids(ids: Any, n: int, *, of: str = "images") -> Shaped[np.ndarray, " n"]:
    """Return ids as integers or strings, row numbers by default.

    Args:
        ids: integers, or what can be shown as text.
        n: how many there must be.
        of: what they are the ids of, for errors.

    Raises:
        InputError: where there are not n of them.
    """
    if ids is None:
        return np.arange(n)
    array = as_vector("ids", ids)
    check_length("ids", len(array), n, of=of)
    if array.dtype.kind in "iu":
        return array
    return np.array([str(value) for value in array.tolist()])


def check_ids(ids: Shaped[np.ndarray, " n"], name: str) -> None:
    """Raise InputError where two rows have one id.

    Raises:
        InputError: naming the id that comes most often.
    """
    values, counts = np.unique(ids, return_counts=True)
    if len(values) < len(ids):
        most = values[counts.argmax()].item()
        raise InputError(
            f"{name}: the id {most!r} comes {counts.max()} times",
            found=f"{len(values):,} different ids for {len(ids):,} pictures",
            expected="one of its own for each picture",
        )


def encode_levels(
    labels: Any, n: int, encode: Callable[..., Level]
) -> tuple[Level, ...]:
    """Return labels as levels.

    Args:
        labels: a dictionary of name -> array or `Level`; or one array, named "label".
        n: how many rows there are.
        encode: how an array becomes a level.

    Raises:
        InputError: where a level is not of n rows, or cannot be encoded.
    """
    named = labels if isinstance(labels, Mapping) else {"label": labels}
    levels = []
    for name, values in named.items():
        if isinstance(values, Level):
            levels.append(Level(name, values.codes, values.classes))
        else:
            levels.append(encode(name, values, n))
    return tuple(levels)


def check_levels(
    levels: tuple[Level, ...], attributes: tuple[Level, ...], n: int, name: str
) -> None:
    """Raise an error where levels and attributes do not fit n rows or one another.

    Raises:
        InputError: for another length, a code without a class, or levels that are not
            nested from fine to coarse.
        UsageError: where two share a name.
    """
    known: set[str] = set()
    for level in levels + attributes:
        check_length(f"labels {level.name!r}", len(level.codes), n, of="images")
        if level.codes.min() < 0 or level.codes.max() >= level.n_classes:
            raise InputError(
                f"labels {level.name!r}: codes without a class",
                found=f"{level.codes.min()} to {level.codes.max()}",
                expected=f"0 to {level.n_classes - 1}",
            )
        if level.name in known:
            what = f"{name}: {level.name!r} names two label levels or attributes"
            raise UsageError(what, fix="rename one of them")
        known.add(level.name)
    for fine, coarse in pairwise(levels):
        parents_of(fine, coarse)


def class_of_each(level: Level) -> Shaped[np.ndarray, " n"]:
    """Return the class of each row: whole numbers where all are, else words."""
    words = np.array(level.classes)
    try:
        numbers = [int(word) for word in level.classes]
    except ValueError:
        return words[level.codes]
    is_number = [str(number) for number in numbers] == [*level.classes]
    return (np.array(numbers) if is_number else words)[level.codes]


def used_classes(level: Level) -> Level:
    """Return a level with only those classes that occur, in their order."""
    used, codes = np.unique(level.codes, return_inverse=True)
    classes = tuple(level.classes[code] for code in used)
    return Level(level.name, codes.astype(np.int64), classes)
