"""How far is it? A bar with rate and time left on a terminal, a line now and then else.

Everything goes to standard error; a run that is piped into a file says as much, without
the bar's redrawing. A training shows below its bar how loss and watched numbers go.
"""

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from repscope import _terminal
from repscope.report.sparkline import BLOCKS, History, blocks_for, sparkline
from repscope.report.wording import clean, rounded

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
        # while a bar is shown, another object stands for standard error
        self.blocks = blocks_for(getattr(sys.stderr, "encoding", None))
        console = Console(stderr=True)
        has_bar = console.is_terminal and not console.is_dumb_terminal
        self._bar = _Bar(console, what) if has_bar else None

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Show that `done` of `total` are done."""
        show = self._line if self._bar is None else self._bar
        show(done, total, f"{self.rate(done):,.0f} {self.unit}/s {note}".strip())

    @property
    def is_live(self) -> bool:
        """Whether there is a bar, below which lines can be shown."""
        return self._bar is not None

    def below(self, lines: Sequence[str]) -> None:
        """Show lines below the bar; nothing where there is none."""
        if self._bar is not None:
            self._bar.below(lines)

    def begin(self, done: int) -> None:
        """Begin anew, with some done before."""
        self._began, self._first = time.monotonic(), done

    def rate(self, done: int) -> float:
        """Return units per second since the beginning."""
        return (done - self._first) / max(time.monotonic() - self._began, _ONE_STEP)

    def finish(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()

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
        )
        self.task: TaskID = self.progress.add_task(what, total=None, note="")
        self._live = Live(self.progress, console=console, transient=True)
        self._live.start()

    def __call__(self, done: int, total: int, note: str) -> None:
        self.progress.update(self.task, completed=done, total=total, note=note)

    def below(self, lines: Sequence[str]) -> None:
        text = Text("\n".join(lines), no_wrap=True, overflow="ellipsis")
        self._live.update(Group(self.progress, text))

    def stop(self) -> None:
        self._live.stop()


# Of the loss, as far as an objective has them; and of a look, those shown meanwhile.
LOSSES = ("total", "invariance", "regularization")
LIVE = ("total", "effective_rank", "linear_accuracy")
# Of a look, those of the summary; accuracies have a level's name after them.
LOOKED = (
    *("alpha", "rankme", "effective_rank", "uniformity", "q_score_normalized"),
    *("ncc_accuracy", "cdnv", "linear_accuracy"),
)


class TrainingProgress:
    """Shows a training run: steps, images per second, time left and the loss.

    Args:
        counter: where it is shown; None shows nothing.
        images_per_step: the batch size, for the rate.
    """

    def __init__(self, counter: Counter | None, images_per_step: int) -> None:
        self._counter, self._per_step, self._total = counter, images_per_step, 0
        self._histories: dict[str, History] = {}
        self._blocks = BLOCKS if counter is None else counter.blocks

    def start(self, total_steps: int, first_step: int) -> None:
        """Training begins, with `first_step` steps done before."""
        self._total = total_steps * self._per_step
        self._histories = {}
        if self._counter is not None:
            self._counter.begin(first_step * self._per_step)

    def advance(self, step: int, losses: Mapping[str, float | None]) -> None:
        """A step is done."""
        for name in LOSSES:
            if name in losses:
                self._history(name).add(losses[name])
        if self._counter is not None:
            total = losses.get("total")
            loss = "skipped" if total is None else f"loss {total:.3f}"
            if self._counter.is_live:
                self._counter.below(self._lines(LIVE))
            self._counter(step * self._per_step, self._total, loss)

    def look(self, numbers: Mapping[str, float | None]) -> None:
        """A watch has looked.

        Args:
            numbers: name -> value; names may go on with a label level in brackets.
        """
        for name, value in numbers.items():
            if name.partition("[")[0] in LOOKED:
                self._history(name).add(value)

    def finish(self) -> None:
        """Training has ended."""

    @property
    def summary(self) -> str:
        """How loss and watched numbers went: first, last, and the way between."""
        lines = self._lines((*LOSSES, *LOOKED))
        head = f"{'':{self._width}}  {'first':>9} {'last':>9}"
        return "\n".join([head, *lines]) if lines else ""

    def _history(self, name: str) -> History:
        return self._histories.setdefault(name, History())

    @property
    def _width(self) -> int:
        return max(map(len, map(clean, self._histories)), default=0)

    def _lines(self, names: Sequence[str]) -> list[str]:
        """Return a line for each number that was seen, in the order of the names."""
        # the ends of the curve, which are means too where a run is long
        return [
            f"{clean(key):{self._width}}  {rounded(history.values[0]):>9} "
            f"{rounded(history.values[-1]):>9}  "
            f"{sparkline(history.values, self._blocks)}"
            for name in names
            for key, history in self._histories.items()
            if key.partition("[")[0] == name and any(history.values)
        ]
