"""S2-T1: what does the projection head do for the representation before it?

Encoders that differ in their head alone see digits with two random bits, which tell
many pictures apart and say nothing of the digit. The digit is read from h.
"""

from collections.abc import Mapping

import numpy as np

from repscope.data.shortcuts import randbit
from repscope.data.sources import open_images
from repscope.experiments.digits_recipes import digits_recipe, with_seed
from repscope.experiments.experiment import (
    Condition,
    Experiment,
    Observation,
    Quantity,
    Workplace,
)
from repscope.experiments.read_labels import rows_of
from repscope.experiments.watched_training import trained
from repscope.training.recipe import Recipe
from repscope.training.sections import (
    EncoderSection,
    HeadSection,
    ObjectiveSection,
)

BITS = 2
SEEDS = (0, 1)
LEAST_GAIN = 0.05
HEADS: Mapping[str, HeadSection] = {
    "none": HeadSection(name="none"),
    "mlp2_narrow": HeadSection(name="mlp2_narrow", hidden=8, out=32),
    "mlp2_frozen": HeadSection(name="mlp2_frozen", hidden=64, out=32),
    "linear": HeadSection(name="linear", out=32),
    "mlp3": HeadSection(name="mlp3", hidden=64, out=32),
    "mlp2": HeadSection(name="mlp2", hidden=64, out=32),
}


def recipe_with(head: HeadSection) -> Recipe:
    """Return what is trained, with a head."""
    return digits_recipe(
        encoder=EncoderSection(name="res_lh", depth=2, width=32),
        head=head,
        objective=ObjectiveSection(name="nt_xent", options={"temperature": 0.1}),
        epochs=25,
        crop=(0.5, 1.0),
        bits=BITS,
    )


def measure(
    recipes: Mapping[str, Recipe], place: Workplace
) -> Mapping[str, Observation]:
    """Return how well the digit is read with each head, mean over seeds.

    A linear probe (multinomial logistic regression, C = 1, standardised features) is
    fitted on h of the training digits and scored on that of the 500 test digits.

    Args:
        recipes: "mlp2_0" and the like: head and seed.
        place: where to train.
    """
    read: dict[str, list[float]] = {}
    for name, recipe in recipes.items():
        data = recipe.data
        encoder = trained(recipe, place, name)
        known, asked = (
            randbit(
                open_images(data.source, split=split), data.bits, seed=data.bit_seed
            )
            for split in ("train", "test")
        )
        rows = rows_of(encoder, known, asked, level="digit", device=place.device)
        read.setdefault(recipe.head.name, []).append(rows.linear().test_accuracy)
    return {name: Observation(float(np.mean(values))) for name, values in read.items()}


EXPERIMENT = Experiment(
    id="S2-T1",
    title="Projection heads",
    claim="A head of two layers between representation and loss leaves more of the "
    "class in the representation than no head, and than one that is not trained.",
    source="Appalaraju et al. 2020, Table 1 (MoCo v2 on ImageNet)",
    recipes={
        f"{name}_{seed}": with_seed(recipe_with(head), seed)
        for name, head in HEADS.items()
        for seed in SEEDS
    },
    quantities=(
        # Of seeds 2 to 5, which differ by up to .03 (.09 with a frozen head).
        Quantity("none", "digit, no head", 0.744, 0.03, published=0.592),
        Quantity("mlp2_narrow", "digit, narrow", 0.715, 0.06, published=0.622),
        Quantity("mlp2_frozen", "digit, frozen", 0.71, 0.06, published=0.629),
        Quantity("linear", "digit, linear", 0.884, 0.03),
        Quantity("mlp3", "digit, deeper", 0.83, 0.06, published=0.639),
        Quantity(
            "mlp2",
            "digit, two layers",
            expected=0.847,
            tolerance=0.02,
            published=0.644,
            setting="all heads: top-1 on ImageNet, MoCo v2 with a ResNet-50",
        ),
    ),
    conditions=(
        Condition(
            f"with two layers the digit is read at least {LEAST_GAIN:g} better than "
            "without a head",
            lambda n: n["mlp2"] >= n["none"] + LEAST_GAIN,
        ),
        Condition(
            "and not worse than with such a head that is not trained",
            lambda n: n["mlp2"] >= n["mlp2_frozen"],
        ),
    ),
    measure=measure,
    cost="12 trainings of 25 epochs on 1,297 pictures of 16 x 16: 2 min on a CPU core",
    caveats=(
        "Heads have no batch normalisation, 64 hidden and 32 outputs; the narrow one 8 "
        "hidden. Means of two seeds.",
        "In the source a frozen and a narrow head are 3 points better than none, and a "
        "deeper one no better. Here neither of them is better than none, and a linear "
        "head does best: these do not decide.",
        "Without random bits all heads are alike here: digits alone are too easy.",
    ),
)
