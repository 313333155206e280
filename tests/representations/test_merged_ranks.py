"""States of real gloo processes merge into the whole, bit for bit alike on each rank.

One job of three processes does all cases, with three ranks and then with two.
"""

import os
import subprocess
import sys

import numpy as np
import pytest

from representations import child_rank
from representations.child_rank import ERRORS, MERGED, state_of
from repscope import _distributed
from repscope._checking import InputError
from repscope.representations.class_moments import ClassMoments
from repscope.representations.merged_ranks import merged_over_ranks
from repscope.representations.moments import Moments
from repscope.representations.object_moments import ObjectMoments

KINDS = {"moments": Moments, "classes": ClassMoments}


def run_ranks(folder, worlds):
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    ranks = [
        subprocess.Popen(
            [sys.executable, child_rank.__file__, str(rank), str(folder), *worlds],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(max(map(int, worlds)))
    ]
    said = [rank.communicate(timeout=120)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0] * len(ranks), said


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    run_ranks(folder, ["3", "2"])
    return folder


@pytest.fixture(scope="module")
def large_job(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    run_ranks(folder, ["8"])
    return folder


def states_of(folder, case, world):
    return [
        (folder / f"{case}-of-{world}-rank-{rank}").read_bytes()
        for rank in range(world)
    ]


def assert_merged(folder, case, world):
    """All ranks hold the same bytes, equal to one pass over all rows."""
    states = states_of(folder, case, world)
    assert len(set(states)) == 1
    kind, n, _ = case.split("-")
    merged = KINDS.get(kind, ObjectMoments).from_bytes(states[0])
    n = int(n)
    whole = state_of(kind, n, np.arange(n))
    if kind == "moments":
        assert merged.n == n
        assert_near(merged.mean, whole.mean)
        assert_near(merged.scatter, whole.scatter)
    elif kind == "classes":
        np.testing.assert_array_equal(merged.counts, whole.counts)
        assert_near(merged.means, whole.means)
        assert_near(merged.scatters, whole.scatters)
    else:
        assert (merged.n, merged.n_views) == (whole.n, n)
        if kind == "objects":
            place = [merged.ids.index(one) for one in whole.ids]
            np.testing.assert_array_equal(merged.counts[place], whole.counts)
            assert_near(merged.means[place], whole.means)
        assert_near(merged.within(), whole.within())
        assert_near(merged.between(), whole.between())


def assert_near(found, expected):
    atol = 1e-10 * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("case", MERGED)
def test_ranks_merge_into_the_whole(case, world, job):
    assert_merged(job, case, world)


@pytest.mark.slow
@pytest.mark.parametrize("case", MERGED)
def test_eight_ranks_merge_into_the_whole(case, large_job):
    assert_merged(large_job, case, 8)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (
            "widths",
            "InputError: merging ranks: states of different sizes\n"
            "  found: rank 0: 3 dimensions, rank 1: 4 dimensions",
        ),
        (
            "classes",
            "InputError: merging ranks: states of different sizes\n"
            "  found: rank 0: 2 classes x 3 dimensions, rank 1: 3 classes x 3",
        ),
        (
            "kinds",
            "UsageError: merging ranks: states of one kind are needed\n"
            "  found: rank 0: ObjectMoments, rank 1: Moments",
        ),
        (
            "something",
            "UsageError: merging ranks: states of one kind are needed\n"
            "  found: rank 0: another object, rank 1: Moments",
        ),
        ("nothing", "InputError: merging ranks: no rank has a state"),
        ("ids", "UsageError: object moments: some objects came with ids and some"),
    ],
)
@pytest.mark.parametrize("world", [2, 3])
def test_ranks_that_disagree_all_raise_and_none_waits(case, message, world, job):
    assert case in ERRORS
    said = states_of(job, case, world)
    assert len(set(said)) == 1
    assert said[0].decode().startswith(message)


def test_one_process_keeps_its_state():
    state = Moments(2).update(np.eye(2))
    assert merged_over_ranks(state) is state
    assert (_distributed.rank(), _distributed.n_ranks()) == (0, 1)
    gathered = _distributed.gathered_integers(np.array([3, 1]))
    assert gathered.tolist() == [[3, 1]]
    assert _distributed.broadcast_bytes(b"abc", 0, 3) == b"abc"


def test_one_process_without_a_state_is_told():
    with pytest.raises(InputError, match="^merging ranks: no rank has a state$"):
        merged_over_ranks(None)


def test_long_states_travel_in_pieces(monkeypatch, tmp_path):
    """A job of one rank in this very process: pieces of 7 bytes make the whole."""
    import torch.distributed

    monkeypatch.setattr(_distributed, "CHUNK_BYTES", 7)
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    torch.distributed.init_process_group(
        "gloo", init_method=(tmp_path / "meeting").as_uri(), rank=0, world_size=1
    )
    try:
        data = bytes(range(40))
        assert _distributed.broadcast_bytes(data, 0, 40) == data
        assert _distributed.gathered_integers(np.array([5])).tolist() == [[5]]
    finally:
        torch.distributed.destroy_process_group()


def test_torch_is_not_imported_where_no_job_runs():
    script = (
        "import sys, numpy as np\n"
        "from repscope.representations.merged_ranks import merged_over_ranks\n"
        "from repscope.representations.moments import Moments\n"
        "merged_over_ranks(Moments(2).update(np.eye(2)))\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
