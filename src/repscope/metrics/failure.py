"""Does a score predict which images a probe gets wrong?

Scores point upwards: a high one should mean a right answer. Each has a declared sign;
the number for that sign is reported, and beside it the larger of both, never one for
the other.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import scipy.special
from jaxtyping import Bool, Float

from repscope._checking import Undecidable
from repscope.metrics.intervals import CONFIDENCE
from repscope.metrics.metric import Estimate, metric
from repscope.records import Detail

BOOTSTRAP_DRAWS = 1000
# Values of one block of the bootstrap.
BOOTSTRAP_BLOCK = 2**22
LOWEST_SHARE = 0.1
CURVE_POINTS = 200

# Which way a score is meant: +1 higher means right, -1 lower means right.
DECLARED_SIGNS: Mapping[str, int] = {
    "z_max": 1,
    "q_score": 1,
    "q_score_normalized": 1,
    "l1_norm": -1,
    "feature_mean": -1,
    "feature_std": -1,
    "soft_sparsity": 1,
    "gini": 1,
    "hoyer": 1,
}

_SOURCE = "Kalibhat et al. 2022, Section 4, Table 1"

Scores = Float[np.ndarray, " n"]
Right = Bool[np.ndarray, " n"]


def _check(right: Right) -> None:
    if right.all():
        raise Undecidable("the probe is right on every test row")
    if not right.any():
        raise Undecidable("the probe is wrong on every test row")


def area_under_roc(scores: Scores, positive: Right) -> float:
    """Return P(score of a positive > score of a negative) + P(equal) / 2.

    Args:
        scores: one per row.
        positive: which rows are positive; some and not all.

    Source: Mann, Whitney 1947, through mid-ranks. As in the source.

    Example:
        >>> area_under_roc(np.array([1.0, 1.0]), np.array([True, False]))
        0.5
    """
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    # Ties share the mean of the ranks they take.
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    n_positive = int(positive.sum())
    n_negative = len(scores) - n_positive
    above = ranks[positive].sum() - n_positive * (n_positive + 1) / 2
    return float(above / (n_positive * n_negative))


def average_precision(scores: Scores, positive: Right) -> float:
    """Return the sum over thresholds of (recall gained) x precision, ties grouped.

    Args:
        scores: one per row, high for positives.
        positive: which rows are positive; at least one.

    Source: Davis, Goadrich 2006 (step curve, no interpolation). As in the source.
    """
    return float(_weighted_precision(_Ordered.of(scores, positive), None)[0])


@dataclass(frozen=True, eq=False)
class _Ordered:
    """Rows by descending score, with the last row of each group of ties."""

    order: np.ndarray
    positive: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, scores: Scores, positive: Right) -> "_Ordered":
        order = np.argsort(-scores, kind="stable")
        ordered = scores[order]
        ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
        return cls(order, positive[order], ends)


def _cumulative(
    ordered: _Ordered, counts: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return positives and negatives down to each threshold, for each draw."""
    weights = np.ones((1, len(ordered.order))) if counts is None else counts
    weights = weights[:, ordered.order]
    positives = np.cumsum(weights * ordered.positive, axis=1)[:, ordered.ends]
    negatives = np.cumsum(weights * ~ordered.positive, axis=1)[:, ordered.ends]
    return positives, negatives


def _weighted_area(ordered: _Ordered, counts: np.ndarray | None) -> np.ndarray:
    positives, negatives = _cumulative(ordered, counts)
    gained = np.diff(positives, axis=1, prepend=0)
    before = np.concatenate([np.zeros((len(negatives), 1)), negatives[:, :-1]], axis=1)
    # A positive beats the negatives below it and half of those it ties with.
    below = negatives[:, -1:] - (negatives + before) / 2
    return (gained * below).sum(axis=1) / (positives[:, -1] * negatives[:, -1])


def _weighted_precision(ordered: _Ordered, counts: np.ndarray | None) -> np.ndarray:
    positives, negatives = _cumulative(ordered, counts)
    gained = np.diff(positives, axis=1, prepend=0) / positives[:, -1:]
    total = positives + negatives
    precision = np.divide(positives, total, out=np.zeros_like(total), where=total > 0)
    return (gained * precision).sum(axis=1)


