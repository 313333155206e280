"""Which rows could be among the k nearest? One pass over a bank, tile by tile.

Scores are products in single precision with a bound of their rounding. What the bound
cannot rule out is a candidate, so that no neighbour is lost; a query with too many of
them, such as one among many equal rows, is compared again in double precision.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import array_api_compat
import numpy as np
from jaxtyping import Bool, Float, Int

from repscope._arrays import Array, host, is_on_device, namespace
from repscope._numerics import row_blocks
from repscope.metrics.nearest_points import (
    UNDERFLOW,
    Frame,
    Queries,
    Rows,
    Side,
    side_of,
    take_rows,
)
from repscope.metrics.worker_threads import Workers

# Rows of the bank in a tile and queries in a block, unless memory allows fewer.
TILE_ROWS, BLOCK_ROWS = 4096, 1024
# The greatest of a row are sought among the maxima of this many parts for each.
PARTS = 4
# A query with more candidates than this is compared in double precision.
MOST_PER_NEIGHBOUR, MOST_AT_LEAST = 2, 64
# Scores in double precision that agree in this many bits are ties.
GRID_BITS = 44

Pairs = Int[np.ndarray, "p 2"]


@dataclass(frozen=True, eq=False)
class Search:
    """A bank, queries and what they are compared by.

    Args:
        bank: (n, d).
        queries: (m, d).
        frame: of both.
        k: neighbours wanted of each query.
        excluded: pairs (query, row) that do not count, ascending.
        workers: threads that share the queries.
    """

    bank: Rows
    queries: Queries
    frame: Frame
    k: int
    excluded: Pairs
    workers: Workers

    def candidates(
        self, numbers: Int[np.ndarray, " q"]
    ) -> tuple[Pairs, Int[np.ndarray, " u"]]:
        """Return pairs (query, row) that may be neighbours, and queries undecided.

        Args:
            numbers: of the queries, ascending.
        """
        if is_on_device(self.bank) and not _has_full_products():
            return np.zeros((0, 2), dtype=np.int64), numbers
        # A sum of d products errs by sqrt(d) units in the last place, the factors
        # themselves by a few.
        slack = (4 + self.bank.shape[1] ** 0.5) * float(np.finfo(np.float32).eps)
        found = self._sweep(numbers, "float32", slack, Candidates)
        pairs = np.concatenate([one.pairs() for one in found])
        undecided = np.concatenate([one.crowded for one in found])
        pairs[:, 0] = numbers[pairs[:, 0]]
        return pairs, numbers[undecided]

    def greatest(self, numbers: Int[np.ndarray, " q"]) -> Pairs:
        """Return the k pairs (query, row) of greatest score of each query.

        Args:
            numbers: of the queries, ascending.
        """
        found = self._sweep(numbers, "float64", 0.0, Ranked)
        pairs = np.concatenate([one.pairs() for one in found])
        pairs[:, 0] = numbers[pairs[:, 0]]
        return pairs

    def _sweep(
        self,
        numbers: Int[np.ndarray, " q"],
        precision: str,
        slack: float,
        kind: Callable[[Side, int, Pairs, float], "Kind"],
    ) -> Sequence["Kind"]:
        """Show every tile of the bank to every block of queries."""
        n, d = self.bank.shape
        first, last = int(numbers[0]), int(numbers[-1])
        rows = self.queries[first : last + 1, :]
        if len(numbers) < rows.shape[0]:
            rows = take_rows(rows, numbers - first)
        excluded = self._excluded_of(numbers)
        blocks: list[tuple[Side, Kind]] = []
        per_block = TILE_ROWS * max(TILE_ROWS // BLOCK_ROWS, self.workers.count)
        for block in row_blocks(len(numbers), max(per_block, 16 * d)):
            side = side_of(rows, block, self.frame, precision, None)
            among = np.searchsorted(excluded[:, 0], (block.start, block.stop))
            blocks.append((side, kind(side, self.k, excluded[slice(*among)], slack)))
        for block in row_blocks(n, max(TILE_ROWS, 4 * d)):
            tile = side_of(self.bank, block, self.frame, precision, slack)
            self.workers.each(functools.partial(_show, tile), blocks)
        return [seen for _, seen in blocks]

    def _excluded_of(self, numbers: Int[np.ndarray, " q"]) -> Pairs:
        """Return excluded pairs, with places among these queries as their first."""
        place = np.searchsorted(numbers, self.excluded[:, 0])
        known = place < len(numbers)
        known[known] = numbers[place[known]] == self.excluded[known, 0]
        return np.stack([place[known], self.excluded[known, 1]], axis=1)


def _has_full_products() -> bool:
    """Return whether torch multiplies float32 as float32, not in a shorter type."""
    import torch

    return bool(torch.get_float32_matmul_precision() == "highest")


def _show(tile: Side, one: tuple[Side, "Candidates | Ranked"]) -> None:
    side, seen = one
    seen.see(side.columns @ tile.columns.T, tile)


class Candidates:
    """The rows that may be among the k nearest, by scores with a bound.

    Args:
        side: the queries.
        k: neighbours wanted.
        excluded: pairs (number of the query, row) that do not count, ascending.
        slack: of the scores.

    Attributes:
        crowded: queries with too many candidates to measure each of them.
    """

    def __init__(self, side: Side, k: int, excluded: Pairs, slack: float) -> None:
        q = len(side.sizes)
        self.k, self.slack, self.sizes = k, slack, side.sizes
        self.crowded: Bool[np.ndarray, " q"] = np.zeros(q, dtype=bool)
        self.most = max(MOST_PER_NEIGHBOUR * k, MOST_AT_LEAST)
        # An upper score below this is no candidate's.
        self.floor = np.full(q, -np.inf, dtype=np.float32)
        self._spare = (
            int(np.bincount(excluded[:, 0] - side.start).max()) if len(excluded) else 0
        )
        self._excluded = _codes(excluded - [side.start, 0])
        self._start = side.start
        self._kept: list[tuple[np.ndarray, ...]] = []
        self._new = 0

    def see(self, scores: Float[Array, "q w"], tile: Side) -> None:
        """Take in the scores with the rows of one tile."""
        if np.isneginf(self.floor).any():
            self._raise_floor(scores, tile)
        flat = self._above_floor(scores)
        if len(flat) > PARTS * len(self.floor) * (self.k + self._spare):
            flat = self._thinned(scores, tile)
        xp = namespace(scores)
        upper = host(xp.take(xp.reshape(scores, (-1,)), flat)).astype(np.float64)
        place, column = np.divmod(host(flat), scores.shape[1])
        if len(self._excluded):
            codes = _codes(np.stack([place, column + tile.start], axis=1))
            counts = ~np.isin(codes, self._excluded)
            place, column, upper = place[counts], column[counts], upper[counts]
        size, extent = tile.sizes[column], tile.extents[column]
        window = 2 * self.slack * (size * self.sizes[place] + extent) + 2 * UNDERFLOW
        self._kept.append((place, column + tile.start, upper, upper - window))
        self._new += len(place)
        if self._new > self.k * len(self.floor):
            self._settle()

    def _above_floor(self, scores: Float[Array, "q w"]) -> Int[Array, " p"]:
        """Return the places of scores above the floor, in the scores laid flat."""
        xp = namespace(scores)
        floor = xp.asarray(self.floor, device=array_api_compat.device(scores))
        flat: Array = xp.nonzero(xp.reshape(scores >= floor[:, None], (-1,)))[0]
        return flat

    def _thinned(self, scores: Float[Array, "q w"], tile: Side) -> Int[Array, " p"]:
        """Return places above the floor, without queries that have too many."""
        self._raise_floor(scores, tile)
        flat = self._above_floor(scores)
        counts = np.bincount(host(flat) // scores.shape[1], minlength=len(self.floor))
        self._give_up(counts > self.most + self._spare)
        return self._above_floor(scores)

    def _give_up(self, crowded: Bool[np.ndarray, " q"]) -> None:
        self.crowded |= crowded
        self.floor[self.crowded] = np.inf

    def _raise_floor(self, scores: Float[Array, "q w"], tile: Side) -> None:
        """Bound the k-th best score from below by maxima of parts of the tile."""
        q, w = scores.shape
        wanted = self.k + self._spare
        parts = min(w, PARTS * wanted)
        if parts < wanted:
            return
        xp, width = namespace(scores), w // parts
        cut = xp.reshape(scores[:, : parts * width], (q, parts, width))
        least = host(xp.sort(xp.max(cut, axis=2), axis=1)[:, parts - wanted])
        widest = tile.sizes.max() * self.sizes + tile.extents.max()
        lower = (least - 2 * self.slack * widest - 2 * UNDERFLOW).astype(np.float32)
        self.floor = np.maximum(self.floor, lower)

    def _settle(self) -> None:
        """Drop what the k-th best lower score rules out."""
        place, row, upper, lower = (
            np.concatenate(parts) for parts in zip(*self._kept, strict=True)
        )
        order = np.argsort(_keys(place, -lower))
        place, row = place[order], row[order]
        upper, lower = upper[order], lower[order]
        counts = np.bincount(place, minlength=len(self.floor))
        enough = np.flatnonzero(counts >= self.k)
        kth = (np.cumsum(counts) - counts)[enough] + self.k - 1
        self.floor[enough] = np.maximum(self.floor[enough], lower[kth])
        stays = upper >= self.floor[place]
        counts = np.bincount(place[stays], minlength=len(self.floor))
        self._give_up(counts > self.most)
        stays &= ~self.crowded[place]
        self._kept = [(place[stays], row[stays], upper[stays], lower[stays])]
        self._new = 0

    def pairs(self) -> Pairs:
        """Return the pairs (number of the query, row) kept."""
        self._settle()
        place, row, _, _ = self._kept[0]
        return np.stack([place + self._start, row], axis=1)


def _keys(
    place: Int[np.ndarray, " p"], values: Float[np.ndarray, " p"]
) -> Int[np.ndarray, " p"]:
    """Return integers in the order of the place first and the value second.

    The bits of a float32 are in its order, but for those of negative numbers, which are
    in the reverse order. One sort by integers takes a quarter of a sort by two keys.
    """
    bits = values.astype(np.float32).view(np.int32).astype(np.int64)
    return (place << 33) + np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def _codes(pairs: Pairs) -> Int[np.ndarray, " p"]:
    return (pairs[:, 0] << 40) | pairs[:, 1]


class Ranked:
    """The k rows of greatest score, by scores rounded to a grid; ties: the first rows.

    Args:
        side: the queries.
        k: rows wanted.
        excluded: pairs (number of the query, row) that do not count, ascending.
        slack: none.
    """

    def __init__(self, side: Side, k: int, excluded: Pairs, slack: float) -> None:
        q = len(side.sizes)
        self.k, self._start = k, side.start
        self._excluded = excluded - [side.start, 0]
        # Scores of near rows are about |u|^2 / 2; zero where that is.
        _, exponent = np.frexp(side.extents)
        grid = np.ldexp(1.0, exponent - GRID_BITS)
        self._grid = np.where(side.extents > 0, grid, 2.0**-1000)[:, None]
        self.scores = np.full((q, k), -np.inf)
        self.rows: Int[np.ndarray, "q k"] = np.zeros((q, k), dtype=np.int64)

    def see(self, scores: Float[Array, "q w"], tile: Side) -> None:
        """Take in the scores with the rows of one tile."""
        new = host(scores)
        place, row = self._excluded[:, 0], self._excluded[:, 1] - tile.start
        here = (row >= 0) & (row < new.shape[1])
        new[place[here], row[here]] = -np.inf
        for block in row_blocks(len(new), 16 * new.shape[1]):
            rounded = np.rint(new[block] / self._grid[block]) * self._grid[block]
            least = self.scores[block].min(axis=1, keepdims=True)
            better = np.flatnonzero((rounded > least).any(axis=1))
            if len(better):
                self._rank(block.start + better, rounded[better], tile.start)

    def _rank(
        self, which: Int[np.ndarray, " b"], new: Float[np.ndarray, "b w"], start: int
    ) -> None:
        """Keep the k greatest of those kept, which came before, and the new."""
        numbers = np.broadcast_to(start + np.arange(new.shape[1]), new.shape)
        rows = np.concatenate([self.rows[which], numbers], axis=1)
        scores = np.concatenate([self.scores[which], new], axis=1)
        kth = np.partition(scores, -self.k, axis=1)[:, -self.k, None]
        level = scores == kth
        missing = self.k - (scores > kth).sum(axis=1, keepdims=True)
        kept = (scores > kth) | (level & (np.cumsum(level, axis=1) <= missing))
        self.scores[which] = scores[kept].reshape(len(which), self.k)
        self.rows[which] = rows[kept].reshape(len(which), self.k)

    def pairs(self) -> Pairs:
        """Return the pairs (number of the query, row) kept."""
        place, rank = np.nonzero(~np.isneginf(self.scores))
        return np.stack([place + self._start, self.rows[place, rank]], axis=1)


Kind = TypeVar("Kind", Candidates, Ranked)
