"""Does a score predict errors: references, ties, base rates, intervals, limits."""

import inspect
import time

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestCentroid

from references import rankings
from repscope._checking import InputError, Undecidable
from repscope.metrics import failure
from repscope.metrics.samples import SCORES, feature_mean, l1_norm

PREDICTIONS = (
    failure.auroc,
    failure.auprc_correct,
    failure.auprc_error,
    failure.error_ratio_lowest,
)


def scored(n=300, gap=0.7, accuracy=0.7, seed=0):
    generator = np.random.default_rng(seed)
    right = generator.random(n) < accuracy
    return gap * right + generator.standard_normal(n), right


def three_areas(scores, right, draws=2):
    return [
        function(scores, right, draws=draws).value
        for function in (failure.auroc, failure.auprc_correct, failure.auprc_error)
    ]


def test_areas_by_hand():
    scores = np.array([4.0, 3.0, 2.0, 1.0])
    right = np.array([True, False, True, False])
    # Pairs won: (4, 3), (4, 1), (2, 1) of four.
    assert failure.auroc(scores, right, draws=2).value == 0.75
    # Right answers from the top: 1/2 at precision 1, 1/2 at 2/3.
    assert failure.auprc_correct(scores, right, draws=2).value == pytest.approx(5 / 6)
    # Errors from the bottom: 1/2 at precision 1, 1/2 at 2/3.
    assert failure.auprc_error(scores, right, draws=2).value == pytest.approx(5 / 6)


few_scores = st.lists(
    st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=12
)


@given(few_scores)
@settings(max_examples=50)
def test_areas_equal_the_naive_transcriptions(pairs):
    scores = np.array([float(score) for score, _ in pairs])
    right = np.array([one for _, one in pairs])
    assume(right.any() and not right.all())
    plain, answers = scores.tolist(), right.tolist()
    errors = [not one for one in answers]
    lowered = [-score for score in plain]
    assert three_areas(scores, right) == pytest.approx(
        [
            rankings.area_under_roc(plain, answers),
            rankings.average_precision(plain, answers),
            rankings.average_precision(lowered, errors),
        ]
    )


@pytest.mark.parametrize("decimals", [0, 1, 8])
def test_areas_equal_those_of_scikit_learn(decimals):
    scores, right = scored(500)
    scores = scores.round(decimals)
    assert three_areas(scores, right) == pytest.approx(
        [
            sklearn.metrics.roc_auc_score(right, scores),
            sklearn.metrics.average_precision_score(right, scores),
            sklearn.metrics.average_precision_score(~right, -scores),
        ]
    )


def test_area_equals_the_statistic_of_mann_and_whitney():
    scores, right = scored(200)
    scores = scores.round(1)
    u = scipy.stats.mannwhitneyu(scores[right], scores[~right]).statistic
    pairs = right.sum() * (~right).sum()
    assert failure.auroc(scores, right, draws=2).value == pytest.approx(u / pairs)


def test_equal_scores_predict_nothing():
    right = scored()[1]
    estimate = failure.auroc(np.zeros(len(right)), right)
    assert (estimate.value, estimate.interval) == (0.5, (0.5, 0.5))
    assert failure.auprc_correct(np.zeros(len(right)), right).details["lift"] == 0
    assert failure.auprc_error(np.zeros(len(right)), right).details["lift"] == 0
    ratio = failure.error_ratio_lowest(np.zeros(len(right)), right)
    assert ratio.value == pytest.approx(1)


def test_a_perfect_score_has_full_areas():
    right = scored()[1]
    assert three_areas(right.astype(float), right) == [1, 1, 1]
    assert failure.auroc(-right.astype(float), right).value == 0


def test_a_score_and_its_negative_share_the_oriented_area():
    scores, right = scored()
    up, down = failure.auroc(scores, right), failure.auroc(-scores, right)
    assert down.value == pytest.approx(1 - up.value)
    assert up.details["oriented"] == pytest.approx(down.details["oriented"])
    assert up.details["oriented"] == up.value > 0.5


@given(st.integers(0, 10**6))
@settings(max_examples=20)
def test_order_of_rows_and_monotone_maps_do_not_matter(seed):
    scores, right = scored(60, seed=seed)
    scores = scores.round(1)
    assume(0 < right.sum() < 60)
    order = np.random.default_rng(seed).permutation(60)
    for function in PREDICTIONS:
        value = function(scores, right, draws=2).value
        shuffled = function(scores[order], right[order], draws=2).value
        assert shuffled == pytest.approx(value, rel=1e-12)
        mapped = function(np.exp(3 * scores) - 5, right, draws=2).value
        assert mapped == pytest.approx(value, rel=1e-12)


def test_base_rates_are_accuracy_and_error_rate():
    scores, right = scored(accuracy=0.8)
    correct = failure.auprc_correct(scores, right)
    error = failure.auprc_error(scores, right)
    assert correct.details["base_rate"] == right.mean()
    assert error.details["base_rate"] == pytest.approx(1 - right.mean())
    for one in (correct, error):
        lift = one.value - one.details["base_rate"]
        assert one.details["lift"] == pytest.approx(lift)


