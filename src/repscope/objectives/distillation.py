"""Does each view predict what the network makes of the other, without negatives?

Nothing in these losses keeps projections apart: that a predictor stands on one side
alone, and that no gradient passes the other, is what keeps them from collapsing. The
numbers beside the loss say whether it did.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from repscope._checking import UsageError
from repscope.objectives.batch import (
    LossOutput,
    ViewBatch,
    exact_views,
    full_precision,
    mean_of,
    split_loss,
)
from repscope.objectives.directions import directions
from repscope.objectives.objective import AbstractObjective, Needs, Target
from repscope.objectives.requirements import check_given

Views = tuple[Float[Tensor, "n m"], ...]
# Views that all others predict: crops of the whole image come first.
TARGET_VIEWS = (0, 1)


@dataclass(frozen=True)
class BYOL(AbstractObjective):
    """Bootstrap your own latent: predict the projections of a network that follows.

    q are the predictions of the trained network, t the targets of the second one:

        loss of a pair = mean over rows of 2 - 2 cos(q[i], t[k]), views i != k

    symmetric: its mean over the ordered pairs of each trained view i with the targets
    k of the first two views, times 2, as the source sums the two directions of two
    views; 0 to 8, lower is better. Otherwise: that of q[0] and t[1] alone, 0 to 4.

    The invariance is all of it, the regularization 0: what keeps it from collapsing is
    no term. Computed in float32 or better; a row shorter than 1e-8 has a cosine of 0
    with every other, and no gradient.

    Args:
        momentum: of the second network at the first step, 0 to 1; it rises to 1 by a
            cosine.
        symmetric: whether both views predict each other.

    Call:
        With a ViewBatch; its predictions and targets are used. `parts` has "cosine",
        the mean over pairs, -1 to 1. `stats` has "predictor_rank", the participation
        ratio tr(C)² / |C|² (Frobenius norm) of the covariance C of the predictions, 1
        to the smaller of n - 1 and m, and 0 where they are constant, mean over views;
        and "target_std", the standard deviation (ddof 0) of each dimension of the
        targets of length 1, mean over dimensions and views, times sqrt(m): at most 1,
        about 1 where they are spread over the sphere, 0 where they have collapsed.

    Raises:
        UsageError: for a momentum outside of 0 to 1.
        InputError: where predictions or targets are missing.

    Source: Grill et al. 2020, eq. 2 and section 3.3; google-deepmind/deepmind-research
    at f5de0ed, byol/byol_experiment.py, which sums the two directions (lightly's
    examples average them, solo-learn sums). As in the source for two views;
    `symmetric=False` is what Agrawal et al. 2022 do.

    Misleads: a loss near 0 is also that of collapsed projections; read "target_std"
    beside it. The participation ratio weighs the largest variances most: it is below
    the effective rank by entropy.

    Example:
        >>> rows = torch.eye(2)
        >>> views = (rows, rows)
        >>> batch = ViewBatch(h=(), z=views, predictions=views, targets=(rows, -rows))
        >>> float(BYOL()(batch).total)  # 0 from 2 to 1, and 4 from 1 to 2
        4.0
    """

    momentum: float = 0.996
    symmetric: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.momentum <= 1:
            raise UsageError(f"byol: momentum is {self.momentum}", expected="0 to 1")

    @property
    def needs(self) -> Needs:
        """A predictor and a second network for the first two views."""
        views = TARGET_VIEWS if self.symmetric else TARGET_VIEWS[1:]
        return Needs(
            trained_views=None if self.symmetric else 1,
            target=Target(views, self.momentum, "cosine"),
            predictor="byol",
        )

    def __call__(self, batch: ViewBatch) -> LossOutput:
        """Return the loss of the predictions of a batch."""
        check_given("byol", self.needs, batch)
        places = TARGET_VIEWS if self.symmetric else TARGET_VIEWS[1:]
        with full_precision(batch.z):
            n_trained = len(batch.predictions) if self.symmetric else 1
            predictions = exact_views(batch.predictions[:n_trained])
            targets = _aims(batch.targets[: len(places)])
            cosine = _mean_cosine(predictions, dict(zip(places, targets, strict=True)))
            loss = 2 - 2 * cosine
            return split_loss(
                2 * loss if self.symmetric else loss,
                torch.zeros_like(loss),
                parts={"cosine": cosine},
                stats={
                    "predictor_rank": mean_of(
                        [_effective_rank(p) for p in predictions]
                    ),
                    "target_std": mean_of([_spread(target) for target in targets]),
                },
            )


@dataclass(frozen=True)
class SimSiam(AbstractObjective):
    """Simple siamese: predict the own projection of the other view.

    p are the predictions, z the projections, without gradient where they are aimed at:

        loss of a pair = minus the mean over rows of cos(p[i], z[k]), views i != k

    and its mean over the ordered pairs of each view i with the first two views k: half
    of the sum of both directions for two views; -1 to 1, lower is better.

    The invariance is all of it, the regularization 0: what keeps it from collapsing is
    no term. Computed in float32 or better; a row shorter than 1e-8 has a cosine of 0
    with every other, and no gradient.

    Args:
        symmetric: whether both views predict each other; False is the first view's
            prediction of the second alone.

    Call:
        With a ViewBatch; its predictions and z are used. `parts` has "cosine", the mean
        over pairs, -1 to 1. `stats` has "output_std", the standard deviation (ddof 0)
        of each dimension of the projections aimed at, of length 1, mean over dimensions
        and views, times sqrt(m): at most 1, about 1 where they are spread over the
        sphere, 0 where they have collapsed.

    Raises:
        InputError: where there are fewer than two views, or predictions are missing.

    Source: Chen & He 2021, eq. 1-4 and figure 2 (the standard deviation, there without
    the factor sqrt(m)); facebookresearch/simsiam at a7bc177, main_simsiam.py. As in the
    source for two views.

    Misleads: a loss near -1 is also that of collapsed projections; read "output_std"
    beside it.

    Example:
        >>> rows = torch.eye(2)
        >>> views = (rows, rows)
        >>> float(SimSiam()(ViewBatch(h=(), z=views, predictions=views)).total)
        -1.0
    """

    symmetric: bool = True

    @property
    def needs(self) -> Needs:
        """A predictor."""
        return Needs(predictor="simsiam")

    def __call__(self, batch: ViewBatch) -> LossOutput:
        """Return the loss of the predictions of a batch."""
        check_given("simsiam", self.needs, batch)
        places = TARGET_VIEWS if self.symmetric else TARGET_VIEWS[1:]
        with full_precision(batch.z):
            n_trained = len(batch.predictions) if self.symmetric else 1
            predictions = exact_views(batch.predictions[:n_trained])
            targets = _aims(tuple(batch.z[place] for place in places))
            cosine = _mean_cosine(predictions, dict(zip(places, targets, strict=True)))
            return split_loss(
                -cosine,
                torch.zeros_like(cosine),
                parts={"cosine": cosine},
                stats={"output_std": mean_of([_spread(target) for target in targets])},
            )


def _aims(views: Views) -> Views:
    """Return the directions of what is predicted, without gradient."""
    return tuple(directions(view.detach()) for view in exact_views(views))


def _mean_cosine(
    predictions: Views, targets: dict[int, Float[Tensor, "n m"]]
) -> Float[Tensor, ""]:
    """Return the mean over rows and ordered pairs of different views.

    Args:
        predictions: of the views 0, 1, ...
        targets: view → directions.
    """
    cosines = []
    for view, prediction in enumerate(predictions):
        others = [target for place, target in targets.items() if place != view]
        direction = directions(prediction)
        cosines += [(direction * other).sum(dim=1).mean() for other in others]
    return mean_of(cosines)


@torch.no_grad()
def _effective_rank(predictions: Float[Tensor, "n m"]) -> Float[Tensor, ""]:
    """Return the participation ratio of the eigenvalues of the covariance."""
    centred = predictions - predictions.mean(dim=0)
    # Both products have the same eigenvalues beside zeros; the smaller one is made.
    n, m = centred.shape
    product = centred @ centred.T if n < m else centred.T @ centred
    total = product.diagonal().sum()
    # What rounding leaves of constant rows is no direction.
    size = predictions.square().sum()
    rounding = (16 * torch.finfo(predictions.dtype).eps) ** 2 * size
    is_constant = total <= rounding
    squares = torch.where(is_constant, 1.0, product.square().sum())
    return torch.where(is_constant, 0.0, total.square() / squares)


def _spread(unit: Float[Tensor, "n m"]) -> Float[Tensor, ""]:
    """Return the mean standard deviation of a dimension, ddof 0, times sqrt(m)."""
    # torch's own std takes eight times as long along this dimension.
    variances = (unit - unit.mean(dim=0)).square().mean(dim=0)
    return variances.sqrt().mean() * unit.shape[1] ** 0.5
