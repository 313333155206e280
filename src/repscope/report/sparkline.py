"""How did a number go? A row of small blocks, from all of its history, on one line."""

import math
from collections.abc import Sequence
from typing import final

# Low to high.
BLOCKS, ASCII_BLOCKS = "▁▂▃▄▅▆▇█", "_.:-=+*#"
POINTS = 32


def blocks_for(encoding: str | None) -> str:
    """Return the characters that a stream can show.

    Args:
        encoding: of the stream; None where it has none.

    Example:
        >>> blocks_for("ascii")
        '_.:-=+*#'
    """
    try:
        BLOCKS.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII_BLOCKS
    return BLOCKS


def sparkline(values: Sequence[float], blocks: str = BLOCKS) -> str:
    """Return one character per value, the least the lowest, the greatest the highest.

    Equal values are all the lowest.

    Args:
        values: finite.
        blocks: characters, low to high.

    Example:
        >>> sparkline([0.0, 1.0, 2.0, 3.0], "_.:-=+*#")
        '_:+#'
    """
    low, high = min(values, default=0.0), max(values, default=0.0)
    span = high - low
    if not 0 < span < math.inf:
        return blocks[0] * len(values)
    last = len(blocks) - 1
    return "".join(blocks[round((one - low) / span * last)] for one in values)


@final
class History:
    """A number as it went on, in bounded memory: means of equal stretches.

    Args:
        points: the most that are given; twice as many are held.
    """

    def __init__(self, points: int = POINTS) -> None:
        self.first: float | None = None
        self.last: float | None = None
        self._points, self._stretch = points, 1
        self._means: list[float] = []
        self._sum, self._count = 0.0, 0  # of the stretch that is not full

    def add(self, value: float | None) -> None:
        """Add the next number; None, which is no number, is left out."""
        if value is None or not math.isfinite(value):
            return
        self.first = value if self.first is None else self.first
        self.last = value
        self._sum, self._count = self._sum + value, self._count + 1
        if self._count < self._stretch:
            return
        self._means.append(self._sum / self._count)
        self._sum, self._count = 0.0, 0
        if len(self._means) == 2 * self._points:
            self._means = _paired(self._means)
            self._stretch *= 2

    @property
    def values(self) -> list[float]:
        """At most `points` numbers, from the first to the last."""
        held = list(self._means)
        if self._count:
            held.append(self._sum / self._count)
        while len(held) > self._points:
            held = _paired(held)
        return held


def _paired(values: Sequence[float]) -> list[float]:
    """Return the mean of each two values; one that is left over stays."""
    return [_mean(values[start : start + 2]) for start in range(0, len(values), 2)]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
