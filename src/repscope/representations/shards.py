"""Features in a folder of shards, read as one matrix in natural order.

The shards must belong together: one format, one width, one type, none missing, none
twice, none outside the folder. A folder of images is recognised and refused.
"""

import hashlib
import itertools
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from repscope._checking import InputError
from repscope.files.file_access import local_path, reading
from repscope.files.sniffing import (
    HEAD_BYTES,
    IMAGE_SUFFIXES,
    IMAGES_FIX,
    PICKLE_SUFFIXES,
    SAVE_FIX,
    SUFFIXES,
)
from repscope.representations.abstract_store import (
    Store,
    check_rows,
    no_column,
)

# What lies beside shards without being one.
SIDECAR_SUFFIXES = frozenset(
    [".json", ".jsonl", ".md", ".yaml", ".yml", ".toml", ".log", ".crc", ".lock"]
)
SIDECAR_NAMES = frozenset(
    ["_SUCCESS", "_metadata", "_common_metadata", "LICENSE", "README"]
)
ZARR_MARKS = (".zarray", ".zgroup", "zarr.json")
# What a training run has beside its encoder. Features have no log, and may have been
# written with a recipe beside them.
ENCODER_MARK = b'"repscope_encoder"'
RECIPE_NAME, ENCODER_NAME, LOG_NAME = "recipe.toml", "encoder.safetensors", "log.txt"
# Bytes compared first where two shards have one size; only then all of them.
GLANCE_BYTES = 64 * 2**10
# Inner folders, and files of each, that are looked at to recognise images.
GLANCE_FILES = 20

_NUMBER = re.compile(r"\d+")
_NUMBER_OF = re.compile(r"(\d+)[-_]of[-_](\d+)")


@dataclass(frozen=True)
class ShardedStore(Store):
    """Stores one after another, as one."""

    path: Path
    n: int
    d: int
    dtype: str
    column_names: tuple[str, ...]
    shards: tuple[Store, ...]

    def blocks(self, rows: int) -> Iterator[np.ndarray]:
        """Yield consecutive blocks of rows; they end where shards end."""
        check_rows(rows)
        return (block for shard in self.shards for block in shard.blocks(rows))

    def column(self, name: str) -> Shaped[np.ndarray, " n"]:
        """Return a metadata column that every shard has, and has of one type."""
        owners = [shard for shard in self.shards if name in shard.column_names]
        if not owners:
            raise no_column(self.name, name, self.column_names)
        for shard in self.shards:
            if shard not in owners:
                raise _differ(
                    self.name, shard, owners[0], f"no column `{name}`", f"`{name}`"
                )
        parts = [shard.column(name) for shard in self.shards]
        for shard, part in zip(self.shards, parts, strict=True):
            if _is_text(part) != _is_text(parts[0]):
                raise _differ(
                    self.name,
                    shard,
                    self.shards[0],
                    f"`{name}` of {part.dtype}",
                    f"{parts[0].dtype}",
                )
        return np.concatenate(parts)

    def images(self, name: str, rows: Sequence[int]) -> list[bytes]:
        """Return the encoded images of some rows, from the shards they lie in."""
        ends = np.cumsum([shard.n for shard in self.shards])
        outside = [row for row in rows if not 0 <= row < self.n]
        if outside:
            raise InputError(
                f"{self.name}: no row {outside[0]}", expected=f"0 to {self.n - 1}"
            )
        found: dict[int, bytes] = {}
        owners = np.searchsorted(ends, np.asarray(rows, dtype=np.int64), side="right")
        for owner in np.unique(owners).tolist():
            mine = [row for row, one in zip(rows, owners, strict=True) if one == owner]
            start = int(ends[owner]) - self.shards[owner].n
            images = self.shards[owner].images(name, [row - start for row in mine])
            found.update(zip(mine, images, strict=True))
        return [found[row] for row in rows]


def open_shards(folder: Path, open_one: Callable[[Path], Store]) -> ShardedStore:
    """Return the store of a folder of shards.

    Args:
        folder: its files are the shards; hidden ones and notes are ignored.
        open_one: opens one shard.

    Raises:
        InputError: where there are no shards, they do not belong together, one is
            missing, one comes twice, or one is a link leading out of the folder.
    """
    paths = shard_paths(folder)
    _check_numbers(folder.name, [path.name for path in paths])
    shards = tuple(open_one(path) for path in paths)
    first = shards[0]
    for shard in shards[1:]:
        if (shard.d, shard.dtype) != (first.d, first.dtype):
            raise _differ(
                folder.name,
                shard,
                first,
                f"{shard.n:,} x {shard.d:,} {shard.dtype}",
                f"{first.n:,} x {first.d:,} {first.dtype}",
            )
    _check_copies(folder.name, shards)
    shared = [
        name
        for name in first.column_names
        if all(name in shard.column_names for shard in shards)
    ]
    n = sum(shard.n for shard in shards)
    return ShardedStore(folder, n, first.d, first.dtype, tuple(shared), shards)


