"""What weights does a file hold? Tensors by name, out of whatever nests them.

Training programs save weights beside optimisers, counters and teachers. Nothing but
tensors and plain values is ever loaded, so that a checkpoint cannot run a program.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from repscope._checking import InputError
from repscope.files.file_access import damaged, local_path, open_unchanged, stamp_of
from repscope.files.sniffing import FIXES, SAFETENSORS_HEADER_LIMIT, Kind, sniff
from repscope.files.torch_archive import check_sums, load_archive

# Entries that hold weights, the wanted ones first: of a teacher and its student, the
# teacher is what is published and evaluated.
WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "classy_state_dict",
    "base_model",
    "teacher",
    "target_encoder",
    "ema_state_dict",
    "model",
    "trunk",
    "student",
    "online_network_state_dict",
    "encoder",
    "backbone",
    "network",
    "net",
    "resnet",
    "module",
    "weights",
    "params",
)
# Dictionaries in dictionaries deeper than this are no checkpoint.
DEEPEST = 8
# Entries named in an error.
SHOWN_ENTRIES = 6

WEIGHTS_FIX = (
    "load it where you trust it and save its weights alone: safetensors.torch."
    'save_file(checkpoint["state_dict"], "weights.safetensors")'
)
LEGACY_FIX = (
    "write it anew: python -c \"import torch; torch.save(torch.load('{path}', "
    "map_location='cpu'), 'weights.pth')\""
)
_EXPECTED = "weights in a .safetensors, .pt, .pth or .ckpt file"


@dataclass(frozen=True)
class StateFile:
    """The weights of one file.

    Args:
        tensors: name -> tensor, on the CPU.
        entry: where in the file they were, such as "teacher"; "" at its top.
        metadata: the texts that a safetensors file carries.
    """

    tensors: dict[str, Tensor]
    entry: str
    metadata: dict[str, str]


def read_state(path: str | Path) -> dict[str, Tensor]:
    """Return the weights of a file by name, on the CPU.

    Args:
        path: a .pt, .pth, .ckpt or .pth.tar file of torch, or a .safetensors file.

    Raises:
        InputError: where it holds no weights, anything but tensors and plain values,
            or is no such file.
        MissingExtraError: where torch is too old to read it safely.
    """
    return read_state_file(path).tensors


def read_state_file(path: str | Path) -> StateFile:
    """Return the weights of a file with where in it they were.

    Raises:
        InputError: as `read_state`.
    """
    location = local_path(path)
    if location.is_dir():
        raise InputError(
            f"{location.name}: is a folder", expected=_EXPECTED, fix="pass the file"
        )
    kind = sniff(location)
    if kind is Kind.SAFETENSORS:
        return _read_safetensors(location)
    if kind is Kind.TORCH:
        return _read_torch(location)
    raise _no_weights_file(location, kind)


def metadata_of(path: Path) -> dict[str, str]:
    """Return the texts that a safetensors file carries; its tensors are not read.

    Raises:
        InputError: where the file is damaged.
    """
    stamp = stamp_of(path)
    with open_unchanged(path, stamp):
        try:
            with safetensors.safe_open(path, framework="pt") as opened:
                return dict(opened.metadata() or {})
        except (safetensors.SafetensorError, ValueError) as error:
            raise damaged(path.name, _reason(error)) from error


def unwrap(loaded: Mapping[Any, Any], name: str) -> tuple[str, dict[str, Tensor]]:
    """Return the weights in what a checkpoint holds, and where they were.

    Args:
        loaded: dictionaries in dictionaries.
        name: the file, for errors.

    Raises:
        InputError: where there are none.
    """
    path = _path_to_tensors(loaded, DEEPEST, set())
    if path is None:
        raise _no_weights(name, loaded)
    level = loaded
    for entry in path:
        level = level[entry]
    tensors = {
        key: value
        for key, value in level.items()
        if isinstance(key, str) and is_plain(value)
    }
    return ".".join(path), tensors


def is_plain(value: Any) -> bool:
    """Return whether a value is a dense tensor with its numbers in memory."""
    return (
        isinstance(value, Tensor)
        and not value.is_nested
        and not value.is_quantized
        and value.layout == torch.strided
        and value.device.type == "cpu"
    )


def _path_to_tensors(
    values: Mapping[Any, Any], depth: int, seen: set[int]
) -> list[str] | None:
    """Return the entries that lead to weights, the wanted ones first; None without.

    Each dictionary is looked at once: a small file can hold one many times.
    """
    if depth < 0 or id(values) in seen:
        return None
    seen.add(id(values))
    for wrapper in WRAPPERS:
        inner = values.get(wrapper)
        if isinstance(inner, Mapping):
            rest = _path_to_tensors(inner, depth - 1, seen)
            if rest is not None:
                return [wrapper, *rest]
    is_state = any(isinstance(k, str) and is_plain(v) for k, v in values.items())
    return [] if is_state else None


def _read_safetensors(path: Path) -> StateFile:
    """Return the tensors of a safetensors file.

    The library checks that header and tensors fill the file exactly. The bytes are read
    first: a mapped file that its writer truncates would end the process.
    """
    stamp = stamp_of(path)
    metadata = metadata_of(path)
    with open_unchanged(path, stamp) as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(SAFETENSORS_HEADER_LIMIT, stamp.size - 8):
            raise damaged(path.name, f"a header of {length:,} bytes")
        file.seek(0)
        content = file.read()
    try:
        tensors = safetensors.torch.load(content)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise damaged(path.name, _reason(error)) from error
    if not tensors:
        raise _no_weights(path.name, tensors)
    return StateFile(tensors, "", metadata)


def _read_torch(path: Path) -> StateFile:
    stamp = stamp_of(path)
    loaded = load_archive(path, stamp, _refused)
    check_sums(path, stamp)
    if not isinstance(loaded, Mapping):
        raise InputError(
            f"{path.name}: holds a {type(loaded).__name__}, no weights by name",
            expected=_EXPECTED,
            fix="save model.state_dict()",
        )
    entry, tensors = unwrap(loaded, path.name)
    return StateFile(tensors, entry, {})


def _refused(name: str, tensors: int) -> InputError:
    return InputError(
        f"{name}: is damaged, or holds Python objects besides its {tensors:,} tensors",
        expected="tensors and plain values; other objects can run any program and are "
        "never loaded",
        fix=WEIGHTS_FIX,
    )


def _no_weights(name: str, loaded: Mapping[Any, Any]) -> InputError:
    keys = [f"`{str(key)[:40]}`" for key in loaded]
    rest = len(keys) - SHOWN_ENTRIES
    found = ", ".join(keys[:SHOWN_ENTRIES]) + (f" and {rest:,} more" * (rest > 0))
    return InputError(
        f"{name}: no weights of an encoder in it",
        found=found or "nothing",
        expected="tensors by name, or an entry " + ", ".join(WRAPPERS[:3]) + ", ...",
        fix="pass a checkpoint with the model in it, or save model.state_dict()",
    )


def _no_weights_file(path: Path, kind: Kind) -> InputError:
    fixes = {
        Kind.LEGACY_TORCH: LEGACY_FIX.format(path=path),
        Kind.TAR: LEGACY_FIX.format(path=path),
        Kind.PICKLE: WEIGHTS_FIX,
        Kind.TORCHSCRIPT: "in Python, load it where you trust it and save "
        "model.state_dict()",
    }
    is_download = kind in (Kind.EMPTY, Kind.LFS_POINTER, Kind.ANNEX_POINTER, Kind.HTML)
    fix = FIXES[kind] if is_download else "pass the file with the encoder's weights"
    return InputError(
        f"{path.name}: is {kind.value}, no weights that can be read safely",
        expected=_EXPECTED,
        fix=fixes.get(kind, fix),
    )


def _reason(error: Exception) -> str:
    return str(error)[:120] or type(error).__name__
