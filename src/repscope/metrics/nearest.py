"""The nearest rows of a bank, exactly, within a budget of memory.

Candidates are found in single precision, so that none is missed, and measured in double
precision by the length of their difference, which no common offset blurs.
"""

import contextlib

import numpy as np
from jaxtyping import Float, Int, UInt64

from repscope._arrays import as_matrix, host, is_on_device, namespace
from repscope._checking import InputError, UsageError
from repscope._numerics import row_blocks
from repscope.metrics.nearest_candidates import Pairs, Search
from repscope.metrics.nearest_points import Frame, Geometry, Queries, Rows, take_rows
from repscope.metrics.worker_threads import Workers, worker_threads

# A query with more copies than this in the bank lies on a point mass, where features
# have collapsed, not on a repeated row: its copies count.
MOST_COPIES = 20
# Points are of length one, or within one, of each other: distances closer than this
# are ties.
DISTANCE_DECIMALS = 14
# Values of the pairs that are measured at once: 2 MiB, which stay in a cache.
MEASURED_VALUES = 2**18

Hashes = tuple[UInt64[np.ndarray, " n"], UInt64[np.ndarray, " m"]]
Neighbours = tuple[Int[np.ndarray, "m k"], Float[np.ndarray, "m k"]]

_NO_PAIRS: Pairs = np.zeros((0, 2), dtype=np.int64)


def nearest(
    bank: Rows,
    queries: Queries,
    k: int,
    *,
    hashes: Hashes | None = None,
) -> Neighbours:
    """Return the k most similar rows of a bank for each query, by cosine.

    A zero row has a cosine of 0 with every other. Rows may be NumPy arrays or torch
    tensors on any device; the answer is on the host.

    Args:
        bank: (n, d) rows to choose from.
        queries: (m, d).
        k: neighbours per query, at most n.
        hashes: of bank and queries, equal for equal rows; rows of the bank that equal
            the query are then left out, unless there are more than 20.

    Returns:
        Indices into the bank, the most similar first (ties: the smaller index), and
        cosines; -inf where a query has fewer neighbours left, or is zero.

    Raises:
        UsageError: where k is not from 1 to n.
        InputError: where rows differ in width, or hold NaN or infinity.

    Example:
        >>> bank = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
        >>> nearest(bank, np.array([[2.0, 0.1]]), 2)[0].tolist()
        [[1, 2]]
    """
    excluded = _NO_PAIRS if hashes is None else _copies(*hashes)
    indices, distances = _search("cosine", bank, queries, k, excluded)
    return indices, _cosines(distances, queries)


def nearest_euclidean(bank: Rows, queries: Queries, k: int) -> Neighbours:
    """Return the k rows of a bank nearest to each query, by Euclidean distance.

    Args:
        bank: (n, d) rows to choose from.
        queries: (m, d).
        k: neighbours per query, at most n.

    Returns:
        Indices into the bank, the nearest first (ties, up to 1e-14 of the greatest
        value: the smaller index), and distances.

    Raises:
        UsageError: where k is not from 1 to n.
        InputError: where rows differ in width, or hold NaN or infinity.
    """
    return _search("euclidean", bank, queries, k, _NO_PAIRS)


def nearest_within(features: Rows, k: int) -> Neighbours:
    """Return the k most similar other rows of each row, by cosine.

    Args:
        features: (n, d).
        k: neighbours per row, at most n - 1.

    Returns:
        Indices, the most similar first (ties: the smaller index), and distances of the
        rows at length one, sqrt(2 - 2 cosine), which tell cosines near 1 apart. Copies
        of a row are its neighbours, the row itself is not.

    Raises:
        UsageError: where k is not from 1 to n - 1.
        InputError: where a row holds NaN or infinity.
    """
    rows = as_matrix(features)
    n = rows.shape[0]
    if not 1 <= k < n:
        raise UsageError(
            "nearest_within: each row has n - 1 others",
            found=f"k = {k}, n = {n}",
            expected=f"k from 1 to {n - 1}",
            fix="ask for fewer neighbours, or pass more rows",
        )
    itself = np.repeat(np.arange(n), 2).reshape(n, 2)
    return _search("cosine", rows, rows, k, itself)


