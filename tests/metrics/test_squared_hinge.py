"""The squared-hinge probe: optimum, bound, precision, stacks, invariances, limits."""

import re

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.svm import LinearSVC

from references import hinges
from repscope._arrays import host
from repscope._checking import InputError, Undecidable, UsageError
from repscope.metrics import squared_hinge_machines
from repscope.metrics.gram import GramBasis
from repscope.metrics.probing import LabelSet, standardise
from repscope.metrics.squared_hinge import (
    squared_hinge,
    squared_hinge_accuracy,
    squared_hinge_many,
    squared_hinge_probe,
)

TIGHT = 1e-10


def blobs(n=90, d=4, n_classes=3, *, distance=1.0, seed=0):
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    centres = distance * generator.standard_normal((n_classes, d))
    return centres[labels] + generator.standard_normal((n, d)), labels


def correlated(n=400, d=30, n_classes=5, *, decay=1.0, seed=0):
    """Features whose deviations fall by a power law, in a random rotation."""
    features, labels = blobs(n, d, n_classes, distance=0.7, seed=seed)
    rotation = np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]
    return 3 * features * np.arange(1, d + 1) ** -decay @ rotation, labels


def one_row_classes():
    labels = np.array([0] * 30 + [1, 2])
    return np.random.default_rng(0).standard_normal((32, 4)), labels


PROBLEMS = {
    "overlapping": lambda: blobs(distance=0.5),
    "separable": lambda: blobs(distance=6.0),
    "correlated": correlated,
    "more features than rows": lambda: blobs(24, 40, 3),
    "more features than rows, off centre": lambda: (
        blobs(24, 40, 3)[0] + 2,
        blobs()[1][:24],
    ),
    "two classes": lambda: blobs(n_classes=2),
    "unequal classes": lambda: (blobs()[0], np.repeat([0, 1, 2], [70, 17, 3])),
    "classes of one row": one_row_classes,
    "off centre": lambda: (blobs()[0] + 7, blobs()[1]),
    "constant features among others": lambda: (
        np.hstack([blobs()[0], np.full((90, 2), 3.0)]),
        blobs()[1],
    ),
}


def signs_of(labels):
    return np.where(labels[:, None] == np.arange(labels.max() + 1), 1.0, -1.0)


def objective(features, labels, weights, bias, C):
    """Of every class."""
    hinge = np.maximum(0, 1 - signs_of(labels) * (features @ weights + bias))
    return ((weights**2).sum(axis=0) + bias**2) / 2 + C * (hinge**2).sum(axis=0)


def library_fit(features, labels, C):
    """One problem per class, as here; the library makes one of two classes."""
    model = LinearSVC(C=C, tol=1e-12, max_iter=200_000, dual=False)
    fits = []
    for column in signs_of(labels).T:
        model.fit(features, column)
        fits.append((model.coef_[0].copy(), float(model.intercept_[0])))
    return np.array([w for w, _ in fits]).T, np.array([b for _, b in fits])