def test_intervals_of_a_random_score_cover_guessing_in_19_of_20_cases():
    covered = np.zeros(3)
    for seed in range(200):
        scores, right = scored(400, gap=0.0, seed=seed)
        low, high = failure.auroc(scores, right, seed=seed, draws=300).interval
        covered[0] += low <= 0.5 <= high
    assert 0.91 <= covered[0] / 200 <= 0.98


def test_interval_has_the_width_that_theory_gives():
    scores, right = scored(2000)
    low, high = failure.auroc(scores, right).interval
    # DeLong, DeLong, Clarke-Pearson 1988: variances of the mean ranks of each side.
    wins = (scores[right][:, None] > scores[~right][None, :]).astype(float)
    variance = wins.mean(axis=1).var(ddof=1) / right.sum()
    variance += wins.mean(axis=0).var(ddof=1) / (~right).sum()
    # The quantiles of 1,000 draws themselves vary by about 4 %.
    assert (high - low) / 2 == pytest.approx(1.96 * variance**0.5, rel=0.12)


def test_the_bootstrap_resamples_right_and_wrong_rows_apart():
    # One error: drawn apart it is in every resample, so that each area is defined.
    scores, right = scored(50)
    right = np.arange(50) != 17
    for function in (failure.auroc, failure.auprc_correct, failure.auprc_error):
        low, high = function(scores, right).interval
        assert 0 <= low <= high <= 1


def test_the_bootstrap_equals_resampling_row_by_row():
    scores, right = scored(120)
    scores = scores.round(1)
    generator = np.random.default_rng(5)
    values = []
    for _ in range(400):
        rows = [
            generator.choice(np.flatnonzero(side), side.sum())
            for side in (right, ~right)
        ]
        drawn = np.concatenate(rows)
        values.append(three_areas_of_library(scores[drawn], right[drawn]))
    expected = np.quantile(values, [0.025, 0.975], axis=0).T
    for function, interval in zip(PREDICTIONS[:3], expected, strict=True):
        found = function(scores, right, draws=3000).interval
        # Quantiles of 400 draws of a deviation of .05 vary by about .007.
        assert found == pytest.approx(interval, abs=0.025)


def three_areas_of_library(scores, right):
    return [
        sklearn.metrics.roc_auc_score(right, scores),
        sklearn.metrics.average_precision_score(right, scores),
        sklearn.metrics.average_precision_score(~right, -scores),
    ]


def test_the_seed_decides_the_interval():
    scores, right = scored()
    same = [failure.auroc(scores, right, seed=3).interval for _ in range(2)]
    assert same[0] == same[1]
    assert failure.auroc(scores, right, seed=4).interval != same[0]


def test_a_thousand_draws_of_ten_thousand_rows_are_quick():
    scores, right = scored(10_000)
    begun = time.process_time()
    failure.predict_failure("q_score", scores, right)
    # About 0.15 s on one core.
    assert time.process_time() - begun < 1.0


@pytest.mark.parametrize("function", PREDICTIONS)
@pytest.mark.parametrize("is_right", [True, False])
def test_nothing_can_be_predicted_without_both_answers(function, is_right):
    word = "right" if is_right else "wrong"
    with pytest.raises(Undecidable, match=f"^the probe is {word} on every test row$"):
        function(np.arange(30.0), np.full(30, is_right))


