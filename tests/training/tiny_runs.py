"""A training so small that it takes a moment: 100 pictures, 9 steps, a few weights."""

import hashlib
from pathlib import Path

import numpy as np
import torch

from repscope.data.imageset import ImageSet
from repscope.training.json_lines import read_rows
from repscope.training.recipe import Recipe, override
from repscope.training.snapshot import Observer

STEPS_PER_EPOCH, EPOCHS = 3, 3
STEPS = STEPS_PER_EPOCH * EPOCHS
# A checkpoint is due after steps 2, 4, ..., also in the middle of an epoch.
EVERY = 2
# The files that are the same bytes whenever and wherever a run is done again.
REPEATED = ("metrics.jsonl", "encoder.safetensors", "recipe.toml", "README.md")

RECIPE = override(
    Recipe(),
    [
        "augmentation.protocol=digits16",
        "encoder.name=small_conv",
        "encoder.width=4",
        "head.hidden=8",
        "head.out=8",
        "optimiser.learning_rate=0.01",
        f"training.epochs={EPOCHS}",
        "training.batch_size=32",
        f"training.checkpoint_every={EVERY}",
    ],
)


def recipe_with(*words: str) -> Recipe:
    return override(RECIPE, words)


def tiny_images(n: int = 100) -> ImageSet:
    """Return pictures of 16 x 16 grey squares, two pixels wide."""
    squares = np.random.default_rng(7).integers(0, 256, (n, 8, 8), dtype=np.uint8)
    pixels = squares.repeat(2, axis=1).repeat(2, axis=2)
    return ImageSet.of(pixels, labels=np.arange(n) % 3, name="squares")


class Crash(Exception):
    """Stands for whatever may end a process between two steps."""


def crash_after(step: int) -> Observer:
    """Return an observer that raises when so many steps are done."""

    def observe(snapshot):
        if snapshot.step == step:
            raise Crash

    return observe


def rows_of(run: Path) -> list[dict]:
    return read_rows(run / "metrics.jsonl")


def digests(folder: Path, names=REPEATED) -> dict[str, str]:
    """Return a hash of each file that a repetition gives again."""
    return {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names
    }


def assert_same(one, other, where="state"):
    """Compare two state trees: types, keys and order, and tensors to the bit."""
    assert type(one) is type(other), where
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype, where
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert list(one) == list(other), where
        for key in one:
            assert_same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{where}[{i}]")
    else:
        assert one == other, where
