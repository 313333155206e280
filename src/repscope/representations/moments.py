"""What a stream of features adds up to: count, mean and scatter, merged exactly.

Every spectral and clustering number is a pure function of these states, so that one
array, a file read in blocks, shards on many machines and ranks of a job give the same
value.
"""

import io
import zipfile

import numpy as np
from jaxtyping import Float, Int, Shaped

from repscope._arrays import Array, as_double, as_matrix, host, namespace
from repscope._checking import InputError, Undecidable
from repscope._numerics import Eigen, class_sums, safe_eigh, symmetric_product

# What reading a damaged archive may raise.
_DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    RuntimeError,
    zipfile.BadZipFile,
)


class Moments:
    """Count, mean and scatter of the rows seen, in float64; mergeable.

    Each batch is centred on its own mean before the product, and states are merged by

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
        self.scatter = np.zeros((d, d))

    @property
    def d(self) -> int:
        """Feature dimensions."""
        return len(self.mean)

    def update(self, features: Shaped[Array, "n d"]) -> "Moments":
        """Add a batch of rows; the product runs where the batch lives.

        Args:
            features: (n, d), NumPy or torch, finite, any real dtype.

        Raises:
            InputError: where the batch has another number of dimensions.
        """
        doubled = as_double(as_matrix(features))
        if doubled.shape[1] != self.d:
            raise InputError(
                "moments: a batch of another width",
                found=f"{doubled.shape[1]} dimensions",
                expected=f"{self.d}",
            )
        # Less the first row, constant features are zero, not the rounding of a mean.
        first = doubled[:1, :]
        centred = doubled - first
        mean = namespace(doubled).mean(centred, axis=0)
        centred -= mean
        scatter = host(symmetric_product(centred))
        return self._add(doubled.shape[0], host(first[0, :] + mean), scatter)

    def merge(self, other: "Moments") -> "Moments":
        """Add the rows that another state has seen.

        Raises:
            InputError: where the other state has another number of dimensions.
        """
        if other.d != self.d:
            raise InputError(
                "moments: states of different widths cannot be merged",
                found=f"{other.d} dimensions",
                expected=f"{self.d}",
            )
        return self._add(other.n, other.mean, other.scatter)

    def _add(self, n: int, mean: np.ndarray, scatter: np.ndarray) -> "Moments":
        if n == 0:
            return self
        total = self.n + n
        delta = mean - self.mean
        self.scatter += scatter
        if self.n:
            self.scatter += np.outer(delta, delta * (self.n * n / total))
        self.mean = self.mean + delta * (n / total)
        self.n = total
        return self

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
        rest.scatter = self.scatter - part.scatter
        rest.scatter -= np.outer(delta, delta * (self.n * part.n / n))
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
        product = self.scatter + np.outer(self.mean, self.mean * self.n)
        values = np.sqrt(safe_eigh(product).values)
        values[min(self.n, self.d) :] = 0
        return values

    def _needs_rows(self) -> None:
        if self.n == 0:
            raise Undecidable("no rows")

    def to_bytes(self) -> bytes:
        """Return the state as the bytes of an npz archive of plain arrays."""
        buffer = io.BytesIO()
        np.savez(buffer, n=np.array(self.n), mean=self.mean, scatter=self.scatter)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Moments":
        """Return the state that `to_bytes` wrote.

        Raises:
            InputError: where the bytes hold no such state.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                n, mean, scatter = (arrays[k] for k in ("n", "mean", "scatter"))
        except _DAMAGE as error:
            raise InputError(f"no saved moments: {error}") from error
        if mean.ndim != 1 or scatter.shape != (len(mean), len(mean)) or n.shape:
            raise InputError("no saved moments: mean and scatter do not fit together")
        if {mean.dtype.kind, scatter.dtype.kind} != {"f"} or n.dtype.kind != "i":
            raise InputError("no saved moments: numbers of another type")
        state = cls(len(mean))
        state.n = int(n)
        state.mean, state.scatter = mean.astype(float), scatter.astype(float)
        if state.n < 0 or not np.isfinite(state.scatter + state.mean).all():
            raise InputError("no saved moments: impossible numbers")
        return state


