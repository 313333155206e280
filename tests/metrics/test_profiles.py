"""Class profiles and causes of errors: by hand, loops, planted truth, limits."""

import inspect
import re

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from references import clusters
from repscope._checking import InputError, Undecidable, UsageError
from repscope.metrics import profiles as module
from repscope.metrics.error_causes import (
    Answers,
    Cause,
    HeatmapEnergies,
    error_causes,
    scores_within_row,
)
from repscope.metrics.profiles import (
    ClassProfiles,
    activation_rate,
    activation_rates,
    class_deviance,
    class_profiles,
    deviance_gap,
    exclusivity,
    profile_codes,
)
from repscope.representations.class_moments import ClassMoments


def answered(n=90, d=7, n_classes=4, *, signal=2.0, seed=0):
    """Rows whose feature y stands for class y, and answers right in three of four."""
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    right = generator.random(n) < 0.75
    rows = np.abs(generator.standard_normal((n, d)))
    rows[np.arange(n), labels % d] += signal * right
    return rows, labels, right


def naive_means(rows, labels, right, group):
    """The mean row of each class that has rows in a group, by loops."""
    kept = [
        (row, label)
        for row, label, one in zip(
            rows.tolist(), labels.tolist(), right.tolist(), strict=True
        )
        if one == (group == "correct")
    ]
    groups = clusters.by_class(*(list(side) for side in zip(*kept, strict=True)))
    return {label: clusters.centre(own) for label, own in groups.items()}


@given(st.integers(0, 10**6))
def test_profiles_equal_the_naive_transcription(seed):
    rows, labels, right = answered(30, seed=seed)
    profiles = class_profiles(rows, labels, right, 4)
    for group in ("correct", "incorrect"):
        expected = naive_means(rows, labels, right, group)
        assert profiles.present(group).tolist() == list(expected)
        found = profiles.means(group)[profiles.present(group)]
        assert found.tolist() == [
            pytest.approx(one, rel=1e-12) for one in expected.values()
        ]
        deviances = [clusters.deviance(one) for one in expected.values()]
        assert profiles.deviances(group) == pytest.approx(deviances, rel=1e-10)


def test_profiles_by_hand():
    rows = np.array([[0.0, 0, 0, 4], [0.0, 0, 0, 8], [1.0, 1, 1, 0], [6.0, 0, 0, 0]])
    profiles = class_profiles(
        rows, np.array([0, 0, 0, 1]), np.array([True, True, False, True]), 3
    )
    assert profiles.counts("correct").tolist() == [2, 1, 0]
    assert profiles.means("correct")[0].tolist() == [0, 0, 0, 6]
    assert profiles.dominant().tolist() == [[3], [0]]
    assert profiles.missing("incorrect") == (1,)
    assert profiles.missing("correct") == ()  # class 2 has no rows at all
    # One feature apart of four, above or below: sqrt 3 and 1 / sqrt 3.
    assert class_deviance(profiles).value == pytest.approx(3**0.5)
    gap = deviance_gap(profiles)
    assert gap.value == pytest.approx(3**0.5 - 3**-0.5)
    assert gap.details["missing_incorrect"] == (1,)
    assert gap.interval is None  # one class has both


def test_deviances_are_z_scores_of_scipy():
    rows, labels, right = answered(400, 12, 5)
    profiles = class_profiles(rows, labels, right, 5)
    for group, side in (("correct", right), ("incorrect", ~right)):
        expected = [
            scipy.stats.zscore(rows[side & (labels == k)].mean(axis=0)).max()
            for k in range(5)
        ]
        assert profiles.deviances(group) == pytest.approx(expected, rel=1e-10)
    estimate = class_deviance(profiles)
    interval = scipy.stats.t.interval(
        0.95,
        4,
        loc=estimate.value,
        scale=scipy.stats.sem(profiles.deviances("correct")),
    )
    assert estimate.interval == pytest.approx(interval)
    assert estimate.details["least"] == profiles.deviances("correct").min()


