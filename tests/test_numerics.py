"""The shared numerics hold at every scale and offset, on NumPy and on torch."""

import math
import re

import numpy as np
import pytest
import scipy.linalg
import scipy.spatial.distance
import torch
from hypothesis import given
from hypothesis import strategies as st

from references.spectra import weighted_power_law
from repscope import _numerics as numerics
from repscope._checking import InputError, Undecidable

GOLDEN_Z = [
    ([0.0, 0.0, 0.0, 1.0], math.sqrt(3)),
    ([1.0, 1.0, 1.0, 0.0], 1 / math.sqrt(3)),
    ([0.1, 0.1, 0.1, 0.1], 0.0),
    ([0.0, 0.0, 0.0, 0.0], 0.0),
    ([-1.0, 1.0, -1.0, 1.0], 1.0),
]
GOLDEN_Q = [
    ([0.0, 0.0, 0.0, 1.0], math.sqrt(3)),
    ([1.0, 1.0, 1.0, 0.0], 0.1924500897),
    ([0.1, 0.1, 0.1, 0.1], 0.0),
    ([0.0, 0.0, 0.0, 0.0], 0.0),
    ([-1.0, 1.0, -1.0, 1.0], 0.25),
]


def covariance_with(eigenvalues, seed=0):
    generator = np.random.default_rng(seed)
    d = len(eigenvalues)
    axes = np.linalg.qr(generator.standard_normal((d, d)))[0]
    return (axes * np.asarray(eigenvalues)) @ axes.T


# Eigenvalues that other tests know by heart: (name, eigenvalues in descending order).
SPECTRA = [
    ("distinct", np.arange(20.0, 0, -1)),
    ("repeated", np.array([3.0] * 5 + [1.0] * 10)),
    ("identity", np.ones(30)),
    ("rank 1", np.array([5.0] + [0.0] * 20)),
    ("rank 3", np.array([5.0, 4.0, 1e-3] + [0.0] * 40)),
    ("power law", np.arange(1.0, 41) ** -2),
    ("one dimension", np.array([2.5])),
]


@pytest.mark.parametrize(("name", "truth"), SPECTRA, ids=[s[0] for s in SPECTRA])
@pytest.mark.parametrize("scale", [1e-40, 1e-16, 1.0, 1e16, 1e40])
def test_eigenvalues_are_found_at_every_scale(name, truth, scale):
    eigen = numerics.safe_eigh(covariance_with(truth) * scale)
    # LAPACK promises errors of a few d eps times the largest eigenvalue.
    tolerance = 1e-14 * len(truth) * truth[0] * scale
    np.testing.assert_allclose(eigen.values, truth * scale, rtol=0, atol=tolerance)
    assert eigen.values.min() >= 0
    assert eigen.clipped_mass < 1e-14 * len(truth)
    assert eigen.vectors is None


@pytest.mark.parametrize(("name", "truth"), SPECTRA, ids=[s[0] for s in SPECTRA])
def test_eigenvectors_belong_to_their_eigenvalues(name, truth):
    matrix = covariance_with(truth)
    eigen = numerics.safe_eigh(matrix, vectors=True)
    d = len(truth)
    np.testing.assert_allclose(
        matrix @ eigen.vectors, eigen.vectors * eigen.values, atol=1e-13 * truth[0] * d
    )
    np.testing.assert_allclose(
        eigen.vectors.T @ eigen.vectors, np.eye(d), atol=1e-13 * d
    )


def test_eigenvalues_by_hand():
    eigen = numerics.safe_eigh(np.array([[2.0, 1.0], [1.0, 2.0]]), vectors=True)
    np.testing.assert_allclose(eigen.values, [3, 1])
    np.testing.assert_allclose(np.abs(eigen.vectors), math.sqrt(0.5))


def test_eigenvalues_equal_squared_singular_values():
    rows = np.random.default_rng(0).standard_normal((50, 12))
    eigen = numerics.safe_eigh(rows.T @ rows)
    singular = np.linalg.svd(rows, compute_uv=False)
    np.testing.assert_allclose(eigen.values, singular**2, rtol=1e-12)


