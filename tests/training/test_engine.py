import dataclasses
import errno
import os

import numpy as np
import pytest
import torch

from repscope._checking import InputError, ResourceError, UsageError
from repscope.data.images import Images
from repscope.data.imageset import ImageSet
from repscope.models.encoder import Encoder
from repscope.training import batch_views, memory, recording
from repscope.training.batches import Plan
from repscope.training.checkpoint import load_latest, save_checkpoint
from repscope.training.engine import train
from repscope.training.json_lines import read_rows
from repscope.training.learner import Learner
from repscope.training.recipe import Recipe
from repscope.training.run_folder import read_surroundings
from repscope.training.schedules import learning_rate
from repscope.training.snapshot import Stop
from training.tiny_runs import (
    RECIPE,
    REPEATED,
    STEPS,
    STEPS_PER_EPOCH,
    Crash,
    assert_same,
    crash_after,
    digests,
    recipe_with,
    rows_of,
    tiny_images,
)


def test_a_run_leaves_what_the_interface_promises(whole):
    names = {path.name for path in whole.iterdir()}
    assert names == {
        *("recipe.toml", "env.json", "metrics.jsonl", "timing.jsonl", "log.txt"),
        *("checkpoints", "encoder.safetensors", "README.md"),
    }
    rows = rows_of(whole)
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert [row["epoch"] for row in rows] == [
        i // STEPS_PER_EPOCH for i in range(STEPS)
    ]
    timing = read_rows(whole / "timing.jsonl")
    assert [row["step"] for row in timing] == list(range(1, STEPS + 1))
    assert all(row["images_per_second"] > 0 for row in timing)


def test_each_row_holds_the_loss_with_its_two_parts(whole):
    for row in rows_of(whole):
        parts = row["invariance"] + row["regularization"]
        assert row["total"] == pytest.approx(parts, abs=1e-6)
        assert row["gradient_norm"] > 0


def test_the_learning_rate_of_a_row_is_that_of_the_schedule(whole):
    for row in rows_of(whole):
        expected = learning_rate(
            row["step"] - 1,
            base=0.01,
            warmup_steps=STEPS_PER_EPOCH,
            total_steps=STEPS,
            final_fraction=1e-3,
        )
        assert row["learning_rate"] == expected


def test_the_surroundings_tell_what_was_trained_on(whole):
    found = read_surroundings(whole)
    assert found.n == 100
    assert found.fingerprint == tiny_images().fingerprint
    [session] = found.sessions
    assert (session.last_step, session.outcome) == (STEPS, "finished")


def test_the_log_says_which_images_an_epoch_leaves_out(whole):
    assert "each epoch leaves out 4 images" in (whole / "log.txt").read_text()


def test_the_recipe_in_the_folder_and_the_images_do_it_again(whole, tmp_path):
    train(Recipe.load(whole / "recipe.toml"), tiny_images(), tmp_path / "again")
    assert digests(tmp_path / "again") == digests(whole)


def test_another_seed_gives_another_encoder(whole, tmp_path):
    train(recipe_with("training.seed=1"), tiny_images(), tmp_path / "other")
    found, expected = digests(tmp_path / "other"), digests(whole)
    assert found["metrics.jsonl"] != expected["metrics.jsonl"]
    assert found["encoder.safetensors"] != expected["encoder.safetensors"]


def test_the_encoder_that_is_returned_is_the_one_that_is_saved(tmp_path):
    encoder = train(RECIPE, tiny_images(), tmp_path / "run")
    saved = Encoder.load(tmp_path / "run" / "encoder.safetensors")
    assert not encoder.module.training
    assert_same(dict(encoder.module.state_dict()), dict(saved.module.state_dict()))
    assert saved.provenance["recipe fingerprint"] == (
        Recipe.load(tmp_path / "run" / "recipe.toml").fingerprint
    )
    images = torch.rand(3, 1, 16, 16)
    assert encoder.forward_features(images)["h"].shape == (3, 16)


