"""What the rows of each class add up to: count, mean and spread, merged exactly.

Class distances and variances, nearest centres and collapse are functions of this state.
"""

import numpy as np
from jaxtyping import Float, Int, Shaped

from repscope._arrays import Array, as_double, as_matrix, host
from repscope._checking import InputError, check_length
from repscope._numerics import class_sums
from repscope.representations.summed_state import (
    archive_of,
    arrays_of,
    check_squares,
    check_width,
    rows_at_once,
    sum_of_squares,
)


class ClassMoments:
    """Per class: count, mean and scalar scatter sum |f - mean_c|^2; mergeable.

    Args:
        n_classes: number of classes c.
        d: feature dimensions.

    Source: Chan, Golub, LeVeque 1983, Eqs. 1.4-1.5, once per class. As in the source.

    Example:
        >>> rows = np.array([[0.0], [2.0], [5.0]])
        >>> moments = ClassMoments(2, 1).update(rows, np.array([0, 0, 1]))
        >>> moments.means.tolist(), moments.variances.tolist()
        ([[1.0], [5.0]], [1.0, 0.0])
    """

    def __init__(self, n_classes: int, d: int) -> None:
        self.counts = np.zeros(n_classes)
        self.means = np.zeros((n_classes, d))
        self.scatters = np.zeros(n_classes)

    @property
    def d(self) -> int:
        """Feature dimensions."""
        return self.means.shape[1]

    @property
    def n_classes(self) -> int:
        """Classes, seen or not."""
        return len(self.counts)

    def update(
        self, features: Shaped[Array, "n d"], labels: Shaped[Array, " n"]
    ) -> "ClassMoments":
        """Add a batch of rows with their class codes.

        Args:
            features: (n, d), NumPy or torch, finite, any real dtype; no rows change
                nothing.
            labels: (n,) whole numbers from 0 to c - 1.

        Raises:
            InputError: where the batch has another number of dimensions or of labels, a
                label is no class, or values are not finite or too large to square.
        """
        if getattr(features, "shape", None) == (0, self.d) and len(labels) == 0:
            return self
        matrix = as_matrix(features)
        n, d = matrix.shape
        check_width(d, self.d, "a batch of another width")
        codes = self._checked_codes(labels, n)
        step = rows_at_once(d)
        for start in range(0, n, step):
            rows = slice(start, start + step)
            self._add_block(host(as_double(matrix[rows, :])), codes[rows])
        return self

    def _checked_codes(self, labels: Array, n: int) -> Int[np.ndarray, " n"]:
        codes = np.asarray(host(labels))
        check_length("labels", len(codes), n)
        if codes.dtype.kind not in "iu" or codes.ndim != 1:
            raise InputError(
                "labels: class codes are needed",
                found=f"values of type {codes.dtype}, shape {codes.shape}",
                expected="one whole number per row",
            )
        low, high = int(codes.min()), int(codes.max())
        if low < 0 or high >= self.n_classes:
            raise InputError(
                "labels: a code that is no class",
                found=f"{low if low < 0 else high}",
                expected=f"0 to {self.n_classes - 1}",
            )
        return codes.astype(np.int64, copy=False)

    def _add_block(
        self, block: Float[np.ndarray, "b d"], codes: Int[np.ndarray, " b"]
    ) -> None:
        present, first, own = np.unique(codes, return_index=True, return_inverse=True)
        # Less the class's first row, which is as far from its mean as any: a large
        # common offset costs no digits, and constant features are exactly zero.
        origins = block[first]
        with np.errstate(invalid="ignore", over="ignore"):
            shifted = origins[own]
            np.subtract(block, shifted, out=shifted)
            squares = np.einsum("nd,nd->n", shifted, shifted)
            total = float(squares.sum())
        check_squares(total + len(block) * sum_of_squares(block[0]), block)
        counts = np.bincount(own).astype(np.float64)
        sums = class_sums(shifted, own, len(present))
        means = sums / counts[:, None]
        scatters = np.bincount(own, weights=squares)
        scatters -= np.einsum("cd,cd->c", sums, means)
        self._add(present, counts, origins + means, np.maximum(scatters, 0))

    def merge(self, other: "ClassMoments") -> "ClassMoments":
        """Add the rows that another state has seen.

        Raises:
            InputError: where the other state has other classes or dimensions.
        """
        if other.means.shape != self.means.shape:
            raise InputError(
                "moments: states of different classes or widths cannot be merged",
                found=f"{other.n_classes} classes, {other.d} dimensions",
                expected=f"{self.n_classes} classes, {self.d} dimensions",
            )
        seen = np.flatnonzero(other.counts)
        self._add(seen, other.counts[seen], other.means[seen], other.scatters[seen])
        return self

    def _add(
        self,
        classes: Int[np.ndarray, " k"],
        counts: Float[np.ndarray, " k"],
        means: Float[np.ndarray, "k d"],
        scatters: Float[np.ndarray, " k"],
    ) -> None:
        before = self.counts[classes]
        share = counts / (before + counts)
        delta = means - self.means[classes]
        squared = np.einsum("kd,kd->k", delta, delta)
        self.scatters[classes] += scatters + squared * before * share
        self.means[classes] += delta * share[:, None]
        self.counts[classes] += counts

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
        coarse = ClassMoments(n_coarse, self.d)
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

    def to_bytes(self) -> bytes:
        """Return the state as the bytes of an npz archive of plain arrays."""
        return archive_of(
            {"counts": self.counts, "means": self.means, "scatters": self.scatters}
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "ClassMoments":
        """Return the state that `to_bytes` wrote.

        Raises:
            InputError: where the bytes hold no such state.
        """
        saved = arrays_of(data, ("counts", "means", "scatters"), "class moments")
        counts, means, scatters = saved["counts"], saved["means"], saved["scatters"]
        if means.ndim != 2 or not counts.shape == scatters.shape == means.shape[:1]:
            raise InputError("no saved class moments: arrays do not fit together")
        if any(array.dtype.kind != "f" for array in saved.values()):
            raise InputError("no saved class moments: numbers of another type")
        state = cls(*means.shape)
        state.counts, state.means = counts.astype(float), means.astype(float)
        state.scatters = scatters.astype(float)
        whole = np.isfinite(counts).all() and (counts == np.floor(counts)).all()
        finite = np.isfinite(means).all() and np.isfinite(scatters).all()
        if not (whole and finite) or counts.min() < 0 or scatters.min() < 0:
            raise InputError("no saved class moments: impossible numbers")
        return state