def _copies(bank: UInt64[np.ndarray, " n"], queries: UInt64[np.ndarray, " m"]) -> Pairs:
    """Return the pairs (query, row) of equal hashes, ascending."""
    order = np.argsort(bank, kind="stable")
    first = np.searchsorted(bank, queries, side="left", sorter=order)
    counts = np.searchsorted(bank, queries, side="right", sorter=order) - first
    counts[counts > MOST_COPIES] = 0
    query = np.repeat(np.arange(len(queries)), counts)
    rank = np.arange(len(query)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.stack([query, order[first[query] + rank]], axis=1)


def _cosines(
    distances: Float[np.ndarray, "m k"], queries: Queries
) -> Float[np.ndarray, "m k"]:
    cosines = np.clip(1 - distances**2 / 2, -1, None)
    cosines[np.isinf(distances)] = -np.inf
    for block in row_blocks(len(cosines), queries.shape[1]):
        cosines[block][~host(queries[block, :] != 0).any(axis=1)] = -np.inf
    return cosines


def _search(
    geometry: Geometry, bank: Rows, queries: Queries, k: int, excluded: Pairs
) -> Neighbours:
    bank, queries = as_matrix(bank, "bank"), as_matrix(queries, "queries")
    n, d = bank.shape
    if not 1 <= k <= n:
        raise UsageError(
            "nearest: as many neighbours as there are rows, at most",
            found=f"k = {k}, n = {n}",
            expected=f"k from 1 to {n}",
            fix="ask for fewer neighbours, or pass more rows",
        )
    if queries.shape[1] != d:
        raise InputError(
            "nearest: bank and queries of different widths",
            found=f"{d} and {queries.shape[1]} features",
            expected="rows of one encoder and layer",
        )
    if not is_on_device(bank):
        bank, queries = host(bank), host(queries)
    indices = np.zeros((queries.shape[0], k), dtype=np.int64)
    distances = np.full((queries.shape[0], k), np.inf)
    frame = Frame.of(geometry, bank, queries)
    threads = contextlib.nullcontext(Workers())
    with threads if is_on_device(bank) else worker_threads() as workers:
        search = Search(bank, queries, frame, k, excluded, workers)
        for block in row_blocks(queries.shape[0], 2 * d):
            pairs = _pairs(search, np.arange(block.start, block.stop))
            _rank(pairs, _measured(search, pairs), indices, distances)
    return indices, distances * frame.scale


def _pairs(search: Search, numbers: Int[np.ndarray, " q"]) -> Pairs:
    """Return the pairs (query, row) to measure, ascending by query."""
    pairs, undecided = search.candidates(numbers)
    if not len(undecided):
        return pairs
    pairs = np.concatenate([pairs, search.greatest(undecided)])
    return pairs[np.argsort(pairs[:, 0], kind="stable")]


def _rank(
    pairs: Pairs,
    distance: Float[np.ndarray, " p"],
    indices: Int[np.ndarray, "m k"],
    distances: Float[np.ndarray, "m k"],
) -> None:
    """Write the k nearest of each query; pairs are ascending by query."""
    query, row = pairs.T
    order = np.lexsort((row, distance, query))
    row, distance = row[order], distance[order]
    counts = np.bincount(query, minlength=len(indices))
    rank = np.arange(len(query)) - (np.cumsum(counts) - counts)[query]
    kept = rank < indices.shape[1]
    indices[query[kept], rank[kept]] = row[kept]
    distances[query[kept], rank[kept]] = distance[kept]


def _measured(search: Search, pairs: Pairs) -> Float[np.ndarray, " p"]:
    """Return the distance of the points of each pair (query, row), in double."""
    size = 64 * MEASURED_VALUES if is_on_device(search.bank) else MEASURED_VALUES
    step = max(1, size // search.bank.shape[1])

    def measure(start: int) -> Float[np.ndarray, " p"]:
        query, row = pairs[start : start + step].T
        first = int(query[0])
        own, _ = search.frame.points(search.queries[first : int(query[-1]) + 1, :])
        points, lifts = search.frame.points(take_rows(search.bank, row))
        points -= take_rows(own, query - first)
        squared = namespace(points).vecdot(points, points) + lifts
        return host(squared) ** 0.5

    parts = search.workers.each(measure, range(0, len(pairs), step))
    return np.concatenate([np.empty(0), *parts]).round(DISTANCE_DECIMALS)
