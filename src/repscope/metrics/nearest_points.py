"""Rows as points, and as factors of a product whose entries rank their distances.

Points less a centre keep their precision whatever offset all rows share; a bound of
the product's rounding is part of the product.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import array_api_compat
import numpy as np
from jaxtyping import Float, Int, Shaped

from repscope._arrays import Array, as_double, host, is_on_device, namespace
from repscope._checking import NonFiniteFeatureError
from repscope._numerics import row_blocks, unit_rows

Geometry = Literal["cosine", "euclidean"]
Rows = Shaped[Array, "n d"]
# Rows of another width are an error that says so.
Queries = Shaped[Array, "m e"]

# The centre is the median of this many rows of the bank, spread over it.
CENTRE_ROWS = 1024
# Values that stay in a processor's cache while rows are made points.
CACHED_VALUES = 2**17
# More than products of float32 lose where they come near the least number.
UNDERFLOW = 1e-36
# Columns are filled up to a multiple of this many.
ALIGNED_VALUES = 8
# Outside this range squares are not to be trusted: rows are scaled first.
LEAST_SQUARED, GREATEST_SQUARED = 2.0**-600, 2.0**600


@dataclass(frozen=True, eq=False)
class Frame:
    """How rows become points, whose distances are compared.

    For cosines a point is the row at length one; a zero row points along a dimension of
    its own, so that its cosine with every other row is 0.

    Args:
        geometry: what is compared.
        centre: near the middle of the points: less it, a common offset costs no
            precision.
        scale: power of two that rows are divided by; 1 for cosines.
    """

    geometry: Geometry
    centre: Float[Array, " d"]
    scale: float

    @classmethod
    def of(cls, geometry: Geometry, bank: Rows, queries: Queries) -> "Frame":
        """Return the frame for a bank and its queries."""
        scale = 1.0
        if geometry == "euclidean":
            peak = max(greatest_magnitude(bank), greatest_magnitude(queries))
            scale = 2.0 ** np.ceil(np.log2(peak)) if peak > 0 else 1.0
        step = max(1, bank.shape[0] // CENTRE_ROWS)
        plain = cls(geometry, as_double(bank[0, :]) * 0, scale)
        points, _ = plain.points(bank[::step, :][:CENTRE_ROWS, :])
        xp = namespace(points)
        return cls(geometry, xp.sort(points, axis=0)[points.shape[0] // 2, :], scale)

    def points(self, rows: Rows) -> tuple[Float[Array, "n d"], Float[Array, " n"]]:
        """Return points in float64, and the square of the dimension of their own.

        Raises:
            NonFiniteFeatureError: where a row holds NaN or infinity.
        """
        doubled = as_double(rows)
        xp = namespace(doubled)
        if self.geometry == "euclidean":
            return doubled / self.scale, xp.zeros_like(doubled[:, 0])
        with np.errstate(over="ignore", invalid="ignore"):
            squared = xp.vecdot(doubled, doubled)
        usual = (squared > LEAST_SQUARED) & (squared < GREATEST_SQUARED)
        if bool(xp.all(usual)):
            return doubled / xp.sqrt(squared)[:, None], xp.zeros_like(squared)
        check_finite(doubled)
        points = unit_rows(doubled)
        zero = xp.all(doubled == 0, axis=1)
        return points, xp.astype(zero, xp.float64)


def greatest_magnitude(rows: Rows) -> float:
    """Return the greatest absolute value.

    Raises:
        NonFiniteFeatureError: where a row holds NaN or infinity.
    """
    peak = 0.0
    for block in row_blocks(rows.shape[0], 4 * rows.shape[1]):
        doubled = as_double(rows[block, :])
        greatest = float(namespace(doubled).max(abs(doubled)))
        if not np.isfinite(greatest):
            check_finite(doubled, np.arange(block.start, block.stop))
        peak = max(peak, greatest)
    return peak


def check_finite(rows: Rows, numbers: Int[np.ndarray, " n"] | None = None) -> None:
    """Raise unless all values are finite.

    Args:
        rows: (n, d).
        numbers: of the rows, for the error; from 0 where not given.

    Raises:
        NonFiniteFeatureError: naming the first row with NaN or infinity.
    """
    xp = namespace(rows)
    if not xp.isdtype(rows.dtype, "real floating"):
        return
    finite = xp.isfinite(rows)
    if not bool(xp.all(finite)):
        bad = np.flatnonzero(~host(xp.all(finite, axis=1)))
        first = int(bad[0]) if numbers is None else int(numbers[bad[0]])
        raise NonFiniteFeatureError("features", len(bad), first)


@dataclass(frozen=True, eq=False)
class Side:
    """Rows of the bank or queries, as factors of a product that gives scores.

    A score is u v - |v|^2 / 2 for u and v less the centre, which falls with their
    distance. Two more columns add that square and a bound of the score's rounding,
    slack (|v|^2 + |u| |v|).

    Args:
        columns: (n, d + 2), filled up with zeros.
        sizes: (n,) |v|.
        extents: (n,) |v|^2.
        start: the number of the first row.
    """

    columns: Float[Array, "n e"]
    sizes: Float[np.ndarray, " n"]
    extents: Float[np.ndarray, " n"]
    start: int


def side_of(
    rows: Rows, block: slice, frame: Frame, precision: str, slack: float | None
) -> Side:
    """Return a block of rows as factors of scores.

    Args:
        rows: (n, d) of the bank or queries.
        block: which of them.
        frame: what makes them points.
        precision: "float32" or "float64".
        slack: of the scores, for rows of the bank; None for queries.
    """
    xp = namespace(rows)
    device = array_api_compat.device(rows)
    n, d = block.stop - block.start, rows.shape[1]
    # BLAS is quickest with rows that begin on a boundary of 32 bytes.
    width = d + 2 + (-(d + 2)) % ALIGNED_VALUES
    columns = xp.zeros((n, width), dtype=getattr(xp, precision), device=device)
    extents = xp.empty(n, dtype=xp.float64, device=device)
    for part in _cached(block, d, whole=is_on_device(rows)):
        into = slice(part.start - block.start, part.stop - block.start)
        points, lifts = frame.points(rows[part, :])
        points = points - frame.centre
        square = xp.vecdot(points, points)
        size = xp.sqrt(square)
        if slack is None:
            columns[into, d], columns[into, d + 1] = 1, size
        else:
            square = square + lifts
            columns[into, d] = xp.astype(
                (slack - 0.5) * square + UNDERFLOW, columns.dtype
            )
            columns[into, d + 1] = xp.astype(slack * size, columns.dtype)
        columns[into, :d] = xp.astype(points, columns.dtype)
        extents[into] = square
    squares = host(extents)
    return Side(columns, np.sqrt(squares), squares, block.start)


def _cached(block: slice, d: int, *, whole: bool) -> Iterator[slice]:
    step = block.stop - block.start if whole else max(1, CACHED_VALUES // d)
    for start in range(block.start, block.stop, step):
        yield slice(start, min(start + step, block.stop))


def take_rows(features: Rows, numbers: Int[np.ndarray, " q"]) -> Shaped[Array, "q d"]:
    """Return the rows of these numbers, where the features live."""
    xp = namespace(features)
    device = array_api_compat.device(features)
    return xp.take(features, xp.asarray(numbers, device=device), axis=0)
