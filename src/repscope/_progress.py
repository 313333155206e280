"""How far is it? A bar with rate and time left on a terminal, a line now and then else.

Everything goes to standard error; a run that is piped into a file says as much, without
the bar's redrawing.
"""

import contextlib
import time
from collections.abc import Iterator, Mapping

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from repscope import _terminal

# Seconds between two lines where there is no terminal.
LINE_SECONDS = 30.0
_ONE_STEP = 1e-9


@contextlib.contextmanager
def counted(what: str, unit: str, *, quiet: bool) -> Iterator["Counter | None"]:
    """Show how many of a known number are done while the block runs.

    Args:
        what: is going on.
        unit: of what is counted, such as "images".
        quiet: show nothing, and give None.
    """
    if quiet:
        yield None
        return
    counter = Counter(what, unit)
    try:
        yield counter
    finally:
        counter.finish()


class Counter:
    """Shows counts as they grow; made by `counted`.

    Args:
        what: is going on.
        unit: of what is counted.
    """

    def __init__(self, what: str, unit: str) -> None:
        self.what, self.unit = what, unit
        self._began, self._first, self._said = time.monotonic(), 0, time.monotonic()
        console = Console(stderr=True)
        self._bar = _Bar(console, what) if console.is_terminal else None

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Show that `done` of `total` are done."""
        show = self._line if self._bar is None else self._bar
        show(done, total, f"{self.rate(done):,.0f} {self.unit}/s {note}".strip())

    def begin(self, done: int) -> None:
        """Begin anew, with some done before."""
        self._began, self._first = time.monotonic(), done

    def rate(self, done: int) -> float:
        """Return units per second since the beginning."""
        return (done - self._first) / max(time.monotonic() - self._began, _ONE_STEP)

    def finish(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.progress.stop()

    def _line(self, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        if now - self._said < LINE_SECONDS and done < total:
            return
        self._said = now
        left = (total - done) / max(self.rate(done), _ONE_STEP)
        rest = f", {left:,.0f} s left" if done < total else ""
        _terminal.note(f"{self.what}: {done:,} of {total:,} ({note}{rest})")


class _Bar:
    def __init__(self, console: Console, what: str) -> None:
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self.task: TaskID = self.progress.add_task(what, total=None, note="")
        self.progress.start()

    def __call__(self, done: int, total: int, note: str) -> None:
        self.progress.update(self.task, completed=done, total=total, note=note)


class TrainingProgress:
    """Shows a training run: steps, images per second, time left and the loss.

    Args:
        counter: where it is shown; None shows nothing.
        images_per_step: the batch size, for the rate.
    """

    def __init__(self, counter: Counter | None, images_per_step: int) -> None:
        self._counter, self._per_step, self._total = counter, images_per_step, 0

    def start(self, total_steps: int, first_step: int) -> None:
        """Training begins, with `first_step` steps done before."""
        self._total = total_steps * self._per_step
        if self._counter is not None:
            self._counter.begin(first_step * self._per_step)

    def advance(self, step: int, losses: Mapping[str, float | None]) -> None:
        """A step is done."""
        if self._counter is not None:
            total = losses.get("total")
            loss = "skipped" if total is None else f"loss {total:.3f}"
            self._counter(step * self._per_step, self._total, loss)

    def finish(self) -> None:
        """Training has ended."""
