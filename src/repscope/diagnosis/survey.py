"""One pass over the features: everything that adds up, and everything one row tells.

The pass holds one block of rows at a time; a second one follows for what needs the sums
of the first. What it leaves - moments, class moments,
scores per row, hashes of rows - is all that the label-free measurements need.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import threadpoolctl
from jaxtyping import Float, Int, UInt64

from repscope._arrays import (
    Array,
    as_double,
    hash_rows,
    host,
    namespace,
)
from repscope._checking import InputError
from repscope._environment import usable_cores
from repscope.diagnosis.score_columns import ScoreColumns
from repscope.metrics.intervals import block_of_rows, n_blocks
from repscope.metrics.samples import sample_scores
from repscope.metrics.sharing import argmax_shares, takes_both_signs
from repscope.metrics.sparsity import default_eta, soft_sparsity
from repscope.representations.class_moments import ClassMoments
from repscope.representations.finite_rows import without_nonfinite
from repscope.representations.moments import Moments
from repscope.representations.representation import Level, Representation

Prepared = TypeVar("Prepared")

# A d x d scatter of this width takes 2 GB; wider features must be pooled first.
MAXIMUM_D = 16_384
# Values of a part of a block that fits into a processor's cache (2 MB in float64).
CACHE_VALUES = 2**18
# Class moments are kept per jackknife block up to this many numbers in all.
CLASS_BLOCK_VALUES = 2**25


@dataclass(frozen=True, eq=False)
class GroupSums:
    """Class moments of one level, whole and per jackknife block."""

    level: Level
    whole: ClassMoments
    blocks: tuple[ClassMoments, ...]


@dataclass(frozen=True, eq=False)
class Survey:
    """What one pass over a representation leaves.

    Args:
        representation: what was surveyed, non-finite rows already dropped.
        n_dropped: rows dropped because of NaN or infinity.
        moments: of all rows.
        blocks: moments of each jackknife block; empty where none are kept.
        block_sizes: rows of each block.
        groups: level or attribute name -> class moments.
        scores: per-row scores by name; of single precision above 2,097,152 rows.
        argmax: (d,) how often each feature is the greatest of its row, ties shared;
            of standardised features where some are negative.
        column_l1: (d,) mean over rows of |feature|, standardised where some are
            negative.
        row_hashes: (n,) equal for equal rows.
        is_negative: whether features take both signs, beyond rounding.
    """

    representation: Representation
    n_dropped: int
    moments: Moments
    blocks: tuple[Moments, ...]
    block_sizes: Int[np.ndarray, " k"]
    groups: Mapping[str, GroupSums]
    scores: Mapping[str, Float[np.ndarray, " n"]]
    argmax: Float[np.ndarray, " d"]
    column_l1: Float[np.ndarray, " d"]
    row_hashes: UInt64[np.ndarray, " n"]
    is_negative: bool

    @property
    def deviations(self) -> Float[np.ndarray, " d"]:
        """Standard deviation of each feature, ddof 0."""
        return np.sqrt(np.maximum(np.diag(self.moments.scatter), 0) / self.moments.n)


def _in_cache(block: Array) -> Iterator[slice]:
    """Yield parts of a block whose temporaries stay in the processor's cache."""
    rows = max(CACHE_VALUES // block.shape[1], 1)
    for start in range(0, block.shape[0], rows):
        yield slice(start, start + rows)


def _over_blocks(
    representation: Representation,
    prepare: Callable[[int, Array], Prepared],
    tasks: Sequence[Callable[[Prepared], None]],
) -> None:
    """Give every block to every task, in order, while the next block is prepared.

    The tasks of a block run beside one another and must not share what they change. One
    core is left out of the products, so that threads do not wait for one another.
    """
    blas_threads = max(usable_cores() - 1, 1)
    with (
        threadpoolctl.threadpool_limits(blas_threads, user_api="blas"),
        ThreadPoolExecutor(len(tasks)) as pool,
    ):
        running: list[Future[None]] = []
        for start, stored in representation.blocks():
            prepared = prepare(start, stored)
            for task in running:
                task.result()
            running = [pool.submit(task, prepared) for task in tasks]
        for task in running:
            task.result()


@dataclass(frozen=True, eq=False)
class _Rows:
    """A block of rows in float64, those of one jackknife block beside each other.

    Args:
        rows: their numbers.
        values: the features.
        block_of: the jackknife block of each, ascending.
    """

    rows: Int[np.ndarray, " b"]
    values: Array
    block_of: Int[np.ndarray, " b"]


class _Pass:
    """The state of the pass, changed by each block."""

    def __init__(self, representation: Representation) -> None:
        self.representation = representation
        self.levels = (*representation.levels, *representation.attributes)
        n, d = representation.n, representation.d
        self.n_blocks = max(n_blocks(n, d), 1)
        block_of = block_of_rows(representation.ids, self.n_blocks)
        self.block_of = block_of.astype(np.int16)
        self.moments = [Moments(d) for _ in range(self.n_blocks)]
        n_values = sum(level.n_classes for level in self.levels) * d * self.n_blocks
        self.group_blocks = self.n_blocks if n_values <= CLASS_BLOCK_VALUES else 1
        self.groups = {
            level.name: [
                ClassMoments(level.n_classes, d) for _ in range(self.group_blocks)
            ]
            for level in self.levels
        }
        self.argmax = np.zeros(d)
        self.magnitude = 0.0
        self.scores = ScoreColumns(n)
        self.hashes = np.zeros(n, dtype=np.uint64)
        self.is_negative = False

    def run(self) -> None:
        """Take in all blocks of rows."""
        tasks = (self._score, self._add, self._hash)
        _over_blocks(self.representation, self._prepared, tasks)

    def _prepared(self, start: int, stored: Array) -> _Rows:
        own = self.block_of[start : start + stored.shape[0]]
        if self.n_blocks == 1:
            return _Rows(start + np.arange(len(own)), as_double(stored), own)
        # Moved as stored, which is a quarter of float64 for float16.
        order = np.argsort(own, kind="stable")
        return _Rows(start + order, as_double(stored[order]), own[order])

    def _score(self, block: _Rows) -> None:
        """Take in what rows tell by themselves."""
        if not self.is_negative:
            self.is_negative = bool(namespace(block.values).any(block.values < 0))
        if block.values.shape[1] == 1:  # a single feature has none to stand out from
            return
        for name, score in sample_scores(block.values).items():
            values = host(score)
            self.scores.put(name, block.rows, values)
            if name == "l1_norm":
                self.magnitude += float(values.sum())
        if not self.is_negative:
            self.argmax += host(argmax_shares(block.values))

    def _hash(self, block: _Rows) -> None:
        values = host(block.values)
        for part in _in_cache(block.values):
            self.hashes[block.rows[part]] = hash_rows(values[part])

    def _add(self, block: _Rows) -> None:
        """Take in what rows add up to."""
        present = np.unique(block.block_of)
        ends = np.searchsorted(block.block_of, present, side="right")
        for number, first, end in zip(present, [0, *ends], ends, strict=False):
            values = block.values[first:end]
            self.moments[number].update(values)
            for level in self.levels:
                group = self.groups[level.name][number % self.group_blocks]
                group.update(values, level.codes[block.rows[first:end]])

    def finished(self, n_dropped: int) -> Survey:
        """Merge the parts into a survey."""
        whole = Moments(self.representation.d)
        for part in self.moments:
            whole.merge(part)
        keeps_blocks = self.n_blocks > 1
        total = whole.n * float(whole.mean.sum())
        is_negative = self.is_negative and (
            whole.d == 1 or takes_both_signs(self.magnitude, total)
        )
        second = _SecondPass(self, whole, is_negative)
        return Survey(
            representation=self.representation,
            n_dropped=n_dropped,
            moments=whole,
            blocks=tuple(self.moments) if keeps_blocks else (),
            block_sizes=np.array([part.n for part in self.moments]),
            groups={level.name: self._group(level) for level in self.levels},
            scores=second.scores,
            argmax=second.argmax,
            column_l1=second.column_l1,
            row_hashes=self.hashes,
            is_negative=is_negative,
        )

    def _group(self, level: Level) -> GroupSums:
        parts = self.groups[level.name]
        whole = ClassMoments(level.n_classes, self.representation.d)
        for part in parts:
            whole.merge(part)
        return GroupSums(level, whole, tuple(parts) if self.group_blocks > 1 else ())


def _doubled(start: int, stored: Array) -> tuple[int, Array]:
    return start, as_double(stored)


class _SecondPass:
    """What needs the first pass: argmax shares, column norms, soft sparsity.

    Args:
        first: the pass.
        moments: of all rows.
        is_negative: whether features take both signs; they are standardised then.
    """

    def __init__(self, first: _Pass, moments: Moments, is_negative: bool) -> None:
        self.scores = first.scores.without("maximum")
        self.argmax, self.column_l1 = first.argmax, np.abs(moments.mean)
        if moments.d == 1:
            self.argmax = np.array([float(moments.n)])
            return
        self.eta, self.is_negative = default_eta(first.scores["maximum"]), is_negative
        self.mean, deviations = np.zeros(moments.d), np.ones(moments.d)
        if is_negative:
            deviations = np.sqrt(np.maximum(np.diag(moments.scatter), 0) / moments.n)
            self.mean, self.column_l1 = moments.mean, np.zeros(moments.d)
        self.inverse = 1 / np.where(deviations > 0, deviations, 1.0)
        if first.is_negative:  # what was counted is not all
            self.argmax = np.zeros(moments.d)
        tasks = [self._add_sparsity, *([self._count] if first.is_negative else [])]
        _over_blocks(first.representation, _doubled, tasks)
        if is_negative:
            self.column_l1 /= moments.n

    def _add_sparsity(self, block: tuple[int, Array]) -> None:
        start, values = block
        inactive = host(soft_sparsity(values, eta=self.eta))
        rows = np.arange(start, start + len(inactive))
        self.scores.put("soft_sparsity", rows, inactive)

    def _count(self, block: tuple[int, Array]) -> None:
        values = host(block[1])
        for part in _in_cache(values):
            standard = values[part] - self.mean
            standard *= self.inverse
            self.argmax += argmax_shares(standard)
            if self.is_negative:
                self.column_l1 += np.abs(standard, out=standard).sum(axis=0)


def survey(representation: Representation, *, drop_nonfinite: bool = False) -> Survey:
    """Read all rows once and return what they add up to.

    Args:
        representation: features with levels and attributes.
        drop_nonfinite: drop rows with NaN or infinity instead of refusing them.

    Raises:
        InputError: above 16,384 dimensions.
        NonFiniteFeatureError: where rows are not finite and are not to be dropped.
    """
    if representation.d > MAXIMUM_D:
        raise InputError(
            f"{representation.name}: {representation.d:,} feature dimensions",
            expected=f"at most {MAXIMUM_D:,}",
            fix="pool feature maps over positions, or project to fewer dimensions",
        )
    state, n_dropped = _Pass(representation), 0
    try:
        state.run()
    except InputError:
        kept, n_dropped = without_nonfinite(representation, drop=drop_nonfinite)
        if n_dropped == 0:  # another fault than a row to drop
            raise
        state = _Pass(kept)
        state.run()
    return state.finished(n_dropped)
