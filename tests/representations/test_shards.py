import os

import numpy as np
import pytest

from repscope._checking import InputError
from repscope.representations.shards import natural_key
from repscope.representations.store import open_store

PARTS = [np.random.default_rng(k).normal(size=(4 + k, 3)) for k in range(12)]


def save(folder, names, parts=PARTS):
    for name, part in zip(names, parts, strict=False):
        np.save(folder / name, part)
    return folder


def numbered(folder, count=12, pattern="emb_{}.npy"):
    return save(folder, [pattern.format(k) for k in range(count)])


def read(path, rows=5):
    return np.concatenate(list(open_store(path).blocks(rows)))


def test_shards_are_read_in_natural_order(tmp_path):
    store = open_store(numbered(tmp_path))
    assert (store.n, store.d, store.name) == (sum(map(len, PARTS)), 3, tmp_path.name)
    np.testing.assert_array_equal(read(tmp_path), np.concatenate(PARTS))


def test_numbers_in_names_sort_by_value():
    names = ["a10", "a9", "a1b2", "a1b10", "a"]
    assert sorted(names, key=natural_key) == ["a", "a1b2", "a1b10", "a9", "a10"]


def test_hidden_files_and_notes_are_ignored(tmp_path):
    numbered(tmp_path, 3)
    for name in [".DS_Store", "_SUCCESS", "README.md", "README.txt", "info.json"]:
        (tmp_path / name).write_text("notes")
    (tmp_path / "logs").mkdir()
    assert open_store(tmp_path).n == sum(map(len, PARTS[:3]))


def test_a_folder_given_by_a_dot_has_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(numbered(tmp_path, 2))
    assert open_store(".").name == tmp_path.name


@pytest.mark.parametrize(
    ("part", "found", "expected"),
    [
        (np.zeros((4, 5)), "4 x 5 float64", "4 x 3 float64, as in emb_0.npy"),
        (np.zeros((4, 3), "f4"), "4 x 3 float32", "4 x 3 float64, as in emb_0.npy"),
    ],
)
def test_two_shards_that_differ_are_named(part, found, expected, tmp_path):
    save(tmp_path, ["emb_0.npy", "emb_1.npy", "emb_2.npy"], [PARTS[0], PARTS[1], part])
    message = f"{tmp_path.name}: emb_2.npy and emb_0.npy differ"
    with pytest.raises(InputError, match=message) as error:
        open_store(tmp_path)
    assert (error.value.found, error.value.expected) == (found, expected)


def test_byte_order_and_layout_may_differ(tmp_path):
    save(
        tmp_path,
        ["0.npy", "1.npy"],
        [PARTS[0], np.asfortranarray(PARTS[1].astype(">f8"))],
    )
    np.testing.assert_array_equal(read(tmp_path), np.concatenate(PARTS[:2]))


@pytest.mark.parametrize(
    ("pattern", "gone", "message"),
    [
        ("emb_{}.npy", [7], "shard 7 of 12 is missing$"),
        ("emb_{:04d}.npy", [7], "shard 7 of 12 is missing$"),
        ("v2_part{}.npy", [3, 5], "shard 3 of 12 is missing and 1 more$"),
        ("p-{:05d}-of-00012.npy", [0], "shard 0 of 12 is missing$"),
        ("p-{:05d}-of-00012.npy", [11], "shard 11 of 12 is missing$"),
        ("p-{:05d}-of-00012.npy", range(2, 12), "shard 2 of 12 is missing and 9 more$"),
        ("p-{:05d}-of-99999999999.npy", [], "shard 12 of 99,999,999,999 is missing"),
    ],
)
def test_a_missing_shard_is_named(pattern, gone, message, tmp_path):
    numbered(tmp_path, 12, pattern)
    for k in gone:
        (tmp_path / pattern.format(k)).unlink()
    with pytest.raises(InputError) as error:
        open_store(tmp_path)
    assert error.match(f"(?m)^{tmp_path.name}: {message}")
    assert "copy or compute it again" in error.value.fix


