"""Do the nearest images share a label? Exact cosine neighbours, in blocks of memory."""

import numpy as np
from jaxtyping import Bool, Float, Int, UInt64

from repscope._checking import UsageError
from repscope._numerics import row_blocks, unit_rows
from repscope.metrics.metric import metric
from repscope.metrics.probing import ProbeResult, probe_result

NEIGHBOURS = 20
TEMPERATURE = 0.07
# Candidates are picked by single-precision cosines, this many more than asked for, and
# ranked again in double precision.
SLACK = 12
# A query with more copies than this in the bank lies on a point mass, where features
# have collapsed, not on a repeated row: its copies vote.
MOST_COPIES = 20
# Cosines closer than this are ties.
COSINE_DECIMALS = 14
# The greatest of a long row are sought among this many parts of it; a row shorter than
# 64 columns for each that is sought is partitioned at once.
COLUMN_PARTS, SHORT_ROW = 16, 64

Hashes = tuple[UInt64[np.ndarray, " n"], UInt64[np.ndarray, " m"]]


def nearest(
    bank: Float[np.ndarray, "n d"],
    queries: Float[np.ndarray, "m d"],
    k: int,
    *,
    hashes: Hashes | None = None,
) -> tuple[Int[np.ndarray, "m k"], Float[np.ndarray, "m k"]]:
    """Return the k most similar rows of a bank for each query, by cosine.

    Cosines in single precision name the candidates. Where their rounding could hide a
    neighbour, as it does for features with a great mean, the query is compared with the
    whole bank in double precision.

    Args:
        bank: (n, d) rows to choose from.
        queries: (m, d).
        k: neighbours per query, at most n.
        hashes: of bank and queries, equal for equal rows; rows of the bank that equal
            the query are then left out, unless there are more than 20.

    Returns:
        Indices into the bank, the most similar first (ties: the smaller index), and
        cosines; -inf where a query has fewer neighbours left, or is zero.
    """
    unit_bank, unit_queries = unit_rows(bank), unit_rows(queries)
    single_bank = unit_bank.astype(np.float32)
    indices = np.empty((len(queries), k), dtype=np.int64)
    cosines = np.empty((len(queries), k))
    for block in row_blocks(len(queries), len(bank), item_bytes=16):
        rows = unit_queries[block]
        equal = None if hashes is None else _copies(hashes[0], hashes[1][block])
        found = _by_single_precision(unit_bank, single_bank, rows, k, equal)
        indices[block], cosines[block], certain = found
        unsure = np.flatnonzero(~certain)
        if len(unsure):
            excluded = None if equal is None else equal[unsure]
            ranked = _by_double_precision(unit_bank, rows[unsure], k, excluded)
            indices[block][unsure], cosines[block][unsure] = ranked
    cosines[~unit_queries.any(axis=1)] = -np.inf
    return indices, cosines


def _copies(
    bank: UInt64[np.ndarray, " n"], queries: UInt64[np.ndarray, " q"]
) -> Bool[np.ndarray, "q n"]:
    equal = queries[:, None] == bank
    equal[equal.sum(axis=1) > MOST_COPIES] = False
    return equal


def _by_single_precision(
    unit_bank: Float[np.ndarray, "n d"],
    single_bank: Float[np.ndarray, "n d"],
    rows: Float[np.ndarray, "q d"],
    k: int,
    equal: Bool[np.ndarray, "q n"] | None,
) -> tuple[np.ndarray, np.ndarray, Bool[np.ndarray, " q"]]:
    """Return indices, cosines, and whether no other row can be a neighbour."""
    n, d = unit_bank.shape
    similarity = rows.astype(np.float32) @ single_bank.T
    if equal is not None:
        similarity[equal] = -np.inf
    picked = _greatest(similarity, min(n, k + SLACK))
    roughly = np.take_along_axis(similarity, picked, axis=1)
    exact = np.empty(picked.shape)
    for part in row_blocks(len(rows), picked.shape[1] * d):
        exact[part] = np.vecdot(unit_bank[picked[part]], rows[part][:, None])
    exact[np.isneginf(roughly)] = -np.inf
    order, ranked = _ranked(picked, exact, k)
    # What was not picked lies below the least that was, up to rounding: a sum of d
    # products errs by sqrt(d) units in the last place, the rows themselves by a few.
    margin = (4 + d**0.5) * np.finfo(np.float32).eps
    least = roughly.min(axis=1)
    certain = (ranked[:, -1] > least + margin) | np.isneginf(least)
    return order, ranked, certain | (picked.shape[1] == n)


def _by_double_precision(
    unit_bank: Float[np.ndarray, "n d"],
    rows: Float[np.ndarray, "q d"],
    k: int,
    equal: Bool[np.ndarray, "q n"] | None,
) -> tuple[np.ndarray, np.ndarray]:
    similarity = (rows @ unit_bank.T).round(COSINE_DECIMALS)
    if equal is not None:
        similarity[equal] = -np.inf
    picked = _greatest(similarity, k)
    least = np.take_along_axis(similarity, picked, axis=1).min(axis=1)
    tied = (similarity >= least[:, None]).sum(axis=1) > k
    for row in np.flatnonzero(tied):
        above = np.flatnonzero(similarity[row] > least[row])
        level = np.flatnonzero(similarity[row] == least[row])
        picked[row] = np.concatenate([above, level])[:k]
    return _ranked(picked, np.take_along_axis(similarity, picked, axis=1), k)


