"""Is each row nearer to its own class than to the next? Exact, in blocks of rows."""

from collections.abc import Iterator
from dataclasses import dataclass

import array_api_compat
import numpy as np
import scipy.special
from jaxtyping import Float, Int, Shaped, UInt64

from repscope._arrays import (
    Array,
    Features,
    as_double,
    as_matrix,
    host,
    is_on_device,
    namespace,
)
from repscope._checking import NonFiniteFeatureError, Undecidable, check_length
from repscope._numerics import BLOCK_BYTES, row_blocks
from repscope.metrics.class_centres import NEAR_VALUES, UNRESOLVED_SHARE, power_of_two
from repscope.metrics.intervals import CONFIDENCE
from repscope.metrics.metric import Estimate, metric
from repscope.metrics.row_sample import sampled_rows

# Distances grow with the square of the rows: more than this many are sampled.
MAXIMUM_ROWS = 10_000
# Rows of a group share the origin of the expansion; small classes share a group.
MINIMUM_GROUP_ROWS = 256


@metric(
    title="silhouette",
    formula="mean over rows of (b_i - a_i) / max(a_i, b_i); a_i the mean distance to "
    "the other rows of its class, b_i the least mean distance to those of another",
    needs="labels",
    range="[-1, 1]",
    bounds=(-1.0, 1.0),
    direction="higher",
    minimum_n=3,
    degree=0,
    invariances=("shift", "rotation"),
    cost="O(m² d), m = min(n, 10,000)",
    source="Rousseeuw 1987, Section 2",
    misleads="distances concentrate in many dimensions, so that classes a probe tells "
    "apart perfectly may score near 0; classes of several clusters score low",
)
def silhouette(
    features: Shaped[Array, "n d"],
    labels: Int[np.ndarray, " n"],
    *,
    row_hashes: UInt64[np.ndarray, " n"] | None = None,
    seed: int = 0,
    maximum_rows: int = MAXIMUM_ROWS,
) -> Estimate:
    """Return the mean silhouette of the rows.

    Above `maximum_rows`, those rows are taken whose hash with the seed is smallest,
    the same rows in whatever order they come.

    Args:
        features: (n, d), finite.
        labels: (n,) class codes.
        row_hashes: (n,) one hash per row, of its id; of its values if not given.
        seed: of the sample.
        maximum_rows: more rows are sampled.

    Returns:
        From -1 (every row nearer to another class) to 1 (classes are points); higher
        is better. Interval: infinitesimal jackknife over rows.
        Details: `n_sampled`, `n_classes`.

    Raises:
        InputError: where labels and features differ in length, or some are not finite.
        Undecidable: with fewer than two classes, one row per class, or constant
            features.

    Source: Rousseeuw 1987. As in the source: a row alone in its class scores 0. The
    interval is of Jaeckel 1972.
    """
    matrix = as_matrix(features)
    codes = np.asarray(labels)
    check_length("labels", len(codes), matrix.shape[0])
    rows = sampled_rows(matrix, row_hashes, seed=seed, maximum_rows=maximum_rows)
    if len(rows) < len(codes):
        matrix, codes = matrix[namespace(matrix).asarray(rows), :], codes[rows]
    values, influences = _silhouettes(matrix, codes)
    n, mean = len(values), float(values.mean())
    error = float(np.sqrt((influences**2).sum() / (n * (n - 1))))
    half = float(scipy.special.ndtri((1 + CONFIDENCE) / 2)) * error
    return Estimate(
        mean,
        (max(mean - half, -1.0), min(mean + half, 1.0)),
        {
            "n_sampled": n,
            "n_classes": len(np.unique(codes)),
            "interval": "infinitesimal jackknife over rows",
        },
    )