@pytest.mark.parametrize(
    "names",
    [
        ["emb_1.npy", "emb_2.npy", "emb_3.npy"],
        ["p-1-of-3.npy", "p-2-of-3.npy", "p-3-of-3.npy"],
        ["emb_5.npy", "emb_6.npy"],
        ["run_20240101.npy", "run_20240301.npy"],
        ["seed1_fold2.npy", "seed3_fold1.npy"],
        ["resnet50.npy"],
        ["a.npy", "b.npy"],
    ],
)
def test_complete_or_unnumbered_folders_are_accepted(names, tmp_path):
    assert open_store(save(tmp_path, names)).n == sum(map(len, PARTS[: len(names)]))


def test_two_shards_of_one_number_are_refused(tmp_path):
    save(tmp_path, ["emb_1.npy", "emb_01.npy"])
    with pytest.raises(InputError, match="two shards are numbered 1"):
        open_store(tmp_path)


def test_a_copied_shard_is_named(tmp_path):
    save(tmp_path, ["emb_0.npy", "emb_1.npy", "emb_2.npy"], [*PARTS[:2], PARTS[0]])
    with pytest.raises(InputError, match="emb_2.npy is a copy of emb_0.npy"):
        open_store(tmp_path)


def test_alike_beginnings_and_ends_are_no_copies(tmp_path):
    one = np.random.default_rng(0).normal(size=(40_000, 3))
    other = one.copy()
    other[20_000] += 1
    save(tmp_path, ["a.npy", "b.npy"], [one, other])
    assert open_store(tmp_path).n == 80_000


def test_shards_of_a_collapsed_encoder_are_no_copies(tmp_path):
    save(tmp_path, ["a.npy", "b.npy"], [np.ones((5, 3)), np.ones((5, 3))])
    assert open_store(tmp_path).n == 10


def test_formats_may_not_be_mixed(tmp_path):
    numbered(tmp_path, 2)
    (tmp_path / "labels.csv").write_text("label\n1\n")
    with pytest.raises(InputError, match="labels.csv is no shard like emb_0.npy"):
        open_store(tmp_path)


def test_a_pickle_among_shards_is_named(tmp_path):
    numbered(tmp_path, 2)
    (tmp_path / "emb_2.pkl").write_bytes(b"\x80\x04.")
    with pytest.raises(InputError, match="emb_2.pkl is no shard") as error:
        open_store(tmp_path)
    assert error.value.found == "a pickle, which is never opened"


@pytest.mark.parametrize("inner", ["", "cat", "train"])
def test_a_folder_of_images_is_recognised(inner, tmp_path):
    (tmp_path / inner).mkdir(exist_ok=True)
    for k in range(3):
        (tmp_path / inner / f"{k}.jpg").touch()
    (tmp_path / "labels.csv").touch()
    message = f"{tmp_path.name}: a folder of images: features are needed"
    with pytest.raises(InputError, match=message) as error:
        open_store(tmp_path)
    expected = f"give an encoder first: repscope diagnose ENCODER {tmp_path}"
    assert error.value.fix == expected


@pytest.mark.parametrize(
    "names", [["recipe.toml"], ["encoder.safetensors", "log.txt", "recipe.toml"]]
)
def test_a_training_run_is_recognised(names, tmp_path):
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(InputError, match=f"{tmp_path.name}: a training run") as error:
        open_store(tmp_path)
    expected = f"give images too: repscope diagnose {tmp_path} IMAGES"
    assert error.value.fix == expected


def test_an_encoder_in_a_folder_is_told_from_features_of_that_name(tmp_path):
    save_file = pytest.importorskip("safetensors.numpy").save_file
    path, features = tmp_path / "encoder.safetensors", {"features": PARTS[0]}
    save_file(features, path)
    assert open_store(tmp_path).n == 4
    save_file(features, path, metadata={"repscope_encoder": "{}"})
    with pytest.raises(InputError, match="a training run"):
        open_store(tmp_path)


def test_features_may_have_a_recipe_beside_them(tmp_path):
    numbered(tmp_path, 2)
    (tmp_path / "recipe.toml").write_text("[data]\n")
    assert open_store(tmp_path).n == sum(map(len, PARTS[:2]))


