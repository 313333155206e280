"""How a file is reached: only local ones, in bounded reads, unchanged while read.

Nothing is mapped into memory: a file that its writer truncates would end the process.
Every read is framed by a comparison of size, time and inode with those at opening.
"""

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BufferedIOBase, BufferedReader
from pathlib import Path

import numpy as np

from repscope._checking import (
    InputError,
    RepscopeError,
    ResourceError,
    UsageError,
    did_you_mean,
)

# Two letters at least, so that the drive letter of "C:/features.npy" is no scheme.
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
# Bytes per read: large enough for a disk, small enough to be no second block.
READ_BYTES = 8 * 2**20
# A list of options longer than this helps nobody.
LISTED = 8

_NOT_FOUND = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP}
_NO_PERMISSION = {errno.EACCES, errno.EPERM}


@dataclass(frozen=True)
class Stamp:
    """What tells one state of a file from another.

    Args:
        size: bytes.
        modified: time of the last change, in nanoseconds.
        inode: number of the file on its device; another file of that name has another.
    """

    size: int
    modified: int
    inode: int


def local_path(path: str | os.PathLike[str]) -> Path:
    """Return the path of a file or folder that exists on this machine.

    Args:
        path: what the user gave.

    Raises:
        UsageError: for an address such as ``https://...``; nothing is downloaded.
        InputError: where there is no such file, or it is a pipe or a device.
        ResourceError: where it may not be read.
    """
    text = os.fspath(path)
    if ADDRESS.match(text):
        raise UsageError(
            f"{text} is an address, not a file",
            expected="a file or folder on this machine; repscope uses no network",
            fix="download it first, then pass the file",
        )
    if not text or "\0" in text:
        raise InputError(f"{text!r} is no file name", fix="pass the path of a file")
    location = Path(text)
    if location.name in ("", ".."):
        location = location.resolve()  # "." has no name to put into messages
    with reading(location):
        mode = location.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise InputError(
            f"{location.name}: is a pipe or a device",
            expected="a regular file or a folder",
            fix="write the features to a file first",
        )
    return location


def stamp_of(path: Path) -> Stamp:
    """Return the present state of a file."""
    with reading(path):
        return _stamp(path.stat())


@contextlib.contextmanager
def open_unchanged(path: Path, stamp: Stamp) -> Iterator[BufferedReader]:
    """Open a file that must be, and stay, as its stamp says.

    Raises:
        InputError: where it has changed, before or while it was open.
    """
    with reading(path), path.open("rb") as file:
        _compare(path, _stamp(os.fstat(file.fileno())), stamp)
        yield file
        check_unchanged(path, stamp)


def check_unchanged(path: Path, stamp: Stamp) -> None:
    """Raise InputError where the file is no longer as its stamp says."""
    with reading(path):
        _compare(path, _stamp(path.stat()), stamp)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what the system says about a file into errors that name it.

    Raises:
        InputError: where there is no such file, or what is in it makes no sense.
        ResourceError: where it may not or cannot be read.
    """
    try:
        yield
    except RepscopeError:
        raise
    except OSError as error:
        raise _explained(path, error) from error


def fill(file: BufferedIOBase, array: np.ndarray, label: str) -> None:
    """Read an array's bytes from where the file stands.

    Args:
        file: opened for reading bytes.
        array: C-contiguous; its values are replaced.
        label: what to call the file in an error.

    Raises:
        InputError: where the file ends before the array is full.
    """
    if not array.size:
        return
    target = array.reshape(-1).view(np.uint8).data
    filled = 0
    while filled < len(target):
        # readinto of a zip member is a read and a copy: bounded pieces keep it small
        count = file.readinto(target[filled : filled + READ_BYTES])
        if not count:
            raise damaged(label, f"it ends {len(target) - filled:,} bytes too early")
        filled += count


def damaged(label: str, reason: str) -> InputError:
    """Return the error for a file that cannot be understood."""
    return InputError(
        f"{label}: damaged ({reason})", fix="copy, download or write it again"
    )


def closest(name: str, options: Iterable[str]) -> str:
    """Return a hint that names the closest option, or lists the first few."""
    choices = sorted(options)
    hint = did_you_mean(name, choices)
    if len(choices) > LISTED and not hint.startswith("did you mean"):
        rest = len(choices) - LISTED
        return f"choose from {', '.join(choices[:LISTED])} and {rest:,} more"
    return hint


def _stamp(status: os.stat_result) -> Stamp:
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ino)


def _compare(path: Path, found: Stamp, expected: Stamp) -> None:
    if found == expected:
        return
    sizes = found.size != expected.size
    raise InputError(
        f"{path.name}: changed while it was read",
        found=f"{found.size:,} bytes" if sizes else "a later version of the file",
        expected=f"{expected.size:,} bytes" if sizes else "the version first opened",
        fix="wait until it is written, then run again",
    )


def _explained(path: Path, error: OSError) -> RepscopeError:
    if error.errno in _NOT_FOUND:
        return _not_found(path)
    if error.errno is None or error.errno == errno.EINVAL:
        return damaged(path.name, str(error))
    if error.errno in _NO_PERMISSION:
        return ResourceError(
            f"{path.name}: permission denied",
            found=f"{path} is not readable for this user",
            fix=f"chmod u+r {path}, or run as its owner",
        )
    return ResourceError(f"{path.name}: cannot be read ({error.strerror})")


def _not_found(path: Path) -> InputError:
    try:
        siblings = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return InputError(f"{path}: no such file", fix=f"{path.parent} is no folder")
    visible = [name for name in siblings if not name.startswith(".")]
    fix = _similar(path, visible) if visible else "its folder is empty"
    return InputError(f"{path}: no such file", fix=fix)


def _similar(path: Path, names: Iterable[str]) -> str:
    """Return a hint of a file with nearly that name, or of those with its ending."""
    choices = sorted(names)
    hint = did_you_mean(path.name, choices)
    if hint.startswith("did you mean"):
        return hint
    ending = path.suffix.lower()
    alike = [one for one in choices if ending and one.lower().endswith(ending)]
    if not alike:
        return f"name a file or folder that is in {path.parent.resolve()}"
    rest = len(alike) - LISTED
    more = f" and {rest:,} more" if rest > 0 else ""
    return f"choose from {', '.join(alike[:LISTED])}{more}"
