import errno
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from data.encoded_cases import encoded, png, solid, value_of, write_tree
from repscope._checking import InputError, ResourceError
from repscope._images import Preprocess
from repscope.data import encoded_images
from repscope.data.encoded_images import (
    EncodedImages,
    PictureFiles,
    check_kind,
    fix_of,
)
from repscope.data.imageset import ImageSet
from repscope.files.sniffing import Kind

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def images_of(tmp_path, **contents):
    """Return the images of files called NAME.png with this content."""
    names = []
    for name, content in contents.items():
        names.append(f"{name}.png")
        (tmp_path / names[-1]).write_bytes(content)
    return EncodedImages("pets", names, PictureFiles(tmp_path, tuple(names)))


def test_each_row_is_its_file(tmp_path):
    images = images_of(tmp_path, b=png(7), a=png(3))
    assert images.n == 2
    assert images.shape is None
    assert [value_of(images, row) for row in range(2)] == [7, 3]
    assert images.bytes_of(1) == png(3)


def test_a_lossless_picture_is_what_was_saved(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    images = images_of(
        tmp_path, png=encoded(pixels), webp=encoded(pixels, "WEBP", lossless=True)
    )
    for row in range(2):
        np.testing.assert_array_equal(images.read(row), pixels)


def test_a_picture_is_decoded_when_it_is_looked_at_and_not_before(tmp_path):
    images = images_of(tmp_path, a=b"")
    (tmp_path / "a.png").write_bytes(png(5))
    assert value_of(images, 0) == 5


@pytest.mark.parametrize(
    ("content", "message", "fix"),
    [
        (b"", "pets: a.png: is an empty file, not a picture", "copy it again"),
        (LFS, "pets: a.png: is a Git-LFS pointer, not a picture", "git lfs pull"),
        (b"<html>404", "pets: a.png: is an HTML page, not a picture", "download"),
        (b"<svg></svg>", "pets: a.png: is an XML file, not a picture", ""),
        (b"\0\0\0\x18ftypheic", "is an image of a format that is not read", "PNG"),
        (b"%!PS-Adobe-3.0 EPSF", "pets: a.png: is a text file, not a picture", ""),
        (png(3, 64)[:-30], "pets: a.png: no readable picture", ""),
        (encoded(solid(9, 64), "JPEG")[:400], "a.png: no readable picture", ""),
    ],
)
def test_what_is_no_picture_is_named(content, message, fix, tmp_path):
    images = images_of(tmp_path, a=content)
    with pytest.raises(InputError, match=message) as error:
        images.read(0)
    assert fix in error.value.fix
    assert "0x" not in str(error.value)  # the same words on every run


def test_a_bomb_is_refused_by_its_header(tmp_path):
    huge = encoded(np.zeros((8000, 8000), dtype=np.uint8))
    with pytest.raises(InputError, match="pets: a.png: a picture of 8000 x 8000"):
        images_of(tmp_path, a=huge).read(0)


def test_a_file_too_large_for_a_picture_is_not_read(tmp_path):
    images = images_of(tmp_path, a=b"")
    with (tmp_path / "a.png").open("r+b") as file:
        file.truncate(2**40)  # a hole, which takes no disk
    with pytest.raises(InputError, match="a.png: 1,099,511,627,776 bytes, too many"):
        images.read(0)


@pytest.mark.parametrize("row", [-1, 2])
def test_a_row_that_is_not_there_is_refused(row, tmp_path):
    images = images_of(tmp_path, a=png(1), b=png(2))
    with pytest.raises(InputError, match=f"pets: no row {row}") as error:
        images.read(row)
    assert error.value.expected == "0 to 1"


def test_a_file_that_is_gone_is_an_unreadable_picture(tmp_path):
    images = images_of(tmp_path, a=png(1))
    (tmp_path / "a.png").unlink()
    with pytest.raises(InputError, match="a.png: No such file"):
        images.read(0)


def test_a_link_to_nothing_says_how_to_get_the_file(tmp_path):
    images = images_of(tmp_path, a=png(1))
    (tmp_path / "a.png").unlink()
    (tmp_path / "a.png").symlink_to("objects/a.png")
    with pytest.raises(InputError, match="a.png: No such file") as error:
        images.read(0)
    assert "git annex get" in error.value.fix


@pytest.mark.parametrize(
    ("number", "kind", "message"),
    [
        (errno.EACCES, InputError, "a.png: Permission denied"),
        (errno.EIO, ResourceError, "a.png: cannot be read .*Input/output error"),
        (errno.EMFILE, ResourceError, "a.png: cannot be read .*Too many open files"),
    ],
)
def test_a_bad_file_is_told_from_a_bad_machine(
    number, kind, message, tmp_path, monkeypatch
):
    images = images_of(tmp_path, a=png(1))

    def fail(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(encoded_images.Path, "open", fail)
    with pytest.raises(kind, match=message):
        images.read(0)


def test_threads_read_the_same_as_one_after_the_other(tmp_path):
    names = [f"{row}.png" for row in range(50)]
    write_tree(tmp_path, names)
    images = EncodedImages("pets", names, PictureFiles(tmp_path, tuple(names)))
    rows = list(range(50)) * 4
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda row: value_of(images, row), rows))
    assert read == rows


