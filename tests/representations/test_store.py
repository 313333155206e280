import contextlib
import errno
import json
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from repscope._checking import (
    InputError,
    RepscopeError,
    ResourceError,
    UsageError,
)
from repscope.representations.store import open_store, read_columns

N, D = 23, 4


def features(dtype="float32", n=N):
    values = np.random.default_rng(0).normal(size=(n, D)) * 10
    return values.astype(dtype)


def table(values, **columns):
    import pyarrow as pa

    flat = pa.array(values.ravel())
    vectors = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    return pa.table({"emb": vectors, **columns})


def write_npy(folder, values):
    np.save(folder / "emb.npy", values)
    return folder / "emb.npy"


def write_npz(folder, values):
    np.savez(folder / "emb.npz", emb=values, label=np.arange(len(values)))
    return folder / "emb.npz"


def write_compressed(folder, values):
    np.savez_compressed(folder / "emb.npz", emb=values)
    return folder / "emb.npz"


def write_parquet(folder, values):
    parquet = pytest.importorskip("pyarrow.parquet")
    path = folder / "emb.parquet"
    parquet.write_table(
        table(values, label=np.arange(len(values))),
        path,
        row_group_size=7,
        write_page_checksum=True,
    )
    return path


def write_csv(folder, values):
    rows = [",".join([*map(repr, row), "a"]) for row in values.tolist()]
    names = [f"f{k}" for k in range(values.shape[1])]
    (folder / "emb.csv").write_text("\n".join([",".join([*names, "label"]), *rows]))
    return folder / "emb.csv"


def write_safetensors(folder, values):
    from safetensors.numpy import save_file

    save_file(
        {"emb": values, "label": np.arange(len(values))}, folder / "emb.safetensors"
    )
    return folder / "emb.safetensors"


def write_torch(folder, values):
    torch = pytest.importorskip("torch")
    torch.save({"emb": torch.tensor(values)}, folder / "emb.pt")
    return folder / "emb.pt"


def write_shards(folder, values):
    (folder / "shards").mkdir(exist_ok=True)
    for k in range(3):
        np.save(folder / "shards" / f"emb_{k}.npy", values[k::3])
    return folder / "shards"


WRITERS = [
    write_npy,
    write_npz,
    write_compressed,
    write_parquet,
    write_csv,
    write_safetensors,
    write_torch,
]


def read(path, rows=5):
    return np.concatenate(list(open_store(path).blocks(rows)))


@pytest.mark.parametrize("write", WRITERS)
def test_a_store_returns_what_was_written(write, tmp_path):
    store = open_store(write(tmp_path, features()))
    assert (store.n, store.d, store.name) == (N, D, store.path.name)
    np.testing.assert_array_equal(read(store.path).astype("float32"), features())


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint8"])
@pytest.mark.parametrize("write", [w for w in WRITERS if w is not write_csv])
def test_a_store_keeps_the_type(write, dtype, tmp_path):
    path = write(tmp_path, features(dtype))
    store = open_store(path, column="emb" if write is write_parquet else None)
    block = next(store.blocks(N))
    assert store.dtype == dtype and block.dtype == dtype
    np.testing.assert_array_equal(block, features(dtype))


@pytest.mark.parametrize("write", [*WRITERS, write_shards])
def test_blocks_are_consecutive_whole_writable_and_start_again(write, tmp_path):
    store = open_store(write(tmp_path, features()))
    sizes = [len(block) for block in store.blocks(6)]
    assert sum(sizes) == N and max(sizes) <= 6
    first, second = next(store.blocks(6)), next(store.blocks(10**6))
    np.testing.assert_array_equal(first, second[: len(first)])
    assert first.flags.c_contiguous and first.flags.writeable
    assert first.dtype.isnative


@pytest.mark.parametrize("write", [write_npy, write_csv, write_parquet, write_torch])
def test_a_block_needs_rows(write, tmp_path):
    with pytest.raises(UsageError, match="a block needs rows"):
        open_store(write(tmp_path, features())).blocks(0)


@pytest.mark.parametrize(
    "write", [write_npy, write_npz, write_csv, write_safetensors, write_torch]
)
def test_only_parquet_holds_images(write, tmp_path):
    store = open_store(write(tmp_path, features()))
    with pytest.raises(InputError, match="no image column `image`"):
        store.images("image", [0])


