import dataclasses
import shutil

import numpy as np
import pytest
import torch

from repscope._checking import InputError, UsageError
from repscope._images import Preprocess
from repscope.models.encoder import Encoder
from repscope.training.checkpoint import load_latest
from repscope.training.engine import TrainingDiverged, train
from repscope.training.learner import Learner
from repscope.training.saved_run import encoder_of_run, is_unfinished_run
from training.tiny_runs import (
    RECIPE,
    Crash,
    assert_same,
    crash_after,
    recipe_with,
    tiny_images,
)


@pytest.fixture(scope="module")
def crashed(tmp_path_factory):
    """A run that ended after step 5: its last checkpoint is of step 4."""
    run = tmp_path_factory.mktemp("crashed") / "run"
    with pytest.raises(Crash):
        train(RECIPE, tiny_images(), run, observers=[crash_after(5)])
    return run


def copied(run, tmp_path):
    return shutil.copytree(run, tmp_path / "copy")


def test_a_finished_run_has_the_encoder_that_it_wrote(whole):
    found, written = encoder_of_run(whole), Encoder.load(whole / "encoder.safetensors")
    assert found.provenance == written.provenance
    assert not is_unfinished_run(whole)


def test_a_run_that_did_not_end_has_the_encoder_of_its_last_checkpoint(crashed):
    found = encoder_of_run(str(crashed))
    expected = load_latest(crashed / "checkpoints").state["backbone"]
    assert_same(dict(found.module.state_dict()), dict(expected))
    assert not found.module.training
    assert is_unfinished_run(crashed)
    facts = found.provenance
    assert (facts["steps"], facts["outcome"]) == ("4", "unfinished: 4 of 9 steps")
    assert facts["images"] == "squares, 100 of them"


def test_all_but_the_outcome_is_that_of_the_written_encoder(whole, tmp_path):
    written = Encoder.load(whole / "encoder.safetensors")
    run = copied(whole, tmp_path)
    (run / "encoder.safetensors").unlink()
    found = encoder_of_run(run)
    assert found.provenance == written.provenance
    assert (found.preprocess, found.layers) == (written.preprocess, written.layers)
    assert (found.name, found.nonnegative) == (written.name, written.nonnegative)


def test_one_checkpoint_of_a_run_is_the_encoder_of_its_step(crashed, monkeypatch):
    path = crashed / "checkpoints" / "step_00000002.pt"
    assert is_unfinished_run(path)
    assert encoder_of_run(path).provenance["steps"] == "2"
    monkeypatch.chdir(path.parent)
    assert encoder_of_run(path.name).provenance["steps"] == "2"
    assert is_unfinished_run(path.name)


def test_a_damaged_checkpoint_costs_steps(crashed, tmp_path, caplog):
    run = copied(crashed, tmp_path)
    path = run / "checkpoints" / "step_00000004.pt"
    path.write_bytes(path.read_bytes()[:-9])
    assert encoder_of_run(run).provenance["steps"] == "2"
    assert "step_00000004.pt: damaged" in caplog.text
    with pytest.raises(InputError, match=r"step_00000004.pt: damaged"):
        encoder_of_run(path)


def test_planes_of_the_recipe_and_of_the_images_are_known(tmp_path):
    planes = np.arange(200, dtype=np.uint8).reshape(100, 2) % 2
    images = dataclasses.replace(tiny_images(), planes=planes)
    for words, expected in ((("data.bits=3",), 5), ((), 2)):
        run = tmp_path / str(expected)
        with pytest.raises(Crash):
            train(recipe_with(*words), images, run, observers=[crash_after(3)])
        assert encoder_of_run(run).planes == expected


def test_the_statistics_of_the_recipe_reach_the_encoder(tmp_path):
    recipe = recipe_with("augmentation.protocol=simclr_cifar", "training.epochs=1")
    run = tmp_path / "run"
    written = train(recipe, tiny_images(), run)
    (run / "encoder.safetensors").unlink()
    assert encoder_of_run(run).preprocess == written.preprocess
    assert written.preprocess != Preprocess(16, channels=1)


def test_a_run_that_has_diverged_names_the_way_that_leads_on(tmp_path, monkeypatch):
    def no_number(self, seen):
        return {"total": None, "gradient_norm": None}

    run = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(Learner, "_descend", no_number)
        words = (
            r"--resume cannot help.*--init-from .*run --set optimiser.learning_rate="
        )
        with pytest.raises(TrainingDiverged, match=rf"{words}0\.001"):
            train(recipe_with("training.maximum_nonfinite=3"), tiny_images(), run)
    assert encoder_of_run(run).provenance["steps"] == "2"
    train(
        recipe_with("optimiser.learning_rate=0.001", "training.epochs=1"),
        tiny_images(),
        tmp_path / "other",
        init_from=run,
    )


def test_what_is_no_run_is_told_so(tmp_path):
    assert not is_unfinished_run(tmp_path)
    assert not is_unfinished_run(tmp_path / "nowhere")
    with pytest.raises(InputError, match="is no run of repscope: no encoder.safetens"):
        encoder_of_run(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        encoder_of_run(tmp_path / "nowhere")


def test_a_file_that_is_only_called_like_a_checkpoint_is_refused(tmp_path):
    path = tmp_path / "checkpoints" / "step_00000002.pt"
    path.parent.mkdir()
    torch.save({"model": torch.zeros(3)}, path)
    assert not is_unfinished_run(path)
    with pytest.raises(InputError, match="checkpoint of step 2 is none of repscope"):
        encoder_of_run(path)
    with pytest.raises(InputError, match="checkpoint of step 2 is none of repscope"):
        train(RECIPE, tiny_images(), init_from=path)


def test_a_checkpoint_without_its_run_is_refused(crashed, tmp_path):
    path = tmp_path / "step_00000002.pt"
    shutil.copy(crashed / "checkpoints" / path.name, path)
    with pytest.raises(InputError, match="recipe.toml: no such file"):
        encoder_of_run(path)


def test_a_recipe_of_another_network_is_refused(crashed, tmp_path):
    run = copied(crashed, tmp_path)
    text = (run / "recipe.toml").read_text()
    (run / "recipe.toml").write_text(text.replace("width = 4", "width = 8"))
    with pytest.raises(InputError, match=r"does not fit recipe.toml"):
        encoder_of_run(run)


def test_a_recipe_that_leaves_the_size_open_is_refused(crashed, tmp_path):
    run = copied(crashed, tmp_path)
    text = (run / "recipe.toml").read_text()
    (run / "recipe.toml").write_text(text.replace("size = 16\n", "", 1))
    with pytest.raises(UsageError, match=r"leaves data.size or data.channels open"):
        encoder_of_run(run)
