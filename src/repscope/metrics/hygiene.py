"""What stains features before anything is measured: repeats, leaks, dropped rows."""

import numpy as np
from jaxtyping import Bool, Int, UInt64

from repscope._checking import Undecidable
from repscope.metrics.metric import Estimate, metric

_SOURCE = "counted over 64-bit hashes of the rows"


def repeats(row_hashes: UInt64[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
    """Return the rows that repeat an earlier row exactly, ascending.

    Args:
        row_hashes: equal for equal rows.
    """
    first = np.unique(row_hashes, return_index=True)[1]
    is_repeat = np.ones(len(row_hashes), dtype=bool)
    is_repeat[first] = False
    return np.flatnonzero(is_repeat)


def originals(
    row_hashes: UInt64[np.ndarray, " n"], rows: Int[np.ndarray, " m"]
) -> Int[np.ndarray, " m"]:
    """Return for each of some rows the first row that equals it.

    Args:
        row_hashes: equal for equal rows.
        rows: positions, such as `repeats` returns.

    Example:
        >>> hashes = np.array([7, 8, 7, 7], dtype=np.uint64)
        >>> originals(hashes, np.array([2, 3])).tolist()
        [0, 0]
    """
    first, inverse = np.unique(row_hashes, return_index=True, return_inverse=True)[1:]
    return first[inverse.reshape(-1)[rows]]


@metric(
    title="repeated rows",
    formula="share of rows equal to an earlier row",
    needs="rows",
    range="[0, 1]",
    bounds=(0.0, 1.0),
    direction="lower",
    minimum_n=2,
    degree=0,
    invariances=("shift",),
    cost="O(n d)",
    source=_SOURCE,
    misleads="features of few distinct values repeat without the images being the same",
)
def duplicate_rows(row_hashes: UInt64[np.ndarray, " n"]) -> float:
    """Return the share of rows that repeat an earlier row exactly.

    Args:
        row_hashes: equal for equal rows (`repscope._arrays.hash_rows`).

    Returns:
        From 0 to 1 - 1 / n; lower is better.

    Source: a count. As in the source.

    Example:
        >>> duplicate_rows(np.array([7, 7, 8, 7], dtype=np.uint64))
        0.5
    """
    # Sorted in place of a search for the first of each: half the memory.
    ordered = np.sort(row_hashes)
    return int((ordered[1:] == ordered[:-1]).sum()) / len(row_hashes)


@metric(
    title="test rows that also train",
    formula="share of test rows equal to a training row",
    needs="probe",
    range="[0, 1]",
    bounds=(0.0, 1.0),
    direction="lower",
    minimum_n=2,
    degree=0,
    invariances=("shift", "duplication"),
    cost="O(n d)",
    source=_SOURCE,
    misleads="near duplicates (another crop of one photograph) are not seen",
)
def leaked_rows(
    row_hashes: UInt64[np.ndarray, " n"], is_test: Bool[np.ndarray, " n"]
) -> float:
    """Return the share of test rows that stand in the training split too.

    Args:
        row_hashes: equal for equal rows.
        is_test: which rows test.

    Returns:
        From 0 to 1; lower is better.

    Raises:
        Undecidable: without test rows.

    Source: a count. As in the source.
    """
    if not is_test.any():
        raise Undecidable("no test rows")
    return float(np.isin(row_hashes[is_test], row_hashes[~is_test]).mean())


@metric(
    title="dropped rows",
    formula="share of rows with NaN or infinity, dropped on request",
    needs="rows",
    range="[0, 1)",
    bounds=(0.0, 1.0),
    direction="lower",
    degree=0,
    invariances=("shift", "rotation", "duplication"),
    cost="O(n d)",
    source="a count",
    misleads="dropped rows are in no other number of the run",
)
def dropped_rows(n_dropped: int, n_kept: int) -> Estimate:
    """Return the share of rows dropped for NaN or infinity.

    Args:
        n_dropped: rows dropped.
        n_kept: rows left.

    Returns:
        From 0 to below 1; lower is better.

    Source: a count. As in the source.
    """
    share = n_dropped / (n_dropped + n_kept)
    return Estimate(share, details={"count": n_dropped})
