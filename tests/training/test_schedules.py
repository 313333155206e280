import math

import pytest
import torch

from repscope.training.schedules import learning_rate, momentum_at


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


def of_torch(scheduler, steps, *, base=0.4, **options):
    """The rates that a scheduler of torch gives to the optimiser, step by step."""
    parameter = torch.nn.Parameter(torch.zeros(()))
    optimiser = torch.optim.SGD([parameter], lr=base)
    schedule = scheduler(optimiser, **options)
    rates = []
    for _ in range(steps):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    return rates


def test_the_cosine_is_that_of_torch():
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR
    expected = of_torch(cosine, 30, T_max=30, eta_min=0.1)
    found = [rate(step, warmup_steps=0, total_steps=30) for step in range(30)]
    assert found == pytest.approx(expected, rel=1e-9)


def test_the_steps_are_those_of_torch():
    multi_step = torch.optim.lr_scheduler.MultiStepLR
    expected = of_torch(multi_step, 12, milestones=[5, 9], gamma=0.2)
    given = {"schedule": "step", "milestones_steps": (5, 9), "step_factor": 0.2}
    found = [rate(step, warmup_steps=0, **given) for step in range(12)]
    assert found == pytest.approx(expected, rel=1e-12)
    assert len({round(one, 9) for one in found}) == 3


def test_steps_come_after_the_warmup():
    given = {"schedule": "step", "milestones_steps": (2, 6)}
    rates = [rate(step, **given) for step in range(8)]
    warm, passed_one, passed_two = [0.1, 0.2, 0.3, 0.4], [0.04] * 2, [0.004] * 2
    assert rates == pytest.approx(warm + passed_one + passed_two)


# Grill et al. 2020: 1 - (1 - .996) (cos(pi k / K) + 1) / 2, K = 8, by hand.
TARGET = {
    0: 0.996,
    2: 1 - 0.004 * (1 + math.sqrt(0.5)) / 2,
    4: 0.998,
    6: 1 - 0.004 * (1 - math.sqrt(0.5)) / 2,
    8: 1.0,
    9: 1.0,
}


@pytest.mark.parametrize(("step", "expected"), TARGET.items())
def test_the_target_follows_as_in_byol(step, expected):
    assert momentum_at(step, 0.996, 8, "cosine") == pytest.approx(expected, rel=1e-12)


def test_a_constant_momentum_stays():
    assert [momentum_at(step, 0.99, 5, "constant") for step in range(9)] == [0.99] * 9


def test_what_is_missing_to_one_falls_as_the_cosine_of_torch():
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR
    expected = of_torch(cosine, 20, base=0.03, T_max=20)
    found = [1 - momentum_at(step, 0.97, 20, "cosine") for step in range(20)]
    assert found == pytest.approx(expected, rel=1e-9)


# Grill et al. 2020: 1 - (1 - .996) (cos(pi k / K) + 1) / 2, K = 8, by hand.


# Grill et al. 2020: 1 - (1 - .996) (cos(pi k / K) + 1) / 2, K = 8, by hand.
