"""What do the words of a recipe stand for, with these images?

Sizes, statistics and options that a recipe leaves open are filled in, names are looked
up in the closed tables, and the images are brought to the form that training takes.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from repscope._checking import UsageError, check_choice
from repscope._images import Preprocess
from repscope._randomness import permutation
from repscope.data.imageset import ImageSet
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
from repscope.data.shortcuts import randbit
from repscope.models.architecture import Architecture
from repscope.models.backbones import completed
from repscope.models.heads import Head, HeadName
from repscope.objectives.batch import Objective
from repscope.objectives.catalogue import build_objective
from repscope.training.recipe import (
    AugmentationSection,
    EncoderSection,
    ObjectiveSection,
    Recipe,
)

# Images from which mean and deviation are taken, where no published ones fit.
STATISTICS_ROWS = 2048
_DIGITS = 4


@dataclass(frozen=True, eq=False)
class Prepared:
    """A recipe with all that it names.

    Args:
        recipe: with everything filled in that it left open.
        images: in memory where they fit.
        fingerprint: of the images as they were given, without those left out.
        preprocess: from pictures to what the encoder is trained on.
        protocol: how views are made.
        architecture: of the encoder.
        head: of the projection.
        objective: what is minimised.
    """

    recipe: Recipe
    images: ImageSet
    fingerprint: str
    preprocess: Preprocess
    protocol: Protocol
    architecture: Architecture
    head: Head
    objective: Objective


def prepare(recipe: Recipe, images: ImageSet) -> Prepared:
    """Return a recipe with all that it names, for these images.

    Args:
        recipe: may leave sizes and options open.
        images: before any are left out.

    Raises:
        UsageError: where a name is unknown, an option does not fit, or the images
            differ in size and the recipe gives none.
        InputError: where too many images cannot be read.
    """
    # All names are looked up before the first image is read.
    recipe = _with_networks(_with_size(recipe, images), images)
    head, data = recipe.head, recipe.data
    check_choice("head", head.name, get_args(HeadName))
    assert data.size is not None and data.channels is not None
    bare = Preprocess(data.size, channels=data.channels)
    views_of(recipe.augmentation, bare.size)
    chosen = _chosen(recipe, images)
    ready = chosen.in_memory(bare)
    recipe, made = _with_statistics(recipe, ready, bare)
    return Prepared(
        recipe=recipe,
        images=ready,
        fingerprint=chosen.fingerprint,
        preprocess=_preprocess(bare, made),
        protocol=made,
        architecture=_architecture(recipe, images),
        head=Head(head.name, head.hidden, head.out, head.bn),  # type: ignore[arg-type]
        objective=build_objective(recipe.objective.name, recipe.objective.options),
    )


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
    changed = tuple(
        tuple(_changed(one, changes) for one in view) for view in made.views
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
        return dataclasses.replace(operation, scale=scale)
    if keys and not isinstance(operation, RandomResizedCrop | Normalize):
        return dataclasses.replace(operation, p=changes[keys[0]])
    return operation


def _with_size(recipe: Recipe, images: ImageSet) -> Recipe:
    data, shape = recipe.data, images.images.shape
    size = data.size
    if size is None:
        if shape is None or shape[0] != shape[1]:
            raise UsageError(
                f"{images.name}: the images are not all square and of one size",
                expected="data.size, the side to which they are resized and cropped",
                fix="data.size=32 for a small encoder, data.size=224 for a large one",
            )
        size = shape[0]
    channels = data.channels or images.channels
    filled = dataclasses.replace(data, size=size, channels=channels)  # type: ignore[arg-type]
    return dataclasses.replace(recipe, data=filled)


def _chosen(recipe: Recipe, images: ImageSet) -> ImageSet:
    """Return the images that the recipe asks for, with the bits that it adds."""
    data = recipe.data
    if data.limit is not None and data.limit < images.n:
        images = images.balanced(data.limit)
    return randbit(images, data.bits, seed=data.bit_seed) if data.bits else images


def _with_statistics(
    recipe: Recipe, images: ImageSet, bare: Preprocess
) -> tuple[Recipe, Protocol]:
    """Return recipe and protocol with mean and deviation that fit the images."""
    section = recipe.augmentation
    made = views_of(section, bare.size)
    normalize = _normalize_of(made)
    if normalize is None:
        return recipe, made
    mean, std = normalize.mean, normalize.std
    if section.mean is None and len(mean) != bare.channels:
        mean, std = _statistics(images, bare)
    section = dataclasses.replace(section, mean=mean, std=std)
    recipe = dataclasses.replace(recipe, augmentation=section)
    return recipe, views_of(section, bare.size)


def _statistics(
    images: ImageSet, bare: Preprocess
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation of each channel, of values in [0, 1], rounded."""
    rows = np.sort(permutation(0, 0, images.n)[:STATISTICS_ROWS])
    values = images.pixels(rows, bare).array.reshape(-1, bare.channels) / 255
    mean = tuple(round(float(one), _DIGITS) for one in values.mean(axis=0))
    least = 10.0**-_DIGITS  # images of one colour have no deviation to divide by
    std = tuple(max(least, round(float(one), _DIGITS)) for one in values.std(axis=0))
    return mean, std


def _normalize_of(made: Protocol) -> Normalize | None:
    found = [one for one in made.views[0] if isinstance(one, Normalize)]
    return found[0] if found else None


def _preprocess(bare: Preprocess, made: Protocol) -> Preprocess:
    normalize = _normalize_of(made)
    if normalize is None:
        return bare
    return dataclasses.replace(bare, mean=normalize.mean, std=normalize.std)


def _with_networks(recipe: Recipe, images: ImageSet) -> Recipe:
    """Return the recipe with the defaults of its encoder and its objective."""
    whole = _architecture(recipe, images)
    objective = build_objective(recipe.objective.name, recipe.objective.options)
    options = dataclasses.asdict(objective)  # type: ignore[call-overload]
    return dataclasses.replace(
        recipe,
        encoder=EncoderSection(whole.name, whole.depth, whole.width, whole.stem),
        objective=ObjectiveSection(recipe.objective.name, options),
    )


def _architecture(recipe: Recipe, images: ImageSet) -> Architecture:
    section, data = recipe.encoder, recipe.data
    channels = (data.channels or images.channels) + images.n_planes + data.bits
    given = {"depth": section.depth, "width": section.width, "stem": section.stem}
    known = {key: value for key, value in given.items() if value is not None}
    fields = {"name": section.name, "channels": channels, **known}
    return completed(Architecture.from_dict(fields))