@pytest.mark.parametrize("C", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_optimum_is_that_of_scikit_learn(problem, C):
    features, labels = PROBLEMS[problem]()
    fit = squared_hinge(features, labels, int(labels.max()) + 1, C=C, tolerance=TIGHT)
    weights, bias = library_fit(features, labels, C)
    best = objective(features, labels, weights, bias, C)
    assert fit.converged
    assert fit.objective == pytest.approx(best.sum(), rel=1e-7)
    scores = features @ weights + bias
    assert fit.scores(features) == pytest.approx(scores, abs=1e-3)


@pytest.mark.parametrize("problem", ["overlapping", "off centre", "classes of one row"])
def test_the_optimum_is_that_of_a_general_minimiser(problem):
    features, labels = PROBLEMS[problem]()
    fit = squared_hinge(features, labels, int(labels.max()) + 1, C=0.7, tolerance=TIGHT)
    for c, sign in enumerate(signs_of(labels).T):

        def naive(flat, sign=sign):
            hinge = np.maximum(0, 1 - sign * (features @ flat[:-1] + flat[-1]))
            pull = 1.4 * (sign * hinge)
            gradient = flat - np.append(features.T @ pull, pull.sum())
            return flat @ flat / 2 + 0.7 * hinge @ hinge, gradient

        start = np.zeros(features.shape[1] + 1)
        best = scipy.optimize.minimize(naive, start, jac=True, tol=1e-13, method="BFGS")
        found = np.append(fit.weights[:, c], fit.bias[c])
        assert found == pytest.approx(best.x, abs=1e-4)
        assert naive(found)[0] <= best.fun * (1 + 1e-9)


def test_the_objective_is_that_of_the_naive_transcription():
    features, labels = blobs(20, 3)
    fit = squared_hinge(features, labels, 3, C=0.5)
    expected = hinges.squared_hinge_objective(
        features.tolist(), labels.tolist(), fit.weights.tolist(), fit.bias.tolist(), 0.5
    )
    assert fit.objective == pytest.approx(expected, rel=1e-12)


def test_two_points_by_hand():
    # min w^2 / 2 + 2 C (1 - w)^2 for x = -1, 1 has w = 4 C / (1 + 4 C), and no bias.
    fit = squared_hinge(np.array([[-1.0], [1.0]]), np.array([0, 1]), 2, tolerance=1e-14)
    assert fit.weights[0] == pytest.approx([-0.8, 0.8], rel=1e-12)
    assert fit.bias == pytest.approx([0, 0], abs=1e-12)
    assert fit.objective == pytest.approx(2 * (0.32 + 2 * 0.04), rel=1e-12)


def test_the_bias_is_penalised():
    # x = 0 leaves min b^2 / 2 + C sum (1 - y b)^2: b = 2 C (n+ - n-) / (1 + 2 C n).
    features, labels = np.zeros((10, 3)), np.array([0] * 7 + [1] * 3)
    fit = squared_hinge(features, labels, 2, tolerance=1e-14)
    assert (fit.weights == 0).all()
    assert fit.bias == pytest.approx([8 / 21, -8 / 21], rel=1e-12)


@pytest.mark.parametrize("value", [3.0, 1e-3, 100.0])
def test_constant_features_act_as_a_larger_bias(value):
    # The score t = v sum(w) + b costs t^2 / 2 / (1 + d v^2) at the least.
    labels = np.array([0] * 7 + [1] * 3)
    fit = squared_hinge(np.full((10, 3), value), labels, 2, tolerance=1e-13)
    length = 1 + 3 * value**2
    expected = 8 * length / (1 + 20 * length)
    assert fit.converged
    assert fit.scores(np.full((1, 3), value))[0, 0] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("tolerance", [1e-1, 1e-4])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_gap_bounds_the_distance_of_every_class_from_its_optimum(
    problem, tolerance
):
    features, labels = PROBLEMS[problem]()
    n_classes = int(labels.max()) + 1
    best = squared_hinge(features, labels, n_classes, tolerance=1e-9)
    fit = squared_hinge(features, labels, n_classes, tolerance=tolerance)
    assert fit.converged
    assert -1e-12 <= fit.gap <= tolerance
    each = objective(features, labels, fit.weights, fit.bias, 1.0)
    least = objective(features, labels, best.weights, best.bias, 1.0)
    assert (least * (1 + 1e-8) >= each * (1 - tolerance)).all()
    assert best.objective * (1 + 1e-8) >= fit.objective * (1 - fit.gap)


def test_a_run_cut_short_says_so_and_its_gap_still_bounds():
    features, labels = correlated()
    best = squared_hinge(features, labels, 5, tolerance=1e-10)
    fit = squared_hinge(features, labels, 5, maximum_iterations=2)
    assert not fit.converged
    assert (fit.iterations, fit.gap > 1e-3) == (2, True)
    assert best.objective >= fit.objective * (1 - fit.gap)


def test_correlated_features_need_few_iterations():
    features, labels = correlated(1500, 120, 10, decay=2.0)
    fit = squared_hinge(*standardise(features, features)[:1], labels, 10)
    assert fit.converged
    assert fit.iterations < 60


@pytest.mark.parametrize("seed", [0, 1])
def test_single_precision_reaches_the_same_optimum(monkeypatch, seed):
    features, labels = correlated(seed=seed)
    double = squared_hinge(features, labels, 5, tolerance=1e-9)
    monkeypatch.setattr(squared_hinge_machines, "SINGLE_PRECISION_VALUES", 1)
    single = squared_hinge(features, labels, 5, tolerance=1e-9)
    assert single.converged
    assert single.objective == pytest.approx(double.objective, rel=1e-8)
    # What is reported holds in double precision.
    each = objective(features, labels, single.weights, single.bias, 1.0)
    assert single.objective == pytest.approx(each.sum(), rel=1e-12)
    coarse = squared_hinge(features, labels, 5)
    assert coarse.converged
    assert coarse.objective * (1 - coarse.gap) <= double.objective <= coarse.objective


def label_sets():
    features, labels = correlated()
    drawn = np.random.default_rng(1).integers(0, 3, len(labels))
    sets = [LabelSet(labels, 5), LabelSet(labels // 3, 2), LabelSet(drawn, 4)]
    return features, sets


@pytest.mark.parametrize("block_bytes", [1, 2**27])
def test_many_are_those_one_by_one(monkeypatch, block_bytes):
    monkeypatch.setattr(squared_hinge_machines, "BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(squared_hinge_machines, "LEAST_TOGETHER", 2)
    features, sets = label_sets()
    Cs = (0.01, 1.0, 5.0)
    together = squared_hinge_many(features, sets, Cs=Cs, tolerance=1e-5)
    for labels, fits in zip(sets, together, strict=True):
        for C, fit in zip(Cs, fits, strict=True):
            alone = squared_hinge(
                features, labels.codes, labels.n_classes, C=C, tolerance=1e-5
            )
            assert fit.objective == pytest.approx(alone.objective, rel=1e-10)
            assert fit.weights == pytest.approx(alone.weights, abs=1e-7)
            assert (fit.iterations, fit.converged) == (alone.iterations, True)


def test_nothing_wanted_is_nothing_solved():
    assert squared_hinge_many(blobs()[0], []) == []
    assert squared_hinge_many(blobs()[0], [LabelSet(blobs()[1], 3)], Cs=()) == [[]]


@pytest.mark.parametrize("shift", [0.0, 2.0])
def test_a_known_basis_changes_nothing(shift):
    features, labels = correlated()
    features = features - features.mean(axis=0) + shift
    alone = squared_hinge(features, labels, 5, tolerance=TIGHT)
    shared = squared_hinge(
        features, labels, 5, tolerance=TIGHT, basis=GramBasis.of(features)
    )
    assert shared.converged
    assert shared.objective == pytest.approx(alone.objective, rel=1e-9)
    assert shared.weights == pytest.approx(alone.weights, abs=1e-4)


@pytest.mark.parametrize("precision", [torch.float64, torch.float32, torch.bfloat16])
def test_tensors_give_what_arrays_give(precision):
    features, labels = correlated()
    tensor = torch.from_numpy(features).to(precision)
    expected = squared_hinge(tensor.double().numpy(), labels, 5, tolerance=1e-9)
    fit = squared_hinge(tensor, labels, 5, tolerance=1e-9)
    assert isinstance(fit.weights, torch.Tensor)
    assert fit.converged
    assert host(fit.weights) == pytest.approx(expected.weights, abs=1e-5)
    found = host(fit.scores(tensor))
    assert found == pytest.approx(expected.scores(tensor.double().numpy()), abs=1e-4)


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10_000), n_classes=st.integers(2, 5))
def test_order_of_rows_and_names_of_classes_change_nothing(seed, n_classes):
    generator = np.random.default_rng(seed)
    features, labels = blobs(40, 3, n_classes, seed=seed)
    order, names = generator.permutation(40), generator.permutation(n_classes)
    fit = squared_hinge(features, labels, n_classes, tolerance=TIGHT)
    moved = squared_hinge(
        features[order], names[labels][order], n_classes, tolerance=TIGHT
    )
    assert moved.objective == pytest.approx(fit.objective, rel=1e-9)
    assert moved.weights[:, names] == pytest.approx(fit.weights, abs=1e-4)
    assert moved.bias[names] == pytest.approx(fit.bias, abs=1e-4)


def test_a_rotation_rotates_the_weights():
    features, labels = blobs()
    rotation = np.linalg.qr(np.random.default_rng(3).standard_normal((4, 4)))[0]
    fit = squared_hinge(features, labels, 3, tolerance=TIGHT)
    turned = squared_hinge(features @ rotation, labels, 3, tolerance=TIGHT)
    assert rotation @ turned.weights == pytest.approx(fit.weights, abs=1e-5)
    assert turned.objective == pytest.approx(fit.objective, rel=1e-9)


def test_doubled_rows_weigh_twice():
    features, labels = blobs()
    once = squared_hinge(features, labels, 3, C=2.0, tolerance=TIGHT)
    doubled = np.repeat(features, 2, axis=0), np.repeat(labels, 2)
    twice = squared_hinge(*doubled, 3, tolerance=TIGHT)
    assert twice.weights == pytest.approx(once.weights, abs=1e-5)


def test_two_classes_mirror_each_other_and_answer_as_the_library_does():
    features, labels = blobs(n_classes=2, distance=0.5)
    fit = squared_hinge(features, labels, 2, tolerance=TIGHT)
    assert fit.weights[:, 0] == pytest.approx(-fit.weights[:, 1], abs=1e-5)
    model = LinearSVC(tol=1e-12, max_iter=100_000, dual=False).fit(features, labels)
    assert (fit.scores(features).argmax(axis=1) == model.predict(features)).all()
    assert fit.weights[:, 1] == pytest.approx(model.coef_[0], abs=1e-5)


def test_a_class_without_rows_is_never_answered_and_moves_nothing():
    features, labels = blobs(distance=0.3)
    fit = squared_hinge(features, labels, 3)
    wider = squared_hinge(features, 2 * labels, 6)
    assert wider.weights[:, [0, 2, 4]] == pytest.approx(fit.weights)
    assert wider.objective == pytest.approx(fit.objective)
    assert (wider.weights[:, [1, 3, 5]] == 0).all()
    assert (wider.bias[[1, 3, 5]] == -np.inf).all()
    assert not np.isin(wider.scores(features).argmax(axis=1), [1, 3, 5]).any()


def test_one_class_alone_is_solved():
    fit = squared_hinge(blobs()[0], np.zeros(90, int), 1, tolerance=TIGHT)
    assert fit.converged
    assert (fit.scores(blobs()[0]) > 0).mean() > 0.9


@pytest.mark.parametrize("kind", ["float16", "int8", "uint8", "bool", ">f4"])
def test_every_real_type_is_taken(kind):
    features, labels = blobs(d=6)
    typed = np.abs(10 * features).astype(kind)
    expected = squared_hinge(typed.astype(np.float64), labels, 3)
    typed.setflags(write=False)
    fit = squared_hinge(np.asfortranarray(typed), labels, 3)
    assert fit.objective == pytest.approx(expected.objective, rel=1e-9)


@pytest.mark.parametrize("scale", [1e-150, 1e-120, 1e-20, 1e-3, 1e3, 1e20, 1e120])
def test_whatever_the_scale_the_gap_is_true_or_said_to_be_open(scale):
    features, labels = blobs()
    try:
        fit = squared_hinge(scale * features, labels, 3, maximum_iterations=300)
    except InputError as error:
        assert "standardise" in str(error)
        return
    assert np.isfinite([fit.objective, *fit.weights.ravel(), *fit.bias]).all()
    assert fit.converged == (fit.gap <= 1e-3)
    assert fit.converged or scale > 1e6
    # Answering nothing, w = 0, costs no more than C n per class.
    assert fit.objective <= 3 * 90


@pytest.mark.parametrize("offset", [1e2, 1e4, 1e6])
def test_an_offset_is_no_obstacle(offset):
    features, labels = blobs()
    fit = squared_hinge(features + offset, labels, 3)
    assert fit.converged


def test_an_outlying_dimension_and_row_are_no_obstacle():
    for outlying, factor in ((np.s_[:, 1], 1e4), (np.s_[5], 1e3)):
        features, labels = blobs()
        features[outlying] *= factor
        assert squared_hinge(features, labels, 3).converged


def test_a_direction_lost_to_rounding_leaves_the_gap_open():
    features, labels = blobs()
    features[:, 1] *= 1e14
    fit = squared_hinge(features, labels, 3)
    best = squared_hinge(standardise(features, features)[0], labels, 3)
    assert fit.objective > 1.01 * best.objective
    assert not fit.converged
    assert 0.01 < fit.gap <= 1


@pytest.fixture(scope="module")
def digits():
    """The digits in their fixed order: 1,297 to train on, 500 to test."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(1797)
    pixels, labels = data.data[order] / 16, data.target[order].astype(np.int64)
    train, test = standardise(pixels[:1297], pixels[1297:])
    return train, labels[:1297], test, labels[1297:]


def test_the_probe_answers_as_the_library_does(digits):
    train, train_labels, test, test_labels = digits
    result = squared_hinge_probe(*digits, 10)
    model = LinearSVC(tol=1e-8, max_iter=20_000, dual=False).fit(train, train_labels)
    # The probe stops within a thousandth of the optimum: three images may differ.
    assert (result.predictions == model.predict(test)).mean() >= 0.994
    assert squared_hinge_accuracy(result).value == pytest.approx(
        model.score(test, test_labels), abs=0.0061
    )
    assert result.converged
    assert result.details["C"] == 1.0
    assert result.interval[0] < result.test_accuracy < result.interval[1]


def test_planted_classes_are_read_and_noise_is_not():
    features, labels = blobs(400, 8, 4, distance=4.0)
    half = (features[:200], labels[:200], features[200:], labels[200:])
    assert squared_hinge_accuracy(squared_hinge_probe(*half, 4)).value == 1.0
    noise = np.random.default_rng(0).standard_normal((400, 8))
    result = squared_hinge_probe(
        noise[:200], labels[:200], noise[200:], labels[200:], 4
    )
    assert result.interval[0] < 0.25 < result.interval[1]


def test_a_tensor_is_probed_alike(digits):
    train, train_labels, test, test_labels = digits
    part = train[:300], train_labels[:300]
    tensors = torch.from_numpy(part[0]), torch.from_numpy(test)
    result = squared_hinge_probe(tensors[0], part[1], tensors[1], test_labels, 10)
    expected = squared_hinge_probe(*part, test, test_labels, 10)
    assert (result.predictions == expected.predictions).mean() > 0.995


def test_one_class_has_no_answer():
    features, _ = blobs()
    same = np.zeros(45, int)
    with pytest.raises(Undecidable, match="one class only"):
        squared_hinge_probe(features[:45], same, features[45:], same, 2)
    with pytest.raises(Undecidable, match="no test rows"):
        squared_hinge_probe(features, blobs()[1], features[:0], same[:0], 3)


def test_a_class_unseen_in_training_is_never_answered():
    features, labels = blobs()
    train = labels != 2
    result = squared_hinge_probe(features[train], labels[train], features, labels, 3)
    assert (result.predictions != 2).all()
    assert result.details["test_rows_of_unseen_classes"] == 30


@pytest.mark.parametrize("C", [0.0, -1.0, float("nan"), float("inf")])
def test_a_penalty_without_a_strength_is_refused(C):
    message = f"C: a penalty\n  found: {C}; expected: above 0 and finite"
    with pytest.raises(UsageError, match="^" + re.escape(message) + "$"):
        squared_hinge(*blobs(), 3, C=C)


def test_labels_must_fit_the_rows_and_the_classes():
    features, labels = blobs()
    with pytest.raises(InputError, match="labels: one entry per row"):
        squared_hinge_many(features, [LabelSet(labels[:-1], 3)])
    with pytest.raises(InputError, match="outside the number of classes"):
        squared_hinge(features, labels, 2)
