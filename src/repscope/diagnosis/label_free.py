"""All that is measured without labels: spectrum, scores, shared features, hygiene."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import threadpoolctl
from jaxtyping import Bool, Float

from repscope._arrays import Array, Spectrum
from repscope._checking import Undecidable
from repscope._environment import usable_cores
from repscope.diagnosis.survey import Survey
from repscope.metrics import (
    augmented,
    hygiene,
    power_law,
    samples,
    sharing,
    spectral,
)
from repscope.metrics.intervals import jackknifed
from repscope.metrics.metric import Estimate, metric_of
from repscope.records import Measurement
from repscope.representations.moments import Moments

# Eigenvalues of the uncentred matrix cost a second decomposition per block; above this
# width RankMe is given without an interval.
RANKME_INTERVAL_MAXIMUM_D = 1024
# Below this share of the scatter a difference of sums has lost too many digits.
DOWNDATE_MINIMUM_SHARE = 1e-3


@dataclass(frozen=True, eq=False)
class SpectrumState:
    """What the spectral metrics read, of all rows or of all but one block."""

    eigenvalues: Spectrum
    singular_values: Spectrum | None
    total_variance: float
    squared_mean: float
    n: int


def _state(moments: Moments, *, uncentred: bool) -> SpectrumState:
    return SpectrumState(
        eigenvalues=moments.spectrum().values,
        singular_values=moments.singular_values() if uncentred else None,
        total_variance=float(np.trace(moments.scatter)) / moments.n,
        squared_mean=float(moments.mean @ moments.mean),
        n=moments.n,
    )


def _states_without(
    moments: Moments, blocks: Sequence[Moments], *, uncentred: bool
) -> list[SpectrumState]:
    """Return the state without each block, the blocks spread over the cores.

    One decomposition per core: a decomposition that shares two cores gains little when
    they are free, and is several times slower when they are not.
    """

    def without(block: Moments) -> SpectrumState:
        return _state(_rest(moments, blocks, block), uncentred=uncentred)

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


def _rankme(state: SpectrumState) -> float:
    if state.singular_values is None:
        raise Undecidable("not computed without a block")
    # There are min(n, d) singular values; padding zeros would each add RankMe's
    # epsilon.
    return spectral.rankme(state.singular_values[: state.n])


SPECTRAL: tuple[tuple[Callable, Callable[[SpectrumState], Estimate | float]], ...] = (
    (power_law.alpha, lambda s: power_law.alpha(s.eigenvalues, s.n)),
    (spectral.rankme, _rankme),
    (spectral.effective_rank, lambda s: spectral.effective_rank(s.eigenvalues)),
    (
        spectral.effective_rank_covariance,
        lambda s: spectral.effective_rank_covariance(s.eigenvalues),
    ),
    (
        spectral.participation_ratio,
        lambda s: spectral.participation_ratio(s.eigenvalues),
    ),
    (spectral.stable_rank, lambda s: spectral.stable_rank(s.eigenvalues)),
    (spectral.anisotropy, lambda s: spectral.anisotropy(s.eigenvalues)),
    (
        spectral.spectral_flatness,
        lambda s: spectral.spectral_flatness(s.eigenvalues, s.n),
    ),
    (
        spectral.relative_dispersion,
        lambda s: spectral.relative_dispersion(s.total_variance, s.squared_mean),
    ),
)
_RANKS = ("effective_rank", "effective_rank_covariance", "participation_ratio")


def spectral_measurements(
    survey: Survey, *, layer: str = "features", intervals: bool = True
) -> tuple[list[Measurement], Spectrum]:
    """Return the spectrum family with jackknife intervals, and the eigenvalues.

    Args:
        survey: of the features.
        layer: what to call them.
        intervals: whether to leave blocks out.
    """
    whole = _state(survey.moments, uncentred=True)
    n, d = survey.moments.n, survey.moments.d
    uncentred = d <= RANKME_INTERVAL_MAXIMUM_D
    blocks = survey.blocks if intervals else ()
    without = _states_without(survey.moments, blocks, uncentred=uncentred)
    taken = []
    for function, compute in SPECTRAL:
        bound = float(min(n - 1, d)) if function.__name__ in _RANKS else None
        one = metric_of(function).measured(
            functools.partial(compute, whole), n=n, d=d, layer=layer, upper=bound
        )
        fixed = _with_fixed_ranks(one, compute)
        taken.append(_with_interval(one, fixed, whole, without, survey.block_sizes))
    alone: tuple[tuple[Callable, Callable[[], float]], ...] = (
        (
            spectral.n_components,
            lambda: spectral.n_components(whole.eigenvalues),
        ),
        (
            spectral.effective_rank_correlation,
            lambda: spectral.effective_rank_correlation(survey.moments.covariance()),
        ),
    )
    taken += [
        metric_of(function).measured(
            compute, n=n, d=d, layer=layer, upper=float(min(n - 1, d))
        )
        for function, compute in alone
    ]
    taken.append(
        metric_of(spectral.dead_features).measured(
            lambda: spectral.dead_features(survey.deviations, survey.moments.mean),
            n=n,
            d=d,
            layer=layer,
        )
    )
    return taken, whole.eigenvalues


def _with_fixed_ranks(
    one: Measurement, compute: Callable[[SpectrumState], Estimate | float]
) -> Callable[[SpectrumState], Estimate | float]:
    """Return alpha on the ranks that all rows chose; other metrics as they are."""
    if one.name != "alpha" or one.value is None:
        return compute
    ranks = (int(str(one.details["first_rank"])), int(str(one.details["last_rank"])))
    return lambda s: power_law.alpha(s.eigenvalues, s.n, ranks=ranks, auto_range=False)


def _with_interval(
    one: Measurement,
    compute: Callable[[SpectrumState], Estimate | float],
    whole: SpectrumState,
    without: list[SpectrumState],
    sizes: np.ndarray,
) -> Measurement:
    if one.value is None or not without:
        return one

    def number(block: int | None) -> float:
        result = compute(whole if block is None else without[block])
        return result.value if isinstance(result, Estimate) else float(result)

    return with_jackknife(one, number, sizes)


def with_jackknife(
    one: Measurement, number: Callable[[int | None], float], sizes: np.ndarray
) -> Measurement:
    """Return a measurement with its jackknife interval, cut to the possible range."""
    found = jackknifed(number, sizes)
    if found is None:
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
        details={**one.details, "interval": "jackknife over blocks of rows"},
    )


def score_columns(survey: Survey) -> dict[str, Float[np.ndarray, " n"]]:
    """Return the per-row scores that go into the sample table."""
    return {
        name: survey.scores[name] for name in samples.SCORES if name in survey.scores
    }


def score_measurements(survey: Survey) -> list[Measurement]:
    """Return the mean over rows of each score, with its interval."""
    taken = []
    for function in samples.SCORE_FUNCTIONS:
        entry = metric_of(function)
        taken.append(
            entry.measured(
                functools.partial(_of_scores, survey, entry.name, samples.mean_score),
                n=survey.moments.n,
                d=survey.moments.d,
            )
        )
    taken.append(
        metric_of(sharing.low_score_share).measured(
            lambda: _of_scores(survey, "q_score_normalized", sharing.low_score_share),
            n=survey.moments.n,
        )
    )
    return taken


def _of_scores(
    survey: Survey, name: str, function: Callable[[np.ndarray], Estimate]
) -> Estimate:
    if name not in survey.scores:
        raise Undecidable("one feature per row: it has none to stand out from")
    return function(survey.scores[name])


def structure_measurements(survey: Survey) -> list[Measurement]:
    """Return how far a few features serve all rows."""
    n, d = survey.moments.n, survey.moments.d
    return [
        metric_of(sharing.argmax_concentration).measured(
            lambda: sharing.argmax_concentration(survey.argmax), n=n, d=d
        ),
        metric_of(sharing.shared_feature_index).measured(
            lambda: sharing.shared_feature_index(survey.column_l1), n=n, d=d
        ),
    ]


def hygiene_measurements(
    survey: Survey, is_test: Bool[np.ndarray, " n"] | None
) -> list[Measurement]:
    """Return what stains the rows."""
    n = survey.moments.n
    taken = [
        metric_of(hygiene.duplicate_rows).measured(
            lambda: hygiene.duplicate_rows(survey.row_hashes), n=n
        ),
        metric_of(hygiene.dropped_rows).measured(
            lambda: hygiene.dropped_rows(survey.n_dropped, n), n=n
        ),
    ]
    if is_test is not None:
        taken.append(
            metric_of(hygiene.leaked_rows).measured(
                lambda: hygiene.leaked_rows(survey.row_hashes, is_test),
                n=int(is_test.sum()),
                split="test",
            )
        )
    return taken


def view_measurements(views: Array, n: int) -> list[Measurement]:
    """Return what features keep under augmentation."""
    checked = augmented.check_views(views, n)
    d = checked.shape[2]
    return [
        metric_of(function).measured(functools.partial(function, checked), n=n, d=d)
        for function in (augmented.alignment, augmented.invariance_score)
    ]
