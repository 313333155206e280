"""Is each image told from all others by what was remembered of it?"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from repscope._checking import InputError, UsageError
from repscope.objectives.batch import (
    LossOutput,
    ViewBatch,
    exact_views,
    full_precision,
    split_loss,
)
from repscope.objectives.directions import directions
from repscope.objectives.negatives import draws, remembered
from repscope.objectives.objective import AbstractMemoryObjective, MemorySizes, Needs
from repscope.objectives.similarity_scores import (
    check_temperature,
    log_sum_exp,
    zero_rows,
)

# Added to the denominators of the noise-contrastive estimate, as the source does.
NOISE_EPS = 1e-7


@dataclass(frozen=True)
class InstDisc(AbstractMemoryObjective):
    """Instance discrimination with a memory bank; lower is better, from 0.

    f are the projections of one view of each image, of length 1, v the N entries of the
    bank, one for each image, and s[i, k] = f[i]·v[k] / temperature.

    With negatives = 0, all images are told apart:

        mean over i of -s[i, i] + log sum over all N images k of exp s[i, k]

    With K > 0 negatives, by noise-contrastive estimation, P[i, k] = exp s[i, k] / Z and
    K images k drawn for each i, uniformly and with replacement:

        mean over i of
            -log(P[i, i] / (P[i, i] + K / N + 1e-7))
            - sum over its K draws k of log((K / N) / (P[i, k] + K / N + 1e-7))

    Z is N times the mean of exp s[i, k] over the K + 1 images of all i of the first
    batch, and is kept. The term of proximal_weight * |f[i] - v[i]|², mean over i, comes
    on top. The invariance is the first term and that of proximal_weight, the
    regularization the other, in nats. The bank carries no gradient; after a step v[i]
    becomes the direction of momentum * v[i] + (1 - momentum) * f[i]. Computed in
    float32 or better.

    Args:
        temperature: above 0: .07 is the source's for ImageNet, .1 for CIFAR.
        negatives: K, from 0: 4096 is usual. 0 takes all images.
        momentum: of the bank, 0 to below 1.
        proximal_weight: lambda of the source, from 0.

    Call:
        With a ViewBatch; the first view in z, its ids, which are rows of the bank, and
        its memory are used, and with negatives its seed and step. `parts` has
        "positive", the mean cosine with the own entry, -1 to 1; "log_sum_exp", or
        "data" and "noise", the two terms above; and "proximal", before its weight.
        `stats` has "zero_rows", how many projections have no direction, and with
        negatives "log_normaliser", log Z, nats.

    Raises:
        UsageError: for options outside of their ranges.
        InputError: in the call, where ids or memory are missing.

    Source: Wu et al. 2018, eq. 2-10, and zhirongw/lemniscate.pytorch at f7cfe29,
    lib/NCEAverage.py, lines 7-90, lib/NCECriterion.py, lines 12-37, and
    lib/LinearAverage.py, lines 31-52. As in the source's code, but that the entries of
    a step change after it, not in the backward pass, and that logarithms are taken
    before exponentials, which a small temperature would overflow.

    Misleads where data sets differ in size: all images at once give about
    log N + 1 / (2 m temperature²) at first. Entries are as old as an epoch is long. Two
    images of one class count as negatives.

    Example:
        >>> memory = {"bank": torch.eye(2)}
        >>> batch = ViewBatch((), (torch.eye(2),), ids=torch.arange(2), memory=memory)
        >>> loss = InstDisc(temperature=1.0, negatives=0)(batch)
        >>> round(float(loss.total), 4)  # -1 + log(e + 1)
        0.3133
    """

    temperature: float = 0.07
    negatives: int = 4096
    momentum: float = 0.5
    proximal_weight: float = 0.0

    def __post_init__(self) -> None:
        check_temperature("inst_disc", self.temperature)
        if self.negatives < 0:
            raise UsageError(
                f"inst_disc: negatives is {self.negatives}", expected="from 0"
            )
        if not 0 <= self.momentum < 1:
            raise UsageError(
                f"inst_disc: momentum is {self.momentum}", expected="0 to below 1"
            )
        if not 0 <= self.proximal_weight < math.inf:
            raise UsageError(
                f"inst_disc: proximal_weight is {self.proximal_weight}",
                expected="from 0",
            )

    @property
    def needs(self) -> Needs:
        """One view."""
        return Needs(least_views=1, trained_views=1)

    def first_memory(
        self, sizes: MemorySizes, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return a bank of random entries, about 1 long, and no normaliser yet.

        Entries are uniform between -sqrt(3 / m) and sqrt(3 / m). The normaliser is held
        as its logarithm, -inf until the first batch: of 0.
        """
        uniform = torch.rand(sizes.n_images, sizes.width, generator=generator)
        bank = (2 * uniform - 1) * math.sqrt(3 / sizes.width)
        if not self.negatives:
            return {"bank": bank}
        return {"bank": bank, "log_normaliser": torch.tensor(-math.inf)}

    def __call__(self, batch: ViewBatch) -> LossOutput:
        """Return the loss of the projections of a batch."""
        ids = _ids(batch)
        with full_precision(batch.z):
            features = directions(exact_views(batch.z)[0])
            bank = remembered(batch, "bank").to(features.dtype)
            own = bank[ids]
            positives = (features * own).sum(dim=1) / self.temperature
            if self.negatives:
                terms, stats = self._estimated(batch, features, positives, bank)
            else:
                log_sum = log_sum_exp((features / self.temperature) @ bank.T).mean()
                terms, stats = {"log_sum_exp": log_sum}, {}
            near = (features - own).square().sum(dim=1).mean()
            positive = positives.mean()
        invariance = terms.get("data", -positive) + self.proximal_weight * near
        return split_loss(
            invariance,
            terms["noise"] if self.negatives else terms["log_sum_exp"],
            parts={"positive": positive * self.temperature, **terms, "proximal": near},
            stats=stats | {"zero_rows": zero_rows(features)},
        )

    def _estimated(
        self,
        batch: ViewBatch,
        features: Float[Tensor, "n m"],
        positives: Float[Tensor, " n"],
        bank: Float[Tensor, "total m"],
    ) -> tuple[dict[str, Float[Tensor, ""]], dict[str, Float[Tensor, ""]]]:
        """Return the two terms of the estimate, and what to log."""
        noise = self._noise_scores(batch, features, bank)
        log_z = remembered(batch, "log_normaliser").to(noise.dtype)
        if torch.isinf(log_z):
            log_z = _log_normaliser(positives, noise, len(bank))
        ratio = self.negatives / len(bank)  # K times the chance of each image
        floor = noise.new_tensor(math.log(ratio + NOISE_EPS))
        own, others = positives - log_z, noise - log_z  # log P
        data = torch.logaddexp(own, floor) - own
        others = torch.logaddexp(others, floor) - math.log(ratio)
        terms = {"data": data.mean(), "noise": others.sum(dim=1).mean()}
        return terms, {"log_normaliser": log_z}

    def _noise_scores(
        self,
        batch: ViewBatch,
        features: Float[Tensor, "n m"],
        bank: Float[Tensor, "total m"],
    ) -> Float[Tensor, "n k"]:
        """Return the scores of the images that were drawn for each row."""
        shape = (len(features), self.negatives)
        drawn = torch.randint(len(bank), shape, generator=draws(batch)).to(bank.device)
        scaled = features / self.temperature
        # The smaller of two tables: all scores, or the entries that were drawn.
        if len(bank) <= self.negatives * bank.shape[1]:
            return (scaled @ bank.T).gather(1, drawn)
        return torch.einsum("nm,nkm->nk", scaled, bank[drawn])

    def remember_(self, batch: ViewBatch) -> None:
        """Move the entries of the batch's images; keep the first normaliser."""
        ids = _ids(batch)
        with torch.no_grad(), full_precision(batch.z):
            features = directions(exact_views(batch.z)[0])
            bank = remembered(batch, "bank")
            own = bank[ids].to(features.dtype)
            if self.negatives and torch.isinf(remembered(batch, "log_normaliser")):
                positives = (features * own).sum(dim=1) / self.temperature
                noise = self._noise_scores(batch, features, bank.to(features.dtype))
                first = _log_normaliser(positives, noise, len(bank))
                batch.memory["log_normaliser"].copy_(first)
            moved = directions(self.momentum * own + (1 - self.momentum) * features)
            bank.index_copy_(0, ids, moved.to(bank.dtype))


def _log_normaliser(
    positives: Float[Tensor, " n"], noise: Float[Tensor, "n k"], total: int
) -> Float[Tensor, ""]:
    """Return log of (total * mean of the exponentials of all scores)."""
    scores = torch.cat([positives, noise.flatten()]).detach()
    return torch.logsumexp(scores, dim=0) + math.log(total / len(scores))


def _ids(batch: ViewBatch) -> Int[Tensor, " n"]:
    if batch.ids is None:
        raise InputError(
            "inst_disc: there are no ids, so that no image has its entry in the bank",
            fix="give the row of each image in the set: ids=...",
        )
    return batch.ids.long()
