import json
import sys

import numpy as np
import pytest

from repscope._checking import InputError, MissingExtraError
from repscope.representations.store import open_store, read_columns

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

VALUES = np.random.default_rng(0).normal(size=(23, 4)).astype("float32")


def save(folder, **columns):
    parquet.write_table(pa.table(columns), folder / "emb.parquet", row_group_size=9)
    return folder / "emb.parquet"


def vectors(kind, values=VALUES):
    return pa.array(values.tolist(), kind)


def read(path, rows=5, **options):
    return np.concatenate(list(open_store(path, **options).blocks(rows)))


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float32()),
        pa.large_list(pa.float32()),
        pa.list_(pa.float32(), 4),
        pa.fixed_shape_tensor(pa.float32(), [4]),
    ],
)
@pytest.mark.parametrize("rows", [1, 5, 9, 1000])
def test_every_kind_of_vector_is_read(kind, rows, tmp_path):
    storage = getattr(kind, "storage_type", kind)
    column = vectors(storage)
    if storage is not kind:
        column = pa.ExtensionArray.from_storage(kind, column)
    path = save(tmp_path, label=np.arange(23), emb=column)
    store = open_store(path)
    assert (store.n, store.d, store.dtype) == (23, 4, "float32")
    blocks = list(store.blocks(rows))
    assert [len(block) for block in blocks[:-1]] == [min(rows, 23)] * (len(blocks) - 1)
    np.testing.assert_array_equal(np.concatenate(blocks), VALUES)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_the_type_is_kept(dtype, tmp_path):
    kind = pa.list_(pa.from_numpy_dtype(dtype))
    assert open_store(save(tmp_path, emb=vectors(kind))).dtype == dtype
    assert read(tmp_path / "emb.parquet").dtype == dtype


def test_metadata_columns_of_every_type(tmp_path):
    path = save(
        tmp_path,
        emb=vectors(pa.list_(pa.float32())),
        label=np.arange(23),
        word=pa.array(list("abcdefghijklmnopqrstuvw")),
        category=pa.array(["x", "y"] * 11 + ["x"]).dictionary_encode(),
        flag=[True] * 23,
        gap=[None] + [1] * 22,
        hole=[None] + ["a"] * 22,
        when=pa.array([0] * 23, pa.timestamp("s")),
    )
    store = open_store(path)
    assert store.column_names == ("label", "word", "category", "flag", "gap", "hole")
    np.testing.assert_array_equal(store.column("label"), np.arange(23))
    assert store.column("category").tolist()[:2] == ["x", "y"]
    assert store.column("flag").tolist() == [1] * 23
    assert np.isnan(store.column("gap")[0]) and store.column("gap")[1] == 1
    assert store.column("hole").tolist()[:2] == [None, "a"]
    assert list(read_columns(path)) == list(store.column_names)
    with pytest.raises(InputError, match="emb.parquet: no column `lable`") as error:
        store.column("lable")
    assert error.value.fix == "did you mean label?"


FLOATS = pa.list_(pa.float32())


def test_a_misspelt_vector_column_is_suggested_with_its_width(tmp_path):
    path = save(tmp_path, emb=vectors(FLOATS), label=np.arange(23))
    with pytest.raises(InputError, match="emb.parquet: no column `embed`") as error:
        open_store(path, column="embed")
    assert error.value.fix == "did you mean `emb` (list<float>, 4)?"
    with pytest.raises(InputError, match="column `label` is int64, not a vector"):
        open_store(path, column="label")


def test_one_of_several_vector_columns_must_be_asked_for(tmp_path):
    path = save(tmp_path, emb=vectors(FLOATS), proj=vectors(FLOATS, VALUES[:, :2]))
    message = "emb.parquet: 2 columns of vectors could be the features"
    with pytest.raises(InputError, match=message) as error:
        open_store(path)
    assert error.value.found == "`emb` (list<float>, 4), `proj` (list<float>, 2)"
    assert open_store(path, column="proj").d == 2


