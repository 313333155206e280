"""Uniformity, tolerance and mean cosine: every pair counted, no pair twice."""

import math

import numpy as np
import pytest
import scipy.special
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist
from scipy.stats import ortho_group
from sklearn.metrics.pairwise import cosine_similarity

from references import geometry as reference
from repscope import _numerics
from repscope._checking import InputError, Undecidable, UsageError
from repscope.metrics import geometry
from repscope.metrics.geometry import mean_cosine, tolerance, uniformity

METRICS = {
    "uniformity": uniformity,
    "mean_cosine": mean_cosine,
    "tolerance": lambda features: tolerance(features, LABELS[: len(features)], 3),
}
EACH = pytest.mark.parametrize("name", METRICS)
LABELS = np.arange(100) % 3


def rows(n=60, d=5, seed=0, mean=0.5):
    return np.random.default_rng(seed).standard_normal((n, d)) + mean


@given(st.integers(0, 10**6), st.sampled_from([2, 7, 25]), st.sampled_from([1, 4]))
@settings(max_examples=30)
def test_values_equal_the_naive_transcriptions(seed, n, d):
    features = rows(n, d, seed)
    plain = features.tolist()
    assert uniformity(features).value == pytest.approx(
        reference.uniformity(plain, 2), rel=1e-10, abs=1e-12
    )
    assert mean_cosine(features).value == pytest.approx(
        reference.mean_cosine(plain), abs=1e-12
    )
    labels = np.zeros(n, dtype=int)
    labels[n // 2 + 1 :] = 1
    assert tolerance(features, labels, 2).value == pytest.approx(
        reference.tolerance(plain, labels.tolist()), abs=1e-12
    )


@pytest.mark.parametrize("concentration", [0.5, 2.0, 30.0])
def test_uniformity_is_that_of_the_authors_formula(concentration):
    features = rows(300, 8)
    units = features / np.linalg.norm(features, axis=1, keepdims=True)
    expected = np.log(np.exp(-concentration * pdist(units) ** 2).mean())
    found = uniformity(features, concentration=concentration).value
    assert found == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("d", [2, 16, 256])
def test_uniform_directions_have_the_uniformity_of_theory(d):
    # E exp(c cos) on the sphere is gamma(d/2) (2/c)^(d/2-1) I_{d/2-1}(c), c = 2 t.
    order, c = d / 2 - 1, 4.0
    theory = (
        -c
        + scipy.special.gammaln(d / 2)
        + order * math.log(2 / c)
        + math.log(scipy.special.iv(order, c))
    )
    found = uniformity(rows(3000, d, mean=0))
    assert found.value == pytest.approx(theory, abs=0.02)
    assert found.interval[0] < theory < found.interval[1]
    if d == 256:
        assert theory == pytest.approx(-3.97, abs=0.005)


def test_golden_values():
    opposite = np.array([[1.0, 0.0], [-5.0, 0.0]])
    assert uniformity(opposite).value == pytest.approx(-8)
    assert uniformity(opposite, concentration=1.0).value == pytest.approx(-4)
    assert mean_cosine(opposite).value == -1
    point = np.tile([3.0, 4.0], (40, 1))
    assert uniformity(point).value == pytest.approx(0, abs=1e-14)
    assert mean_cosine(point).value == pytest.approx(1)
    assert tolerance(point, LABELS[:40], 3).value == pytest.approx(1)
    # Three directions at 120 degrees: |u - v|^2 = 3 for each pair.
    three = np.array([[1, 0], [-0.5, 0.75**0.5], [-0.5, -(0.75**0.5)]])
    assert uniformity(three).value == pytest.approx(-6)
    assert mean_cosine(three).value == pytest.approx(-0.5)


def test_a_steep_kernel_does_not_vanish():
    # exp(-t |u - v|^2) itself is zero in double precision.
    found = uniformity(np.array([[1.0, 0.0], [-1.0, 0.0]]), concentration=1e4)
    assert found.value == pytest.approx(-4e4)


def test_cosines_are_those_of_scikit_learn():
    features, labels = rows(80, 6), np.repeat([0, 1, 2, 3], [50, 28, 1, 1])
    cosines = cosine_similarity(features)
    np.fill_diagonal(cosines, np.nan)
    same = labels[:, None] == labels
    found = tolerance(features, labels, 5)  # single rows and an empty class: no pair
    assert found.value == pytest.approx(np.nanmean(cosines[same]), abs=1e-13)
    assert found.details["pairs"] == 50 * 49 // 2 + 28 * 27 // 2
    everything = np.nanmean(cosines)
    assert found.details["mean_cosine"] == pytest.approx(everything, abs=1e-13)
    assert mean_cosine(features).value == pytest.approx(everything, abs=1e-13)


@EACH
def test_rotation_factor_and_order_change_nothing(name):
    features = rows(60, 5)
    expected = METRICS[name](features).value
    turned = features @ ortho_group.rvs(5, random_state=0)
    assert METRICS[name](turned).value == pytest.approx(expected, rel=1e-10)
    lengths = np.random.default_rng(0).uniform(1, 9, (60, 1))
    assert METRICS[name](lengths * features).value == pytest.approx(expected, rel=1e-10)
    # Labels repeat every third row: so does this order.
    order = np.random.default_rng(1).permutation(20)
    order = (3 * order[:, None] + np.arange(3)).ravel()
    permuted = METRICS[name](features[order])
    assert permuted.value == pytest.approx(expected, rel=1e-10)
    assert permuted.interval == pytest.approx(METRICS[name](features).interval)


@EACH
@pytest.mark.parametrize("scale", [1e-300, 1e-20, 1e20, 1e300])
def test_extreme_scales_change_nothing(name, scale):
    features = rows(60, 5)
    found = METRICS[name](features * scale).value
    assert found == pytest.approx(METRICS[name](features).value, rel=1e-10)


@EACH
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int8, np.bool_, ">f8"])
def test_the_type_of_numbers_does_not_matter(name, dtype):
    features = np.round(rows(60, 5) * 3).astype(dtype)
    expected = METRICS[name](features.astype(float))
    found = METRICS[name](np.asfortranarray(features))
    assert found.value == pytest.approx(expected.value, rel=1e-12)
    assert found.details == expected.details


