"""How good is the representation of each single sample, without labels?

Row-wise scores of Kalibhat et al. and two established measures of sparsity, for NumPy
and torch arrays alike, in float64. Rows are independent of each other, so that a file
of any length is scored block by block.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property

import array_api_compat
import numpy as np
from jaxtyping import Bool, Float, Shaped

from repscope._arrays import (
    Array,
    Scores,
    as_double,
    as_matrix,
    host,
    is_on_device,
    namespace,
)
from repscope._checking import InputError, NonFiniteFeatureError, Undecidable
from repscope._numerics import row_blocks, z_score_of_maximum

Rows = Shaped[Array, "n d"]

# A row is active where it exceeds this share of the median row maximum.
RELATIVE_ETA = 0.05
# Values of a block on the CPU: 1 MiB of float64, which stays in the second-level cache.
CACHED_VALUES = 2**17
# Beyond these magnitudes squares of float64 leave its range.
LEAST_SQUARED, GREATEST_SQUARED = 2.0**-400, 2.0**400
# A smaller L1 norm counts as this one in a quotient, which keeps it finite.
LEAST_L1 = 1e-300


class _Block:
    """A block of rows in float64, and what several scores of it share.

    Rows beyond the range where squares are exact are divided by a power of two first,
    which changes no digit; `scale` holds it.
    """

    def __init__(self, rows: Array, first_row: int) -> None:
        self.raw = as_double(rows)
        self.xp = namespace(self.raw)
        xp = self.xp
        self.magnitudes = xp.abs(self.raw)
        peak = xp.max(self.magnitudes, axis=1)
        _check_finite(peak, first_row)
        extreme = (peak > GREATEST_SQUARED) | ((peak < LEAST_SQUARED) & (peak > 0))
        self.values, self.scale = self.raw, xp.ones_like(peak)
        if bool(xp.any(extreme)):
            exponent = xp.floor(xp.log2(xp.where(extreme, peak, self.scale)))
            self.scale = 2.0**exponent
            self.values = self.raw / self.scale[:, None]
            self.magnitudes = xp.abs(self.values)

    @cached_property
    def mean(self) -> Scores:
        return self.xp.mean(self.values, axis=1)

    @cached_property
    def constant(self) -> Bool[Array, " n"]:
        xp = self.xp
        return xp.max(self.values, axis=1) == xp.min(self.values, axis=1)

    @cached_property
    def deviation(self) -> Scores:
        deviation = self.xp.std(self.values, axis=1)
        # Rounding leaves a constant row a tiny deviation.
        return self.xp.where(self.constant, self.xp.zeros_like(deviation), deviation)

    @cached_property
    def l1(self) -> Scores:
        return self.xp.sum(self.magnitudes, axis=1)

    @cached_property
    def l2(self) -> Scores:
        return self.xp.sqrt(self.xp.vecdot(self.values, self.values))

    @cached_property
    def z_max(self) -> Scores:
        d = self.values.shape[1]
        z = z_score_of_maximum(self.values)
        bounded = self.xp.clip(z, (d - 1.0) ** -0.5, (d - 1.0) ** 0.5)
        return self.xp.where(self.constant, self.xp.zeros_like(z), bounded)

    def per_l1(self, numerator: Scores) -> Scores:
        """Return numerator / L1, and 0 for zero rows."""
        return self.xp.where(
            self.l1 == 0,
            self.xp.zeros_like(numerator),
            numerator / self.xp.clip(self.l1, LEAST_L1, None),
        )


def _check_finite(peak: Scores, first_row: int) -> None:
    finite = host(namespace(peak).isfinite(peak))
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise NonFiniteFeatureError("features", len(bad), first_row + int(bad[0]))


def _blocks(features: Rows) -> Iterator[_Block]:
    matrix = as_matrix(features)
    n, d = matrix.shape
    if d < 2:
        raise InputError(
            "features: a score within a row compares its features",
            found=f"{d} feature per row",
            expected="at least 2",
        )
    if is_on_device(matrix):
        slices = row_blocks(n, d)
    else:
        step = max(1, CACHED_VALUES // d)
        slices = (slice(start, start + step) for start in range(0, n, step))
    for rows in slices:
        yield _Block(matrix[rows, :], rows.start)


def _score(features: Rows, function: Callable[[_Block], Scores]) -> Scores:
    parts = [function(block) for block in _blocks(features)]
    return namespace(*parts).concat(parts)


def feature_mean(features: Rows) -> Scores:
    """Return the mean feature of each row, mu_i = 1/d sum_k h_ik.

    Args:
        features: finite, d at least 2.

    Returns:
        Any real number; for non-negative features lower is declared better, because it
        is then |h_i|_1 / d.

    Raises:
        InputError: with fewer than 2 features, or a value that is not finite.

    Source: Kalibhat et al. 2022, Section 4. As in the source.
    Misleads: it scales with the features, so that models cannot be compared by it; for
        signed features it says nothing about their size.

    Example:
        >>> feature_mean(np.array([[0.0, 1.0, 2.0]])).tolist()
        [1.0]
    """
    return _score(features, _feature_mean)


def feature_std(features: Rows) -> Scores:
    """Return the standard deviation of each row's features.

    sigma_i = sqrt(1/d sum_k (h_ik - mu_i)^2), that is ddof 0.

    Args:
        features: finite, d at least 2.

    Returns:
        At least 0, lower declared better; exactly 0 for a row of equal features.

    Raises:
        InputError: with fewer than 2 features, or a value that is not finite.

    Source: Kalibhat et al. 2022, Section 4. As in the source.
    Misleads: it scales with the features, so that models cannot be compared by it.

    Example:
        >>> feature_std(np.array([[1.0, 3.0]])).tolist()
        [1.0]
    """
    return _score(features, _feature_std)


def row_maxima(features: Rows) -> Scores:
    """Return the greatest feature of each row, from which `default_eta` is taken.

    Raises:
        InputError: with fewer than 2 features, or a value that is not finite.
    """
    return _score(features, lambda block: block.xp.max(block.raw, axis=1))


def default_eta(maxima: Float[Array, " n"]) -> float:
    """Return the size under which a feature counts as inactive.

    eta = 0.05 * median_i max_k h_ik, and 0 where that is negative

    Args:
        maxima: what `row_maxima` returns, of all rows or of a sample of them.

    Returns:
        At least 0, in the unit of the features.

    Source: ours; Kalibhat et al. 2022 require 0 < eta << 1 and publish no value.

    Example:
        >>> default_eta(np.array([1.0, 2.0, 9.0]))
        0.1
    """
    return max(0.0, RELATIVE_ETA * float(np.median(host(maxima))))


def soft_sparsity(features: Rows, *, eta: float, literal: bool = False) -> Scores:
    """Return the share of inactive features of each row, 1/d #{k : |h_ik| < eta}.

    Args:
        features: finite, d at least 2.
        eta: at least 0, in the unit of the features, such as `default_eta`; 0 counts
            exact zeros.
        literal: compare h_ik instead of |h_ik|, as the source prints it.

    Returns:
        From 0 to 1, higher is better (sparser).

    Raises:
        InputError: for a negative eta, with fewer than 2 features, or a value that is
            not finite.

    Source: Kalibhat et al. 2022, Section 4. Differs from the source in the absolute
        value, without which every negative feature counts as inactive; the two agree
        for non-negative features.
    Misleads: global average pooling removes the exact zeros of ReLU maps, so that the
        value rests on eta; it must be the same for what is compared.

    Example:
        >>> soft_sparsity(np.array([[0.0, -2.0, 0.1, 3.0]]), eta=0.5).tolist()
        [0.5]
    """
    if not eta >= 0:
        raise InputError("eta: a size is needed", found=f"{eta}", expected="eta >= 0")
    return _score(features, lambda block: _soft_sparsity(block, eta, literal))


def l1_norm(features: Rows) -> Scores:
    """Return the L1 norm of each row, |h_i|_1 = sum_k |h_ik|.

    Args:
        features: finite, d at least 2.

    Returns:
        At least 0, lower is declared better.

    Raises:
        InputError: with fewer than 2 features, or a value that is not finite.

    Source: Kalibhat et al. 2022, Section 4 and Fig. 5. As in the source.
    Misleads: it scales with the features; in supervised networks a great norm often
        goes with confidence, so that the sign turns.

    Example:
        >>> l1_norm(np.array([[1.0, -2.0]])).tolist()
        [3.0]
    """
    return _score(features, _l1_norm)


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
    Misleads: its range grows with d; an outlier feature that every row shares gives
        every row a great score (`argmax_concentration` tells).

    Example:
        >>> z_max(np.array([[0.0, 0.0, 0.0, 1.0]])).round(4).tolist()
        [1.7321]
    """
    return _score(features, _z_max)


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
    Misleads: Q(c h) = Q(h) / c, so that models, layers, or a model before and after
        training cannot be compared by it unless rows are rescaled
        (`rescale_mean_l1`) or `q_score_normalized` is used.

    Example:
        >>> q_score(np.array([[1.0, 1.0, 1.0, 0.0]])).round(5).tolist()
        [0.19245]
    """
    return _score(features, _q_score)


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
    Misleads: with signed features L1 measures size, not the noise of weak activations.

    Example:
        >>> q_score_normalized(np.array([[0.0, 0.0, 0.0, 7.0]])).round(4).tolist()
        [1.7321]
    """
    return _score(features, _q_score_normalized)


