import re
import zipfile

import numpy as np
import pytest

from repscope._checking import InputError, UsageError
from repscope.representations.store import open_store, read_columns

VALUES = np.random.default_rng(0).normal(size=(11, 3))


def header(text, version=1):
    width = 2 if version == 1 else 4
    text = text.encode() + b"\n"
    return (
        b"\x93NUMPY" + bytes([version, 0]) + len(text).to_bytes(width, "little") + text
    )


def npy(descr="<f4", shape="(2, 3)", data=b"\0" * 24, order="False"):
    text = f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}"
    return header(text) + data


def read(path, **options):
    return np.concatenate(list(open_store(path, **options).blocks(4)))


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_header_version_is_read(version, tmp_path):
    with (tmp_path / "emb.npy").open("wb") as file:
        np.lib.format.write_array(file, VALUES, version=version)
    np.testing.assert_array_equal(read(tmp_path / "emb.npy"), VALUES)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_fortran_order_is_read_from_archives(save, tmp_path):
    save(tmp_path / "emb.npz", emb=np.asfortranarray(VALUES))
    np.testing.assert_array_equal(read(tmp_path / "emb.npz"), VALUES)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (">f4", "float32"),
        (">i2", "int16"),
        ("bool", "uint8"),
        (np.longdouble, "float64"),
    ],
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_foreign_types_and_orders_are_converted(dtype, expected, order, tmp_path):
    values = np.array(VALUES * 10, dtype=dtype, order=order)
    np.save(tmp_path / "emb.npy", values)
    block = next(open_store(tmp_path / "emb.npy").blocks(100))
    assert block.dtype == expected and block.dtype.isnative and block.flags.c_contiguous
    np.testing.assert_array_equal(block, values)


def test_a_header_of_python_2_is_read(tmp_path):
    (tmp_path / "emb.npy").write_bytes(npy(shape="(2L, 3L)"))
    assert open_store(tmp_path / "emb.npy").d == 3


@pytest.mark.parametrize(
    ("shape", "found", "fix"),
    [
        ((5,), "an array of shape (5,)", "features.reshape(-1, 1)"),
        ((), "an array of shape ()", "features.reshape(-1, 1)"),
        ((2, 3, 4), "an array of shape (2, 3, 4)", "pool (features.mean(axis=1))"),
    ],
)
def test_other_than_two_dimensions_are_refused(shape, found, fix, tmp_path):
    np.save(tmp_path / "emb.npy", np.zeros(shape))
    message = "emb.npy: one row of features per sample is needed"
    with pytest.raises(InputError, match=message) as error:
        open_store(tmp_path / "emb.npy")
    assert error.value.found == found and fix in error.value.fix


@pytest.mark.parametrize("shape", [(0, 5), (5, 0)])
def test_nothing_to_measure_is_refused(shape, tmp_path):
    np.save(tmp_path / "emb.npy", np.zeros(shape))
    with pytest.raises(InputError, match="emb.npy: there is nothing to measure"):
        open_store(tmp_path / "emb.npy")


def test_a_truncated_file_names_both_sizes(tmp_path):
    np.save(tmp_path / "emb.npy", np.zeros((1000, 10), np.float32))
    content = (tmp_path / "emb.npy").read_bytes()
    (tmp_path / "emb.npy").write_bytes(content[:-100])
    message = re.escape(
        "emb.npy: truncated: header promises 1,000 x 10 float32 = 40,000 bytes, "
        "file has 39,900"
    )
    with pytest.raises(InputError, match=message):
        open_store(tmp_path / "emb.npy")