def _draws(right: Right, seed: int, draws: int) -> Iterator[np.ndarray]:
    """Yield how often each row is drawn, right and wrong rows drawn apart."""
    generator = np.random.default_rng(seed)
    n = len(right)
    rows = max(1, BOOTSTRAP_BLOCK // n)
    for start in range(0, draws, rows):
        size = min(rows, draws - start)
        counts = np.zeros((size, n))
        for group in (np.flatnonzero(right), np.flatnonzero(~right)):
            chances = np.full(len(group), 1 / len(group))
            counts[:, group] = generator.multinomial(len(group), chances, size=size)
        yield counts


def _bootstrapped(
    compute: Callable[[np.ndarray | None], np.ndarray],
    right: Right,
    seed: int,
    draws: int,
) -> tuple[float, tuple[float, float]]:
    value = float(compute(None)[0])
    drawn = np.concatenate([compute(counts) for counts in _draws(right, seed, draws)])
    tails = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    low, high = np.quantile(drawn, tails)
    return value, (float(low), float(high))


@metric(
    title="AUROC of the Q-Score for right answers",
    formula="P(score of a right row > score of a wrong row) + P(equal) / 2",
    needs="failure",
    range="[0, 1]; .5 is guessing",
    bounds=(0.0, 1.0),
    direction="higher",
    minimum_n=2,
    cost="O(n log n)",
    source=_SOURCE,
    misleads="below .5 the score predicts the other way round; the source's table "
    "shows "
    "only values above .5, with the sign hidden",
)
def auroc(
    scores: Scores, right: Right, *, seed: int = 0, draws: int = BOOTSTRAP_DRAWS
) -> Estimate:
    """Return how well a score ranks right answers above wrong ones.

    Args:
        scores: (n,) high where a right answer is expected.
        right: (n,) whether the probe is right.
        seed: of the stratified bootstrap.
        draws: of the bootstrap.

    Returns:
        From 0 to 1, .5 for guessing. Details: `oriented` = max(a, 1 - a).

    Raises:
        Undecidable: where all answers are right, or all wrong.

    Source: Kalibhat et al. 2022, Table 1; Mann, Whitney 1947. As in the source,
    for the declared sign.
    """
    _check(right)
    ordered = _Ordered.of(scores, right)
    value, interval = _bootstrapped(
        lambda counts: _weighted_area(ordered, counts), right, seed, draws
    )
    details: dict[str, Detail] = {
        "oriented": max(value, 1 - value),
        "interval": "stratified bootstrap",
    }
    return Estimate(value, interval, details)


def _precision_estimate(
    scores: Scores, positive: Right, seed: int, draws: int
) -> Estimate:
    _check(positive)
    ordered = _Ordered.of(scores, positive)
    value, interval = _bootstrapped(
        lambda counts: _weighted_precision(ordered, counts), positive, seed, draws
    )
    base = float(positive.mean())
    details: dict[str, Detail] = {
        "base_rate": base,
        "lift": value - base,
        "interval": "stratified bootstrap",
    }
    return Estimate(value, interval, details)


@metric(
    title="average precision for right answers",
    formula="Σ_j (R_j - R_(j-1)) P_j over descending scores, right answers positive",
    needs="failure",
    range="[0, 1]; guessing gives the accuracy",
    bounds=(0.0, 1.0),
    direction="higher",
    minimum_n=2,
    cost="O(n log n)",
    source=_SOURCE,
    misleads="flatters at high accuracy: read it beside its base rate",
)
def auprc_correct(
    scores: Scores, right: Right, *, seed: int = 0, draws: int = BOOTSTRAP_DRAWS
) -> Estimate:
    """Return the average precision of finding right answers by high scores.

    Args:
        scores: (n,) high where a right answer is expected.
        right: (n,) whether the probe is right.
        seed: of the stratified bootstrap.
        draws: of the bootstrap.

    Returns:
        From 0 to 1. Details: `base_rate` (the accuracy) and `lift` above it.

    Raises:
        Undecidable: where all answers are right, or all wrong.

    Source: Kalibhat et al. 2022, Table 1. As in the source.
    """
    return _precision_estimate(scores, right, seed, draws)


@metric(
    title="average precision for errors",
    formula="Σ_j (R_j - R_(j-1)) P_j over ascending scores, errors positive",
    needs="failure",
    range="[0, 1]; guessing gives the error rate",
    bounds=(0.0, 1.0),
    direction="higher",
    minimum_n=2,
    cost="O(n log n)",
    source="Hendrycks, Gimpel 2017, Section 2 (AUPR-Err)",
    misleads="depends on the error rate: compare at equal base rates only",
)
def auprc_error(
    scores: Scores, right: Right, *, seed: int = 0, draws: int = BOOTSTRAP_DRAWS
) -> Estimate:
    """Return the average precision of finding errors by low scores.

    Args:
        scores: (n,) low where an error is expected.
        right: (n,) whether the probe is right.
        seed: of the stratified bootstrap.
        draws: of the bootstrap.

    Returns:
        From 0 to 1. Details: `base_rate` (the error rate) and `lift` above it.

    Raises:
        Undecidable: where all answers are right, or all wrong.

    Source: Hendrycks, Gimpel 2017. As in the source.
    """
    return _precision_estimate(-scores, ~right, seed, draws)


@metric(
    title="errors among the lowest tenth",
    formula="error rate of the tenth of rows with the lowest scores / error rate of "
    "all",
    needs="failure",
    range="[0, 10]; 1 is no better than chance",
    bounds=(0.0, 10.0),
    direction="none",
    minimum_n=20,
    cost="O(n log n)",
    source="lift of a ranking at 10 % (Piatetsky-Shapiro, Masand 1999)",
    misleads="few errors make it jump: read its interval",
)
def error_ratio_lowest(
    scores: Scores, right: Right, *, seed: int = 0, draws: int = BOOTSTRAP_DRAWS
) -> Estimate:
    """Return how many times as often the lowest tenth errs as all rows do.

    Args:
        scores: (n,) low where an error is expected.
        right: (n,) whether the probe is right.
        seed: of the bootstrap over rows of the lowest tenth.
        draws: of the bootstrap.

    Returns:
        1 where the score says nothing, up to 10; details: `error_rate_lowest`.

    Raises:
        Undecidable: where all answers are right, or all wrong.

    Source: Piatetsky-Shapiro, Masand 1999 (lift). As in the source.
    """
    _check(right)
    count = max(1, round(LOWEST_SHARE * len(scores)))
    lowest = np.argsort(scores, kind="stable")[:count]
    errors, base = int((~right[lowest]).sum()), float((~right).mean())
    low, high = wilson_interval(errors, count)
    return Estimate(
        errors / count / base,
        interval=(low / base, min(high / base, 1 / LOWEST_SHARE)),
        details={"error_rate_lowest": errors / count, "interval": "Wilson"},
    )


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share.

    Args:
        successes: from 0 to n.
        n: trials, at least 1.

    Source: Wilson 1927. As in the source.

    Example:
        >>> tuple(round(x, 3) for x in wilson_interval(8, 10))
        (0.49, 0.943)
    """
    z = float(scipy.special.ndtri((1 + CONFIDENCE) / 2))
    share = successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
    return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True, eq=False)
class FailurePrediction:
    """How one score predicts right and wrong answers.

    Args:
        name: of the score.
        sign: +1 where high scores are declared to mean right, -1 where low ones do.
        area: AUROC for the declared sign.
        correct: average precision for right answers.
        error: average precision for errors.
        scores: the scores times their sign.
        right: whether the probe is right.
    """

    name: str
    sign: int
    area: Estimate
    correct: Estimate
    error: Estimate
    scores: Scores
    right: Right


def predict_failure(
    name: str, scores: Scores, right: Right, *, seed: int = 0
) -> FailurePrediction:
    """Return how a score, with its declared sign, predicts a probe's answers.

    Args:
        name: of the score, a key of `DECLARED_SIGNS`.
        scores: (n,) one per test row.
        right: (n,) whether the probe is right.
        seed: of the bootstraps.

    Raises:
        Undecidable: where all answers are right, or all wrong.
    """
    signed = DECLARED_SIGNS[name] * scores
    return FailurePrediction(
        name=name,
        sign=DECLARED_SIGNS[name],
        area=auroc(signed, right, seed=seed),
        correct=auprc_correct(signed, right, seed=seed),
        error=auprc_error(signed, right, seed=seed),
        scores=signed,
        right=right,
    )


def roc_points(scores: Scores, positive: Right) -> tuple[np.ndarray, np.ndarray]:
    """Return false-positive and true-positive rates, from (0, 0) to (1, 1), thinned.

    Args:
        scores: high for positives.
        positive: which rows are positive; some and not all.
    """
    positives, negatives = _cumulative(_Ordered.of(scores, positive), None)
    kept = _thinned(positives.shape[1])
    x, y = negatives[0] / negatives[0, -1], positives[0] / positives[0, -1]
    return np.append(0, x[kept]), np.append(0, y[kept])


def precision_recall_points(
    scores: Scores, positive: Right
) -> tuple[np.ndarray, np.ndarray]:
    """Return recall and precision at each threshold, thinned.

    Args:
        scores: high for positives.
        positive: which rows are positive; at least one.
    """
    positives, negatives = _cumulative(_Ordered.of(scores, positive), None)
    kept = _thinned(positives.shape[1])
    recall = positives[0] / positives[0, -1]
    precision = positives[0] / (positives[0] + negatives[0])
    return recall[kept], precision[kept]


def _thinned(points: int) -> np.ndarray:
    return np.unique(np.linspace(0, points - 1, min(points, CURVE_POINTS)).astype(int))
