"""Encoded pictures (JPEG, PNG, ...) that are decoded when they are looked at.

Where the bytes come from (files, members of an archive, cells of a table) is another
matter: here they are a function of the row.
"""

import errno
import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from repscope._checking import InputError, RepscopeError, ResourceError
from repscope._images import decode
from repscope.data.images import Images
from repscope.files.file_access import Stamp, stamp_of
from repscope.files.sniffing import FIXES, HEAD_BYTES, Kind, kind_of_head, sniff

# Endings of the formats that `decode` accepts.
PICTURE_SUFFIXES = frozenset(
    [".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif"]
    + [".tiff", ".ppm", ".pgm", ".pbm", ".pnm"]
)
# More bytes than this are no picture that may be decoded (50 megapixels of 16 bits).
MAXIMUM_ENCODED_BYTES = 2**29

# What is wrong with one file; anything else is wrong with the machine.
_ONE_FILE = frozenset(
    [errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG]
    + [errno.EACCES, errno.EPERM]
)

_FEATURES_FIX = "features need no encoder any more: repscope diagnose {name}"
_ENCODER_FIX = "pass it where an encoder is asked for, and images here"
_OPEN_FIX = "open_images tells these formats apart by what they hold"
_PICKLE_FIX = (
    "a pickle can run any program and is never opened; save the pictures where you "
    'trust it: np.savez("images.npz", images=images, labels=labels)'
)
# What to do about a file that is given where pictures are asked for.
_FIXES = {
    Kind.NPY: 'name it and save it as .npz: np.savez("images.npz", images=array); '
    + _FEATURES_FIX,
    Kind.TEXT: _FEATURES_FIX,
    Kind.TORCH: _ENCODER_FIX,
    Kind.SAFETENSORS: _ENCODER_FIX,
    Kind.TORCHSCRIPT: _ENCODER_FIX,
    Kind.LEGACY_TORCH: _ENCODER_FIX,
    Kind.PICKLE: _PICKLE_FIX,
    Kind.IMAGE: "pass the folder that it lies in",
    Kind.IMAGE_ARCHIVE: _OPEN_FIX,
    Kind.PARQUET: _OPEN_FIX,
    Kind.NPZ: _OPEN_FIX,
    Kind.IDX: _OPEN_FIX,
    Kind.UNKNOWN: "copy, download or write it again",
}


class AbstractEncoded(ABC):
    """Where encoded pictures lie; safe to read from several threads at once."""

    @abstractmethod
    def bytes_of(self, row: int) -> bytes:
        """Return an encoded picture.

        Raises:
            InputError: where it is not there or cannot be read.
        """

    @abstractmethod
    def mark_of(self, row: int) -> str:
        """Return what tells a picture from an edited one, such as its size.

        It costs no reading of the picture, and is the same on every machine.
        """


@dataclass(frozen=True, eq=False)
class EncodedImages(Images):
    """Encoded pictures, one per row, each decoded at every look.

    Args:
        name: of the source, for errors.
        names: what to call each picture in an error: file names, or row numbers.
        encoded: where the pictures lie.
        ignored: what of the source is not among the pictures, and how often.
    """

    name: str
    names: Sequence[str] | Sequence[int]
    encoded: AbstractEncoded
    ignored: Mapping[str, int] = field(default_factory=dict)
    # Encoded pictures may differ in size; one would have to decode all to know.
    shape: tuple[int, int, int] | None = None

    @property
    def n(self) -> int:
        """How many pictures there are."""
        return len(self.names)

    def bytes_of(self, row: int) -> bytes:
        """Return a picture as it is encoded.

        Args:
            row: from 0 to n - 1.

        Raises:
            InputError: where there is no such row, or it cannot be read.
        """
        if not 0 <= row < self.n:
            raise InputError(
                f"{self.name}: no row {row}", expected=f"0 to {self.n - 1}"
            )
        return self.encoded.bytes_of(row)

    def read(self, row: int) -> UInt8[np.ndarray, "h w 3"]:
        """Return a picture as 8-bit RGB.

        Args:
            row: from 0 to n - 1.

        Raises:
            InputError: where it is no readable picture; it names the picture.
        """
        data = self.bytes_of(row)
        called = self.names[row]
        name = f"{self.name}: {called if isinstance(called, str) else f'row {called}'}"
        try:
            return decode(data, name)
        except InputError as error:
            from PIL import UnidentifiedImageError

            if not isinstance(error.__cause__, UnidentifiedImageError):
                raise
            raise _unidentified(name, kind_of_head(data[:HEAD_BYTES])) from error

    def fingerprint(self, rows: Int[np.ndarray, " m"]) -> str:
        """Return a hash of the names and sizes (or checksums) of some pictures."""
        digest = hashlib.blake2b(str(len(rows)).encode(), digest_size=8)
        for row in rows.tolist():
            text = f"{self.names[row]}\0{self.encoded.mark_of(row)}\0"
            digest.update(text.encode("utf-8", "surrogatepass"))
        return digest.hexdigest()


def _unidentified(name: str, kind: Kind) -> InputError:
    """Return the error for bytes that are no picture of a known format."""
    if kind is Kind.IMAGE:
        return InputError(
            f"{name}: is an image of a format that is not read",
            fix="convert it to PNG or JPEG",
        )
    return InputError(
        f"{name}: is {kind.value}, not a picture", fix=FIXES.get(kind, "")
    )


@dataclass(frozen=True)
class PictureFiles(AbstractEncoded):
    """Pictures that are files.

    Args:
        folder: the folder.
        names: of the files, relative to it.
    """

    folder: Path
    names: tuple[str, ...]

    def mark_of(self, row: int) -> str:
        """Return a file's size."""
        try:
            return str((self.folder / self.names[row]).stat().st_size)
        except OSError:
            return "unreadable"

    def bytes_of(self, row: int) -> bytes:
        """Return a file's bytes.

        Raises:
            InputError: where the file is gone, may not be read, or is too large.
            ResourceError: where the disk fails, or too many files are open.
        """
        name = self.names[row]
        try:
            with (self.folder / name).open("rb") as file:
                check_encoded_size(name, os.fstat(file.fileno()).st_size)
                return file.read()
        except OSError as error:
            if isinstance(error, RepscopeError):
                raise
            if error.errno not in _ONE_FILE:
                raise ResourceError(f"{name}: cannot be read ({error})") from error
            raise InputError(
                f"{name}: {error.strerror}",
                fix="a link needs the file it leads to: copy it, or git annex get",
            ) from error


def check_encoded_size(name: str, size: int) -> None:
    """Raise InputError where an encoded picture is too large to be one."""
    if size > MAXIMUM_ENCODED_BYTES:
        raise InputError(
            f"{name}: {size:,} bytes, too many for a picture",
            expected=f"at most {MAXIMUM_ENCODED_BYTES:,}",
        )


def check_kind(path: Path, *expected: Kind) -> Stamp:
    """Return the state of a file that is of an expected kind.

    Args:
        path: an existing regular file.
        expected: the kinds that the caller reads; the first is what it is for.

    Raises:
        InputError: saying what the file is instead and what to do about it.
    """
    stamp = stamp_of(path)
    kind = sniff(path)
    if kind not in expected:
        raise InputError(
            f"{path.name}: is {kind.value}, not {expected[0].value}",
            fix=fix_of(kind, path.name),
        )
    return stamp


def fix_of(kind: Kind, name: str) -> str:
    """Return what to do about a file that is no pictures.

    Args:
        kind: what it is.
        name: the file.
    """
    return (_FIXES.get(kind) or FIXES.get(kind, "")).format(name=name)
