import numpy as np
import pytest
import torch
from PIL import Image

from references.torchvision_operators import torchvision_or_skip
from repscope.data.cropping import padded_crops, resized_crops
from repscope.data.draws import Boxes
from repscope.data.operations import RandomCrop

# Weights are float32, and a result is a sum of some tens of products.
TOLERANCE = 1e-5


def pictures(n, height, width, channels=3, seed=0):
    shape = (n, height, width, channels)
    values = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return torch.from_numpy(values)


def random_boxes(n, height, width, seed=1):
    random = np.random.default_rng(seed)
    heights, widths = (
        random.integers(1, height + 1, n),
        random.integers(1, width + 1, n),
    )
    return Boxes(
        top=random.integers(0, height - heights + 1),
        left=random.integers(0, width - widths + 1),
        height=heights,
        width=widths,
    )


def whole(n, height, width):
    zeros = np.zeros(n, np.int64)
    return Boxes(top=zeros, left=zeros, height=zeros + height, width=zeros + width)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(32, 32, 32), (32, 32, 16), (16, 16, 32), (50, 20, 24), (7, 90, 12), (3, 3, 1)],
)
def test_crops_are_torchvision_s(height, width, size, interpolation):
    torchvision_or_skip()
    from torchvision.transforms.v2 import InterpolationMode, functional

    images, boxes = pictures(24, height, width), random_boxes(24, height, width)
    found = resized_crops(images, boxes, size, interpolation=interpolation)
    for i, image in enumerate(images):
        expected = functional.resized_crop(
            image.permute(2, 0, 1) / 255,
            *(
                int(one[i])
                for one in (boxes.top, boxes.left, boxes.height, boxes.width)
            ),
            size=[size, size],
            interpolation=InterpolationMode(interpolation),
            antialias=True,
        )
        # PIL and we cut off what bicubic weights overshoot.
        torch.testing.assert_close(
            found[i], expected.clamp(0, 1), rtol=0, atol=TOLERANCE
        )


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("side", "size"), [(32, 32), (64, 24), (20, 48)])
def test_crops_are_pil_s_up_to_its_rounding(side, size, interpolation):
    # Muted, since PIL also cuts off what overshoots between the axes.
    images, boxes = pictures(24, side, side) // 2 + 64, random_boxes(24, side, side)
    found = resized_crops(images, boxes, size, interpolation=interpolation)
    method = Image.Resampling[interpolation.upper()]
    for i, image in enumerate(images.numpy()):
        top, left = int(boxes.top[i]), int(boxes.left[i])
        bottom, right = top + int(boxes.height[i]), left + int(boxes.width[i])
        cut = Image.fromarray(image).crop((left, top, right, bottom))
        expected = np.asarray(cut.resize((size, size), method), dtype=float)
        # PIL rounds to whole levels twice, after the columns and after the rows; the
        # weights of the second may add up to more than 1 in absolute value.
        difference = np.abs(found[i].permute(1, 2, 0).numpy() * 255 - expected)
        assert difference.max() <= 1.3


def test_the_whole_image_at_its_size_stays_as_it_is():
    images = pictures(3, 32, 32)
    found = resized_crops(images, whole(3, 32, 32), 32)
    expected = images.permute(0, 3, 1, 2) / 255
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-7)


def test_halving_by_hand():
    # The triangle of half width 2 around a result's centre weighs 1/8, 3/8, 3/8, 1/8;
    # at the border, where the first is missing, 3/7, 3/7, 1/7.
    row = torch.tensor([[0, 70, 140, 210]], dtype=torch.uint8).repeat(4, 1)
    found = resized_crops(row[None, :, :, None], whole(1, 4, 4), 2)
    left, right = (3 * 0 + 3 * 70 + 140) / 7, (70 + 3 * 140 + 3 * 210) / 7
    expected = torch.tensor([left, right]) / 255
    torch.testing.assert_close(found[0, 0, 0], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_what_lies_outside_the_box_does_not_matter(interpolation):
    images, boxes = pictures(10, 20, 20), random_boxes(10, 20, 20)
    masked = torch.zeros_like(images)
    for i in range(10):
        rows = slice(boxes.top[i], boxes.top[i] + boxes.height[i])
        columns = slice(boxes.left[i], boxes.left[i] + boxes.width[i])
        masked[i, rows, columns] = images[i, rows, columns]
    ours = resized_crops(images, boxes, 16, interpolation=interpolation)
    assert torch.equal(
        ours, resized_crops(masked, boxes, 16, interpolation=interpolation)
    )


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_one_colour_stays_one_colour(interpolation):
    images = torch.full((5, 30, 20, 3), 77, dtype=torch.uint8)
    found = resized_crops(
        images, random_boxes(5, 30, 20), 16, interpolation=interpolation
    )
    torch.testing.assert_close(found, torch.full_like(found, 77 / 255))


def test_bicubic_stays_within_black_and_white():
    images = (pictures(8, 16, 16) // 128) * 255
    found = resized_crops(images, whole(8, 16, 16), 40, interpolation="bicubic")
    assert found.min() == 0
    assert found.max() == 1


def test_flipping_mirrors_those_chosen():
    images, boxes = pictures(12, 20, 24), random_boxes(12, 20, 24)
    flipped = np.arange(12) % 3 == 0
    found = resized_crops(images, boxes, 16, flipped=flipped)
    plain = resized_crops(images, boxes, 16)
    expected = torch.where(torch.from_numpy(flipped)[:, None, None, None],
                           plain.flip(3), plain)  # fmt: skip
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert not torch.equal(found, plain)


def test_grey_images():
    images, boxes = pictures(6, 20, 20, 1), random_boxes(6, 20, 20)
    found = resized_crops(images, boxes, 16)
    coloured = resized_crops(images.repeat(1, 1, 1, 3), boxes, 16)
    assert found.shape == (6, 1, 16, 16)
    torch.testing.assert_close(found, coloured[:, :1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_padded_crops_are_torchvision_s(channels):
    torchvision_or_skip()
    from torchvision.transforms.v2 import functional

    images, random = pictures(12, 20, 26, channels), np.random.default_rng(0)
    top, left = random.integers(-3, 20 + 3 - 16 + 1, (2, 12))
    flipped = np.arange(12) % 3 == 0
    side = np.full(12, 16)
    found = padded_crops(
        images, Boxes(top, left, side, side), RandomCrop(16, 3), flipped=flipped
    )
    for i, image in enumerate(images):
        padded = functional.pad(image.permute(2, 0, 1), [3])
        expected = functional.crop(padded, int(top[i]) + 3, int(left[i]) + 3, 16, 16)
        expected = expected.flip(2) if flipped[i] else expected
        assert torch.equal(found[i], expected / 255)


def test_the_border_is_black():
    images = torch.full((2, 8, 8, 3), 200, dtype=torch.uint8)
    side, corner = np.full(2, 8), np.array([-4, 4])
    found = padded_crops(images, Boxes(corner, corner, side, side), RandomCrop(8, 4))
    black = torch.zeros(2, 3, 8, 8)
    black[0, :, 4:, 4:] = black[1, :, :4, :4] = 200 / 255
    torch.testing.assert_close(found, black)
