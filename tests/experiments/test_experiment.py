"""The record of an experiment: what its predicate takes and refuses."""

import math

import pytest

from experiments.stand_ins import experiment
from repscope._checking import InputError


def test_a_predicate_is_all_conditions_together():
    made = experiment()
    assert made.expected == {"before": 0.9, "after": 0.5}
    assert made.predicate({"before": 0.9, "after": 0.5})
    assert not made.predicate({"before": 0.9, "after": 0.7})
    assert made.judge({"before": 0.4, "after": 0.1}) == (
        ("it falls by .3", True),
        ("before is above .5", False),
    )


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"before": 0.9}, r"X-1: numbers missing or unknown\n.*found: after"),
        ({"before": 0.9, "after": 0.5, "other": 1.0}, "found: other"),
        ({"before": math.nan, "after": 0.5}, "X-1: before is nan"),
        ({"before": 0.9, "after": -math.inf}, "X-1: after is -inf"),
    ],
)
def test_numbers_that_cannot_be_judged_are_refused(numbers, message):
    with pytest.raises(InputError, match=message):
        experiment().predicate(numbers)
