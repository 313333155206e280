"""From which remembered projections must an image be told, and how hard is that?

A queue of the last K keys, first in, first out; and a draw of K among them that favours
those that are similar, but not the most similar, which are often of the same class.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from repscope._checking import InputError, UsageError
from repscope._randomness import Purpose, sample_keys
from repscope.objectives.batch import ViewBatch
from repscope.objectives.directions import directions
from repscope.objectives.objective import Memory

RankBy = Literal["batch", "query"]
# Of a key whose image has no label.
NO_LABEL = -1


def draws(batch: ViewBatch, stream: int = 0) -> torch.Generator:
    """Return a generator that depends on the batch's seed and step alone.

    It lies on the CPU, so that what is drawn is the same on every device.

    Args:
        batch: of the step.
        stream: from 0; two streams of one step share no draw.
    """
    streams = np.array([stream], dtype=np.uint64)
    keys = sample_keys(Purpose.NEGATIVES, batch.seed, streams, epoch=batch.step)
    return torch.Generator().manual_seed(int(keys[0]))


def remembered(batch: ViewBatch, name: str) -> Shaped[Tensor, "..."]:
    """Return a tensor of the batch's memory.

    Raises:
        InputError: where it is not there.
    """
    if name not in batch.memory:
        raise InputError(
            f"memory: there is no {name!r}",
            found=", ".join(batch.memory) or "an empty memory",
            fix="give what first_memory returned: ViewBatch(..., memory=memory)",
        )
    return batch.memory[name]


def first_queue(
    size: int, width: int, generator: torch.Generator
) -> dict[str, Shaped[Tensor, "..."]]:
    """Return a queue of random directions, which have no labels.

    Args:
        size: K, from 1.
        width: of the keys.
        generator: of the directions, which are uniform on the sphere.

    Returns:
        "queue", (K, width), rows of length 1; "queue_labels", (K,), all -1; and
        "queue_pointer", the place of the oldest key.
    """
    return {
        "queue": directions(torch.randn(size, width, generator=generator)),
        "queue_labels": torch.full((size,), NO_LABEL),
        "queue_pointer": torch.tensor(0),
    }


@torch.no_grad()
def enqueue_(
    memory: Memory, keys: Float[Tensor, "n m"], labels: Shaped[Tensor, " n"] | None
) -> None:
    """Put keys in the places of the oldest ones, in order; at the end begin anew.

    Args:
        memory: with the three tensors of `first_queue`, which are changed.
        keys: rows of length 1.
        labels: of their images; None for none.

    Raises:
        InputError: for more keys than places, or a number of keys that does not divide
            the places: the oldest keys would not all be as old.
    """
    queue, pointer = memory["queue"], memory["queue_pointer"]
    size, n = len(queue), len(keys)
    if size % n:
        raise InputError(
            f"{n:,} keys do not fill a queue of {size:,} evenly",
            fix=f"a queue of a multiple of {n:,}, or batches that divide it",
        )
    places = (pointer + torch.arange(n, device=queue.device)) % size
    queue.index_copy_(0, places, keys.to(queue.dtype))
    codes = memory["queue_labels"]
    unknown = torch.full_like(codes[:n], NO_LABEL)
    new = unknown if labels is None else labels.to(codes.dtype)
    codes.index_copy_(0, places, new)
    pointer.add_(n).remainder_(size)


def skew_normal_weights(
    size: int, location: float, scale: float, skewness: float
) -> Float[Tensor, " size"]:
    """Return the chance of each rank to be drawn, the hardest first; they sum to 1.

        w(u) = 2 / scale * phi((u - location) / scale)
                         * Phi(skewness * (u - location) / scale)

    at u = rank / (size - 1), 0 the hardest and 1 the easiest, divided by the sum; phi
    and Phi are the density and the distribution of the standard normal.

    Args:
        size: K, from 1.
        location: xi, finite.
        scale: omega, above 0; infinite for equal chances.
        skewness: a, finite; above 0, the very hardest are drawn less.

    Raises:
        UsageError: where location and scale leave no rank any chance.

    Source: Appalaraju et al. 2020, figure 5: a skew normal over the sorted queue.
    Differs from the source in the parameters, which it does not give.
    """
    u = torch.linspace(0, 1, size, dtype=torch.float64)
    z = (u - location) / scale
    # In logarithms: far from the location all densities round to 0.
    logarithms = torch.special.log_ndtr(skewness * z) - z.square() / 2
    chances = torch.softmax(logarithms, dim=0)
    if not torch.isfinite(chances).all():
        raise UsageError(
            "no rank can be drawn",
            found=f"location {location}, scale {scale}, skewness {skewness}",
            expected="a location near 0 to 1, or a larger scale",
        )
    return chances


@dataclass(frozen=True, eq=False)
class DrawnNegatives:
    """How often each negative was drawn, for all queries or for each.

    Args:
        counts: (K,), or (n, K) with a row for each query; each row sums to K.
        mean_rank: mean of u over what was drawn, 0 the hardest to 1 the easiest; .5
            where all are as likely.
        unique_share: how many different ones were drawn / K, above 0 to 1; 1 - 1 / e
            where all are as likely and K is large.
    """

    counts: Int[Tensor, "..."]
    mean_rank: Float[Tensor, ""]
    unique_share: Float[Tensor, ""]


def hard_negatives(
    similarities: Float[Tensor, "n k"],
    chances: Float[Tensor, " k"],
    generator: torch.Generator,
    *,
    rank_by: RankBy,
) -> DrawnNegatives:
    """Draw as many negatives as there are, with replacement, by their ranks.

    Ranks are drawn once. With "query" each query takes its own negatives of these
    ranks: each set has the law that it would have alone.

    Args:
        similarities: of n queries and k negatives.
        chances: of the ranks, the hardest first; sums to 1.
        generator: on the CPU.
        rank_by: "batch" ranks by the mean similarity over queries, "query" for each
            query by itself. Equal similarities rank in their order.
    """
    size = len(chances)
    uniform = torch.rand(size, generator=generator, dtype=torch.float64)
    # The sum of all chances may round to less than the largest draw.
    ranks = torch.searchsorted(chances.cumsum(0), uniform, right=True).clamp(
        max=size - 1
    )
    of_ranks = torch.bincount(ranks, minlength=size)
    known = similarities.detach()
    scored = known.mean(dim=0, keepdim=True) if rank_by == "batch" else known
    order = scored.argsort(dim=1, descending=True, stable=True)
    sorted_counts = of_ranks.to(order.device).expand_as(order)
    counts = torch.zeros_like(order).scatter_(1, order, sorted_counts)
    u = ranks.to(torch.float64) / max(size - 1, 1)
    return DrawnNegatives(
        counts=counts[0] if rank_by == "batch" else counts,
        mean_rank=u.mean().to(known),
        unique_share=(of_ranks > 0).to(torch.float64).mean().to(known),
    )


def false_negative_share(
    drawn: DrawnNegatives,
    labels: Shaped[Tensor, " n"],
    queue_labels: Int[Tensor, " k"],
) -> Float[Tensor, ""]:
    """Return the share of drawn negatives that are of their query's class, 0 to 1.

    Negatives without a label, as all are in a new queue, count as of another class.

    Args:
        drawn: for these queries.
        labels: of the queries; below 0 for none.
        queue_labels: of the negatives; -1 for none.
    """
    same = (labels[:, None] == queue_labels) & (queue_labels >= 0)
    return (same * drawn.counts).sum() / same.numel()
