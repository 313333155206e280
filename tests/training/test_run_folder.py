import json
import logging
import os
import socket
import subprocess
import sys

import pytest

from repscope._checking import EXIT_USAGE, InputError, ResourceError, UsageError
from repscope.training import run_folder
from repscope.training.checkpoint import save_checkpoint
from repscope.training.json_lines import JsonLines, read_rows
from repscope.training.recipe import Recipe, override
from repscope.training.run_folder import (
    METRICS_NAME,
    RunFolder,
    Session,
    Surroundings,
    read_surroundings,
    recipe_of_run,
)


def opened(path, *, resume=False, overwrite=False):
    return RunFolder(path, resume=resume, overwrite=overwrite)


def names_in(folder):
    return sorted(path.name for path in folder.rglob("*"))


@pytest.fixture
def run(tmp_path):
    """A folder with a run of three steps in it."""
    folder = tmp_path / "run"
    with opened(folder) as one:
        one.write_recipe(override(Recipe(), ["training.epochs=3"]))
        one.begin(Surroundings("digits", 9, "f00d"), Session.begun(0, "cpu", 1))
        for step in (1, 2, 3):
            one.append(METRICS_NAME, {"step": step, "total": 1 / step})
        save_checkpoint(one.checkpoints, {"step": 2}, 2)
        one.write_batch(3, "{}\n")
        one.end(3, 1.5, "finished")
    return folder


def test_the_layout_is_that_of_the_interface(run):
    expected = ["checkpoints", "env.json", "failures", "metrics.jsonl", "recipe.toml"]
    assert sorted(path.name for path in run.iterdir()) == expected
    assert Recipe.load(run / "recipe.toml").training.epochs == 3
    rows = [json.loads(line) for line in (run / METRICS_NAME).read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3]


def test_the_surroundings_say_what_was_used_and_how_it_ended(run):
    found = read_surroundings(run)
    assert (found.images, found.n, found.fingerprint) == ("digits", 9, "f00d")
    [session] = found.sessions
    assert (session.last_step, session.outcome) == (3, "finished")
    assert "torch" in session.versions and "cores" in session.machine
    assert socket.gethostname() not in (run / "env.json").read_text()


def test_a_second_session_is_added_to_the_first(run):
    with opened(run, resume=True) as one:
        one.begin(one.surroundings, Session.begun(2, "cpu", 1))
    assert [one.first_step for one in read_surroundings(run).sessions] == [0, 2]


def test_a_folder_with_a_run_is_refused_with_both_ways_out(run):
    with pytest.raises(
        UsageError, match=r"not empty\n.*--resume.*--overwrite"
    ) as caught:
        opened(run)
    assert caught.value.exit_code == EXIT_USAGE
    assert (run / METRICS_NAME).is_file()


def test_a_folder_with_other_things_offers_no_resume(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UsageError, match="not empty") as caught:
        opened(tmp_path)
    assert "--resume" not in str(caught.value)


def test_overwriting_removes_the_run_and_nothing_else(run):
    (run / "notes.txt").write_text("mine")
    with opened(run, overwrite=True) as one:
        assert (run / METRICS_NAME).is_file()  # until the new run is known to be sound
        one.clear()
        assert names_in(run) == [".lock", "notes.txt"]


def test_overwriting_somebody_elses_folder_is_refused(tmp_path):
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(UsageError, match=r"no run of repscope\n.*README\.md"):
        opened(tmp_path, overwrite=True)
    assert names_in(tmp_path) == ["README.md"]


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "out").write_text("x")
    with pytest.raises(UsageError, match="is a file"):
        opened(tmp_path / "out", overwrite=True)


def test_there_must_be_something_to_resume(tmp_path):
    with pytest.raises(InputError, match="nothing to resume\n.*no such folder"):
        opened(tmp_path / "nowhere", resume=True)
    with pytest.raises(InputError, match="nothing to resume\n.*no recipe.toml"):
        opened(tmp_path, resume=True)
    assert names_in(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_an_error_of_the_machine(tmp_path, monkeypatch):
    def refuse(*_arguments, **_options):
        raise PermissionError(13, "no")

    monkeypatch.setattr(run_folder.Path, "mkdir", refuse)
    with pytest.raises(ResourceError, match="no permission"):
        opened(tmp_path / "new")


def test_a_folder_in_use_is_refused_naming_its_holder(tmp_path):
    with opened(tmp_path) as first:
        first.write_recipe(Recipe())
        holder = f"in use by pid {os.getpid()} on {socket.gethostname()}, since 2"
        with pytest.raises(UsageError, match=holder):
            opened(tmp_path, resume=True)
        assert (tmp_path / ".lock").is_file()
    with opened(tmp_path, resume=True):
        pass
    assert names_in(tmp_path) == ["recipe.toml"]


def test_the_recipe_of_a_run_is_that_of_its_folder(run):
    assert recipe_of_run(run) == Recipe.load(run / "recipe.toml")


def test_a_recipe_of_no_run_says_that_there_is_nothing_to_resume(tmp_path):
    with pytest.raises(InputError, match="nothing to resume\n.*no such folder"):
        recipe_of_run(tmp_path / "nowhere")
    with pytest.raises(InputError, match="nothing to resume\n.*no recipe.toml"):
        recipe_of_run(str(tmp_path))
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    "look", [recipe_of_run, lambda path: opened(path, resume=True)]
)
def test_a_run_that_another_process_begins_is_in_use(tmp_path, look):
    with opened(tmp_path):
        with pytest.raises(UsageError, match=f"in use by pid {os.getpid()} on"):
            look(tmp_path)
        # looking has neither taken nor removed the lock
        with pytest.raises(UsageError, match="in use by pid"):
            opened(tmp_path)


