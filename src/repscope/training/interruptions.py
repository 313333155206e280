"""How does a run end well when it is told to stop?

The first signal is only noted: the step is finished and a checkpoint written. Then the
signal is delivered again to whoever handled it before, so that the process ends as if
training had not been there to catch it. A second signal acts at once.
"""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

# Batch systems announce with SIGUSR1 that SIGTERM is to come; Windows has none.
_NAMES = ("SIGINT", "SIGTERM", "SIGUSR1")
_SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
_ANNOUNCING = tuple(one for one in _SIGNALS if signal.Signals(one).name == "SIGUSR1")


class Interruptions:
    """Notes signals while a ``with`` block runs, and delivers them after it.

    They are noted from `hold` on. Before, there is no step to finish: SIGINT and
    SIGTERM act as they did outside, and SIGUSR1 as SIGTERM, at once.

    Only the main thread can: in others, signals act as they did before.
    """

    def __init__(self) -> None:
        self._received: int | None = None
        self._before: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether a signal asks the run to end."""
        return self._received is not None

    @property
    def name(self) -> str:
        """The signal's name; "" where none came."""
        return "" if self._received is None else signal.Signals(self._received).name

    def __enter__(self) -> "Interruptions":
        self._handle(_ANNOUNCING, self._act)
        return self

    def hold(self) -> None:
        """Note the first signal from now on."""
        self._handle(_SIGNALS, self._note)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    def deliver(self) -> None:
        """Let the signal that came act now; call it when all is saved and closed.

        Raises:
            KeyboardInterrupt: for SIGINT, where Python's own handler is in place.
        """
        if self._received is None:
            return
        usual = signal.SIGINT if self._received == signal.SIGINT else signal.SIGTERM
        signal.raise_signal(usual)

    def _handle(self, numbers: tuple[int, ...], handler: Any) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in numbers:
            # what is ignored, as in a job in the background, stays so
            if signal.getsignal(number) is not signal.SIG_IGN:
                before = signal.signal(number, handler)
                self._before.setdefault(number, before)

    def _act(self, number: int, frame: FrameType | None) -> None:
        signal.raise_signal(signal.SIGTERM)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received = number
        self._restore()  # a second one acts at once

    def _restore(self) -> None:
        for number, handler in self._before.items():
            # None: the handler was not set from Python and cannot be put back
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}
