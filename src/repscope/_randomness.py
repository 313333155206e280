"""Randomness that is computed, not carried: each draw is a hash of what it is for.

A draw depends on (purpose, seed, epoch, sample, view, draw) and on nothing else. Batch
size, order, workers and device cannot change it, and a run that was interrupted needs
no generator's state to go on as if it had not been.
"""

from enum import IntEnum

import numpy as np
from jaxtyping import Float, Int, UInt64

from repscope._arrays import mix

# A float64 has 53 bits: the hash's upper ones give uniform numbers on [0, 1).
_UNIFORM_BITS = np.uint64(11)
_UNIFORM_SCALE = 2.0**-53


class Purpose(IntEnum):
    """What draws are for: two purposes share no number, whatever seed they are given.

    Images chosen by the very draw that crops them would all be cropped alike.
    """

    AUGMENTATION = 0
    ORDER = 1
    SUBSET = 2
    SHORTCUT = 3
    STAND_IN = 4
    SHAPES = 5
    WEIGHTS = 6
    NEGATIVES = 7
    SHUFFLE = 8


def sample_keys(
    purpose: Purpose,
    seed: int,
    samples: UInt64[np.ndarray, " n"],
    *,
    epoch: int = 0,
    view: int = 0,
) -> UInt64[np.ndarray, " n"]:
    """Return one key per sample, of which any number of draws can be made.

    Args:
        purpose: what the draws decide.
        seed: of the run.
        samples: a code of each sample, such as `hash_ids` gives.
        epoch: counted from 0.
        view: which augmented view of the sample.
    """
    key = mix(mix(np.array([seed])) ^ np.uint64(purpose))
    for count in (epoch, view):
        key = mix(key ^ np.asarray([count], dtype=np.int64).view(np.uint64))
    return mix(samples ^ key)


def uniform(keys: UInt64[np.ndarray, " n"], draw: int) -> Float[np.ndarray, " n"]:
    """Return one uniform number in [0, 1) per key.

    Args:
        keys: from `sample_keys`.
        draw: which number of the sample this is; each purpose has its own.
    """
    bits = mix(keys ^ mix(np.array([draw]))) >> _UNIFORM_BITS
    return bits.astype(np.float64) * _UNIFORM_SCALE


def permutation(seed: int, epoch: int, n: int) -> Int[np.ndarray, " n"]:
    """Return an order of n samples that depends on seed and epoch alone."""
    keys = sample_keys(Purpose.ORDER, seed, np.arange(n, dtype=np.uint64), epoch=epoch)
    return np.argsort(mix(keys), kind="stable")
