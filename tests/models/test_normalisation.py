"""Split batch normalisation: each group by hand, running statistics, replacement."""

import copy

import pytest
import torch
from torch import nn

from repscope._checking import InputError, UsageError
from repscope.models.backbones import Architecture, build
from repscope.models.heads import Head, build_head
from repscope.models.normalisation import (
    SplitBatchNorm1d,
    SplitBatchNorm2d,
    with_split_batch_norm,
)

GENERATOR = torch.Generator().manual_seed(0)
ROWS = torch.randn(12, 3, generator=GENERATOR).double() * 2 + 1
MAPS = torch.randn(12, 3, 4, 5, generator=GENERATOR).double() * 2 + 1


def lively(norm):
    """Return a normalisation in float64 with weights and statistics of its own."""
    generator = torch.Generator().manual_seed(1)
    for values in norm.state_dict().values():
        if values.is_floating_point():
            values.copy_(torch.rand(values.shape, generator=generator) + 0.5)
    return norm.double()


def by_hand(values, state, splits):
    """Return normalised values and new statistics, group by group, from the formula."""
    axes = [axis for axis in range(values.ndim) if axis != 1]
    shape = [1, -1] + [1] * (values.ndim - 2)
    size = len(values) // splits
    outputs, means, variances = [], [], []
    for group in (values[i * size : (i + 1) * size] for i in range(splits)):
        count = group.numel() / 3
        mean = group.sum(dim=axes) / count
        squares = (group - mean.view(shape)).square().sum(dim=axes)
        scale = state["weight"] / torch.sqrt(squares / count + 1e-5)
        outputs.append(
            (group - mean.view(shape)) * scale.view(shape) + state["bias"].view(shape)
        )
        means.append(mean)
        variances.append(squares / (count - 1))
    statistics = [
        0.9 * state[f"running_{name}"] + 0.1 * sum(parts) / splits
        for name, parts in (("mean", means), ("var", variances))
    ]
    return torch.cat(outputs), *statistics


@pytest.mark.parametrize("splits", [2, 3, 6])
@pytest.mark.parametrize(
    ("values", "plain"), [(ROWS, nn.BatchNorm1d(3)), (MAPS, nn.BatchNorm2d(3))]
)
def test_each_group_is_normalised_alone(values, plain, splits):
    plain = lively(copy.deepcopy(plain))
    before = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    split = with_split_batch_norm(plain, splits)
    expected, mean, variance = by_hand(values, before, splits)
    torch.testing.assert_close(split(values), expected)
    torch.testing.assert_close(split.running_mean, mean)
    torch.testing.assert_close(split.running_var, variance)
    assert split.num_batches_tracked == 1


@pytest.mark.parametrize("splits", [2, 4])
def test_groups_are_those_of_plain_normalisations_on_their_own(splits):
    split = with_split_batch_norm(lively(nn.BatchNorm2d(3)), splits)
    alone = [lively(nn.BatchNorm2d(3)) for _ in range(splits)]
    parts = MAPS.chunk(splits)
    expected = [norm(part) for norm, part in zip(alone, parts, strict=True)]
    torch.testing.assert_close(split(MAPS), torch.cat(expected))
    mean = torch.stack([norm.running_mean for norm in alone]).mean(dim=0)
    torch.testing.assert_close(split.running_mean, mean)


def test_a_group_knows_nothing_of_another():
    split = with_split_batch_norm(lively(nn.BatchNorm1d(3)), 3)
    changed = ROWS.clone()
    changed[8:] *= 100
    torch.testing.assert_close(split(changed)[:8], split(ROWS)[:8], rtol=0, atol=0)


def test_evaluation_is_plain_and_changes_nothing():
    plain = lively(nn.BatchNorm2d(3)).eval()
    split = with_split_batch_norm(copy.deepcopy(plain), 5)
    assert isinstance(split, SplitBatchNorm2d)
    before = {name: tensor.clone() for name, tensor in split.state_dict().items()}
    # 12 rows in 5 groups would be uneven in training
    torch.testing.assert_close(split(MAPS), plain(MAPS), rtol=0, atol=0)
    assert all(torch.equal(v, before[k]) for k, v in split.state_dict().items())


