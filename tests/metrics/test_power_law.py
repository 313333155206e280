"""The exponent of a spectrum: exact where there is one, silent otherwise."""

import inspect
import math
import re

import numpy as np
import pytest

from references.spectra import (
    equal_power_law,
    hill,
    median_of_octaves,
    weighted_power_law,
    weighted_slope_error,
)
from repscope._checking import Undecidable, UsageError
from repscope.metrics.power_law import (
    PRESETS,
    alpha,
    alpha_hill,
    alpha_median_window,
    alpha_ranks,
)
from repscope.metrics.ridge import ridge_probe
from repscope.representations.moments import Moments
from repscope.theory.planted import power_law, with_exact_spectrum


def ranked(exponent, d=200):
    return np.arange(1.0, d + 1) ** -exponent


def spectrum_of(rows):
    return Moments(rows.shape[1]).update(rows).spectrum().values


@pytest.mark.parametrize("exponent", [0.2, 0.5, 1.0, 1.5, 2.0, 3.0])
def test_exact_power_law_gives_its_exponent(exponent):
    estimate = alpha(3.7 * ranked(exponent), 10_000)
    assert estimate.value == pytest.approx(exponent, abs=1e-10)
    assert estimate.details["r_squared"] == pytest.approx(1, abs=1e-12)
    assert estimate.details["r_squared_unweighted"] == pytest.approx(1, abs=1e-12)
    assert estimate.details["log_intercept"] == pytest.approx(math.log(3.7))
    assert estimate.details["n_over_d"] == 50


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_features_of_an_exact_spectrum_give_their_exponent(exponent):
    rows = with_exact_spectrum(400, ranked(exponent, 120)) + 7.0
    estimate = alpha(spectrum_of(rows), 400)
    assert estimate.value == pytest.approx(exponent, abs=1e-10)


def test_a_noisy_spectrum_is_fitted_like_the_normal_equations():
    values = spectrum_of(power_law(600, 150, 1.2))
    estimate = alpha(values, 600)
    expected, intercept, r_squared = weighted_power_law(values.tolist(), 11, 50)
    assert estimate.value == pytest.approx(expected, rel=1e-9)
    assert estimate.details["log_intercept"] == pytest.approx(intercept, rel=1e-7)
    assert estimate.details["r_squared"] == pytest.approx(r_squared, rel=1e-9)


# d = 512, ranks 11-50, measured over two seeds: slow decay is read too low unless n is
# well above d, fast decay is not.
@pytest.mark.parametrize(
    ("exponent", "n", "expected"),
    [(0.5, 256, 0.41), (1.0, 256, 0.91), (1.0, 1024, 0.96), (1.5, 256, 1.49)],
)
def test_few_rows_bias_slow_decay_downwards(exponent, n, expected):
    found = [
        alpha(
            spectrum_of(power_law(n, 512, exponent, seed=seed)),
            n,
            ranks=(11, 50),
            auto_range=False,
        ).value
        for seed in range(2)
    ]
    assert np.mean(found) == pytest.approx(expected, abs=0.025)


@pytest.mark.parametrize(
    ("n", "d", "ranks"),
    [
        (10_000, 200, (11, 50)),
        (10_000, 80, (11, 40)),
        (10_000, 40, (11, 20)),
        (10_000, 39, (3, 19)),
        (10_000, 20, (3, 10)),
        (41, 200, (11, 20)),
        (40, 200, (3, 19)),
        (21, 200, (3, 10)),
    ],
)
def test_ranks_stay_within_half_of_what_the_rows_can_span(n, d, ranks):
    assert alpha_ranks(ranked(1.0, d), n) == ranks


def test_ranks_end_before_rounding_begins():
    values = ranked(1.0)
    values[25:] = 1e-12
    assert alpha_ranks(values, 10_000) == (11, 25)
    estimate = alpha(values, 10_000)
    assert (estimate.details["first_rank"], estimate.details["last_rank"]) == (11, 25)


