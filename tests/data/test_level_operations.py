import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from references.torchvision_operators import torchvision_or_skip
from repscope.data import level_operations as level

# Both ends of what AutoAugment's magnitudes reach, and what changes nothing.
CHANGES = [-0.9, -0.6, -0.1, 0.0, 0.3, 0.7, 0.9]
ENHANCED = {
    "brightened": ("adjust_brightness", ImageEnhance.Brightness),
    "saturated": ("adjust_saturation", ImageEnhance.Color),
    "contrasted": ("adjust_contrast", ImageEnhance.Contrast),
    "sharpened": ("adjust_sharpness", ImageEnhance.Sharpness),
}
# name -> torchvision's, Pillow's, its argument for each image
EXACT = {
    "inverted": ("invert", ImageOps.invert, None),
    "equalized": ("equalize", ImageOps.equalize, None),
    "posterized": ("posterize", ImageOps.posterize, [8, 7, 6, 5, 4, 3, 1]),
    "solarized": ("solarize", ImageOps.solarize, [0, 28.3, 85, 127.5, 128, 226, 255]),
}


@pytest.fixture
def functional():
    torchvision_or_skip()
    from torchvision.transforms import functional

    return functional


def pictures(n=7, side=32, channels=3):
    """Return 8-bit pictures: noise, few levels, narrow ranges, one level."""
    random = np.random.default_rng(0)
    values = random.integers(0, 256, (n, channels, side, side))
    values[1] = values[1] // 64 * 64
    values[2] = 90 + values[2] // 8
    values[3] = np.linspace(0, 255, side).astype(int)
    values[4] = 77
    values[5, 0] = 200
    values[5, -1] = values[5, -1] // 200 * 255
    return torch.from_numpy(values.astype(np.uint8))


def changed(name, images, magnitudes):
    before = images.float()
    found = getattr(level, name)(before, np.asarray(magnitudes, np.float64))
    assert torch.equal(before, images.float())  # arguments are left alone
    assert torch.equal(found, found.round())
    return found.to(torch.uint8)


def by_pillow(change, image):
    grey = image.shape[0] == 1
    pixels = image[0] if grey else image.permute(1, 2, 0)
    array = np.array(change(Image.fromarray(pixels.numpy())))
    return torch.from_numpy(array[None] if grey else np.moveaxis(array, 2, 0).copy())


@pytest.mark.parametrize("side", [32, 9, 3, 2])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ENHANCED)
def test_blends_are_torchvision_s_to_the_last_level(name, channels, side, functional):
    images = pictures(side=side, channels=channels)
    found = changed(name, images, CHANGES)
    for image, ours, change in zip(images, found, CHANGES, strict=True):
        expected = getattr(functional, ENHANCED[name][0])(image, 1.0 + change)
        # On other sides than powers of 2 torchvision's mean of float32 may be off by a
        # bit, and a product that is nearly whole fall on the other side.
        off = (ours.int() - expected.int()).abs()
        assert off.max() <= (name == "contrasted" and side not in (2, 32))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ENHANCED)
def test_blends_are_pillow_s_up_to_its_rounding(name, channels):
    images = pictures(channels=channels)
    found = changed(name, images, CHANGES)
    for image, ours, change in zip(images, found, CHANGES, strict=True):
        enhance = ENHANCED[name][1]
        expected = by_pillow(lambda one: enhance(one).enhance(1.0 + change), image)  # noqa: B023
        # Pillow rounds grey and its mean where torchvision cuts them off: up to a level
        # and a half each, times a change below 1.
        assert (ours.int() - expected.int()).abs().max() <= 2


@pytest.mark.parametrize("side", [32, 5, 1])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", EXACT)
def test_whole_numbers_are_torchvision_s_and_pillow_s(name, channels, side, functional):
    theirs, pillow_s, arguments = EXACT[name]
    images = pictures(side=side, channels=channels)
    found = changed(name, images, np.zeros(7) if arguments is None else arguments)
    for i, ours in enumerate(found):
        more = () if arguments is None else (arguments[i],)
        assert torch.equal(ours, getattr(functional, theirs)(images[i], *more))
        expected = by_pillow(lambda one: pillow_s(one, *more), images[i])  # noqa: B023
        assert torch.equal(ours, expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_stretching_is_torchvision_s_and_nearly_pillow_s(channels, functional):
    images = pictures(channels=channels)
    found = changed("autocontrasted", images, np.zeros(7))
    for image, ours in zip(images, found, strict=True):
        assert torch.equal(ours, functional.autocontrast(image))
        off = ours.int() - by_pillow(ImageOps.autocontrast, image).int()
        assert off.abs().max() <= 1


def test_equalising_by_hand():
    # 512 pixels, half of level 10, a quarter of 20, a quarter of 30: below the greatest
    # are 384, so that s = 1 and a level becomes the number of pixels below it.
    image = torch.tensor([10] * 256 + [20] * 128 + [30] * 128).reshape(1, 1, 16, 32)
    found = level.equalized(image.float(), np.zeros(1))
    assert found.unique().tolist() == [0, 255]
    # 1,530 pixels, of which 1,020 below: s = 4, and (0 + 2) // 4, (510 + 2) // 4, 255
    image = torch.tensor([1, 2, 3]).repeat_interleave(510).reshape(1, 1, 30, 51)
    assert level.equalized(image.float(), np.zeros(1)).unique().tolist() == [
        0,
        128,
        255,
    ]


def test_blends_by_hand():
    image = torch.tensor([[[[10.0, 100.0]]]])
    assert level.brightened(image, np.array([0.5])).flatten().tolist() == [15, 150]
    # the mean is 55, and 10 + 0.5 * (10 - 55) = -12.5, 100 + 0.5 * 45 = 122.5
    assert level.contrasted(image, np.array([0.5])).flatten().tolist() == [0, 122]


@pytest.mark.parametrize("name", [*ENHANCED, *EXACT, "autocontrasted"])
def test_each_image_is_changed_for_itself(name):
    images = pictures()
    magnitudes = np.array(EXACT[name][2] or CHANGES if name in EXACT else CHANGES)
    together = changed(name, images, magnitudes)
    for i in range(7):
        alone = changed(name, images[i : i + 1], magnitudes[i : i + 1])
        assert torch.equal(together[i : i + 1], alone)
