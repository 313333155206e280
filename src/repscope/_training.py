"""What `train` and `reproduce` do."""

import contextlib
import io
import logging
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
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
from repscope._command_line import Output, check_folder, check_not_inside
from repscope.data.imageset import ImageSet
from repscope.data.shortcuts import randbit
from repscope.data.sources import open_images
from repscope.diagnosis.watch import LIMIT, Watch, watch
from repscope.experiments.catalogue import EXPERIMENTS
from repscope.experiments.experiment import Experiment
from repscope.experiments.reproduce import reproduce
from repscope.files.file_access import reading
from repscope.files.saving import write_together
from repscope.integrations.abstract_log import AbstractLog
from repscope.integrations.tensorboard import TensorBoardLog
from repscope.integrations.wandb import WandbLog
from repscope.records import from_json, to_json
from repscope.training.batches import Plan
from repscope.training.engine import train
from repscope.training.preparation import prepare
from repscope.training.ranks import is_first, joined
from repscope.training.recipe import Recipe, override
from repscope.training.run_folder import WATCHING_NAME, recipe_of_run
from repscope.training.snapshot import Observer, Snapshot

# Where --log can write besides.
LOGS: Mapping[str, Callable[[], AbstractLog]] = {
    "tensorboard": TensorBoardLog,
    "wandb": WandbLog,
}
# Steps between two looks, where --every does not say.
EVERY = 500

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
            if self.recipe is not None:
                raise UsageError(
                    "--resume goes on by the recipe of the run",
                    found=f"{self.recipe} beside it",
                    fix="leave the recipe out, or begin anew with --init-from "
                    f"{self.resume}",
                )
            return override(recipe_of_run(self.resume), words)
        recipe = Recipe() if self.recipe is None else Recipe.load(self.recipe)
        return override(recipe, words)


@dataclass(frozen=True)
class Watching:
    """What is watched and logged while it trains, as typed.

    Args:
        images: to embed now and then; None for no watch.
        part: of these images.
        every: steps between two looks.
        labels: names of their label levels, fine to coarse; None for all.
        layers: names, "all", or None for the default layer.
        limit: about how many images.
        logs: names of `LOGS`.
        fail_on: what ends the training.
    """

    images: str | None = None
    part: str | None = None
    every: int | None = None
    labels: str | None = None
    layers: str | None = None
    limit: int | None = None
    logs: tuple[str, ...] = ()
    fail_on: tuple[str, ...] = ()

    def or_as_before(self, run: Path) -> "Watching":
        """Return how a run was watched before, where nothing else is typed."""
        path = run / WATCHING_NAME
        if self != Watching() or not path.is_file():
            return self
        with reading(path):
            return from_json(Watching, path.read_text(encoding="utf-8"))

    def remember(self, snapshot: Snapshot) -> None:
        """Write it into the folder of a run, at its first step; an observer."""
        if snapshot.folder is None or (snapshot.folder / WATCHING_NAME).exists():
            return
        content = to_json(self, indent=1).encode()

        def write(file: io.BufferedIOBase) -> None:
            file.write(content)

        write_together(snapshot.folder, {WATCHING_NAME: write}, len(content))

    def observer(self, recipe: Recipe) -> Watch | None:
        """Return the watch; None where nothing is to be watched.

        Args:
            recipe: whose random bits the images are given too.

        Raises:
            UsageError: where what is typed does not fit.
            InputError: where the images cannot be used.
        """
        if self.images is None:
            self._refuse_without_images()
            return None
        images = open_images(self.images, split=self.part, labels=_names(self.labels))
        data = recipe.data
        if data.bits:
            images = randbit(images, data.bits, seed=data.bit_seed)
        return watch(
            images,
            every=EVERY if self.every is None else self.every,
            layers="all" if self.layers == "all" else _names(self.layers),
            limit=LIMIT if self.limit is None else self.limit,
            fail_on=self.fail_on,
        )

    def _refuse_without_images(self) -> None:
        given = {
            "--watch-part": self.part,
            "--every": self.every,
            "--labels": self.labels,
            "--layers": self.layers,
            "--limit": self.limit,
            "--fail-on": self.fail_on or None,
        }
        for option, value in given.items():
            if value is not None:
                raise UsageError(
                    f"{option} is about images that are watched",
                    fix="--watch IMAGES names them",
                )


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",")]


