"""The map shows the two widest directions, and says how much it leaves out."""

import numpy as np
import pytest
import scipy.spatial.distance
from sklearn.decomposition import PCA

from repscope.explanation import projections
from repscope.representations.moments import Moments
from repscope.theory.planted import with_exact_spectrum


def moments_of(rows):
    return Moments(rows.shape[1]).update(rows)


def mapped(rows):
    return projections.principal_map(rows, moments_of(rows))


@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
def test_map_equals_that_of_scikit_learn_up_to_signs(offset, scale):
    plain = with_exact_spectrum(300, np.arange(1.0, 9) ** -2) + offset
    library = PCA(2, svd_solver="full").fit(plain)
    expected = library.transform(plain)
    found = mapped(plain * scale)
    assert found.positions.shape == (300, 2)
    # Storage rounds to eps times the offset.
    tolerance = 1e-9 * max(1.0, offset / 1e2)
    for k in range(2):
        sign = np.sign(found.positions[:, k] @ expected[:, k])
        np.testing.assert_allclose(
            sign * found.positions[:, k] / scale, expected[:, k], atol=tolerance
        )
    share = library.explained_variance_ratio_.sum()
    assert found.variance_share == pytest.approx(share, rel=1e-9)


def test_share_of_variance_is_that_of_the_planted_spectrum():
    rows = with_exact_spectrum(100, np.array([5.0, 3.0, 1.0, 1.0]))
    assert mapped(rows).variance_share == pytest.approx(0.8)


def test_signs_do_not_depend_on_the_solver():
    rows = with_exact_spectrum(200, np.array([4.0, 2.0, 1.0]))
    axes, _ = projections.principal_axes(moments_of(rows))
    greatest = axes[np.abs(axes).argmax(axis=0), [0, 1]]
    assert (greatest > 0).all()
    np.testing.assert_allclose(axes.T @ axes, np.eye(2), atol=1e-14)


@pytest.mark.parametrize("dtype", ["float16", "float32", "uint8", "bool"])
def test_rows_of_any_type_are_placed(dtype):
    rows = np.random.default_rng(0).integers(0, 2, (50, 4)).astype(dtype)
    found = projections.principal_map(rows, Moments(4).update(rows))
    expected = mapped(rows.astype(np.float64))
    np.testing.assert_array_equal(found.positions, expected.positions)


def test_rows_are_placed_on_axes_taken_from_others():
    rows = with_exact_spectrum(400, np.array([9.0, 4.0, 1.0])) + 2.0
    moments = moments_of(rows)
    some = projections.principal_map(rows[:50], moments).positions
    whole = projections.principal_map(rows, moments).positions
    np.testing.assert_allclose(some, whole[:50], atol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3, 30])
def test_one_dimension_is_a_line(n):
    rows = np.random.default_rng(0).standard_normal((n, 1))
    found = mapped(rows)
    assert found.positions.shape == (n, 2)
    assert not found.positions[:, 1].any()
    np.testing.assert_allclose(
        np.abs(found.positions[:, 0]), abs(rows - rows.mean())[:, 0]
    )
    assert found.variance_share == 1
    assert found.neighbour_agreement == 1


def test_two_dimensions_are_all_there_is():
    rows = np.random.default_rng(0).standard_normal((100, 2)) * [3, 1]
    found = mapped(rows)
    assert found.variance_share == pytest.approx(1)
    assert found.neighbour_agreement == 1
    np.testing.assert_allclose(
        scipy.spatial.distance.pdist(found.positions),
        scipy.spatial.distance.pdist(rows),
        rtol=1e-9,
    )


@pytest.mark.parametrize("d", [1, 2, 5])
@pytest.mark.parametrize("n", [1, 2, 40])
def test_constant_features_lie_on_one_point(n, d):
    found = mapped(np.full((n, d), 0.1))
    assert found.positions.shape == (n, 2)
    assert not found.positions.any()
    assert found.variance_share == (1.0 if d == 1 else 0.0)


def naive_agreement(features, positions, k):
    near = []
    for rows in (features, positions):
        distances = scipy.spatial.distance.cdist(rows, rows)
        np.fill_diagonal(distances, np.inf)
        near.append([set(np.argsort(row)[:k]) for row in distances])
    return np.mean([len(a & b) / k for a, b in zip(*near, strict=True)])


@pytest.mark.parametrize(("n", "k"), [(2, 1), (3, 2), (8, 7), (60, 10)])
def test_agreement_counts_shared_neighbours(n, k):
    rows = np.random.default_rng(0).standard_normal((n, 6)) + 1e4
    found = projections.neighbour_agreement(rows, rows[:, :2])
    assert found == pytest.approx(naive_agreement(rows, rows[:, :2], k))


def test_agreement_of_an_unrelated_map_is_chance():
    generator = np.random.default_rng(0)
    rows, positions = generator.standard_normal((500, 8)), generator.random((500, 2))
    found = projections.neighbour_agreement(rows, positions)
    assert found == pytest.approx(10 / 499, abs=0.01)


def test_a_single_row_has_no_neighbours_to_lose():
    assert projections.neighbour_agreement(np.ones((1, 3)), np.zeros((1, 2))) == 1


def test_agreement_of_many_rows_is_taken_on_a_thousand():
    rows = with_exact_spectrum(3000, np.array([100.0, 50.0, 1e-6]))
    assert mapped(rows).neighbour_agreement > 0.99
