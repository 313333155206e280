"""What `train` and `reproduce` do."""

import logging
import shlex
from dataclasses import dataclass
from pathlib import Path

from repscope import _progress, _terminal
from repscope._checking import (
    EXIT_GATE,
    EXIT_OK,
    InputError,
    RepscopeError,
    UsageError,
    check_choice,
)
from repscope._command_line import check_folder, check_not_inside
from repscope.data.imageset import ImageSet
from repscope.data.sources import open_images
from repscope.experiments.catalogue import EXPERIMENTS
from repscope.experiments.experiment import Experiment
from repscope.experiments.reproduce import reproduce
from repscope.records import to_json
from repscope.training.engine import train
from repscope.training.preparation import prepare
from repscope.training.recipe import Recipe, override
from repscope.training.run_folder import recipe_of_run

_log = logging.getLogger("repscope")


@dataclass(frozen=True)
class Start:
    """Where a training starts, as typed.

    Args:
        recipe: a TOML file; None for the defaults.
        settings: such as ``training.epochs=3``.
        images: what to train on; None for what the recipe names.
        part: of the images.
        resume: a run folder to go on with.
        init_from: an encoder whose weights to start with.
    """

    recipe: Path | None = None
    settings: tuple[str, ...] = ()
    images: str | None = None
    part: str | None = None
    resume: Path | None = None
    init_from: str | None = None

    def recipe_of_run(self) -> Recipe:
        """Return the recipe with what the command line sets in it.

        Raises:
            UsageError: for an unknown key, or a value that does not fit.
        """
        source = None if self.images is None else f"data.source={self.images}"
        part = None if self.part is None else f"data.split={self.part}"
        words = [word for word in (source, part, *self.settings) if word is not None]
        if self.resume is not None:
            return override(recipe_of_run(self.resume), words)
        recipe = Recipe() if self.recipe is None else Recipe.load(self.recipe)
        return override(recipe, words)


def train_encoder(
    start: Start,
    device: str,
    out: Path | None,
    overwrite: bool,
    quiet: bool,
    dry_run: bool,
) -> int:
    """Train an encoder, and say what to do with it.

    Args:
        start: where it starts.
        device: as typed.
        out: the run folder; not with `start.resume`.
        overwrite: replace a run in it.
        quiet: say nothing.
        dry_run: print the recipe with every default, write nothing.

    Returns:
        The exit code 0.

    Raises:
        UsageError: for a recipe that does not fit, or a folder in use.
        InputError: for images that cannot be used.
        TrainingDiverged: where the loss was no number, step after step.
    """
    if start.resume is not None and out is not None and out != start.resume:
        raise UsageError("--resume goes on in the run's own folder", fix="leave -o out")
    run = start.resume or out or Path("repscope-run")
    recipe = start.recipe_of_run()
    check_not_inside(run, recipe.data.source)
    images = _images_of(start, recipe)
    if dry_run:
        _terminal.show(_planned(recipe, images))
        return EXIT_OK
    try:
        _train(start, recipe, images, run, device, overwrite=overwrite, quiet=quiet)
    except BaseException as error:
        if not isinstance(error, Exception):  # a signal, after the step was saved
            error.add_note(shlex.join(["repscope", "train", "--resume", str(run)]))
        raise
    if not quiet:
        words = shlex.join(["repscope", "diagnose", str(run), recipe.data.source])
        _terminal.show(f"encoder: {run / 'encoder.safetensors'}")
        _terminal.note(f"next: {words} --reference untrained")
    return EXIT_OK


def _train(
    start: Start,
    recipe: Recipe,
    images: ImageSet,
    run: Path,
    device: str,
    *,
    overwrite: bool,
    quiet: bool,
) -> None:
    with (
        _terminal.progress(quiet=quiet),
        _progress.counted("training", "images", quiet=quiet) as counter,
    ):
        shown = _progress.TrainingProgress(counter, recipe.training.batch_size)
        train(
            recipe,
            images,
            run,
            resume=start.resume is not None,
            init_from=start.init_from,
            overwrite=overwrite,
            device=device,
            progress=shown,
        )


def _images_of(start: Start, recipe: Recipe) -> ImageSet:
    """Return the images that the command or the recipe names."""
    source = recipe.data.source
    if not source:
        raise UsageError("no images to train on", fix="--images FOLDER, or digits")
    try:
        return open_images(source, split=recipe.data.split or None)
    except RepscopeError as error:
        if start.images is not None or Path(source).exists():
            raise
        raise InputError(
            f"the images of the recipe are not there: {source}",
            fix="--images says where they are now",
        ) from error


def _planned(recipe: Recipe, images: ImageSet) -> str:
    """Return the recipe with all that it leaves open, and what its views are."""
    ready = prepare(recipe, images)
    views = "\n".join(f"# {line}" for line in ready.protocol.describe().splitlines())
    count = f"# {ready.images.n:,} images of {ready.images.name}"
    return f"{count}\n{views}\n\n{ready.recipe.dump()}".rstrip()


def reproduce_experiment(
    experiment: str, out: Path | None, overwrite: bool, as_json: bool, quiet: bool
) -> int:
    """List the experiments, or run one and hold it against what was published.

    Args:
        experiment: "ls", or an id.
        out: the result folder; named after the experiment by default.
        overwrite: replace results in it.
        as_json: print JSON.
        quiet: print the outcome alone.

    Returns:
        The exit code: 0, or 1 where the claim did not hold.

    Raises:
        UsageError: for an unknown experiment, or a folder in use.
    """
    known = {one.id: one for one in EXPERIMENTS}
    if experiment == "ls":
        entries = {name: _facts(one) for name, one in known.items()}
        _terminal.show_entries(entries, as_json=as_json)
        return EXIT_OK
    check_choice("experiment", experiment, known)
    folder = out or Path(f"{experiment.lower()}-results")
    check_folder(folder, overwrite=overwrite)
    silent = quiet or as_json
    recipe = next(iter(known[experiment].recipes.values()))
    with (
        _terminal.progress(quiet=silent),
        _progress.counted("training", "images", quiet=silent) as counter,
    ):
        shown = _progress.TrainingProgress(counter, recipe.training.batch_size)
        outcome = reproduce(experiment, folder, overwrite=overwrite, progress=shown)
    if as_json:
        _terminal.show(to_json(outcome, indent=2))
    else:
        _terminal.show(outcome.status if quiet else outcome.text())
    return EXIT_GATE if outcome.status == "fail" else EXIT_OK


def _facts(experiment: Experiment) -> dict[str, str]:
    return {
        "title": experiment.title,
        "claim": experiment.claim,
        "source": experiment.source,
        "cost": experiment.cost,
        "kind": experiment.kind,
    }
