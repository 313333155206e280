"""CIFAR-10 and CIFAR-100: their classes, which belong together, their binary files.

Source: Krizhevsky 2009, "Learning multiple layers of features from tiny images", and
    the class names in the files. Both levels of CIFAR-100 are in alphabetical order.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int, Shaped, UInt8

from repscope._checking import InputError
from repscope.data.encoded_images import fix_of
from repscope.files.file_access import fill, open_unchanged, stamp_of
from repscope.files.sniffing import Kind, sniff

SIDE, CHANNELS = 32, 3
PIXEL_BYTES = CHANNELS * SIDE * SIDE
CIFAR_FIX = (
    "a pickle can run any program and is never opened; download the binary version "
    "(cifar-10-binary.tar.gz or cifar-100-binary.tar.gz from "
    "https://www.cs.toronto.edu/~kriz/cifar.html), unpack it and pass its folder"
)

_CIFAR10 = """
animal: bird cat deer dog frog horse
vehicle: airplane automobile ship truck
"""
_CIFAR100 = """
aquatic_mammals: beaver dolphin otter seal whale
fish: aquarium_fish flatfish ray shark trout
flowers: orchid poppy rose sunflower tulip
food_containers: bottle bowl can cup plate
fruit_and_vegetables: apple mushroom orange pear sweet_pepper
household_electrical_devices: clock keyboard lamp telephone television
household_furniture: bed chair couch table wardrobe
insects: bee beetle butterfly caterpillar cockroach
large_carnivores: bear leopard lion tiger wolf
large_man-made_outdoor_things: bridge castle house road skyscraper
large_natural_outdoor_scenes: cloud forest mountain plain sea
large_omnivores_and_herbivores: camel cattle chimpanzee elephant kangaroo
medium_mammals: fox porcupine possum raccoon skunk
non-insect_invertebrates: crab lobster snail spider worm
people: baby boy girl man woman
reptiles: crocodile dinosaur lizard snake turtle
small_mammals: hamster mouse rabbit shrew squirrel
trees: maple_tree oak_tree palm_tree pine_tree willow_tree
vehicles_1: bicycle bus motorcycle pickup_truck train
vehicles_2: lawn_mower rocket streetcar tank tractor
"""


@dataclass(frozen=True, eq=False)
class Classes:
    """The names of two label levels.

    Args:
        fine: class 0, 1, ...
        coarse: superclass 0, 1, ...
        parents: the superclass of each class.
    """

    fine: tuple[str, ...]
    coarse: tuple[str, ...]
    parents: Int[np.ndarray, " c"]


def _classes(text: str) -> Classes:
    members = {
        coarse: fine.split()
        for coarse, fine in (line.split(":") for line in text.split("\n") if line)
    }
    parent_of = {fine: coarse for coarse, names in members.items() for fine in names}
    fine, coarse = sorted(parent_of), sorted(members)
    parents = np.array([coarse.index(parent_of[name]) for name in fine])
    parents.flags.writeable = False
    return Classes(tuple(fine), tuple(coarse), parents)


CIFAR10 = _classes(_CIFAR10)
CIFAR100 = _classes(_CIFAR100)


@dataclass(frozen=True, eq=False)
class Records:
    """What a binary file of CIFAR holds.

    Args:
        pixels: (n, 32, 32, 3).
        labels: level -> (n,) class names, fine to coarse.
    """

    pixels: UInt8[np.ndarray, "n h w c"]
    labels: dict[str, Shaped[np.ndarray, " n"]]


def read_cifar(path: Path) -> Records:
    """Return the pictures and labels of a binary file of CIFAR.

    A record is one label byte, or of CIFAR-100 the coarse before the fine one, and
    3,072 bytes of pixels: the red ones row by row, the green, the blue.

    Args:
        path: an existing regular file.

    Raises:
        InputError: where it is none, truncated, or its labels cannot be.
    """
    stamp = stamp_of(path)
    for n_labels, classes in ((2, CIFAR100), (1, CIFAR10)):
        n, rest = divmod(stamp.size, n_labels + PIXEL_BYTES)
        if rest or not n:
            continue
        records = np.empty((n, n_labels + PIXEL_BYTES), dtype=np.uint8)
        with open_unchanged(path, stamp) as file:
            fill(file, records, path.name)
        fine = records[:, n_labels - 1]
        if not _is_possible(records[:, :n_labels], classes):
            continue
        pixels = records[:, n_labels:].reshape(n, CHANNELS, SIDE, SIDE)
        names = ("fine_label", "coarse_label") if n_labels == 2 else ("label", "kind")
        parents = classes.parents[fine]
        values = np.array(classes.fine)[fine], np.array(classes.coarse)[parents]
        labels = dict(zip(names, values, strict=True))
        # (n, 3, 32, 32) to (n, 32, 32, 3)
        return Records(np.ascontiguousarray(np.moveaxis(pixels, 1, 3)), labels)
    raise _no_records(path, stamp.size)


def _is_possible(labels: UInt8[np.ndarray, "n k"], classes: Classes) -> bool:
    """Return whether label bytes are those of the classes, in the right order."""
    fine = labels[:, -1]
    if fine.max() >= len(classes.fine):
        return False
    return labels.shape[1] == 1 or bool((labels[:, 0] == classes.parents[fine]).all())


def _no_records(path: Path, size: int) -> InputError:
    kind = sniff(path)
    if kind is Kind.PICKLE:
        return InputError(f"{path.name}: is a pickle, not binary CIFAR", fix=CIFAR_FIX)
    if any(size % (labels + PIXEL_BYTES) == 0 for labels in (1, 2)) and size:
        found = "labels that CIFAR has not"
    else:
        found = f"{size:,} bytes"
    is_known = kind is not Kind.UNKNOWN
    return InputError(
        f"{path.name}: is {kind.value if is_known else 'damaged'}, not binary CIFAR",
        found=found,
        expected="records of 3,073 bytes (CIFAR-10) or 3,074 bytes (CIFAR-100)",
        fix=fix_of(kind, path.name),
    )
