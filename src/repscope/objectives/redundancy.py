"""Do views agree while the dimensions of the projection stay busy and unlike?"""

import math
from dataclasses import dataclass, fields
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
    pairs_of,
    split_loss,
)

Reduction = Literal["mean", "sum"]
# Shorter projections have no direction to keep when rows are brought to length 1.
LEAST_NORM = 1e-8


@dataclass(frozen=True)
class VICReg:
    """Variance, invariance and covariance regularization; lower is better, from 0.

    For projections a, b of two views, n rows, m dimensions, variances with ddof 1:

        similarity    mean over rows and dimensions of (a - b)²
        variance      v(a) / 2 + v(b) / 2,
                      v(a) = mean over j of max(0, gamma - sqrt(Var(a_j) + eps))
        covariance    c(a) + c(b),
                      c(a) = sum over i != j of Cov(a_i, a_j)² / m

        loss = invariance_weight * similarity
             + variance_weight * variance + covariance_weight * covariance

    The invariance is the first term, the regularization the rest. More than two views:
    the mean over ordered pairs of views. Computed in float32 or better.

    Args:
        invariance_weight: lambda of the source, from 0.
        variance_weight: mu of the source, from 0.
        covariance_weight: nu of the source, from 0.
        gamma: standard deviation that is asked of each dimension, above 0.
        eps: added to the variance inside of the root, above 0: it bounds the gradient
            where a dimension is constant.
        variance_average: True halves v(a) + v(b), as the authors' code does; False is
            the printed equation, which weighs the variance twice as much.
        invariance_reduction: "mean" is over rows and dimensions, as in the authors'
            code; "sum" sums over dimensions, as printed, which is m times as much.

    Call:
        With a ViewBatch; only its z is used. `parts` has "similarity", "variance" and
        "covariance" as above, before their weights. `stats` has "mean_std", the
        standard deviation of a dimension (ddof 1, no eps), mean over dimensions and
        views.

    Raises:
        UsageError: for a weight below 0, or gamma or eps that are not above 0.

    Source: Bardes, Ponce & LeCun 2022, eq. 1-6, and facebookresearch/vicreg,
    main_vicreg.py. As in the source's code; it differs from the source's equations in
    the two conventions above.

    Misleads: the share of a part depends on both conventions; never compare it with
    that of another objective. With n below m, the covariance cannot be 0.

    Example:
        >>> still = torch.ones(4, 3)
        >>> output = VICReg()(ViewBatch(h=(), z=(still, still)))
        >>> round(float(output.parts["variance"]), 4)  # 1 - sqrt(1e-4)
        0.99
    """

    invariance_weight: float = 25.0
    variance_weight: float = 25.0
    covariance_weight: float = 1.0
    gamma: float = 1.0
    eps: float = 1e-4
    variance_average: bool = True
    invariance_reduction: Reduction = "mean"

    def __post_init__(self) -> None:
        _check_numbers(self, "vicreg", positive=("gamma", "eps"))
        check_choice(
            "invariance_reduction", self.invariance_reduction, get_args(Reduction)
        )

    def __call__(self, batch: ViewBatch) -> LossOutput:
        """Return the loss of the projections of a batch."""
        with full_precision(batch.z):
            views = exact_views(batch.z)
            centred = [view - view.mean(dim=0) for view in views]
            similarity = _mean([self._distance(a, b) for a, b in pairs_of(views)])
            # The mean over pairs of f(a) + f(b) is twice the mean over views of f.
            hinge = _mean([self._hinge(view) for view in centred])
            variance = hinge if self.variance_average else 2 * hinge
            covariance = 2 * _mean([_covariance(view) for view in centred])
            spread = _mean([_variances(view).sqrt().mean() for view in centred])
            return split_loss(
                self.invariance_weight * similarity,
                self.variance_weight * variance + self.covariance_weight * covariance,
                parts={
                    "similarity": similarity,
                    "variance": variance,
                    "covariance": covariance,
                },
                stats={"mean_std": spread},
            )

    def _distance(
        self, view_a: Float[Tensor, "n m"], view_b: Float[Tensor, "n m"]
    ) -> Float[Tensor, ""]:
        squares = (view_a - view_b).square()
        if self.invariance_reduction == "sum":
            return squares.sum(dim=1).mean()
        return squares.mean()

    def _hinge(self, centred: Float[Tensor, "n m"]) -> Float[Tensor, ""]:
        return torch.relu(self.gamma - (_variances(centred) + self.eps).sqrt()).mean()


