"""The commands that run encoders: train, embed, diagnose with images, reproduce."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from references.torchvision_operators import timm_or_skip
from repscope import _training
from repscope.cli import main
from repscope.records import RunRecord, from_json
from repscope.representations.embedding import Embedding

TINY = [
    "encoder.name=res_lh",
    "encoder.depth=1",
    "encoder.width=16",
    "augmentation.protocol=digits16",
    "head.hidden=16",
    "head.out=8",
    "training.epochs=2",
    "data.limit=300",
    "training.batch_size=64",
]
SET = [word for setting in TINY for word in ("--set", setting)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two epochs on digits."""
    folder = tmp_path_factory.mktemp("commands") / "run"
    assert main(["train", "--images", "digits", *SET, "-o", str(folder), "-q"]) == 0
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def undrawn(monkeypatch):
    """Save reports without drawing their page, which takes most of the time."""
    monkeypatch.setattr("repscope.report.page.render", lambda record, samples: "")


def record_of(folder) -> RunRecord:
    return from_json(RunRecord, (Path(folder) / "results.json").read_text())


def test_train_leaves_a_run_and_names_the_next_command(here, capsys):
    words = ["train", "--images", "digits", *SET, "--set", "training.epochs=1"]
    assert main([*words, "-o", "run"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "encoder: run/encoder.safetensors\n"
    assert "next: repscope diagnose run digits --reference untrained" in captured.err
    names = {path.name for path in Path("run").iterdir()}
    assert {"recipe.toml", "env.json", "metrics.jsonl", "log.txt", "README.md"} <= names


def test_a_dry_run_prints_the_recipe_with_every_default(here, capsys):
    assert main(["train", "--images", "digits", *SET, "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("# 300 images of digits\n")
    assert "RandomResizedCrop(size=16" in printed
    assert 'name = "res_lh"' in printed
    assert list(here.iterdir()) == []


def test_a_printed_recipe_can_be_trained(here, capsys):
    main(["train", "--images", "digits", *SET, "--dry-run"])
    Path("recipe.toml").write_text(capsys.readouterr().out)
    assert main(["train", "recipe.toml", "-o", "run", "-q"]) == 0


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["train"], 2, "no images to train on"),
        (["train", "--images", "nowhere"], 2, "choose from digits, shapes20"),
        (["train", "gone.toml"], 3, "gone.toml"),
        (["train", "--images", "digits", "--set", "training.epoch=1"], 2, "epochs?"),
        (["train", "--images", "digits", "--set", "data.limit=40"], 3, "batch"),
        (["train", "--resume", "nowhere"], 3, "nowhere"),
        (["train", "--images", "digits", "--resume", "a", "-o", "b"], 2, "leave -o"),
        (["embed", "timm/resnet81", "digits", "--untrained"], 2, "did you mean resnet"),
        (["embed", "nowhere.pt", "digits"], 3, "nowhere.pt"),
        (["reproduce", "S1-4"], 2, "did you mean S1-3?"),
    ],
)
def test_what_does_not_fit_is_told(here, words, code, message, capsys):
    if "timm/" in " ".join(words):
        timm_or_skip()
    assert main(words) == code
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err


def test_a_run_whose_images_have_moved_asks_where_they_are(run, here, capsys):
    shutil.copytree(run, "run")
    text = Path("run/recipe.toml").read_text()
    assert 'source = "digits"' in text
    Path("run/recipe.toml").write_text(text.replace('"digits"', '"moved"'))
    assert main(["train", "--resume", "run"]) == 3
    assert "--images says where they are now" in capsys.readouterr().err


def test_a_changed_recipe_is_not_resumed(run, capsys):
    words = ["train", "--resume", str(run), "--set", "optimiser.learning_rate=0.5"]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "optimiser.learning_rate: 0.002 -> 0.5" in said
    assert "init_from" in said or "--init-from" in said


def test_a_run_in_use_is_not_written_over(run, capsys):
    words = ["train", "--images", "digits", *SET, "-o", str(run)]
    assert main(words) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_embed_writes_what_diagnose_needs_no_options_for(run, here, undrawn, capsys):
    words = ["embed", str(run), "digits", "--layers", "block1,h", "--part", "test"]
    assert main([*words, "-o", "features"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "500 images, block1 (16), h (16)\n"
    assert "next: repscope diagnose features" in captured.err
    assert main(["diagnose", "features", "-o", "out", "-q"]) == 0
    record = record_of("out")
    assert record.title == "res_lh, h, on digits (test)"
    assert {one.key for one in record.measurements} >= {
        "linear_accuracy[digit]",
        "linear_accuracy[pair]",
    }
    assert record.thumbnails
    assert main(["diagnose", "features", "--layer", "block1", "-o", "o", "-q"]) == 0
    assert record_of("o").title == "res_lh, block1, on digits (test)"


def test_an_encoder_is_diagnosed_on_images_in_one_command(run, here, undrawn, capsys):
    words = [str(run), "digits", "--limit", "400", "--reference", "untrained"]
    assert main(["diagnose", *words, "-o", "out"]) == 0
    captured = capsys.readouterr()
    assert "next: repscope compare OTHER-REPORT out" in captured.err
    keys = {one.key for one in record_of("out").measurements}
    assert "linear_accuracy[digit]@reference" in keys
    features, reference = (
        Embedding.open(f"out/{n}") for n in ("features", "reference")
    )
    assert (features.ids == reference.ids).all()
    assert not np.allclose(features.features(), reference.features())


def test_a_layer_that_does_not_exist_is_named_with_the_closest(run, here, capsys):
    assert main(["embed", str(run), "digits", "--layers", "blok1"]) == 2
    assert "did you mean block1?" in capsys.readouterr().err


def test_a_folder_of_images_works_as_it_is(run, here, undrawn, capsys):
    generator = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (here / "photos" / name).mkdir(parents=True)
        for index in range(15):
            pixels = generator.integers(0, 256, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(here / "photos" / name / f"{index}.png")
    assert main(["diagnose", str(run), "photos", "-o", "out", "-q"]) == 0
    assert capsys.readouterr().out.split()[0] in ("HEALTHY", "WARN", "UNDECIDED")
    record = record_of("out")
    assert "linear_accuracy[class]" in {one.key for one in record.measurements}


def test_features_are_not_written_into_the_images(run, here, capsys):
    (here / "photos").mkdir()
    Image.new("RGB", (8, 8)).save(here / "photos" / "a.png")
    assert main(["embed", str(run), "photos", "-o", "photos/features"]) == 2
    assert "lies inside photos, which is read" in capsys.readouterr().err


def test_a_run_is_not_written_into_the_images(here, capsys):
    (here / "photos").mkdir()
    Image.new("RGB", (8, 8)).save(here / "photos" / "a.png")
    assert main(["train", "--images", "photos", "-o", "photos/run"]) == 2
    assert "lies inside photos, which is read" in capsys.readouterr().err
    assert not (here / "photos" / "run").exists()


def test_an_interrupted_training_names_the_way_on(here, monkeypatch, capsys):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(_training, "train", interrupted)
    assert main(["train", "--images", "digits", *SET, "-o", "a run"]) == 130
    assert "fix: repscope train --resume 'a run'" in capsys.readouterr().err


def test_experiments_are_listed(capsys):
    assert main(["reproduce", "ls"]) == 0
    assert re.match(r"S1-3\n  title +Feature suppression", capsys.readouterr().out)
    main(["reproduce", "ls", "--json"])
    assert "claim" in json.loads(capsys.readouterr().out)["S1-3"]


@pytest.mark.slow
def test_an_experiment_is_reproduced(here, capsys):
    assert main(["reproduce", "S1-3"]) == 0
    assert "PASS" in capsys.readouterr().out
    assert Path("s1-3-results/results.json").is_file()


def test_without_torch_the_extra_is_named(monkeypatch, capsys):
    for name in [name for name in sys.modules if name.startswith("repscope._running")]:
        monkeypatch.delitem(sys.modules, name)
    for name in list(sys.modules):
        if name.startswith(("repscope.models", "repscope.representations.embed")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["embed", "run", "digits"]) == 2
    assert 'pip install "repscope[train]"' in capsys.readouterr().err
