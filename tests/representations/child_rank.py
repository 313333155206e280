"""One rank of the job that test_merged_ranks.py starts.

Call: child_rank.py RANK FOLDER WORLD [WORLD ...]. For each size of the world, the rank
joins a job of that size (ranks beyond it sit out), merges its share of each case and
writes the merged state, or the error, to FOLDER.
"""

import datetime
import sys
from pathlib import Path

import numpy as np

from repscope._checking import RepscopeError
from repscope.representations.class_moments import ClassMoments
from repscope.representations.merged_ranks import merged_over_ranks
from repscope.representations.moments import Moments
from repscope.representations.object_moments import ObjectMoments

D, N_CLASSES, N_OBJECTS = 3, 4, 3
SIZES = (5, 7, 11)
# How rows reach ranks: dealt in turn; all but the last rank; all but the first, which
# never saw a row and has no state.
SHARES = ("uneven", "empty", "none")
MERGED = [
    f"{kind}-{n}-{share}"
    for kind in ("moments", "classes", "objects", "views")
    for n in SIZES
    for share in SHARES
]
ERRORS = ("widths", "classes", "kinds", "something", "nothing", "ids")


def rows_of(n):
    """Return features, class codes and object ids of n rows."""
    generator = np.random.default_rng(n)
    features = generator.standard_normal((n, D)) * [1, 1e-3, 1e3] + 1e3
    return features, np.arange(n) % N_CLASSES, np.arange(n) % N_OBJECTS


def rows_of_rank(n, share, rank, world):
    if share == "uneven":
        return np.arange(n)[rank::world]
    first = 1 if share == "none" else 0
    left_out = 0 if share == "none" else world - 1
    if rank == left_out:
        return np.arange(0)
    return np.arange(n)[rank - first :: world - 1]


def state_of(kind, n, rows):
    features, codes, ids = rows_of(n)
    if kind == "moments":
        state = Moments(D)
        return state.update(features[rows]) if len(rows) else state
    if kind == "classes":
        state = ClassMoments(N_CLASSES, D)
        return state.update(features[rows], codes[rows]) if len(rows) else state
    state = ObjectMoments(D, n_blocks=2)
    if len(rows) == 0:
        return state
    if kind == "objects":  # the views of one object meet on several ranks
        return state.update(features[rows], ids[rows])
    return state.update_views(features[rows][:, None, :])


def case_state(case, rank, world):
    kind, n, share = case.split("-")
    rows = rows_of_rank(int(n), share, rank, world)
    if len(rows) == 0 and share == "none":
        return None
    return state_of(kind, int(n), rows)


def wrong_state(case, rank):
    views = np.ones((2, 2, D))
    return {
        "widths": lambda: Moments(3 + rank),
        "classes": lambda: ClassMoments(2 + rank, D),
        "kinds": lambda: Moments(D) if rank else ObjectMoments(D),
        "something": lambda: Moments(D) if rank else "features",
        "nothing": lambda: None,
        "ids": lambda: ObjectMoments.of_views(views, None if rank else ["a", "b"]),
    }[case]()


def merge_all(rank, world, folder):
    for case in (*MERGED, *ERRORS):
        wrong = case in ERRORS
        state = wrong_state(case, rank) if wrong else case_state(case, rank, world)
        before = state.to_bytes() if hasattr(state, "to_bytes") else b""
        try:
            data = merged_over_ranks(state).to_bytes()
        except RepscopeError as error:
            data = f"{type(error).__name__}: {error}".encode()
        # What is passed stays as it was.
        assert before == (state.to_bytes() if hasattr(state, "to_bytes") else b"")
        (folder / f"{case}-of-{world}-rank-{rank}").write_bytes(data)


def main(rank, folder, worlds):
    import torch.distributed

    for world in worlds:
        if rank < world:
            torch.distributed.init_process_group(
                "gloo",
                init_method=(folder / f"meeting-{world}").as_uri(),
                rank=rank,
                world_size=world,
                timeout=datetime.timedelta(seconds=60),
            )
            merge_all(rank, world, folder)
            torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), [int(one) for one in sys.argv[3:]])
