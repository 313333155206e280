"""How well does ridge regression read labels? In closed form, its penalty with it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import array_api_compat
import numpy as np
from jaxtyping import Float, Int, Shaped

from repscope._arrays import Array, as_double, as_matrix, host, namespace
from repscope._checking import UsageError, check_length
from repscope.metrics.gram import RESOLVED_SHARE, GramBasis
from repscope.metrics.metric import Estimate, metric
from repscope.metrics.probing import LabelSet, ProbeResult, probe_result
from repscope.records import Detail

# Penalties that ridge chooses from, relative to the mean eigenvalue of the Gram matrix.
RIDGE_GRID = tuple(10.0**power for power in range(-6, 4))
# The least that a row may leave of its own residual: less is rounding.
LEAST_FREEDOM = 1e-10


@dataclass(frozen=True, eq=False)
class RidgeFit:
    """One-vs-rest ridge regression on targets of +1 and -1.

    Args:
        weights: (d, c).
        bias: (c,).
        penalty: chosen by leave-one-out.
        errors: leave-one-out mean squared error of each penalty tried.
    """

    weights: Float[Array, "d c"]
    bias: Float[Array, " c"]
    penalty: float
    errors: tuple[float, ...]

    @property
    def penalty_at_edge(self) -> bool:
        """Whether a penalty beyond the grid might have less error.

        False where the grid holds one penalty, or all serve alike.
        """
        best = min(self.errors)
        return max(self.errors) > best in (self.errors[0], self.errors[-1])

    def scores(self, features: Shaped[Array, "n d"]) -> Float[Array, "n c"]:
        """Return the score of each class."""
        return as_double(features) @ self.weights + self.bias


def ridge(
    features: Shaped[Array, "n d"],
    labels: Int[np.ndarray, " n"],
    n_classes: int,
    *,
    grid: Sequence[float] = RIDGE_GRID,
    basis: GramBasis | None = None,
) -> RidgeFit:
    """Return ridge regression with the penalty of least leave-one-out error.

    Minimises |X W + b - Y|^2 + penalty |W|^2 in closed form; b is not penalised. The
    leave-one-out residual of row i is residual_i / (1 - leverage_i), exactly, with
    leverage_i = 1 / n + x_i^T (X^T X + penalty)^-1 x_i of the centred rows.

    Args:
        features: (n, d); NumPy or torch, on any device.
        labels: (n,) class codes; targets are +1 for the class and -1 for the others.
        n_classes: number of classes c.
        grid: penalties, relative to the mean eigenvalue of the centred Gram matrix;
            eigenvalues below 1e-10 of the first do not count.
        basis: of these features less their mean, where it is known already.

    Raises:
        UsageError: where a penalty is not positive, or there is none.

    Source: Golub, Heath, Wahba 1979, Section 2 (leave-one-out in closed form). As in
    the source.
    """
    sets = [LabelSet(labels, n_classes)]
    return ridge_many(features, sets, grid=grid, basis=basis)[0]


def ridge_many(
    features: Shaped[Array, "n d"],
    label_sets: Sequence[LabelSet],
    *,
    grid: Sequence[float] = RIDGE_GRID,
    basis: GramBasis | None = None,
) -> list[RidgeFit]:
    """Return `ridge` of each label set, from one decomposition and one product each.

    Args:
        features: (n, d); NumPy or torch, on any device.
        label_sets: of the rows of `features`; each has a penalty of its own.
        grid: penalties, relative to the mean eigenvalue of the centred Gram matrix;
            eigenvalues below 1e-10 of the first do not count.
        basis: of these features less their mean, where it is known already.

    Raises:
        UsageError: where a penalty is not positive, or there is none.
        InputError: where a label set has not one code per row.
    """
    _check_grid(grid)
    rows = as_double(as_matrix(features))
    for labels in label_sets:
        check_length("labels", len(labels.codes), rows.shape[0])
    if not label_sets:
        return []
    mean = namespace(rows).mean(rows, axis=0)
    problem = _Problem.of(basis or GramBasis.of(rows - mean), label_sets)
    penalties = [share * problem.unit for share in grid]
    errors = np.stack([problem.errors(penalty) for penalty in penalties])
    fits, end = [], 0
    for labels in label_sets:
        columns = slice(end, end + labels.n_classes)
        own = errors[:, columns].mean(axis=1)
        penalty = penalties[int(own.argmin())]
        weights, bias = problem.fit(penalty, columns, mean)
        fits.append(RidgeFit(weights, bias, penalty, tuple(own.tolist())))
        end += labels.n_classes
    return fits


def _check_grid(grid: Sequence[float]) -> None:
    wrong = [share for share in grid if not 0 < share < math.inf]
    if wrong or not grid:
        raise UsageError(
            "grid: penalties of ridge",
            found=str(wrong[0]) if wrong else "none",
            expected="above 0 and finite, at least one",
        )


@dataclass(frozen=True, eq=False)
class _Problem:
    """All label sets as columns of targets, in the basis of left singular vectors.

    Args:
        basis: of the centred features.
        left: (n, r) orthonormal.
        goal: (n, t) targets less their mean.
        goal_mean: (t,).
        projected: (r, t) left^T goal.
    """

    basis: GramBasis
    left: Float[Array, "n r"]
    goal: Float[Array, "n t"]
    goal_mean: Float[Array, " t"]
    projected: Float[Array, "r t"]

    @classmethod
    def of(cls, basis: GramBasis, label_sets: Sequence[LabelSet]) -> "_Problem":
        xp, device = namespace(basis.values), array_api_compat.device(basis.values)
        blocks = []
        for labels in label_sets:
            targets = np.full((len(labels.codes), labels.n_classes), -1.0)
            targets[np.arange(len(labels.codes)), labels.codes] = 1.0
            blocks.append(targets)
        goal = xp.asarray(np.concatenate(blocks, axis=1), device=device)
        goal_mean = xp.mean(goal, axis=0)
        goal -= goal_mean
        left = basis.left
        if left is None:
            left = basis.rotated / xp.sqrt(basis.values)
        return cls(basis, left, goal, goal_mean, left.T @ goal)

    @property
    def unit(self) -> float:
        """The mean eigenvalue, of those that are not negligible; 1 without any."""
        values = host(self.basis.values)
        if len(values) == 0:
            return 1.0
        return float(values[values > RESOLVED_SHARE * values[0]].mean())

    def errors(self, penalty: float) -> Float[np.ndarray, " t"]:
        """Return the mean squared leave-one-out error of each column of targets."""
        xp, n = namespace(self.left), self.left.shape[0]
        share = self.basis.values / (self.basis.values + penalty)
        residual = self.goal - self.left @ (share[:, None] * self.projected)
        # The mean is fitted too: it adds 1 / n to every leverage.
        freedom = 1 - 1 / n - self.left**2 @ share
        residual /= xp.clip(freedom, LEAST_FREEDOM, None)[:, None]
        return host(xp.mean(residual**2, axis=0))

    def fit(
        self, penalty: float, columns: slice, mean: Float[Array, " d"]
    ) -> tuple[Float[Array, "d c"], Float[Array, " c"]]:
        """Return weights and bias of some columns, for features with this mean."""
        values = self.basis.values
        shrink = namespace(values).sqrt(values) / (values + penalty)
        weights = self.basis.axes @ (shrink[:, None] * self.projected[:, columns])
        return weights, self.goal_mean[columns] - mean @ weights


@metric(
    title="ridge accuracy",
    formula="share of test rows that one-vs-rest ridge regression on ±1 answers "
    "rightly; penalty by leave-one-out within training rows",
    needs="probe",
    range="[0, 1]; guessing gives the majority share",
    bounds=(0.0, 1.0),
    direction="higher",
    degree=0,
    invariances=("shift",),
    cost="O(n d² + d³)",
    source="Golub, Heath, Wahba 1979; Rifkin, Yeo, Poggio 2003",
    misleads="squared loss punishes answers that are right by far, so that unequal "
    "classes suffer",
)
def ridge_accuracy(result: ProbeResult) -> Estimate:
    """Return the test accuracy of the ridge probe.

    Args:
        result: of `ridge_probe`.

    Returns:
        From 0 to 1; higher is better. Interval: Wilson. Details: `skill`, `chance`,
        `majority` and the like.

    Source: Rifkin, Yeo, Poggio 2003 (regularised least-squares classification). As in
    the source.
    """
    return result.estimate


def ridge_probe(
    train: Shaped[Array, "n d"],
    train_labels: Int[np.ndarray, " n"],
    test: Shaped[Array, "m d"],
    test_labels: Int[np.ndarray, " m"],
    n_classes: int,
    *,
    basis: GramBasis | None = None,
) -> ProbeResult:
    """Return what ridge regression reads from features.

    Args:
        train: (n, d) features, standardised.
        train_labels: (n,) class codes.
        test: (m, d) features, standardised alike.
        test_labels: (m,) class codes.
        n_classes: number of classes c.
        basis: of `train`, standardised, where it is known already.

    Returns:
        With details `penalty` and `penalty_at_edge`: whether a penalty beyond the grid
        might serve better.

    Raises:
        Undecidable: where training or test rows are missing, or of one class only.
    """
    details: dict[str, Detail] = {}

    def scores() -> tuple[Float[Array, "n c"], Float[Array, "m c"]]:
        fit = ridge(train, train_labels, n_classes, basis=basis)
        details["penalty"] = fit.penalty
        details["penalty_at_edge"] = fit.penalty_at_edge
        return fit.scores(train), fit.scores(test)

    return probe_result(
        scores=scores,
        train_labels=train_labels,
        test_labels=test_labels,
        n_classes=n_classes,
        details=details,
    )


def ridge_classify(
    train: Shaped[Array, "n d"],
    labels: Int[np.ndarray, " n"],
    test: Shaped[Array, "m d"],
) -> Int[np.ndarray, " m"]:
    """Return the classes that ridge regression answers; labels from 0 to c - 1."""
    scores = ridge(train, labels, int(labels.max()) + 1).scores(test)
    return host(namespace(scores).argmax(scores, axis=1))
