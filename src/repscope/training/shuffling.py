"""Rows pass a network in another order than usual, and come back in their own.

Batch normalisation takes the rows of a process, or of a group, together, so that a
network could tell from the statistics which rows belong together. Where the keys of a
contrastive loss pass in other company than the queries, it cannot.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from repscope._distributed import n_ranks, rank
from repscope._gathering import gathered_rows
from repscope._randomness import Purpose, sample_keys
from repscope.training.networks import Outputs

Views = list[Float[Tensor, "n c _ _"]]


def shuffled_outputs(
    network: nn.Module, views: Views, *, seed: int, step: int
) -> Outputs:
    """Return what a network makes of views, its rows having passed in another order.

    The order of the rows of all ranks is a function of seed and step; each rank passes
    as many as it has. No gradient is kept.

    Args:
        network: from views to `Outputs`.
        views: the rows of this rank.
        seed: of the run.
        step: counted from 0.

    Source: He et al. 2020 (MoCo), section 3.3, "Shuffling BN". Differs from the source
    in that it also serves groups of rows within one process
    (`training.bn_splits`), as in the authors' demonstration on CIFAR.
    """
    whole = [gathered_rows(view) for view in views]
    n_own, n = len(views[0]), len(whole[0])
    order = _order(n, seed=seed, step=step).to(views[0].device)
    start = _start(views[0])
    mine = order[start : start + n_own]
    outputs: Outputs = network([view[mine] for view in whole])
    back = torch.argsort(order)[start : start + n_own]
    return Outputs(*(_reordered(part, back) for part in outputs))


def _reordered(
    parts: tuple[Float[Tensor, "n _"], ...], back: Int[Tensor, " n"]
) -> tuple[Float[Tensor, "n _"], ...]:
    return tuple(gathered_rows(part)[back] for part in parts)


def _start(view: Float[Tensor, "n c _ _"]) -> int:
    """Return the first row of this rank among all."""
    if n_ranks() == 1:
        return 0
    counts = gathered_rows(torch.tensor([len(view)], device=view.device)).tolist()
    return int(sum(counts[: rank()]))


def _order(n: int, *, seed: int, step: int) -> Int[Tensor, " n"]:
    rows = np.arange(n, dtype=np.uint64)
    keys = sample_keys(Purpose.SHUFFLE, seed, rows, epoch=step)
    return torch.from_numpy(np.argsort(keys, kind="stable"))
