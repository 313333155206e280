"""Files that hold pictures as arrays of pixels: IDX (MNIST), `.npz`, CIFAR's binaries.

They are read whole. No pickle is ever opened: CIFAR comes in a binary version too.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Shaped, UInt8

from repscope._checking import InputError, UsageError
from repscope.data.cifar import CIFAR_FIX, read_cifar
from repscope.data.encoded_images import check_kind
from repscope.data.folder_layout import SPLIT_WORDS, choose_split
from repscope.data.idx_file import read_idx
from repscope.data.images import ArrayImages
from repscope.data.imageset import ImageSet
from repscope.data.label_columns import choose_levels, says_labels
from repscope.data.npz_arrays import NpzArray, npz_arrays, read_array
from repscope.files.file_access import local_path, reading
from repscope.files.sniffing import Kind

# What arrays of pictures are called, the likeliest first.
PICTURE_WORDS = ("images", "image", "imgs", "img", "x", "pixels", "data")
ID_WORDS = ("id", "ids")
# More arrays than this are not listed.
LISTED = 8

_IDX_IMAGES = re.compile(r"images?[-_.]?(idx3)?[-_.]?ubyte(\.gz)?$")
# Split and number of classes -> the files that hold it.
_CIFAR_SPLITS = {
    ("train", 10): tuple(f"data_batch_{batch}.bin" for batch in range(1, 6)),
    ("test", 10): ("test_batch.bin",),
    ("train", 100): ("train.bin",),
    ("test", 100): ("test.bin",),
}
_PICKLED_CIFAR = ({"data_batch_1", "test_batch"}, {"train", "test", "meta"})


def open_idx(path: str | os.PathLike[str], *, split: str | None = None) -> ImageSet:
    """Return the pictures of an IDX file, packed by gzip or not.

    Labels come from the file beside it that is called "labels" where this one is called
    "images"; their level is "class". Ids are row numbers.

    Args:
        path: a file of images, or a folder of such files.
        split: train or test; needed where a folder holds both.

    Raises:
        InputError: where it is no IDX file of pictures, damaged, or the labels are not
            as many.
        UsageError: where the split is not named or not there.
    """
    location = local_path(path)
    if location.is_dir():
        location = _idx_of_split(location, split)
    pixels = read_idx(location)
    labels_file = _labels_beside(location)
    if pixels.ndim != 3:
        is_labels = pixels.ndim == 1
        raise InputError(
            f"{location.name}: holds {'labels' if is_labels else 'no pictures'}",
            found=f"{pixels.ndim} dimensions",
            expected="n x height x width",
            fix="pass the file of images, such as train-images-idx3-ubyte.gz",
        )
    labels = {}
    if labels_file is not None:
        labels["class"] = read_idx(labels_file)
        if labels["class"].shape != pixels.shape[:1]:
            raise InputError(
                f"{labels_file.name}: is not as long as {location.name}",
                found=f"shape {labels['class'].shape}",
                expected=f"{len(pixels):,} labels",
                fix="copy or download both again",
            )
    return _image_set(location.name, pixels[..., None], labels)


def open_npz_images(
    path: str | os.PathLike[str],
    *,
    split: str | None = None,
    labels: Sequence[str] | None = None,
) -> ImageSet:
    """Return the pictures of a `.npz` file.

    Arrays such as "train_images" and "train_labels", or "x_test" and "y_test", belong
    to a split; their other words name them. Ids are those of an array "ids", or row
    numbers.

    Args:
        path: the file, with an array (n, h, w) or (n, h, w, c) of 8-bit pixels or of
            floats in [0, 1], and labels (n,).
        split: train, val or test; needed where there are several.
        labels: the arrays of labels, from fine to coarse, without the words of the
            split; () for none. By default those called label or so.

    Raises:
        InputError: where it is no such file, or holds no pictures.
        UsageError: where split, pictures or labels are not there, or several could be
            meant.
    """
    file = local_path(path)
    stamp = check_kind(file, Kind.NPZ)
    arrays = npz_arrays(file, stamp)
    own = _of_split(file.name, arrays, split)
    pictures = own[_picture_name(file.name, own, arrays)]
    pixels = read_array(file, stamp, pictures)
    n = len(pixels)
    columns = {
        name: array
        for name, array in own.items()
        if array.shape in ((n,), (n, 1)) and array is not pictures
    }

    def read(name: str) -> Shaped[np.ndarray, " n"]:
        return read_array(file, stamp, columns[name]).reshape(n)

    ids = [name for name in columns if name.lower() in ID_WORDS]
    levels = choose_levels(
        file.name,
        columns,
        read,
        wanted=labels,
        likely=[name for name in columns if says_labels(name)],
    )
    return ImageSet.of(
        pixels, labels=levels, ids=read(ids[0]) if ids else None, name=file.name
    )


def open_cifar(path: str | os.PathLike[str], *, split: str | None = None) -> ImageSet:
    """Return the pictures of CIFAR-10's or CIFAR-100's binary version.

    Levels are "fine_label" and "coarse_label", of CIFAR-10 "label" and "kind" (animal
    or vehicle). Ids are row numbers.

    Args:
        path: its folder, or one of its `.bin` files.
        split: train or test; needed where a folder holds both.

    Raises:
        InputError: where it is the pickled version, no CIFAR, damaged, or a batch is
            missing.
        UsageError: where the split is not named or not there.

    Source: Krizhevsky 2009, "Learning multiple layers of features from tiny images",
        the binary version: of CIFAR-100, the coarse label's byte comes first.
    As in the source.
    """
    location = local_path(path)
    files = [location]
    if location.is_dir():
        location = _cifar_folder(location)
        files = _cifar_of_split(location, split)
    parts = [read_cifar(file) for file in files]
    if any(part.labels.keys() != parts[0].labels.keys() for part in parts):
        raise _two_cifars(location.name)
    labels = {
        level: np.concatenate([part.labels[level] for part in parts])
        for level in parts[0].labels
    }
    pixels = np.concatenate([part.pixels for part in parts])
    return _image_set(location.name, pixels, labels)


def _image_set(
    name: str,
    pixels: UInt8[np.ndarray, "n h w c"],
    labels: Mapping[str, Shaped[np.ndarray, " n"]],
) -> ImageSet:
    images = ArrayImages(np.ascontiguousarray(pixels), name)
    return ImageSet.of(images, labels=dict(labels), name=name)


def _file_names(folder: Path) -> set[str]:
    with reading(folder):
        return {entry.name for entry in folder.iterdir() if entry.is_file()}


def _split_of_file(name: str) -> str:
    """Return which split a file's name tells, "t10k" being MNIST's word for test."""
    lower = name.lower()
    words = [word for word in SPLIT_WORDS if lower.startswith(word)]
    return "test" if lower.startswith("t10k") else max(words, key=len, default="all")


def _idx_of_split(folder: Path, split: str | None) -> Path:
    """Return the file of images of a split, the unpacked one rather than the packed."""
    images = sorted(name for name in _file_names(folder) if _IDX_IMAGES.search(name))
    if not images:
        raise InputError(
            f"{folder.name}: holds no IDX files of images",
            expected="files such as train-images-idx3-ubyte.gz",
        )
    files = {_split_of_file(name): name for name in reversed(images)}
    if len({name.removesuffix(".gz") for name in images}) > len(files):
        raise UsageError(
            f"{folder.name}: several files of images of one split",
            found=", ".join(images[:LISTED]),
            fix="pass one of the files",
        )
    return folder / files[choose_split(folder.name, sorted(files, reverse=True), split)]


def _labels_beside(images: Path) -> Path | None:
    """Return the file of the labels of a file of images, if it is there."""
    name = images.name.replace("image", "label").replace("idx3", "idx1")
    plain = name.removesuffix(".gz")
    for candidate in (name, plain, f"{plain}.gz"):
        path = images.with_name(candidate)
        if candidate != images.name and path.is_file():
            return path
    return None


def _of_split(
    file: str, arrays: Mapping[str, NpzArray], split: str | None
) -> dict[str, NpzArray]:
    """Return the arrays of a split, by their names without the words of it."""
    splits: dict[str, dict[str, NpzArray]] = {}
    for name, array in arrays.items():
        words = re.split("[_.-]", name)
        told = [word for word in words if word.lower() in SPLIT_WORDS]
        rest = "_".join(word for word in words if word.lower() not in SPLIT_WORDS)
        own = splits.setdefault(told[0] if told and rest else "", {})
        own[rest if told and rest else name] = array
    named = [word for word in splits if word]
    if not named and split is None:
        return splits.get("", {})
    if not named:
        raise UsageError(
            f"{file}: has no split {split!r}",
            found=_listing(arrays),
            expected="arrays such as train_images and test_images",
            fix="leave the split out",
        )
    return splits[choose_split(file, named, split)]


def _picture_name(
    file: str, own: Mapping[str, NpzArray], arrays: Mapping[str, NpzArray]
) -> str:
    """Return which array of a split is the pictures."""
    pictures = [name for name, array in own.items() if _may_be_pictures(array)]
    likely = [
        word for word in PICTURE_WORDS for name in pictures if word == name.lower()
    ]
    chosen = [name for name in pictures if likely and name.lower() == likely[0]]
    if len(chosen or pictures) == 1:
        return (chosen or pictures)[0]
    if pictures:
        raise UsageError(
            f"{file}: {len(pictures)} arrays could be the pictures",
            found=_listing({name: own[name] for name in pictures}),
            fix='call one of them "images"',
        )
    raise InputError(
        f"{file}: holds no pictures",
        found=_listing(arrays),
        expected="an array (n, height, width), or with 1 or 3 channels, called images",
        fix=f"if it holds features: repscope diagnose {file}",
    )


def _may_be_pictures(array: NpzArray) -> bool:
    if array.dtype is None or array.dtype.kind not in "biuf":
        return False
    shape = array.shape
    has_channels = len(shape) == 4 and (shape[1] in (1, 3) or shape[3] in (1, 3))
    return len(shape) == 3 or has_channels


def _listing(arrays: Mapping[str, NpzArray]) -> str:
    parts = [array.described for array in arrays.values()]
    return ", ".join(parts[:LISTED]) + (", ..." if len(parts) > LISTED else "")


def _cifar_folder(folder: Path) -> Path:
    """Return the folder of CIFAR's binary files: this one, or the only one in it.

    Raises:
        InputError: where it is the pickled version, or none.
    """
    names = _file_names(folder)
    inner = [entry for entry in folder.iterdir() if entry.is_dir()]
    if not names and len(inner) == 1:
        folder, names = inner[0], _file_names(inner[0])
    if _is_pickled_cifar(names):
        raise InputError(
            f"{folder.name}: is the pickled version of CIFAR", fix=CIFAR_FIX
        )
    if not any(names & set(files) for files in _CIFAR_SPLITS.values()):
        raise InputError(
            f"{folder.name}: holds no binary files of CIFAR",
            expected="data_batch_1.bin ... and test_batch.bin, or train.bin, test.bin",
        )
    return folder


def _cifar_of_split(folder: Path, split: str | None) -> list[Path]:
    """Return the files of a split.

    Raises:
        InputError: where some of its files are missing.
    """
    names = _file_names(folder)
    found = {
        files: word for (word, _), files in _CIFAR_SPLITS.items() if names & set(files)
    }
    chosen = choose_split(folder.name, sorted(set(found.values()), reverse=True), split)
    files, *others = [files for files, word in found.items() if word == chosen]
    if others:
        raise _two_cifars(folder.name)
    missing = [name for name in files if name not in names]
    if missing:
        raise InputError(
            f"{folder.name}: {missing[0]} is missing",
            found=f"{len(files) - len(missing)} of {len(files)} files",
            fix="copy it there, or pass one of the files alone",
        )
    return [folder / name for name in files]


def _two_cifars(folder: str) -> InputError:
    return InputError(
        f"{folder}: holds CIFAR-10 and CIFAR-100",
        fix="move them into two folders, or pass one of the files",
    )


def _is_pickled_cifar(names: set[str]) -> bool:
    return any(one <= names for one in _PICKLED_CIFAR)
