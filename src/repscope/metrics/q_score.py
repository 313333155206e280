"""How far does an image's representation stand out? The Q-Score and its parts.

Row-wise, for NumPy and torch arrays alike, in float64. Meant for representations after
a rectifier: on features of both signs L1 measures size, not the noise of weak ones.
"""

from jaxtyping import Bool, Float

from repscope._arrays import Array, Scores, as_double, as_matrix, namespace
from repscope._checking import Undecidable
from repscope.metrics.metric import metric
from repscope.metrics.row_statistics import (
    LEAST_L1,
    Rows,
    RowStatistics,
    per_row,
    statistics_of,
)


@metric(
    title="z-score of the maximum",
    formula="z_i = (max_k h_ik - μ_i) / σ_i",
    needs="rows",
    range="[1/sqrt(d - 1), sqrt(d - 1)]; 0 for a constant row",
    bounds=(0.0, None),
    direction="higher",
    cost="O(n d)",
    source="Kalibhat et al. 2022, Section 4",
    misleads="its range grows with d; a feature that every row shares gives every row "
    "a great score",
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
    return per_row(features, z_max_of)


@metric(
    title="Q-Score",
    formula="Q_i = z_i / |h_i|_1",
    needs="rows",
    range="[0, ∞)",
    bounds=(0.0, None),
    direction="higher",
    cost="O(n d)",
    source="Kalibhat et al. 2022, Eq. 2",
    misleads="halves when features double: never compare it across layers or models; "
    "use the normalised one",
)
def q_score(features: Rows) -> Scores:
    """Return the Q-Score of each row, Q_i = z_max_i / |h_i|_1.

    Args:
        features: finite, d at least 2.

    Returns:
        At least 0, higher is better; 0 for rows of equal features, zero rows among
        them.

    Raises:
        InputError: with fewer than 2 features, or a value that is not finite.

    Source: Kalibhat et al. 2022, Eq. 2. As in the source.

    Example:
        >>> q_score(np.array([[1.0, 1.0, 1.0, 0.0]])).round(5).tolist()
        [0.19245]
    """
    return per_row(features, q_score_of)


@metric(
    title="normalised Q-Score",
    formula="z_i · |h_i|_2 / |h_i|_1",
    needs="rows",
    range="[0, sqrt(d - 1)]",
    bounds=(0.0, None),
    direction="higher",
    cost="O(n d)",
    source="Kalibhat et al. 2022, Eq. 2, made free of scale",
    misleads="its range grows with d: compare at equal width only",
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
    return per_row(features, q_score_normalized_of)


def discriminative_set(features: Rows, eps_z: float = 4.0) -> Bool[Array, "n d"]:
    """Return which features of each row stand out, h_ik > mu_i + eps_z sigma_i.

    Args:
        features: finite, d at least 2.
        eps_z: standard deviations above the row's mean.

    Returns:
        True where a feature stands out; never in a row of equal features. With
        eps_z >= sqrt(d - 1) no feature can.

    Raises:
        InputError: with fewer than 2 features, or a value that is not finite.

    Source: the published follow-up of Kalibhat et al. 2022 (AAAI 2024), as its abstract
        and figures tell it; the exact default there could not be checked.

    Example:
        >>> discriminative_set(np.array([[0.0, 0.0, 0.0, 1.0]]), eps_z=1.5).tolist()
        [[False, False, False, True]]
    """
    parts = []
    for block in statistics_of(features):
        threshold = eps_z * block.deviation[:, None]
        above = block.values - block.mean[:, None] > threshold
        parts.append(above & ~block.constant[:, None])
    return namespace(*parts).concat(parts)


def rescale_mean_l1(features: Rows, mean_l1: float) -> Float[Array, "n d"]:
    """Return features / mean_l1, in float64: their mean L1 norm becomes 1.

    Q-Scores of features rescaled by their own mean L1 norm can be compared between
    models.

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


def z_max_of(block: RowStatistics) -> Scores:
    """Return the score of the rows of one block."""
    return block.z_max


def q_score_of(block: RowStatistics) -> Scores:
    """Return the score of the rows of one block."""
    l1 = block.xp.clip(block.l1 * block.scale, LEAST_L1, None)
    return block.z_max / l1


def q_score_normalized_of(block: RowStatistics) -> Scores:
    """Return the score of the rows of one block."""
    return block.per_l1(block.z_max * block.l2)
