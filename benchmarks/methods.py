"""What does each method make of 1,297 digits? Writes docs/methods.md and its numbers.

Run: make bench-methods; or python benchmarks/methods.py [--times-only | --render] [NAME
...]. Trains each recipes/digits16-NAME.toml with three seeds on one thread, and an
encoder that is not trained; measures on the 500 test digits and keeps the numbers in
benchmarks/methods.json, recipe by recipe, so that a run that was stopped has lost one.
--times-only takes the time of a step again, on an idle machine; --render trains
nothing. From the numbers come the tables of docs/methods.md and the lines "Expected"
and "Cost" of the recipes.
"""

import hashlib
import json
import os
import re
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# before torch is imported: threads that spin take the time of other work
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from machine import describe

from repscope._checking import Undecidable
from repscope.data.imageset import ImageSet
from repscope.data.sources import open_images
from repscope.metrics.few_shot import FewShot, few_shot_accuracy
from repscope.metrics.logistic import logistic_probe
from repscope.metrics.nearest_centre import nearest_centre_probe
from repscope.metrics.power_law import alpha
from repscope.metrics.probing import standardise
from repscope.metrics.spectral import effective_rank_covariance
from repscope.models.backbones import build
from repscope.models.encoder import Encoder
from repscope.representations.embed import embed
from repscope.representations.moments import Moments
from repscope.training.engine import train
from repscope.training.preparation import prepare
from repscope.training.recipe import Recipe, override
from repscope.training.snapshot import Snapshot, Stop

ROOT = Path(__file__).parents[1]
RECIPES, PAGE = ROOT / "recipes", ROOT / "docs/methods.md"
NUMBERS = Path(__file__).with_name("methods.json")
TEMPLATE = Path(__file__).with_name("methods.template.md")
PREFIX = "digits16-"
SEEDS = (0, 1, 2)
FEW = FewShot(k=5)
TIMED_STEPS, WARMUP_STEPS = 20, 5
# Rows that are not trained, with their names in the numbers.
UNTRAINED = {
    "random": "random initialisation",
    "random_normalised": "the same, normalised by the training digits",
    "pixels": "raw pixels",
}
COLUMNS = {
    "centres": "nearest centres",
    "few": f"{FEW.k} labels a class",
    "linear": "all labels",
    "alpha": "α",
    "effective_rank": "effective rank",
}
_DIGITS = {"alpha": 2, "effective_rank": 1}

Numbers = dict[str, Any]


def recipe_names() -> list[str]:
    """Return what the files of recipes for digits are called, in alphabetical order."""
    paths = sorted(RECIPES.glob(f"{PREFIX}*.toml"))
    return [path.stem.removeprefix(PREFIX) for path in paths]


def path_of(name: str) -> Path:
    return RECIPES / f"{PREFIX}{name}.toml"


