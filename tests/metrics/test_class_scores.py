"""Scores by class and by answer: by hand, libraries, intervals, limits."""

import inspect
import re
import statistics

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from repscope._checking import InputError, Undecidable, UsageError
from repscope.metrics.class_scores import ClassScores, class_quantiles, score_gap


def scored(n=200, n_classes=4, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, n_classes, n)
    right = generator.random(n) < 0.7
    return generator.standard_normal(n) + 0.3 * right + labels, labels, right


def test_quantiles_by_hand():
    found = class_quantiles(
        np.array([1.0, 2, 3, 10, 5]),
        np.array([0, 0, 0, 0, 2]),
        3,
        quantiles=(0.0, 0.5, 1.0),
        right=np.array([True, False, True, True, True]),
    )
    assert found == (
        ClassScores(0, 4, 4.0, 2.5, (1.0, 2.5, 10.0), 14 / 3 - 2),
        ClassScores(1, 0, None, None, None),
        ClassScores(2, 1, 5.0, 5.0, (5.0, 5.0, 5.0), None),
    )


@given(st.integers(0, 10**6))
def test_quantiles_equal_those_of_the_standard_library(seed):
    scores, labels, right = scored(60, 3, seed=seed)
    for one in class_quantiles(
        scores, labels, 3, quantiles=(0.25, 0.5, 0.75), right=right
    ):
        own = scores[labels == one.label].tolist()
        assert one.n == len(own)
        assert one.mean == pytest.approx(statistics.fmean(own))
        assert one.median == pytest.approx(statistics.median(own))
        expected = statistics.quantiles(own, n=4, method="inclusive")
        assert one.quantiles == pytest.approx(tuple(expected))


@pytest.mark.parametrize("library", [np.asarray, torch.tensor])
def test_default_quantiles_are_those_of_pandas_like_interpolation(library):
    scores, labels, right = scored()
    found = class_quantiles(library(scores), labels, 4, right=right)
    for one in found:
        member = labels == one.label
        expected = scipy.stats.mstats.mquantiles(
            scores[member], [0.05, 0.25, 0.5, 0.75, 0.95], alphap=1, betap=1
        )
        assert one.quantiles == pytest.approx(expected.tolist())
        gap = scores[member & right].mean() - scores[member & ~right].mean()
        assert one.gap == pytest.approx(gap)


def test_gap_and_interval_are_those_of_welch():
    scores, _, right = scored()
    estimate = score_gap(scores, right)
    library = scipy.stats.ttest_ind(scores[right], scores[~right], equal_var=False)
    interval = library.confidence_interval()
    assert estimate.interval == pytest.approx((interval.low, interval.high))
    gap = statistics.fmean(scores[right]) - statistics.fmean(scores[~right])
    assert estimate.value == pytest.approx(gap)
    pooled = scipy.stats.ttest_ind(scores[right], scores[~right])
    size = 1 / right.sum() + 1 / (~right).sum()
    standardised = pooled.statistic * size**0.5
    assert estimate.details["standardised"] == pytest.approx(standardised)


def test_gap_by_hand():
    estimate = score_gap(np.array([4.0, 2, 1]), np.array([True, True, False]))
    assert (estimate.value, estimate.interval) == (2, None)
    flat = score_gap(np.array([3.0, 3, 1, 1]), np.array([True, True, False, False]))
    assert (flat.value, flat.interval) == (2, (2, 2))
    assert flat.details["standardised"] is None


@pytest.mark.parametrize(("value", "word"), [(True, "right"), (False, "wrong")])
def test_no_gap_without_both_answers(value, word):
    reason = f"the probe is {word} on every test row"
    with pytest.raises(Undecidable, match=f"^{re.escape(reason)}$"):
        score_gap(np.arange(5.0), np.full(5, value))


def test_bad_input_is_named():
    scores, labels, right = scored(10)
    with pytest.raises(UsageError, match=r"^quantiles: shares from 0 to 1\n.*\(1.5,\)"):
        class_quantiles(scores, labels, 4, quantiles=(1.5,))
    plain = inspect.unwrap(class_quantiles)
    with pytest.raises(InputError, match="^labels: one entry per row of scores"):
        plain(scores, labels[:9], 4)
    with pytest.raises(InputError, match="^right: one entry per row of scores"):
        plain(scores, labels, 4, right=right[:9])
    scores[0] = np.nan
    with pytest.raises(InputError, match="^scores: some are NaN or infinite$"):
        score_gap(scores, right)
