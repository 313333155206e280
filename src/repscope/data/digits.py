"""Real handwritten digits that come with scikit-learn, made 16 x 16.

The primary set of a machine without downloads: 1,797 pictures, ten digits, and five
pairs of digits that look alike as coarser classes.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float, Int, UInt8

from repscope._checking import check_choice
from repscope.data.images import ArrayImages
from repscope.data.imageset import ImageSet
from repscope.data.levels import Level

# Look-alike digits as one class each: 0 6, 1 7, 2 3, 4 9, 5 8.
PAIR_OF_DIGIT = (0, 1, 2, 2, 3, 4, 0, 1, 4, 3)
PAIR_NAMES = ("0 or 6", "1 or 7", "2 or 3", "4 or 9", "5 or 8")
SIDE = 16
N_TRAIN = 1297


def digits16(split: Literal["train", "test"] | None = None) -> ImageSet:
    """Return the digits as 16 x 16 grey pictures, levels "digit" and "pair".

    Values 0..16 are divided by 16, enlarged bilinearly by 2 (half-pixel centres,
    clamped edges), rounded to 8 bits, and permuted by
    ``numpy.random.default_rng(0).permutation``. Ids are scikit-learn's row numbers.
    The test pictures: nearest class centre on raw pixels .898, multinomial logistic
    regression (C = .1, pixels in [0, 1]) .962; .964 before the rounding.

    Args:
        split: "train" for the first 1,297, "test" for the last 500, None for all.

    Raises:
        UsageError: for another split.

    Example:
        >>> digits16("test").n
        500
    """
    from sklearn.datasets import load_digits

    if split is not None:
        check_choice("split", split, ("train", "test"))
    bunch = load_digits()
    order = np.random.default_rng(0).permutation(len(bunch.images))
    if split is not None:
        order = order[:N_TRAIN] if split == "train" else order[N_TRAIN:]
    pixels = doubled(bunch.images[order] / 16)
    digits = bunch.target[order].astype(np.int64)
    pairs: Int[np.ndarray, " n"] = np.array(PAIR_OF_DIGIT)[digits]
    array: UInt8[np.ndarray, "n 16 16 1"]
    array = np.round(pixels * 255).astype(np.uint8)[..., None]
    return ImageSet(
        images=ArrayImages(array, "digits"),
        name="digits" if split is None else f"digits ({split})",
        ids=order,
        levels=(
            Level("digit", digits, tuple(str(digit) for digit in range(10))),
            Level("pair", pairs, PAIR_NAMES),
        ),
        attributes=(),
        rows=np.arange(len(order)),
    )


def doubled(images: Float[np.ndarray, "n h w"]) -> Float[np.ndarray, "n 2*h 2*w"]:
    """Return pictures enlarged by 2, bilinearly, with half-pixel centres.

    Each new pixel is 3/4 of the old one it lies in and 1/4 of the neighbour that it is
    next to; at an edge there is no neighbour and the old pixel counts in full.
    """
    for axis in (1, 2):
        size = images.shape[axis]
        before = np.take(images, np.maximum(np.arange(size) - 1, 0), axis)
        after = np.take(images, np.minimum(np.arange(size) + 1, size - 1), axis)
        pair = np.stack([3 * images + before, 3 * images + after], axis=axis + 1) / 4
        shape = list(images.shape)
        shape[axis] *= 2
        images = pair.reshape(shape)  # (n, ..., size, 2, ...) -> (n, ..., 2 size, ...)
    return images
