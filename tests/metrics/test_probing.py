"""What all probes share: standardising, digits, splits, missing classes."""

import re

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, recall_score
from sklearn.preprocessing import StandardScaler

from repscope._arrays import host
from repscope._checking import InputError, Undecidable, UsageError
from repscope.metrics import failure
from repscope.metrics.logistic import linear_accuracy, logistic_probe
from repscope.metrics.nearest_centre import ncc_accuracy, nearest_centre_probe
from repscope.metrics.probing import LabelSet, standardise
from repscope.metrics.ridge import ridge_accuracy, ridge_probe

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
    assert linear_accuracy(result).value == pytest.approx(
        0.964, abs=0.0021
    )  # one image
    assert result.converged


def test_standardised_pixels_of_digits_reach_the_published_accuracy(digits):
    train, train_labels, test, test_labels = digits
    train, test = standardise(train, test)
    result = logistic_probe(train, train_labels, test, test_labels, 10)
    assert linear_accuracy(result).value == pytest.approx(0.978, abs=0.0021)
    assert result.train_accuracy > 0.999


def test_nearest_centres_of_digits_reach_the_published_accuracy(digits):
    train, train_labels, test, test_labels = digits
    result = nearest_centre_probe(train, train_labels, test, test_labels, 10)
    assert ncc_accuracy(result).value == pytest.approx(0.898, abs=5e-4)


def test_logistic_predictions_are_those_of_scikit_learn(digits):
    train, train_labels, test, test_labels = digits
    train, test = standardise(train, test)
    model = LogisticRegression(C=1.0, tol=1e-8, max_iter=5000).fit(train, train_labels)
    result = logistic_probe(train, train_labels, test, test_labels, 10)
    # The probe stops within a thousandth of the optimum: two images may differ.
    assert (result.predictions != model.predict(test)).sum() <= 2


