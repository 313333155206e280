"""An experiment that trains nothing, readings that were not taken, what to expect."""

import dataclasses

import numpy as np

from repscope.experiments.experiment import (
    Condition,
    Experiment,
    Observation,
    Quantity,
    Workplace,
)
from repscope.experiments.s3_f2_sample_and_class_clusters import Reading
from repscope.metrics.metric import Estimate
from repscope.metrics.probing import ProbeResult
from repscope.training.recipe import Recipe
from repscope.training.sections import DataSection


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


def probe(accuracy):
    """Return a probe's result: so accurate on training rows, half so on test rows."""
    return ProbeResult(
        predictions=np.zeros(2, np.int64),
        margins=np.zeros(2),
        train_accuracy=accuracy,
        test_accuracy=accuracy / 2,
        interval=(0.0, 1.0),
        chance=0.1,
        majority=0.1,
    )


def reading(sample, digit):
    """Return what is read at an epoch, with accuracies as planted."""
    ratio = Estimate(digit / 2, (0.0, 1.0))
    return Reading(sample=probe(sample), digit=probe(digit), ratio=ratio)


def as_expected(outcome) -> bool:
    """Return whether at least nine numbers in ten are as expected.

    A tolerance is about two deviations between seeds, and another machine's rounding
    is as good as another seed: of many numbers some lie outside.
    """
    return np.mean([one.is_expected for one in outcome.comparisons]) >= 0.9