def train_encoder(
    start: Start, watching: Watching, output: Output, *, device: str, dry_run: bool
) -> int:
    """Train an encoder, and say what to do with it.

    Args:
        start: where it starts.
        watching: what is watched meanwhile.
        output: the run folder (not with `start.resume`), what to say, and the gates.
        device: as typed.
        dry_run: print the recipe with every default, write nothing.

    Returns:
        The exit code: 0, or 1 where a gate failed.

    Raises:
        UsageError: for a recipe that does not fit, or a folder in use.
        InputError: for images that cannot be used.
        TrainingDiverged: where the loss was no number, step after step.
    """
    if not is_first():  # of several processes, the first speaks and watches for all
        output = replace(output, quiet=True)
        watching = Watching()
    out, resume = output.out, start.resume
    if resume is not None and out is not None and out != resume:
        raise UsageError("--resume goes on in the run's own folder", fix="leave -o out")
    run = resume or out or Path("repscope-run")
    recipe = start.recipe_of_run()
    for source in (recipe.data.source, watching.images or ""):
        check_not_inside(run, source)
    images = _images_of(start, recipe)
    watching = replace(watching, fail_on=tuple(output.fail_on))
    if resume is not None:
        watching = watching.or_as_before(resume)
    watcher = watching.observer(recipe)
    for name in watching.logs:
        check_choice("log", name, LOGS)
    logs = [LOGS[name]() for name in dict.fromkeys(watching.logs)]
    if dry_run:
        _terminal.show(_planned(recipe, images, watcher))
        return EXIT_OK
    seen = _Observers(watching, watcher, tuple(logs))
    try:
        _train(start, recipe, images, run, seen, device=device, output=output)
    except BaseException as error:
        if not isinstance(error, Exception):  # a signal, after the step was saved
            error.add_note(shlex.join(["repscope", "train", "--resume", str(run)]))
        raise
    if not output.quiet:
        held_out = ["--part", "test"] if recipe.data.split == "train" else []
        source = recipe.data.source
        words = shlex.join(["repscope", "diagnose", str(run), source, *held_out])
        _terminal.show(f"encoder: {run / 'encoder.safetensors'}")
        _terminal.note(f"next: {words} --reference untrained")
    return _judged(watcher)


def _judged(watcher: Watch | None) -> int:
    """Return the exit code that the gates of a watch give, and say which failed."""
    if watcher is None or watcher.failed is None:
        return EXIT_OK
    _terminal.note(f"gate failed: {_terminal.printable(watcher.failed)}")
    return EXIT_GATE


@dataclass(frozen=True, eq=False)
class _Observers:
    """Who is shown each step: what is watched, and where it is logged."""

    watching: Watching
    watcher: Watch | None
    logs: tuple[AbstractLog, ...]

    @contextlib.contextmanager
    def opened(
        self, shown: _progress.TrainingProgress
    ) -> Iterator[tuple[Observer, ...]]:
        """Yield them, logs first, which then take in looks; logs are closed after."""
        with contextlib.ExitStack() as stack:
            for log in self.logs:
                stack.enter_context(log)
            if self.watcher is None:
                yield (*self.logs, self.watching.remember) if self.logs else ()
                return
            self.watcher.on += [log.look for log in self.logs]
            self.watcher.on.append(lambda look: shown.look(look.numbers))
            yield (*self.logs, self.watching.remember, self.watcher)


def _train(
    start: Start,
    recipe: Recipe,
    images: ImageSet,
    run: Path,
    observers: _Observers,
    *,
    device: str,
    output: Output,
) -> None:
    quiet = output.quiet
    with (
        joined(device),
        _terminal.progress(quiet=quiet),
        _progress.counted("training", "images", quiet=quiet) as counter,
    ):
        shown = _progress.TrainingProgress(counter, recipe.training.batch_size)
        with observers.opened(shown) as asked:
            train(
                recipe,
                images,
                run,
                resume=start.resume is not None,
                init_from=start.init_from,
                observers=asked,
                overwrite=output.overwrite,
                device=device,
                progress=shown,
            )
    if shown.summary and not quiet:
        _terminal.note(shown.summary)


def _images_of(start: Start, recipe: Recipe) -> ImageSet:
    """Return the images that the command or the recipe names."""
    source = recipe.data.source
    if not source:
        raise UsageError("no images to train on", fix="--images FOLDER, or digits")
    try:
        return open_images(source, split=recipe.data.split or None)
    except RepscopeError as error:
        if start.images or start.part or Path(source).exists():
            raise
        raise InputError(
            f"the images of the recipe are not there: {source}",
            fix="--images says where they are now",
        ) from error


def _planned(recipe: Recipe, images: ImageSet, watcher: Watch | None) -> str:
    """Return the recipe with all that it leaves open, and what its views are."""
    ready = prepare(recipe, images)
    training = ready.recipe.training
    Plan(ready.images.n, training.batch_size, training.epochs, training.seed)
    views = "\n".join(f"# {line}" for line in ready.protocol.describe().splitlines())
    count = f"# {ready.images.n:,} images of {ready.images.name}"
    if watcher is not None:
        watched = watcher.images
        count += f"\n# watched: {watched.n:,} images of {watched.name}, "
        count += f"every {watcher.every:,} steps"
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
