"""Losses and looks in TensorBoard."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from repscope._checking import MissingExtraError
from repscope.integrations.abstract_log import EXTRA, AbstractLog

# Beside the records of a run.
FOLDER = "tensorboard"


@final
class TensorBoardLog(AbstractLog):
    """Writes event files into RUN/tensorboard; show them with ``tensorboard --logdir``.

    A run that goes on hides the steps that it does again (`purge_step`).

    Args:
        folder: where; None for the run's folder.

    Raises:
        MissingExtraError: where tensorboard is not installed.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        super().__init__(folder)
        self._new_writer = _summary_writer()
        self._writer: Any = None

    def _open(self, place: Path, step: int) -> None:
        self._writer = self._new_writer(log_dir=str(place / FOLDER), purge_step=step)

    def _write(self, step: int, numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def _close(self, *, failed: bool) -> None:
        self._writer.close()


def _summary_writer() -> Any:
    """Return torch's writer, a class.

    Raises:
        MissingExtraError: where it cannot be imported.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError("tensorboard is not installed", EXTRA) from error
    return SummaryWriter
