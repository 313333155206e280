"""Every picture a user may have is decoded rightly, or refused with a reason."""

import base64
import concurrent.futures
import io
import re
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from repscope import _images as images
from repscope._checking import InputError


def encoded(picture, kind="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def colours():
    """Return 24 x 16 pixels of every hue."""
    x, y = np.meshgrid(np.linspace(0, 255, 24), np.linspace(0, 255, 16))
    return np.stack([x, y, 255 - x], axis=2).astype(np.uint8)


def ramp_16(width=300):
    return np.tile(np.linspace(0, 65_535, width).astype(np.uint16), (4, 1))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "TIFF", "PPM"])
def test_lossless_colours_come_back(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(Image.fromarray(colours()), kind, **options)
    np.testing.assert_array_equal(images.decode(data, "x"), colours())


def test_jpeg_comes_back_up_to_its_loss():
    data = encoded(Image.fromarray(colours()), "JPEG", quality=95)
    difference = images.decode(data, "x").astype(int) - colours()
    assert np.abs(difference).mean() < 8


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_ramp_keeps_its_levels(kind):
    # A plain convert("RGB") leaves 2 levels: all above 255 becomes white.
    decoded = images.decode(encoded(Image.fromarray(ramp_16()), kind), "x")
    levels = np.unique(decoded[..., 0])
    assert len(levels) >= 200
    np.testing.assert_array_equal(decoded[..., 0], ramp_16() >> 8)
    np.testing.assert_array_equal(decoded[..., 0], decoded[..., 2])


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_depth_is_told_by_the_header_not_by_how_bright_pixels_are(kind):
    # The brightest pixel would fit into 8 bits.
    dark = np.array([[0, 100, 255]], np.uint16)
    decoded = images.decode(encoded(Image.fromarray(dark), kind), "x")
    assert decoded[0, :, 0].tolist() == [0, 0, 0]


def test_sixteen_bit_colours_keep_their_upper_byte():
    pixels = np.stack([ramp_16(), ramp_16()[:, ::-1], ramp_16() // 2], axis=2)
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in pixels)
    data = png(pixels.shape[1], pixels.shape[0], lines, depth=16)
    np.testing.assert_array_equal(images.decode(data, "x"), pixels >> 8)


def big_endian_tiff(pixels):
    """Return a grey 16-bit TIFF in Motorola byte order, written by hand."""
    height, width = pixels.shape
    strip = pixels.astype(">u2").tobytes()
    tags = [
        *((256, width), (257, height), (258, 16), (259, 1), (262, 1)),
        *((273, 8), (277, 1), (278, height), (279, len(strip))),
    ]
    entries = b"".join(struct.pack(">HHII", tag, 4, 1, value) for tag, value in tags)
    directory = struct.pack(">H", len(tags)) + entries + struct.pack(">I", 0)
    return b"MM\x00\x2a" + struct.pack(">I", 8 + len(strip)) + strip + directory


def test_sixteen_bit_big_endian_tiff_keeps_its_levels():
    decoded = images.decode(big_endian_tiff(ramp_16()), "x")
    np.testing.assert_array_equal(decoded[..., 0], ramp_16() >> 8)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("1", [255, 255, 255]),
        ("L", [200, 200, 200]),
        ("P", [200, 100, 50]),
        ("RGB", [200, 100, 50]),
        ("CMYK", [200, 100, 50]),
        ("YCbCr", [200, 100, 50]),
        ("F", [51, 51, 51]),
        ("I", [200, 200, 200]),
    ],
)
def test_each_mode_becomes_rgb(mode, expected):
    picture = Image.new("RGB", (3, 2), (200, 100, 50))
    if mode == "F":
        picture = Image.fromarray(np.full((2, 3), 0.2, np.float32))
    elif mode in ("L", "I", "1"):
        picture = Image.new(mode, (3, 2), 1 if mode == "1" else 200)
    else:
        picture = picture.convert(mode, palette=Image.Palette.ADAPTIVE)
    kind = "TIFF" if mode in ("CMYK", "YCbCr", "F", "I") else "PNG"
    decoded = images.decode(encoded(picture, kind), "x")
    assert decoded.shape == (2, 3, 3)
    # YCbCr rounds twice.
    assert np.abs(decoded.astype(int) - expected).max() <= 2


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("RGBA", (255, 0, 0, 0), [255, 255, 255]),
        ("RGBA", (255, 0, 0, 255), [255, 0, 0]),
        ("RGBA", (0, 0, 0, 128), [127, 127, 127]),
        ("LA", (0, 128), [127, 127, 127]),
    ],
)
def test_transparency_lies_on_white(mode, colour, expected):
    decoded = images.decode(encoded(Image.new(mode, (2, 2), colour)), "x")
    assert decoded[0, 0].tolist() == expected


