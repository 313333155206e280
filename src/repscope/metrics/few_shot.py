"""How well do a few labels per class serve? A probe on several draws of them."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.special
from jaxtyping import Bool, Int, Shaped

from repscope._arrays import Array, as_double, as_matrix, hash_ids, namespace
from repscope._checking import Undecidable, UsageError, check_choice, check_length
from repscope._randomness import Purpose, sample_keys
from repscope.metrics.intervals import CONFIDENCE
from repscope.metrics.logistic import logistic_probe
from repscope.metrics.metric import Estimate, metric
from repscope.metrics.probing import standardise
from repscope.metrics.ridge import ridge_probe


@dataclass(frozen=True)
class FewShot:
    """A few-shot protocol.

    Args:
        k: labelled rows per class, at least 1.
        draws: of those rows, at least 2.
        probe: "ridge", whose penalty is chosen by leave-one-out, or "logistic" (C = 1).
    """

    k: int = 5
    draws: int = 10
    probe: Literal["ridge", "logistic"] = "ridge"

    def __post_init__(self) -> None:
        check_choice("probe", self.probe, ("ridge", "logistic"))
        for name, value, least in (("k", self.k, 1), ("draws", self.draws, 2)):
            if value < least:
                raise UsageError(
                    f"few-shot {name}", found=str(value), expected=f"at least {least}"
                )


@metric(
    title="few-shot accuracy",
    formula="mean over draws of k training rows per class of the test accuracy of a "
    "linear probe; features standardised by all training rows, the same test rows",
    needs="labels",
    range="[0, 1]; guessing gives the majority share",
    bounds=(0.0, 1.0),
    direction="higher",
    minimum_n=4,
    degree=0,
    invariances=("shift",),
    cost="O(draws (k c)² d)",
    source="Chen et al. 2020 (few labels); Tian et al. 2020",
    misleads="the spread over draws shrinks as classes run out of rows to draw from: "
    "read `short_classes`; compare at equal k, c and protocol only",
)
def few_shot_accuracy(
    features: Shaped[Array, "n d"],
    labels: Int[np.ndarray, " n"],
    is_test: Bool[np.ndarray, " n"],
    ids: Shaped[np.ndarray, " n"],
    *,
    options: FewShot | None = None,
    seed: int = 0,
) -> Estimate:
    """Return the mean test accuracy of a probe on k labelled rows per class.

    Which rows a draw takes is a hash of (seed, draw, id): the same images in each layer
    and for each encoder, whatever the order of the rows. A class with fewer than k
    training rows gives all it has.

    Args:
        features: (n, d) train and test.
        labels: (n,) class codes from 0.
        is_test: (n,) which rows test; the same in all draws.
        ids: (n,) integers or words, unique: which image each row is.
        options: k, draws and probe; five rows per class, ten draws, ridge by default.
        seed: another seed gives other draws.

    Returns:
        From 0 to 1; higher is better. Interval: mean -+ t sqrt(sd^2 / draws +
        s^2 / m), with the deviation sd (ddof 1) of the draws, the deviation s (ddof 1)
        over the m test rows of how often each is right, and Student's t of draws - 1
        degrees of freedom; it counts what draws and rows share twice. Details: `sd`,
        `accuracies` of the draws, `chance`, 1 / c for c classes with rows, `majority`,
        `n_train` rows per draw, `short_classes` with fewer than k training rows,
        `absent_classes` with none, whose test rows count as wrong.

    Raises:
        InputError: where lengths differ.
        Undecidable: without test rows, or where fewer than two classes have training
            rows.

    Source: Chen et al. 2020; Tian et al. 2020. Differs from the source in
    standardising by all training rows, whose labels it does not use.
    """
    rows = as_double(as_matrix(features))
    n = rows.shape[0]
    options = options or FewShot()
    for name, given in (("labels", labels), ("is_test", is_test), ("ids", ids)):
        check_length(name, len(given), n)
    pool, tested = np.flatnonzero(~is_test), np.flatnonzero(is_test)
    if len(tested) == 0:
        raise Undecidable("no test rows")
    labels = np.unique(labels, return_inverse=True)[1]  # classes without rows are none
    counts = np.bincount(labels[pool], minlength=int(labels.max()) + 1)
    if (counts > 0).sum() < 2:
        raise Undecidable("fewer than two classes have training rows")
    xp = namespace(rows)
    sides = (xp.asarray(side, device=rows.device) for side in (pool, tested))
    train, test = standardise(*(xp.take(rows, side, axis=0) for side in sides))
    codes = labels[pool]
    right = []
    for draw in range(options.draws):
        chosen = _chosen(hash_ids(ids[pool]), codes, options.k, seed, draw)
        few = xp.take(train, xp.asarray(chosen, device=rows.device), axis=0)
        run = ridge_probe if options.probe == "ridge" else logistic_probe
        result = run(few, codes[chosen], test, labels[tested], len(counts))
        right.append(result.predictions == labels[tested])
    return _summary(np.array(right), counts, options, len(chosen), labels[tested])


def _chosen(
    hashes: Shaped[np.ndarray, " n"],
    codes: Int[np.ndarray, " n"],
    k: int,
    seed: int,
    draw: int,
) -> Int[np.ndarray, " m"]:
    """Return the k rows of each class with the least keys, class by class."""
    keys = sample_keys(Purpose.SUBSET, seed, hashes, epoch=draw)
    order = np.lexsort((keys, codes))
    first = np.searchsorted(codes[order], codes[order])
    return order[np.arange(len(order)) - first < k]


def _summary(
    right: Bool[np.ndarray, "draws m"],
    counts: Int[np.ndarray, " c"],
    options: FewShot,
    n_train: int,
    labels: Int[np.ndarray, " m"],
) -> Estimate:
    accuracies = right.mean(axis=1)
    mean, draws, m = float(accuracies.mean()), len(right), right.shape[1]
    deviation = float(accuracies.std(ddof=1))
    rows = float(right.mean(axis=0).var(ddof=1)) / m if m > 1 else mean * (1 - mean)
    t = float(scipy.special.stdtrit(draws - 1, (1 + CONFIDENCE) / 2))
    half = t * (deviation**2 / draws + rows) ** 0.5
    return Estimate(
        mean,
        (max(0.0, mean - half), min(1.0, mean + half)),
        {
            "k": options.k,
            "draws": draws,
            "probe": options.probe,
            "sd": deviation,
            "accuracies": tuple(accuracies.tolist()),
            "chance": 1 / len(counts),
            "majority": float((labels == counts.argmax()).mean()),
            "n_train": n_train,
            "short_classes": int((counts < options.k).sum()),
            "absent_classes": int((counts == 0).sum()),
            "interval": "Student's t over draws, with the spread of test rows",
        },
    )