def test_right_answers_stand_out_where_their_feature_was_planted():
    rows, labels, right = answered(2000, 16, 8, signal=3.0)
    profiles = class_profiles(rows, labels, right, 8)
    assert profiles.dominant()[:, 0].tolist() == list(range(8))
    low, _ = deviance_gap(profiles).interval
    assert low > 0.5
    assert exclusivity(profiles).value == 1


def test_nothing_stands_out_in_errors_that_look_like_right_answers():
    rows, labels, _ = answered(4000, 16, 8)
    random = np.random.default_rng(1).random(4000) < 0.5
    profiles = class_profiles(rows, labels, random, 8)
    low, high = deviance_gap(profiles).interval
    assert low < 0 < high


@given(st.integers(0, 10**6), st.integers(1, 5))
def test_exclusivity_equals_the_naive_transcription(seed, top):
    rows, labels, right = answered(30, 5, signal=0.5, seed=seed)
    profiles = class_profiles(rows, labels, right, 4)
    means = list(naive_means(rows, labels, right, "correct").values())
    found = exclusivity(profiles, top=top)
    assert found.value == pytest.approx(clusters.exclusivity(means, top))
    assert found.details[f"top_{top}"] == found.value


def test_exclusivity_by_hand():
    # Greatest features: class 0 has 0 then 1, class 1 has 0 then 2, class 2 has 3.
    rows = np.array([[9.0, 5, 0, 0], [9.0, 0, 5, 0], [0.0, 1, 0, 9]])
    profiles = class_profiles(rows, np.arange(3), np.ones(3, dtype=bool), 3)
    one = exclusivity(profiles)
    assert one.value == 1 / 2  # of features 0 and 3
    assert one.details["n_features"] == 2
    two = exclusivity(profiles, top=2)
    assert two.value == 2 / 4  # 2 and 3, of 0, 1, 2, 3
    assert one.details["top_2"] == two.value
    assert one.details["top_4"] == 0


def test_ties_go_to_the_first_feature():
    profiles = class_profiles(
        np.array([[1.0, 2, 2, 0]]), np.array([0]), np.array([True]), 1
    )
    assert profiles.dominant(3).tolist() == [[1, 2, 0]]


@given(st.integers(0, 10**6), st.sampled_from([0.5, 1.0, 2.0]))
def test_activation_rates_equal_the_naive_transcription(seed, deviations):
    rows = np.random.default_rng(seed).standard_normal((15, 9)) ** 3
    found = activation_rates(rows, deviations=deviations)
    expected = [clusters.active_share(rows.tolist(), k, deviations) for k in range(9)]
    assert found == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("library", [np.asarray, torch.tensor])
def test_the_most_used_feature_is_found(library):
    rows = np.random.default_rng(0).standard_normal((500, 20))
    rows[:, 7] += 10
    rows[:, 3] -= 10
    estimate = activation_rate(library(rows))
    assert estimate.value == 1
    assert estimate.details["feature"] == 7
    standing = scipy.stats.zscore(rows, axis=1) > 2
    assert estimate.details["mean"] == pytest.approx(standing.mean(), rel=1e-12)
    never = (standing.sum(axis=0) == 0).mean()
    assert estimate.details["never"] == pytest.approx(never)


def test_few_features_are_never_active_and_constant_rows_neither():
    assert activation_rate(np.random.default_rng(0).random((50, 5))).value == 0
    assert activation_rate(np.full((5, 40), 0.1)).value == 0