def test_without_a_folder_the_encoder_is_the_same_and_nothing_is_written(
    whole, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    encoder = train(RECIPE, tiny_images())
    saved = Encoder.load(whole / "encoder.safetensors")
    assert_same(dict(encoder.module.state_dict()), dict(saved.module.state_dict()))
    assert list(tmp_path.iterdir()) == []


def test_augmentation_is_drawn_anew_for_each_image_and_epoch(monkeypatch):
    drawn, original = [], batch_views.views

    def views(images, protocol, *, samples, seed, epoch, count):
        drawn.append((samples, seed, epoch))
        return original(images, protocol, samples=samples, seed=seed, epoch=epoch)

    monkeypatch.setattr(batch_views, "views", views)
    train(recipe_with("training.seed=4"), tiny_images())
    plan, keys = Plan(n=100, batch_size=32, epochs=3, seed=4), tiny_images().keys
    assert len(drawn) == STEPS
    for step, (samples, seed, epoch) in enumerate(drawn):
        assert (seed, epoch) == (4, step // STEPS_PER_EPOCH)
        assert np.array_equal(samples, keys[plan.rows_of(step)])


def test_training_makes_views_of_one_image_alike():
    losses = []
    words = ("encoder.width=8", "head.hidden=16", "head.out=16", "training.seed=1")
    recipe = recipe_with("training.epochs=12", *words)

    def observe(snapshot):
        losses.append(snapshot.losses["total"])

    train(recipe, tiny_images(), observers=[observe])
    assert np.mean(losses[-3:]) < np.mean(losses[:3]) - 0.2


def test_observers_see_every_step_and_change_nothing(whole, tmp_path):
    seen = []

    def observe(snapshot):
        seen.append((snapshot.step, snapshot.epoch, snapshot.finished))
        assert set(snapshot.losses) >= {"total", "invariance", "regularization"}
        with torch.inference_mode():
            snapshot.encoder.forward_features(torch.rand(2, 1, 16, 16))
        snapshot.encoder.module.eval()

    train(RECIPE, tiny_images(), tmp_path / "run", observers=[observe])
    assert seen == [(i, i // STEPS_PER_EPOCH, i == STEPS) for i in range(1, STEPS + 1)]
    assert digests(tmp_path / "run") == digests(whole)


def test_a_snapshot_cannot_be_changed():
    def observe(snapshot):
        snapshot.step = 0

    with pytest.raises(dataclasses.FrozenInstanceError):
        train(RECIPE, tiny_images(), observers=[observe])


def test_an_observer_can_end_the_run(tmp_path):
    def observe(snapshot):
        return Stop("enough") if snapshot.step == 5 else None

    asked_after = []
    observers = [observe, lambda snapshot: asked_after.append(snapshot.step)]
    encoder = train(RECIPE, tiny_images(), tmp_path / "run", observers=observers)
    assert asked_after == [1, 2, 3, 4, 5]
    assert encoder.provenance["outcome"] == "stopped: enough"
    assert load_latest(tmp_path / "run" / "checkpoints").step == 5
    assert (tmp_path / "run" / "encoder.safetensors").is_file()


def test_a_run_that_was_ended_can_go_on(whole, tmp_path):
    run = tmp_path / "run"
    train(RECIPE, tiny_images(), run, observers=[lambda snapshot: Stop("enough")])
    train(None, tiny_images(), run, resume=True)
    assert digests(run) == digests(whole)


class Counted:
    """A progress display that remembers what it was told."""

    def __init__(self):
        self.calls = []

    def start(self, total_steps, first_step):
        self.calls.append(("start", total_steps, first_step))

    def advance(self, step, losses):
        self.calls.append(("advance", step, losses["total"]))

    def finish(self):
        self.calls.append(("finish",))


def test_progress_is_told_of_each_step(whole):
    progress = Counted()
    train(RECIPE, tiny_images(), progress=progress)
    losses = [row["total"] for row in rows_of(whole)]
    steps = [("advance", i + 1, loss) for i, loss in enumerate(losses)]
    assert progress.calls == [("start", STEPS, 0), *steps, ("finish",)]


def test_progress_is_told_of_an_end_by_an_error(tmp_path):
    progress = Counted()
    with pytest.raises(Crash):
        train(RECIPE, tiny_images(), observers=[crash_after(1)], progress=progress)
    assert progress.calls[-1] == ("finish",)


class FileLike(Images):
    """Pictures that are read one by one, some of which cannot be."""

    def __init__(self, array, bad=()):
        self.name, self.shape = "files", array.shape[1:]
        self._array, self._bad = array, set(bad)

    @property
    def n(self):
        return len(self._array)

    def read(self, row):
        if row in self._bad:
            raise InputError(f"picture {row} is damaged")
        return self._array[row]

    def fingerprint(self, rows):
        return "files"


def enough(snapshot):
    return Stop("enough")


def unread_images(bad=()):
    known = tiny_images()
    array = known.images.array[known.rows]
    return ImageSet.of(FileLike(array, bad), ids=known.ids, name=known.name)


@pytest.mark.parametrize("workers", [0, 2])
def test_pictures_read_as_they_come_give_the_same_bits(
    whole, tmp_path, monkeypatch, workers
):
    monkeypatch.setattr(ImageSet, "in_memory", lambda self, preprocess: self)
    train(RECIPE, unread_images(), tmp_path / "run", workers=workers)
    names = ("metrics.jsonl",)
    assert digests(tmp_path / "run", names) == digests(whole, names)


@pytest.mark.parametrize("in_memory", [True, False])
def test_an_unreadable_picture_is_replaced_and_listed_once(
    tmp_path, monkeypatch, in_memory
):
    if not in_memory:
        monkeypatch.setattr(ImageSet, "in_memory", lambda self, preprocess: self)
    train(RECIPE, unread_images(bad=[7]), tmp_path / "run")
    [row] = read_rows(tmp_path / "run" / "failures.jsonl")
    assert (row["row"], row["reason"]) == (7, "picture 7 is damaged")
    assert row["replaced_by"] not in (7, None)


def test_an_unreadable_picture_is_listed_once_by_a_run_that_goes_on(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(ImageSet, "in_memory", lambda self, preprocess: self)
    whole, run = tmp_path / "whole", tmp_path / "run"
    train(RECIPE, unread_images(bad=[7]), whole)
    with pytest.raises(Crash):
        train(RECIPE, unread_images(bad=[7]), run, observers=[crash_after(7)])
    train(None, unread_images(bad=[7]), run, resume=True, workers=2)
    names = (*REPEATED, "failures.jsonl")
    assert digests(run, names) == digests(whole, names)


def test_unreadable_pictures_are_counted_in_the_log(tmp_path, caplog):
    train(RECIPE, unread_images(bad=[7]), tmp_path / "run", observers=[enough])
    said = "1 of 100 images cannot be read and are replaced by others (failures.jsonl)"
    assert said in caplog.text
    assert said in (tmp_path / "run" / "log.txt").read_text()


def test_names_that_are_no_unicode_do_not_stop_a_run(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    known = tiny_images()
    array = known.images.array[known.rows]
    ids = [f"{name}{i}.png" for i in range(known.n)]
    images = ImageSet.of(FileLike(array, [7]), ids=ids, name=name)
    run = tmp_path / "run"
    train(RECIPE, images, run, observers=[enough])
    encoder = train(None, images, run, resume=True)
    assert name in encoder.provenance["images"]
    assert read_rows(run / "failures.jsonl")[0]["id"] == ids[7]
    assert Encoder.load(run / "encoder.safetensors").facts == encoder.facts


@pytest.mark.parametrize("in_memory", [True, False])
def test_too_many_unreadable_pictures_stop_the_run(tmp_path, monkeypatch, in_memory):
    if not in_memory:
        monkeypatch.setattr(ImageSet, "in_memory", lambda self, preprocess: self)
    with pytest.raises(InputError, match=r"picture \d+ is damaged"):
        train(RECIPE, unread_images(bad=range(9)), tmp_path / "run")


def test_fewer_images_than_a_batch_name_the_batch_that_fits(tmp_path):
    with pytest.raises(InputError, match=r"20 images .*\n.*\n.*batch_size=20"):
        train(RECIPE, tiny_images(20), tmp_path / "run")
    assert not (tmp_path / "run" / "recipe.toml").exists()


def test_bits_are_seen_by_the_encoder_and_survive_augmentation(tmp_path):
    recipe = recipe_with("data.bits=3", "training.epochs=1")
    encoder = train(recipe, tiny_images(), tmp_path / "run")
    assert (encoder.planes, encoder.channels) == (3, 4)
    assert Encoder.load(tmp_path / "run" / "encoder.safetensors").planes == 3


def test_a_full_disk_stops_the_run_and_names_the_checkpoint_that_is_intact(
    whole, tmp_path, monkeypatch
):
    def full(folder, state, step, *, keep):
        if step == 6:
            monkeypatch.setattr(os, "fsync", refuse)
        return save_checkpoint(folder, state, step, keep=keep)

    def refuse(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(recording, "save_checkpoint", full)
    message = "step_00000006.pt: no space left .*stopped; step_00000004.pt is intact"
    with pytest.raises(ResourceError, match=message):
        train(RECIPE, tiny_images(), tmp_path / "run")
    monkeypatch.undo()
    assert load_latest(tmp_path / "run" / "checkpoints").step == 4
    train(None, tiny_images(), tmp_path / "run", resume=True)
    assert digests(tmp_path / "run") == digests(whole)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ..."),
        MemoryError(),
    ],
)
def test_too_little_memory_names_a_smaller_batch(tmp_path, monkeypatch, error):
    def fail(*_arguments, **_options):
        raise error

    monkeypatch.setattr(Learner, "take_step", fail)
    with pytest.raises(ResourceError, match=r"32 images needs more.*\n.*batch_size=16"):
        train(RECIPE, tiny_images(), tmp_path)


def test_other_errors_of_torch_are_passed_on(monkeypatch):
    def fail(*_arguments, **_options):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(Learner, "take_step", fail)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        train(RECIPE, tiny_images())


def test_images_may_be_whatever_images_are_opened_from(whole):
    recipe = recipe_with("data.split=test", "data.limit=64")
    encoder = train(recipe, "digits", observers=[enough])
    assert encoder.provenance["images"].endswith(", 60 of them")
    known = tiny_images()
    encoder = train(RECIPE, known.images.array, observers=[enough])
    assert encoder.provenance["images"] == "images, 100 of them"
    with pytest.raises(UsageError, match="'diggits' is no file.*\n.*mean digits"):
        train(RECIPE, "diggits")


def test_fewer_than_no_workers_are_refused(tmp_path):
    with pytest.raises(UsageError, match="workers: -1"):
        train(RECIPE, tiny_images(), tmp_path / "run", workers=-1)
    assert list(tmp_path.iterdir()) == []


def test_too_large_images_are_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda device: 2**20)
    message = r"32 images of 512 x 512.*\n.*\n.*smaller images"
    with pytest.raises(ResourceError, match=message):
        train(recipe_with("data.size=512"), tiny_images(), tmp_path / "run")
    assert not (tmp_path / "run" / "recipe.toml").exists()


def test_an_unknown_device_is_refused(monkeypatch):
    with pytest.raises(UsageError, match=r"device 'gpu'.*\n.*cuda"):
        train(RECIPE, tiny_images(), device="gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ResourceError, match="torch finds no GPU"):
        train(RECIPE, tiny_images(), device="cuda")


def test_little_space_is_told_of_at_the_start(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(recording._environment, "free_disk_bytes", lambda folder: 10)
    train(recipe_with("training.epochs=1"), tiny_images(), tmp_path / "run")
    assert "0.0 MB are free, checkpoints will need" in caplog.text
