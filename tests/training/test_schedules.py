import math

import pytest

from repscope.training.schedules import learning_rate


def rate(step, **changes):
    given = {
        "base": 0.4,
        "warmup_steps": 4,
        "total_steps": 12,
        "final_fraction": 0.25,
    }
    return learning_rate(step, **(given | changes))


# base 0.4, final 0.1, eight steps of cosine after four of warm-up: by hand
CLOSED_FORM = {
    0: 0.1,
    1: 0.2,
    3: 0.4,
    4: 0.4,
    6: 0.1 + 0.3 * (1 + math.sqrt(0.5)) / 2,
    8: 0.25,
    10: 0.1 + 0.3 * (1 - math.sqrt(0.5)) / 2,
    12: 0.1,
}


@pytest.mark.parametrize(("step", "expected"), CLOSED_FORM.items())
def test_warmup_then_cosine(step, expected):
    assert rate(step) == pytest.approx(expected, rel=1e-12)


def test_the_warmup_is_linear():
    rates = [rate(step, warmup_steps=10, total_steps=20) for step in range(10)]
    steps = [b - a for a, b in zip(rates, rates[1:], strict=False)]
    assert steps == pytest.approx([0.04] * 9)


def test_without_warmup_the_first_step_is_the_largest():
    assert rate(0, warmup_steps=0) == pytest.approx(0.4)
    assert rate(1, warmup_steps=0) < 0.4


def test_a_constant_schedule_keeps_the_base_after_the_warmup():
    rates = [rate(step, schedule="constant") for step in range(12)]
    assert rates[:4] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert rates[4:] == [0.4] * 8


def test_it_falls_after_the_warmup_and_stays_above_the_final_rate():
    rates = [rate(step) for step in range(4, 12)]
    assert rates == sorted(rates, reverse=True)
    assert min(rates) > 0.1


def test_a_run_that_is_all_warmup_has_no_cosine_to_divide_by():
    rates = [rate(step, warmup_steps=3, total_steps=3) for step in range(3)]
    assert rates == pytest.approx([0.4 / 3, 0.8 / 3, 0.4])
