"""The eigenbasis of a Gram matrix: one decomposition that all linear probes share."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from repscope._numerics import safe_eigh

# Eigenvalues below this share of the first carry no direction.
RELATIVE_RANK_FLOOR = 1e-10


@dataclass(frozen=True, eq=False)
class GramBasis:
    """Features in the eigenbasis of X^T X.

    Args:
        values: (r,) positive eigenvalues, descending.
        axes: (d, r) orthonormal.
        rotated: (n, r) the features along the axes; rotated^T rotated is diagonal.
    """

    values: Float[np.ndarray, " r"]
    axes: Float[np.ndarray, "d r"]
    rotated: Float[np.ndarray, "n r"]

    @classmethod
    def of(cls, features: Float[np.ndarray, "n d"]) -> "GramBasis":
        """Return the basis, from the smaller of X^T X and X X^T."""
        n, d = features.shape
        is_wide = n < d
        gram = features @ features.T if is_wide else features.T @ features
        eigen = safe_eigh(gram, vectors=True)
        kept = eigen.values > RELATIVE_RANK_FLOOR * eigen.values[0]
        values, vectors = eigen.values[kept], np.asarray(eigen.vectors)[:, kept]
        if is_wide:
            roots = np.sqrt(values)
            return cls(values, features.T @ (vectors / roots), vectors * roots)
        return cls(values, vectors, features @ vectors)
