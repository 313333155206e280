"""How is an encoder trained? One loop, from the order of the images to the last step.

Everything random is a function of seed, epoch, image and view, and everything that
changes is in one state tree. A run that was killed and resumed, with any number of
workers, therefore gives on the CPU the same bits as one that was not.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from repscope._checking import (
    EXIT_GATE,
    RepscopeError,
    ResourceError,
    UsageError,
)
from repscope._distributed import n_ranks, rank
from repscope.data.images import ArrayImages
from repscope.data.imageset import ImageSet
from repscope.data.sources import open_images
from repscope.models.backbones import build
from repscope.models.encoder import Encoder
from repscope.training.batch_views import cut_of, viewed
from repscope.training.batches import Share, batches
from repscope.training.beginning import Run, begun, go_on, opened, start
from repscope.training.interruptions import Interruptions
from repscope.training.progress import Progress
from repscope.training.ranks import (
    agreed_to_end,
    device_of_rank,
    peers_explained,
)
from repscope.training.recipe import Recipe
from repscope.training.run_folder import BATCHES_NAME, Surroundings, recipe_of_run
from repscope.training.saved_run import training_facts
from repscope.training.schedules import learning_rate
from repscope.training.sections import OptimiserSection
from repscope.training.snapshot import Observer, Snapshot, Stop

# Batches read ahead where pictures are decoded as they come.
WORKERS = 2

_INTERRUPTED = "interrupted by"


class TrainingDiverged(RepscopeError):
    """Step after step had no number for its loss or gradient (exit code 1)."""

    exit_code = EXIT_GATE


def train(
    recipe: Recipe | None,
    images: Any,
    run: str | Path | None = None,
    *,
    resume: bool = False,
    init_from: str | Path | Encoder | None = None,
    observers: Sequence[Observer] = (),
    overwrite: bool = False,
    device: str = "auto",
    progress: Progress | None = None,
    workers: int | None = None,
) -> Encoder:
    """Return the encoder that a recipe makes of images.

    SIGINT, SIGTERM and SIGUSR1 are noted while it runs in the main thread: the step is
    finished, a checkpoint written, and the signal delivered again. A second one, and
    one before the first step, acts at once; SIGUSR1 then ends as SIGTERM does.

    Args:
        recipe: may leave sizes and options open; None, with `resume`, for that of the
            folder.
        images: all of them, before `recipe.data` leaves some out: an `ImageSet` or
            whatever else `open_images` takes; of a name or path, the part that
            `recipe.data.split` says.
        run: folder for records and checkpoints; None for none.
        resume: go on with the run in the folder, exactly.
        init_from: an encoder, its file or a run, whose encoder's weights, and nothing
            else, a new run begins with.
        observers: are called after each step with a `Snapshot`; the first `Stop` that
            one returns ends the run as its last step would.
        overwrite: whether a run in the folder may be removed.
        device: "auto" is "cuda" where there is one, and "cpu" otherwise.
        progress: is told of each step.
        workers: batches read ahead; None for 2, or 0 where images are in memory. The
            result is the same.

    Returns:
        The encoder, in evaluation mode; after an early `Stop` as far as it got.

    Raises:
        UsageError: where the recipe does not fit, or is not that of the run that is to
            go on; the folder is not empty or in use; there are fewer than 0 workers.
        InputError: where the images are not those of the run, cannot be read, or do
            not fill a batch; there is nothing whole to go on from.
        ResourceError: where disk or memory do not suffice, or there is no such device.
        TrainingDiverged: where loss or gradient is no number, step after step.
    """
    if resume and (run is None or init_from is not None or overwrite):
        raise UsageError(
            "resume goes on with the run in a folder",
            found="no folder" if run is None else "init_from or overwrite beside it",
            fix="give the run's folder, and neither init_from nor overwrite",
        )
    if workers is not None and workers < 0:
        raise UsageError(f"workers: {workers}", expected="0 or more")
    where = device_of_rank(device)
    if resume and run is not None:
        stored = recipe_of_run(run)  # before the images are opened
        recipe = stored if recipe is None else recipe
    image_set = _opened_images(images, recipe)
    signals = Interruptions()
    with signals, opened(run, resume=resume, overwrite=overwrite) as folder:
        whole = begun(recipe, image_set, folder, resume=resume, device=where)
        if resume:
            go_on(whole, Path(str(run)))
        else:
            start(whole, init_from)
        encoder = _trained(
            whole, signals, observers, progress=progress, workers=workers
        )
    signals.deliver()  # with the folder closed: a handler may end the process
    return encoder


def _opened_images(images: Any, recipe: Recipe | None) -> ImageSet:
    is_named = isinstance(images, str | os.PathLike)
    split = recipe.data.split if recipe is not None and is_named else ""
    return open_images(images, split=split or None)


def _trained(
    run: Run,
    signals: Interruptions,
    observers: Sequence[Observer],
    *,
    progress: Progress | None,
    workers: int | None,
) -> Encoder:
    """Go through the loop, and write how it ended and the encoder it gave."""
    learner, recording = run.learner, run.recording
    outcome = "failed"
    if progress is not None:
        progress.start(run.plan.total_steps, learner.step)
    try:
        with _memory_explained(run.plan.batch_size), peers_explained():
            signals.hold()
            outcome = _loop(
                run,
                signals,
                observers,
                progress=progress,
                workers=_workers(run, workers),
            )
        encoder = _finished(run, {"outcome": outcome, **_facts(run)})
        if not outcome.startswith(_INTERRUPTED):
            recording.export(encoder)
    finally:
        recording.end(learner.step, outcome)
        if progress is not None:
            progress.finish()
    return encoder


def _loop(
    run: Run,
    signals: Interruptions,
    observers: Sequence[Observer],
    *,
    progress: Progress | None,
    workers: int,
) -> str:
    """Take all steps that are left; return how it ended."""
    prepared, plan = run.prepared, run.plan
    learner, recording = run.learner, run.recording
    encoder = _encoder(run)
    stream = batches(
        prepared.images,
        prepared.stored,
        plan,
        labels=prepared.labels,
        cut=cut_of(prepared),
        first_step=learner.step,
        workers=workers,
        share=Share(rank(), n_ranks()),
    )
    with contextlib.closing(viewed(stream, prepared, run.device)) as steps:
        for batch, seen in steps:
            rate = _learning_rate(run, batch.step)
            is_taken = learner.take_step(batch, seen, learning_rate=rate)
            recording.add_step(batch, learner.losses, rate)
            if progress is not None:
                progress.advance(learner.step, learner.losses)
            if not is_taken:
                rows = plan.rows_of(batch.step)
                recording.add_skipped(batch, rows, learner.losses)
                _check_diverged(run)
            stop = _observed(observers, _snapshot(run, encoder))
            is_last = learner.step == plan.total_steps
            is_stopped, is_interrupted = agreed_to_end(
                stop is not None, signals.requested, run.device
            )
            ends = is_last or is_stopped or is_interrupted
            if ends or recording.is_due(learner.step):
                recording.save(learner.state(), learner.step)
            if is_stopped:
                return f"stopped: {stop.reason if stop else 'by the first process'}"
            if is_interrupted and not is_last:
                return f"{_INTERRUPTED} {signals.name or 'another process'}"
    return "finished"


def _learning_rate(run: Run, step: int) -> float:
    """Return the rate of a step: the recipe counts in epochs, the schedule in steps."""
    section, per_epoch = run.prepared.recipe.optimiser, run.plan.steps_per_epoch
    return learning_rate(
        step,
        base=section.learning_rate,
        warmup_steps=round(section.warmup_epochs * per_epoch),
        total_steps=run.plan.total_steps,
        final_fraction=section.final_fraction,
        schedule=section.schedule,
        milestones_steps=tuple(round(one * per_epoch) for one in section.milestones),
        step_factor=section.step_factor,
    )


def _check_diverged(run: Run) -> None:
    learner, training = run.learner, run.prepared.recipe.training
    if learner.nonfinite_in_row < training.maximum_nonfinite:
        return
    rate = run.prepared.recipe.optimiser.learning_rate
    smaller = min(rate / 10, OptimiserSection.learning_rate)
    place = "RUN" if run.folder is None else run.folder.path
    raise TrainingDiverged(
        f"training has diverged: {learner.nonfinite_in_row} steps in a row, up to step "
        f"{learner.step}, had no number for a loss or a gradient",
        found=f"optimiser.learning_rate = {rate:g}",
        fix="--resume cannot help, as it takes the same steps again: begin anew, in "
        "another folder, with a smaller learning rate or a longer warm-up: --init-from "
        f"{place} --set optimiser.learning_rate={smaller:g}; {BATCHES_NAME}/ lists "
        "the images of these steps",
    )


def _observed(observers: Sequence[Observer], snapshot: Snapshot) -> Stop | None:
    """Show a snapshot to all observers; return the first wish to stop."""
    if rank() > 0:  # the first process watches for all
        return None
    if observers:
        # so that a forward pass of theirs leaves the running statistics alone
        snapshot.encoder.module.eval()
    wishes = [observer(snapshot) for observer in observers]
    return next((wish for wish in wishes if wish is not None), None)


def _snapshot(run: Run, encoder: Encoder) -> Snapshot:
    step = run.learner.step
    return Snapshot(
        step=step,
        epoch=step // run.plan.steps_per_epoch,
        losses=dict(run.learner.losses),
        encoder=encoder,
        finished=step == run.plan.total_steps,
        folder=None if run.folder is None else run.folder.path,
    )


def _encoder(run: Run) -> Encoder:
    """Return the encoder as it is; its weights are those that are trained."""
    return Encoder.of(
        run.learner.backbone,
        run.prepared.preprocess,
        planes=run.prepared.images.n_planes,
    )


def _finished(run: Run, facts: Mapping[str, str]) -> Encoder:
    """Return the encoder in evaluation mode, with torch's own normalisation again."""
    prepared, backbone = run.prepared, run.learner.backbone
    training = prepared.recipe.training
    if training.batch_norm == "global" or training.bn_splits > 1:
        usual = build(prepared.architecture).to(run.device)
        usual.load_state_dict(backbone.state_dict())
        backbone = usual
    return Encoder.of(
        backbone.eval(),
        prepared.preprocess,
        planes=prepared.images.n_planes,
        provenance=facts,
    )


def _facts(run: Run) -> dict[str, str]:
    prepared = run.prepared
    images = prepared.images
    surroundings = Surroundings(images.name, images.n, prepared.fingerprint)
    return training_facts(prepared.recipe, surroundings, run.learner.state())


def _workers(run: Run, asked: int | None) -> int:
    in_memory = isinstance(run.prepared.images.images, ArrayImages)
    usual = 0 if in_memory else WORKERS
    return usual if asked is None else asked


@contextlib.contextmanager
def _memory_explained(batch_size: int) -> Iterator[None]:
    """Say what to do where memory does not suffice for a step."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        is_memory = not isinstance(error, RuntimeError) or any(
            word in str(error) for word in ("out of memory", "can't allocate memory")
        )
        if not is_memory:
            raise
        raise ResourceError(
            f"a step with {batch_size} images needs more memory than there is",
            fix=f"training.batch_size={max(2, batch_size // 2)}, or a smaller encoder",
        ) from error