@pytest.mark.parametrize("transparency", [1, bytes([255, 0])])
def test_transparent_palette_entries_lie_on_white(transparency):
    picture = Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.putdata([0, 1])
    decoded = images.decode(encoded(picture, transparency=transparency), "x")
    assert decoded[0].tolist() == [[10, 20, 30], [255, 255, 255]]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_camera_orientation_is_applied(kind):
    picture = Image.new("RGB", (32, 16), "black")
    picture.paste("white", (0, 0, 16, 16))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 270 degrees to see it upright
    decoded = images.decode(encoded(picture, kind, exif=exif), "x")
    assert decoded.shape == (32, 16, 3)
    assert decoded[:14].mean() > 240
    assert decoded[18:].mean() < 15


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame_stands_for_an_animation(kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    decoded = images.decode(data, "x")
    assert decoded.shape == (8, 8, 3)
    assert decoded[0, 0].tolist() == [255, 0, 0]


def test_one_pixel_is_a_picture():
    assert images.decode(encoded(Image.new("L", (1, 1), 7)), "x").tolist() == [
        [[7, 7, 7]]
    ]


def png_header(width, height):
    """Return a PNG that promises a size and holds one chunk of almost nothing."""
    return png(width, height, b"\x00" * 100)


def png(width, height, lines, depth=8):
    """Return an RGB PNG, written by hand."""

    def chunk(kind, body):
        code = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + code

    head = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (
            (10_000, 5_001),
            "x.png: a picture of 10000 x 5001\n  expected: at most 50,000,000 pixels",
        ),
        ((13_000, 13_000), "x.png: a picture of 13000 x 13000"),
        ((60_000, 60_000), "x.png: no readable picture (Image size (3600000000"),
    ],
)
def test_bomb_is_refused_by_its_header(size, message):
    with pytest.raises(InputError, match="^" + re.escape(message)):
        images.decode(png_header(*size), "x.png")


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<!DOCTYPE html><html><body>404</body></html>",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        EPS,
        encoded(Image.new("RGB", (40, 40)), "JPEG")[:200],
        encoded(Image.fromarray(colours()))[:-60],
        png_header(50, 50),
    ],
    ids=["empty", "html", "lfs", "eps", "cut jpeg", "cut png", "short png"],
)
def test_what_is_no_whole_picture_is_refused(data):
    with pytest.raises(InputError, match=r"^a\.jpg: no readable picture \("):
        images.decode(data, "a.jpg")


@pytest.mark.parametrize("kind", ["TGA", "ICO", "PCX"])
def test_formats_that_are_not_listed_are_refused(kind):
    data = encoded(Image.fromarray(colours()), kind)
    with pytest.raises(InputError, match="^x: no readable picture "):
        images.decode(data, "x")


def test_postscript_is_never_interpreted(monkeypatch):
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", pytest.fail)
    data = encoded(Image.fromarray(colours()), "EPS")
    with pytest.raises(InputError, match="^x: no readable picture "):
        images.decode(data, "x")


