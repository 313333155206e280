"""Linear probes and nearest centres: references, digits, splits, missing classes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression, Ridge, RidgeCV
from sklearn.preprocessing import StandardScaler

from references import clusters
from repscope._checking import Undecidable
from repscope.metrics import failure, probing
from repscope.metrics.gram import GramBasis
from repscope.metrics.probing import (
    linear_accuracy,
    logistic_probe,
    ncc_accuracy,
    nearest_centre_probe,
    ridge,
    ridge_accuracy,
    ridge_classify,
    ridge_probe,
    standardise,
)

PROBES = (logistic_probe, ridge_probe, nearest_centre_probe)


def blobs(n=120, d=6, n_classes=4, *, distance=1.0, seed=0):
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    centres = distance * generator.standard_normal((n_classes, d))
    return centres[labels] + generator.standard_normal((n, d)), labels


def halves(features, labels):
    half = len(labels) // 2
    return features[:half], labels[:half], features[half:], labels[half:]


def doubled(images):
    """Bilinear to twice the size: half-pixel centres, clamped at the edge."""
    position = np.clip((np.arange(16) + 0.5) / 2 - 0.5, 0, 7)
    weights = np.maximum(0, 1 - np.abs(position[:, None] - np.arange(8)))
    return weights @ images @ weights.T


@pytest.fixture(scope="module")
def digits():
    """The digits at 16 x 16 in their fixed order: 1,297 to train on, 500 to test."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(1797)
    pixels = doubled(data.images / 16).reshape(1797, 256)[order]
    labels = data.target[order].astype(np.int64)
    return pixels[:1297], labels[:1297], pixels[1297:], labels[1297:]


def test_pixels_of_digits_reach_the_published_accuracy(digits):
    train, train_labels, test, test_labels = digits
    result = logistic_probe(train, train_labels, test, test_labels, 10, C=0.1)
    assert linear_accuracy(result) == pytest.approx(0.964, abs=0.0021)  # one image
    assert result.converged


def test_standardised_pixels_of_digits_reach_the_published_accuracy(digits):
    train, train_labels, test, test_labels = digits
    train, test = standardise(train, test)
    result = logistic_probe(train, train_labels, test, test_labels, 10)
    assert linear_accuracy(result) == pytest.approx(0.978, abs=0.0021)
    assert result.train_accuracy > 0.999


def test_nearest_centres_of_digits_reach_the_published_accuracy(digits):
    train, train_labels, test, test_labels = digits
    result = nearest_centre_probe(train, train_labels, test, test_labels, 10)
    assert ncc_accuracy(result) == pytest.approx(0.898, abs=5e-4)


def test_logistic_predictions_are_those_of_scikit_learn(digits):
    train, train_labels, test, test_labels = digits
    train, test = standardise(train, test)
    model = LogisticRegression(C=1.0, tol=1e-8, max_iter=5000).fit(train, train_labels)
    result = logistic_probe(train, train_labels, test, test_labels, 10)
    # The probe stops within a thousandth of the optimum: two images may differ.
    assert (result.predictions != model.predict(test)).sum() <= 2


def targets_of(labels, n_classes):
    return np.where(labels[:, None] == np.arange(n_classes), 1.0, -1.0)


@pytest.mark.parametrize(("n", "d"), [(120, 6), (30, 50)])
def test_ridge_is_that_of_scikit_learn(n, d):
    features, labels = blobs(n, d)
    features = features + 10  # the intercept is not penalised
    fit = ridge(features, labels, 4, grid=(0.03,))
    model = Ridge(alpha=fit.penalty, tol=1e-12).fit(features, targets_of(labels, 4))
    assert fit.weights == pytest.approx(model.coef_.T, rel=1e-8, abs=1e-10)
    assert fit.bias == pytest.approx(model.intercept_, rel=1e-8)


