import numpy as np
import pytest
import torch

from references.torchvision_operators import torchvision_or_skip
from repscope.data.autoaugment import (
    MAGNITUDES,
    OPERATIONS,
    POLICY_TABLES,
    SIGNED,
    magnitudes_of,
)


@pytest.fixture
def reference():
    torchvision_or_skip()
    from torchvision.transforms import AutoAugment, AutoAugmentPolicy

    return AutoAugment(AutoAugmentPolicy.CIFAR10)


def test_the_table_is_torchvision_s(reference):
    assert list(POLICY_TABLES["cifar10"]) == reference.policies
    assert len(reference.policies) == 25


@pytest.mark.parametrize(("height", "width"), [(32, 32), (224, 96)])
def test_magnitudes_are_torchvision_s(height, width, reference):
    space = reference._augmentation_space(MAGNITUDES, (height, width))
    assert set(space) == set(OPERATIONS)
    assert {name for name, (_, signed) in space.items() if signed} == SIGNED
    for name, (magnitudes, _) in space.items():
        expected = torch.broadcast_to(magnitudes.double(), (MAGNITUDES,)).tolist()
        assert list(magnitudes_of(name, height, width)) == expected


def test_magnitudes_by_hand():
    assert magnitudes_of("Rotate", 32, 32)[9] == 30
    assert magnitudes_of("TranslateX", 10, 331)[9] == 150
    assert magnitudes_of("Posterize", 32, 32) == (8, 8, 7, 7, 6, 6, 5, 5, 4, 4)
    assert magnitudes_of("Solarize", 32, 32)[0] == 255
    np.testing.assert_allclose(magnitudes_of("Color", 1, 1), np.arange(10) / 10)


def test_every_step_can_be_done():
    for pair in POLICY_TABLES["cifar10"]:
        for name, p, number in pair:
            assert name in OPERATIONS
            assert 0 <= p <= 1
            assert number is None or 0 <= number < MAGNITUDES
