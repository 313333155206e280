"""How does a run begin, or go on where it was?

A new run writes its recipe, its surroundings and a checkpoint of its first weights. One
that goes on must be of the same recipe and the same images; it takes over the latest
whole checkpoint, and cuts its records back to that step.
"""

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from repscope._checking import InputError, UsageError
from repscope._distributed import gathered_integers, n_ranks, rank
from repscope.data.imageset import ImageSet
from repscope.data.operations import ColorJitter, Grayscale
from repscope.models.devices import device_of as device_of
from repscope.models.encoder import Encoder
from repscope.models.heads import count_parameters
from repscope.training.batches import Plan
from repscope.training.checkpoint import load_latest
from repscope.training.initial_weights import read_weights
from repscope.training.learner import Learner
from repscope.training.preparation import Prepared, prepare
from repscope.training.recipe import Recipe, difference
from repscope.training.recording import Recording
from repscope.training.run_folder import (
    CHECKPOINTS_NAME,
    FAILURES_NAME,
    RECIPE_NAME,
    RunFolder,
    Session,
)

# Packages whose versions may change the last bits of a result.
_DECISIVE = ("repscope", "torch", "numpy", "pillow")

_log = logging.getLogger("repscope")


@dataclass(frozen=True, eq=False)
class Run:
    """What the loop works with.

    Args:
        prepared: the recipe with all that it names.
        plan: which images come in which step.
        learner: all that changes.
        recording: all that is written.
        folder: where; None for nowhere, and on all ranks but the first.
        device: of the networks.
    """

    prepared: Prepared
    plan: Plan
    learner: Learner
    recording: Recording
    folder: RunFolder | None
    device: torch.device


def begun(
    recipe: Recipe | None,
    images: ImageSet,
    folder: RunFolder | None,
    *,
    resume: bool,
    device: torch.device,
) -> Run:
    """Return a run with its first weights; nothing is written yet."""
    stored = Recipe.load(folder.path / RECIPE_NAME) if resume and folder else None
    asked = recipe or stored
    if asked is None:
        raise UsageError("recipe: None", expected="a recipe, or resume=True")
    prepared = prepare(asked, images, device=device)
    if stored is not None and folder is not None:
        _check_same(stored, prepared, folder)
    training = prepared.recipe.training
    plan = Plan(prepared.images.n, training.batch_size, training.epochs, training.seed)
    return Run(
        prepared=prepared,
        plan=plan,
        learner=Learner(prepared, device, total_steps=plan.total_steps),
        recording=Recording(folder, prepared),
        folder=folder,
        device=device,
    )


def _check_same(stored: Recipe, prepared: Prepared, folder: RunFolder) -> None:
    """Refuse to go on with another recipe or other images."""
    lines = difference(stored, prepared.recipe)
    if lines:
        raise UsageError(
            f"{folder.path} cannot go on with another recipe: the result would be that "
            "of neither",
            found="; ".join(lines),
            fix="leave the recipe out to go on as before, or begin a new run with "
            f"--init-from {folder.path} (init_from=), which takes its weights",
        )
    before = folder.surroundings
    if before.fingerprint != prepared.fingerprint:
        raise InputError(
            f"{folder.path}: the images are not those of the run",
            found=f"{prepared.images.name}, {prepared.images.n:,} images, "
            f"fingerprint {prepared.fingerprint}",
            expected=f"{before.images}, {before.n:,} images, "
            f"fingerprint {before.fingerprint}",
            fix="give the same images, in the same order",
        )


def start(run: Run, init_from: str | Path | Encoder | None) -> None:
    """Begin a new run: its records, and a checkpoint of the first weights."""
    learner = run.learner
    if init_from is not None:
        learner.begin_with(*read_weights(learner.backbone, init_from))
    if rank() > 0:
        return
    run.recording.begin(
        run.prepared, _session(run), init_from=learner.origin, state=learner.state()
    )
    _log_plan(run)
    _tell_unreadable(run)
    run.recording.warn_of_little_space()


