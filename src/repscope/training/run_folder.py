"""Where does a training run leave what it did?

One folder per run: its recipe, its surroundings, one line per step, its checkpoints and
the encoder. One process writes into it at a time; nothing in it is overwritten unless
asked; what a killed process left behind is put in order when the run goes on.

======================  ==============================================================
recipe.toml             the whole recipe; `train` with it and the images does it again
env.json                versions, machine, images and sessions with their times
metrics.jsonl           one row per step; the same bytes whenever and wherever (on the
                        CPU) the run is done again, interrupted or not
watch.jsonl             one row per look of a watch, as repeatable as metrics.jsonl
timing.jsonl            images per second of each step: what no two runs share
failures.jsonl          pictures that could not be read, steps that were skipped
failures/step_NNN.json  the images of a batch whose loss was no number
log.txt                 what was said, and tracebacks
checkpoints/            the last checkpoints and their manifest
encoder.safetensors     the encoder, and README.md, its card
======================  ==============================================================
"""

import datetime
import io
import logging
import shutil
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from repscope import _environment
from repscope._checking import InputError, UsageError
from repscope.files.file_access import reading
from repscope.files.folder_lock import LOCK_NAME, FolderLock, check_not_locked
from repscope.files.saving import Writer, resource_error, write_together
from repscope.records import from_json, to_json
from repscope.training import checkpoint
from repscope.training.json_lines import JsonLines
from repscope.training.recipe import Recipe

RECIPE_NAME = "recipe.toml"
ENVIRONMENT_NAME = "env.json"
METRICS_NAME = "metrics.jsonl"
WATCH_NAME = "watch.jsonl"
WATCHING_NAME = "watching.json"
TIMING_NAME = "timing.jsonl"
FAILURES_NAME = "failures.jsonl"
LOG_NAME = "log.txt"
ENCODER_NAME = "encoder.safetensors"
CARD_NAME = "README.md"
CHECKPOINTS_NAME = "checkpoints"
BATCHES_NAME = "failures"
_FILES = (
    *(RECIPE_NAME, ENVIRONMENT_NAME, METRICS_NAME, TIMING_NAME, FAILURES_NAME),
    *(WATCH_NAME, WATCHING_NAME, LOG_NAME, ENCODER_NAME, CARD_NAME),
)
# What only a run has; a folder without any of them is somebody else's.
_MARKS = (RECIPE_NAME, METRICS_NAME, CHECKPOINTS_NAME)
# What a run that was killed before its first step leaves behind: nothing worth keeping.
_BEGINNING = {LOCK_NAME, LOG_NAME, ENVIRONMENT_NAME, FAILURES_NAME, CHECKPOINTS_NAME}

_log = logging.getLogger("repscope")


@dataclass(frozen=True)
class Session:
    """One process's share of a run.

    Args:
        started: ISO 8601.
        first_step: steps done before.
        device: such as "cpu".
        threads: of torch; another number may change the last bits.
        versions: of Python and packages.
        machine: what the speed depends on.
        ended: ISO 8601; None while it runs, or where it was killed.
        last_step: steps done at its end.
        seconds: from start to end.
        outcome: "finished", or why it ended.
        n_ranks: how many processes shared each batch.
    """

    started: str
    first_step: int
    device: str
    threads: int
    versions: Mapping[str, str]
    machine: Mapping[str, str]
    ended: str | None = None
    last_step: int | None = None
    seconds: float | None = None
    outcome: str | None = None
    n_ranks: int = 1

    @classmethod
    def begun(
        cls, first_step: int, device: str, threads: int, n_ranks: int = 1
    ) -> "Session":
        """Return the session that begins now, in this process."""
        return cls(
            started=_now(),
            first_step=first_step,
            device=device,
            threads=threads,
            n_ranks=n_ranks,
            versions=_environment.versions(),
            machine=_environment.machine(),
        )