def test_a_large_file_is_read_in_about_one_block_of_memory(tmp_path):
    path = tmp_path / "large.npy"
    np.save(path, np.zeros((1, 256), np.float32))
    content = path.read_bytes().replace(b"(1, 256)", b"(100000, 256)")
    header = content[:128].replace(b"     \n", b"\n")
    with path.open("wb") as file:  # sparse: no data are written
        file.write(header)
        file.truncate(128 + 100_000 * 1024)
    tracemalloc.start()
    try:
        rows = sum(len(block) for block in open_store(path).blocks(1000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert rows == 100_000
    assert peak < 3 * 1000 * 1024  # the block handed out and the next one


@pytest.mark.parametrize(
    "address",
    ["https://host/emb.npy", "s3://bucket/emb.npy", "file:///emb.npy", "hf://a/b"],
)
@pytest.mark.parametrize("verb", [open_store, read_columns])
def test_an_address_is_refused_without_a_look_at_the_network(verb, address):
    with pytest.raises(UsageError, match=f"{address} is an address, not a file") as e:
        verb(address)
    assert "download it first" in str(e.value)
    with pytest.raises(UsageError, match="is an address"):
        verb(Path(address))


def test_a_missing_file_is_named_with_the_closest_in_its_folder(tmp_path):
    write_npy(tmp_path, features())
    with pytest.raises(InputError, match=r"emn.npy: no such file") as error:
        open_store(tmp_path / "emn.npy")
    assert "fix: did you mean emb.npy?" in str(error.value)
    assert error.value.exit_code == 3


def test_unrelated_names_are_no_hint(tmp_path):
    for k in range(12):
        (tmp_path / f"{k}.bin").touch()
    with pytest.raises(InputError, match=r"emb.npy: no such file") as error:
        open_store(tmp_path / "emb.npy")
    assert error.value.fix == f"name a file or folder that is in {tmp_path}"
    with pytest.raises(InputError, match=r"features.BIN: no such file") as error:
        open_store(tmp_path / "features.BIN")
    listed = "0.bin, 1.bin, 10.bin, 11.bin, 2.bin, 3.bin, 4.bin, 5.bin"
    assert error.value.fix == f"choose from {listed} and 4 more"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no/such/folder/emb.npy", "is no folder"),
        ("emb.npy/inside", "no such file"),
        ("x" * 300, "no such file"),
        ("nul\0l", "is no file name"),
    ],
)
def test_impossible_paths_are_input_errors(name, message, tmp_path):
    write_npy(tmp_path, features())
    with pytest.raises(InputError, match=message):
        open_store(f"{tmp_path}/{name}")


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.EACCES, "emb.npy: permission denied"),
        (errno.EIO, "emb.npy: cannot be read"),
    ],
)
def test_what_the_machine_refuses_is_a_resource_error(
    number, message, tmp_path, monkeypatch
):
    path = write_npy(tmp_path, features())

    def refuse(self, *arguments, **options):
        raise OSError(number, "no")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ResourceError, match=message) as error:
        open_store(path)
    assert error.value.exit_code == 4


def test_a_device_is_no_file():
    with pytest.raises(InputError, match="null: is a pipe or a device"):
        open_store("/dev/null")


@pytest.mark.parametrize("write", WRITERS)
def test_a_file_that_changes_between_opening_and_reading_is_refused(write, tmp_path):
    store = open_store(write(tmp_path, features()))
    write(tmp_path, features(n=N + 5))
    with pytest.raises(InputError, match=f"{store.name}: changed while it was read"):
        list(store.blocks(5))


@pytest.mark.parametrize("write", WRITERS)
def test_a_file_truncated_while_it_is_read_is_refused(write, tmp_path):
    store = open_store(write(tmp_path, features(n=4000)))
    blocks = store.blocks(5)
    next(blocks)
    with store.path.open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(InputError, match="changed while it was read|damaged"):
        list(blocks)


def test_a_file_replaced_by_another_of_its_size_is_refused(tmp_path):
    store = open_store(write_npy(tmp_path, features()))
    (tmp_path / "new").mkdir()
    write_npy(tmp_path / "new", features() + 1).replace(store.path)
    with pytest.raises(InputError, match="found: a later version of the file"):
        list(store.blocks(5))


def test_labels_come_from_every_format_of_columns(tmp_path):
    labels, words = np.array([2, 0, 1]), np.array(["a", "b", "c"])
    np.save(tmp_path / "fine.npy", labels)
    np.savez(tmp_path / "both.npz", fine=labels, word=words, emb=np.zeros((3, 2)))
    (tmp_path / "both.csv").write_text("fine,word\n2,a\n0,b\n1,c\n")
    (tmp_path / "both.json").write_text(
        json.dumps({"fine": [2, 0, 1], "word": list("abc")})
    )
    (tmp_path / "fine.txt").write_text("2\n0\n1\n")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(
        table(np.zeros((3, 2)), fine=labels, word=words), tmp_path / "b.parquet"
    )
    for name in [
        "fine.npy",
        "both.npz",
        "both.csv",
        "both.json",
        "fine.txt",
        "b.parquet",
    ]:
        columns = read_columns(tmp_path / name)
        np.testing.assert_array_equal(columns["fine"], labels)
        if "word" in columns:
            np.testing.assert_array_equal(columns["word"], words)
        assert set(columns) <= {"fine", "word"}


