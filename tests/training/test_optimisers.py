import math

import pytest
import torch
from torch import nn

from repscope.training.optimisers import (
    EPSILON,
    SECOND_MOMENT_DECAY,
    build_optimiser,
    set_learning_rate,
)
from repscope.training.recipe import OptimiserSection

START, GRADIENTS, DECAY, RATES = 2.0, (0.5, -0.25, 1.0), 0.1, (0.1, 0.05, 0.2)


def stepped(name):
    """Return one parameter after three steps with given gradients and rates."""
    weight = nn.Parameter(torch.tensor([START], dtype=torch.float64))
    section = OptimiserSection(name, 9.0, momentum=0.8, weight_decay=DECAY)
    optimiser = build_optimiser(section, [weight])
    for gradient, rate in zip(GRADIENTS, RATES, strict=True):
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        set_learning_rate(optimiser, rate)
        optimiser.step()
    return weight.item()


def by_hand(name):
    """Sutskever-free momentum as torch has it, and Adam by its authors' algorithm 1."""
    weight, velocity, first, second = START, 0.0, 0.0, 0.0
    for i, (gradient, rate) in enumerate(zip(GRADIENTS, RATES, strict=True), start=1):
        if name == "adamw":
            weight -= rate * DECAY * weight
        else:
            gradient = gradient + DECAY * weight
        velocity = 0.8 * velocity + gradient
        first = 0.8 * first + 0.2 * gradient
        second = SECOND_MOMENT_DECAY * second + (1 - SECOND_MOMENT_DECAY) * gradient**2
        if name == "sgd":
            weight -= rate * velocity
        else:
            mean = first / (1 - 0.8**i)
            spread = math.sqrt(second / (1 - SECOND_MOMENT_DECAY**i))
            weight -= rate * mean / (spread + EPSILON)
    return weight


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_steps_are_those_of_the_published_rule(name):
    assert stepped(name) == pytest.approx(by_hand(name), rel=1e-12)


def test_the_three_rules_differ():
    assert len({round(by_hand(name), 6) for name in ("sgd", "adam", "adamw")}) == 3


def test_frozen_parameters_are_left_out():
    frozen = nn.Parameter(torch.ones(2), requires_grad=False)
    trained = nn.Parameter(torch.ones(2))
    optimiser = build_optimiser(OptimiserSection(), [frozen, trained])
    assert [len(group["params"]) for group in optimiser.param_groups] == [1]
