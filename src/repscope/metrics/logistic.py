"""Multinomial logistic regression, solved to a stated distance from its optimum.

The optimum is scikit-learn's. Many label sets and penalties on the same rows share one
eigenbasis and the products of each step.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import array_api_compat
import numpy as np
from jaxtyping import Float, Int, Shaped

from repscope._arrays import Array, as_double, as_matrix, namespace
from repscope._checking import UsageError, check_length
from repscope.metrics.gram import GramBasis
from repscope.metrics.metric import Estimate, metric
from repscope.metrics.probing import LabelSet, ProbeResult, probe_result
from repscope.metrics.quasi_newton import Minimum, SoftmaxProblem, minimise
from repscope.records import Detail

# The bound on the distance above the optimum, relative to it, that counts as converged.
TOLERANCE = 1e-3
MAXIMUM_ITERATIONS = 500
# Logits (classes times rows) that are solved for together: 128 MiB in double precision.
STACKED_LOGITS = 2**24


@dataclass(frozen=True, eq=False)
class LogisticFit:
    """A fitted multinomial logistic regression.

    Args:
        weights: (d, c); zero for classes without rows.
        bias: (c,); -inf for classes without rows.
        objective: sum of cross-entropies + |weights|^2 / (2 C), in double precision.
        gap: bound on how far the objective lies above its minimum, relative to it.
        iterations: quasi-Newton steps.
        converged: whether the gap is within the tolerance.
    """

    weights: Float[Array, "d c"]
    bias: Float[Array, " c"]
    objective: float
    gap: float
    iterations: int
    converged: bool

    def scores(self, features: Shaped[Array, "n d"]) -> Float[Array, "n c"]:
        """Return the logit of each class; -inf for classes without training rows."""
        return as_double(features) @ self.weights + self.bias


def multinomial_logistic(
    features: Shaped[Array, "n d"],
    labels: Int[np.ndarray, " n"],
    n_classes: int,
    *,
    C: float = 1.0,
    tolerance: float = TOLERANCE,
    maximum_iterations: int = MAXIMUM_ITERATIONS,
    basis: GramBasis | None = None,
) -> LogisticFit:
    """Return the minimum of sum CE + |W|^2 / (2 C); the bias is not penalised.

    The penalty makes the objective strongly convex, so that the gradient bounds the
    distance from the minimum: f - min f <= C |gradient|^2 / 2, at the best bias for the
    weights, which is found by Newton's method.

    Args:
        features: (n, d); NumPy or torch, on any device.
        labels: (n,) class codes from 0 to n_classes - 1; classes may be absent.
        n_classes: number of classes c.
        C: inverse strength of the penalty, above 0.
        tolerance: relative gap above the minimum that counts as converged.
        maximum_iterations: after which it stops, converged or not.
        basis: of these features, where it is known already.

    Raises:
        UsageError: where C is not positive.

    Source: the objective of scikit-learn's LogisticRegression; Liu, Nocedal 1989 for
    the method. Differs from the source in preconditioning it class by class.

    Example:
        >>> features, labels = np.array([[-1.0], [0.0], [1.0]]), np.array([0, 0, 1])
        >>> fit = multinomial_logistic(features, labels, 2)
        >>> fit.converged, fit.scores(features).argmax(axis=1).tolist()
        (True, [0, 0, 1])
    """
    fits = logistic_many(
        features,
        [LabelSet(labels, n_classes)],
        Cs=(C,),
        tolerance=tolerance,
        maximum_iterations=maximum_iterations,
        basis=basis,
    )
    return fits[0][0]


def logistic_many(
    features: Shaped[Array, "n d"],
    label_sets: Sequence[LabelSet],
    *,
    Cs: Sequence[float] = (1.0,),
    tolerance: float = TOLERANCE,
    maximum_iterations: int = MAXIMUM_ITERATIONS,
    basis: GramBasis | None = None,
) -> list[list[LogisticFit]]:
    """Return `multinomial_logistic` of each label set at each C, solved together.

    All share one eigenbasis, and each step takes one product for all problems that have
    not converged yet; direction, step and end are each problem's own.

    Args:
        features: (n, d); NumPy or torch, on any device.
        label_sets: of the rows of `features`.
        Cs: inverse strengths of the penalty, above 0.
        tolerance: relative gap above the minimum that counts as converged.
        maximum_iterations: after which a problem stops, converged or not.
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
    rows = as_double(as_matrix(features))
    n, d = rows.shape
    for labels in label_sets:
        check_length("labels", len(labels.codes), n)
    xp = namespace(rows)
    mean = xp.zeros_like(rows[0, :])
    if basis is None:
        # A shift is undone by the bias, which is not penalised.
        mean = xp.mean(rows, axis=0)
        basis = GramBasis.of(rows - mean)
    wanted = [_Wanted.of(labels, C) for labels in label_sets for C in Cs]
    fits = []
    for part in _stacks(wanted, n):
        found = minimise(
            basis,
            [one.problem for one in part],
            tolerance=tolerance,
            maximum_iterations=maximum_iterations,
        )
        for one, minimum in zip(part, found, strict=True):
            weights, bias = one.spread(basis, minimum, mean)
            fits.append(
                LogisticFit(
                    weights=weights,
                    bias=bias,
                    objective=minimum.objective,
                    gap=minimum.gap,
                    iterations=minimum.iterations,
                    converged=minimum.gap <= tolerance,
                )
            )
    return [fits[k : k + len(Cs)] for k in range(0, len(fits), len(Cs))]


