"""The numerics that several rooms share: products, fits, row formulas.

Formulas that both metrics and objectives need stand here once, written for the array
API, so that they run on NumPy and, differentiable, on torch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int

from repscope._arrays import (
    Array,
    Features,
    Scores,
    Spectrum,
    as_double,
    namespace,
)
from repscope._checking import Undecidable

# Memory that one blocked pairwise operation may hold.
BLOCK_BYTES = 128 * 2**20
# Scalings grow at most by a factor of n k in each turn: so many stay within float32.
_SCALINGS_AT_ONCE = 3


def symmetric_product(centred: Float[Array, "n d"]) -> Float[Array, "d d"]:
    """Return X^T X in float64, on the device of X.

    NumPy hands a product of a matrix with its own transpose to BLAS's symmetric rank-k
    update, which does half the work; `benchmarks/bench_products.py` holds the
    comparison.
    """
    return centred.T @ centred


Weights = Literal["inverse_rank", "equal"]


@dataclass(frozen=True)
class PowerLaw:
    """A fitted power law, value_k ~ k^-alpha.

    Args:
        alpha: the exponent.
        log_intercept: log of the fitted value at rank 1.
        standard_error: of alpha, were the residuals independent of each other.
        r_squared: weighted share of variance explained, over the ranks fitted.
        r_squared_unweighted: the same with equal weights.
        ranks: the first and last rank fitted, counted from 1, both included.
    """

    alpha: float
    log_intercept: float
    standard_error: float
    r_squared: float
    r_squared_unweighted: float
    ranks: tuple[int, int]


def fit_power_law(
    values: Spectrum, first: int, last: int, *, weights: Weights = "inverse_rank"
) -> PowerLaw:
    """Return the least-squares fit of log value_k on log k, weighted by 1 / k.

    With weights w_k that sum to 1, x_k = log k, weighted means x_0 and y_0,

        alpha = -sum w_k (x_k - x_0)(y_k - y_0) / sum w_k (x_k - x_0)^2
        standard error^2 = sum w_k r_k^2 / ((m - 2) sum w_k (x_k - x_0)^2)

    for m ranks with residuals r_k; 0 for m = 2.

    Args:
        values: positive values in descending order; rank 1 is values[0].
        first: first rank fitted, from 1.
        last: last rank fitted, included.
        weights: of a rank, 1 / k or 1.

    Raises:
        Undecidable: with fewer than two ranks, or where a fitted value is not positive.

    Source: Stringer et al. 2019, Methods; weights 1 / k as in Agrawal et al. 2022
        (alpha-ReQ).
    As in the source.

    Example:
        >>> round(fit_power_law(np.arange(1.0, 101) ** -1.5, 11, 50).alpha, 10)
        1.5
    """
    ranks = np.arange(first, last + 1)
    if len(ranks) < 2 or first < 1 or last > len(values):
        raise Undecidable(f"ranks {first} to {last} do not span two eigenvalues")
    fitted = np.asarray(values, dtype=np.float64)[first - 1 : last]
    if fitted.min() <= 0:
        raise Undecidable(f"an eigenvalue within ranks {first} to {last} is zero")
    x, y = np.log(ranks), np.log(fitted)
    weight = 1.0 / ranks if weights == "inverse_rank" else np.ones(len(ranks))
    weight /= weight.sum()
    x_mean, y_mean = weight @ x, weight @ y
    # Solved in centred log k, which is well conditioned.
    spread = weight @ (x - x_mean) ** 2
    slope = weight @ ((x - x_mean) * (y - y_mean)) / spread
    residual = (y - y_mean) - slope * (x - x_mean)
    total, total_equal = weight @ (y - y_mean) ** 2, ((y - y.mean()) ** 2).sum()
    unexplained = weight @ residual**2
    return PowerLaw(
        alpha=float(-slope),
        log_intercept=float(y_mean - slope * x_mean),
        standard_error=float(np.sqrt(unexplained / max(len(x) - 2, 1) / spread)),
        r_squared=float(1 - unexplained / total) if total > 0 else 0.0,
        r_squared_unweighted=(
            float(1 - (residual**2).sum() / total_equal) if total_equal > 0 else 0.0
        ),
        ranks=(first, last),
    )


def z_score_of_maximum(features: Features) -> Scores:
    """Return how far the greatest feature of each row stands out.

    z_i = (max_k h_ik - mean_i) / std_i

    Mean and standard deviation (ddof 0) are over the d features of the row.
    Differentiable on torch, where the maximum has the subgradient of its position. A
    row whose features are all equal scores 0.

    Source: Kalibhat et al. 2022, Section 4. As in the source.
    """
    xp = namespace(features)
    mean = xp.mean(features, axis=1)
    deviation = xp.std(features, axis=1)
    maximum = xp.max(features, axis=1)
    # Rounding leaves a constant row a tiny deviation; its spread is exactly zero.
    constant = maximum == xp.min(features, axis=1)
    safe = xp.where(constant, xp.ones_like(deviation), deviation)
    return xp.where(constant, xp.zeros_like(mean), (maximum - mean) / safe)


def q_score(features: Features) -> Scores:
    """Return the Q-Score of each row.

    Q_i = z_i / |h_i|_1, with z_i the z-score of the maximum; a zero row scores 0.

    Source: Kalibhat et al. 2022, Eq. 2. As in the source.
    """
    xp = namespace(features)
    l1 = xp.sum(xp.abs(features), axis=1)
    empty = l1 == 0
    safe = xp.where(empty, xp.ones_like(l1), l1)
    return xp.where(empty, xp.zeros_like(l1), z_score_of_maximum(features) / safe)


def unit_rows(features: Features) -> Features:
    """Return rows of Euclidean length 1, in float64; zero rows stay zero."""
    doubled = as_double(features)
    xp = namespace(doubled)
    # Dividing by the greatest entry first keeps the squares of 1e200 finite.
    greatest = xp.max(xp.abs(doubled), axis=1, keepdims=True)
    doubled = doubled / xp.where(greatest == 0, xp.ones_like(greatest), greatest)
    squared = xp.sum(doubled**2, axis=1, keepdims=True)
    # The root of zero has no gradient: zero rows are divided by one before it.
    return doubled / xp.sqrt(xp.where(squared == 0, xp.ones_like(squared), squared))


def sinkhorn(
    scores: Float[Array, "n k"], *, epsilon: float, iterations: int
) -> Float[Array, "n k"]:
    """Return log q: how much of each row is assigned to each of k columns.

    q = exp(scores / epsilon), and then in turns, `iterations` times: the columns of q
    are brought to the same sum, and its rows to 1. The rows sum to 1; the columns to
    n / k the better, the more iterations. In the precision of the scores.

    Scores of any size are safe. Of a matrix whose columns were just brought to sum 1
    and whose rows then to a maximum of 1, each row has an entry of 1 and each column
    one of 1 / n or more, so that its exponentials can be scaled without dividing by 0.
    What became 0 in them is put right by starting again from logarithms.

    Args:
        scores: higher for columns that suit a row.
        epsilon: weight of the entropy, above 0; small gives hard assignments.
        iterations: from 1.

    Source: Cuturi 2013, algorithm 1; Caron et al. 2020 (SwAV), eq. 3-5 and code at
        06b1b7c, main_swav.py; Schmitzer 2019, section 3 (scaling in parts).
    As in the source, whose code takes exponentials first.

    Example:
        >>> scores = np.array([[9.0, 8.0], [9.0, 8.0]])  # both suit the first column
        >>> np.exp(sinkhorn(scores, epsilon=0.1, iterations=3)).round(3).tolist()
        [[0.5, 0.5], [0.5, 0.5]]
    """
    xp = namespace(scores)
    log_q = scores / epsilon
    for first in range(0, iterations, _SCALINGS_AT_ONCE):
        shifted = log_q - xp.max(log_q, axis=0, keepdims=True)
        log_q = shifted - xp.log(xp.sum(xp.exp(shifted), axis=0, keepdims=True))
        log_q = log_q - xp.max(log_q, axis=1, keepdims=True)
        kernel = xp.exp(log_q)
        rows, columns = 1 / xp.sum(kernel, axis=1), xp.ones_like(kernel[0])
        for _ in range(min(_SCALINGS_AT_ONCE, iterations - first) - 1):
            columns = 1 / (rows @ kernel)
            rows = 1 / (kernel @ columns)
        log_q = log_q + (xp.log(rows)[:, None] + xp.log(columns))
    return log_q


def row_blocks(n: int, columns: int, *, item_bytes: int = 8) -> Iterator[slice]:
    """Yield slices of rows whose blocks of `columns` values stay within memory.

    Example:
        >>> list(row_blocks(3, 10))
        [slice(0, 3, None)]
    """
    rows = max(1, BLOCK_BYTES // max(1, columns * item_bytes))
    for start in range(0, n, rows):
        yield slice(start, min(start + rows, n))


def squared_distances(
    rows: Float[np.ndarray, "n d"], centres: Float[np.ndarray, "c d"]
) -> Float[np.ndarray, "n c"]:
    """Return |row - centre|^2 for every pair, in float64.

    Both are shifted by the mean centre before the expansion |a|^2 + |b|^2 - 2 a b,
    which would otherwise cancel: at a mean of 100 float32 gives a self-distance of 1.1
        instead of 0.
    """
    shift = centres.mean(axis=0, dtype=np.float64)
    a, b = rows - shift, centres - shift
    distances = (
        (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None, :] - 2 * (a @ b.T)
    )
    return np.maximum(distances, 0)


def class_sums(
    values: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"], n_classes: int
) -> Float[np.ndarray, "c k"]:
    """Return the sum of the rows of each class."""
    onehot = scipy.sparse.csr_array(
        (np.ones(len(labels)), labels, np.arange(len(labels) + 1)),
        shape=(len(labels), n_classes),
    )
    return np.asarray(onehot.T @ values)
