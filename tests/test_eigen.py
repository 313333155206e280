"""Eigenvalues are right at every scale, one reduction gives two spectra."""

import math
import re

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st

from repscope import _eigen as eigen_of
from repscope._checking import InputError


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
    eigen = eigen_of.safe_eigh(covariance_with(truth) * scale)
    # LAPACK promises errors of a few d eps times the largest eigenvalue.
    tolerance = 1e-14 * len(truth) * truth[0] * scale
    np.testing.assert_allclose(eigen.values, truth * scale, rtol=0, atol=tolerance)
    assert eigen.values.min() >= 0
    assert eigen.clipped_mass < 1e-14 * len(truth)
    assert eigen.vectors is None


@pytest.mark.parametrize(("name", "truth"), SPECTRA, ids=[s[0] for s in SPECTRA])
def test_eigenvectors_belong_to_their_eigenvalues(name, truth):
    matrix = covariance_with(truth)
    eigen = eigen_of.safe_eigh(matrix, vectors=True)
    d = len(truth)
    np.testing.assert_allclose(
        matrix @ eigen.vectors, eigen.vectors * eigen.values, atol=1e-13 * truth[0] * d
    )
    np.testing.assert_allclose(
        eigen.vectors.T @ eigen.vectors, np.eye(d), atol=1e-13 * d
    )


def test_eigenvalues_by_hand():
    eigen = eigen_of.safe_eigh(np.array([[2.0, 1.0], [1.0, 2.0]]), vectors=True)
    np.testing.assert_allclose(eigen.values, [3, 1])
    np.testing.assert_allclose(np.abs(eigen.vectors), math.sqrt(0.5))


def test_eigenvalues_equal_squared_singular_values():
    rows = np.random.default_rng(0).standard_normal((50, 12))
    eigen = eigen_of.safe_eigh(rows.T @ rows)
    singular = np.linalg.svd(rows, compute_uv=False)
    np.testing.assert_allclose(eigen.values, singular**2, rtol=1e-12)


def test_eigenvalues_take_torch_and_leave_their_input():
    matrix = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float32)
    before = matrix.clone()
    values = eigen_of.safe_eigh(matrix).values
    expected = scipy.linalg.eigvalsh(matrix.numpy().astype(float))[::-1]
    np.testing.assert_allclose(values, expected, rtol=1e-14)
    assert torch.equal(matrix, before)
    plain = np.array([[2.0, 0.5], [0.5, 1.0]])
    eigen_of.safe_eigh(plain)
    assert plain.tolist() == [[2.0, 0.5], [0.5, 1.0]]


def test_rounding_that_broke_the_symmetry_is_averaged_out():
    matrix = np.array([[2.0, 1.0 + 4e-9], [1.0 - 4e-9, 2.0]])
    np.testing.assert_allclose(eigen_of.safe_eigh(matrix).values, [3, 1], rtol=1e-14)


def test_negative_eigenvalues_become_zero_and_their_mass_is_told():
    eigen = eigen_of.safe_eigh(np.diag([2.0, -0.1, 1.0]))
    np.testing.assert_allclose(eigen.values, [2, 1, 0])
    assert eigen.clipped_mass == pytest.approx(0.1 / 2.9)


@pytest.mark.parametrize("matrix", [np.zeros((3, 3)), np.diag([-1.0, -2.0, 1.0])])
def test_a_matrix_without_variance_has_no_eigenvalues(matrix):
    eigen = eigen_of.safe_eigh(matrix, vectors=True)
    assert eigen.values.tolist() == [0, 0, 0]
    np.testing.assert_array_equal(eigen.vectors, np.eye(3))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [(0, 0), (0, 2), (2, 1)])
def test_nonfinite_entries_are_refused_before_lapack_sees_them(bad, place):
    matrix = np.eye(3)
    matrix[place] = bad
    message = "^an eigenvalue problem with NaN or infinite entries$"
    with pytest.raises(InputError, match=message):
        eigen_of.safe_eigh(matrix)


@pytest.mark.parametrize("vectors", [False, True])
def test_another_driver_takes_over_where_lapack_fails(vectors, monkeypatch):
    def fails(_):
        raise np.linalg.LinAlgError("Eigenvalues did not converge")

    monkeypatch.setattr(np.linalg, "eigvalsh", fails)
    monkeypatch.setattr(np.linalg, "eigh", fails)
    truth = np.array([4.0, 2.0, 1.0, 0.0])
    matrix = covariance_with(truth)
    eigen = eigen_of.safe_eigh(matrix, vectors=vectors)
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
        eigen_of.safe_eigh(matrix)


def pair_of(rows):
    mean = rows.mean(axis=0)
    centred = rows - mean
    return eigen_of.eigenvalue_pair(centred.T @ centred, mean * np.sqrt(len(rows)))


def squared_singular_values(rows):
    values = np.zeros(rows.shape[1])
    found = np.linalg.svd(rows, compute_uv=False)
    values[: len(found)] = found**2
    return values


