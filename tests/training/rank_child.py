"""One process of a job of several: takes two steps by each method, keeps what came out.

Call: rank_child.py RANK N_RANKS MEETING_FILE OUT_FILE
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
import torch.distributed as distributed

from training.many_methods import METHODS, after_two_steps


def main() -> None:
    rank, n_ranks, meeting, out = sys.argv[1:]
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{meeting}",
        rank=int(rank),
        world_size=int(n_ranks),
    )
    found = {name: after_two_steps(name) for name in METHODS}
    torch.save(found, f"{out}.{rank}")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