def test_eigenvalues_take_torch_and_leave_their_input():
    matrix = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float32)
    before = matrix.clone()
    values = numerics.safe_eigh(matrix).values
    expected = scipy.linalg.eigvalsh(matrix.numpy().astype(float))[::-1]
    np.testing.assert_allclose(values, expected, rtol=1e-14)
    assert torch.equal(matrix, before)
    plain = np.array([[2.0, 0.5], [0.5, 1.0]])
    numerics.safe_eigh(plain)
    assert plain.tolist() == [[2.0, 0.5], [0.5, 1.0]]


def test_rounding_that_broke_the_symmetry_is_averaged_out():
    matrix = np.array([[2.0, 1.0 + 4e-9], [1.0 - 4e-9, 2.0]])
    np.testing.assert_allclose(numerics.safe_eigh(matrix).values, [3, 1], rtol=1e-14)


def test_negative_eigenvalues_become_zero_and_their_mass_is_told():
    eigen = numerics.safe_eigh(np.diag([2.0, -0.1, 1.0]))
    np.testing.assert_allclose(eigen.values, [2, 1, 0])
    assert eigen.clipped_mass == pytest.approx(0.1 / 2.9)


@pytest.mark.parametrize("matrix", [np.zeros((3, 3)), np.diag([-1.0, -2.0, 1.0])])
def test_a_matrix_without_variance_has_no_eigenvalues(matrix):
    eigen = numerics.safe_eigh(matrix, vectors=True)
    assert eigen.values.tolist() == [0, 0, 0]
    np.testing.assert_array_equal(eigen.vectors, np.eye(3))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [(0, 0), (0, 2), (2, 1)])
def test_nonfinite_entries_are_refused_before_lapack_sees_them(bad, place):
    matrix = np.eye(3)
    matrix[place] = bad
    message = "^an eigenvalue problem with NaN or infinite entries$"
    with pytest.raises(InputError, match=message):
        numerics.safe_eigh(matrix)


@pytest.mark.parametrize("vectors", [False, True])
def test_another_driver_takes_over_where_lapack_fails(vectors, monkeypatch):
    def fails(_):
        raise np.linalg.LinAlgError("Eigenvalues did not converge")

    monkeypatch.setattr(np.linalg, "eigvalsh", fails)
    monkeypatch.setattr(np.linalg, "eigh", fails)
    truth = np.array([4.0, 2.0, 1.0, 0.0])
    matrix = covariance_with(truth)
    eigen = numerics.safe_eigh(matrix, vectors=vectors)
    # The ridge adds 1e-12 of the mean diagonal.
    np.testing.assert_allclose(eigen.values, truth, atol=1e-11)
    assert (eigen.vectors is not None) == vectors
    if vectors:
        rebuilt = (eigen.vectors * eigen.values) @ eigen.vectors.T
        np.testing.assert_allclose(rebuilt, matrix, atol=1e-11)


def test_more_dimensions_than_lapack_can_count_are_refused_before_copying():
    # A broadcast zero takes no memory; a copy of it would take 8.6 GB.
    matrix = np.broadcast_to(np.float64(0), (32_767, 32_767))
    message = re.escape(
        "a 32,767 x 32,767 eigenvalue problem\n"
        "  expected: at most 32,766 dimensions\n"
        "  fix: project the features to fewer dimensions first"
    )
    with pytest.raises(InputError, match=f"^{message}$"):
        numerics.safe_eigh(matrix)


@pytest.mark.parametrize("make", [np.asarray, torch.tensor])
def test_product_sums_over_rows(make):
    rows = [[1.0, 2.0, 0.5], [-3.0, 0.25, 4.0]]
    product = np.asarray(numerics.symmetric_product(make(rows)))
    for j in range(3):
        for k in range(3):
            assert product[j, k] == sum(row[j] * row[k] for row in rows)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 1.5, 4.0])
