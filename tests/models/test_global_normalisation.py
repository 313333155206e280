"""On one process; that ranks share their statistics is in tests/training."""

import pytest
import torch
from torch import nn

from repscope.models.global_normalisation import (
    GlobalBatchNorm,
    with_global_batch_norm,
)


def small_network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.BatchNorm1d(16)
    )


@pytest.mark.parametrize("is_training", [True, False])
def test_on_one_process_it_is_the_usual_layer(is_training):
    usual, other = small_network(), with_global_batch_norm(small_network())
    assert sum(isinstance(one, GlobalBatchNorm) for one in other.modules()) == 2
    usual.train(is_training)
    other.train(is_training)
    images = torch.rand(6, 1, 4, 4)
    torch.testing.assert_close(other(images), usual(images), rtol=0, atol=0)
    for name, value in usual.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


def test_names_weights_and_mode_stay():
    before = small_network().eval()
    names = list(before.state_dict())
    after = with_global_batch_norm(before)
    assert after is before
    assert list(after.state_dict()) == names
    assert not any(part.training for part in after.modules())


def test_a_layer_alone_is_taken_over():
    layer = with_global_batch_norm(nn.BatchNorm1d(3))
    assert isinstance(layer, GlobalBatchNorm)
    assert layer(torch.rand(4, 3)).shape == (4, 3)