def gini(features: Rows) -> Scores:
    """Return the Gini index of the absolute features of each row.

    G_i = sum_k (2 k - d - 1) a_k / (d sum_k a_k), a the ascending |h_i|

    Args:
        features: finite, d at least 2.

    Returns:
        From 0 (all of one size) to 1 - 1/d (one active), higher is sparser; 0 for zero
        rows.

    Raises:
        InputError: with fewer than 2 features, or a value that is not finite.

    Source: Hurley and Rickard 2009, "Comparing Measures of Sparsity", Table I. As in
        the source, whose sum is written differently.
    Misleads: Gaussian features without any meaning score about 0.41.

    Example:
        >>> gini(np.array([[0.0, 0.0, 0.0, 5.0]])).tolist()
        [0.75]
    """
    return _score(features, _gini)


def hoyer(features: Rows) -> Scores:
    """Return Hoyer's sparsity of each row.

    (sqrt(d) - |h_i|_1 / |h_i|_2) / (sqrt(d) - 1)

    Args:
        features: finite, d at least 2.

    Returns:
        From 0 (all of one size) to 1 (one active), higher is sparser; 0 for zero rows.

    Raises:
        InputError: with fewer than 2 features, or a value that is not finite.

    Source: Hoyer 2004, "Non-negative Matrix Factorization with Sparseness
        Constraints", Section 3.1. As in the source.
    Misleads: Gaussian features without any meaning score about 0.2.

    Example:
        >>> hoyer(np.array([[0.0, 0.0, 5.0], [2.0, 2.0, 2.0]])).tolist()
        [1.0, 0.0]
    """
    return _score(features, _hoyer)


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
    for block in _blocks(features):
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


