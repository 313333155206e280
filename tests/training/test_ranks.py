"""Two or three processes that share each batch do what one does with the whole."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from training.many_methods import METHODS, after_two_steps

CHILD = Path(__file__).parent / "rank_child.py"


def children(n_ranks: int, folder: Path) -> dict[int, dict]:
    """Return what each process of a job found."""
    meeting, out = folder / "meeting", folder / "found"
    jobs = [
        subprocess.Popen(
            [sys.executable, CHILD, str(rank), str(n_ranks), str(meeting), str(out)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(n_ranks)
    ]
    errors = [job.communicate(timeout=240)[1] for job in jobs]
    assert all(job.returncode == 0 for job in jobs), "\n".join(errors)
    return {rank: torch.load(f"{out}.{rank}") for rank in range(n_ranks)}


@pytest.fixture(scope="module", params=[2, 3])
def found(request, tmp_path_factory):
    return children(request.param, tmp_path_factory.mktemp("ranks"))


@pytest.fixture(scope="module")
def alone():
    return {method: after_two_steps(method) for method in METHODS}


@pytest.mark.parametrize("method", METHODS)
def test_gradients_and_all_that_changes_are_those_of_one_process(method, found, alone):
    expected = alone[method]
    assert any(name.startswith("gradient") for name in expected)
    for rank, of_rank in found.items():
        assert of_rank[method].keys() == expected.keys()
        for name, value in of_rank[method].items():
            torch.testing.assert_close(
                value, expected[name], rtol=1e-5, atol=1e-12, msg=f"{name}, rank {rank}"
            )


@pytest.mark.parametrize("method", METHODS)
def test_all_processes_hold_the_same_bits(method, found):
    first, *others = (of_rank[method] for of_rank in found.values())
    for other in others:
        for name, value in other.items():
            assert torch.equal(value, first[name]), name
