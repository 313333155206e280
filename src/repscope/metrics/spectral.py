"""Over how many dimensions is variance spread? Entropy ranks of a spectrum.

`eigenvalues` are those of the centred covariance, descending (`Moments.spectrum`);
`singular_values` those of the uncentred feature matrix (`Moments.singular_values`).
Nothing here depends on scale or rotation; everything depends on n when n is not well
above d.
"""

import numpy as np
from jaxtyping import Float

from repscope._arrays import Spectrum
from repscope._checking import Undecidable
from repscope._eigen import safe_eigh
from repscope.metrics.metric import metric

# Added to every normalised singular value in RankMe.
RANKME_EPSILON = 1e-7
# A feature is dead if its deviation is below this share of the features' root mean
# square.
DEAD_RELATIVE_DEVIATION = 1e-8

_SOURCE_ROY = "Roy, Vetterli 2007, Definition 1"


def variance_shares(values: Spectrum) -> Spectrum:
    """Return values / sum, which is 1.

    Raises:
        Undecidable: where all values are zero.
    """
    total = values.sum()
    if not total > 0:
        raise Undecidable("all features are constant: there is no variance to spread")
    return values / total


def _exponential_entropy(shares: Spectrum) -> float:
    positive = shares[shares > 0]
    return float(np.exp(-(positive * np.log(positive)).sum()))


@metric(
    title="RankMe",
    formula="exp(-Σ p_k log p_k), p_k = σ_k / Σσ + 1e-7, σ the singular values of the "
    "uncentred features",
    needs="spectrum",
    range="[1, min(n, d)], exceeded by up to d² 1e-7 (ln d - 1)",
    # One singular value gives exp(-(1 + e) log(1 + e)), a little below 1.
    bounds=(1.0 - 2 * RANKME_EPSILON, None),
    direction="higher",
    degree=0,
    invariances=("rotation", "duplication"),
    cost="O(n d² + d³)",
    source="Garrido et al. 2023, Eq. 1",
    misleads="a large common mean pushes it towards 1; comparable only between runs "
    "of one "
    "method on the same images; exceeds min(n, d) by its 1e-7 for thousands of "
    "dimensions",
)
def rankme(singular_values: Spectrum) -> float:
    """Return RankMe as published.

    Args:
        singular_values: of the uncentred (n, d) features.

    Returns:
        From 1 to min(n, d), exceeded for large d because of the epsilon; higher is
        better.

    Raises:
        Undecidable: where all features are zero.

    Source: Garrido et al. 2023, Eq. 1 (there on the embeddings z of 25,600 images).
    As in the source.

    Example:
        >>> round(rankme(np.ones(4)), 3)
        4.0
    """
    shares = variance_shares(singular_values) + RANKME_EPSILON
    return float(np.exp(-(shares * np.log(shares)).sum()))


@metric(
    title="effective rank",
    formula="exp(-Σ p_k log p_k), p_k = σ_k / Σσ, σ the singular values of the centred "
    "features",
    needs="spectrum",
    range="[1, min(n - 1, d)]",
    bounds=(1.0, None),
    direction="higher",
    minimum_n=2,
    degree=0,
    invariances=("shift", "rotation", "duplication"),
    cost="O(n d² + d³)",
    source=_SOURCE_ROY,
    misleads="small singular values count by their root, so that noise of little "
    "variance "
    "raises it; read it beside the effective rank of the covariance",
)
def effective_rank(eigenvalues: Spectrum) -> float:
    """Return the exponential of the entropy of the normalised singular values.

    Args:
        eigenvalues: (d,) of the centred covariance; their roots are the singular values
            up to a common factor.

    Returns:
        From 1 to min(n - 1, d); higher is better.

    Raises:
        Undecidable: where all features are constant.

    Source: Roy, Vetterli 2007, Definition 1. As in the source, on centred features.

    Example:
        >>> round(effective_rank(np.array([1.0, 1.0, 0.0])), 6)
        2.0
    """
    return _exponential_entropy(variance_shares(np.sqrt(eigenvalues)))