@pytest.mark.parametrize("scale", [1e-100, 1e-20, 1.0, 1e20, 1e100])
def test_scale_order_shards_and_tensors_change_nothing(scale):
    rows, labels, right = answered()
    whole = class_profiles(rows, labels, right, 4)
    groups = ClassMoments(8, 7)
    for part in np.array_split(np.random.default_rng(0).permutation(90), 5):
        codes = profile_codes(labels[part], right[part])
        groups.merge(ClassMoments(8, 7).update(rows[part] * scale, codes))
    tensors = class_profiles(torch.tensor(rows * scale), labels, right, 4)
    for function in (class_deviance, deviance_gap, exclusivity):
        expected = function(whole).value
        for found in (ClassProfiles(groups), tensors):
            assert function(found).value == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    ("function", "answers", "reason"),
    [
        (class_deviance, [False] * 6, "no answer is right: no class has a profile"),
        (deviance_gap, [True] * 6, "no class has both right and wrong answers"),
        (deviance_gap, [False] * 6, "no class has both right and wrong answers"),
        (
            exclusivity,
            [True, False, True, False, True, False],
            "fewer than two classes have right answers",
        ),
    ],
)
def test_what_cannot_be_decided_says_why(function, answers, reason):
    rows = np.random.default_rng(0).random((6, 4))
    profiles = class_profiles(rows, np.arange(6) % 2, np.array(answers), 2)
    with pytest.raises(Undecidable, match=f"^{re.escape(reason)}$"):
        function(profiles)


def test_bad_arguments_are_named():
    rows, labels, right = answered()
    profiles = class_profiles(rows, labels, right, 4)
    with pytest.raises(UsageError, match="^top: .*\n  found: 8; expected: 1 to 7$"):
        exclusivity(profiles, top=8)
    with pytest.raises(InputError, match="^labels: one entry per row of features"):
        inspect.unwrap(class_profiles)(rows, labels[:9], right, 4)
    with pytest.raises(InputError, match="^right: one entry per row of labels"):
        inspect.unwrap(profile_codes)(labels, right[:9])
    narrow = class_profiles(rows[:, :1], labels, right, 4)
    with pytest.raises(InputError, match="1 feature per row"):
        class_deviance(narrow)


# --- causes of errors ---------------------------------------------------------------


def planted_errors():
    """Class k's feature is k; errors lack it, or have it, or have another one too."""
    d = 20
    rows = np.full((16, d), 0.1)
    labels = np.array([0] * 6 + [1] * 6 + [2] * 4)
    predictions = labels.copy()
    rows[np.arange(16), labels] = 5.0
    rows[4], predictions[4] = 0.1, 1  # constant: nothing is active
    rows[5, 1], predictions[5] = 4.0, 1  # both features are active
    rows[10, 1], rows[10, 7], predictions[10] = 0.1, 5.0, 0  # another feature
    predictions[11] = 2  # its feature is active all the same
    predictions[12:] = 0  # class 2 has no right answer
    return rows, labels, predictions


def causes_of(energies=None, answers=None):
    rows, labels, predictions = planted_errors()
    answers = answers or Answers.of(labels, predictions)
    profiles = class_profiles(rows, labels, answers.right, 3)
    return error_causes(rows, answers, profiles, energies=energies)


def test_causes_are_those_planted():
    found = causes_of()
    assert found.rows.tolist() == [4, 5, 10, 11, 12, 13, 14, 15]
    assert [cause.value for cause in found.causes] == [
        "missing",
        "confusable",
        "missing",
        "confusable",
        *["undecided"] * 4,
    ]
    assert found.counts[0][Cause.MISSING] == found.counts[0][Cause.CONFUSABLE] == 1
    assert found.counts[2][Cause.UNDECIDED] == 4
    assert sum(sum(own.values()) for own in found.counts.values()) == 8
    assert found.details["spurious_decided"] is False
    assert (found.details["missing"], found.details["spurious"]) == (2, 0)


def test_heatmaps_off_the_object_make_features_spurious():
    own = np.full(16, 0.8)
    own[11] = 0.1  # looks away
    own[10] = 0.0  # missing all the same
    found = causes_of(HeatmapEnergies(own))
    causes = dict(zip(found.rows.tolist(), found.causes, strict=True))
    assert causes[11] == Cause.SPURIOUS
    assert causes[5] == Cause.CONFUSABLE
    assert causes[10] == Cause.MISSING
    assert found.details["spurious_decided"] is True
    # The prediction's feature looks away, and is active in row 5 only.
    predicted = np.full(16, 0.8)
    predicted[[5, 11]] = 0.1
    found = causes_of(HeatmapEnergies(np.full(16, 0.8), predicted))
    causes = dict(zip(found.rows.tolist(), found.causes, strict=True))
    assert (causes[5], causes[11]) == (Cause.SPURIOUS, Cause.CONFUSABLE)


