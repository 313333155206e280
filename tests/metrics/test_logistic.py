"""The logistic solver: optimum, certificate, precision, invariances, limits."""

import re
import warnings

import numpy as np
import pytest
import scipy.optimize
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from references import classifiers
from repscope._arrays import host
from repscope._checking import InputError, UsageError
from repscope.metrics import logistic, quasi_newton
from repscope.metrics.gram import GramBasis
from repscope.metrics.logistic import logistic_many, multinomial_logistic
from repscope.metrics.probing import LabelSet


def blobs(n=90, d=4, n_classes=3, *, distance=1.0, seed=0):
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    centres = distance * generator.standard_normal((n_classes, d))
    return centres[labels] + generator.standard_normal((n, d)), labels


def correlated(n=600, d=60, n_classes=7, *, decay=1.5, seed=0):
    """Features whose variances fall by a power law, in a random rotation."""
    features, labels = blobs(n, d, n_classes, distance=0.5, seed=seed)
    rotation = np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]
    return features * np.arange(1, d + 1) ** -decay @ rotation, labels


def objective(features, labels, fit, C):
    logits = fit.scores(features)
    log_sums = np.log(np.exp(logits - logits.max(axis=1)[:, None]).sum(axis=1))
    own = (logits - logits.max(axis=1)[:, None])[np.arange(len(labels)), labels]
    return (log_sums - own).sum() + (fit.weights**2).sum() / (2 * C)


def library_objective(features, labels, C):
    model = LogisticRegression(C=C, tol=1e-10, max_iter=20_000).fit(features, labels)
    logits = model.predict_log_proba(features)
    loss = -logits[np.arange(len(labels)), labels].sum()
    return loss + (model.coef_**2).sum() / (2 * C)


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    return data.data / 16, data.target.astype(np.int64)


PROBLEMS = {
    "separable": lambda: blobs(distance=4.0),
    "overlapping": lambda: blobs(distance=0.3),
    "correlated": correlated,
    "more features than rows": lambda: blobs(40, 90, 3),
    "two classes": lambda: blobs(n_classes=2),
    "unequal classes": lambda: (blobs()[0], np.repeat([0, 1, 2], [70, 17, 3])),
    "large mean": lambda: (blobs()[0] + 1e3, blobs()[1]),
}


