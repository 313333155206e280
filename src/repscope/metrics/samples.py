"""How good is the representation of each single sample, without labels?

Row-wise scores of Kalibhat et al. and two established measures of sparsity, for NumPy
and torch arrays alike, in float64. Rows are independent of each other, so that a file
of any length is scored block by block.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np
import scipy.special
from jaxtyping import Bool, Float

from repscope._arrays import Array, Scores, as_double, as_matrix, namespace
from repscope._checking import Undecidable
from repscope.metrics.intervals import CONFIDENCE
from repscope.metrics.metric import Estimate, metric
from repscope.metrics.row_sums import LEAST_L1, RowBlock, Rows, per_row, row_sums
from repscope.metrics.sparsity import (
    block_gini,
    block_hoyer,
    block_soft_sparsity,
    check_eta,
    gini,
    hoyer,
    soft_sparsity,
)

DISCRIMINATIVE_DEVIATIONS = 4.0

_SOURCE = "Kalibhat et al. 2022, Section 4"


@metric(
    title="mean feature of a row",
    formula="μ_i = 1/d Σ_k h_ik",
    needs="rows",
    range="(-∞, ∞)",
    direction="lower",
    degree=1,
    invariances=("duplication",),
    cost="O(n d)",
    source=_SOURCE,
    misleads="scales with the features, so models cannot be compared by it; for signed "
    "features it says nothing about their size",
)
def feature_mean(features: Rows) -> Scores:
    """Return the mean feature of each row, 1/d sum_k h_ik.

    Args:
        features: finite, d at least 2.

    Returns:
        Any real number; lower is declared better, because it is |h_i|_1 / d for
        non-negative features.

    Raises:
        InputError: with fewer than 2 features, or a value that is not finite.

    Source: Kalibhat et al. 2022, Section 4. As in the source.

    Example:
        >>> feature_mean(np.array([[0.0, 1.0, 2.0]])).tolist()
        [1.0]
    """
    return per_row(features, _feature_mean)


@metric(
    title="standard deviation of a row's features",
    formula="σ_i = sqrt(1/d Σ_k (h_ik - μ_i)²)",
    needs="rows",
    range="[0, ∞)",
    bounds=(0.0, None),
    direction="lower",
    degree=1,
    invariances=("duplication",),
    cost="O(n d)",
    source=_SOURCE,
    misleads="scales with the features, so models cannot be compared by it",
)
def feature_std(features: Rows) -> Scores:
    """Return the standard deviation (ddof 0) of each row's features.

    Args:
        features: finite, d at least 2.

    Returns:
        At least 0, lower is declared better; exactly 0 for a row of equal features.

    Raises:
        InputError: with fewer than 2 features, or a value that is not finite.

    Source: Kalibhat et al. 2022, Section 4. As in the source.

    Example:
        >>> feature_std(np.array([[1.0, 3.0]])).tolist()
        [1.0]
    """
    return per_row(features, _feature_std)


@metric(
    title="L1 norm of a row",
    formula="|h_i|_1 = Σ_k |h_ik|",
    needs="rows",
    range="[0, ∞)",
    bounds=(0.0, None),
    direction="lower",
    degree=1,
    invariances=("duplication",),
    cost="O(n d)",
    source=_SOURCE + ", Fig. 5",
    misleads="scales with the features; in supervised networks a great norm often goes "
    "with confidence, so that the sign turns",
)
def l1_norm(features: Rows) -> Scores:
    """Return the L1 norm of each row, sum_k |h_ik|.

    Args:
        features: finite, d at least 2.

    Returns:
        At least 0, lower is declared better.

    Raises:
        InputError: with fewer than 2 features, or a value that is not finite.

    Source: Kalibhat et al. 2022, Section 4 and Fig. 5. As in the source.

    Example:
        >>> l1_norm(np.array([[1.0, -2.0]])).tolist()
        [3.0]
    """
    return per_row(features, _l1_norm)


@metric(
    title="z-score of the greatest feature",
    formula="z_i = (max_k h_ik - μ_i) / σ_i",
    needs="rows",
    range="0, or from 1/sqrt(d - 1) to sqrt(d - 1)",
    bounds=(0.0, None),
    direction="higher",
    degree=0,
    invariances=("duplication",),
    cost="O(n d)",
    source=_SOURCE,
    misleads="its range grows with d; an outlier feature that all rows share gives all "
    "of them a great score (see argmax concentration)",
)
def z_max(features: Rows) -> Scores:
    """Return the z-score of each row's greatest feature, (max_k h_ik - mu_i) / sigma_i.

    Mean and standard deviation (ddof 0) are over the d features of the row.

    Args:
        features: finite, d at least 2.

    Returns:
        From 1 / sqrt(d - 1), one feature below equal others, to sqrt(d - 1), one above;
        higher is better. 0 for a row of equal features. The same for a h + b, a > 0.

    Raises:
        InputError: with fewer than 2 features, or a value that is not finite.

    Source: Kalibhat et al. 2022, Section 4. As in the source.

    Example:
        >>> z_max(np.array([[0.0, 0.0, 0.0, 1.0]])).round(4).tolist()
        [1.7321]
    """
    return per_row(features, _z_max)


@metric(
    title="Q-Score",
    formula="Q_i = z_i / |h_i|_1",
    needs="rows",
    range="[0, ∞)",
    bounds=(0.0, None),
    direction="higher",
    degree=-1,
    invariances=("duplication",),
    cost="O(n d)",
    source="Kalibhat et al. 2022, Eq. 2",
    misleads="Q(c h) = Q(h) / c: models, layers, or a model before and after training "
    "cannot be compared by it; use the normalised Q-Score for that",
)
def q_score(features: Rows) -> Scores:
    """Return the Q-Score of each row, z_max_i / |h_i|_1.

    Args:
        features: finite, d at least 2.

    Returns:
        At least 0, higher is better; 0 for rows of equal features, zero rows among
        them. Comparable between models only after `rescale_mean_l1`.

    Raises:
        InputError: with fewer than 2 features, or a value that is not finite.

    Source: Kalibhat et al. 2022, Eq. 2. As in the source.

    Example:
        >>> q_score(np.array([[1.0, 1.0, 1.0, 0.0]])).round(5).tolist()
        [0.19245]
    """
    return per_row(features, _q_score)


@metric(
    title="Q-Score, normalised",
    formula="z_i · |h_i|_2 / |h_i|_1",
    needs="rows",
    range="[0, sqrt(d - 1)]",
    bounds=(0.0, None),
    direction="higher",
    degree=0,
    invariances=("duplication",),
    cost="O(n d)",
    source="ours, after Kalibhat et al. 2022, Eq. 2",
    misleads="with signed features L1 measures size, not the noise of weak activations",
)
def q_score_normalized(features: Rows) -> Scores:
    """Return a Q-Score without a scale, z_max_i * |h_i|_2 / |h_i|_1.

    Args:
        features: finite, d at least 2.

    Returns:
        From 0 to sqrt(d - 1), higher is better; 0 for rows of equal features.

    Raises:
        InputError: with fewer than 2 features, or a value that is not finite.

    Source: ours, after Kalibhat et al. 2022, Eq. 2. Differs from the source in the
    factor |h_i|_2, which makes it independent of the features' scale.

    Example:
        >>> q_score_normalized(np.array([[0.0, 0.0, 0.0, 7.0]])).round(4).tolist()
        [1.7321]
    """
    return per_row(features, _q_score_normalized)


def discriminative_set(
    features: Rows, eps_z: float = DISCRIMINATIVE_DEVIATIONS
) -> Bool[Array, "n d"]:
    """Return which features of each row stand out, h_ik > mu_i + eps_z sigma_i.

    Args:
        features: finite, d at least 2.
        eps_z: standard deviations above the row's mean; from sqrt(d - 1) on, no feature
            can stand out.

    Returns:
        True where a feature stands out; never in a row of equal features.

    Raises:
        InputError: with fewer than 2 features, or a value that is not finite.

    Source: the follow-up of Kalibhat et al. 2022 (AAAI 2024), as its abstract tells it;
    its default could not be checked.

    Example:
        >>> discriminative_set(np.array([[0.0, 0.0, 0.0, 1.0]]), eps_z=1.5).tolist()
        [[False, False, False, True]]
    """
    parts = []
    for block in row_sums(features):
        threshold = eps_z * block.deviation[:, None]
        above = block.values - block.mean[:, None] > threshold
        parts.append(above & ~block.constant[:, None])
    return namespace(*parts).concat(parts)


def rescale_mean_l1(features: Rows, mean_l1: float) -> Float[Array, "n d"]:
    """Return features / mean_l1 in float64, whose mean L1 norm is 1.

    Q-Scores of features so rescaled can be compared between models.

    Args:
        features: (n, d).
        mean_l1: mean of `l1_norm` over the whole data set.

    Raises:
        Undecidable: where all features are zero.

    Example:
        >>> rescale_mean_l1(np.array([[1.0, 3.0]]), 4.0).tolist()
        [[0.25, 0.75]]
    """
    if not mean_l1 > 0:
        raise Undecidable("all features are zero: they have no scale to divide by")
    return as_double(as_matrix(features)) / mean_l1


def _feature_mean(block: RowBlock) -> Scores:
    return block.mean * block.scale


def _feature_std(block: RowBlock) -> Scores:
    return block.deviation * block.scale


def _l1_norm(block: RowBlock) -> Scores:
    return block.l1 * block.scale


def _z_max(block: RowBlock) -> Scores:
    return block.z_max


def _q_score(block: RowBlock) -> Scores:
    return block.z_max / block.xp.clip(_l1_norm(block), LEAST_L1, None)


def _q_score_normalized(block: RowBlock) -> Scores:
    return block.per_l1(block.z_max * block.l2)


def _maximum(block: RowBlock) -> Scores:
    return block.maximum * block.scale


_BLOCK_SCORES: Mapping[str, Callable[[RowBlock], Scores]] = {
    "maximum": _maximum,
    "feature_mean": _feature_mean,
    "feature_std": _feature_std,
    "l1_norm": _l1_norm,
    "z_max": _z_max,
    "q_score": _q_score,
    "q_score_normalized": _q_score_normalized,
    "gini": block_gini,
    "hoyer": block_hoyer,
}

SCORE_FUNCTIONS: tuple[Callable[..., Scores], ...] = (
    z_max,
    q_score,
    q_score_normalized,
    l1_norm,
    feature_mean,
    feature_std,
    soft_sparsity,
    gini,
    hoyer,
)
SCORES: tuple[str, ...] = tuple(function.__name__ for function in SCORE_FUNCTIONS)


def sample_scores(features: Rows, *, eta: float | None = None) -> dict[str, Scores]:
    """Return every score of each row by name; each equals the function of that name.

    The rows pass through the processor's cache once, where the scores share their sums.

    Args:
        features: finite, d at least 2; all rows, or one block of a longer file.
        eta: adds `soft_sparsity`, which needs one value for all blocks; see
            `default_eta`.

    Returns:
        The scores, and "maximum", the greatest feature of each row.

    Raises:
        UsageError: for a negative eta.
        InputError: with fewer than 2 features, or a value that is not finite.

    Example:
        >>> sorted(sample_scores(np.array([[0.0, 1.0]])))[:3]
        ['feature_mean', 'feature_std', 'gini']
    """
    functions = dict(_BLOCK_SCORES)
    if eta is not None:
        check_eta(eta)
        functions["soft_sparsity"] = lambda block: block_soft_sparsity(block, eta)
    parts: dict[str, list[Scores]] = {name: [] for name in functions}
    for block in row_sums(features):
        for name, function in functions.items():
            parts[name].append(function(block))
    return {name: namespace(*part).concat(part) for name, part in parts.items()}


def mean_score(scores: Float[np.ndarray, " n"]) -> Estimate:
    """Return the mean of a score over rows, with its normal interval.

    Args:
        scores: one per row.

    Returns:
        The mean; an interval of 1.96 standard errors (ddof 1) from two rows on.
    """
    # A power of two, which changes no digit, keeps squares of 1e200 finite.
    peak = float(np.abs(scores).max())
    unit = 2.0 ** math.floor(math.log2(peak)) if peak > 0 else 1.0
    shares = scores / unit
    mean = float(shares.mean()) * unit
    if len(scores) < 2:
        return Estimate(mean)
    error = float(shares.std(ddof=1)) * unit / len(scores) ** 0.5
    half = float(scipy.special.ndtri((1 + CONFIDENCE) / 2)) * error
    return Estimate(mean, (mean - half, mean + half), {"interval": "normal"})