@pytest.mark.parametrize("ranks", [(1, 100), (11, 50), (3, 12)])
def test_exact_power_law_is_returned(alpha, ranks):
    values = 7.5 * np.arange(1.0, 101) ** -alpha
    fit = numerics.fit_power_law(values, *ranks)
    assert fit.alpha == pytest.approx(alpha, abs=1e-10)
    assert fit.log_intercept == pytest.approx(math.log(7.5), abs=1e-9)
    assert fit.r_squared == pytest.approx(1, abs=1e-12)
    assert fit.r_squared_unweighted == pytest.approx(1, abs=1e-12)
    assert fit.ranks == ranks


@given(st.integers(0, 1000), st.integers(1, 30), st.integers(2, 40))
def test_fit_equals_the_normal_equations_and_polyfit(seed, first, count):
    values = np.sort(np.random.default_rng(seed).exponential(size=80))[::-1]
    last = first + count - 1
    fit = numerics.fit_power_law(values, first, last)
    alpha, intercept, r_squared = weighted_power_law(values, first, last)
    # The normal equations lose digits to conditioning, of which the fit loses none.
    assert fit.alpha == pytest.approx(alpha, rel=1e-7, abs=1e-9)
    assert fit.log_intercept == pytest.approx(intercept, rel=1e-7, abs=1e-7)
    assert fit.r_squared == pytest.approx(r_squared, rel=1e-7, abs=1e-9)
    ranks = np.arange(first, last + 1)
    # polyfit weighs residuals, so that 1/k enters by its root.
    y = np.log(values[first - 1 : last])
    slope, _ = np.polyfit(np.log(ranks), y, 1, w=ranks**-0.5)
    assert fit.alpha == pytest.approx(-slope, rel=1e-7, abs=1e-9)


