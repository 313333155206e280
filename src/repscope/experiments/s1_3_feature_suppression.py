"""S1-3: does a shortcut suppress what else a contrastive encoder could have learned?

Two encoders see the same digits. One also sees random bits as constant channels, which
both views of a picture share and which alone tell most pictures apart. The digit is
then read from both.
"""

from collections.abc import Mapping

import numpy as np

from repscope.data.shortcuts import randbit
from repscope.data.sources import open_images
from repscope.experiments.digits_recipes import digits_recipe
from repscope.experiments.experiment import (
    Condition,
    Experiment,
    Observation,
    Quantity,
    Workplace,
)
from repscope.experiments.watched_training import trained
from repscope.metrics.logistic import logistic_probe
from repscope.metrics.probing import ProbeResult, standardise
from repscope.representations.embed import embed
from repscope.training.recipe import Recipe
from repscope.training.sections import EncoderSection, HeadSection, ObjectiveSection

BITS = 8
LEAST_FALL = 0.3
LEAST_BIT_ACCURACY = 0.85


def recipe_with(bits: int) -> Recipe:
    """Return what is trained, with a number of random bits beside the picture."""
    return digits_recipe(
        encoder=EncoderSection(name="res_lh", depth=2, width=32),
        head=HeadSection(name="simclr", hidden=64, out=64),
        objective=ObjectiveSection(name="nt_xent", options={"temperature": 0.1}),
        epochs=25,
        crop=(0.5, 1.0),
        bits=bits,
    )


def measure(
    recipes: Mapping[str, Recipe], place: Workplace
) -> Mapping[str, Observation]:
    """Return how well digits and bits are read from each trained encoder.

    A linear probe (multinomial logistic regression, C = 1, standardised features) is
    fitted on the training pictures and scored on the 500 test pictures.

    Args:
        recipes: "without_bits" and "with_bits".
        place: where to train.
    """
    bits = [f"bit{number}" for number in range(recipes["with_bits"].data.bits)]
    digit = _levels_read("without_bits", recipes, place, levels=["digit"])[0]
    suppressed, *kept = _levels_read(
        "with_bits", recipes, place, levels=["digit", *bits]
    )
    return {
        "digit_without_bits": Observation(digit.test_accuracy, digit.interval),
        "digit_with_bits": Observation(suppressed.test_accuracy, suppressed.interval),
        "bits": Observation(float(np.mean([one.test_accuracy for one in kept]))),
    }


def _levels_read(
    name: str, recipes: Mapping[str, Recipe], place: Workplace, *, levels: list[str]
) -> list[ProbeResult]:
    """Train an encoder by a recipe; return what a probe reads of each level."""
    recipe = recipes[name]
    data = recipe.data
    encoder = trained(recipe, place, name)
    known, asked = (
        randbit(open_images(data.source, split=split), data.bits, seed=data.bit_seed)
        for split in ("train", "test")
    )
    features = [
        embed(encoder, images, device=place.device, thumbnails=False).features()
        for images in (known, asked)
    ]
    train_rows, test_rows = standardise(*(one.astype(np.float64) for one in features))
    return [
        logistic_probe(
            train_rows,
            known.level(level).codes,
            test_rows,
            asked.level(level).codes,
            known.level(level).n_classes,
        )
        for level in levels
    ]


EXPERIMENT = Experiment(
    id="S1-3",
    title="Feature suppression by an easy feature",
    claim="An encoder that can tell pictures apart by an easy, irrelevant feature "
    "keeps that feature and loses the class.",
    source="Xue et al. 2023, picture of feature suppression in unsupervised "
    "contrastive learning; random bits as in Chen, Luo & Li 2021, section 5",
    recipes={"without_bits": recipe_with(0), "with_bits": recipe_with(BITS)},
    quantities=(
        Quantity(
            "digit_without_bits",
            "digit, without bits",
            expected=0.966,
            tolerance=0.03,
            published=0.892,
            setting="MNIST, another network",
        ),
        Quantity(
            "digit_with_bits",
            f"digit, with {BITS} bits",
            # Four seeds gave .28 to .35; an earlier prototype, with batch statistics at
            # extraction and a scaled residual branch, .40.
            expected=0.31,
            tolerance=0.1,
        ),
        Quantity("bits", "bits, mean of all", expected=0.95, tolerance=0.05),
    ),
    conditions=(
        Condition(
            f"with {BITS} bits the digit is read at least {LEAST_FALL:g} worse",
            lambda numbers: (
                numbers["digit_with_bits"] <= numbers["digit_without_bits"] - LEAST_FALL
            ),
        ),
        Condition(
            f"the bits are read with an accuracy of at least {LEAST_BIT_ACCURACY:g}",
            lambda numbers: numbers["bits"] >= LEAST_BIT_ACCURACY,
        ),
    ),
    measure=measure,
    cost="2 trainings of 25 epochs on 1,297 pictures of 16 x 16: 30 s on a CPU core",
    caveats=(
        "The source shows a picture without numbers. For random bits, Chen, Luo & Li "
        "publish .612 with 5 and .187 with 10 bits at temperature .1 on MNIST.",
        "The temperature decides how much is suppressed: a lower one suppresses less.",
        "One seed. Differences of less than about .03 are no evidence at this scale.",
    ),
)
