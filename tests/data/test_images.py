"""Arrays of any layout and type become 8-bit pictures, or are refused with a reason."""

import re

import numpy as np
import pytest

from repscope._checking import InputError
from repscope.data.images import ArrayImages, as_pixels

RAMP = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)


@pytest.mark.parametrize(
    "given",
    [
        RAMP,
        RAMP.transpose(0, 3, 1, 2),
        RAMP / 255,
        (RAMP / 255).astype(np.float32).transpose(0, 3, 1, 2),
        (RAMP / 255).astype(np.float16),
        RAMP.astype(np.int64),
        RAMP.astype(">u2"),
        np.asfortranarray(RAMP),
    ],
)
def test_layouts_and_types_hold_the_same_pictures(given):
    pixels = as_pixels(given)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels, RAMP)


@pytest.mark.parametrize("shape", [(2, 4, 5), (2, 4, 5, 1), (2, 1, 4, 5)])
def test_grey_pictures_have_one_channel(shape):
    assert as_pixels(np.zeros(shape, np.uint8)).shape == (2, 4, 5, 1)


def test_booleans_are_black_and_white():
    assert as_pixels(np.array([[[False, True]]])).ravel().tolist() == [0, 255]


def test_a_tensor_has_its_channels_second_where_either_could_be():
    torch = pytest.importorskip("torch", reason="the example is a torch tensor")
    tensor = torch.arange(2 * 3 * 4 * 3, dtype=torch.uint8).reshape(2, 3, 4, 3)
    pixels = as_pixels(tensor)
    assert pixels.shape == (2, 4, 3, 3)
    np.testing.assert_array_equal(pixels[1, 2, 0], tensor[1, :, 2, 0].numpy())
    assert as_pixels(tensor.numpy()).shape == (2, 3, 4, 3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            np.zeros((4, 4)),
            "images: an array of another shape\n  found: (4, 4); expect",
        ),
        (np.zeros((4, 4, 4, 4)), "images: an array of another shape"),
        (np.zeros((0, 4, 4)), "images: there are no pictures\n  found: (0, 4, 4)"),
        (np.full((3, 2, 2), "a"), "images: pixels must be numbers\n  found: values of"),
        (np.full((3, 2, 2), 1.5), "images: row 0 has pixels outside of [0, 1]"),
        (np.full((3, 2, 2), np.nan), "images: row 0 has pixels outside of [0, 1]"),
        (np.full((3, 2, 2), 300), "images: row 0 has pixels outside of [0, 255]"),
    ],
)
def test_what_holds_no_pictures_is_refused(given, message):
    with pytest.raises(InputError, match="^" + re.escape(message)):
        as_pixels(given)


def test_the_row_of_a_bad_pixel_is_named():
    pixels = np.zeros((3000, 2, 2), np.float32)
    pixels[2500, 1, 1] = -0.5
    message = (
        "cats: row 2500 has pixels outside of [0, 1]\n  found: values from -0.5 to 0.0 "
        "of type float32; expected: 8-bit pixels, or floats within [0, 1]\n  fix: undo"
    )
    with pytest.raises(InputError, match="^" + re.escape(message)):
        as_pixels(pixels, "cats")


def test_a_fingerprint_is_of_the_rows_and_not_of_where_they_lie():
    generator = np.random.default_rng(0)
    array = generator.integers(0, 256, (3000, 4, 4, 3), dtype=np.uint8)
    rows = generator.permutation(3000)[:2100]
    whole, part = ArrayImages(array), ArrayImages(array[rows])
    assert whole.fingerprint(rows) == part.fingerprint(np.arange(2100))
    assert whole.fingerprint(rows) != whole.fingerprint(rows[::-1])
    assert whole.fingerprint(rows) != whole.fingerprint(rows[:-1])
    flat = ArrayImages(array.reshape(3000, 2, 8, 3))
    assert whole.fingerprint(rows) != flat.fingerprint(rows)
    array[rows[5], 0, 0, 0] ^= 1
    assert whole.fingerprint(rows) != part.fingerprint(np.arange(2100))
