"""The command as torchrun starts it, twice at once on this machine."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

CHILD = Path(__file__).parent / "failing_child.py"
WORDS = [
    *("--images", "digits", "--device", "cpu"),
    *("--set", "augmentation.protocol=digits16"),
    *("--set", "data.limit=70"),
    *("--set", "encoder.width=4"),
    *("--set", "training.batch_size=33"),
    *("--set", "training.epochs=2"),
    *("--set", "training.batch_norm=global"),
    *("--set", "training.checkpoint_every=1"),
]


def torchrun(*words, timeout=200):
    """Run two processes; return the exit code and what they said."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    return subprocess.run(
        [*command, *map(str, words)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def losses(run):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["total"] for line in lines]


def test_two_processes_train_as_one(tmp_path):
    job = torchrun("-m", "repscope", "train", *WORDS, "-o", tmp_path / "two")
    assert job.returncode == 0, job.stderr
    assert job.stdout.count("encoder: ") == 1  # one process speaks for all
    one = [sys.executable, "-m", "repscope", "train", *WORDS, "-o", tmp_path / "one"]
    subprocess.run(one, check=True, capture_output=True)
    found, expected = losses(tmp_path / "two"), losses(tmp_path / "one")
    assert len(found) == 4
    assert found == pytest.approx(expected, rel=1e-4)
    sessions = json.loads((tmp_path / "two" / "env.json").read_text())["sessions"]
    assert sessions[0]["n_ranks"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("broken", [0, 1])
def test_a_rank_that_fails_ends_all_and_says_so_first(tmp_path, broken):
    began = time.monotonic()
    job = torchrun(CHILD, broken, *WORDS, "-o", tmp_path / "run")
    assert job.returncode != 0
    assert time.monotonic() - began < 60
    said = job.stderr
    cause = said.index("this rank is broken on purpose")
    for other in ("another process", "ChildFailedError", "SIGTERM"):
        assert other not in said or said.index(other) > cause
    assert (tmp_path / "run" / "checkpoints" / "step_00000002.pt").is_file()


@pytest.mark.slow
def test_a_job_of_two_goes_on_where_it_was(tmp_path):
    broken = torchrun(CHILD, 1, *WORDS, "-o", tmp_path / "run")
    assert broken.returncode != 0
    resumed = torchrun("-m", "repscope", "train", "--resume", tmp_path / "run")
    assert resumed.returncode == 0, resumed.stderr
    whole = torchrun("-m", "repscope", "train", *WORDS, "-o", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    for name in ("metrics.jsonl", "encoder.safetensors"):
        found = (tmp_path / "run" / name).read_bytes()
        assert found == (tmp_path / "whole" / name).read_bytes(), name


@pytest.mark.slow
def test_a_mistake_is_told_by_every_process_at_once(tmp_path):
    words = [*WORDS, "--set", "head.name=mlp5", "-o", tmp_path / "run"]
    job = torchrun("-m", "repscope", "train", *words)
    assert job.returncode != 0
    assert "unknown head" in job.stderr