def test_gradients_are_those_of_the_groups():
    split = with_split_batch_norm(lively(nn.BatchNorm1d(3)), 2)
    values = ROWS.clone().requires_grad_()
    weights = torch.randn(12, 3, generator=torch.Generator().manual_seed(5)).double()
    (split(values) * weights).sum().backward()
    assert values.grad is not None
    for rows in (slice(0, 6), slice(6, 12)):
        alone = lively(nn.BatchNorm1d(3))
        part = ROWS[rows].clone().requires_grad_()
        (alone(part) * weights[rows]).sum().backward()
        torch.testing.assert_close(values.grad[rows], part.grad)


def test_all_normalisations_of_a_network_are_replaced_and_nothing_else():
    backbone = build(Architecture("resnet18", width=4), seed=1)
    head = build_head(Head("simsiam", hidden=8, out=6), backbone.feature_dim, seed=1)
    network = nn.Sequential(backbone, head)
    parameters = list(network.parameters())
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert with_split_batch_norm(network, 2) is network
    kinds = [type(part) for part in network.modules()]
    assert nn.BatchNorm1d not in kinds
    assert nn.BatchNorm2d not in kinds
    assert kinds.count(SplitBatchNorm2d) == 20
    assert kinds.count(SplitBatchNorm1d) == 3
    assert all(a is b for a, b in zip(network.parameters(), parameters, strict=True))
    after = network.state_dict()
    assert list(after) == list(state)
    assert all(torch.equal(after[name], state[name]) for name in state)
    assert network(torch.rand(4, 3, 16, 16)).shape == (4, 6)
    plain = build(Architecture("resnet18", width=4), seed=2)
    plain.load_state_dict(backbone.state_dict(), strict=True)


def test_training_mode_and_options_are_kept():
    plain = nn.BatchNorm1d(3, eps=0.5, momentum=0.3, affine=False).eval()
    split = with_split_batch_norm(plain, 2)
    assert not split.training
    assert (split.eps, split.momentum, split.weight) == (0.5, 0.3, None)
    split.train()(ROWS.float())
    expected = 0.3 * ROWS.float().mean(dim=0)
    torch.testing.assert_close(split.running_mean, expected)


def test_buffers_stay_the_same_objects():
    # a step that is skipped puts their old values back
    split = with_split_batch_norm(nn.BatchNorm1d(3), 2)
    before = list(split.buffers())
    split(ROWS.float())
    assert all(a is b for a, b in zip(split.buffers(), before, strict=True))


def test_one_group_changes_nothing():
    plain = nn.BatchNorm1d(3)
    assert with_split_batch_norm(plain, 1) is plain


def test_memory_layout_does_not_change_the_maps():
    split = with_split_batch_norm(lively(nn.BatchNorm2d(3)), 3)
    last = MAPS.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(split(last), split(MAPS))


@pytest.mark.parametrize(
    ("rows", "splits", "message"),
    [
        (12, 5, r"training.bn_splits = 5 does not divide a batch of 12 images"),
        (3, 2, "does not divide a batch of 3"),
        (12, 12, "leaves one image of 12 in each group"),
    ],
)
def test_uneven_and_single_groups_are_refused(rows, splits, message):
    split = with_split_batch_norm(nn.BatchNorm1d(3), splits)
    before = {name: tensor.clone() for name, tensor in split.state_dict().items()}
    with pytest.raises(InputError, match=message):
        split(ROWS[:rows].float())
    assert all(torch.equal(v, before[k]) for k, v in split.state_dict().items())


def test_the_fix_of_uneven_groups_is_a_batch_that_fits():
    split = with_split_batch_norm(nn.BatchNorm1d(3), 5)
    with pytest.raises(InputError, match="training.batch_size = 10"):
        split(ROWS.float())


@pytest.mark.parametrize("splits", [0, -1])
def test_less_than_one_group_is_refused(splits):
    with pytest.raises(UsageError, match=f"training.bn_splits is {splits}"):
        with_split_batch_norm(nn.BatchNorm1d(3), splits)
