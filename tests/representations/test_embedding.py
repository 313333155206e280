import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from representations.embedding_cases import (
    KEPT,
    NAMES,
    N,
    Tiny,
    contents,
    image_set,
    pixels_of,
    run,
)
from repscope._checking import UsageError
from repscope.data.imageset import ImageSet
from repscope.representations import embedding_run
from repscope.representations.embedding import Embedding, open_features


def assert_same(one, other):
    assert (one.plan, one.layers, one.failures) == (
        other.plan,
        other.layers,
        other.failures,
    )
    for layer in one.layers:
        np.testing.assert_array_equal(one.features(layer), other.features(layer))
        assert one[layer].layer == layer == other[layer].layer
        assert dict(one[layer].inputs) == dict(other[layer].inputs)
    np.testing.assert_array_equal(one.ids, other.ids)
    pairs = zip(
        (*one.levels, *one.attributes), (*other.levels, *other.attributes), strict=True
    )
    for mine, theirs in pairs:
        assert (mine.name, mine.classes) == (theirs.name, theirs.classes)
        np.testing.assert_array_equal(mine.codes, theirs.codes)
    np.testing.assert_array_equal(
        np.asarray(one.thumbnails), np.asarray(other.thumbnails)
    )
    assert dict(one.nonfinite) == dict(other.nonfinite)


def test_a_folder_holds_what_memory_would(folder):
    assert_same(Embedding.open(folder), run())


def test_shards_are_plain_archives_of_the_images_in_order(folder):
    shards = [np.load(folder / name) for name in NAMES]
    assert [len(shard["id"]) for shard in shards] == [40, 39, 40, 30]
    names = ["first", "output", "id", "fine", "coarse", "colour", "thumbnail"]
    assert all(list(shard) == names for shard in shards)
    whole = image_set(N)
    joined = {name: np.concatenate([shard[name] for shard in shards]) for name in names}
    np.testing.assert_array_equal(joined["fine"], (np.arange(N) % 11)[KEPT])
    np.testing.assert_array_equal(joined["id"], whole.ids[KEPT])
    np.testing.assert_array_equal(joined["thumbnail"], pixels_of(N)[KEPT])
    assert joined["first"].dtype == joined["output"].dtype == np.float32
    np.testing.assert_array_equal(joined["output"], run().features("output"))


def test_the_manifest_says_what_made_the_features(folder):
    manifest = json.loads((folder / "features.json").read_text())
    plan = manifest["plan"]
    assert (manifest["format"], manifest["version"]) == ("repscope features", 1)
    assert plan["layers"] == [
        {"name": "first", "width": 6},
        {"name": "output", "width": 4},
    ]
    assert (plan["default_layer"], plan["pool"]) == ("output", "gap")
    assert plan["preprocessing"]["mean"] == [0.4, 0.5, 0.6]
    assert [level["name"] for level in plan["levels"]] == ["fine", "coarse"]
    assert plan["images"]["name"] == "noise"
    assert plan["encoder"]["weights"].startswith("sha256:")
    failures = (folder / "failures.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in failures] == ["image_41.png"]


def test_saving_from_memory_writes_the_same_bytes(folder, tmp_path):
    run().save(tmp_path / "saved")
    assert contents(tmp_path / "saved") == contents(folder)
    Embedding.open(folder).save(tmp_path / "copied")
    assert contents(tmp_path / "copied") == contents(folder)


def test_the_same_command_writes_the_same_bytes(folder, tmp_path):
    run(tmp_path / "again")
    assert contents(tmp_path / "again") == contents(folder)


def test_other_batches_fill_shards_with_the_same_rows(folder, tmp_path):
    run(tmp_path / "other", batch_size=64)
    one, other = Embedding.open(folder), Embedding.open(tmp_path / "other")
    assert one.plan == other.plan
    np.testing.assert_array_equal(one.ids, other.ids)
    np.testing.assert_allclose(one.features(), other.features(), rtol=1e-5, atol=1e-6)


def test_wide_features_make_smaller_shards(monkeypatch):
    monkeypatch.setattr(embedding_run, "SHARD_BYTES", 1000)
    assert run().plan.shard_rows == 1000 // (4 * (6 + 4) + 3 * 8 * 8)


def test_saving_overwrites_nothing_unasked(folder, tmp_path):
    embedding = run(layers=["output"])
    with pytest.raises(UsageError, match="is not empty") as error:
        embedding.save(folder)
    assert "--overwrite" in error.value.fix
    embedding.save(folder, overwrite=True)
    assert Embedding.open(folder).layers == ("output",)


@pytest.mark.parametrize("name", ["id", "thumbnail", "output", "label output", "a/b"])
def test_levels_may_have_any_name(name, tmp_path):
    images = ImageSet.of(
        pixels_of(50), labels={name: np.arange(50) % 3, "other": np.zeros(50, int)}
    )
    embedding = run(tmp_path / "features", images=images)
    assert embedding.levels[0].name == name
    np.testing.assert_array_equal(embedding.levels[0].codes, np.arange(50) % 3)
    assert_same(embedding, run(images=images))


def test_classes_keep_their_order_and_words():
    labels = np.array(["10", "9", "011", "x"])[np.arange(60) % 4]
    level = run(images=ImageSet.of(pixels_of(60), labels=labels)).levels[0]
    assert (np.array(level.classes)[level.codes] == labels).all()


def test_non_finite_rows_are_counted_over_shards(tmp_path):
    class Overflowing(Tiny):
        def forward(self, images):
            is_bright = images[:, :1, 0, 0] > 1
            return super().forward(images) / torch.where(is_bright, 0.0, 1.0)

    embedding = run(tmp_path / "features", encoder=Overflowing())
    bad = int((~np.isfinite(embedding.features()).all(axis=1)).sum())
    assert 0 < bad < N
    assert embedding.nonfinite == {"output": bad}


def test_a_layer_of_an_embedding_is_a_representation(folder):
    embedding = Embedding.open(folder)
    assert (embedding.n, embedding["first"].d, embedding["output"].d) == (N - 1, 6, 4)
    assert embedding.default_layer == "output"
    assert embedding.representation.layer == "output"
    with pytest.raises(UsageError, match="no layer 'frist' was embedded") as error:
        embedding["frist"]
    assert error.value.fix == "did you mean first?"
    assert embedding["first"].inputs["encoder name"] == "Tiny"


def test_opening_needs_no_torch(folder):
    script = (
        "import sys\n"
        "from repscope.representations.embedding import open_features\n"
        f"embedding = open_features({str(folder)!r})\n"
        "embedding.features(), embedding.thumbnails[3]\n"
        "print(embedding.n, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(N - 1), "False"]


def test_thumbnails_are_read_row_by_row(folder):
    thumbnails = Embedding.open(folder).thumbnails
    assert thumbnails.shape == (N - 1, 8, 8, 3)
    assert len(thumbnails) == N - 1
    for row in (0, 39, 40, 78, 79, N - 2, 5):
        np.testing.assert_array_equal(thumbnails[row], pixels_of(N)[KEPT[row]])
    with pytest.raises(IndexError, match="row 149 of 149"):
        thumbnails[N - 1]


def test_another_folder_has_no_features(tmp_path):
    assert open_features(tmp_path) is None
    assert open_features(tmp_path / "missing") is None
