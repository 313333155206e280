"""Is somebody else writing into this folder?

The lock is held by the operating system, which lets go of it when its holder dies, in
whatever way; the file beside it only says who that is. Where the file system cannot
lock, the file alone counts, and a person has to remove it after a crash.
"""

import contextlib
import datetime
import errno
import logging
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from repscope._checking import InputError, UsageError
from repscope.files.saving import resource_error
from repscope.records import from_json, to_json

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK_NAME = ".lock"

_CANNOT_LOCK = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}

_log = logging.getLogger("repscope")


@dataclass(frozen=True)
class Holder:
    """Who holds a lock.

    Args:
        pid: number of the process.
        host: name of its machine.
        started: when it took the lock, ISO 8601.
    """

    pid: int
    host: str
    started: str

    @classmethod
    def of_this_process(cls) -> "Holder":
        """Return the holder that this process is."""
        now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        return cls(os.getpid(), socket.gethostname(), now)

    def __str__(self) -> str:
        return f"pid {self.pid} on {self.host}, since {self.started}"


class FolderLock:
    """A folder's lock, held until `release`.

    Args:
        folder: exists.

    Raises:
        UsageError: where another process holds it, naming that.
        ResourceError: where the lock file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK_NAME
        try:
            self._descriptor = self._locked()
            self._sign()
        except OSError as error:
            raise resource_error(self._path, error) from error

    def release(self) -> None:
        """Let go of the folder; the lock file is removed."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
        os.close(self._descriptor)

    def _locked(self) -> int:
        """Return the descriptor of the lock file, locked for this process."""
        while True:
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
            descriptor = os.open(self._path, flags, 0o666)
            if not self._try(descriptor):
                holder = _holder(descriptor)
                os.close(descriptor)
                raise _in_use(self._path, holder)
            if self._is_current(descriptor):
                self._report(_holder(descriptor))
                return descriptor
            os.close(descriptor)  # its holder let go and removed it meanwhile

    def _try(self, descriptor: int) -> bool:
        """Return whether the lock is ours now."""
        unsigned = _holder(descriptor) is None
        if fcntl is None:
            return unsigned
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in _CANNOT_LOCK:
                return unsigned
            os.close(descriptor)
            raise
        return True

    def _report(self, left_behind: Holder | None) -> None:
        if left_behind is not None:
            folder = self._path.parent
            _log.warning("%s was held by %s, which is gone", folder, left_behind)

    def _is_current(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self._path.stat())
        except FileNotFoundError:
            return False

    def _sign(self) -> None:
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        os.write(self._descriptor, to_json(Holder.of_this_process()).encode())


def check_not_locked(folder: Path) -> None:
    """Raise UsageError where another process holds the lock of a folder.

    Nothing is written; the next moment it may be otherwise.

    Args:
        folder: need not exist.

    Raises:
        UsageError: naming the process.
    """
    path = folder / LOCK_NAME
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        return  # no lock, or none that this user could have a part in
    try:
        holder = _holder(descriptor)
        if not _is_free(descriptor, holder):
            raise _in_use(path, holder)
    finally:
        os.close(descriptor)


def _is_free(descriptor: int, holder: Holder | None) -> bool:
    if fcntl is None:
        return holder is None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return holder is None
    return True


def _holder(descriptor: int) -> Holder | None:
    """Return who signed the lock file; None where nobody has."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    try:
        return from_json(Holder, os.read(descriptor, 4096).decode("utf-8"))
    except (InputError, UnicodeDecodeError):
        return None


def _in_use(path: Path, holder: Holder | None) -> UsageError:
    return UsageError(
        f"{path.parent} is in use by {holder or 'another process'}",
        fix=f"wait for it, or choose another folder with -o; if that process is dead, "
        f"remove {path}",
    )
