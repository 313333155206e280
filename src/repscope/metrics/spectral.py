"""How variance is spread over dimensions: functions of a spectrum.

`eigenvalues` are those of the centred covariance, descending (`Moments.spectrum`);
`singular_values` those of the uncentred feature matrix (`Moments.singular_values`).
Nothing here depends on scale or rotation; everything depends on n when n is not well
above d.
"""

import numpy as np
from jaxtyping import Bool, Float

from repscope._arrays import Spectrum
from repscope._checking import Undecidable
from repscope._numerics import safe_eigh
from repscope.metrics.metric import metric

# Added to every normalised singular value in RankMe.
RANKME_EPSILON = 1e-7
# A feature is dead if its deviation is below this share of the features' root mean
# square.
DEAD_RELATIVE_DEVIATION = 1e-8

_SOURCE_ROY = "Roy, Vetterli 2007, Definition 1"


def _shares(values: Spectrum) -> Spectrum:
    """Return values / sum; all-zero spectra have no shares."""
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
    bounds=(1.0, None),
    direction="higher",
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
    shares = _shares(singular_values) + RANKME_EPSILON
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
    return _exponential_entropy(_shares(np.sqrt(eigenvalues)))


@metric(
    title="effective rank of the covariance",
    formula="exp(-Σ p_k log p_k), p_k = λ_k / Σλ",
    needs="spectrum",
    range="[1, min(n - 1, d)]",
    bounds=(1.0, None),
    direction="higher",
    minimum_n=2,
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
    return _exponential_entropy(_shares(eigenvalues))


@metric(
    title="effective rank of the correlation",
    formula="exp(-Σ p_k log p_k), p_k = ρ_k / Σρ, ρ the eigenvalues of the correlation "
    "matrix of the features that vary",
    needs="spectrum",
    range="[1, min(n - 1, d)]",
    bounds=(1.0, None),
    direction="higher",
    minimum_n=2,
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
    deviations = np.sqrt(np.diag(covariance))
    _shares(deviations)  # undecidable where all are constant
    varies = deviations > DEAD_RELATIVE_DEVIATION * np.sqrt((deviations**2).mean())
    scales = deviations[varies]
    correlation = covariance[np.ix_(varies, varies)] / np.outer(scales, scales)
    return _exponential_entropy(_shares(safe_eigh(correlation).values))


@metric(
    title="participation ratio",
    formula="(Σλ)² / Σλ²",
    needs="spectrum",
    range="[1, min(n - 1, d)]",
    bounds=(1.0, None),
    direction="higher",
    minimum_n=2,
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
    return float(1 / (_shares(eigenvalues) ** 2).sum())


@metric(
    title="stable rank",
    formula="Σλ / λ_1",
    needs="spectrum",
    range="[1, min(n - 1, d)]",
    bounds=(1.0, None),
    direction="higher",
    minimum_n=2,
    cost="O(n d² + d³)",
    source="Rudelson, Vershynin 2007",
    misleads="knows only the first eigenvalue and the sum",
)
def stable_rank(eigenvalues: Spectrum) -> float:
    """Return the sum of the eigenvalues over the first.

    Args:
        eigenvalues: (d,) of the centred covariance.

    Returns:
        From 1 to min(n - 1, d); higher is better.

    Raises:
        Undecidable: where all features are constant.

    Source: Rudelson, Vershynin 2007 (squared Frobenius over squared spectral norm).
    As in the source.
    """
    return float(1 / _shares(eigenvalues)[0])


@metric(
    title="components for 99 % of the variance",
    formula="least k with λ_1 + ... + λ_k ≥ q Σλ, q = .99",
    needs="spectrum",
    range="[1, min(n - 1, d)], a whole number",
    bounds=(1.0, None),
    direction="higher",
    minimum_n=2,
    cost="O(n d² + d³)",
    source="Jolliffe 2002, Section 6.1.1",
    misleads="jumps by one where two eigenvalues are close to the threshold",
)
def n_components(eigenvalues: Spectrum, *, share: float = 0.99) -> float:
    """Return how many principal components explain a share of the variance.

    Args:
        eigenvalues: (d,) of the centred covariance.
        share: between 0 and 1.

    Returns:
        From 1 to min(n - 1, d); higher is better.

    Raises:
        Undecidable: where all features are constant.

    Source: Jolliffe 2002, Section 6.1.1. As in the source.

    Example:
        >>> n_components(np.array([3.0, 1.0, 0.0]), share=0.75)
        1.0
    """
    # A sum that reaches the share up to rounding has reached it.
    reached = np.cumsum(_shares(eigenvalues)) >= share * (1 - 1e-12)
    return float(np.argmax(reached) + 1)


@metric(
    title="anisotropy",
    formula="λ_1 / Σλ",
    needs="spectrum",
    range="[1 / min(n - 1, d), 1]",
    bounds=(0.0, 1.0),
    direction="lower",
    minimum_n=2,
    cost="O(n d² + d³)",
    source="the inverse of the stable rank",
    misleads="one outlying feature or row can carry it alone",
)
def anisotropy(eigenvalues: Spectrum) -> float:
    """Return the share of the variance along the first principal component.

    Args:
        eigenvalues: (d,) of the centred covariance.

    Returns:
        From 1 / min(n - 1, d) to 1; lower is better.

    Raises:
        Undecidable: where all features are constant.

    Source: the inverse of Rudelson, Vershynin 2007's stable rank. As in the source.
    """
    return float(_shares(eigenvalues)[0])


@metric(
    title="flatness of the spectrum",
    formula="(Σλ)² / Σλ² · (1/d + 1/n)",
    needs="spectrum",
    range="(0, about 1]; isotropic noise gives 1 for any n and d",
    bounds=(0.0, None),
    direction="none",
    minimum_n=3,
    cost="O(n d² + d³)",
    source="participation ratio over its expectation n d / (n + d) for a Wishart "
    "matrix "
    "(Marchenko, Pastur 1967)",
    misleads="whitened features are flat by construction and can be perfectly sound",
)
def spectral_flatness(eigenvalues: Spectrum, n: int) -> float:
    """Return the participation ratio relative to that of isotropic noise.

    Args:
        eigenvalues: (d,) of the centred covariance.
        n: rows behind them.

    Returns:
        Near 0 for steep spectra, near 1 for isotropic noise of any n and d; at most
        1 + d / n, reached by features that were whitened on these very rows.

    Raises:
        Undecidable: where all features are constant.

    Source: Marchenko, Pastur 1967 (second moment of the limiting spectrum is 1 + d/n).
    As in the source.
    """
    d = len(eigenvalues)
    return participation_ratio(eigenvalues) * (1 / d + 1 / n)


@metric(
    title="relative dispersion",
    formula="sqrt(tr S / (tr S + |mean|²))",
    needs="spectrum",
    range="[0, 1]",
    bounds=(0.0, 1.0),
    direction="none",
    minimum_n=2,
    cost="O(n d)",
    source="the share of the mean square that is variance (law of total variance)",
    misleads="depends on the origin: features with a large common offset score low "
    "without "
    "having lost anything",
)
def relative_dispersion(total_variance: float, squared_mean: float) -> float:
    """Return the root of the share of the mean square length that is variance.

    Args:
        total_variance: trace of the centred covariance, not negative.
        squared_mean: squared length of the mean.

    Returns:
        From 0 (all rows equal) to 1 (mean zero); higher is better.

    Raises:
        Undecidable: where all features are zero.

    Source: E|f|^2 = tr S + |mean|^2. As in the source.

    Example:
        >>> relative_dispersion(0.0, 4.0)
        0.0
    """
    if total_variance + squared_mean == 0:
        raise Undecidable("all features are zero")
    return float(np.sqrt(total_variance / (total_variance + squared_mean)))


def dead_mask(
    deviations: Float[np.ndarray, " d"],
    means: Float[np.ndarray, " d"],
    *,
    threshold: float = DEAD_RELATIVE_DEVIATION,
) -> Bool[np.ndarray, " d"]:
    """Return which features do not vary: deviation at most `threshold` of the scale.

    The scale is the root mean square over all features, so that the answer does not
    depend on units; a feature's own mean counts too, below whose rounding no deviation
    can be told from zero.
    """
    scale = np.sqrt((deviations**2 + means**2).mean())
    rounding = np.finfo(np.float64).eps * 16 * np.abs(means)
    return (deviations <= threshold * scale) | (deviations <= rounding)


@metric(
    title="dead features",
    formula="share of features k with std_k ≤ 1e-8 · rms",
    needs="spectrum",
    range="[0, 1]",
    bounds=(0.0, 1.0),
    direction="lower",
    minimum_n=2,
    cost="O(n d)",
    source="common practice: a standard deviation below 1e-8",
    misleads="a feature that is alive on other images counts as dead on these",
)
def dead_features(
    deviations: Float[np.ndarray, " d"], means: Float[np.ndarray, " d"]
) -> float:
    """Return the share of features that never vary.

    Args:
        deviations: (d,) standard deviation of each feature, ddof 0.
        means: (d,) mean of each feature.

    Returns:
        From 0 to 1; lower is better.

    Source: the usual threshold of 1e-8 on the standard deviation. Differs from the
    source in that the threshold is relative to the root mean square of the features.
    """
    return float(dead_mask(deviations, means).mean())
