"""What the scores of one row share: its sums, in float64 and safe from overflow.

Rows pass through in blocks that stay in the processor's cache, where these formulas run
many times faster than on whole arrays.
"""

from collections.abc import Callable, Iterator
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Shaped

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
from repscope._numerics import row_blocks, z_score_of_maximum

Rows = Shaped[Array, "n d"]

# Values of a block on the CPU: 1 MiB of float64, which stays in the second-level cache.
CACHED_VALUES = 2**17
# Beyond these magnitudes squares of float64 leave its range.
LEAST_SQUARED, GREATEST_SQUARED = 2.0**-400, 2.0**400
# A smaller L1 norm counts as this one in a quotient, which keeps it finite.
LEAST_L1 = 1e-300


class RowStatistics:
    """A block of rows in float64, and what several scores of it share.

    Rows beyond the range where squares are exact are divided by a power of two first,
    which changes no digit; `scale` holds it.
    """

    def __init__(self, rows: Array, first_row: int) -> None:
        self.raw = as_double(rows)
        self.xp = namespace(self.raw)
        xp = self.xp
        self.magnitudes = xp.abs(self.raw)
        peak = xp.max(self.magnitudes, axis=1)
        _check_finite(peak, first_row)
        extreme = (peak > GREATEST_SQUARED) | ((peak < LEAST_SQUARED) & (peak > 0))
        self.values, self.scale = self.raw, xp.ones_like(peak)
        if bool(xp.any(extreme)):
            exponent = xp.floor(xp.log2(xp.where(extreme, peak, self.scale)))
            self.scale = 2.0**exponent
            self.values = self.raw / self.scale[:, None]
            self.magnitudes = xp.abs(self.values)

    @cached_property
    def mean(self) -> Scores:
        """Mean of each row, in units of `scale`."""
        return self.xp.mean(self.values, axis=1)

    @cached_property
    def constant(self) -> Bool[Array, " n"]:
        """Whether all features of the row are equal."""
        xp = self.xp
        return xp.max(self.values, axis=1) == xp.min(self.values, axis=1)

    @cached_property
    def deviation(self) -> Scores:
        """Standard deviation of each row, ddof 0, in units of `scale`."""
        deviation = self.xp.std(self.values, axis=1)
        # Rounding leaves a constant row a tiny deviation.
        return self.xp.where(self.constant, self.xp.zeros_like(deviation), deviation)

    @cached_property
    def l1(self) -> Scores:
        """Sum of magnitudes, in units of `scale`."""
        return self.xp.sum(self.magnitudes, axis=1)

    @cached_property
    def l2(self) -> Scores:
        """Euclidean length, in units of `scale`."""
        return self.xp.sqrt(self.xp.vecdot(self.values, self.values))

    @cached_property
    def z_max(self) -> Scores:
        """Z-score of the greatest feature, 0 for constant rows."""
        d = self.values.shape[1]
        z = z_score_of_maximum(self.values)
        bounded = self.xp.clip(z, (d - 1.0) ** -0.5, (d - 1.0) ** 0.5)
        return self.xp.where(self.constant, self.xp.zeros_like(z), bounded)

    def per_l1(self, numerator: Scores) -> Scores:
        """Return numerator / L1, and 0 for zero rows."""
        return self.xp.where(
            self.l1 == 0,
            self.xp.zeros_like(numerator),
            numerator / self.xp.clip(self.l1, LEAST_L1, None),
        )


def _check_finite(peak: Scores, first_row: int) -> None:
    finite = host(namespace(peak).isfinite(peak))
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise NonFiniteFeatureError("features", len(bad), first_row + int(bad[0]))


def statistics_of(features: Rows) -> Iterator[RowStatistics]:
    """Yield blocks of rows with their shared sums.

    Args:
        features: (n, d), finite, d at least 2.

    Raises:
        InputError: with fewer than 2 features, or a value that is not finite.
    """
    matrix = as_matrix(features)
    n, d = matrix.shape
    if d < 2:
        raise InputError(
            "features: a score within a row compares its features",
            found=f"{d} feature per row",
            expected="at least 2",
        )
    if is_on_device(matrix):
        slices = row_blocks(n, d)
    else:
        step = max(1, CACHED_VALUES // d)
        slices = (slice(start, start + step) for start in range(0, n, step))
    for rows in slices:
        yield RowStatistics(matrix[rows, :], rows.start)


def per_row(features: Rows, function: Callable[[RowStatistics], Scores]) -> Scores:
    """Return one score per row, block by block."""
    parts = [function(block) for block in statistics_of(features)]
    return namespace(*parts).concat(parts)
