"""Losses and looks in Weights & Biases, which sends them to its servers."""

import io
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from repscope._checking import MissingExtraError
from repscope.files.saving import write_together
from repscope.integrations.abstract_log import EXTRA, AbstractLog
from repscope.training.run_folder import RECIPE_NAME

# Beside the records of a run: which run of theirs it is.
ID_NAME = "wandb.json"


@final
class WandbLog(AbstractLog):
    """Writes to one run of Weights & Biases; its id is kept in RUN/wandb.json.

    A run that goes on is found by that id (resume="must"); steps that are there already
    are not sent again. Account, project and offline mode are those of the environment
    (WANDB_PROJECT, WANDB_MODE=offline). The recipe is sent as the run's configuration,
    images are not.

    Args:
        folder: of the id and of what wandb writes; None for the run's folder.
        project: of Weights & Biases; None for that of the environment.

    Raises:
        MissingExtraError: where wandb is not installed.
    """

    def __init__(
        self, folder: str | Path | None = None, *, project: str | None = None
    ) -> None:
        super().__init__(folder)
        self._wandb, self._project = _wandb(), project
        self._run: Any = None
        self._first_step = 0

    def _open(self, place: Path, step: int) -> None:
        place.mkdir(parents=True, exist_ok=True)
        known = _known_id(place) if step > 1 else None
        self._run = self._wandb.init(
            project=self._project,
            name=place.resolve().name,
            id=known,
            resume=None if known is None else "must",
            dir=str(place),
            config=_recipe(place),
        )
        self._first_step = self._run.step  # that of the next row, in a run found again
        if known is None:
            _keep_id(place, self._run.id)

    def _write(self, step: int, numbers: Mapping[str, float]) -> None:
        if step >= self._first_step:
            self._run.log(dict(numbers), step=step)

    def _close(self, *, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


def _known_id(place: Path) -> str | None:
    """Return the id of the run that was begun in a folder; None where there is none."""
    try:
        return str(json.loads((place / ID_NAME).read_text(encoding="utf-8"))["id"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _keep_id(place: Path, run_id: str) -> None:
    content = json.dumps({"id": run_id}).encode("utf-8")

    def write(file: io.BufferedIOBase) -> None:
        file.write(content)

    write_together(place, {ID_NAME: write}, len(content))


def _recipe(place: Path) -> dict[str, Any]:
    path = place / RECIPE_NAME
    if not path.is_file():
        return {}
    return tomllib.loads(path.read_text(encoding="utf-8"))


def _wandb() -> Any:
    """Return the package.

    Raises:
        MissingExtraError: where it cannot be imported.
    """
    try:
        import wandb
    except ImportError as error:
        raise MissingExtraError("wandb is not installed", EXTRA) from error
    return wandb
