"""Ranks of a spectrum: golden values, references, invariances and limits."""

import math
import re

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from references import spectra
from repscope._checking import Undecidable
from repscope.metrics import power_law as exponents
from repscope.metrics import spectral, spectrum_shape, spectrum_tail
from repscope.representations.moments import Moments
from repscope.theory.planted import power_law

RANKS = {
    "effective_rank": spectral.effective_rank,
    "effective_rank_covariance": spectral.effective_rank_covariance,
    "participation_ratio": spectral.participation_ratio,
    "stable_rank": spectrum_shape.stable_rank,
}


def moments_of(rows):
    return Moments(rows.shape[1]).update(rows)


def deviations_of(moments):
    return np.sqrt(np.diag(moments.covariance()))


# Every metric of this family as a function of features.
MEASURED = {
    "alpha": lambda m: exponents.alpha(m.spectrum().values, m.n).value,
    "alpha_hill": lambda m: exponents.alpha_hill(m.spectrum().values, m.n).value,
    "alpha_median_window": lambda m: (
        exponents.alpha_median_window(m.spectrum().values, m.n).value
    ),
    "rankme": lambda m: spectral.rankme(m.singular_values()),
    "effective_rank": lambda m: spectral.effective_rank(m.spectrum().values),
    "effective_rank_covariance": lambda m: spectral.effective_rank_covariance(
        m.spectrum().values
    ),
    "effective_rank_correlation": lambda m: spectral.effective_rank_correlation(
        m.covariance()
    ),
    "tail_stable_rank": lambda m: (
        spectrum_tail.tail_stable_rank(m.spectrum().values).value
    ),
    "tail_participation_ratio": lambda m: (
        spectrum_tail.tail_participation_ratio(m.spectrum().values).value
    ),
    "condition_number": lambda m: (
        spectrum_shape.condition_number(m.spectrum().values).value
    ),
    "participation_ratio": lambda m: spectral.participation_ratio(m.spectrum().values),
    "stable_rank": lambda m: spectrum_shape.stable_rank(m.spectrum().values),
    "n_components": lambda m: spectrum_shape.n_components(m.spectrum().values),
    "anisotropy": lambda m: spectrum_shape.anisotropy(m.spectrum().values),
    "spectral_flatness": lambda m: spectrum_shape.spectral_flatness(
        m.spectrum().values, m.n
    ),
    "relative_dispersion": lambda m: spectrum_shape.relative_dispersion(
        float(np.trace(m.covariance())), float(m.mean @ m.mean)
    ),
    "dead_features": lambda m: spectrum_shape.dead_features(deviations_of(m), m.mean),
}
OFFSET_FREE = sorted(set(MEASURED) - {"rankme", "relative_dispersion", "dead_features"})
ROTATION_FREE = sorted(set(MEASURED) - {"dead_features", "effective_rank_correlation"})
SIZE_FREE = sorted(set(MEASURED) - {"spectral_flatness"})


@pytest.fixture(scope="module")
def rows():
    """Return 800 rows of 40 features that decay like 1/k, the last one dead."""
    features = power_law(800, 40, 1.0) + 0.3
    features[:, 39] = 1.0
    return features


