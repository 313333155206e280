"""The exponent of a spectrum: exact where there is one, silent otherwise."""

import math
import re

import numpy as np
import pytest

from references.spectra import weighted_power_law
from repscope._checking import Undecidable
from repscope.metrics.power_law import alpha, alpha_ranks
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


def zigzag():
    """Return 1/k, every second value half as large again: best seen from afar."""
    return ranked(1.0) * np.where(np.arange(200) % 2, 1.5, 1.0)


def step():
    """Return a spectrum of two levels: worst seen from afar."""
    return np.where(np.arange(200) < 15, 1.0, 1e-3)


@pytest.mark.parametrize(("values", "best"), [(zigzag(), 50), (step(), 20)])
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
