"""Encoded pictures for tests: small, each of one colour, so that rows can be told."""

import io
import zipfile

import numpy as np
from PIL import Image


def solid(value, side=4):
    """Return (side, side, 3) pixels that all have this value."""
    return np.full((side, side, 3), value, dtype=np.uint8)


def encoded(pixels, kind="PNG", **options):
    """Return pixels as an encoded picture."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def png(value, side=4):
    """Return a PNG whose pixels all have this value."""
    return encoded(solid(value, side))


def write_tree(folder, names):
    """Write a PNG for each name; the k-th has the value k."""
    for value, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(value) if "." in name else b"x")
    return folder


def write_zip(path, names, method=zipfile.ZIP_STORED):
    """Write a zip archive of such a tree."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for value, name in enumerate(names):
            archive.writestr(name, png(value))
    return path


def value_of(images, row):
    """Return the one value that a picture's pixels have."""
    pixels = images.read(row)
    assert pixels.min() == pixels.max()
    return int(pixels.max())
