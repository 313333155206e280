"""A block of rows in float64, and what several scores of a row share.

Blocks are small enough for a processor's cache; each sum is taken once, when a score
asks for it.
"""

from collections.abc import Callable, Iterator
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Shaped

from repscope._arrays import (
    Array,
    Scores,
    as_double,
    as_matrix,
    host,
    is_on_device,
    namespace,
)
from repscope._checking import InputError, NonFiniteFeatureError
from repscope._numerics import row_blocks

Rows = Shaped[Array, "n d"]

# Values of a block on the CPU: 1 MiB of float64, which stays in the second-level cache.
CACHED_VALUES = 2**17
# Beyond these magnitudes sums of squares leave the range of float64.
LEAST_SQUARED, GREATEST_SQUARED = 2.0**-400, 2.0**400
# A smaller L1 norm counts as this one in a quotient, which keeps it finite.
LEAST_L1 = 1e-300


class RowBlock:
    """Rows in float64 and their shared sums.

    Rows too great or too small to square are divided by a power of two first, which
    changes no digit.

    Args:
        rows: finite.

    Attributes:
        raw: the rows as they are.
        values: the rows divided by `scale`.
        scale: 1 but for extreme rows.
        maximum: the greatest of `values` in each row.
        minimum: the least.
        xp: their array namespace.
    """

    def __init__(self, rows: Array) -> None:
        self.raw = as_double(rows)
        self.xp = xp = namespace(self.raw)
        self.maximum = xp.max(self.raw, axis=1)
        self.minimum = xp.min(self.raw, axis=1)
        peak = xp.maximum(self.maximum, -self.minimum)
        self.finite = xp.isfinite(peak)
        self.values, self.scale = self.raw, xp.ones_like(peak)
        extreme = (peak > GREATEST_SQUARED) | ((peak < LEAST_SQUARED) & (peak > 0))
        extreme = extreme & self.finite
        if bool(xp.any(extreme)):
            exponent = xp.floor(xp.log2(xp.where(extreme, peak, self.scale)))
            self.scale = 2.0**exponent
            self.values = self.raw / self.scale[:, None]
            self.maximum, self.minimum = (
                xp.max(self.values, axis=1),
                xp.min(self.values, axis=1),
            )

    @property
    def d(self) -> int:
        """Features per row."""
        return int(self.raw.shape[1])

    @cached_property
    def magnitudes(self) -> Float[Array, "n d"]:
        """|values|; the values themselves where none is negative."""
        if bool(self.xp.all(self.minimum >= 0)):
            return self.values
        return self.xp.abs(self.values)

    @cached_property
    def constant(self) -> Bool[Array, " n"]:
        """Whether all features of the row are equal."""
        return self.maximum == self.minimum

    @cached_property
    def mean(self) -> Scores:
        """The mean of `values`."""
        return self.xp.mean(self.values, axis=1)

    @cached_property
    def deviation(self) -> Scores:
        """The standard deviation (ddof 0) of `values`, exactly 0 in constant rows."""
        apart = self.values - self.mean[:, None]
        deviation = self.xp.sqrt(self.xp.vecdot(apart, apart) / self.d)
        return self.xp.where(self.constant, self.xp.zeros_like(deviation), deviation)

    @cached_property
    def l1(self) -> Scores:
        """The sum of `magnitudes`."""
        return self.xp.sum(self.magnitudes, axis=1)

    @cached_property
    def l2(self) -> Scores:
        """The Euclidean length of `values`."""
        return self.xp.sqrt(self.xp.vecdot(self.values, self.values))

    @cached_property
    def z_max(self) -> Scores:
        """The z-score of the greatest feature, kept within its bounds."""
        safe = self.xp.where(
            self.constant, self.xp.ones_like(self.deviation), self.deviation
        )
        z = (self.maximum - self.mean) / safe
        bounded = self.xp.clip(z, (self.d - 1.0) ** -0.5, (self.d - 1.0) ** 0.5)
        return self.xp.where(self.constant, self.xp.zeros_like(z), bounded)

    def per_l1(self, numerator: Scores) -> Scores:
        """Return numerator / L1 of `values`; 0 where that is 0."""
        zero = self.l1 == 0
        divisor = self.xp.where(zero, self.xp.ones_like(self.l1), self.l1)
        return self.xp.where(zero, self.xp.zeros_like(numerator), numerator / divisor)


def row_sums(features: Rows) -> Iterator[RowBlock]:
    """Yield the blocks of a matrix in order.

    Raises:
        InputError: with fewer than 2 features per row.
        NonFiniteFeatureError: where a row holds NaN or infinity.
    """
    matrix = as_matrix(features)
    n, d = matrix.shape
    if d < 2:
        raise InputError(
            "features: a score within a row compares its features",
            found=f"{d} feature per row",
            expected="at least 2",
        )
    for rows in _slices(matrix, n, d):
        block = RowBlock(matrix[rows, :])
        if not bool(block.xp.all(block.finite)):
            _raise_nonfinite(matrix)
        yield block


def _slices(matrix: Array, n: int, d: int) -> Iterator[slice]:
    if is_on_device(matrix):
        yield from row_blocks(n, d)
        return
    step = max(1, CACHED_VALUES // d)
    for start in range(0, n, step):
        yield slice(start, start + step)


def _raise_nonfinite(matrix: Array) -> None:
    xp = namespace(matrix)
    bad = np.flatnonzero(~host(xp.all(xp.isfinite(matrix), axis=1)))
    raise NonFiniteFeatureError("features", len(bad), int(bad[0]))


def per_row(features: Rows, function: Callable[[RowBlock], Scores]) -> Scores:
    """Return one score per row, block by block.

    Raises:
        InputError: with fewer than 2 features, or a value that is not finite.
    """
    parts = [function(block) for block in row_sums(features)]
    return namespace(*parts).concat(parts)
