"""How files reach the disk: whole, or not at all and with a clear word why.

Each file is written under a temporary name in its own folder, flushed to the device
and only then put in the place of the old one.
"""

import contextlib
import errno
import io
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from repscope._checking import ResourceError

Writer = Callable[[io.BufferedIOBase], None]

_CAUSES = {
    errno.ENOSPC: "no space left on the disk",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "it would be larger than the limit for file sizes (ulimit -f)",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "no permission",
    errno.EPERM: "no permission",
}
_FULL = (errno.ENOSPC, errno.EDQUOT)


def write_together(folder: Path, files: Mapping[str, Writer], need: int) -> None:
    """Write several files of one folder so that all are new, or all as they were.

    Args:
        folder: made where it does not exist.
        files: file name → a function that writes the file's content.
        need: bytes that the files take, about; only for the message.

    Raises:
        ResourceError: where the disk is full or read-only or permission is missing;
            what was there before is untouched.
    """
    temporary: dict[str, Path] = {}
    path = folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, write in files.items():
            path = folder / name
            temporary[name] = path.with_name(f".{name}.{secrets.token_hex(4)}.tmp")
            _write_through(temporary[name], write)
        for name, written in temporary.items():
            path = folder / name
            written.replace(path)
        _sync_folder(folder)
    except OSError as error:
        raise resource_error(path, error, need) from error
    finally:
        for written in temporary.values():
            with contextlib.suppress(OSError):
                written.unlink(missing_ok=True)


def resource_error(path: Path, error: OSError, need: int = 0) -> ResourceError:
    """Return the error that tells a user why a file could not be written.

    Args:
        path: the file.
        error: what the system said.
        need: bytes that were to be written; 0 when unknown.
    """
    cause = _CAUSES.get(error.errno or 0, error.strerror or str(error))
    found = expected = ""
    fix = "choose a folder that you may write to with -o"
    if error.errno in _FULL:
        found = f"{_megabytes(_free_bytes(path.parent))} free"
        expected = f"about {_megabytes(need)}" if need else "more"
        fix = "free some space, or choose a folder on another disk with -o"
    elif error.errno == errno.EFBIG:
        expected = f"room for about {_megabytes(need)}" if need else ""
        fix = "raise the limit (ulimit -f unlimited, in the shell before), or choose a "
        fix += "folder on a file system that holds larger files with -o"
    return ResourceError(
        f"cannot write {path}: {cause}", found=found, expected=expected, fix=fix
    )


def _write_through(path: Path, write: Writer) -> None:
    # O_EXCL: never through a link that somebody else has put there
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    with os.fdopen(descriptor, "wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make the new names durable, where the system can sync a folder."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _free_bytes(folder: Path) -> int:
    with contextlib.suppress(OSError):
        return shutil.disk_usage(folder).free
    return 0


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
