"""Where can a run go on after whatever happened to it?

A checkpoint holds tensors and plain values only. It is written whole or not at all,
read back once, and listed with its checksum in a manifest; the one before it stays, so
that a damaged file costs some steps and never the run. The order is that of the step
numbers: clocks and file times play no part.
"""

import hashlib
import io
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from repscope._checking import InputError, RepscopeError, ResourceError
from repscope.files.file_access import READ_BYTES, open_unchanged, reading, stamp_of
from repscope.files.saving import Writer, resource_error, write_together
from repscope.files.torch_archive import check_sums, load_archive
from repscope.records import from_json, to_json

MANIFEST_NAME = "manifest.json"
KEEP = 2

State = Mapping[str, Any]

_STEP_NAME = re.compile(r"step_(\d{8,})\.pt")
# What `write_together` leaves behind where the process was killed while writing.
_STRAY_NAME = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")
_PLAIN = (torch.Tensor, int, float, bool, str, type(None))

_log = logging.getLogger("repscope")


@dataclass(frozen=True)
class Entry:
    """One checkpoint of the manifest.

    Args:
        step: how many steps are done.
        sha256: checksum of the file.
        n_bytes: its size.
    """

    step: int
    sha256: str
    n_bytes: int


@dataclass(frozen=True)
class Manifest:
    """Which checkpoints there are.

    Args:
        checkpoints: by rising step.
        schema_version: of this file.
    """

    checkpoints: tuple[Entry, ...]
    schema_version: str = "1.0"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read and found whole.

    Args:
        step: how many steps were done.
        state: the state tree that was saved.
    """

    step: int
    state: State


def checkpoint_name(step: int) -> str:
    """Return the file name of a step's checkpoint."""
    return f"step_{step:08d}.pt"


def save_checkpoint(folder: Path, state: State, step: int, *, keep: int = KEEP) -> Path:
    """Write the checkpoint of a step, and remove those that are no longer kept.

    Args:
        folder: of the run's checkpoints; made where it does not exist.
        state: nested mappings and sequences of tensors and plain values.
        step: how many steps are done. Checkpoints of later steps are removed: they
            belong to a past that did not happen.
        keep: how many to keep, this one included.

    Returns:
        The file.

    Raises:
        ResourceError: where it cannot be written, or reads back otherwise. Earlier
            checkpoints are as they were.
    """
    _assert_plain(state)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getbuffer()
    new = Entry(step, hashlib.sha256(content).hexdigest(), len(content))
    earlier = [entry for entry in _entries_or_none(folder) if entry.step < step]
    kept = [*earlier[max(0, len(earlier) + 1 - keep) :], new]
    manifest = to_json(Manifest(tuple(kept)), indent=2).encode()
    path = folder / checkpoint_name(step)
    # The manifest is put into place last: what it lists is there.
    files = {path.name: _writer(content), MANIFEST_NAME: _writer(manifest)}
    write_together(folder, files, need=len(content))
    try:
        if _checksum(path) != new.sha256:
            raise ResourceError(
                f"{path}: reads back otherwise than it was written",
                fix="check the disk, or choose a folder on another one with -o",
            )
        _remove_all_but(folder, {entry.step for entry in kept})
    except OSError as error:
        if isinstance(error, RepscopeError):
            raise
        raise resource_error(path, error) from error
    return path


def load_latest(folder: Path) -> Checkpoint:
    """Return the latest checkpoint that is whole.

    Checksums are compared first; a damaged checkpoint is reported in the log and the
    one before it is taken.

    Args:
        folder: of the run's checkpoints.

    Raises:
        InputError: where there is none, or none is whole.
    """
    try:
        entries = read_manifest(folder).checkpoints
    except InputError as error:
        _log.warning("%s", error.what)
        entries = _entries_without_manifest(folder)
    faults = []
    for entry in sorted(entries, key=lambda one: one.step, reverse=True):
        try:
            state = _load(folder, entry)
        except InputError as error:
            faults.append(error.what)
            _log.warning("%s; taking the checkpoint before it", error.what)
            continue
        return Checkpoint(entry.step, state)
    raise InputError(
        f"{folder}: no checkpoint to go on from",
        found="; ".join(faults) or "none was written",
        fix="start the run again with --overwrite (overwrite=True in Python)",
    )


def load_step(folder: Path, step: int) -> Checkpoint:
    """Return the checkpoint of one step.

    Args:
        folder: of the run's checkpoints.
        step: how many steps were done.

    Raises:
        InputError: where there is none of that step, or it is damaged.
    """
    listed = {entry.step: entry for entry in _entries_or_none(folder)}
    return Checkpoint(step, _load(folder, listed.get(step, Entry(step, "", 0))))


def step_of(name: str) -> int | None:
    """Return the step of a checkpoint's file name; None for other names."""
    match = _STEP_NAME.fullmatch(name)
    return None if match is None else int(match[1])


def read_manifest(folder: Path) -> Manifest:
    """Return which checkpoints a folder holds.

    Raises:
        InputError: where the manifest is missing or damaged.
    """
    path = folder / MANIFEST_NAME
    with reading(path):
        content = path.read_bytes()
    try:
        return from_json(Manifest, content.decode("utf-8"))
    except (InputError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: damaged ({error})") from error


def remove_strays(folder: Path) -> None:
    """Remove what a process that was killed while writing has left in a folder."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if _STRAY_NAME.fullmatch(path.name):
            path.unlink(missing_ok=True)


def _load(folder: Path, entry: Entry) -> State:
    path = folder / checkpoint_name(entry.step)
    stamp = stamp_of(path)
    if not entry.sha256:
        check_sums(path, stamp)
    elif stamp.size != entry.n_bytes or _checksum(path) != entry.sha256:
        raise InputError(f"{path}: damaged (its checksum is not that of the manifest)")
    state = load_archive(path, stamp, _refused)
    if not isinstance(state, Mapping):
        raise _refused(path.name, 0)
    return state


def _refused(name: str, n_tensors: int) -> InputError:
    return InputError(
        f"{name}: no checkpoint of repscope ({n_tensors} tensors, and other objects)"
    )


def _checksum(path: Path) -> str:
    digest = hashlib.sha256()
    with open_unchanged(path, stamp_of(path)) as file:
        while block := file.read(READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _entries_or_none(folder: Path) -> tuple[Entry, ...]:
    try:
        return read_manifest(folder).checkpoints
    except InputError:
        return ()


def _entries_without_manifest(folder: Path) -> tuple[Entry, ...]:
    """Return the checkpoints found by name; the archive has sums of its own."""
    return tuple(Entry(step, "", 0) for step in _steps_in(folder))


def _steps_in(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    steps = (step_of(path.name) for path in folder.iterdir())
    return [step for step in steps if step is not None]


def _remove_all_but(folder: Path, kept: set[int]) -> None:
    for step in _steps_in(folder):
        if step not in kept:
            (folder / checkpoint_name(step)).unlink(missing_ok=True)


def _writer(content: bytes | memoryview) -> Writer:
    def write(file: io.BufferedIOBase) -> None:
        file.write(content)

    return write


def _assert_plain(state: Any) -> None:
    """Stop where the state holds what could not be loaded again."""
    if isinstance(state, Mapping):
        for key, value in state.items():
            assert isinstance(key, str | int), key
            _assert_plain(value)
    elif isinstance(state, list | tuple):
        for value in state:
            _assert_plain(value)
    else:
        assert isinstance(state, _PLAIN), type(state)
