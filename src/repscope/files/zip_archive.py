"""Zip archives that others wrote: what may be read of one, and how faults are told.

An archive's directory is a claim. Sizes are compared with the file on disk before a
member is opened, and members are streamed, never extracted.
"""

import contextlib
import struct
import zipfile
import zlib
from collections.abc import Iterator
from io import BufferedIOBase, BufferedReader
from typing import cast

from repscope._checking import InputError, RepscopeError
from repscope.files.file_access import damaged

# An archive may unpack to this much, or to this many times its size.
ARCHIVE_BYTES = 64 * 2**20
ARCHIVE_RATIO = 20
ARCHIVE_MEMBERS = 10_000

# What reading a damaged zip archive can raise, apart from errors of the system.
_FAULTS = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    ValueError,
)
_PLAIN = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@contextlib.contextmanager
def open_archive(file: BufferedReader, label: str) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive; whatever is broken in it becomes an InputError.

    Args:
        file: the open file.
        label: what to call it in an error.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            yield archive
    except RepscopeError:
        raise
    except _FAULTS as error:
        raise damaged(label, f"a broken zip archive: {error}") from error


@contextlib.contextmanager
def open_member(
    file: BufferedReader, member: str, label: str
) -> Iterator[BufferedIOBase]:
    """Open a member of a zip archive as a file that can seek."""
    with open_archive(file, label) as archive, archive.open(member) as stream:
        yield cast(BufferedIOBase, stream)


def checked_members(
    archive: zipfile.ZipFile, name: str, size: int
) -> list[zipfile.ZipInfo]:
    """Return an archive's members once they are known to be harmless.

    Args:
        archive: the open archive.
        name: the file, for errors.
        size: its bytes on disk; what its own directory claims is not believed.

    Raises:
        InputError: where it unpacks to more than ARCHIVE_RATIO times its size and
            ARCHIVE_BYTES, or has too many, repeated, encrypted or exotic members.
    """
    members = archive.infolist()
    total = sum(member.file_size for member in members)
    limit = max(ARCHIVE_BYTES, ARCHIVE_RATIO * size)
    if total > limit:
        raise InputError(
            f"{name}: unpacks to {total:,} bytes from {size:,}, as a zip bomb does",
            expected=f"at most {limit:,} bytes",
            fix="if you trust it, unzip it and pass the .npy file inside",
        )
    names = {member.filename for member in members}
    if len(members) > ARCHIVE_MEMBERS or len(names) < len(members):
        raise damaged(name, "too many or repeated members")
    plain = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    for member in members:
        if member.flag_bits & 1 or member.compress_type not in plain:
            raise InputError(
                f"{name}: `{member.filename}` is encrypted or compressed unusually",
                expected="what np.savez or np.savez_compressed writes",
                fix="unzip it and pass the .npy file inside",
            )
    return members
