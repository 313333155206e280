"""Labels, attributes and splits as codes, checked once."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, Shaped

from repscope._arrays import host
from repscope._checking import InputError, check_length

# A numeric attribute with more values than this is cut into fifths.
MAXIMUM_DISTINCT_NUMBERS = 20
TEST_WORDS = frozenset({"test", "val", "valid", "validation", "eval", "1", "true"})
TRAIN_WORDS = frozenset({"train", "training", "0", "false"})


@dataclass(frozen=True, eq=False)
class Level:
    """One label level or attribute: a class code per row, and the classes' names.

    Args:
        name: what the user calls it.
        codes: (n,) from 0 to c - 1.
        classes: c names; code k is classes[k].
    """

    name: str
    codes: Int[np.ndarray, " n"]
    classes: tuple[str, ...]

    @property
    def n_classes(self) -> int:
        """How many classes there are."""
        return len(self.classes)

    def take(self, rows: Shaped[np.ndarray, " m"]) -> "Level":
        """Return the level of some rows; codes and names stay."""
        return Level(self.name, self.codes[rows], self.classes)


def encode_level(name: str, values: Any, n: int) -> Level:
    """Return labels as codes; numbers ordered by value, words by letter.

    Args:
        name: the level's name, for errors.
        values: n integers, strings, booleans, or floats that are whole numbers.
        n: rows of features.

    Raises:
        InputError: where the length is not n, a label is missing, or one is a fraction.
    """
    array = as_vector(f"labels {name!r}", values)
    check_length(f"labels {name!r}", len(array), n)
    if array.dtype.kind == "f":
        array = _whole_numbers(name, array)
    elif array.dtype.kind == "O":
        array = _words(name, array)
    classes, codes = np.unique(array, return_inverse=True)
    return Level(name, codes.astype(np.int64), tuple(str(c) for c in classes.tolist()))


def encode_attribute(name: str, values: Any, n: int) -> Level:
    """Return a factor as codes; numbers with many values are cut into fifths.

    Args:
        name: the attribute's name.
        values: n numbers or words.
        n: rows of features.

    Raises:
        InputError: where the length is not n or a value is missing.
    """
    array = as_vector(f"attribute {name!r}", values)
    check_length(f"attribute {name!r}", len(array), n)
    missing = _missing_rows(array)
    if len(missing):
        raise InputError(f"attribute {name!r}: row {missing[0]} has no value")
    if array.dtype.kind not in "fiu":
        return encode_level(name, array, n)
    distinct, codes = np.unique(array, return_inverse=True)
    if len(distinct) <= MAXIMUM_DISTINCT_NUMBERS:
        names = tuple(str(one).removesuffix(".0") for one in distinct.tolist())
        return Level(name, codes.astype(np.int64), names)
    edges = np.unique(np.quantile(array, [0.2, 0.4, 0.6, 0.8]))
    codes = np.searchsorted(edges, array, side="right")
    used, codes = np.unique(codes, return_inverse=True)
    return Level(name, codes.astype(np.int64), tuple(f"fifth {k + 1}" for k in used))


def as_vector(name: str, values: Any) -> np.ndarray:
    """Return values as a vector on the host.

    Raises:
        InputError: for more than one dimension.
    """
    array = host(values) if hasattr(values, "shape") else np.asarray(values)
    if array.ndim != 1:
        raise InputError(
            f"{name}: one value per row is needed",
            found=f"an array of shape {array.shape}",
            expected="one dimension",
            fix="pass several levels as a dictionary of name -> array",
        )
    is_bytes = array.dtype.kind == "S"
    return np.char.decode(array, "utf-8", "replace") if is_bytes else array


def _missing_rows(array: np.ndarray) -> Int[np.ndarray, " m"]:
    """Return the rows without a value: not finite, None, NaN, or pandas' NA."""
    if array.dtype.kind == "O":
        return np.flatnonzero([_is_missing(value) for value in array.tolist()])
    is_float = array.dtype.kind == "f"
    return np.flatnonzero(~np.isfinite(array)) if is_float else np.arange(0)


def _is_missing(value: Any) -> bool:
    is_nan = isinstance(value, float) and value != value
    return value is None or is_nan or type(value).__name__ in ("NAType", "NaTType")


def _whole_numbers(name: str, array: np.ndarray) -> np.ndarray:
    array = array.astype(np.float64)
    is_whole = np.isfinite(array) & (array == np.round(array))
    bad = np.flatnonzero(~is_whole | (np.abs(array) >= 2.0**63))
    if len(bad):
        raise InputError(
            f"labels {name!r}: row {bad[0]} is no class",
            found=str(array[bad[0]]),
            expected="whole numbers or words, none missing",
            fix="drop the rows without a label, or pass a number as an attribute",
        )
    return array.astype(np.int64)


def _words(name: str, array: np.ndarray) -> np.ndarray:
    missing = _missing_rows(array)
    if len(missing):
        rows = "row" if len(missing) == 1 else "rows"
        raise InputError(
            f"labels {name!r}: row {missing[0]} has no label",
            found=f"{len(missing):,} {rows} without one",
            fix="drop those rows first",
        )
    return np.array([str(value) for value in array.tolist()])


def parents_of(fine: Level, coarse: Level) -> Int[np.ndarray, " c"]:
    """Return the coarse class of each fine class.

    Raises:
        InputError: where a fine class lies in two coarse ones.
    """
    pairs = np.unique(np.stack([fine.codes, coarse.codes]), axis=1)
    children, counts = np.unique(pairs[0], return_counts=True)
    if (counts > 1).any():
        child = children[counts > 1][0]
        names = [coarse.classes[p] for p in pairs[1][pairs[0] == child][:2]]
        raise InputError(
            f"label levels are not nested: class {fine.classes[child]!r} of "
            f"{fine.name!r} lies in two classes of {coarse.name!r}",
            found=f"{names[0]!r} and {names[1]!r}",
            expected="each fine class in one coarse class, levels from fine to coarse",
            fix="change the order of the levels, or pass unrelated factors as "
            "attributes",
        )
    parents = np.zeros(fine.n_classes, dtype=np.int64)
    parents[pairs[0]] = pairs[1]
    return parents


def encode_split(values: Any, n: int) -> Bool[np.ndarray, " n"]:
    """Return True for test rows.

    Args:
        values: n booleans, 0/1, or words: train, training; test, val, valid,
            validation.
        n: rows of features.

    Raises:
        InputError: for another word, a wrong length, or where one side is empty.
    """
    array = as_vector("split", values)
    check_length("split", len(array), n)
    words = np.array([str(value).strip().lower() for value in array.tolist()])
    unknown = sorted(set(words.tolist()) - TEST_WORDS - TRAIN_WORDS)
    if unknown:
        raise InputError(
            "split: unknown words",
            found=", ".join(unknown[:3]),
            expected="train or test (also val, valid, validation; True for test)",
        )
    is_test = np.isin(words, sorted(TEST_WORDS))
    if is_test.all() or not is_test.any():
        raise InputError(
            "split: one side has no rows",
            found=f"{int(is_test.sum()):,} test rows of {n:,}",
            expected="train and test rows",
        )
    return is_test
