"""How well are labels read from frozen features? Linear probes and nearest centres.

A probe is trained on the training rows and tested on the others. Every accuracy stands
beside guessing (1 / c), the share of the most frequent class, and its interval.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from repscope._checking import Undecidable
from repscope._numerics import row_blocks, squared_distances
from repscope.metrics.failure import wilson_interval
from repscope.metrics.gram import GramBasis
from repscope.metrics.logistic import multinomial_logistic
from repscope.metrics.metric import metric
from repscope.records import Detail

# Penalties that ridge chooses from, relative to the mean eigenvalue of the Gram matrix.
RIDGE_GRID = tuple(10.0**power for power in range(-6, 4))
# A deviation below this share of the feature's magnitude is rounding.
RELATIVE_DEVIATION_FLOOR = 1e-12


@dataclass(frozen=True, eq=False)
class ProbeResult:
    """What a probe answers on test rows.

    Args:
        predictions: (m,) class codes.
        margins: (m,) score of the true class less the best other one.
        train_accuracy: share of training rows answered rightly; None if not asked.
        test_accuracy: share of test rows answered rightly.
        interval: 95 % of the test accuracy.
        chance: 1 / c.
        majority: share of test rows in the most frequent training class.
        converged: whether the solver reached its tolerance.
        details: penalty chosen, neighbours, unseen classes and the like.
    """

    predictions: Int[np.ndarray, " m"]
    margins: Float[np.ndarray, " m"]
    train_accuracy: float | None
    test_accuracy: float
    interval: tuple[float, float]
    chance: float
    majority: float
    converged: bool = True
    details: Mapping[str, Detail] = field(default_factory=dict)


ScoresOfBoth = Callable[
    [], tuple[Float[np.ndarray, "n c"] | None, Float[np.ndarray, "m c"]]
]


def probe_result(
    *,
    scores: ScoresOfBoth,
    train_labels: Int[np.ndarray, " n"],
    test_labels: Int[np.ndarray, " m"],
    n_classes: int,
    details: Mapping[str, Detail],
    converged: Callable[[], bool] = lambda: True,
) -> ProbeResult:
    """Return a probe's result from its class scores of training and test rows.

    Args:
        scores: returns the scores of training rows (or None) and of test rows.
        train_labels: (n,) class codes.
        test_labels: (m,) class codes.
        n_classes: number of classes c.
        details: what qualifies the result.
        converged: asked after `scores`.

    Raises:
        Undecidable: where training or test rows are missing, or of one class only.
    """
    counts = np.bincount(train_labels, minlength=n_classes)
    if len(test_labels) == 0 or len(train_labels) == 0:
        side = "test" if len(test_labels) == 0 else "training"
        raise Undecidable(f"no {side} rows")
    if (counts > 0).sum() < 2:
        raise Undecidable("one class only: there is nothing to tell apart")
    train_scores, test_scores = scores()
    # A class without training rows is never the answer.
    test_scores[:, counts == 0] = -np.inf
    predictions = test_scores.argmax(axis=1)
    right = int((predictions == test_labels).sum())
    unseen = int((counts[test_labels] == 0).sum())
    return ProbeResult(
        predictions=predictions,
        margins=_margins(test_scores, test_labels),
        train_accuracy=(
            None
            if train_scores is None
            else float((train_scores.argmax(axis=1) == train_labels).mean())
        ),
        test_accuracy=right / len(test_labels),
        interval=wilson_interval(right, len(test_labels)),
        chance=1 / n_classes,
        majority=float((test_labels == counts.argmax()).mean()),
        converged=converged(),
        details={**details, "test_rows_of_unseen_classes": unseen},
    )


def _margins(
    scores: Float[np.ndarray, "m c"], labels: Int[np.ndarray, " m"]
) -> Float[np.ndarray, " m"]:
    rows = np.arange(len(labels))
    others = scores.copy()
    own = others[rows, labels]
    others[rows, labels] = -np.inf
    floor = np.finfo(np.float64).min / 4
    return np.maximum(own, floor) - np.maximum(others.max(axis=1), floor)


def standardise(
    train: Float[np.ndarray, "n d"], test: Float[np.ndarray, "m d"]
) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "m d"]]:
    """Return features with mean 0 and deviation 1 over the training rows.

    Features that do not vary there become 0 everywhere.

    Args:
        train: (n, d) rows that mean and deviation are taken from.
        test: (m, d) rows that are shifted and scaled alike.
    """
    if len(train) == 0:
        return train, test
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    alive = deviation > RELATIVE_DEVIATION_FLOOR * np.abs(mean)
    scale = np.where(alive, 1 / np.where(alive, deviation, 1), 0)
    return (train - mean) * scale, (test - mean) * scale


@metric(
    title="linear accuracy",
    formula="share of test rows that multinomial logistic regression answers rightly; "
    "features standardised by the training rows, C = 1",
    needs="probe",
    range="[0, 1]; guessing gives the majority share",
    bounds=(0.0, 1.0),
    direction="higher",
    cost="O(n d c) per step",
    source="Chen et al. 2020, Section 2.2 (linear evaluation)",
    misleads="saturates on easy sets, where nearest centres or few labels tell more; "
    "counts "
    "infinitesimal differences as learnt",
)
def linear_accuracy(result: ProbeResult) -> float:
    """Return the test accuracy of the logistic probe.

    Args:
        result: of `logistic_probe`.

    Returns:
        From 0 to 1; higher is better.

    Source: Chen et al. 2020, Section 2.2. Differs from the source in solving the convex
    problem to its optimum on stored features.
    """
    return result.test_accuracy


def logistic_probe(
    train: Float[np.ndarray, "n d"],
    train_labels: Int[np.ndarray, " n"],
    test: Float[np.ndarray, "m d"],
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

    def scores() -> tuple[Float[np.ndarray, "n c"], Float[np.ndarray, "m c"]]:
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


@dataclass(frozen=True, eq=False)
class RidgeFit:
    """One-vs-rest ridge regression on targets of +1 and -1.

    Args:
        weights: (d, c).
        bias: (c,).
        penalty: chosen by leave-one-out.
        errors: leave-one-out mean squared error of each penalty tried.
    """

    weights: Float[np.ndarray, "d c"]
    bias: Float[np.ndarray, " c"]
    penalty: float
    errors: tuple[float, ...]

    def scores(self, features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n c"]:
        """Return the score of each class."""
        return features @ self.weights + self.bias


def ridge(
    features: Float[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
    n_classes: int,
    *,
    grid: tuple[float, ...] = RIDGE_GRID,
    basis: GramBasis | None = None,
) -> RidgeFit:
    """Return ridge regression with the penalty of least leave-one-out error.

    Minimises |X W + b - Y|^2 + penalty |W|^2 in closed form; the leave-one-out residual
    of row i is residual_i / (1 - leverage_i), exactly.

    Args:
        features: (n, d).
        labels: (n,) class codes; targets are +1 for the class and -1 for the others.
        n_classes: number of classes c.
        grid: penalties, relative to the mean eigenvalue of the centred Gram matrix.
        basis: of these features less their mean, where it is known already.

    Source: Golub, Heath, Wahba 1979, Section 2 (leave-one-out in closed form). As in
    the source.
    """
    n = len(features)
    mean = features.mean(axis=0)
    centred = features - mean
    targets = np.full((n, n_classes), -1.0)
    targets[np.arange(n), labels] = 1.0
    target_mean = targets.mean(axis=0)
    goal = targets - target_mean
    # In the basis of the left singular vectors all penalties share one decomposition.
    basis = basis or GramBasis.of(centred)
    values = basis.values
    left = basis.rotated / np.sqrt(values)
    projected = left.T @ goal
    unit = float(values.mean()) if len(values) else 1.0
    errors = [
        _leave_one_out_error(left, values, projected, goal, share * unit)
        for share in grid
    ]
    penalty = grid[int(np.argmin(errors))] * unit
    shrunk = projected / (values + penalty)[:, None]
    weights = basis.axes @ (np.sqrt(values)[:, None] * shrunk)
    return RidgeFit(weights, target_mean - mean @ weights, penalty, tuple(errors))


def _leave_one_out_error(
    left: Float[np.ndarray, "n r"],
    values: Float[np.ndarray, " r"],
    projected: Float[np.ndarray, "r c"],
    goal: Float[np.ndarray, "n c"],
    penalty: float,
) -> float:
    share = values / (values + penalty)
    fitted = left @ (share[:, None] * projected)
    # The mean is fitted too: it adds 1 / n to every leverage.
    leverage = (left**2) @ share + 1 / len(left)
    residual = (goal - fitted) / np.maximum(1 - leverage, 1e-10)[:, None]
    return float((residual**2).mean())


@metric(
    title="ridge accuracy",
    formula="share of test rows that one-vs-rest ridge regression on ±1 answers "
    "rightly; "
    "penalty by leave-one-out within training rows",
    needs="probe",
    range="[0, 1]; guessing gives the majority share",
    bounds=(0.0, 1.0),
    direction="higher",
    cost="O(n d² + d³)",
    source="Golub, Heath, Wahba 1979; Rifkin, Yeo, Poggio 2003",
    misleads="squared loss punishes answers that are right by far, so that unequal "
    "classes "
    "suffer",
)
def ridge_accuracy(result: ProbeResult) -> float:
    """Return the test accuracy of the ridge probe.

    Args:
        result: of `ridge_probe`.

    Returns:
        From 0 to 1; higher is better.

    Source: Rifkin, Yeo, Poggio 2003 (regularised least-squares classification). As in
    the source.
    """
    return result.test_accuracy


def ridge_probe(
    train: Float[np.ndarray, "n d"],
    train_labels: Int[np.ndarray, " n"],
    test: Float[np.ndarray, "m d"],
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

    Raises:
        Undecidable: where training or test rows are missing, or of one class only.
    """
    details: dict[str, Detail] = {}

    def scores() -> tuple[Float[np.ndarray, "n c"], Float[np.ndarray, "m c"]]:
        fit = ridge(train, train_labels, n_classes, basis=basis)
        details["penalty"] = fit.penalty
        return fit.scores(train), fit.scores(test)

    return probe_result(
        scores=scores,
        train_labels=train_labels,
        test_labels=test_labels,
        n_classes=n_classes,
        details=details,
    )


