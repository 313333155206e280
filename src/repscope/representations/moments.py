"""What a stream of features adds up to: count, mean and scatter, merged exactly.

Every spectral and clustering number is a pure function of these states, so that one
array, a file read in blocks, shards on many machines and ranks of a job give the same
value.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped
from scipy.linalg.blas import dnrm2, dsyr, dsyrk

from repscope._arrays import (
    Array,
    Spectrum,
    as_double,
    as_matrix,
    host,
    is_on_device,
    namespace,
)
from repscope._checking import InputError, Undecidable
from repscope._eigen import (
    Eigen,
    eigenvalue_pair,
    eigenvalues_with_term,
    safe_eigh,
)
from repscope._numerics import row_blocks, symmetric_product
from repscope.representations.summed_state import (
    LEAST_SQUARES,
    archive_of,
    arrays_of,
    check_squares,
    check_width,
    rows_at_once,
    sum_of_squares,
)

# Rows and columns of the part that is mirrored at once.
_MIRROR = 256


@dataclass(frozen=True, eq=False)
class Spectra:
    """Both spectra of a feature matrix.

    Args:
        eigenvalues: (d,) of the centred covariance, descending; at most n - 1 of them
            are not 0.
        singular_values: (d,) of the uncentred feature matrix, descending; at most n of
            them are not 0.
    """

    eigenvalues: Spectrum
    singular_values: Spectrum


class Moments:
    """Count, mean and scatter of the rows seen, in float64; mergeable.

    Each block is centred on its own mean before the product, and states are merged by

        delta = mean_b - mean_a,  n = n_a + n_b,  mean = mean_a + delta n_b / n
        scatter = scatter_a + scatter_b + delta delta^T n_a n_b / n

    so that a large common offset costs no precision. `update` and `merge` change the
    state in place and return it; any order and any batches agree to 1e-10.

    Args:
        d: feature dimensions.

    Source: Chan, Golub, LeVeque 1983, Eqs. 1.4-1.5 (matrix form). As in the source.

    Example:
        >>> moments = Moments(2).update(np.array([[0.0, 1.0], [2.0, 1.0]]))
        >>> moments.mean.tolist(), moments.covariance().tolist()
        ([1.0, 1.0], [[1.0, 0.0], [0.0, 0.0]])
    """

    def __init__(self, d: int) -> None:
        self.n = 0
        self.mean = np.zeros(d)
        # In BLAS's order; only the lower triangle is kept up while rows come in.
        self._scatter = np.zeros((d, d), order="F")
        self._is_mirrored = True
        # Whether squares have vanished that deviations have not.
        self._has_vanished = False

    @property
    def d(self) -> int:
        """Feature dimensions."""
        return len(self.mean)

    @property
    def scatter(self) -> Float[np.ndarray, "d d"]:
        """Sum over rows of (x - mean)(x - mean)^T.

        Raises:
            InputError: where features vary, but by too little to be squared.
        """
        if not self._is_mirrored:
            _mirror(self._scatter)
            self._is_mirrored = True
        if self._has_vanished and np.trace(self._scatter) < LEAST_SQUARES:
            raise InputError(
                "moments: deviations too small to square",
                expected="features that vary by more than 1e-130",
                fix="multiply all features by a common factor",
            )
        return self._scatter

    @scatter.setter
    def scatter(self, scatter: Float[np.ndarray, "d d"]) -> None:
        self._scatter = np.array(scatter, dtype=np.float64, order="F")
        self._is_mirrored, self._has_vanished = True, False

    def update(self, features: Shaped[Array, "n d"]) -> "Moments":
        """Add a batch of rows; the product runs where the batch lives.

        Nothing of the batch's size is copied: rows are centred block by block.

        Args:
            features: (n, d), NumPy or torch, finite, any real dtype; no rows change
                nothing.

        Raises:
            InputError: where the batch has another number of dimensions, or values
                that are not finite or too large to square.
        """
        if getattr(features, "shape", None) == (0, self.d):
            return self
        matrix = as_matrix(features)
        n, d = matrix.shape
        check_width(d, self.d, "a batch of another width")
        if is_on_device(matrix):
            for rows in row_blocks(n, d):
                self._add_on_device(as_double(matrix[rows, :]))
            return self
        step = min(n, rows_at_once(d))
        # One row more, for the distance between the means of this block and the rest.
        buffer = np.empty((step + 1, d))
        for start in range(0, n, step):
            self._add_block(host(matrix[start : start + step, :]), buffer)
        return self

    def _add_block(self, block: np.ndarray, buffer: Float[np.ndarray, "b d"]) -> None:
        k = len(block)
        centred = buffer[:k]
        # Less the first row, constant features are zero, not the rounding of a mean.
        first = block[0].astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            np.subtract(block, first, out=centred, dtype=np.float64)
            mean = centred.mean(axis=0)
            centred -= mean
            mean += first
            delta = mean - self.mean
        if self.n:
            np.multiply(delta, np.sqrt(self.n / (self.n + k) * k), out=buffer[k])
            centred = buffer[: k + 1]
        squares = sum_of_squares(centred)
        check_squares(squares + k * sum_of_squares(mean), block)
        if squares < LEAST_SQUARES and centred.any():
            self._has_vanished = True
        self._scatter = dsyrk(
            1.0, centred.T, beta=1.0, c=self._scatter, lower=1, overwrite_c=1
        )
        self._is_mirrored = False
        self.n += k
        self.mean = self.mean + delta * (k / self.n)

    def _add_on_device(self, block: Float[Array, "b d"]) -> None:
        xp = namespace(block)
        first = block[:1, :]
        centred = block - first
        mean = xp.mean(centred, axis=0)
        centred -= mean
        own = Moments(self.d)
        own.n, own.mean = block.shape[0], host(first[0, :] + mean)
        own.scatter = host(symmetric_product(centred))
        own._has_vanished = bool(xp.any(centred != 0))
        squares = float(np.trace(own._scatter)) + own.n * sum_of_squares(own.mean)
        check_squares(squares, host(block))
        self.merge(own)

    def merge(self, other: "Moments") -> "Moments":
        """Add the rows that another state has seen; one without rows changes nothing.

        Raises:
            InputError: where the other state has another number of dimensions.
        """
        check_width(other.d, self.d, "states of different widths cannot be merged")
        if other.n == 0:
            return self
        total = self.n + other.n
        delta = other.mean - self.mean
        self._scatter += other._scatter
        self._is_mirrored = self._is_mirrored and other._is_mirrored
        self._has_vanished = self._has_vanished or other._has_vanished
        if self.n:
            self._add_term(self.n / total * other.n, delta)
        self.n, self.mean = total, self.mean + delta * (other.n / total)
        return self

    def _add_term(self, factor: float, delta: Float[np.ndarray, " d"]) -> None:
        """Add factor delta delta^T to the scatter."""
        self._scatter = dsyr(factor, delta, lower=1, a=self._scatter, overwrite_a=1)
        self._is_mirrored = False

    def without(self, part: "Moments") -> "Moments":
        """Return a new state: these rows less those of `part`, all among them.

        Raises:
            Undecidable: where no row would be left.
        """
        n = self.n - part.n
        if n < 1:
            raise Undecidable("leaving a block out leaves no row")
        rest = Moments(self.d)
        rest.n = n
        delta = part.mean - self.mean
        rest.mean = self.mean - delta * (part.n / n)
        np.subtract(self._scatter, part._scatter, out=rest._scatter)
        rest._has_vanished = self._has_vanished
        rest._add_term(-self.n / n * part.n, delta)
        return rest

    def covariance(self) -> Float[np.ndarray, "d d"]:
        """Return scatter / n (ddof 0).

        Raises:
            Undecidable: before any row was seen.
        """
        self._needs_rows()
        return self.scatter / self.n

    def spectrum(self, *, vectors: bool = False) -> Eigen:
        """Return the eigenvalues of the covariance, descending; n - 1 of them at most.

        Raises:
            Undecidable: before any row was seen.
        """
        self._needs_rows()
        eigen = safe_eigh(self.scatter / self.n, vectors=vectors)
        eigen.values[min(self.n - 1, self.d) :] = 0  # what is left there is rounding
        return eigen

    def singular_values(self) -> Float[np.ndarray, " d"]:
        """Return the singular values of the uncentred feature matrix, descending.

        Raises:
            Undecidable: before any row was seen.
        """
        self._needs_rows()
        eigen = eigenvalues_with_term(self.scatter, self.mean * np.sqrt(self.n))
        return self._singular(eigen)

    def spectra(self) -> Spectra:
        """Return the centred and the uncentred spectrum, for the price of one.

        Both have the precision of the scatter: eigenvalues below some d eps of the
        largest, and singular values below the root of that, are rounding.

        Raises:
            Undecidable: before any row was seen.
        """
        self._needs_rows()
        vector = self.mean * np.sqrt(self.n)
        centred, uncentred = eigenvalue_pair(self.scatter, vector)
        eigenvalues = centred.values / self.n
        eigenvalues[min(self.n - 1, self.d) :] = 0
        return Spectra(eigenvalues, self._singular(uncentred))

    def _singular(self, uncentred: Eigen) -> Float[np.ndarray, " d"]:
        values = np.sqrt(uncentred.values)
        if values[0] == 0:  # equal rows whose squares have vanished
            values[0] = np.sqrt(self.n) * dnrm2(self.mean)
        values[min(self.n, self.d) :] = 0
        return values

    def _needs_rows(self) -> None:
        if self.n == 0:
            raise Undecidable("no rows")

    def to_bytes(self) -> bytes:
        """Return the state as the bytes of an npz archive of plain arrays."""
        if not self._is_mirrored:
            _mirror(self._scatter)
            self._is_mirrored = True
        return archive_of(
            {
                "n": np.array(self.n),
                "mean": self.mean,
                "scatter": self._scatter,
                "vanished": np.array(self._has_vanished),
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "Moments":
        """Return the state that `to_bytes` wrote.

        Raises:
            InputError: where the bytes hold no such state.
        """
        saved = arrays_of(data, ("n", "mean", "scatter", "vanished"), "moments")
        n, mean, scatter = saved["n"], saved["mean"], saved["scatter"]
        if mean.ndim != 1 or scatter.shape != (len(mean), len(mean)) or n.shape:
            raise InputError("no saved moments: mean and scatter do not fit together")
        kinds = {mean.dtype.kind, scatter.dtype.kind}
        if kinds != {"f"} or n.dtype.kind != "i" or saved["vanished"].dtype != bool:
            raise InputError("no saved moments: numbers of another type")
        state = cls(len(mean))
        state.n, state.mean = int(n), mean.astype(float)
        state.scatter = scatter
        state._has_vanished = bool(saved["vanished"].all())
        if state.n < 0 or not np.isfinite(state._scatter + state.mean).all():
            raise InputError("no saved moments: impossible numbers")
        return state


def _mirror(square: Float[np.ndarray, "d d"]) -> None:
    """Copy the lower triangle of a matrix into the upper one."""
    for start in range(0, len(square), _MIRROR):
        stop = start + _MIRROR
        square[start:stop, stop:] = square[stop:, start:stop].T
        corner = square[start:stop, start:stop]
        corner[:] = np.tril(corner) + np.tril(corner, -1).T
