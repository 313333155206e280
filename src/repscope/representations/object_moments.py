"""What views of objects add up to: each object's mean, and the scatter around it.

An object is an image, seen in several augmented views. The states of batches, shards
and ranks merge exactly, also where the views of one object came apart.
"""

from collections.abc import Mapping

import array_api_compat
import numpy as np
from jaxtyping import Float, Int, Shaped

from repscope._arrays import (
    Array,
    as_double,
    as_matrix,
    hash_ids,
    host,
    is_on_device,
    namespace,
)
from repscope._checking import InputError, UsageError
from repscope._numerics import BLOCK_BYTES, symmetric_product
from repscope.representations.moments import Moments
from repscope.representations.object_ids import (
    GroupedRows,
    ObjectId,
    ObjectIds,
    checked_ids,
    checked_object_views,
    mixed_ids,
)
from repscope.representations.summed_state import (
    archive_of,
    arrays_of,
    check_width,
    rows_at_once,
)

# Blocks of objects that an interval is computed from, up to a width at which as many
# scatter matrices are cheap to hold.
BLOCKS, BLOCKS_MAXIMUM_D = 10, 1024
# Sums of squares of greater numbers overflow.
GREATEST_VALUE = 1e140
_BLOCK_SEED = 0x0B10C
# What a saved state consists of.
_SAVED = ("counts", "means", "within", "blocks", "ids")