@pytest.mark.parametrize("C", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_optimum_is_that_of_scikit_learn(problem, C):
    features, labels = PROBLEMS[problem]()
    n_classes = int(labels.max()) + 1
    fit = multinomial_logistic(features, labels, n_classes, C=C, tolerance=1e-9)
    if problem == "two classes":
        # One set of weights w there; here the two are w / 2 and -w / 2 apart.
        expected = two_class_optimum(features, labels, C)
    else:
        # The library stops early on features with a large mean: shifts cost nothing.
        expected = library_objective(features - features.mean(axis=0), labels, C)
    assert fit.converged
    assert fit.objective == pytest.approx(expected, rel=1e-6)


def two_class_optimum(features, labels, C):
    sign = 2.0 * labels - 1

    def both(flat):
        w, b = flat[:-1], flat[-1]
        # Weights of w / 2 and -w / 2 have the penalty |w|^2 / 4 / C.
        margin = sign * (features @ w + b)
        share = -sign / (1 + np.exp(margin))
        value = np.logaddexp(0, -margin).sum() + w @ w / (4 * C)
        return value, np.append(features.T @ share + w / (2 * C), share.sum())

    start = np.zeros(features.shape[1] + 1)
    return scipy.optimize.minimize(both, start, jac=True, tol=1e-12).fun


def test_the_objective_is_that_of_the_naive_transcription():
    features, labels = blobs(20, 3)
    fit = multinomial_logistic(features, labels, 3, C=0.5)
    expected = classifiers.logistic_objective(
        features.tolist(), labels.tolist(), fit.weights.tolist(), fit.bias.tolist(), 2.0
    )
    assert fit.objective == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("C", [0.1, 10.0])
def test_a_general_minimiser_finds_no_less_of_the_naive_objective(C):
    features, labels = blobs(25, 2)

    def naive(flat):
        weights, bias = flat[:6].reshape(2, 3), flat[6:]
        given = (features.tolist(), labels.tolist(), weights.tolist(), bias.tolist())
        return classifiers.logistic_objective(*given, 1 / C)

    found = scipy.optimize.minimize(naive, np.zeros(9), tol=1e-12).fun
    fit = multinomial_logistic(features, labels, 3, C=C, tolerance=1e-9)
    assert fit.objective == pytest.approx(found, rel=1e-8)


@pytest.mark.parametrize("tolerance", [1e-1, 1e-3, 1e-6])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_gap_bounds_the_distance_from_the_optimum(problem, tolerance):
    features, labels = PROBLEMS[problem]()
    n_classes = int(labels.max()) + 1
    best = multinomial_logistic(features, labels, n_classes, tolerance=1e-12)
    fit = multinomial_logistic(features, labels, n_classes, tolerance=tolerance)
    assert fit.converged
    assert fit.gap <= tolerance
    assert fit.objective <= best.objective * (1 + fit.gap) * (1 + 1e-9)


def test_a_run_cut_short_says_so():
    features, labels = correlated()
    fit = multinomial_logistic(features, labels, 7, maximum_iterations=2)
    assert not fit.converged
    assert (fit.iterations, fit.gap > 1e-3) == (2, True)


def test_correlated_features_need_few_iterations():
    features, labels = correlated(2000, 300, 10, decay=2.0)
    fit = multinomial_logistic(features, labels, 10)
    assert fit.converged
    assert fit.iterations < 60


@pytest.mark.parametrize("seed", [0, 1])
def test_single_precision_products_reach_the_same_optimum(monkeypatch, seed):
    features, labels = correlated(seed=seed)
    double = multinomial_logistic(features, labels, 7, tolerance=1e-9)
    monkeypatch.setattr(quasi_newton, "SINGLE_PRECISION_VALUES", 1)
    single = multinomial_logistic(features, labels, 7, tolerance=1e-9)
    assert single.converged
    assert single.objective == pytest.approx(double.objective, rel=1e-8)
    # What is reported holds in double precision.
    assert single.objective == pytest.approx(
        objective(features, labels, single, 1.0), rel=1e-12
    )


def test_a_rotation_rotates_the_weights():
    features, labels = blobs()
    rotation = np.linalg.qr(np.random.default_rng(3).standard_normal((4, 4)))[0]
    fit = multinomial_logistic(features, labels, 3, tolerance=1e-12)
    turned = multinomial_logistic(features @ rotation, labels, 3, tolerance=1e-12)
    assert rotation @ turned.weights == pytest.approx(fit.weights, abs=1e-5)
    assert turned.objective == pytest.approx(fit.objective, rel=1e-10)


def test_a_shift_changes_the_bias_only():
    features, labels = blobs()
    fit = multinomial_logistic(features, labels, 3, tolerance=1e-12)
    moved = multinomial_logistic(features - 50, labels, 3, tolerance=1e-12)
    assert moved.weights == pytest.approx(fit.weights, abs=1e-5)
    expected = fit.scores(features) - fit.scores(features)[:, :1]
    found = moved.scores(features - 50) - moved.scores(features - 50)[:, :1]
    assert found == pytest.approx(expected, abs=1e-4)


def test_a_known_basis_changes_nothing():
    features, labels = correlated()
    features = features - features.mean(axis=0)
    alone = multinomial_logistic(features, labels, 7, tolerance=1e-10)
    shared = multinomial_logistic(
        features, labels, 7, tolerance=1e-10, basis=GramBasis.of(features)
    )
    assert shared.objective == pytest.approx(alone.objective, rel=1e-9)
    assert shared.weights == pytest.approx(alone.weights, abs=1e-3)


def test_doubled_rows_weigh_twice():
    features, labels = blobs()
    once = multinomial_logistic(features, labels, 3, C=2.0, tolerance=1e-12)
    twice = multinomial_logistic(
        np.repeat(features, 2, axis=0), np.repeat(labels, 2), 3, tolerance=1e-12
    )
    assert twice.weights == pytest.approx(once.weights, abs=1e-5)


def test_constant_features_leave_the_class_shares():
    labels = np.array([0] * 6 + [1] * 3 + [2])
    fit = multinomial_logistic(np.full((10, 5), 3.0), labels, 3)
    assert fit.converged
    assert (fit.weights == 0).all()
    shares = np.exp(fit.bias) / np.exp(fit.bias).sum()
    assert shares == pytest.approx([0.6, 0.3, 0.1])


def test_a_class_without_rows_is_never_answered_and_moves_nothing():
    features, labels = blobs(distance=0.3)
    fit = multinomial_logistic(features, labels, 3, tolerance=1e-9)
    wider = multinomial_logistic(features, 2 * labels, 5, tolerance=1e-9)
    assert wider.converged
    assert wider.weights[:, [0, 2, 4]] == pytest.approx(fit.weights, abs=1e-4)
    assert wider.objective == pytest.approx(fit.objective, rel=1e-9)
    assert not np.isin(wider.scores(features).argmax(axis=1), [1, 3]).any()


def test_the_pixels_of_digits_need_no_standardising(digits):
    features, labels = digits
    fit = multinomial_logistic(features, labels, 10, C=0.1, tolerance=1e-8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = library_objective(features, labels, 0.1)
    assert fit.objective == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("C", [0.0, -1.0, float("nan"), float("inf")])
def test_a_penalty_without_a_strength_is_refused(C):
    message = f"C: a penalty\n  found: {C}; expected: above 0 and finite"
    with pytest.raises(UsageError, match="^" + re.escape(message) + "$"):
        multinomial_logistic(*blobs(), 3, C=C)


def label_sets(n, *, seed=0):
    generator = np.random.default_rng(seed)
    sizes = (7, 3, 2, 5, 2)
    return [LabelSet(generator.integers(0, c, n), c) for c in sizes]


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("shape", [(300, 20), (40, 90)])
def test_many_label_sets_are_solved_as_one_by_one(monkeypatch, single, shape):
    if single:
        monkeypatch.setattr(quasi_newton, "SINGLE_PRECISION_VALUES", 1)
    features = correlated(*shape)[0]
    sets, Cs = [*label_sets(shape[0]), LabelSet(np.arange(shape[0]) % 3, 6)], (0.1, 3.0)
    found = logistic_many(features, sets, Cs=Cs, tolerance=1e-8)
    assert [len(fits) for fits in found] == [2] * 6
    for labels, fits in zip(sets, found, strict=True):
        for C, many in zip(Cs, fits, strict=True):
            one = multinomial_logistic(
                features, labels.codes, labels.n_classes, C=C, tolerance=1e-8
            )
            assert many.converged
            assert many.objective == pytest.approx(one.objective, rel=1e-8)
            assert many.weights == pytest.approx(one.weights, rel=1e-2, abs=2e-3)
            assert many.scores(features).shape == (shape[0], labels.n_classes)


def test_the_answers_of_many_do_not_depend_on_how_many_are_stacked(monkeypatch):
    features = blobs(200, 9)[0]
    sets = label_sets(200)
    together = logistic_many(features, sets, tolerance=1e-9)
    monkeypatch.setattr(logistic, "STACKED_LOGITS", 9 * 200)
    apart = logistic_many(features, sets, tolerance=1e-9)
    for (one,), (other,) in zip(together, apart, strict=True):
        assert one.objective == pytest.approx(other.objective, rel=1e-9)
        assert one.weights == pytest.approx(other.weights, abs=1e-4)


def test_one_problem_that_stops_early_does_not_stop_the_others():
    features, labels = blobs(200, 9)
    codes = np.random.default_rng(0).integers(0, 5, 200)
    (easy,), (hard,) = logistic_many(
        features, [LabelSet(np.zeros(200, dtype=int), 1), LabelSet(codes, 5)]
    )
    assert (easy.iterations, easy.objective, easy.converged) == (0, 0.0, True)
    assert hard.converged
    assert hard.iterations > 0


def test_no_label_sets_need_no_answer():
    assert logistic_many(blobs()[0], []) == []


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("shape", [(300, 20), (40, 90)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_a_tensor_gives_the_same_in_tensors(monkeypatch, single, shape, dtype):
    if single:
        monkeypatch.setattr(quasi_newton, "SINGLE_PRECISION_VALUES", 1)
    features, labels = blobs(*shape, 4)
    tensor = torch.from_numpy(features).to(dtype)
    found = multinomial_logistic(tensor, labels, 6, tolerance=1e-8)
    doubled = tensor.double().numpy()
    expected = multinomial_logistic(doubled, labels, 6, tolerance=1e-8)
    assert found.converged
    assert isinstance(found.weights, torch.Tensor)
    assert found.objective == pytest.approx(expected.objective, rel=1e-8)
    assert host(found.weights) == pytest.approx(expected.weights, abs=2e-3)
    scores = found.scores(tensor)
    assert isinstance(scores, torch.Tensor)
    assert (host(scores)[:, 4:] == -np.inf).all()


@pytest.mark.parametrize("scale", [1e-20, 1e-8, 1e8, 1e20])
@pytest.mark.parametrize("C", [1e-3, 1.0])
def test_the_scale_of_features_trades_with_the_penalty(scale, C):
    features, labels = blobs()
    expected = multinomial_logistic(features, labels, 3, C=C, tolerance=1e-9)
    found = multinomial_logistic(
        scale * features, labels, 3, C=C / scale**2, tolerance=1e-9
    )
    assert found.converged
    assert found.objective == pytest.approx(expected.objective, rel=1e-7)
    assert found.weights * scale == pytest.approx(expected.weights, abs=1e-4)


def test_an_outlying_feature_or_row_keeps_the_optimum():
    features, labels = blobs(distance=0.3)
    features[:, 1] *= 1e4
    features[7] *= 1e4
    fit = multinomial_logistic(features, labels, 3)
    assert fit.converged
    best = scipy.optimize.minimize(
        lambda flat: _objective_and_slope(flat, features, labels),
        np.zeros(15),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 20_000, "maxfun": 40_000, "ftol": 1e-15},
    ).fun
    assert fit.objective <= best * (1 + 1e-3)


def _objective_and_slope(flat, features, labels):
    weights, bias = flat[:12].reshape(4, 3), flat[12:]
    logits = features @ weights + bias
    logits -= logits.max(axis=1, keepdims=True)
    shares = np.exp(logits)
    totals = shares.sum(axis=1, keepdims=True)
    own = logits[np.arange(len(labels)), labels]
    value = (np.log(totals[:, 0]) - own).sum() + (weights**2).sum() / 2
    residual = shares / totals - np.eye(3)[labels]
    slope = features.T @ residual + weights
    return value, np.concatenate([slope.ravel(), residual.sum(axis=0)])


def test_labels_of_other_rows_are_refused():
    features, labels = blobs()
    with pytest.raises(InputError, match=r"^labels: one entry per row of features"):
        logistic_many(features, [LabelSet(labels[1:], 3)])
