"""What states of sums share: what can be squared and added, and how they are saved."""

import io
import zipfile
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Shaped

from repscope._checking import InputError

# Values of a block of rows, 2 MB in float64: what one pass leaves in a processor's
# cache the next one finds there. At least so many rows that a product is worth it.
BLOCK_VALUES, BLOCK_MINIMUM_ROWS = 2**18, 512
# A product of wide rows keeps two cores busy only with about twice as many rows as
# columns; 64 MiB of float64 at most.
WIDE_BLOCK_VALUES = 2**23
# Sums of squares beyond the first leave the range of float64, those below the second
# lose digits.
GREATEST_SQUARES, LEAST_SQUARES = 2.0**1000, 2.0**-900
# What reading a damaged archive may raise.
_DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    RuntimeError,
    zipfile.BadZipFile,
)


def rows_at_once(d: int) -> int:
    """Return how many rows of d features pass through the cache together."""
    wide = min(2 * d, WIDE_BLOCK_VALUES // d)
    return max(BLOCK_MINIMUM_ROWS, BLOCK_VALUES // d, wide)


def check_width(found: int, expected: int, what: str) -> None:
    """Raise InputError unless two widths agree.

    Raises:
        InputError: naming both.
    """
    if found != expected:
        raise InputError(
            f"moments: {what}",
            found=f"{found} dimensions",
            expected=f"{expected}",
        )


def sum_of_squares(values: Float[np.ndarray, "..."]) -> float:
    """Return the sum of squares of all values; infinite where it overflows."""
    flat = values.reshape(-1)
    with np.errstate(invalid="ignore", over="ignore"):
        return float(np.dot(flat, flat))


def check_squares(squares: float, block: Shaped[np.ndarray, "b d"]) -> None:
    """Raise InputError where squares of a block's values cannot be added up.

    Args:
        squares: the greatest sum of squares that the block gives rise to.
        block: the rows, for the message.

    Raises:
        InputError: where the sum is not finite, or too near to it.
    """
    if squares < GREATEST_SQUARES:
        return
    if not np.isfinite(block).all():
        raise InputError("moments: some features are NaN or infinite")
    raise InputError(
        "moments: features too large to square",
        found=f"{np.abs(block.astype(np.float64)).max():.3g}",
        expected="at most about 1e140",
        fix="divide all features by a common factor",
    )


def archive_of(arrays: Mapping[str, Shaped[np.ndarray, "..."]]) -> bytes:
    """Return the bytes of an npz archive of plain arrays."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def arrays_of(
    data: bytes, names: tuple[str, ...], what: str
) -> dict[str, Shaped[np.ndarray, "..."]]:
    """Return the arrays of an archive by name.

    Args:
        data: what `archive_of` wrote.
        names: of the arrays that must be there.
        what: to call it in an error.

    Raises:
        InputError: where the bytes hold no such arrays.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in names}
    except _DAMAGE as error:
        raise InputError(f"no saved {what}: {error}") from error
