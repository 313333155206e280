"""Do images of one class find each other? And does that leave each image its own place?

`SupCon` pulls all views of a class together; `JointLoss` mixes it with NT-Xent, which
only pulls views of one image.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from repscope._checking import UsageError, check_choice
from repscope.objectives.batch import (
    LossOutput,
    ViewBatch,
    exact_views,
    full_precision,
    split_loss,
)
from repscope.objectives.contrastive import NTXent
from repscope.objectives.directions import directions
from repscope.objectives.objective import AbstractObjective, Needs
from repscope.objectives.requirements import check_given
from repscope.objectives.similarity_scores import (
    check_temperature,
    log_sum_exp,
    mask_diagonal_,
    same_class,
    zero_rows,
)

Variant = Literal["out", "in"]


@dataclass(frozen=True)
class SupCon(AbstractObjective):
    """The supervised contrastive loss; lower is better, from 0.

    All v views of n images are anchors. s is the cosine of two anchors / temperature;
    P(i) are the anchors k != i of the class of i:

        out    mean over v n anchors i of
               -mean over k in P(i) of s[i, k] + log sum over all k != i of exp s[i, k]
        in     mean over v n anchors i of
               -log mean over k in P(i) of exp s[i, k] + the same log sum;
               never above `out`, and drawn to the positives that are near already

    An anchor without positives adds 0, and is counted; with two views there is none. A
    label below 0 is none: only other views of its image are its positives. The
    invariance is the first term, the regularization the second, both in nats. Computed
    in float32 or better.

    Where every image is a class of its own and there are two views, both variants are
    NT-Xent.

    Args:
        temperature: tau of the source, above 0; .07 is the source's for ImageNet, .1
            for CIFAR.
        variant: which of the above.

    Call:
        With a ViewBatch; its z and labels are used. `parts` has "positive", the
        invariance * -temperature: for `out` the mean cosine of anchors with their
        positives, -1 to 1; and "log_sum_exp". `stats` has "anchors_without_positive";
        and "zero_rows", how many projections have no direction.

    Raises:
        UsageError: for a temperature that is not above 0, or an unknown variant.
        InputError: in the call, where there are no labels.

    Source: Khosla et al. 2020, eq. 2 (out) and eq. 3 (in), and
    HobbitLong/SupContrast at 66a8fe5, losses.py, lines 57-104 (out, all views as
    anchors, as here with more than two views: P(i) would miss positives in each pair
    of views). As in the source, whose factor temperature / base temperature is 1.

    Misleads where classes have subclasses: it is least where all of a class are one
    point, so that what tells subclasses apart may be lost. The least value depends on
    how many of a class are in the batch: log |P(i)| at best for a batch of one class.

    Example:
        >>> view, labels = torch.eye(2), torch.tensor([3, 5])
        >>> batch = ViewBatch(h=(), z=(view, view), labels=labels)
        >>> round(float(SupCon(temperature=1.0)(batch).total), 4)  # -1 + log(e + 2)
        0.5514
    """

    temperature: float = 0.07
    variant: Variant = "out"

    def __post_init__(self) -> None:
        check_temperature("supcon", self.temperature)
        check_choice("variant of supcon", self.variant, get_args(Variant))

    @property
    def needs(self) -> Needs:
        """Labels; one view will do, where images of a class meet in a batch."""
        return Needs(least_views=1, labels=True)

    def __call__(self, batch: ViewBatch) -> LossOutput:
        """Return the loss of the projections and labels of a batch."""
        check_given("supcon", self.needs, batch)
        assert batch.labels is not None  # just checked
        same = same_class(batch.labels)
        with full_precision(batch.z):
            units = [directions(view) for view in exact_views(batch.z)]
            anchors = torch.cat(units)
            scores = (anchors / self.temperature) @ anchors.T
            mask_diagonal_(scores)
            log_sums = log_sum_exp(scores)
            counts = (same.sum(dim=1) * len(units) - 1).repeat(len(units))
            if self.variant == "out":
                positives = _mean_cosines(units, same, counts) / self.temperature
            else:
                positives = _log_means(scores, same, counts)
            # A where, not a product: what is left out may be infinite.
            nothing = torch.zeros_like(log_sums)
            positive = torch.where(counts > 0, positives, nothing).mean()
            log_sum = torch.where(counts > 0, log_sums, nothing).mean()
        alone = (counts == 0).sum().to(log_sum.dtype)
        return split_loss(
            -positive,
            log_sum,
            parts={"positive": positive * self.temperature, "log_sum_exp": log_sum},
            stats={"anchors_without_positive": alone, "zero_rows": zero_rows(*units)},
        )


@dataclass(frozen=True)
class JointLoss(AbstractObjective):
    """A class's images together and each image apart: SupCon and NT-Xent, weighed.

        beta * SupCon + (1 - beta) * NT-Xent

    of the same views with the same temperature; lower is better, from 0. The variants
    are `out` and `standard`. Invariance and regularization are the same sums of those
    of the two. With beta 0 or 1 it is one of the two, bit for bit.

    Args:
        beta: share of the supervised loss, 0 to 1.
        temperature: of both, above 0.

    Call:
        With a ViewBatch; its z and labels are used. `parts` has "supervised" and
        "unsupervised", the two losses before their weights, and the parts of both with
        these words before their names. `stats` has the stats of both.

    Raises:
        UsageError: for a temperature that is not above 0, or beta outside of 0 to 1.
        InputError: in the call, where there are no labels, or fewer than two views.

    Source: Xue et al. 2023 (ICML), joint loss. Differs from the source in that beta and
    the temperature, which it does not give, are ours.

    Misleads: the shares of the two in the value are not their shares in the gradient;
    and with more than two views NT-Xent is the mean over pairs of views, but SupCon
    takes all views together, with larger log sums.

    Example:
        >>> view, labels = torch.eye(2), torch.tensor([3, 3])
        >>> batch = ViewBatch(h=(), z=(view, view), labels=labels)
        >>> parts = JointLoss(temperature=1.0)(batch).parts
        >>> [round(float(parts[x]), 2) for x in ("supervised", "unsupervised")]
        [1.22, 0.55]
    """

    beta: float = 0.5
    temperature: float = 0.1

    def __post_init__(self) -> None:
        check_temperature("joint", self.temperature)
        if not 0 <= self.beta <= 1:
            raise UsageError(f"joint: beta is {self.beta}", expected="0 to 1")

    @property
    def needs(self) -> Needs:
        """Two views or more, and labels."""
        return Needs(labels=True)

    def __call__(self, batch: ViewBatch) -> LossOutput:
        """Return the loss of the projections and labels of a batch."""
        check_given("joint", self.needs, batch)
        supervised = SupCon(temperature=self.temperature)(batch)
        unsupervised = NTXent(temperature=self.temperature)(batch)
        parts = {"supervised": supervised.total, "unsupervised": unsupervised.total}
        parts |= {f"supervised_{k}": part for k, part in supervised.parts.items()}
        parts |= {f"unsupervised_{k}": part for k, part in unsupervised.parts.items()}
        return split_loss(
            self._weighed(supervised.invariance, unsupervised.invariance),
            self._weighed(supervised.regularization, unsupervised.regularization),
            parts=parts,
            stats=unsupervised.stats | supervised.stats,
        )

    def _weighed(
        self,
        supervised: Float[Tensor, ""] | None,
        unsupervised: Float[Tensor, ""] | None,
    ) -> Float[Tensor, ""]:
        assert supervised is not None and unsupervised is not None  # both have a split
        return self.beta * supervised + (1 - self.beta) * unsupervised


def _mean_cosines(
    units: list[Float[Tensor, "n m"]],
    same: Bool[Tensor, "n n"],
    counts: Int[Tensor, " vn"],
) -> Float[Tensor, " vn"]:
    """Return the mean cosine of each anchor with its positives, by sums of classes."""
    sums = same.to(units[0].dtype) @ torch.stack(units).sum(dim=0)  # (n, m)
    others = [(unit * (sums - unit)).sum(dim=1) for unit in units]
    return torch.cat(others) / counts.clamp(min=1)


def _log_means(
    scores: Float[Tensor, "vn vn"],
    same: Bool[Tensor, "n n"],
    counts: Int[Tensor, " vn"],
) -> Float[Tensor, " vn"]:
    """Return the log of the mean exponential of the scores of each anchor's positives.

    Where an anchor has none it is another, finite number.
    """
    views = len(scores) // len(same)
    # -inf on the diagonal stays -inf: an anchor is none of its own positives.
    left_out = ~same.repeat(views, views) & (counts > 0)[:, None]
    positives = log_sum_exp(scores.masked_fill(left_out, -math.inf))
    return positives - counts.clamp(min=1).to(scores.dtype).log()
