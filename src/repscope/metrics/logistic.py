"""Multinomial logistic regression, solved once for all classes.

The optimum is scikit-learn's; the way there is a quasi-Newton method in coordinates
where the problem is round: the eigenbasis of the Gram matrix, scaled by the curvature
that the softmax has at equal probabilities. Correlated features, such as pixels, then
cost no more iterations than independent ones.
"""

from dataclasses import dataclass

import numpy as np
import scipy.optimize
from jaxtyping import Float, Int

from repscope._checking import UsageError
from repscope.metrics.gram import GramBasis

# Larger problems use products in single precision.
SINGLE_PRECISION_VALUES = 2**22


@dataclass(frozen=True, eq=False)
class LogisticFit:
    """A fitted multinomial logistic regression.

    Args:
        weights: (d, c).
        bias: (c,).
        objective: sum of cross-entropies + |weights|^2 / (2 C).
        gap: bound on how far the objective lies above its minimum, relative to it.
        iterations: quasi-Newton steps.
        converged: whether the gap is within the tolerance.
    """

    weights: Float[np.ndarray, "d c"]
    bias: Float[np.ndarray, " c"]
    objective: float
    gap: float
    iterations: int
    converged: bool

    def scores(self, features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n c"]:
        """Return the logit of each class."""
        return features @ self.weights + self.bias


class _Problem:
    """The objective in coordinates where the problem is round.

    Weights are axes @ (scale * coordinates), with the scale that makes the curvature
    at equal probabilities, plus the penalty's, equal to 1 in every direction.
    """

    def __init__(
        self,
        basis: GramBasis,
        labels: Int[np.ndarray, " n"],
        n_classes: int,
        C: float,
    ) -> None:
        n = len(labels)
        curvature = (1 - 1 / n_classes) / n_classes
        self.scale = 1 / np.sqrt(curvature * basis.values + 1 / C)
        self.bias_scale = 1 / np.sqrt(curvature * n)
        self.penalty = self.scale**2 / C
        # Products in single precision are exact enough above this size and twice as
        # fast; sums over rows stay in double precision.
        is_large = basis.rotated.size > SINGLE_PRECISION_VALUES
        self.precision = np.float32 if is_large else np.float64
        self.rotated = (basis.rotated * self.scale).astype(self.precision)
        self.labels, self.n_classes = labels, n_classes

    def start(self) -> Float[np.ndarray, " p"]:
        """Return zero weights and the log shares of the classes as bias."""
        counts = np.bincount(self.labels, minlength=self.n_classes)
        log_shares = np.log(np.maximum(counts, 0.5) / len(self.labels))
        coordinates = np.zeros((len(self.scale) + 1, self.n_classes))
        coordinates[-1] = (log_shares - log_shares.mean()) / self.bias_scale
        return coordinates.ravel()

    def __call__(
        self, flat: Float[np.ndarray, " p"]
    ) -> tuple[float, Float[np.ndarray, " p"]]:
        """Return the objective and its gradient."""
        weights, bias = self.split(flat)
        rows = np.arange(len(self.labels))
        logits = self.rotated @ weights.astype(self.precision)
        logits += bias.astype(self.precision)
        logits -= logits.max(axis=1, keepdims=True)
        right = logits[rows, self.labels].sum(dtype=np.float64)
        shares = np.exp(logits, out=logits)
        totals = shares.sum(axis=1, keepdims=True)
        entropy = np.log(totals).sum(dtype=np.float64) - right
        value = entropy + (self.penalty @ weights**2).sum() / 2
        shares /= totals
        shares[rows, self.labels] -= 1
        gradient = self.rotated.T @ shares + self.penalty[:, None] * weights
        last = shares.sum(axis=0, keepdims=True, dtype=np.float64) * self.bias_scale
        return float(value), np.concatenate([gradient, last]).ravel()

    def split(
        self, flat: Float[np.ndarray, " p"]
    ) -> tuple[Float[np.ndarray, "r c"], Float[np.ndarray, " c"]]:
        """Return coordinates of the weights, and the bias."""
        coordinates = flat.reshape(-1, self.n_classes)
        return coordinates[:-1], coordinates[-1] * self.bias_scale


def multinomial_logistic(
    features: Float[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
    n_classes: int,
    *,
    C: float = 1.0,
    tolerance: float = 1e-2,
    maximum_iterations: int = 300,
    basis: GramBasis | None = None,
) -> LogisticFit:
    """Return the minimum of sum CE + |W|^2 / (2 C); the bias is not penalised.

    Args:
        features: (n, d).
        labels: (n,) class codes.
        n_classes: number of classes c.
        C: inverse strength of the penalty, above 0.
        tolerance: a step that gains less than a thousandth of it, relative to the
            objective, is the last; the optimum is then reached to about a tenth of it.
        maximum_iterations: after which it stops, converged or not.
        basis: of these features, where it is known already.

    Raises:
        UsageError: where C is not positive.

    Source: the objective of scikit-learn's LogisticRegression. As in the source.
    """
    if not C > 0:
        raise UsageError("C: a penalty", found=str(C), expected="above 0")
    basis = basis or GramBasis.of(features)
    problem = _Problem(basis, labels, n_classes, C)
    found = scipy.optimize.minimize(
        problem,
        problem.start(),
        jac=True,
        method="L-BFGS-B",
        options={
            "maxiter": maximum_iterations,
            "maxcor": 10,
            "ftol": tolerance * 1e-3,
            "gtol": 0.0,
        },
    )
    coordinates, bias = problem.split(found.x)
    return LogisticFit(
        weights=basis.axes @ (problem.scale[:, None] * coordinates),
        bias=bias,
        objective=float(found.fun),
        gap=_gap(problem, found.jac, found.fun, C),
        iterations=int(found.nit),
        converged=bool(found.success),
    )


def _gap(
    problem: _Problem,
    gradient: Float[np.ndarray, " p"],
    value: float,
    C: float,
) -> float:
    """Return a bound on (f - min f) / f from the gradient with respect to the weights.

    The penalty makes f strongly convex with modulus 1 / C: f - min f <= C |g|^2 / 2,
    once the bias is at its optimum.
    """
    original = problem.split(gradient)[0] / problem.scale[:, None]
    return float(C * (original**2).sum() / 2 / max(value, 1e-300))