@metric(
    title="effective rank of the covariance",
    formula="exp(-Σ p_k log p_k), p_k = λ_k / Σλ",
    needs="spectrum",
    range="[1, min(n - 1, d)]",
    bounds=(1.0, None),
    direction="higher",
    minimum_n=2,
    degree=0,
    invariances=("shift", "rotation", "duplication"),
    cost="O(n d² + d³)",
    source=_SOURCE_ROY + ", on eigenvalues",
    misleads="natural images have a steep spectrum: raw pixels of CIFAR reach 33 of "
    "3,072 "
    "without being collapsed",
)
def effective_rank_covariance(eigenvalues: Spectrum) -> float:
    """Return the exponential of the entropy of the normalised eigenvalues.

    Args:
        eigenvalues: (d,) of the centred covariance.

    Returns:
        From 1 to min(n - 1, d); higher is better.

    Raises:
        Undecidable: where all features are constant.

    Source: Roy, Vetterli 2007. Differs from the source in using eigenvalues of the
    covariance, the squares of the singular values.

    Example:
        >>> round(effective_rank_covariance(np.array([1.0, 1.0, 0.0])), 6)
        2.0
    """
    return _exponential_entropy(variance_shares(eigenvalues))


@metric(
    title="effective rank of the correlation",
    formula="exp(-Σ p_k log p_k), p_k = ρ_k / Σρ, ρ the eigenvalues of the correlation "
    "matrix of the features that vary",
    needs="spectrum",
    range="[1, min(n - 1, d)]",
    bounds=(1.0, None),
    direction="higher",
    minimum_n=2,
    degree=0,
    invariances=("shift", "duplication"),
    cost="O(n d² + d³)",
    source=_SOURCE_ROY,
    misleads="features of rounding noise alone count as much as any other; not "
    "invariant to rotation",
)
def effective_rank_correlation(covariance: Float[np.ndarray, "d d"]) -> float:
    """Return the effective rank of the covariance after standardising each feature.

    Args:
        covariance: of the centred features.

    Returns:
        From 1 to min(n - 1, d); higher is better. Far above the effective rank of the
        covariance where a few features in larger units carry the variance.

    Raises:
        Undecidable: where all features are constant.

    Source: Roy, Vetterli 2007, Definition 1. Differs from the source in using
    eigenvalues of the correlation matrix; constant features are left out.

    Example:
        >>> round(effective_rank_correlation(np.diag([1e6, 1.0])), 6)
        2.0
    """
    deviations = np.sqrt(np.maximum(np.diag(covariance), 0))
    variance_shares(deviations)  # undecidable where all are constant
    greatest = deviations.max()
    scale = greatest * np.sqrt(((deviations / greatest) ** 2).mean())
    varies = deviations > DEAD_RELATIVE_DEVIATION * scale
    scales = deviations[varies]
    correlation = covariance[np.ix_(varies, varies)] / scales
    correlation /= scales[:, None]
    return _exponential_entropy(variance_shares(safe_eigh(correlation).values))


@metric(
    title="participation ratio",
    formula="(Σλ)² / Σλ²",
    needs="spectrum",
    range="[1, min(n - 1, d)]",
    bounds=(1.0, None),
    direction="higher",
    minimum_n=2,
    degree=0,
    invariances=("shift", "rotation", "duplication"),
    cost="O(n d² + d³)",
    source="Gao et al. 2017, Eq. 5",
    misleads="dominated by the first eigenvalues; isotropic noise of n rows gives "
    "n d / (n + d), not d",
)
def participation_ratio(eigenvalues: Spectrum) -> float:
    """Return (sum of eigenvalues)^2 / sum of their squares.

    Args:
        eigenvalues: (d,) of the centred covariance.

    Returns:
        From 1 to min(n - 1, d); higher is better.

    Raises:
        Undecidable: where all features are constant.

    Source: Gao et al. 2017. As in the source.

    Example:
        >>> round(participation_ratio(np.array([2.0, 1.0])), 6)
        1.8
    """
    return float(1 / (variance_shares(eigenvalues) ** 2).sum())
