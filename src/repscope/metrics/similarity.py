"""How alike are two sets of features of the same rows? Linear CKA.

Layer beside layer, epoch beside epoch, encoder beside encoder: rotations and a common
factor change nothing.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int, Shaped

from repscope._arrays import Array, as_double, as_matrix, host, namespace
from repscope._checking import Undecidable, check_length
from repscope._numerics import row_blocks
from repscope.metrics.directions import RowHashes, hashes_of
from repscope.metrics.intervals import block_of_rows, jackknifed, n_blocks
from repscope.metrics.metric import Estimate, metric
from repscope.metrics.nearest_points import greatest_magnitude, take_rows
from repscope.representations.moments import Moments

Rows = Shaped[Array, "n d"]
# What is left of a difference below this share of its terms is rounding.
ROUNDING = 1e-12
# As many rows; a wrong number is an error that says so.
OtherRows = Shaped[Array, "m e"]


@metric(
    title="linear CKA",
    formula="|Xᵀ Y|² / (|Xᵀ X| |Yᵀ Y|), Frobenius norms, columns of X and Y less their "
    "means",
    needs="pair",
    range="[0, 1]",
    bounds=(0.0, 1.0),
    direction="none",
    minimum_n=3,
    degree=0,
    invariances=("shift", "rotation", "duplication"),
    cost="O(n (d + e)²), or O(n² (d + e)) where n < d + e",
    source="Kornblith et al. 2019, Section 3",
    misleads="far above 0 for unrelated features where n is not well above d, see "
    "cka_debiased; rests on the directions of greatest variance, a few outliers "
    "included",
)
def cka_linear(
    features: Rows, other: OtherRows, *, row_hashes: RowHashes | None = None
) -> Estimate:
    """Return the linear centred kernel alignment of two sets of features.

    |X^T Y|_F^2 / (|X^T X|_F |Y^T Y|_F) on columns less their means; from the n x n Gram
    matrices where n is below d + e, which gives the same. The interval is a jackknife
    over blocks of rows.

    Args:
        features: (n, d).
        other: (n, e), of the same rows in the same order.
        row_hashes: of the rows of `features`, where they are known.

    Returns:
        From 0 (no linear relation) to 1 (equal up to a rotation and a factor).

    Raises:
        InputError: for other numbers of rows, or where a value is NaN or infinite.
        Undecidable: where one of the two is constant.

    Source: Kornblith et al. 2019, Section 3. As in the source.

    Example:
        >>> rows = np.array([[0.0, 1.0], [2.0, 0.0], [5.0, 3.0]])
        >>> round(cka_linear(rows, 3 * rows[:, ::-1]).value, 12)
        1.0
    """
    return _estimate(features, other, row_hashes, _plain)


@metric(
    title="linear CKA without bias",
    formula="H(X, Y) / √(H(X, X) H(Y, Y)), H the unbiased estimate of the "
    "Hilbert-Schmidt independence criterion with linear kernels",
    needs="pair",
    range="(-∞, 1]; about 0 for unrelated features",
    bounds=(None, 1.0),
    direction="none",
    minimum_n=4,
    degree=0,
    invariances=("shift", "rotation"),
    cost="O(n (d + e)²), or O(n² (d + e)) where n < d + e",
    source="Nguyen, Raghu, Kornblith 2021, Section 3; Song et al. 2012, Eq. 5",
    misleads="copies of rows count as relation; a little below 0 by chance",
)
def cka_debiased(
    features: Rows, other: OtherRows, *, row_hashes: RowHashes | None = None
) -> Estimate:
    """Return linear CKA from the unbiased estimate of each of its three terms.

    H(X, Y) = (tr K' L' + 1'K'1 1'L'1 / ((n - 1)(n - 2)) - 2 1'K'L'1 / (n - 2))
    / (n (n - 3)), K' and L' the Gram matrices without their diagonals. On columns less
    their means the rows of a Gram matrix sum to 0, so that K'1 is less its diagonal.

    Args:
        features: (n, d).
        other: (n, e), of the same rows in the same order.
        row_hashes: of the rows of `features`, where they are known.

    Returns:
        About 0 for unrelated features whatever n and d, 1 for equal ones up to a
        rotation and a factor.

    Raises:
        InputError: for other numbers of rows, or where a value is NaN or infinite.
        Undecidable: with fewer than 4 rows, or where one of the two is constant, or has
            all rows equally far from each other.

    Source: Song et al. 2012, Eq. 5; Nguyen, Raghu, Kornblith 2021, Section 3. As in the
    source, on all rows at once.
    """
    return _estimate(features, other, row_hashes, _debiased)


def cka_matrix(layers: Sequence[Array]) -> Float[np.ndarray, "k k"]:
    """Return linear CKA of every two sets of features: layers, epochs or encoders.

    Args:
        layers: (n, d_k) each, of the same rows in the same order.

    Returns:
        Symmetric, 1 on the diagonal.

    Raises:
        InputError: for other numbers of rows, or where a value is NaN or infinite.
        Undecidable: where one of the sets is constant.
    """
    values = np.eye(len(layers))
    for i, one in enumerate(layers):
        for j in range(i):
            values[i, j] = values[j, i] = _plain(
                _products(*_pair(one, layers[j]))(None)
            )
    return values


@dataclass(frozen=True, eq=False)
class Products:
    """What CKA is computed from: of columns less their means.

    Args:
        n: rows.
        cross: |X^T Y|_F^2, the trace of the product of the Gram matrices.
        own: |X^T X|_F^2.
        other: |Y^T Y|_F^2.
        diagonals: returns those of the two Gram matrices.
    """

    n: int
    cross: float
    own: float
    other: float
    diagonals: Callable[[], tuple[np.ndarray, np.ndarray]]

    @cached_property
    def squares(self) -> tuple[np.ndarray, np.ndarray]:
        """Squared lengths of the rows of X and of Y."""
        return self.diagonals()


# Products without a block of rows, or of all rows.
ProductsWithout = Callable[[Int[np.ndarray, " b"] | None], Products]


def _plain(products: Products) -> float:
    if products.own == 0 or products.other == 0:
        raise Undecidable("constant features have no similarity")
    value = products.cross / math.sqrt(products.own) / math.sqrt(products.other)
    return min(value, 1.0)


def _debiased(products: Products) -> float:
    if products.n < 4:
        raise Undecidable(f"n = {products.n}; at least 4 rows are needed")
    if products.own == 0 or products.other == 0:
        raise Undecidable("constant features have no similarity")
    x, y = products.squares
    own = _unbiased(products.n, products.own, x, x)
    other = _unbiased(products.n, products.other, y, y)
    if own <= ROUNDING * products.own or other <= ROUNDING * products.other:
        raise Undecidable("all rows are equally far from each other")
    cross = _unbiased(products.n, products.cross, x, y)
    return min(cross / math.sqrt(own) / math.sqrt(other), 1.0)


def _unbiased(
    n: int, trace: float, x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]
) -> float:
    """Return n (n - 3) times the unbiased criterion of centred Gram matrices."""
    shared = float(x @ y)
    sums = float(x.sum()) * float(y.sum())
    return trace - shared * n / (n - 2) + sums / ((n - 1) * (n - 2))


def _estimate(
    features: Rows,
    other: OtherRows,
    row_hashes: RowHashes | None,
    function: Callable[[Products], float],
) -> Estimate:
    x, y = _pair(features, other)
    n = x.shape[0]
    dealt = block_of_rows(
        hashes_of(x) if row_hashes is None else row_hashes, n_blocks(n, 1)
    )
    blocks = [np.flatnonzero(dealt == block) for block in np.unique(dealt)]
    without = _products(x, y)

    def number(left_out: int | None) -> float:
        return function(without(None if left_out is None else blocks[left_out]))

    found = jackknifed(number, np.array([len(block) for block in blocks]))
    if found is None:
        return Estimate(number(None))
    return Estimate(found.value, found.interval, {"interval": "block jackknife"})


def _pair(features: Rows, other: OtherRows) -> tuple[Rows, OtherRows]:
    x, y = as_matrix(features), as_matrix(other, "other")
    check_length("other", y.shape[0], x.shape[0])
    return x, y


def _products(x: Rows, y: OtherRows) -> ProductsWithout:
    """Return products of all rows and of all but a block, by the cheaper way."""
    units = _unit(x), _unit(y)
    if x.shape[0] < x.shape[1] + y.shape[1]:
        return _from_grams(as_double(x) / units[0], as_double(y) / units[1])
    return _from_moments(x, y, units)


def _unit(rows: Rows) -> float:
    """Return a power of two near the greatest magnitude, so that squares stay finite.

    Squares of squares are taken: values from 1e-70 to 1e70 would do by themselves.
    """
    peak = greatest_magnitude(rows)
    return 2.0 ** math.floor(math.log2(peak)) if peak > 0 else 1.0


def _from_grams(x: Float[Array, "n d"], y: Float[Array, "n e"]) -> ProductsWithout:
    grams = _gram(x), _gram(y)

    def without(left_out: Int[np.ndarray, " b"] | None) -> Products:
        k, m = grams
        if left_out is not None:
            kept = np.delete(np.arange(len(k)), left_out)
            if len(kept) == 0:
                raise Undecidable("leaving a block out leaves no row")
            k, m = _centred(k[np.ix_(kept, kept)]), _centred(m[np.ix_(kept, kept)])
        return Products(
            n=len(k),
            cross=max(float(np.vdot(k, m)), 0.0),
            own=float(np.vdot(k, k)),
            other=float(np.vdot(m, m)),
            diagonals=lambda: (np.diag(k), np.diag(m)),
        )

    return without


def _gram(rows: Float[Array, "n d"]) -> Float[np.ndarray, "n n"]:
    # Less the first row, constant features are zero, not the rounding of a mean.
    centred = rows - rows[:1, :]
    centred = centred - namespace(centred).mean(centred, axis=0)
    return host(centred @ centred.T)


def _centred(gram: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    means = gram.mean(axis=0)
    return gram - means - means[:, None] + means.mean()


def _from_moments(x: Rows, y: OtherRows, units: tuple[float, float]) -> ProductsWithout:
    n, d = x.shape
    everything = np.arange(n)

    def joined(numbers: Int[np.ndarray, " b"]) -> Float[Array, "b f"]:
        parts = [
            as_double(take_rows(rows, numbers)) / unit
            for rows, unit in zip((x, y), units, strict=True)
        ]
        return namespace(*parts).concat(parts, axis=1)

    def moments_of(numbers: Int[np.ndarray, " b"]) -> Moments:
        moments = Moments(d + y.shape[1])
        for block in row_blocks(len(numbers), 4 * moments.d):
            moments.update(joined(numbers[block]))
        return moments

    total = moments_of(everything)

    def without(left_out: Int[np.ndarray, " b"] | None) -> Products:
        moments, kept = total, everything
        if left_out is not None:
            moments = total.without(moments_of(left_out))
            kept = np.delete(everything, left_out)

        def diagonals() -> tuple[np.ndarray, np.ndarray]:
            squares = np.empty((2, len(kept)))
            for block in row_blocks(len(kept), 4 * moments.d):
                apart = host(joined(kept[block])) - moments.mean
                squares[0, block] = np.vecdot(apart[:, :d], apart[:, :d])
                squares[1, block] = np.vecdot(apart[:, d:], apart[:, d:])
            return squares[0], squares[1]

        scatter = moments.scatter
        return Products(
            n=moments.n,
            cross=_squared_norm(scatter[:d, d:]),
            own=_squared_norm(scatter[:d, :d]),
            other=_squared_norm(scatter[d:, d:]),
            diagonals=diagonals,
        )

    return without


def _squared_norm(matrix: Float[np.ndarray, "d e"]) -> float:
    return float((matrix**2).sum())