def test_lists_of_integers_are_features_only_when_asked_for(tmp_path):
    tokens = pa.array([[1, 2]] * 23, pa.list_(pa.int64()))
    path = save(tmp_path, emb=vectors(FLOATS), tokens=tokens)
    assert open_store(path).d == 4
    assert open_store(path, column="tokens").dtype == "int64"


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([[1.0, 2.0], None], "column `emb`: row 1 is null"),
        ([None, [1.0, 2.0]], "column `emb`: row 0 is null"),
        ([[1.0, 2.0], [1.0]], "column `emb`: row 1 has 1 values, row 0 has 2"),
        ([[1.0, 2.0], [1.0, None]], "column `emb`: row 1 holds a null"),
        ([[[1.0]], [[2.0]]], "no column of vectors"),
        ([[], []], "there is nothing to measure"),
        (["a", "b"], "no column of vectors"),
        ([1.0, 2.0], "no column of vectors"),
    ],
)
def test_columns_that_are_no_vectors(column, message, tmp_path):
    kind = None if column != [[], []] else FLOATS
    save(tmp_path, emb=pa.array(column, kind))
    with pytest.raises(InputError, match=f"^emb.parquet: .*{message}"):
        read(tmp_path / "emb.parquet")


def test_a_ragged_row_in_a_later_batch_is_named_by_its_row(tmp_path):
    rows = [[1.0, 2.0]] * 20
    rows[17] = [1.0, 2.0, 3.0]
    save(tmp_path, emb=rows)
    with pytest.raises(InputError, match="row 17 has 3 values, row 0 has 2"):
        read(tmp_path / "emb.parquet", rows=4)


def test_without_vectors_the_candidates_are_listed(tmp_path):
    path = save(tmp_path, label=[1, 2], nested=[[[1.0]], [[2.0]]])
    with pytest.raises(InputError, match="no column of vectors") as error:
        open_store(path)
    assert error.value.found == "`label` (int64), `nested` (list<list<double>>)"


def test_a_table_of_images_needs_features_first(tmp_path):
    path = save(tmp_path, img=[{"bytes": b"x", "path": "x"}] * 2, label=[0, 1])
    message = "no column of vectors, but `img` may hold images"
    with pytest.raises(InputError, match=message) as error:
        open_store(path)
    assert "running the encoder over images" in error.value.fix


def test_columns_of_floats_are_features_where_there_is_no_vector(tmp_path):
    columns = {f"f{k}": VALUES[:, k] for k in range(4)}
    path = save(tmp_path, label=np.arange(23), score=np.ones(23), **columns)
    store = open_store(path)
    assert (store.d, store.column_names) == (4, ("label", "score"))
    np.testing.assert_array_equal(read(path), VALUES)
    with pytest.raises(InputError, match="column `f1` is one of the features"):
        store.column("f1")


def test_a_series_of_integers_is_taken_when_asked_for(tmp_path):
    columns = {f"p_{k}": np.arange(23) + k for k in range(3)}
    path = save(tmp_path, **columns)
    assert open_store(path, column="p").d == 3
    np.testing.assert_array_equal(read(path, column="p_")[2], [2, 3, 4])


def test_an_empty_cell_among_columns_of_floats_is_nan(tmp_path):
    path = save(tmp_path, a=[1.0, None], b=[3.0, 4.0])
    np.testing.assert_array_equal(read(path), [[1, 3], [np.nan, 4]])


def test_images_are_picked_from_their_row_groups(tmp_path):
    encoded = [{"bytes": bytes([k]), "path": f"/etc/{k}"} for k in range(23)]
    path = save(tmp_path, emb=vectors(FLOATS), img=encoded, raw=[b"x"] * 22 + [None])
    store = open_store(path)
    assert store.images("img", [21, 3, 3, 0]) == [b"\x15", b"\3", b"\3", b"\0"]
    assert store.images("raw", [5]) == [b"x"]
    assert store.images("raw", []) == []
    with pytest.raises(InputError, match="row 22 of `raw` holds no image"):
        store.images("raw", [22])
    with pytest.raises(InputError, match="no row 23") as error:
        store.images("img", [23])
    assert error.value.expected == "0 to 22"
    with pytest.raises(InputError, match="no column `imgs`") as error:
        store.images("imgs", [0])
    assert error.value.fix == "did you mean img?"


