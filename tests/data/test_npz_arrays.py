import io
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from repscope._checking import InputError
from repscope.data.npz_arrays import npz_arrays, read_array
from repscope.files.file_access import stamp_of

ARRAYS = {
    "bytes": np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big_endian": np.arange(5, dtype=">i4"),
    "text": np.array(["cat", "dog"]),
    "raw": np.array([b"cat", b"dog"]),
    "flags": np.array([True, False]),
    "one": np.float32(3),
    "none": np.zeros((0, 4), np.uint8),
}


def read_all(path):
    stamp = stamp_of(path)
    return {
        name: read_array(path, stamp, array)
        for name, array in npz_arrays(path, stamp).items()
    }


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_the_arrays_are_what_was_saved(save, tmp_path):
    save(tmp_path / "x.npz", **ARRAYS)
    read = read_all(tmp_path / "x.npz")
    assert list(read) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(read[name], array)
        assert read[name].dtype.isnative


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_a_header_is_read(version, tmp_path):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, ARRAYS["bytes"], version)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", buffer.getvalue())
    np.testing.assert_array_equal(read_all(tmp_path / "x.npz")["x"], ARRAYS["bytes"])


def test_an_array_is_described(tmp_path):
    np.savez(tmp_path / "x.npz", **ARRAYS, objects=np.array([{}], dtype=object))
    path = tmp_path / "x.npz"
    arrays = npz_arrays(path, stamp_of(path))
    said = [arrays[name].described for name in ("bytes", "one", "objects")]
    assert said == [
        "bytes (2 x 3 x 4 uint8)",
        "one (one value, float32)",
        "objects (1 Python objects)",
    ]


def test_python_objects_are_seen_and_never_loaded(tmp_path):
    canary = tmp_path / "canary"

    class Attack:
        def __reduce__(self):
            return canary.touch, ()

    objects = np.array([Attack()], dtype=object)
    np.savez(tmp_path / "x.npz", objects=objects, images=ARRAYS["bytes"])
    path = tmp_path / "x.npz"
    arrays = npz_arrays(path, stamp_of(path))
    np.testing.assert_array_equal(
        read_array(path, stamp_of(path), arrays["images"]), ARRAYS["bytes"]
    )
    with pytest.raises(InputError, match="x.npz: `objects` holds Python objects") as e:
        read_array(path, stamp_of(path), arrays["objects"])
    assert "convert and save it again" in e.value.fix
    assert not canary.exists()


def test_records_are_not_read(tmp_path):
    np.savez(tmp_path / "x.npz", records=np.zeros(2, dtype=[("a", "f4"), ("b", "i4")]))
    with pytest.raises(InputError, match="`records` holds Python objects"):
        read_all(tmp_path / "x.npz")


def header(text, version=b"\1\0"):
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text


GOOD = "{{'descr': '{}', 'fortran_order': False, 'shape': {}, }}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "x.npz: `x`: damaged .no NumPy header"),
        (b"\x93NUMPY\1\0\xff\xff", "x.npz: `x`: damaged .no NumPy header"),
        (header(b"{}", b"\7\0"), "no NumPy header"),
        (header(b"{}"), "its header is none that NumPy writes"),
        (header(b"__import__('os').system('x')"), "its header is none that NumPy"),
        (
            header(GOOD.format("|u1", "(10, 10)").encode()),
            "promises 100 bytes, it has 0",
        ),
        (
            header(GOOD.format("<f8", f"({10**18}, {10**18})").encode()),
            "its header promises 8,000",
        ),
        (header(GOOD.format("<f3", "(1,)").encode()), "its header names the type"),
        (header(GOOD.format("|u1", "()").encode()) + b"xy", "1 bytes, it has 2"),
    ],
)
def test_a_broken_header_is_named(content, message, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", content)
    with pytest.raises(InputError, match=message):
        read_all(tmp_path / "x.npz")


def test_a_bomb_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", x=np.zeros((100, 1024, 1024), np.uint8))
    with pytest.raises(InputError, match="x.npz: unpacks to .* as a zip bomb does"):
        read_all(tmp_path / "x.npz")


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_gives_the_same_arrays_or_an_error(data, tmp_path):
    path = tmp_path / "x.npz"
    save = data.draw(st.sampled_from([np.savez, np.savez_compressed]))
    save(path, x=ARRAYS["bytes"])
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    end = data.draw(st.sampled_from([len(content), place]))
    path.write_bytes(content[:end])
    try:
        read = read_all(path)
    except InputError:
        return
    for array in read.values():
        np.testing.assert_array_equal(array, ARRAYS["bytes"])
