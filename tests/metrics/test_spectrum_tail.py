"""Bartlett's ranks: by hand, against the paper's sums, inequalities and limits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from references import spectra
from repscope._checking import Undecidable, UsageError
from repscope.metrics import spectral, spectrum_shape, spectrum_tail
from repscope.representations.moments import Moments
from repscope.theory.planted import power_law


@pytest.mark.parametrize(
    ("eigenvalues", "k", "small", "large"),
    [
        ([9.0, 2.0, 1.0], 0, 12 / 9, 144 / 86),
        ([9.0, 2.0, 1.0], 1, 1.5, 1.8),
        ([9.0, 2.0, 1.0], 2, 1.0, 1.0),
        ([1.0] * 20, 10, 10.0, 10.0),
        ([5.0, 3.0, 0.0], 1, 1.0, 1.0),
    ],
)
def test_ranks_of_the_tail_by_hand(eigenvalues, k, small, large):
    values = np.array(eigenvalues)
    found = spectrum_tail.tail_stable_rank(values, k=k)
    assert found.value == pytest.approx(small, rel=1e-14)
    assert found.details == {"k": k}
    found = spectrum_tail.tail_participation_ratio(values, k=k)
    assert found.value == pytest.approx(large, rel=1e-14)


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=40))
def test_ranks_of_every_tail_equal_the_sums_of_the_paper(values):
    ordered = sorted(values, reverse=True)
    ranks = spectrum_tail.tail_ranks(np.array(ordered))
    for k in range(len(ordered)):
        small, large = ranks.small[k], ranks.large[k]
        assert small == pytest.approx(spectra.bartlett_r(ordered, k), rel=1e-10)
        assert large == pytest.approx(spectra.bartlett_large_r(ordered, k), rel=1e-10)
        # Bartlett et al. 2020, Lemma 5: 1 <= r_k <= R_k <= r_k^2.
        assert 1 - 1e-9 <= small <= large * (1 + 1e-9)
        assert large <= small**2 * (1 + 1e-9)


def test_without_components_left_out_they_are_known_ranks():
    values = Moments(30).update(power_law(400, 30, 1.0)).spectrum().values
    assert spectrum_tail.tail_stable_rank(values, k=0).value == pytest.approx(
        spectrum_shape.stable_rank(values), rel=1e-12
    )
    found = spectrum_tail.tail_participation_ratio(values, k=0).value
    assert found == pytest.approx(spectral.participation_ratio(values), rel=1e-12)


@pytest.mark.parametrize("scale", [1e-250, 1.0, 1e250])
def test_a_tail_of_a_power_law_at_every_scale(scale):
    # sum_{i>k} i^-2 times (k+1)^2, for the whole sum pi^2/6.
    values = np.arange(1.0, 200_001) ** -2
    expected = (np.pi**2 / 6 - (np.arange(1.0, 11) ** -2).sum()) * 121
    found = spectrum_tail.tail_stable_rank(values * scale).value
    assert found == pytest.approx(expected, rel=1e-3)


def test_zeros_after_the_last_variance_have_no_rank():
    ranks = spectrum_tail.tail_ranks(np.array([1.0, 0.0, 0.0]))
    assert ranks.small.tolist() == ranks.large.tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("values", "k", "usable"),
    [
        (np.ones(10), 10, 10),
        (np.array([1.0, 0.0]), 1, 1),
        (np.array([1.0, 1e-17]), 1, 1),
        (np.ones(1), 10, 1),
    ],
)
def test_no_variance_after_k_components_is_undecidable(values, k, usable):
    reason = f"^no variance is left after {k} of {usable} components$"
    for function in (
        spectrum_tail.tail_stable_rank,
        spectrum_tail.tail_participation_ratio,
    ):
        with pytest.raises(Undecidable, match=reason):
            function(values, k=k)


def test_constant_features_and_negative_k_are_refused():
    with pytest.raises(Undecidable, match="^all features are constant"):
        spectrum_tail.tail_stable_rank(np.zeros(20))
    with pytest.raises(UsageError, match="^k: how many components come before"):
        spectrum_tail.tail_participation_ratio(np.ones(20), k=-1)


def test_the_benign_index_by_hand():
    # One strong direction, then 100 equal ones: r_0 = 3, r_1 = 100, r_2 = 99.
    values = np.array([50.0, *np.ones(100)])
    assert spectrum_tail.benign_index(values, 3) == 0
    assert spectrum_tail.benign_index(values, 80) == 1
    assert spectrum_tail.benign_index(values, 200, b=0.5) == 1
    reason = r"^no k with r_k of at least 1 n = 101; the greatest r_k is 100$"
    with pytest.raises(Undecidable, match=reason):
        spectrum_tail.benign_index(values, 101)


@given(st.integers(1, 60), st.integers(1, 30), st.integers(0, 10**6))
def test_the_rows_of_a_spectrum_are_never_interpolated_benignly(n, d, seed):
    rows = np.random.default_rng(seed).standard_normal((n + 1, d))
    values = Moments(d).update(rows).spectrum().values
    with pytest.raises(Undecidable):
        spectrum_tail.benign_index(values, n + 1)