class ObjectMoments:
    """Views and mean of each object, and the scatter of views around it; mergeable.

    For object x with views e_1 .. e_q,

        mean_x = 1/q sum_k e_k,  within = sum_x sum_k (e_k - mean_x)(e_k - mean_x)^T

    in float64. Two parts of one object are merged by

        delta = mean_b - mean_a,  mean = mean_a + delta q_b / (q_a + q_b)
        within += delta delta^T q_a q_b / (q_a + q_b)

    so that any order, batches and shards agree to 1e-10. The scatter is held once per
    block of objects, a hash of their ids, so that a block can be left out. Memory:
    n d numbers for n objects (twice that while growing), and n_blocks d^2.

    Args:
        d: feature dimensions.
        n_blocks: blocks of objects; by default 10 up to 1,024 dimensions, else 1.

    Source: Chan, Golub, LeVeque 1983, Eqs. 1.4-1.5, once per object. As in the source.

    Example:
        >>> views = np.array([[[0.0], [2.0]], [[4.0], [6.0]]])
        >>> objects = ObjectMoments(1).update_views(views)
        >>> objects.means.tolist(), objects.within().tolist()
        ([[1.0], [5.0]], [[4.0]])
    """

    def __init__(self, d: int, *, n_blocks: int | None = None) -> None:
        if n_blocks is None:
            n_blocks = BLOCKS if d <= BLOCKS_MAXIMUM_D else 1
        if d < 1 or n_blocks < 1:
            raise UsageError(
                "object moments: a width and blocks are needed",
                found=f"d = {d}, n_blocks = {n_blocks}",
                expected="at least 1 of each",
            )
        self.n = 0
        self._rows: dict[ObjectId, int] = {}
        self._counts = np.zeros(0, dtype=np.int64)
        self._blocks = np.zeros(0, dtype=np.int64)
        self._means = np.zeros((0, d))
        self._within = np.zeros((n_blocks, d, d))

    @classmethod
    def of_views(
        cls,
        views: Array,
        object_ids: ObjectIds | None = None,
        *,
        n_blocks: int | None = None,
    ) -> "ObjectMoments":
        """Return the state of views (n objects, q views, d features).

        Raises:
            UsageError: for a flat matrix, which does not say what belongs together.
            InputError: as `update_views`.
        """
        d = checked_object_views(views).shape[2]
        return cls(d, n_blocks=n_blocks).update_views(views, object_ids)

    @property
    def d(self) -> int:
        """Feature dimensions."""
        return self._within.shape[1]

    @property
    def n_blocks(self) -> int:
        """Blocks that objects are dealt into."""
        return len(self._within)

    @property
    def n_views(self) -> int:
        """Views of all objects together."""
        return int(self.counts.sum())

    @property
    def ids(self) -> tuple[ObjectId, ...] | None:
        """Ids in the order first seen; None where objects came without ids."""
        return tuple(self._rows) if self._rows or not self.n else None

    @property
    def counts(self) -> Int[np.ndarray, " n"]:
        """Views of each object, in the order of `ids`."""
        return self._counts[: self.n]

    @property
    def blocks(self) -> Int[np.ndarray, " n"]:
        """The block of each object, in the order of `ids`."""
        return self._blocks[: self.n]

    @property
    def means(self) -> Float[np.ndarray, "n d"]:
        """The mean view of each object, in the order of `ids`."""
        return self._means[: self.n]

    def within(self) -> Float[np.ndarray, "d d"]:
        """Return the scatter of all views around the mean of their object."""
        total: np.ndarray = self._within.sum(axis=0)
        return total

    def between(self) -> Float[np.ndarray, "d d"]:
        """Return the scatter of object means around their mean, each object once."""
        shifted = self.means - self.means[:1]
        return symmetric_product(shifted - shifted.mean(axis=0))

    def moments(self) -> Moments:
        """Return the moments of all views, whatever object they are of."""
        whole = Moments(self.d)
        if self.n == 0:
            return whole
        # Less the first mean, constant features are zero, not the rounding of a mean.
        shifted = self.means - self.means[0]
        mean = self.counts @ shifted / self.n_views
        centred = (shifted - mean) * np.sqrt(self.counts)[:, None]
        whole.n, whole.mean = self.n_views, self.means[0] + mean
        whole.scatter = self.within() + symmetric_product(centred)
        return whole

    def update(
        self,
        features: Shaped[Array, "n d"],
        object_ids: ObjectIds,
    ) -> "ObjectMoments":
        """Add rows, each a view of the object that its id names.

        Args:
            features: (n, d), NumPy or torch, finite, any real dtype; no rows change
                nothing.
            object_ids: (n,) integers or strings; an object's rows may come in any order
                and in several batches.

        Raises:
            InputError: for another width, values that are not finite or beyond 1e140,
                or ids of another number or kind.
            UsageError: where objects without ids were added before.
        """
        if getattr(features, "shape", None) == (0, self.d):
            return self
        matrix = self._checked(as_matrix(features))
        groups = GroupedRows.of(checked_ids(object_ids, matrix.shape[0]))
        objects = self._rows_of(groups.objects)
        # Objects of as many rows are views of one shape, whatever their order was.
        for q in np.unique(groups.counts).tolist():
            chosen = np.flatnonzero(groups.counts == q)
            self._add_views(matrix, groups.rows_of(chosen, q), objects[chosen])
        return self

    def update_views(
        self,
        views: Array,
        object_ids: ObjectIds | None = None,
    ) -> "ObjectMoments":
        """Add q views of each of n objects; the product runs where the views live.

        Args:
            views: (n, q, d): views[i, k] is view k of object i.
            object_ids: (n,) integers or strings. Without them each of the n is taken
                for a new object whose views are complete.

        Raises:
            UsageError: for a flat matrix, or where objects with and without ids meet.
            InputError: as `update`.
        """
        shape = tuple(getattr(views, "shape", ()))
        if len(shape) == 3 and shape[0] == 0 and shape[2] == self.d:
            return self
        checked = checked_object_views(views)
        n, q, d = checked.shape
        matrix = self._checked(namespace(checked).reshape(checked, (n * q, d)))
        if object_ids is not None:
            ids = checked_ids(object_ids, n)
            if len(np.unique(ids)) < n:
                return self.update(matrix, np.repeat(ids, q))
        objects = self._new_rows(n) if object_ids is None else self._rows_of(ids)
        self._add_views(matrix, np.arange(n * q).reshape(n, q), objects)
        return self

    def merge(self, other: "ObjectMoments") -> "ObjectMoments":
        """Add the views that another state has seen; equal ids are one object.

        Raises:
            InputError: where the other state has another width.
            UsageError: for other blocks, or objects with ids and without.
        """
        check_width(other.d, self.d, "states of different widths cannot be merged")
        if other.n_blocks != self.n_blocks:
            raise UsageError(
                "object moments: states of different blocks cannot be merged",
                found=f"n_blocks = {other.n_blocks}",
                expected=f"{self.n_blocks}",
            )
        if other.n == 0:
            return self
        if other.ids is None:
            rows = self._new_rows(other.n)
            self._blocks[rows] = other.blocks
        else:
            rows = self._rows_of(np.array(other.ids))
        self._within += other._within
        self._add(rows, other.counts, other.means)
        return self

    def without_block(self, block: int) -> "ObjectMoments":
        """Return a new state without the objects of one block."""
        kept = np.flatnonzero(self.blocks != block)
        rest = ObjectMoments(self.d, n_blocks=self.n_blocks)
        rest.n = len(kept)
        rest._counts, rest._blocks = self.counts[kept], self.blocks[kept]
        rest._means = self.means[kept]
        rest._within = self._within.copy()
        rest._within[block] = 0
        ids = self.ids
        if ids is not None:
            rest._rows = {ids[row]: new for new, row in enumerate(kept.tolist())}
        return rest

    def _checked(self, matrix: Array) -> Array:
        """Return the features themselves; raise where they cannot be added."""
        check_width(matrix.shape[1], self.d, "a batch of another width")
        xp = namespace(matrix)
        greatest = max(float(xp.max(matrix)), -float(xp.min(matrix)))
        if not np.isfinite(greatest):
            raise InputError("object moments: some features are NaN or infinite")
        if greatest > GREATEST_VALUE:
            raise InputError(
                "object moments: features too large to square",
                found=f"{greatest:.3g}",
                expected=f"at most {GREATEST_VALUE:.0e}",
                fix="divide all features by a common factor",
            )
        return matrix

    def _rows_of(self, objects: Shaped[np.ndarray, " m"]) -> Int[np.ndarray, " m"]:
        """Return the row of each object; new objects get the next rows."""
        if self.n and not self._rows:
            raise mixed_ids()
        names = objects.tolist()
        if self._rows and isinstance(next(iter(self._rows)), str) != isinstance(
            names[0], str
        ):
            raise InputError(
                "object ids: integers and strings",
                expected="ids of one kind in all batches",
            )
        known = len(self._rows)
        rows = [self._rows.setdefault(name, len(self._rows)) for name in names]
        if len(self._rows) > known:
            new = [name for name, row in zip(names, rows, strict=True) if row >= known]
            blocks = hash_ids(np.array(new), _BLOCK_SEED) % np.uint64(self.n_blocks)
            self._grow(blocks.astype(np.int64))
        return np.array(rows, dtype=np.int64)

    def _new_rows(self, count: int) -> Int[np.ndarray, " m"]:
        if self._rows:
            raise mixed_ids()
        rows = np.arange(self.n, self.n + count)
        self._grow(rows % self.n_blocks)
        return rows

    def _grow(self, blocks: Int[np.ndarray, " m"]) -> None:
        needed = self.n + len(blocks)
        if needed > len(self._counts):
            more = max(needed, 2 * len(self._counts)) - self.n
            self._counts = np.append(self.counts, np.zeros(more, dtype=np.int64))
            self._blocks = np.append(self.blocks, np.zeros(more, dtype=np.int64))
            means = np.zeros((self.n + more, self.d))
            means[: self.n] = self.means
            self._means = means
        self._blocks[self.n : needed] = blocks
        self.n = needed

    def _add_views(
        self,
        matrix: Array,
        index: Int[np.ndarray, "m q"],
        objects: Int[np.ndarray, " m"],
    ) -> None:
        """Add rows of a matrix: row index[i, k] is a view of object i.

        Block by block, in pieces that pass through the cache at once.
        """
        q = index.shape[1]
        on_device = is_on_device(matrix)
        at_once = BLOCK_BYTES // (8 * self.d) if on_device else rows_at_once(self.d)
        step = max(1, at_once // q)
        blocks = self._blocks[objects]
        for block in np.unique(blocks).tolist():
            members = np.flatnonzero(blocks == block)
            for start in range(0, len(members), step):
                piece = members[start : start + step]
                views = _taken(matrix, index[piece])
                self._add_piece(block, objects[piece], views)

    def _add_piece(
        self, block: int, objects: Int[np.ndarray, " m"], views: Float[Array, "m q d"]
    ) -> None:
        """Add views of some objects of one block."""
        xp = namespace(views)
        m, q, d = views.shape
        # Less the first view, equal views differ by zero, not the rounding of a mean.
        first = views[:, :1, :]
        centred = views - first
        mean = xp.mean(centred, axis=1, keepdims=True)
        centred -= mean
        product = symmetric_product(xp.reshape(centred, (m * q, d)))
        self._within[block] += host(product)
        self._add(objects, np.full(m, q), host(xp.reshape(first + mean, (m, d))))

    def _add(
        self,
        rows: Int[np.ndarray, " m"],
        counts: Int[np.ndarray, " m"],
        means: Float[np.ndarray, "m d"],
    ) -> None:
        """Add parts of objects whose scatter is added already."""
        before = self._counts[rows]
        total = before + counts
        delta = means - self._means[rows]
        met = before > 0
        if met.any():
            weight = np.sqrt(before[met] * (counts[met] / total[met]))
            apart, blocks = delta[met] * weight[:, None], self._blocks[rows][met]
            for block in np.unique(blocks).tolist():
                self._within[block] += symmetric_product(apart[blocks == block])
        self._means[rows] += delta * (counts / total)[:, None]
        self._counts[rows] = total

    def to_bytes(self) -> bytes:
        """Return the state as the bytes of an npz archive of plain arrays."""
        ids = np.array(list(self._rows)) if self._rows else np.zeros(0, np.int64)
        return archive_of(
            {
                "counts": self.counts,
                "means": self.means,
                "within": self._within,
                "blocks": self.blocks,
                "ids": ids,
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "ObjectMoments":
        """Return the state that `to_bytes` wrote.

        Raises:
            InputError: where the bytes hold no such state.
        """
        arrays = arrays_of(data, _SAVED, "object moments")
        problem = _misfit(arrays)
        if problem:
            raise InputError(f"no saved object moments: {problem}")
        n_blocks, d, _ = arrays["within"].shape
        state = cls(d, n_blocks=n_blocks)
        state.n = len(arrays["counts"])
        state._rows = {one: row for row, one in enumerate(arrays["ids"].tolist())}
        state._counts = arrays["counts"].astype(np.int64)
        state._blocks = arrays["blocks"].astype(np.int64)
        state._means = arrays["means"].astype(float)
        state._within = arrays["within"].astype(float)
        return state


def _taken(
    matrix: Shaped[Array, "n d"], index: Int[np.ndarray, "m q"]
) -> Float[Array, "m q d"]:
    """Return some rows of a matrix as float64, on its own device."""
    xp = namespace(matrix)
    rows = xp.asarray(index.ravel(), device=array_api_compat.device(matrix))
    taken = as_double(xp.take(matrix, rows, axis=0))
    return xp.reshape(taken, (*index.shape, matrix.shape[1]))


def _misfit(arrays: Mapping[str, np.ndarray]) -> str:
    """Return what is wrong with saved arrays; empty where nothing is."""
    counts, means, within = arrays["counts"], arrays["means"], arrays["within"]
    blocks, ids = arrays["blocks"], arrays["ids"]
    if within.ndim != 3 or means.ndim != 2 or 0 in within.shape:
        return "arrays of other dimensions"
    n, d = means.shape
    square = within.shape[1:] == (d, d)
    if not square or counts.shape != (n,) or blocks.shape != (n,):
        return "arrays that do not fit together"
    if ids.ndim != 1 or len(ids) not in (0, n) or len(np.unique(ids)) < len(ids):
        return "not one id for each object"
    kinds = {counts.dtype.kind, blocks.dtype.kind}
    if kinds != {"i"} or {means.dtype.kind, within.dtype.kind} != {"f"}:
        return "numbers of another type"
    if ids.dtype.kind not in "iU":
        return "ids that are neither integers nor strings"
    outside = (counts < 1) | (blocks < 0) | (blocks >= len(within))
    finite = np.isfinite(means).all() and np.isfinite(within).all()
    negative = np.einsum("bkk->bk", within) < 0
    return "impossible numbers" if outside.any() or negative.any() or not finite else ""
