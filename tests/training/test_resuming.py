import pytest
import torch

from repscope import _environment
from repscope._checking import InputError, UsageError
from repscope.models.encoder import Encoder
from repscope.training.engine import train
from repscope.training.json_lines import read_rows
from repscope.training.run_folder import RunFolder, read_surroundings
from training.tiny_runs import (
    EVERY,
    RECIPE,
    REPEATED,
    STEPS,
    Crash,
    crash_after,
    digests,
    recipe_with,
    rows_of,
    tiny_images,
)


@pytest.mark.parametrize("step", [1, 2, 3, 5, STEPS])
def test_a_run_that_goes_on_gives_the_same_files(whole, tmp_path, step):
    run = tmp_path / "run"
    with pytest.raises(Crash):
        train(RECIPE, tiny_images(), run, observers=[crash_after(step)])
    assert [row["step"] for row in rows_of(run)] == list(range(1, step + 1))
    train(
        RECIPE if step % 2 else None, tiny_images(), run, resume=True, workers=step % 3
    )
    assert digests(run) == digests(whole)
    assert [row["step"] for row in read_rows(run / "timing.jsonl")] == list(
        range(1, STEPS + 1)
    )
    sessions = read_surroundings(run).sessions
    last_saved = (step - 1) // EVERY * EVERY  # the crash comes before the checkpoint
    assert [one.first_step for one in sessions] == [0, last_saved]
    assert [one.outcome for one in sessions] == ["failed", "finished"]


def test_a_finished_run_that_goes_on_only_writes_its_encoder_again(whole, tmp_path):
    run = tmp_path / "run"
    train(RECIPE, tiny_images(), run)
    (run / "encoder.safetensors").unlink()
    train(None, tiny_images(), run, resume=True)
    assert digests(run) == digests(whole)


def test_a_damaged_checkpoint_costs_steps_and_no_bits(whole, tmp_path, caplog):
    run = tmp_path / "run"
    with pytest.raises(Crash):
        train(RECIPE, tiny_images(), run, observers=[crash_after(7)])
    path = run / "checkpoints" / "step_00000006.pt"
    path.write_bytes(path.read_bytes()[:-9])
    train(None, tiny_images(), run, resume=True)
    assert "step_00000006.pt: damaged" in caplog.text
    assert read_surroundings(run).sessions[1].first_step == 4
    assert digests(run) == digests(whole)


def test_a_run_that_was_killed_before_its_first_step_is_begun_anew(
    whole, tmp_path, monkeypatch
):
    run = tmp_path / "run"

    def crash(self, recipe):
        raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "write_recipe", crash)
        with pytest.raises(Crash):
            train(RECIPE, tiny_images(), run)
    assert (run / "checkpoints" / "step_00000000.pt").is_file()
    with pytest.raises(InputError, match="nothing to resume"):
        train(None, tiny_images(), run, resume=True)
    train(RECIPE, tiny_images(), run)
    assert digests(run) == digests(whole)


def test_what_may_change_the_last_bits_is_told_of(tmp_path, caplog, monkeypatch):
    with pytest.raises(Crash):
        train(RECIPE, tiny_images(), tmp_path, observers=[crash_after(3)])
    threads, versions = torch.get_num_threads(), _environment.versions()
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads + 1)
    monkeypatch.setattr(_environment, "versions", lambda: {**versions, "numpy": "9.9"})
    train(None, tiny_images(), tmp_path, resume=True)
    assert f"threads was {threads}, is {threads + 1}: the last bits" in caplog.text
    assert f"numpy was {versions['numpy']}, is 9.9" in caplog.text
    assert "torch was" not in caplog.text


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("optimiser.learning_rate=0.5", "optimiser.learning_rate: 0.01 -> 0.5"),
        ("training.epochs=9", "training.epochs: 3 -> 9"),
        ("objective.options.temperature=0.1", "temperature: 0.5 -> 0.1"),
        ("encoder.width=8", "encoder.width: 4 -> 8"),
    ],
)
def test_another_recipe_cannot_go_on(whole, word, line):
    before = digests(whole, (*REPEATED, "env.json"))
    with pytest.raises(UsageError, match=rf"{line}\n.*--init-from"):
        train(recipe_with(word), tiny_images(), whole, resume=True)
    assert digests(whole, (*REPEATED, "env.json")) == before


