"""Scores of all rows, held in as little memory as their number asks for."""

from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Float, Int

# Above this many rows scores are kept in single precision: ten columns of ten million
# rows would take 800 MB otherwise.
SINGLE_ABOVE = 2**21
# What single precision holds without losing digits.
LEAST_SINGLE, GREATEST_SINGLE = 1e-30, 1e30


class ScoreColumns(Mapping[str, Float[np.ndarray, " n"]]):
    """One column of n scores per name, filled block by block, read as float64.

    Above 2,097,152 rows a column has 24 binary digits, as long as no score leaves the
    range of single precision.

    Args:
        n: rows.
    """

    def __init__(self, n: int) -> None:
        self.n = n
        self._columns: dict[str, np.ndarray] = {}

    def put(
        self, name: str, rows: Int[np.ndarray, " b"], values: Float[np.ndarray, " b"]
    ) -> None:
        """Keep the scores of some rows.

        Args:
            name: of the score.
            rows: their numbers.
            values: one per row.
        """
        if name not in self._columns:
            kind = np.float32 if self.n > SINGLE_ABOVE else np.float64
            self._columns[name] = np.empty(self.n, dtype=kind)
        if self._columns[name].dtype == np.float32 and not _is_single(values):
            self._columns[name] = self._columns[name].astype(np.float64)
        self._columns[name][rows] = values

    def without(self, name: str) -> "ScoreColumns":
        """Return the other columns, shared with these."""
        rest = ScoreColumns(self.n)
        rest._columns = {k: v for k, v in self._columns.items() if k != name}
        return rest

    def __getitem__(self, name: str) -> Float[np.ndarray, " n"]:
        """Return a column as float64; a copy where it is kept in single precision."""
        return self._columns[name].astype(np.float64, copy=False)

    def __iter__(self) -> Iterator[str]:
        """Yield the names in the order first put."""
        return iter(self._columns)

    def __len__(self) -> int:
        """Return the number of columns."""
        return len(self._columns)


def _is_single(values: Float[np.ndarray, " b"]) -> bool:
    sizes = np.abs(values)
    least = np.min(sizes, where=sizes > 0, initial=1.0)
    return bool(least >= LEAST_SINGLE and sizes.max(initial=0.0) <= GREATEST_SINGLE)
