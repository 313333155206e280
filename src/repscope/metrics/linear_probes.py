"""What do linear probes read of several label sets on the same rows?

All label sets share the standardised rows and one eigenbasis; the squared-hinge probe
solves them in one stack.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Int

from repscope._arrays import Array
from repscope._checking import Undecidable, UsageError, check_choice
from repscope.metrics.gram import GramBasis
from repscope.metrics.logistic import logistic_probe
from repscope.metrics.probing import LabelSet, ProbeResult, probe_result
from repscope.metrics.ridge import ridge_probe
from repscope.metrics.squared_hinge import SquaredHingeFit, squared_hinge_many

LinearProbe = Literal["squared_hinge", "logistic", "ridge"]


@dataclass(frozen=True, eq=False)
class LabelPair:
    """Labels of training and test rows.

    Args:
        train: (n,) class codes from 0 to n_classes - 1; classes may be absent.
        test: (m,) class codes.
        n_classes: number of classes c.
    """

    train: Int[np.ndarray, " n"]
    test: Int[np.ndarray, " m"]
    n_classes: int

    @property
    def absent(self) -> int:
        """Classes without training rows."""
        return self.n_classes - len(np.unique(self.train))


def linear_probes(
    train: Float[Array, "n d"],
    test: Float[Array, "m d"],
    labels: Sequence[LabelPair],
    *,
    probe: LinearProbe = "squared_hinge",
    C: float = 1.0,
) -> tuple[ProbeResult | Undecidable, ...]:
    """Return what a linear probe reads of each label set, or why it cannot.

    Args:
        train: (n, d) features, standardised.
        test: (m, d) features, standardised alike.
        labels: of the same rows, one pair per label set.
        probe: "squared_hinge" (one against the rest, with liblinear's objective),
            "logistic" (multinomial) or "ridge" (chooses its penalty).
        C: inverse strength of the penalty; plays no part in ridge.

    Raises:
        UsageError: for an unknown probe, or where C is not positive.
    """
    check_choice("probe", probe, get_args(LinearProbe))
    if not 0 < C < np.inf:
        raise UsageError("C: a penalty", found=str(C), expected="above 0")
    decided = [k for k, pair in enumerate(labels) if _why_not(pair) is None]
    # one-class problems have no solution to stack
    basis = GramBasis.of(train) if decided else None
    results: list[ProbeResult | Undecidable] = [
        Undecidable(_why_not(pair) or "") for pair in labels
    ]
    pairs = [labels[k] for k in decided]
    if probe == "squared_hinge" and pairs:
        found = _squared_hinge(train, test, pairs, C, basis)
    else:
        options = {"C": C} if probe == "logistic" else {}
        run: Callable[..., ProbeResult] = (
            logistic_probe if probe == "logistic" else ridge_probe
        )
        found = [
            run(train, p.train, test, p.test, p.n_classes, basis=basis, **options)
            for p in pairs
        ]
    for k, result in zip(decided, found, strict=True):
        results[k] = result
    return tuple(results)


def _why_not(pair: LabelPair) -> str | None:
    if len(pair.train) == 0 or len(pair.test) == 0:
        return "no training rows" if len(pair.train) == 0 else "no test rows"
    if pair.n_classes - pair.absent < 2:
        return "one class only: there is nothing to tell apart"
    return None


def _squared_hinge(
    train: Float[Array, "n d"],
    test: Float[Array, "m d"],
    pairs: Sequence[LabelPair],
    C: float,
    basis: GramBasis | None,
) -> list[ProbeResult]:
    sets = [LabelSet(pair.train, pair.n_classes) for pair in pairs]
    fits = squared_hinge_many(train, sets, Cs=(C,), basis=basis)
    return [
        _answers(fit, train, test, pair, C)
        for pair, (fit,) in zip(pairs, fits, strict=True)
    ]


def _answers(
    fit: SquaredHingeFit,
    train: Float[Array, "n d"],
    test: Float[Array, "m d"],
    pair: LabelPair,
    C: float,
) -> ProbeResult:
    return probe_result(
        scores=lambda: (fit.scores(train), fit.scores(test)),
        train_labels=pair.train,
        test_labels=pair.test,
        n_classes=pair.n_classes,
        details={"C": C, "iterations": fit.iterations},
        converged=lambda: fit.converged,
    )
