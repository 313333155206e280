"""What a display of a running training must offer; the command line brings its own."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """Is told of a run as it goes on; the calls come in this order.

    It computes rate and remaining time itself, from when `advance` is called.
    """

    def start(self, total_steps: int, first_step: int) -> None:
        """Training begins.

        Args:
            total_steps: of the whole run.
            first_step: steps done before, in a run that is resumed.
        """

    def advance(self, step: int, losses: Mapping[str, float | None]) -> None:
        """A step is done.

        Args:
            step: how many are done.
            losses: name → value; None for what is no number.
        """

    def finish(self) -> None:
        """Training has ended, also by an error."""