@pytest.mark.parametrize("scale", [1e-20, 1e-8, 1e8, 1e20])
@pytest.mark.parametrize("name", sorted(MEASURED))
def test_scale_changes_nothing(name, scale, rows):
    expected = MEASURED[name](moments_of(rows))
    assert MEASURED[name](moments_of(rows * scale)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("offset", [1e2, 1e4, 1e6])
@pytest.mark.parametrize("name", OFFSET_FREE)
def test_a_common_offset_changes_nothing(name, offset, rows):
    expected = MEASURED[name](moments_of(rows))
    found = MEASURED[name](moments_of(rows + offset))
    # Storage rounds to eps times the offset; roots of small eigenvalues feel it most.
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", ROTATION_FREE)
def test_rotation_and_order_change_nothing(name, rows):
    generator = np.random.default_rng(1)
    rotation = np.linalg.qr(generator.standard_normal((40, 40)))[0]
    expected = MEASURED[name](moments_of(rows))
    rotated = moments_of(rows[generator.permutation(800)] @ rotation)
    # A dead direction turns into rounding of 1e-16, whose root is 1e-8.
    assert MEASURED[name](rotated) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", SIZE_FREE)
def test_doubling_the_data_changes_nothing(name, rows):
    expected = MEASURED[name](moments_of(rows))
    doubled = moments_of(np.concatenate([rows, rows]))
    assert MEASURED[name](doubled) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", ["float16", "float32", "int16"])
def test_stored_type_changes_nothing_beyond_its_rounding(name, rows):
    stored = (rows * 1000).astype(name)
    expected = MEASURED["effective_rank"](moments_of(stored.astype(np.float64)))
    assert MEASURED["effective_rank"](moments_of(stored)) == expected


@pytest.mark.parametrize(
    ("function", "eigenvalues", "value"),
    [
        (spectral.participation_ratio, [2.0, 1.0], 1.8),
        # Singular values 2 and 1: shares 2/3 and 1/3.
        (spectral.effective_rank, [4.0, 1.0], 3 / 4 ** (1 / 3)),
        # Shares 1/2, 1/4, 1/4: entropy 1.5 log 2.
        (spectral.effective_rank_covariance, [2.0, 1.0, 1.0], 2**1.5),
    ],
)
def test_values_by_hand(function, eigenvalues, value):
    assert function(np.array(eigenvalues)) == pytest.approx(value, rel=1e-14)


def test_the_rank_of_the_correlation_is_that_of_standardised_rows():
    rows = np.random.default_rng(0).standard_normal((200, 6)) @ np.diag([1e5, *[1] * 5])
    rows[:, 5] = 2 * rows[:, 4]
    standardised = (rows - rows.mean(0)) / rows.std(0)
    found = spectral.effective_rank_correlation(np.cov(rows.T, bias=True))
    expected = spectra.exponential_entropy(
        (np.linalg.svd(standardised)[1] ** 2).tolist()
    )
    assert found == pytest.approx(expected, rel=1e-10)
    again = math.exp(
        scipy.stats.entropy(np.linalg.eigvalsh(np.corrcoef(rows.T)).clip(0))
    )
    assert found == pytest.approx(again, rel=1e-10)


def test_constant_features_do_not_count_in_the_rank_of_the_correlation():
    assert spectral.effective_rank_correlation(np.diag([4.0, 0.0, 9.0])) == (
        pytest.approx(2.0, rel=1e-14)
    )
    with pytest.raises(Undecidable, match="constant"):
        spectral.effective_rank_correlation(np.zeros((3, 3)))


@pytest.mark.parametrize("name", sorted(RANKS))
@pytest.mark.parametrize("rank", [1, 2, 7, 300])
def test_flat_spectrum_of_rank_r_has_every_rank_r(name, rank):
    eigenvalues = np.zeros(300)
    eigenvalues[:rank] = 0.7
    assert RANKS[name](eigenvalues) == pytest.approx(rank, rel=1e-13)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=40))
def test_ranks_equal_the_naive_transcriptions_and_scipy(values):
    eigenvalues = np.sort(np.array(values) + 1e-3)[::-1]
    plain = eigenvalues.tolist()
    roots = [math.sqrt(value) for value in plain]
    entropy_of = scipy.stats.entropy
    for found, expected in [
        (spectral.effective_rank(eigenvalues), spectra.exponential_entropy(roots)),
        (spectral.effective_rank(eigenvalues), math.exp(entropy_of(roots))),
        (
            spectral.effective_rank_covariance(eigenvalues),
            spectra.exponential_entropy(plain),
        ),
        (
            spectral.effective_rank_covariance(eigenvalues),
            math.exp(entropy_of(plain)),
        ),
        (
            spectral.participation_ratio(eigenvalues),
            spectra.participation_ratio(plain),
        ),
        (spectral.rankme(np.array(roots)), spectra.rankme(roots)),
    ]:
        assert found == pytest.approx(expected, rel=1e-12)


@given(st.lists(st.floats(1e-9, 1), min_size=1, max_size=40))
def test_ranks_are_ordered_and_bounded(values):
    eigenvalues = np.sort(np.array(values))[::-1]
    found = {name: function(eigenvalues) for name, function in RANKS.items()}
    ordered = [
        *(1, found["stable_rank"], found["participation_ratio"]),
        *(found["effective_rank_covariance"], found["effective_rank"], len(values)),
    ]
    # Renyi entropies fall with their order; stable rank is of order infinity.
    assert all(b >= a * (1 - 1e-12) for a, b in zip(ordered, ordered[1:], strict=False))


