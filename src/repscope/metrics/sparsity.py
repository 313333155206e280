"""How few features carry a row? Sparsity, from zeros to Gini and Hoyer."""

import array_api_compat
import numpy as np
from jaxtyping import Float

from repscope._arrays import Array, Scores, as_double, host
from repscope._checking import UsageError
from repscope.metrics.metric import metric
from repscope.metrics.row_sums import RowBlock, Rows, per_row

# A feature under this share of the median row maximum counts as inactive.
RELATIVE_ETA = 0.05

_SOURCE = "Kalibhat et al. 2022, Section 4"


def default_eta(maxima: Float[Array, " n"]) -> float:
    """Return the size under which a feature counts as inactive.

    eta = 0.05 * median_i max_k h_ik, and 0 where that is negative

    Args:
        maxima: the greatest feature of each row, "maximum" of `sample_scores`.

    Returns:
        At least 0, in the unit of the features.

    Source: ours; Kalibhat et al. 2022 require 0 < eta << 1 and publish no value.

    Example:
        >>> default_eta(np.array([1.0, 2.0, 9.0]))
        0.1
    """
    return max(0.0, RELATIVE_ETA * float(np.median(host(maxima))))


def check_eta(eta: float) -> None:
    """Raise UsageError unless eta is a size.

    Raises:
        UsageError: for a negative eta.
    """
    if not eta >= 0:
        raise UsageError("eta: a size is needed", found=f"{eta}", expected="eta >= 0")


@metric(
    title="soft sparsity",
    formula="share of k with |h_ik| < η, η = .05 · median_i max_k h_ik",
    needs="rows",
    range="[0, 1]",
    bounds=(0.0, 1.0),
    direction="higher",
    degree=0,
    invariances=("duplication",),
    cost="O(n d)",
    source=_SOURCE,
    misleads="average pooling removes the exact zeros of ReLU maps, so the value rests "
    "on η; compare at one η only",
)
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
        UsageError: for a negative eta.
        InputError: with fewer than 2 features, or a value that is not finite.

    Source: Kalibhat et al. 2022, Section 4. Differs from the source in the absolute
    value, without which every negative feature counts as inactive; the two agree for
    non-negative features.

    Example:
        >>> soft_sparsity(np.array([[0.0, -2.0, 0.1, 3.0]]), eta=0.5).tolist()
        [0.5]
    """
    check_eta(eta)
    return per_row(features, lambda block: block_soft_sparsity(block, eta, literal))


@metric(
    title="Gini index of a row",
    formula="Σ_k (2 k - d - 1) a_k / (d Σ_k a_k), a the ascending |h_i|",
    needs="rows",
    range="[0, 1 - 1/d]",
    bounds=(0.0, 1.0),
    direction="higher",
    degree=0,
    invariances=("duplication",),
    cost="O(n d log d)",
    source="Hurley, Rickard 2009, Table I",
    misleads="Gaussian features without any meaning score about .41",
)
def gini(features: Rows) -> Scores:
    """Return the Gini index of the absolute features of each row.

    sum_k (2 k - d - 1) a_k / (d sum_k a_k), a the ascending |h_i|, k from 1

    Args:
        features: finite, d at least 2.

    Returns:
        From 0 (all of one size) to 1 - 1/d (one active), higher is sparser; 0 for zero
        rows.

    Raises:
        InputError: with fewer than 2 features, or a value that is not finite.

    Source: Hurley, Rickard 2009, "Comparing Measures of Sparsity", Table I. As in the
    source, whose sum is written differently.

    Example:
        >>> gini(np.array([[0.0, 0.0, 0.0, 5.0]])).tolist()
        [0.75]
    """
    return per_row(features, block_gini)


@metric(
    title="Hoyer sparsity of a row",
    formula="(sqrt(d) - |h_i|_1 / |h_i|_2) / (sqrt(d) - 1)",
    needs="rows",
    range="[0, 1]",
    bounds=(0.0, 1.0),
    direction="higher",
    degree=0,
    invariances=("duplication",),
    cost="O(n d)",
    source="Hoyer 2004, Section 3.1",
    misleads="Gaussian features without any meaning score about .2",
)
def hoyer(features: Rows) -> Scores:
    """Return Hoyer's sparsity of each row.

    (sqrt(d) - |h_i|_1 / |h_i|_2) / (sqrt(d) - 1)

    Args:
        features: finite, d at least 2.

    Returns:
        From 0 (all of one size) to 1 (one active), higher is sparser; 0 for zero rows.

    Raises:
        InputError: with fewer than 2 features, or a value that is not finite.

    Source: Hoyer 2004, "Non-negative Matrix Factorization with Sparseness Constraints",
    Section 3.1. As in the source.

    Example:
        >>> hoyer(np.array([[0.0, 0.0, 5.0], [2.0, 2.0, 2.0]])).round(9).tolist()
        [1.0, 0.0]
    """
    return per_row(features, block_hoyer)


def block_soft_sparsity(block: RowBlock, eta: float, literal: bool = False) -> Scores:
    """Return the score of the rows of one block."""
    xp = block.xp
    sizes = block.raw if literal else xp.abs(block.raw)
    inactive = sizes < eta if eta > 0 else sizes <= 0
    return xp.mean(as_double(inactive), axis=1)


def block_gini(block: RowBlock) -> Scores:
    """Return the score of the rows of one block."""
    xp, d = block.xp, block.d
    # The standard sorts stably unless told not to, which takes ten times as long.
    ascending = xp.sort(block.magnitudes, axis=1, stable=False)
    device = array_api_compat.device(ascending)
    ranks = xp.arange(1, d + 1, dtype=ascending.dtype, device=device)
    index = block.per_l1(ascending @ ((2 * ranks - d - 1) / d))
    return xp.clip(index, 0.0, 1 - 1 / d)


def block_hoyer(block: RowBlock) -> Scores:
    """Return the score of the rows of one block."""
    xp, root = block.xp, block.d**0.5
    zero = block.l2 == 0
    ratio = block.l1 / xp.where(zero, xp.ones_like(block.l2), block.l2)
    index = xp.clip((root - ratio) / (root - 1), 0.0, 1.0)
    return xp.where(zero, xp.zeros_like(index), index)
