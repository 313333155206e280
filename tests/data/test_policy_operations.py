import numpy as np
import pytest
import torch
from PIL import Image

from references.torchvision_operators import torchvision_or_skip
from repscope._randomness import Purpose, sample_keys
from repscope.data.autoaugment import LEFT_OUT, OPERATIONS, PolicyDraws
from repscope.data.draws import draw_policy
from repscope.data.operations import AutoAugment
from repscope.data.policy_operations import autoaugmented


def keys(n):
    return sample_keys(Purpose.AUGMENTATION, 0, np.arange(n, dtype=np.uint64))


def pictures(n, side=32, channels=3):
    shape = (n, channels, side, side)
    noise = np.random.default_rng(0).integers(0, 200, shape)
    return torch.from_numpy((noise + np.arange(side)).astype(np.uint8))


def levels(images):
    return (images * 255).round().to(torch.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_torchvision_s_with_the_same_draws(channels):
    torchvision_or_skip()
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.autoaugment import _apply_op

    images = pictures(300, channels=channels)
    draws = draw_policy(keys(300), AutoAugment(), 32, 32)
    found = levels(autoaugmented(images / 255, draws))
    for image, ours, operations, magnitudes in zip(
        images, found, draws.operations, draws.magnitudes, strict=True
    ):
        expected = image
        for code, magnitude in zip(operations, magnitudes, strict=True):
            if code == LEFT_OUT:
                continue
            name, nearest = OPERATIONS[code], InterpolationMode.NEAREST
            if name in ("ShearX", "ShearY", "Rotate"):
                # whose places are Pillow's
                pillow = Image.fromarray(expected.permute(1, 2, 0).squeeze(2).numpy())
                moved = _apply_op(pillow, name, float(magnitude), nearest, None)
                expected = torch.from_numpy(np.array(moved)).view(32, 32, channels)
                expected = expected.permute(2, 0, 1)
            else:
                expected = _apply_op(expected, name, float(magnitude), nearest, None)
        assert torch.equal(ours, expected)


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_has_its_turn(name):
    images = pictures(3)
    magnitude = {"Posterize": 4, "Solarize": 128, "Rotate": 20}.get(name, 0.5)
    magnitude = 3.0 if name.startswith("Translate") else magnitude
    draws = PolicyDraws(
        np.array([[OPERATIONS.index(name), LEFT_OUT]] * 2 + [[LEFT_OUT] * 2]),
        np.full((3, 2), float(magnitude)),
    )
    found = levels(autoaugmented(images / 255, draws))
    assert not torch.equal(found[0], images[0])
    assert not torch.equal(found[1], images[1])
    assert torch.equal(found[2], images[2])


def test_images_depend_neither_on_the_batch_nor_on_the_order():
    images, draws = pictures(64) / 255, draw_policy(keys(64), AutoAugment(), 32, 32)
    whole, order = (
        autoaugmented(images, draws),
        np.random.default_rng(1).permutation(64),
    )
    for start in range(0, 64, 7):
        rows = order[start : start + 7]
        some = PolicyDraws(draws.operations[rows], draws.magnitudes[rows])
        assert torch.equal(autoaugmented(images[rows], some), whole[rows])


def test_grey_images_skip_colour_alone():
    images = pictures(2, channels=1) / 255
    for name, stays in (("Color", True), ("Brightness", False), ("Equalize", False)):
        code = OPERATIONS.index(name)
        draws = PolicyDraws(np.array([[code, LEFT_OUT]] * 2), np.full((2, 2), 0.5))
        assert torch.equal(autoaugmented(images, draws), images) == stays


def test_images_are_left_alone():
    images = pictures(20) / 255
    before = images.clone()
    autoaugmented(images, draw_policy(keys(20), AutoAugment(), 32, 32))
    assert torch.equal(images, before)
