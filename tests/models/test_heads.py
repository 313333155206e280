"""Heads: parameters counted by hand, outputs by their formulas, what they refuse."""

import math
from typing import get_args

import pytest
import torch
from torch import nn

from repscope._checking import UsageError
from repscope.models import heads
from repscope.models.backbones import Architecture, build
from repscope.models.heads import (
    Head,
    HeadName,
    build_head,
    count_parameters,
    freeze,
    is_linear,
)


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
        (Head("mlp2_frozen"), 64, 64 * 64 + 64 + 64 * 128 + 128, 128),
        (Head("mlp2_frozen", hidden=16, out=8, bn=True), 4, 80 + 32 + 136, 8),
        # 2048 -> 2048 -> 2048 -> 128, and 2048 -> 128 -> 128
        (Head("mlp3"), 2048, 2 * (2048**2 + 2048) + 2048 * 128 + 128, 128),
        (Head("mlp3", hidden=16, out=8), 4, 80 + 272 + 136, 8),
        (Head("mlp3", hidden=16, out=8, bn=True), 4, 80 + 32 + 272 + 32 + 136, 8),
        (Head("mlp2_narrow"), 2048, 2048 * 128 + 128 + 128 * 128 + 128, 128),
        (Head("byol"), 64, 64 * 4096 + 3 * 4096 + 4096 * 256, 256),
        (Head("byol", hidden=16, out=8), 4, 64 + 48 + 128, 8),
        (Head("simsiam"), 64, 2 * (64 * 64 + 2 * 64) + 64 * 2048, 2048),
        (Head("simsiam", hidden=16, out=8), 4, 64 + 32 + 256 + 32 + 128, 8),
        # the size of a projector that was swept is hidden and out at once
        (Head("fastssl"), 64, 64 * 1024 + 2048 + 1024 * 1024 + 1024, 1024),
        (Head("fastssl", out=16), 4, 64 + 32 + 256 + 16, 16),
        (Head("fastssl", hidden=8, out=16), 4, 32 + 16 + 128 + 16, 16),
        (Head("vicreg_two_layer"), 64, 64 * 2048 + 3 * 2048 + 2048**2, 2048),
        (Head("vicreg_two_layer", hidden=16, out=8, bn=False), 4, 80 + 128, 8),
        (Head("swav"), 64, 64 * 2048 + 3 * 2048 + 2048 * 128 + 128, 128),
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


def test_every_head_has_its_parameters_counted():
    marks = test_parameters_are_as_counted_by_hand.pytestmark[0]
    assert {case[0].name for case in marks.args[1]} == set(get_args(HeadName))


OPEN = ("mlp2", "mlp2_frozen", "mlp3", "mlp2_narrow", "vicreg", "vicreg_two_layer")
THREE = ("vicreg", "barlow", "mlp3")


@pytest.mark.parametrize("name", [*OPEN, "simclr", "barlow"])
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
    assert len(linear) == (3 if name in THREE else 2)
    # BN of float32 in two ways
    torch.testing.assert_close(module(h), z, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "biases", "out_bn"),
    [
        ("byol", (True, False), False),
        ("simsiam", (False, False, False), True),
        ("fastssl", (False, True), False),
        ("swav", (True, True), False),
    ],
)
def test_a_head_with_fixed_normalisation_is_its_formula(name, biases, out_bn):
    module = build_head(Head(name, hidden=6, out=5), 4, seed=2)
    h = torch.rand(9, 4, generator=torch.Generator().manual_seed(0))
    linear = [part for part in module if isinstance(part, nn.Linear)]
    assert tuple(layer.bias is not None for layer in linear) == biases
    z = h
    for place, layer in enumerate(linear):
        z = z @ layer.weight.T + (0 if layer.bias is None else layer.bias)
        if place < len(linear) - 1:
            z = batch_normalised(z).clamp(min=0)
    z = batch_normalised(z) if out_bn else z
    torch.testing.assert_close(module(h), z, rtol=1e-4, atol=1e-5)


def test_the_last_normalisation_of_simsiam_has_nothing_to_train():
    last = build_head(Head("simsiam"), 8)[-1]
    assert list(last.parameters()) == []
    assert "running_mean" in last.state_dict()


def test_a_frozen_head_has_uniform_weights_and_biases_and_wants_no_gradient():
    module = build_head(Head("mlp2_frozen", hidden=600, out=500), 400, seed=3)
    for layer, fan_in in ((module[0], 400), (module[2], 600)):
        bound = math.sqrt(1 / fan_in)
        for values in (layer.weight, layer.bias):
            assert not values.requires_grad
            assert values.abs().max() <= bound
            # of 500 biases the deviation is known to 1.4 %, their range is filled
            n = values.numel()
            expected = pytest.approx(bound / math.sqrt(3), rel=3 / math.sqrt(n))
            assert values.std().item() == expected
            assert values.abs().max() > 0.98 * bound
        # as many in each tenth of the range
        tenths = torch.histc(layer.weight, 10, -bound, bound) / layer.weight.numel()
        assert (tenths - 0.1).abs().max() < 0.005


def test_a_frozen_head_is_the_same_head_untrained():
    frozen = build_head(Head("mlp2_frozen", bn=True), 32, seed=5)
    trained = build_head(Head("mlp2", bn=True), 32, seed=5)
    assert all(p.requires_grad for p in trained.parameters())
    assert not any(p.requires_grad for p in frozen.parameters())
    expected = trained.state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in frozen.state_dict().items())


def test_gradients_pass_through_a_frozen_head():
    frozen = build_head(Head("mlp2_frozen"), 8)
    h = torch.rand(3, 8, requires_grad=True)
    frozen(h).square().sum().backward()
    assert h.grad is not None
    assert h.grad.abs().sum() > 0
    assert all(p.grad is None for p in frozen.parameters())


def test_freezing_changes_no_number():
    module = build_head(Head("simclr"), 8)
    before = {name: values.clone() for name, values in module.state_dict().items()}
    assert freeze(module) is module
    assert not any(p.requires_grad for p in module.parameters())
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert count_parameters(module) == 8 * 8 + 2 * 8 + 8 * 128


@pytest.mark.parametrize("name", get_args(HeadName))
def test_only_two_heads_are_linear(name):
    sizes = {"none": {}, "linear": {"out": 3}}
    head = Head(name, **sizes.get(name, {"hidden": 8, "out": 3}))
    module = build_head(head, 4, seed=1).eval()
    generator = torch.Generator().manual_seed(0)
    rows = 3 * torch.randn(2, 50, 4, generator=generator)
    middle = module(rows.mean(dim=0))
    gap = (middle - (module(rows[0]) + module(rows[1])) / 2).abs().max().item()
    assert is_linear(head) == (gap < 1e-5) == (name in ("none", "linear"))


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
        ({"name": "byol", "bn": True}, "head byol has no option bn"),
        ({"name": "swav", "bn": False}, "head swav has no option bn"),
        ({"name": "fastssl", "hidden": 0}, "hidden is 0"),
    ],
)
def test_a_wrong_option_is_named(options, message):
    with pytest.raises(UsageError, match=message):
        Head(**options)


def test_an_unknown_head_is_refused_with_the_closest(as_users_have_it):
    with pytest.raises(UsageError, match="did you mean simclr"):
        as_users_have_it(heads).Head("simlcr")