def test_trailing_bytes_are_an_error(tmp_path):
    with (tmp_path / "emb.npy").open("wb") as file:
        np.save(file, np.zeros((10, 2), np.float32))
        np.save(file, np.zeros((10, 2), np.float32))
    message = "emb.npy: 208 bytes too many: header promises 10 x 2 float32 = 80 bytes"
    with pytest.raises(InputError, match=message) as error:
        open_store(tmp_path / "emb.npy")
    assert "two arrays were saved into one file" in error.value.fix


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy(shape="(100000, 100000)"), "truncated: header promises 100,000 x 100,000"),
        (npy(shape="(999999999999999999, 9)"), "truncated: header promises 999,999"),
        (npy(shape="(9999999999999999999, 9)"), "its header names the shape"),
        (npy(shape="(-2, 3)"), "its header names no shape"),
        (npy(descr="<U0", shape="(9999999, 3)", data=b""), "values of no bytes"),
        (npy(descr="<f3"), "its header names the type '<f3'"),
        (npy(descr="os.system"), "its header names the type 'os.system'"),
        (npy(descr="<c8", data=b"\0" * 48), "holds complex64, not real numbers"),
        (npy(descr="|V4"), r"holds \|V4, not real numbers"),
        (npy(descr="<U1", data=b"\0" * 24), "holds text, not real numbers"),
        (npy(descr="|O"), r"holds Python objects \(a pickle\), not real numbers"),
        (header("[1, 2]"), "its header names no shape"),
        (header("{'shape': (2, 3), 'fortran_order': False}"), "names no type"),
        (header("x" * 20_000), "a header of 20,001 bytes"),
        (b"\x93NUMPY\x09\0\0\0", "no NumPy header"),
        (b"\x93NUMPY", "no NumPy header"),
    ],
)
def test_lying_or_broken_headers_are_refused(content, message, tmp_path):
    (tmp_path / "emb.npy").write_bytes(content)
    with pytest.raises(InputError, match=f"^emb.npy: .*{message}"):
        open_store(tmp_path / "emb.npy")


def test_a_structured_array_is_refused(tmp_path):
    np.save(tmp_path / "emb.npy", np.zeros(3, dtype=[("a", "f4"), ("b", "i4")]))
    with pytest.raises(InputError, match="emb.npy: is a structured array"):
        open_store(tmp_path / "emb.npy")


def test_a_npy_file_has_no_columns(tmp_path):
    np.save(tmp_path / "emb.npy", VALUES)
    with pytest.raises(UsageError, match="a .npy file has no column `emb`"):
        open_store(tmp_path / "emb.npy", column="emb")
    with pytest.raises(InputError, match="emb.npy: no column `y`"):
        open_store(tmp_path / "emb.npy").column("y")


@pytest.fixture
def archive(tmp_path):
    np.savez(
        tmp_path / "emb.npz",
        emb=VALUES,
        projection=VALUES[:, :2].astype("float32"),
        label=np.arange(11),
        word=np.array(["a", "bé", "猫"] + ["x"] * 8),
        code=np.array([b"a", b"\xff"] + [b"x"] * 9),
        short=np.arange(3),
        cube=np.zeros((2, 2, 2)),
        things=np.array([None] * 11, dtype=object),
    )
    return tmp_path / "emb.npz"


def test_one_of_several_matrices_must_be_asked_for(archive):
    with pytest.raises(
        InputError, match="emb.npz: 2 arrays could be the feat"
    ) as error:
        open_store(archive)
    assert "`emb` (11 x 3 float64), `projection` (11 x 2 float32)" in error.value.found
    assert error.value.fix == "say which, such as --column emb"
    np.testing.assert_array_equal(read(archive, column="emb"), VALUES)
    assert open_store(archive, column="projection").dtype == "float32"


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("emd", "emb.npz: no array `emd`"),
        ("label", "array `label`: one row of features per sample is needed"),
        ("cube", "array `cube`: one row of features per sample is needed"),
        ("word", "array `word`: holds text, not real numbers"),
        ("things", r"array `things`: holds Python objects \(a pickle\)"),
    ],
)
def test_what_was_asked_for_must_be_a_matrix(column, message, archive):
    with pytest.raises(InputError, match=message):
        open_store(archive, column=column)


