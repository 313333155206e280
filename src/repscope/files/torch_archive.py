"""The one place that opens `.pt` files, which are pickles inside a zip archive.

They are read by the loader of torch that accepts nothing but tensors and plain values.
"""

import pickle
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from repscope._checking import InputError, MissingExtraError
from repscope.files.file_access import Stamp, damaged, open_unchanged
from repscope.files.zip_archive import checked_members, open_archive

# Older versions of torch run programs from files, weights_only or not (CVE-2025-32434,
# CVE-2026-24747).
TORCH_FLOOR = (2, 10)

# What torch raises for a file that it cannot or will not read.
_FAULTS = (
    pickle.PickleError,
    struct.error,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


def load_archive(
    path: Path, stamp: Stamp, refused: Callable[[str, int], InputError]
) -> Any:
    """Return what a `.pt` file holds: tensors and plain values, nothing else.

    This is the only place that calls `torch.load`: with `weights_only`, and only on zip
    archives of a believable size. What torch says about a file it refuses is not passed
    on, because it recommends to load without that protection.

    Args:
        path: the file.
        stamp: its state when it was first looked at.
        refused: given the file's name and how many tensors it holds, the error for a
            file with anything but tensors and plain values in it.

    Raises:
        InputError: where it changed, is damaged, or holds other objects.
        MissingExtraError: where torch is not installed or too old.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError(f"{path.name}: torch is needed", "train") from error
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < TORCH_FLOOR:
        raise MissingExtraError(
            f"{path.name}: torch {torch.__version__} cannot read it safely", "train"
        )
    with open_unchanged(path, stamp) as file:
        with open_archive(file, path.name) as archive:
            members = checked_members(archive, path.name, stamp.size)
        file.seek(0)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # they too recommend unsafe loading
                return torch.load(
                    file, map_location="cpu", weights_only=True, mmap=False
                )
        except _FAULTS:
            tensors = sum("/data/" in member.filename for member in members)
            raise refused(path.name, tensors) from None


def check_sums(path: Path, stamp: Stamp) -> None:
    """Raise InputError where a checksum is wrong; torch does not compare them."""
    with open_unchanged(path, stamp) as file, open_archive(file, path.name) as archive:
        broken = archive.testzip()
    if broken is not None:
        raise damaged(path.name, f"the checksum of {broken} is wrong")
