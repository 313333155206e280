"""How much room do the components after the first few leave? Bartlett's ranks.

The ranks of Bartlett, Long, Lugosi and Tsigler decide when a linear predictor may fit
noise without harm: the tail of the spectrum must be long and flat.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from repscope._arrays import Spectrum
from repscope._checking import Undecidable, UsageError
from repscope.metrics.metric import Estimate, metric
from repscope.metrics.spectral import variance_shares

# Components left out of the tail: those before the first rank that alpha fits.
TAIL_AFTER = 10
# Squares of smaller shares of the variance vanish.
LEAST_SHARE = 1e-150


@dataclass(frozen=True, eq=False)
class TailRanks:
    """Bartlett's ranks of the tail after each k.

    Args:
        small: (d,) r_k for k = 0 to d - 1; 0 where nothing is left.
        large: (d,) R_k.
    """

    small: Float[np.ndarray, " d"]
    large: Float[np.ndarray, " d"]


def tail_ranks(eigenvalues: Spectrum) -> TailRanks:
    """Return both ranks of the tail for every k from 0 to d - 1, in O(d).

    r_k = sum_{i>k} lambda_i / lambda_{k+1}
    R_k = (sum_{i>k} lambda_i)^2 / sum_{i>k} lambda_i^2

    r_0 is the stable rank and R_0 the participation ratio.

    Args:
        eigenvalues: (d,) of the centred covariance, descending.

    Raises:
        Undecidable: where all features are constant.

    Source: Bartlett, Long, Lugosi, Tsigler 2020, Definition 3. As in the source, on
    the sample's eigenvalues.

    Example:
        >>> tail_ranks(np.array([9.0, 2.0, 1.0])).small.tolist()
        [1.3333333333333333, 1.5, 1.0]
    """
    shares = variance_shares(eigenvalues)
    sums = np.cumsum(shares[::-1])[::-1]
    left = shares > LEAST_SHARE
    first = np.where(left, shares, 1.0)
    squares = np.cumsum(shares[::-1] ** 2)[::-1]
    small = np.where(left, sums / first, 0.0)
    large = np.divide(sums**2, squares, out=np.zeros(len(shares)), where=left)
    return TailRanks(small, large)


def _of_tail(eigenvalues: Spectrum, k: int, of: Literal["small", "large"]) -> Estimate:
    if k < 0:
        raise UsageError("k: how many components come before the tail", found=f"{k}")
    ranks = tail_ranks(eigenvalues)
    rounding = len(eigenvalues) * np.finfo(np.float64).eps * eigenvalues[0]
    usable = int((eigenvalues > rounding).sum())
    if k >= usable:
        raise Undecidable(f"no variance is left after {k} of {usable} components")
    value = ranks.small[k] if of == "small" else ranks.large[k]
    return Estimate(float(value), details={"k": k})


@metric(
    title="stable rank of the tail",
    formula="r_k = Σ_{i>k} λ_i / λ_{k+1}, k = 10",
    needs="spectrum",
    range="[1, min(n - 1, d) - k]",
    bounds=(1.0, None),
    direction="none",
    minimum_n=12,
    degree=0,
    invariances=("shift", "rotation", "duplication"),
    cost="O(n d² + d³)",
    source="Bartlett, Long, Lugosi, Tsigler 2020, Definition 3 (r_k)",
    misleads="noise of many dimensions raises it as much as a rich representation; "
    "with n near d the tail is one of sampling",
)
def tail_stable_rank(eigenvalues: Spectrum, *, k: int = TAIL_AFTER) -> Estimate:
    """Return Bartlett's r_k: the stable rank of what the first k components leave.

    r_k = sum_{i>k} lambda_i / lambda_{k+1}

    With k = 10 it tells of the ranks from 11 on, those that `alpha` fits.

    Args:
        eigenvalues: (d,) of the centred covariance, descending.
        k: components left out, from 0.

    Returns:
        From 1 to min(n - 1, d) - k. Details: `k`.

    Raises:
        Undecidable: where k components hold all variance.
        UsageError: for a negative k.

    Source: Bartlett, Long, Lugosi, Tsigler 2020, "Benign overfitting in linear
    regression", Definition 3. As in the source, on the sample's eigenvalues.

    Example:
        >>> tail_stable_rank(np.array([9.0, 2.0, 1.0]), k=1).value
        1.5
    """
    return _of_tail(eigenvalues, k, "small")


@metric(
    title="participation ratio of the tail",
    formula="R_k = (Σ_{i>k} λ_i)² / Σ_{i>k} λ_i², k = 10",
    needs="spectrum",
    range="[r_k, min(n - 1, d) - k]",
    bounds=(1.0, None),
    direction="none",
    minimum_n=12,
    degree=0,
    invariances=("shift", "rotation", "duplication"),
    cost="O(n d² + d³)",
    source="Bartlett, Long, Lugosi, Tsigler 2020, Definition 3 (R_k)",
    misleads="noise of many dimensions raises it as much as a rich representation; "
    "with n near d the tail is one of sampling",
)
def tail_participation_ratio(eigenvalues: Spectrum, *, k: int = TAIL_AFTER) -> Estimate:
    """Return Bartlett's R_k: the participation ratio of what k components leave.

    R_k = (sum_{i>k} lambda_i)^2 / sum_{i>k} lambda_i^2

    Args:
        eigenvalues: (d,) of the centred covariance, descending.
        k: components left out, from 0.

    Returns:
        From r_k to min(n - 1, d) - k, at most r_k squared. Details: `k`.

    Raises:
        Undecidable: where k components hold all variance.
        UsageError: for a negative k.

    Source: Bartlett, Long, Lugosi, Tsigler 2020, Definition 3. As in the source, on
    the sample's eigenvalues.

    Example:
        >>> round(tail_participation_ratio(np.array([9.0, 2.0, 1.0]), k=1).value, 9)
        1.8
    """
    return _of_tail(eigenvalues, k, "large")


def benign_index(eigenvalues: Spectrum, n: int, *, b: float = 1.0) -> int:
    """Return Bartlett's k*: how many directions interpolation of n rows must spend.

    k* = min{k >= 0 : r_k >= b n}

    Interpolating n labelled rows is benign where k* and n / R_k* are small beside n.

    No catalogue entry: r_k is at most min(rows, d) - k, so that on the very rows that
    gave the spectrum no k reaches n. It takes a known spectrum, or one of many more
    rows than the n that a probe is fitted on.

    Args:
        eigenvalues: (d,) of the covariance, descending.
        n: rows that are interpolated.
        b: a constant, 1 or more in the theorem.

    Returns:
        A whole number from 0; lower is more benign.

    Raises:
        Undecidable: where no k exists; interpolation is not benign.

    Source: Bartlett, Long, Lugosi, Tsigler 2020, Theorem 4. As in the source.

    Example:
        >>> benign_index(np.array([50.0, *np.ones(100)]), 80)
        1
    """
    small = tail_ranks(eigenvalues).small
    reached = np.flatnonzero(small >= b * n)
    if not len(reached):
        raise Undecidable(
            f"no k with r_k of at least {b:g} n = {b * n:g}; the greatest r_k is "
            f"{small.max():.4g}"
        )
    return int(reached[0])
