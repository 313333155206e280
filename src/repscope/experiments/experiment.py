"""What is a reproduction, before it runs? A claim, what is expected, and a predicate.

Everything that could be bent afterwards stands here first: the numbers that are
expected with their tolerance, and the conditions under which the claim holds.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from repscope._checking import InputError
from repscope.training.progress import Progress
from repscope.training.recipe import Recipe

# "gate": the predicate decides between pass and fail; "report": it is only shown,
# because the effect is too weak or too noisy at this scale to rely on.
Kind = Literal["gate", "report"]
Numbers = Mapping[str, float]


@dataclass(frozen=True)
class Quantity:
    """One number of an experiment, with what is said about it beforehand.

    Args:
        name: by which the predicate knows it.
        title: for people.
        expected: from runs of this set-up with other seeds.
        tolerance: how far from `expected` is no surprise: at least twice the spread
            between seeds.
        published: the source's number; None where it has none for this set-up.
        setting: of the published number, where it differs.
    """

    name: str
    title: str
    expected: float
    tolerance: float
    published: float | None = None
    setting: str = ""


@dataclass(frozen=True)
class Condition:
    """A part of the predicate.

    Args:
        text: what must hold, in words and numbers.
        holds: of the numbers by name.
    """

    text: str
    holds: Callable[[Numbers], bool]


@dataclass(frozen=True)
class Observation:
    """What came out for one quantity.

    Args:
        value: the number.
        interval: of 95 %; None where none is known.
    """

    value: float
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Workplace:
    """Where and how an experiment runs.

    Args:
        folder: for the runs it trains; None keeps none.
        device: as for `train`.
        progress: is told of each training; None for silence.
    """

    folder: Path | None = None
    device: str = "auto"
    progress: Progress | None = None


Measure = Callable[[Mapping[str, Recipe], Workplace], Mapping[str, Observation]]


@dataclass(frozen=True, eq=False)
class Experiment:
    """A table or figure of a paper, and how it is run again here.

    Args:
        id: source and number, such as "S1-3".
        title: in a few words.
        claim: what the source says, as one sentence that could be false.
        source: authors, year, where.
        recipes: name → what is trained.
        quantities: all numbers it gives.
        conditions: hold together where the claim does.
        measure: trains by the recipes and returns each quantity by name.
        cost: trainings, and about how long on what.
        caveats: what must be known to read the outcome.
        kind: whether the predicate decides.
    """

    id: str
    title: str
    claim: str
    source: str
    recipes: Mapping[str, Recipe]
    quantities: tuple[Quantity, ...]
    conditions: tuple[Condition, ...]
    measure: Measure
    cost: str
    caveats: tuple[str, ...] = ()
    kind: Kind = "gate"

    @property
    def expected(self) -> dict[str, float]:
        """The expected numbers by name."""
        return {one.name: one.expected for one in self.quantities}

    def predicate(self, numbers: Numbers) -> bool:
        """Return whether all conditions hold.

        Args:
            numbers: name → value, one for each quantity.

        Raises:
            InputError: where a number is missing, superfluous, NaN or infinite.
        """
        return all(holds for _, holds in self.judge(numbers))

    def judge(self, numbers: Numbers) -> tuple[tuple[str, bool], ...]:
        """Return each condition's text, and whether it holds.

        Args:
            numbers: name → value, one for each quantity.

        Raises:
            InputError: where a number is missing, superfluous, NaN or infinite.
        """
        names = {one.name for one in self.quantities}
        if set(numbers) != names:
            wrong = sorted(names ^ set(numbers))
            raise InputError(
                f"experiment {self.id}: numbers missing or unknown",
                found=", ".join(wrong),
                expected=", ".join(sorted(names)),
            )
        for name, value in numbers.items():
            if not math.isfinite(value):
                raise InputError(f"experiment {self.id}: {name} is {value}")
        return tuple((one.text, bool(one.holds(numbers))) for one in self.conditions)
