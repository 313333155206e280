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
    n = len(features)
    basis = basis or GramBasis.of(features)
    curvature = (1 - 1 / n_classes) / n_classes
    scale = 1 / np.sqrt(curvature * basis.values + 1 / C)
    # Products in single precision are exact enough above this size and twice as fast;
    # sums over rows stay in double precision.
    product = np.float32 if features.size > SINGLE_PRECISION_VALUES else np.float64
    rotated = (basis.rotated * scale).astype(product)
    penalty = scale**2 / C
    bias_scale = 1 / np.sqrt(curvature * n)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        parameters = flat.reshape(-1, n_classes)
        weights, bias = parameters[:-1], parameters[-1] * bias_scale
        logits = rotated @ weights.astype(product)
        logits += bias.astype(product)
        logits -= logits.max(axis=1, keepdims=True)
        right = logits[np.arange(n), labels].sum(dtype=np.float64)
        np.exp(logits, out=logits)
        totals = logits.sum(axis=1, keepdims=True)
        value = (
            np.log(totals).sum(dtype=np.float64)
            - right
            + (penalty @ weights**2).sum() / 2
        )
        logits /= totals
        logits[np.arange(n), labels] -= 1
        gradient = rotated.T @ logits + penalty[:, None] * weights
        last = logits.sum(axis=0, keepdims=True, dtype=np.float64) * bias_scale
        return float(value), np.concatenate([gradient, last]).ravel()

    counts = np.maximum(np.bincount(labels, minlength=n_classes), 0.5)
    start = np.zeros((len(scale) + 1, n_classes))
    log_shares = np.log(counts / n)
    start[-1] = (log_shares - log_shares.mean()) / bias_scale
    found = scipy.optimize.minimize(
        objective,
        start.ravel(),
        jac=True,
        method="L-BFGS-B",
        options={
            "maxiter": maximum_iterations,
            "maxcor": 10,
            "ftol": tolerance * 1e-3,
            "gtol": 0.0,
        },
    )
    parameters = found.x.reshape(-1, n_classes)
    # The penalty makes the objective 1/C-strongly convex in the weights:
    # f - min f <= C |gradient|^2 / 2, in the original coordinates.
    gradient = found.jac.reshape(-1, n_classes)[:-1] / scale[:, None]
    gap = float(C * (gradient**2).sum() / 2 / max(found.fun, 1e-300))
    return LogisticFit(
        weights=basis.axes @ (scale[:, None] * parameters[:-1]),
        bias=parameters[-1] * bias_scale,
        objective=float(found.fun),
        gap=gap,
        iterations=int(found.nit),
        converged=bool(found.success),
    )