def test_other_images_cannot_go_on(whole):
    with pytest.raises(InputError, match=r"not those of the run\n.*96 .*100 images"):
        train(RECIPE, tiny_images(96), whole, resume=True)


@pytest.mark.parametrize(
    "given", [{"run": None}, {"overwrite": True}, {"init_from": "x"}]
)
def test_going_on_needs_a_folder_and_nothing_else(tmp_path, given):
    with pytest.raises(UsageError, match="resume goes on with the run in a folder"):
        train(RECIPE, tiny_images(), **({"run": tmp_path, "resume": True} | given))


def test_a_new_run_needs_a_recipe(tmp_path):
    with pytest.raises(UsageError, match="recipe: None"):
        train(None, tiny_images())


def test_a_folder_with_a_run_is_replaced_only_when_asked_and_sound(whole, tmp_path):
    run = tmp_path / "run"
    train(recipe_with("training.epochs=1"), tiny_images(), run)
    before = digests(run)
    with pytest.raises(UsageError, match="--resume"):
        train(RECIPE, tiny_images(), run)
    with pytest.raises(UsageError, match="unknown backbone"):
        train(recipe_with("encoder.name=nothing"), tiny_images(), run, overwrite=True)
    assert digests(run) == before
    train(RECIPE, tiny_images(), run, overwrite=True)
    assert digests(run) == digests(whole)


@pytest.mark.parametrize("form", ["folder", "file", "encoder"])
def test_a_run_can_begin_with_the_weights_of_another(whole, tmp_path, form):
    file = whole / "encoder.safetensors"
    source = {"folder": whole, "file": file, "encoder": Encoder.load(file)}[form]
    recipe = recipe_with("training.seed=5", "optimiser.learning_rate=1e-12")
    run = tmp_path / "run"
    encoder = train(recipe, tiny_images(), run, init_from=source)
    before = Encoder.load(file).module
    for name, parameter in encoder.module.named_parameters():
        torch.testing.assert_close(
            parameter, before.get_parameter(name), atol=1e-6, rtol=0
        )
    assert "weights sha256" in read_surroundings(run).init_from
    assert encoder.provenance["first weights"] == read_surroundings(run).init_from


def test_the_weights_of_an_unfinished_run_can_be_a_beginning(tmp_path):
    first = tmp_path / "first"
    with pytest.raises(Crash):
        train(RECIPE, tiny_images(), first, observers=[crash_after(5)])
    encoder = train(RECIPE, tiny_images(), init_from=first)
    assert encoder.provenance["first weights"].startswith("first, step 4, weights")


def test_one_checkpoint_of_a_run_can_be_a_beginning(whole):
    checkpoint = whole / "checkpoints" / "step_00000008.pt"
    encoder = train(RECIPE, tiny_images(), init_from=checkpoint)
    assert encoder.provenance["first weights"].startswith("run, step 8, weights")


def test_a_folder_that_is_no_run_is_no_beginning(tmp_path):
    message = "is no run of repscope: no encoder.safetensors, no checkpoints"
    with pytest.raises(InputError, match=message):
        train(RECIPE, tiny_images(), init_from=tmp_path)


def test_a_torch_file_is_no_beginning_and_says_what_is(tmp_path):
    torch.save({"weight": torch.zeros(3)}, tmp_path / "weights.pt")
    message = r"weights.pt: is a torch file.*\n.*\n.*--init-from takes such a file"
    with pytest.raises(InputError, match=message):
        train(RECIPE, tiny_images(), init_from=tmp_path / "weights.pt")


def test_a_run_with_other_first_weights_goes_on_with_them(whole, tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    train(RECIPE, tiny_images(), one, init_from=whole)
    with pytest.raises(Crash):
        crash = [crash_after(1)]
        train(RECIPE, tiny_images(), other, init_from=whole, observers=crash)
    train(None, tiny_images(), other, resume=True)
    assert digests(other) == digests(one)
    assert digests(other) != digests(whole)


def test_weights_of_another_network_are_refused_before_anything_is_written(
    whole, tmp_path
):
    with pytest.raises(InputError, match=r"those of another network\n.*do not fit"):
        train(recipe_with("encoder.width=8"), tiny_images(), tmp_path, init_from=whole)
    assert not (tmp_path / "recipe.toml").exists()
