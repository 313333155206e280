"""S3-F7: does a wider network read better at each of its layers?

Three networks of three blocks, 8, 24 and 48 channels wide, are trained alike; the
digit is read from each of their layers.
"""

from collections.abc import Mapping

from repscope.data.sources import open_images
from repscope.experiments.digits_recipes import vicreg_recipe
from repscope.experiments.experiment import (
    Condition,
    Experiment,
    Numbers,
    Observation,
    Quantity,
    Workplace,
)
from repscope.experiments.read_labels import rows_of
from repscope.experiments.watched_training import trained
from repscope.training.recipe import Recipe

WIDTHS = (8, 24, 48)
DEPTH = 3
LAYERS = tuple(f"block{number}" for number in range(1, DEPTH + 1))
EPOCHS = 20
LEAST_GAIN = 0.1


def measure(
    recipes: Mapping[str, Recipe], place: Workplace
) -> Mapping[str, Observation]:
    """Return how well the digit is read from each layer of each network.

    A linear probe (multinomial logistic regression, C = 1, standardised features) is
    fitted on the training digits and scored on the 500 test digits.

    Args:
        recipes: "width_8" and the like.
        place: where to train.
    """
    digits = open_images("digits", split="train"), open_images("digits", split="test")
    found = {}
    for name, recipe in recipes.items():
        encoder = trained(recipe, place, name)
        for layer in LAYERS:
            rows = rows_of(encoder, *digits, layer=layer, device=place.device)
            result = rows.linear()
            found[f"{name}_{layer}"] = Observation(
                result.test_accuracy, result.interval
            )
    return found


def _is_wider_better(layer: str) -> Condition:
    narrow, *_, wide = (f"width_{width}_{layer}" for width in WIDTHS)

    def holds(numbers: Numbers) -> bool:
        return numbers[wide] >= numbers[narrow] + LEAST_GAIN

    return Condition(
        f"at {layer}, {WIDTHS[-1]} channels read at least {LEAST_GAIN:g} better than "
        f"{WIDTHS[0]}",
        holds,
    )


# By layer: means of seeds 1 and 2. Narrow networks differ more from seed to seed.
_EXPECTED = {
    8: (0.60, 0.68, 0.705),
    24: (0.89, 0.92, 0.92),
    48: (0.952, 0.955, 0.953),
}
_TOLERANCES = {8: 0.1, 24: 0.04, 48: 0.02}

EXPERIMENT = Experiment(
    id="S3-F7",
    title="Width, layer by layer",
    claim="Wider networks read the classes better, at every layer.",
    source="Ben-Shaul et al. 2023, Fig. 7",
    recipes={
        f"width_{width}": vicreg_recipe(depth=DEPTH, width=width, epochs=EPOCHS)
        for width in WIDTHS
    },
    quantities=tuple(
        Quantity(
            f"width_{width}_{layer}",
            f"digit, {width} wide, {layer}",
            expected=_EXPECTED[width][number],
            tolerance=_TOLERANCES[width],
        )
        for width in WIDTHS
        for number, layer in enumerate(LAYERS)
    ),
    conditions=tuple(_is_wider_better(layer) for layer in LAYERS),
    measure=measure,
    cost="3 trainings of 20 epochs on 1,297 pictures of 16 x 16: 25 s on a CPU core",
    caveats=(
        "The source shows curves without numbers, for widths 50, 250 and 1,000 with "
        "five blocks.",
        "With 48 channels the probe is near its ceiling on digits, where layers no "
        "longer differ. One seed.",
    ),
)
