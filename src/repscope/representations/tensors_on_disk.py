"""Features that torch users save: `.safetensors`, and tensors in `.pt` and `.pth`.

A safetensors header is checked against the file's size here, byte for byte. A `.pt`
file holds a pickle: it is read in one place only, by the loader of torch that accepts
nothing but tensors and plain values.
"""

import json
import pickle
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from repscope._arrays import Array, host
from repscope._checking import (
    InputError,
    MissingExtraError,
    RepscopeError,
    check_length,
)
from repscope.representations.abstract_store import (
    Store,
    check_matrix,
    check_rows,
    no_column,
    no_images,
)
from repscope.representations.arrays_on_disk import (
    ArrayStore,
    choose_name,
    choose_store,
    listing,
    no_array,
)
from repscope.representations.file_access import (
    Stamp,
    check_unchanged,
    damaged,
    open_unchanged,
    stamp_of,
)
from repscope.representations.sniffing import (
    ENCODER_FIX,
    SAFETENSORS_HEADER_LIMIT,
    SAVE_FIX,
)
from repscope.representations.stored_array import Place, StoredArray
from repscope.representations.zip_archive import checked_members, open_archive

# Older versions of torch run programs from files, weights_only or not (CVE-2025-32434,
# CVE-2026-24747).
TORCH_FLOOR = (2, 10)
# A tensor may be larger than its file by this factor: a repeated row is stored once.
EXPANSION = 20
EXPANSION_BYTES = 64 * 2**20

