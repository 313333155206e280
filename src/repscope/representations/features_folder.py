"""Shards of features on their way to a folder, one at a time, whole or not at all."""

import contextlib
import dataclasses
import hashlib
import io
import logging
import os
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, Shaped, UInt8

from repscope._checking import InputError, RepscopeError, ResourceError, UsageError
from repscope._environment import free_disk_bytes
from repscope.data.reading import Failure
from repscope.files.file_access import damaged, reading
from repscope.files.folder_lock import LOCK_NAME, FolderLock
from repscope.files.saving import resource_error, write_together
from repscope.records import from_json, to_json
from repscope.representations.features_manifest import (
    MANIFEST,
    THUMBNAIL,
    Manifest,
    Plan,
    Shard,
    check_same,
    difference,
    read_manifest,
    shard_path,
)

FAILURES = "failures.jsonl"

_log = logging.getLogger("repscope")

_SHARD = re.compile(r"\d{5,}-of-\d{5,}\.npz")
_STRAY = re.compile(r"\.(\d+-of-\d+\.npz|features\.json|failures\.jsonl)\.\w+\.tmp")


@dataclass(frozen=True, eq=False)
class Piece:
    """What one shard holds, still in memory.

    Args:
        index: number of the shard.
        image_rows: rows of the image set, ascending; unreadable ones left out.
        features: layer -> features.
        thumbnails: small pictures, or None.
        failures: the images of this shard that could not be read.
    """

    index: int
    image_rows: Int[np.ndarray, " m"]
    features: Mapping[str, Float[np.ndarray, "m d"]]
    thumbnails: UInt8[np.ndarray, "m h w 3"] | None
    failures: tuple[Failure, ...] = ()


@contextlib.contextmanager
def writing_into(folder: Path) -> Iterator[None]:
    """Hold a folder for this process; it is made where it does not exist.

    A file in its place, or a folder that may not be written, is held by nobody: what is
    done with it later says so, and finished features need no writing.

    Raises:
        UsageError: where another process holds it, naming that.
        ResourceError: where it cannot be made.
    """
    try:
        if not folder.exists():
            folder.mkdir(parents=True, exist_ok=True)
        is_writable = folder.is_dir() and os.access(folder, os.W_OK)
    except OSError as error:
        raise resource_error(folder, error) from error
    lock = FolderLock(folder) if is_writable else None
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def prepare_folder(
    folder: Path, plan: Plan, *, overwrite: bool, resume: bool
) -> Manifest | None:
    """Return the manifest to go on from, or None where the folder is ready for a first.

    Args:
        folder: where features will be written.
        plan: what decides them.
        overwrite: remove features that lie there, unless they are of the same plan and
            unfinished.
        resume: go on with features of the same plan; shards whose bytes are not as
            written are left out of the manifest, to be computed again.

    Raises:
        UsageError: where the folder is a file, holds other features or other things.
        InputError: where the manifest in it is damaged.
        ResourceError: where it may not be read or changed.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(
            f"the output {folder} is a file",
            expected="a new or empty folder",
            fix="name another folder with -o",
        )
    if not folder.exists():
        return None
    try:
        return _prepared(folder, plan, overwrite=overwrite, resume=resume)
    except OSError as error:
        if isinstance(error, RepscopeError):
            raise
        raise resource_error(folder, error) from error


def _prepared(
    folder: Path, plan: Plan, *, overwrite: bool, resume: bool
) -> Manifest | None:
    names = [path.name for path in folder.iterdir() if path.name != LOCK_NAME]
    manifest = _same_manifest(folder, plan, names) if resume else None
    if manifest is not None and not (overwrite and manifest.finished):
        _remove_strays(folder, names)
        return dataclasses.replace(manifest, shards=verified_shards(folder, manifest))
    if MANIFEST in names and overwrite:
        # The manifest goes first: what remains is then claimed by nothing.
        shards = [name for name in names if _SHARD.fullmatch(name)]
        for name in (MANIFEST, FAILURES, *shards):
            (folder / name).unlink(missing_ok=True)
    elif MANIFEST in names and resume:
        check_same(folder, read_manifest(folder).plan, plan)
    elif not overwrite and not all(_STRAY.fullmatch(name) for name in names):
        raise UsageError(
            f"the output folder {folder} is not empty",
            fix="--overwrite writes features into it; -o names another folder",
        )
    _remove_strays(folder, names)
    return None


def check_space(folder: Path, manifest: Manifest) -> None:
    """Warn where the disk will not hold what is missing.

    Raises:
        ResourceError: where it will not even hold the next shard.
    """
    plan = manifest.plan
    sizes = [plan.row_bytes * len(plan.image_rows(k)) for k in manifest.missing]
    free = free_disk_bytes(folder)
    if sum(sizes) <= free:
        return
    found, need = f"{free / 1e6:,.1f} MB", f"{sum(sizes) / 1e6:,.1f} MB"
    if sizes[0] > free:
        raise ResourceError(
            f"{folder}: no space left on the disk for the features",
            found=f"{found} free",
            expected=f"about {need}, {sizes[0] / 1e6:,.1f} MB for the next shard",
            fix="free some space, or choose a folder on another disk with -o",
        )
    _log.warning("%s: %s are free, the features will need %s", folder, found, need)


def _same_manifest(folder: Path, plan: Plan, names: Sequence[str]) -> Manifest | None:
    """Return the manifest of a folder that holds features of the same plan."""
    if MANIFEST not in names:
        return None
    try:
        manifest = read_manifest(folder)
    except InputError:
        return None  # damaged: an error unless it may be overwritten
    return None if difference(manifest.plan, plan) else manifest


def _remove_strays(folder: Path, names: Sequence[str]) -> None:
    """Remove what a run that was killed while writing left behind."""
    for name in names:
        if _STRAY.fullmatch(name):
            (folder / name).unlink(missing_ok=True)


def verified_shards(folder: Path, manifest: Manifest) -> tuple[Shard, ...]:
    """Return the shards whose files and failures are there as they were written."""
    plan = manifest.plan
    failed = {one.row for one in _listed_failures(folder)}
    return tuple(
        shard
        for shard in manifest.shards
        if len(failed.intersection(plan.image_rows(shard.index))) == _lost(plan, shard)
        and _is_intact(shard_path(folder, plan, shard.index), shard)
    )


def _lost(plan: Plan, shard: Shard) -> int:
    return len(plan.image_rows(shard.index)) - shard.rows


def _is_intact(path: Path, shard: Shard) -> bool:
    if not path.is_file() or path.stat().st_size != shard.size:
        return False
    with reading(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == shard.sha256


def read_failures(folder: Path, manifest: Manifest) -> tuple[Failure, ...]:
    """Return the images of the complete shards that could not be read.

    Raises:
        InputError: where the list is damaged or does not fit the shards.
    """
    plan = manifest.plan
    listed = _listed_failures(folder)
    kept: list[Failure] = []
    for shard in manifest.shards:
        covered = plan.image_rows(shard.index)
        mine = [failure for failure in listed if failure.row in covered]
        if len(mine) != _lost(plan, shard):
            raise InputError(
                f"{folder.name}: {FAILURES} does not fit shard {shard.index}",
                found=f"{len(mine):,} unreadable images",
                expected=f"{_lost(plan, shard):,}",
                fix=f"copy {FAILURES} along with the shards, or embed again",
            )
        kept += mine
    return tuple(kept)


def _listed_failures(folder: Path) -> list[Failure]:
    path = folder / FAILURES
    if not path.is_file():
        return []
    with reading(path):
        lines = path.read_text("utf-8", "replace").splitlines()
    try:
        return [from_json(Failure, line) for line in lines]
    except InputError as error:
        raise damaged(f"{folder.name}: {FAILURES}", error.what) from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write a manifest without shards: what lies in the folder is ours from then on."""
    content = to_json(manifest, indent=1).encode()
    write_together(
        folder, {MANIFEST: lambda file: _write(file, content)}, need=len(content)
    )