def digest(path: Path) -> str:
    """Return a hash of what a recipe says, whatever its comments are."""
    plain = tomllib.loads(path.read_text(encoding="utf-8"))
    text = json.dumps(plain, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def seeded(path: Path, seed: int) -> Recipe:
    return override(Recipe.load(path), [f"training.seed={seed}"])


class Digits:
    """Training and test digits, and what is measured on them."""

    def __init__(self) -> None:
        self.known: ImageSet = open_images("digits", split="train")
        self.asked: ImageSet = open_images("digits", split="test")
        self.sets = (self.known, self.asked)
        levels = [images.level("digit") for images in self.sets]
        self.labels = [level.codes for level in levels]
        self.n_classes = levels[0].n_classes
        self.ids = np.concatenate([images.ids for images in self.sets])

    def measured(self, encoder: Encoder) -> Numbers:
        """Return the numbers of an encoder, without thumbnails of the digits."""
        return self.of_rows(
            [
                embed(encoder, images, device="cpu", thumbnails=False)
                .features()
                .astype(np.float64)
                for images in self.sets
            ]
        )

    def pixels(self) -> list[np.ndarray]:
        """Return the values of the pixels, 0 to 1, a row for each digit."""
        return [
            np.stack([images.images.read(int(row)) for row in images.rows])
            .reshape(images.n, -1)
            .astype(np.float64)
            / 255
            for images in self.sets
        ]

    def of_rows(self, rows: Sequence[np.ndarray]) -> Numbers:
        """Return the numbers of rows of training and of test digits."""
        known, asked = rows
        together = np.concatenate([known, asked])
        spectrum = Moments(known.shape[1]).update(together).spectra().eigenvalues
        sides = (self.labels[0], asked, self.labels[1], self.n_classes)
        standard = standardise(known, asked)
        linear = logistic_probe(
            standard[0], self.labels[0], standard[1], self.labels[1], self.n_classes
        )
        few = few_shot_accuracy(
            together,
            np.concatenate(self.labels),
            np.arange(len(together)) >= len(known),
            self.ids,
            options=FEW,
        )
        try:
            decay = alpha(spectrum, len(together)).value
        except Undecidable:
            decay = None
        return {
            "centres": nearest_centre_probe(known, *sides).test_accuracy,
            "few": few.value,
            "linear": linear.test_accuracy,
            "alpha": decay,
            "effective_rank": effective_rank_covariance(spectrum),
        }


def untrained(path: Path, seed: int, digits: Digits) -> Encoder:
    """Return the encoder of a recipe before its first step."""
    prepared = prepare(seeded(path, seed), digits.known)
    module = build(prepared.architecture, seed=seed).eval()
    return Encoder.of(module, prepared.preprocess)


def normalised_by(encoder: Encoder, pixels: np.ndarray) -> Encoder:
    """Take the means and variances of batch normalisation from all training digits."""
    side = int(round(pixels.shape[1] ** 0.5))
    images = torch.from_numpy(pixels).float().reshape(-1, 1, side, side)
    module = encoder.module
    for one in module.modules():
        if isinstance(one, torch.nn.BatchNorm2d):
            one.momentum = 1.0  # the last batch alone
    module.train()
    with torch.no_grad():
        module(images)
    module.eval()
    return encoder


def trained_numbers(path: Path, seed: int, digits: Digits) -> Numbers:
    recipe = seeded(path, seed)
    return digits.measured(train(recipe, digits.known, device="cpu"))


def seconds_per_step(path: Path, digits: Digits) -> tuple[float, int]:
    """Return the processor time of a step, a median, and how many a whole run has."""
    times, total = [time.process_time()], 0

    def timed(snapshot: Snapshot) -> Stop | None:
        times.append(time.process_time())
        enough = snapshot.step == WARMUP_STEPS + TIMED_STEPS
        return Stop("measured") if enough else None

    recipe = seeded(path, SEEDS[0])
    train(recipe, digits.known, observers=[timed], device="cpu")
    per_epoch = digits.known.n // recipe.training.batch_size
    total = per_epoch * recipe.training.epochs
    return float(np.median(np.diff(times)[WARMUP_STEPS:])), total


def kept() -> Numbers:
    if not NUMBERS.is_file():
        return {"methods": {}, "untrained": {}}
    numbers: Numbers = json.loads(NUMBERS.read_text(encoding="utf-8"))
    return numbers


def keep(numbers: Numbers) -> None:
    numbers["machine"] = f"{describe()} | {torch.get_num_threads()} thread"
    text = json.dumps(numbers, indent=1, sort_keys=True) + "\n"
    NUMBERS.write_text(text, encoding="utf-8")


def take_untrained(digits: Digits) -> Mapping[str, list[Numbers]]:
    """Return the rows above the methods; they share one architecture."""
    path = path_of(recipe_names()[0])
    pixels = digits.pixels()
    found: dict[str, list[Numbers]] = {name: [] for name in UNTRAINED}
    for seed in SEEDS:
        encoder = untrained(path, seed, digits)
        found["random"].append(digits.measured(encoder))
        encoder = normalised_by(encoder, pixels[0])
        found["random_normalised"].append(digits.measured(encoder))
    found["pixels"].append(digits.of_rows(pixels))
    return found


def cell(rows: Sequence[Numbers], column: str) -> str:
    """Return a mean with the least and the greatest; "-" where there is none."""
    values = [row[column] for row in rows if row[column] is not None]
    if not values:
        return "-"
    digits = _DIGITS.get(column, 3)
    mean = f"{np.mean(values):.{digits}f}"
    if len(rows) == 1:
        return mean
    span = f"{min(values):.{digits}f}-{max(values):.{digits}f}"
    missing = f", {len(rows) - len(values)} without" if len(values) < len(rows) else ""
    return f"{mean} ({span}{missing})"


def table(numbers: Numbers) -> str:
    """Return the table of docs/methods.md."""
    lines = ["| recipe | " + " | ".join([*COLUMNS.values(), "ms a step"]) + " |"]
    lines.append("|---" * (len(COLUMNS) + 2) + "|")
    for name, title in UNTRAINED.items():
        cells = [cell(numbers["untrained"][name], column) for column in COLUMNS]
        lines.append("| " + " | ".join([title, *cells, ""]) + "|")
    for name, one in sorted(numbers["methods"].items()):
        cells = [cell(one["seeds"], column) for column in COLUMNS]
        link = f"[{name}](../recipes/{PREFIX}{name}.toml)"
        took = f"{1000 * one['seconds_per_step']:.0f}"
        lines.append("| " + " | ".join([link, *cells, took]) + " |")
    return "\n".join(lines)


def page(numbers: Numbers) -> str:
    """Return docs/methods.md."""
    text = TEMPLATE.read_text(encoding="utf-8")
    return text.format(
        table=table(numbers),
        machine=numbers["machine"],
        n_seeds=len(SEEDS),
        few=FEW.k,
        draws=FEW.draws,
        timed=TIMED_STEPS,
    )


def header(one: Numbers) -> tuple[str, str]:
    """Return the lines of a recipe that say what it gives and what it costs."""
    centres, few, linear = (
        f"{np.mean([row[column] for row in one['seeds']]):.2f}"
        for column in ("centres", "few", "linear")
    )
    step, steps = one["seconds_per_step"], one["steps"]
    return (
        f"# Expected: test digits by nearest centres {centres}, by {FEW.k} labels a "
        f"class {few}, by all {linear}.",
        f"# Cost: {steps} steps of {1000 * step:.0f} ms, {steps * step:.0f} s on one "
        "CPU core, measured.",
    )


def headed(text: str, one: Numbers) -> str:
    """Return a recipe's text with these two lines as the numbers have them."""
    for line in header(one):
        word = line.split(":")[0]
        text = re.sub(rf"^{word}:.*$", line, text, count=1, flags=re.MULTILINE)
    return text


def render(numbers: Numbers) -> None:
    """Write the page and the lines of the recipes."""
    PAGE.write_text(page(numbers), encoding="utf-8")
    for name, one in numbers["methods"].items():
        path = path_of(name)
        path.write_text(headed(path.read_text(encoding="utf-8"), one), encoding="utf-8")


def measure_all(names: Sequence[str], digits: Digits, *, only_times: bool) -> None:
    numbers = kept()
    if not only_times:
        numbers["untrained"] = take_untrained(digits)
    for name in names:
        path = path_of(name)
        one: Numbers = dict(numbers["methods"].get(name, {}))
        if not only_times:
            one["seeds"] = [trained_numbers(path, seed, digits) for seed in SEEDS]
            one["digest"] = digest(path)
        one["seconds_per_step"], one["steps"] = seconds_per_step(path, digits)
        numbers["methods"][name] = one
        keep(numbers)
        cells = ", ".join(cell(one["seeds"], column) for column in COLUMNS)
        step = 1000 * one["seconds_per_step"]
        sys.stdout.write(f"{name}: {cells}; {step:.0f} ms a step\n")
        sys.stdout.flush()


def main() -> None:
    words = sys.argv[1:]
    names = [word for word in words if not word.startswith("--")] or recipe_names()
    if "--render" not in words:
        torch.set_num_threads(1)
        measure_all(names, Digits(), only_times="--times-only" in words)
    numbers = kept()
    known = set(recipe_names())
    numbers["methods"] = {k: v for k, v in numbers["methods"].items() if k in known}
    render(numbers)


if __name__ == "__main__":
    main()
