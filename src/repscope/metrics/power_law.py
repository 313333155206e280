"""How fast eigenvalues fall: the exponent of a power law, and whether there is one.

The value depends on ranks, weights and rows; all are told beside it. Three estimators
read the same spectrum in other ways: least squares (`alpha`), maximum likelihood
(`alpha_hill`) and the median of local slopes (`alpha_median_window`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from repscope._arrays import Spectrum
from repscope._checking import Undecidable, UsageError, check_choice
from repscope._numerics import PowerLaw, Weights, fit_power_law
from repscope.metrics.metric import Estimate, metric
from repscope.records import Detail

# Ranks of the power-law fit of alpha-ReQ and Stringer et al.; ranks count from 1.
ALPHA_FIRST_RANK = 11
ALPHA_FIRST_RANK_SHORT = 3
ALPHA_LAST_RANK = 50
ALPHA_SHORT_BELOW = 10
ALPHA_MINIMUM_RANKS = 8
# Fewer octaves within a range say little of their median.
MINIMUM_OCTAVES = 5
# No fit with a weighted R squared below this counts as a power law (alpha-ReQ's own
# gate).
ALPHA_MINIMUM_R_SQUARED = 0.95
# Eigenvalues below this share of the first are rounding.
RELATIVE_EIGENVALUE_FLOOR = 1e-10
# Eigenvalues that rise by less than this share of the greatest are in order.
ORDER_ROUNDING = 1e-9
# Slow decay is read too low with fewer rows than this per dimension: a true exponent of
# .5 as .48 with 8 rows for each of 512 dimensions, and as .41 with half a row.
UNBIASED_ROWS_PER_DIMENSION = 8
UNBIASED_ALPHA = 1.3

Preset = Literal["stringer", "reptrix", "alpha-req"]


@dataclass(frozen=True)
class Protocol:
    """What authors fit, and what they try next.

    Args:
        ladder: ranks, first and last included, in the order tried.
        is_gated: whether a fit counts only with R squared of at least .95.
    """

    ladder: tuple[tuple[int, int], ...]
    is_gated: bool


# Index ranges of the authors' code begin at 0, ranks at 1.
PRESETS: Mapping[Preset, Protocol] = {
    "stringer": Protocol(((11, 500),), is_gated=False),
    "reptrix": Protocol(((11, 100),), is_gated=False),
    "alpha-req": Protocol(((4, 100), (6, 50), (6, 20)), is_gated=True),
}


def alpha_ranks(eigenvalues: Spectrum, n: int) -> tuple[int, int]:
    """Return the ranks that `alpha` fits unless told otherwise, both included.

    Ranks 11 to min(50, half of min(n - 1, d), last eigenvalue above 1e-10 of the
    first); from rank 3 where that leaves fewer than 10.

    Raises:
        Undecidable: where fewer than 8 ranks are left.
    """
    rank_bound = min(n - 1, len(eigenvalues))
    last = min(ALPHA_LAST_RANK, rank_bound // 2, _last_above_rounding(eigenvalues))
    first = ALPHA_FIRST_RANK
    if last - first + 1 < ALPHA_SHORT_BELOW:
        first = ALPHA_FIRST_RANK_SHORT
    if last - first + 1 < ALPHA_MINIMUM_RANKS:
        raise Undecidable(
            f"only {max(last - first + 1, 0)} eigenvalues to fit; "
            f"{ALPHA_MINIMUM_RANKS} are needed"
        )
    return first, last


def _check_descending(eigenvalues: Spectrum) -> None:
    rises = np.flatnonzero(np.diff(eigenvalues) > ORDER_ROUNDING * eigenvalues.max())
    if len(rises):
        at = int(rises[0])
        raise UsageError(
            "eigenvalues: descending eigenvalues are needed",
            found=f"{eigenvalues[at + 1]:.6g} after {eigenvalues[at]:.6g}",
            fix="eigenvalues[::-1] turns what eigh returns round",
        )


def _last_above_rounding(eigenvalues: Spectrum) -> int:
    return int((eigenvalues > RELATIVE_EIGENVALUE_FLOOR * eigenvalues[0]).sum())


@metric(
    title="eigenspectrum decay α",
    formula="λ_k ~ k^(-α): minus the slope of log λ_k on log k, least squares with "
    "weights 1/k, over the ranks printed beside it",
    needs="spectrum",
    range="real; usual values lie between 0 and 3",
    direction="target",
    target=1.0,
    minimum_n=10,
    degree=0,
    invariances=("shift", "rotation"),
    cost="O(n d² + d³)",
    source="Agrawal et al. 2022 (α-ReQ); Stringer et al. 2019",
    misleads="the first ranks are not fitted, so that a collapsed representation can "
    "show a moderate α; n below 8 d biases small α; never compare α over different "
    "ranks, layers or methods, and never judge by it alone",
)
def alpha(
    eigenvalues: Spectrum,
    n: int,
    *,
    ranks: tuple[int, int] | None = None,
    weights: Weights = "inverse_rank",
    auto_range: bool = True,
    preset: Preset | None = None,
) -> Estimate:
    """Return the exponent of the power law that the eigenvalues follow.

    Args:
        eigenvalues: (d,) of the centred covariance, descending.
        n: rows behind them; bounds the ranks.
        ranks: first and last rank fitted, from 1, both included; by default
            `alpha_ranks`.
        weights: of rank k in the fit and in R squared, "inverse_rank" (1/k) or "equal".
        auto_range: halve the range from above until R squared is at least .95.
        preset: fit what authors fit, instead of `ranks` and `auto_range`:
            "stringer" ranks 11 to 500, as the MATLAB code of Stringer et al.;
            "reptrix" ranks 11 to 100; neither asks for a good fit;
            "alpha-req" ranks 4 to 100, then 6 to 50, then 6 to 20, the first with R
            squared of at least .95; ranges that the spectrum does not reach are left
            out.

    Returns:
        alpha, with `first_rank`, `last_rank`, `weights`, `r_squared`,
        `r_squared_unweighted`, `log_intercept` and `n_over_d` in its details;
        `residual_standard_error`, the scatter about the line, its residuals taken for
        independent, and no sampling error (a jackknife over rows may be smaller or
        larger); and `bias_warning` where
        n < 8 d and alpha < 1. No direction on its own: 1 is the authors' target.

    Raises:
        Undecidable: without enough eigenvalues, or where no range of at least 8 ranks
            gives R squared of .95 ("no power law").
        UsageError: for an unknown preset or weights, ranks beside a preset, or
            eigenvalues that ascend.

    Source: Agrawal et al. 2022; weights and ranks as in Stringer et al. 2019. Differs
    from the source in that the last rank never exceeds half of the rank bound, and in
    that R squared is that of the ranks fitted, weighted as the fit.

    Example:
        >>> import numpy as np
        >>> round(alpha(np.arange(1.0, 201) ** -1.2, 10_000).value, 6)
        1.2
    """
    check_choice("weights", weights, ("inverse_rank", "equal"))
    _check_descending(eigenvalues)
    if preset is not None:
        check_choice("preset", preset, PRESETS)
        if ranks is not None:
            raise UsageError("alpha: a preset has ranks of its own; drop one of them")
        fit = _preset_fit(eigenvalues, weights, preset)
    else:
        first, last = ranks or alpha_ranks(eigenvalues, n)
        ladder = _halved(first, last) if auto_range else [(first, last)]
        fit = _first_good_fit(eigenvalues, weights, ladder, is_gated=auto_range)
    details: dict[str, Detail] = {} if preset is None else {"preset": preset}
    details |= _fit_details(fit, n, len(eigenvalues)) | {"weights": weights}
    return Estimate(fit.alpha, details=details)


def _halved(first: int, last: int) -> list[tuple[int, int]]:
    """Return the range, and its lower halves of at least 8 ranks."""
    ladder = [(first, last)]
    while True:
        last = first + (last - first) // 2
        if last - first + 1 < ALPHA_MINIMUM_RANKS:
            return ladder
        ladder.append((first, last))


def _preset_fit(eigenvalues: Spectrum, weights: Weights, preset: Preset) -> PowerLaw:
    protocol = PRESETS[preset]
    usable = _last_above_rounding(eigenvalues)
    ladder = [ranks for ranks in protocol.ladder if ranks[1] <= usable]
    if not ladder:
        first, last = protocol.ladder[-1]
        raise Undecidable(
            f"the preset {preset!r} fits ranks {first}-{last}; only {usable} "
            "eigenvalues lie above 1e-10 of the first"
        )
    return _first_good_fit(eigenvalues, weights, ladder, is_gated=protocol.is_gated)


def _first_good_fit(
    eigenvalues: Spectrum,
    weights: Weights,
    ladder: list[tuple[int, int]],
    *,
    is_gated: bool,
) -> PowerLaw:
    fits = []
    for first, last in ladder:
        fit = fit_power_law(eigenvalues, first, last, weights=weights)
        if not is_gated or fit.r_squared >= ALPHA_MINIMUM_R_SQUARED:
            return fit
        fits.append(fit)
    best = max(fits, key=lambda one: one.r_squared)
    raise Undecidable(
        f"no power law: the best fit has R² {best.r_squared:.2f} on ranks "
        f"{best.ranks[0]}-{best.ranks[1]}, below {ALPHA_MINIMUM_R_SQUARED}"
    )


def _fit_details(fit: PowerLaw, n: int, d: int) -> dict[str, Detail]:
    return {
        "first_rank": fit.ranks[0],
        "last_rank": fit.ranks[1],
        "r_squared": fit.r_squared,
        "r_squared_unweighted": fit.r_squared_unweighted,
        "log_intercept": fit.log_intercept,
        "residual_standard_error": fit.standard_error,
        **_size_details(fit.alpha, n, d),
    }


def _size_details(value: float, n: int, d: int) -> dict[str, Detail]:
    told: dict[str, Detail] = {"n_over_d": n / d}
    if n < UNBIASED_ROWS_PER_DIMENSION * d and value < UNBIASED_ALPHA:
        told["bias_warning"] = (
            f"{n / d:.1f} rows per dimension bias a slow decay, down where the ranks "
            "fitted are few of all, up where they are many; at least "
            f"{UNBIASED_ROWS_PER_DIMENSION} are needed"
        )
    return told


@metric(
    title="Hill's estimate of α",
    formula="1/K Σ_{k=1}^K log(λ_k / λ_{K+1}), K one less than α's last rank",
    needs="spectrum",
    range="[0, ∞)",
    bounds=(0.0, None),
    direction="target",
    target=1.0,
    minimum_n=10,
    degree=0,
    invariances=("shift", "rotation"),
    cost="O(n d² + d³)",
    source="Hill 1975, Eq. 3.1",
    misleads="reads the first eigenvalues, which are not part of the law in most "
    "encoders; on an exact power law it is low by about log(2 π K) / 2 K; eigenvalues "
    "are no independent draws, so that its standard error is not theirs",
)
def alpha_hill(eigenvalues: Spectrum, n: int, *, count: int | None = None) -> Estimate:
    """Return the maximum-likelihood exponent of the largest eigenvalues.

    1/K sum_{k=1}^K log(lambda_k / lambda_{K+1})

    Where K + 1 largest of independent draws have a Pareto tail of index 1/alpha, their
    k-th largest falls as k^-alpha, and this is the likelihood's maximum.

    Args:
        eigenvalues: (d,) of the centred covariance, descending.
        n: rows behind them; bounds the ranks.
        count: K; by default one less than the last rank of `alpha_ranks`.

    Returns:
        At least 0; 1 is alpha-ReQ's target. Details: `count`, `n_over_d`,
        `standard_error_of_draws` (alpha / root of K, for independent draws), and
        `bias_warning` as `alpha`.

    Raises:
        Undecidable: without enough eigenvalues above rounding.
        UsageError: for eigenvalues that ascend.

    Source: Hill 1975, "A simple general approach to inference about the tail of a
    distribution", Eq. 3.1. As in the source, for the inverse of its index.

    Example:
        >>> import numpy as np
        >>> round(alpha_hill(np.array([4.0, 2.0, 1.0]), 100, count=2).value, 6)
        1.039721
    """
    _check_descending(eigenvalues)
    used = alpha_ranks(eigenvalues, n)[1] - 1 if count is None else count
    usable = _last_above_rounding(eigenvalues)
    if not 1 <= used < usable:
        raise Undecidable(f"{used + 1} eigenvalues are needed; {usable} are usable")
    logs = np.log(eigenvalues[: used + 1])
    value = float((logs[:-1] - logs[-1]).mean())
    details = _size_details(value, n, len(eigenvalues))
    error = value / used**0.5
    return Estimate(
        value, details={"count": used, "standard_error_of_draws": error, **details}
    )


@metric(
    title="median of local slopes",
    formula="median over k of the slope of -log λ on log rank over ranks k to 2 k, "
    "equal weights, within α's ranks",
    needs="spectrum",
    range="real; usual values lie between 0 and 3",
    direction="target",
    target=1.0,
    minimum_n=10,
    degree=0,
    invariances=("shift", "rotation"),
    cost="O(n d² + d³)",
    source="ours; the median makes it robust as Theil 1950 makes a slope",
    misleads="always gives a number, also where there is no power law: read it beside "
    "α's R², and its quartiles",
)
def alpha_median_window(
    eigenvalues: Spectrum, n: int, *, ranks: tuple[int, int] | None = None
) -> Estimate:
    """Return the median of the exponents of all octaves of ranks.

    median over k of the least-squares exponent over ranks k to 2 k

    Each octave spans the same distance on the axis of log rank; a step or an outlier
    spoils some of them only.

    Args:
        eigenvalues: (d,) of the centred covariance, descending.
        n: rows behind them; bounds the ranks.
        ranks: first and last rank used, from 1; by default `alpha_ranks`, from rank 3
            where those hold fewer than 5 octaves.

    Returns:
        Real; 1 is alpha-ReQ's target. Details: `first_rank`, `last_rank`, `windows`,
        `lower_quartile` and `upper_quartile` of the local exponents, `n_over_d` and
        `bias_warning` as `alpha`.

    Raises:
        Undecidable: without enough eigenvalues, or an octave of ranks.
        UsageError: for eigenvalues that ascend.

    Source: ours, after Theil 1950 (median of slopes).

    Example:
        >>> import numpy as np
        >>> round(alpha_median_window(np.arange(1.0, 201) ** -1.2, 10_000).value, 6)
        1.2
    """
    _check_descending(eigenvalues)
    first, last = ranks or alpha_ranks(eigenvalues, n)
    if ranks is None and last // 2 - first + 1 < MINIMUM_OCTAVES:
        first = ALPHA_FIRST_RANK_SHORT
    starts = range(max(first, 2), last // 2 + 1)  # two points are no fit
    if not starts:
        raise Undecidable(f"ranks {first} to {last} hold no octave")
    local = [fit_power_law(eigenvalues, k, 2 * k, weights="equal") for k in starts]
    lower, value, upper = np.quantile([one.alpha for one in local], (0.25, 0.5, 0.75))
    details: dict[str, Detail] = {
        "first_rank": first,
        "last_rank": last,
        "windows": len(local),
        "lower_quartile": float(lower),
        "upper_quartile": float(upper),
        **_size_details(float(value), n, len(eigenvalues)),
    }
    return Estimate(float(value), details=details)
