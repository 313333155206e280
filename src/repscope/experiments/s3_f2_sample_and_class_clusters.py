"""S3-F2: when do samples cluster in training, and when do classes?

One encoder is looked at as it learns. Nearest centres read which image a view is of,
and which class an image belongs to. F2L is how well they read both; F2M, how much
of what a linear probe reads the class centres alone give.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from repscope.data.digits import SIDE
from repscope.data.imageset import ImageSet
from repscope.data.sample_level import sample_level
from repscope.data.sources import open_images
from repscope.experiments.digits_recipes import vicreg_recipe
from repscope.experiments.experiment import (
    Condition,
    Experiment,
    Observation,
    Quantity,
    Workplace,
)
from repscope.experiments.read_labels import Rows, rows_of, with_statistics_of
from repscope.experiments.watched_training import Watched, watched
from repscope.metrics.curves import ncc_linear_ratio, saturation_epoch
from repscope.metrics.metric import Estimate
from repscope.metrics.probing import ProbeResult
from repscope.models.encoder import Encoder
from repscope.training.preparation import views_of
from repscope.training.recipe import Recipe

# Epochs done when the encoder is looked at; the first with a claim, and the last.
EPOCHS = (0, 3, 10, 20, 30, 40, 50, 60)
EARLY, DONE_BY, LAST = 3, 10, 60
N_IMAGES, N_TRAIN, N_TEST = 100, 20, 5
LEAST_SAMPLE, LEAST_GAIN, LATEST_BY, LEAST_RATIO_GAIN = 0.93, 0.15, 10, 0.15

RECIPES = {"vicreg": vicreg_recipe(depth=3, width=64, epochs=LAST)}


@dataclass(frozen=True, eq=False)
class Reading:
    """What is read from an encoder at one epoch.

    Args:
        sample: of which image a view is, by nearest centre.
        digit: which digit an image shows, by nearest centre.
        ratio: of that accuracy to a linear probe's.
    """

    sample: ProbeResult
    digit: ProbeResult
    ratio: Estimate


def course(recipe: Recipe, place: Workplace) -> Watched[Reading]:
    """Train an encoder; return what was read from it at `EPOCHS`.

    Args:
        recipe: of digits.
        place: where to train.
    """
    look = _look(recipe, place.device)
    return watched(recipe, place, "vicreg", epochs=EPOCHS, look=look)


def _look(recipe: Recipe, device: str) -> Callable[[Encoder], Reading]:
    known, asked = (open_images("digits", split=split) for split in ("train", "test"))
    views = sample_level(
        known,
        views_of(recipe.augmentation, SIDE),
        n_images=N_IMAGES,
        n_train=N_TRAIN,
        n_test=N_TEST,
        seed=recipe.training.seed,
    )

    def read(encoder: Encoder, known: ImageSet, asked: ImageSet) -> Rows:
        own = with_statistics_of(encoder, known)
        return rows_of(own, known, asked, device=device)

    def look(encoder: Encoder) -> Reading:
        digits = read(encoder, known, asked)
        centres, linear = digits.nearest_centres(), digits.linear()
        truth = digits.asked_labels
        return Reading(
            sample=read(encoder, *views).nearest_centres(),
            digit=centres,
            ratio=ncc_linear_ratio(
                centres.predictions == truth, linear.predictions == truth
            ),
        )

    return look


def clusters(seen: Mapping[int, Reading]) -> dict[str, Observation]:
    """Return the numbers of S3-F2L.

    Args:
        seen: epochs done → what was read then.
    """
    found, saturated = {}, {}
    for level in ("sample", "digit"):
        results = {epoch: getattr(one, level) for epoch, one in seen.items()}
        train = {epoch: float(one.train_accuracy) for epoch, one in results.items()}
        for epoch, one in results.items():
            found[f"{level}_train_{epoch}"] = Observation(train[epoch])
            found[f"{level}_test_{epoch}"] = Observation(
                one.test_accuracy, one.interval
            )
        saturated[level] = saturation_epoch(list(train), list(train.values())).value
        found[f"{level}_saturation"] = Observation(saturated[level])
        found[f"{level}_done"] = Observation(
            (train[DONE_BY] - train[0]) / (train[LAST] - train[0])
        )
    found["later"] = Observation(saturated["sample"] - saturated["digit"])
    return found


def ratios(seen: Mapping[int, Reading]) -> dict[str, Observation]:
    """Return the numbers of S3-F2M.

    Args:
        seen: epochs done → what was read then.
    """
    return {
        f"ratio_{epoch}": Observation(one.ratio.value, one.ratio.interval)
        for epoch, one in seen.items()
    }


def measure_clusters(
    recipes: Mapping[str, Recipe], place: Workplace
) -> Mapping[str, Observation]:
    """Return how well nearest centres read image and digit as training goes on.

    Args:
        recipes: "vicreg".
        place: where to train.
    """
    return clusters(course(recipes["vicreg"], place).seen)


def measure_ratios(
    recipes: Mapping[str, Recipe], place: Workplace
) -> Mapping[str, Observation]:
    """Return how much of a linear probe's accuracy nearest centres reach.

    Args:
        recipes: "vicreg".
        place: where to train.
    """
    return ratios(course(recipes["vicreg"], place).seen)


# By epoch, as `EPOCHS`: means of seeds 1 to 3, and about twice their deviation.
_EXPECTED: Mapping[str, tuple[float, ...]] = {
    "sample_train": (0.54, 0.72, 0.85, 0.90, 0.93, 0.94, 0.95, 0.95),
    "sample_test": (0.41, 0.70, 0.82, 0.89, 0.92, 0.93, 0.94, 0.94),
    "digit_train": (0.71, 0.62, 0.76, 0.82, 0.85, 0.87, 0.88, 0.88),
    "digit_test": (0.70, 0.61, 0.75, 0.80, 0.83, 0.85, 0.86, 0.86),
    "ratio": (0.79, 0.63, 0.77, 0.82, 0.86, 0.87, 0.88, 0.875),
}
_TOLERANCES: Mapping[str, tuple[float, ...]] = {
    "sample_train": (0.08, 0.06, 0.06, 0.04, 0.03, 0.02, 0.015, 0.015),
    "sample_test": (0.09, 0.09, 0.06, 0.06, 0.04, 0.04, 0.03, 0.03),
    "digit_train": (0.10, 0.06, 0.07, 0.07, 0.05, 0.04, 0.04, 0.04),
    "digit_test": (0.11, 0.06, 0.09, 0.07, 0.05, 0.07, 0.06, 0.06),
    "ratio": (0.13, 0.04, 0.09, 0.07, 0.05, 0.07, 0.05, 0.05),
}
_TITLES = {
    "sample_train": "image of a view, training views",
    "sample_test": "image of a view, test views",
    "digit_train": "digit, training images",
    "digit_test": "digit, test images",
    "ratio": "nearest centre / linear, digit, test images",
}
_READ = "CIFAR-100, RES-10-250, 1,000 epochs; read from the figure"
_COST = "1 training of 60 epochs on 1,297 pictures of 16 x 16: 60 s on a CPU core"
_CAVEATS = (
    "One seed. Differences of less than about .03 are no evidence at this scale.",
    "Batch normalisation has the statistics of the images that centres and probes are "
    "fitted on. Running averages lag behind in the first epochs: with them .43 of the "
    "digits are read after epoch 3, in place of .67 (seed 0, training images), and .88 "
    "in both ways at the end.",
)


def _quantities(
    names: Sequence[str], published: Mapping[str, float]
) -> tuple[Quantity, ...]:
    """Return one quantity for each of some curves and each epoch.

    Args:
        names: of curves.
        published: curve → the source's number at its last epoch.
    """
    return tuple(
        Quantity(
            f"{name}_{epoch}",
            f"{_TITLES[name]}, epoch {epoch}",
            expected=_EXPECTED[name][k],
            tolerance=_TOLERANCES[name][k],
            published=published.get(name) if epoch == LAST else None,
            setting=_READ if epoch == LAST and name in published else "",
        )
        for name in names
        for k, epoch in enumerate(EPOCHS)
    )


CLUSTERS = Experiment(
    id="S3-F2L",
    title="Clusters of samples and of classes",
    claim="Views cluster by their image early in training; images cluster by their "
    "class later, and go on to.",
    source="Ben-Shaul et al. 2023, Fig. 2 (left)",
    recipes=RECIPES,
    quantities=(
        *_quantities(
            ("sample_train", "sample_test", "digit_train", "digit_test"),
            {"sample_train": 1.0, "digit_train": 0.41},
        ),
        Quantity("sample_saturation", "image: epoch of saturation", 37.0, 13.0),
        Quantity("digit_saturation", "digit: epoch of saturation", 47.0, 20.0),
        Quantity("later", "image later than digit, epochs", -10.0, 20.0),
        Quantity("sample_done", f"image: share done by epoch {DONE_BY}", 0.76, 0.06),
        Quantity("digit_done", f"digit: share done by epoch {DONE_BY}", 0.22, 0.8),
    ),
    conditions=(
        Condition(
            f"after {LAST} epochs centres read the image of at least {LEAST_SAMPLE:g} "
            "of the training views",
            lambda n: n[f"sample_train_{LAST}"] >= LEAST_SAMPLE,
        ),
        Condition(
            f"the digit is read at least {LEAST_GAIN:g} better than after {EARLY} "
            "epochs (training images)",
            lambda n: (
                n[f"digit_train_{LAST}"] - n[f"digit_train_{EARLY}"] >= LEAST_GAIN
            ),
        ),
        Condition(
            f"the image is saturated at most {LATEST_BY} epochs after the digit",
            lambda n: n["later"] <= LATEST_BY,
        ),
    ),
    measure=measure_clusters,
    cost=_COST,
    caveats=(
        f"An image is one of {N_IMAGES} training images, of which {N_TRAIN} views give "
        f"the centre and {N_TEST} more are read.",
        "Done: of the whole change of the training accuracy from epoch 0 to the last. "
        "Saturated: the first epoch looked at with 95 % of it done. Both curves rise "
        "slowly at their end, so that those epochs differ little. The share done early "
        "was larger for the image with each of four seeds, but varies much for the "
        "digit.",
        *_CAVEATS,
    ),
)

RATIOS = Experiment(
    id="S3-F2M",
    title="Class centres beside a linear probe",
    claim="As training goes on, class centres alone read nearly as much of the class "
    "as a linear probe does.",
    source="Ben-Shaul et al. 2023, Fig. 2 (middle)",
    recipes=RECIPES,
    quantities=_quantities(("ratio",), {"ratio": 0.75}),
    conditions=(
        Condition(
            f"the ratio rises by more than {LEAST_RATIO_GAIN:g} from epoch {EARLY} to "
            f"{LAST}",
            lambda n: n[f"ratio_{LAST}"] > n[f"ratio_{EARLY}"] + LEAST_RATIO_GAIN,
        ),
    ),
    measure=measure_ratios,
    cost=_COST,
    caveats=_CAVEATS,
)
