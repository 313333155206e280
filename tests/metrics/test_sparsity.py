"""Sparsity of rows: thresholds, exact zeros, planted sparsity.

Golden values, scaling laws, dtypes and limits of gini, hoyer and soft_sparsity stand
with those of the other scores in test_samples.py.
"""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hypothesis_numpy

from references import rows as reference
from repscope._checking import UsageError
from repscope.metrics import samples, sparsity

matrices = hypothesis_numpy.arrays(
    np.float64,
    st.tuples(st.integers(1, 4), st.integers(2, 7)),
    elements=st.floats(-100, 100).map(lambda value: round(value, 3)),
)


def activations(n=40, d=17, seed=0):
    return np.maximum(np.random.default_rng(seed).standard_normal((n, d)), 0)


@given(matrices, st.sampled_from([0.001, 0.5, 20.0]))
def test_soft_sparsity_equals_the_naive_transcription(features, eta):
    expected = [reference.soft_sparsity(row, eta) for row in features.tolist()]
    assert sparsity.soft_sparsity(features, eta=eta).tolist() == expected


def test_default_eta_is_a_twentieth_of_the_median_row_maximum():
    assert sparsity.default_eta(np.array([1.0, 2.0, 90.0])) == pytest.approx(0.1)
    assert sparsity.default_eta(np.array([-3.0, -2.0])) == 0


def test_soft_sparsity_counts_exact_zeros_without_an_eta():
    features = np.array([[0.0, 0.0, 1e-300, -1.0]])
    assert sparsity.soft_sparsity(features, eta=0.0).tolist() == [0.5]


def test_literal_soft_sparsity_counts_negative_features():
    features = np.array([[-5.0, 0.01, 3.0, 4.0]])
    assert sparsity.soft_sparsity(features, eta=0.1).tolist() == [0.25]
    assert sparsity.soft_sparsity(features, eta=0.1, literal=True).tolist() == [0.5]


@pytest.mark.parametrize("eta", [-0.1, float("nan")])
def test_a_negative_eta_is_refused(eta):
    message = f"eta: a size is needed\n  found: {eta}; expected: eta >= 0"
    with pytest.raises(UsageError, match="^" + re.escape(message)):
        sparsity.soft_sparsity(activations(), eta=eta)
    with pytest.raises(UsageError, match="^" + re.escape(message)):
        samples.sample_scores(activations(), eta=eta)


@pytest.mark.parametrize("name", ["gini", "hoyer", "soft_sparsity"])
def test_fewer_active_features_are_sparser(name):
    generator = np.random.default_rng(0)
    features = 1 + generator.random((9, 60))
    for row in range(9):  # row i keeps 60, 54, 48, ... features
        features[row, 60 - 6 * row :] = 0
    scores = samples.sample_scores(features, eta=0.5)[name]
    assert (np.diff(scores) > 0).all()


def test_gini_of_gaussian_features_is_what_the_docstring_warns_of():
    features = np.random.default_rng(0).standard_normal((20, 20_000))
    # Gini's mean difference of half-normal values: sqrt(2) - 1.
    assert sparsity.gini(features).mean() == pytest.approx(2**0.5 - 1, abs=2e-3)
    # L1 / L2 tends to sqrt(2 / pi) sqrt(d).
    assert sparsity.hoyer(features).mean() == pytest.approx(
        1 - (2 / np.pi) ** 0.5, abs=2e-3
    )