class ClassMoments:
    """Per class: count, mean and scalar scatter sum |f - mean_c|^2; mergeable.

    Args:
        n_classes: number of classes c.
        d: feature dimensions.

    Source: Chan, Golub, LeVeque 1983, Eqs. 1.4-1.5, once per class. As in the source.
    """

    def __init__(self, n_classes: int, d: int) -> None:
        self.counts = np.zeros(n_classes)
        self.means = np.zeros((n_classes, d))
        self.scatters = np.zeros(n_classes)

    def update(
        self, features: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"]
    ) -> "ClassMoments":
        """Add a batch of rows with their class codes, 0 to c - 1."""
        rows = np.asarray(features, dtype=np.float64)
        n_classes = len(self.counts)
        batch = ClassMoments(n_classes, rows.shape[1])
        batch.counts = np.bincount(labels, minlength=n_classes).astype(float)
        # A common shift keeps the sums small where features have a large mean; less
        # the first row, constant features are exactly zero.
        shift = rows[0]
        shifted = rows - shift
        seen = np.maximum(batch.counts, 1)[:, None]
        means = class_sums(shifted, labels, n_classes) / seen
        shifted -= means[labels]
        batch.means = (means + shift) * (batch.counts > 0)[:, None]
        squares = np.einsum("nd,nd->n", shifted, shifted)[:, None]
        batch.scatters = class_sums(squares, labels, n_classes)[:, 0]
        return self.merge(batch)

    def merge(self, other: "ClassMoments") -> "ClassMoments":
        """Add the rows that another state has seen."""
        total = self.counts + other.counts
        share = np.divide(
            other.counts, total, out=np.zeros_like(total), where=total > 0
        )
        delta = other.means - self.means
        squared = np.einsum("cd,cd->c", delta, delta)
        both = (self.counts > 0) & (other.counts > 0)
        self.scatters += other.scatters
        self.scatters[both] += (squared * self.counts * share)[both]
        self.means = self.means + delta * share[:, None]
        self.counts = total
        return self

    def without(self, part: "ClassMoments") -> "ClassMoments":
        """Return a new state: these rows less those of `part`, all among them."""
        rest = ClassMoments(*self.means.shape)
        rest.counts = self.counts - part.counts
        safe = np.maximum(rest.counts, 1)
        delta = part.means - self.means
        rest.means = self.means - delta * (part.counts / safe)[:, None]
        squared = np.einsum("cd,cd->c", delta, delta)
        correction = squared * self.counts * part.counts / safe
        rest.scatters = np.maximum(self.scatters - part.scatters - correction, 0)
        empty = rest.counts == 0
        rest.means[empty], rest.scatters[empty] = 0, 0
        return rest

    @property
    def variances(self) -> Float[np.ndarray, " c"]:
        """Per class E |f - mean_c|^2, summed over dimensions; 0 for an empty class."""
        return self.scatters / np.maximum(self.counts, 1)

    def grouped(self, parents: Int[np.ndarray, " c"]) -> "ClassMoments":
        """Return the moments of a coarser level: classes merged by parent."""
        n_coarse = int(parents.max()) + 1
        coarse = ClassMoments(n_coarse, self.means.shape[1])
        coarse.counts = np.bincount(parents, weights=self.counts).astype(float)
        shift = self.means[np.argmax(self.counts > 0)]
        weighted = (self.means - shift) * self.counts[:, None]
        seen = np.maximum(coarse.counts, 1)[:, None]
        means = class_sums(weighted, parents, n_coarse) / seen + shift
        coarse.means = means * (coarse.counts > 0)[:, None]
        apart = self.means - coarse.means[parents]
        squared = self.counts * np.einsum("cd,cd->c", apart, apart)
        scatters = np.bincount(parents, weights=self.scatters + squared)
        coarse.scatters = scatters.astype(float)
        return coarse