def test_folders_without_features(tmp_path):
    with pytest.raises(InputError, match="no features in this folder") as error:
        open_store(tmp_path)
    assert error.value.found == "an empty folder"
    (tmp_path / "train").mkdir()
    with pytest.raises(InputError, match="no features in this folder") as error:
        open_store(tmp_path)
    assert "pass the folder that holds them" in error.value.fix
    for k in range(5):
        (tmp_path / f"{k}.xyz").touch()
    with pytest.raises(InputError, match="no features in this folder") as error:
        open_store(tmp_path)
    assert error.value.found == "0.xyz, 1.xyz, 2.xyz and 3 more"


def test_a_zarr_array_is_recognised(tmp_path):
    (tmp_path / ".zarray").touch()
    with pytest.raises(InputError, match="a Zarr array: it cannot be read"):
        open_store(tmp_path)


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    numbered(inside, 2)
    save(outside, ["secret.npy"])
    (inside / "emb_2.npy").symlink_to(outside / "secret.npy")
    with pytest.raises(
        InputError, match="emb_2.npy is a link leading out of the folder"
    ):
        open_store(inside)
    (inside / "emb_2.npy").unlink()
    (inside / "emb_2.npy").symlink_to("../out/secret.npy")
    with pytest.raises(
        InputError, match="emb_2.npy is a link leading out of the folder"
    ):
        open_store(inside)


def test_a_link_to_the_folder_itself_is_followed(tmp_path):
    (tmp_path / "real").mkdir()
    numbered(tmp_path / "real", 2)
    (tmp_path / "link").symlink_to("real")
    assert open_store(tmp_path / "link").n == sum(map(len, PARTS[:2]))


@pytest.mark.parametrize("name", ["emb_1.npy", "loop"])
def test_broken_links_are_refused(name, tmp_path):
    numbered(tmp_path, 1)
    (tmp_path / "emb_1.npy").symlink_to(tmp_path / name)
    with pytest.raises(InputError, match="emb_1.npy: no such file"):
        open_store(tmp_path)


def test_a_pipe_among_shards_is_refused_without_waiting(tmp_path):
    numbered(tmp_path, 1)
    os.mkfifo(tmp_path / "emb_1.npy")
    with pytest.raises(InputError, match="emb_1.npy: is a pipe or a device"):
        open_store(tmp_path)


def test_a_damaged_shard_is_named(tmp_path):
    numbered(tmp_path, 2)
    content = (tmp_path / "emb_1.npy").read_bytes()
    (tmp_path / "emb_1.npy").write_bytes(content[:-1])
    with pytest.raises(InputError, match="^emb_1.npy: truncated"):
        open_store(tmp_path)


def archives(folder, *columns):
    for k, named in enumerate(columns):
        np.savez(folder / f"{k}.npz", emb=PARTS[k], **named)
    return open_store(folder)


def test_columns_are_joined(tmp_path):
    labels = [np.arange(4), np.arange(5)]
    store = archives(tmp_path, {"y": labels[0], "only": labels[0]}, {"y": labels[1]})
    assert store.column_names == ("y",)
    np.testing.assert_array_equal(store.column("y"), np.concatenate(labels))
    with pytest.raises(InputError, match="1.npz and 0.npz differ") as error:
        store.column("only")
    assert error.value.found == "no column `only`"
    with pytest.raises(InputError, match="no column `z`"):
        store.column("z")


def test_columns_of_numbers_and_of_text_are_not_joined(tmp_path):
    store = archives(tmp_path, {"y": np.arange(4)}, {"y": np.array(list("abcde"))})
    with pytest.raises(InputError, match="1.npz and 0.npz differ") as error:
        store.column("y")
    assert (error.value.found, error.value.expected[:5]) == ("`y` of <U1", "int64")


def test_images_come_from_the_shard_they_lie_in(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow as pa

    for k in range(3):
        table = pa.table({"emb": [[1.0, k], [2.0, k]], "img": [b"a%d" % k, b"b%d" % k]})
        parquet.write_table(table, tmp_path / f"{k}.parquet")
    store = open_store(tmp_path)
    assert store.images("img", [5, 0, 3]) == [b"b2", b"a0", b"b1"]
    with pytest.raises(InputError, match="no row 6"):
        store.images("img", [6])


def test_only_parquet_shards_hold_images(tmp_path):
    with pytest.raises(InputError, match="emb_0.npy: no image column `img`"):
        open_store(numbered(tmp_path, 2)).images("img", [0])
