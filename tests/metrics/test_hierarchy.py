"""Subclasses within their class, and skill against a reference: by hand and planted."""

import numpy as np
import pytest
import scipy.stats
from scipy.spatial.distance import cdist

from repscope._checking import Undecidable
from repscope.metrics.hierarchy import subclass_given_class, suppression_index
from repscope.theory.planted import class_collapse, sound


def nearest_centroid(train, labels, test):
    centres = np.stack([train[labels == one].mean(axis=0) for one in np.unique(labels)])
    return cdist(test, centres).argmin(axis=1)


def first_feature(train, labels, test):
    """Answer with the first feature, whatever was trained on."""
    return test[:, 0].astype(np.int64)


FINE = np.array([0, 0, 1, 1, 0, 1, 1, 2, 2, 3, 3, 2, 3, 3])
COARSE = FINE // 2
IS_TEST = np.array([0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1], dtype=bool)


def answering(fine):
    """Return features whose first column answers `fine`, coded within its class."""
    return np.stack([np.asarray(fine) % 2, np.zeros(len(fine))], axis=1).astype(float)


@pytest.mark.parametrize(
    ("answers", "accuracy", "skill"),
    [
        (FINE, 1.0, 1.0),
        # Always the first subclass, which is also the most frequent of training.
        (np.zeros(14), 1 / 3, 0.0),
        # All right in the first class, all wrong in the second.
        (np.where(COARSE == 0, FINE, 1 - FINE % 2), 0.5, (0.5 - 1 / 3) / (2 / 3)),
    ],
)
def test_by_hand(answers, accuracy, skill):
    estimate = subclass_given_class(
        answering(answers), FINE, COARSE, IS_TEST, first_feature
    )
    assert estimate.value == pytest.approx(accuracy)
    assert estimate.details["skill"] == pytest.approx(skill)
    assert estimate.details["majority"] == pytest.approx(1 / 3)
    assert estimate.details["n_classes"] == 2
    assert estimate.details["n_test"] == 6


def naive(features, fine, coarse, is_test):
    """Return the mean over classes of a nearest-centroid accuracy, row by row."""
    accuracies = []
    for one in sorted(set(coarse.tolist())):
        centres = {}
        for child in sorted(set(fine[coarse == one].tolist())):
            centres[child] = features[(fine == child) & ~is_test].mean(axis=0)
        right = []
        for row in np.flatnonzero((coarse == one) & is_test):
            distances = {
                child: ((features[row] - centre) ** 2).sum()
                for child, centre in centres.items()
            }
            right.append(min(distances, key=distances.get) == fine[row])
        accuracies.append(sum(right) / len(right))
    return sum(accuracies) / len(accuracies)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_naive_transcription_agrees(seed):
    one = sound(300, 16, noise=2.0, seed=seed)
    fine, coarse = one.labels["fine"], one.labels["coarse"]
    is_test = np.random.default_rng(seed).random(300) < 0.4
    estimate = subclass_given_class(
        one.features, fine, coarse, is_test, nearest_centroid
    )
    expected = naive(one.features, fine, coarse, is_test)
    assert estimate.value == pytest.approx(expected, rel=1e-12)
    assert 0.5 < estimate.value < 1


def test_planted_subclasses_are_told_apart_and_collapsed_ones_are_not():
    one = sound(1000, 32, noise=0.3)
    fine, coarse = one.labels["fine"], one.labels["coarse"]
    is_test = np.arange(1000) % 5 == 0
    apart, merged = (
        subclass_given_class(features, fine, coarse, is_test, nearest_centroid)
        for features in (one.features, class_collapse(one).features)
    )
    assert apart.value > 0.95
    # 200 test rows: three standard errors of guessing between two.
    assert abs(merged.value - 0.5) < 3 * np.sqrt(0.25 / 200)


def test_rows_may_come_in_any_order():
    one = sound(300, 16, noise=2.0)
    fine, coarse = one.labels["fine"], one.labels["coarse"]
    is_test = np.arange(300) % 3 == 0
    order = np.random.default_rng(0).permutation(300)
    first = subclass_given_class(one.features, fine, coarse, is_test, nearest_centroid)
    second = subclass_given_class(
        one.features[order],
        fine[order],
        coarse[order],
        is_test[order],
        nearest_centroid,
    )
    assert second.value == pytest.approx(first.value, rel=1e-12)


