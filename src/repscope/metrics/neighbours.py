"""Do the nearest images share a label? Exact cosine neighbours, in blocks of memory."""

import numpy as np
from jaxtyping import Float, Int, UInt64

from repscope._checking import UsageError
from repscope._numerics import row_blocks, unit_rows
from repscope.metrics.metric import metric
from repscope.metrics.probing import ProbeResult, probe_result

NEIGHBOURS = 20
TEMPERATURE = 0.07
# Candidates are picked by single-precision similarities, this many more than asked for,
# and ranked again in double precision.
SLACK = 12


def nearest(
    bank: Float[np.ndarray, "n d"],
    queries: Float[np.ndarray, "m d"],
    k: int,
    *,
    hashes: tuple[UInt64[np.ndarray, " n"], UInt64[np.ndarray, " m"]] | None = None,
) -> tuple[Int[np.ndarray, "m k"], Float[np.ndarray, "m k"]]:
    """Return the k most similar rows of a bank for each query, by cosine.

    Args:
        bank: (n, d) rows to choose from.
        queries: (m, d).
        k: neighbours per query, at most n.
        hashes: of bank and queries, equal for equal rows; rows of the bank that equal
            the query are then left out.

    Returns:
        Indices into the bank, the most similar first (ties: the smaller index), and
        cosines; -inf where a query has fewer neighbours left.
    """
    unit_bank, unit_queries = unit_rows(bank), unit_rows(queries)
    single_bank = unit_bank.astype(np.float32)
    indices = np.empty((len(queries), k), dtype=np.int64)
    cosines = np.empty((len(queries), k))
    # Single precision errs by about 1e-6 of a cosine; the slack covers such ties.
    candidates = min(len(bank), k + SLACK)
    width = 2 * len(bank) + candidates * bank.shape[1]
    for block in row_blocks(len(queries), width):
        rows = unit_queries[block]
        similarity = rows.astype(np.float32) @ single_bank.T
        if hashes is not None:
            similarity[hashes[1][block][:, None] == hashes[0][None, :]] = -np.inf
        picked = np.argpartition(-similarity, candidates - 1, axis=1)[:, :candidates]
        exact = np.einsum("qkd,qd->qk", unit_bank[picked], rows)
        left_out = np.isneginf(np.take_along_axis(similarity, picked, axis=1))
        exact[left_out] = -np.inf
        order = np.lexsort((picked, -exact), axis=1)[:, :k]
        indices[block] = np.take_along_axis(picked, order, axis=1)
        cosines[block] = np.take_along_axis(exact, order, axis=1)
    return indices, cosines


def vote(
    labels: Int[np.ndarray, "m k"],
    cosines: Float[np.ndarray, "m k"],
    n_classes: int,
    temperature: float,
) -> Float[np.ndarray, "m c"]:
    """Return each class's votes: the sum of exp((cosine - best) / temperature)."""
    best = np.where(np.isneginf(cosines[:, :1]), 0.0, cosines[:, :1])
    weights = np.exp((cosines - best) / temperature)
    votes = np.zeros((len(labels), n_classes))
    rows = np.broadcast_to(np.arange(len(labels))[:, None], labels.shape)
    np.add.at(votes, (rows, labels), weights)
    return votes


@metric(
    title="nearest-neighbour accuracy",
    formula="share of test rows whose class has the most votes Σ exp(cosine / .07) "
    "among "
    "the 20 nearest training rows",
    needs="probe",
    range="[0, 1]; guessing gives the majority share",
    bounds=(0.0, 1.0),
    direction="higher",
    minimum_n=1,
    cost="O(n m d)",
    source="Wu et al. 2018, Section 3.4",
    misleads="duplicates of a test row in training would answer for it: exact ones "
    "are left "
    "out, near ones are not",
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
    hashes: tuple[UInt64[np.ndarray, " n"], UInt64[np.ndarray, " m"]] | None = None,
) -> ProbeResult:
    """Return how well the nearest training rows tell the class of a test row.

    Args:
        train: (n, d) features.
        train_labels: (n,) class codes.
        test: (m, d) features.
        test_labels: (m,) class codes.
        n_classes: number of classes c.
        k: neighbours; all training rows where there are fewer.
        temperature: of the weights exp(cosine / temperature).
        hashes: of train and test rows; training rows equal to a test row do not vote.

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

    def scores() -> tuple[None, Float[np.ndarray, "m c"]]:
        indices, cosines = nearest(train, test, used, hashes=hashes)
        return None, vote(train_labels[indices], cosines, n_classes, temperature)

    return probe_result(
        scores=scores,
        train_labels=train_labels,
        test_labels=test_labels,
        n_classes=n_classes,
        details={"k": used, "temperature": temperature},
    )
