"""What is a probe? Features standardised, labels, and what is read from them.

A probe is trained on the training rows and tested on the others. Every accuracy stands
beside guessing (1 / c), the share of the most frequent class, and its interval.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import array_api_compat
import numpy as np
from jaxtyping import Float, Int, Shaped

from repscope._arrays import Array, as_double, as_matrix, host, namespace
from repscope._checking import InputError, Undecidable, UsageError
from repscope.metrics.failure import wilson_interval
from repscope.metrics.metric import Estimate
from repscope.records import Detail

# A deviation below this share of the feature's magnitude is rounding.
RELATIVE_DEVIATION_FLOOR = 1e-12
# Standardised test rows are cut at this many deviations, far from overflow.
GREATEST_STANDARD = 1e100
# Exponents of the powers of two that features are scaled by: their inverses are finite.
GREATEST_EXPONENT = 1000
# Margins are finite: scores of minus infinity count as this.
LEAST_SCORE = np.finfo(np.float64).min / 4


@dataclass(frozen=True, eq=False)
class LabelSet:
    """Labels of the training rows: a level, an attribute, a random relabelling.

    Args:
        codes: (n,) class codes from 0 to n_classes - 1; classes may be absent.
        n_classes: number of classes c.

    Raises:
        UsageError: where there is no class.
        InputError: where a code lies outside 0 to n_classes - 1.
    """

    codes: Int[np.ndarray, " n"]
    n_classes: int

    def __post_init__(self) -> None:
        """Check the codes."""
        if self.n_classes < 1:
            raise UsageError(
                "n_classes: a number of classes",
                found=str(self.n_classes),
                expected="at least 1",
            )
        if len(self.codes) == 0:
            return
        least, greatest = int(self.codes.min()), int(self.codes.max())
        if least < 0 or greatest >= self.n_classes:
            raise InputError(
                "labels: class codes outside the number of classes",
                found=f"codes from {least} to {greatest}",
                expected=f"0 to {self.n_classes - 1}",
            )

    @property
    def counts(self) -> Int[np.ndarray, " c"]:
        """Rows of each class."""
        return np.bincount(self.codes, minlength=self.n_classes)


@dataclass(frozen=True, eq=False)
class ProbeResult:
    """What a probe answers on test rows.

    Args:
        predictions: (m,) class codes.
        margins: (m,) score of the true class less the best other one.
        train_accuracy: share of training rows answered rightly; None if not asked.
        test_accuracy: share of test rows answered rightly.
        interval: 95 % of the test accuracy.
        chance: 1 over the number of classes with training or test rows.
        majority: share of test rows in the most frequent training class.
        converged: whether the solver reached its tolerance.
        details: `balanced_accuracy` (the mean over classes with test rows),
            `test_rows_of_unseen_classes`, `classes_without_training_rows`, and what
            the probe adds: penalty chosen, neighbours and the like.
        class_accuracies: (c) share of each class's test rows answered rightly; None
            for a class without test rows.
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
    class_accuracies: tuple[float | None, ...] = ()

    @property
    def estimate(self) -> Estimate:
        """The test accuracy with Wilson's interval and all that is read beside it.

        Among its details `skill`: 0 is guessing the majority, 1 is perfect.
        """
        below = 1 - self.majority
        skill = (self.test_accuracy - self.majority) / below if below > 0 else 0.0
        return Estimate(
            self.test_accuracy,
            self.interval,
            {
                "skill": float(skill),
                "chance": self.chance,
                "majority": self.majority,
                "train_accuracy": self.train_accuracy,
                "converged": self.converged,
                "n_classes": len(self.class_accuracies),
                "interval": "Wilson",
                **self.details,
            },
        )


@dataclass(frozen=True, eq=False)
class Answers:
    """What a probe says of the test rows.

    Args:
        predictions: (m,) class codes.
        margins: (m,) score of the true class less the best other one.
        train_accuracy: share of training rows answered rightly; None if not asked.
        converged: whether the solver reached its tolerance.
        details: what qualifies the answers.
    """

    predictions: Int[np.ndarray, " m"]
    margins: Float[np.ndarray, " m"]
    train_accuracy: float | None = None
    converged: bool = True
    details: Mapping[str, Detail] = field(default_factory=dict)