def test_a_probe_sees_training_rows_of_one_class_only():
    seen = []

    def classify(train, labels, test):
        seen.append((train[:, 1].tolist(), test[:, 1].tolist()))
        return np.zeros(len(test), dtype=np.int64)

    features = np.stack([np.zeros(14), np.arange(14.0)], axis=1)
    subclass_given_class(features, FINE, COARSE, IS_TEST, classify)
    assert seen == [
        ([0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0]),
        ([7.0, 8.0, 9.0, 10.0], [11.0, 12.0, 13.0]),
    ]


def test_subclasses_with_one_training_row_are_left_out():
    fine = np.array([0, 0, 1, 1, 2, 0, 1, 2])
    is_test = np.arange(8) >= 5
    estimate = subclass_given_class(
        answering(fine), fine, np.zeros(8, dtype=np.int64), is_test, first_feature
    )
    assert estimate.details["n_test"] == 2
    assert estimate.value == 1.0


@pytest.mark.parametrize(
    ("fine", "is_test"),
    [
        ([0, 0, 0, 0], [0, 0, 1, 1]),
        ([0, 0, 1, 1], [0, 0, 0, 0]),
        ([0, 1, 0, 1], [0, 0, 1, 1]),
    ],
    ids=["one subclass", "no test rows", "one training row each"],
)
def test_undecidable_without_two_subclasses(fine, is_test):
    with pytest.raises(Undecidable, match="no class has two subclasses with training"):
        subclass_given_class(
            np.zeros((4, 2)),
            np.array(fine),
            np.zeros(4, dtype=np.int64),
            np.array(is_test, dtype=bool),
            first_feature,
        )


def right(n_right, n):
    return np.arange(n) < n_right


@pytest.mark.parametrize(
    ("own", "reference", "majority", "index"),
    [
        (90, 90, 0.1, 0.0),
        (50, 90, 0.1, 0.5),
        (10, 90, 0.1, 1.0),
        (90, 50, 0.1, -1.0),
        (0, 60, 0.2, 1.5),
    ],
)
def test_suppression_index_by_hand(own, reference, majority, index):
    estimate = suppression_index(right(own, 100), right(reference, 100), majority)
    assert estimate.value == pytest.approx(index)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_interval_is_that_of_a_paired_bootstrap(seed):
    generator = np.random.default_rng(seed)
    reference = generator.random(200) < 0.8
    own = reference & (generator.random(200) < 0.6)
    estimate = suppression_index(own, reference, 0.1, seed=seed)

    def index(a, b, axis):
        return 1 - (a.mean(axis=axis) - 0.1) / (b.mean(axis=axis) - 0.1)

    expected = scipy.stats.bootstrap(
        (own.astype(float), reference.astype(float)),
        index,
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=4000,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    # A thousand draws know the end of a 95 % interval to about .01.
    assert estimate.interval == pytest.approx((expected.low, expected.high), abs=0.02)
    assert estimate.interval[0] < estimate.value < estimate.interval[1]


def test_equal_answers_have_an_interval_of_no_width():
    answers = right(70, 100)
    assert suppression_index(answers, answers, 0.2).interval == (0.0, 0.0)


def test_the_interval_narrows_with_rows():
    widths = []
    for n in (50, 5000):
        low, high = suppression_index(
            right(n // 2, n), right(4 * n // 5, n), 0.1
        ).interval
        widths.append(high - low)
    # The standard error falls with the root of n, here by 10.
    assert 8 < widths[0] / widths[1] < 12.5


def test_one_seed_gives_one_interval():
    own, reference = right(50, 100), right(80, 100)
    first, again, other = (
        suppression_index(own, reference, 0.1, seed=seed) for seed in (3, 3, 4)
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize("n_right", [0, 10])
def test_a_reference_without_skill_is_undecidable(n_right):
    with pytest.raises(Undecidable, match="the reference has no skill of its own"):
        suppression_index(right(50, 100), right(n_right, 100), 0.1)
