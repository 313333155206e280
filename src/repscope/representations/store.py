"""From a path to features: one function for every format, one for labels.

A file is recognised by its content first; what cannot be features is named and refused
with the way from there to features.
"""

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from repscope._checking import InputError
from repscope.files.file_access import local_path, open_unchanged, stamp_of
from repscope.files.sniffing import Kind, check_readable, sniff
from repscope.representations.abstract_store import Store
from repscope.representations.arrays_on_disk import (
    open_npy,
    open_npz,
    stored_npy,
    stored_npz,
)
from repscope.representations.csv_table import csv_columns, open_csv, typed
from repscope.representations.features_manifest import is_features_folder
from repscope.representations.parquet_table import open_parquet, parquet_columns
from repscope.representations.safetensors_file import open_safetensors
from repscope.representations.shards import open_shards
from repscope.representations.stored_features import open_folder
from repscope.representations.torch_file import open_torch

__all__ = ["Store", "open_store", "read_columns"]

Columns = dict[str, Shaped[np.ndarray, " n"]]


def open_store(
    path: str | os.PathLike[str],
    *,
    column: str | None = None,
    metadata: Collection[str] = (),
) -> Store:
    """Return the features in a file or a folder of shards; only headers are read.

    Args:
        path: .npy, .npz, .parquet, .csv, .safetensors, .pt, a folder of one of them, or
            a folder that `embed` wrote.
        column: the array, tensor or vector column that holds the features, or the
            prefix of a series of columns; needed where several could be meant. Of a
            folder that `embed` wrote the layer, by default the deepest.
        metadata: columns of a table that will be asked for as labels, ids, splits or
            attributes, so that they are not taken for features.

    Raises:
        InputError: where it holds no features, is damaged, or is something else.
        UsageError: for an address, or a column where there are none.
        MissingExtraError: where pyarrow or torch is needed and missing.
        ResourceError: where it may not or cannot be read.
    """
    location = local_path(path)
    if is_features_folder(location):
        return open_folder(location).layer(column)
    if location.is_dir():
        return open_shards(location, lambda one: _open_file(one, column, metadata))
    return _open_file(location, column, metadata)


def read_columns(path: str | os.PathLike[str]) -> Columns:
    """Return the columns of a file of labels, attributes or ids, by name.

    A missing number is NaN, a missing text None.

    Args:
        path: .npy (one column, named by the file), .npz (every one-dimensional array),
            .csv, .parquet (every column of numbers or text), .json ({name: list}), or
            .txt (one value per line, named by the file).

    Raises:
        InputError: where it holds no columns, is damaged, or is something else.
        UsageError: for an address.
        ResourceError: where it may not or cannot be read.
    """
    location = local_path(path)
    if location.is_dir():
        raise InputError(f"{location.name}: is a folder", expected="a file of labels")
    kind = sniff(location)
    check_readable(location, kind, "labels")
    if kind is Kind.NPY:
        return {location.stem: stored_npy(location).vector()}
    if kind is Kind.NPZ:
        return _npz_columns(location)
    if kind is Kind.PARQUET:
        return _some(location, parquet_columns(location))
    if kind is Kind.JSON:
        return _some(location, _json_columns(location))
    if location.suffix.lower() == ".txt":
        return {location.stem: typed(_text(location).splitlines())}
    return csv_columns(location)


def _open_file(path: Path, column: str | None, metadata: Collection[str]) -> Store:
    kind = sniff(path)
    check_readable(path, kind, "features")
    if kind is Kind.PARQUET:
        return open_parquet(path, column, metadata)
    if kind is Kind.TEXT:
        return open_csv(path, column, metadata)
    readers = {
        Kind.NPY: open_npy,
        Kind.NPZ: open_npz,
        Kind.SAFETENSORS: open_safetensors,
        Kind.TORCH: open_torch,
    }
    return readers[kind](path, column)


def _npz_columns(path: Path) -> Columns:
    arrays = stored_npz(path)
    vectors = {name: array for name, array in arrays.items() if len(array.shape) == 1}
    return _some(path, {name: array.vector() for name, array in vectors.items()})


def _json_columns(path: Path) -> Columns:
    try:
        loaded = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path.name}: is no valid JSON ({str(error)[:80]})", fix="write it again"
        ) from error
    if isinstance(loaded, list):
        loaded = {path.stem: loaded}
    if not isinstance(loaded, dict):
        loaded = {}
    return {name: _json_column(path, name, value) for name, value in loaded.items()}


def _json_column(path: Path, name: str, values: Any) -> Shaped[np.ndarray, " n"]:
    plain = isinstance(values, list) and bool(values)
    present = [value for value in values if value is not None] if plain else []
    is_text = bool(present) and all(isinstance(value, str) for value in present)
    is_number = bool(present) and all(
        isinstance(value, int | float) and abs(value) < 2**63 for value in present
    )
    if not is_text and not is_number:
        raise InputError(
            f"{path.name}: `{name}` is no list of numbers or of texts",
            expected='{"label": [0, 1, ...]}, one value per row',
            fix="write each column as a list of values of one type",
        )
    if is_text:
        return np.array(values, dtype=object if len(present) < len(values) else str)
    numbers = np.array([float("nan") if one is None else one for one in values])
    return numbers.astype(np.int64) if numbers.dtype.kind == "b" else numbers


def _text(path: Path) -> str:
    stamp = stamp_of(path)
    with open_unchanged(path, stamp) as file:
        content = file.read()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path.name}: is not UTF-8 text", fix="save it as UTF-8"
        ) from error


def _some(path: Path, columns: Columns) -> Columns:
    if columns:
        return columns
    raise InputError(
        f"{path.name}: holds no columns",
        expected="at least one column with one value per row",
        fix="save the labels as CSV or with np.save",
    )
