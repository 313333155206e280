"""The numerics that several rooms share: eigenvalues, products, fits, row formulas.

Formulas that both metrics and objectives need stand here once, written for the array
API, so that they run on NumPy and, differentiable, on torch.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.sparse
from jaxtyping import Float, Int

from repscope._arrays import (
    Array,
    Features,
    Scores,
    Spectrum,
    as_double,
    host,
    namespace,
)
from repscope._checking import InputError, Undecidable

# Above this LAPACK's 32-bit workspace sizes overflow and it reports a misleading
# failure.
LAPACK_MAXIMUM_D = 32_766
# Memory that one blocked pairwise operation may hold.
BLOCK_BYTES = 128 * 2**20


@dataclass(frozen=True)
class Eigen:
    """Eigenvalues in descending order, and eigenvectors where asked for.

    Args:
        values: (d,) descending, not negative.
        vectors: (d, d), column k belongs to values[k]; None unless asked for.
        clipped_mass: sum of the negative eigenvalues set to 0, as a share of the trace.
    """

    values: Spectrum
    vectors: Float[np.ndarray, "d d"] | None
    clipped_mass: float


def safe_eigh(matrix: Float[Array, "d d"], *, vectors: bool = False) -> Eigen:
    """Return the eigenvalues of a positive semi-definite matrix, in float64.

    The matrix is checked to be finite, made symmetric and scaled by a power of two near
    its mean diagonal; negative eigenvalues, which are rounding, become 0. If LAPACK
    fails, it is tried again with a ridge of 1e-12 of the mean diagonal and another
    driver.

    Args:
        matrix: symmetric up to rounding, such as a covariance.
        vectors: whether to return eigenvectors too.

    Raises:
        InputError: where an entry is NaN or infinite, or d is over 32,766.

    Example:
        >>> safe_eigh(np.array([[2.0, 0.0], [0.0, 1.0]])).values.tolist()
        [2.0, 1.0]
    """
    d = matrix.shape[0]
    if d > LAPACK_MAXIMUM_D:
        raise InputError(
            f"a {d:,} x {d:,} eigenvalue problem",
            expected=f"at most {LAPACK_MAXIMUM_D:,} dimensions",
            fix="project the features to fewer dimensions first",
        )
    square = np.array(host(matrix), dtype=np.float64)
    if not np.isfinite(square).all():
        raise InputError("an eigenvalue problem with NaN or infinite entries")
    mean_diagonal = np.trace(square) / d
    if mean_diagonal <= 0:
        return Eigen(np.zeros(d), np.eye(d) if vectors else None, 0.0)
    scale = 2.0 ** math.floor(math.log2(mean_diagonal))
    square /= scale
    square += square.T.copy()
    square /= 2
    values, columns = _eigh(square, vectors)
    negative = -values[values < 0].sum()
    share = float(negative / np.trace(square))
    values = np.clip(values[::-1], 0, None) * scale
    return Eigen(values, None if columns is None else columns[:, ::-1], share)


def _eigh(
    square: Float[np.ndarray, "d d"], vectors: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    try:
        if vectors:
            return np.linalg.eigh(square)
        return np.linalg.eigvalsh(square), None
    except np.linalg.LinAlgError:
        ridged = square + 1e-12 * np.trace(square) / len(square) * np.eye(len(square))
        solution = scipy.linalg.eigh(
            ridged, eigvals_only=not vectors, driver="evr", check_finite=False
        )
        return solution if vectors else (solution, None)


def symmetric_product(centred: Float[Array, "n d"]) -> Float[Array, "d d"]:
    """Return X^T X in float64, on the device of X.

    NumPy hands a product of a matrix with its own transpose to BLAS's symmetric rank-k
    update, which does half the work; `benchmarks/bench_products.py` holds the
    comparison.
    """
    return centred.T @ centred


@dataclass(frozen=True)
class PowerLaw:
    """A fitted power law, value_k ~ k^-alpha.

    Args:
        alpha: the exponent.
        log_intercept: log of the fitted value at rank 1.
        r_squared: weighted share of variance explained, over the ranks fitted.
        r_squared_unweighted: the same with equal weights.
        ranks: the first and last rank fitted, counted from 1, both included.
    """

    alpha: float
    log_intercept: float
    r_squared: float
    r_squared_unweighted: float
    ranks: tuple[int, int]


def fit_power_law(values: Spectrum, first: int, last: int) -> PowerLaw:
    """Return the least-squares fit of log value_k on log k, weighted by 1 / k.

    Args:
        values: positive values in descending order; rank 1 is values[0].
        first: first rank fitted, from 1.
        last: last rank fitted, included.

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
    x, y, weight = np.log(ranks), np.log(fitted), 1.0 / ranks
    weight /= weight.sum()
    x_mean, y_mean = weight @ x, weight @ y
    # Solved in centred log k, which is well conditioned.
    slope = weight @ ((x - x_mean) * (y - y_mean)) / (weight @ (x - x_mean) ** 2)
    intercept = y_mean - slope * x_mean
    residual = y - intercept - slope * x
    total, total_equal = weight @ (y - y_mean) ** 2, ((y - y.mean()) ** 2).sum()
    return PowerLaw(
        alpha=float(-slope),
        log_intercept=float(intercept),
        r_squared=float(1 - weight @ residual**2 / total) if total > 0 else 0.0,
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
