"""Do projections span the graph that ties the views of an image, or of a class?

The loss whose least value and least point are known in closed form, so that theory can
say what it keeps and what it drops.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
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
from repscope.objectives.objective import AbstractObjective, Needs
from repscope.objectives.requirements import check_given
from repscope.objectives.similarity_scores import same_class

Positives = Literal["views", "labels"]


@dataclass(frozen=True)
class SpectralContrastive(AbstractObjective):
    """The spectral contrastive loss; lower is better, in expectation from -m.

    For projections a, b of two views of n images, in m dimensions, as they are:

        -2 mean over pairs of alike i, k of a[i]·b[k]
        + mean over i != k of (a[i]·b[k])²

    Alike are the two views of an image, i = k; or a[i] with each b[k] of its class,
    k = i among them, averaged over the class and then over i. The invariance is the
    first term, the regularization the second. More than two views: the mean over
    ordered pairs of views. Computed in float32 or better.

    Args:
        positives: "views" of one image, or "labels": images of one label. A label
            below 0 is none: such an image is a class of its own.
        include_self: True takes the second mean over all i, k, the views of one image
            among them: with one fixed view the loss is then
            -2 tr(W M+ W^T) + |W M W^T|², M the second moment of what a linear map W
            is applied to and M+ that of alike pairs.

    Call:
        With a ViewBatch; its z, and for "labels" its labels, are used. `parts` has
        "positive", the mean product of alike pairs, and "negative", the mean square of
        others, before their weights. `stats` has "mean_square_length" of projections.

    Raises:
        UsageError: for unknown positives.
        InputError: in the call, where there are fewer than two views, or no labels.

    Source: HaoChen et al. 2021, section 3.2; jhaochenz96/spectral_contrastive_learning
    at ee431bd, models/spectral.py, lines 8-17: other views alone, i != k.
    Differs from the source's code in that projections longer than sqrt(mu) are not
    shortened and nothing is divided by mu; and from the source in `positives="labels"`,
    which is the loss of Xue et al. 2023 as we read it.

    Misleads: a batch of no more than m images has no least value unless the second
    mean takes all pairs: projections that are orthogonal can grow without end. -m is
    met only where all views of an image are one point.

    Example:
        >>> view = 2 ** 0.5 * torch.eye(2)
        >>> output = SpectralContrastive(include_self=True)(ViewBatch((), (view, view)))
        >>> round(float(output.total), 4)  # -2 * 2 + 2 * 2² / 4
        -2.0
    """

    positives: Positives = "views"
    include_self: bool = False

    def __post_init__(self) -> None:
        check_choice("positives of spectral", self.positives, get_args(Positives))

    @property
    def needs(self) -> Needs:
        """Two views or more; labels where they say which pairs are alike."""
        return Needs(labels=self.positives == "labels")

    def __call__(self, batch: ViewBatch) -> LossOutput:
        """Return the loss of the projections of a batch."""
        check_given("spectral", self.needs, batch)
        same = None
        if self.positives == "labels":
            assert batch.labels is not None  # just checked
            same = same_class(batch.labels)
        with full_precision(batch.z):
            views = exact_views(batch.z)
            of_pairs = [torch.stack(self._pair(a, b, same)) for a, b in pairs_of(views)]
            positive, negative = torch.stack(of_pairs).mean(dim=0)
            length = torch.stack([view.square().sum(dim=1).mean() for view in views])
        return split_loss(
            -2 * positive,
            negative,
            parts={"positive": positive, "negative": negative},
            stats={"mean_square_length": length.mean()},
        )

    def _pair(
        self,
        view_a: Float[Tensor, "n m"],
        view_b: Float[Tensor, "n m"],
        same: Bool[Tensor, "n n"] | None,
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Return the mean product of alike pairs and the mean square of others."""
        n = len(view_a)
        alike = view_b
        if same is not None:  # the mean over the class
            alike = same.to(view_b.dtype) @ view_b / same.sum(dim=1, keepdim=True)
        positive = (view_a * alike).sum(dim=1).mean()
        products = view_a @ view_b.T
        if self.include_self:
            return positive, products.square().mean()
        # The gradient of a square is 0 at 0, so that autograd need not see this.
        products.detach().fill_diagonal_(0)
        return positive, products.square().sum() / (n * (n - 1))
