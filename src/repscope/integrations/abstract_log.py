"""What must a tool that keeps curves offer? The same losses and looks, to whichever.

A log is an observer of the training, and takes in the looks of a watch. It only ever
writes: ``metrics.jsonl`` and ``watch.jsonl`` hold the same numbers without it.
"""

import abc
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from repscope._checking import UsageError
from repscope.diagnosis.look import Look
from repscope.training.snapshot import Snapshot

# The extra that brings the tools.
EXTRA = "track"


class AbstractLog(abc.ABC):
    """Losses of each step and numbers of each look, for a tool that draws them.

    Use it in a ``with`` block, which closes what it opened. In `train` it stands among
    the observers, and its `look` among those that a watch calls.

    Args:
        folder: where the tool writes; None for the run's folder.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self._folder = None if folder is None else Path(folder)
        self._is_open = False
        self._waiting: list[Look] = []

    def __call__(self, snapshot: Snapshot) -> None:
        """Write the losses of a step, and the looks that came before the first.

        Raises:
            UsageError: where there is no folder to write into.
        """
        if not self._is_open:
            self._open(self._place(snapshot), snapshot.step)
            self._is_open = True
        named = {f"training/{name}": one for name, one in snapshot.losses.items()}
        losses = {name: one for name, one in named.items() if one is not None}
        self._write(snapshot.step, losses)
        waiting, self._waiting = self._waiting, []
        for look in waiting:
            self.look(look)

    def look(self, look: Look) -> None:
        """Write the numbers of a look."""
        if not self._is_open:  # the watch was called first
            self._waiting.append(look)
            return
        found = {f"watch/{name}": value for name, value in look.scalars.items()}
        self._write(look.step, found)

    def __enter__(self) -> "AbstractLog":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._is_open:
            self._is_open = False
            self._close(failed=error is not None)

    def _place(self, snapshot: Snapshot) -> Path:
        place = self._folder or snapshot.folder
        if place is None:
            raise UsageError(
                f"{type(self).__name__}: there is no folder to write into",
                fix="give folder=, or train with run=",
            )
        return place

    @abc.abstractmethod
    def _open(self, place: Path, step: int) -> None:
        """Begin, or go on with what lies in a folder.

        Args:
            place: a folder that exists, or may be made.
            step: the first that will be written; earlier ones may be there.
        """

    @abc.abstractmethod
    def _write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Write numbers of a step, by path; a step may come twice, with others."""

    @abc.abstractmethod
    def _close(self, *, failed: bool) -> None:
        """Write what is held back."""
