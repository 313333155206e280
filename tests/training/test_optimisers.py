import math

import pytest
import torch
from torch import nn

from repscope._checking import UsageError
from repscope.training.lars import Lars
from repscope.training.optimisers import (
    EPSILON,
    SECOND_MOMENT_DECAY,
    build_optimiser,
    set_learning_rate,
)
from repscope.training.sections import OptimiserSection

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


NAMES = ["sgd", "adam", "adamw", "lars"]


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten())


def moved_by_decay_alone(name, **options):
    """Return which parameters move where all gradients are 0."""
    parameters = list(network().parameters())
    section = OptimiserSection(name, 0.1, weight_decay=0.5, **options)
    optimiser = build_optimiser(section, parameters)
    with torch.no_grad():
        for one in parameters:
            one.fill_(2.0)
            one.grad = torch.zeros_like(one)
    optimiser.step()
    return {one.ndim for one in parameters if (one != 2.0).any()}


@pytest.mark.parametrize("name", NAMES)
def test_decay_spares_vectors_where_asked_and_always_in_lars(name):
    assert moved_by_decay_alone(name, exclude_1d=True) == {4}
    assert moved_by_decay_alone(name) == ({4} if name == "lars" else {1, 4})


def test_the_trust_of_the_recipe_is_that_of_lars():
    section = OptimiserSection("lars", 0.2, momentum=0.7, weight_decay=0.3, trust=0.01)
    optimiser = build_optimiser(section, network().parameters())
    assert isinstance(optimiser, Lars)
    (group,) = optimiser.param_groups
    expected = {"lr": 0.2, "momentum": 0.7, "weight_decay": 0.3, "trust": 0.01}
    assert expected.items() <= group.items()


def test_nesterov_looks_ahead_by_the_momentum():
    weight = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    section = OptimiserSection("sgd", 0.1, 0.5, 0.0, nesterov=True)
    optimiser = build_optimiser(section, [weight])
    velocity, expected = 0.0, 1.0
    for gradient in GRADIENTS:
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimiser.step()
        velocity = 0.5 * velocity + gradient
        expected -= 0.1 * (gradient + 0.5 * velocity)
    assert weight.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_a_network_of_vectors_alone_has_an_optimiser(name):
    parameters = network()[1].parameters()
    section = OptimiserSection(name, exclude_1d=True)
    optimiser = build_optimiser(section, parameters)
    assert sum(len(group["params"]) for group in optimiser.param_groups) == 2


def is_plain(value):
    if isinstance(value, dict):
        return all(is_plain(one) for one in value.values())
    if isinstance(value, list | tuple):
        return all(is_plain(one) for one in value)
    return value is None or isinstance(value, torch.Tensor | bool | int | float | str)


@pytest.mark.parametrize("exclude_1d", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_the_state_is_plain_and_goes_on_in_another_optimiser(name, exclude_1d):
    section = OptimiserSection(name, 0.1, exclude_1d=exclude_1d)
    images = torch.ones(4, 2, 5, 5)
    first, second = network(), network()
    optimisers = [build_optimiser(section, one.parameters()) for one in (first, second)]
    for turn in range(3):
        optimiser = optimisers[turn % 2]
        model = (first, second)[turn % 2]
        optimiser.zero_grad()
        model(images).square().mean().backward()
        optimiser.step()
        state = optimiser.state_dict()
        assert is_plain(state) and state["state"]
        other = (turn + 1) % 2
        (first, second)[other].load_state_dict(model.state_dict())
        optimisers[other].load_state_dict(state)
    whole = network()
    optimiser = build_optimiser(section, whole.parameters())
    for _ in range(3):
        optimiser.zero_grad()
        whole(images).square().mean().backward()
        optimiser.step()
    for one, other in zip(whole.parameters(), first.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_rate_is_set_in_all_groups():
    section = OptimiserSection("adamw", exclude_1d=True)
    optimiser = build_optimiser(section, network().parameters())
    assert len(optimiser.param_groups) == 2
    set_learning_rate(optimiser, 0.5)
    assert [group["lr"] for group in optimiser.param_groups] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trust": 0.0}, "optimiser.trust = 0.0\n.*more than 0"),
        ({"step_factor": 0.0}, "step_factor = 0.0\n.*above 0, to 1"),
        ({"step_factor": 2.0}, "step_factor = 2.0\n.*above 0, to 1"),
        ({"milestones": (3.0, 2.0)}, r"milestones = \[3.0, 2.0\]\n.*rising"),
        ({"milestones": (0.0, 2.0)}, r"milestones = \[0.0, 2.0\]\n.*above 0"),
        ({"schedule": "step"}, r"milestones = \[\]\n.*an epoch or more"),
        ({"nesterov": True}, "nesterov = true\n.*name = sgd"),
        ({"name": "sgd", "momentum": 0.0, "nesterov": True}, "a momentum above 0"),
    ],
)
def test_a_section_that_cannot_be_is_refused(options, message):
    with pytest.raises(UsageError, match=message):
        OptimiserSection(**options)
