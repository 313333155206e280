"""How do rows spread over the sphere? Uniformity, and cosines of pairs.

Rows are taken at length one. A zero row has no direction: it is left out and counted in
the details.
"""

from collections.abc import Callable, Sequence

import array_api_compat
import numpy as np
import scipy.special
from jaxtyping import Float, Int

from repscope._arrays import Array, as_matrix, host, namespace
from repscope._checking import Undecidable, UsageError, check_length
from repscope._numerics import class_sums, row_blocks
from repscope.metrics.directions import (
    RowHashes,
    Rows,
    chosen_rows,
    directions,
    has_direction,
    hashes_of,
)
from repscope.metrics.intervals import block_of_rows, jackknife, n_blocks
from repscope.metrics.metric import Estimate, metric
from repscope.records import Detail

# Pairs of this many rows are taken for uniformity.
UNIFORMITY_ROWS = 10_000
# Of the Gaussian kernel exp(-t distance^2); t = 2 in the paper.
CONCENTRATION = 2.0


@metric(
    title="uniformity",
    formula="log mean over pairs i < j of exp(-t |u_i - u_j|²), u on the unit sphere, "
    "t = 2",
    needs="rows",
    range="[-4 t, 0]; -8 for two opposite points, about -3.9 for directions without "
    "structure in many dimensions",
    bounds=(-4 * CONCENTRATION, 0.0),
    direction="lower",
    minimum_n=2,
    degree=0,
    invariances=("rotation",),
    cost="O(n² d), n at most 10,000",
    source="Wang, Isola 2020, Section 4.1.2",
    misleads="falls as features spread, whether or not what they spread by matters; "
    "copies raise it",
)
def uniformity(
    features: Rows,
    *,
    concentration: float = CONCENTRATION,
    seed: int = 0,
    row_hashes: RowHashes | None = None,
) -> Estimate:
    """Return the logarithm of the mean Gaussian similarity of two directions.

    log (2 / (n (n - 1)) sum_{i<j} exp(-t |u_i - u_j|^2)), natural logarithm, with the
    greatest exponent taken out of each sum. The interval is a jackknife over blocks of
    rows, from the sums of pairs within and between blocks.

    Args:
        features: (n, d).
        concentration: t, above 0.
        seed: of the choice of rows above 10,000, by a hash of their values.
        row_hashes: of the rows, where they are known.

    Returns:
        From -4 t (two opposite points) to 0 (one point); lower is more uniform.
        Details: `rows`, those taken, and `zero_rows`, left out.

    Raises:
        UsageError: where the concentration is not positive.
        NonFiniteFeatureError: where a row holds NaN or infinity.
        Undecidable: with fewer than two rows that have a direction.

    Source: Wang, Isola 2020, Section 4.1.2. As in the source, over all pairs.

    Example:
        >>> round(uniformity(np.array([[1.0, 0.0], [-2.0, 0.0]])).value, 12)
        -8.0
    """
    if not concentration > 0:
        raise UsageError(
            "uniformity: concentration",
            found=str(concentration),
            expected="a number above 0",
        )
    rows = as_matrix(features)
    hashes = hashes_of(rows) if row_hashes is None else row_hashes
    directed = np.flatnonzero(has_direction(rows))
    chosen = directed[chosen_rows(hashes[directed], UNIFORMITY_ROWS, seed)]
    if len(chosen) < 2:
        raise Undecidable("fewer than two rows have a direction")
    dealt = block_of_rows(hashes[chosen], n_blocks(len(chosen), 1))
    blocks = [chosen[dealt == block] for block in np.unique(dealt)]
    sums = _log_sums(rows, blocks, concentration)
    sizes = np.array([len(block) for block in blocks])

    def number(left_out: int | None) -> float:
        kept = np.arange(len(blocks)) != left_out
        n = int(sizes[kept].sum())
        if n < 2:
            raise Undecidable("leaving a block out leaves no pair")
        total = scipy.special.logsumexp(sums[np.ix_(kept, kept)])
        return float(np.clip(total - np.log(n * (n - 1) / 2), -4 * concentration, 0))

    return _with_interval(
        number,
        sizes,
        {"rows": len(chosen), "zero_rows": rows.shape[0] - len(directed)},
    )


