import colorsys
from itertools import permutations

import numpy as np
import pytest
import torch

from references.torchvision_operators import torchvision_or_skip
from repscope.data.colour import jittered, luma, shift_hue, solarized, turn_yiq
from repscope.data.draws import JitterDraws

# One float32 operation after another, each with values up to 1.
TOLERANCE = 1e-5
NAMES = ("brightness", "contrast", "saturation", "hue")


@pytest.fixture
def functional():
    torchvision_or_skip()
    from torchvision.transforms.v2 import functional

    return functional


def images_of(n, side=9, seed=0):
    """Return random images with black, white, grey, ties and pure colours in them."""
    images = torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(seed))
    special = torch.tensor(list(np.ndindex(3, 3, 3))) / 2.0
    images[:, :, :3, :9] = special.T.reshape(3, 3, 9)
    return images


def draws_of(n, order=0, **factors):
    values = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0}
    values |= factors
    ready = {name: np.broadcast_to(value, n) * 1.0 for name, value in values.items()}
    return JitterDraws(order=np.broadcast_to(order, n).astype(np.int64), **ready)


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_blends_are_torchvision_s(name, functional):
    images, factors = images_of(7), np.array([0.0, 0.2, 0.7, 1.0, 1.3, 1.8, 3.0])
    found = jittered(images, draws_of(7, **{name: factors}))
    for i, factor in enumerate(factors):
        expected = getattr(functional, f"adjust_{name}")(images[i], float(factor))
        torch.testing.assert_close(found[i], expected, rtol=0, atol=TOLERANCE)


TURNS = np.array([-0.5, -0.34, -1 / 6, -0.1, 0.0, 1e-4, 0.05, 1 / 3, 0.4, 0.5])


def test_hue_is_torchvision_s(functional):
    images = images_of(len(TURNS), 20)
    found = shift_hue(images, torch.tensor(TURNS, dtype=torch.float32))
    for i, turn in enumerate(TURNS):
        expected = functional.adjust_hue(images[i], float(turn))
        torch.testing.assert_close(found[i], expected, rtol=0, atol=TOLERANCE)


def test_hue_is_that_of_hsv():
    images = images_of(len(TURNS))
    found = shift_hue(images, torch.tensor(TURNS, dtype=torch.float32))
    for image, turn, ours in zip(images, TURNS, found, strict=True):
        for pixel, shifted in zip(image.flatten(1).T, ours.flatten(1).T, strict=True):
            hue, saturation, value = colorsys.rgb_to_hsv(*pixel.tolist())
            expected = colorsys.hsv_to_rgb((hue + turn) % 1.0, saturation, value)
            assert shifted.tolist() == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.parametrize("shift", [shift_hue, turn_yiq])
def test_hue_turns_red_towards_yellow(shift):
    red = torch.tensor([0.6, 0.1, 0.1]).reshape(1, 3, 1, 1)
    found = shift(red, torch.tensor([1 / 12])).flatten()
    assert found[0] > found[1] > found[2]


@pytest.mark.parametrize("shift", [shift_hue, turn_yiq])
def test_a_hue_that_stays(shift):
    images = images_of(4)
    torch.testing.assert_close(shift(images, torch.zeros(4)), images, rtol=0, atol=1e-6)


def test_turning_yiq_keeps_luma_and_undoes_itself():
    generator = torch.Generator().manual_seed(0)
    # muted colours, so that nothing is cut off
    images = 0.45 + 0.1 * torch.rand(5, 3, 8, 8, generator=generator)
    turns = torch.tensor([-0.5, -0.2, 0.1, 0.25, 0.4])
    turned = turn_yiq(images, turns)
    exact = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    kept = (exact * turned).sum(1), (exact * images).sum(1)
    torch.testing.assert_close(*kept, rtol=0, atol=1e-5)
    torch.testing.assert_close(turn_yiq(turned, -turns), images, rtol=0, atol=1e-5)
    assert (turned - images).abs().amax((1, 2, 3)).min() > 0.01


@pytest.mark.parametrize("order", range(24))
def test_jitter_follows_its_order(order, functional):
    images = images_of(3, seed=order)
    factors = {"brightness": 1.5, "contrast": 0.5, "saturation": 1.7, "hue": 0.15}
    found = jittered(images, draws_of(3, order, **factors))
    expected = images
    for position in list(permutations(range(4)))[order]:
        name = NAMES[position]
        expected = getattr(functional, f"adjust_{name}")(expected, factors[name])
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE)


def test_each_image_is_jittered_for_itself():
    random = np.random.default_rng(0)
    images, order = images_of(30), random.integers(0, 24, 30)
    factors = {
        name: random.uniform(low, high, 30)
        for name, low, high in zip(
            NAMES, (0.2, 0.2, 0.2, -0.2), (1.8, 1.8, 1.8, 0.2), strict=True
        )
    }
    together = jittered(images, draws_of(30, order, **factors))
    for i in range(30):
        alone = {name: values[i] for name, values in factors.items()}
        one = jittered(images[i : i + 1], draws_of(1, order[i], **alone))
        assert torch.equal(together[i], one[0])


def test_the_order_matters():
    images = images_of(24)
    factors = {"brightness": 1.8, "contrast": 0.4, "saturation": 1.9, "hue": 0.2}
    found = jittered(images[:1].repeat(24, 1, 1, 1), draws_of(24, range(24), **factors))
    assert len(torch.unique(found.flatten(1), dim=0)) > 12


def test_jitter_leaves_its_argument_alone():
    images = images_of(4)
    before = images.clone()
    jittered(images, draws_of(4, range(4), brightness=0.3, hue=0.2))
    assert torch.equal(images, before)


def test_grey_is_torchvision_s(functional):
    images = images_of(3)
    torch.testing.assert_close(luma(images), functional.rgb_to_grayscale(images))


@pytest.mark.parametrize("threshold", [0.0, 0.25, 128 / 255, 1.0])
def test_solarised_is_torchvision_s(threshold, functional):
    images = images_of(2)
    images[0, 0, 5, 0] = threshold  # exactly on it
    images[0, 0, 5, 1] = float(np.nextafter(np.float32(threshold), np.float32(-1)))
    images.clamp_(0, 1)
    expected = functional.solarize(images, float(np.float32(threshold)))
    assert torch.equal(solarized(images, threshold), expected)
