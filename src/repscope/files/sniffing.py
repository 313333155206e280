"""What is this file? Answered from its first bytes, not from its name.

Readable formats are told apart; everything else that people pass by mistake is named,
with the way from there to features. Nothing is unpickled, decoded or downloaded.
"""

import codecs
import enum
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from repscope._checking import InputError
from repscope.files.file_access import damaged, reading

HEAD_BYTES = 4096
# The longest safetensors header that its specification allows.
SAFETENSORS_HEADER_LIMIT = 100_000_000


class Kind(enum.Enum):
    """What a file can be; the value completes "the file is ..."."""

    NPY = "a NumPy array"
    NPZ = "a NumPy archive"
    PARQUET = "a Parquet table"
    SAFETENSORS = "a safetensors file"
    TORCH = "a torch file"
    TEXT = "a text file"
    JSON = "a JSON file"
    TOML = "a TOML file"
    EMPTY = "an empty file"
    LFS_POINTER = "a Git-LFS pointer"
    ANNEX_POINTER = "a git-annex pointer"
    HTML = "an HTML page"
    XML = "an XML file"
    UTF16 = "UTF-16 text"
    PICKLE = "a pickle"
    LEGACY_TORCH = "a torch file of before version 1.6, a bare pickle"
    TORCHSCRIPT = "a TorchScript model"
    IMAGE = "an image"
    PDF = "a PDF document"
    HDF5 = "an HDF5 file"
    ARROW = "an Arrow file"
    IDX = "an IDX file"
    MATLAB = "a MATLAB file"
    SQLITE = "an SQLite database"
    EXCEL = "an Excel workbook"
    IMAGE_ARCHIVE = "a zip archive of images"
    ARCHIVE = "a zip archive"
    TAR = "a tar archive"
    COMPRESSED = "a compressed file"
    UNKNOWN = "of no known format"


_TABLES = frozenset({Kind.NPY, Kind.NPZ, Kind.PARQUET, Kind.TEXT})
READABLE_KINDS = {
    "features": _TABLES | {Kind.SAFETENSORS, Kind.TORCH},
    "labels": _TABLES | {Kind.JSON},
}
_EXPECTED = {
    "features": ".npy, .npz, .parquet, .csv, .safetensors, .pt or a folder of them",
    "labels": ".npy, .npz, .parquet, .csv, .json or .txt",
}