def test_a_truncated_photo_is_not_half_decoded():
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    whole = encoded(Image.fromarray(noise), "JPEG")
    with pytest.raises(InputError, match="^x: no readable picture .*truncated"):
        images.decode(whole[: len(whole) // 2], "x")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_damaged_files_decode_or_are_refused_and_do_nothing_else(kind):
    generator = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {} if kind in ("GIF", "BMP", "PPM") else {"exif": exif}
    whole = encoded(Image.fromarray(colours()), kind, **options)
    for _ in range(150):
        data = bytearray(whole)
        for place in generator.integers(0, len(data), generator.integers(1, 8)):
            data[place] = generator.integers(256)
        if generator.random() < 0.3:
            data = data[: generator.integers(len(data))]
        try:
            decoded = images.decode(bytes(data), "x")
        except InputError:
            continue
        assert decoded.dtype == np.uint8
        assert decoded.ndim == 3


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (np.array([[7, 255]], np.uint8), [7, 255]),
        (np.array([[[7], [255]]], np.uint8), [7, 255]),
        (np.array([[0, 200]], np.uint16), [0, 200]),
        (np.array([[0, 65_535]], np.uint16), [0, 255]),
        (np.array([[0, 65_535]], ">u2"), [0, 255]),
        (np.array([[0, 65_535]], np.int32), [0, 255]),
        (np.array([[0, 2**31 - 1]], np.int32), [0, 255]),
        (np.array([[0, 300]], np.int64), [0, 1]),
        (np.array([[0.0, 1.0]]), [0, 255]),
        (np.array([[0.0, 0.5]], np.float16), [0, 128]),
        (np.array([[-1.0, 3.0]]), [0, 255]),
        (np.array([[5.0, 5.0]]), [0, 0]),
        (np.array([[np.nan, 1.0]]), [0, 255]),
        (np.array([[False, True]]), [0, 255]),
    ],
)
def test_pixels_of_any_depth_become_eight_bit(pixels, expected):
    eight = images.as_rgb8(pixels)
    assert eight.dtype == np.uint8
    assert eight.shape == (1, 2, 3)
    assert eight[0, :, 1].tolist() == expected


def test_a_fourth_channel_is_left_out():
    pixels = np.arange(8, dtype=np.uint8).reshape(1, 2, 4)
    assert images.as_rgb8(pixels).tolist() == [[[0, 1, 2], [4, 5, 6]]]


@pytest.mark.parametrize("shape", [(4,), (2, 2, 2), (3, 8, 8), (1, 2, 2, 3)])
def test_pixels_of_another_shape_are_refused(shape):
    message = re.escape(
        f"images: a picture of another shape\n  found: {shape}; "
        "expected: (height, width), or with 1, 3 or 4 channels last"
    )
    with pytest.raises(InputError, match=f"^{message}$"):
        images.as_rgb8(np.zeros(shape))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1, 1), (72, 72)),
        ((8, 8), (72, 72)),
        ((32, 32), (64, 64)),
        ((50, 50), (50, 50)),
        ((300, 200), (72, 48)),
        ((1000, 1), (72, 1)),
    ],
)
def test_thumbnail_fits_its_side_and_keeps_whole_pixels(size, expected):
    pixels = np.random.default_rng(0).integers(0, 255, (*size[::-1], 3), np.uint8)
    address, width, height = images.thumbnail(pixels)
    assert (width, height) == expected
    head = "data:image/png;base64,"
    assert address.startswith(head)
    with Image.open(io.BytesIO(base64.b64decode(address[len(head) :]))) as picture:
        assert picture.size == expected
        small = np.asarray(picture)
    if width % size[0] == 0:
        factor = width // size[0]
        np.testing.assert_array_equal(small[::factor, ::factor], pixels)


def test_decoding_is_silent():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(InputError):
            images.decode(png_header(12_000, 9_000), "x")
    assert caught == []


def test_grey_is_luma_as_pillow_has_it():
    picture = Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    )
    grey = images.decode(encoded(picture), "x", channels=1)
    np.testing.assert_array_equal(grey[..., 0], np.asarray(picture.convert("L")))
    every = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    grey = images.decode(encoded(every), "x", channels=1)
    assert grey[0, :, 0].tolist() == list(range(256))


@pytest.mark.parametrize(
    ("mode", "channels"), [("L", 1), ("1", 3), ("I;16", 1), ("RGB", 3), ("P", 3)]
)
def test_a_pillow_image_keeps_its_channels(mode, channels):
    assert images.from_pillow(Image.new(mode, (5, 4)), "x").shape == (4, 5, channels)


def test_a_pillow_image_that_is_too_large_is_refused():
    refused = pytest.raises(InputError, match="^x: a picture of 8000 x 8000\n")
    with Image.open(io.BytesIO(png_header(8_000, 8_000))) as picture, refused:
        images.from_pillow(picture, "x")


def test_threads_that_decode_leave_warnings_as_they_were():
    data = [encoded(Image.fromarray(colours())), png_header(12_000, 9_000), b"no"]

    def decoded(place):
        try:
            return images.decode(data[place % 3], "x").shape
        except InputError:
            return None

    before = list(warnings.filters)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        inner = list(warnings.filters)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            shapes = list(pool.map(decoded, range(600)))
        assert list(warnings.filters) == inner
    assert list(warnings.filters) == before
    assert caught == []
    assert shapes == [(16, 24, 3), None, None] * 200
