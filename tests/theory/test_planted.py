"""What is planted is there: each truth is measured by a route of its own."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid

from repscope.theory import planted

SIZES = [(500, 32), (800, 64)]


def spectrum_of(rows):
    return np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False) ** 2 / len(rows)


def sound(n, d, seed=0):
    return planted.sound(n, d, seed=seed)


@pytest.mark.parametrize(
    "make",
    [
        planted.isotropic_noise,
        planted.whitened,
        planted.complete_collapse,
        planted.class_collapse,
        planted.feature_suppression,
        planted.low_quality_samples,
        planted.shared_features,
        planted.duplicates,
        lambda one: planted.dimensional_collapse(one, 4),
    ],
)
def test_damage_leaves_the_sound_original_and_says_what_it_did(make):
    original = sound(200, 16)
    before = original.features.copy()
    labels = {name: codes.copy() for name, codes in original.labels.items()}
    damaged = make(original)
    np.testing.assert_array_equal(original.features, before)
    for name, codes in labels.items():
        np.testing.assert_array_equal(original.labels[name], codes)
    assert damaged.truth != original.truth == "sound"
    assert len(damaged.features) == 200
    assert np.isfinite(damaged.features).all()
    np.testing.assert_array_equal(make(original).features, damaged.features)


@pytest.mark.parametrize("exponent", [0.5, 2.0])
def test_power_law_decays_as_it_says(exponent):
    values = spectrum_of(planted.power_law(20_000, 20, exponent))
    expected = np.arange(1.0, 21) ** -exponent
    # A sample eigenvalue of 20,000 rows deviates by sqrt(2 / n) = 1 %.
    np.testing.assert_allclose(values, expected, rtol=0.06)


@pytest.mark.parametrize("n", [21, 50, 1000])
def test_exact_spectrum_is_exact_and_centred(n):
    truth = np.arange(1.0, 21) ** -1.3
    rows = planted.with_exact_spectrum(n, truth)
    assert rows.shape == (n, 20)
    np.testing.assert_allclose(spectrum_of(rows)[:20], truth, rtol=1e-11)
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-14)


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: planted.power_law(50, 8, 1.0, seed=seed),
        lambda seed: planted.with_exact_spectrum(50, np.ones(8), seed=seed),
        lambda seed: sound(50, 8, seed).features,
        lambda seed: planted.isotropic_noise(sound(50, 8), seed=seed).features,
        lambda seed: planted.complete_collapse(sound(50, 8), seed=seed).features,
        lambda seed: planted.class_collapse(sound(50, 8), seed=seed).features,
        lambda seed: planted.feature_suppression(sound(50, 8), seed=seed).features,
        lambda seed: planted.low_quality_samples(sound(50, 8), seed=seed).features,
    ],
)
def test_a_seed_fixes_the_features_and_another_changes_them(make):
    np.testing.assert_array_equal(make(3), make(3))
    assert (make(3) != make(4)).any()


@pytest.mark.parametrize(("n", "d"), SIZES)
def test_sound_features_look_like_an_encoder_that_works(n, d):
    one = sound(n, d)
    assert one.features.shape == (n, d)
    assert one.features.min() == 0
    assert (one.features.std(axis=0) > 0).all()
    fine, coarse = one.labels["fine"], one.labels["coarse"]
    np.testing.assert_array_equal(fine // 2, coarse)
    assert np.ptp(np.bincount(fine, minlength=10)) <= 1
    # No two rows are equal, no single direction carries the variance.
    assert len(np.unique(one.features, axis=0)) == n
    values = spectrum_of(one.features)
    assert values[0] / values.sum() < 0.5
    half = n // 2
    for codes, chance in ((fine, 0.1), (coarse, 0.2)):
        centroid = NearestCentroid().fit(one.features[:half], codes[:half])
        assert centroid.score(one.features[half:], codes[half:]) > 3 * chance


@pytest.mark.parametrize(
    ("n_classes", "subclasses", "d"), [(3, 4, 16), (2, 1, 8), (10, 2, 12)]
)
def test_sound_features_have_the_classes_asked_for(n_classes, subclasses, d):
    one = planted.sound(240, d, n_classes=n_classes, subclasses=subclasses)
    assert set(one.labels["coarse"]) == set(range(n_classes))
    assert set(one.labels["fine"]) == set(range(n_classes * subclasses))


@pytest.mark.parametrize("spread", [1e-3, 1e-6])
def test_complete_collapse_leaves_the_spread_it_names(spread):
    one = planted.complete_collapse(sound(500, 32), spread=spread)
    mean = one.features.mean(axis=0)
    deviation = np.sqrt(((one.features - mean) ** 2).sum(axis=1).mean())
    assert deviation / np.linalg.norm(mean) == pytest.approx(spread, rel=0.05)


@pytest.mark.parametrize("rank", [1, 3, 10])
def test_dimensional_collapse_has_the_rank_and_the_leading_variance(rank):
    original = sound(300, 40)
    collapsed = planted.dimensional_collapse(original, rank)
    assert (
        np.linalg.matrix_rank(collapsed.features - collapsed.features.mean(0)) == rank
    )
    np.testing.assert_allclose(
        spectrum_of(collapsed.features)[:rank],
        spectrum_of(original.features)[:rank],
        rtol=1e-9,
    )
    assert collapsed.truth == f"dimensional collapse onto {rank}"


def test_a_leak_keeps_its_share_of_the_other_dimensions():
    original = sound(300, 20)
    leaky = planted.dimensional_collapse(original, 3, leak=0.1)
    np.testing.assert_allclose(
        spectrum_of(leaky.features)[3:],
        spectrum_of(original.features)[3:] * 0.01,
        rtol=1e-6,
    )


def test_isotropic_noise_is_flat_and_knows_no_label():
    one = planted.isotropic_noise(sound(4000, 16))
    values = spectrum_of(one.features)
    # Marchenko and Pastur's edges for n / d = 250 are .88 and 1.13.
    assert values[-1] / values[0] > 0.72
    centroid = NearestCentroid().fit(one.features[:2000], one.labels["coarse"][:2000])
    accuracy = centroid.score(one.features[2000:], one.labels["coarse"][2000:])
    assert accuracy == pytest.approx(0.2, abs=0.04)


def test_whitening_flattens_the_spectrum_on_these_rows():
    values = spectrum_of(planted.whitened(sound(500, 32)).features)
    np.testing.assert_allclose(values, 1, rtol=1e-9)


@pytest.mark.parametrize(("n", "d"), SIZES)
def test_collapsed_classes_keep_classes_and_lose_subclasses(n, d):
    original = sound(n, d)
    one = planted.class_collapse(original)
    fine, coarse = one.labels["fine"], one.labels["coarse"]

    def gap(planted_one, codes, a, b):
        rows = planted_one.features
        return np.linalg.norm(rows[codes == a].mean(0) - rows[codes == b].mean(0))

    for parent in range(5):
        child, sibling = 2 * parent, 2 * parent + 1
        left = gap(one, fine, child, sibling)
        # What is left is the sampling error of two means of one distribution.
        rows = one.features[coarse == parent]
        counts = np.bincount(fine)[[child, sibling]]
        error = np.sqrt(rows.var(axis=0).sum() * (1 / counts).sum())
        assert left < 1.6 * error
        assert left < 0.5 * gap(original, fine, child, sibling)
    # Classes stay where they were.
    assert gap(one, coarse, 0, 1) == pytest.approx(gap(original, coarse, 0, 1))
    half = n // 2
    for parent in (0, 3):
        rows = coarse == parent
        features, codes = one.features[rows], fine[rows]
        train = np.arange(len(codes)) % 2 == 0
        probe = LogisticRegression(max_iter=2000).fit(features[train], codes[train])
        assert probe.score(features[~train], codes[~train]) < 0.75
    centroid = NearestCentroid().fit(one.features[:half], coarse[:half])
    assert centroid.score(one.features[half:], coarse[half:]) > 0.6


def test_class_collapse_may_leave_a_rest():
    original = sound(600, 32)
    whole = planted.class_collapse(original, rest=1.0)
    fine = original.labels["fine"]
    for child in range(10):
        own = fine == child
        np.testing.assert_allclose(
            whole.features[own].mean(0),
            original.features[own].mean(0),
            atol=6 * original.features[own].std() / np.sqrt(own.sum()),
        )


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_suppressing_bits_are_readable_and_drown_the_labels(bits):
    original = sound(800, 64)
    one = planted.feature_suppression(original, bits=bits)
    assert list(one.attributes) == [f"bit {k}" for k in range(bits)]
    train = slice(0, 400)
    for codes in one.attributes.values():
        assert set(codes) == {0, 1}
        probe = LogisticRegression(max_iter=2000).fit(one.features[train], codes[train])
        assert probe.score(one.features[400:], codes[400:]) > 0.97
    # The bits' part has `strength` times the deviation of the original.
    plain = planted.feature_suppression(original, bits=bits, rest=0.0, noise=0.0)
    ratio = plain.features.std(axis=0) ** 2
    expected = (4 * original.features.std()) ** 2
    assert ratio.mean() == pytest.approx(expected, rel=0.5)


def test_damaged_rows_are_the_ones_named_and_stand_out_in_nothing():
    original = sound(600, 64)
    one = planted.low_quality_samples(original, share=0.1)
    changed = (one.features != original.features).any(axis=1)
    np.testing.assert_array_equal(np.flatnonzero(changed), one.rows)
    assert len(one.rows) == 60
    assert (np.diff(one.rows) > 0).all()

    def prominence(rows):
        return (rows.max(axis=1) - rows.mean(axis=1)) / rows.std(axis=1)

    damaged = prominence(one.features[one.rows])
    rest = prominence(np.delete(one.features, one.rows, axis=0))
    assert damaged.max() < np.quantile(rest, 0.05)
    # Many features, none discriminative: all lie within a fifth of the mean.
    level = original.features.mean()
    np.testing.assert_allclose(one.features[one.rows], level, rtol=0.2)


@pytest.mark.parametrize("count", [1, 3])
def test_shared_features_are_the_greatest_of_every_row(count):
    one = planted.shared_features(sound(200, 16), count=count, strength=3.0)
    assert (one.features.argmax(axis=1) < count).all()
    others = one.features[:, count:].max(axis=1)
    np.testing.assert_allclose(one.features[:, 0], 3 * others)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_duplicates_repeat_rows_with_labels_and_attributes(share):
    original = planted.feature_suppression(sound(300, 16), bits=2)
    one = planted.duplicates(original, share=share)
    count = int(share * 300)
    np.testing.assert_array_equal(one.rows, np.arange(300 - count, 300))
    np.testing.assert_array_equal(one.features[one.rows], one.features[:count])
    for planted_codes in (one.labels, one.attributes):
        for codes in planted_codes.values():
            np.testing.assert_array_equal(codes[one.rows], codes[:count])
    assert len(np.unique(one.features, axis=0)) == 300 - count
