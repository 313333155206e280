"""Features in `.pt` and `.pth` files: tensors and plain values, nothing else.

A network's weights are recognised and refused: they are no features.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import array_api_compat
import numpy as np
from jaxtyping import Shaped

from repscope._arrays import Array, host
from repscope._checking import InputError
from repscope.files.file_access import Stamp, check_unchanged, stamp_of
from repscope.files.sniffing import ENCODER_FIX, SAVE_FIX, refuse_weights
from repscope.files.torch_archive import check_sums, load_archive
from repscope.representations.abstract_store import (
    Store,
    check_column_length,
    check_matrix,
    check_rows,
    no_column,
    no_images,
)
from repscope.representations.arrays_on_disk import choose_name, listing, no_array

# A tensor may be this much larger than its file: a repeated row is stored once.
EXPANSION_RATIO = 20
EXPANSION_BYTES = 64 * 2**20
# An archive of more tensors than this is a network, not features with their labels.
FEATURE_TENSORS = 16


@dataclass(frozen=True)
class TorchStore(Store):
    """Features in a tensor of a `.pt` file.

    torch reads a file whole: it is in memory while blocks are taken, and read again for
    each pass.
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
        """Return a one-dimensional tensor or a list of the file."""
        columns = _columns_of(_load_named(self.path, self.stamp))
        if name not in columns:
            raise no_column(self.name, name, self.column_names)
        check_column_length(f"{self.name}: `{name}`", len(columns[name]), self.n)
        return columns[name]

    def images(self, name: str, rows: Sequence[int]) -> list[bytes]:
        """Raise InputError: tensors hold no encoded images."""
        raise no_images(self.name, name)

    def _blocks(self, rows: int) -> Iterator[np.ndarray]:
        tensor = _load_named(self.path, self.stamp)[self.key]
        for start in range(0, self.n, rows):
            check_unchanged(self.path, self.stamp)
            yield _as_numbers(tensor[start : start + rows], self.name)


def open_torch(path: Path, column: str | None) -> TorchStore:
    """Return the store of a `.pt` file: a tensor, or the one asked for of a dictionary.

    Raises:
        InputError: where it is a checkpoint, holds no (n, d) tensor or several, or
            anything but tensors and plain values.
        MissingExtraError: where torch is not installed or too old.
    """
    stamp = stamp_of(path)
    values = _load_named(path, stamp)
    check_sums(path, stamp)
    tensors = {name: value for name, value in values.items() if _is_plain(value)}
    found = listing({name: _described(tensor) for name, tensor in tensors.items()})
    matrices = [name for name, tensor in tensors.items() if tensor.ndim == 2]
    if column is None:
        refuse_weights(path.name, values)
        lone = "" in tensors
        column = "" if lone else choose_name(path.name, matrices, found)
    elif column not in tensors:
        raise no_array(path.name, column, matrices, found)
    label = f"{path.name}: tensor `{column}`" if column else path.name
    tensor = tensors[column]
    check_matrix(label, tuple(tensor.shape))
    n, d = tensor.shape
    dtype = str(_as_numbers(tensor[:1], label).dtype)
    columns = [name for name, value in _columns_of(values).items() if len(value) == n]
    return TorchStore(path, n, d, dtype, tuple(columns), stamp, column)


def _load_named(path: Path, stamp: Stamp) -> dict[str, Any]:
    """Return what a `.pt` file holds, by name; "" is the name of a lone tensor."""
    loaded = load_archive(path, stamp, _not_plain)
    if isinstance(loaded, Mapping):
        named = {str(key): value for key, value in loaded.items()}
    elif isinstance(loaded, list | tuple):
        named = {str(index): value for index, value in enumerate(loaded)}
    elif _is_plain(loaded):
        named = {"": loaded}
    else:
        raise InputError(
            f"{path.name}: holds a {type(loaded).__name__}, not features",
            expected="a dense (n, d) tensor or a dictionary with one",
            fix=SAVE_FIX,
        )
    limit = max(EXPANSION_BYTES, EXPANSION_RATIO * stamp.size)
    for name, value in named.items():
        if _is_plain(value) and value.numel() * value.element_size() > limit:
            raise InputError(
                f"{path.name}: tensor `{name}` of {_described(value)} in a file of "
                f"{stamp.size:,} bytes",
                expected=f"at most {limit:,} bytes of values",
                fix="if you trust it, save it in full: tensor.contiguous()",
            )
    return named


def _not_plain(name: str, tensors: int) -> InputError:
    if tensors > FEATURE_TENSORS:
        return InputError(
            f"{name}: is a checkpoint, not features",
            found=f"{tensors:,} tensors, and Python objects that are never loaded",
            expected="features, an (n, d) array",
            fix=ENCODER_FIX,
        )
    return InputError(
        f"{name}: is damaged, or holds Python objects besides tensors",
        expected="tensors, or a dictionary or list of them; other objects can run any "
        "program and are never loaded",
        fix="load it where you trust it and save the features alone: "
        'np.save("features.npy", features.numpy())',
    )


def _is_plain(value: Any) -> bool:
    """Return whether a value is a dense tensor with its numbers in memory."""
    return (
        array_api_compat.is_torch_array(value)
        and not value.is_nested
        and not value.is_quantized
        and str(value.layout) == "torch.strided"
        and value.device.type == "cpu"
    )


def _described(tensor: Array) -> str:
    sizes = " x ".join(f"{size:,}" for size in tensor.shape) or "one value,"
    return f"{sizes} {str(tensor.dtype).removeprefix('torch.')}"


def _as_numbers(tensor: Array, label: str) -> np.ndarray:
    """Return a piece of a tensor as a new, C-contiguous array of real numbers."""
    try:
        values = np.array(host(tensor), order="C")
    except (TypeError, RuntimeError):  # types that NumPy lacks
        values = np.empty(0, dtype=object)
    if values.dtype.kind not in "biuf":
        raise InputError(
            f"{label}: holds values of {tensor.dtype}, not real numbers",
            expected="floats or integers",
            fix="convert and save it again: tensor.float()",
        )
    return values.view(np.uint8) if values.dtype.kind == "b" else values


def _columns_of(values: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the one-dimensional tensors and the lists of one plain type, by name."""
    columns = {}
    for name, value in values.items():
        if _is_plain(value) and value.ndim == 1 and not value.is_complex():
            columns[name] = _as_numbers(value, f"`{name}`")
        elif isinstance(value, list) and {type(item) for item in value} in (
            {int},
            {str},
        ):
            array = np.array(value)
            if array.dtype.kind != "O":  # integers beyond 64 bits
                columns[name] = array
    return columns
