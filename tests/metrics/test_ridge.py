"""Ridge: the library's solution, leaving rows out one by one, many sets at once."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge, RidgeClassifier, RidgeCV

from repscope._arrays import host
from repscope._checking import InputError, UsageError
from repscope.metrics.gram import GramBasis
from repscope.metrics.probing import LabelSet, standardise
from repscope.metrics.ridge import (
    RIDGE_GRID,
    ridge,
    ridge_accuracy,
    ridge_classify,
    ridge_many,
    ridge_probe,
)


def blobs(n=120, d=6, n_classes=4, *, distance=1.0, seed=0):
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    centres = distance * generator.standard_normal((n_classes, d))
    return centres[labels] + generator.standard_normal((n, d)), labels


def targets_of(labels, n_classes):
    return np.where(labels[:, None] == np.arange(n_classes), 1.0, -1.0)


def unit_of(features):
    """The mean of the eigenvalues that are not zero."""
    centred = features - features.mean(axis=0)
    return (centred**2).sum() / np.linalg.matrix_rank(centred)


def left_out_error(features, targets, penalty):
    """Leave each row out, solve for the others, and look at its residual."""
    residuals = []
    for row in range(len(features)):
        kept = np.arange(len(features)) != row
        rows, goal = features[kept], targets[kept]
        centre, goal_mean = rows.mean(axis=0), goal.mean(axis=0)
        rows = rows - centre
        system = rows @ rows.T + penalty * np.eye(len(rows))
        answer = (features[row] - centre) @ rows.T @ np.linalg.inv(system)
        residuals.append(targets[row] - goal_mean - answer @ (goal - goal_mean))
    return np.mean(np.square(residuals))


@pytest.mark.parametrize(("n", "d"), [(120, 6), (30, 50)])
def test_the_solution_is_that_of_scikit_learn(n, d):
    features, labels = blobs(n, d)
    features = features + 10  # the intercept is not penalised
    fit = ridge(features, labels, 4, grid=(0.03,))
    model = Ridge(alpha=fit.penalty, tol=1e-12).fit(features, targets_of(labels, 4))
    assert fit.weights == pytest.approx(model.coef_.T, rel=1e-8, abs=1e-10)
    assert fit.bias == pytest.approx(model.intercept_, rel=1e-8)
    classifier = RidgeClassifier(alpha=fit.penalty, tol=1e-12).fit(features, labels)
    answers = fit.scores(features).argmax(axis=1)
    assert (answers == classifier.predict(features)).all()


@pytest.mark.parametrize(("n", "d"), [(120, 6), (30, 50)])
@pytest.mark.parametrize("distance", [0.1, 3.0])
def test_errors_and_penalty_are_those_of_scikit_learn(n, d, distance):
    features, labels = blobs(n, d, distance=distance)
    penalties = [share * unit_of(features) for share in RIDGE_GRID]
    model = RidgeCV(alphas=penalties, store_cv_results=True)
    model.fit(features, targets_of(labels, 4))
    fit = ridge(features, labels, 4)
    if n > d:  # the library leaves the intercept in where n < d
        errors = model.cv_results_.mean(axis=(0, 1))
        assert fit.errors == pytest.approx(errors, rel=1e-8)
        assert fit.penalty == pytest.approx(model.alpha_)


@given(st.integers(0, 10**6), st.sampled_from([(14, 3), (9, 20), (8, 8)]))
@settings(max_examples=15)
def test_errors_equal_leaving_each_row_out(seed, shape):
    features, labels = blobs(*shape, 3, seed=seed)
    fit = ridge(features + 5, labels, 3)
    unit = unit_of(features)
    for share, error in zip(RIDGE_GRID, fit.errors, strict=True):
        expected = left_out_error(features + 5, targets_of(labels, 3), share * unit)
        # Less than a millionth of the residuals is left where n < d.
        assert error == pytest.approx(expected, rel=1e-4 if share < 1e-4 else 1e-8)
    assert fit.penalty == pytest.approx(unit * RIDGE_GRID[int(np.argmin(fit.errors))])


def test_a_known_basis_changes_nothing():
    features, labels = blobs()
    features = features - features.mean(axis=0)
    alone = ridge(features, labels, 4)
    shared = ridge(features, labels, 4, basis=GramBasis.of(features))
    assert shared.weights == pytest.approx(alone.weights, rel=1e-10)
    assert shared.penalty == pytest.approx(alone.penalty)


@pytest.mark.parametrize("shape", [(90, 7), (20, 40)])
def test_many_label_sets_are_answered_as_one_by_one(shape):
    features, _ = blobs(*shape)
    generator = np.random.default_rng(3)
    sets = [
        LabelSet(generator.integers(0, c, len(features)), c + 1) for c in (2, 3, 7, 2)
    ]
    for labels, many in zip(sets, ridge_many(features, sets), strict=True):
        one = ridge(features, labels.codes, labels.n_classes)
        assert many.penalty == pytest.approx(one.penalty)
        assert many.errors == pytest.approx(one.errors, rel=1e-10)
        assert many.weights == pytest.approx(one.weights, rel=1e-9, abs=1e-12)
        assert many.bias == pytest.approx(one.bias, rel=1e-9)
    assert ridge_many(features, []) == []


@pytest.mark.parametrize("shape", [(90, 7), (20, 40)])
def test_a_tensor_gives_the_same_in_tensors(shape):
    features, labels = blobs(*shape)
    expected = ridge(features, labels, 4)
    found = ridge(torch.from_numpy(features), labels, 4)
    assert isinstance(found.weights, torch.Tensor)
    assert found.penalty == pytest.approx(expected.penalty)
    assert host(found.weights) == pytest.approx(expected.weights, rel=1e-8, abs=1e-12)
    answers = ridge_classify(torch.from_numpy(features), labels, torch.eye(shape[1]))
    assert (answers == ridge_classify(features, labels, np.eye(shape[1]))).all()


@pytest.mark.parametrize("scale", [1e-100, 1e-20, 1e20, 1e100])
def test_the_scale_of_the_features_does_not_matter(scale):
    features, labels = blobs()
    expected, found = ridge(features, labels, 4), ridge(scale * features, labels, 4)
    assert found.penalty / scale / scale == pytest.approx(expected.penalty, rel=1e-9)
    assert found.weights * scale == pytest.approx(expected.weights, rel=1e-8)


def test_a_rotation_and_a_shift_rotate_the_weights():
    features, labels = blobs()
    rotation = np.linalg.qr(np.random.default_rng(1).standard_normal((6, 6)))[0]
    expected = ridge(features, labels, 4)
    found = ridge(features @ rotation + 1e3, labels, 4)
    assert rotation @ found.weights == pytest.approx(expected.weights, abs=1e-9)


def test_constant_features_leave_the_class_shares():
    labels = np.array([0, 1, 1, 1])
    fit = ridge(np.full((4, 3), 7.0), labels, 2)
    assert (fit.weights == 0).all()
    assert fit.bias == pytest.approx([-0.5, 0.5])
    assert not fit.penalty_at_edge  # all penalties serve alike


def test_a_penalty_at_the_edge_of_the_grid_is_told():
    features, labels = blobs(60, 30, distance=0.5)
    inner = ridge(features, labels, 4)
    best = int(np.argmin(inner.errors))
    assert 0 < best < len(RIDGE_GRID) - 1
    assert not inner.penalty_at_edge
    assert ridge(features, labels, 4, grid=RIDGE_GRID[: best + 1]).penalty_at_edge
    assert ridge(features, labels, 4, grid=RIDGE_GRID[best:]).penalty_at_edge
    assert not ridge(features, labels, 4, grid=RIDGE_GRID[best:][:1]).penalty_at_edge


def test_a_probe_says_which_penalty_it_chose():
    features, labels = blobs(120)
    features = standardise(features, features)[0]
    result = ridge_probe(features[:80], labels[:80], features[80:], labels[80:], 4)
    fit = ridge(features[:80], labels[:80], 4)
    assert result.details["penalty"] == fit.penalty
    assert result.details["penalty_at_edge"] is fit.penalty_at_edge
    answers = ridge_classify(features[:80], labels[:80], features[80:])
    assert (result.predictions == answers).all()
    assert ridge_accuracy(result).value == (answers == labels[80:]).mean()


@pytest.mark.parametrize(
    ("grid", "found"),
    [((), "none"), ((1.0, 0.0), "0.0"), ((-1.0,), "-1.0"), ((float("nan"),), "nan")],
)
def test_a_grid_without_positive_penalties_is_refused(grid, found):
    message = (
        "grid: penalties of ridge\n"
        f"  found: {found}; expected: above 0 and finite, at least one"
    )
    with pytest.raises(UsageError, match="^" + re.escape(message) + "$"):
        ridge(*blobs(), 4, grid=grid)


def test_labels_of_other_rows_are_refused():
    features, labels = blobs()
    with pytest.raises(InputError, match=r"^labels: one entry per row of features"):
        ridge_many(features, [LabelSet(labels[:-1], 4)])
