"""Which factors features have learnt: against scikit-learn, planted bits, the floor."""

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from repscope._checking import InputError, Undecidable
from repscope.metrics.failure import wilson_interval
from repscope.metrics.feature_accuracy import feature_accuracies, feature_accuracy
from repscope.metrics.noise_floor import NoiseFloor
from repscope.theory.planted import feature_suppression, sound

N = 600
IS_TEST = np.arange(N) % 3 == 0


@pytest.fixture(scope="module")
def suppressed():
    """Return features in which three bits drown five classes, not entirely."""
    one = sound(N, 24, noise=2.0)
    return feature_suppression(one, bits=3, rest=0.4)


def test_each_factor_is_read_as_scikit_learn_reads_it(suppressed):
    features = suppressed.features
    factors = {**suppressed.labels, **suppressed.attributes}
    found = feature_accuracies(features, factors, IS_TEST)
    assert [one.level for one in found] == list(factors)
    for one, labels in zip(found, factors.values(), strict=True):
        model = make_pipeline(StandardScaler(), LinearSVC(C=1.0, tol=1e-8))
        model.fit(features[~IS_TEST], labels[~IS_TEST])
        expected = model.score(features[IS_TEST], labels[IS_TEST])
        # A row or two on the border may fall to either side.
        assert one.value == pytest.approx(expected, abs=0.011), one.level
        single = feature_accuracy(features, labels, IS_TEST)
        assert single.value == one.value
        assert single.details == one.details


def test_bits_are_learnt_and_classes_suppressed(suppressed):
    factors = {"coarse": suppressed.labels["coarse"], **suppressed.attributes}
    coarse, *bits = feature_accuracies(suppressed.features, factors, IS_TEST)
    assert all(bit.value > 0.95 for bit in bits)
    assert coarse.value < 0.95


def test_skill_by_hand():
    # Two thirds of the test rows have the frequent value; the probe is always right.
    labels = np.array([0] * 20 + [1] * 10 + [0] * 10 + [1] * 5)
    is_test = np.arange(45) >= 30
    found = feature_accuracy(labels[:, None] * 1.0, labels, is_test)
    assert found.value == 1.0
    assert found.details["skill"] == 1.0
    assert found.details["majority"] == pytest.approx(2 / 3)
    assert found.details["chance"] == 0.5
    assert found.interval == pytest.approx(wilson_interval(15, 15))


def test_features_that_know_nothing_guess():
    generator = np.random.default_rng(0)
    labels = np.arange(N) % 2
    found = feature_accuracy(generator.standard_normal((N, 5)), labels, IS_TEST)
    assert found.interval[0] < 0.5 < found.interval[1]


def infinitesimal(gap, *, n=4000):
    """Return features that vary by 2 along one axis and by `gap` along another."""
    generator = np.random.default_rng(0)
    large, small = generator.integers(0, 2, (2, n))
    features = np.stack([2.0 * large, gap * small, np.zeros(n)], axis=1)
    return features, {"large": large, "small": small}, np.arange(n) % 2 == 0


@pytest.mark.parametrize("probe", ["squared_hinge", "logistic", "ridge"])
def test_a_noise_floor_hides_what_standardising_would_blow_up(probe):
    features, factors, is_test = infinitesimal(1e-4)
    bare = feature_accuracies(features, factors, is_test, probe=probe)
    assert [one.value for one in bare] == [1.0, 1.0]
    floor = NoiseFloor(0.1)
    found = feature_accuracies(
        features, factors, is_test, probe=probe, noise_floor=floor
    )
    # Rows: variance 1 along the first axis, margin sqrt(1 / 2).
    assert found[0].details["deviation"] == pytest.approx(0.1 * 0.5**0.5, rel=0.01)
    assert found[0].value == 1.0
    assert 0.45 < found[1].value < 0.55


def test_what_lies_near_the_floor_is_read_as_its_size_says():
    features, factors, is_test = infinitesimal(1.0)
    floor = NoiseFloor(1.0, margin=0.5)
    _, small = feature_accuracies(features, factors, is_test, noise_floor=floor)
    # Half the gap is one deviation of the noise.
    assert small.value == pytest.approx(scipy.stats.norm.cdf(1.0), abs=0.02)


@pytest.mark.parametrize("scale", [1e-20, 1e20])
@pytest.mark.parametrize("floor", [None, NoiseFloor(0.1)])
def test_neither_scale_nor_offset_changes_anything(scale, floor, suppressed):
    labels = suppressed.labels["coarse"]
    expected, scaled, shifted = (
        feature_accuracy(features, labels, IS_TEST, noise_floor=floor)
        for features in (
            suppressed.features,
            scale * suppressed.features,
            suppressed.features + 1e5,
        )
    )
    assert scaled.value == pytest.approx(expected.value, abs=0.0051)
    assert shifted.value == pytest.approx(expected.value, abs=0.0051)


def test_tensors_give_the_same(suppressed):
    labels = suppressed.labels["coarse"]
    for floor in (None, NoiseFloor()):
        expected, found = (
            feature_accuracy(features, labels, IS_TEST, noise_floor=floor)
            for features in (
                suppressed.features,
                torch.from_numpy(suppressed.features),
            )
        )
        assert found.value == pytest.approx(expected.value, abs=1e-12)


def test_factors_that_cannot_be_probed_are_null_with_a_reason():
    features = np.random.default_rng(0).standard_normal((40, 3))
    is_test = np.arange(40) >= 20
    factors = {
        "constant": np.zeros(40, dtype=int),
        "late": is_test.astype(int),
        "bit": np.arange(40) % 2,
        "size": np.linspace(0, 1, 40),
        "word": np.array(["a", "b"] * 20),
    }
    constant, late, bit, size, word = feature_accuracies(features, factors, is_test)
    assert constant.value is late.value is None
    assert "one class only" in constant.reason
    assert bit.value == word.value is not None
    assert size.value is not None
    with pytest.raises(Undecidable, match="one class only"):
        feature_accuracy(features, factors["constant"], is_test)


@pytest.mark.parametrize(("value", "side"), [(True, "training"), (False, "test")])
def test_both_sides_need_rows(value, side):
    features = np.zeros((6, 2))
    with pytest.raises(Undecidable, match=f"no {side} rows"):
        feature_accuracy(features, np.arange(6) % 2, np.full(6, value))


def test_lengths_and_missing_values_are_named():
    features, is_test = np.zeros((6, 2)), np.arange(6) % 2 == 0
    with pytest.raises(InputError, match="'bit': one entry per row"):
        feature_accuracies(features, {"bit": np.zeros(5)}, is_test)
    with pytest.raises(InputError, match="row 1 has no value"):
        feature_accuracies(features, {"bit": [0, None, 1, 1, 0, 1]}, is_test)
