"""The shared numerics hold at every scale and offset, on NumPy and on torch."""

import decimal
import math
from decimal import Decimal

import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from references.spectra import weighted_power_law, weighted_slope_error
from repscope import _numerics as numerics
from repscope._checking import Undecidable

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


@given(st.integers(0, 1000), st.integers(1, 30), st.integers(3, 40))
def test_fit_of_equal_weights_equals_scipy(seed, first, count):
    values = np.sort(np.random.default_rng(seed).exponential(size=80))[::-1]
    last = first + count - 1
    fit = numerics.fit_power_law(values, first, last, weights="equal")
    ranks = np.arange(first, last + 1)
    line = scipy.stats.linregress(np.log(ranks), np.log(values[first - 1 : last]))
    assert fit.alpha == pytest.approx(-line.slope, rel=1e-9)
    assert fit.log_intercept == pytest.approx(line.intercept, rel=1e-9, abs=1e-9)
    assert fit.standard_error == pytest.approx(line.stderr, rel=1e-6)
    assert fit.r_squared == pytest.approx(line.rvalue**2, rel=1e-9, abs=1e-12)
    assert fit.r_squared_unweighted == pytest.approx(fit.r_squared, abs=1e-12)


@pytest.mark.parametrize("ranks", [(11, 50), (3, 10)])
def test_standard_error_equals_that_of_weighted_residuals(ranks):
    values = np.sort(np.random.default_rng(0).exponential(size=80))[::-1]
    fit = numerics.fit_power_law(values, *ranks)
    expected = weighted_slope_error(values.tolist(), *ranks)
    assert fit.standard_error == pytest.approx(expected, rel=1e-9)
    # polyfit's covariance, of residuals weighted by the root of 1/k.
    k = np.arange(ranks[0], ranks[1] + 1)
    y = np.log(values[k - 1])
    covariance = np.polyfit(np.log(k), y, 1, w=k**-0.5, cov=True)[1]
    assert fit.standard_error == pytest.approx(covariance[0, 0] ** 0.5, rel=1e-9)


def test_two_ranks_leave_no_residual():
    fit = numerics.fit_power_law(np.array([4.0, 1.0]), 1, 2)
    assert fit.alpha == pytest.approx(2)
    assert fit.standard_error == pytest.approx(0, abs=1e-15)


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


def sinkhorn_of_exponentials(scores, epsilon, iterations):
    """Caron et al. 2020 as their code has it: exponentials of a (k, n) matrix first."""
    q = np.exp(scores / epsilon).T
    q /= q.sum()
    for _ in range(iterations):
        q /= q.sum(axis=1, keepdims=True) * len(q)
        q /= q.sum(axis=0, keepdims=True) * q.shape[1]
    return q.T * q.shape[1]


@pytest.mark.parametrize("make", [np.asarray, torch.tensor])
@pytest.mark.parametrize("iterations", [1, 3, 10])
@pytest.mark.parametrize("shape", [(6, 4), (3, 7)])
def test_assignments_are_those_of_exponentials(make, iterations, shape):
    scores = np.random.default_rng(0).uniform(-1, 1, shape)
    expected = sinkhorn_of_exponentials(scores, 0.05, iterations)
    found = numerics.sinkhorn(make(scores), epsilon=0.05, iterations=iterations)
    assert isinstance(found, type(make(scores)))
    np.testing.assert_allclose(
        np.asarray(found), np.log(expected), rtol=1e-10, atol=1e-12
    )


def test_assignments_by_hand():
    # exp: (2, 1; 1, 1). Columns to 1: (2/3, 1/2; 1/3, 1/2). Rows to 1: 4:3 and 2:3.
    scores = np.log(np.array([[2.0, 1.0], [1.0, 1.0]]))
    found = numerics.sinkhorn(scores, epsilon=1.0, iterations=1)
    np.testing.assert_allclose(np.exp(found), [[4 / 7, 3 / 7], [2 / 5, 3 / 5]])


def test_assignments_become_even_and_keep_their_odds():
    scores = np.random.default_rng(0).uniform(-1, 1, (12, 4))
    odds = numerics.sinkhorn(scores, epsilon=0.5, iterations=100)
    np.testing.assert_allclose(np.exp(odds).sum(axis=1), 1)
    np.testing.assert_allclose(np.exp(odds).sum(axis=0), 3)
    # Scaling rows and columns leaves (a d) / (b c) of each 2 x 2 as it was.
    given = scores / 0.5
    for table in (odds, given):
        table -= table[:, :1]
        table -= table[:1]
    np.testing.assert_allclose(odds, given, atol=1e-9)


def sinkhorn_of_decimals(scores, iterations):
    """Numbers of 50 digits, whose exponents do not end, need no care."""
    with decimal.localcontext(prec=50):
        q = [[Decimal(one).exp() for one in row] for row in scores]
        for _ in range(iterations):
            sums = [sum(column) for column in zip(*q, strict=True)]
            q = [[a / b for a, b in zip(row, sums, strict=True)] for row in q]
            q = [[one / sum(row) for one in row] for row in q]
        return [[float(one.ln()) for one in row] for row in q]


# No exponential of these, in any row or column, is a float32; in the last, all rows
# want the first column, and the last row wants it least.
FAR = {
    "large": [[3000, 0, 0], [3000, 2900, 0], [0, -3000, 1]],
    "spread": [[0, 400, -400], [800, -800, 0], [0, 0, -900], [-500, 0, 700]],
    "crowded": [[900, 600, 0], [900, 500, 100], [900, 400, 200], [300, 0, 0]],
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("iterations", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("scores", FAR.values(), ids=FAR)
def test_assignments_of_scores_far_apart_are_exact(scores, iterations, dtype):
    expected = np.array(sinkhorn_of_decimals(scores, iterations))
    given = np.array(scores, dtype)
    found = numerics.sinkhorn(given, epsilon=1.0, iterations=iterations)
    assert found.dtype == dtype
    # Scores near 2,000 have a rounding of 1e-4 in float32.
    tolerance = 2e-3 if dtype == np.float32 else 1e-11
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=tolerance)


def test_a_common_shift_of_scores_changes_no_assignment():
    scores = np.random.default_rng(0).uniform(-1, 1, (6, 4))
    expected = numerics.sinkhorn(scores, epsilon=0.05, iterations=3)
    found = numerics.sinkhorn(scores + 1e3, epsilon=0.05, iterations=3)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8)