@dataclass(frozen=True)
class BarlowTwins:
    """Redundancy reduction by the correlations between two views; from 0, lower better.

    For projections a, b of two views, n rows, m dimensions:

        C = A^T B / n, A and B being a and b with each dimension at mean 0 and
        population variance 1: (a_j - mean) / sqrt(Var(a_j) + eps)

        loss = sum over i of (1 - C_ii)²
             + off_diagonal_weight * sum over i != j of C_ij²

    The invariance is the first term, the regularization the second. More than two
    views: the mean over ordered pairs of views. Computed in float32 or better.

    Args:
        off_diagonal_weight: lambda of the source, from 0; .0051 is for m = 8192.
        eps: added to the variance inside of the root, above 0.
        center: False leaves the means in; C_ij is then the uncentred cosine over the
            batch, and the variance the mean square.
        joint_norm: True brings rows to length 1 and then takes the mean and the
            variance (ddof 1) over both views together.

    Call:
        With a ViewBatch; only its z is used. `parts` has "on_diagonal" and
        "off_diagonal", the two sums before the weight. `stats` has
        "mean_correlation", the mean of C_ii, -1 to 1 where the views are standardised
        apart.

    Raises:
        UsageError: for a weight below 0, or eps that is not above 0.

    Source: Zbontar et al. 2021, eq. 1-2, and facebookresearch/barlowtwins at 046eec3,
    main.py. As in the source's code by default; `center=False` is C as Agrawal et al.
    2022 print it, `joint_norm=True` what their code has since 2023
    (kumarkrishna/fastssl at 96dfa37). Differs from the latter in eps, which it has not,
    and which counts where m is large: rows of length 1 have variances of about 1 / m.

    Misleads: both sums grow with m, so that losses of different m do not compare, and
    the weight that suits one m suits no other. With n below m, C cannot be the
    identity.

    Example:
        >>> view = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        >>> output = BarlowTwins()(ViewBatch(h=(), z=(view, 2 * view + 4)))
        >>> round(float(output.total), 6)
        0.0
    """

    off_diagonal_weight: float = 0.0051
    eps: float = 1e-5
    center: bool = True
    joint_norm: bool = False

    def __post_init__(self) -> None:
        _check_numbers(self, "barlow_twins", positive=("eps",))

    def __call__(self, batch: ViewBatch) -> LossOutput:
        """Return the loss of the projections of a batch."""
        with full_precision(batch.z):
            of_pairs = [
                _correlation_sums(*self._standardised(a, b))
                for a, b in pairs_of(exact_views(batch.z))
            ]
            on_diagonal, off_diagonal, correlation = (
                _mean(list(values)) for values in zip(*of_pairs, strict=True)
            )
            return split_loss(
                on_diagonal,
                self.off_diagonal_weight * off_diagonal,
                parts={"on_diagonal": on_diagonal, "off_diagonal": off_diagonal},
                stats={"mean_correlation": correlation},
            )

    def _standardised(
        self, view_a: Float[Tensor, "n m"], view_b: Float[Tensor, "n m"]
    ) -> tuple[Float[Tensor, "n m"], Float[Tensor, "n m"]]:
        if not self.joint_norm:
            return self._scaled(view_a, ddof=0), self._scaled(view_b, ddof=0)
        both = torch.cat([view_a, view_b])
        both = torch.nn.functional.normalize(both, dim=1, eps=LEAST_NORM)
        first, second = self._scaled(both, ddof=1).split(len(view_a))
        return first, second

    def _scaled(self, view: Float[Tensor, "n m"], *, ddof: int) -> Float[Tensor, "n m"]:
        centred = view - view.mean(dim=0) if self.center else view
        variances = centred.square().sum(dim=0) / (len(view) - ddof)
        return centred / (variances + self.eps).sqrt()


def _variances(centred: Float[Tensor, "n m"]) -> Float[Tensor, " m"]:
    """Return the variance of each dimension, ddof 1."""
    return centred.square().sum(dim=0) / (len(centred) - 1)


def _covariance(centred: Float[Tensor, "n m"]) -> Float[Tensor, ""]:
    """Return the sum of squared covariances of unlike dimensions / m, ddof 1."""
    covariances = centred.T @ centred / (len(centred) - 1)
    return _off_diagonal(covariances).square().sum() / centred.shape[1]


def _correlation_sums(
    view_a: Float[Tensor, "n m"], view_b: Float[Tensor, "n m"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""], Float[Tensor, ""]]:
    """Return sum of (1 - C_ii)², sum of C_ij² off the diagonal, and mean C_ii."""
    correlations = view_a.T @ view_b / len(view_a)
    diagonal = correlations.diagonal()
    on_diagonal = (1 - diagonal).square().sum()
    off_diagonal = _off_diagonal(correlations).square().sum()
    return on_diagonal, off_diagonal, diagonal.mean()


def _off_diagonal(matrix: Float[Tensor, "m m"]) -> Float[Tensor, "m m"]:
    """Return the matrix with zeros on its diagonal."""
    return matrix - torch.diag(matrix.diagonal())


def _mean(values: list[Float[Tensor, ""]]) -> Float[Tensor, ""]:
    return torch.stack(values).mean()


def _check_numbers(
    objective: VICReg | BarlowTwins, name: str, *, positive: tuple[str, ...]
) -> None:
    for field in fields(objective):
        value = getattr(objective, field.name)
        if field.type is not float:
            continue
        allowed = value > 0 if field.name in positive else value >= 0
        if not allowed or not math.isfinite(value):
            expected = "above 0" if field.name in positive else "from 0"
            raise UsageError(f"{name}: {field.name} is {value}", expected=expected)