def test_a_path_beside_missing_bytes_is_not_followed(tmp_path):
    image = tmp_path / "x.png"
    image.write_bytes(b"secret")
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    rows = pa.array([{"bytes": None, "path": str(image)}], kind)
    store = open_store(save(tmp_path, emb=[[1.0, 2.0]], img=rows))
    with pytest.raises(InputError, match="row 0 of `img` holds no image"):
        store.images("img", [0])


def test_a_flipped_bit_is_found_by_the_page_checksum(tmp_path):
    path = tmp_path / "emb.parquet"
    table = pa.table({"emb": vectors(FLOATS)})
    options = {"compression": "none", "use_dictionary": False}
    parquet.write_table(table, path, write_page_checksum=True, **options)
    content = bytearray(path.read_bytes())
    content[content.index(VALUES[3].tobytes()) + 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="emb.parquet: damaged .*CRC checksum"):
        read(path)


@pytest.mark.parametrize("end", [4, 100, -1])
def test_a_truncated_file_is_refused(end, tmp_path):
    path = save(tmp_path, emb=vectors(FLOATS))
    path.write_bytes(path.read_bytes()[:end])
    message = "emb.parquet: truncated: it does not end as|emb.parquet: damaged"
    for verb in (open_store, read_columns):
        with pytest.raises(InputError, match=message):
            verb(path)


def test_no_rows_and_repeated_names_are_refused(tmp_path):
    with pytest.raises(InputError, match="there is nothing to measure"):
        open_store(save(tmp_path, emb=pa.array([], FLOATS)))
    table = pa.table([pa.array([1.0]), pa.array([2.0])], names=["a", "a"])
    parquet.write_table(table, tmp_path / "two.parquet")
    with pytest.raises(InputError, match="two columns of one name"):
        open_store(tmp_path / "two.parquet")


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    path = save(tmp_path, emb=vectors(FLOATS))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match="emb.parquet: pyarrow is needed") as e:
        open_store(path)
    assert e.value.fix == 'pip install "repscope[parquet]"'


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        ([1, 0, 1], ["cat", "dog"], ["dog", "cat", "dog"]),
        ([1, 0, -1], ["cat", "dog"], [1, 0, -1]),  # -1: no label, so no names
        ([2, 0, 1], ["cat", "dog"], [2, 0, 1]),
        ([1, 0, 1], ["cat", "cat"], [1, 0, 1]),
        ([1, 0, 1], [1, 2], [1, 0, 1]),
    ],
)
def test_class_names_of_hugging_face_stand_for_codes(labels, names, expected, tmp_path):
    features = {"label": {"names": names, "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pa.table({"emb": vectors(pa.list_(pa.float32()), VALUES[:3])})
    table = table.append_column("label", pa.array(labels))
    path = tmp_path / "named.parquet"
    parquet.write_table(table.replace_schema_metadata(metadata), path)
    assert open_store(path).column("label").tolist() == expected
    assert read_columns(path)["label"].tolist() == expected


@pytest.mark.parametrize("metadata", [b"no json", b"[]", b'{"info": null}', b"\xff"])
def test_damaged_metadata_gives_codes(metadata, tmp_path):
    table = pa.table({"emb": vectors(pa.list_(pa.float32()), VALUES[:2])})
    table = table.append_column("label", pa.array([1, 0]))
    path = tmp_path / "named.parquet"
    parquet.write_table(table.replace_schema_metadata({"huggingface": metadata}), path)
    assert open_store(path).column("label").tolist() == [1, 0]
