"""Features in `.safetensors` files, their header checked against the file's size.

The tensors must follow each other and fill the file exactly, so that nothing hides in
it and nothing is missing. No library is needed to read them.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from repscope._checking import InputError
from repscope.files.file_access import damaged, open_unchanged, stamp_of
from repscope.files.sniffing import (
    SAFETENSORS_HEADER_LIMIT,
    refuse_weights,
)
from repscope.representations.arrays_on_disk import ArrayStore, choose_store
from repscope.representations.stored_array import Place, StoredArray

_TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "<i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "<u1", "BOOL": "|b1",
}  # fmt: skip
# A tensor's type, shape, first byte and end, counted from the end of the header.
_Entry = tuple[str, tuple[int, ...], int, int]


def open_safetensors(path: Path, column: str | None) -> ArrayStore:
    """Return the store of a `.safetensors` file: its (n, d) tensor, or that asked for.

    bfloat16 becomes float32.

    Raises:
        InputError: where the header does not fit the file, no tensor or several could
            be meant, or the file is a network's weights.
    """
    arrays = stored_safetensors(path)
    if column is None:
        refuse_weights(path.name, arrays)
    return choose_store(path, arrays, column)


def stored_safetensors(path: Path) -> dict[str, StoredArray]:
    """Return where the tensors of a `.safetensors` file lie, by name.

    Raises:
        InputError: where the header is no valid one, or the tensors do not fill the
            file exactly.
    """
    stamp = stamp_of(path)
    with open_unchanged(path, stamp) as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(SAFETENSORS_HEADER_LIMIT, stamp.size - 8):
            raise damaged(
                path.name, f"a header of {length:,} bytes, file has {stamp.size:,}"
            )
        entries = _parsed_header(file.read(length), path.name)
    _check_cover(path.name, entries, stamp.size - 8 - length)
    arrays = {}
    for name, (kind, shape, begin, end) in entries.items():
        place = Place(f"{path.name}: tensor `{name}`", path, stamp)
        arrays[name] = StoredArray(
            place,
            np.dtype(_TYPES[kind]),
            shape,
            8 + length + begin,
            bfloat16=kind == "BF16",
        )
        arrays[name].check_promise(end - begin)
    return arrays


def _parsed_header(text: bytes, name: str) -> dict[str, _Entry]:
    """Return the tensors in the order of the file."""
    try:
        header = json.loads(text, object_pairs_hook=_without_repeats)
        header.pop("__metadata__", None)
        entries = {key: _entry(value) for key, value in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise damaged(name, "no safetensors header") from error
    for key, (kind, *_) in entries.items():
        if kind not in _TYPES:
            raise InputError(
                f"{name}: tensor `{key}` is of type {kind}",
                expected=", ".join(_TYPES),
                fix="convert and save it again: tensor.float()",
            )
    return dict(sorted(entries.items(), key=lambda item: item[1][2:]))


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("a name twice")
    return dict(pairs)


def _entry(value: Any) -> _Entry:
    kind, shape, (begin, end) = value["dtype"], value["shape"], value["data_offsets"]
    sizes = [*shape, begin, end]
    if not all(type(size) is int and 0 <= size < 2**62 for size in sizes):
        raise ValueError("a size that is none")
    return str(kind), tuple(shape), begin, end


def _check_cover(name: str, entries: Mapping[str, _Entry], available: int) -> None:
    """Raise InputError unless the tensors follow each other from first to last byte."""
    position = 0
    for key, (_, _, begin, end) in entries.items():
        if begin != position or end < begin:
            raise damaged(name, f"`{key}` does not begin where the one before ends")
        position = end
    if position != available:
        state = "truncated" if position > available else "too long"
        raise InputError(
            f"{name}: {state}: header promises {position:,} bytes, "
            f"file has {available:,}",
            fix="copy, download or write it again",
        )
