"""Subclasses within their class, and skill against a reference: by hand and planted."""

import inspect

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from scipy.spatial.distance import cdist

from repscope._checking import InputError, Undecidable, UsageError
from repscope.metrics import hierarchy
from repscope.metrics.failure import wilson_interval
from repscope.metrics.hierarchy import (
    subclass_given_class,
    suppression_between,
    suppression_index,
)
from repscope.metrics.noise_floor import NoiseFloor
from repscope.metrics.ridge import ridge_classify
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


# --- intervals, noise floor and lengths -----------------------------------------------


def test_the_interval_of_one_class_is_wilsons():
    answers = np.where(np.arange(14) % 3 == 0, 1 - FINE % 2, FINE % 2)
    coarse = np.where(COARSE == 0, 0, 9)
    one = COARSE == 0
    found = subclass_given_class(
        answering(answers)[one], FINE[one], coarse[one], IS_TEST[one], first_feature
    )
    right = round(found.value * 3)
    expected = wilson_interval(right, 3)
    assert found.interval == pytest.approx(expected)


def test_the_interval_of_equal_classes_narrows_with_their_number():
    def interval(n_classes):
        n = 40 * n_classes
        coarse = np.repeat(np.arange(n_classes), 40)
        fine = 2 * coarse + np.arange(n) % 2
        is_test = np.arange(n) % 4 > 1
        # Six of the twenty test rows of every class are answered wrongly.
        wrong = is_test & (np.arange(n) % 40 < 12)
        answers = np.where(wrong, 1 - fine % 2, fine % 2)
        return subclass_given_class(
            answering(answers), fine, coarse, is_test, first_feature
        )

    one, nine = interval(1), interval(9)
    assert one.value == nine.value == 0.7
    assert one.interval == pytest.approx(wilson_interval(14, 20))
    low, high = np.array(nine.interval) - 0.7
    # Nine equal classes: a third of the width.
    assert 3 * low == pytest.approx(one.interval[0] - 0.7)
    assert 3 * high == pytest.approx(one.interval[1] - 0.7)


def test_the_combined_interval_holds_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(0)
    sizes, truths = np.array([15, 40, 80]), np.array([0.95, 0.7, 0.5])
    held, draws = 0, 2000
    for drawn in generator.binomial(sizes, truths, (draws, 3)):
        _, (low, high) = hierarchy._mean_of_shares(drawn.tolist(), sizes.tolist())
        held += low <= truths.mean() <= high
    # Three standard errors of 95 % over 2,000 draws are 1.5 points; Wilson's own
    # coverage wavers by about as much.
    assert abs(held / draws - 0.95) < 0.02


def planted_floor(gap, *, n=2000, d=8):
    """Return features with classes at +-1 and subclasses `gap` apart, without noise."""
    generator = np.random.default_rng(0)
    coarse, own = generator.integers(0, 2, n), generator.integers(0, 2, n)
    features = np.zeros((n, d))
    features[:, 0] = 2 * coarse - 1
    features[:, 1] = gap / 2 * (2 * own - 1)
    return features, 2 * coarse + own, coarse, np.arange(n) % 2 == 0


@pytest.mark.parametrize("gap", [1e-9, 0.006])
def test_a_noise_floor_hides_what_a_probe_would_read_at_any_size(gap):
    rows = planted_floor(gap)
    assert subclass_given_class(*rows, ridge_classify).value == 1.0
    found = subclass_given_class(*rows, ridge_classify, noise_floor=NoiseFloor(0.1))
    # Half the distance of class centres is 1; noise of .1 is far above either gap.
    assert found.details["deviation"] == pytest.approx(0.1)
    assert 0.45 < found.value < 0.55


def test_a_noise_floor_leaves_what_is_above_it():
    rows = planted_floor(1.0)
    found = subclass_given_class(*rows, ridge_classify, noise_floor=NoiseFloor(0.1))
    assert found.value > 0.99
    # d' = .5 / .25: the error of a threshold between two normals is the tail beyond 2.
    wide = subclass_given_class(*rows, ridge_classify, noise_floor=NoiseFloor(0.25))
    assert wide.value == pytest.approx(scipy.stats.norm.cdf(2.0), abs=0.015)


def test_a_noise_floor_may_be_given_in_units_of_the_features():
    rows = planted_floor(1.0)
    own, given = (
        subclass_given_class(*rows, ridge_classify, noise_floor=floor)
        for floor in (NoiseFloor(0.25), NoiseFloor(1.0, margin=0.25))
    )
    assert own.value == given.value


def test_a_reference_within_its_sampling_error_has_no_interval():
    own, reference = right(3, 20), right(4, 20)
    found = suppression_index(own, reference, 0.15)
    assert found.value == pytest.approx(1.0)
    assert found.interval is None
    assert "within its sampling error" in found.details["interval"]
    assert found.details["open_draws"] > 25


def test_a_reference_that_is_right_by_rounding_alone_has_no_interval():
    reference = right(3, 10)
    found = suppression_index(right(1, 10), reference, np.nextafter(0.3, 0))
    assert found.interval is None


