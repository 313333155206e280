"""One pass over the features: everything that adds up, and everything one row tells.

The pass holds one block of rows at a time. What it leaves - moments, class moments,
scores per row, hashes of rows - is all that the label-free measurements need.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt64

from repscope._arrays import (
    Array,
    as_double,
    hash_rows,
    host,
    namespace,
)
from repscope._checking import InputError, NonFiniteFeatureError
from repscope.metrics.intervals import block_of_rows, n_blocks
from repscope.metrics.samples import sample_scores
from repscope.metrics.sharing import argmax_shares
from repscope.metrics.sparsity import default_eta, soft_sparsity
from repscope.representations.moments import ClassMoments, Moments
from repscope.representations.representation import Level, Representation

# A d x d scatter of this width takes 2 GB; wider features must be pooled first.
MAXIMUM_D = 16_384
# Values of a part of a block that fits into a processor's cache (2 MB in float64).
CACHE_VALUES = 2**18
# Features whose negative part is below this share of their magnitude count as positive.
NEGATIVE_MINIMUM_SHARE = 1e-3
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
        scores: per-row scores by name.
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


def finite_rows(representation: Representation) -> Bool[np.ndarray, " n"]:
    """Return which rows hold finite numbers only."""
    masks = []
    for _, block in representation.blocks():
        xp = namespace(block)
        if not xp.isdtype(block.dtype, "real floating"):
            masks.append(np.ones(block.shape[0], dtype=bool))
            continue
        finite = xp.isfinite(block)
        masks.append(host(xp.all(finite, axis=1)))
    return np.concatenate(masks)


def without_nonfinite(
    representation: Representation, *, drop: bool
) -> tuple[Representation, int]:
    """Return the rows that hold finite numbers only, and how many were dropped.

    Raises:
        NonFiniteFeatureError: where some are not and `drop` is not set.
        InputError: where no row is left.
    """
    finite = finite_rows(representation)
    n_bad = int((~finite).sum())
    if n_bad == 0:
        return representation, 0
    if not drop:
        first = int(representation.rows[np.flatnonzero(~finite)[0]])
        raise NonFiniteFeatureError(representation.name, n_bad, first)
    if n_bad == len(finite):
        raise InputError(f"{representation.name}: every row contains NaN or infinity")
    kept = representation.subset(np.flatnonzero(finite))
    if kept.is_test is not None and (kept.is_test.all() or not kept.is_test.any()):
        side = "training" if kept.is_test.all() else "test"
        raise InputError(
            f"{representation.name}: every {side} row contains NaN or infinity",
            expected="finite rows on both sides of the split",
        )
    return kept, n_bad


def _in_cache(block: Array) -> Iterator[slice]:
    """Yield parts of a block whose temporaries stay in the processor's cache."""
    rows = max(CACHE_VALUES // block.shape[1], 1)
    for start in range(0, block.shape[0], rows):
        yield slice(start, start + rows)


class _Pass:
    """The state of the pass, changed by each block."""

    def __init__(self, representation: Representation) -> None:
        self.representation = representation
        self.levels = (*representation.levels, *representation.attributes)
        d = representation.d
        self.n_blocks = max(n_blocks(representation.n, d), 1)
        self.block_of = block_of_rows(representation.ids, self.n_blocks)
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
        self.scores: dict[str, list[np.ndarray]] = {}
        self.hashes: list[np.ndarray] = []
        self.is_negative = False

    def add(self, start: int, stored: Array) -> None:
        """Take in one block of rows."""
        block = as_double(stored)
        rows = slice(start, start + block.shape[0])
        if block.shape[1] > 1:  # a single feature has none to stand out from
            for name, score in sample_scores(block).items():
                self.scores.setdefault(name, []).append(host(score))
            self.argmax += host(argmax_shares(block))
        self.is_negative |= bool(namespace(block).any(block < 0))
        values = host(block)
        self.hashes += [hash_rows(values[part]) for part in _in_cache(block)]
        block_of = self.block_of[rows]
        for number in range(self.n_blocks):
            own = np.flatnonzero(block_of == number)
            if len(own):
                self._add_part(number, block, rows, own)

    def _add_part(
        self,
        number: int,
        block: Array,
        rows: slice,
        own: Int[np.ndarray, " k"],
    ) -> None:
        part = block if len(own) == block.shape[0] else block[own]
        self.moments[number].update(part)
        for level in self.levels:
            group = self.groups[level.name][number % self.group_blocks]
            group.update(host(part), level.codes[rows][own])

    def finished(self, n_dropped: int) -> Survey:
        """Merge the parts into a survey."""
        whole = Moments(self.representation.d)
        for part in self.moments:
            whole.merge(part)
        keeps_blocks = self.n_blocks > 1
        scores = {name: np.concatenate(p) for name, p in self.scores.items()}
        is_negative = self.is_negative and _takes_both_signs(whole, scores)
        argmax, column_l1, sparsity = _second_pass(
            self.representation, whole, self.argmax, scores, is_negative
        )
        return Survey(
            representation=self.representation,
            n_dropped=n_dropped,
            moments=whole,
            blocks=tuple(self.moments) if keeps_blocks else (),
            block_sizes=np.array([part.n for part in self.moments]),
            groups={level.name: self._group(level) for level in self.levels},
            scores=scores | sparsity,
            argmax=argmax,
            column_l1=column_l1,
            row_hashes=np.concatenate(self.hashes),
            is_negative=is_negative,
        )

    def _group(self, level: Level) -> GroupSums:
        parts = self.groups[level.name]
        whole = ClassMoments(level.n_classes, self.representation.d)
        for part in parts:
            whole.merge(part)
        return GroupSums(level, whole, tuple(parts) if self.group_blocks > 1 else ())


def _takes_both_signs(
    moments: Moments, scores: Mapping[str, Float[np.ndarray, " n"]]
) -> bool:
    """Return whether more than rounding of the features' magnitude is negative."""
    if "l1_norm" not in scores:
        return True
    magnitude = float(scores["l1_norm"].sum())
    negative = (magnitude - moments.n * float(moments.mean.sum())) / 2
    return negative > NEGATIVE_MINIMUM_SHARE * magnitude


def _second_pass(
    representation: Representation,
    moments: Moments,
    argmax: Float[np.ndarray, " d"],
    scores: Mapping[str, Float[np.ndarray, " n"]],
    is_negative: bool,
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d"], dict[str, np.ndarray]]:
    """Return what needs the first pass: argmax shares, column norms, soft sparsity."""
    if moments.d == 1:
        return np.array([float(moments.n)]), np.abs(moments.mean), {}
    eta = default_eta(scores["maximum"])
    deviations = np.sqrt(np.maximum(np.diag(moments.scatter), 0) / moments.n)
    safe = np.where(deviations > 0, deviations, 1.0)
    sparsity, column_l1 = [], np.zeros(moments.d)
    if is_negative:
        argmax = np.zeros(moments.d)
    for _, stored in representation.blocks():
        sparsity.append(host(soft_sparsity(stored, eta=eta)))
        if not is_negative:
            continue
        block = host(stored)
        for part in _in_cache(block):
            standard = (block[part] - moments.mean) / safe
            argmax += argmax_shares(standard)
            column_l1 += np.abs(standard).sum(axis=0) / moments.n
    if not is_negative:
        column_l1 = np.abs(moments.mean)
    return argmax, column_l1, {"soft_sparsity": np.concatenate(sparsity)}


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
    kept, n_dropped = without_nonfinite(representation, drop=drop_nonfinite)
    state = _Pass(kept)
    for start, block in kept.blocks():
        state.add(start, block)
    return state.finished(n_dropped)
