"""The eigenbasis of a Gram matrix: one decomposition that all linear probes share."""

import functools
from dataclasses import dataclass

import array_api_compat
from jaxtyping import Float, Shaped

from repscope._arrays import Array, as_double, as_matrix, namespace
from repscope._checking import InputError
from repscope._eigen import safe_eigh

# An eigenvalue below this share of the first is not resolved by the Gram matrix, whose
# rounding is 1e-16 of it; one below the second share is rounding of the features.
RESOLVED_SHARE = 1e-10
RELATIVE_RANK_FLOOR = 1e-26
# Squares of features within these bounds, and sums of many, keep all their digits.
LEAST_SIZE, GREATEST_SIZE = 1e-140, 1e140


@dataclass(frozen=True, eq=False)
class GramBasis:
    """Features in the eigenbasis of X^T X, in float64 on the device of X.

    Args:
        values: (r,) positive eigenvalues, descending.
        axes: (d, r) orthonormal.
        features: (n, d).
        left: (n, r) orthonormal, where the basis comes from X X^T.
    """

    values: Float[Array, " r"]
    axes: Float[Array, "d r"]
    features: Float[Array, "n d"]
    left: Float[Array, "n r"] | None = None

    @functools.cached_property
    def rotated(self) -> Float[Array, "n r"]:
        """The features along the axes; rotated^T rotated is diagonal."""
        if self.left is None:
            return self.features @ self.axes
        return self.left * namespace(self.values).sqrt(self.values)

    @classmethod
    def of(cls, features: Shaped[Array, "n d"]) -> "GramBasis":
        """Return the basis, from the smaller of X^T X and X X^T.

        The eigenvalues are found on the host. Those that one great direction leaves
        unresolved are found again among the features less that direction.

        Args:
            features: (n, d), not centred here; NumPy or torch, any real dtype.

        Raises:
            InputError: where the features are too large or too small to square.
        """
        rows = as_double(as_matrix(features))
        _check_size(rows)
        if rows.shape[0] < rows.shape[1]:
            values, left = _axes(rows.T, 0.0)
            axes = rows.T @ left / namespace(rows).sqrt(values)
            return cls(values, axes, rows, left=left)
        values, axes = _axes(rows, 0.0)
        return cls(values, axes, rows)


def _axes(
    rows: Float[Array, "n d"], first: float
) -> tuple[Float[Array, " r"], Float[Array, "d r"]]:
    """Return the eigenvalues and axes of X^T X, given the first that was found."""
    xp, device = namespace(rows), array_api_compat.device(rows)
    eigen = safe_eigh(rows.T @ rows, vectors=True)
    assert eigen.vectors is not None
    greatest = float(eigen.values[0])
    first = first or greatest
    count = int((eigen.values > RESOLVED_SHARE * greatest).sum())
    if not greatest > RELATIVE_RANK_FLOOR * first:
        count = 0
    values = xp.asarray(eigen.values[:count].copy(), device=device)
    axes = xp.asarray(eigen.vectors.copy(), device=device)
    if count in (0, len(eigen.values)):
        return values, axes[:, :count]
    rest = axes[:, count:]
    lesser, within = _axes(rows @ rest, first)
    return (
        xp.concat([values, lesser]),
        xp.concat([axes[:, :count], rest @ within], axis=1),
    )


def _check_size(rows: Float[Array, "n d"]) -> None:
    xp = namespace(rows)
    greatest = float(xp.max(xp.abs(rows)))
    if greatest != 0 and not LEAST_SIZE < greatest < GREATEST_SIZE:
        raise InputError(
            "features: their squares leave the range of float64",
            found=f"a greatest magnitude of {greatest:.3g}",
            expected=f"{LEAST_SIZE:g} to {GREATEST_SIZE:g}",
            fix="standardise the features first",
        )