@dataclass(frozen=True)
class Surroundings:
    """What a run depended on beside its recipe; the content of ``env.json``.

    Args:
        images: name of the image set.
        n: how many images.
        fingerprint: of the images as they were trained on.
        init_from: where the first weights came from; "" for random ones.
        sessions: one for each process that worked on the run.
        schema_version: of this file.
    """

    images: str
    n: int
    fingerprint: str
    init_from: str = ""
    sessions: tuple[Session, ...] = ()
    schema_version: str = "1.0"


class RunFolder:
    """The folder of one run, locked for this process until the ``with`` block ends.

    Args:
        path: the folder.
        resume: whether a run in it goes on.
        overwrite: whether a run in it may be removed, by `clear`.

    Raises:
        UsageError: where the folder is in use, or is not empty and neither `resume`
            nor `overwrite` is set, or `overwrite` is set and it holds no run.
        InputError: where there is nothing to resume.
        ResourceError: where it cannot be written.
    """

    def __init__(self, path: str | Path, *, resume: bool, overwrite: bool) -> None:
        self.path = Path(path)
        if not resume:
            _check_free(self.path, overwrite=overwrite)
        else:
            _check_resumable(self.path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise resource_error(self.path, error) from error
        self._log_file = _LogFile(self.path / LOG_NAME)
        self._level_before = _log.level
        _attach(self._log_file)
        try:
            self._lock = FolderLock(self.path)
        except BaseException:
            self._detach()
            raise
        self._lines = {
            name: JsonLines(self.path / name)
            for name in (METRICS_NAME, WATCH_NAME, TIMING_NAME, FAILURES_NAME)
        }
        self._remove_strays()

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if isinstance(error, Exception):
                self._log_file.write("".join(traceback.format_exception(error)))
            for lines in self._lines.values():
                lines.close()
        finally:
            self._detach()
            self._lock.release()

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / CHECKPOINTS_NAME

    @property
    def encoder(self) -> Path:
        """The file of the encoder."""
        return self.path / ENCODER_NAME

    @property
    def surroundings(self) -> Surroundings:
        """What the run depends on beside its recipe.

        Raises:
            InputError: where ``env.json`` is missing or damaged.
        """
        return read_surroundings(self.path)

    def clear(self) -> None:
        """Remove an earlier run; files of other names stay.

        Raises:
            ResourceError: where they cannot be removed.
        """
        try:
            for name in _FILES:
                (self.path / name).unlink(missing_ok=True)
            for name in (CHECKPOINTS_NAME, BATCHES_NAME):
                if (self.path / name).is_dir():
                    shutil.rmtree(self.path / name)
        except OSError as error:
            raise resource_error(self.path, error) from error

    def write_recipe(self, recipe: Recipe) -> None:
        """Write ``recipe.toml``."""
        self._write(RECIPE_NAME, recipe.dump())

    def begin(self, surroundings: Surroundings, session: Session) -> None:
        """Write ``env.json`` with a session that begins."""
        sessions = (*surroundings.sessions, session)
        self._write_surroundings(replace(surroundings, sessions=sessions))

    def end(self, last_step: int, seconds: float, outcome: str) -> None:
        """Write into ``env.json`` how the present session ended."""
        before = self.surroundings
        ended = replace(
            before.sessions[-1],
            ended=_now(),
            last_step=last_step,
            seconds=round(seconds, 3),
            outcome=outcome,
        )
        sessions = (*before.sessions[:-1], ended)
        self._write_surroundings(replace(before, sessions=sessions))

    def append(self, name: str, row: Mapping[str, Any]) -> None:
        """Append a row to one of the files of rows."""
        self._lines[name].append(row)

    def keep_until(self, step: int) -> None:
        """Cut the files of rows back to a checkpoint."""
        for lines in self._lines.values():
            lines.keep_until(step)

    def sync(self) -> None:
        """Wait until all rows that a checkpoint counts on are on the device."""
        for name in (METRICS_NAME, FAILURES_NAME):
            self._lines[name].sync()

    def write_batch(self, step: int, content: str) -> Path:
        """Write what is known of a batch that went wrong."""
        folder = self.path / BATCHES_NAME
        name = f"step_{step:03d}.json"
        write_together(folder, {name: _writer(content)}, len(content))
        return folder / name

    def _write(self, name: str, content: str) -> None:
        write_together(self.path, {name: _writer(content)}, len(content))

    def _write_surroundings(self, surroundings: Surroundings) -> None:
        self._write(ENVIRONMENT_NAME, to_json(surroundings, indent=2) + "\n")

    def _remove_strays(self) -> None:
        try:
            for folder in (self.path, self.checkpoints):
                checkpoint.remove_strays(folder)
        except OSError as error:
            self._detach()
            self._lock.release()
            raise resource_error(self.path, error) from error

    def _detach(self) -> None:
        _log.removeHandler(self._log_file)
        _log.setLevel(self._level_before)


def recipe_of_run(folder: str | Path) -> Recipe:
    """Return the recipe of a run that is to go on.

    Args:
        folder: of the run.

    Raises:
        InputError: where there is nothing to resume.
        UsageError: where another process works on the run, or begins one there; or the
            recipe is damaged.
        ResourceError: where it may not be read.
    """
    path = Path(folder)
    _check_resumable(path)
    return Recipe.load(path / RECIPE_NAME)


def read_surroundings(folder: Path) -> Surroundings:
    """Return what the run in a folder depended on beside its recipe.

    Raises:
        InputError: where ``env.json`` is missing or damaged.
    """
    path = folder / ENVIRONMENT_NAME
    try:
        return from_json(Surroundings, path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, InputError) as error:
        raise InputError(
            f"{path}: missing or damaged ({error})", fix="start again with --overwrite"
        ) from error


class _LogFile(logging.Handler):
    """Lines of the log with their time; a full disk is told of by other writers."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        """Append one line."""
        self.write(f"{_now()} {record.levelname.lower()}: {record.getMessage()}\n")

    def write(self, text: str) -> None:
        """Append text as it is."""
        try:
            with self._path.open("a", encoding="utf-8", errors="replace") as file:
                file.write(text)
        except OSError:
            return


def _attach(handler: logging.Handler) -> None:
    _log.addHandler(handler)
    if not _log.isEnabledFor(logging.INFO):
        _log.setLevel(logging.INFO)


def _check_free(folder: Path, *, overwrite: bool) -> None:
    """Refuse a file, somebody else's folder, and a run unless told to overwrite."""
    try:
        if folder.exists() and not folder.is_dir():
            raise UsageError(
                f"{folder} is a file, not a folder", fix="choose a folder with -o"
            )
        present = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    except OSError as error:
        raise resource_error(folder, error) from error
    if present <= _BEGINNING:
        return
    is_run = any(name in present for name in _MARKS)
    if present and not overwrite:
        on = "--resume to go on (resume=True in Python), " if is_run else ""
        raise UsageError(
            f"{folder} exists and is not empty",
            fix=f"{on}--overwrite to replace a run in it (overwrite=True), or choose "
            "another folder with -o",
        )
    if present and not is_run:
        raise UsageError(
            f"{folder} holds files that are no run of repscope",
            found=", ".join(sorted(present)[:3]),
            fix="choose another folder with -o",
        )


def _check_resumable(folder: Path) -> None:
    """Refuse a folder in which no run is, or one that another process works on."""
    check_not_locked(folder)
    with reading(folder):
        is_run = (folder / RECIPE_NAME).is_file()
    if not is_run:
        raise _nothing_to_resume(folder)


def _nothing_to_resume(folder: Path) -> InputError:
    return InputError(
        f"{folder}: nothing to resume",
        found=f"no {RECIPE_NAME}" if folder.is_dir() else "no such folder",
        expected="the folder of a run",
        fix="pass the folder that was given with -o, or leave --resume out",
    )


def _writer(content: str) -> Writer:
    def write(file: io.BufferedIOBase) -> None:
        file.write(content.encode("utf-8"))

    return write


def _now() -> str:
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")
