"""Features that all rows use, rows far below the rest: by hand and from libraries."""

import numpy as np
import pytest
import scipy.stats

from repscope._checking import Undecidable
from repscope.metrics.measuring import measure
from repscope.metrics.metric import metric_of
from repscope.metrics.sharing import (
    LOW_SCORE_DEVIATIONS,
    argmax_concentration,
    low_score_share,
    shared_feature_index,
    takes_both_signs,
)

SEEDS = [0, 1, 2]


@pytest.mark.parametrize(
    ("counts", "concentration"),
    [
        ([3.0, 1.0], 0.75),
        ([0.0, 0.0, 2.0], 1.0),
        ([1.0, 1.0, 1.0, 1.0], 0.25),
        ([0.5, 0.5, 1.0], 0.5),
    ],
)
def test_argmax_concentration_by_hand(counts, concentration):
    assert argmax_concentration(np.array(counts)) == concentration


@pytest.mark.parametrize("seed", SEEDS)
def test_argmax_concentration_is_the_share_of_the_mode(seed):
    greatest = np.random.default_rng(seed).integers(0, 7, 100)
    mode = scipy.stats.mode(greatest)
    counts = np.bincount(greatest, minlength=9).astype(float)
    assert argmax_concentration(counts) == mode.count / 100


@pytest.mark.parametrize(
    ("norms", "index"),
    [([3.0, 1.0], 1.5), ([2.0, 2.0, 2.0], 1.0), ([0.0, 0.0, 0.0, 5.0], 4.0)],
)
def test_shared_feature_index_by_hand(norms, index):
    assert shared_feature_index(np.array(norms)) == index


@pytest.mark.parametrize("seed", SEEDS)
def test_shared_feature_index_is_the_greatest_norm_over_the_mean(seed):
    features = np.random.default_rng(seed).standard_normal((30, 6))
    # ord=1 of a matrix is the greatest absolute column sum.
    greatest = np.linalg.norm(features, ord=1)
    mean = sum(abs(value) for value in features.ravel().tolist()) / 6
    norms = np.abs(features).sum(axis=0)
    assert shared_feature_index(norms) == pytest.approx(greatest / mean, rel=1e-12)


@pytest.mark.parametrize("function", [argmax_concentration, shared_feature_index])
def test_sums_may_be_scaled_and_reordered(function):
    sums = np.random.default_rng(0).uniform(0, 5, 12)
    again = function(np.sort(8 * sums)[::-1].copy())
    assert again == pytest.approx(function(sums), rel=1e-12)


def test_sums_of_nothing_are_undecidable():
    with pytest.raises(Undecidable, match="^no rows$"):
        argmax_concentration(np.zeros(3))
    with pytest.raises(
        Undecidable, match="^all features are zero, or signed and constant$"
    ):
        shared_feature_index(np.zeros(3))


@pytest.mark.parametrize(
    ("features", "signed"),
    [
        ([[1.0, 2.0], [0.0, 3.0]], False),
        ([[1.0, -2.0], [0.0, 3.0]], True),
        ([[-1.0, -2.0], [-1.0, -3.0]], True),
        ([[1000.0, -1e-4], [1000.0, 0.0]], False),  # rounding of an average
        ([[0.0, 0.0], [0.0, 0.0]], False),
    ],
)
def test_signs_are_judged_by_the_share_of_magnitude_below_zero(features, signed):
    matrix = np.array(features)
    assert takes_both_signs(np.abs(matrix).sum(), matrix.sum()) is signed


def test_low_score_share_by_hand():
    # Median 10; below it lie 9, 9, 9, 8, -90 with median distance 1: -90 < 10 - 7.413.
    scores = np.array([10.0] * 3 + [9.0] * 3 + [8.0, -90.0] + [11.0, 12, 13, 14, 15])
    estimate = low_score_share(scores)
    assert estimate.value == pytest.approx(1 / 13)
    assert estimate.details["threshold"] == pytest.approx(10 - 5 * 1.4826)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_threshold_is_that_of_the_mirrored_lower_half(seed):
    scores = np.random.default_rng(seed).gamma(2.0, size=501)
    median = np.median(scores)
    below = scores[scores < median]
    mirrored = np.concatenate([below, 2 * median - below])
    deviation = scipy.stats.median_abs_deviation(mirrored, scale="normal")
    threshold = low_score_share(scores).details["threshold"]
    # SciPy's 1 / 0.67449 has more digits than the published 1.4826.
    assert threshold == pytest.approx(
        median - LOW_SCORE_DEVIATIONS * deviation, abs=2e-4
    )


@pytest.mark.parametrize("planted", [0.0, 0.05, 0.2])
def test_planted_outliers_are_counted(planted):
    scores = 100 + np.random.default_rng(0).standard_normal(1000)
    scores[: int(1000 * planted)] -= 50
    assert low_score_share(scores).value == planted


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 7.0), (0.01, 0.0), (1e3, -1e4)])
def test_scores_may_be_scaled_and_shifted(scale, shift):
    scores = np.random.default_rng(1).standard_t(2, 400)
    changed = low_score_share(scale * scores + shift)
    assert changed.value == low_score_share(scores).value > 0


def test_high_scores_do_not_count():
    scores = np.random.default_rng(0).standard_normal(400)
    raised = scores + 1000 * (scores > 1)
    assert low_score_share(raised) == low_score_share(scores)


@pytest.mark.parametrize("scores", [np.ones(30), np.r_[np.zeros(20), np.ones(10)]])
def test_equal_scores_are_undecidable(scores):
    with pytest.raises(Undecidable, match="more than half of the rows score the same"):
        low_score_share(scores)


def test_few_rows_are_undecidable():
    one = metric_of(low_score_share).measured(
        lambda: low_score_share(np.arange(19.0)), n=19
    )
    assert one.value is None
    assert one.reason == "n = 19; at least 20 rows are needed"


def test_one_row_says_nothing_of_rows_alike():
    names = ["argmax_concentration", "shared_feature_index"]
    for row in ([1.0, -2.0, 3.0], [1.0, 2.0, 3.0]):
        greatest, index = measure(np.array([row]), names=names)
        assert greatest.reason == "n = 1; at least 2 rows are needed"
        signed = min(row) < 0
        assert (index.value is None) == signed
        assert index.reason == (
            "all features are zero, or signed and constant" if signed else None
        )
