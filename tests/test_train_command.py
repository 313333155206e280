"""What `train` does besides training: it watches, stops, logs and sums up."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from repscope.cli import main
from repscope.training.json_lines import read_rows
from repscope.training.run_folder import WATCH_NAME, read_surroundings

SETTINGS = [
    "encoder.name=small_conv",
    "encoder.width=4",
    "augmentation.protocol=digits16",
    "head.hidden=8",
    "head.out=8",
    "training.epochs=1",
    "training.batch_size=20",
    "data.limit=60",
]
TRAIN = ["train", "--images", "digits"]
TRAIN += [word for one in SETTINGS for word in ("--set", one)]
WATCH = ["--watch", "digits", "--watch-part", "test", "--limit", "60"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    return tmp_path


def test_a_watched_training_writes_rows_and_sums_up(capsys):
    words = ["--every", "2", "--layers", "block1,h", "--labels", "digit"]
    assert main([*TRAIN, *WATCH, *words, "-o", "run"]) == 0
    rows = read_rows(Path("run") / WATCH_NAME)
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert list(rows[0]["layers"]) == ["block1", "h"]
    assert set(rows[0]["layers"]["h"]["linear_accuracy"]) == {"digit"}
    captured = capsys.readouterr()
    assert captured.out == "encoder: run/encoder.safetensors\n"
    assert "watching 60 images of digits (test) every 2 steps" in captured.err
    summed = captured.err.splitlines()
    starts = [line.split()[0] for line in summed if line.strip()]
    after = starts[starts.index("first") + 1 :]
    assert after[:3] == ["total", "invariance", "regularization"]
    assert {"effective_rank", "linear_accuracy[digit]"} <= set(after)


def test_a_gate_that_fails_gives_exit_code_1_and_an_encoder(capsys):
    gate = ["--fail-on", "effective_rank<0.99*d"]
    assert main([*TRAIN, *WATCH, *gate, "-o", "run", "-q"]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("gate failed: step 3: effective_rank")
    assert captured.err.endswith("(0.99*d)\n")
    assert captured.out == ""
    assert Path("run/encoder.safetensors").is_file()
    assert read_surroundings(Path("run")).sessions[0].outcome == "finished"


def test_a_gate_that_passes_gives_exit_code_0():
    gate = ["--fail-on", "RS101", "--fail-on", "effective_rank<1"]
    assert main([*TRAIN, *WATCH, *gate, "-o", "run", "-q"]) == 0


def test_random_bits_of_the_recipe_are_planted_in_watched_images_too():
    assert main([*TRAIN, *WATCH, "--set", "data.bits=2", "-o", "run", "-q"]) == 0
    assert [row["step"] for row in read_rows(Path("run") / WATCH_NAME)] == [1, 3]


def test_a_dry_run_says_what_would_be_watched(capsys):
    assert main([*TRAIN, *WATCH, "--every", "7", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "# watched: 60 images of digits (test), every 7 steps" in printed
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--fail-on", "RS102"], "--fail-on is about images that are watched"),
        (["--every", "5"], "--every is about images that are watched"),
        (["--labels", "digit"], "--watch IMAGES names them"),
        ([*WATCH, "--fail-on", "RS2"], "cannot read 'RS2'"),
        ([*WATCH, "--fail-on", "effective_rnk<3"], "did you mean effective_rank?"),
        ([*WATCH, "--labels", "digt"], "did you mean digit?"),
        ([*WATCH, "--every", "0"], "--every"),
        (["--watch", "digit"], "did you mean digits?"),
        (["--log", "tensorbord"], "did you mean tensorboard?"),
    ],
)
def test_what_does_not_fit_is_told_before_training(words, message, capsys):
    assert main([*TRAIN, *words, "-o", "run"]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert not Path("run").exists()


def test_a_folder_inside_the_watched_images_is_refused(capsys):
    Path("photos").mkdir()
    assert main([*TRAIN, "--watch", "photos", "-o", "photos/run"]) == 2
    assert "lies inside photos" in capsys.readouterr().err


def test_a_log_that_is_missing_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert main([*TRAIN, "--log", "wandb", "-o", "run"]) == 2
    assert 'pip install "repscope[track]"' in capsys.readouterr().err
    assert not Path("run").exists()


def test_losses_and_looks_are_logged_and_the_log_is_closed(monkeypatch):
    rows, ended = [], []
    started = SimpleNamespace(
        id="abc",
        step=0,
        log=lambda numbers, step: rows.append((step, set(numbers))),
        finish=lambda exit_code: ended.append(exit_code),
    )
    package = SimpleNamespace(init=lambda **given: started)
    monkeypatch.setitem(sys.modules, "wandb", package)
    assert main([*TRAIN, *WATCH, "--log", "wandb", "-o", "run", "-q"]) == 0
    assert [step for step, _ in rows] == [1, 1, 2, 3, 3]
    assert "training/total" in rows[0][1]
    assert "watch/h/linear_accuracy/digit" in rows[1][1]
    assert ended == [0]
    assert json.loads(Path("run/wandb.json").read_text()) == {"id": "abc"}


def test_a_run_that_goes_on_is_watched_as_before(capsys):
    gate = ["--every", "2", "--fail-on", "effective_rank<0.99*d"]
    assert main([*TRAIN, *WATCH, *gate, "-o", "run", "-q"]) == 1
    rows = (Path("run") / WATCH_NAME).read_bytes()
    assert main(["train", "--resume", "run", "-q"]) == 0  # all steps are done
    Path("run/checkpoints/step_00000003.pt").unlink()
    assert main(["train", "--resume", "run", "-q"]) == 1
    assert (Path("run") / WATCH_NAME).read_bytes() == rows


def test_a_recipe_beside_resume_is_refused(capsys):
    assert main([*TRAIN, "-o", "run", "-q"]) == 0
    Path("other.toml").write_text("[training]\nepochs = 3\n")
    assert main(["train", "other.toml", "--resume", "run"]) == 2
    assert "--resume goes on by the recipe of the run" in capsys.readouterr().err


def test_a_dry_run_refuses_what_the_run_would(capsys):
    words = [*TRAIN, "--set", "training.batch_size=61", "--dry-run"]
    assert main(words) == 3
    assert "60 images do not fill one batch" in capsys.readouterr().err


def test_the_level_of_labels_that_is_trained_on_is_written_down():
    words = ["--set", "objective.name=supcon", "-o", "run", "-q"]
    assert main([*TRAIN, *words]) == 0
    assert 'labels = "digit"' in Path("run/recipe.toml").read_text()
    assert "the labels are those of digit" in Path("run/log.txt").read_text()


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("objectives", ["moco", "queue = 65536", "cross_entropy", "needs    labels"]),
        ("encoders", ["vit", "patch = 4", "res_lh", "depth = 5"]),
        ("heads", ["mlp2_frozen", "never trained", "out = 8192"]),
        ("experiments", ["S3-F2L", "S1-3"]),
    ],
)
def test_what_a_recipe_can_name_is_listed(what, words, capsys):
    assert main(["ls", what]) == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in words)
    assert main(["ls", what, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)
