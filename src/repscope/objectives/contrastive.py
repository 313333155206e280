"""How well does each image find its other view among the rest of the batch?"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from repscope._checking import check_choice
from repscope.objectives.batch import (
    LossOutput,
    ViewBatch,
    exact_views,
    full_precision,
    pairs_of,
    split_loss,
)
from repscope.objectives.directions import directions
from repscope.objectives.objective import AbstractObjective, Needs
from repscope.objectives.similarity_scores import (
    check_temperature,
    log_sum_exp,
    mask_diagonal_,
    zero_rows,
)

Variant = Literal[
    "standard", "decoupled", "cross_view", "decoupled_cross_view", "ratio"
]


@dataclass(frozen=True)
class NTXent(AbstractObjective):
    """The contrastive loss of SimCLR, and its variants; lower is better.

    s is the cosine of two projections / temperature; p(i) is the other view of i.

    ====================  ========================================================
    standard              mean over 2n anchors of -s[i, p(i)] + log sum over all
                          k != i of exp s[i, k]; from 0
    decoupled             as standard without k = p(i) in the sum; may be negative
    cross_view            n anchors of view a among the n of view b:
                          mean of -s[i, i] + log sum over all k of exp s[i, k];
                          plus the same from b to a; from 0
    decoupled_cross_view  as cross_view without k = i, and the mean of the two
                          directions; may be negative
    ratio                 minus the mean over 2n anchors of
                          exp s[i, p(i)] / sum over k != i of exp s[i, k]; -1 to 0
    ====================  ========================================================

    The invariance is the term of s[i, p(i)], the regularization that of the log sum,
    both in nats; `ratio` has no such split. More than two views: the mean over ordered
    pairs of views. Computed in float32 or better.

    Args:
        temperature: tau of the source, above 0; .1 to .5 are usual.
        variant: which of the above.

    Call:
        With a ViewBatch; only its z is used. `parts` has "positive", the mean cosine
        of two views, -1 to 1, and "log_sum_exp". `stats` has "mi_lower_bound", nats:
        log(candidates) minus the standard loss of the same scores (for the cross-view
        variants, log n minus that of one direction), at most log(candidates); and
        "zero_rows", how many projections have no direction.

    Raises:
        UsageError: for a temperature that is not above 0, or an unknown variant.

    Source: Chen et al. 2020 (SimCLR), eq. 1 (standard); Yeh et al. 2022, eq. 6
    (decoupled); Chen, Luo & Li 2021, code of the RandBit experiment (cross_view);
    Ben-Shaul et al. 2023, section 2 (decoupled_cross_view); Kalibhat et al. 2022, eq. 1
    (ratio). Differs from the source in that the sign before the log sum of Ben-Shaul et
    al., which would attract other images, is mended and both directions are averaged;
    and in that `ratio`, which they maximise, is minimised with its sign turned, and its
    similarities are divided by a temperature.

    Misleads where batches differ in size: random projections of dimension m give
    about log(2n - 1) + 1 / (2 m temperature²). Two images of one class count as
    negatives. The share of the two parts depends on the temperature. The gradient of
    `ratio` vanishes for the pairs that are hardest.

    Example:
        >>> view = torch.eye(2)
        >>> output = NTXent(temperature=1.0)(ViewBatch(h=(), z=(view, view)))
        >>> round(float(output.total), 4)  # -1 + log(e + 2)
        0.5514
    """

    temperature: float = 0.5
    variant: Variant = "standard"

    def __post_init__(self) -> None:
        check_temperature("nt_xent", self.temperature)
        check_choice("variant of nt_xent", self.variant, get_args(Variant))

    @property
    def needs(self) -> Needs:
        """Two views or more."""
        return Needs()

    def __call__(self, batch: ViewBatch) -> LossOutput:
        """Return the loss of the projections of a batch."""
        with full_precision(batch.z):
            units = tuple(directions(view) for view in exact_views(batch.z))
            of_pairs = [self._pair(*pair) for pair in pairs_of(units)]
            positive, log_sum, bound, found = torch.stack(
                [torch.stack(values) for values in of_pairs]
            ).mean(dim=0)
        parts = {"positive": positive * self.temperature, "log_sum_exp": log_sum}
        stats = {"mi_lower_bound": bound, "zero_rows": zero_rows(*units)}
        if self.variant == "ratio":
            parts = {name: value.detach() for name, value in parts.items()}
            stats = {name: value.detach() for name, value in stats.items()}
            return LossOutput(-found, None, None, parts, stats)
        # The source sums the two directions; all other variants average over anchors.
        weight = 2 if self.variant == "cross_view" else 1
        return split_loss(
            -weight * positive, weight * log_sum, parts=parts, stats=stats
        )

    def _pair(
        self, view_a: Float[Tensor, "n m"], view_b: Float[Tensor, "n m"]
    ) -> tuple[Float[Tensor, ""], ...]:
        """Return positive score, log sum, bound and found share of two unit views."""
        n = len(view_a)
        decoupled = self.variant in ("decoupled", "decoupled_cross_view")
        if self.variant in ("cross_view", "decoupled_cross_view"):
            scores = (view_a / self.temperature) @ view_b.T
            if decoupled:
                mask_diagonal_(scores)
            # From a to b, and back.
            log_sums = torch.cat([log_sum_exp(scores), log_sum_exp(scores, dim=0)])
            candidates = n
        else:
            both = torch.cat([view_a, view_b])
            scores = (both / self.temperature) @ both.T
            for offset in (-n, 0, n) if decoupled else (0,):
                mask_diagonal_(scores, offset)
            log_sums = log_sum_exp(scores)
            candidates = 2 * n - 1
        positives = ((view_a * view_b).sum(dim=1) / self.temperature).repeat(2)
        over_all = torch.logaddexp(log_sums, positives) if decoupled else log_sums
        bound = math.log(candidates) - (over_all - positives).mean()
        found = (positives - over_all).exp().mean()
        return positives.mean(), log_sums.mean(), bound, found
