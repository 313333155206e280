"""Small pictures of the rows that a report lists, wherever the images are."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from repscope._arrays import host
from repscope._checking import InputError
from repscope._images import as_rgb8, decode, thumbnail
from repscope.records import Thumbnail
from repscope.representations.representation import Representation
from repscope.representations.store import Store

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"}
)
PixelsOf = Callable[[int], Shaped[np.ndarray, "h w 3"]]


def thumbnails(
    images: Any, representation: Representation, rows: Sequence[int]
) -> tuple[tuple[Thumbnail, ...], tuple[str, ...]]:
    """Return thumbnails of some rows, and a notice for each that cannot be read.

    Args:
        images: an array (n, h, w), (n, h, w, c) or (n, c, h, w); a folder whose files
            are named by id or stand in the order of the rows; the name of an image
            column of the features' file; or n paths.
        representation: the features; its row numbers count in `images`.
        rows: row numbers.

    Raises:
        InputError: where images and rows do not belong together.
    """
    pixels_of = _reader(images, representation, rows)
    pictures, notices = [], []
    for row in rows:
        try:
            address, width, height = thumbnail(pixels_of(row))
        except InputError as error:
            notices.append(f"no thumbnail of row {row}: {error.what}")
            continue
        pictures.append(
            Thumbnail(row=int(row), address=address, width=width, height=height)
        )
    return tuple(pictures), tuple(notices)


def _reader(
    images: Any, representation: Representation, rows: Sequence[int]
) -> PixelsOf:
    n = int(representation.rows[-1]) + 1
    if isinstance(images, str | Path):
        if Path(images).is_dir():
            return _folder_reader(Path(images), representation)
        return _column_reader(str(images), representation, rows)
    if hasattr(images, "shape"):
        return _array_reader(images, n)
    paths = list(images)
    if len(paths) < n:
        raise InputError(
            "images: one per row of features is needed",
            found=f"{len(paths):,} images",
            expected=f"{n:,}",
        )
    return lambda row: _decode_file(Path(paths[row]))


def _decode_file(path: Path) -> Shaped[np.ndarray, "h w 3"]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path.name}: {error.strerror or error}") from error
    return decode(data, path.name)


def _array_reader(images: Any, n: int) -> PixelsOf:
    shape = tuple(images.shape)
    if len(shape) not in (3, 4) or shape[0] < n:
        raise InputError(
            "images: one picture per row of features is needed",
            found=f"an array of shape {shape}",
            expected=f"({n:,}, height, width) or with channels",
        )
    channels_first = len(shape) == 4 and shape[1] in (1, 3) and shape[3] not in (1, 3)

    def pixels_of(row: int) -> Shaped[np.ndarray, "h w 3"]:
        picture = host(images[row])
        return as_rgb8(np.moveaxis(picture, 0, -1) if channels_first else picture)

    return pixels_of


def _folder_reader(folder: Path, representation: Representation) -> PixelsOf:
    files = sorted(
        (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES),
        key=_natural,
    )
    if not files:
        raise InputError(
            f"{folder}: no images", expected=", ".join(sorted(SUFFIXES)) + " files"
        )
    named = _by_name(folder, files)
    by_row = dict(zip(representation.rows.tolist(), representation.ids, strict=True))
    known = [str(one) in named for one in representation.ids.tolist()]
    # Numbers may match names by chance; words do not, and some may be missing.
    if all(known) or (representation.ids.dtype.kind == "U" and any(known)):
        return lambda row: _decode_file(_named(named, str(by_row[row])))
    n = int(representation.rows[-1]) + 1
    if len(files) != n:
        raise InputError(
            f"{folder}: images cannot be matched to rows",
            found=f"{len(files):,} images, named like {files[0].name!r}",
            expected=f"{n:,}, or file names that are the ids",
            fix=f"pass ids that are the images' file names, such as {files[0].name!r}",
        )
    return lambda row: _decode_file(files[row])


def _by_name(folder: Path, files: Sequence[Path]) -> dict[str, Path]:
    """Return files by path, name and stem; what several share names none of them."""
    named: dict[str, Path] = {}
    shared = set()
    for path in files:
        for name in {path.relative_to(folder).as_posix(), path.name, path.stem}:
            if name in named:
                shared.add(name)
            named[name] = path
    return {name: path for name, path in named.items() if name not in shared}


def _named(named: dict[str, Path], name: str) -> Path:
    if name not in named:
        raise InputError(f"no image named {name!r}")
    return named[name]


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Return a sort key that puts image 2 before image 10."""
    parts = re.split(r"(\d+)", path.as_posix())
    return [(1, int(p), "") if p.isdigit() else (0, 0, p) for p in parts]


def _column_reader(
    name: str, representation: Representation, rows: Sequence[int]
) -> PixelsOf:
    stores = [s for s in representation.sources if isinstance(s, Store)]
    if not stores:
        raise InputError(
            f"images: there is no folder {name!r}",
            fix="pass a folder of images, an array of pixels or a list of paths",
        )
    store = stores[0]
    store.images(name, [])  # refuses a column that is not there
    within = [row for row in rows if row < store.n]
    try:
        encoded = dict(zip(within, store.images(name, within), strict=True))
    except InputError:
        encoded = {}  # one row without an image must not hide the others

    def pixels_of(row: int) -> Shaped[np.ndarray, "h w 3"]:
        if row >= store.n:
            raise InputError(f"row {row} has no image")
        data = encoded[row] if encoded else store.images(name, [row])[0]
        return decode(data, f"{store.name}, row {row}")

    return pixels_of