def test_the_fingerprint_tells_names_sizes_and_order(tmp_path):
    images = images_of(tmp_path, a=png(1), b=png(2, side=9), c=png(2, side=9))
    rows = np.arange(3)
    before = images.fingerprint(rows)
    assert before == images.fingerprint(rows)
    others = [np.array([1, 0, 2]), np.array([0, 1]), np.array([0, 1, 1])]
    assert len({before, *(images.fingerprint(one) for one in others)}) == 4
    (tmp_path / "a.png").write_bytes(png(1, side=11))
    changed = images.fingerprint(rows)
    (tmp_path / "a.png").unlink()
    assert len({before, changed, images.fingerprint(rows)}) == 3


def test_unreadable_pictures_are_replaced_and_listed(tmp_path):
    names = [f"{row}.png" for row in range(200)]
    write_tree(tmp_path, names)
    (tmp_path / "17.png").write_bytes(b"<html>404")
    images = EncodedImages("pets", names, PictureFiles(tmp_path, tuple(names)))
    whole = ImageSet.of(images, name="pets").in_memory(Preprocess(4))
    (failure,) = whole.failures
    assert (failure.row, failure.reason) == (
        17,
        "pets: 17.png: is an HTML page, not a picture",
    )
    assert value_of(whole.images, 17) == failure.replaced_by != 17
    (tmp_path / "18.png").write_bytes(LFS)
    (tmp_path / "19.png").write_bytes(b"")
    message = "pets: 17.png: is an HTML page, not a picture, and 2 more"
    with pytest.raises(InputError, match=message):
        ImageSet.of(images, name="pets").in_memory(Preprocess(4))


@pytest.mark.parametrize(
    ("name", "content", "message", "fix"),
    [
        (
            "x.npy",
            b"\x93NUMPY\1\0",
            "x.npy: is a NumPy array, not",
            "repscope diagnose",
        ),
        ("x.csv", b"f0,f1\n1,2\n", "x.csv: is a text file, not", "diagnose x.csv"),
        ("x.safetensors", b'\x08\0\0\0\0\0\0\0{"a":{}}', "is a safetensors", "encoder"),
        ("x.pkl", b"\x80\x04K\x01.", "x.pkl: is a pickle, not", "np.savez"),
        ("x.png", png(1), "x.png: is an image, not", "the folder that it lies in"),
        ("x.zip", LFS, "x.zip: is a Git-LFS pointer, not", "git lfs pull"),
        ("x.zip", b"", "x.zip: is an empty file, not", "write or copy it again"),
        ("x.zip", b"PAR1", "x.zip: is a Parquet table, not", "open_images"),
        ("x.zip", b"\0\1\2\3", "x.zip: is of no known format, not", "again"),
    ],
)
def test_files_that_are_no_pictures_are_named(name, content, message, fix, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        check_kind(tmp_path / name, Kind.IMAGE_ARCHIVE)
    assert "not a zip archive of images" in error.value.what
    assert fix in error.value.fix


def test_every_kind_has_words_to_go_on():
    silent = {
        Kind.JSON,
        Kind.TOML,
        Kind.XML,
        Kind.PDF,
        Kind.HDF5,
        Kind.MATLAB,
        Kind.SQLITE,
    }
    assert {kind for kind in Kind if not fix_of(kind, "x")} <= silent
