"""Scores of single rows: golden values, references, scaling laws, dtypes, limits."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hypothesis_numpy

from references import rows as reference
from repscope import _numerics
from repscope._checking import (
    InputError,
    NonFiniteFeatureError,
    Undecidable,
)
from repscope.metrics import samples

SCORES = (
    "feature_mean",
    "feature_std",
    "l1_norm",
    "z_max",
    "q_score",
    "q_score_normalized",
    "gini",
    "hoyer",
)
SCALE_FREE = ("z_max", "q_score_normalized", "gini", "hoyer")


def score(name, features):
    return getattr(samples, name)(features)


def activations(n=40, d=17, seed=0):
    """Non-negative features with exact zeros, as after a ReLU."""
    return np.maximum(np.random.default_rng(seed).standard_normal((n, d)), 0)


@pytest.mark.parametrize(
    ("name", "row", "expected"),
    [
        ("z_max", [0, 0, 0, 1], 3**0.5),
        ("z_max", [1, 1, 1, 0], 3**-0.5),
        ("q_score", [0, 0, 0, 1], 3**0.5),
        ("q_score", [1, 1, 1, 0], 0.19245),
        ("q_score_normalized", [0, 0, 0, 9], 3**0.5),
        ("q_score_normalized", [1, 1, 1, 0], 1 / 3),
        ("feature_mean", [1, -2, 4], 1.0),
        ("feature_std", [1, 3], 1.0),
        ("l1_norm", [1, -2, 4], 7.0),
        ("gini", [0, 0, 0, 5], 0.75),
        ("gini", [-3, 3, 3], 0.0),
        ("gini", [1, 2, 3, 4], 0.25),
        ("hoyer", [0, 0, 5], 1.0),
        ("hoyer", [2, -2, 2], 0.0),
    ],
)
def test_golden_values(name, row, expected):
    found = score(name, np.array([row], dtype=float))
    assert found[0] == pytest.approx(expected, abs=5e-6)


matrices = hypothesis_numpy.arrays(
    np.float64,
    st.tuples(st.integers(1, 4), st.integers(2, 7)),
    elements=st.floats(-100, 100).map(lambda value: round(value, 3)),
)


@given(matrices)
def test_scores_equal_the_naive_transcriptions(features):
    for name in SCORES:
        expected = [getattr(reference, name)(row) for row in features.tolist()]
        assert score(name, features) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_the_scores_that_training_minimises_are_these():
    features = activations()
    shared = _numerics.z_score_of_maximum(features), _numerics.q_score(features)
    assert samples.z_max(features) == pytest.approx(shared[0], rel=1e-13)
    assert samples.q_score(features) == pytest.approx(shared[1], rel=1e-13)


def test_all_scores_at_once_equal_each_score_alone():
    features = activations(3000, 300)  # several blocks
    found = samples.sample_scores(features, eta=0.3)
    assert set(found) == {*SCORES, "soft_sparsity", "maximum"}
    for name in SCORES:
        assert (found[name] == score(name, features)).all(), name
    alone = samples.soft_sparsity(features, eta=0.3)
    assert (found["soft_sparsity"] == alone).all()
    assert (found["maximum"] == features.max(axis=1)).all()


def test_soft_sparsity_is_left_out_without_its_eta():
    assert "soft_sparsity" not in samples.sample_scores(activations())


@pytest.mark.parametrize("factor", [0.01, 3.0, 1e6])
def test_scaling_laws(factor):
    features = activations()
    for name in SCALE_FREE:
        scaled = score(name, factor * features)
        assert scaled == pytest.approx(score(name, features), rel=1e-12)
    shrunk = samples.q_score(factor * features)
    assert shrunk == pytest.approx(samples.q_score(features) / factor, rel=1e-12)
    for name in ("feature_mean", "feature_std", "l1_norm"):
        grown = score(name, factor * features)
        assert grown == pytest.approx(factor * score(name, features), rel=1e-12)


@pytest.mark.parametrize("offset", [-5.0, 1e2, 1e6])
def test_the_z_score_does_not_see_an_offset(offset):
    features = activations()
    moved = samples.z_max(2.5 * features + offset)
    # An offset of 1e6 costs six digits of the features themselves.
    assert moved == pytest.approx(samples.z_max(features), rel=1e-9)


@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e-20, 1e-8, 1e20, 1e200, 1e300])
def test_scale_free_scores_survive_any_scale(scale):
    features = activations()
    for name in SCALE_FREE:
        found = score(name, features * scale)
        assert found == pytest.approx(score(name, features), rel=1e-12), name
    spread = samples.feature_std(features * scale)
    assert spread == pytest.approx(scale * samples.feature_std(features), rel=1e-12)


def test_scores_of_the_smallest_numbers_are_finite():
    features = np.array([[5e-324, 0.0, 0.0], [1e-320, 1e-321, 0.0]])
    for name, values in samples.sample_scores(features, eta=0.0).items():
        assert np.isfinite(values).all(), name


@given(st.integers(0, 10**6), st.integers(2, 30))
def test_the_z_score_keeps_its_bounds(seed, d):
    generator = np.random.default_rng(seed)
    features = generator.standard_normal((20, d)) ** 5 + 1e5
    found = samples.z_max(features)
    assert found.min() >= (d - 1) ** -0.5
    assert found.max() <= (d - 1) ** 0.5


@pytest.mark.parametrize("d", [2, 5, 1000])
def test_one_high_and_one_low_feature_attain_the_bounds_of_the_z_score(d):
    one_high, one_low = np.zeros((1, d)), np.ones((1, d))
    one_high[0, -1], one_low[0, 0] = 1, 0
    assert samples.z_max(one_high) == pytest.approx([(d - 1) ** 0.5], rel=1e-12)
    assert samples.z_max(one_low) == pytest.approx([(d - 1) ** -0.5], rel=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 1e200])
def test_rows_of_equal_features_have_no_spread_and_no_quality(value):
    features = np.full((2, 9), value)
    for name in ("feature_std", "z_max", "q_score", "q_score_normalized"):
        assert score(name, features).tolist() == [0, 0], name
    assert samples.gini(features) == pytest.approx([0, 0], abs=1e-15)
    assert samples.hoyer(features) == pytest.approx([0, 0], abs=1e-15)
    assert not samples.discriminative_set(features, eps_z=0.0).any()


def test_order_of_features_does_not_matter():
    features = activations()
    order = np.random.default_rng(1).permutation(features.shape[1])
    for name in SCORES:
        shuffled = score(name, features[:, order])
        assert shuffled == pytest.approx(score(name, features), rel=1e-12), name


def test_order_and_blocks_of_rows_do_not_matter():
    features = activations(50, 9)
    order = np.random.default_rng(1).permutation(50)
    for name in SCORES:
        whole = score(name, features)
        assert (score(name, features[order]) == whole[order]).all(), name
        parts = [score(name, part) for part in np.array_split(features, 7)]
        assert (np.concatenate(parts) == whole).all(), name


ARRAYS = {
    "float16": lambda x: x.astype(np.float16),
    "float32": lambda x: x.astype(np.float32),
    "big-endian": lambda x: x.astype(">f4"),
    "int8": lambda x: x.astype(np.int8),
    "uint8": lambda x: np.abs(x).astype(np.uint8),
    "int64": lambda x: x.astype(np.int64),
    "bool": lambda x: x > 0,
    "Fortran": np.asfortranarray,
    "non-contiguous": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "torch float32": lambda x: torch.tensor(x, dtype=torch.float32),
    "torch bfloat16": lambda x: torch.tensor(x, dtype=torch.bfloat16),
    "torch int16": lambda x: torch.tensor(x, dtype=torch.int16),
    "torch transposed": lambda x: torch.tensor(x.T.copy()).T,
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_any_kind_of_array_is_scored_in_float64(kind):
    # Small whole numbers are the same in every type; -128 has no positive int8.
    features = np.random.default_rng(0).integers(-9, 9, (30, 12)).astype(float)
    features[0, 0] = -128
    given_features = ARRAYS[kind](features)
    exact = np.array(given_features.tolist(), dtype=np.float64)
    expected = samples.sample_scores(exact, eta=2.0)
    found = samples.sample_scores(given_features, eta=2.0)
    for name, values in found.items():
        assert str(values.dtype).endswith("float64")
        assert isinstance(values, torch.Tensor) == kind.startswith("torch")
        assert np.asarray(values) == pytest.approx(expected[name], rel=1e-13), name


def test_what_is_given_is_not_changed():
    features = activations() * 1e200
    features.flags.writeable = False
    kept = features.copy()
    samples.sample_scores(features, eta=0.1)
    assert (features == kept).all()


def test_discriminative_set_is_what_exceeds_the_mean_by_so_many_deviations():
    features = activations(30, 200)
    found = samples.discriminative_set(features, eps_z=2.0)
    for row, chosen in zip(features.tolist(), found.tolist(), strict=True):
        border = reference.feature_mean(row) + 2 * reference.feature_std(row)
        assert [value > border for value in row] == chosen
    assert found.any()
    assert not samples.discriminative_set(features, eps_z=200**0.5).any()


def test_discriminative_sets_of_torch_are_those_of_numpy():
    features = activations()
    found = samples.discriminative_set(torch.tensor(features), eps_z=1.0)
    assert isinstance(found, torch.Tensor)
    expected = samples.discriminative_set(features, eps_z=1.0)
    assert (found.numpy() == expected).all()


def test_rescaled_features_have_a_mean_l1_norm_of_one():
    features = activations()
    rescaled = samples.rescale_mean_l1(
        features, float(samples.l1_norm(features).mean())
    )
    assert samples.l1_norm(rescaled).mean() == pytest.approx(1)
    with pytest.raises(Undecidable, match="^all features are zero"):
        samples.rescale_mean_l1(np.zeros((2, 3)), 0.0)


@pytest.mark.parametrize("power", [-900, -600, 600, 900])
def test_mean_score_takes_scores_too_great_or_small_to_square(power):
    scores = np.random.default_rng(0).exponential(2.0, 50)
    plain = samples.mean_score(scores)
    found = samples.mean_score(np.ldexp(scores, power))
    # A power of two changes no digit.
    assert found.value == np.ldexp(plain.value, power)
    assert found.interval == tuple(np.ldexp(plain.interval, power))


def test_mean_score_covers_the_true_mean_in_19_of_20_samples():
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        low, high = samples.mean_score(generator.exponential(2.0, 200)).interval
        covered += low <= 2.0 <= high
    assert 0.92 <= covered / 400 <= 0.98
    assert samples.mean_score(np.array([1.5])).interval is None


@pytest.mark.parametrize("function", [samples.z_max, samples.sample_scores])
def test_a_single_feature_cannot_be_scored(function):
    message = "features: a score within a row compares its features\n  found: 1 feature"
    with pytest.raises(InputError, match="^" + re.escape(message)):
        function(np.ones((4, 1)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_named(bad):
    features = activations(2000, 300)
    features[1500, 3] = features[1700, 0] = bad
    message = "features: 2 rows contain NaN or infinity (first: row 1500)"
    with pytest.raises(NonFiniteFeatureError, match="^" + re.escape(message)):
        samples.sample_scores(features)


def test_scores_tell_planted_good_rows_from_bad_ones():
    generator = np.random.default_rng(0)
    bad = np.abs(generator.standard_normal((200, 64)))  # noise on every feature
    good = 0.1 * np.abs(generator.standard_normal((200, 64)))
    good[np.arange(200), generator.integers(0, 64, 200)] = 3  # one clear feature
    for name in ("z_max", "q_score", "q_score_normalized", "gini", "hoyer"):
        assert score(name, good).min() > score(name, bad).max(), name
    for name in ("feature_mean", "l1_norm"):
        assert score(name, good).max() < score(name, bad).min(), name
