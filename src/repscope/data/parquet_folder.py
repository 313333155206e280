"""A folder of Parquet files, as Hugging Face keeps data sets: shards of splits."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from repscope._checking import InputError
from repscope.data.folder_layout import SPLIT_WORDS, choose_split
from repscope.data.imageset import ImageSet
from repscope.data.joined import joined
from repscope.data.parquet_images import open_parquet_images
from repscope.files.file_access import local_path, reading

# The folder of the shards inside that of a data set.
INNER = "data"


def parquet_files(folder: Path) -> list[Path]:
    """Return the Parquet files in a folder, or else in its folder "data"."""
    for place in (folder, folder / INNER):
        if place.is_dir():
            with reading(place):
                files = sorted(place.glob("*.parquet"))
            if files:
                return files
    return []


def open_parquet_folder(
    path: str | os.PathLike[str],
    *,
    split: str | None = None,
    labels: Sequence[str] | None = None,
) -> ImageSet:
    """Return the pictures of a folder's Parquet files, or of those of one split.

    A file's name tells its split: "train-00000-of-00002.parquet". Ids are "file/row".

    Args:
        path: the folder, or one with a folder "data" in it.
        split: train, val or test; needed where the names tell several.
        labels: the label columns, from fine to coarse; () for none.

    Raises:
        InputError: where there is no such file, one cannot be read, or their columns
            differ.
        UsageError: where the split is not named or not there.
        MissingExtraError: where pyarrow is not installed.
    """
    folder = local_path(path)
    files = parquet_files(folder)
    if not files:
        raise InputError(f"{folder.name}: holds no .parquet files")
    splits: dict[str, list[Path]] = {}
    for file in files:
        splits.setdefault(_split_of(file), []).append(file)
    if split is not None or len(splits) > 1:
        files = splits[choose_split(folder.name, [*splits], split)]
    sets = [open_parquet_images(file, labels=labels) for file in files]
    return sets[0] if len(sets) == 1 else joined(sets, folder.name)


def _split_of(file: Path) -> str:
    words = re.split(r"[^a-z]+", file.stem.lower())
    return next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), "all")