def go_on(run: Run, place: Path) -> None:
    """Take over the latest checkpoint, and cut the records back to it.

    Args:
        run: with its first weights.
        place: the folder of the run, which every rank reads.

    Raises:
        InputError: where there is nothing whole to go on from, or ranks find different
            checkpoints.
    """
    found = load_latest(place / CHECKPOINTS_NAME)
    run.learner.restore(found.state)
    steps = gathered_integers(np.array([found.step]))
    if len(set(steps[:, 0].tolist())) > 1:
        raise InputError(
            f"{place}: the processes find different checkpoints",
            found=f"steps {steps[:, 0].tolist()}",
            expected="one folder that all processes read",
        )
    if run.folder is None:
        return
    _tell_unreadable(run)
    before, now = run.folder.surroundings.sessions[-1:], _session(run)
    run.recording.resume(now)
    _log.info("going on after step %d of %d", found.step, run.plan.total_steps)
    for change in (line for last in before for line in _changes(last, now)):
        _log.warning("%s: the last bits may differ from those of one session", change)
    norm = run.prepared.recipe.training.batch_norm
    if norm == "local" and any(last.n_ranks != now.n_ranks for last in before):
        _log.warning(
            "another number of processes shares each batch: batch normalisation takes "
            "other rows together than before (training.batch_norm=global would not)"
        )


def _changes(before: Session, now: Session) -> list[str]:
    """Return what differs between two sessions that may change a result."""
    facts = [
        {
            "device": one.device,
            "threads": str(one.threads),
            "processes": str(one.n_ranks),
            **one.versions,
        }
        for one in (before, now)
    ]
    return [
        f"{name} was {facts[0].get(name, 'absent')}, is {facts[1][name]}"
        for name in ("device", "threads", "processes", *_DECISIVE)
        if name in facts[1] and facts[0].get(name) != facts[1][name]
    ]


def _log_plan(run: Run) -> None:
    plan, learner = run.plan, run.learner
    parameters = count_parameters(learner.networks)
    _log.info("%s", run.prepared.protocol.describe())
    _log.info(
        "%s images, %s steps of %d in %d epochs, %s parameters, on %s%s",
        f"{plan.n:,}",
        f"{plan.total_steps:,}",
        plan.batch_size,
        plan.epochs,
        f"{parameters:,}",
        run.device,
        f", {n_ranks()} processes" if n_ranks() > 1 else "",
    )
    if learner.origin:
        _log.info("the first weights are those of %s", learner.origin)
    _log_oddities(run)
    if plan.left_out:
        _log.info(
            "each epoch leaves out %d images, other ones each time: they do not fill a "
            "batch",
            plan.left_out,
        )


def _log_oddities(run: Run) -> None:
    """Say what a recipe brings about that its words do not say."""
    prepared = run.prepared
    operations = {type(one) for view in prepared.protocol.views for one in view}
    if prepared.preprocess.channels == 1 and operations & {ColorJitter, Grayscale}:
        _log.info("the images are grey: ColorJitter and Grayscale change nothing")
    if prepared.objective.needs.labels:
        _log.info("the labels are those of %s", prepared.recipe.objective.labels)
    queue, n = len(run.learner.memory.get("queue", ())), prepared.images.n
    if queue > n:
        _log.info(
            "the queue of %s holds each of %s images several times: "
            "objective.options.queue",
            f"{queue:,}",
            f"{n:,}",
        )
    target, training = prepared.objective.needs.target, prepared.recipe.training
    in_groups = training.bn_splits > 1 or (
        n_ranks() > 1 and training.batch_norm == "local"
    )
    if target is not None and target.shuffled and not in_groups:
        _log.info(
            "keys and queries are normalised in the same company, by which a network "
            "with batch normalisation can tell them: training.bn_splits=2 or more "
            "prevents it"
        )


def _tell_unreadable(run: Run) -> None:
    """Say how many pictures could not be read when the images were put into memory."""
    images = run.prepared.images
    if images.failures:
        _log.warning(
            "%d of %d images cannot be read and are replaced by others%s",
            len(images.failures),
            images.n,
            "" if run.folder is None else f" ({FAILURES_NAME})",
        )


def _session(run: Run) -> Session:
    return Session.begun(
        run.learner.step, str(run.device), torch.get_num_threads(), n_ranks()
    )


@contextlib.contextmanager
def opened(
    run: str | Path | None, *, resume: bool, overwrite: bool
) -> Iterator[RunFolder | None]:
    """Open the folder of a run, where there is to be one: on the first rank only."""
    if run is None or rank() > 0:
        yield None
        return
    with RunFolder(run, resume=resume, overwrite=overwrite) as folder:
        yield folder