@EACH
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_tensors_do_as_well_as_arrays(name, dtype):
    tensor = torch.from_numpy(rows(60, 5)).to(dtype)
    expected, found = METRICS[name](tensor.double().numpy()), METRICS[name](tensor)
    assert found.value == pytest.approx(expected.value, rel=1e-12)
    assert found.interval == pytest.approx(expected.interval, rel=1e-9)


@EACH
def test_a_direction_that_nearly_all_share_costs_no_precision(name):
    # Wide features next to a point; their uniformity is -2 t times their variance.
    noise = rows(60, 5, mean=0)
    features = np.hstack([np.full((60, 1), 1e6), noise])
    found = METRICS[name](features).value
    spread = 2 * noise.var(axis=0, ddof=1).sum() / 1e12
    if name == "uniformity":
        assert found == pytest.approx(-2 * spread, rel=1e-3)
    elif name == "mean_cosine":
        assert 1 - found == pytest.approx(spread / 2, abs=1e-14)


@EACH
def test_blocks_of_memory_change_nothing(name, monkeypatch):
    features = rows(60, 5)
    expected = METRICS[name](features)
    monkeypatch.setattr(_numerics, "BLOCK_BYTES", 2**9)
    found = METRICS[name](features)
    assert found.value == pytest.approx(expected.value, rel=1e-12)
    assert found.interval == pytest.approx(expected.interval, rel=1e-10)


@EACH
def test_zero_rows_are_left_out_and_counted(name):
    features = rows(60, 5)
    features[::4] = 0
    kept = np.flatnonzero(features.any(axis=1))
    found = METRICS[name](features)
    assert found.details["zero_rows"] == 15
    alone = {
        "tolerance": lambda: tolerance(features[kept], LABELS[kept], 3),
    }.get(name, lambda: METRICS[name](features[kept]))()
    assert found.value == pytest.approx(alone.value, rel=1e-12)


@EACH
def test_nothing_to_pair_is_not_decided(name):
    with pytest.raises(Undecidable, match="two rows (have|with) a direction"):
        METRICS[name](rows(1, 5))
    zeros = np.zeros((30, 4))
    zeros[0] = 1
    with pytest.raises(Undecidable, match="two rows (have|with) a direction"):
        METRICS[name](zeros)


def test_classes_of_one_row_have_no_tolerance():
    with pytest.raises(Undecidable, match="^no class has two rows with a direction$"):
        tolerance(rows(5), np.arange(5), 5)


@EACH
def test_few_rows_have_no_interval(name):
    assert METRICS[name](rows(9, 3)).interval is None
    assert METRICS[name](rows(60, 3)).interval is not None


@EACH
def test_a_row_that_is_not_finite_is_named(name):
    features = rows(40, 3)
    features[[7, 9], 1] = np.inf
    with pytest.raises(InputError, match=r"2 rows contain NaN or infinity .*row 7"):
        METRICS[name](features)


def test_impossible_arguments_are_refused():
    with pytest.raises(UsageError, match="^uniformity: concentration\n  found: 0"):
        uniformity(rows(), concentration=0.0)
    with pytest.raises(InputError, match="^labels: one entry per row of features"):
        tolerance(rows(10), LABELS[:9], 3)


def test_many_rows_are_drawn_by_their_values(monkeypatch):
    monkeypatch.setattr(geometry, "UNIFORMITY_ROWS", 500)
    features = rows(3000, 6)
    everything = reference_uniformity(features)
    found = uniformity(features)
    assert found.details["rows"] == 500
    assert found.interval[0] < everything < found.interval[1]
    order = np.random.default_rng(0).permutation(3000)
    assert uniformity(features[order]).value == pytest.approx(found.value, rel=1e-10)
    assert uniformity(features, seed=1).value != found.value


def reference_uniformity(features):
    units = features / np.linalg.norm(features, axis=1, keepdims=True)
    return float(np.log(np.exp(-2 * pdist(units) ** 2).mean()))


@pytest.mark.slow
@EACH
def test_intervals_cover_the_value_of_many_rows(name):
    many = rows(9000, 6, seed=1)
    if name == "tolerance":
        truth = tolerance(many, np.arange(9000) % 3, 3).value
    else:
        truth = METRICS[name](many).value
    found = [METRICS[name](rows(99, 6, seed=seed)) for seed in range(100, 400)]
    covered = np.mean([one.interval[0] <= truth <= one.interval[1] for one in found])
    assert 0.9 <= covered <= 0.99
