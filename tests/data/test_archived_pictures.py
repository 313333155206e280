import io
import struct
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.encoded_cases import png, write_zip
from repscope._checking import InputError
from repscope.data import archived_pictures as module
from repscope.data.archived_pictures import archived_pictures

NAMES = [f"cat/{row}.png" for row in range(6)]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_each_picture_is_its_member(method, tmp_path):
    path = write_zip(tmp_path / "pets.zip", NAMES, method)
    pictures, ignored = archived_pictures(path)
    assert pictures.names == tuple(NAMES)
    assert [pictures.bytes_of(row) for row in range(6)] == [png(k) for k in range(6)]
    assert ignored == {}
    turned = pictures.in_order(NAMES[::-1])
    assert turned.bytes_of(0) == png(5)


def test_members_written_as_a_stream_and_with_extra_fields_are_read(tmp_path):
    class Pipe(io.RawIOBase):
        """A file that cannot seek: sizes follow the data."""

        def __init__(self, file):
            self.file = file

        def writable(self):
            return True

        def write(self, data):
            return self.file.write(data)

    with (tmp_path / "pets.zip").open("wb") as file:
        file.write(b"#!/bin/sh\n")  # an archive may follow a program
        with zipfile.ZipFile(Pipe(file), "w", zipfile.ZIP_DEFLATED) as archive:
            for value, name in enumerate(NAMES):
                info = zipfile.ZipInfo(name)
                info.extra = struct.pack("<HH4s", 0xCAFE, 4, b"abcd")
                with archive.open(info, "w", force_zip64=True) as member:
                    member.write(png(value))
    content = (tmp_path / "pets.zip").read_bytes()
    (tmp_path / "pets.zip").write_bytes(content[10:])
    pictures, _ = archived_pictures(tmp_path / "pets.zip")
    assert [pictures.bytes_of(row) for row in range(6)] == [png(k) for k in range(6)]


def test_threads_read_the_same_as_one_after_the_other(tmp_path):
    path = write_zip(tmp_path / "pets.zip", NAMES, zipfile.ZIP_DEFLATED)
    pictures, _ = archived_pictures(path)
    rows = list(range(6)) * 30
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(pictures.bytes_of, rows))
    assert read == [png(row) for row in rows]


def test_folders_and_other_files_are_counted(tmp_path):
    path = write_zip(tmp_path / "pets.zip", NAMES)
    with zipfile.ZipFile(path, "a") as archive:
        archive.mkdir("empty")
        archive.writestr("README.md", "x")
        archive.writestr("__MACOSX/cat/._0.png", "x")
    pictures, ignored = archived_pictures(path)
    assert len(pictures.names) == 6
    assert ignored == {".md": 1, "hidden": 1}


def test_the_mark_of_a_picture_is_its_checksum(tmp_path):
    pictures, _ = archived_pictures(write_zip(tmp_path / "pets.zip", NAMES))
    assert pictures.mark_of(2) == f"{len(png(2))} {zlib.crc32(png(2)):08x}"


def test_an_encrypted_member_is_refused(tmp_path):
    path = write_zip(tmp_path / "pets.zip", NAMES)
    content = bytearray(path.read_bytes())
    flag = content.index(b"PK\1\2") + 8  # of the first member, in the directory
    content[flag] |= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="pets.zip: `cat/0.png` is encrypted") as error:
        archived_pictures(path)
    assert error.value.fix == "unzip it with its password and pass the folder"


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_unusual_compression_is_refused(method, tmp_path):
    path = write_zip(tmp_path / "pets.zip", NAMES, method)
    with pytest.raises(InputError, match="`cat/0.png` is compressed by method") as e:
        archived_pictures(path)
    assert "unzip it" in e.value.fix


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in NAMES:
            archive.writestr(name, bytes(12 * 2**20))
    with pytest.raises(InputError, match="b.zip: unpacks to 75,497,472 bytes") as error:
        archived_pictures(tmp_path / "b.zip")
    assert "zip bomb" in error.value.what
    assert error.value.expected == "at most 67,108,864 bytes"


def test_a_member_that_lies_about_its_size_is_read_no_further(tmp_path):
    path = tmp_path / "pets.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cat/0.png", bytes(30 * 2**20))
    content = bytearray(path.read_bytes())
    size = content.index(b"PK\1\2") + 24
    content[size : size + 4] = struct.pack("<I", 100)
    path.write_bytes(content)
    pictures, _ = archived_pictures(path)
    with pytest.raises(InputError, match="pets.zip: cat/0.png: damaged .its checksum"):
        pictures.bytes_of(0)


def test_a_member_too_large_for_a_picture_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("repscope.data.encoded_images.MAXIMUM_ENCODED_BYTES", 50)
    pictures, _ = archived_pictures(write_zip(tmp_path / "pets.zip", NAMES))
    with pytest.raises(InputError, match="pets.zip: cat/0.png: 69 bytes, too many"):
        pictures.bytes_of(0)


def test_a_name_that_comes_twice_is_refused(tmp_path):
    path = write_zip(tmp_path / "pets.zip", NAMES)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("cat\\0.png", png(9))
    with pytest.raises(InputError, match="pets.zip: damaged .`cat/0.png` is in it twi"):
        archived_pictures(path)


def test_a_changed_byte_is_found(tmp_path):
    path = write_zip(tmp_path / "pets.zip", NAMES)
    content = bytearray(path.read_bytes())
    content[content.index(png(3)) + 40] ^= 1
    path.write_bytes(content)
    pictures, _ = archived_pictures(path)
    assert pictures.bytes_of(2) == png(2)
    with pytest.raises(InputError, match="cat/3.png: damaged .its checksum is wrong"):
        pictures.bytes_of(3)


def test_an_archive_that_changes_is_found(tmp_path):
    path = write_zip(tmp_path / "pets.zip", NAMES)
    pictures, _ = archived_pictures(path)
    write_zip(path, NAMES[:3])
    with pytest.raises(InputError, match="pets.zip: changed while it was read"):
        pictures.bytes_of(0)


@pytest.mark.parametrize("end", [0, 10, -5, -30])
def test_a_truncated_archive_is_refused(end, tmp_path):
    path = write_zip(tmp_path / "pets.zip", NAMES)
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(InputError, match="pets.zip: (damaged|is an empty file)"):
        archived_pictures(path)


def test_many_members_are_no_fault(tmp_path):
    names = [f"cat/{row}.png" for row in range(12_000)]
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    assert len(archived_pictures(tmp_path / "pets.zip")[0].names) == 12_000


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_gives_the_same_pictures_or_an_error(data, tmp_path):
    method = data.draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
    path = write_zip(tmp_path / "pets.zip", NAMES, method)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.sampled_from([None, -1, -20]))])
    known = {png(value) for value in range(6)}
    try:
        pictures, _ = module.archived_pictures(path)
    except InputError:
        return
    for row in range(len(pictures.names)):
        try:
            assert pictures.bytes_of(row) in known
        except InputError:
            continue
