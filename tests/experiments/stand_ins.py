"""An experiment that trains nothing, for what surrounds the experiments."""

import dataclasses

from repscope.experiments.experiment import (
    Condition,
    Experiment,
    Observation,
    Quantity,
    Workplace,
)
from repscope.training.recipe import DataSection, Recipe


class Measure:
    """Returns given numbers, and remembers where it was told to work."""

    def __init__(self, **values):
        self.values, self.places = values, []

    def __call__(self, recipes, place: Workplace):
        self.places.append(place)
        return {name: Observation(value) for name, value in self.values.items()}


def experiment(measure=None, **changes) -> Experiment:
    made = Experiment(
        id="X-1",
        title="A stand-in",
        claim="Before is more than after.",
        source="nobody 2020, Table 1",
        recipes={"only": Recipe(data=DataSection(source="digits", split="test"))},
        quantities=(
            Quantity("before", "accuracy before", expected=0.9, tolerance=0.05),
            Quantity(
                "after", "after", 0.5, 0.1, published=0.25, setting="on other data"
            ),
        ),
        conditions=(
            Condition("it falls by .3", lambda n: n["after"] <= n["before"] - 0.3),
            Condition("before is above .5", lambda n: n["before"] > 0.5),
        ),
        measure=measure or Measure(before=0.92, after=0.35),
        cost="nothing",
        caveats=("A caveat.",),
    )
    return dataclasses.replace(made, **changes)
