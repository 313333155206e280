"""How much do features tell of their images? Estimates of mutual information.

A deterministic encoder of continuous inputs has infinite mutual information: each
number here is that of something less sharp (noise added, values binned, a critic of
finite size) and can be compared only with numbers of the same protocol.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import scipy.special
from jaxtyping import Float, Shaped

from repscope._arrays import Array, Spectrum, as_double, as_matrix, host
from repscope._checking import InputError, Undecidable, UsageError
from repscope._eigen import safe_eigh
from repscope._numerics import row_blocks, unit_rows
from repscope.metrics.intervals import CONFIDENCE
from repscope.metrics.metric import Estimate, metric
from repscope.metrics.samples import mean_score
from repscope.records import Detail
from repscope.representations.moments import Moments

# Variance of the noise that is added, as a share of the mean variance of a feature.
NOISE_SHARE = 0.01
# Cells of equal width per feature.
BINS = 30
# Canonical correlations nearer to 1 than this are rounding: their information is not
# finite.
CORRELATION_ROUNDING = 1e-9
# Directions below this share of the first eigenvalue are rounding.
RELATIVE_RANK_FLOOR = 1e-10

CAVEATS = (
    "a deterministic encoder of continuous images has infinite mutual information: "
    "only trends under one fixed protocol mean anything; an estimate near or above the "
    "logarithm of the pairs it is evaluated on is not to be trusted"
)
_NAT_IN_BITS = 1 / math.log(2)


@dataclass(frozen=True)
class MineResult:
    """What several trainings of a statistics network found.

    Args:
        bits: the estimate of each seed, in bits.
        seeds: of the trainings.
        n_train: pairs trained on.
        n_evaluated: pairs held out.
        log2_pairs_bits: logarithm of the pairs of strangers evaluated. Fewer pairs than
            exp I do not show what E exp T is, so that estimates near this or above it
            are not to be trusted; nothing keeps them below.
        steps: of each training.
    """

    bits: tuple[float, ...]
    seeds: tuple[int, ...]
    n_train: int
    n_evaluated: int
    log2_pairs_bits: float
    steps: int


@metric(
    title="mutual information of images and features (MINE), bits",
    formula="mean over seeds of E T - log E exp T', T a trained network on held-out "
    "pairs (x, z) and T' on pairs of different images",
    needs="images",
    range="real; about 0 for independent pairs; no limit above: not to be trusted near "
    "log2 of the pairs evaluated",
    direction="none",
    minimum_n=20,
    degree=0,
    cost="O(steps) trainings of a small network",
    source="Belghazi et al. 2018, Eq. 10; Ben-Shaul et al. 2023, Fig. 3",
    misleads=CAVEATS,
)
def mutual_information(result: MineResult) -> Estimate:
    """Return the mean of the Donsker-Varadhan bounds that several seeds reached.

    I >= E_joint T - log E_marginal exp T

    Args:
        result: of `mine.train_mine`.

    Returns:
        Bits, about 0 for independent pairs (slightly negative at times). The interval
        is Student's over seeds: it knows the trainings, not the sample of images.
        Details: `standard_deviation` over seeds (ddof 1), `nats`, `log2_pairs_bits`,
        the logarithm of the pairs of strangers evaluated, `beyond_pairs`, whether some
        seed's estimate lies above it (E exp T then hangs on pairs that were not seen),
        and the `caveats` that belong beside the number.

    Raises:
        Undecidable: where no seed was trained.

    Source: Belghazi et al. 2018, Eq. 10; mean over 5 seeds as in Ben-Shaul et al. 2023.
    As in the source, evaluated on held-out pairs.
    """
    bits = np.array(result.bits)
    if len(bits) == 0:
        raise Undecidable("no seed was trained")
    mean = float(bits.mean())
    details: dict[str, Detail] = {
        "nats": mean * math.log(2),
        "n_seeds": len(bits),
        "n_evaluated": result.n_evaluated,
        "log2_pairs_bits": result.log2_pairs_bits,
        "beyond_pairs": bool((bits > result.log2_pairs_bits).any()),
        "caveats": CAVEATS,
    }
    if len(bits) < 2:
        return Estimate(mean, details=details)
    deviation = float(bits.std(ddof=1))
    quantile = float(scipy.special.stdtrit(len(bits) - 1, (1 + CONFIDENCE) / 2))
    half = quantile * deviation / len(bits) ** 0.5
    details |= {"standard_deviation": deviation, "interval": "Student over seeds"}
    return Estimate(mean, (mean - half, mean + half), details)


@metric(
    title="information of noisy features, Gaussian bound, bits",
    formula="1/2 Σ log2(1 + λ_k / s²), s² = .01 mean λ",
    needs="spectrum",
    range="[0, d/2 log2(1 + 100)]",
    bounds=(0.0, None),
    direction="none",
    minimum_n=2,
    degree=0,
    invariances=("shift", "rotation", "duplication"),
    cost="O(n d² + d³)",
    source="Cover, Thomas 2006, Section 9.4 (parallel Gaussian channels)",
    misleads="an upper bound that only Gaussian features attain: it reads the spectrum "
    "and nothing else, and grows with d; " + CAVEATS,
)
def gaussian_information(
    eigenvalues: Spectrum, *, noise_share: float = NOISE_SHARE
) -> float:
    """Return the greatest information that z + N(0, s^2) can carry about the image.

    1/2 sum_k log2(1 + lambda_k / s^2), s^2 = noise_share * mean lambda

    For a deterministic encoder I(x; z + noise) = h(z + noise) - h(noise), which is
    greatest for Gaussian z.

    Args:
        eigenvalues: (d,) of the centred covariance.
        noise_share: variance of the noise as a share of the mean eigenvalue, above 0.

    Returns:
        Bits, from 0 to d / 2 log2(1 + 1 / noise_share).

    Raises:
        UsageError: where the noise is not positive.
        Undecidable: where all features are constant.

    Source: Cover, Thomas 2006, Section 9.4. As in the source.

    Example:
        >>> round(gaussian_information(np.array([1.0, 1.0]), noise_share=1.0), 6)
        1.0
    """
    if not noise_share > 0:
        raise UsageError("noise_share", found=f"{noise_share}", expected="above 0")
    mean = float(eigenvalues.mean())
    if not mean > 0:
        raise Undecidable("all features are constant: they tell nothing")
    ratios = eigenvalues / mean / noise_share
    return float(np.log1p(ratios).sum() / 2 * _NAT_IN_BITS)


@metric(
    title="information of two Gaussian feature sets, bits",
    formula="-1/2 Σ log2(1 - ρ_k²), ρ the canonical correlations",
    needs="pair",
    range="[0, ∞)",
    bounds=(0.0, None),
    direction="none",
    minimum_n=8,
    degree=0,
    invariances=("shift", "rotation", "duplication"),
    cost="O(n (d + e)² + (d + e)³)",
    source="Gelfand, Yaglom 1957; Kay 1992",
    misleads="exact for Gaussian pairs only; with n near d + e the sample correlations "
    "are near 1 by chance and the value is far too great",
)
def gaussian_pair_information(
    features: Shaped[Array, "n d"], other: Shaped[Array, "m e"]
) -> Estimate:
    """Return the mutual information of two feature sets, taken as jointly Gaussian.

    -1/2 sum_k log2(1 - rho_k^2), over min(rank, rank) canonical correlations

    Args:
        features: (n, d).
        other: (n, e), the same rows.

    Returns:
        Bits, at least 0. Details: `largest_correlation`, and `chance_bits`, the value
        that independent Gaussian sets of these ranks have on average to first order,
        d e / (2 n ln 2).

    Raises:
        InputError: where the rows differ in number.
        Undecidable: where one set is constant, n <= d + e, or one feature set is a
            function of the other up to rounding.

    Source: Gelfand, Yaglom 1957. As in the source, on canonical correlations.
    """
    one, two = _whitened(features), _whitened(other)
    n = len(one)
    if len(two) != n:
        raise InputError(
            "other: the same rows are needed",
            found=f"{len(two):,} rows",
            expected=f"{n:,}",
        )
    ranks = one.shape[1], two.shape[1]
    if n <= sum(ranks) + 1:
        raise Undecidable(
            f"{n:,} rows of {ranks[0]} + {ranks[1]} dimensions: canonical correlations "
            "are 1 by chance"
        )
    correlations = np.linalg.svd(one.T @ two / n, compute_uv=False)
    if correlations[0] > 1 - CORRELATION_ROUNDING:
        raise Undecidable("one set is a linear function of the other: infinite")
    bits = float(-np.log1p(-(correlations**2)).sum() / 2 * _NAT_IN_BITS)
    return Estimate(
        bits,
        details={
            "largest_correlation": float(correlations[0]),
            "chance_bits": ranks[0] * ranks[1] / (2 * n) * _NAT_IN_BITS,
        },
    )


def _whitened(features: Shaped[Array, "n d"]) -> Float[np.ndarray, "n r"]:
    matrix = as_matrix(features)
    moments = Moments(matrix.shape[1]).update(matrix)
    deviations = np.sqrt(np.diag(moments.covariance()))
    alive = deviations > 0
    if not alive.any():
        raise Undecidable("all features are constant: they tell nothing")
    # Standardised first: features in other units are no less informative.
    standard = (host(as_double(matrix)) - moments.mean)[:, alive] / deviations[alive]
    eigen = safe_eigh(standard.T @ standard / len(standard), vectors=True)
    kept = eigen.values > RELATIVE_RANK_FLOOR * eigen.values[0]
    axes = np.asarray(eigen.vectors)[:, kept]
    return standard @ (axes / np.sqrt(eigen.values[kept]))


@metric(
    title="entropy of binned features, bits",
    formula="-Σ p_b log2 p_b over the occupied cells of 30 equal bins per feature",
    needs="rows",
    range="[0, log2 n]",
    bounds=(0.0, None),
    direction="none",
    minimum_n=2,
    degree=0,
    invariances=("duplication",),
    cost="O(n d)",
    source="Shwartz-Ziv, Tishby 2017, Section 3 (bins of equal width)",
    misleads="in more than a few dimensions every row has a cell of its own and the "
    "value is log2 n, whatever the features hold",
)
def binned_information(features: Shaped[Array, "n d"], *, bins: int = BINS) -> Estimate:
    """Return the entropy of the binned features, their information about the image.

    I(x; b) = H(b) for the deterministic b = bin(z); every feature's range is cut into
    `bins` cells of equal width, and a row's cell is that of all its features at once.

    Args:
        features: (n, d).
        bins: cells per feature, at least 2.

    Returns:
        Bits, from 0 to log2 n. Details: `n_cells` occupied, `cap_bits`, log2 n, and
        `saturated`, whether nine rows in ten are alone in their cell.

    Raises:
        UsageError: with fewer than 2 bins.

    Source: Shwartz-Ziv, Tishby 2017. As in the source, with the plug-in entropy.

    Example:
        >>> binned_information(np.array([[0.0], [0.0], [1.0], [1.0]]), bins=2).value
        1.0
    """
    if bins < 2:
        raise UsageError("bins", found=f"{bins}", expected="at least 2")
    matrix = host(as_double(as_matrix(features)))
    low = matrix.min(axis=0)
    # Halved, so that a range of 1e308 does not overflow.
    span = matrix.max(axis=0) / 2 - low / 2
    safe = np.where(span > 0, span, 1.0)
    places = np.floor((matrix / 2 - low / 2) / safe * bins)
    cells = np.minimum(places, bins - 1).astype(np.int32)
    counts = np.unique(cells, axis=0, return_counts=True)[1]
    n = len(matrix)
    shares = counts / n
    return Estimate(
        # + 0.0 turns the -0.0 of a single cell into 0.0
        float(-(shares * np.log2(shares)).sum()) + 0.0,
        details={
            "n_cells": len(counts),
            "cap_bits": float(np.log2(n)),
            "saturated": bool((counts == 1).sum() > 0.9 * n),
        },
    )


@metric(
    title="information by InfoNCE, bits",
    formula="mean_i of s_ii / τ - log mean_j exp(s_ij / τ), s the cosine of row i and "
    "the other set's row j, τ = .1",
    needs="pair",
    range="at most log2 n",
    direction="none",
    minimum_n=2,
    degree=0,
    cost="O(n² d)",
    source="van den Oord et al. 2018, Section 2.3; Poole et al. 2019, Eq. 10",
    misleads="a lower bound that cannot exceed log2 n, of a fixed critic that was not "
    "trained: loose unless both sets share a space; " + CAVEATS,
)
def infonce_information(
    features: Shaped[Array, "n d"],
    other: Shaped[Array, "m e"],
    *,
    temperature: float = 0.1,
) -> Estimate:
    """Return the InfoNCE lower bound with the cosine as critic.

    log n + mean_i log(exp(s_ii / tau) / sum_j exp(s_ij / tau)), in bits

    Args:
        features: (n, d), such as one view of each image.
        other: (n, d), such as another view of the same images.
        temperature: tau, above 0.

    Returns:
        Bits, at most log2 n; negative where the pairs say less than chance. Details:
        `cap_bits`. The interval is normal over rows.

    Raises:
        UsageError: where the temperature is not positive.
        InputError: where the sets differ in shape.

    Source: van den Oord, Li, Vinyals 2018. As in the source, the positive counted among
    the n.
    """
    if not temperature > 0:
        raise UsageError("temperature", found=f"{temperature}", expected="above 0")
    return _infonce(as_matrix(features), as_matrix(other, "other"), temperature)


def _infonce(one: Array, two: Array, temperature: float) -> Estimate:
    if tuple(one.shape) != tuple(two.shape):
        raise InputError(
            "other: the same rows in the same dimensions are needed",
            found=f"shape {tuple(two.shape)}",
            expected=f"{tuple(one.shape)}",
        )
    unit, other = (host(unit_rows(as_double(rows))) for rows in (one, two))
    n, d = unit.shape
    bits = np.empty(n)
    for rows in row_blocks(n, n + d):
        scores = unit[rows] @ other.T / temperature
        own = np.vecdot(unit[rows], other[rows]) / temperature
        bits[rows] = own - scipy.special.logsumexp(scores, axis=1)
    bits = (bits + np.log(n)) * _NAT_IN_BITS
    estimate = mean_score(bits)
    return replace(
        estimate, details={**estimate.details, "cap_bits": float(np.log2(n))}
    )