@pytest.mark.parametrize(
    ("values", "n", "left"),
    [
        (ranked(1.0, 18), 10_000, 7),
        (ranked(1.0, 200), 19, 7),
        (ranked(1.0, 200), 3, 0),
        (np.eye(1, 50)[0], 10_000, 0),
        (np.zeros(50), 10_000, 0),
        (np.ones(1), 10_000, 0),
    ],
)
def test_too_few_eigenvalues_are_undecidable(values, n, left):
    reason = f"^only {left} eigenvalues to fit; 8 are needed$"
    with pytest.raises(Undecidable, match=reason):
        alpha(values, n)


def cliff(rank):
    """Return 1/k up to a rank, and a thousandth of it from there on."""
    values = ranked(1.0)
    values[rank:] *= 1e-3
    return values


@pytest.mark.parametrize(("rank", "last"), [(50, 50), (49, 30), (30, 30), (22, 20)])
def test_range_is_halved_from_above_until_a_line_fits(rank, last):
    estimate = alpha(cliff(rank), 10_000)
    assert estimate.details["first_rank"] == 11
    assert estimate.details["last_rank"] == last
    assert estimate.value == pytest.approx(1, abs=1e-10)
    assert estimate.details["r_squared"] >= 0.95


def test_given_ranks_are_kept_where_halving_is_off():
    estimate = alpha(cliff(40), 10_000, ranks=(5, 45), auto_range=False)
    assert (estimate.details["first_rank"], estimate.details["last_rank"]) == (5, 45)
    assert estimate.details["r_squared"] < 0.95
    expected = weighted_power_law(cliff(40).tolist(), 5, 45)[0]
    assert estimate.value == pytest.approx(expected, rel=1e-9)


