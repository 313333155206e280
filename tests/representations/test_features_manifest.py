import json

import pytest

from representations.embedding_cases import (
    run,
)
from repscope._checking import InputError
from repscope.representations.embedding import Embedding


def tampered(folder, change):
    path = folder / "features.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def set_at(*keys, value):
    def change(manifest):
        for key in keys[:-1]:
            manifest = manifest[key]
        manifest[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_at("format", value="other"), "describes no features of repscope"),
        (set_at("version", value=2), "features of format 2"),
        (set_at("shards", 0, "name", value="../../etc/x"), "unknown key 'name'"),
        (set_at("shards", 0, "index", value=7), "its shards are not in order"),
        (set_at("shards", 1, "index", value=0), "its shards are not in order"),
        (set_at("shards", 0, "index", value=-1), "its shards are not in order"),
        (set_at("shards", 0, "rows", value=41), "shard 0 with 41 rows"),
        (set_at("shards", 0, "rows", value=39), "array `first` is not as features"),
        (
            set_at("shards", 0, "nonfinite", value={"other": 1}),
            "shard 0 with 1 rows with NaN or infinity in layer other",
        ),
        (set_at("shards", 1, "nonfinite", value={"first": -1}), "shard 1 with -1 rows"),
        (set_at("shards", 2, "nonfinite", value={"first": 41}), "shard 2 with 41 rows"),
        (set_at("plan", "shard_rows", value=0), "150 images, 0 per shard"),
        (set_at("plan", "n_images", value=10**15), "unfinished features"),
        (set_at("plan", "n_images", value=-1), "-1 images"),
        (set_at("plan", "n_images", value="x"), "is not of type"),
        (set_at("plan", "default_layer", value="h"), "default layer is not among"),
        (set_at("plan", "layers", 0, "name", value="../x"), "array `../x` is not as"),
        (set_at("plan", "layers", 0, "width", value=10**12), "array `first` is not"),
        (set_at("plan", "levels", 0, "column", value="id"), "arrays of a shard have"),
        (set_at("plan", "levels", 0, "classes", value=["0"]), "no class '1' of 'fine'"),
        (set_at("plan", "thumbnail", value=[9, 9]), "array `thumbnail` is not as"),
        (set_at("plan", "extra", value=1), "unknown key 'extra'"),
    ],
)
def test_a_manifest_that_lies_is_refused(change, message, folder):
    tampered(folder, change)
    with pytest.raises(InputError, match=message.replace("[", r"\[")):
        Embedding.open(folder)


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", "null", "[" * 100_000, '{"format": NaN}', "\x00\xff"]
)
def test_a_manifest_that_is_none_is_refused(text, folder):
    (folder / "features.json").write_text(text)
    with pytest.raises(InputError, match="features.json"):
        Embedding.open(folder)
    with pytest.raises(InputError, match="features.json"):
        run(folder)
