"""Every experiment says what it must, and its predicate can fail."""

import functools
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
    "S2-F1": ({"finite": 0.98}, {"gradient": 0.98}, {"identity": 0.98}),
    "S2-F5": (
        {"mined_mean_rank": 0.5},
        {"mined_hardest": 3.0},
        {"number": 0.98},
        {"queue_changed": 0.001},
    ),
    "S2-T1": ({"none": 0.85}, {"mlp2_frozen": 0.95}),
    "S2-T2a": ({"contrastive_medium_probe": 0.5}, {"contrastive_extreme_probe": 0.1}),
    "S3-F2L": (
        {"sample_train_60": 0.92},
        {"digit_train_3": 0.8},
        {"later": 20.0},
    ),
    "S3-F2M": ({"ratio_60": 0.5}, {"ratio_3": 0.8}),
    "S3-F3L": ({"share_3": 0.5}, {"share_saturated": 0.5}, {"digit_60": 0.3}),
    "S3-F7": (
        {"width_48_block1": 0.65},
        {"width_48_block2": 0.75},
        {"width_8_block3": 0.9},
    ),
    "S3-F10": (
        {"mu_5_distance": 0.1},
        {"mu_100_distance": 0.05},
        {"mu_5_centres": 0.75},
        {"mu_100_centres": 0.7},
    ),
}
every = pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda one: one.id)


@functools.cache
def opened(source, split):
    return open_images(source, split=split)


def stem_of(identity: str) -> str:
    """Return how the file begins: S3-F2L and S3-F2M both lie in s3_f2_..."""
    paper, number = re.fullmatch(r"(S\d)-([A-Z]?\d+)[A-Za-z]?", identity).groups()
    return f"{paper}_{number}".lower()


def test_every_file_of_an_experiment_is_in_the_catalogue():
    files = [path.stem for path in FOLDER.glob("s[0-9]_*.py")]
    ids = [one.id for one in EXPERIMENTS]
    assert len(ids) == len(set(ids))
    assert {"_".join(stem.split("_")[:2]) for stem in files} == set(map(stem_of, ids))
    assert set(BROKEN) == set(ids)


@every
def test_an_experiment_says_what_a_reader_needs(experiment):
    assert re.fullmatch(r"S\d-\w+", experiment.id)
    for said in ("title", "claim", "source", "cost"):
        assert getattr(experiment, said).strip(), said
    assert re.search(r"\b(19|20)\d\d\b", experiment.source)
    assert experiment.claim.endswith(".")
    assert experiment.quantities and experiment.conditions and experiment.recipes
    names = [one.name for one in experiment.quantities]
    assert len(names) == len(set(names))
    assert all(one.tolerance >= 0 for one in experiment.quantities)  # 0: exact


class Asked(dict):
    """Numbers that remember which of them were asked for."""

    def __init__(self, numbers):
        super().__init__(numbers)
        self.names = set()

    def __getitem__(self, name):
        self.names.add(name)
        return super().__getitem__(name)


@every
def test_each_condition_holds_wherever_the_expectation_is_met(experiment):
    ranges = {
        one.name: (one.expected - one.tolerance, one.expected + one.tolerance)
        for one in experiment.quantities
    }
    for condition in experiment.conditions:
        asked = Asked(experiment.expected)
        assert condition.holds(asked)
        names = sorted(asked.names)
        assert names, condition.text
        for ends in itertools.product(*(ranges[name] for name in names)):
            numbers = experiment.expected | dict(zip(names, ends, strict=True))
            assert condition.holds(numbers), (condition.text, ends)


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
        images = opened(recipe.data.source, recipe.data.split or None)
        assert prepare(recipe, images).images.n >= recipe.training.batch_size
