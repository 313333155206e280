"""How do per-sample scores differ between classes, and between right and wrong?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.special
from jaxtyping import Bool, Float, Int

from repscope._arrays import Array, host
from repscope._checking import InputError, Undecidable, UsageError, check_length
from repscope.metrics.intervals import CONFIDENCE
from repscope.metrics.metric import Estimate, metric

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class ClassScores:
    """The scores of the rows of one class.

    Args:
        label: class code.
        n: rows; with none, the numbers below are None.
        mean: of the scores.
        median: of the scores.
        quantiles: as asked for, in that order.
        gap: mean score of right answers less that of wrong ones; None where the class
            has only one of both, or answers are not given.
    """

    label: int
    n: int
    mean: float | None
    median: float | None
    quantiles: tuple[float, ...] | None
    gap: float | None = None


def class_quantiles(
    scores: Float[Array, " n"],
    labels: Int[np.ndarray, " n"],
    n_classes: int,
    *,
    quantiles: Sequence[float] = QUANTILES,
    right: Bool[np.ndarray, " n"] | None = None,
) -> tuple[ClassScores, ...]:
    """Return mean, median and quantiles of a score for each class.

    Quantiles interpolate linearly between order statistics.

    Args:
        scores: (n,) of any per-sample metric.
        labels: (n,) class codes.
        n_classes: number of classes c.
        quantiles: from 0 to 1.
        right: (n,) whether a probe is right, for the gap.

    Returns:
        One record per class, those without rows among them.

    Raises:
        InputError: where lengths differ, or a score is not finite.
        UsageError: where a quantile is not from 0 to 1.

    Source: Kalibhat et al. 2022, Appendix A.2 (quality by class). As in the source.

    Example:
        >>> class_quantiles(np.array([1.0, 3.0]), np.array([0, 0]), 1)[0].median
        2.0
    """
    if not all(0 <= share <= 1 for share in quantiles):
        raise UsageError("quantiles: shares from 0 to 1", found=f"{tuple(quantiles)}")
    values = _finite(scores)
    codes = np.asarray(labels)
    check_length("labels", len(codes), len(values), "scores")
    if right is not None:
        check_length("right", len(right), len(values), "scores")
    return tuple(
        _of_class(one, values, codes == one, quantiles, right)
        for one in range(n_classes)
    )


def _finite(scores: Float[Array, " n"]) -> Float[np.ndarray, " n"]:
    values = np.asarray(host(scores), dtype=np.float64)
    if not np.isfinite(values).all():
        raise InputError("scores: some are NaN or infinite")
    return values


def _of_class(
    label: int,
    scores: Float[np.ndarray, " n"],
    member: Bool[np.ndarray, " n"],
    quantiles: Sequence[float],
    right: Bool[np.ndarray, " n"] | None,
) -> ClassScores:
    own = scores[member]
    if len(own) == 0:
        return ClassScores(label, 0, None, None, None)
    gap = None
    if right is not None:
        correct, incorrect = scores[member & right], scores[member & ~right]
        if len(correct) and len(incorrect):
            gap = float(correct.mean() - incorrect.mean())
    return ClassScores(
        label=label,
        n=len(own),
        mean=float(own.mean()),
        median=float(np.median(own)),
        quantiles=tuple(np.quantile(own, list(quantiles)).tolist()),
        gap=gap,
    )


@metric(
    title="score of right over wrong answers",
    formula="mean score of right rows - mean score of wrong rows",
    needs="failure",
    range="(-∞, ∞); 0 where the score says nothing of errors",
    direction="none",
    minimum_n=2,
    cost="O(n)",
    source="Kalibhat et al. 2022, Section 4, Fig. 5",
    misleads="has the unit of the score, so that scores cannot be compared by it; "
    "one outlying row can carry it",
)
def score_gap(scores: Float[Array, " n"], right: Bool[np.ndarray, " n"]) -> Estimate:
    """Return how much higher rows score that are answered rightly.

    Args:
        scores: (n,) of any per-sample metric.
        right: (n,) whether the probe is right.

    Returns:
        Above 0 where right answers score higher. Interval: Welch, from two rows of
        each on. Details: `standardised`, the gap over the pooled deviation.

    Raises:
        InputError: where lengths differ, or a score is not finite.
        Undecidable: where all answers are right, or all wrong.

    Source: Kalibhat et al. 2022, Fig. 5; Welch 1947 (interval). As in the source.

    Example:
        >>> score_gap(np.array([3.0, 1.0]), np.array([True, False])).value
        2.0
    """
    values = _finite(scores)
    check_length("right", len(right), len(values), "scores")
    if right.all() or not right.any():
        word = "right" if right.all() else "wrong"
        raise Undecidable(f"the probe is {word} on every test row")
    sides = values[right], values[~right]
    gap = float(sides[0].mean() - sides[1].mean())
    sizes = np.array([len(side) for side in sides])
    if sizes.min() < 2:
        return Estimate(gap)
    variances = np.array([side.var(ddof=1) for side in sides])
    errors = variances / sizes
    pooled = float(((sizes - 1) * variances).sum() / (sizes.sum() - 2))
    details = {
        "standardised": gap / pooled**0.5 if pooled > 0 else None,
        "interval": "Welch",
    }
    if errors.sum() == 0:
        return Estimate(gap, (gap, gap), details)
    freedom = errors.sum() ** 2 / (errors**2 / (sizes - 1)).sum()
    half = scipy.special.stdtrit(freedom, (1 + CONFIDENCE) / 2) * errors.sum() ** 0.5
    return Estimate(gap, (gap - float(half), gap + float(half)), details)