@pytest.mark.parametrize(
    ("name", "content", "kind", "values"),
    [
        ("a.txt", "golden retriever, dog\ntabby\n", "U", None),
        ("a.txt", "007\n008\n", "U", ["007", "008"]),
        ("a.json", "[1, null]", "f", [1, np.nan]),
        ("a.json", "[true, false]", "i", [1, 0]),
        ("a.json", '["x", null]', "O", ["x", None]),
        ("a.csv", "a\n1\n\n", "i", [1]),
        ("a.csv", "cat\ndog\ncat\n", "U", ["cat", "dog", "cat"]),
        ("a.csv", "3\n1\n2\n", "i", [3, 1, 2]),
        ("a.csv", "a,b\n1,x\n,y\n", "f", [1, np.nan]),
    ],
)
def test_labels_as_people_write_them(name, content, kind, values, tmp_path):
    (tmp_path / name).write_text(content)
    column = read_columns(tmp_path / name)["a"]
    assert column.dtype.kind == kind
    if values is not None:
        np.testing.assert_array_equal(column, np.array(values, dtype=column.dtype))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "{", "a.json: is no valid JSON"),
        ("a.json", "[" * 100_000, "a.json: is no valid JSON"),
        ("a.json", "{}", "a.json: holds no columns"),
        ("a.json", '{"a": [1, "x"]}', "`a` is no list of numbers or of texts"),
        ("a.json", '{"a": 3}', "`a` is no list of numbers or of texts"),
        ("a.json", "[NaN]", "`a` is no list of numbers"),
        ("a.txt", b"\xe9t\xe9\n", "a.txt: is not UTF-8 text"),
        ("a.csv", b"label\n\xe9t\xe9\n", "a.csv: is not UTF-8 text"),
        ("a.csv", "label\n", "a.csv: there is nothing to read"),
        ("a.npy", "cat\ndog\n", "a.npy: is a text file, not a NumPy array"),
    ],
)
def test_label_files_that_are_none(name, content, message, tmp_path):
    data = content if isinstance(content, bytes) else content.encode()
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=message):
        read_columns(tmp_path / name)


def test_labels_of_two_dimensions_are_refused(tmp_path):
    np.save(tmp_path / "y.npy", np.zeros((5, 2)))
    with pytest.raises(InputError, match=r"y.npy: one value per row is needed"):
        read_columns(tmp_path / "y.npy")


def test_a_folder_holds_no_labels(tmp_path):
    with pytest.raises(InputError, match="is a folder"):
        read_columns(tmp_path)


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("originals")
    written = [
        (write, write(folder / write.__name__, features()))
        for write in WRITERS
        if not (folder / write.__name__).mkdir()
    ]
    return {write.__name__: (path.name, path.read_bytes()) for write, path in written}


# Formats with checksums over all data: what is read is right, or nothing is.
CHECKED = {"write_npz", "write_compressed", "write_torch"}


@settings(
    max_examples=600,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    name=st.sampled_from([write.__name__ for write in WRITERS]),
    change=st.sampled_from(["cut", "flip", "extend", "repeat"]),
    where=st.floats(0, 1, exclude_max=True),
    byte=st.integers(1, 255),
)
@example(name="write_npy", change="cut", where=0.0, byte=1)
def test_a_damaged_file_is_read_right_or_refused(
    name, change, where, byte, originals, tmp_path
):
    file_name, content = originals[name]
    place = int(where * len(content))
    flipped = bytes([content[place] ^ byte])
    damaged = {
        "cut": content[:place],
        "flip": content[:place] + flipped + content[place + 1 :],
        "extend": content + bytes([byte]) * (1 + place % 7),
        "repeat": content[:place] + content[place : place + byte] + content[place:],
    }[change]
    (tmp_path / file_name).write_bytes(damaged)
    with contextlib.suppress(RepscopeError):
        read_columns(tmp_path / file_name)
    try:
        store = open_store(tmp_path / file_name)
        values = np.concatenate(list(store.blocks(6)))
        for column in store.column_names:
            assert len(store.column(column)) == store.n
    except RepscopeError as error:
        assert re.match(r"\S+: ", str(error))
        return
    assert values.shape == (store.n, store.d)
    if name in CHECKED or (name == "write_parquet" and change != "flip"):
        np.testing.assert_array_equal(values, features())
