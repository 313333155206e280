"""Does a score predict which images a probe gets wrong?

Scores point upwards: a high one should mean a right answer. Each has a declared sign;
the number for that sign is reported, and beside it the larger of both, never one for
the other.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy.special
from jaxtyping import Bool, Float

from repscope._arrays import Array, host
from repscope._checking import InputError, Undecidable, check_length
from repscope.metrics.intervals import CONFIDENCE
from repscope.metrics.metric import Estimate, metric
from repscope.metrics.ranking import Ranking, RankingAreas, areas, bootstrap
from repscope.records import Detail

BOOTSTRAP_DRAWS = 1000
# One in this many rows is among the lowest.
LOWEST_PART = 10
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


def _checked(
    scores: Float[Array, " n"], right: Bool[np.ndarray, " m"]
) -> Float[np.ndarray, " n"]:
    """Return scores on the host, where they and the answers can be ranked.

    Raises:
        InputError: where the two differ in length, or a score is not finite.
        Undecidable: where all answers are right, or all wrong.
    """
    values = np.asarray(host(scores), dtype=np.float64)
    check_length("right", len(right), len(values), "scores")
    if not np.isfinite(values).all():
        raise InputError("scores: some are NaN or infinite")
    if len(values) == 0:
        raise Undecidable("no rows")
    if right.all():
        raise Undecidable("the probe is right on every test row")
    if not right.any():
        raise Undecidable("the probe is wrong on every test row")
    return values


@dataclass(frozen=True, eq=False)
class _Drawn:
    """The areas of a ranking of right answers, and of its bootstrap draws."""

    value: RankingAreas
    draws: RankingAreas

    @classmethod
    def of(
        cls,
        scores: Float[Array, " n"],
        right: Bool[np.ndarray, " m"],
        seed: int,
        draws: int,
    ) -> "_Drawn":
        ranking = Ranking.of(_checked(scores, right), right)
        return cls(
            areas(ranking.positives[None], ranking.negatives[None]),
            bootstrap(ranking, seed=seed, draws=draws),
        )


def _interval(drawn: Scores) -> tuple[float, float]:
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


@metric(
    title="AUROC of the Q-Score for right answers",
    formula="P(score of a right row > score of a wrong row) + P(equal) / 2",
    needs="failure",
    range="[0, 1]; .5 is guessing",
    bounds=(0.0, 1.0),
    direction="higher",
    minimum_n=2,
    degree=0,
    cost="O(n log n)",
    source=_SOURCE,
    misleads="below .5 the score predicts the other way round; the source's table "
    "shows "
    "only values above .5, with the sign hidden",
)
def auroc(
    scores: Float[Array, " n"],
    right: Right,
    *,
    seed: int = 0,
    draws: int = BOOTSTRAP_DRAWS,
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
        InputError: where lengths differ, or a score is not finite.
        Undecidable: where all answers are right, or all wrong.

    Source: Kalibhat et al. 2022, Table 1; Mann, Whitney 1947. As in the source,
    for the declared sign.
    """
    return _auroc(_Drawn.of(scores, right, seed, draws))


def _auroc(drawn: _Drawn) -> Estimate:
    value = float(drawn.value.roc[0])
    details: dict[str, Detail] = {
        "oriented": max(value, 1 - value),
        "interval": "stratified bootstrap",
    }
    return Estimate(value, _interval(drawn.draws.roc), details)


def _precision(value: float, drawn: Scores, base: float) -> Estimate:
    details: dict[str, Detail] = {
        "base_rate": base,
        "lift": value - base,
        "interval": "stratified bootstrap",
    }
    return Estimate(value, _interval(drawn), details)


def _auprc_correct(drawn: _Drawn, right: Right) -> Estimate:
    value = float(drawn.value.precision_positive[0])
    return _precision(value, drawn.draws.precision_positive, float(right.mean()))


def _auprc_error(drawn: _Drawn, right: Right) -> Estimate:
    value = float(drawn.value.precision_negative[0])
    return _precision(value, drawn.draws.precision_negative, float((~right).mean()))


