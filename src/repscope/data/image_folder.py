"""Folders of pictures, on disk or inside a zip archive, as a set of images.

Sub-folders are classes. Nothing is extracted, no link is followed out of the folder,
and what is left out is counted.
"""

import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from repscope._checking import InputError
from repscope.data.archived_pictures import archived_pictures
from repscope.data.encoded_images import AbstractEncoded, EncodedImages, PictureFiles
from repscope.data.folder_layout import Layout, arrange, reason_against
from repscope.data.imageset import ImageSet
from repscope.files.file_access import local_path, reading

# Endings that an error lists; others are read too.
NAMED_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif")

# More reasons than this are not listed.
LISTED = 6

_log = logging.getLogger("repscope")

# What to do where a folder holds other things than pictures, by their ending.
_INSTEAD = (
    (".parquet", "pass one of its .parquet files"),
    (".npz", "pass one of its .npz files; if these are features: {features}"),
    (".npy", "if these are features: {features}"),
    (".zip", "pass one of its .zip files"),
    (".tar", "unpack the .tar files (WebDataset) into folders of classes"),
    (".heic", "convert the .heic files to .png or .jpg"),
    (".gz", "unpack the .gz files, or pass one that is IDX"),
)


def open_folder(path: str | os.PathLike[str], *, split: str | None = None) -> ImageSet:
    """Return the pictures below a folder; its sub-folders are classes.

    Levels are "class" and, where folders of classes lie in folders of superclasses,
    "superclass"; pictures without sub-folders have no labels. Ids are the paths
    relative to the folder, in natural order (2 before 10).

    Args:
        path: the folder.
        split: which of its folders train, val and test; needed where there are several.

    Raises:
        InputError: where there are no pictures, some lie beside the class folders, or a
            link leads out of the folder.
        UsageError: where the split is not named or not there.
        ResourceError: where a sub-folder may not be read.

    Differs from torchvision's ImageFolder in that links are not followed out of the
    folder, splits are never mixed, and two levels of folders are two label levels.
    """
    folder = local_path(path)
    if not folder.is_dir():
        raise InputError(
            f"{folder.name}: is a file, not a folder of pictures",
            fix="pass the folder that it lies in",
        )
    names, ignored = _pictures_below(folder)
    if not names:
        raise _no_images(folder, ignored)
    layout = arrange(folder.name, names, split)
    return _image_set(folder.name, layout, PictureFiles(folder, layout.names), ignored)


def open_zip(path: str | os.PathLike[str], *, split: str | None = None) -> ImageSet:
    """Return the pictures inside a zip archive of folders; nothing is extracted.

    Args:
        path: the archive.
        split: as of `open_folder`, whose levels, ids and order these are too.

    Raises:
        InputError: where it is no archive of pictures, damaged, encrypted, or unpacks
            to more than an archive of pictures can.
        UsageError: where the split is not named or not there.
    """
    archive = local_path(path)
    pictures, ignored = archived_pictures(archive)
    if not pictures.names:
        raise _no_images(archive, ignored)
    layout = arrange(archive.name, pictures.names, split)
    return _image_set(archive.name, layout, pictures.in_order(layout.names), ignored)


def _image_set(
    name: str,
    layout: Layout,
    encoded: AbstractEncoded,
    ignored: Mapping[str, int],
) -> ImageSet:
    if ignored:
        _log.info("%s: left out %s", name, _counted(ignored))
    images = EncodedImages(name, layout.names, encoded, dict(ignored))
    labels = {level: np.array(values) for level, values in layout.labels.items()}
    return ImageSet.of(images, labels=labels, ids=np.array(layout.names), name=name)


def _pictures_below(folder: Path) -> tuple[list[str], Counter[str]]:
    """Return the names of the pictures below a folder, and what else is there.

    Raises:
        InputError: where a link leads out of the folder.
        ResourceError: naming the sub-folder that may not be read.
    """
    names: list[str] = []
    outside: list[str] = []
    ignored: Counter[str] = Counter()
    root = os.path.realpath(folder)
    for entry, name in _entries(folder, ignored):
        link = Path(entry.path) if entry.is_symlink() else None
        is_folder = link is not None and link.is_dir()
        if not is_folder and (reason := reason_against(name)):
            ignored[reason] += 1
        elif link is not None and not _is_within(link, root):
            outside.append(name)
        elif is_folder:
            ignored["links to folders"] += 1  # what it leads to is found without it
        elif entry.is_file() if link is None else link.is_file() or not link.exists():
            names.append(name)  # a link to nothing too: a picture that cannot be read
        else:
            ignored["pipes and devices"] += 1
    if outside:
        raise InputError(
            f"{folder.name}: links lead out of the folder",
            found=f"{len(outside):,}, the first is {min(outside)}",
            expected="pictures inside it",
            fix=f"copy what they lead to: cp -rL {folder.name} COPY, and pass COPY",
        )
    return names, ignored


def _entries(
    folder: Path, ignored: Counter[str]
) -> Iterator[tuple[os.DirEntry[str], str]]:
    """Yield what lies below a folder, with its relative name; real folders excepted."""
    waiting = [""]
    while waiting:
        place = waiting.pop()
        with reading(folder / place), os.scandir(folder / place) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    ignored["hidden"] += 1
                elif entry.is_dir(follow_symlinks=False):
                    waiting.append(f"{place}{entry.name}/")
                else:
                    yield entry, place + entry.name


def _is_within(link: Path, root: str) -> bool:
    # resolve() of a link to itself raises
    return Path(os.path.realpath(link)).is_relative_to(root)


def _no_images(source: Path, ignored: Mapping[str, int]) -> InputError:
    fixes = [fix for suffix, fix in _INSTEAD if suffix in ignored]
    fix = fixes[0] if fixes else "pass the folder or archive that holds the pictures"
    return InputError(
        f"no images under {source.name}{'/' * source.is_dir()}",
        found=_counted(ignored) or "nothing at all",
        expected=", ".join(NAMED_SUFFIXES) + " files",
        fix=fix.format(features=f"repscope diagnose {source.name}"),
    )


def _counted(ignored: Mapping[str, int]) -> str:
    """Return counts such as "12 .heic, 1 hidden", the largest first."""
    most = sorted(ignored.items(), key=lambda item: (-item[1], item[0]))
    parts = [f"{count:,} {reason}" for reason, count in most[:LISTED]]
    return ", ".join(parts) + (", ..." if len(most) > LISTED else "")
