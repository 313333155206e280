import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from repscope._checking import InputError
from repscope.representations.store import open_store

VALUES = np.random.default_rng(0).normal(size=(7, 3)).astype("float32")


def container(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(kind="F32", shape=(2, 3), begin=0, end=24):
    return {"dtype": kind, "shape": list(shape), "data_offsets": [begin, end]}


@pytest.mark.parametrize("dtype", ["float16", "float64", "int32", "uint8"])
def test_tensors_written_by_the_library_are_read(dtype, tmp_path):
    values = (VALUES * 10).astype(dtype)
    save_file(
        {"a": np.arange(5), "emb": values, "label": np.arange(7)},
        tmp_path / "emb.safetensors",
        metadata={"model": "x"},
    )
    store = open_store(tmp_path / "emb.safetensors")
    np.testing.assert_array_equal(next(store.blocks(99)), values)
    assert store.dtype == dtype and store.column_names == ("label",)
    np.testing.assert_array_equal(store.column("label"), np.arange(7))


def test_bfloat16_becomes_float32(tmp_path):
    halves = (VALUES.view(np.uint32) >> 16).astype("<u2")
    data = halves.tobytes()
    header = {"emb": entry("BF16", (7, 3), 0, len(data))}
    (tmp_path / "emb.safetensors").write_bytes(container(header, data))
    store = open_store(tmp_path / "emb.safetensors")
    assert store.dtype == "float32"
    truncated = (VALUES.view(np.uint32) & 0xFFFF0000).view("float32")
    np.testing.assert_array_equal(next(store.blocks(99)), truncated)


def test_several_matrices_must_be_asked_for_by_name(tmp_path):
    save_file({"emb": VALUES, "proj": VALUES[:, :2].copy()}, tmp_path / "e.safetensors")
    with pytest.raises(InputError, match="2 arrays could be the features") as error:
        open_store(tmp_path / "e.safetensors")
    assert "`proj` (7 x 2 float32)" in error.value.found
    assert open_store(tmp_path / "e.safetensors", column="proj").d == 2


def test_weights_are_no_features(tmp_path):
    save_file(
        {"conv1.weight": VALUES, "conv1.bias": VALUES[0]}, tmp_path / "m.safetensors"
    )
    message = "m.safetensors: is a checkpoint, not features"
    with pytest.raises(InputError, match=message):
        open_store(tmp_path / "m.safetensors")


FULL = {"emb": entry()}


@pytest.mark.parametrize(
    ("header", "n_data", "message"),
    [
        (FULL, 20, "truncated: header promises 24 bytes, file has 20"),
        (FULL, 30, "too long: header promises 24 bytes, file has 30"),
        ({"emb": entry(shape=(9, 9))}, 24, "truncated: header promises 9 x 9 float32"),
        ({"emb": entry(shape=(1, 3))}, 24, "12 bytes too many: header promises 1 x 3"),
        ({"emb": entry(begin=8, end=32)}, 32, "`emb` does not begin where"),
        ({"emb": entry(), "b": entry()}, 24, "does not begin where the one before"),
        ({"emb": entry(end=-1)}, 24, "no safetensors header"),
        ({"emb": entry(shape=(2, 3.0))}, 24, "no safetensors header"),
        ({"emb": entry(shape=(10**40, 3))}, 24, "no safetensors header"),
        ({"emb": {"dtype": "F32"}}, 24, "no safetensors header"),
        ({"emb": 3}, 24, "no safetensors header"),
        (b'{"a": 1, "a": 2}', 0, "no safetensors header"),
        (b"{" * 100_000, 0, "no safetensors header"),
        (b"{\xff}", 0, "no safetensors header"),
        ({"emb": entry("F8_E4M3", end=6)}, 6, "`emb` is of type F8_E4M3"),
        ({}, 0, "no two-dimensional array of numbers"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(header, n_data, message, tmp_path):
    (tmp_path / "e.safetensors").write_bytes(container(header, b"\0" * n_data))
    with pytest.raises(InputError, match=f"^e.safetensors: .*{message}"):
        open_store(tmp_path / "e.safetensors")


def test_a_header_longer_than_the_file_is_refused(tmp_path):
    content = (1000).to_bytes(8, "little") + b'{"emb": '
    (tmp_path / "e.safetensors").write_bytes(content)
    with pytest.raises(
        InputError, match="damaged .a header of 1,000 bytes, file has 16"
    ):
        open_store(tmp_path / "e.safetensors")
