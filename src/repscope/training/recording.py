"""What does a run write down, and when?

Rows of ``metrics.jsonl`` hold only what a repetition of the run gives again, to the
last bit; the time that each step took is written beside. Rows reach the disk before the
checkpoint that counts on them.
"""

import json
import logging
import time
from dataclasses import asdict
from typing import Any

import numpy as np
from jaxtyping import Int

from repscope import _environment
from repscope._checking import RepscopeError, ResourceError
from repscope.data.reading import Failure, check_failures
from repscope.models.encoder import Encoder
from repscope.training.batches import Batch
from repscope.training.checkpoint import checkpoint_name, save_checkpoint
from repscope.training.json_lines import read_rows
from repscope.training.learner import Losses
from repscope.training.preparation import Prepared
from repscope.training.run_folder import (
    BATCHES_NAME,
    FAILURES_NAME,
    METRICS_NAME,
    TIMING_NAME,
    RunFolder,
    Session,
    Surroundings,
)

_log = logging.getLogger("repscope")


class Recording:
    """The records of one run; does nothing where there is no folder for them.

    Args:
        folder: locked by this process; None for no records.
        prepared: what is trained.
    """

    def __init__(self, folder: RunFolder | None, prepared: Prepared) -> None:
        self._folder = folder
        self._training = prepared.recipe.training
        self._images = prepared.images
        self._saved_step: int | None = None
        self._failures: dict[int, Failure] = {}
        self._began = self._step_began = time.perf_counter()

    def begin(
        self,
        prepared: Prepared,
        session: Session,
        *,
        init_from: str,
        state: dict[str, Any],
    ) -> None:
        """Write what a new run starts from; an earlier one in the folder is removed.

        The recipe comes last: where it is, there is a checkpoint to go on from.
        """
        if self._folder is None:
            return
        surroundings = Surroundings(
            images=prepared.images.name,
            n=prepared.images.n,
            fingerprint=prepared.fingerprint,
            init_from=init_from,
        )
        self._folder.clear()
        self._folder.begin(surroundings, session)
        for failure in prepared.images.failures:
            self._folder.append(FAILURES_NAME, asdict(failure))
        self.save(state, 0)
        self._folder.write_recipe(prepared.recipe)

    def resume(self, session: Session) -> None:
        """Cut the records back to the step from which the run goes on."""
        if self._folder is None:
            return
        self._saved_step = session.first_step
        self._folder.keep_until(session.first_step)
        rows = read_rows(self._folder.path / FAILURES_NAME)
        known = [_failure_of(row) for row in rows if "replaced_by" in row]
        self._failures = {failure.row: failure for failure in known}
        self._folder.begin(self._folder.surroundings, session)

    def add_step(self, batch: Batch, losses: Losses, learning_rate: float) -> None:
        """Write the rows of a step that is done.

        Raises:
            InputError: where too many pictures cannot be read.
            ResourceError: where the rows cannot be written.
        """
        self._add_failures(batch)
        now = time.perf_counter()
        seconds, self._step_began = now - self._step_began, now
        if self._folder is None:
            return
        step = batch.step + 1
        row = {"step": step, "epoch": batch.epoch, **losses}
        self._folder.append(METRICS_NAME, {**row, "learning_rate": learning_rate})
        speed = round(self._training.batch_size / seconds, 1)
        self._folder.append(TIMING_NAME, {"step": step, "images_per_second": speed})

    def add_skipped(
        self, batch: Batch, rows: Int[np.ndarray, " b"], losses: Losses
    ) -> None:
        """Write down which images gave a loss or a gradient that is no number.

        Args:
            batch: this process's share of them.
            rows: of all of them.
            losses: of the step.
        """
        step = batch.step + 1
        missing = ", ".join(name for name, value in losses.items() if value is None)
        reason = f"no number: {missing}"
        _log.warning("step %d was skipped (%s)", step, reason)
        if self._folder is None:
            return
        ids = self._images.ids[rows].tolist()
        content = {"step": step, "epoch": batch.epoch, "reason": reason, "ids": ids}
        path = self._folder.write_batch(step, json.dumps(content, indent=1) + "\n")
        row = {"step": step, "reason": reason, "batch": f"{BATCHES_NAME}/{path.name}"}
        self._folder.append(FAILURES_NAME, row)

    def is_due(self, step: int) -> bool:
        """Return whether a checkpoint is due when so many steps are done."""
        return step % self._training.checkpoint_every == 0

    def save(self, state: dict[str, Any], step: int) -> None:
        """Write a checkpoint, and before it all rows up to it.

        Raises:
            ResourceError: where it cannot be written, naming the last one there is.
        """
        if self._folder is None or self._saved_step == step:
            return
        folder = self._folder.checkpoints
        try:
            self._folder.sync()
            save_checkpoint(folder, state, step, keep=self._training.keep)
        except ResourceError as error:
            raise self._stopped(error) from error
        self._saved_step = step

    def export(self, encoder: Encoder) -> None:
        """Write the encoder and its card."""
        if self._folder is not None:
            encoder.save(self._folder.encoder, overwrite=True)

    def warn_of_little_space(self) -> None:
        """Say so where the disk would not hold as many checkpoints as are kept."""
        if self._folder is None:
            return
        files = self._folder.checkpoints.glob("*.pt")
        size = max((file.stat().st_size for file in files), default=0)
        # one more than are kept is there while it is written
        need = size * (self._training.keep + 1)
        free = _environment.free_disk_bytes(self._folder.path)
        if free < need:
            _log.warning(
                "%.1f MB are free, checkpoints will need %.1f MB",
                free / 1e6,
                need / 1e6,
            )

    def end(self, step: int, outcome: str) -> None:
        """Write how the session ended; where that cannot be written, only the log."""
        if self._folder is None:
            return
        seconds = time.perf_counter() - self._began
        _log.info("%s after %d steps, in %.1f s", outcome, step, seconds)
        try:
            self._folder.end(step, seconds, outcome)
        except RepscopeError as error:
            _log.warning("%s", error)

    def _add_failures(self, batch: Batch) -> None:
        new = [one for one in batch.failures if one.row not in self._failures]
        for failure in new:
            self._failures[failure.row] = failure
            _log.warning("%s", failure.reason)
            if self._folder is not None:
                row = {"step": batch.step + 1, **asdict(failure)}
                self._folder.append(FAILURES_NAME, row)
        if new:
            images = self._images
            check_failures(images.name, [*self._failures.values()], images.n)

    def _stopped(self, error: ResourceError) -> ResourceError:
        intact = (
            "no checkpoint was written before"
            if self._saved_step is None
            else f"{checkpoint_name(self._saved_step)} is intact"
        )
        return ResourceError(
            f"{error.what}. Training stopped; {intact}",
            found=error.found,
            expected=error.expected,
            fix=error.fix,
        )


def _failure_of(row: dict[str, Any]) -> Failure:
    return Failure(row["row"], row["id"], row["reason"], row["replaced_by"])