def test_unweighted_share_of_variance_by_hand():
    # log values 2, 1, 1 at ranks 1, 2, 4; the weighted line is not the equal one.
    values = np.exp([2.0, 1.0, 0.9, 1.0])
    fit = numerics.fit_power_law(values, 1, 4)
    line = fit.log_intercept - fit.alpha * np.log([1, 2, 3, 4])
    y = np.log(values)
    expected = 1 - ((y - line) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    assert fit.r_squared_unweighted == pytest.approx(expected)
    assert fit.r_squared_unweighted < fit.r_squared


@pytest.mark.parametrize(
    ("values", "ranks", "reason"),
    [
        ([3.0, 2.0, 1.0], (2, 2), "ranks 2 to 2 do not span two eigenvalues"),
        ([3.0, 2.0, 1.0], (2, 4), "ranks 2 to 4 do not span two eigenvalues"),
        ([3.0, 2.0, 1.0], (0, 2), "ranks 0 to 2 do not span two eigenvalues"),
        ([3.0, 2.0, 0.0], (1, 3), "an eigenvalue within ranks 1 to 3 is zero"),
    ],
)
def test_ranks_without_a_fit_are_undecidable(values, ranks, reason):
    with pytest.raises(Undecidable, match=f"^{reason}$"):
        numerics.fit_power_law(np.array(values), *ranks)


def test_flat_spectrum_has_slope_zero_and_explains_nothing():
    fit = numerics.fit_power_law(np.ones(20), 1, 20)
    assert fit.alpha == 0
    assert fit.r_squared == fit.r_squared_unweighted == 0


@pytest.mark.parametrize("make", [np.array, torch.tensor])
@pytest.mark.parametrize(("row", "expected"), GOLDEN_Z)
def test_z_score_of_the_maximum_by_hand(make, row, expected):
    score = numerics.z_score_of_maximum(make([row]))
    assert float(score[0]) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("make", [np.array, torch.tensor])
@pytest.mark.parametrize(("row", "expected"), GOLDEN_Q)
def test_q_score_by_hand(make, row, expected):
    assert float(numerics.q_score(make([row]))[0]) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("d", [2, 5, 64])
def test_z_score_reaches_both_bounds(d):
    high, low = np.eye(1, d), 1 - np.eye(1, d)
    scores = numerics.z_score_of_maximum(np.concatenate([high, low]))
    bound = math.sqrt(d - 1)
    np.testing.assert_allclose(scores, [bound, 1 / bound], rtol=1e-12)


@given(st.integers(0, 10**6), st.floats(1e-6, 1e6), st.floats(-100, 100))
def test_scores_follow_their_scaling_laws(seed, factor, offset):
    rows = np.random.default_rng(seed).standard_normal((4, 9))
    z, q = numerics.z_score_of_maximum(rows), numerics.q_score(rows)
    moved = numerics.z_score_of_maximum(factor * (rows + offset))
    # An offset of 100 deviations costs two of sixteen digits.
    np.testing.assert_allclose(moved, z, rtol=1e-12)
    np.testing.assert_allclose(numerics.q_score(factor * rows), q / factor, rtol=1e-12)


@pytest.mark.parametrize(
    "formula", [numerics.z_score_of_maximum, numerics.q_score, numerics.unit_rows]
)
def test_row_formulas_have_finite_gradients_on_degenerate_rows(formula):
    rows = [[0.0, 0.0, 0.0], [0.1, 0.1, 0.1], [1.0, 2.0, 3.0]]
    tensor = torch.tensor(rows, dtype=torch.float64, requires_grad=True)
    formula(tensor).sum().backward()
    assert torch.isfinite(tensor.grad).all()
    assert (tensor.grad[2] != 0).any()


def test_gradient_of_unit_rows_equals_finite_differences():
    rows = torch.tensor([[3.0, -4.0, 1.0], [2.0, 2.0, 0.5]], dtype=torch.float64)
    rows.requires_grad_()
    assert torch.autograd.gradcheck(numerics.unit_rows, (rows,))


@pytest.mark.parametrize("scale", [1e-200, 1e-20, 1.0, 1e20, 1e200])
def test_unit_rows_have_length_one_at_every_scale(scale):
    rows = np.array([[3.0, -4.0], [0.0, 0.0], [0.0, -2.0]]) * scale
    expected = [[0.6, -0.8], [0, 0], [0, -1]]
    np.testing.assert_allclose(numerics.unit_rows(rows), expected, rtol=1e-15)


@given(st.integers(0, 300), st.integers(1, 50), st.integers(1, 4000))
def test_row_blocks_cover_every_row_once_within_memory(n, columns, limit):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numerics, "BLOCK_BYTES", limit)
        blocks = list(numerics.row_blocks(n, columns))
    covered = [row for block in blocks for row in range(n)[block]]
    assert covered == list(range(n))
    largest = max((len(range(n)[block]) for block in blocks), default=0)
    assert largest == 1 or largest * columns * 8 <= limit or n == 0


@pytest.mark.parametrize("offset", [0.0, 1e2, 1e4, 1e6])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_distances_survive_a_large_common_mean(offset, dtype):
    generator = np.random.default_rng(0)
    rows = (generator.standard_normal((60, 16)) + offset).astype(dtype)
    centres = rows[:7]
    distances = numerics.squared_distances(rows, centres)
    truth = scipy.spatial.distance.cdist(
        rows.astype(float), centres.astype(float), "sqeuclidean"
    )
    # Subtraction is exact to eps times the offset in each coordinate.
    np.testing.assert_allclose(distances, truth, rtol=1e-9, atol=1e-9)
    assert distances.min() >= 0
    assert np.diag(distances).max() < 1e-12


def test_class_sums_equal_a_loop_and_empty_classes_sum_to_zero():
    generator = np.random.default_rng(0)
    values, labels = generator.standard_normal((40, 3)), generator.integers(0, 4, 40)
    labels[labels == 2] = 5
    sums = numerics.class_sums(values, labels, 7)
    for one in range(7):
        expected = sum((v for v, k in zip(values, labels, strict=True) if k == one), 0)
        np.testing.assert_allclose(sums[one], expected, atol=1e-13)
