import math

import numpy as np
import pytest
import torch
from PIL import Image

from references.torchvision_operators import torchvision_or_skip
from repscope.data import geometry_operations as geometry

SHEARS = [-0.3, -0.2333, -0.1, 0.0, 1 / 30, 0.2667, 0.3]
SHIFTS = [-14.5, -5.9, -1.0, 0.0, 0.9, 4.83, 40.0]
DEGREES = [-30.0, -16.67, -1.0, 0.0, 6.6667, 23.33, 45.0]
# name -> magnitudes, from a magnitude to Pillow's coefficients
MOVES = {
    "sheared_x": (SHEARS, lambda m: (1, m, 0, 0, 1, 0)),
    "sheared_y": (SHEARS, lambda m: (1, 0, 0, m, 1, 0)),
    "translated_x": (SHIFTS, lambda m: (1, 0, -int(m), 0, 1, 0)),
    "translated_y": (SHIFTS, lambda m: (1, 0, 0, 0, 1, -int(m))),
}
CASES = [(name, *one) for name, one in MOVES.items()] + [("rotated", DEGREES, None)]


def pictures(height, width, channels=3):
    shape = (7, channels, height, width)
    values = np.random.default_rng(0).integers(1, 256, shape, dtype=np.uint8)
    return torch.from_numpy(values)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (31, 40), (96, 65), (1, 7)])
@pytest.mark.parametrize(("name", "magnitudes", "coefficients"), CASES)
def test_moves_are_pillow_s_to_the_last_pixel(
    name, magnitudes, coefficients, height, width
):
    images = pictures(height, width)
    found = getattr(geometry, name)(images.float(), np.array(magnitudes))
    for image, ours, magnitude in zip(images, found, magnitudes, strict=True):
        pillow = Image.fromarray(image.permute(1, 2, 0).numpy())
        if coefficients is None:
            expected = pillow.rotate(magnitude)
        else:
            kind = Image.Transform.AFFINE
            expected = pillow.transform(pillow.size, kind, coefficients(magnitude))
        np.testing.assert_array_equal(ours.permute(1, 2, 0), np.array(expected))


@pytest.mark.parametrize(
    ("name", "operation", "magnitudes"),
    [
        ("sheared_x", "ShearX", SHEARS),
        ("sheared_y", "ShearY", SHEARS),
        ("translated_x", "TranslateX", SHIFTS),
        ("translated_y", "TranslateY", SHIFTS),
        ("rotated", "Rotate", DEGREES),
    ],
)
def test_moves_are_torchvision_s_on_tensors(name, operation, magnitudes):
    torchvision_or_skip()
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.autoaugment import _apply_op

    images = pictures(32, 32)
    found = getattr(geometry, name)(images.float(), np.array(magnitudes))
    nearest = InterpolationMode.NEAREST
    for image, ours, magnitude in zip(images, found, magnitudes, strict=True):
        expected = _apply_op(image, operation, magnitude, nearest, None)
        # Its places are float32: a few pixels in a thousand fall on another neighbour.
        share = (ours != expected.float()).float().mean()
        assert share <= (0 if operation.startswith("Translate") else 4e-3)


def test_what_is_not_there_is_black():
    images = pictures(20, 20)
    found = geometry.translated_x(images.float(), np.full(7, 3.0))
    assert (found[..., :3] == 0).all()
    assert torch.equal(found[..., 3:], images[..., :-3].float())
    found = geometry.translated_y(images.float(), np.full(7, -20.0))
    assert (found == 0).all()


def test_a_quarter_turn():
    images = pictures(12, 12).float()
    found = geometry.rotated(images, np.full(7, 90.0))
    assert torch.equal(found, images.rot90(1, (2, 3)))


def test_a_shear_by_hand():
    # Row j comes from j / 2 + 1 / 4 pixels further right, pixels' centres at halves.
    image = torch.arange(1.0, 5).repeat(4, 1)[None, None]
    found = geometry.sheared_x(image, np.array([0.5]))[0, 0]
    by_hand = [
        [math.floor(i + 0.5 + 0.5 * (j + 0.5)) + 1 for i in range(4)] for j in range(4)
    ]
    expected = [[value if value <= 4 else 0 for value in row] for row in by_hand]
    assert found.tolist() == expected


def test_each_image_is_moved_for_itself():
    images = pictures(17, 23).float()
    for name, magnitudes, _ in CASES:
        move, values = getattr(geometry, name), np.array(magnitudes)
        together = move(images, values)
        alone = [move(images[i : i + 1], values[i : i + 1]) for i in range(7)]
        assert torch.equal(together, torch.cat(alone))