def _feature_mean(block: _Block) -> Scores:
    return block.mean * block.scale


def _feature_std(block: _Block) -> Scores:
    return block.deviation * block.scale


def _soft_sparsity(block: _Block, eta: float, literal: bool = False) -> Scores:
    xp = block.xp
    sizes = block.raw if literal else xp.abs(block.raw)
    inactive = sizes < eta if eta > 0 else sizes <= 0
    return xp.mean(as_double(inactive), axis=1)


def _l1_norm(block: _Block) -> Scores:
    return block.l1 * block.scale


def _z_max(block: _Block) -> Scores:
    return block.z_max


def _q_score(block: _Block) -> Scores:
    l1 = block.xp.clip(_l1_norm(block), LEAST_L1, None)
    return block.z_max / l1


def _q_score_normalized(block: _Block) -> Scores:
    return block.per_l1(block.z_max * block.l2)


def _gini(block: _Block) -> Scores:
    d = block.values.shape[1]
    ascending = block.xp.sort(block.magnitudes, axis=1)
    ranks = block.xp.arange(
        1, d + 1, dtype=ascending.dtype, device=array_api_compat.device(ascending)
    )
    index = block.per_l1(ascending @ ((2 * ranks - d - 1) / d))
    return block.xp.clip(index, 0.0, 1 - 1 / d)


def _hoyer(block: _Block) -> Scores:
    root = block.values.shape[1] ** 0.5
    zero = block.l2 == 0
    ratio = block.l1 / block.xp.where(zero, block.xp.ones_like(block.l2), block.l2)
    index = block.xp.clip((root - ratio) / (root - 1), 0.0, 1.0)
    return block.xp.where(zero, block.xp.zeros_like(index), index)


