"""Eigenvalues of symmetric matrices: finite, in order, never negative.

LAPACK is asked for nothing that it cannot answer: matrices are checked, made symmetric
and scaled first, negative eigenvalues of rounding are cut and told, and a failure has
a second way.
"""

import math
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from jaxtyping import Float
from scipy.linalg.blas import dsymv, dsyr2
from scipy.linalg.lapack import dsterf, dsytrd, dsytrd_lwork

from repscope._arrays import Array, Spectrum, host
from repscope._checking import InputError

# Above this LAPACK's 32-bit workspace sizes overflow and it reports a misleading
# failure.
LAPACK_MAXIMUM_D = 32_766
# A rank-one term of a vector so many times the matrix's root is added by itself.
GREATEST_VECTOR = 2.0**200


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
    square, scale = _scaled(matrix)
    if scale == 0:
        d = len(square)
        return Eigen(np.zeros(d), np.eye(d) if vectors else None, 0.0)
    values, columns = _eigh(square, vectors)
    return _descending(values, columns, np.trace(square), scale)


def eigenvalue_pair(
    matrix: Float[Array, "d d"], vector: Float[np.ndarray, " d"]
) -> tuple[Eigen, Eigen]:
    """Return the eigenvalues of A and those of A + v v^T, from one reduction.

    A reflection H turns v into -+|v| e_1; Householder's reduction of H A H to
    tridiagonal form T leaves e_1 alone, so that A + v v^T has the tridiagonal form
    T + |v|^2 e_1 e_1^T. The reduction is nearly all of the cost: two spectra for the
    price of one, each with the error of its own decomposition, a few eps times its
    largest eigenvalue.

    Args:
        matrix: A, positive semi-definite; a scatter.
        vector: v; the root of n times the mean makes A + v v^T the uncentred product.

    Raises:
        InputError: where an entry is NaN or infinite, or d is over 32,766.

    Source: Golub, Van Loan 2013, Sections 5.1 (reflection) and 8.3.1 (tridiagonal
    form). Differs from the source in that two matrices share the form.

    Example:
        >>> one, other = eigenvalue_pair(np.eye(2), np.array([0.0, 2.0]))
        >>> one.values.tolist(), other.values.tolist()
        ([1.0, 1.0], [5.0, 1.0])
    """
    square, scale = _scaled(matrix)
    if not np.isfinite(vector).all():
        raise InputError("an eigenvalue problem with NaN or infinite entries")
    greatest = float(np.abs(vector).max())
    if scale == 0 or greatest > GREATEST_VECTOR * math.sqrt(scale) or greatest == 0:
        return safe_eigh(matrix), eigenvalues_with_term(matrix, vector)
    scaled = vector / math.sqrt(scale)
    length = float(scaled @ scaled)
    trace = float(np.trace(square))
    diagonal, beside, failed = _tridiagonal(_reflected(square, scaled))
    centred, failed_centred = _of_tridiagonal(diagonal, beside)
    diagonal[0] += length
    uncentred, failed_uncentred = _of_tridiagonal(diagonal, beside)
    if failed or failed_centred or failed_uncentred:
        return safe_eigh(matrix), eigenvalues_with_term(matrix, vector)
    return (
        _descending(centred, None, trace, scale),
        _descending(uncentred, None, trace + length, scale),
    )


def eigenvalues_with_term(
    matrix: Float[Array, "d d"], vector: Float[np.ndarray, " d"]
) -> Eigen:
    """Return the eigenvalues of A + v v^T alone.

    Unlike `eigenvalue_pair` it lets other threads run meanwhile.

    Raises:
        InputError: where an entry is NaN or infinite, or d is over 32,766.
    """
    square = np.asarray(host(matrix), dtype=np.float64)
    if square.any():
        return safe_eigh(square + np.outer(vector, vector))
    values = np.zeros(len(vector))
    values[0] = scipy.linalg.norm(vector) ** 2  # an even smaller vector has a length
    return Eigen(values, None, 0.0)


def _scaled(matrix: Float[Array, "d d"]) -> tuple[Float[np.ndarray, "d d"], float]:
    """Return a symmetric copy in units of a power of two; 0 where it has no trace."""
    d = matrix.shape[0]
    if d > LAPACK_MAXIMUM_D:
        raise InputError(
            f"a {d:,} x {d:,} eigenvalue problem",
            expected=f"at most {LAPACK_MAXIMUM_D:,} dimensions",
            fix="project the features to fewer dimensions first",
        )
    square = np.array(host(matrix), dtype=np.float64, order="F")
    if not np.isfinite(square).all():
        raise InputError("an eigenvalue problem with NaN or infinite entries")
    mean_diagonal = np.trace(square) / d
    if mean_diagonal <= 0:
        return square, 0.0
    # An even power, whose root is a power of two as well.
    scale = 4.0 ** math.floor(math.log2(mean_diagonal) / 2)
    square /= scale
    square += square.T.copy()
    square /= 2
    return square, scale


def _descending(
    values: np.ndarray, columns: np.ndarray | None, trace: float, scale: float
) -> Eigen:
    share = float(-values[values < 0].sum() / trace)
    ordered = np.clip(values[::-1], 0, None) * scale
    return Eigen(ordered, None if columns is None else columns[:, ::-1], share)


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


def _reflected(
    square: Float[np.ndarray, "d d"], vector: Float[np.ndarray, " d"]
) -> Float[np.ndarray, "d d"]:
    """Return H A H, in the lower triangle, for the H with H v = -+|v| e_1; A is lost.

    H A H = A - w q^T - q w^T with w = v +- |v| e_1, p = 2 A w / |w|^2 and
    q = p - (p . w) w / |w|^2
    """
    normal = vector / np.abs(vector).max()
    normal /= np.linalg.norm(normal)
    normal[0] += math.copysign(1.0, normal[0])
    squared = float(normal @ normal)
    product = dsymv(2 / squared, square, normal, lower=1)
    product -= float(product @ normal) / squared * normal
    return dsyr2(-1.0, normal, product, lower=1, a=square, overwrite_a=1)


def _tridiagonal(
    square: Float[np.ndarray, "d d"],
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d-1"], int]:
    """Return diagonal and off-diagonal of Q^T A Q with Q e_1 = e_1, and failure."""
    # The lower triangle: with the upper one LAPACK leaves e_d alone instead.
    work = int(dsytrd_lwork(len(square), lower=1)[0])
    _, diagonal, beside, _, failed = dsytrd(square, lower=1, lwork=work, overwrite_a=1)
    return diagonal, beside, failed


def _of_tridiagonal(
    diagonal: Float[np.ndarray, " d"], beside: Float[np.ndarray, " d-1"]
) -> tuple[Float[np.ndarray, " d"], int]:
    """Return the eigenvalues in ascending order, and whether LAPACK failed."""
    if len(diagonal) == 1:
        return diagonal.copy(), 0
    return dsterf(diagonal, beside)