ScoresOfBoth = Callable[[], tuple[Shaped[Array, "n c"] | None, Shaped[Array, "m c"]]]


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
        scores: returns the scores of training rows (or None) and of test rows, NumPy or
            torch; asked only where the labels can be probed.
        train_labels: (n,) class codes.
        test_labels: (m,) class codes.
        n_classes: number of classes c.
        details: what qualifies the result.
        converged: asked after `scores`.

    Raises:
        Undecidable: where training or test rows are missing, or of one class only.
        InputError: where a class code lies outside 0 to n_classes - 1.
    """

    def answers() -> Answers:
        train_scores, test_scores = scores()
        # A class without training rows is never the answer.
        unseen = np.bincount(train_labels, minlength=n_classes) == 0
        tested = np.array(host(test_scores), dtype=np.float64)
        tested[:, unseen] = -np.inf
        return Answers(
            predictions=tested.argmax(axis=1),
            margins=_margins(tested, test_labels),
            train_accuracy=_accuracy(train_scores, train_labels, unseen),
            converged=converged(),
            details=details,
        )

    return result_of(answers, train_labels, test_labels, n_classes)


def _accuracy(
    scores: Shaped[Array, "n c"] | None,
    labels: Int[np.ndarray, " n"],
    unseen: Shaped[np.ndarray, " c"],
) -> float | None:
    if scores is None:
        return None
    xp = namespace(scores)
    if unseen.any():
        never = xp.asarray(unseen, device=array_api_compat.device(scores))
        scores = xp.where(never, -xp.inf, scores)
    return float((host(xp.argmax(scores, axis=1)) == labels).mean())


def _margins(
    scores: Float[np.ndarray, "m c"], labels: Int[np.ndarray, " m"]
) -> Float[np.ndarray, " m"]:
    rows = np.arange(len(labels))
    others = scores.copy()
    own = others[rows, labels]
    others[rows, labels] = -np.inf
    return np.maximum(own, LEAST_SCORE) - np.maximum(others.max(axis=1), LEAST_SCORE)


def result_of(
    answers: Callable[[], Answers],
    train_labels: Int[np.ndarray, " n"],
    test_labels: Int[np.ndarray, " m"],
    n_classes: int,
) -> ProbeResult:
    """Return what answers amount to.

    Args:
        answers: asked only where the labels can be probed.
        train_labels: (n,) class codes.
        test_labels: (m,) class codes.
        n_classes: number of classes c.

    Raises:
        Undecidable: where training or test rows are missing, or of one class only.
        InputError: where a class code lies outside 0 to n_classes - 1.
    """
    counts = LabelSet(train_labels, n_classes).counts
    tested = LabelSet(test_labels, n_classes).counts
    if not tested.any() or not counts.any():
        side = "training" if tested.any() else "test"
        raise Undecidable(f"no {side} rows")
    if (counts > 0).sum() < 2:
        raise Undecidable("one class only: there is nothing to tell apart")
    given = answers()
    right = given.predictions == test_labels
    rights = np.bincount(test_labels[right], minlength=n_classes)
    shares = rights[tested > 0] / tested[tested > 0]
    in_order = iter(shares.tolist())
    return ProbeResult(
        predictions=given.predictions,
        margins=given.margins,
        train_accuracy=given.train_accuracy,
        test_accuracy=float(right.mean()),
        interval=wilson_interval(int(right.sum()), len(test_labels)),
        chance=1 / int(((counts > 0) | (tested > 0)).sum()),
        majority=float((test_labels == counts.argmax()).mean()),
        converged=given.converged,
        details={
            **given.details,
            "balanced_accuracy": float(shares.mean()),
            "test_rows_of_unseen_classes": int(tested[counts == 0].sum()),
            "classes_without_training_rows": int((counts == 0).sum()),
        },
        class_accuracies=tuple(next(in_order) if n else None for n in tested.tolist()),
    )


def standardise(
    train: Shaped[Array, "n d"], test: Shaped[Array, "m d"]
) -> tuple[Float[Array, "n d"], Float[Array, "m d"]]:
    """Return features with mean 0 and deviation 1 (ddof 0) over the training rows.

    Features that do not vary there become 0 everywhere. In float64, on the device of
    the features; each feature is scaled by a power of two before it is squared.

    Args:
        train: (n, d) rows that mean and deviation are taken from.
        test: (m, d) rows that are shifted and scaled alike.
    """
    train, test = _as_rows(train, "train"), _as_rows(test, "test")
    if train.shape[0] == 0:
        return train, test
    xp = namespace(train)
    unit = _powers_of_two(xp.max(xp.abs(train), axis=0))
    train = train / unit
    mean = xp.mean(train, axis=0)
    train -= mean
    deviation = xp.sqrt(xp.mean(train**2, axis=0))
    alive = deviation > RELATIVE_DEVIATION_FLOOR * xp.abs(mean)
    scale = xp.where(alive, 1 / xp.where(alive, deviation, 1.0), 0.0)
    train *= scale
    # A test row may lie beyond all bounds where the training rows hardly vary.
    with np.errstate(over="ignore"):
        test = xp.clip(test / unit, -GREATEST_STANDARD, GREATEST_STANDARD)
        test -= mean
        test = xp.clip(test * scale, -GREATEST_STANDARD, GREATEST_STANDARD)
    return train, test


def _as_rows(features: Shaped[Array, "n d"], name: str) -> Float[Array, "n d"]:
    empty = features.shape[0] == 0
    return as_double(features if empty else as_matrix(features, name))


def _powers_of_two(sizes: Float[Array, " d"]) -> Float[Array, " d"]:
    """Return the power of two near each size, 1 for 0, where the sizes live."""
    exponents = np.frexp(host(sizes))[1].clip(-GREATEST_EXPONENT, GREATEST_EXPONENT)
    powers = np.ldexp(1.0, exponents)
    return namespace(sizes).asarray(powers, device=array_api_compat.device(sizes))