def shard_paths(folder: Path) -> list[Path]:
    """Return the shards of a folder in natural order (2 before 10).

    Raises:
        InputError: where there are none, they are of several formats, or one is a link
            leading out of the folder.
    """
    with reading(folder):
        entries = [path for path in folder.iterdir() if not path.name.startswith(".")]
    entries.sort(key=lambda path: (natural_key(path.name), path.name))
    _refuse_run(folder, entries)
    _refuse_images(folder, entries)
    files = [path for path in entries if not path.is_dir() and not _is_sidecar(path)]
    known = [path for path in files if path.suffix.lower() in SUFFIXES]
    if not files or (len(files) > 1 and not known):
        raise _no_shards(folder, entries)
    home = folder.resolve()
    for path in files:
        local_path(path)
        if not path.resolve().is_relative_to(home):
            raise InputError(
                f"{folder.name}: {path.name} is a link leading out of the folder",
                expected="shards that lie in the folder",
                fix="copy the file into the folder",
            )
    _check_formats(folder.name, files)
    return files


def natural_key(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts numbers in names by value.

    Example:
        >>> sorted(["part10", "part2"], key=natural_key)
        ['part2', 'part10']
    """
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _is_text(values: np.ndarray) -> bool:
    return values.dtype.kind in "UO"


def _is_sidecar(path: Path) -> bool:
    names = {path.name, path.stem.upper()}
    return path.suffix.lower() in SIDECAR_SUFFIXES or bool(names & SIDECAR_NAMES)


def _refuse_run(folder: Path, entries: Sequence[Path]) -> None:
    """Raise InputError for a training run: it holds an encoder, and no features."""
    names = {path.name for path in entries}
    features = {
        path.name
        for path in entries
        if path.suffix.lower() in SUFFIXES and not _is_sidecar(path)
    }
    is_marked = RECIPE_NAME in names or _is_our_encoder(folder / ENCODER_NAME)
    if is_marked and features <= {ENCODER_NAME, LOG_NAME}:
        command = IMAGES_FIX.replace("ENCODER", shlex.quote(str(folder)))
        raise InputError(
            f"{folder.name}: a training run: its features come from images",
            expected="a file of features, or a folder of them",
            fix=f"give images too: {command}",
        )


def _is_our_encoder(path: Path) -> bool:
    if not path.is_file():
        return False
    with reading(path), path.open("rb") as file:
        return ENCODER_MARK in file.read(HEAD_BYTES)


def _refuse_images(folder: Path, entries: Sequence[Path]) -> None:
    """Raise InputError for images, in the folder or in its folders per class."""
    names = [path.name for path in entries]
    inner = [path for path in entries if path.is_dir() and not path.is_symlink()]
    for path in inner[:GLANCE_FILES]:
        with reading(path):
            files = itertools.islice(path.iterdir(), GLANCE_FILES)
            names += [f"{path.name}/{file.name}" for file in files]
    images = [name for name in names if Path(name).suffix.lower() in IMAGE_SUFFIXES]
    readable = [name for name in names if Path(name).suffix.lower() in SUFFIXES]
    if len(images) > len(readable):
        images_command = IMAGES_FIX.replace("IMAGES", shlex.quote(str(folder)))
        raise InputError(
            f"{folder.name}: a folder of images: features are needed",
            found=f"images such as {images[0]}",
            expected="a file of features, or a folder of them",
            fix=f"give an encoder first: {images_command}",
        )


def _no_shards(folder: Path, entries: Sequence[Path]) -> InputError:
    names = [path.name for path in entries]
    if any((folder / mark).exists() for mark in ZARR_MARKS):
        return InputError(
            f"{folder.name}: a Zarr array: it cannot be read",
            expected=".npy or another file of features",
            fix='np.save("features.npy", array[:])',
        )
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    inner = [path for path in entries if path.is_dir()]
    return InputError(
        f"{folder.name}: no features in this folder",
        found=", ".join(names[:3]) + more if names else "an empty folder",
        expected=f"files ending in {', '.join(sorted(SUFFIXES))}",
        fix=f"pass the folder that holds them, such as {inner[0]}"
        if inner
        else SAVE_FIX,
    )


def _check_formats(name: str, files: Sequence[Path]) -> None:
    """Raise InputError unless all files are of one format."""
    kinds = [SUFFIXES.get(path.suffix.lower()) for path in files]
    usual = Counter(kind for kind in kinds if kind is not None).most_common(1)
    if len(files) == 1 or not usual:
        return
    typical = files[kinds.index(usual[0][0])]
    for path, kind in zip(files, kinds, strict=True):
        if kind is not usual[0][0]:
            pickled = path.suffix.lower() in PICKLE_SUFFIXES
            raise InputError(
                f"{name}: {path.name} is no shard like {typical.name}",
                found="a pickle, which is never opened" if pickled else "",
                expected="shards of one format",
                fix="move other files, such as labels, out of the folder",
            )


def _check_numbers(name: str, names: Sequence[str]) -> None:
    """Raise InputError where the numbers in the shards' names leave one out."""
    numbered = _numbers(names)
    if numbered is None:
        return
    numbers, total = numbered
    repeated = [number for number, count in Counter(numbers).items() if count > 1]
    if repeated:
        raise InputError(
            f"{name}: two shards are numbered {repeated[0]}",
            fix="delete one of them",
        )
    one_based = total is None or max(numbers) >= total
    start = min(min(numbers), int(one_based)) if total else min(numbers)
    count = total or max(numbers) - start + 1
    missing = count - len(numbers)
    if total is None and missing > len(numbers):
        return  # years or sizes, not positions
    if missing > 0:
        present = set(numbers)
        absent = next(k for k in itertools.count(start) if k not in present)
        more = f" and {missing - 1:,} more" if missing > 1 else ""
        raise InputError(
            f"{name}: shard {absent} of {count:,} is missing{more}",
            found=f"{len(names):,} shards, from {names[0]} to {names[-1]}",
            expected=f"all from {start} to {start + count - 1}",
            fix="copy or compute it again; rename the files if the numbers mean "
            "something else",
        )


def _numbers(names: Sequence[str]) -> tuple[list[int], int | None] | None:
    """Return each shard's number and, where the names say so, how many there are.

    None where the names are not one text with one changing number.
    """
    counted = [_NUMBER_OF.search(name) for name in names]
    totals = {int(found[2]) for found in counted if found is not None}
    if len(totals) == 1 and None not in counted:
        return [int(found[1]) for found in counted if found is not None], totals.pop()
    if len(names) < 2 or len({_NUMBER.sub("#", name) for name in names}) > 1:
        return None
    groups = list(zip(*(_NUMBER.findall(name) for name in names), strict=True))
    changing = [group for group in groups if len({int(one) for one in group}) > 1]
    if not changing:
        changing = groups[-1:]  # shard_1 and shard_01
    return ([int(one) for one in changing[0]], None) if len(changing) == 1 else None


def _check_copies(name: str, shards: Sequence[Store]) -> None:
    """Raise InputError where two shards have the same bytes.

    Shards of a collapsed encoder, every row the same, are alike without being copies.
    """
    seen: dict[tuple[int, bytes], list[Store]] = {}
    for shard in shards:
        twins = seen.setdefault(_glance(shard.path), [])
        for twin in twins:
            if _same_bytes(shard.path, twin.path) and not _is_constant(shard):
                raise InputError(
                    f"{name}: {shard.path.name} is a copy of {twin.path.name}",
                    found="the same bytes in both",
                    expected="each row once",
                    fix="delete the copy",
                )
        twins.append(shard)


def _glance(path: Path) -> tuple[int, bytes]:
    """Return a file's size and a digest of its first and last bytes."""
    with reading(path), path.open("rb") as file:
        size = path.stat().st_size
        head = file.read(GLANCE_BYTES)
        file.seek(max(0, size - GLANCE_BYTES))
        tail = file.read(GLANCE_BYTES)
    return size, hashlib.blake2b(head + tail).digest()


def _same_bytes(one: Path, other: Path) -> bool:
    with (
        reading(one),
        reading(other),
        one.open("rb") as first,
        other.open("rb") as second,
    ):
        while piece := first.read(GLANCE_BYTES):
            if piece != second.read(len(piece)):
                return False
    return True


def _is_constant(shard: Store) -> bool:
    rows = next(shard.blocks(GLANCE_BYTES // shard.d + 2))
    return bool((rows == rows[0]).all())


def _differ(
    folder: str, shard: Store, other: Store, found: str, expected: str
) -> InputError:
    return InputError(
        f"{folder}: {shard.name} and {other.name} differ",
        found=found,
        expected=f"{expected}, as in {other.name}",
        fix="keep shards of one encoder and layer in a folder of their own",
    )
