"""Which rows stand for all, where all are too many? The same ones in any order."""

import numpy as np
from jaxtyping import Int, Shaped, UInt64

from repscope._arrays import Array, as_double, hash_rows, host, mix
from repscope._checking import check_length
from repscope._numerics import row_blocks


def value_hashes(features: Shaped[Array, "n d"]) -> UInt64[np.ndarray, " n"]:
    """Return a hash of each row's values."""
    n, d = features.shape
    parts = [
        hash_rows(host(as_double(features[rows, :]))) for rows in row_blocks(n, 3 * d)
    ]
    return np.concatenate(parts)


def sampled_rows(
    features: Shaped[Array, "n d"],
    row_hashes: UInt64[np.ndarray, " n"] | None,
    *,
    seed: int,
    maximum_rows: int,
) -> Int[np.ndarray, " m"]:
    """Return the rows of smallest hash with the seed, ascending; all if few enough.

    Args:
        features: (n, d).
        row_hashes: (n,) of row ids; the rows' own values are hashed if None.
        seed: another seed gives another sample.
        maximum_rows: how many.

    Raises:
        InputError: where there is not one hash per row.
    """
    n = features.shape[0]
    if row_hashes is not None:
        check_length("row_hashes", len(row_hashes), n)
    if n <= maximum_rows:
        return np.arange(n)
    hashes = value_hashes(features) if row_hashes is None else row_hashes
    order = np.argsort(mix(hashes ^ mix(np.array([seed]))), kind="stable")
    return np.sort(order[:maximum_rows])
