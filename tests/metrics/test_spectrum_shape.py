"""The form of a spectrum: golden values, closed forms, limits and messages."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from references import spectra
from repscope._checking import Undecidable, UsageError
from repscope.metrics import spectrum_shape as shape
from repscope.representations.moments import Moments
from repscope.theory.planted import power_law, with_exact_spectrum


def moments_of(rows):
    return Moments(rows.shape[1]).update(rows)


def deviations_of(moments):
    return np.sqrt(np.diag(moments.covariance()))


def flatness_of(rows):
    return shape.spectral_flatness(moments_of(rows).spectrum().values, len(rows))


def dispersion_of(rows):
    moments = moments_of(rows)
    total = float(np.trace(moments.covariance()))
    return shape.relative_dispersion(total, float(moments.mean @ moments.mean))


@pytest.mark.parametrize(
    ("function", "eigenvalues", "value"),
    [
        (shape.stable_rank, [2.0, 1.0], 1.5),
        (shape.anisotropy, [3.0, 1.0], 0.75),
        (shape.n_components, [98.0, 1.0, 1.0], 2.0),
        (shape.n_components, [99.0, 1.0], 1.0),
        (shape.n_components, [98.9, 1.1], 2.0),
    ],
)
def test_values_by_hand(function, eigenvalues, value):
    assert function(np.array(eigenvalues)) == pytest.approx(value, rel=1e-14)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, math.nan])
def test_a_share_lies_between_zero_and_one(share):
    message = "^n_components: a share of the variance is needed\n  found: share = "
    with pytest.raises(UsageError, match=message):
        shape.n_components(np.ones(3), share=share)


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_a_flat_spectrum_needs_its_share_of_components(share):
    assert shape.n_components(np.ones(50), share=share) == 50 * share


@given(
    st.lists(st.floats(0, 10), min_size=1, max_size=30),
    st.sampled_from([0.5, 0.9, 0.99, 1.0]),
)
def test_components_equal_a_plain_count(values, share):
    eigenvalues = np.sort(np.array(values) + 0.01)[::-1]
    found = shape.n_components(eigenvalues, share=share)
    expected = spectra.components_for(eigenvalues.tolist(), share)
    # Where a sum equals the share up to rounding, either count is right.
    total = eigenvalues.sum()
    reached = eigenvalues[: int(found)].sum() / total
    assert found == expected or abs(reached - share) < 1e-9


@pytest.mark.parametrize(("n", "d"), [(200, 100), (300, 300), (100, 400), (2000, 50)])
def test_isotropic_noise_is_flat_whatever_n_and_d(n, d):
    rows = np.random.default_rng(0).standard_normal((n, d))
    assert flatness_of(rows) == pytest.approx(1, abs=0.03)


def test_flatness_by_hand():
    assert shape.spectral_flatness(np.array([2.0, 1.0]), 10) == pytest.approx(
        1.8 * (1 / 2 + 1 / 10)
    )


def test_a_steep_spectrum_is_not_flat():
    rows = with_exact_spectrum(500, np.arange(1.0, 101) ** -2)
    assert flatness_of(rows) < 0.05


@pytest.mark.parametrize(
    ("rows", "value"),
    [
        ([[1.0, 0.0], [-1.0, 0.0]], 1.0),
        ([[4.0, 2.0], [2.0, 2.0]], math.sqrt(1 / (1 + 9 + 4))),
        ([[0.1, 0.2]] * 7, 0.0),
    ],
)
def test_relative_dispersion_by_hand(rows, value):
    found = dispersion_of(np.array(rows))
    assert found == pytest.approx(value, abs=1e-15)


def test_dispersion_of_zeros_is_undecidable():
    with pytest.raises(Undecidable, match="^all features are zero$"):
        shape.relative_dispersion(0.0, 0.0)


def dead_rows():
    rows = np.random.default_rng(0).standard_normal((5000, 6))
    rows[:, 1] = 0.1
    rows[:, 3] *= 1e-9
    rows[:, 4] *= 1e-6
    rows[:, 5] = -4e3
    return rows


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
def test_dead_features_are_those_that_never_vary(scale):
    rows = dead_rows() * scale
    rows[:, 5] /= 1e3
    moments = moments_of(rows)
    dead = shape.dead_mask(deviations_of(moments), moments.mean)
    assert dead.tolist() == [False, True, False, True, False, True]
    assert shape.dead_features(deviations_of(moments), moments.mean) == 0.5


def test_all_zero_features_are_all_dead():
    assert shape.dead_features(np.zeros(4), np.zeros(4)) == 1


def test_a_deviation_below_the_rounding_of_its_mean_is_dead():
    # A feature of 1e16 whose last bits flicker, without any other threshold.
    means, deviations = np.array([1e16, 1e16]), np.array([4.0, 400.0])
    dead = shape.dead_mask(deviations, means, threshold=0.0)
    assert dead.tolist() == [True, False]


@pytest.mark.parametrize(
    ("eigenvalues", "value", "rank"),
    [
        ([4.0, 1.0], 4.0, 2),
        ([4.0, 1.0, 0.0], 4.0, 2),
        ([4.0, 1.0, 1e-17, 1e-18], 4.0, 2),
        ([2.0], 1.0, 1),
        ([1.0, 1e-9], 1e9, 2),
        ([1e-200, 1e-203], 1e3, 2),
    ],
)
def test_condition_number_by_hand(eigenvalues, value, rank):
    estimate = shape.condition_number(np.array(eigenvalues))
    assert estimate.value == pytest.approx(value, rel=1e-12)
    assert estimate.details == {"rank": rank}


def test_condition_number_is_the_square_of_that_of_the_centred_rows():
    rows = power_law(300, 12, 1.5) + 4
    found = shape.condition_number(moments_of(rows).spectrum().values).value
    expected = np.linalg.cond(rows - rows.mean(axis=0)) ** 2
    assert found == pytest.approx(expected, rel=1e-10)


def test_condition_number_of_an_exact_spectrum():
    rows = with_exact_spectrum(200, np.arange(1.0, 31) ** -2)
    found = shape.condition_number(moments_of(rows).spectrum().values).value
    assert found == pytest.approx(900, rel=1e-9)


def test_directions_without_variance_do_not_count():
    rows = np.random.default_rng(0).standard_normal((100, 5))
    wide = np.column_stack([rows, rows @ np.ones(5), np.full(100, 7.0)])
    estimate = shape.condition_number(moments_of(wide).spectrum().values)
    assert estimate.details["rank"] == 5
    found = np.linalg.svd(wide - wide.mean(axis=0), compute_uv=False)
    assert estimate.value == pytest.approx((found[0] / found[4]) ** 2, rel=1e-9)


def test_an_eigenvalue_near_rounding_gives_no_condition_number():
    reason = "the least of 2 eigenvalues is 1.0e-12 of the first: too near to rounding"
    with pytest.raises(Undecidable, match=f"^{reason}$"):
        shape.condition_number(np.array([1.0, 1e-12]))


def test_constant_features_have_no_condition_number():
    with pytest.raises(Undecidable, match="^all features are constant"):
        shape.condition_number(np.zeros(3))
