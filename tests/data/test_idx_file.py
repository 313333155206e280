import gzip
import io
import tarfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from repscope._checking import InputError
from repscope.data.idx_file import read_idx

ARRAY = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)


def idx(array, code=8):
    """Return an array as IDX, by the format's description."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, code, array.ndim]) + sizes + array.tobytes()


def written(tmp_path, content):
    (tmp_path / "x-ubyte").write_bytes(content)
    return tmp_path / "x-ubyte"


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("shape", [(60,), (5, 4, 3), (20, 3), (5, 1, 4, 3), (0, 2, 2)])
def test_the_array_is_what_was_written(pack, shape, tmp_path):
    array = ARRAY.reshape(-1)[: np.prod(shape)].reshape(shape)
    read = read_idx(written(tmp_path, pack(idx(array))))
    np.testing.assert_array_equal(read, array, strict=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (idx(ARRAY)[:-1], "x-ubyte: truncated: its header promises 5 x 4 x 3 = 60"),
        (idx(ARRAY) + b"x", "x-ubyte: its header promises 5 x 4 x 3 = 60 bytes, the f"),
        (idx(ARRAY)[:9], "x-ubyte: damaged .it ends within its header"),
        (gzip.compress(idx(ARRAY)[:-7]), "x-ubyte: damaged .it ends 7 bytes too early"),
        (gzip.compress(idx(ARRAY) + b"x"), "x-ubyte: damaged .it holds more than the"),
        (gzip.compress(idx(ARRAY))[:-9], "x-ubyte: damaged .a broken gzip file"),
        (
            gzip.compress(idx(ARRAY))[:-8] + bytes(8),
            "x-ubyte: damaged .CRC check failed",
        ),
        (b"\0\0\x08\x05" + bytes(20), "x-ubyte: damaged .an IDX file of 5 dimensions"),
        (b"\0\0\x08\x00", "x-ubyte: damaged .an IDX file of 0 dimensions"),
        (idx(ARRAY, 0x0D), "x-ubyte: holds 32-bit floats"),
        (b"BZh9", "x-ubyte: holds a compressed file, not an IDX file"),
        (gzip.compress(b"hello"), "x-ubyte: holds a text file, not an IDX file"),
        (b"<html>404", "x-ubyte: is an HTML page, not an IDX file"),
        (b"", "x-ubyte: is an empty file, not an IDX file"),
    ],
    ids=lambda value: value[-20:] if isinstance(value, str) else "",
)
def test_what_is_broken_is_named(content, message, tmp_path):
    with pytest.raises(InputError, match=message) as error:
        read_idx(written(tmp_path, content))
    assert error.value.fix or error.value.expected


def test_a_packed_folder_is_named(tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("cifar-10-batches-bin/data_batch_1.bin"))
    with pytest.raises(InputError, match="holds a tar archive, not an IDX") as error:
        read_idx(written(tmp_path, buffer.getvalue()))
    assert "unpack it" in error.value.fix


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_header_that_lies_takes_no_memory(pack, tmp_path):
    lie = b"\0\0\x08\x04" + b"\xff" * 16 + b"data"
    with pytest.raises(InputError, match=r"promises|unpacks to [\d,]{30}"):
        read_idx(written(tmp_path, pack(lie)))


def test_a_bomb_is_refused(tmp_path):
    bomb = b"\0\0\x08\x01" + (100 * 2**20).to_bytes(4, "big") + bytes(100 * 2**20)
    with pytest.raises(InputError, match="unpacks to 104,857,600 bytes") as error:
        read_idx(written(tmp_path, gzip.compress(bomb, 1)))
    assert error.value.expected == "at most 67,108,864 bytes"


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_gives_the_same_array_or_an_error(data, tmp_path):
    pack = data.draw(st.sampled_from([bytes, gzip.compress]))
    content = bytearray(pack(idx(ARRAY)))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    end = data.draw(st.sampled_from([len(content), max(place, 4)]))
    try:
        array = read_idx(written(tmp_path, bytes(content[:end])))
    except InputError:
        return
    # what carries no checksum may differ, in as many values
    assert array.size == ARRAY.size
