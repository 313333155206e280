"""The verb reproduce: run an experiment and hold what comes out against the paper."""

import datetime
import time
from pathlib import Path

from repscope import _environment
from repscope._checking import UsageError, check_choice
from repscope.data.sources import open_images
from repscope.experiments.catalogue import EXPERIMENTS
from repscope.experiments.experiment import Experiment, Workplace
from repscope.experiments.outcome import Outcome, outcome_of
from repscope.files.saving import resource_error
from repscope.records import Provenance
from repscope.training.beginning import device_of
from repscope.training.progress import Progress

RUNS_NAME = "runs"


def reproduce(
    id: str,
    out: str | Path | None = None,
    *,
    overwrite: bool = False,
    device: str = "auto",
    progress: Progress | None = None,
) -> Outcome:
    """Return what comes out of an experiment, beside what was expected and published.

    Args:
        id: of an experiment, such as "S1-3".
        out: a folder for ``results.json`` and, under ``runs``, each training; None
            keeps nothing.
        overwrite: whether earlier results in the folder may be replaced.
        device: "auto" is "cuda" where there is one, and "cpu" otherwise.
        progress: is told of each training.

    Raises:
        UsageError: for an unknown experiment, or a folder that holds something.
        ResourceError: where disk or memory do not suffice.
        TrainingDiverged: where a training does.

    Example:
        >>> reproduce("S1-3", "s1-3").status  # doctest: +SKIP
        'pass'
    """
    known = {one.id: one for one in EXPERIMENTS}
    check_choice("experiment", id, known)
    experiment = known[id]
    folder = None if out is None else _free_folder(Path(out), overwrite=overwrite)
    runs = None if folder is None else folder / RUNS_NAME
    place = Workplace(runs, device=str(device_of(device)), progress=progress)
    now, began = datetime.datetime.now(datetime.UTC), time.perf_counter()
    observed = experiment.measure(experiment.recipes, place)
    provenance = Provenance(
        command=f"repscope reproduce {id}",
        created=now.isoformat(timespec="seconds"),
        seconds=round(time.perf_counter() - began, 2),
        seed=next(iter(experiment.recipes.values())).training.seed,
        inputs=_inputs(experiment),
        versions=_environment.versions(),
        machine=_environment.machine() | {"device": place.device},
    )
    outcome = outcome_of(experiment, observed, provenance)
    if folder is not None:
        outcome.save(folder)
    return outcome


def _inputs(experiment: Experiment) -> dict[str, str]:
    """Return the fingerprints of all recipes, and of all images they name."""
    found = {}
    for name, recipe in experiment.recipes.items():
        data = recipe.data
        found[f"recipe {name}"] = recipe.fingerprint
        key = f"images {data.source} {data.split}".rstrip()
        if key not in found:
            images = open_images(data.source, split=data.split or None)
            found[key] = images.fingerprint
    return found


def _free_folder(folder: Path, *, overwrite: bool) -> Path:
    """Return a folder that may be written into.

    Raises:
        UsageError: where it is a file, or holds something and must not be overwritten.
    """
    try:
        if folder.exists() and not folder.is_dir():
            raise UsageError(
                f"{folder} is a file, not a folder", fix="choose a folder with -o"
            )
        if not overwrite and folder.is_dir() and any(folder.iterdir()):
            raise UsageError(
                f"{folder} exists and is not empty",
                fix="--overwrite (in Python overwrite=True), or choose another folder "
                "with -o",
            )
    except OSError as error:
        raise resource_error(folder, error) from error
    return folder