@metric(
    title="average precision for right answers",
    formula="Σ_j (R_j - R_(j-1)) P_j over descending scores, right answers positive",
    needs="failure",
    range="[0, 1]; guessing gives the accuracy",
    bounds=(0.0, 1.0),
    direction="none",
    minimum_n=2,
    degree=0,
    cost="O(n log n)",
    source=_SOURCE,
    misleads="flatters at high accuracy: read it beside its base rate",
)
def auprc_correct(
    scores: Float[Array, " n"],
    right: Right,
    *,
    seed: int = 0,
    draws: int = BOOTSTRAP_DRAWS,
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
        InputError: where lengths differ, or a score is not finite.
        Undecidable: where all answers are right, or all wrong.

    Source: Kalibhat et al. 2022, Table 1. As in the source.
    """
    return _auprc_correct(_Drawn.of(scores, right, seed, draws), right)


@metric(
    title="average precision for errors",
    formula="Σ_j (R_j - R_(j-1)) P_j over ascending scores, errors positive",
    needs="failure",
    range="[0, 1]; guessing gives the error rate",
    bounds=(0.0, 1.0),
    direction="none",
    minimum_n=2,
    degree=0,
    cost="O(n log n)",
    source="Hendrycks, Gimpel 2017, Section 2 (AUPR-Err)",
    misleads="depends on the error rate: compare at equal base rates only",
)
def auprc_error(
    scores: Float[Array, " n"],
    right: Right,
    *,
    seed: int = 0,
    draws: int = BOOTSTRAP_DRAWS,
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
        InputError: where lengths differ, or a score is not finite.
        Undecidable: where all answers are right, or all wrong.

    Source: Hendrycks, Gimpel 2017. As in the source.
    """
    return _auprc_error(_Drawn.of(scores, right, seed, draws), right)


@metric(
    title="errors among the lowest tenth",
    formula="error rate of the tenth of rows with the lowest scores / error rate of "
    "all",
    needs="failure",
    range="[0, 10]; 1 is no better than chance",
    bounds=(0.0, 10.0),
    direction="none",
    minimum_n=20,
    degree=0,
    cost="O(n log n)",
    source="lift of a ranking at 10 % (Piatetsky-Shapiro, Masand 1999)",
    misleads="few errors make it jump: read its interval",
)
def error_ratio_lowest(
    scores: Float[Array, " n"],
    right: Right,
    *,
    seed: int = 0,
    draws: int = BOOTSTRAP_DRAWS,
) -> Estimate:
    """Return how many times as often the lowest tenth errs as all rows do.

    Of rows that tie at the border, the tenth takes an equal part of each.

    Args:
        scores: (n,) low where an error is expected.
        right: (n,) whether the probe is right.
        seed: as all predictions of failure take it; this one draws nothing.
        draws: likewise.

    Returns:
        1 where the score says nothing, up to 10; details: `error_rate_lowest`.

    Raises:
        InputError: where lengths differ, or a score is not finite.
        Undecidable: where all answers are right, or all wrong.

    Source: Piatetsky-Shapiro, Masand 1999 (lift). As in the source.
    """
    rate, count = error_rate_of_lowest(_checked(scores, right), right)
    base = float((~right).mean())
    low, high = wilson_interval(rate * count, count)
    return Estimate(
        rate / base,
        interval=(low / base, min(high / base, float(LOWEST_PART))),
        details={"error_rate_lowest": rate, "interval": "Wilson"},
    )


def error_rate_of_lowest(scores: Scores, right: Right) -> tuple[float, int]:
    """Return the error rate of the tenth of rows with the lowest scores, and its size.

    Of rows that tie at the border, an equal part of each counts.

    Args:
        scores: (n,) low where an error is expected.
        right: (n,) whether the probe is right.

    Example:
        >>> error_rate_of_lowest(np.zeros(4), np.array([True, True, False, True]))
        (0.25, 1)
    """
    count = -(-len(scores) // LOWEST_PART)
    border = np.partition(scores, count - 1)[count - 1]
    below, tied = scores < border, scores == border
    part = (count - below.sum()) / tied.sum()
    errors = (~right[below]).sum() + part * (~right[tied]).sum()
    return float(errors / count), count


def wilson_interval(successes: int | float, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share.

    Args:
        successes: from 0 to n; fractions come from shared ties.
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
    # Rounding must not push the share itself out of its interval.
    return max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share))


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
    drawn = _Drawn.of(signed, right, seed, BOOTSTRAP_DRAWS)
    return FailurePrediction(
        name=name,
        sign=DECLARED_SIGNS[name],
        area=_auroc(drawn),
        correct=_auprc_correct(drawn, right),
        error=_auprc_error(drawn, right),
        scores=signed,
        right=right,
    )


def roc_points(scores: Scores, positive: Right) -> tuple[np.ndarray, np.ndarray]:
    """Return false-positive and true-positive rates, from (0, 0) to (1, 1), thinned.

    Args:
        scores: high for positives.
        positive: which rows are positive; some and not all.
    """
    ranking = Ranking.of(scores, positive)
    found, wrong = np.cumsum(ranking.positives), np.cumsum(ranking.negatives)
    kept = _thinned(len(found))
    x, y = wrong / wrong[-1], found / found[-1]
    return np.append(0, x[kept]), np.append(0, y[kept])


def precision_recall_points(
    scores: Scores, positive: Right
) -> tuple[np.ndarray, np.ndarray]:
    """Return recall and precision at each threshold, thinned.

    Args:
        scores: high for positives.
        positive: which rows are positive; at least one.
    """
    ranking = Ranking.of(scores, positive)
    found, wrong = np.cumsum(ranking.positives), np.cumsum(ranking.negatives)
    kept = _thinned(len(found))
    return (found / found[-1])[kept], (found / (found + wrong))[kept]


def _thinned(points: int) -> np.ndarray:
    return np.unique(np.linspace(0, points - 1, min(points, CURVE_POINTS)).astype(int))
