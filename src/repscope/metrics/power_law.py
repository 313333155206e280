"""How fast eigenvalues fall: the exponent of a power law, and whether there is one."""

from repscope._arrays import Spectrum
from repscope._checking import Undecidable
from repscope._numerics import PowerLaw, fit_power_law
from repscope.metrics.metric import Estimate, metric
from repscope.records import Detail

# Ranks of the power-law fit of alpha-ReQ and Stringer et al.; ranks count from 1.
ALPHA_FIRST_RANK = 11
ALPHA_FIRST_RANK_SHORT = 3
ALPHA_LAST_RANK = 50
ALPHA_SHORT_BELOW = 10
ALPHA_MINIMUM_RANKS = 8
# No fit with a weighted R squared below this counts as a power law (alpha-ReQ's own
# gate).
ALPHA_MINIMUM_R_SQUARED = 0.95
# Eigenvalues below this share of the first are rounding.
RELATIVE_EIGENVALUE_FLOOR = 1e-10


def alpha_ranks(eigenvalues: Spectrum, n: int) -> tuple[int, int]:
    """Return the ranks that `alpha` fits unless told otherwise, both included.

    Ranks 11 to min(50, half of min(n - 1, d), last eigenvalue above 1e-10 of the
    first); from rank 3 where that leaves fewer than 10.

    Raises:
        Undecidable: where fewer than 8 ranks are left.
    """
    rank_bound = min(n - 1, len(eigenvalues))
    usable = int((eigenvalues > RELATIVE_EIGENVALUE_FLOOR * eigenvalues[0]).sum())
    last = min(ALPHA_LAST_RANK, rank_bound // 2, usable)
    first = ALPHA_FIRST_RANK
    if last - first + 1 < ALPHA_SHORT_BELOW:
        first = ALPHA_FIRST_RANK_SHORT
    if last - first + 1 < ALPHA_MINIMUM_RANKS:
        raise Undecidable(
            f"only {max(last - first + 1, 0)} eigenvalues to fit; "
            f"{ALPHA_MINIMUM_RANKS} are needed"
        )
    return first, last


@metric(
    title="eigenspectrum decay α",
    formula="λ_k ~ k^(-α): minus the slope of log λ_k on log k, least squares with "
    "weights 1/k, over the ranks printed beside it",
    needs="spectrum",
    range="real; usual values lie between 0 and 3",
    direction="target",
    target=1.0,
    minimum_n=10,
    cost="O(n d² + d³)",
    source="Agrawal et al. 2022 (α-ReQ); Stringer et al. 2019",
    misleads="the first ranks are not fitted, so that a collapsed representation can "
    "show "
    "a moderate α; n below 8 d biases small α; never compare α over "
    "different "
    "ranks, layers or methods, and never judge by it alone",
)
def alpha(
    eigenvalues: Spectrum,
    n: int,
    *,
    ranks: tuple[int, int] | None = None,
    auto_range: bool = True,
) -> Estimate:
    """Return the exponent of the power law that the eigenvalues follow.

    Args:
        eigenvalues: (d,) of the centred covariance, descending.
        n: rows behind them; bounds the ranks.
        ranks: first and last rank fitted, from 1, both included; by default
            `alpha_ranks`.
        auto_range: halve the range from above until R squared is at least .95.

    Returns:
        alpha, with `first_rank`, `last_rank`, `r_squared`, `r_squared_unweighted` and
        `n_over_d` in its details. No direction on its own: 1 is the authors' target.

    Raises:
        Undecidable: without enough eigenvalues, or where no range of at least 8 ranks
            gives R squared of .95 ("no power law").

    Source: Agrawal et al. 2022; weights and ranks as in Stringer et al. 2019. Differs
    from the source in that the last rank never exceeds half of the rank bound.

    Example:
        >>> import numpy as np
        >>> round(alpha(np.arange(1.0, 201) ** -1.2, 10_000).value, 6)
        1.2
    """
    first, last = ranks or alpha_ranks(eigenvalues, n)
    fit = best = fit_power_law(eigenvalues, first, last)
    while auto_range and fit.r_squared < ALPHA_MINIMUM_R_SQUARED:
        last = first + (last - first) // 2
        if last - first + 1 < ALPHA_MINIMUM_RANKS:
            raise Undecidable(
                f"no power law: the best fit has R² {best.r_squared:.2f} on ranks "
                f"{best.ranks[0]}-{best.ranks[1]}, below {ALPHA_MINIMUM_R_SQUARED}"
            )
        fit = fit_power_law(eigenvalues, first, last)
        best = max(best, fit, key=lambda one: one.r_squared)
    return Estimate(fit.alpha, details=_fit_details(fit, n, len(eigenvalues)))


def _fit_details(fit: PowerLaw, n: int, d: int) -> dict[str, Detail]:
    return {
        "first_rank": fit.ranks[0],
        "last_rank": fit.ranks[1],
        "r_squared": fit.r_squared,
        "r_squared_unweighted": fit.r_squared_unweighted,
        "log_intercept": fit.log_intercept,
        "n_over_d": n / d,
    }