def _log_sums(
    rows: Rows, blocks: Sequence[np.ndarray], concentration: float
) -> Float[np.ndarray, "k k"]:
    """Return log sum exp(-t distance^2) over the pairs within and between blocks.

    Pairs between blocks a < b stand at [a, b] only, pairs i < j of one block at [a, a].
    """
    xp = namespace(rows)
    centre = xp.mean(directions(rows, blocks[0][:1]), axis=0)
    sums = np.full((len(blocks), len(blocks)), -np.inf)
    for a, first in enumerate(blocks):
        for part in row_blocks(len(first), 4 * max(rows.shape[1], len(first))):
            left = directions(rows, first[part]) - centre
            for b, second in enumerate(blocks[a:], start=a):
                right = directions(rows, second) - centre
                exponents = -concentration * _squared_distances(left, right)
                if a == b:
                    exponents = _of_later_columns(exponents, part.start)
                sums[a, b] = np.logaddexp(sums[a, b], _log_sum(exponents))
    return sums


def _of_later_columns(exponents: Float[Array, "a b"], start: int) -> Array:
    """Return values of column j for row start + i where j is later, -inf elsewhere."""
    xp = namespace(exponents)
    rows, columns = exponents.shape
    later = np.arange(columns) > start + np.arange(rows)[:, None]
    where = xp.asarray(later, device=array_api_compat.device(exponents))
    return xp.where(where, exponents, -xp.inf)


def _squared_distances(
    left: Float[Array, "a d"], right: Float[Array, "b d"]
) -> Float[Array, "a b"]:
    xp = namespace(left)
    own, other = xp.vecdot(left, left), xp.vecdot(right, right)
    squared = own[:, None] + other[None, :] - 2 * (left @ right.T)
    return xp.clip(squared, 0, None)


def _log_sum(exponents: Float[Array, "a b"]) -> float:
    xp = namespace(exponents)
    greatest = float(xp.max(exponents))
    if greatest == -np.inf:
        return greatest
    return greatest + float(xp.log(xp.sum(xp.exp(exponents - greatest))))


@metric(
    title="tolerance",
    formula="mean over pairs i ≠ j of one class of u_i · u_j, "
    "Σ_c (|Σ u_i|² - n_c) / Σ_c n_c (n_c - 1), u on the unit sphere",
    needs="labels",
    range="[-1, 1]",
    bounds=(-1.0, 1.0),
    direction="none",
    minimum_n=2,
    degree=0,
    invariances=("rotation",),
    cost="O(n d)",
    source="Wang, Liu 2021, Section 4",
    misleads="1 for a collapsed encoder and high for any common offset: read it beside "
    "uniformity and the mean cosine of all pairs; large classes count by their pairs",
)
def tolerance(
    features: Rows,
    labels: Int[np.ndarray, " m"],
    n_classes: int,
    *,
    row_hashes: RowHashes | None = None,
) -> Estimate:
    """Return the mean cosine of two rows of one class.

    Each pair weighs alike, so that a class weighs by its pairs. Sums of a class's
    directions give all of its pairs at once; the interval is a jackknife over blocks of
    rows.

    Args:
        features: (n, d).
        labels: (n,) class codes.
        n_classes: number of classes c.
        row_hashes: of the rows, where they are known.

    Returns:
        From -1 to 1; higher where images of one class lie together. Details: `pairs`,
        `zero_rows`, left out, and `mean_cosine` over pairs of all rows, which a common
        offset raises alike.

    Raises:
        InputError: where labels are not one per row.
        NonFiniteFeatureError: where a row holds NaN or infinity.
        Undecidable: where no class has two rows with a direction.

    Source: Wang, Liu 2021, Section 4. Differs from the source in leaving out the pair
    of a row with itself, and in weighing pairs of one class only.
    """
    rows = as_matrix(features)
    check_length("labels", len(labels), rows.shape[0])
    hashes = hashes_of(rows) if row_hashes is None else row_hashes
    return _pair_cosines(rows, labels, n_classes, hashes)


