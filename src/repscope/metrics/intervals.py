"""How sure a number is: block jackknife over mergeable states.

Rows are dealt into blocks by a hash of their id, and a number is computed again without
each block. The same ids give the same blocks in every run, so that two runs on one set
of images are compared block by block.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.special
from jaxtyping import Float, Int, Shaped

from repscope._arrays import hash_ids
from repscope._checking import Undecidable

CONFIDENCE = 0.95
# Blocks of the jackknife, by the width of the features: each costs an
# eigendecomposition.
BLOCKS_NARROW, BLOCKS_WIDE = 20, 10
NARROW_D, WIDE_D = 1024, 4096
# Fewer rows than this in a block say little about leaving it out.
MINIMUM_BLOCK_ROWS = 5
# Another stream of hashes than the one that splits train from test.
_BLOCK_SEED = 0x0B10C


def n_blocks(n: int, d: int) -> int:
    """Return how many jackknife blocks n rows of width d are dealt into; 0 for none."""
    if d > WIDE_D or n < 2 * MINIMUM_BLOCK_ROWS:
        return 0
    wanted = BLOCKS_NARROW if d <= NARROW_D else BLOCKS_WIDE
    return min(wanted, n // MINIMUM_BLOCK_ROWS)


def block_of_rows(ids: Shaped[np.ndarray, " n"], count: int) -> Int[np.ndarray, " n"]:
    """Return the block of each row, a hash of its id."""
    if count == 0:
        return np.zeros(len(ids), dtype=np.int64)
    return (hash_ids(ids, _BLOCK_SEED) % np.uint64(count)).astype(np.int64)


@dataclass(frozen=True)
class Jackknife:
    """A number with its leave-one-block-out values.

    Args:
        value: on all rows.
        replicates: without each block.
        interval: 95 %, value plus or minus t times the standard error.
    """

    value: float
    replicates: tuple[float, ...]
    interval: tuple[float, float]


def jackknife(
    value: float,
    replicates: Float[np.ndarray, " k"],
    sizes: Int[np.ndarray, " k"],
) -> Jackknife:
    """Return the delete-a-block jackknife interval for blocks of unequal sizes.

    With n rows, block j of m_j rows and h_j = n / m_j, pseudo-values are
    h_j value - (h_j - 1) replicate_j, and

        variance = 1/k sum_j (pseudo_j - mean_w)^2 / (h_j - 1),
        mean_w = k value - sum_j (1 - m_j / n) replicate_j

    Args:
        value: on all rows.
        replicates: value without block j.
        sizes: rows of block j; blocks without rows play no part.

    Raises:
        Undecidable: with fewer than 3 blocks.

    Source: Busing, Meijer, Van der Leeden 1999, Eqs. 7-9. As in the source.
    """
    occupied = sizes > 0  # the hash of few ids may leave a block without rows
    used, share = replicates[occupied], sizes[occupied] / sizes.sum()
    k = len(used)
    if k < 3:
        raise Undecidable("fewer than 3 jackknife blocks")
    inverse = 1 / share
    mean = k * value - ((1 - share) * used).sum()
    pseudo = inverse * value - (inverse - 1) * used
    variance = ((pseudo - mean) ** 2 / (inverse - 1)).mean()
    half = float(scipy.special.stdtrit(k - 1, (1 + CONFIDENCE) / 2) * np.sqrt(variance))
    return Jackknife(value, tuple(replicates.tolist()), (value - half, value + half))


def jackknifed(
    compute: Callable[[int | None], float], sizes: Int[np.ndarray, " k"]
) -> Jackknife | None:
    """Return the jackknife of a number, or None where it cannot be left-one-out.

    Args:
        compute: the number without block j, or on all rows for None.
        sizes: rows of each block.

    Raises:
        Undecidable: where the number itself cannot be decided.
    """
    value = compute(None)
    try:
        replicates = np.array([compute(block) for block in range(len(sizes))])
    except Undecidable:
        return None
    if not np.isfinite(replicates).all():
        return None
    try:
        return jackknife(value, replicates, sizes)
    except Undecidable:
        return None
