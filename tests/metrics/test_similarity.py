"""Linear CKA: its two routes, its bias, invariances and limits; layer by layer."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group

from references import geometry as reference
from repscope import _numerics
from repscope._checking import InputError, Undecidable
from repscope.metrics.similarity import cka_debiased, cka_linear, cka_matrix

BOTH = pytest.mark.parametrize("cka", [cka_linear, cka_debiased])
# n above and below d + e: cross products, and Gram matrices.
SHAPES = pytest.mark.parametrize(("n", "d", "e"), [(60, 5, 7), (15, 12, 9)])


def pair(n, d, e, seed=0):
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((n, d))
    return x, x @ generator.standard_normal((d, e)) + generator.standard_normal((n, e))


@given(st.integers(0, 10**6), st.sampled_from([(9, 2, 3), (9, 3, 2), (7, 5, 4)]))
@settings(max_examples=30)
def test_values_equal_the_naive_transcriptions(seed, shape):
    x, y = pair(*shape, seed)
    naive = reference.linear_cka(x.tolist(), y.tolist())
    assert cka_linear(x, y).value == pytest.approx(naive, rel=1e-10)
    naive = reference.debiased_cka(x.tolist(), y.tolist())
    assert cka_debiased(x, y).value == pytest.approx(naive, rel=1e-8, abs=1e-10)


@SHAPES
def test_cka_is_the_weighted_overlap_of_principal_axes(n, d, e):
    # Kornblith et al. 2019, Eq. 14, from singular vectors.
    x, y = pair(n, d, e)
    u, a, _ = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    v, b, _ = np.linalg.svd(y - y.mean(axis=0), full_matrices=False)
    overlap = (u.T @ v) ** 2
    expected = (a**2 @ overlap @ b**2) / math.sqrt((a**4).sum() * (b**4).sum())
    assert cka_linear(x, y).value == pytest.approx(expected, rel=1e-12)


def test_two_columns_have_their_squared_correlation():
    generator = np.random.default_rng(0)
    x = generator.standard_normal((50, 1))
    y = x + generator.standard_normal((50, 1))
    expected = np.corrcoef(x[:, 0], y[:, 0])[0, 1] ** 2
    assert cka_linear(x, y).value == pytest.approx(expected, rel=1e-12)


@BOTH
@SHAPES
def test_rotation_shift_factor_and_order_change_nothing(cka, n, d, e):
    x, y = pair(n, d, e)
    expected = cka(x, y).value
    turned = 3e5 + 0.01 * x @ ortho_group.rvs(d, random_state=0)
    assert cka(turned, y).value == pytest.approx(expected, rel=1e-7)
    order = np.random.default_rng(1).permutation(n)
    assert cka(x[order], y[order]).value == pytest.approx(expected, rel=1e-10)
    assert cka(y, x).value == pytest.approx(expected, rel=1e-10)
    assert cka(x, -2 * x @ ortho_group.rvs(d, random_state=1)).value == pytest.approx(1)


def test_linear_maps_that_are_no_rotations_do_change_it():
    x, _ = pair(200, 4, 4)
    stretched = x * np.array([100.0, 1, 1, 1])
    assert cka_linear(x, stretched).value == pytest.approx(0.5, abs=0.1)  # 1 / sqrt(4)


@SHAPES
def test_every_row_twice_leaves_the_plain_one_alone(n, d, e):
    x, y = pair(n, d, e)
    twice = cka_linear(np.concatenate([x, x]), np.concatenate([y, y]))
    assert twice.value == pytest.approx(cka_linear(x, y).value, rel=1e-10)


@pytest.mark.parametrize(("n", "d"), [(100, 100), (300, 50)])
def test_only_the_debiased_one_sees_that_features_are_unrelated(n, d):
    generator = np.random.default_rng(0)
    x, y = generator.standard_normal((2, n, d))
    assert cka_linear(x, y).value > 0.9 * d / (n + d)  # about 1 / (1 + n / d)
    found = cka_debiased(x, y)
    assert abs(found.value) < 0.03
    assert found.interval[0] < 0 < found.interval[1]


@BOTH
@SHAPES
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int8, np.bool_, ">f8"])
def test_the_type_of_numbers_does_not_matter(cka, n, d, e, dtype):
    x, y = (np.round(one * 2) > 0 for one in pair(n, d, e))
    expected = cka(x.astype(float), y.astype(float)).value
    found = cka(np.asfortranarray(x.astype(dtype)), y.astype(dtype)).value
    assert found == pytest.approx(expected, rel=1e-12)


@BOTH
@SHAPES
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_tensors_do_as_well_as_arrays(cka, n, d, e, dtype):
    x, y = (torch.from_numpy(one).to(dtype) for one in pair(n, d, e))
    expected = cka(x.double().numpy(), y.double().numpy())
    found = cka(x, y)
    assert found.value == pytest.approx(expected.value, rel=1e-10)
    assert found.interval == pytest.approx(expected.interval, rel=1e-6)


@BOTH
@SHAPES
@pytest.mark.parametrize("scale", [1e-300, 1e-20, 1e20, 1e300])
def test_extreme_scales_change_nothing(cka, n, d, e, scale):
    x, y = pair(n, d, e)
    found = cka(scale * x, y / scale).value
    assert found == pytest.approx(cka(x, y).value, rel=1e-8)


def test_a_large_common_offset_costs_no_precision():
    x, y = pair(500, 8, 8)
    found = cka_linear(x + 1e6, y - 1e6).value
    assert found == pytest.approx(cka_linear(x, y).value, rel=1e-8)


@BOTH
@SHAPES
def test_blocks_of_memory_change_nothing(cka, n, d, e, monkeypatch):
    x, y = pair(n, d, e)
    expected = cka(x, y)
    monkeypatch.setattr(_numerics, "BLOCK_BYTES", 2**11)
    found = cka(x, y)
    assert found.value == pytest.approx(expected.value, rel=1e-10)
    assert found.interval == pytest.approx(expected.interval, rel=1e-8)


@BOTH
@SHAPES
def test_constant_features_are_not_decided(cka, n, d, e):
    x, y = pair(n, d, e)
    with pytest.raises(Undecidable, match=r"^constant features have no similarity$"):
        cka(np.full_like(x, 0.1), y)


def test_few_rows():
    x, y = pair(3, 4, 4)
    assert cka_linear(x[:2], y[:2]).value == pytest.approx(1)  # whatever they hold
    assert cka_linear(x, y).interval is None
    with pytest.raises(Undecidable, match=r"^n = 3; at least 4 rows are needed$"):
        cka_debiased(x, y)
    with pytest.raises(Undecidable, match="constant"):
        cka_linear(x[:1], y[:1])


@pytest.mark.parametrize("n", [4, 12])
def test_rows_that_are_equally_far_apart_have_no_debiased_similarity(n):
    x, y = pair(n, 3, 3)
    assert 0 < cka_linear(np.eye(n), y).value < 1
    with pytest.raises(Undecidable, match="^all rows are equally far from each other$"):
        cka_debiased(3 * np.eye(n), y)


@BOTH
def test_other_rows_are_refused(cka):
    x, y = pair(20, 3, 3)
    with pytest.raises(InputError, match="^other: one entry per row of features"):
        cka(x, y[:19])
    y[4, 1] = np.nan
    with pytest.raises(InputError, match=r"1 row contains NaN or infinity .*row 4"):
        cka(x, y)


def test_a_matrix_of_layers_holds_every_pair():
    x, y = pair(30, 4, 6)
    layers = [x, y, np.hstack([x, y])]
    found = cka_matrix(layers)
    assert found.shape == (3, 3)
    assert (np.diag(found) == 1).all()
    assert (found == found.T).all()
    assert found[0, 1] == pytest.approx(cka_linear(x, y).value)
    assert found[2, 1] == pytest.approx(cka_linear(layers[2], y).value)


@pytest.mark.slow
def test_intervals_cover_the_value_of_many_rows():
    x, y = pair(200_000, 6, 6)
    truth = cka_linear(x, y).value
    found = [
        cka_linear(x[start : start + 500], y[start : start + 500])
        for start in range(0, 100_000, 500)
    ]
    covered = np.mean([one.interval[0] <= truth <= one.interval[1] for one in found])
    assert 0.9 <= covered <= 0.99
