"""Which recipe do experiments on digits share, whatever else they vary?"""

import dataclasses

from repscope.training.recipe import Recipe
from repscope.training.sections import (
    AugmentationSection,
    DataSection,
    EncoderSection,
    HeadSection,
    ObjectiveSection,
    OptimiserSection,
    TrainingSection,
)


def digits_recipe(
    *,
    encoder: EncoderSection,
    head: HeadSection,
    objective: ObjectiveSection,
    epochs: int,
    learning_rate: float = 2e-3,
    crop: tuple[float, float] = (0.4, 1.0),
    bits: int = 0,
) -> Recipe:
    """Return a recipe for the 1,297 training digits: Adam, cosine to 0, batches of 256.

    Args:
        encoder: the backbone.
        head: the projection.
        objective: what is minimised.
        epochs: passes over the digits, of 5 steps each.
        learning_rate: at the beginning; there is no warm-up.
        crop: least and greatest share of the area that a view keeps.
        bits: random bits that are added as constant channels.
    """
    least, greatest = crop
    return Recipe(
        data=DataSection(source="digits", split="train", bits=bits),
        augmentation=AugmentationSection(
            protocol="digits16", crop_minimum=least, crop_maximum=greatest
        ),
        encoder=encoder,
        head=head,
        objective=objective,
        optimiser=OptimiserSection(
            name="adam",
            learning_rate=learning_rate,
            warmup_epochs=0.0,
            final_fraction=0.0,
        ),
        training=TrainingSection(epochs=epochs, batch_size=256),
    )


def with_seed(recipe: Recipe, seed: int) -> Recipe:
    """Return a recipe with another seed of weights, order and augmentation."""
    training = dataclasses.replace(recipe.training, seed=seed)
    return dataclasses.replace(recipe, training=training)


def vicreg_recipe(
    *, depth: int, width: int, epochs: int, variance_weight: float = 25.0
) -> Recipe:
    """Return a recipe of VICReg for a RES-L-H.

    The other weights are 25 (invariance) and 1 (covariance); the head is 256 wide with
    128 outputs.

    Args:
        depth: L, residual blocks.
        width: H, channels.
        epochs: passes over the digits.
        variance_weight: mu.
    """
    return digits_recipe(
        encoder=EncoderSection(name="res_lh", depth=depth, width=width),
        head=HeadSection(name="simclr", hidden=256, out=128),
        objective=ObjectiveSection(
            name="vicreg",
            options={
                "invariance_weight": 25.0,
                "variance_weight": variance_weight,
                "covariance_weight": 1.0,
            },
        ),
        epochs=epochs,
    )
