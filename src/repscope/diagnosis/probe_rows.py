"""The rows that probes see, in memory, with all that metrics derive from them."""

import dataclasses
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int, UInt64

from repscope._arrays import hash_ids
from repscope.metrics.ingredients import Ingredients
from repscope.metrics.labelled_ingredients import LabelledIngredients, Supply
from repscope.representations.representation import Representation

# Probes see at most this many rows, chosen by the hash of their id.
PROBE_MAXIMUM_ROWS = 20_000
# Metrics that compare rows with rows see at most this many values: 10,000 rows of 512.
PAIRWISE_MAXIMUM_ROWS, PAIRWISE_MAXIMUM_VALUES = 10_000, 5_120_000
_PROBE_SEED, _PAIRWISE_SEED = 0x9B0BE, 0x9A125


@dataclass(frozen=True, eq=False)
class ProbeRows:
    """Some rows of a representation.

    Args:
        rows: (m,) positions in the representation, ascending.
        representation: these rows in memory, with their split where there is one.
        seed: of everything drawn.
    """

    rows: Int[np.ndarray, " m"]
    representation: Representation
    seed: int

    @classmethod
    def of(
        cls,
        representation: Representation,
        rows: Int[np.ndarray, " m"],
        is_test: Bool[np.ndarray, " n"] | None,
        seed: int,
    ) -> "ProbeRows":
        """Return the rows at some positions.

        Args:
            representation: all rows.
            rows: positions, ascending.
            is_test: of all rows.
            seed: of everything drawn.
        """
        chosen = representation.subset(rows)
        features = representation.take(rows)
        return cls(
            rows,
            dataclasses.replace(
                chosen,
                sources=(features,),
                kept=None,
                is_test=None if is_test is None else is_test[rows],
            ),
            seed,
        )

    @cached_property
    def supply(self) -> Supply:
        """What metrics ask for, derived from these rows."""
        return Supply.of(Ingredients.of(self.representation, seed=self.seed))

    def of_level(self, name: str) -> LabelledIngredients:
        """Return what a label level or attribute adds."""
        known = (*self.supply.levels, *self.supply.attributes)
        return next(one for one in known if one.level.name == name)

    @property
    def features(self) -> Float[np.ndarray, "m d"]:
        """In double precision."""
        return self.supply.base.doubled

    @property
    def is_test(self) -> Bool[np.ndarray, " m"]:
        """Which of the rows test."""
        return self.supply.base.is_test

    @property
    def row_hashes(self) -> UInt64[np.ndarray, " m"]:
        """Equal for equal rows."""
        return self.supply.base.row_hashes


def probe_rows(
    representation: Representation,
    is_test: Bool[np.ndarray, " n"] | None,
    *,
    seed: int,
) -> ProbeRows:
    """Return the rows that probes see: all, or 20,000 by the hash of their id."""
    rows = _chosen(representation, PROBE_MAXIMUM_ROWS, _PROBE_SEED)
    return ProbeRows.of(representation, rows, is_test, seed)


def pairwise_rows(probed: ProbeRows) -> ProbeRows:
    """Return those of the rows that are compared with one another."""
    given = probed.representation
    most = min(PAIRWISE_MAXIMUM_ROWS, max(2, PAIRWISE_MAXIMUM_VALUES // given.d))
    if given.n <= most:
        return probed
    rows = _chosen(given, most, _PAIRWISE_SEED)
    part = ProbeRows.of(given, rows, given.is_test, probed.seed)
    return dataclasses.replace(part, rows=probed.rows[rows])


def _chosen(
    representation: Representation, most: int, seed: int
) -> Int[np.ndarray, " m"]:
    if representation.n <= most:
        return np.arange(representation.n)
    order = np.argsort(hash_ids(representation.ids, seed), kind="stable")
    return np.sort(order[:most])