_SAFETENSORS_TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "<i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "<u1", "BOOL": "|b1",
}  # fmt: skip
# Names that occur in the state of a network and of its training, not among features.
_WEIGHT_ENDINGS = (".weight", ".bias", ".running_mean", ".num_batches_tracked")
_CHECKPOINT_KEYS = frozenset(
    [
        "state_dict",
        "model_state_dict",
        "optimizer_state_dict",
        "optimizer",
        "optimizer_states",
        "pytorch-lightning_version",
        "model",
        "teacher",
        "student",
    ]
)
# What torch raises for a file it cannot or will not read.
_TORCH_FAULTS = (
    pickle.PickleError,
    struct.error,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class TorchStore(Store):
    """Features in a tensor of a `.pt` file.

    torch reads a file whole, so it is in memory while blocks are taken, and read again
    for each pass.
    """

    path: Path
    n: int
    d: int
    dtype: str
    column_names: tuple[str, ...]
    stamp: Stamp
    key: str

    def blocks(self, rows: int) -> Iterator[np.ndarray]:
        """Yield consecutive blocks of rows."""
        check_rows(rows)
        return self._blocks(rows)

    def column(self, name: str) -> Shaped[np.ndarray, " n"]:
        """Return a one-dimensional tensor or list of the file."""
        columns = _columns_of(_load_named(self.path, self.stamp))
        if name not in columns:
            raise no_column(self.name, name, self.column_names)
        check_length(f"{self.name}: `{name}`", len(columns[name]), self.n)
        return columns[name]

    def images(self, name: str, rows: Sequence[int]) -> list[bytes]:
        """Raise InputError: tensors hold no encoded images."""
        raise no_images(self.name, name)

    def _blocks(self, rows: int) -> Iterator[np.ndarray]:
        tensor = _load_named(self.path, self.stamp)[self.key]
        for start in range(0, self.n, rows):
            yield _as_numbers(tensor[start : start + rows])
        check_unchanged(self.path, self.stamp)


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


def open_torch(path: Path, column: str | None) -> TorchStore:
    """Return the store of a `.pt` file: a tensor, or the one asked for of a dictionary.

    Raises:
        InputError: where it is a checkpoint, holds no (n, d) tensor or several, or
            anything but tensors and plain values.
        MissingExtraError: where torch is not installed or too old.
    """
    stamp = stamp_of(path)
    values = _load_named(path, stamp)
    tensors = {name: value for name, value in values.items() if _is_tensor(value)}
    found = listing({name: _described(tensor) for name, tensor in tensors.items()})
    matrices = [name for name, tensor in tensors.items() if tensor.ndim == 2]
    if column is None:
        refuse_weights(path.name, values)
        whole = "" in tensors  # the file is one tensor
        column = "" if whole else choose_name(path.name, matrices, found)
    elif column not in tensors:
        raise no_array(path.name, column, matrices, found)
    label = f"{path.name}: tensor `{column}`" if column else path.name
    return _torch_store(path, stamp, column, label, values)


def stored_safetensors(path: Path) -> dict[str, StoredArray]:
    """Return where the tensors of a `.safetensors` file lie, by name.

    Raises:
        InputError: where the header is no valid one or the tensors do not fill the file
            exactly.
    """
    stamp = stamp_of(path)
    with open_unchanged(path, stamp) as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(SAFETENSORS_HEADER_LIMIT, stamp.size - 8):
            raise damaged(
                path.name,
                f"truncated: a header of {length:,} bytes, file has {stamp.size:,}",
            )
        header = _parsed_header(file.read(length), path.name)
    arrays, end = {}, 0
    for name, (kind, shape, begin, finish) in header.items():
        if begin != end or finish < begin:
            raise damaged(path.name, f"`{name}` does not begin where the last one ends")
        end = finish
        place = Place(f"{path.name}: tensor `{name}`", path, stamp)
        arrays[name] = StoredArray(
            place,
            np.dtype(_SAFETENSORS_TYPES[kind]),
            shape,
            8 + length + begin,
            bfloat16=kind == "BF16",
        )
        arrays[name].check_promise(finish - begin)
    _check_end(path.name, end, stamp.size - 8 - length)
    return arrays


def refuse_weights(name: str, values: Mapping[str, Any]) -> None:
    """Raise InputError where names are those of a network's weights.

    Args:
        name: the file.
        values: what it holds, by name.
    """
    weights = [key for key in values if key.endswith(_WEIGHT_ENDINGS)]
    training = [
        key
        for key, value in values.items()
        if key in _CHECKPOINT_KEYS and isinstance(value, Mapping | list)
    ]
    signs = weights + training
    if {"weight", "bias"} <= set(values):
        signs.append("weight")
    if signs:
        raise InputError(
            f"{name}: is a checkpoint, not features",
            found=f"`{signs[0]}` among {len(values):,} entries",
            expected="features, an (n, d) array",
            fix=ENCODER_FIX,
        )


def _parsed_header(
    text: bytes, name: str
) -> dict[str, tuple[str, tuple[int, ...], int, int]]:
    """Return (type, shape, begin, end) of each tensor, in the order of the file."""
    try:
        header = json.loads(text, object_pairs_hook=_without_repeats)
        header.pop("__metadata__", None)
        entries = {
            key: (
                entry["dtype"],
                tuple(entry["shape"]),
                *entry["data_offsets"],
            )
            for key, entry in header.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise damaged(name, "no safetensors header") from error
    for key, (kind, shape, *offsets) in entries.items():
        sizes = [*shape, *offsets]
        whole = all(type(size) is int and 0 <= size < 2**62 for size in sizes)
        if not whole or len(offsets) != 2 or not isinstance(kind, str):
            raise damaged(name, f"no safetensors header for `{key}`")
        if kind not in _SAFETENSORS_TYPES:
            raise InputError(
                f"{name}: tensor `{key}` is of type {kind}",
                expected=", ".join(_SAFETENSORS_TYPES),
                fix="convert and save it again: tensor.float()",
            )
    return dict(sorted(entries.items(), key=lambda item: item[1][2:]))


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("a name twice")
    return dict(pairs)


def _check_end(name: str, promised: int, available: int) -> None:
    if promised == available:
        return
    state = "truncated" if promised > available else "too long"
    raise InputError(
        f"{name}: {state}: header promises {promised:,} bytes, file has {available:,}",
        fix="copy, download or write it again",
    )


def _torch_store(
    path: Path, stamp: Stamp, key: str, label: str, values: Mapping[str, Any]
) -> TorchStore:
    tensor = values[key]
    check_matrix(label, tuple(tensor.shape))
    n, d = tensor.shape
    held = tensor.numel() * tensor.element_size()
    limit = max(EXPANSION_BYTES, EXPANSION * stamp.size)
    if held > limit:
        raise InputError(
            f"{label}: {held:,} bytes of values in a file of {stamp.size:,}",
            expected=f"at most {limit:,} bytes",
            fix="if you trust it, save it in full: tensor.contiguous()",
        )
    dtype = str(_as_numbers(tensor[:1], label).dtype)
    columns = [name for name, value in _columns_of(values).items() if len(value) == n]
    return TorchStore(path, n, d, dtype, tuple(columns), stamp, key)


def _load_named(path: Path, stamp: Stamp) -> dict[str, Any]:
    """Return what a `.pt` file holds by name; "" is the name of a lone tensor."""
    loaded = _load_torch(path, stamp)
    if isinstance(loaded, Mapping):
        return {str(key): value for key, value in loaded.items()}
    if isinstance(loaded, list | tuple):
        return {str(index): value for index, value in enumerate(loaded)}
    if _is_tensor(loaded):
        return {"": loaded}
    raise InputError(
        f"{path.name}: holds a {type(loaded).__name__}, not features",
        expected="an (n, d) tensor or a dictionary with one",
        fix=SAVE_FIX,
    )


def _load_torch(path: Path, stamp: Stamp) -> Any:
    """Return what a `.pt` file holds: tensors and plain values, nothing else.

    This is the only place that calls `torch.load`, with `weights_only` and only for zip
    archives of a believable size. What torch says about a file it refuses is not passed
    on: it recommends to load without that protection.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError(
            f"{path.name}: reading it needs torch", "train"
        ) from error
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < TORCH_FLOOR:
        raise MissingExtraError(
            f"{path.name}: torch {torch.__version__} is not safe to read it with",
            "train",
        )
    with open_unchanged(path, stamp) as file:
        with open_archive(file, path.name) as archive:
            checked_members(archive, path.name, stamp.size)
        file.seek(0)
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except RepscopeError:
            raise
        except _TORCH_FAULTS:
            raise InputError(
                f"{path.name}: is damaged, or holds Python objects besides tensors",
                expected="tensors, or dictionaries and lists of them; other objects "
                "can run any program and are never loaded",
                fix="where you trust it, load it, keep the features, and "
                'np.save("features.npy", features.numpy())',
            ) from None


def _is_tensor(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "torch" and hasattr(
        value, "numel"
    )


def _described(tensor: Array) -> str:
    sizes = " x ".join(f"{size:,}" for size in tensor.shape) or "one value,"
    return f"{sizes} {str(tensor.dtype).removeprefix('torch.')}"


def _as_numbers(tensor: Array, label: str = "") -> np.ndarray:
    """Return a piece of a tensor as a new, C-contiguous NumPy array of real numbers."""
    try:
        values = np.array(host(tensor), order="C")
    except (TypeError, RuntimeError, ValueError, NotImplementedError):
        values = np.empty(0, dtype=object)
    if values.dtype.kind not in "biuf":
        raise InputError(
            f"{label}: holds {_described(tensor)}, not real numbers",
            expected="a plain tensor of floats or integers",
            fix="convert and save it again: tensor.to_dense().float()",
        )
    return values.view(np.uint8) if values.dtype.kind == "b" else values


def _columns_of(values: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the one-dimensional tensors and plain lists, by name."""
    columns = {}
    for name, value in values.items():
        if _is_tensor(value) and value.ndim == 1:
            columns[name] = _as_numbers(value, name)
        elif isinstance(value, list) and value and type(value[0]) in (int, str):
            if all(type(item) is type(value[0]) for item in value):
                columns[name] = np.array(value)
    return columns
