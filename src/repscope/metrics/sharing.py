"""Do all rows use the same few features? Functions of sums over rows."""

import numpy as np
from jaxtyping import Float

from repscope._arrays import Array, as_double
from repscope._checking import Undecidable
from repscope.metrics.metric import Estimate, metric
from repscope.metrics.row_sums import RowBlock, Rows, row_sums

# A score this many robust deviations below the median stands apart from the bulk.
LOW_SCORE_DEVIATIONS = 5.0
# Features whose negative part is below this share of their magnitude count as positive.
NEGATIVE_MINIMUM_SHARE = 1e-3
# Turns the median distance below the median into a standard deviation, for a normal.
_NORMAL_CONSISTENCY = 1.4826


def takes_both_signs(magnitude: float, total: float) -> bool:
    """Return whether more than rounding of the features' magnitude is negative.

    Args:
        magnitude: sum of |h_ik| over rows and features.
        total: sum of h_ik.

    Example:
        >>> takes_both_signs(4.0, 4.0), takes_both_signs(4.0, 2.0)
        (False, True)
    """
    return bool((magnitude - total) / 2 > NEGATIVE_MINIMUM_SHARE * magnitude)


def argmax_shares(features: Rows) -> Float[Array, " d"]:
    """Return in how many rows each feature is the greatest; ties count in equal parts.

    A row's parts sum to 1; counts of blocks add up to those of the whole.

    Args:
        features: finite, d at least 2.

    Raises:
        InputError: with fewer than 2 features, or a value that is not finite.

    Source: Kalibhat et al. 2022, Appendix A.1. Differs from the source, which shows
    heatmaps, in counting.

    Example:
        >>> argmax_shares(np.array([[1.0, 3.0], [2.0, 2.0]])).tolist()
        [0.5, 1.5]
    """
    return sum(_argmax_shares(block) for block in row_sums(features))


def _argmax_shares(block: RowBlock) -> Float[Array, " d"]:
    is_greatest = block.values == block.maximum[:, None]
    ties = block.xp.count_nonzero(is_greatest, axis=1)
    if bool(block.xp.all(ties == 1)):
        return as_double(block.xp.count_nonzero(is_greatest, axis=0))
    return (1 / as_double(ties)) @ as_double(is_greatest)


@metric(
    title="argmax concentration",
    formula="largest share of rows whose greatest feature is the same; ties are shared",
    needs="rows",
    range="[1/d, 1]",
    bounds=(0.0, 1.0),
    direction="lower",
    minimum_n=2,
    degree=0,
    invariances=("duplication",),
    cost="O(n d)",
    source="Kalibhat et al. 2022, Appendix A.1 (the trivial solution)",
    misleads="signed features are standardised first, since one coordinate of a vision "
    "transformer dominates by nature",
)
def argmax_concentration(counts: Float[np.ndarray, " d"]) -> float:
    """Return the largest share of rows that have the same greatest feature.

    Args:
        counts: (d,) how often each feature is the greatest of its row, ties shared.

    Returns:
        From 1 / d to 1; lower is better.

    Raises:
        Undecidable: without rows.

    Source: Kalibhat et al. 2022, Appendix A.1. As in the source.

    Example:
        >>> argmax_concentration(np.array([3.0, 1.0]))
        0.75
    """
    total = counts.sum()
    if total == 0:
        raise Undecidable("no rows")
    return float(counts.max() / total)


@metric(
    title="shared-feature index",
    formula="max_k Σ_i |h_ik| / mean_k Σ_i |h_ik|",
    needs="rows",
    range="[1, d]",
    bounds=(1.0, None),
    direction="lower",
    degree=0,
    invariances=("duplication",),
    cost="O(n d)",
    source="Kalibhat et al. 2022, Eq. 4 (column norms) and Appendix A.1",
    misleads="a feature in other units than the rest carries it alone",
)
def shared_feature_index(column_l1: Float[np.ndarray, " d"]) -> float:
    """Return the greatest column norm over the mean column norm.

    Args:
        column_l1: (d,) sum or mean over rows of |h_ik|.

    Returns:
        From 1 (all features used alike) to d; lower is better.

    Raises:
        Undecidable: where all sums are zero: all features are, or take both signs,
            so that they are standardised, and do not vary, such as those of one row.

    Source: Kalibhat et al. 2022, Eq. 4. As in the source.

    Example:
        >>> shared_feature_index(np.array([3.0, 1.0]))
        1.5
    """
    mean = column_l1.mean()
    if mean == 0:
        raise Undecidable("all features are zero, or signed and constant")
    # A mean of equal numbers may be rounded upwards.
    return max(1.0, float(column_l1.max() / mean))


@metric(
    title="rows far below the rest",
    formula="share of rows with score < median - 5 · 1.4826 · median(median - score | "
    "score < median)",
    needs="rows",
    range="[0, .5]",
    bounds=(0.0, 0.5),
    direction="lower",
    minimum_n=20,
    degree=0,
    invariances=("duplication",),
    cost="O(n log n)",
    source="Rousseeuw, Croux 1993, Eq. 1.3, one-sided",
    misleads="a group of more than half of the rows is the bulk itself",
)
def low_score_share(scores: Float[np.ndarray, " n"]) -> Estimate:
    """Return the share of rows whose score lies far below the bulk.

    Args:
        scores: one per row, higher is better.

    Returns:
        From 0 to .5; lower is better. Details: `threshold`.

    Raises:
        Undecidable: where more than half of the rows score the same.

    Source: Rousseeuw, Croux 1993 (median absolute deviation). Differs from the source
    in that only deviations below the median count, since these scores are skewed
    upwards.
    """
    median = float(np.median(scores))
    below = median - scores[scores < median]
    spread = _NORMAL_CONSISTENCY * float(np.median(below)) if len(below) else 0.0
    if spread == 0:
        raise Undecidable("more than half of the rows score the same")
    threshold = median - LOW_SCORE_DEVIATIONS * spread
    return Estimate(
        float((scores < threshold).mean()), details={"threshold": threshold}
    )
