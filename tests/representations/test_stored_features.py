import numpy as np
import pytest

from representations.embedding_cases import (
    KEPT,
    NAMES,
    N,
    pixels_of,
    run,
)
from repscope._checking import InputError
from repscope._images import decode
from repscope.diagnosis.diagnose import diagnose
from repscope.representations.embedding import Embedding
from repscope.representations.store import open_store


def test_a_store_of_the_folder_is_the_default_layer(folder):
    store = open_store(folder)
    embedding = Embedding.open(folder)
    assert (store.n, store.d, store.dtype, store.name) == (
        149,
        4,
        "float32",
        "features",
    )
    assert store.column_names == ("id", "fine", "coarse", "colour")
    blocks = list(store.blocks(25))
    assert [len(block) for block in blocks] == [25, 15, 25, 14, 25, 15, 25, 5]
    np.testing.assert_array_equal(np.concatenate(blocks), embedding.features())
    np.testing.assert_array_equal(store.column("id"), embedding.ids)
    np.testing.assert_array_equal(store.column("fine"), (np.arange(N) % 11)[KEPT])
    with pytest.raises(InputError, match="no column `colou`"):
        store.column("colou")


def test_a_store_of_a_layer_is_asked_for_by_name(folder):
    first = open_store(folder, column="first")
    np.testing.assert_array_equal(
        np.concatenate(list(first.blocks(1000))),
        Embedding.open(folder).features("first"),
    )
    with pytest.raises(InputError, match="features: no layer `firt`") as error:
        open_store(folder, column="firt")
    assert error.value.fix == "did you mean first?"


def test_thumbnails_are_an_image_column_of_the_store(folder):
    store = open_store(folder)
    assert store.holds_images("thumbnail")
    pictures = store.images("thumbnail", [100, 3])
    for data, row in zip(pictures, (100, 3), strict=True):
        np.testing.assert_array_equal(decode(data, "x"), pixels_of(N)[KEPT[row]])
    with pytest.raises(InputError, match="no row 149"):
        store.images("thumbnail", [149])
    with pytest.raises(InputError, match="no image column `picture`"):
        store.images("picture", [0])


def test_features_without_thumbnails_have_no_image_column(tmp_path):
    embedding = run(tmp_path / "features", thumbnails=False)
    assert embedding.thumbnails is None
    assert not open_store(tmp_path / "features").holds_images("thumbnail")


@pytest.mark.parametrize("where", ["array", "column"])
def test_a_folder_is_diagnosed_with_its_pictures(folder, where):
    embedding = Embedding.open(folder)
    images = embedding.thumbnails if where == "array" else "thumbnail"
    report = diagnose(embedding["output"], images=images)
    assert report.record.thumbnails
    assert not [text for text in report.record.notices if "thumbnail" in text]
    assert report.record.provenance.inputs["encoder name"] == "Tiny"
    assert {one.level for one in report.record.measurements} >= {"fine", "coarse"}


def test_notes_of_lines_beside_shards_are_ignored(tmp_path):
    for k in range(2):
        np.save(tmp_path / f"part_{k}.npy", np.full((3, 2), k))
    (tmp_path / "failures.jsonl").write_text("{}\n")
    assert open_store(tmp_path).n == 6


def test_a_shard_that_is_a_link_out_of_the_folder_is_refused(folder, tmp_path):
    path = folder / NAMES[2]
    path.rename(tmp_path / "elsewhere.npz")
    path.symlink_to(tmp_path / "elsewhere.npz")
    with pytest.raises(InputError, match="is a link leading out of the folder"):
        Embedding.open(folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "00001-of-00004.npz: no such file"),
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), "00001-of-00004.npz"),
        (lambda path: path.write_bytes(b""), "00001-of-00004.npz"),
    ],
)
def test_a_missing_or_torn_shard_is_named(damage, message, folder):
    damage(folder / NAMES[1])
    with pytest.raises(InputError, match=message):
        Embedding.open(folder)


def test_a_flipped_bit_is_found_when_features_are_read(folder):
    path = folder / NAMES[0]
    data = bytearray(path.read_bytes())
    with np.load(path) as shard:
        place = bytes(data).index(shard["first"].tobytes()) + 10
    data[place] ^= 4
    path.write_bytes(data)
    with pytest.raises(InputError, match=f"{NAMES[0]}: damaged .*'first.npy'"):
        Embedding.open(folder).features("first")


def test_pickled_arrays_are_never_loaded(folder):
    with np.load(folder / NAMES[0]) as shard:
        arrays = dict(shard)
    arrays["fine"] = np.array([{"x": 1}] * 40, dtype=object)
    np.savez(folder / NAMES[0], **arrays)
    with pytest.raises(InputError, match="fine"):
        Embedding.open(folder)


def test_failures_that_do_not_fit_the_shards_are_refused(folder):
    (folder / "failures.jsonl").write_text("")
    with pytest.raises(InputError, match="does not fit shard 1") as error:
        Embedding.open(folder)
    assert (error.value.found, error.value.expected) == ("0 unreadable images", "1")
    (folder / "failures.jsonl").write_text("{}\n")
    with pytest.raises(InputError, match="failures.jsonl: damaged"):
        Embedding.open(folder)