@given(st.integers(0, 10**6), st.integers(20, 60))
def test_errors_among_the_lowest_equal_the_naive_transcription(seed, n):
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 4, n).astype(float)
    right = generator.random(n) < 0.6
    assume(right.any() and not right.all())
    count = -(-n // 10)
    rate = rankings.error_rate_of_lowest(scores.tolist(), right.tolist(), count)
    estimate = failure.error_ratio_lowest(scores, right)
    assert estimate.details["error_rate_lowest"] == pytest.approx(rate)
    assert estimate.value == pytest.approx(rate / (~right).mean())


@pytest.mark.parametrize("n", [20, 24, 29, 100])
def test_the_ratio_of_errors_keeps_its_bounds_and_interval(n):
    right = np.arange(n) > 0
    estimate = failure.error_ratio_lowest(np.arange(float(n)), right)
    low, high = estimate.interval
    assert 0 <= low <= estimate.value <= high <= 10


def test_the_ratio_of_errors_finds_planted_low_scores():
    scores, right = scored(1000, accuracy=0.9)
    lowest = np.argsort(scores)[:100]
    right[lowest] = False
    right[np.argsort(scores)[100:]] = True
    assert failure.error_ratio_lowest(scores, right).value == pytest.approx(10)


@pytest.mark.parametrize(
    ("successes", "n"), [(0, 10), (10, 10), (3, 7), (717, 1000), (1, 10**6)]
)
def test_wilson_interval_equals_that_of_scipy(successes, n):
    library = scipy.stats.binomtest(successes, n).proportion_ci(method="wilson")
    found = failure.wilson_interval(successes, n)
    assert found == pytest.approx((library.low, library.high), abs=1e-12)
    assert 0 <= found[0] <= successes / n <= found[1] <= 1


def test_each_score_has_a_declared_sign():
    assert set(failure.DECLARED_SIGNS) == set(SCORES)
    low = {name for name, sign in failure.DECLARED_SIGNS.items() if sign == -1}
    assert low == {"l1_norm", "feature_mean", "feature_std"}


def test_a_declared_sign_turns_the_score():
    scores, right = scored()
    high = failure.predict_failure("q_score", scores, right)
    low = failure.predict_failure("l1_norm", scores, right)
    assert (high.sign, low.sign) == (1, -1)
    assert low.area.value == pytest.approx(1 - high.area.value)
    for one in (high, low):
        assert one.area == failure.auroc(one.scores, right)
        assert one.correct == failure.auprc_correct(one.scores, right)
        assert one.error == failure.auprc_error(one.scores, right)


def test_points_of_the_roc_curve_enclose_its_area():
    scores, right = scored(5000)
    x, y = failure.roc_points(scores, right)
    assert len(x) <= failure.CURVE_POINTS + 1
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    area = failure.auroc(scores, right, draws=2).value
    assert np.trapezoid(y, x) == pytest.approx(area, abs=2e-3)


def test_points_of_the_roc_curve_are_those_of_scikit_learn():
    scores, right = scored(60)
    scores = scores.round(1)
    expected = sklearn.metrics.roc_curve(right, scores, drop_intermediate=False)
    found = failure.roc_points(scores, right)
    assert found[0] == pytest.approx(expected[0])
    assert found[1] == pytest.approx(expected[1])


def test_points_of_precision_and_recall_are_those_of_scikit_learn():
    scores, right = scored(60)
    scores = scores.round(1)
    precision, recall, _ = sklearn.metrics.precision_recall_curve(right, scores)
    found = failure.precision_recall_points(scores, right)
    assert found[0] == pytest.approx(recall[-2::-1])
    assert found[1] == pytest.approx(precision[-2::-1])


def test_thinned_points_keep_the_last_threshold():
    scores, right = scored(5000)
    recall, precision = failure.precision_recall_points(scores, right)
    assert len(recall) <= failure.CURVE_POINTS
    assert recall[-1] == 1
    assert precision[-1] == pytest.approx(right.mean())


def rectified_digits():
    """Digits through a random rectified projection, and what a few-label probe says."""
    data = load_digits()
    generator = np.random.default_rng(0)
    order = generator.permutation(len(data.target))
    rows, labels = data.data[order] / 16, data.target[order]
    features = np.maximum(rows @ generator.standard_normal((64, 96)), 0)
    train = np.concatenate([np.flatnonzero(labels == k)[:5] for k in range(10)])
    test = np.setdiff1d(np.arange(len(labels)), train)
    probe = NearestCentroid().fit(features[train], labels[train])
    return features[test], probe.predict(features[test]) == labels[test]


@pytest.mark.filterwarnings("ignore:self.within_class_std_dev_")
def test_mean_and_l1_norm_predict_alike_where_features_are_not_negative():
    # Their ratio is d, and both are declared low for right answers.
    features, right = rectified_digits()
    assert features.min() == 0
    assert 0.6 < right.mean() < 0.95
    found = {
        name: failure.predict_failure(name, score(features), right)
        for name, score in (("feature_mean", feature_mean), ("l1_norm", l1_norm))
    }
    mean, norm = found["feature_mean"], found["l1_norm"]
    # Sums in another order may break ties of equal rows: far below one pair in 10^5.
    assert mean.area.value == pytest.approx(norm.area.value, abs=1e-12)
    assert mean.correct.value == pytest.approx(norm.correct.value, abs=1e-12)
    assert mean.error.value == pytest.approx(norm.error.value, abs=1e-12)
    # Without the declared sign the area of one is one minus that of the other.
    undeclared = failure.auroc(l1_norm(features), right).value
    assert undeclared == pytest.approx(1 - mean.area.value, abs=1e-12)
    signed = features - features.mean()
    other = failure.predict_failure("feature_mean", feature_mean(signed), right)
    turned = failure.predict_failure("l1_norm", l1_norm(signed), right)
    assert abs(other.area.value - turned.area.value) > 0.01


@pytest.mark.parametrize("function", PREDICTIONS)
def test_scores_of_a_tensor_are_ranked_alike(function):
    scores, right = scored()
    assert function(torch.tensor(scores), right) == function(scores, right)


@pytest.mark.parametrize("function", PREDICTIONS)
def test_bad_scores_are_named(function):
    scores, right = scored(40)
    with pytest.raises(InputError, match="^right: one entry per row of scores"):
        inspect.unwrap(function)(scores, right[:39])
    scores[3] = np.nan
    with pytest.raises(InputError, match="^scores: some are NaN or infinite$"):
        function(scores, right)
    with pytest.raises(Undecidable, match="^no rows$"):
        function(scores[:0], right[:0])