SUFFIXES = {
    ".npy": Kind.NPY,
    ".npz": Kind.NPZ,
    ".parquet": Kind.PARQUET,
    ".safetensors": Kind.SAFETENSORS,
    ".pt": Kind.TORCH,
    ".pth": Kind.TORCH,
    ".ckpt": Kind.TORCH,
    ".csv": Kind.TEXT,
    ".tsv": Kind.TEXT,
    ".txt": Kind.TEXT,
}
IMAGE_SUFFIXES = frozenset(
    [".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".heic"]
)
PICKLE_SUFFIXES = frozenset([".pkl", ".pickle", ".joblib", ".dill", ".p"])

SAVE_FIX = 'save the features as an (n, d) array: np.save("features.npy", features)'
# From an encoder, or from images, to a report; and to features alone.
IMAGES_FIX = "repscope diagnose ENCODER IMAGES"
ENCODER_FIX = (
    f"features come from running the encoder over images: {IMAGES_FIX}, or repscope "
    f"embed ENCODER IMAGES; in Python, {SAVE_FIX}"
)
PICKLE_FIX = (
    "a pickle can run any program and is never opened; load it where you trust it and "
    + SAVE_FIX
)
FIXES = {
    Kind.EMPTY: "write or copy it again",
    Kind.LFS_POINTER: "git lfs pull",
    Kind.ANNEX_POINTER: "git annex get",
    Kind.HTML: "download the file itself: the server sent a page, perhaps an error",
    Kind.UTF16: "save it as UTF-8",
    Kind.PICKLE: PICKLE_FIX,
    Kind.LEGACY_TORCH: PICKLE_FIX,
    Kind.TORCHSCRIPT: ENCODER_FIX,
    Kind.IMAGE: ENCODER_FIX,
    Kind.IMAGE_ARCHIVE: ENCODER_FIX,
    Kind.ARROW: "save it as Parquet",
    Kind.EXCEL: "save the sheet as CSV",
    Kind.ARCHIVE: "unzip it and pass what is inside",
    Kind.TAR: "unpack it and pass what is inside",
    Kind.COMPRESSED: "unpack it (gunzip, unxz, unzstd) and pass what is inside",
}

# Names that occur in the state of a network and of its training, not among features.
_WEIGHT_NAMES = ("weight", ".bias", ".running_mean", ".num_batches_tracked")
_CHECKPOINT_NAMES = frozenset(
    ["state_dict", "model_state_dict", "optimizer_state_dict", "optimizer_states"]
    + ["optimizer", "model", "encoder", "teacher", "student"]
)

# (offset, bytes, kind): the first that fits decides.
_SIGNATURES = (
    (0, b"\x93NUMPY", Kind.NPY),
    (0, b"PAR1", Kind.PARQUET),
    (0, b"\x89HDF\r\n\x1a\n", Kind.HDF5),
    (0, b"ARROW1", Kind.ARROW),
    (0, b"FEA1", Kind.ARROW),
    (0, b"version https://git-lfs", Kind.LFS_POINTER),
    (0, b"/annex/objects/", Kind.ANNEX_POINTER),
    (0, b"\x89PNG\r\n", Kind.IMAGE),
    (0, b"\xff\xd8\xff", Kind.IMAGE),
    (0, b"GIF8", Kind.IMAGE),
    (0, b"II*\0", Kind.IMAGE),
    (0, b"MM\0*", Kind.IMAGE),
    (4, b"ftyp", Kind.IMAGE),
    (0, b"RIFF", Kind.IMAGE),
    (6, b"\0\0\0\0\x36\0\0\0", Kind.IMAGE),
    (0, b"%PDF", Kind.PDF),
    (0, b"MATLAB 5.0 MAT", Kind.MATLAB),
    (0, b"SQLite format 3\0", Kind.SQLITE),
    (257, b"ustar", Kind.TAR),
    (0, b"\x1f\x8b", Kind.COMPRESSED),
    (0, b"BZh", Kind.COMPRESSED),
    (0, b"\xfd7zXZ\0", Kind.COMPRESSED),
    (0, b"\x28\xb5\x2f\xfd", Kind.COMPRESSED),
    (0, b"7z\xbc\xaf\x27\x1c", Kind.COMPRESSED),
    (0, b"Rar!", Kind.COMPRESSED),
    (0, codecs.BOM_UTF16_LE, Kind.UTF16),
    (0, codecs.BOM_UTF16_BE, Kind.UTF16),
)
# Anything but control characters, whatever the encoding.
_PRINTABLE = bytes([9, 10, 12, 13, *range(32, 127), *range(128, 256)])
# The header of a table, [data] or [[data]], on a line of its own: no list of JSON.
_TOML_TABLE = re.compile(
    rb"\[{1,2}(?!(?:true|false|null|nan|infinity)\W)"
    rb"[a-z_][\w.-]*\]{1,2}[ \t]*(?=[#\r\n])"
)
_COMMENTS = re.compile(rb"(?:\s*#[^\n]*\n)+")
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
# A bare pickle that torch wrote begins with this number as a long integer.
_LEGACY_TORCH = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
# Openings of pickles of protocol 0 and 1, which look like text: a container, or the
# name of what is to be called.
_TEXT_PICKLE = re.compile(rb"\([dl]p\d*\n|c[\w.]+\n\w+\n(\(|p\d+\n|q[\0-\x1f])")


def sniff(path: Path) -> Kind:
    """Return what a file is, by content; the name decides only about pickles.

    Args:
        path: an existing regular file.

    Raises:
        InputError: where it is a damaged zip archive.
    """
    with reading(path), path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    kind = _zip_kind(path) if head.startswith(_ZIP) else kind_of_head(head)
    if (
        path.suffix.lower() in PICKLE_SUFFIXES
        and kind not in READABLE_KINDS["features"]
    ):
        return Kind.PICKLE
    return kind


def check_readable(
    path: Path, kind: Kind, wanted: Literal["features", "labels"]
) -> None:
    """Raise InputError unless a file is of a kind that can be read here.

    Args:
        path: the file.
        kind: what `sniff` said.
        wanted: what the user means it to hold.

    Raises:
        InputError: saying what the file is and what to do about it.
    """
    readable = READABLE_KINDS[wanted]
    promised = SUFFIXES.get(path.suffix.lower(), Kind.TEXT)
    if kind in (Kind.TEXT, Kind.UNKNOWN) and promised in readable - {Kind.TEXT}:
        raise InputError(
            f"{path.name}: is {kind.value}, not {promised.value}",
            fix="give it the ending .csv if it is a table"
            if kind is Kind.TEXT
            else "copy, download or write it again",
        )
    if kind not in readable:
        raise InputError(
            f"{path.name}: is {kind.value}, not {wanted}",
            expected=_EXPECTED[wanted],
            fix=FIXES.get(kind, SAVE_FIX if wanted == "features" else "save it as CSV"),
        )


def refuse_weights(name: str, values: Mapping[str, Any]) -> None:
    """Raise InputError where names are those of a network's weights.

    Args:
        name: the file.
        values: what it holds, by name.

    Raises:
        InputError: naming the entry that tells.
    """
    weights = [key for key in values if key.endswith(_WEIGHT_NAMES)]
    training = [
        key
        for key, value in values.items()
        if key in _CHECKPOINT_NAMES and isinstance(value, Mapping | list)
    ]
    if weights or training:
        raise InputError(
            f"{name}: is a checkpoint, not features",
            found=f"`{(weights + training)[0]}` among {len(values):,} entries",
            expected="features, an (n, d) array",
            fix=ENCODER_FIX,
        )


_IDX_TYPES = frozenset((b"\x08", b"\x09", b"\x0b", b"\x0c", b"\x0d", b"\x0e"))


def kind_of_head(head: bytes) -> Kind:
    """Return what the first bytes of a file say it is; zip archives excepted."""
    if not head:
        return Kind.EMPTY
    for offset, signature, kind in _SIGNATURES:
        if head.startswith(signature, offset):
            return kind
    if _is_safetensors(head):
        return Kind.SAFETENSORS
    if _LEGACY_TORCH in head[:32]:
        return Kind.LEGACY_TORCH
    if _is_pickle(head):
        return Kind.PICKLE
    if head[:2] == b"\0\0" and head[2:3] in _IDX_TYPES:
        return Kind.IDX
    return _kind_of_text(head) if _is_text(head) else Kind.UNKNOWN


def _is_safetensors(head: bytes) -> bool:
    length = int.from_bytes(head[:8], "little")
    return head[8:9] == b"{" and length <= SAFETENSORS_HEADER_LIMIT


def _is_pickle(head: bytes) -> bool:
    binary = head[0] == 0x80 and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
    return binary or _TEXT_PICKLE.match(head) is not None


def _is_text(head: bytes) -> bool:
    controls = len(head.translate(None, _PRINTABLE))
    return b"\0" not in head and controls * 50 <= len(head)


def _kind_of_text(head: bytes) -> Kind:
    start = head.removeprefix(codecs.BOM_UTF8).lstrip()[:64].lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return Kind.HTML
    if start.startswith(b"<"):
        return Kind.XML
    if _TOML_TABLE.match(_without_comments(head).lower()):
        return Kind.TOML
    return Kind.JSON if start.startswith((b"{", b"[")) else Kind.TEXT


def _without_comments(head: bytes) -> bytes:
    text = head.removeprefix(codecs.BOM_UTF8)
    comments = _COMMENTS.match(text)
    return text[comments.end() if comments else 0 :].lstrip()


def _zip_kind(path: Path) -> Kind:
    try:
        with reading(path), zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        if isinstance(error, InputError):
            raise
        raise damaged(path.name, "an incomplete zip archive") from error
    if any(name.split("/")[-1] == "data.pkl" for name in names):
        scripted = any(name.split("/")[-1] == "constants.pkl" for name in names)
        return Kind.TORCHSCRIPT if scripted else Kind.TORCH
    if not names or any(name.endswith(".npy") for name in names):
        return Kind.NPZ
    if any(name.startswith("xl/") for name in names):
        return Kind.EXCEL
    images = sum(Path(name).suffix.lower() in IMAGE_SUFFIXES for name in names)
    return Kind.IMAGE_ARCHIVE if images else Kind.ARCHIVE