def _ranked(
    picked: Int[np.ndarray, "q p"], cosines: Float[np.ndarray, "q p"], k: int
) -> tuple[np.ndarray, np.ndarray]:
    cosines = cosines.round(COSINE_DECIMALS)
    order = np.lexsort((picked, -cosines), axis=1)[:, :k]
    return (
        np.take_along_axis(picked, order, axis=1),
        np.take_along_axis(cosines, order, axis=1),
    )


def _greatest(
    values: Float[np.ndarray, "q n"], count: int
) -> Int[np.ndarray, "q count"]:
    """Return the columns of the `count` greatest values of each row, in any order.

    The greatest lie in those parts of a row whose maxima are greatest; finding parts
    first reads a long row once instead of sorting through it.
    """
    n = values.shape[1]
    if n < SHORT_ROW * count:
        return np.argpartition(values, n - count, axis=1)[:, n - count :]
    width = n // COLUMN_PARTS
    maxima = values[:, :width].copy()
    for start in range(width, COLUMN_PARTS * width, width):
        np.maximum(maxima, values[:, start : start + width], out=maxima)
    part = np.argpartition(maxima, width - count, axis=1)[:, width - count :]
    members = part[:, :, None] + width * np.arange(COLUMN_PARTS)
    last = np.arange(COLUMN_PARTS * width, n)
    columns = np.concatenate(
        [
            members.reshape(len(values), -1),
            np.broadcast_to(last, (len(values), len(last))),
        ],
        axis=1,
    )
    within = np.take_along_axis(values, columns, axis=1)
    best = np.argpartition(within, within.shape[1] - count, axis=1)[:, -count:]
    return np.take_along_axis(columns, best, axis=1)


def vote(
    labels: Int[np.ndarray, "m k"],
    cosines: Float[np.ndarray, "m k"],
    n_classes: int,
    temperature: float,
) -> Float[np.ndarray, "m c"]:
    """Return each class's votes: the sum of exp((cosine - best) / temperature).

    A cosine of -inf has no vote.
    """
    best = np.where(np.isneginf(cosines[:, :1]), 0.0, cosines[:, :1])
    weights = np.exp((cosines - best) / temperature)
    cells = labels + n_classes * np.arange(len(labels))[:, None]
    votes = np.bincount(cells.ravel(), weights.ravel(), len(labels) * n_classes)
    return votes.reshape(len(labels), n_classes)


@metric(
    title="nearest-neighbour accuracy",
    formula="share of test rows whose class has the most votes Σ exp(cosine / .07) "
    "among the 20 nearest training rows",
    needs="probe",
    range="[0, 1]; guessing gives the majority share",
    bounds=(0.0, 1.0),
    direction="higher",
    minimum_n=1,
    cost="O(n m d)",
    source="Wu et al. 2018, Section 3.4",
    misleads="duplicates of a test row in training would answer for it: exact ones "
    "are left out, near ones are not",
)
def knn_accuracy(result: ProbeResult) -> float:
    """Return the test accuracy of the nearest-neighbour probe.

    Args:
        result: of `knn_probe`.

    Returns:
        From 0 to 1; higher is better.

    Source: Wu et al. 2018, Section 3.4. As in the source, with k = 20 by default.
    """
    return result.test_accuracy


def knn_probe(
    train: Float[np.ndarray, "n d"],
    train_labels: Int[np.ndarray, " n"],
    test: Float[np.ndarray, "m d"],
    test_labels: Int[np.ndarray, " m"],
    n_classes: int,
    *,
    k: int = NEIGHBOURS,
    temperature: float = TEMPERATURE,
    hashes: Hashes | None = None,
) -> ProbeResult:
    """Return how well the nearest training rows tell the class of a test row.

    A row without neighbours, such as a zero row, is given the most frequent class.

    Args:
        train: (n, d) features.
        train_labels: (n,) class codes.
        test: (m, d) features.
        test_labels: (m,) class codes.
        n_classes: number of classes c.
        k: neighbours; all training rows where there are fewer.
        temperature: of the weights exp(cosine / temperature).
        hashes: of train and test rows; training rows equal to a test row do not vote,
            unless there are more than 20 of them.

    Returns:
        The probe's result, without a training accuracy.

    Raises:
        UsageError: where k or the temperature is not positive.
        Undecidable: where training or test rows are missing, or of one class only.

    Source: Wu et al. 2018, Section 3.4. Differs from the source in leaving out
    duplicates.
    """
    if k < 1 or not temperature > 0:
        raise UsageError(
            "knn: neighbours and temperature",
            found=f"k = {k}, temperature = {temperature}",
            expected="k of at least 1 and a temperature above 0",
        )
    used = min(k, len(train))
    shares = np.bincount(train_labels, minlength=n_classes) / max(len(train), 1)

    def scores() -> tuple[None, Float[np.ndarray, "m c"]]:
        indices, cosines = nearest(train, test, used, hashes=hashes)
        votes = vote(train_labels[indices], cosines, n_classes, temperature)
        votes[np.isneginf(cosines[:, 0])] = shares
        return None, votes

    return probe_result(
        scores=scores,
        train_labels=train_labels,
        test_labels=test_labels,
        n_classes=n_classes,
        details={"k": used, "temperature": temperature},
    )
