import errno
import os
from pathlib import Path

import pytest
import torch

from repscope._checking import EXIT_DATA, EXIT_ENVIRONMENT, InputError, ResourceError
from repscope.training.checkpoint import (
    MANIFEST_NAME,
    checkpoint_name,
    load_latest,
    read_manifest,
    remove_strays,
    save_checkpoint,
)
from training.tiny_runs import assert_same


def state_of(step):
    generator = torch.Generator().manual_seed(step)
    return {
        "model": {"weight": torch.randn(50, 30, generator=generator)},
        "optimiser": {"state": {0: {"step": torch.tensor(float(step))}}},
        "layout": torch.randn(2, 3, 4, 4, generator=generator).to(
            memory_format=torch.channels_last
        ),
        "betas": (0.9, 0.999),
        "step": step,
        "rate": 0.1 + step,
        "flag": True,
        "name": "ü",
        "nothing": None,
        "list": [1, 2.5, torch.arange(3)],
    }


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def folder(tmp_path):
    """Two checkpoints, of steps 100 and 200."""
    for step in (100, 200):
        save_checkpoint(tmp_path / "c", state_of(step), step)
    return tmp_path / "c"


def test_a_state_tree_comes_back_to_the_bit(folder):
    found = load_latest(folder)
    assert found.step == 200
    assert_same(found.state, state_of(200))
    layout = found.state["layout"]
    assert layout.is_contiguous(memory_format=torch.channels_last)


def test_the_last_two_are_kept_and_listed(folder):
    path = save_checkpoint(folder, state_of(300), 300)
    assert path == folder / "step_00000300.pt"
    assert names_in(folder) == [MANIFEST_NAME, "step_00000200.pt", "step_00000300.pt"]
    assert [one.step for one in read_manifest(folder).checkpoints] == [200, 300]


@pytest.mark.parametrize("keep", [1, 3])
def test_as_many_are_kept_as_asked_for(tmp_path, keep):
    for step in range(5):
        save_checkpoint(tmp_path, state_of(step), step, keep=keep)
    assert len(names_in(tmp_path)) == keep + 1
    assert load_latest(tmp_path).step == 4


def test_going_back_removes_the_checkpoints_of_later_steps(folder):
    save_checkpoint(folder, state_of(150), 150)
    assert load_latest(folder).step == 150
    assert names_in(folder) == [MANIFEST_NAME, "step_00000100.pt", "step_00000150.pt"]


def test_the_order_is_that_of_the_steps_whatever_the_clock_says(folder):
    os.utime(folder / checkpoint_name(100), (4e9, 4e9))
    os.utime(folder / checkpoint_name(200), (1, 1))
    assert load_latest(folder).step == 200


def positions(path):
    size = path.stat().st_size
    return [round(size * part / 9) for part in range(10)]


@pytest.mark.parametrize("tenth", range(10))
def test_a_flipped_byte_falls_back_to_the_checkpoint_before(folder, caplog, tenth):
    path = folder / checkpoint_name(200)
    content = bytearray(path.read_bytes())
    content[min(positions(path)[tenth], len(content) - 1)] ^= 0x10
    path.write_bytes(content)
    found = load_latest(folder)
    assert found.step == 100
    assert_same(found.state, state_of(100))
    assert "step_00000200.pt: damaged" in caplog.text


@pytest.mark.parametrize("tenth", range(9))
def test_a_truncated_file_falls_back_to_the_checkpoint_before(folder, caplog, tenth):
    path = folder / checkpoint_name(200)
    path.write_bytes(path.read_bytes()[: positions(path)[tenth]])
    assert load_latest(folder).step == 100
    assert "taking the checkpoint before it" in caplog.text


def test_a_missing_file_falls_back_to_the_checkpoint_before(folder):
    (folder / checkpoint_name(200)).unlink()
    assert load_latest(folder).step == 100


def test_without_a_whole_checkpoint_the_error_lists_what_is_wrong(folder):
    for step in (100, 200):
        (folder / checkpoint_name(step)).write_bytes(b"PK")
    found = r"found: .*step_00000200.*damaged.*; .*step_00000100.*damaged"
    with pytest.raises(InputError, match=found) as caught:
        load_latest(folder)
    assert caught.value.exit_code == EXIT_DATA
    assert "--overwrite" in str(caught.value)


def test_without_any_checkpoint_the_error_says_so(tmp_path):
    with pytest.raises(InputError, match="none was written"):
        load_latest(tmp_path / "nowhere")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b'{"checkpoints": 3}'])
def test_a_damaged_manifest_does_not_cost_the_checkpoints(folder, caplog, content):
    (folder / MANIFEST_NAME).write_bytes(content)
    assert load_latest(folder).step == 200
    assert "manifest.json" in caplog.text
    damaged = bytearray((folder / checkpoint_name(200)).read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (folder / checkpoint_name(200)).write_bytes(damaged)
    assert load_latest(folder).step == 100


def test_a_file_that_the_manifest_does_not_know_is_not_loaded(folder):
    (folder / checkpoint_name(300)).write_bytes(b"whatever")
    assert load_latest(folder).step == 200


def test_a_pickle_in_the_place_of_a_checkpoint_is_not_run(folder, tmp_path):
    canary = tmp_path / "canary"

    class Attack:
        def __reduce__(self):
            return Path.touch, (canary,)

    (folder / MANIFEST_NAME).unlink()
    torch.save({"model": Attack()}, folder / checkpoint_name(300))
    assert load_latest(folder).step == 200
    assert not canary.exists()


def _raising(number):
    def fail(*_arguments, **_options):
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EACCES, errno.EDQUOT, errno.EIO]
)
def test_a_failed_write_is_named_and_the_previous_one_is_intact(
    folder, monkeypatch, call, number
):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with monkeypatch.context() as patched:
        patched.setattr(os, call, _raising(number))
        with pytest.raises(ResourceError, match="step_00000300.pt") as caught:
            save_checkpoint(folder, state_of(300), 300)
    assert caught.value.exit_code == EXIT_ENVIRONMENT
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert load_latest(folder).step == 200


def test_a_disk_that_gives_back_other_bytes_is_noticed(folder, monkeypatch):
    module = "repscope.training.checkpoint._checksum"
    monkeypatch.setattr(module, lambda path: "0" * 64)
    with pytest.raises(ResourceError, match="reads back otherwise"):
        save_checkpoint(folder, state_of(300), 300)
    monkeypatch.undo()
    assert (folder / checkpoint_name(200)).is_file()


def test_what_killed_writers_left_is_removed_and_nothing_else(folder):
    strays = [".step_00000300.pt.0a1b2c3d.tmp", ".manifest.json.01234567.tmp"]
    others = ["notes.tmp", ".hidden", ".step_00000300.pt.tmp"]
    for name in strays + others:
        (folder / name).write_bytes(b"x")
    remove_strays(folder)
    assert set(names_in(folder)) >= set(others)
    assert not set(names_in(folder)) & set(strays)
    remove_strays(folder / "nowhere")


def test_a_state_that_could_not_be_loaded_again_is_not_written(tmp_path):
    with pytest.raises(AssertionError):
        save_checkpoint(tmp_path, {"path": tmp_path}, 1)
    assert names_in(tmp_path) == []
