"""The shared eigenbasis: orthonormal, of both shapes, on both kinds of arrays."""

import re

import numpy as np
import pytest
import torch

from repscope._arrays import host
from repscope._checking import InputError
from repscope.metrics.gram import GramBasis

SHAPES = {"tall": (60, 8), "wide": (8, 60), "square": (12, 12)}


def features_of(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


@pytest.mark.parametrize("make", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_basis_is_that_of_the_singular_values(shape, make):
    features = features_of(*shape)
    basis = GramBasis.of(make(features))
    left, singular, right = np.linalg.svd(features, full_matrices=False)
    assert type(basis.values) is type(basis.rotated) is type(make(features))
    assert host(basis.values) == pytest.approx(singular**2, rel=1e-10)
    # Singular vectors are known up to their sign.
    assert np.abs(right @ host(basis.axes)) == pytest.approx(
        np.eye(len(singular)), abs=1e-9
    )
    assert np.abs(left.T @ host(basis.rotated)) == pytest.approx(
        np.diag(singular), abs=1e-8
    )


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_features_are_made_of_their_axes(shape):
    features = features_of(*shape)
    basis = GramBasis.of(features)
    assert basis.rotated @ basis.axes.T == pytest.approx(features, abs=1e-10)
    assert basis.rotated.T @ basis.rotated == pytest.approx(
        np.diag(basis.values), abs=1e-8
    )


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_great_direction_does_not_hide_the_others(shape):
    features = features_of(*shape)
    features[:, 1] *= 1e4
    features[2] *= 1e4  # eigenvalues from 1 to 1e16
    basis = GramBasis.of(features)
    left, singular, right = np.linalg.svd(features, full_matrices=False)
    assert basis.values == pytest.approx(singular**2, rel=1e-6)
    k = len(singular)
    assert basis.axes.T @ basis.axes == pytest.approx(np.eye(k), abs=1e-6)
    unit = basis.rotated / np.sqrt(basis.values)
    assert unit.T @ unit == pytest.approx(np.eye(k), abs=1e-6)


def test_directions_without_variance_are_left_out():
    features = features_of(40, 2) @ features_of(2, 9, seed=1)
    assert GramBasis.of(features).axes.shape == (9, 2)
    assert GramBasis.of(features.T).axes.shape == (40, 2)
    nothing = GramBasis.of(np.zeros((4, 3)))
    assert (nothing.values.shape, nothing.rotated.shape) == ((0,), (4, 0))


@pytest.mark.parametrize("kind", ["float16", "float32", "int8", "bool", ">f8"])
def test_any_real_type_counts_as_float64(kind):
    features = (4 * features_of(30, 5)).astype(kind)
    found = GramBasis.of(features)
    expected = GramBasis.of(features.astype(np.float64))
    assert found.values.dtype == np.float64
    assert found.values == pytest.approx(expected.values, rel=1e-12)


@pytest.mark.parametrize("scale", [1e-100, 1e-20, 1e20, 1e100])
def test_a_factor_squares(scale):
    features = features_of(30, 5)
    found = GramBasis.of(scale * features)
    expected = GramBasis.of(features)
    assert found.values / scale / scale == pytest.approx(expected.values, rel=1e-9)
    assert np.abs(found.axes) == pytest.approx(np.abs(expected.axes), abs=1e-9)


@pytest.mark.parametrize("size", [1e-150, 1e150])
def test_what_cannot_be_squared_is_refused(size):
    message = (
        "features: their squares leave the range of float64\n"
        f"  found: a greatest magnitude of {size:.3g}; expected: 1e-140 to 1e+140\n"
        "  fix: standardise the features first"
    )
    with pytest.raises(InputError, match="^" + re.escape(message) + "$"):
        GramBasis.of(np.array([[size, 0.0], [0.0, -size / 2]]))
