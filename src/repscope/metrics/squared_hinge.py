"""Linear support-vector machines, one class against the rest, all classes at once.

The objective is that of liblinear, and so of scikit-learn's LinearSVC. All classes of
all label sets at all penalties are solved together, and each stops by itself at a
stated distance from its optimum.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import array_api_compat
import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from repscope._arrays import Array, as_double, as_matrix, namespace
from repscope._checking import UsageError, check_length
from repscope.metrics.gram import GramBasis
from repscope.metrics.metric import Estimate, metric
from repscope.metrics.probing import LabelSet, ProbeResult, probe_result
from repscope.metrics.squared_hinge_machines import Machines, Space, solve
from repscope.records import Detail

# The bound on the distance above the optimum, relative to it, that counts as converged.
TOLERANCE = 1e-3
MAXIMUM_ITERATIONS = 2000


@dataclass(frozen=True, eq=False)
class SquaredHingeFit:
    """Fitted support-vector machines, one class against the rest.

    Args:
        weights: (d, c); zero for classes without rows.
        bias: (c,); -inf for classes without rows.
        objective: summed over classes, in double precision.
        gap: bound on how far the objective lies above its minimum, relative to it.
        iterations: quasi-Newton steps of the slowest class.
        converged: whether the gap is within the tolerance.
    """

    weights: Float[Array, "d c"]
    bias: Float[Array, " c"]
    objective: float
    gap: float
    iterations: int
    converged: bool

    def scores(self, features: Shaped[Array, "n d"]) -> Float[Array, "n c"]:
        """Return the score of each class; -inf for classes without training rows."""
        return as_double(features) @ self.weights + self.bias


def squared_hinge(
    features: Shaped[Array, "n d"],
    labels: Int[np.ndarray, " n"],
    n_classes: int,
    *,
    C: float = 1.0,
    tolerance: float = TOLERANCE,
    maximum_iterations: int = MAXIMUM_ITERATIONS,
    basis: GramBasis | None = None,
) -> SquaredHingeFit:
    """Return the minimum over w, b of a squared hinge loss for each class.

    (|w|^2 + b^2) / 2 + C sum_i max(0, 1 - y_i (w . x_i + b))^2, y_i = +1 for rows of
    the class and -1 for others. The bias is penalised. The gap is a duality gap, and so
    a bound: minimum >= objective (1 - gap). It is met by every class and by their sum.

    Args:
        features: (n, d), of about unit size; NumPy or torch, on any device.
        labels: (n,) class codes from 0 to n_classes - 1; classes may be absent.
        n_classes: number of classes c.
        C: inverse strength of the penalty, above 0.
        tolerance: relative gap above the minimum that counts as converged.
        maximum_iterations: after which a class stops, converged or not.
        basis: of these features, where it is known already.

    Raises:
        UsageError: where C is not positive.
        InputError: where there is not one label per row, or a label is out of range.

    Source: Fan et al. 2008 (LIBLINEAR), Section 2, L2-loss; Liu, Nocedal 1989 for the
    method. Differs from the source in that two classes make two problems, each the
    other's mirror image: weights of -w and w, the same answers, twice the objective.

    Example:
        >>> fit = squared_hinge(np.array([[-1.0], [1.0]]), np.array([0, 1]), 2)
        >>> fit.converged, np.round(fit.weights, 2).tolist()
        (True, [[-0.8, 0.8]])
    """
    fits = squared_hinge_many(
        features,
        [LabelSet(labels, n_classes)],
        Cs=(C,),
        tolerance=tolerance,
        maximum_iterations=maximum_iterations,
        basis=basis,
    )
    return fits[0][0]


def squared_hinge_many(
    features: Shaped[Array, "n d"],
    label_sets: Sequence[LabelSet],
    *,
    Cs: Sequence[float] = (1.0,),
    tolerance: float = TOLERANCE,
    maximum_iterations: int = MAXIMUM_ITERATIONS,
    basis: GramBasis | None = None,
) -> list[list[SquaredHingeFit]]:
    """Return `squared_hinge` of each label set at each C, solved together.

    All share one eigenbasis and the products of each step.

    Args:
        features: (n, d), of about unit size; NumPy or torch, on any device.
        label_sets: of the rows of `features`.
        Cs: inverse strengths of the penalty, above 0.
        tolerance: relative gap above the minimum that counts as converged.
        maximum_iterations: after which a class stops, converged or not.
        basis: of these features, where it is known already.

    Returns:
        A list over label sets of a list over Cs.

    Raises:
        UsageError: where a C is not positive.
        InputError: where a label set has not one code per row.
    """
    for C in Cs:
        if not 0 < C < math.inf:
            raise UsageError(
                "C: a penalty", found=str(C), expected="above 0 and finite"
            )
    features = as_double(as_matrix(features))
    for labels in label_sets:
        check_length("labels", len(labels.codes), features.shape[0])
    wanted = [
        _Wanted(labels, np.flatnonzero(labels.counts), float(C))
        for labels in label_sets
        for C in Cs
    ]
    if not wanted:
        return [[] for _ in label_sets]
    machines = solve(
        Space.of(features, basis),
        np.concatenate([one.is_own for one in wanted]),
        np.concatenate([np.full(len(one.present), one.C) for one in wanted]),
        tolerance=tolerance,
        maximum_iterations=maximum_iterations,
    )
    ends = np.cumsum([len(one.present) for one in wanted]).tolist()
    fits = [
        one.fit(machines.part(slice(end - len(one.present), end)), tolerance)
        for one, end in zip(wanted, ends, strict=True)
    ]
    return [fits[k : k + len(Cs)] for k in range(0, len(fits), len(Cs))]


@dataclass(frozen=True, eq=False)
class _Wanted:
    """One label set at one C: a problem for each class that has rows."""

    labels: LabelSet
    present: Int[np.ndarray, " k"]
    C: float

    @property
    def is_own(self) -> Bool[np.ndarray, "k n"]:
        return self.labels.codes == self.present[:, None]

    def fit(self, machines: Machines, tolerance: float) -> SquaredHingeFit:
        """Return the machines with those of absent classes."""
        xp, device = namespace(machines.bias), array_api_compat.device(machines.bias)
        shape = (machines.weights.shape[1], self.labels.n_classes)
        weights = xp.zeros(shape, dtype=xp.float64, device=device)
        bias = xp.full(shape[1:], -xp.inf, dtype=xp.float64, device=device)
        present = xp.asarray(self.present, device=device)
        weights[:, present], bias[present] = machines.weights.T, machines.bias
        objective = float(xp.sum(machines.objectives))
        distance = objective - float(xp.sum(machines.bounds))
        return SquaredHingeFit(
            weights=weights,
            bias=bias,
            objective=objective,
            gap=distance / max(objective, 1e-300),
            iterations=int(xp.max(machines.iterations)),
            converged=distance <= tolerance * objective,
        )


@metric(
    title="squared-hinge accuracy",
    formula="share of test rows that linear support-vector machines, one class "
    "against the rest, answer rightly; squared hinge loss, bias penalised; features "
    "standardised by the training rows, C = 1",
    needs="probe",
    range="[0, 1]; guessing gives the majority share",
    bounds=(0.0, 1.0),
    direction="higher",
    degree=0,
    invariances=("shift",),
    cost="O(n d c) per step",
    source="Fan et al. 2008, Section 2; Ben-Shaul et al. 2023",
    misleads="at C = 1 it fits training rows closely where they are few or features "
    "many, and then tells less of test rows than ridge",
)
def squared_hinge_accuracy(result: ProbeResult) -> Estimate:
    """Return the test accuracy of the squared-hinge probe.

    Args:
        result: of `squared_hinge_probe`.

    Returns:
        From 0 to 1; higher is better. Interval: Wilson. Details: `skill`, `chance`,
        `majority` and the like.

    Source: Fan et al. 2008 (LIBLINEAR), Section 2, the L2-loss machine that Ben-Shaul
    et al. 2023 probe with. Differs from the source in standardising the features.
    """
    return result.estimate


def squared_hinge_probe(
    train: Shaped[Array, "n d"],
    train_labels: Int[np.ndarray, " n"],
    test: Shaped[Array, "m d"],
    test_labels: Int[np.ndarray, " m"],
    n_classes: int,
    *,
    C: float = 1.0,
    basis: GramBasis | None = None,
) -> ProbeResult:
    """Return what linear support-vector machines read from features.

    Args:
        train: (n, d) features, standardised.
        train_labels: (n,) class codes.
        test: (m, d) features, standardised alike.
        test_labels: (m,) class codes.
        n_classes: number of classes c.
        C: inverse strength of the penalty, as in scikit-learn's LinearSVC.
        basis: of `train`, where it is known already.

    Raises:
        Undecidable: where training or test rows are missing, or of one class only.
        UsageError: where C is not positive.
    """
    fits: list[SquaredHingeFit] = []
    details: dict[str, Detail] = {"C": C}

    def scores() -> tuple[Float[Array, "n c"], Float[Array, "m c"]]:
        fit = squared_hinge(train, train_labels, n_classes, C=C, basis=basis)
        fits.append(fit)
        details["iterations"] = fit.iterations
        return fit.scores(train), fit.scores(test)

    return probe_result(
        scores=scores,
        train_labels=train_labels,
        test_labels=test_labels,
        n_classes=n_classes,
        details=details,
        converged=lambda: fits[0].converged,
    )
