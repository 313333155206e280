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
    mean_of,
    pairs_of,
    split_loss,
)
from repscope.objectives.directions import directions
from repscope.objectives.objective import AbstractObjective, Needs

Reduction = Literal["mean", "sum"]


@dataclass(frozen=True)
class VICReg(AbstractObjective):
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

    @property
    def needs(self) -> Needs:
        """Two views or more."""
        return Needs()

    def __call__(self, batch: ViewBatch) -> LossOutput:
        """Return the loss of the projections of a batch."""
        with full_precision(batch.z):
            views = exact_views(batch.z)
            root = math.sqrt(len(views[0]) - 1)
            scaled = [(view - view.mean(dim=0)) / root for view in views]
            variances = [view.square().sum(dim=0) for view in scaled]
            similarity = mean_of([self._distance(a, b) for a, b in pairs_of(views)])
            # The mean over pairs of f(a) + f(b) is twice the mean over views of f.
            hinge = mean_of([self._hinge(of_view) for of_view in variances])
            variance = hinge if self.variance_average else 2 * hinge
            covariance = 2 * mean_of(
                [_covariance(*one) for one in zip(scaled, variances, strict=True)]
            )
            spread = mean_of([of_view.detach().sqrt().mean() for of_view in variances])
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
        mean = torch.nn.functional.mse_loss(view_a, view_b)
        is_sum = self.invariance_reduction == "sum"
        return mean * view_a.shape[1] if is_sum else mean

    def _hinge(self, variances: Float[Tensor, " m"]) -> Float[Tensor, ""]:
        return torch.relu(self.gamma - (variances + self.eps).sqrt()).mean()


@dataclass(frozen=True)
class BarlowTwins(AbstractObjective):
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

    @property
    def needs(self) -> Needs:
        """Two views or more."""
        return Needs()

    def __call__(self, batch: ViewBatch) -> LossOutput:
        """Return the loss of the projections of a batch."""
        with full_precision(batch.z):
            of_pairs = [
                _correlation_sums(*self._standardised(a, b))
                for a, b in pairs_of(exact_views(batch.z))
            ]
            on_diagonal, off_diagonal, correlation = (
                mean_of(list(values)) for values in zip(*of_pairs, strict=True)
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
        both = directions(torch.cat([view_a, view_b]))
        first, second = self._scaled(both, ddof=1).split(len(view_a))
        return first, second

    def _scaled(self, view: Float[Tensor, "n m"], *, ddof: int) -> Float[Tensor, "n m"]:
        if self.center and ddof == 0:  # in fewer passes over memory
            return torch.nn.functional.batch_norm(
                view, None, None, training=True, eps=self.eps
            )
        centred = view - view.mean(dim=0) if self.center else view
        variances = centred.square().sum(dim=0) / (len(view) - ddof)
        return centred / (variances + self.eps).sqrt()


class _RowProducts(torch.autograd.Function):
    """X X^T, with one product in the backward pass where autograd takes two."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, rows: Float[Tensor, "n m"]
    ) -> Float[Tensor, "n n"]:
        """Return the inner products of all rows."""
        ctx.save_for_backward(rows)
        return rows @ rows.T

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, gradient: Float[Tensor, "n n"]
    ) -> Float[Tensor, "n m"]:
        """Return (G + G^T) X, which can be differentiated again."""
        (rows,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return (gradient + gradient.T) @ rows


def _row_products(rows: Float[Tensor, "n m"]) -> Float[Tensor, "n n"]:
    products: Tensor = _RowProducts.apply(rows)
    return products


def _covariance(
    scaled: Float[Tensor, "n m"], variances: Float[Tensor, " m"]
) -> Float[Tensor, ""]:
    """Return the sum of squared covariances of unlike dimensions / m.

    With fewer rows than dimensions, the smaller product X X^T has the same sum of
    squares as X^T X, and those of the variances are subtracted from it. What is left is
    exact to rounding of what there was: in float32 to 1e-6, and to 2e-5 where one
    dimension varies 100 times as much as the others. Which is faster is timed in
    `benchmarks/objectives_against_lightly.py`.

    Args:
        scaled: centred and divided by the root of n - 1.
        variances: of the dimensions.
    """
    n, m = scaled.shape
    if n < m:
        squares = _row_products(scaled).square().sum() - variances.square().sum()
    else:
        squares = _row_products(scaled.T).fill_diagonal_(0).square().sum()
    return squares / m


def _correlation_sums(
    view_a: Float[Tensor, "n m"], view_b: Float[Tensor, "n m"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""], Float[Tensor, ""]]:
    """Return sum of (1 - C_ii)², sum of C_ij² off the diagonal, and mean C_ii.

    With few rows, C = A^T B is not made: the sum of its squares is that of A A^T times
    B B^T, entry by entry, and the diagonal is subtracted, exact as in `_covariance`.
    """
    n, m = view_a.shape
    shares = view_b / n
    if 4 * n < 3 * m:  # four products of n n m are less work than three of n m m
        diagonal = (view_a * shares).sum(dim=0)
        squares = (_row_products(view_a) * _row_products(shares)).sum()
        off_diagonal = squares - diagonal.square().sum()
    else:
        correlations = view_a.T @ shares
        diagonal = correlations.diagonal().clone()
        off_diagonal = correlations.fill_diagonal_(0).square().sum()
    on_diagonal = (1 - diagonal).square().sum()
    return on_diagonal, off_diagonal, diagonal.mean()


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
