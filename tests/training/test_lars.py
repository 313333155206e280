"""LARS: by hand, by the published rule in Python's floats, by torch's SGD."""

import copy
import math

import pytest
import torch
from torch import nn

from repscope.training.lars import Lars

RATES = (0.3, 0.2, 0.7)
MOMENTUM, DECAY, TRUST = 0.8, 0.1, 0.02


def drawn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def stepped(start, gradients, rates=RATES, **options):
    parameter = nn.Parameter(start.clone())
    given = {"momentum": MOMENTUM, "weight_decay": DECAY, "trust": TRUST} | options
    optimiser = Lars([parameter], lr=9.0, **given)
    for gradient, rate in zip(gradients, rates, strict=True):
        parameter.grad = gradient.clone()
        optimiser.param_groups[0]["lr"] = rate
        optimiser.step()
    return parameter.detach()


def loops(start, gradients, *, is_scaled):
    """You et al. 2017, as the authors of BYOL and VICReg have it, number by number."""
    weights, buffer = start.flatten().tolist(), [0.0] * start.numel()
    for gradient, rate in zip(gradients, RATES, strict=True):
        direction = gradient.flatten().tolist()
        scale = 1.0
        if is_scaled:
            direction = [g + DECAY * w for g, w in zip(direction, weights, strict=True)]
            lengths = math.hypot(*weights), math.hypot(*direction)
            if min(lengths) > 0:
                scale = TRUST * lengths[0] / lengths[1]
        buffer = [
            MOMENTUM * b + scale * d for b, d in zip(buffer, direction, strict=True)
        ]
        weights = [w - rate * b for w, b in zip(weights, buffer, strict=True)]
    return weights


@pytest.mark.parametrize("shape", [(3, 2), (2, 3, 1, 2), (5,), ()])
def test_three_steps_are_those_of_the_published_rule(shape):
    start, gradients = drawn(*shape), drawn(3, *shape, seed=1)
    expected = loops(start, gradients, is_scaled=len(shape) > 1)
    found = stepped(start, gradients).flatten().tolist()
    assert found == pytest.approx(expected, rel=1e-12)


def test_it_is_the_sgd_of_torch_with_gradients_that_were_scaled_before():
    start, gradients = drawn(4, 3), drawn(3, 4, 3, seed=1)
    parameter = nn.Parameter(start.clone())
    sgd = torch.optim.SGD([parameter], lr=1.0, momentum=MOMENTUM)
    for gradient, rate in zip(gradients, RATES, strict=True):
        decayed = gradient + DECAY * parameter.detach()
        ratio = parameter.detach().norm() / decayed.norm()
        parameter.grad = TRUST * ratio * decayed
        sgd.param_groups[0]["lr"] = rate
        sgd.step()
    expected = parameter.detach()
    torch.testing.assert_close(stepped(start, gradients), expected)


def test_a_step_has_the_length_of_the_weights_times_trust_and_rate():
    start, gradient = drawn(4, 3), drawn(4, 3, seed=1)
    moved = stepped(start, [gradient], [0.5], weight_decay=0.0) - start
    assert float(moved.norm()) == pytest.approx(0.5 * TRUST * float(start.norm()))
    # A gradient a thousand times as long makes the same step.
    other = stepped(start, [1000 * gradient], [0.5], weight_decay=0.0) - start
    torch.testing.assert_close(moved, other)


@pytest.mark.parametrize("decay", [0.0, DECAY])
def test_vectors_move_as_with_plain_momentum(decay):
    start, gradient = drawn(3), drawn(3, seed=1)
    found = stepped(start, [gradient], [0.5], weight_decay=decay)
    torch.testing.assert_close(found, start - 0.5 * gradient)


def test_where_a_length_is_zero_nothing_is_scaled():
    gradient = drawn(2, 2)
    from_zero = stepped(torch.zeros_like(gradient), [gradient], [0.5])
    torch.testing.assert_close(from_zero, -0.5 * gradient)
    still = stepped(gradient, [0 * gradient], [0.5], weight_decay=0.0)
    torch.testing.assert_close(still, gradient)


def test_half_precision_does_not_overflow_in_lengths():
    start = torch.full((8, 8), 100.0, dtype=torch.float16)
    gradient = torch.full((8, 8), 1000.0, dtype=torch.float16)
    found = stepped(start, [gradient], [1.0], weight_decay=0.0, trust=0.5)
    torch.testing.assert_close(found, start / 2)


def test_a_parameter_without_a_gradient_stays_and_has_no_state():
    first, second = nn.Parameter(drawn(2, 2)), nn.Parameter(drawn(2, 2))
    before = second.detach().clone()
    optimiser = Lars([first, second], lr=0.1, weight_decay=DECAY)
    first.grad = drawn(2, 2)
    optimiser.step()
    assert torch.equal(second.detach(), before) and second not in optimiser.state


def test_its_state_goes_on_where_it_was_left():
    start, gradients = drawn(4, 3), drawn(3, 4, 3, seed=1)
    whole = stepped(start, gradients)
    parameter = nn.Parameter(start.clone())
    state = None
    for gradient, rate in zip(gradients, RATES, strict=True):
        optimiser = Lars([parameter], lr=9.0)  # a new one before each step
        if state is None:
            options = {"momentum": MOMENTUM, "weight_decay": DECAY, "trust": TRUST}
            optimiser.param_groups[0].update(options)
        else:
            optimiser.load_state_dict(state)
        optimiser.param_groups[0]["lr"] = rate
        parameter.grad = gradient
        optimiser.step()
        state = copy.deepcopy(optimiser.state_dict())
    assert torch.equal(parameter.detach(), whole)
    assert set(state["state"][0]) == {"momentum"}


def test_a_closure_gives_the_loss_and_the_gradient():
    parameter = nn.Parameter(torch.tensor([[2.0]]))
    optimiser = Lars([parameter], lr=1.0, trust=0.25)

    def closure():
        optimiser.zero_grad()
        loss = parameter.square().sum()
        loss.backward()
        return loss.item()

    assert optimiser.step(closure) == 4.0
    assert float(parameter.detach()) == 1.5


@pytest.mark.parametrize("rate", [0.001, 0.2, 3.0])
def test_clipping_only_shortens_steps_of_sgd(rate):
    """As in solo-learn: each layer's rate is the lesser of its own and that of SGD."""
    start, gradient = drawn(4, 3), drawn(4, 3, seed=1)
    given = {"momentum": 0.0, "weight_decay": 0.0, "rates": [rate]}
    found = stepped(start, [gradient], **given, clip=True)
    own = TRUST * start.norm() / gradient.norm()
    expected = start - min(rate, float(own)) * gradient
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_clipping_leaves_weights_without_length_to_sgd():
    start, gradient = torch.zeros(2, 2, dtype=torch.float64), drawn(2, 2)
    given = {"momentum": 0.0, "weight_decay": 0.0, "rates": [5.0]}
    found = stepped(start, [gradient], **given, clip=True)
    torch.testing.assert_close(found, -5.0 * gradient)
