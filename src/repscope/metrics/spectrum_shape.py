"""What form has a spectrum: steep or flat, how much of it is one direction or none?

`eigenvalues` are those of the centred covariance, descending (`Moments.spectrum`).
"""

import numpy as np
from jaxtyping import Bool, Float

from repscope._arrays import Spectrum
from repscope._checking import Undecidable, UsageError
from repscope.metrics.metric import Estimate, metric
from repscope.metrics.spectral import (
    DEAD_RELATIVE_DEVIATION,
    participation_ratio,
    variance_shares,
)

# Directions of less variance than this share of the first are told from rounding only
# where the spectrum has a gap.
CONDITION_FLOOR = 1e-10


@metric(
    title="stable rank",
    formula="Σλ / λ_1",
    needs="spectrum",
    range="[1, min(n - 1, d)]",
    bounds=(1.0, None),
    direction="higher",
    minimum_n=2,
    degree=0,
    invariances=("shift", "rotation", "duplication"),
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
    return float(1 / variance_shares(eigenvalues)[0])


@metric(
    title="components for 99 % of the variance",
    formula="least k with λ_1 + ... + λ_k ≥ q Σλ, q = .99",
    needs="spectrum",
    range="[1, min(n - 1, d)], a whole number",
    bounds=(1.0, None),
    direction="higher",
    minimum_n=2,
    degree=0,
    invariances=("shift", "rotation", "duplication"),
    cost="O(n d² + d³)",
    source="Jolliffe 2002, Section 6.1.1",
    misleads="jumps by one where two eigenvalues are close to the threshold",
)
def n_components(eigenvalues: Spectrum, *, share: float = 0.99) -> float:
    """Return how many principal components explain a share of the variance.

    Args:
        eigenvalues: (d,) of the centred covariance.
        share: above 0, at most 1.

    Returns:
        From 1 to min(n - 1, d); higher is better.

    Raises:
        Undecidable: where all features are constant.
        UsageError: for a share that is none.

    Source: Jolliffe 2002, Section 6.1.1. As in the source.

    Example:
        >>> n_components(np.array([3.0, 1.0, 0.0]), share=0.75)
        1.0
    """
    if not 0 < share <= 1:
        raise UsageError(
            "n_components: a share of the variance is needed",
            found=f"share = {share}",
            expected="above 0, at most 1",
        )
    # A sum that reaches the share up to rounding has reached it.
    reached = np.cumsum(variance_shares(eigenvalues)) >= share * (1 - 1e-12)
    return float(np.argmax(reached) + 1)


@metric(
    title="anisotropy",
    formula="λ_1 / Σλ",
    needs="spectrum",
    range="[1 / min(n - 1, d), 1]",
    bounds=(0.0, 1.0),
    direction="lower",
    minimum_n=2,
    degree=0,
    invariances=("shift", "rotation", "duplication"),
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
    return float(variance_shares(eigenvalues)[0])


@metric(
    title="flatness of the spectrum",
    formula="(Σλ)² / Σλ² · (1/d + 1/n)",
    needs="spectrum",
    range="(0, about 1]; isotropic noise gives 1 for any n and d",
    bounds=(0.0, None),
    direction="none",
    minimum_n=3,
    degree=0,
    invariances=("shift", "rotation"),
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
    title="condition number of the covariance",
    formula="λ_1 / λ_r, r the last eigenvalue above rounding",
    needs="spectrum",
    range="[1, 1e10]",
    bounds=(1.0, 1e10),
    direction="lower",
    minimum_n=2,
    degree=0,
    invariances=("shift", "rotation", "duplication"),
    cost="O(n d² + d³)",
    source="Golub, Van Loan 2013, Section 2.6.2; of the span, as for the pseudoinverse",
    misleads="directions without variance do not count, so that a collapsed "
    "representation can be well conditioned; with n near d sampling alone makes it "
    "large",
)
def condition_number(eigenvalues: Spectrum) -> Estimate:
    """Return the largest eigenvalue over the smallest that is not zero.

    lambda_1 / lambda_r, with r the number of eigenvalues above d eps lambda_1

    Args:
        eigenvalues: (d,) of the centred covariance, descending.

    Returns:
        From 1 to 1e10; lower is better; the square of that of the centred features.
        Details: `rank`, r.

    Raises:
        Undecidable: where all features are constant, or lambda_r is below 1e-10 of the
            first: eigenvalues of float64 sums cannot be told from rounding there.

    Source: Golub, Van Loan 2013, Section 2.6.2. Differs from the source in leaving out
    eigenvalues that are zero up to rounding.

    Example:
        >>> condition_number(np.array([4.0, 1.0, 0.0])).value
        4.0
    """
    variance_shares(eigenvalues)  # undecidable where all are constant
    relative = eigenvalues / eigenvalues[0]
    rounding = len(eigenvalues) * np.finfo(np.float64).eps
    rank = int((relative > rounding).sum())
    least = float(relative[rank - 1])
    if least < CONDITION_FLOOR:
        raise Undecidable(
            f"the least of {rank} eigenvalues is {least:.1e} of the first: too near to "
            "rounding"
        )
    return Estimate(1 / least, details={"rank": rank})


@metric(
    title="relative dispersion",
    formula="sqrt(tr S / (tr S + |mean|²))",
    needs="spectrum",
    range="[0, 1]",
    bounds=(0.0, 1.0),
    direction="none",
    minimum_n=2,
    degree=0,
    invariances=("rotation", "duplication"),
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
    degree=0,
    invariances=("duplication",),
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