@metric(
    title="mean cosine",
    formula="mean over pairs i ≠ j of u_i · u_j, (|Σ u_i|² - n) / (n (n - 1)), u on "
    "the unit sphere",
    needs="rows",
    range="[-1 / (n - 1), 1]",
    bounds=(-1.0, 1.0),
    direction="none",
    minimum_n=2,
    degree=0,
    invariances=("rotation",),
    cost="O(n d)",
    source="Ethayarajh 2019, Section 3.2 (anisotropy)",
    misleads="features that are not negative are bound to be above 0",
)
def mean_cosine(features: Rows, *, row_hashes: RowHashes | None = None) -> Estimate:
    """Return the mean cosine of two different rows, over all pairs.

    Args:
        features: (n, d).
        row_hashes: of the rows, where they are known.

    Returns:
        About 0 where directions have no common part, 1 where all rows point one way.
        Details: `pairs` and `zero_rows`, left out.

    Raises:
        NonFiniteFeatureError: where a row holds NaN or infinity.
        Undecidable: with fewer than two rows that have a direction.

    Source: Ethayarajh 2019, Section 3.2. Differs from the source in taking all pairs,
    not a sample.

    Example:
        >>> mean_cosine(np.array([[1.0, 0.0], [0.0, 2.0]])).value
        0.0
    """
    rows = as_matrix(features)
    hashes = hashes_of(rows) if row_hashes is None else row_hashes
    one = np.zeros(rows.shape[0], dtype=np.int64)
    return _pair_cosines(rows, one, 1, hashes)


def _pair_cosines(
    rows: Rows,
    labels: Int[np.ndarray, " n"],
    n_classes: int,
    hashes: RowHashes,
) -> Estimate:
    """Return the mean cosine of pairs of one class, from sums of directions."""
    everything = np.arange(rows.shape[0])
    sums, counts = _class_directions(rows, labels, n_classes, everything)
    value = _mean_of_pairs(sums, counts)
    dealt = block_of_rows(hashes, n_blocks(rows.shape[0], 1))
    blocks = [everything[dealt == block] for block in np.unique(dealt)]

    def number(left_out: int | None) -> float:
        if left_out is None:
            return value
        part = _class_directions(rows, labels, n_classes, blocks[left_out])
        return _mean_of_pairs(sums - part[0], counts - part[1])

    details: dict[str, Detail] = {
        "pairs": int((counts * (counts - 1)).sum()) // 2,
        "zero_rows": rows.shape[0] - int(counts.sum()),
    }
    if n_classes > 1:
        joined = sums.sum(axis=0, keepdims=True)
        details["mean_cosine"] = _mean_of_pairs(joined, counts.sum(keepdims=True))
    sizes = np.array([len(block) for block in blocks])
    return _with_interval(number, sizes, details)


def _class_directions(
    rows: Rows,
    labels: Int[np.ndarray, " n"],
    n_classes: int,
    numbers: Int[np.ndarray, " b"],
) -> tuple[Float[np.ndarray, "c d"], Int[np.ndarray, " c"]]:
    """Return per class the sum of directions, and how many rows have one."""
    sums = np.zeros((n_classes, rows.shape[1]))
    counts = np.zeros(n_classes, dtype=np.int64)
    for block in row_blocks(len(numbers), 4 * rows.shape[1]):
        units = host(directions(rows, numbers[block]))
        codes = labels[numbers[block]]
        sums += class_sums(units, codes, n_classes)
        counts += np.bincount(codes[units.any(axis=1)], minlength=n_classes)
    return sums, counts


def _mean_of_pairs(
    sums: Float[np.ndarray, "c d"], counts: Int[np.ndarray, " c"]
) -> float:
    pairs = (counts * (counts - 1)).sum()
    if pairs == 0:
        raise Undecidable("no class has two rows with a direction")
    total = np.where(counts > 1, (sums**2).sum(axis=1) - counts, 0).sum()
    return float(np.clip(total / pairs, -1, 1))


def _with_interval(
    number: Callable[[int | None], float],
    sizes: Int[np.ndarray, " k"],
    details: dict[str, Detail],
) -> Estimate:
    """Return a number with its jackknife over blocks, or without an interval."""
    value = number(None)
    try:
        replicates = np.array([number(block) for block in range(len(sizes))])
        interval = jackknife(value, replicates, sizes).interval
    except Undecidable:
        return Estimate(value, details=details)
    return Estimate(value, interval, {**details, "interval": "block jackknife"})
