"""Pictures inside a zip archive, read one by one where they lie.

The archive's directory is read once. Each picture is then a bounded read at a known
place, so that any number of threads can read at once and no archive stays open.
"""

import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from repscope._checking import InputError
from repscope.data.encoded_images import (
    AbstractEncoded,
    check_encoded_size,
    check_kind,
)
from repscope.data.folder_layout import reason_against
from repscope.files.file_access import Stamp, damaged, open_unchanged
from repscope.files.sniffing import Kind
from repscope.files.zip_archive import ARCHIVE_BYTES, ARCHIVE_RATIO, open_archive

# Signature, 22 bytes that the archive's directory repeats, two lengths.
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_SIGNATURE = b"PK\x03\x04"
_ENCRYPTED = 1
_RAW_DEFLATE = -15
_UNZIP_FIX = "if you trust it, unzip it and pass the folder"


@dataclass(frozen=True)
class ArchivedPictures(AbstractEncoded):
    """Pictures that are members of a zip archive.

    Args:
        path: the archive.
        stamp: its state when its directory was read.
        members: a picture's name -> where it lies.
        names: the pictures' names in the order of the rows.
    """

    path: Path
    stamp: Stamp
    members: dict[str, zipfile.ZipInfo]
    names: tuple[str, ...]

    def in_order(self, names: Sequence[str]) -> "ArchivedPictures":
        """Return some of the pictures in another order."""
        return replace(self, names=tuple(names))

    def mark_of(self, row: int) -> str:
        """Return a picture's size and checksum."""
        member = self.members[self.names[row]]
        return f"{member.file_size} {member.CRC:08x}"

    def bytes_of(self, row: int) -> bytes:
        """Return a picture's bytes, their checksum compared.

        Raises:
            InputError: where the archive changed, or the picture is damaged or larger
                than a picture can be.
        """
        name = self.names[row]
        member = self.members[name]
        label = f"{self.path.name}: {name}"
        check_encoded_size(label, member.file_size)
        with open_unchanged(self.path, self.stamp) as file:
            file.seek(member.header_offset)
            header = file.read(_LOCAL_HEADER.size)
            if not header.startswith(_SIGNATURE) or len(header) < _LOCAL_HEADER.size:
                raise damaged(label, "there is no such member where it should be")
            _, name_length, extra_length = _LOCAL_HEADER.unpack(header)
            file.seek(name_length + extra_length, 1)
            packed = file.read(member.compress_size)
        data = _unpacked(packed, member, label)
        if len(data) != member.file_size or zlib.crc32(data) != member.CRC:
            raise damaged(label, "its checksum is wrong")
        return data


def archived_pictures(path: Path) -> tuple[ArchivedPictures, Counter[str]]:
    """Return the pictures of an archive, in its order, and what else is in it.

    Args:
        path: the archive.

    Raises:
        InputError: where it is no zip archive of pictures, or is damaged; where a
            picture is encrypted, twice in it, or compressed unusually; where they
            unpack to more than ARCHIVE_BYTES and ARCHIVE_RATIO times its size.
    """
    stamp = check_kind(path, Kind.IMAGE_ARCHIVE, Kind.ARCHIVE)
    members: dict[str, zipfile.ZipInfo] = {}
    ignored: Counter[str] = Counter()
    with open_unchanged(path, stamp) as file, open_archive(file, path.name) as archive:
        for member in archive.infolist():
            name = member.filename.replace("\\", "/")
            reason = reason_against(name)
            if reason:
                ignored[reason] += not member.is_dir()
                continue
            _check_member(path.name, member)
            if name in members:
                raise damaged(path.name, f"`{name}` is in it twice")
            members[name] = member
    total = sum(member.file_size for member in members.values())
    limit = max(ARCHIVE_BYTES, ARCHIVE_RATIO * stamp.size)
    if total > limit:
        raise InputError(
            f"{path.name}: unpacks to {total:,} bytes from {stamp.size:,}, as a zip "
            "bomb does",
            expected=f"at most {limit:,} bytes",
            fix=_UNZIP_FIX,
        )
    return ArchivedPictures(path, stamp, members, tuple(members)), +ignored


def _check_member(archive: str, member: zipfile.ZipInfo) -> None:
    if member.flag_bits & _ENCRYPTED:
        raise InputError(
            f"{archive}: `{member.filename}` is encrypted",
            expected="an archive without a password",
            fix="unzip it with its password and pass the folder",
        )
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        method = f"method {member.compress_type}"
        raise InputError(
            f"{archive}: `{member.filename}` is compressed by {method}",
            expected="stored or deflated members",
            fix=_UNZIP_FIX,
        )
    if member.header_offset < 0:
        raise damaged(archive, f"`{member.filename}` lies before its beginning")


def _unpacked(packed: bytes, member: zipfile.ZipInfo, label: str) -> bytes:
    """Return a member's bytes: no more than one too many, whatever it unpacks to."""
    if member.compress_type == zipfile.ZIP_STORED:
        return packed
    try:
        inflate = zlib.decompressobj(_RAW_DEFLATE)
        return inflate.decompress(packed, member.file_size + 1)
    except zlib.error as error:
        raise damaged(label, str(error)) from error
