"""Heads: parameters counted by hand, outputs by their formulas, what they refuse."""

import math

import pytest
import torch
from torch import nn

from repscope._checking import UsageError
from repscope.models import heads
from repscope.models.backbones import Architecture, build
from repscope.models.heads import Head, build_head, count_parameters


@pytest.mark.parametrize(
    ("head", "d_in", "parameters", "out"),
    [
        (Head("none"), 64, 0, 64),
        (Head("linear"), 64, 64 * 128 + 128, 128),
        (Head("linear", out=10), 64, 650, 10),
        # MoCo v2: 2048 -> 2048 -> 128 with biases
        (Head("mlp2"), 2048, 2048 * 2048 + 2048 + 2048 * 128 + 128, 128),
        (Head("mlp2", hidden=16, out=8, bn=True), 4, 80 + 32 + 136, 8),
        (Head("simclr"), 64, 64 * 64 + 2 * 64 + 64 * 128, 128),
        (Head("simclr", hidden=16, out=8, bn=True), 4, 64 + 32 + 128 + 16, 8),
        (Head("vicreg", hidden=16, out=8), 4, 80 + 32 + 272 + 32 + 128, 8),
        (Head("vicreg", hidden=16, out=8, bn=False), 4, 80 + 272 + 128, 8),
        (Head("vicreg", hidden=16), 4, 80 + 32 + 272 + 32 + 16 * 8192, 8192),
        (Head("barlow", hidden=16, out=8), 4, 64 + 32 + 256 + 32 + 128, 8),
        (Head("barlow", out=1), 1, 8192 + 16384 + 8192**2 + 16384 + 8192, 1),
    ],
    ids=str,
)
def test_parameters_are_as_counted_by_hand(head, d_in, parameters, out):
    module = build_head(head, d_in)
    assert count_parameters(module) == parameters
    assert module(torch.ones(3, d_in)).shape == (3, out)


def test_no_head_returns_h():
    h = torch.rand(3, 5)
    assert torch.equal(build_head(Head("none"), 5)(h), h)


def batch_normalised(features):
    """Return each column with mean 0 and population variance 1."""
    centred = features - features.mean(dim=0)
    return centred / torch.sqrt((centred**2).mean(dim=0) + 1e-5)


@pytest.mark.parametrize("name", ["simclr", "vicreg", "barlow", "mlp2"])
@pytest.mark.parametrize("bn", [False, True])
def test_a_head_is_its_formula_in_training(name, bn):
    module = build_head(Head(name, hidden=6, out=5, bn=bn), 4, seed=2)
    h = torch.rand(9, 4, generator=torch.Generator().manual_seed(0))
    linear = [part for part in module if isinstance(part, nn.Linear)]
    z = h
    for layer in linear[:-1]:
        z = z @ layer.weight.T + (0 if layer.bias is None else layer.bias)
        z = batch_normalised(z) if bn or name == "simclr" else z
        z = z.clamp(min=0)
    z = z @ linear[-1].weight.T + (0 if linear[-1].bias is None else linear[-1].bias)
    z = batch_normalised(z) if name == "simclr" and bn else z
    assert len(linear) == (3 if name in ("vicreg", "barlow") else 2)
    # BN of float32 in two ways
    torch.testing.assert_close(module(h), z, rtol=1e-4, atol=1e-5)


def test_weights_depend_on_the_seed_and_on_nothing_else():
    before = torch.random.get_rng_state()
    first = build_head(Head("simclr"), 64, seed=1).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    again = build_head(Head("simclr"), 64, seed=1).state_dict()
    other = build_head(Head("simclr"), 64, seed=2).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["0.weight"], other["0.weight"])


def test_weights_are_uniform_within_one_over_the_root_of_the_fan_in():
    weight = build_head(Head("linear", out=1000), 400).state_dict()["weight"]
    bound = 1 / math.sqrt(400)
    assert weight.abs().max() <= bound
    # a uniform distribution on (-b, b) has standard deviation b / sqrt(3)
    assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.01)


def test_a_head_shares_no_numbers_with_a_backbone_of_the_same_seed():
    backbone = build(Architecture("randbit_conv"), seed=1).state_dict()
    head = build_head(Head("linear"), 1024, seed=1).state_dict()
    first = backbone["dense.weight"].flatten().argsort()
    second = head["weight"].flatten().argsort()
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "none", "out": 3}, "head none has no option out"),
        ({"name": "linear", "hidden": 3}, "head linear has no option hidden"),
        ({"name": "linear", "bn": False}, "head linear has no option bn"),
        ({"name": "mlp2", "hidden": 0}, "hidden is 0"),
        ({"name": "mlp2", "out": True}, "out is True"),
    ],
)
def test_a_wrong_option_is_named(options, message):
    with pytest.raises(UsageError, match=message):
        Head(**options)


def test_an_unknown_head_is_refused_with_the_closest(as_users_have_it):
    with pytest.raises(UsageError, match="did you mean simclr"):
        as_users_have_it(heads).Head("simlcr")
