"""A picture becomes what an encoder takes, as the usual evaluation has it."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from repscope._checking import InputError, UsageError
from repscope._images import Preprocess, fit


def random_picture(height, width, channels=3):
    generator = np.random.default_rng(height * width)
    pixels = generator.integers(0, 256, (height, width, channels), np.uint8)
    # Smooth in part, as pictures are: noise alone would hide a shift.
    pixels[: height // 2] = np.linspace(0, 255, width)[None, :, None]
    return pixels


def in_two_steps(pixels, preprocess):
    """Return the picture resized as a whole, then cropped, in Pillow's own terms."""
    picture = Image.fromarray(pixels)
    short, long = sorted(picture.size)
    long = int(preprocess.short_side * long / short)
    wide = picture.width >= picture.height
    size = (long, preprocess.short_side) if wide else (preprocess.short_side, long)
    kind = {"bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC}
    picture = picture.resize(size, kind[preprocess.interpolation])
    left, top = (round((one - preprocess.size) / 2) for one in picture.size)
    return np.asarray(
        picture.crop((left, top, left + preprocess.size, top + preprocess.size))
    )


def by_torchvision(pixels, preprocess):
    pytest.importorskip("references.torchvision_operators").torchvision_or_skip()
    functional = pytest.importorskip("torchvision.transforms.functional")
    mode = functional.InterpolationMode[preprocess.interpolation.upper()]
    picture = Image.fromarray(pixels)
    picture = functional.resize(picture, [preprocess.short_side], mode)
    return np.asarray(functional.center_crop(picture, [preprocess.size] * 2))


SIZES = [(48, 64), (64, 48), (33, 47), (50, 50), (200, 31), (9, 9), (7, 12), (16, 16)]


@pytest.mark.parametrize("reference", [in_two_steps, by_torchvision])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("side", "short"), [(16, None), (16, 19), (24, 24)])
@pytest.mark.parametrize("kind", ["bilinear", "bicubic"])
def test_fit_equals_the_usual_evaluation(reference, size, side, short, kind):
    pixels = random_picture(*size)
    preprocess = Preprocess(side, short, interpolation=kind)
    np.testing.assert_array_equal(
        fit(pixels, preprocess), reference(pixels, preprocess)
    )


@pytest.mark.parametrize("size", [(20, 400), (400, 20)])
@pytest.mark.parametrize(("side", "short"), [(16, None), (31, 33)])
def test_a_very_long_picture_is_cropped_first_to_the_same_end(size, side, short):
    pixels = random_picture(*size)
    preprocess = Preprocess(side, short)
    fitted = fit(pixels, preprocess).astype(int)
    # Pillow rounds between its two passes, whose order may differ.
    assert np.abs(fitted - in_two_steps(pixels, preprocess)).max() <= 1


@pytest.mark.parametrize("size", [(16, 16), (16, 40), (41, 16)])
def test_a_picture_of_the_right_size_is_not_resampled(size):
    pixels = random_picture(*size)
    top, left = round((size[0] - 16) / 2), round((size[1] - 16) / 2)
    expected = pixels[top : top + 16, left : left + 16]
    np.testing.assert_array_equal(fit(pixels, Preprocess(16)), expected)


def test_shrinking_averages_instead_of_skipping():
    # Without antialiasing a board of 1-pixel squares would become black or white.
    board = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)[..., None]
    shrunk = fit(board, Preprocess(16, channels=1))
    assert shrunk.shape == (16, 16, 1)
    assert np.abs(shrunk.astype(int) - 127).max() <= 2


@pytest.mark.parametrize("size", [(1, 1), (1, 100_000), (100_000, 1)])
def test_extreme_pictures_are_fitted_at_little_cost(size):
    pixels = np.full((*size, 3), 9, np.uint8)
    assert (fit(pixels, Preprocess(224)) == 9).all()


@pytest.mark.parametrize(("given", "wanted"), [(1, 3), (3, 1), (1, 1), (3, 3)])
def test_fit_gives_the_channels_asked_for(given, wanted):
    pixels = random_picture(20, 30, given)
    fitted = fit(pixels, Preprocess(16, channels=wanted))
    assert fitted.shape == (16, 16, wanted)
    if (given, wanted) == (1, 3):
        grey = fit(pixels, Preprocess(16, channels=1))
        np.testing.assert_array_equal(fitted, np.repeat(grey, 3, axis=2))


def test_preprocess_comes_back_from_json():
    made = Preprocess(
        224, 256, mean=(0.4, 0.5, 0.6), std=(1.0, 2.0, 3.0), interpolation="bicubic"
    )
    text = json.dumps(made.to_dict())
    assert Preprocess.from_dict(json.loads(text)) == made
    assert Preprocess(8) == Preprocess(8, mean=(0.0,) * 3, std=(1.0,) * 3)
    assert made.describe() == (
        "short side 256 (bicubic), centre crop 224 x 224, RGB, mean 0.4, 0.5, 0.6, "
        "std 1, 2, 3"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"size": 0},
            "preprocess: the crop is larger than the picture\n  found: size 0",
        ),
        (
            {"resize": 7},
            "preprocess: the crop .*\n  found: size 8 of a short side of 7",
        ),
        ({"channels": 2}, "preprocess: channels\n  found: 2; expected: 1 or 3"),
        ({"mean": (0.0, 1.0)}, r"preprocess: mean\n  found: .*; expected: 3 finite"),
        ({"std": (0.0,)}, "preprocess: std\n.*expected: 3 finite numbers above 0"),
        ({"mean": (float("nan"),)}, "preprocess: mean"),
    ],
)
def test_a_preprocess_that_cannot_be_is_refused(options, message):
    with pytest.raises(UsageError, match=f"^{message}"):
        Preprocess(**{"size": 8} | options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop": 1}, "preprocess: unknown field 'crop'"),
        ({"sise": 1}, "preprocess: unknown field 'sise'\n  fix: did you mean size?"),
        ({"size": None}, "preprocess: field 'size'\n  found: None"),
        ({"size": 8.0}, "preprocess: field 'size'\n  found: 8.0"),
        ({"size": True}, "preprocess: field 'size'\n  found: True"),
        ({"mean": "0"}, "preprocess: field 'mean'\n  found: '0'"),
        ({"mean": []}, "preprocess: field 'mean'"),
        ({"interpolation": "cubic"}, "preprocess: field 'interpolation'"),
        ({"std": [0, 1, 1]}, "preprocess: std\n"),
    ],
)
def test_a_preprocess_from_a_file_is_read_strictly(change, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        Preprocess.from_dict(Preprocess(8).to_dict() | change)


def test_a_preprocess_from_a_file_misses_nothing():
    values = Preprocess(8).to_dict()
    del values["std"]
    with pytest.raises(InputError, match="^preprocess: no field 'std'$"):
        Preprocess.from_dict(values)
