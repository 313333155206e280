"""What `measure` was given, made ready: opened, detached, rows dropped."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from repscope._arrays import host, namespace
from repscope._checking import InputError
from repscope.metrics.ingredients import Ingredients, whole_rows
from repscope.representations.embedding import as_embedding
from repscope.representations.finite_rows import finite_rows, only_rows
from repscope.representations.representation import Representation
from repscope.representations.store import Store


@dataclass(frozen=True, eq=False)
class MeasuredRows:
    """Features, and what is known of the same rows.

    Args:
        representation: the rows.
        views: (n, q, d) features of q views of each image.
        other: (n, e) other features of the same rows.
        given: what features do not tell, by the name of the parameter.
        n_dropped: rows that were left out.
    """

    representation: Representation
    views: Any = None
    other: Any = None
    given: Mapping[str, Any] = field(default_factory=dict)
    n_dropped: int = 0

    def without_nonfinite(self) -> "MeasuredRows":
        """Return the rows whose features, views and other features are all finite.

        Raises:
            InputError: where no row is left, or none on one side of a split.
        """
        n = self.representation.n
        finite = finite_rows(self.representation)
        for values in (self.views, self.other):
            if _length(values) == n:
                finite &= _finite(values)
        if finite.all():
            return self
        return MeasuredRows(
            only_rows(self.representation, finite),
            _kept(self.views, finite),
            _kept(self.other, finite),
            {name: _kept(values, finite) for name, values in self.given.items()},
            int((~finite).sum()),
        )

    def ingredients(self, seed: int) -> Ingredients:
        """Return what metrics may ask for.

        Raises:
            InputError: where views or other features are of other rows, or a value is
                not finite.
        """
        base = Ingredients.of(
            self.representation,
            views=self.views,
            other=self.other,
            seed=seed,
            given=self.given,
        )
        return dataclasses.replace(base, n_dropped=self.n_dropped)


def opened(features: Any) -> Any:
    """Return the representation of an embedding or its folder; else as it is."""
    embedding = as_embedding(features)
    return detached(features) if embedding is None else embedding.titled()


def other_rows(other: Any, representation: Representation) -> Any:
    """Return other features of the same rows as an array.

    Args:
        other: array, path, store, `Representation` or `Embedding`; None stays None.
        representation: the rows.

    Raises:
        InputError: where both bring ids that differ.
    """
    found = opened(other)
    if isinstance(found, str | Path | Store):
        found = Representation.of(found)
    if not isinstance(found, Representation):
        return found
    ids, own = found.ids.astype(str), representation.ids.astype(str)
    numbers = np.arange(len(own)).astype(str)
    if not any(np.array_equal(ids, one) for one in (own, numbers)) and not (
        np.array_equal(own, numbers)
    ):
        raise InputError(
            "other: features of the same images are needed",
            found=f"{len(ids):,} rows of other ids or in another order",
            expected=f"{len(own):,}, row for row those of the features",
        )
    return whole_rows(found)


def detached(values: Any) -> Any:
    """Return a tensor without its graph; anything else as it is."""
    return values.detach() if getattr(values, "requires_grad", False) else values


def _length(values: Any) -> int | None:
    shape: tuple[int, ...] = tuple(getattr(values, "shape", ()))
    return shape[0] if shape else None


def _finite(values: Any) -> Bool[np.ndarray, " n"]:
    xp = namespace(values)
    if not xp.isdtype(values.dtype, "real floating"):
        return np.ones(values.shape[0], dtype=bool)
    finite = host(xp.isfinite(values)).reshape(values.shape[0], -1)
    return np.asarray(finite.all(axis=1))


def _kept(values: Any, finite: Bool[np.ndarray, " n"]) -> Any:
    """Return the rows that are kept of what has one entry per row."""
    if _length(values) != len(finite):
        return values
    return values[np.flatnonzero(finite)]