@dataclass(frozen=True, eq=False)
class _Wanted:
    """One label set at one C: the problem of the classes that have rows."""

    problem: SoftmaxProblem
    present: Int[np.ndarray, " k"]
    n_classes: int

    @classmethod
    def of(cls, labels: LabelSet, C: float) -> "_Wanted":
        present, codes = np.unique(labels.codes, return_inverse=True)
        return cls(SoftmaxProblem(codes, C), present, labels.n_classes)

    def spread(
        self, basis: GramBasis, minimum: Minimum, mean: Float[Array, " d"]
    ) -> tuple[Float[Array, "d c"], Float[Array, " c"]]:
        """Return weights and bias of all classes, absent ones too."""
        xp, device = namespace(mean), array_api_compat.device(mean)
        found = basis.axes @ minimum.parameters[:, :-1].T
        present = xp.asarray(self.present, device=device)
        weights = xp.zeros(
            (found.shape[0], self.n_classes), dtype=found.dtype, device=device
        )
        bias = xp.full((self.n_classes,), -xp.inf, dtype=found.dtype, device=device)
        weights[:, present] = found
        bias[present] = minimum.parameters[:, -1] - mean @ found
        return weights, bias


def _stacks(wanted: list[_Wanted], n: int) -> Iterator[list[_Wanted]]:
    """Yield runs of problems whose logits stay within memory."""
    part: list[_Wanted] = []
    columns = 0
    for one in wanted:
        if part and (columns + len(one.present)) * n > STACKED_LOGITS:
            yield part
            part, columns = [], 0
        part.append(one)
        columns += len(one.present)
    if part:
        yield part


@metric(
    title="linear accuracy",
    formula="share of test rows that multinomial logistic regression answers rightly; "
    "features standardised by the training rows, C = 1",
    needs="probe",
    range="[0, 1]; guessing gives the majority share",
    bounds=(0.0, 1.0),
    direction="higher",
    degree=0,
    invariances=("shift",),
    cost="O(n d c) per step",
    source="Chen et al. 2020, Section 2.2 (linear evaluation)",
    misleads="saturates on easy sets, where nearest centres or few labels tell more; "
    "counts infinitesimal differences as learnt",
)
def linear_accuracy(result: ProbeResult) -> Estimate:
    """Return the test accuracy of the logistic probe.

    Args:
        result: of `logistic_probe`.

    Returns:
        From 0 to 1; higher is better. Interval: Wilson. Details: `skill`, `chance`,
        `majority` and the like.

    Source: Chen et al. 2020, Section 2.2. Differs from the source in solving the convex
    problem to its optimum on stored features.
    """
    return result.estimate


def logistic_probe(
    train: Shaped[Array, "n d"],
    train_labels: Int[np.ndarray, " n"],
    test: Shaped[Array, "m d"],
    test_labels: Int[np.ndarray, " m"],
    n_classes: int,
    *,
    C: float = 1.0,
    basis: GramBasis | None = None,
) -> ProbeResult:
    """Return what multinomial logistic regression reads from features.

    Args:
        train: (n, d) features, standardised.
        train_labels: (n,) class codes.
        test: (m, d) features, standardised alike.
        test_labels: (m,) class codes.
        n_classes: number of classes c.
        C: inverse strength of the penalty, as in scikit-learn.
        basis: of `train`, where it is known already.

    Raises:
        Undecidable: where training or test rows are missing, or of one class only.
        UsageError: where C is not positive.
    """
    reached: list[bool] = []
    details: dict[str, Detail] = {"C": C}

    def scores() -> tuple[Float[Array, "n c"], Float[Array, "m c"]]:
        fit = multinomial_logistic(train, train_labels, n_classes, C=C, basis=basis)
        reached.append(fit.converged)
        details["iterations"] = fit.iterations
        return fit.scores(train), fit.scores(test)

    return probe_result(
        scores=scores,
        train_labels=train_labels,
        test_labels=test_labels,
        n_classes=n_classes,
        details=details,
        converged=lambda: reached[0],
    )
