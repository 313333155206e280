"""Does each view predict which prototypes the other view was assigned to?"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from repscope._checking import InputError, UsageError
from repscope._numerics import sinkhorn
from repscope.objectives.batch import (
    LossOutput,
    ViewBatch,
    exact_views,
    full_precision,
    mean_of,
    split_loss,
)
from repscope.objectives.directions import directions
from repscope.objectives.objective import (
    AbstractMemoryObjective,
    MemorySizes,
    Needs,
)
from repscope.objectives.requirements import check_given

# Views that are assigned; all views predict them. Crops of the whole image come first.
ASSIGNED_VIEWS = (0, 1)
# Names in the memory: rows of the batches before, newest first, and how many there are.
QUEUE, QUEUE_ROWS = "queue", "queue_rows"

Scores = tuple[Float[Tensor, "n k"], ...]


@dataclass(frozen=True)
class SwAV(AbstractMemoryObjective):
    """Swapped assignments between views; in nats, from 0, lower is better.

    For scores x of k prototypes, the cosines of a projection with each, q assigned
    without gradient by `sinkhorn`, which spreads the rows over all prototypes:

        p            = softmax(x / temperature)
        loss of a pair = mean over rows of -sum over k of q[i] log p[j], views i != j

    and its mean over the pairs of each of the first two views i with each other view j.

    Cross-entropy is KL(q || p) + H(q): the invariance is the divergence, from 0, the
    regularization the entropy of q, 0 to log k, which has no gradient. Computed in
    float32 or better.

    Args:
        temperature: of the predictions, above 0.
        epsilon: weight of the entropy in the assignment, above 0.
        iterations: of Sinkhorn's algorithm, from 1.
        queue: how many rows of earlier batches are assigned together with those of a
            batch, where it has fewer rows than there are prototypes; 0 for none.
        queue_from_epoch: the first epoch whose batches enter the queue, counted from 0;
            it is used once it is full.
        frozen_steps: at the beginning, during which the prototypes stay as they are.

    Call:
        With a ViewBatch; its predictions are the scores x, and with a queue its z and
        prototypes are used. `parts` has "cross_entropy", "divergence" and "entropy".
        `stats` has "mean_assignment_entropy", that of the mean q of a view, nats, to
        log k; "assignment_information", that entropy minus the mean entropy of q, nats,
        to log min(n, k), and 0 where all images have the same assignment; means over
        views; and "queue_rows", how many earlier rows took part.

    Raises:
        UsageError: for an option outside of its range.
        InputError: where there are fewer than two views, no predictions, or, with a
            queue, no memory or prototypes.

    Source: Caron et al. 2020, eq. 1-5 and section 4.1; facebookresearch/swav at
    06b1b7c, main_swav.py. As in the source's code, which averages where eq. 1 sums, and
    keeps a queue of projections for each of the two views. Differs from the source in
    that the queue need be no multiple of the batch.

    Misleads: q is spread over all prototypes by force, so that its mean has a high
    entropy even where projections have collapsed; "assignment_information" falls to 0
    there. Losses of different numbers of prototypes do not compare.

    Example:
        >>> scores = torch.eye(2)
        >>> batch = ViewBatch((), (scores, scores), predictions=(scores, scores))
        >>> output = SwAV(temperature=0.1)(batch)
        >>> round(float(output.total), 6)  # log(1 + exp(-1 / .1)): each has its own
        4.5e-05
    """

    temperature: float = 0.1
    epsilon: float = 0.05
    iterations: int = 3
    queue: int = 0
    queue_from_epoch: int = 15
    frozen_steps: int = 313

    def __post_init__(self) -> None:
        for name in ("temperature", "epsilon"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise UsageError(f"swav: {name} is {value}", expected="above 0")
        least = {
            "iterations": 1,
            "queue": 0,
            "queue_from_epoch": 0,
            "frozen_steps": 0,
        }
        for name, minimum in least.items():
            value = getattr(self, name)
            if value < minimum:
                raise UsageError(f"swav: {name} is {value}", expected=f"from {minimum}")

    @property
    def needs(self) -> Needs:
        """Prototypes, which stay as they are at first."""
        return Needs(predictor="prototypes", frozen_predictor_steps=self.frozen_steps)

    def first_memory(
        self, sizes: MemorySizes, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return an empty queue; nothing is drawn."""
        if self.queue == 0:
            return {}
        shape = (len(ASSIGNED_VIEWS), self.queue, sizes.width)
        return {
            QUEUE: torch.zeros(shape),
            QUEUE_ROWS: torch.zeros((), dtype=torch.int64),
        }

    def remember_(self, batch: ViewBatch) -> None:
        """Put the projections of the first two views in front of the queue."""
        if self.queue == 0 or batch.epoch < self.queue_from_epoch:
            return
        queue, count = batch.memory[QUEUE], batch.memory[QUEUE_ROWS]
        views = exact_views(tuple(batch.z[view].detach() for view in ASSIGNED_VIEWS))
        newest = torch.stack([directions(view) for view in views])
        together = torch.cat([newest.to(queue.dtype), queue], dim=1)
        queue.copy_(together[:, : self.queue])
        count.add_(len(batch.z[0])).clamp_(max=self.queue)

    def __call__(self, batch: ViewBatch) -> LossOutput:
        """Return the loss of the scores of a batch."""
        check_given("swav", self.needs, batch)
        with full_precision(batch.z):
            scores = exact_views(batch.predictions)
            earlier = self._earlier_scores(batch)
            log_q = [
                self._assigned(scores[view], earlier[view] if earlier else None)
                for view in ASSIGNED_VIEWS
            ]
            q = [one.exp() for one in log_q]
            log_p = [torch.log_softmax(one / self.temperature, dim=1) for one in scores]
            cross_entropy = mean_of(list(_swapped(q, log_p)))
            entropy = -mean_of(
                [(a * b).sum(dim=1).mean() for a, b in zip(q, log_q, strict=True)]
            )
            divergence = cross_entropy - entropy
            parts = {
                "cross_entropy": cross_entropy,
                "divergence": divergence,
                "entropy": entropy,
            }
            spread = mean_of([torch.special.entr(one.mean(dim=0)).sum() for one in q])
            used = spread.new_tensor(len(earlier[0]) if earlier else 0)
            stats = {
                "mean_assignment_entropy": spread,
                "assignment_information": spread - entropy,
                "queue_rows": used,
            }
            return split_loss(divergence, entropy, parts=parts, stats=stats)

    def _earlier_scores(self, batch: ViewBatch) -> Scores | None:
        """Return the scores of the queue for each assigned view, once it is full."""
        if self.queue == 0:
            return None
        if QUEUE not in batch.memory or batch.prototypes is None:
            raise InputError(
                "swav: a queue needs a memory and the prototypes",
                fix="pass memory=first_memory(...) and prototypes, or queue=0",
            )
        if int(batch.memory[QUEUE_ROWS]) < self.queue:
            return None
        prototypes = exact_views((batch.prototypes.detach(),))[0]
        queue = batch.memory[QUEUE].flatten(end_dim=1).to(prototypes.dtype)  # (2 r, m)
        return (queue @ prototypes.T).split(self.queue)

    @torch.no_grad()
    def _assigned(
        self, scores: Float[Tensor, "n k"], earlier: Float[Tensor, "r k"] | None
    ) -> Float[Tensor, "n k"]:
        """Return log q of the rows of the batch."""
        together = scores if earlier is None else torch.cat([scores, earlier])
        log_q = sinkhorn(together, epsilon=self.epsilon, iterations=self.iterations)
        return log_q[: len(scores)]


def _swapped(
    q: list[Float[Tensor, "n k"]], log_p: list[Float[Tensor, "n k"]]
) -> Iterator[Float[Tensor, ""]]:
    """Yield the cross-entropy of each assigned view with each other view."""
    for i, assigned in zip(ASSIGNED_VIEWS, q, strict=True):
        for j, predicted in enumerate(log_p):
            if j != i:
                yield -(assigned * predicted).sum(dim=1).mean()
