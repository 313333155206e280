"""Do objective, labels, batches and views of a recipe fit one another?"""

import dataclasses
from typing import get_args

from repscope._checking import InputError, UsageError, check_choice
from repscope._distributed import n_ranks
from repscope.data.imageset import ImageSet
from repscope.data.levels import Level
from repscope.data.operations import RandomResizedCrop
from repscope.data.protocols import Protocol
from repscope.models.predictors import Predictor, PredictorName
from repscope.objectives.objective import AbstractObjective
from repscope.training.recipe import Recipe
from repscope.training.sections import LEAST_BATCH, PredictorSection

# Predictors whose outputs are as wide as z, and compared with projections.
ALIKE = frozenset({"none", "byol", "simsiam"})
# Encoders with one weight for each pixel.
OF_ONE_SIZE = ("linear", "mlp")


def check_fit(recipe: Recipe, objective: AbstractObjective, protocol: Protocol) -> None:
    """Refuse a batch or a protocol that objective or encoder cannot work with.

    Args:
        recipe: with everything filled in that it left open.
        objective: of the recipe.
        protocol: of the recipe.

    Raises:
        UsageError: naming what does not fit, and what would.
    """
    needs, name, n_views = objective.needs, recipe.objective.name, len(protocol.views)
    if n_views < needs.least_views:
        raise UsageError(
            f"objective {name} compares {needs.least_views} views of an image",
            found=f"{n_views} of augmentation.protocol = "
            f"{recipe.augmentation.protocol}",
            fix="choose a protocol with more views; repscope ls protocols",
        )
    if recipe.encoder.name in OF_ONE_SIZE and len(_sizes(protocol)) > 1:
        raise UsageError(
            f"encoder {recipe.encoder.name} takes images of one size",
            found=f"views of {' and '.join(map(str, _sizes(protocol)))} pixels",
            fix="choose a protocol without small crops, or a convolutional encoder",
        )
    _check_batch(recipe, objective)


def _sizes(protocol: Protocol) -> list[int]:
    """Return the sides of the views."""
    crops = (one for view in protocol.views for one in view)
    return sorted({one.size for one in crops if isinstance(one, RandomResizedCrop)})


def _check_batch(recipe: Recipe, objective: AbstractObjective) -> None:
    """Refuse a batch that does not fit the queue, the processes or the groups."""
    needs, name = objective.needs, recipe.objective.name
    batch_size, ranks = recipe.training.batch_size, n_ranks()
    if needs.divisor is not None and needs.divisor % batch_size:
        raise UsageError(
            f"objective {name}: its queue is filled by whole batches",
            found=f"{needs.divisor:,} places for batches of {batch_size}",
            expected="a multiple of training.batch_size",
            fix=f"objective.options.queue={_fitting_queue(objective, batch_size)}",
        )
    if batch_size < LEAST_BATCH * ranks:
        raise UsageError(
            f"training.batch_size = {batch_size} for {ranks} processes",
            expected=f"at least {LEAST_BATCH} images for each",
        )
    splits = recipe.training.bn_splits
    groups = splits * ranks
    if splits > 1 and (batch_size % groups or batch_size < LEAST_BATCH * groups):
        raise UsageError(
            f"training.bn_splits = {splits}: each group needs as many images, at least "
            f"{LEAST_BATCH}",
            found=f"training.batch_size = {batch_size} on {ranks} processes",
            expected=f"a multiple of {groups}, from {LEAST_BATCH * groups}",
        )


def label_level(
    recipe: Recipe, images: ImageSet, objective: AbstractObjective
) -> Level | None:
    """Return the level of labels that the recipe names, by default the finest.

    Args:
        recipe: says the level.
        images: as they are trained on.
        objective: which may need labels.

    Raises:
        InputError: where the objective needs labels and there are none.
        UsageError: where there is no such level.
    """
    name, wanted = recipe.objective.name, recipe.objective.labels
    levels = {level.name: level for level in images.levels}
    if not levels:
        if objective.needs.labels or wanted:
            raise InputError(
                f"{images.name}: objective {name} needs labels"
                if objective.needs.labels
                else f"{images.name}: objective.labels = {wanted}",
                found="images without labels",
                expected="a folder for each class, or a column of labels",
                fix="give labelled images, or an objective without labels, such as "
                "nt_xent",
            )
        return None
    if wanted:
        check_choice("level of labels", wanted, levels)
    return levels[wanted] if wanted else images.levels[0]


def check_predictor(
    objective: str, needed: str | None, section: PredictorSection
) -> None:
    """Refuse a predictor whose outputs mean something else than the objective's.

    Args:
        objective: its name.
        needed: the predictor that it works with; None for none.
        section: of the recipe.

    Raises:
        UsageError: naming the predictor that it works with.
    """
    asked = predictor_of(section)
    if needed is None or asked is None or asked.name == needed:
        return
    if not {needed, asked.name} <= ALIKE:
        raise UsageError(
            f"objective {objective} works with the predictor {needed}",
            found=f"predictor.name = {asked.name}",
            fix="leave predictor.name out",
        )


def predictor_of(section: PredictorSection) -> Predictor | None:
    """Return the record of a predictor; None where there is none.

    Raises:
        UsageError: for an unknown name, or an option that it has not.
    """
    if section.name is None:
        return None
    check_choice("predictor", section.name, get_args(PredictorName))
    return Predictor(**dataclasses.asdict(section))


def _fitting_queue(objective: AbstractObjective, batch_size: int) -> int:
    """Return the size of a queue, near that of the objective, that batches fill.

    A queue that takes several rows of each image is as many times its divisor.
    """
    divisor = objective.needs.divisor or 1
    rows_of_image = getattr(objective, "queue", divisor) // divisor
    return max(1, round(divisor / batch_size)) * batch_size * rows_of_image
