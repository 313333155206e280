"""How rows and sums of all ranks of a job come together, with their gradients.

A loss of a whole batch needs the rows of all ranks. Here each rank gets all of them and
computes the same loss; gradients come out so that their mean over ranks, which
DistributedDataParallel takes, is the gradient of that one loss. On one rank nothing
happens.
"""

from typing import Any

import torch
import torch.distributed as distributed
from jaxtyping import Shaped
from torch import Tensor

from repscope._distributed import n_ranks, rank


def gathered_rows(rows: Shaped[Tensor, "n ..."]) -> Shaped[Tensor, "total ..."]:
    """Return the rows of all ranks, in the order of the ranks.

    The gradient of a rank's own rows is multiplied by the number of ranks: it is right
    where every rank computes the same loss of what is returned, and gradients of
    weights are then averaged over ranks.

    Args:
        rows: as many on each rank as it likes, also none; of one shape otherwise.
    """
    if n_ranks() == 1:
        return rows
    gathered: Tensor = _GatheredRows.apply(rows)
    return gathered


def summed_over_ranks(values: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
    """Return the sum of a tensor over ranks; so is its gradient.

    Args:
        values: of one shape on all ranks.
    """
    if n_ranks() == 1:
        return values
    summed: Tensor = _SummedOverRanks.apply(values)
    return summed


def greatest_over_ranks(values: list[int], device: torch.device) -> list[int]:
    """Return the greatest of each of some integers over all ranks.

    Args:
        values: as many on each rank.
        device: that the ranks' backend works on.
    """
    if n_ranks() == 1:
        return values
    found = torch.tensor(values, dtype=torch.int64, device=device)
    distributed.all_reduce(found, op=distributed.ReduceOp.MAX)
    return [int(one) for one in found.tolist()]


class _GatheredRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        sizes = _sizes(rows)
        ctx.start, ctx.n = sum(sizes[: rank()]), len(rows)
        # Collectives take equal shapes only; what is added is cut off again.
        padded = rows.new_zeros((max(sizes), *rows.shape[1:]))
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in sizes]
        distributed.all_gather(parts, padded)
        return torch.cat([part[:n] for part, n in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        own = gradients[0][ctx.start : ctx.start + ctx.n]
        return own * n_ranks()


class _SummedOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return _sum(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _sum(gradients[0])


def _sum(values: Tensor) -> Tensor:
    summed = values.clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(summed)
    return summed


def _sizes(rows: Tensor) -> list[int]:
    """Return how many rows each rank has."""
    own = torch.tensor([len(rows)], dtype=torch.int64, device=rows.device)
    sizes = [torch.empty_like(own) for _ in range(n_ranks())]
    distributed.all_gather(sizes, own)
    return [int(size) for size in sizes]