@pytest.mark.parametrize(("n", "d"), [(120, 6), (30, 50)])
@pytest.mark.parametrize("distance", [0.1, 3.0])
def test_ridge_chooses_the_penalty_of_scikit_learn(n, d, distance):
    features, labels = blobs(n, d, distance=distance)
    centred = features - features.mean(axis=0)
    unit = float(GramBasis.of(centred).values.mean())
    model = RidgeCV(alphas=[share * unit for share in probing.RIDGE_GRID])
    # The library cannot leave one out with an intercept when n < d: centre for it.
    model.fit(features, targets_of(labels, 4))
    assert ridge(features, labels, 4).penalty == pytest.approx(model.alpha_)


@given(st.integers(0, 10**6), st.sampled_from([(14, 3), (9, 20)]))
@settings(max_examples=15)
def test_leave_one_out_errors_equal_leaving_each_row_out(seed, shape):
    n, d = shape
    features, labels = blobs(n, d, 3, seed=seed)
    fit = ridge(features, labels, 3)
    targets = targets_of(labels, 3)
    centred = features - features.mean(axis=0)
    unit = float(GramBasis.of(centred).values.mean())
    for share, error in zip(probing.RIDGE_GRID, fit.errors, strict=True):
        if share < 1e-3:
            continue  # nothing left of the residuals but rounding, where n < d
        residuals = []
        for row in range(n):
            kept = np.arange(n) != row
            model = Ridge(alpha=share * unit).fit(features[kept], targets[kept])
            residuals.append(targets[row] - model.predict(features[row : row + 1])[0])
        assert error == pytest.approx(np.mean(np.square(residuals)), rel=1e-6)


def test_ridge_of_a_known_basis_is_the_same():
    features, labels = blobs()
    features = features - features.mean(axis=0)
    alone = ridge(features, labels, 4)
    shared = ridge(features, labels, 4, basis=GramBasis.of(features))
    assert shared.weights == pytest.approx(alone.weights, rel=1e-10)
    assert shared.penalty == pytest.approx(alone.penalty)


def test_ridge_answers_like_its_scores():
    features, labels = blobs(distance=4.0)
    answers = ridge_classify(features, labels, features)
    assert (answers == ridge(features, labels, 4).scores(features).argmax(axis=1)).all()
    assert (answers == labels).mean() > 0.9


@given(st.integers(0, 10**6))
@settings(max_examples=25)
def test_nearest_centres_equal_the_naive_transcription(seed):
    train, train_labels, test, test_labels = halves(*blobs(30, 3, 3, seed=seed))
    result = nearest_centre_probe(train, train_labels, test, test_labels, 3)
    groups = clusters.by_class(train.tolist(), train_labels.tolist())
    centres = {label: clusters.centre(rows) for label, rows in groups.items()}
    for row, answer in zip(test.tolist(), result.predictions.tolist(), strict=True):
        assert answer == clusters.nearest_centre(row, centres)


@pytest.mark.parametrize("scale", [1e-150, 1e-8, 1.0, 1e8, 1e150])
def test_standardised_features_are_those_of_scikit_learn(scale):
    train, test = blobs(seed=1)[0] + 3, blobs(seed=2)[0] + 3
    model = StandardScaler().fit(train)
    found = standardise(scale * train, scale * test)
    assert found[0] == pytest.approx(model.transform(train), rel=1e-9, abs=1e-12)
    assert found[1] == pytest.approx(model.transform(test), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6 + 0.1])
def test_features_that_do_not_vary_in_training_become_zero(value):
    train, test = blobs(seed=1)[0], blobs(seed=2)[0]
    train[:, 2] = value
    found = standardise(train, test)
    assert (found[0][:, 2] == 0).all()
    assert (found[1][:, 2] == 0).all()
    assert found[0].std(axis=0)[3] == pytest.approx(1)


def test_test_rows_do_not_change_the_standard():
    train, test = blobs(seed=1)[0], blobs(seed=2)[0]
    assert (standardise(train, test)[0] == standardise(train, 1e6 * test)[0]).all()