def test_a_misspelt_array_is_suggested(archive):
    with pytest.raises(InputError) as error:
        open_store(archive, column="emd")
    assert error.value.fix == "did you mean emb?"


def test_vectors_beside_the_matrix_are_columns(archive):
    store = open_store(archive, column="emb")
    assert store.column_names == ("label", "word", "code")
    np.testing.assert_array_equal(store.column("label"), np.arange(11))
    assert store.column("word").tolist()[:3] == ["a", "bé", "猫"]
    assert store.column("code").tolist()[:3] == ["a", "�", "x"]


@pytest.mark.parametrize(
    ("column", "message", "hint"),
    [
        ("lable", "emb.npz: no column `lable`", "did you mean label?"),
        (
            "short",
            "array `short`: one value per row of features is needed",
            "same rows",
        ),
        (
            "things",
            r"holds Python objects \(a pickle\), not integers",
            "array.astype(str)",
        ),
    ],
)
def test_columns_that_are_none(column, message, hint, archive):
    with pytest.raises(InputError, match=message) as error:
        open_store(archive, column="emb").column(column)
    assert hint in error.value.fix


def test_a_length_error_names_both_numbers(archive):
    with pytest.raises(InputError) as error:
        open_store(archive, column="emb").column("short")
    assert (error.value.found, error.value.expected) == ("3 values", "11")


def test_object_arrays_in_a_label_file_are_refused(archive):
    with pytest.raises(InputError, match="array `things`: holds Python objects"):
        read_columns(archive)


def test_an_archive_without_matrices_lists_what_it_holds(tmp_path):
    np.savez(tmp_path / "emb.npz", label=np.arange(3))
    with pytest.raises(
        InputError, match="no two-dimensional array of numbers"
    ) as error:
        open_store(tmp_path / "emb.npz")
    assert error.value.found == "`label` (3 int64)"
    np.savez(tmp_path / "none.npz")
    with pytest.raises(InputError, match="no two-dimensional array") as error:
        open_store(tmp_path / "none.npz")
    assert error.value.found == "nothing"


def test_a_flipped_bit_in_an_archive_is_found_by_its_checksum(tmp_path):
    np.savez(tmp_path / "emb.npz", emb=VALUES)
    content = bytearray((tmp_path / "emb.npz").read_bytes())
    content[300] ^= 1
    (tmp_path / "emb.npz").write_bytes(content)
    with pytest.raises(InputError, match="damaged .a broken zip archive: Bad CRC-32"):
        read(tmp_path / "emb.npz")


def test_a_truncated_member_names_both_sizes(tmp_path):
    with zipfile.ZipFile(tmp_path / "emb.npz", "w") as file:
        file.writestr("emb.npy", npy(shape="(20, 3)"))
    message = "array `emb`: truncated: header promises 20 x 3 float32 = 240 bytes"
    with pytest.raises(InputError, match=message):
        open_store(tmp_path / "emb.npz")


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (zipfile.ZIP_BZIP2, "is encrypted or compressed unusually"),
        (zipfile.ZIP_LZMA, "is encrypted or compressed unusually"),
    ],
)
def test_unusual_compression_is_refused(method, message, tmp_path):
    with zipfile.ZipFile(tmp_path / "emb.npz", "w", method) as file:
        file.writestr("emb.npy", npy())
    with pytest.raises(InputError, match=message) as error:
        open_store(tmp_path / "emb.npz")
    assert error.value.fix == "unzip it and pass the .npy file inside"


def test_text_that_is_no_unicode_is_refused(tmp_path):
    data = (0x110000).to_bytes(4, "little")
    (tmp_path / "y.npy").write_bytes(npy(descr="<U1", shape="(1,)", data=data))
    with pytest.raises(InputError, match="y.npy: damaged .text that is no Unicode"):
        read_columns(tmp_path / "y.npy")
