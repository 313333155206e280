"""Every experiment says what it must, and its predicate can fail."""

import itertools
import re
from pathlib import Path

import pytest

from repscope.data.sources import open_images
from repscope.experiments import catalogue
from repscope.experiments.catalogue import EXPERIMENTS
from repscope.training.preparation import prepare
from repscope.training.recipe import Recipe

FOLDER = Path(catalogue.__file__).parent

# Numbers that would refute each experiment; each of its conditions must fail once.
BROKEN = {
    "S1-3": (
        {"digit_with_bits": 0.8},
        {"digit_without_bits": 0.5},
        {"bits": 0.6},
    ),
}
every = pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda one: one.id)


def test_every_file_of_an_experiment_is_in_the_catalogue_once():
    files = {path.stem.split("_", 2)[1] for path in FOLDER.glob("s[0-9]_*.py")}
    ids = [one.id for one in EXPERIMENTS]
    assert len(ids) == len(set(ids))
    assert {one.id.split("-")[1] for one in EXPERIMENTS} == files
    assert set(BROKEN) == set(ids)


@every
def test_an_experiment_says_what_a_reader_needs(experiment):
    assert re.fullmatch(r"S\d-\w+", experiment.id)
    for said in ("title", "claim", "source", "cost"):
        assert getattr(experiment, said).strip(), said
    assert re.search(r"\b(19|20)\d\d\b", experiment.source)
    assert experiment.claim.endswith(".")
    assert experiment.quantities and experiment.conditions and experiment.recipes
    assert all(one.tolerance > 0 for one in experiment.quantities)


@every
def test_the_predicate_holds_wherever_the_expectation_is_met(experiment):
    ends = [
        (one.expected - one.tolerance, one.expected, one.expected + one.tolerance)
        for one in experiment.quantities
    ]
    names = [one.name for one in experiment.quantities]
    for values in itertools.product(*ends):
        assert experiment.predicate(dict(zip(names, values, strict=True)))


@every
def test_each_condition_of_the_predicate_can_fail(experiment):
    failed = set()
    for broken in BROKEN[experiment.id]:
        numbers = experiment.expected | broken
        assert not experiment.predicate(numbers), broken
        failed |= {text for text, holds in experiment.judge(numbers) if not holds}
    assert failed == {one.text for one in experiment.conditions}


@every
def test_recipes_are_whole_and_go_through_toml(experiment, tmp_path):
    for name, recipe in experiment.recipes.items():
        file = tmp_path / f"{name}.toml"
        file.write_text(recipe.dump(), encoding="utf-8")
        assert Recipe.load(file) == recipe
        images = open_images(recipe.data.source, split=recipe.data.split or None)
        assert prepare(recipe, images).images.n >= recipe.training.batch_size