def test_suppression_index_without_rows_or_of_other_rows():
    with pytest.raises(Undecidable, match="no test rows"):
        suppression_index(right(0, 0), right(0, 0), 0.1)
    with pytest.raises(InputError, match="reference_correct: one entry per row"):
        inspect.unwrap(suppression_index)(right(1, 3), right(1, 4), 0.1)


# --- two trainings --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("with_factor", "without", "chance", "index"),
    [
        (966, 966, 0.1, 0.0),
        (400, 966, 0.1, 1 - 0.3 / 0.866),
        (100, 966, 0.1, 1.0),
        (980, 900, 0.1, -0.1),
        (0, 600, 0.2, 1.5),
    ],
)
def test_suppression_between_by_hand(with_factor, without, chance, index):
    found = suppression_between(right(with_factor, 1000), right(without, 1000), chance)
    assert found.value == pytest.approx(index)
    low, high = found.interval
    assert low < found.value < high
    assert found.details["accuracy_with"] == pytest.approx(with_factor / 1000)


@pytest.mark.parametrize(
    ("with_factor", "without"), [(800, 1900), (300, 1600), (1900, 1800), (1000, 1000)]
)
def test_its_interval_is_the_delta_methods_for_many_rows(with_factor, without):
    n, chance = 2000, 0.1
    found = suppression_between(right(with_factor, n), right(without, n), chance)
    p, q = with_factor / n, without / n
    a, b = p - chance, q - chance
    variance = (p * (1 - p) / b**2 + q * (1 - q) * a**2 / b**4) / n
    half = 1.959964 * np.sqrt(variance)
    expected = (1 - a / b - half, 1 - a / b + half)
    assert found.interval == pytest.approx(expected, abs=0.1 * half)


@pytest.mark.parametrize(
    ("with_factor", "without", "n"), [(0.4, 0.95, 60), (0.1, 0.7, 60), (0.9, 0.8, 60)]
)
def test_it_holds_the_truth_as_often_as_it_says(with_factor, without, n):
    generator = np.random.default_rng(0)
    truth = 1 - (with_factor - 0.1) / (without - 0.1)
    drawn = generator.binomial(n, (with_factor, without), (1000, 2))
    held = 0
    for (a, b), times in zip(
        *np.unique(drawn, axis=0, return_counts=True), strict=True
    ):
        low, high = suppression_between(right(a, n), right(b, n), 0.1).interval
        held += times * (low <= truth <= high)
    # Three standard errors of 95 % over 1,000 draws are 2.1 points.
    assert abs(held / 1000 - 0.95) < 0.025


def naive_ratio_interval(above, below):
    """Return where the interval of above - R below ends at 0, by bisection.

    Zou, Donner 2008: the limits of a difference are its value -+ the root of the
    summed squares of the distances to the limits of the parts that count.
    """
    (a, a_low, a_high), (b, b_low, b_high) = above, below

    def lower(ratio):
        width = b_high - b if ratio >= 0 else b - b_low
        return a - ratio * b - np.hypot(a - a_low, ratio * width)

    def upper(ratio):
        width = b - b_low if ratio >= 0 else b_high - b
        return a - ratio * b + np.hypot(a_high - a, ratio * width)

    return tuple(scipy.optimize.brentq(end, -1e3, 1e3) for end in (lower, upper))


def test_the_interval_of_a_ratio_is_that_of_a_search():
    generator = np.random.default_rng(0)
    for _ in range(100):
        a, b = generator.uniform(-0.3, 1), generator.uniform(0.3, 1)
        below, above = generator.uniform(0, 0.25, (2, 2))
        parts = ((a, a - below[0], a + above[0]), (b, b - below[1], b + above[1]))
        found = hierarchy._ratio_interval(*parts)
        assert found == pytest.approx(naive_ratio_interval(*parts), abs=1e-9)


def test_other_test_rows_of_another_number_will_do():
    found = suppression_between(right(40, 100), right(194, 200), 0.1)
    assert found.value == pytest.approx(1 - 0.3 / 0.87)


def test_a_little_skill_without_the_factor_has_no_interval():
    found = suppression_between(right(3, 20), right(4, 20), 0.1)
    assert found.value == pytest.approx(0.5)
    assert found.interval is None
    assert "within its sampling error" in found.details["interval"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((right(5, 10), right(1, 10), 0.1), Undecidable, "no skill of its own"),
        ((right(0, 0), right(5, 10), 0.1), Undecidable, "no test rows"),
        ((right(5, 10), right(0, 0), 0.1), Undecidable, "no test rows"),
        ((right(5, 10), right(5, 10), 1.0), UsageError, "chance"),
        ((right(5, 10), right(5, 10), -0.1), UsageError, "chance"),
    ],
)
def test_trainings_that_cannot_be_compared(arguments, error, message):
    with pytest.raises(error, match=message):
        suppression_between(*arguments)
