"""Every recipe parses, fits images of its size, and says where it comes from."""

import importlib.util
import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import typer

from repscope.cli import app
from repscope.data.imageset import ImageSet
from repscope.data.sources import open_images
from repscope.objectives.catalogue import OBJECTIVES
from repscope.training.preparation import prepare
from repscope.training.recipe import Recipe, override

ROOT = Path(__file__).parents[1]
PATHS = sorted((ROOT / "recipes").glob("*.toml"))
DIGITS = [path for path in PATHS if path.stem.startswith("digits16-")]
LINES = ("Source", "Command", "Expected", "Cost")
# By so much of the test digits a mean of three seeds beats another.
CLEARLY = 0.03


def methods():
    """Return benchmarks/methods.py as a module."""
    folder = str(ROOT / "benchmarks")
    sys.path.insert(0, folder)
    try:
        path = ROOT / "benchmarks/methods.py"
        spec = importlib.util.spec_from_file_location("methods", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(folder)
    return module


def header(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.startswith("#")]


def name_of(value):
    return value.stem


@pytest.fixture(scope="module")
def colour_images():
    """Return coloured noise of 32 x 32, enough for a batch of any recipe."""
    pixels = np.random.default_rng(0).integers(0, 256, (300, 32, 32, 3), dtype=np.uint8)
    labels = {"fine_label": np.arange(300) % 20, "coarse_label": np.arange(300) % 5}
    return ImageSet.of(pixels, labels=labels)


@pytest.fixture(scope="module")
def digits():
    return open_images("digits", split="train")


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_a_recipe_fits_images_of_its_size(path, colour_images, digits):
    recipe = Recipe.load(path)
    if recipe.data.source == "digits":
        ready = prepare(recipe, digits)
    else:
        ready = prepare(override(recipe, ["data.limit=none"]), colour_images)
    assert ready.recipe.data.size == (16 if path in DIGITS else 32)
    assert len(ready.images.rows) >= recipe.training.batch_size


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_a_recipe_says_where_it_comes_from_and_what_it_costs(path):
    lines = header(path)
    found = [word for line in lines for word in LINES if line.startswith(f"# {word}: ")]
    assert found == list(LINES)
    shorter = [line for line in lines if not line.startswith("# Command: ")]
    assert max(len(line) for line in shorter) <= 100


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_the_command_of_a_recipe_parses_and_names_it(path):
    start = "# Command: repscope "
    command = next(line for line in header(path) if line.startswith(start))
    words = shlex.split(command.removeprefix(start))
    group = typer.main.get_command(app)
    context = group.commands[words[0]].make_context(words[0], words[1:])
    assert context.params["recipe"] == Path("recipes") / path.name
    assert context.params["out"] is not None
    told = " ".join(line.removeprefix("# ") for line in header(path))
    settings = re.findall(r"--set '?([^'\s]+)", told)
    override(Recipe.load(path), settings)


def test_every_objective_has_a_recipe_for_digits():
    assert {Recipe.load(path).objective.name for path in DIGITS} == set(OBJECTIVES)


def test_recipes_for_digits_share_one_encoder():
    """The rows of what is not trained stand for all of them."""
    assert len({Recipe.load(path).encoder for path in DIGITS}) == 1


def test_what_was_measured_is_of_the_recipes_as_they_are():
    benchmark = methods()
    taken = json.loads(benchmark.NUMBERS.read_text(encoding="utf-8"))["methods"]
    assert {name: one["digest"] for name, one in taken.items()} == {
        name: benchmark.digest(benchmark.path_of(name))
        for name in benchmark.recipe_names()
    }


def test_page_and_headers_have_the_numbers_that_were_measured():
    benchmark = methods()
    numbers = json.loads(benchmark.NUMBERS.read_text(encoding="utf-8"))
    assert benchmark.PAGE.read_text(encoding="utf-8") == benchmark.page(numbers)
    for name, one in numbers["methods"].items():
        text = benchmark.path_of(name).read_text(encoding="utf-8")
        assert benchmark.headed(text, one) == text


def test_every_method_beats_random_initialisation_by_probe_and_centres():
    """On the mean of the seeds, and both ways of normalising random weights."""
    numbers = json.loads(methods().NUMBERS.read_text(encoding="utf-8"))

    def mean(rows, column):
        return sum(row[column] for row in rows) / len(rows)

    weak = {
        (name, column, start)
        for name, one in numbers["methods"].items()
        for column in ("centres", "few")
        for start in ("random", "random_normalised")
        if mean(one["seeds"], column)
        < mean(numbers["untrained"][start], column) + CLEARLY
    }
    assert weak == set()