def silhouette_values(
    features: Shaped[Array, "n d"], labels: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Return the silhouette of each row, (b_i - a_i) / max(a_i, b_i).

    Memory is that of one block of distances. Distances come from the expansion about
    the mean of the block's rows, and by subtraction where that cannot resolve them.

    Args:
        features: (n, d), finite.
        labels: (n,) class codes.

    Returns:
        From -1 to 1, higher is better; 0 for a row alone in its class, and where a row
        coincides with all rows of its own and the nearest other class.

    Raises:
        InputError: where labels and features differ in length, or some are not finite.
        Undecidable: with fewer than two classes, one row per class, or constant
            features.

    Source: Rousseeuw 1987, Section 2. As in the source.

    Example:
        >>> rows = np.array([[0.0], [1.0], [10.0], [11.0]])
        >>> silhouette_values(rows, np.array([0, 0, 1, 1])).round(3).tolist()
        [0.905, 0.895, 0.895, 0.905]
    """
    matrix, codes = as_matrix(features), np.asarray(labels)
    check_length("labels", len(codes), matrix.shape[0])
    return _silhouettes(matrix, codes)[0]


def _silhouettes(
    matrix: Array, labels: Int[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Return the silhouette of each row, and each row's influence on their mean.

    A row counts for its own silhouette, and for the mean distances of other rows to its
    class: influence_j = s_j - mean + sum_i ds_i / dw_j, w_j its weight.
    """
    n = len(labels)
    distinct, codes = np.unique(labels, return_inverse=True)
    if len(distinct) < 2:
        raise Undecidable("fewer than two classes have samples")
    if len(distinct) == n:
        raise Undecidable("each class has one row: none has another of its own")
    order = np.argsort(codes, kind="stable")
    rows, codes = _in_their_own_unit(matrix, order), codes[order]
    counts = np.bincount(codes)
    values, influences = np.empty(n), np.zeros(n)
    for block, distances in _blocks_of_distances(rows, counts):
        one = _Silhouettes.of(_sums(distances, counts), codes[block], counts)
        values[block] = one.values
        influences += one.influences(distances)
        # A row is not among those its own mean distance is taken over.
        influences[block] += one.own_weights * one.own
    influences += values - values.mean()
    scattered = np.empty((2, n))
    scattered[:, order] = values, influences
    return scattered[0], scattered[1]


@dataclass(frozen=True, eq=False)
class _Silhouettes:
    """Silhouettes of a block of rows.

    Args:
        values: (b,).
        own: (b,) mean distance to the other rows of the class.
        own_weights: (b,) what a row of its own class, its distance less `own`, adds.
        weights: (b, c) what a row of each class, its distance, adds.
        mean_distances: (b, c) to the rows of each class.
        counts: (c,) rows of each class.
    """

    values: Float[np.ndarray, " b"]
    own: Float[np.ndarray, " b"]
    own_weights: Float[np.ndarray, " b"]
    weights: Float[np.ndarray, "b c"]
    mean_distances: Float[np.ndarray, "b c"]
    counts: Int[np.ndarray, " c"]

    @classmethod
    def of(
        cls,
        sums: Float[np.ndarray, "b c"],
        codes: Int[np.ndarray, " b"],
        counts: Int[np.ndarray, " c"],
    ) -> "_Silhouettes":
        rows, others = np.arange(len(codes)), np.maximum(counts[codes] - 1, 1)
        means = sums / counts
        own = means[rows, codes] = sums[rows, codes] / others
        rest = means.copy()
        rest[rows, codes] = np.inf
        next_class = rest.argmin(axis=1)
        other = rest[rows, next_class]
        greater = np.maximum(own, other)
        decided = (greater > 0) & (counts[codes] > 1)
        safe = np.where(decided, greater, 1)
        # (b - a) / max(a, b) is 1 - a / b or b / a - 1.
        inside = own < other
        by_own = np.where(inside, -1, -other / safe) / safe * decided
        by_other = np.where(inside, own / safe, 1) / safe * decided
        weights = np.zeros(sums.shape)
        weights[rows, codes] = by_own / others
        weights[rows, next_class] = by_other / counts[next_class]
        values = np.where(decided, other - own, 0) / safe
        return cls(values, own, by_own / others, weights, means, counts)

    def influences(self, distances: Float[Array, "b n"]) -> Float[np.ndarray, " n"]:
        """Return what each of all rows adds to the silhouettes of the block."""
        xp = namespace(distances)
        device = array_api_compat.device(distances)
        weights = xp.asarray(self.weights.T, dtype=xp.float64, device=device)
        added = [
            weights[k, :] @ distances[:, columns]
            for k, columns in enumerate(_columns(self.counts))
        ]
        expected = (self.weights * self.mean_distances).sum(axis=0)
        return host(xp.concat(added)) - np.repeat(expected, self.counts)


def _in_their_own_unit(matrix: Array, order: Int[np.ndarray, " n"]) -> Features:
    """Return the rows in this order, centred, in a power of two near their size."""
    xp = namespace(matrix)
    rows = as_double(matrix)
    finite = host(xp.all(xp.isfinite(rows), axis=1))
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise NonFiniteFeatureError("features", len(bad), int(bad[0]))
    # Less the first row, constant features are zero, not the rounding of a mean.
    rows = rows[xp.asarray(order), :] - rows[:1, :]
    size = float(xp.max(xp.abs(rows)))
    if size == 0:
        raise Undecidable("all features are constant")
    rows = rows / power_of_two(size)
    return rows - xp.mean(rows, axis=0)


def _columns(counts: Int[np.ndarray, " c"]) -> Iterator[slice]:
    """Yield where each class's rows stand among rows in the order of classes."""
    stops = np.cumsum(counts).tolist()
    for start, stop in zip([0, *stops], stops, strict=False):
        yield slice(start, stop)


def _sums(
    distances: Float[Array, "b n"], counts: Int[np.ndarray, " c"]
) -> Float[np.ndarray, "b c"]:
    xp = namespace(distances)
    sums = [xp.sum(distances[:, columns], axis=1) for columns in _columns(counts)]
    return host(xp.stack(sums, axis=1))


def _blocks_of_distances(
    rows: Features, counts: Int[np.ndarray, " c"]
) -> Iterator[tuple[slice, Float[Array, "b n"]]]:
    """Yield blocks of rows with their distances to all rows.

    Args:
        rows: in the order of their classes.
        counts: rows of each class.
    """
    xp = namespace(rows)
    n, d = rows.shape
    values = BLOCK_BYTES // (3 * 8) if is_on_device(rows) else NEAR_VALUES
    step = max(1, values // (n + d))
    for first, last in _groups(np.cumsum(counts).tolist()):
        relative = rows - xp.mean(rows[first:last, :], axis=0)
        for start in range(first, last, step):
            block = slice(start, min(start + step, last))
            yield block, _distances(relative, block)


def _groups(stops: list[int]) -> Iterator[tuple[int, int]]:
    """Yield ranges of rows that are whole classes, enough rows in each."""
    first = 0
    for stop in stops:
        if stop - first >= MINIMUM_GROUP_ROWS or (stop == stops[-1] and stop > first):
            yield first, stop
            first = stop


def _distances(rows: Features, block: slice) -> Float[Array, "b n"]:
    """Return distances of the rows of a block, near the origin, to all rows."""
    xp = namespace(rows)
    own = rows[block, :]
    terms = xp.vecdot(own, own)[:, None] + xp.vecdot(rows, rows)[None, :]
    squared = own @ rows.T
    squared *= -2
    squared += terms
    # What the expansion cannot resolve is taken again by subtraction.
    first, second = xp.nonzero(squared < UNRESOLVED_SHARE * terms)
    for pairs in row_blocks(len(first), 3 * rows.shape[1]):
        apart = own[first[pairs], :] - rows[second[pairs], :]
        squared[first[pairs], second[pairs]] = xp.vecdot(apart, apart)
    return xp.sqrt(squared)
