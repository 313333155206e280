"""How well does a score rank positives above negatives, and how sure is that?

Areas under the ROC and the precision-recall curve from counts per group of tied scores,
so that a thousand resampled data sets cost a few sums each.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

# Values of one block of the bootstrap, small enough for a processor's cache.
BOOTSTRAP_BLOCK = 2**17

Counts = Int[np.ndarray, "draws g"]
Areas = Float[np.ndarray, " draws"]


@dataclass(frozen=True, eq=False)
class Ranking:
    """Positives and negatives at each distinct score, from the highest score down.

    Args:
        positives: (g,) positives in each group of ties.
        negatives: (g,) negatives in each group of ties.
    """

    positives: Int[np.ndarray, " g"]
    negatives: Int[np.ndarray, " g"]

    @classmethod
    def of(
        cls, scores: Float[np.ndarray, " n"], positive: Bool[np.ndarray, " n"]
    ) -> "Ranking":
        """Return the groups of scores."""
        distinct, group = np.unique(scores, return_inverse=True)
        descending = len(distinct) - 1 - group
        return cls(
            np.bincount(descending[positive], minlength=len(distinct)),
            np.bincount(descending[~positive], minlength=len(distinct)),
        )


def area_under_roc(
    scores: Float[np.ndarray, " n"], positive: Bool[np.ndarray, " n"]
) -> float:
    """Return P(score of a positive > score of a negative) + P(equal) / 2.

    Args:
        scores: one per row.
        positive: which rows are positive; some and not all.

    Source: Mann, Whitney 1947. As in the source; equal to the formula by mid-ranks.

    Example:
        >>> area_under_roc(np.array([1.0, 1.0]), np.array([True, False]))
        0.5
    """
    ranking = Ranking.of(scores, positive)
    return float(roc_areas(ranking.positives[None], ranking.negatives[None])[0])


def average_precision(
    scores: Float[np.ndarray, " n"], positive: Bool[np.ndarray, " n"]
) -> float:
    """Return the sum over thresholds of (recall gained) x precision, ties grouped.

    Args:
        scores: one per row, high for positives.
        positive: which rows are positive; at least one.

    Source: Davis, Goadrich 2006 (step curve, no interpolation). As in the source.

    Example:
        >>> average_precision(np.array([3.0, 2.0, 1.0]), np.array([True, False, True]))
        0.8333333333333333
    """
    ranking = Ranking.of(scores, positive)
    return float(precisions(ranking.positives[None], ranking.negatives[None])[0])


def roc_areas(positives: Counts, negatives: Counts) -> Areas:
    """Return the area under the ROC curve of each row of counts."""
    below = negatives.sum(axis=1, keepdims=True) - np.cumsum(negatives, axis=1)
    # A positive beats the negatives below it and half of those it ties with.
    wins = np.vecdot(positives.astype(float), below + negatives / 2)
    return wins / (positives.sum(axis=1) * negatives.sum(axis=1))


def precisions(positives: Counts, negatives: Counts) -> Areas:
    """Return the average precision of each row of counts."""
    found = np.cumsum(positives, axis=1)
    picked = found + np.cumsum(negatives, axis=1)
    # Where nothing is picked yet, nothing is gained either.
    precision = found / np.maximum(picked, 1)
    return np.vecdot(positives.astype(float), precision) / positives.sum(axis=1)


@dataclass(frozen=True, eq=False)
class RankingAreas:
    """Three areas of each draw of a ranking.

    Args:
        roc: area under the ROC curve.
        precision_positive: average precision for positives, from high scores down.
        precision_negative: average precision for negatives, from low scores up.
    """

    roc: Areas
    precision_positive: Areas
    precision_negative: Areas


def areas(positives: Counts, negatives: Counts) -> RankingAreas:
    """Return the three areas of each row of counts."""
    return RankingAreas(
        roc_areas(positives, negatives),
        precisions(positives, negatives),
        precisions(negatives[:, ::-1], positives[:, ::-1]),
    )


def bootstrap(ranking: Ranking, *, seed: int, draws: int) -> RankingAreas:
    """Return the areas of resampled data, positives and negatives drawn apart.

    Args:
        ranking: with at least one positive and one negative.
        seed: the same seed gives the same draws.
        draws: resampled data sets.

    Source: Efron, Tibshirani 1993, Section 8 (two samples). As in the source.
    """
    generator = np.random.default_rng(seed)
    n = int(ranking.positives.sum() + ranking.negatives.sum())
    step = max(1, BOOTSTRAP_BLOCK // n)
    parts = []
    for start in range(0, draws, step):
        size = min(step, draws - start)
        parts.append(
            areas(
                _resampled(ranking.positives, size, generator),
                _resampled(ranking.negatives, size, generator),
            )
        )
    return RankingAreas(
        np.concatenate([part.roc for part in parts]),
        np.concatenate([part.precision_positive for part in parts]),
        np.concatenate([part.precision_negative for part in parts]),
    )


def _resampled(
    counts: Int[np.ndarray, " g"], draws: int, generator: np.random.Generator
) -> Int[np.ndarray, "draws g"]:
    """Return the counts of groups in samples drawn with replacement."""
    group_of_row = np.repeat(np.arange(len(counts)), counts)
    n, n_groups = len(group_of_row), len(counts)
    drawn = group_of_row[generator.integers(0, n, (draws, n))]
    drawn += n_groups * np.arange(draws)[:, None]
    flat = np.bincount(drawn.ravel(), minlength=draws * n_groups)
    return flat.reshape(draws, n_groups)
