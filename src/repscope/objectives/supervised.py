"""How well do features tell the classes that the labels name?"""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from repscope._checking import InputError, UsageError
from repscope.objectives.batch import (
    LossOutput,
    ViewBatch,
    exact_views,
    full_precision,
    split_loss,
)
from repscope.objectives.objective import AbstractObjective, Needs
from repscope.objectives.requirements import check_given


@dataclass(frozen=True)
class CrossEntropy(AbstractObjective):
    """The cross-entropy of class scores and labels, in nats; from 0, lower is better.

    For scores x of C classes and labels y, with smoothing e:

        w_c  = (1 - e) [c = y] + e / C
        loss = mean over rows of -sum over c of w_c x_c + log sum over c of exp x_c

    The invariance is the first term, the regularization the second. Several views: the
    mean over views. Computed in float32 or better.

    Args:
        label_smoothing: e of the source, from 0 to below 1.

    Call:
        With a ViewBatch; its predictions, which are the scores, and its labels, whole
        numbers from 0 to C - 1, are used. `parts` has "score", the weighted score of
        the label, and "log_sum_exp". `stats` has "accuracy", the share of rows whose
        greatest score, the first among equals, is that of the label, 0 to 1.

    Raises:
        UsageError: for a smoothing outside of its range.
        InputError: where scores or labels are missing, or labels are no whole numbers.

    Source: Szegedy et al. 2016, section 7, where e is the smoothing. As in the source.

    Misleads: adding a number to all scores of a row moves it between the two parts,
    which compare within one run at best. The accuracy is that of augmented training
    images, during training.

    Example:
        >>> scores = torch.tensor([[0.0, 0.0], [0.0, 0.0]])
        >>> labels = torch.tensor([0, 1])
        >>> batch = ViewBatch((), (scores,), predictions=(scores,), labels=labels)
        >>> round(float(CrossEntropy()(batch).total), 4)  # log 2
        0.6931
    """

    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise UsageError(
                f"cross_entropy: label_smoothing is {self.label_smoothing}",
                expected="0 to below 1",
            )

    @property
    def needs(self) -> Needs:
        """One view, its class scores and a label."""
        return Needs(least_views=1, trained_views=1, predictor="classes", labels=True)

    def __call__(self, batch: ViewBatch) -> LossOutput:
        """Return the loss of the class scores of a batch."""
        check_given("cross_entropy", self.needs, batch)
        labels = _whole_numbers(batch.labels)
        with full_precision(batch.z):
            scores = torch.cat(exact_views(batch.predictions))  # (v n, c)
            labels = labels.repeat(len(batch.predictions))
            own = scores.gather(1, labels[:, None])[:, 0]
            share = self.label_smoothing
            score = (1 - share) * own.mean() + share * scores.mean()
            log_sum = torch.logsumexp(scores, dim=1).mean()
            found = (scores.argmax(dim=1) == labels).to(scores.dtype).mean()
            return split_loss(
                -score,
                log_sum,
                parts={"score": score, "log_sum_exp": log_sum},
                stats={"accuracy": found},
            )


def _whole_numbers(labels: Tensor | None) -> Int[Tensor, " n"]:
    if labels is None or labels.ndim != 1 or labels.is_floating_point():
        raise InputError(
            "cross_entropy: labels must be whole numbers, one for each image",
            found="none" if labels is None else f"{labels.dtype}, {labels.ndim}-d",
        )
    return labels.long()