def write_piece(
    folder: Path,
    manifest: Manifest,
    piece: Piece,
    columns: Mapping[str, Shaped[np.ndarray, " n"]],
    failures: Sequence[Failure],
) -> Manifest:
    """Write a shard and the manifest that knows it; return the manifest.

    Args:
        folder: made where it does not exist.
        manifest: as it was.
        piece: the shard.
        columns: ids, levels and attributes of all images.
        failures: of this and all earlier shards.

    Raises:
        ResourceError: where the disk is full or may not be written; earlier shards
            stay as they are.
    """
    content = _encoded(arrays_of(piece, columns))
    shard = Shard(
        index=piece.index,
        rows=len(piece.image_rows),
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        nonfinite=nonfinite_rows(piece.features),
    )
    shards = sorted((*manifest.shards, shard), key=lambda one: one.index)
    grown = dataclasses.replace(manifest, shards=tuple(shards))
    # The manifest is put in place last: what it names is there.
    write_together(
        folder,
        {
            manifest.plan.shard_name(piece.index): lambda file: _write(file, content),
            FAILURES: lambda file: _write(file, _failure_lines(failures)),
            MANIFEST: lambda file: _write(file, to_json(grown, indent=1).encode()),
        },
        need=len(content),
    )
    return grown


def write_failures(folder: Path, failures: Sequence[Failure]) -> None:
    """Write the list of unreadable images alone, for a run that ends because of it."""
    lines = _failure_lines(failures)
    write_together(
        folder, {FAILURES: lambda file: _write(file, lines)}, need=len(lines)
    )


def arrays_of(
    piece: Piece, columns: Mapping[str, Shaped[np.ndarray, " n"]]
) -> dict[str, np.ndarray]:
    """Return the arrays of a shard by name."""
    arrays: dict[str, np.ndarray] = dict(piece.features)
    arrays |= {name: values[piece.image_rows] for name, values in columns.items()}
    if piece.thumbnails is not None:
        arrays[THUMBNAIL] = piece.thumbnails
    return arrays


def nonfinite_rows(features: Mapping[str, Float[np.ndarray, "m _"]]) -> dict[str, int]:
    """Return layer -> rows with NaN or infinity, for the layers that have some."""
    counts = {
        name: int((~np.isfinite(values).all(axis=1)).sum())
        for name, values in features.items()
    }
    return {name: count for name, count in counts.items() if count}


def _encoded(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return an .npz archive; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            # not np.savez: it would pickle what is no array of plain values
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(
                    member, np.ascontiguousarray(array), allow_pickle=False
                )
    return buffer.getvalue()


def _write(file: io.BufferedIOBase, content: bytes) -> None:
    file.write(content)


def _failure_lines(failures: Sequence[Failure]) -> bytes:
    return "".join(to_json(failure) + "\n" for failure in failures).encode()