def test_a_lock_that_was_left_behind_does_not_hide_the_recipe(run):
    (run / ".lock").write_text('{"pid": 1, "host": "h", "started": "2020"}')
    assert recipe_of_run(run).training.epochs == 3
    assert (run / ".lock").exists()


HOLD = """
import sys
from pathlib import Path
from repscope.files.folder_lock import FolderLock
lock = FolderLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_the_lock_of_a_killed_process_is_taken_over_with_a_notice(run, caplog):
    command = [sys.executable, "-c", HOLD, str(run)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match=f"in use by pid {holder.pid} on"):
            opened(run, resume=True)
        holder.kill()
        holder.wait()
        with opened(run, resume=True):
            assert f"was held by pid {holder.pid} on" in caplog.text
            assert str(os.getpid()) in (run / ".lock").read_text()
    assert f"pid {holder.pid}" in (run / "log.txt").read_text()


def test_a_lock_that_its_holder_removes_meanwhile_is_taken_anew(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    original, calls = fcntl.flock, []

    def flock(descriptor, operation):
        calls.append(descriptor)
        if len(calls) == 1:  # between our opening of the file and our locking it
            (tmp_path / ".lock").unlink()
        original(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with opened(tmp_path):
        assert len(calls) == 2
        with pytest.raises(UsageError, match="in use by pid"):
            opened(tmp_path)


def test_where_the_system_cannot_lock_the_lock_file_counts(run, monkeypatch):
    monkeypatch.setattr("repscope.files.folder_lock.fcntl", None)
    with (
        opened(run, resume=True),
        pytest.raises(UsageError, match=r"in use by pid .*\n.*remove .*\.lock"),
    ):
        opened(run, resume=True)
    with opened(run, resume=True):
        pass


def test_the_rows_are_cut_back_to_a_checkpoint(run):
    with opened(run, resume=True) as one:
        one.keep_until(2)
        one.append(METRICS_NAME, {"step": 3, "total": 7.0})
    rows = read_rows(run / METRICS_NAME)
    assert [(row["step"], row["total"]) for row in rows] == [
        (1, 1.0),
        (2, 0.5),
        (3, 7.0),
    ]


def test_what_killed_processes_left_is_removed(run):
    strays = [
        run / ".metrics.jsonl.0123abcd.tmp",
        run / "checkpoints/.x.pt.0123abcd.tmp",
    ]
    for path in strays:
        path.write_text("x")
    with opened(run, resume=True):
        assert not any(path.exists() for path in strays)


def test_an_error_is_explained_in_the_log_with_its_traceback(tmp_path):
    def fail():
        with opened(tmp_path):
            raise InputError("no good")

    with pytest.raises(InputError):
        fail()
    log = (tmp_path / "log.txt").read_text()
    assert "InputError: no good" in log
    assert "Traceback" in log and 'raise InputError("no good")' in log
    assert not (tmp_path / ".lock").exists()


def test_what_is_said_while_a_run_is_open_stands_in_its_log(tmp_path):
    logger = logging.getLogger("repscope")
    logger.setLevel(logging.NOTSET)
    before = (list(logger.handlers), logger.level)
    with opened(tmp_path / "run"):
        logger.info("a line")
    logger.info("another")
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "info: a line\n" in log and "another" not in log
    assert (list(logger.handlers), logger.level) == before


def test_a_refused_folder_leaves_the_log_as_it_was(tmp_path):
    logger = logging.getLogger("repscope")
    before = (list(logger.handlers), logger.level)
    with opened(tmp_path), pytest.raises(UsageError):
        opened(tmp_path)
    assert (list(logger.handlers), logger.level) == before


@pytest.mark.parametrize("content", ["", "{", '{"images": 3}'])
def test_damaged_surroundings_are_named(run, content):
    (run / "env.json").write_text(content)
    with pytest.raises(InputError, match=r"env.json: missing or damaged"):
        read_surroundings(run)


def test_rows_hold_no_numbers_that_json_has_not(tmp_path):
    lines = JsonLines(tmp_path / "rows.jsonl")
    with pytest.raises(ValueError, match="not JSON compliant"):
        lines.append({"step": 1, "total": float("nan")})


def test_a_row_holds_names_that_are_no_unicode(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    lines = JsonLines(tmp_path / "rows.jsonl")
    lines.append({"id": name, "reason": "Größe"})
    lines.close()
    assert read_rows(tmp_path / "rows.jsonl") == [{"id": name, "reason": "Größe"}]
    lines.keep_until(0)
    assert read_rows(tmp_path / "rows.jsonl")[0]["id"] == name


def test_a_row_that_was_cut_short_and_rows_done_twice_are_dropped(tmp_path):
    path = tmp_path / "rows.jsonl"
    whole = ['{"note": 1}', '{"step": 1, "x": 1}', '{"step": 1, "x": 2}', '{"note": 2}']
    path.write_text("\n".join([*whole, '{"step": 2, "x": 1}', '{"st']))
    assert len(read_rows(path)) == 5
    JsonLines(path).keep_until(1)
    rows = read_rows(path)
    assert rows == [{"note": 1}, {"step": 1, "x": 1}, {"note": 2}]


def test_a_whole_row_without_its_end_of_line_would_swallow_the_next(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}')
    lines = JsonLines(path)
    lines.keep_until(2)
    lines.append({"step": 2})
    lines.close()
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'


def test_a_full_disk_is_told_when_a_row_is_written(tmp_path, monkeypatch):
    lines = JsonLines(tmp_path / "gone" / "rows.jsonl")
    with pytest.raises(ResourceError, match="cannot write .*rows.jsonl"):
        lines.append({"step": 1})