def staircase():
    """Return steps of eight equal values, each half the last: best seen from afar."""
    return 2.0 ** -(np.arange(200) // 8)


def step():
    """Return a spectrum of two levels: worst seen from afar."""
    return np.where(np.arange(200) < 15, 1.0, 1e-3)


@pytest.mark.parametrize(("values", "best"), [(staircase(), 50), (step(), 20)])
def test_a_spectrum_without_a_law_gives_its_best_fit_as_the_reason(values, best):
    fits = {
        last: weighted_power_law(values.tolist(), 11, last)[2] for last in (50, 30, 20)
    }
    assert max(fits, key=fits.get) == best
    reason = (
        f"no power law: the best fit has R² {fits[best]:.2f} on ranks 11-{best}, "
        "below 0.95"
    )
    with pytest.raises(Undecidable, match=f"^{re.escape(reason)}$"):
        alpha(values, 10_000)


def test_a_flat_spectrum_follows_no_law():
    with pytest.raises(Undecidable, match="^no power law: the best fit has R² 0.00"):
        alpha(np.ones(100), 10_000)


def test_eigenvalues_are_left_as_they_were():
    values = cliff(30)
    before = values.copy()
    alpha(values, 10_000)
    np.testing.assert_array_equal(values, before)


# S4-E1: an exact power law is one over the ranks of every protocol.
@pytest.mark.parametrize("exponent", [0.3, 0.8, 1.0, 1.2, 2.5])
@pytest.mark.parametrize("preset", [None, *PRESETS])
def test_exact_spectra_follow_a_law_in_every_protocol(preset, exponent):
    estimate = alpha(ranked(exponent, 600), 10_000, preset=preset)
    assert estimate.value == pytest.approx(exponent, abs=1e-10)
    assert estimate.details["r_squared"] >= 0.95
    assert estimate.details["r_squared_unweighted"] == pytest.approx(1, abs=1e-12)
    assert estimate.details["residual_standard_error"] < 1e-10


@pytest.mark.parametrize(
    ("preset", "d", "ranks"),
    [
        ("stringer", 500, (11, 500)),
        ("reptrix", 100, (11, 100)),
        ("alpha-req", 100, (4, 100)),
        ("alpha-req", 99, (6, 50)),
        ("alpha-req", 49, (6, 20)),
    ],
)
def test_presets_fit_the_ranks_of_their_authors(preset, d, ranks):
    details = alpha(ranked(1.0, d), 10_000, preset=preset).details
    assert (details["first_rank"], details["last_rank"]) == ranks
    assert details["preset"] == preset


@pytest.mark.parametrize(
    ("preset", "d", "ranks"),
    [
        ("stringer", 499, "11-500"),
        ("reptrix", 99, "11-100"),
        ("alpha-req", 19, "6-20"),
    ],
)
def test_a_spectrum_shorter_than_a_preset_is_undecidable(preset, d, ranks):
    reason = (
        f"the preset '{preset}' fits ranks {ranks}; only {d} eigenvalues lie above "
        "1e-10 of the first"
    )
    with pytest.raises(Undecidable, match=f"^{re.escape(reason)}$"):
        alpha(ranked(1.0, d), 10_000, preset=preset)


@pytest.mark.parametrize(("rank", "last"), [(100, 100), (50, 50), (49, 20), (20, 20)])
def test_alpha_req_tries_shorter_ranges_until_one_fits(rank, last):
    details = alpha(cliff(rank), 10_000, preset="alpha-req").details
    assert details["last_rank"] == last
    assert details["r_squared"] >= 0.95


def test_alpha_req_finds_no_law_where_its_ranges_do_not_fit():
    reason = r"^no power law: the best fit has R² 0\.\d\d on ranks \d+-\d+, below 0.95$"
    with pytest.raises(Undecidable, match=reason):
        alpha(step(), 10_000, preset="alpha-req")
    # Stringer et al. and reptrix fit whatever there is.
    assert alpha(step(), 10_000, preset="reptrix").details["r_squared"] < 0.95


def test_presets_exclude_ranks_and_are_spelled_out():
    with pytest.raises(UsageError, match="^alpha: a preset has ranks of its own"):
        alpha(ranked(1.0), 10_000, preset="reptrix", ranks=(3, 20))
    with pytest.raises(UsageError, match="fix: did you mean stringer"):
        inspect.unwrap(alpha)(ranked(1.0), 10_000, preset="stinger")
    with pytest.raises(UsageError, match="did you mean equal"):
        inspect.unwrap(alpha)(ranked(1.0), 10_000, weights="equals")


def test_equal_weights_are_ordinary_least_squares():
    values = spectrum_of(power_law(600, 150, 1.2))
    estimate = alpha(values, 600, weights="equal")
    expected = equal_power_law(values.tolist(), 11, 50)
    assert estimate.value == pytest.approx(expected, rel=1e-9)
    slope = np.polyfit(np.log(np.arange(11, 51)), np.log(values[10:50]), 1)[0]
    assert estimate.value == pytest.approx(-slope, rel=1e-9)
    assert estimate.details["weights"] == "equal"
    assert estimate.value != alpha(values, 600).value


@pytest.mark.parametrize("function", [alpha, alpha_hill, alpha_median_window])
def test_eigenvalues_that_ascend_are_refused(function):
    message = "^eigenvalues: descending eigenvalues are needed\n  found: .* after "
    with pytest.raises(UsageError, match=message):
        function(ranked(1.0)[::-1].copy(), 10_000)


def test_the_standard_error_is_that_of_independent_residuals():
    values = spectrum_of(power_law(600, 150, 1.2))
    found = alpha(values, 600).details["residual_standard_error"]
    expected = weighted_slope_error(values.tolist(), 11, 50)
    assert found == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize(
    ("exponent", "n", "warns"),
    [(0.5, 1599, True), (0.5, 1600, False), (1.3, 100, False), (1.29, 100, True)],
)
@pytest.mark.parametrize("function", [alpha, alpha_median_window])
def test_slow_decay_of_few_rows_is_warned_of(function, exponent, n, warns):
    details = function(ranked(exponent + 1e-9), n).details
    assert ("bias_warning" in details) == warns
    if warns:
        assert f"{n / 200:.1f} rows per dimension" in details["bias_warning"]


@pytest.mark.parametrize("count", [1, 5, 49])
def test_hill_equals_its_formula(count):
    values = spectrum_of(power_law(600, 150, 1.2))
    estimate = alpha_hill(values, 600, count=count)
    assert estimate.value == pytest.approx(hill(values.tolist(), count), rel=1e-12)
    assert estimate.details["count"] == count


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_hill_of_an_exact_law_is_low_by_stirling(exponent):
    count = 49
    closed = exponent * (math.log(count + 1) - math.lgamma(count + 1) / count)
    found = alpha_hill(ranked(exponent), 10_000)
    assert found.value == pytest.approx(closed, rel=1e-12)
    low = math.log(2 * math.pi * count) / (2 * count)
    assert found.value == pytest.approx(exponent * (1 - low), rel=0.025)


@pytest.mark.parametrize("exponent", [0.5, 1.5])
def test_hill_finds_the_tail_of_pareto_draws(exponent):
    generator = np.random.default_rng(0)
    draws = np.sort(generator.pareto(1 / exponent, 100_000) + 1)[::-1]
    estimate = alpha_hill(draws, 200_000, count=2000)
    error = estimate.details["standard_error_of_draws"]
    assert error == pytest.approx(exponent / 2000**0.5, rel=0.1)
    assert abs(estimate.value - exponent) < 3 * error


def test_hill_needs_an_eigenvalue_beyond_its_count():
    with pytest.raises(Undecidable, match="^21 eigenvalues are needed; 20 are usable$"):
        alpha_hill(ranked(1.0, 20), 10_000, count=20)
    with pytest.raises(Undecidable, match="^1 eigenvalues are needed"):
        alpha_hill(ranked(1.0, 20), 10_000, count=0)


@pytest.mark.parametrize("exponent", [0.2, 1.0, 3.0])
def test_local_slopes_of_an_exact_law_are_its_exponent(exponent):
    estimate = alpha_median_window(2.5 * ranked(exponent), 10_000)
    assert estimate.value == pytest.approx(exponent, abs=1e-10)
    assert estimate.details["windows"] == 15
    for quartile in ("lower_quartile", "upper_quartile"):
        assert estimate.details[quartile] == pytest.approx(exponent, abs=1e-10)


@pytest.mark.parametrize("ranks", [(11, 50), (3, 19), (4, 9)])
def test_the_median_of_local_slopes_equals_plain_loops(ranks):
    values = spectrum_of(power_law(600, 150, 1.2))
    found = alpha_median_window(values, 600, ranks=ranks).value
    assert found == pytest.approx(median_of_octaves(values.tolist(), *ranks), rel=1e-9)


def test_one_outlier_moves_the_median_less_than_the_line():
    values = ranked(1.0)
    values[48] *= 30
    values = np.sort(values)[::-1]
    line = alpha(values, 10_000, auto_range=False).value
    assert abs(alpha_median_window(values, 10_000).value - 1) < abs(line - 1)


def test_ranks_without_an_octave_are_undecidable():
    with pytest.raises(Undecidable, match="^ranks 6 to 11 hold no octave$"):
        alpha_median_window(ranked(1.0), 10_000, ranks=(6, 11))


def test_no_estimator_touches_its_input():
    values = spectrum_of(power_law(600, 150, 1.2))
    before = values.copy()
    ranks = (11, 50)
    for _ in range(5):
        alpha(values, 600, ranks=ranks)
        alpha(values, 600, preset="alpha-req")
        alpha_hill(values, 600)
        alpha_median_window(values, 600, ranks=ranks)
    np.testing.assert_array_equal(values, before)
    assert ranks == (11, 50)


# S4-E6: the exponent is necessary, not sufficient.
@pytest.mark.parametrize("seed", range(3))
def test_noise_can_have_the_ideal_exponent_and_no_information(seed):
    generator = np.random.default_rng(seed)
    features = power_law(4000, 64, 1.0, seed=seed)
    labels = generator.integers(0, 10, 4000)
    estimate = alpha(spectrum_of(features), 4000)
    assert 0.8 <= estimate.value <= 1.2
    assert estimate.details["r_squared"] >= 0.95
    train, test = slice(3000), slice(3000, None)
    probe = ridge_probe(
        features[train], labels[train], features[test], labels[test], 10
    )
    # Chance is .1; three standard errors of 1,000 test rows are .028.
    assert abs(probe.test_accuracy - 0.1) < 0.03
