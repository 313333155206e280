"""Do the nearest images share a label? Votes of the nearest training rows."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int

from repscope._checking import UsageError
from repscope.metrics.metric import Estimate, metric
from repscope.metrics.nearest import Hashes, nearest
from repscope.metrics.nearest_points import Queries, Rows
from repscope.metrics.probing import ProbeResult, probe_result
from repscope.records import Detail

NEIGHBOURS = 20
# What the specification reports beside each other.
NEIGHBOUR_COUNTS = (5, 20, 200)
TEMPERATURE = 0.07


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
    degree=0,
    invariances=("rotation",),
    cost="O(n m d)",
    source="Wu et al. 2018, Section 3.4",
    misleads="duplicates of a test row in training would answer for it: exact ones "
    "are left out, near ones are not",
)
def knn_accuracy(result: ProbeResult) -> Estimate:
    """Return the test accuracy of the nearest-neighbour probe.

    Args:
        result: of `knn_probe`.

    Returns:
        From 0 to 1; higher is better. Interval: Wilson. Details: `skill`, `chance`,
        `majority` and the like.

    Source: Wu et al. 2018, Section 3.4. As in the source, with k = 20 by default.
    """
    return result.estimate


def knn_probe(
    train: Rows,
    train_labels: Int[np.ndarray, " n"],
    test: Queries,
    test_labels: Int[np.ndarray, " m"],
    n_classes: int,
    *,
    k: int | None = None,
    temperature: float = TEMPERATURE,
    hashes: Hashes | None = None,
) -> ProbeResult:
    """Return how well the nearest training rows tell the class of a test row.

    A row without neighbours, such as a zero row, is given the most frequent class.

    Args:
        train: (n, d) features, NumPy or torch.
        train_labels: (n,) class codes.
        test: (m, d) features.
        test_labels: (m,) class codes.
        n_classes: number of classes c.
        k: neighbours, from 1 to n; by default 20, or all training rows where there
            are fewer, which `details["k"]` tells.
        temperature: of the weights exp(cosine / temperature).
        hashes: of train and test rows; training rows equal to a test row do not vote,
            unless there are more than 20 of them.

    Returns:
        The probe's result, without a training accuracy.

    Raises:
        UsageError: where k or the temperature is not positive, or k is over n.
        Undecidable: where training or test rows are missing, or of one class only.

    Source: Wu et al. 2018, Section 3.4. Differs from the source in leaving out
    duplicates.
    """
    counts = (min(NEIGHBOURS, max(1, len(train_labels))) if k is None else k,)
    return knn_probes(
        train,
        train_labels,
        test,
        test_labels,
        n_classes,
        counts=counts,
        temperature=temperature,
        hashes=hashes,
    )[0]


def knn_probes(
    train: Rows,
    train_labels: Int[np.ndarray, " n"],
    test: Queries,
    test_labels: Int[np.ndarray, " m"],
    n_classes: int,
    *,
    counts: Sequence[int] | None = None,
    temperature: float = TEMPERATURE,
    hashes: Hashes | None = None,
) -> list[ProbeResult]:
    """Return the probe's result for several numbers of neighbours, of one search.

    Args:
        train: (n, d) features, NumPy or torch.
        train_labels: (n,) class codes.
        test: (m, d) features.
        test_labels: (m,) class codes.
        n_classes: number of classes c.
        counts: numbers of neighbours, each from 1 to n; by default those of 5, 20 and
            200 that are, or n where none is. `details["counts_left_out"]` tells the
            others.
        temperature: of the weights exp(cosine / temperature).
        hashes: of train and test rows, as for `knn_probe`.

    Raises:
        UsageError: where a count or the temperature is not positive, or a count is
            over n.
        Undecidable: where training or test rows are missing, or of one class only.
    """
    n = len(train_labels)
    left_out: tuple[int, ...] = ()
    if counts is None:
        left_out = tuple(count for count in NEIGHBOUR_COUNTS if count > n)
        counts = [count for count in NEIGHBOUR_COUNTS if count <= n] or [max(n, 1)]
    details: dict[str, Detail] = {"temperature": temperature}
    details |= {"counts_left_out": left_out} if left_out else {}
    most = _check_options(counts, temperature, n)
    shares = np.bincount(train_labels, minlength=n_classes) / max(n, 1)
    found: list[tuple[np.ndarray, np.ndarray]] = []

    def scores_of(count: int) -> Callable[[], tuple[None, Float[np.ndarray, "m c"]]]:
        def scores() -> tuple[None, Float[np.ndarray, "m c"]]:
            if not found:
                found.append(nearest(train, test, most, hashes=hashes))
            indices, cosines = (one[:, :count] for one in found[0])
            votes = vote(train_labels[indices], cosines, n_classes, temperature)
            votes[np.isneginf(cosines[:, 0])] = shares
            return None, votes

        return scores

    return [
        probe_result(
            scores=scores_of(count),
            train_labels=train_labels,
            test_labels=test_labels,
            n_classes=n_classes,
            details={"k": count, **details},
        )
        for count in counts
    ]


def _check_options(counts: Sequence[int], temperature: float, n: int) -> int:
    """Return the greatest count; raise where one cannot be."""
    shown = ", ".join(str(count) for count in counts)
    if not counts or min(counts) < 1 or not temperature > 0:
        raise UsageError(
            "knn: neighbours and temperature",
            found=f"k = {shown}, temperature = {temperature}",
            expected="k of at least 1 and a temperature above 0",
        )
    over = [count for count in counts if count > max(n, 1)]
    if over:
        raise UsageError(
            "knn: more neighbours than training rows",
            found=f"k = {', '.join(map(str, over))}, n = {n}",
            expected=f"k from 1 to {n}",
            fix="ask for fewer neighbours, or pass more rows",
        )
    return max(counts)
