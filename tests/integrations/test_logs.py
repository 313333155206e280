"""Logs of other tools, played by stand-ins that note each call: nothing is sent."""

import json
import sys
from types import SimpleNamespace

import pytest
from torch import nn

from repscope._checking import MissingExtraError, UsageError
from repscope._images import Preprocess
from repscope.diagnosis.look import Look
from repscope.integrations.tensorboard import TensorBoardLog
from repscope.integrations.wandb import ID_NAME, WandbLog
from repscope.models.encoder import Encoder
from repscope.records import Measurement
from repscope.training.snapshot import Snapshot

ENCODER = Encoder.of(nn.Flatten(), Preprocess(8))
SCALARS = {"watch/h/rankme": 7.0, "watch/h/ncc_accuracy/fine": 0.5}


def snapshot(step, folder, **losses):
    return Snapshot(step, 0, losses or {"total": 2.5}, ENCODER, False, folder)


def look(step):
    taken = (
        Measurement(name="rankme", value=7.0, n=9),
        Measurement(name="alpha", value=None, reason="no fit", n=9),
        Measurement(name="ncc_accuracy", value=0.5, level="fine", n=9),
    )
    return Look(step, 0, {"h": taken}, "h")


class Writer:
    """Stands for torch's SummaryWriter."""

    made: list["Writer"] = []

    def __init__(self, log_dir, purge_step):
        self.log_dir, self.purge_step = log_dir, purge_step
        self.rows, self.is_closed = [], False
        Writer.made.append(self)

    def add_scalar(self, name, value, step):
        self.rows.append((name, value, step))

    def close(self):
        self.is_closed = True


@pytest.fixture
def tensorboard(monkeypatch):
    monkeypatch.setattr(Writer, "made", [])
    module = SimpleNamespace(SummaryWriter=Writer)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    return Writer


class Wandb:
    """Stands for the package wandb; runs that were begun have rows up to a step."""

    def __init__(self, steps_there=0):
        self.steps_there = steps_there
        self.given, self.rows, self.ended = [], [], []

    def init(self, **given):
        self.given.append(given)
        step = self.steps_there if given["resume"] else 0
        run_id = given["id"] or f"id{len(self.given)}"
        return SimpleNamespace(
            id=run_id,
            step=step,
            log=lambda numbers, step: self.rows.append((step, numbers)),
            finish=lambda exit_code: self.ended.append(exit_code),
        )


@pytest.fixture
def wandb(monkeypatch):
    package = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", package)
    return package


def test_tensorboard_gets_losses_and_looks_by_path(tensorboard, tmp_path):
    with TensorBoardLog() as log:
        log(snapshot(1, tmp_path, total=2.5, positive=None))
        log.look(look(1))
    (writer,) = tensorboard.made
    assert writer.log_dir == str(tmp_path / "tensorboard")
    expected = [("training/total", 2.5, 1)]
    assert writer.rows == expected + [(k, v, 1) for k, v in SCALARS.items()]
    assert writer.is_closed


def test_tensorboard_hides_the_steps_that_are_done_again(tensorboard, tmp_path):
    for step in (1, 5):
        with TensorBoardLog() as log:
            log(snapshot(step, tmp_path))
    assert [one.purge_step for one in tensorboard.made] == [1, 5]


def test_a_look_that_comes_before_its_step_waits_for_it(tensorboard, tmp_path):
    with TensorBoardLog() as log:
        log.look(look(4))
        log(snapshot(4, tmp_path))
    assert {step for _, _, step in tensorboard.made[0].rows} == {4}
    assert len(tensorboard.made[0].rows) == 3


def test_a_log_that_saw_no_step_writes_nothing(tensorboard, tmp_path):
    with TensorBoardLog(tmp_path):
        pass
    assert tensorboard.made == []


def test_without_a_folder_a_log_asks_for_one(tensorboard):
    with (
        TensorBoardLog() as log,
        pytest.raises(UsageError, match=r"no folder to write into\n.*folder="),
    ):
        log(snapshot(1, None))


def test_wandb_gets_the_recipe_and_each_step_once(wandb, tmp_path):
    (tmp_path / "recipe.toml").write_text("[training]\nseed = 3\n")
    with WandbLog(project="eyes") as log:
        log(snapshot(1, tmp_path))
        log.look(look(1))
    (given,) = wandb.given
    assert given["config"] == {"training": {"seed": 3}}
    assert (given["project"], given["name"]) == ("eyes", tmp_path.name)
    assert (given["id"], given["resume"]) == (None, None)
    assert wandb.rows == [(1, {"training/total": 2.5}), (1, SCALARS)]
    assert wandb.ended == [0]
    assert json.loads((tmp_path / ID_NAME).read_text()) == {"id": "id1"}


def test_wandb_goes_on_with_its_run_and_sends_no_step_twice(wandb, tmp_path):
    with pytest.raises(KeyboardInterrupt), WandbLog() as log:
        for step in (1, 2, 3):
            log(snapshot(step, tmp_path))
        raise KeyboardInterrupt
    wandb.steps_there = 4  # wandb counts from 0: rows 0 to 3 are there
    with WandbLog() as log:
        for step in (2, 3, 4):  # the checkpoint was that of step 1
            log(snapshot(step, tmp_path))
    assert [(one["id"], one["resume"]) for one in wandb.given] == [
        (None, None),
        ("id1", "must"),
    ]
    assert [step for step, _ in wandb.rows] == [1, 2, 3, 4]
    assert wandb.ended == [1, 0]


def test_a_new_run_in_the_folder_is_a_new_run_there(wandb, tmp_path):
    for _ in range(2):
        with WandbLog() as log:
            log(snapshot(1, tmp_path))
    assert json.loads((tmp_path / ID_NAME).read_text()) == {"id": "id2"}


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"id'])
def test_a_damaged_id_begins_a_new_run(wandb, tmp_path, content):
    (tmp_path / ID_NAME).write_text(content)
    with WandbLog() as log:
        log(snapshot(9, tmp_path))
    assert wandb.given[0]["id"] is None


@pytest.mark.parametrize(
    ("log", "module"),
    [(TensorBoardLog, "torch.utils.tensorboard"), (WandbLog, "wandb")],
)
def test_a_package_that_is_missing_is_named_with_its_extra(log, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r'pip install "repscope\[track\]"'):
        log()


def test_event_files_hold_what_was_logged(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for steps in ((1, 2, 3), (3, 4)):
        with TensorBoardLog(tmp_path) as log:
            for step in steps:
                log(snapshot(step, None, total=step / 2))
    found = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    rows = [(one.step, one.value) for one in found.Scalars("training/total")]
    assert rows == [(1, 0.5), (2, 1.0), (3, 1.5), (4, 2.0)]
