"""One way in: a name, a path, an array or another library's data set to an image set.

A path is recognised by what it holds, not by its ending alone. Nothing is downloaded,
unpickled or extracted.
"""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from repscope._checking import InputError, UsageError, check_choice, did_you_mean
from repscope.data.array_files import open_cifar, open_idx, open_npz_images
from repscope.data.digits import digits16
from repscope.data.encoded_images import fix_of
from repscope.data.image_folder import open_folder, open_zip
from repscope.data.imageset import ImageSet
from repscope.data.parquet_folder import open_parquet_folder, parquet_files
from repscope.data.parquet_images import open_parquet_images
from repscope.data.shapes import shapes20
from repscope.files.file_access import local_path, reading
from repscope.files.sniffing import Kind, sniff

Split = Literal["train", "test"]

# The set "shapes20" of `open_images`: how many pictures train, and how many test.
SHAPES_TRAIN, SHAPES_TEST = 4000, 1000

_IDX = re.compile(r"idx\d-ubyte(\.gz)?$")
# The files of CIFAR's binary version, of the pickled one, and their usual folders.
_CIFAR = re.compile(r"(data_batch_\d|test_batch)(\.bin)?|(train|test)\.bin|cifar-.*")
_NO_IMAGES = "a folder or .zip of pictures, .parquet, .npz, IDX or CIFAR's .bin files"


def open_images(
    source: Any,
    *,
    split: str | None = None,
    labels: Sequence[str] | None = None,
    limit: int | None = None,
) -> ImageSet:
    """Return an image set from whatever holds images.

    Args:
        source: "digits" or "shapes20", which need no files; a path (a folder or .zip of
            pictures, .parquet or a folder of them, .npz, IDX, CIFAR's .bin files); an
            `ImageSet`; an array or tensor (n, h, w), (n, h, w, c) or (n, c, h, w); or a
            data set with a length and items, such as those of torchvision and Hugging
            Face. A file or folder that is called like a name is reached as "./digits".
        split: which part, where the source has parts: train, val or test.
        labels: names of the label levels to use, from fine to coarse; () for none; by
            default all that the source knows.
        limit: about how many pictures to keep, as many of each class.

    Raises:
        InputError: where there are no images, or not in a known form.
        UsageError: for an unknown name, split or level.
        MissingExtraError: where a file needs a package that is not installed.
    """
    if isinstance(source, str | os.PathLike):
        images = _opened(source, split, labels)
    elif split is not None:
        raise UsageError(
            f"split {split!r}: only names and paths have splits",
            fix="pass that part of the images alone",
        )
    else:
        images = source if isinstance(source, ImageSet) else ImageSet.of(source)
    if labels is not None:
        images = images.with_levels(labels)
    return images if limit is None else images.balanced(limit)


def _opened(
    source: str | os.PathLike[str], split: str | None, labels: Sequence[str] | None
) -> ImageSet:
    if isinstance(source, str) and source in BUILT_IN:
        if split is not None:
            check_choice("split", split, get_args(Split))
        return BUILT_IN[source](split)
    text = os.fspath(source)
    if (
        isinstance(source, str)
        and re.fullmatch(r"\w+", text)
        and not Path(text).exists()
    ):
        raise UsageError(
            f"{text!r} is no file, no folder and no known set of images",
            fix=did_you_mean(text, BUILT_IN),
        )
    path = local_path(source)
    if path.is_dir():
        return _opened_folder(path, split, labels)
    return _opened_file(path, split, labels)


def _opened_folder(
    folder: Path, split: str | None, labels: Sequence[str] | None
) -> ImageSet:
    with reading(folder):
        names = [entry.name for entry in folder.iterdir()]
    if any(_IDX.search(name) for name in names):
        return open_idx(folder, split=split)
    if any(_CIFAR.fullmatch(name) for name in names):
        return open_cifar(folder, split=split)
    if parquet_files(folder):
        return open_parquet_folder(folder, split=split, labels=labels)
    return open_folder(folder, split=split)


def _opened_file(
    file: Path, split: str | None, labels: Sequence[str] | None
) -> ImageSet:
    kind = sniff(file)
    if kind is Kind.IMAGE_ARCHIVE:
        return open_zip(file, split=split)
    if kind is Kind.NPZ:
        return open_npz_images(file, split=split, labels=labels)
    is_cifar = _CIFAR.fullmatch(file.name) is not None
    readers: list[tuple[bool, Callable[[], ImageSet]]] = [
        (kind is Kind.PARQUET, lambda: open_parquet_images(file, labels=labels)),
        (kind in (Kind.IDX, Kind.COMPRESSED), lambda: open_idx(file)),
        (kind is Kind.UNKNOWN or is_cifar, lambda: open_cifar(file)),
    ]
    for is_of_kind, read in readers:
        if is_of_kind and split is not None:
            raise UsageError(
                f"{file.name}: {kind.value} has no split {split!r}",
                fix="leave the split out, or pass the file of that split",
            )
        if is_of_kind:
            return read()
    raise InputError(
        f"{file.name}: is {kind.value}, not images",
        expected=_NO_IMAGES,
        fix=fix_of(kind, file.name),
    )


def _shapes(split: Split | None) -> ImageSet:
    rows = np.arange(SHAPES_TRAIN + SHAPES_TEST)
    images = shapes20(len(rows)).images
    if split is None:
        return images
    return images.subset(
        rows < SHAPES_TRAIN if split == "train" else rows >= SHAPES_TRAIN
    )


# Sets of images that need no files.
BUILT_IN: dict[str, Callable[[Any], ImageSet]] = {
    "digits": digits16,
    "shapes20": _shapes,
}
