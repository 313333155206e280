"""A metric knows its range and needs; a number without an answer keeps its reason."""

import dataclasses

import numpy as np
import pytest

from repscope._checking import Undecidable
from repscope.metrics.metric import NOT_FINITE, Estimate, Metric, metric, metric_of
from repscope.records import Formula

DECLARED = {
    "title": "one half",
    "formula": "1/2",
    "needs": "rows",
    "range": "[0, 1]",
    "bounds": (0.0, 1.0),
    "direction": "target",
    "target": 0.5,
    "minimum_n": 2,
    "cost": "O(1)",
    "source": "a test",
    "misleads": "never",
}


@metric(**DECLARED)
def one_half():
    return 0.5


ENTRY = metric_of(one_half)


def test_the_decorator_leaves_the_function_and_names_it():
    assert one_half() == 0.5
    assert isinstance(ENTRY, Metric)
    assert ENTRY.name == "one_half"
    assert ENTRY.function is one_half


def test_glossary_entry_repeats_the_metric():
    assert ENTRY.glossary == Formula(
        id="one_half",
        title="one half",
        formula="1/2",
        range="[0, 1]",
        direction="target",
        source="a test",
        misleads="never",
    )


def test_a_value_is_measured_with_all_that_is_needed_to_read_it():
    found = ENTRY.measured(
        one_half, n=10, d=3, level="coarse", split="test", layer="head"
    )
    assert found.value == 0.5
    assert found.reason is None
    assert found.range == (0.0, 1.0)
    assert (found.direction, found.target) == ("target", 0.5)
    assert (found.n, found.d, found.split) == (10, 3, "test")
    assert found.key == "one_half[coarse]@head"
    assert found.formula == "one_half"


def test_an_estimate_passes_on_interval_and_details():
    estimate = Estimate(np.float64(0.25), (0.1, 0.4), {"ranks": 3})
    found = ENTRY.measured(lambda: estimate, n=5)
    assert type(found.value) is float
    assert (found.value, found.interval) == (0.25, (0.1, 0.4))
    assert found.details == {"ranks": 3}


@pytest.mark.parametrize(
    ("interval", "cut"),
    [((-0.5, 0.7), (0.0, 0.7)), ((0.2, 1.5), (0.2, 1.0)), ((0.2, 0.7), (0.2, 0.7))],
)
def test_an_interval_is_cut_to_the_possible_range(interval, cut):
    assert ENTRY.measured(lambda: Estimate(0.5, interval), n=5).interval == cut


@pytest.mark.parametrize(
    "estimate",
    [
        Estimate(float("nan")),
        Estimate(float("inf")),
        Estimate(0.5, (0.1, float("inf"))),
        Estimate(0.5, (float("nan"), 0.9)),
    ],
)
def test_what_is_not_finite_never_becomes_a_value(estimate):
    found = ENTRY.measured(lambda: estimate, n=5)
    assert found.value is None
    assert found.interval is None
    assert found.reason == NOT_FINITE == "the number is not finite"


@pytest.mark.parametrize(
    ("least", "n", "split", "reason"),
    [
        (1, 0, "all", "no rows"),
        (1, 0, "test", "no test rows"),
        (1, 0, "train", "no training rows"),
        (2, 1, "test", "n = 1; at least 2 test rows are needed"),
        (2, 1, "train", "n = 1; at least 2 training rows are needed"),
        (2, 0, "all", "n = 0; at least 2 rows are needed"),
    ],
)
def test_too_few_rows_are_named_by_their_split(least, n, split, reason):
    entry = dataclasses.replace(ENTRY, minimum_n=least)
    assert entry.measured(one_half, n=n, split=split).reason == reason


def test_laws_are_declared_beside_the_metric():
    @metric(**DECLARED, degree=2, invariances=("shift",))
    def squared():
        return 0.25

    declared = metric_of(squared)
    assert (declared.degree, declared.invariances) == (2, ("shift",))
    assert (ENTRY.degree, ENTRY.invariances) == (None, ())


def test_the_upper_bound_may_depend_on_the_data():
    assert ENTRY.measured(one_half, n=5, upper=9.0).range == (0.0, 9.0)


def undecidable():
    raise Undecidable("all features are constant")


@pytest.mark.parametrize(
    ("compute", "n", "reason"),
    [
        (undecidable, 5, "all features are constant"),
        (one_half, 1, "n = 1; at least 2 rows are needed"),
        (one_half, 0, "n = 0; at least 2 rows are needed"),
        (undecidable, 1, "n = 1; at least 2 rows are needed"),
    ],
)
def test_no_answer_is_null_with_a_reason(compute, n, reason):
    found = ENTRY.measured(compute, n=n)
    assert found.value is None
    assert found.reason == reason
    assert found.interval is None
    assert found.details == {}


def test_errors_are_not_answers():
    def fails():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ENTRY.measured(fails, n=5)


def test_functions_that_are_no_metrics_have_no_entry():
    with pytest.raises(KeyError):
        metric_of(test_errors_are_not_answers)