@pytest.mark.parametrize("n", [1, 2, 10, 500])
def test_rankme_of_the_identity_is_its_size(n):
    bound = n**2 * 1e-7 * max(math.log(n) - 1, 1) * 1.01 + 1e-12
    singular_values = np.linalg.svd(np.eye(n), compute_uv=False)
    assert abs(spectral.rankme(singular_values) - n) <= bound
    assert MEASURED["rankme"](moments_of(np.eye(n))) == pytest.approx(n, abs=2 * bound)


@pytest.mark.parametrize(("d", "excess"), [(2048, 2.8), (8192, 54)])
def test_published_rankme_exceeds_its_bound_by_its_epsilon(d, excess):
    found = spectral.rankme(np.ones(d)) - d
    assert found == pytest.approx(d**2 * 1e-7 * (math.log(d) - 1), rel=0.01)
    assert found == pytest.approx(excess, rel=0.02)
    assert spectral.effective_rank(np.ones(d)) == pytest.approx(d, rel=1e-12)


def test_rankme_of_rank_one_is_one_but_for_its_epsilon():
    singular_values = np.eye(1, 2048)[0]
    # 2,047 times -1e-7 log 1e-7, less 1e-7 log of the one.
    expected = math.exp(2047 * 1e-7 * math.log(1e7) - 1e-7)
    assert spectral.rankme(singular_values) == pytest.approx(expected, rel=1e-9)


def test_rankme_reads_the_uncentred_matrix():
    rows = np.random.default_rng(0).standard_normal((300, 20)) + 3
    plain = np.linalg.svd(rows, compute_uv=False).tolist()
    assert MEASURED["rankme"](moments_of(rows)) == pytest.approx(
        spectra.rankme(plain), rel=1e-9
    )


def test_an_offset_crushes_rankme_while_the_effective_rank_stays():
    # Isotropic features of 64 dimensions, all around 50: nothing has collapsed.
    rows = np.random.default_rng(0).standard_normal((4096, 64)) + 50
    moments = moments_of(rows)
    assert MEASURED["rankme"](moments) == pytest.approx(2.6, abs=0.1)
    assert MEASURED["effective_rank"](moments) > 63.5


@pytest.mark.parametrize(("n", "d"), [(2, 512), (3, 300), (10, 64), (400, 64)])
def test_ranks_stay_within_n_minus_one_and_d(n, d):
    rows = np.random.default_rng(0).standard_normal((n, d)) + 5
    moments = moments_of(rows)
    for name in (*RANKS, "n_components"):
        assert 1 - 1e-12 <= MEASURED[name](moments) <= min(n - 1, d) * (1 + 1e-9)


@pytest.mark.parametrize("name", sorted(RANKS))
def test_features_on_a_line_have_rank_one(name):
    generator = np.random.default_rng(0)
    rows = generator.standard_normal((700, 1)) @ generator.standard_normal((1, 200))
    # 199 eigenvalues of rounding, 1e-16 of the first, whose roots are 1e-8 of it.
    assert MEASURED[name](moments_of(rows)) == pytest.approx(1, abs=2e-5)


@pytest.mark.parametrize("name", sorted(RANKS))
def test_two_rows_span_one_dimension(name):
    rows = np.random.default_rng(0).standard_normal((2, 300))
    assert MEASURED[name](moments_of(rows)) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("n_rows", [1, 2, 1000, 3333])
@pytest.mark.parametrize("constant", [0.0, 0.1, 1 / 3, -1e8])
@pytest.mark.parametrize(
    "name",
    sorted(set(OFFSET_FREE) - {"alpha", "alpha_hill", "alpha_median_window"}),
    ids=lambda name: name,
)
def test_constant_features_have_no_spectrum(name, constant, n_rows):
    moments = moments_of(np.full((n_rows, 7), constant))
    reason = "^all features are constant: there is no variance to spread$"
    with pytest.raises(Undecidable, match=reason):
        MEASURED[name](moments)


def test_features_that_are_all_zero_have_no_rankme():
    with pytest.raises(Undecidable, match="^all features are constant"):
        MEASURED["rankme"](moments_of(np.zeros((5, 3))))


def test_constant_features_that_are_not_zero_have_rankme_one():
    found = MEASURED["rankme"](moments_of(np.full((50, 8), 0.1)))
    assert found == pytest.approx(1, abs=2e-5)


def test_reasons_are_for_readers():
    with pytest.raises(Undecidable) as caught:
        spectral.effective_rank(np.zeros(3))
    assert re.fullmatch(r"[a-z ,:]+", caught.value.reason)
