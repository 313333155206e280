"""What do the words of a recipe stand for, with these images?

Sizes, statistics and options that a recipe leaves open are filled in, names are looked
up in the closed tables, and the images are brought to the form that training takes.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import torch
from jaxtyping import Int

from repscope._checking import InputError, UsageError, check_choice
from repscope._images import Preprocess
from repscope._randomness import permutation
from repscope.data.imageset import ImageSet
from repscope.data.large_images import stored_side
from repscope.data.operations import (
    ColorJitter,
    GaussianBlur,
    Grayscale,
    HorizontalFlip,
    Normalize,
    Operation,
    RandomResizedCrop,
)
from repscope.data.protocols import Protocol, protocol
from repscope.data.published_views import View, side_of
from repscope.data.shortcuts import randbit
from repscope.models.architecture import Architecture
from repscope.models.backbones import completed, takes_size
from repscope.models.heads import Head, HeadName
from repscope.models.predictors import Predictor
from repscope.objectives.catalogue import build_objective
from repscope.objectives.objective import AbstractObjective, views_needed
from repscope.training.fitting import (
    check_fit,
    check_predictor,
    label_level,
    predictor_of,
)
from repscope.training.memory import check_memory
from repscope.training.recipe import Recipe
from repscope.training.sections import (
    AugmentationSection,
    EncoderSection,
    PredictorSection,
)

# Images from which mean and deviation are taken, where no published ones fit.
STATISTICS_ROWS = 2048
# Images whose size is looked at where a set does not know the size of all.
SIZED_IMAGES = 16
# Of pixels that are counted at once: a few such blocks fit into any memory.
STATISTICS_BYTES = 2**24
_DIGITS = 4
# Stand in for those of the images where only names are looked up.
USUAL_SIZE, USUAL_CHANNELS = 32, 3


@dataclass(frozen=True, eq=False)
class Prepared:
    """A recipe with all that it names.

    Args:
        recipe: with everything filled in that it left open.
        images: in memory where they fit.
        fingerprint: of the images as they were given, without those left out.
        preprocess: from pictures to what the encoder is trained on.
        stored: side and channels at which pictures are kept before crops are cut.
        protocol: how views are made.
        architecture: of the encoder.
        head: of the projection.
        predictor: the network after the head; None where the objective has none.
        objective: what is minimised.
        labels: the class of each image on the level that the recipe says, from 0; None
            where there are no labels.
        n_classes: of that level; None without labels.
    """

    recipe: Recipe
    images: ImageSet
    fingerprint: str
    preprocess: Preprocess
    stored: Preprocess
    protocol: Protocol
    architecture: Architecture
    head: Head
    predictor: Predictor | None
    objective: AbstractObjective
    labels: Int[np.ndarray, " n"] | None
    n_classes: int | None


def prepare(
    recipe: Recipe, images: ImageSet, *, device: torch.device | None = None
) -> Prepared:
    """Return a recipe with all that it names, for these images.

    Args:
        recipe: may leave sizes and options open.
        images: before any are left out.
        device: whose memory must suffice for a step; None where none is to be taken.

    Raises:
        UsageError: where a name is unknown, an option does not fit, or the images
            differ in size and the recipe gives none.
        InputError: where too many images cannot be read.
        ResourceError: where a step surely needs more memory than there is.
    """
    # All names are looked up before the first image is read.
    head, objective = _check_names(recipe)
    recipe = _with_networks(_with_size(recipe, images), images)
    bare = _bare(recipe)
    made = views_of(recipe.augmentation, bare.size)
    check_fit(recipe, objective, made)
    if device is not None:
        seen = made.first(views_needed(objective.needs))
        sides = [side_of(view) or bare.size for view in seen]
        of_image = bare.channels * sum(side**2 for side in sides)
        check_memory(recipe.training.batch_size, of_image, bare.size, device)
    chosen = _chosen(recipe, images)
    level = label_level(recipe, chosen, objective)
    if level is not None and objective.needs.labels:
        named = dataclasses.replace(recipe.objective, labels=level.name)
        recipe = dataclasses.replace(recipe, objective=named)
    stored = Preprocess(recipe.data.stored_size or bare.size, channels=bare.channels)
    ready = chosen.in_memory(stored)
    recipe = _with_statistics(recipe, ready, stored)
    return Prepared(
        recipe=recipe,
        images=ready,
        fingerprint=chosen.fingerprint,
        preprocess=preprocess_of(recipe),
        stored=stored,
        protocol=views_of(recipe.augmentation, bare.size),
        architecture=_architecture(recipe, images),
        head=head,
        predictor=predictor_of(recipe.predictor),
        objective=objective,
        labels=None if level is None else level.codes,
        n_classes=None if level is None else level.n_classes,
    )


def preprocess_of(recipe: Recipe) -> Preprocess:
    """Return how pictures reach the encoder of a recipe.

    Args:
        recipe: with everything filled in that it left open, as a run's folder has it.

    Raises:
        UsageError: where size or channels are left open.
    """
    bare = _bare(recipe)
    normalize = _normalize_of(views_of(recipe.augmentation, bare.size))
    if normalize is None:
        return bare
    return dataclasses.replace(bare, mean=normalize.mean, std=normalize.std)


def architecture_of(
    section: EncoderSection, channels: int, size: int | None
) -> Architecture:
    """Return the record of an encoder, with the defaults of its kind.

    Args:
        section: may leave sizes open.
        channels: of the images, with their planes.
        size: side of the images, in pixels.

    Raises:
        UsageError: for an unknown name, or a size that it has not.
    """
    known = {
        key: value
        for key, value in dataclasses.asdict(section).items()
        if value is not None
    }
    fields = {**known, "channels": channels}
    if takes_size(section.name):
        fields["size"] = size
    return completed(Architecture.from_dict(fields))


def views_of(section: AugmentationSection, size: int) -> Protocol:
    """Return the protocol of a recipe, with what the recipe changes in it.

    Args:
        section: name and changes.
        size: side of the views, in pixels.

    Raises:
        UsageError: for an unknown name, or a change of an operation that is not there.
    """
    made = protocol(
        section.protocol,
        size=size,
        strength=section.strength,
        mean=section.mean,
        std=section.std,
    )
    changes = {
        key: value
        for key, value in dataclasses.asdict(section).items()
        if key in _CHANGED and value is not None
    }
    for key in changes:
        kind = _CHANGED[key]
        if not any(isinstance(one, kind) for view in made.views for one in view):
            raise UsageError(
                f"augmentation.{key}: the protocol {made.name} has no {kind.__name__}",
                fix="leave it out, or choose another protocol",
            )

    def of_view(view: View) -> dict[str, Any]:
        """Return what is changed in a view: small crops keep their area."""
        is_small = side_of(view) != made.size
        return {
            key: value
            for key, value in changes.items()
            if not (is_small and _CHANGED[key] is RandomResizedCrop)
        }

    changed = tuple(
        tuple(_changed(one, of_view(view)) for one in view) for view in made.views
    )
    return dataclasses.replace(made, views=changed)


# The operation that each key of the section changes.
_CHANGED: dict[str, type] = {
    "crop_minimum": RandomResizedCrop,
    "crop_maximum": RandomResizedCrop,
    "flip": HorizontalFlip,
    "jitter": ColorJitter,
    "gray": Grayscale,
    "blur": GaussianBlur,
}


def _changed(operation: Operation, changes: dict[str, Any]) -> Operation:
    keys = [key for key in changes if isinstance(operation, _CHANGED[key])]
    if isinstance(operation, RandomResizedCrop) and keys:
        low, high = operation.scale
        scale = (changes.get("crop_minimum", low), changes.get("crop_maximum", high))
        if scale[0] > scale[1]:
            raise UsageError(
                f"augmentation.{keys[0]} = {changes[keys[0]]}",
                expected=f"crops from {low:g} to {high:g} of the area, as the protocol "
                "has them, or both ends from the recipe",
                fix="set crop_minimum and crop_maximum together",
            )
        return dataclasses.replace(operation, scale=scale)
    if keys and not isinstance(operation, RandomResizedCrop | Normalize):
        return dataclasses.replace(operation, p=changes[keys[0]])
    return operation


def _check_names(recipe: Recipe) -> tuple[Head, AbstractObjective]:
    """Look up all that the recipe names, as far as no image is needed for it."""
    views_of(recipe.augmentation, recipe.data.size or USUAL_SIZE)
    architecture_of(recipe.encoder, USUAL_CHANNELS, recipe.data.size or USUAL_SIZE)
    head = recipe.head
    check_choice("head", head.name, get_args(HeadName))
    objective = build_objective(recipe.objective.name, recipe.objective.options)
    predictor_of(_with_predictor(recipe, objective).predictor)
    return (
        Head(head.name, head.hidden, head.out, head.bn),  # type: ignore[arg-type]
        objective,
    )


def _bare(recipe: Recipe) -> Preprocess:
    """Return size and channels of the images that training sees."""
    size, channels = recipe.data.size, recipe.data.channels
    if size is None or channels is None:
        raise UsageError(
            "the recipe leaves data.size or data.channels open",
            expected="both, as in the recipe.toml that a run wrote",
        )
    return Preprocess(size, channels=channels)


def _with_size(recipe: Recipe, images: ImageSet) -> Recipe:
    data, shape = recipe.data, images.images.shape
    size = data.size
    sizes = _some_sizes(images) if shape is None else {shape[:2]}
    if size is None:
        height, width = next(iter(sizes), (0, 1))
        if len(sizes) != 1 or height != width:
            shown = ", ".join(f"{h} x {w}" for h, w in sorted(sizes)[:3])
            raise UsageError(
                f"{images.name}: data.size is needed",
                found=f"images of {shown} pixels" if sizes else "no readable image",
                expected="the side to which they are resized and cropped",
                fix="--set data.size=32 for a small encoder, --set data.size=224 for a "
                "large one",
            )
        size = height
    channels = data.channels or images.channels
    stored = data.stored_size
    if stored is None:
        made = views_of(recipe.augmentation, size)
        stored = stored_side(made, size, min(map(min, sizes), default=size))
    filled = dataclasses.replace(
        data,
        size=size,
        stored_size=stored,
        channels=channels,  # type: ignore[arg-type]
    )
    return dataclasses.replace(recipe, data=filled)


def _some_sizes(images: ImageSet) -> set[tuple[int, int]]:
    """Return height and width of a few images, spread over the set.

    Those of a folder or a table are not known without reading each of them.
    """
    sizes = set()
    for place in np.linspace(0, images.n - 1, min(SIZED_IMAGES, images.n)).astype(int):
        try:
            sizes.add(images.images.read(int(images.rows[place])).shape[:2])
        except InputError:
            continue  # it will be counted and told where all are read
    return sizes


def _chosen(recipe: Recipe, images: ImageSet) -> ImageSet:
    """Return the images that the recipe asks for, with the bits that it adds."""
    data = recipe.data
    if data.limit is not None and data.limit < images.n:
        images = images.balanced(data.limit)
    return randbit(images, data.bits, seed=data.bit_seed) if data.bits else images


def _with_statistics(recipe: Recipe, images: ImageSet, bare: Preprocess) -> Recipe:
    """Return the recipe with mean and deviation that fit the images."""
    section = recipe.augmentation
    normalize = _normalize_of(views_of(section, bare.size))
    if normalize is None:
        return recipe
    mean, std = normalize.mean, normalize.std
    if section.mean is None and len(mean) != bare.channels:
        mean, std = _statistics(images, bare)
    section = dataclasses.replace(section, mean=mean, std=std)
    return dataclasses.replace(recipe, augmentation=section)


def _statistics(
    images: ImageSet, bare: Preprocess
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation of each channel, of values in [0, 1], rounded."""
    rows = np.sort(permutation(0, 0, images.n)[:STATISTICS_ROWS])
    counts = np.zeros((bare.channels, 256), dtype=np.int64)
    at_once = max(1, STATISTICS_BYTES // (bare.size**2 * bare.channels))
    for start in range(0, len(rows), at_once):
        pixels = images.pixels(rows[start : start + at_once], bare).array
        for channel in range(bare.channels):
            values = pixels[..., channel].reshape(-1)
            counts[channel] += np.bincount(values, minlength=256)
    values = np.arange(256) / 255
    means = counts @ values / counts.sum(axis=1)
    squares = (values - means[:, None]) ** 2
    deviations = np.sqrt((counts * squares).sum(axis=1) / counts.sum(axis=1))
    mean = tuple(round(float(one), _DIGITS) for one in means)
    least = 10.0**-_DIGITS  # images of one colour have no deviation to divide by
    std = tuple(max(least, round(float(one), _DIGITS)) for one in deviations)
    return mean, std


def _normalize_of(made: Protocol) -> Normalize | None:
    found = [one for one in made.views[0] if isinstance(one, Normalize)]
    return found[0] if found else None


def _with_networks(recipe: Recipe, images: ImageSet) -> Recipe:
    """Return the recipe with the defaults of its encoder and its objective."""
    whole = _architecture(recipe, images)
    objective = build_objective(recipe.objective.name, recipe.objective.options)
    options = dataclasses.asdict(objective)  # type: ignore[call-overload]
    known = {one.name for one in dataclasses.fields(EncoderSection)}
    values = {k: one for k, one in dataclasses.asdict(whole).items() if k in known}
    return dataclasses.replace(
        _with_predictor(recipe, objective),
        encoder=EncoderSection(**values),
        objective=dataclasses.replace(recipe.objective, options=options),
    )


def _with_predictor(recipe: Recipe, objective: AbstractObjective) -> Recipe:
    """Return the recipe with the predictor that its objective works with."""
    needed, section = objective.needs.predictor, recipe.predictor
    if needed is None and section != PredictorSection():
        raise UsageError(
            f"objective {recipe.objective.name} has no predictor",
            found=", ".join(
                f"predictor.{key} = {value}"
                for key, value in dataclasses.asdict(section).items()
                if value is not None
            ),
            fix="leave the section [predictor] out",
        )
    if needed is None or section.name is not None:
        check_predictor(recipe.objective.name, needed, section)
        return recipe
    named = dataclasses.replace(section, name=needed)
    return dataclasses.replace(recipe, predictor=named)


def _architecture(recipe: Recipe, images: ImageSet) -> Architecture:
    section, data = recipe.encoder, recipe.data
    channels = (data.channels or images.channels) + images.n_planes + data.bits
    return architecture_of(section, channels, data.size)
