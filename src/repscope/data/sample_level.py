"""Each image as a class of its own: many views of a few images, as two image sets.

How far an encoder has learned to tell images apart, whatever is done to them, is read
by the same probes as any class.
"""

import dataclasses

import numpy as np
import torch
from jaxtyping import Int, UInt8

from repscope._checking import InputError, UsageError
from repscope._randomness import Purpose, sample_keys, uniform
from repscope.data.augmentations import augment
from repscope.data.imageset import ImageSet
from repscope.data.levels import Level
from repscope.data.operations import Normalize, Operation
from repscope.data.protocols import Protocol

LEVEL = "sample"
# No epoch of a training has this number: its views are none of these.
_EPOCH = -1


def sample_level(
    images: ImageSet,
    protocol: Protocol,
    *,
    n_images: int = 500,
    n_train: int = 100,
    n_test: int = 20,
    seed: int = 0,
) -> tuple[ImageSet, ImageSet]:
    """Return views of some images for training a probe, and others for testing it.

    Both sets have the level "sample", the number of the image from 0 to n_images - 1,
    and above it the levels of the images. Rows go image by image. Ids are those of the
    image and the view, "17:3".

    Args:
        images: of one size; some of those that an encoder was trained on.
        protocol: whose first view is made, without its normalisation, which an
            encoder's preprocessing does.
        n_images: how many images become classes, at least 2; which ones is a hash of
            seed and id.
        n_train: views of each image in the first set.
        n_test: views of each image in the second one, draws of the same distribution.
        seed: of the choice and of the views. With the seed of a training, no view is
            one that it saw.

    Returns:
        The two sets, in memory: n_images * (n_train + n_test) pictures of 8 bits.

    Raises:
        UsageError: for fewer than 2 images or 1 view, or more images than there are.
        InputError: where images differ in size, or have planes.

    Source: Ben-Shaul et al. 2023, section 3 (500 images of CIFAR-100, 100 and 20
    views). Differs from the source in rounding the views to 8 bits.
    """
    for name, value, least in (
        ("n_images", n_images, 2),
        ("n_train", n_train, 1),
        ("n_test", n_test, 1),
    ):
        if value < least:
            raise UsageError(f"{name}: {value}", expected=f"at least {least}")
    if n_images > images.n:
        found = f"{n_images:,} asked for, {images.n:,} in {images.name}"
        raise UsageError("n_images: more than there are", found=found)
    if images.planes is not None:
        raise InputError(f"{images.name}: views of planes are not made")
    chosen = images.subset(_chosen(images, n_images, seed))
    pixels = chosen.pixels(np.arange(n_images)).array
    operations = tuple(
        one for one in protocol.views[0] if not isinstance(one, Normalize)
    )
    return (
        _views(chosen, pixels, operations, range(n_train), seed),
        _views(chosen, pixels, operations, range(n_train, n_train + n_test), seed),
    )


def _chosen(images: ImageSet, n_images: int, seed: int) -> Int[np.ndarray, " m"]:
    draws = uniform(sample_keys(Purpose.SUBSET, seed, images.keys), 0)
    return np.sort(np.argsort(draws, kind="stable")[:n_images])


def _views(
    images: ImageSet,
    pixels: UInt8[np.ndarray, "n h w c"],
    operations: tuple[Operation, ...],
    numbers: range,
    seed: int,
) -> ImageSet:
    """Return the views of these numbers as a set, image by image."""
    made = []
    for number in numbers:
        keys = sample_keys(
            Purpose.AUGMENTATION, seed, images.keys, epoch=_EPOCH, view=number
        )
        view = augment(torch.from_numpy(pixels), operations, keys)
        eight = (view * 255).round().clamp(0, 255).to(torch.uint8)
        made.append(eight.permute(0, 2, 3, 1).numpy())
    rows = np.repeat(np.arange(images.n), len(numbers))
    own = Level(LEVEL, rows, tuple(str(one) for one in images.ids.tolist()))
    levels = (own, *(level.take(rows) for level in images.levels))
    views_of_image = np.stack(made, axis=1)  # (images, views, h, w, c)
    made_set = ImageSet.of(
        views_of_image.reshape(-1, *views_of_image.shape[2:]),
        labels={level.name: level for level in levels},
        ids=[f"{one}:{number}" for one in images.ids.tolist() for number in numbers],
        name=f"{images.name}, views {numbers.start} to {numbers.stop - 1}",
    )
    attributes = tuple(one.take(rows) for one in images.attributes)
    return dataclasses.replace(made_set, attributes=attributes)
