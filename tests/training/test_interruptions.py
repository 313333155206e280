import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from repscope._checking import EXIT_INTERRUPTED, EXIT_TERMINATED
from repscope.training import engine
from repscope.training.checkpoint import load_latest, read_manifest
from repscope.training.engine import train
from repscope.training.run_folder import read_surroundings
from training.many_methods import METHODS, objective_of
from training.tiny_runs import (
    RECIPE,
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


def signal_at(step, *numbers):
    def observe(snapshot):
        if snapshot.step == step:
            for number in numbers:
                signal.raise_signal(number)

    return observe


class Ended(BaseException):
    """What a handler of the command line raises."""


@pytest.fixture
def ended_by_sigterm():
    """A handler that raises, as that of the command line does."""

    def end(number, frame):
        raise Ended

    before = signal.signal(signal.SIGTERM, end)
    yield end
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(autouse=True)
def interrupted_by_sigint():
    """Python's own handler; tests that run in the background have none."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def handlers():
    return [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]


def all_handlers():
    return [*handlers(), signal.getsignal(signal.SIGUSR1)]


@pytest.mark.parametrize(
    ("number", "raised"),
    [
        (signal.SIGINT, KeyboardInterrupt),
        (signal.SIGTERM, Ended),
        (signal.SIGUSR1, Ended),
    ],
)
def test_a_signal_lets_the_step_finish_and_saves_it(
    whole, tmp_path, ended_by_sigterm, number, raised
):
    run, before = tmp_path / "run", handlers()
    with pytest.raises(raised):
        train(RECIPE, tiny_images(), run, observers=[signal_at(5, number)])
    assert handlers() == before
    assert load_latest(run / "checkpoints").step == rows_of(run)[-1]["step"] == 5
    name = signal.Signals(number).name
    assert read_surroundings(run).sessions[-1].outcome == f"interrupted by {name}"
    assert not (run / ".lock").exists()
    assert not (run / "encoder.safetensors").exists()
    train(None, tiny_images(), run, resume=True)
    assert digests(run) == digests(whole)


def test_a_second_signal_acts_at_once(tmp_path, ended_by_sigterm):
    twice = signal_at(5, signal.SIGTERM, signal.SIGTERM)
    with pytest.raises(Ended):
        train(RECIPE, tiny_images(), tmp_path / "run", observers=[twice])
    assert load_latest(tmp_path / "run" / "checkpoints").step == 4


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("place", ["opened", "begun", "start"])
def test_a_signal_before_the_first_step_acts_at_once(
    whole, tmp_path, monkeypatch, ended_by_sigterm, place, number
):
    run, before = tmp_path / "run", all_handlers()
    original = getattr(engine, place)

    def told_to_end(*arguments, **options):
        if place == "opened":
            with original(*arguments, **options):
                signal.raise_signal(number)
        signal.raise_signal(number)

    with monkeypatch.context() as patched:
        patched.setattr(engine, place, told_to_end)
        with pytest.raises(Ended):
            train(RECIPE, tiny_images(), run)
    assert all_handlers() == before
    assert not (run / ".lock").exists()
    train(RECIPE, tiny_images(), run)
    assert digests(run) == digests(whole)


def test_a_signal_during_the_last_step_still_gives_the_encoder(whole, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(RECIPE, tiny_images(), run, observers=[signal_at(STEPS, signal.SIGINT)])
    assert digests(run) == digests(whole)


def test_a_signal_that_is_ignored_stays_so(whole, tmp_path):
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        observers = [signal_at(5, signal.SIGTERM)]
        train(RECIPE, tiny_images(), tmp_path / "run", observers=observers)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
    assert digests(tmp_path / "run") == digests(whole)


def test_in_another_thread_signals_are_left_alone(whole, tmp_path):
    before, done = handlers(), []

    def work():
        train(RECIPE, tiny_images(), tmp_path / "run")
        done.append(handlers())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [before]
    assert digests(tmp_path / "run") == digests(whole)


def test_handlers_are_put_back_after_an_error(tmp_path):
    before = handlers()
    with pytest.raises(Crash):
        train(RECIPE, tiny_images(), tmp_path, observers=[crash_after(2)])
    assert handlers() == before


# What follows ends real processes, from outside, at moments nobody chose.


class Child:
    """A process that trains through the command line's own handlers of signals.

    Args:
        run: its folder.
        words: see child_run.py.
    """

    def __init__(self, run, *words):
        script = Path(__file__).with_name("child_run.py")
        threads = str(torch.get_num_threads())
        self._process = subprocess.Popen(
            [sys.executable, str(script), str(run), threads, *words],
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait_for(self, line):
        """Return when a line begins with these words; fail where none does."""
        for said in self._process.stdout:
            if said.split()[: len(line.split())] == line.split():
                return
        raise AssertionError(f"it ended before it said {line!r}: {self.end()}")

    def send(self, number):
        self._process.send_signal(number)

    def end(self):
        """Return the exit code."""
        self._process.stdout.close()
        return self._process.wait()


def saved_and_logged(run):
    saved = read_manifest(run / "checkpoints").checkpoints[-1].step
    return saved, rows_of(run)[-1]["step"]


def test_a_killed_run_goes_on_to_the_same_bits(whole, tmp_path):
    run = tmp_path / "run"
    child = Child(run)
    child.wait_for("step 3")
    child.send(signal.SIGKILL)
    assert child.end() == -signal.SIGKILL
    assert (run / ".lock").exists()

    child = Child(run, "--resume", "--workers=2", "--slow-write=6")
    child.wait_for("half of step_00000006.pt")
    child.send(signal.SIGKILL)
    assert child.end() == -signal.SIGKILL
    strays = [path.name for path in (run / "checkpoints").glob(".*.tmp")]
    assert len(strays) == 1 and strays[0].startswith(".step_00000006.pt.")
    assert load_latest(run / "checkpoints").step == 4

    train(None, tiny_images(), run, resume=True)
    assert digests(run) == digests(whole)
    assert not list(run.rglob("*.tmp"))
    assert [one.outcome for one in read_surroundings(run).sessions] == [
        *(None, None),
        "finished",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["moco_hard", "inst_disc_nce", "byol", "swav_queue"])
def test_a_killed_run_of_a_method_that_remembers_goes_on_to_the_same_bits(
    method, tmp_path
):
    words = [
        *METHODS[method],
        f"objective.name={objective_of(method)}",
        "training.batch_size=14",
        "training.epochs=1",
    ]
    whole, run = tmp_path / "whole", tmp_path / "run"
    train(recipe_with(*words), tiny_images(), whole)
    child = Child(run, *(f"--set={word}" for word in words))
    child.wait_for("step 3")
    child.send(signal.SIGKILL)
    assert child.end() == -signal.SIGKILL
    train(None, tiny_images(), run, resume=True)
    assert digests(run) == digests(whole)
    ends = [load_latest(one / "checkpoints").state for one in (run, whole)]
    assert_same(dict(ends[0]), dict(ends[1]))


def test_a_terminated_run_saves_its_step_and_exits_as_promised(whole, tmp_path):
    run = tmp_path / "run"
    child = Child(run, "--workers=2")
    child.wait_for("step 2")
    child.send(signal.SIGTERM)
    assert child.end() == EXIT_TERMINATED
    saved, logged = saved_and_logged(run)
    assert saved == logged >= 2

    child = Child(run, "--resume")
    child.wait_for(f"step {saved + 1}")
    child.send(signal.SIGINT)
    assert child.end() == EXIT_INTERRUPTED
    saved, logged = saved_and_logged(run)
    assert saved == logged
    assert not (run / ".lock").exists()

    train(None, tiny_images(), run, resume=True)
    assert digests(run) == digests(whole)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_run_that_is_killed_again_and_again_gives_the_same_bits(tmp_path, seed):
    words = (f"--set=training.seed={seed}", "--set=training.epochs=40")
    recipe = recipe_with(f"training.seed={seed}", "training.epochs=40")
    train(recipe, tiny_images(), tmp_path / "whole")
    run, generator = tmp_path / "run", random.Random(seed)
    killed_at = []
    for attempt in range(8):
        # a run that was killed before its first step is begun anew
        is_begun = (run / "recipe.toml").exists()
        resume = ("--resume",) if is_begun else ()
        child = Child(run, *words, *resume, f"--workers={attempt % 2 * 2}")
        child.wait_for("begun" if attempt % 4 == 0 else "step")
        time.sleep(generator.uniform(0, 0.8))
        child.send(signal.SIGKILL)
        assert child.end() == -signal.SIGKILL
        if is_begun:
            killed_at.append(load_latest(run / "checkpoints").step)
    assert len(set(killed_at)) >= 3
    train(None, tiny_images(), run, resume=True)
    assert digests(run) == digests(tmp_path / "whole")
    steps = [row["step"] for row in rows_of(run)]
    assert steps == list(range(1, 40 * STEPS_PER_EPOCH + 1))