@given(
    n=st.integers(1, 80),
    d=st.integers(1, 40),
    offset=st.sampled_from([0.0, 1e-3, 1.0, 1e3, 1e6]),
    decay=st.sampled_from([0.0, 1.0, 3.0]),
    seed=st.integers(0, 10**6),
)
def test_one_reduction_gives_the_centred_and_the_uncentred_spectrum(
    n, d, offset, decay, seed
):
    generator = np.random.default_rng(seed)
    rows = generator.standard_normal((n, d)) * np.arange(1.0, d + 1) ** -decay
    rows += offset * generator.standard_normal(d)
    centred, uncentred = pair_of(rows)
    for found, truth in (
        (centred, squared_singular_values(rows - rows.mean(axis=0))),
        (uncentred, squared_singular_values(rows)),
    ):
        # The error of any decomposition of a d x d product of n rows.
        tolerance = 20 * (n + d) * np.finfo(float).eps * truth[0] + 1e-300
        np.testing.assert_allclose(found.values, truth, rtol=0, atol=tolerance)
        assert found.values.min() >= 0
        assert (np.diff(found.values) <= 0).all()
        assert found.clipped_mass < 1e-13 * d


def test_small_singular_values_survive_a_mean_of_a_million_deviations():
    # Truth: the mean moves to its own direction and leaves the others as they are.
    eigenvalues = np.arange(1.0, 31) ** -2
    vector = np.full(30, 1e6)
    _, uncentred = eigen_of.eigenvalue_pair(np.diag(eigenvalues), vector)
    assert uncentred.values[0] == pytest.approx(3e13, rel=1e-12)
    across = np.linalg.qr(np.column_stack([vector, np.eye(30)[:, 1:]]))[0][:, 1:]
    expected = np.linalg.eigvalsh((across.T * eigenvalues) @ across)[::-1]
    np.testing.assert_allclose(uncentred.values[1:], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("scale", [1e-250, 1e-16, 1.0, 1e16, 1e250])
def test_the_pair_is_found_at_every_scale(scale):
    matrix = covariance_with(np.arange(1.0, 13) ** -1.0)
    vector = np.linspace(-1, 2, 12)
    one, other = eigen_of.eigenvalue_pair(matrix * scale, vector * math.sqrt(scale))
    term = matrix + np.outer(vector, vector)
    expected = scipy.linalg.eigvalsh(matrix)[::-1] * scale
    np.testing.assert_allclose(one.values, expected, rtol=1e-12)
    expected = scipy.linalg.eigvalsh(term)[::-1] * scale
    np.testing.assert_allclose(other.values, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("matrix", "vector", "one", "other"),
    [
        (np.zeros((2, 2)), np.zeros(2), [0, 0], [0, 0]),
        (np.zeros((2, 2)), np.array([3.0, 4.0]), [0, 0], [25, 0]),
        (np.zeros((2, 2)), np.array([3e-170, 0]), [0, 0], [0, 0]),
        (np.diag([1.0, 4.0]), np.zeros(2), [4, 1], [4, 1]),
        (np.diag([1.0, 4.0]), np.array([2.0, 0.0]), [4, 1], [5, 4]),
        (np.diag([1.0, 4.0]), np.array([0.0, -1.0]), [4, 1], [5, 1]),
        (np.diag([1.0, 4.0]), np.array([0.0, 1e-200]), [4, 1], [4, 1]),
        (np.diag([1e-200, 0.0]), np.array([1e100, 0.0]), [1e-200, 0], [1e200, 0]),
        (np.array([[2.0]]), np.array([3.0]), [2], [11]),
    ],
)
def test_the_pair_by_hand(matrix, vector, one, other):
    centred, uncentred = eigen_of.eigenvalue_pair(matrix, vector)
    np.testing.assert_allclose(centred.values, one, rtol=1e-14)
    np.testing.assert_allclose(uncentred.values, other, rtol=1e-14)
    alone = eigen_of.eigenvalues_with_term(matrix, vector)
    np.testing.assert_allclose(alone.values, other, rtol=1e-14, atol=1e-300)


def test_the_pair_leaves_its_arguments():
    matrix, vector = covariance_with(np.array([3.0, 2.0, 1.0])), np.array([1.0, 2, 3])
    before = matrix.copy(), vector.copy()
    eigen_of.eigenvalue_pair(matrix, vector)
    np.testing.assert_array_equal(matrix, before[0])
    np.testing.assert_array_equal(vector, before[1])


@pytest.mark.parametrize("function", ["dsytrd", "dsterf"])
def test_two_decompositions_take_over_where_the_reduction_fails(function, monkeypatch):
    plain = getattr(eigen_of, function)

    def failing(*arguments, **options):
        return (*plain(*arguments, **options)[:-1], 1)

    matrix, vector = covariance_with(np.array([4.0, 2.0, 1.0])), np.array([1.0, 0, 2])
    expected = [one.values for one in eigen_of.eigenvalue_pair(matrix, vector)]
    monkeypatch.setattr(eigen_of, function, failing)
    found = [one.values for one in eigen_of.eigenvalue_pair(matrix, vector)]
    np.testing.assert_allclose(found, expected, rtol=1e-13)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_the_pair_refuses_what_is_not_finite(bad):
    message = "^an eigenvalue problem with NaN or infinite entries$"
    with pytest.raises(InputError, match=message):
        eigen_of.eigenvalue_pair(np.eye(2), np.array([bad, 0.0]))
    with pytest.raises(InputError, match=message):
        eigen_of.eigenvalue_pair(np.diag([1.0, bad]), np.ones(2))
