"""Features as a value: rows with their labels, attributes, ids and split.

A representation holds an array or a store on disk and checks once what belongs
together, so that everything after it can rely on lengths, nesting and codes.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, Shaped

from repscope._arrays import Array, as_matrix, host
from repscope._checking import InputError, UsageError, check_length
from repscope.data import rows as image_rows
from repscope.data.levels import (
    Level,
    as_vector,
    encode_attribute,
    encode_level,
    encode_split,
    parents_of,
)
from repscope.representations.store import Store, open_store, read_columns

# Rows handed on at once: about 16 MB in float64.
BLOCK_VALUES = 2 * 2**20


@dataclass(frozen=True, eq=False, repr=False)
class Representation:
    """Rows of features with what is known about them.

    Args:
        sources: arrays (n_i, d) or stores, one after another.
        name: what to call the features.
        levels: label levels, fine to coarse.
        attributes: factors that may compete with the labels.
        ids: (n,) integers or strings, unique; row numbers by default.
        is_test: (n,) True for test rows; None where no split was given.
        kept: (n,) rows of the sources that are left, ascending; None for all.
        layer: the encoder's layer.
    """

    sources: tuple[Any, ...]
    name: str
    ids: Shaped[np.ndarray, " n"]
    levels: tuple[Level, ...] = ()
    attributes: tuple[Level, ...] = ()
    is_test: Bool[np.ndarray, " n"] | None = None
    kept: Int[np.ndarray, " n"] | None = None
    layer: str = "features"
    inputs: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Return name, shape and what is known of the rows."""
        levels = ", ".join(f"{one.name} ({one.n_classes})" for one in self.levels)
        known = f"; labels {levels}" if levels else ""
        return f"<Representation {self.name!r}: {self.n} x {self.d}{known}>"

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.ids)

    @property
    def rows(self) -> Int[np.ndarray, " n"]:
        """The row number of each row in its sources."""
        return np.arange(self.n) if self.kept is None else self.kept

    @property
    def d(self) -> int:
        """Number of feature dimensions."""
        return shape_of(self.sources[0])[1]

    @property
    def dtype(self) -> str:
        """The stored type of the features."""
        return str(self.sources[0].dtype)

    def blocks(self) -> Iterator[tuple[int, Array]]:
        """Yield (first row, block of rows) until all rows were seen."""
        start = 0
        for first, block in self._stored_blocks():
            if self.kept is not None:
                block = _within(block, first, self.kept)
            if block.shape[0]:
                yield start, block
                start += block.shape[0]

    def _stored_blocks(self) -> Iterator[tuple[int, Array]]:
        rows = max(1, BLOCK_VALUES // self.d)
        start = 0
        for source in self.sources:
            for block in _blocks_of(source, rows):
                yield start, block
                start += block.shape[0]

    def take(self, rows: Int[np.ndarray, " m"]) -> np.ndarray:
        """Return some rows as one array in memory; `rows` ascending."""
        parts = [host(_within(block, start, rows)) for start, block in self.blocks()]
        return np.concatenate(parts)

    @classmethod
    def of(
        cls,
        features: Any,
        *,
        labels: Any = None,
        attributes: Mapping[str, Any] | None = None,
        ids: Any = None,
        split: Any = None,
        test: Any = None,
    ) -> "Representation":
        """Return a checked representation.

        Args:
            features: (n, d) array, path, `Store`, or a representation.
            labels: one array, or a dictionary of level name -> array, fine to coarse.
            attributes: dictionary of factor -> array.
            ids: (n,) unique integers or strings.
            split: (n,) train or test per row.
            test: (features, labels) of test rows, or a mask over the rows.

        Raises:
            InputError: where lengths differ, labels are not nested, or ids repeat.
            UsageError: where two arguments say the same or share a name.
        """
        if isinstance(features, Representation):
            given = {"labels": labels, "attributes": attributes, "ids": ids}
            _check_unchanged(given | {"test": test})
            if split is None:
                return features
            is_test = encode_split(split, features.n)
            return dataclasses.replace(features, is_test=is_test)
        if split is not None and test is not None:
            raise UsageError("split and test both say which rows test", fix="give one")
        sources: tuple[Any, ...] = (as_source(features),)
        n = shape_of(sources[0])[0]
        named = named_levels(labels)
        shared = sorted(set(named) & set(attributes or {}))
        if shared:
            what = f"{shared[0]!r} names a label level and an attribute"
            raise UsageError(what, fix="rename one of them")
        if isinstance(test, tuple) and len(test) == 2:
            sources, named, split = _with_test(sources[0], named, test)
            n += shape_of(sources[1])[0]
        elif test is not None:
            split = test
        levels = tuple(encode_level(k, v, n) for k, v in named.items())
        for fine, coarse in zip(levels, levels[1:], strict=False):
            parents_of(fine, coarse)
        return cls(
            sources=sources,
            name=name_of(sources[0]),
            ids=encode_ids(ids, n),
            levels=levels,
            attributes=tuple(
                encode_attribute(k, v, n) for k, v in (attributes or {}).items()
            ),
            is_test=None if split is None else encode_split(split, n),
            inputs={"features": ", ".join(name_of(source) for source in sources)},
        )

    def subset(self, rows: Int[np.ndarray, " m"]) -> "Representation":
        """Return some rows, ascending; the sources are read as before."""
        return dataclasses.replace(
            self,
            ids=self.ids[rows],
            levels=tuple(level.take(rows) for level in self.levels),
            attributes=tuple(level.take(rows) for level in self.attributes),
            is_test=None if self.is_test is None else self.is_test[rows],
            kept=self.rows[rows],
        )


def _check_unchanged(given: Mapping[str, Any]) -> None:
    for name, value in given.items():
        if value is not None:
            raise UsageError(
                f"features are a representation already, which {name} cannot change",
                fix="give it to Representation.of instead",
            )


def as_source(features: Any) -> Any:
    """Return features as a store (for a path) or as a checked array."""
    if isinstance(features, Store):
        return features
    if isinstance(features, str | Path):
        return open_store(features)
    if hasattr(features, "to_numpy") and not hasattr(features, "__array_namespace__"):
        features = features.to_numpy()  # pandas and polars frames
    return as_matrix(features)


def shape_of(source: Any) -> tuple[int, int]:
    """Return (n, d) of an array or store."""
    if isinstance(source, Store):
        return source.n, source.d
    return source.shape[0], source.shape[1]


def name_of(source: Any) -> str:
    """Return a file's name, or "features" for an array."""
    return source.name if isinstance(source, Store) else "features"


def _within(block: Array, start: int, rows: Int[np.ndarray, " m"]) -> Array:
    """Return those of the ascending `rows` that lie in a block starting at `start`."""
    low, high = np.searchsorted(rows, [start, start + block.shape[0]])
    if high - low == block.shape[0]:
        return block
    return block[rows[low:high] - start]


def _blocks_of(source: Any, rows: int) -> Iterator[Array]:
    if isinstance(source, Store):
        yield from source.blocks(rows)
    else:
        for start in range(0, source.shape[0], rows):
            yield source[start : start + rows]


def named_levels(labels: Any) -> dict[str, Any]:
    """Return label levels by name; a single array is named "label"."""
    if labels is None:
        return {}
    if isinstance(labels, str | Path):
        return dict(read_columns(Path(labels)))
    if isinstance(labels, Mapping):
        return dict(labels)
    return {"label": labels}


def _with_test(
    train: Any, named: dict[str, Any], test: Sequence[Any]
) -> tuple[tuple[Any, Any], dict[str, Any], np.ndarray]:
    """Return train and test features as one, with joint labels and the split."""
    source, test_named = as_source(test[0]), named_levels(test[1])
    if shape_of(source)[1] != shape_of(train)[1]:
        raise InputError(
            "test: features of another width",
            found=f"{shape_of(source)[1]} dimensions",
            expected=f"{shape_of(train)[1]}, as in the features",
        )
    if set(test_named) != set(named):
        raise InputError(
            "test: other label levels than the features have",
            found=", ".join(sorted(test_named)) or "none",
            expected=", ".join(sorted(named)) or "none",
        )
    n_train, n_test = shape_of(train)[0], shape_of(source)[0]
    joint = {}
    for name, values in named.items():
        first, second = as_vector(name, values), as_vector(name, test_named[name])
        check_length(f"labels {name!r}", len(first), n_train)
        check_length(f"labels {name!r} of test", len(second), n_test, "test features")
        joint[name] = np.concatenate([first, second])
    return (train, source), joint, np.arange(n_train + n_test) >= n_train


def encode_ids(ids: Any, n: int) -> Shaped[np.ndarray, " n"]:
    """Return unique ids, row numbers by default.

    Raises:
        InputError: where the length is not n or an id comes twice.
    """
    array = image_rows.encode_ids(ids, n, of="features")
    values, counts = np.unique(array, return_counts=True)
    if len(values) < n:
        most = values[counts.argmax()].item()
        raise InputError(
            f"ids: {most!r} comes {counts.max()} times",
            found=f"{len(values):,} different ids for {n:,} rows",
            expected="one of its own for each row",
        )
    return array
