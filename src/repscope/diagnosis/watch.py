"""Is the encoder collapsing? Asked while it is trained, on images that stay the same.

A watch is an observer of the training: every so many steps it embeds a fixed set of
images in evaluation mode, writes what it measured beside the run's records, and judges
it as `diagnose` would. It reads the encoder and changes nothing: a run that is watched
gives the same bits as one that is not.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, final

import torch

from repscope._checking import UsageError, did_you_mean
from repscope.data.imageset import ImageSet
from repscope.data.sources import open_images
from repscope.diagnosis.gate import (
    FindingGate,
    Gate,
    NumberGate,
    check_gates,
    evaluate,
    parse_gates,
)
from repscope.diagnosis.look import CHECKS, Look, entries_with, look_at, unmeasured
from repscope.diagnosis.verdict import verdict_of
from repscope.metrics.catalogue import METRICS
from repscope.metrics.metric import Metric
from repscope.models.encoder import Encoder
from repscope.records import Finding, Provenance, RunRecord, Status
from repscope.representations.embed import embed
from repscope.training.json_lines import JsonLines, read_rows
from repscope.training.run_folder import WATCH_NAME
from repscope.training.snapshot import Snapshot, Stop

# About so many images are watched: probes get 1,600 rows, and a small network embeds
# them in a second.
LIMIT = 2000
# Before this step the running statistics of batch normalisation still hold a share of
# what they began with (0.9^50 = 0.5 %): numbers are written, nothing is judged.
JUDGED_FROM_STEP = 50
# What gates may ask for: the rest needs views, images or other features.
_NEEDS = frozenset({"rows", "spectrum", "labels", "probe"})

_log = logging.getLogger("repscope")


def watch(
    images: Any,
    *,
    every: int,
    labels: Sequence[str] | None = None,
    layers: Sequence[str] | str | None = None,
    limit: int | None = LIMIT,
    fail_on: str | Sequence[str] = (),
    on: Sequence[Callable[[Look], None]] = (),
) -> "Watch":
    """Return an observer that looks at the encoder while it is trained.

    It looks after the first step, after every multiple of `every` and after the last;
    each look is a row of ``watch.jsonl`` in the run's folder. From step 50 on, and
    after the last step, it is judged whether the encoder collapses (RS101, RS102), with
    a warning when that changes.

    Args:
        images: an `ImageSet` or what `open_images` takes; not those that are trained
            on, if what matters is how the encoder does on others.
        every: steps between looks, 1 or more.
        labels: names of label levels, fine to coarse; () for none, None for all.
        layers: names or module paths; "all" named ones, None the default layer. The
            deepest is judged.
        limit: about how many images, as many of each class; None for all.
        fail_on: expressions of ``--fail-on`` (`repscope.diagnosis.gate`); the first
            look that fails one ends the training.
        on: are called with each look, such as the `look` of a log.

    Returns:
        The watch; give it to `train` among the observers.

    Raises:
        UsageError: for fewer than 1 step, an unknown level, or an expression that no
            look can answer.
        InputError: where the images cannot be used.

    Example:
        >>> watch("digits", every=100, limit=100).images.n
        100
    """
    if every < 1:
        raise UsageError(
            "every: steps between looks", found=str(every), expected=">= 1"
        )
    image_set = open_images(images, labels=labels)
    if limit is not None and limit < image_set.n:
        image_set = image_set.balanced(limit)
    texts = [fail_on] if isinstance(fail_on, str) else fail_on
    gates, further = _checked_gates(parse_gates(texts), image_set, layers)
    return Watch(image_set, every, layers, gates, further, on)


@final
class Watch:
    """An observer that looks at a fixed set of images; made by `watch`, for one run.

    Args:
        images: what is embedded.
        every: steps between looks.
        layers: as `embed` takes them.
        gates: what ends the training.
        further: metrics that gates ask for.
        on: are called with each look; more can be added.

    Attributes:
        failed: which gates failed, and at which step; None as long as none has.
    """

    def __init__(
        self,
        images: ImageSet,
        every: int,
        layers: Sequence[str] | str | None,
        gates: tuple[Gate, ...],
        further: tuple[Metric, ...],
        on: Sequence[Callable[[Look], None]],
    ) -> None:
        self.images, self.every, self.layers = images, every, layers
        self.on = list(on)
        self.failed: str | None = None
        self._gates, self._further = gates, further
        self._in_memory: ImageSet | None = None
        self._said: dict[str, str] | None = None

    def __call__(self, snapshot: Snapshot) -> Stop | None:
        """Look, where it is time to.

        Raises:
            UsageError: where the encoder has no such layer, or takes other images.
            InputError: where too many images cannot be read.
            ResourceError: where the row cannot be written.
        """
        is_due = snapshot.step % self.every == 0
        if not (is_due or snapshot.step == 1 or snapshot.finished):
            return None
        began = time.perf_counter()
        look = look_at(
            self._embedding(snapshot.encoder),
            step=snapshot.step,
            epoch=snapshot.epoch,
            further=self._further,
            is_judged=snapshot.step >= JUDGED_FROM_STEP or snapshot.finished,
        )
        if self._said is None:
            self._said = _said_before(snapshot)
            self._tell_cost(look, time.perf_counter() - began)
        _write(look, snapshot.folder)
        _log.info("%s", look.sentence)
        self._tell_changes(look)
        for receive in self.on:
            receive(look)
        return self._stop(look, snapshot)

    def _embedding(self, encoder: Encoder) -> Any:
        preprocess = encoder.preprocess
        if self._in_memory is None:
            self._in_memory = self.images
            if (
                preprocess.short_side == preprocess.size
            ):  # fitting twice changes nothing
                kept = self.images.in_memory(preprocess)
                lost = {failure.row for failure in kept.failures}
                good = [row for row in range(kept.n) if row not in lost]
                self._in_memory = kept.subset(good) if lost else kept
        weights = next(encoder.module.parameters(), torch.empty(0))
        with _only_warnings():
            return embed(
                encoder,
                self._in_memory,
                layers=self.layers,
                device=weights.device,
                thumbnails=False,
            )

    def _tell_cost(self, look: Look, seconds: float) -> None:
        _log.info(
            "watching %s images of %s every %s steps, layers %s: a look takes %.1f s",
            f"{look.layers[look.judged][0].n:,}",
            self.images.name,
            f"{self.every:,}",
            ", ".join(look.layers),
            seconds,
        )

    def _tell_changes(self, look: Look) -> None:
        """Warn of what is found now and was not before, and of the end of it."""
        said = self._said or {}
        for finding in look.findings:
            before, now = said.get(finding.code), finding.status.value
            is_found = finding.status is Status.FOUND
            what = f"step {look.step:,}: {finding.code} {finding.title}"
            if is_found and before != now:
                _log.warning(
                    "%s. %s To do: %s (%s)",
                    *(what, finding.explanation, finding.action, finding.page),
                )
            elif before == Status.FOUND.value and not is_found:
                _log.info("%s no longer. %s", what, finding.explanation)
            said[finding.code] = now
        self._said = said

    def _stop(self, look: Look, snapshot: Snapshot) -> Stop | None:
        if not look.findings or not self._gates:
            return None
        result = evaluate(self._gates, look.record)
        if result.passed:
            return None
        self.failed = f"step {look.step:,}: {'; '.join(result.failures)}"
        if snapshot.finished:  # there is nothing left to stop
            _log.warning("gate failed: %s", self.failed)
            return None
        return Stop(f"gate failed, {self.failed}")


def _checked_gates(
    gates: tuple[Gate, ...], images: ImageSet, layers: Sequence[str] | str | None
) -> tuple[tuple[Gate, ...], tuple[Metric, ...]]:
    """Return the gates, and the metrics that they ask for.

    Raises:
        UsageError: for an expression that no look can answer.
    """
    check_gates(gates, [one.code for one in CHECKS], [one.name for one in METRICS])
    named = {gate.name for gate in gates if isinstance(gate, NumberGate)}
    further = tuple(entry for entry in METRICS if entry.name in named)
    for entry in further:
        if entry.needs not in _NEEDS:
            raise UsageError(
                f"--fail-on: {entry.name} cannot be watched, it needs {entry.needs}",
                fix=did_you_mean(entry.name, [one.name for one in entries_with(())]),
            )
    # Which layers "all" are is known when there is an encoder.
    known = [gate for gate in gates if not (layers == "all" and _has_layer(gate))]
    evaluate(known, _empty_record(images, layers, further))
    return gates, further


def _has_layer(gate: Gate) -> bool:
    return not isinstance(gate, FindingGate) and gate.layer is not None


def _empty_record(
    images: ImageSet, layers: Sequence[str] | str | None, further: tuple[Metric, ...]
) -> RunRecord:
    """Return what a look will hold, without values: gates say what they miss in it."""
    entries, levels = entries_with(further), [level.name for level in images.levels]
    taken = unmeasured(entries, levels, reason="not measured yet")
    for layer in () if layers is None or isinstance(layers, str) else layers:
        taken += unmeasured(entries, levels, reason="not measured yet", layer=layer)
    findings = tuple(
        Finding(
            code=check.code,
            title=check.title,
            status=Status.UNDECIDED,
            severity=check.severity,
            explanation="not judged yet",
        )
        for check in CHECKS
    )
    return RunRecord(
        kind="diagnosis",
        title="watch",
        verdict=verdict_of(findings),
        provenance=Provenance(),
        measurements=taken,
        findings=findings,
    )


def _write(look: Look, folder: Path | None) -> None:
    """Append the row and wait for the disk: a checkpoint may follow that counts on it.

    Raises:
        ResourceError: where it cannot be written.
    """
    if folder is None:
        return
    lines = JsonLines(folder / WATCH_NAME)
    try:
        lines.append(look.row)
        lines.sync()
    finally:
        lines.close()


def _said_before(snapshot: Snapshot) -> dict[str, str]:
    """Return what was found at the last look of an earlier session, by code."""
    rows = [] if snapshot.folder is None else read_rows(snapshot.folder / WATCH_NAME)
    judged = [row["findings"] for row in rows if row.get("findings")]
    return dict(judged[-1]) if judged else {}


@contextlib.contextmanager
def _only_warnings() -> Iterator[None]:
    """Keep a verb from telling at every look what it tells once."""

    def is_warning(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING

    _log.addFilter(is_warning)
    try:
        yield
    finally:
        _log.removeFilter(is_warning)
