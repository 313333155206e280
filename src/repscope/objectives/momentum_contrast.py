"""Does each image find its key among the keys of many batches before?"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from repscope._checking import UsageError, check_choice
from repscope.objectives.batch import (
    LossOutput,
    ViewBatch,
    exact_views,
    full_precision,
    split_loss,
)
from repscope.objectives.directions import directions
from repscope.objectives.negatives import (
    DrawnNegatives,
    RankBy,
    draws,
    enqueue_,
    false_negative_share,
    first_queue,
    hard_negatives,
    remembered,
    skew_normal_weights,
)
from repscope.objectives.objective import (
    AbstractMemoryObjective,
    MemorySizes,
    Needs,
    Target,
)
from repscope.objectives.requirements import check_given
from repscope.objectives.similarity_scores import (
    check_temperature,
    log_sum_exp,
    zero_rows,
)

Mining = Literal["none", "skew_normal"]


@dataclass(frozen=True)
class MoCo(AbstractMemoryObjective):
    """Momentum contrast with a queue of negatives; lower is better, from 0.

    q are the projections of one view, k+ those of another by the momentum network, Q
    the keys of the batches before, all of length 1, and tau the temperature:

        mean over images of
            -q·k+ / tau + log(exp(q·k+ / tau) + sum over the queue of exp(q·Q / tau))

    The invariance is the first term, the regularization the second, both in nats. Keys
    carry no gradient. After a step the keys take the places of the oldest in the queue.
    Computed in float32 or better.

    With mining, the sum is over K negatives that are drawn from the queue for this step
    alone, with replacement, by a skew normal density over their ranks by similarity;
    the queue is as without.

    Args:
        temperature: tau, above 0: .2 is that of version 2, .07 of version 1.
        queue: K, how many keys are remembered; batches must divide it evenly.
        momentum: of the second network, 0 to 1.
        symmetric: True matches both views with the key of the other and takes the mean;
            both keys are remembered, so that two batches must divide the queue.
        mining: "none", or "skew_normal".
        location: of the skew normal over ranks u, 0 the hardest to 1 the easiest.
        scale: of the skew normal, above 0.
        skewness: of the skew normal; above 0, the very hardest, which are often of the
            same class, are drawn less.
        rank_by: "batch" ranks the queue once, by the mean similarity with all queries;
            "query" for each query, which sorts n K similarities in each step.

    Call:
        With a ViewBatch; its z, targets and memory are used, and with mining its seed,
        step and labels. `parts` has "positive", the mean cosine of query and key, -1 to
        1, and "log_sum_exp". `stats` has "negative_similarity", the mean cosine with
        the negatives; "zero_rows", how many queries and keys have no direction; without
        mining "mi_lower_bound", log(K + 1) minus the loss, nats; with mining
        "negatives_rank", the mean u of what was drawn, "negatives_unique", the share of
        the queue that was drawn, and, where there are labels, "false_negatives", the
        share of what was drawn that is known to be of the query's class.

    Raises:
        UsageError: for options outside of their ranges.
        InputError: in the call, where views, targets or memory are missing.

    Source: He et al. 2020 (MoCo), eq. 1 and algorithm 1, Chen et al. 2020 (MoCo v2),
    and facebookresearch/moco at 4397a04, moco/builder.py, lines 59-183; mining:
    Appalaraju et al. 2020, figure 5. Differs from the source in that the second
    network follows after the step rather than before the next, which is the same; that
    `symmetric` takes the mean of two directions, not the sum; and in the parameters of
    mining, which it does not give.

    Misleads where queues differ in size: a new queue gives about
    log(K + 1) + 1 / (2 m temperature²). Normalisation over the batch can tell the key
    of an image from all others without looking at it, unless rows are shuffled. With a
    queue larger than the data, older keys of an image are among its negatives.

    Example:
        >>> view, memory = torch.eye(2), {"queue": torch.eye(2)}
        >>> batch = ViewBatch((), (view,), targets=(view,), memory=memory)
        >>> loss = MoCo(temperature=1.0, queue=2)(batch)
        >>> round(float(loss.total), 4)  # -1 + log(2 e + 1)
        0.862
    """

    temperature: float = 0.2
    queue: int = 65_536
    momentum: float = 0.999
    symmetric: bool = False
    mining: Mining = "none"
    location: float = 0.0
    scale: float = 0.35
    skewness: float = 4.0
    rank_by: RankBy = "batch"

    def __post_init__(self) -> None:
        check_temperature("moco", self.temperature)
        check_choice("mining of moco", self.mining, get_args(Mining))
        check_choice("rank_by of moco", self.rank_by, get_args(RankBy))
        if self.queue < 1:
            raise UsageError(f"moco: queue is {self.queue}", expected="from 1")
        if self.symmetric and self.queue % 2:
            raise UsageError(
                f"moco: queue is {self.queue}",
                expected="an even number, where symmetric: it takes two keys an image",
            )
        if not 0 <= self.momentum <= 1:
            raise UsageError(f"moco: momentum is {self.momentum}", expected="0 to 1")
        if not self.scale > 0:
            raise UsageError(f"moco: scale is {self.scale}", expected="above 0")
        for name in ("location", "skewness"):
            if not math.isfinite(getattr(self, name)):
                raise UsageError(
                    f"moco: {name} is {getattr(self, name)}", expected="a finite number"
                )

    @property
    def needs(self) -> Needs:
        """Two views, one of them by a network that follows, and even batches."""
        trained, keyed = (2, (0, 1)) if self.symmetric else (1, (1,))
        return Needs(
            trained_views=trained,
            target=Target(views=keyed, momentum=self.momentum, shuffled=True),
            divisor=self.queue // trained,
        )

    def first_memory(
        self, sizes: MemorySizes, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return a queue of random directions."""
        return first_queue(self.queue, sizes.width, generator)

    def __call__(self, batch: ViewBatch) -> LossOutput:
        """Return the loss of the projections of a batch and of its keys."""
        check_given("moco", self.needs, batch)
        with full_precision(batch.z):
            queries = [directions(view) for view in exact_views(batch.z)]
            keys = self._keys(batch)
            if self.symmetric:
                pairs = [(queries[0], keys[1]), (queries[1], keys[0])]
            else:
                pairs = [(queries[0], keys[0])]
            of_pairs = [self._terms(batch, *pair, i) for i, pair in enumerate(pairs)]
        terms = {
            name: torch.stack([one[name] for one in of_pairs]).mean()
            for name in of_pairs[0]
        }
        positive, log_sum = terms.pop("positive"), terms.pop("log_sum_exp")
        return split_loss(
            -positive,
            log_sum,
            parts={"positive": positive * self.temperature, "log_sum_exp": log_sum},
            stats=terms | {"zero_rows": zero_rows(*queries, *keys)},
        )

    def _terms(
        self,
        batch: ViewBatch,
        query: Float[Tensor, "n m"],
        key: Float[Tensor, "n m"],
        stream: int,
    ) -> dict[str, Float[Tensor, ""]]:
        """Return the positive score and the log sum of one view, and what to log."""
        queue = remembered(batch, "queue").to(query.dtype)
        positives = (query * key).sum(dim=1) / self.temperature
        scores = (query / self.temperature) @ queue.T
        if self.mining == "none":
            negatives = log_sum_exp(scores)
            stats = {"negative_similarity": query.mean(dim=0) @ queue.mean(dim=0)}
        else:
            drawn = self._drawn(batch, scores, stream)
            # A negative that was drawn c times counts c times; one that was not, never.
            negatives = log_sum_exp(scores + drawn.counts.to(scores.dtype).log())
            stats = self._drawn_stats(batch, scores.detach(), drawn)
        log_sum = torch.logaddexp(negatives, positives).mean()
        positive = positives.mean()
        if self.mining == "none":
            stats["mi_lower_bound"] = math.log(len(queue) + 1) + positive - log_sum
        return {"positive": positive, "log_sum_exp": log_sum} | stats

    def _drawn(
        self, batch: ViewBatch, scores: Float[Tensor, "n k"], stream: int
    ) -> DrawnNegatives:
        chances = skew_normal_weights(
            scores.shape[1], self.location, self.scale, self.skewness
        )
        generator = draws(batch, stream)
        return hard_negatives(scores, chances, generator, rank_by=self.rank_by)

    def _drawn_stats(
        self, batch: ViewBatch, scores: Float[Tensor, "n k"], drawn: DrawnNegatives
    ) -> dict[str, Float[Tensor, ""]]:
        mean_score = (scores * drawn.counts).sum() / scores.numel()
        stats = {
            "negative_similarity": mean_score * self.temperature,
            "negatives_rank": drawn.mean_rank,
            "negatives_unique": drawn.unique_share,
        }
        if batch.labels is not None:
            known = remembered(batch, "queue_labels")
            share = false_negative_share(drawn, batch.labels, known)
            stats["false_negatives"] = share.to(scores.dtype)
        return stats

    def remember_(self, batch: ViewBatch) -> None:
        """Put the keys of the step, and their labels, in the places of the oldest."""
        keys = self._keys(batch)
        labels = None if batch.labels is None else batch.labels.repeat(len(keys))
        enqueue_(batch.memory, torch.cat(keys), labels)

    def _keys(self, batch: ViewBatch) -> list[Float[Tensor, "n m"]]:
        views = exact_views(batch.targets[: 2 if self.symmetric else 1])
        return [directions(view).detach() for view in views]
