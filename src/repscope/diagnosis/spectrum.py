"""What the spectrum of the features says, with intervals by leaving blocks out."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import threadpoolctl
from jaxtyping import Float

from repscope._arrays import Spectrum
from repscope._checking import Undecidable
from repscope._environment import usable_cores
from repscope.diagnosis.survey import Survey
from repscope.metrics import (
    information,
    power_law,
    spectral,
    spectrum_shape,
    spectrum_tail,
)
from repscope.metrics.intervals import jackknifed
from repscope.metrics.measuring import parameters_of
from repscope.metrics.metric import Estimate, metric_of
from repscope.records import Measurement
from repscope.representations.moments import Moments

# Eigenvalues of the uncentred matrix, and of the correlation matrix, cost one more
# decomposition per block; above these widths they are given without an interval.
RANKME_INTERVAL_MAXIMUM_D = 1024
CORRELATION_INTERVAL_MAXIMUM_D = 512
# Below this share of the scatter a difference of sums has lost too many digits.
DOWNDATE_MINIMUM_SHARE = 1e-3

# What such an interval is for: these numbers depend on how many rows there are.
JACKKNIFE = "jackknife over blocks of rows, for as many other rows"

# All are functions of a `SpectrumState`, whose fields bear their parameters' names.
SPECTRAL: tuple[Callable[..., Estimate | float], ...] = (
    power_law.alpha,
    spectral.rankme,
    spectral.effective_rank,
    spectral.effective_rank_covariance,
    spectral.participation_ratio,
    spectrum_shape.stable_rank,
    spectrum_shape.anisotropy,
    spectrum_shape.spectral_flatness,
    spectrum_shape.relative_dispersion,
    spectrum_tail.tail_stable_rank,
    spectrum_tail.tail_participation_ratio,
    spectrum_shape.condition_number,
    information.gaussian_information,
    spectrum_shape.n_components,
    spectral.effective_rank_correlation,
    spectrum_shape.dead_features,
)
# Counts of features or of components: leaving blocks out hardly moves them.
WITHOUT_INTERVAL = (spectrum_shape.n_components, spectrum_shape.dead_features)
# None of these can exceed the dimensions that n rows span.
RANKS = (
    "effective_rank",
    "effective_rank_covariance",
    "effective_rank_correlation",
    "participation_ratio",
    "n_components",
)


@dataclass(frozen=True, eq=False)
class SpectrumState:
    """What the spectral metrics read, of all rows or of all but one block."""

    eigenvalues: Spectrum
    singular_values: Float[np.ndarray, " r"] | None
    covariance: Float[np.ndarray, "d d"] | None
    total_variance: float
    squared_mean: float
    deviations: Float[np.ndarray, " d"]
    means: Float[np.ndarray, " d"]
    n: int


def _state(
    moments: Moments,
    eigenvalues: Spectrum,
    singular_values: Float[np.ndarray, " r"] | None,
) -> SpectrumState:
    variances = np.maximum(np.diag(moments.scatter), 0) / moments.n
    # There are min(n, d) singular values; padding zeros would each add RankMe's
    # epsilon.
    kept = None if singular_values is None else singular_values[: moments.n]
    return SpectrumState(
        eigenvalues=eigenvalues,
        singular_values=kept,
        covariance=None,
        total_variance=float(np.trace(moments.scatter)) / moments.n,
        squared_mean=float(moments.mean @ moments.mean),
        deviations=np.sqrt(variances),
        means=moments.mean,
        n=moments.n,
    )


def _state_of_all(moments: Moments) -> SpectrumState:
    spectra = moments.spectra()
    state = _state(moments, spectra.eigenvalues, spectra.singular_values)
    return dataclasses.replace(state, covariance=moments.covariance())


def _states_without(moments: Moments, blocks: Sequence[Moments]) -> list[SpectrumState]:
    """Return the state without each block, the blocks spread over the cores.

    One decomposition per core: a decomposition that shares two cores gains little when
    they are free, and is several times slower when they are not.
    """
    d = moments.d

    def without(block: Moments) -> SpectrumState:
        # Two decompositions let all cores work; the joint one holds the others up.
        rest = _rest(moments, blocks, block)
        singular = rest.singular_values() if d <= RANKME_INTERVAL_MAXIMUM_D else None
        state = _state(rest, rest.spectrum().values, singular)
        if d > CORRELATION_INTERVAL_MAXIMUM_D:
            return state
        return dataclasses.replace(state, covariance=rest.covariance())

    with (
        threadpoolctl.threadpool_limits(1, user_api="blas"),
        ThreadPoolExecutor(usable_cores()) as pool,
    ):
        return list(pool.map(without, blocks))


def _rest(moments: Moments, blocks: Sequence[Moments], left_out: Moments) -> Moments:
    """Return the moments without one block.

    Taking a block off the whole is quick, and exact unless that block holds nearly all
    of the scatter; the others are then merged anew.
    """
    rest = moments.without(left_out)
    kept = np.trace(rest.scatter)
    if kept > DOWNDATE_MINIMUM_SHARE * np.trace(moments.scatter):
        return rest
    merged = Moments(moments.d)
    for block in blocks:
        if block is not left_out:
            merged.merge(block)
    return merged


def spectral_measurements(
    survey: Survey, *, layer: str = "features", intervals: bool = True
) -> tuple[list[Measurement], Spectrum]:
    """Return the spectrum family with jackknife intervals, and the eigenvalues.

    Args:
        survey: of the features.
        layer: what to call them.
        intervals: whether to leave blocks out.
    """
    whole = _state_of_all(survey.moments)
    n, d = survey.moments.n, survey.moments.d
    without = _states_without(survey.moments, survey.blocks if intervals else ())
    taken = []
    for function in SPECTRAL:
        entry = metric_of(function)
        one = entry.measured(
            functools.partial(_value, function, whole),
            n=n,
            d=d,
            layer=layer,
            upper=float(min(n - 1, d)) if entry.name in RANKS else None,
        )
        if function not in WITHOUT_INTERVAL:
            options = _as_chosen(one)
            one = _with_interval(
                one,
                functools.partial(_value, function, **options),
                (whole, without),
                survey,
            )
        taken.append(one)
    return taken, whole.eigenvalues


def _value(
    function: Callable[..., Estimate | float], state: SpectrumState, **options: Any
) -> Estimate | float:
    given = {name: getattr(state, name) for name in parameters_of(metric_of(function))}
    if any(one is None for one in given.values()):
        raise Undecidable("not computed without a block")
    return function(**given, **options)


def _as_chosen(one: Measurement) -> dict[str, Any]:
    """Return the ranks of alpha that all rows chose; nothing for other metrics."""
    if one.name != "alpha" or one.value is None:
        return {}
    ranks = (int(str(one.details["first_rank"])), int(str(one.details["last_rank"])))
    return {"ranks": ranks, "auto_range": False}


def _with_interval(
    one: Measurement,
    compute: Callable[[SpectrumState], Estimate | float],
    states: tuple[SpectrumState, list[SpectrumState]],
    survey: Survey,
) -> Measurement:
    whole, without = states
    if one.value is None or not without:
        return one

    def number(block: int | None) -> float:
        result = compute(whole if block is None else without[block])
        return result.value if isinstance(result, Estimate) else float(result)

    return with_jackknife(one, number, survey.block_sizes)


def with_jackknife(
    one: Measurement, number: Callable[[int | None], float], sizes: np.ndarray
) -> Measurement:
    """Return a measurement with its jackknife interval, cut to the possible range."""
    with np.errstate(over="ignore"):
        found = jackknifed(number, sizes)
    if found is None or not np.isfinite(found.interval).all():
        return one
    low, high = one.range
    interval = (
        max(found.interval[0], -np.inf if low is None else low),
        min(found.interval[1], np.inf if high is None else high),
    )
    return dataclasses.replace(
        one,
        interval=(float(interval[0]), float(interval[1])),
        replicates=found.replicates,
        details={**one.details, "interval": JACKKNIFE},
    )