@given(st.integers(0, 10**6))
def test_causes_equal_the_naive_transcription(seed):
    rows, labels, _ = answered(60, 12, 3, signal=1.0, seed=seed)
    rows[np.arange(60), labels] += 2 * (np.arange(60) % 4 > 0)
    generator = np.random.default_rng(seed)
    predictions = np.where(generator.random(60) < 0.7, labels, (labels + 1) % 3)
    own, predicted = generator.random((2, 60))
    answers = Answers.of(labels, predictions)
    profiles = class_profiles(rows, labels, answers.right, 3)
    energies = HeatmapEnergies(own, predicted)
    found = error_causes(rows, answers, profiles, energies=energies)
    means = naive_means(rows, labels, answers.right, "correct")
    dominant = {k: mean.index(max(mean)) for k, mean in means.items()}
    least = {
        k: float(scipy.stats.scoreatpercentile(own[answers.right & (labels == k)], 10))
        for k in dominant
    }
    for row, cause in zip(found.rows, found.causes, strict=True):
        y, p = int(labels[row]), int(predictions[row])
        heatmaps = [(own[row], least[y]), (predicted[row], least[p])]
        expected = clusters.cause_of_error(
            rows[row].tolist(), dominant[y], dominant[p], heatmaps
        )
        assert cause.value == expected


def test_predictions_stand_for_labels_that_are_not_known():
    _, _, predictions = planted_errors()
    right = np.arange(16) < 10
    answers = Answers(predictions, predictions, right)
    rows = planted_errors()[0]
    profiles = class_profiles(rows, predictions, right, 3)
    found = error_causes(rows, answers, profiles)
    assert found.rows.tolist() == list(range(10, 16))
    assert set(found.counts) == {0, 2}


def test_no_errors_have_no_causes():
    rows, labels, _ = planted_errors()
    answers = Answers.of(labels, labels)
    profiles = class_profiles(rows, labels, answers.right, 3)
    found = error_causes(rows, answers, profiles)
    assert (len(found.rows), found.causes, dict(found.counts)) == (0, (), {})


@pytest.mark.parametrize("library", [np.asarray, torch.tensor])
def test_scores_of_one_feature_within_its_row(library, monkeypatch):
    rows = np.random.default_rng(0).standard_normal((20, 6)) * 1e3
    rows[3] = 0.1
    columns = np.arange(20) % 6
    expected = np.nan_to_num(scipy.stats.zscore(np.delete(rows, 3, 0), axis=1))
    expected = np.insert(expected, 3, 0, axis=0)[np.arange(20), columns]
    found = scores_within_row(library(rows), columns)
    assert found == pytest.approx(expected, rel=1e-10)
    monkeypatch.setattr("repscope.metrics.row_sums.CACHED_VALUES", 18)
    assert scores_within_row(library(rows), columns) == pytest.approx(expected)


def test_energies_must_fit_the_rows():
    with pytest.raises(InputError, match="^energies: some of wrong rows are NaN"):
        causes_of(HeatmapEnergies(np.full(16, np.nan)))
    with pytest.raises(InputError, match="^energies: one entry per row of features"):
        causes_of(HeatmapEnergies(np.ones(15)))
    rows, labels, predictions = planted_errors()
    answers = Answers.of(labels, predictions)
    profiles = class_profiles(rows, labels, answers.right, 3)
    with pytest.raises(InputError, match="^labels: one entry per row of features"):
        inspect.unwrap(error_causes)(rows[:9], answers, profiles)


def test_the_least_deviations_are_those_of_the_specification():
    assert module.ACTIVE_DEVIATIONS == 2
