"""What a metric is: a pure function with its formula, range, direction and limits.

A metric never judges; it raises `Undecidable` where it cannot tell, and `measured`
turns that into a measurement without a value.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, ParamSpec, TypeVar

from repscope._checking import Undecidable
from repscope.records import Detail, Direction, Formula, Measurement

P = ParamSpec("P")
T = TypeVar("T")

Need = Literal[
    "rows",
    "spectrum",
    "labels",
    "probe",
    "failure",
    "views",
    "attribute",
    "reference",
    "pair",
    "curve",
    "images",
    "heatmaps",
    "trainings",
]
# What changes nothing: a constant vector added to all rows, a rotation of the feature
# space, every row twice.
Invariance = Literal["shift", "rotation", "duplication"]
# The last guard: what a metric should have refused in better words.
NOT_FINITE = "the number is not finite"


@dataclass(frozen=True)
class Estimate:
    """A metric's value with what qualifies it.

    Args:
        value: the number.
        interval: a 95 % interval, where the metric has one of its own.
        details: ranks fitted, base rates, counts and the like.
    """

    value: float
    interval: tuple[float, float] | None = None
    details: Mapping[str, Detail] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A catalogue entry.

    Args:
        name: its name in results, equal to the function's.
        title: the name in words.
        formula: the formula as implemented, as text.
        needs: what it is computed from.
        range: the range in words, with the symbols n, d, c of the specification.
        bounds: least and greatest value where they are constants.
        direction: which way is better.
        target: the best value where `direction` is "target".
        minimum_n: the fewest rows that give a value.
        degree: the power of a common factor c > 0 of all features that the value takes
            on, f(c F) = c^degree f(F); None where there is no such law.
        invariances: what else changes nothing.
        cost: arithmetic cost.
        source: authors, year, equation.
        misleads: when not to trust it.
        function: the function itself.
    """

    name: str
    title: str
    formula: str
    needs: Need
    range: str
    bounds: tuple[float | None, float | None]
    direction: Direction
    target: float | None
    minimum_n: int
    degree: int | None
    invariances: tuple[Invariance, ...]
    cost: str
    source: str
    misleads: str
    function: Callable[..., Any]

    @property
    def glossary(self) -> Formula:
        """The entry that a report prints."""
        return Formula(
            id=self.name,
            title=self.title,
            formula=self.formula,
            range=self.range,
            direction=self.direction,
            source=self.source,
            misleads=self.misleads,
        )

    def measured(
        self,
        compute: Callable[[], Estimate | float],
        *,
        n: int,
        d: int | None = None,
        level: str | None = None,
        split: str = "all",
        layer: str = "features",
        upper: float | None = None,
    ) -> Measurement:
        """Return the measurement that `compute` gives, null where undecidable.

        An interval is cut to the possible range.

        Args:
            compute: calls the metric's function.
            n: rows used.
            d: feature dimensions.
            level: label level or attribute.
            split: "all", "train" or "test".
            layer: layer of the encoder.
            upper: the greatest possible value for these data, where it depends on them.
        """
        bounds = (self.bounds[0], upper if upper is not None else self.bounds[1])
        value, reason, estimate = None, None, Estimate(0.0)
        try:
            if n < self.minimum_n:
                raise Undecidable(_too_few(n, self.minimum_n, split))
            result = compute()
            estimate = result if isinstance(result, Estimate) else Estimate(result)
            ends = estimate.interval or ()
            if not all(map(math.isfinite, (estimate.value, *ends))):
                raise Undecidable(NOT_FINITE)
            value = float(estimate.value)
        except Undecidable as answer:
            reason, estimate = answer.reason, Estimate(0.0)
        return Measurement(
            name=self.name,
            value=value,
            reason=reason,
            interval=_within(estimate.interval, bounds),
            range=bounds,
            direction=self.direction,
            target=self.target,
            n=n,
            d=d,
            split=split,
            layer=layer,
            level=level,
            formula=self.name,
            details=estimate.details,
        )


def _too_few(n: int, least: int, split: str) -> str:
    kind = {"test": "test ", "train": "training "}.get(split, "")
    if n == 0 and least == 1:
        return f"no {kind}rows"
    return f"n = {n}; at least {least} {kind}rows are needed"


def _within(
    interval: tuple[float, float] | None, bounds: tuple[float | None, float | None]
) -> tuple[float, float] | None:
    if interval is None:
        return None
    low = -math.inf if bounds[0] is None else bounds[0]
    high = math.inf if bounds[1] is None else bounds[1]
    left, right = (min(max(float(end), low), high) for end in interval)
    return left, right


def metric(
    *,
    title: str,
    formula: str,
    needs: Need,
    range: str,
    source: str,
    misleads: str,
    cost: str,
    direction: Direction = "none",
    bounds: tuple[float | None, float | None] = (None, None),
    target: float | None = None,
    minimum_n: int = 1,
    degree: int | None = None,
    invariances: tuple[Invariance, ...] = (),
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Return a decorator that attaches a `Metric` record to a function."""

    def attach(function: Callable[P, T]) -> Callable[P, T]:
        entry = Metric(
            name=function.__name__,
            title=title,
            formula=formula,
            needs=needs,
            range=range,
            bounds=bounds,
            direction=direction,
            target=target,
            minimum_n=minimum_n,
            degree=degree,
            invariances=invariances,
            cost=cost,
            source=source,
            misleads=misleads,
            function=function,
        )
        setattr(function, "metric", entry)  # noqa: B010 - functions have no such field
        return function

    return attach


def metric_of(function: Callable[..., Any]) -> Metric:
    """Return the record that `metric` attached."""
    entry: Metric = vars(function)["metric"]
    return entry
