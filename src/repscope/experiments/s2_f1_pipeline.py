"""S2-F1: does the pipeline run for each objective, with and without a head?

Each objective takes an epoch on digits and another on feature vectors. Loss and
gradients must be numbers in each step, and the parts of the loss must add up to it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from repscope.data.imageset import ImageSet
from repscope.experiments.digits_recipes import digits_recipe
from repscope.experiments.experiment import (
    Condition,
    Experiment,
    Observation,
    Quantity,
    Workplace,
)
from repscope.experiments.watched_training import trained
from repscope.theory.planted import sound
from repscope.training.batches import Plan, batches
from repscope.training.learner import GRADIENT_NORM, Learner, Losses
from repscope.training.preparation import prepare
from repscope.training.recipe import Recipe
from repscope.training.sections import (
    DataSection,
    EncoderSection,
    HeadSection,
    ObjectiveSection,
    PredictorSection,
)
from repscope.training.snapshot import Snapshot

# With options that fit batches of 50 of 250 images.
OBJECTIVES: Mapping[str, Mapping[str, object]] = {
    "nt_xent": {},
    "moco": {"queue": 100},
    "inst_disc": {"negatives": 100},
    "byol": {},
    "simsiam": {},
    "swav": {"frozen_steps": 2},
    "barlow_twins": {},
    "vicreg": {},
    "supcon": {},
    "joint": {},
    "spectral": {},
    "cross_entropy": {},
}
HEADS = {
    "none": HeadSection(name="none"),
    "mlp2": HeadSection(name="mlp2", hidden=32, out=16),
}
N_IMAGES, BATCH_SIZE, PROTOTYPES = 250, 50, 20
SPLIT_TOLERANCE = 1e-6
VECTOR_SIDE, VECTOR_NOISE = 8, 0.1


def recipe_with(objective: str, head: str) -> Recipe:
    """Return what is trained, for an epoch of 5 steps on digits."""
    recipe = digits_recipe(
        encoder=EncoderSection(name="res_lh", depth=1, width=16),
        head=HEADS[head],
        objective=ObjectiveSection(name=objective, options=OBJECTIVES[objective]),
        epochs=1,
    )
    out = PROTOTYPES if objective == "swav" else None
    return replace(
        recipe,
        data=replace(recipe.data, limit=N_IMAGES),
        predictor=PredictorSection(out=out),
        training=replace(recipe.training, batch_size=BATCH_SIZE),
    )


def on_vectors(recipe: Recipe) -> Recipe:
    """Return a recipe for feature vectors, which a perceptron takes."""
    return replace(
        recipe,
        data=DataSection(),
        encoder=EncoderSection(name="mlp", width=16, hidden=(32,)),
    )


@dataclass(frozen=True)
class Checks:
    """What held in each step of a run.

    Args:
        finite: whether the loss was a number.
        gradient: whether all gradients were.
        identity: whether total = invariance + regularization, to 1e-6 of the largest.
    """

    finite: bool
    gradient: bool
    identity: bool


def checks_of(rows: Sequence[Losses]) -> Checks:
    """Return what held in all steps of a run.

    Args:
        rows: the numbers of each step, None for what is none; at least one.
    """
    finite = all(row["total"] is not None for row in rows)
    return Checks(
        finite=bool(rows) and finite,
        gradient=bool(rows) and all(row[GRADIENT_NORM] is not None for row in rows),
        identity=bool(rows) and finite and all(_adds_up(row) for row in rows),
    )


def _adds_up(row: Losses) -> bool:
    parts = [row.get("invariance"), row.get("regularization")]
    total, known = row["total"], [one for one in parts if one is not None]
    if total is None or len(known) < len(parts):
        return False
    greatest = max(abs(one) for one in (total, *known))
    return math.isclose(
        total, sum(known), rel_tol=0, abs_tol=SPLIT_TOLERANCE * greatest
    )


def rows_on_digits(recipe: Recipe, place: Workplace, name: str) -> list[Losses]:
    """Return the numbers of each step on digits."""
    rows: list[Losses] = []

    def watch(snapshot: Snapshot) -> None:
        rows.append(dict(snapshot.losses))

    trained(recipe, place, name, observers=[watch])
    return rows


def rows_on_vectors(recipe: Recipe) -> list[Losses]:
    """Return the numbers of each step on planted vectors, whose views are noisy copies.

    Args:
        recipe: as `on_vectors` gives it.
    """
    images = vectors()
    prepared = prepare(recipe, images)
    training = recipe.training
    plan = Plan(images.n, training.batch_size, training.epochs, training.seed)
    learner = Learner(prepared, torch.device("cpu"), total_steps=plan.total_steps)
    generator = torch.Generator().manual_seed(training.seed)
    rows = []
    stream = batches(prepared.images, prepared.preprocess, plan, labels=prepared.labels)
    for batch in stream:
        pixels = images.pixels(batch.rows).array
        still = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        seen = tuple(_noisy(still, generator) for _ in prepared.protocol.views)
        learner.take_step(batch, seen, learning_rate=recipe.optimiser.learning_rate)
        rows.append(dict(learner.losses))
    return rows


def vectors() -> ImageSet:
    """Return planted feature vectors as images of 8 x 8: 64 numbers from 0 to 1."""
    planted = sound(N_IMAGES, VECTOR_SIDE**2)
    greatest = planted.features.max()
    pixels = np.round(255 * planted.features / greatest).astype(np.uint8)
    return ImageSet.of(
        pixels.reshape(-1, VECTOR_SIDE, VECTOR_SIDE, 1),
        labels=dict(planted.labels),
        name="planted vectors",
    )


def _noisy(
    vectors: Float[Tensor, "n 1 h w"], generator: torch.Generator
) -> Float[Tensor, "n 1 h w"]:
    noise = torch.randn(vectors.shape, generator=generator)
    return vectors + VECTOR_NOISE * noise


def measure(
    recipes: Mapping[str, Recipe], place: Workplace
) -> Mapping[str, Observation]:
    """Return, for all runs and for those of each objective, which share holds.

    Args:
        recipes: "nt_xent_mlp2" and the like; each is run twice.
        place: where to train on digits; vectors are always on the CPU.
    """
    checks: dict[str, list[Checks]] = {}
    for name, recipe in recipes.items():
        found = checks.setdefault(recipe.objective.name, [])
        found.append(checks_of(rows_on_digits(recipe, place, name)))
        found.append(checks_of(rows_on_vectors(on_vectors(recipe))))
    every = [one for found in checks.values() for one in found]
    shares = {
        "runs": float(len(every)),
        **{name: _share(every, name) for name in _TITLES},
        **{
            objective: float(np.mean([_share(found, name) for name in _TITLES]))
            for objective, found in checks.items()
        },
    }
    return {name: Observation(value) for name, value in shares.items()}


def _share(checks: Sequence[Checks], name: str) -> float:
    return float(np.mean([getattr(one, name) for one in checks]))


_TITLES = {
    "finite": "the loss is a number in each step",
    "gradient": "the gradients are numbers in each step",
    "identity": "the loss is the sum of its parts in each step",
}


def _holds_in_all(name: str) -> Condition:
    return Condition(f"in all runs {_TITLES[name]}", lambda numbers: numbers[name] == 1)


EXPERIMENT = Experiment(
    id="S2-F1",
    title="The pipeline with each objective",
    claim="Augmentation, encoder, projection head and loss work together for every "
    "objective, with a head and without.",
    source="Appalaraju et al. 2020, Fig. 1 (a diagram of the pipeline)",
    recipes={
        f"{objective}_{head}": recipe_with(objective, head)
        for objective in OBJECTIVES
        for head in HEADS
    },
    quantities=(
        Quantity("runs", "runs", 2.0 * len(OBJECTIVES) * len(HEADS), 0.0),
        *(
            Quantity(name, f"share of runs in which {title}", 1.0, 0.0)
            for name, title in _TITLES.items()
        ),
        *(
            Quantity(name, f"{name}: share of these that hold", 1.0, 0.0)
            for name in OBJECTIVES
        ),
    ),
    conditions=tuple(_holds_in_all(name) for name in _TITLES),
    measure=measure,
    cost="48 trainings of 5 steps: 6 s on a CPU core",
    caveats=(
        "That it runs, not that it learns. Digits are cropped; views of a vector are "
        "that vector with noise.",
    ),
)