def ridge_classify(
    train: Float[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
    test: Float[np.ndarray, "m d"],
) -> Int[np.ndarray, " m"]:
    """Return the classes that ridge regression answers; labels from 0 to c - 1."""
    fit = ridge(train, labels, int(labels.max()) + 1)
    return fit.scores(test).argmax(axis=1)


@metric(
    title="nearest-class-centre accuracy",
    formula="share of test rows whose nearest training class mean (Euclidean) is "
    "their own",
    needs="probe",
    range="[0, 1]; guessing gives the majority share",
    bounds=(0.0, 1.0),
    direction="higher",
    cost="O(n c d)",
    source="Ben-Shaul et al. 2023, Section 3",
    misleads="asks for round classes of equal width; features on different scales "
    "weigh as "
    "they are",
)
def ncc_accuracy(result: ProbeResult) -> float:
    """Return the test accuracy of the nearest-class-centre classifier.

    Args:
        result: of `nearest_centre_probe`.

    Returns:
        From 0 to 1; higher is better.

    Source: Ben-Shaul et al. 2023, Section 3 (training centres for test rows too). As in
    the source.
    """
    return result.test_accuracy


def nearest_centre_probe(
    train: Float[np.ndarray, "n d"],
    train_labels: Int[np.ndarray, " n"],
    test: Float[np.ndarray, "m d"],
    test_labels: Int[np.ndarray, " m"],
    n_classes: int,
) -> ProbeResult:
    """Return what nearest class centres read from features.

    Args:
        train: (n, d) features, not standardised.
        train_labels: (n,) class codes.
        test: (m, d) features.
        test_labels: (m,) class codes.
        n_classes: number of classes c.

    Raises:
        Undecidable: where training or test rows are missing, or of one class only.
    """

    def scores() -> tuple[Float[np.ndarray, "n c"], Float[np.ndarray, "m c"]]:
        centres = np.zeros((n_classes, train.shape[1]))
        for code in np.unique(train_labels):
            centres[code] = train[train_labels == code].mean(axis=0)
        return _closeness(train, centres), _closeness(test, centres)

    return probe_result(
        scores=scores,
        train_labels=train_labels,
        test_labels=test_labels,
        n_classes=n_classes,
        details={},
    )


def _closeness(
    rows: Float[np.ndarray, "n d"], centres: Float[np.ndarray, "c d"]
) -> Float[np.ndarray, "n c"]:
    near = np.empty((len(rows), len(centres)))
    for block in row_blocks(len(rows), rows.shape[1] + len(centres)):
        near[block] = -squared_distances(rows[block], centres)
    return near