_SCORES: Mapping[str, Callable[[_Block], Scores]] = {
    "feature_mean": _feature_mean,
    "feature_std": _feature_std,
    "l1_norm": _l1_norm,
    "z_max": _z_max,
    "q_score": _q_score,
    "q_score_normalized": _q_score_normalized,
    "gini": _gini,
    "hoyer": _hoyer,
}


def sample_scores(features: Rows, *, eta: float | None = None) -> dict[str, Scores]:
    """Return every score of each row by name; each equals the function of that name.

    The rows pass through the processor's cache once, where the scores share their sums.

    Args:
        features: finite, d at least 2; all rows, or one block of a longer file.
        eta: for `soft_sparsity`; None takes `default_eta` of these rows, so pass one
            value where blocks belong together.

    Raises:
        InputError: for a negative eta, with fewer than 2 features, or a value that is
            not finite.

    Example:
        >>> sorted(sample_scores(np.array([[0.0, 1.0]])))[:3]
        ['feature_mean', 'feature_std', 'gini']
    """
    if eta is None:
        eta = default_eta(row_maxima(features))
    parts: dict[str, list[Scores]] = {name: [] for name in _SCORES}
    parts["soft_sparsity"] = []
    for block in _blocks(features):
        for name, function in _SCORES.items():
            parts[name].append(function(block))
        parts["soft_sparsity"].append(_soft_sparsity(block, eta))
    return {name: namespace(*part).concat(part) for name, part in parts.items()}


def argmax_shares(features: Rows) -> Float[Array, " d"]:
    """Return in how many rows each feature is the greatest; ties count in equal parts.

    A row's parts sum to 1, so that counts of blocks add up to those of the whole.

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
    total = None
    for block in _blocks(features):
        xp = block.xp
        greatest = block.raw == xp.max(block.raw, axis=1, keepdims=True)
        greatest = as_double(greatest)
        part = (1 / xp.sum(greatest, axis=1)) @ greatest
        total = part if total is None else total + part
    return total


def column_l1(features: Rows) -> Float[Array, " d"]:
    """Return the L1 norm of each feature over the rows, sum_i |h_ik|.

    Sums of blocks add up to that of the whole.

    Args:
        features: finite, d at least 2.

    Raises:
        InputError: with fewer than 2 features, or a value that is not finite.

    Example:
        >>> column_l1(np.array([[1.0, 0.0], [-1.0, 2.0]])).tolist()
        [2.0, 2.0]
    """
    total = None
    for block in _blocks(features):
        part = block.xp.sum(block.xp.abs(block.raw), axis=0)
        total = part if total is None else total + part
    return total


def argmax_concentration(shares: Float[Array, " d"]) -> float:
    """Return the largest share of rows that have the same feature as their greatest.

    max_k s_k / sum_k s_k

    Args:
        shares: what `argmax_shares` returns, summed over blocks.

    Returns:
        From 1/d to 1; near 1 all rows share one dominant feature (a trivial solution).

    Raises:
        Undecidable: without rows.

    Source: Kalibhat et al. 2022, Appendix A.1; the number is ours.
    Misleads: signed features of transformers have one dominant coordinate by nature;
        use it on non-negative or per-feature standardised features only.

    Example:
        >>> argmax_concentration(np.array([0.5, 1.5]))
        0.75
    """
    total = float(shares.sum())
    if not total > 0:
        raise Undecidable("no rows")
    return float(shares.max()) / total


def shared_feature_index(norms: Float[Array, " d"]) -> float:
    """Return how much the strongest feature exceeds the mean one.

    max_k |H_k|_1 / mean_k |H_k|_1, with H_k column k of the features

    Args:
        norms: what `column_l1` returns, summed over blocks.

    Returns:
        From 1 (all features equally strong) to d (a single active one).

    Raises:
        Undecidable: where all features are zero.

    Source: Kalibhat et al. 2022, Appendix A.1; the number is ours.
    Misleads: features in different units differ for no reason of the samples'.

    Example:
        >>> shared_feature_index(np.array([3.0, 1.0]))
        1.5
    """
    total = float(norms.sum())
    if not total > 0:
        raise Undecidable("all features are zero")
    return float(norms.max()) * len(norms) / total