@pytest.mark.parametrize("scale", [1e-290, 1e-150, 1e-8, 1.0, 1e8, 1e150, 1e290])
def test_standardised_features_are_those_of_scikit_learn(scale):
    train, test = blobs(seed=1)[0] + 3, blobs(seed=2)[0] + 3
    model = StandardScaler().fit(train)
    found = standardise(scale * train, scale * test)
    assert found[0] == pytest.approx(model.transform(train), rel=1e-9, abs=1e-12)
    assert found[1] == pytest.approx(model.transform(test), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("kind", ["float16", "float32", "uint8", "bool", ">f8"])
def test_any_real_type_is_standardised_in_float64(kind):
    train, test = [(3 + blobs(seed=seed)[0]).astype(kind) for seed in (1, 2)]
    found, expected = (
        standardise(train, test),
        standardise(*map(np.float64, (train, test))),
    )
    assert found[0].dtype == found[1].dtype == np.float64
    assert (found[0] == expected[0]).all()
    assert (found[1] == expected[1]).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_tensor_is_standardised_where_it_lives(dtype):
    train, test = (torch.from_numpy(blobs(seed=seed)[0]).to(dtype) for seed in (1, 2))
    found = standardise(train, test)
    expected = standardise(train.double().numpy(), test.double().numpy())
    assert isinstance(found[0], torch.Tensor)
    for one, other in zip(found, expected, strict=True):
        assert host(one) == pytest.approx(other, rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("offset", [1e2, 1e6])
def test_a_shift_is_taken_off(offset):
    train, test = blobs(seed=1)[0], blobs(seed=2)[0]
    found = standardise(train + offset, test + offset)
    for one, other in zip(found, standardise(train, test), strict=True):
        assert one == pytest.approx(other, abs=1e-8)


def test_features_of_each_scale_are_their_own():
    train, test = blobs(seed=1)[0], blobs(seed=2)[0]
    scales = np.array([1e-300, 1e-20, 1.0, 1e20, 1e150, 1e300])
    found = standardise(train * scales, test * scales)
    for one, other in zip(found, standardise(train, test), strict=True):
        assert one == pytest.approx(other, rel=1e-9, abs=1e-12)


def test_arguments_are_not_changed():
    train, test = blobs(seed=1)[0], blobs(seed=2)[0]
    copies = train.copy(), test.copy()
    standardise(train, test)
    assert (train == copies[0]).all()
    assert (test == copies[1]).all()


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
        assert name(result).value == result.test_accuracy


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
def test_accuracies_of_classes_are_the_recalls_of_scikit_learn(probe):
    train, train_labels, test, test_labels = halves(*blobs(200))
    kept = test_labels != 1
    result = probe(train, train_labels, test[kept], test_labels[kept], 5)
    recalls = recall_score(
        test_labels[kept], result.predictions, labels=[0, 2, 3], average=None
    )
    assert result.class_accuracies[1] is result.class_accuracies[4] is None
    assert [result.class_accuracies[k] for k in (0, 2, 3)] == pytest.approx(recalls)
    assert result.details["balanced_accuracy"] == pytest.approx(recalls.mean())
    assert result.details["classes_without_training_rows"] == 1
    everyone = probe(train, train_labels, test, test_labels, 4)
    assert everyone.details["balanced_accuracy"] == pytest.approx(
        balanced_accuracy_score(test_labels, everyone.predictions)
    )


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_tensor_is_read_alike(probe, dtype):
    features, labels = blobs(200)
    tensor = torch.from_numpy(features).to(dtype)
    found = probe(*halves(tensor, labels), 4)
    expected = probe(*halves(tensor.double().numpy(), labels), 4)
    assert isinstance(found.predictions, np.ndarray)
    assert (found.predictions == expected.predictions).all()
    assert found.margins == pytest.approx(expected.margins, rel=1e-6, abs=1e-9)
    assert found.train_accuracy == expected.train_accuracy


@pytest.mark.parametrize("probe", PROBES)
def test_a_tensor_with_a_class_unseen_in_training_is_read_alike(probe):
    train, train_labels, test, test_labels = halves(*blobs(200))
    seen = train_labels != 2
    rows, labels = train[seen], train_labels[seen]
    expected = probe(rows, labels, test, test_labels, 5)
    found = probe(
        torch.from_numpy(rows), labels, torch.from_numpy(test), test_labels, 5
    )
    assert (found.predictions == expected.predictions).all()
    assert found.train_accuracy == expected.train_accuracy
    assert found.details == pytest.approx(expected.details)


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("scale", [1e-200, 1e-20, 1e20, 1e200])
def test_standardised_features_are_read_at_any_scale(probe, scale):
    train, train_labels, test, test_labels = halves(*blobs(200))
    expected = probe(*_in_place(train, train_labels, test, test_labels), 4)
    found = probe(*_in_place(scale * train, train_labels, scale * test, test_labels), 4)
    assert (found.predictions == expected.predictions).all()


def _in_place(train, train_labels, test, test_labels):
    train, test = standardise(train, test)
    return train, train_labels, test, test_labels


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


@pytest.mark.parametrize(
    ("codes", "found"), [([0, 2, 1], "0 to 2"), ([-1, 0, 1], "-1 to 1")]
)
def test_codes_outside_the_classes_are_refused(codes, found):
    codes = np.array(codes)
    message = (
        "labels: class codes outside the number of classes\n"
        f"  found: codes from {found}; expected: 0 to 1"
    )
    with pytest.raises(InputError, match="^" + re.escape(message) + "$"):
        LabelSet(codes, 2)
    rows = np.eye(3)
    with pytest.raises(InputError, match="^" + re.escape(message) + "$"):
        nearest_centre_probe(rows, codes, rows, np.array([0, 1, 0]), 2)


def test_no_class_at_all_is_refused():
    message = "n_classes: a number of classes\n  found: 0; expected: at least 1"
    with pytest.raises(UsageError, match="^" + re.escape(message) + "$"):
        LabelSet(np.array([0]), 0)


def test_a_label_set_counts_its_classes():
    assert LabelSet(np.array([2, 0, 2]), 4).counts.tolist() == [1, 0, 2, 0]
