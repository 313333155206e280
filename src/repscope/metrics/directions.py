"""Rows as directions: at length one, drawn by a hash of their values, zero rows known.

A zero row has no direction; who asks for directions leaves it out and says so.
"""

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped, UInt64

from repscope._arrays import Array, as_double, hash_rows, host, mix, namespace
from repscope._numerics import row_blocks, unit_rows
from repscope.metrics.nearest_points import check_finite, take_rows

Rows = Shaped[Array, "n d"]
RowHashes = UInt64[np.ndarray, " n"]


def directions(rows: Rows, numbers: Int[np.ndarray, " b"]) -> Float[Array, "b d"]:
    """Return the rows of these numbers at length one, in float64; zero rows stay zero.

    Raises:
        NonFiniteFeatureError: where a row holds NaN or infinity.
    """
    taken = take_rows(rows, numbers)
    check_finite(taken, numbers)
    units: Array = unit_rows(as_double(taken))
    return units


def hashes_of(rows: Rows) -> RowHashes:
    """Return one hash per row, of its values."""
    parts = [
        hash_rows(host(rows[block, :]))
        for block in row_blocks(rows.shape[0], 4 * rows.shape[1])
    ]
    return np.concatenate(parts)


def chosen_rows(hashes: RowHashes, most: int, seed: int) -> Int[np.ndarray, " k"]:
    """Return which rows to take, at most `most`, ascending.

    Rows of the least hashes of (seed, values) are taken, so that the order of rows does
    not matter.

    Args:
        hashes: of the rows.
        most: how many to take at most.
        seed: another seed takes other rows.
    """
    if len(hashes) <= most:
        return np.arange(len(hashes))
    drawn = mix(hashes ^ mix(np.array([seed])))
    return np.sort(np.argsort(drawn, kind="stable")[:most])


def has_direction(rows: Rows) -> Bool[np.ndarray, " n"]:
    """Return which rows are not zero.

    Raises:
        NonFiniteFeatureError: where a row holds NaN or infinity.
    """
    parts = []
    for block in row_blocks(rows.shape[0], rows.shape[1]):
        part = rows[block, :]
        check_finite(part, np.arange(block.start, block.stop))
        parts.append(host(namespace(part).any(part != 0, axis=1)))
    return np.concatenate(parts)