@pytest.mark.parametrize("probe", PROBES)
def test_clear_classes_are_read_and_random_labels_are_not(probe):
    features, labels = blobs(400, distance=5.0)
    clear = probe(*halves(features, labels), 4)
    assert clear.test_accuracy > 0.95
    shuffled = np.random.default_rng(0).permutation(labels)
    random = probe(*halves(features, shuffled), 4)
    # Guessing, within three deviations of a share among 200.
    assert abs(random.test_accuracy - 0.25) < 3 * (0.1875 / 200) ** 0.5


@pytest.mark.parametrize("probe", PROBES)
def test_a_result_says_what_its_predictions_say(probe):
    features, labels = blobs(300, distance=0.8)
    train, train_labels, test, test_labels = halves(features, labels)
    train_labels = np.where(np.arange(150) < 40, 1, train_labels)
    result = probe(train, train_labels, test, test_labels, 4)
    right = result.predictions == test_labels
    assert result.test_accuracy == right.mean()
    assert result.interval == failure.wilson_interval(int(right.sum()), 150)
    assert result.chance == 0.25
    assert result.majority == (test_labels == 1).mean()
    assert ((result.margins > 0) == right).all()
    for name in (linear_accuracy, ridge_accuracy, ncc_accuracy):
        assert name(result) == result.test_accuracy


@pytest.mark.parametrize("probe", PROBES)
def test_a_class_unseen_in_training_is_never_answered_but_counted(probe):
    train, train_labels, test, test_labels = halves(*blobs(200, distance=4.0))
    seen = train_labels != 2
    result = probe(train[seen], train_labels[seen], test, test_labels, 4)
    unseen = test_labels == 2
    assert not (result.predictions == 2).any()
    assert result.details["test_rows_of_unseen_classes"] == unseen.sum()
    assert result.test_accuracy > 0.9 * (1 - unseen.mean())
    assert np.isfinite(result.margins).all()
    assert (result.margins[unseen] < 0).all()


@pytest.mark.parametrize("probe", PROBES)
def test_order_of_rows_and_names_of_classes_do_not_matter(probe):
    features, labels = blobs(200, distance=2.0)
    train, train_labels, test, test_labels = halves(features, labels)
    expected = probe(train, train_labels, test, test_labels, 4)
    order = np.random.default_rng(0).permutation(100)
    shuffled = probe(train[order], train_labels[order], test, test_labels, 4)
    assert (shuffled.predictions == expected.predictions).all()
    renamed = probe(train, 3 - train_labels, test, 3 - test_labels, 4)
    # Solvers stop at slightly different points: a row at a border may turn.
    assert (renamed.predictions != 3 - expected.predictions).sum() <= 1


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("n_train", [4, 8])
def test_few_rows_of_many_features_are_answered(probe, n_train):
    features, labels = blobs(40, 90, distance=2.0)
    result = probe(
        features[:n_train], labels[:n_train], features[n_train:], labels[n_train:], 4
    )
    assert result.test_accuracy > 0.5
    assert np.isfinite(result.margins).all()


@pytest.mark.parametrize("probe", PROBES)
def test_constant_features_give_the_most_frequent_class(probe):
    labels = np.array([0, 1, 1, 1, 2, 1])
    train, test = np.zeros((6, 3)), np.zeros((4, 3))
    result = probe(train, labels, test, np.array([1, 1, 0, 2]), 3)
    if probe is not nearest_centre_probe:  # centres all tie: the smallest class
        assert result.test_accuracy == result.majority == 0.5


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize(
    ("train", "test", "reason"),
    [
        ([0, 0, 0], [0, 1], "one class only: there is nothing to tell apart"),
        ([0, 1, 0], [], "no test rows"),
        ([], [0, 1], "no training rows"),
    ],
)
def test_what_cannot_be_probed_is_undecided(probe, train, test, reason):
    features = np.random.default_rng(0).standard_normal((5, 2))
    train_labels, test_labels = np.array(train, dtype=int), np.array(test, dtype=int)
    with pytest.raises(Undecidable, match=f"^{reason}$"):
        probe(
            features[: len(train)], train_labels, features[: len(test)], test_labels, 2
        )
