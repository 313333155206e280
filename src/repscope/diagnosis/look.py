"""What does one look at an encoder in training find? Numbers by layer, judgements.

The numbers are those of the catalogue and the judgements those of `diagnose`, taken of
the same images each time. A look holds only what a repetition of the run gives again.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from repscope._arrays import hash_ids
from repscope._checking import NonFiniteFeatureError
from repscope.diagnosis import complete_collapse, dimensional_collapse
from repscope.diagnosis.check import Check, Evidence
from repscope.diagnosis.spectrum import spectral_measurements
from repscope.diagnosis.survey import survey
from repscope.diagnosis.verdict import verdict_of
from repscope.metrics import (
    clustering,
    geometry,
    logistic,
    nearest_centre,
    power_law,
    samples,
    spectral,
    spectrum_shape,
)
from repscope.metrics.ingredients import Ingredients
from repscope.metrics.labelled_ingredients import Supply
from repscope.metrics.measuring import taken_of
from repscope.metrics.metric import Metric, metric_of
from repscope.records import Finding, Measurement, Provenance, RunRecord, Status
from repscope.representations.embedding import Embedding
from repscope.representations.representation import Representation
from repscope.representations.splitting import default_split

# Of every layer: what a reader wants to see, and what the checks read.
WATCHED: tuple[Metric, ...] = tuple(
    metric_of(function)
    for function in (
        power_law.alpha,
        spectral.rankme,
        spectral.effective_rank,
        spectral.effective_rank_covariance,
        spectral.effective_rank_correlation,
        spectrum_shape.relative_dispersion,
        spectrum_shape.anisotropy,
        spectrum_shape.n_components,
        spectrum_shape.dead_features,
        samples.q_score,
        samples.q_score_normalized,  # the one that compares over time
        geometry.uniformity,
    )
)
# Of every layer and label level. The logistic probe costs no more than the ridge one
# here, and is the one that the checks read.
WATCHED_WITH_LABELS: tuple[Metric, ...] = tuple(
    metric_of(function)
    for function in (
        nearest_centre.ncc_accuracy,
        clustering.cdnv,
        logistic.linear_accuracy,
    )
)
# What is judged: the others need a reference, attributes, or a second look at rows.
CHECKS: tuple[Check, ...] = (complete_collapse.CHECK, dimensional_collapse.CHECK)
# Of these scores over rows: name in the row -> share of rows below.
_QUANTILES = {"p5": 0.05, "p50": 0.5, "p95": 0.95}
_SCORES = ("q_score", "q_score_normalized")
_WITH_LABELS = ("labels", "probe")
# The layer that is judged; others are written after an @.
_JUDGED = "features"


@dataclass(frozen=True, eq=False)
class Look:
    """What was seen after a step.

    Args:
        step: how many are done.
        epoch: how many are done.
        layers: layer -> its measurements, shallow to deep; those of the judged layer
            bear no layer's name.
        judged: the layer that is judged, the deepest.
        findings: of that layer; empty where it was too early to judge.
    """

    step: int
    epoch: int
    layers: Mapping[str, tuple[Measurement, ...]]
    judged: str
    findings: tuple[Finding, ...] = ()

    @property
    def record(self) -> RunRecord:
        """What gates read."""
        own = self.layers[self.judged]
        return RunRecord(
            kind="diagnosis",
            title=f"step {self.step}",
            verdict=verdict_of(self.findings),
            provenance=Provenance(n=own[0].n, d=own[0].d or 0),
            measurements=tuple(one for some in self.layers.values() for one in some),
            findings=self.findings,
        )

    @property
    def row(self) -> dict[str, Any]:
        """What is written: plain values, None where there is no number."""
        return {
            "step": self.step,
            "epoch": self.epoch,
            "layers": {name: _values(some) for name, some in self.layers.items()},
            "findings": {one.code: one.status.value for one in self.findings},
        }

    @property
    def scalars(self) -> dict[str, float]:
        """Every number by its path, such as ``h/linear_accuracy/fine``."""
        return dict(_flat(self.row["layers"], ""))

    @property
    def numbers(self) -> dict[str, float | None]:
        """The judged layer's numbers by key, such as ``linear_accuracy[fine]``."""
        return {one.key: one.value for one in self.layers[self.judged]}

    @property
    def sentence(self) -> str:
        """The judged layer in a line."""
        numbers = {one.key: one for one in self.layers[self.judged]}
        rank, slope = numbers["effective_rank"], numbers["alpha"]
        told = [f"effective rank {_told(rank.value)} of {rank.d}"]
        told.append(f"alpha {_told(slope.value)}")
        told += [
            f"linear accuracy {one.level} {_told(one.value)}"
            for one in numbers.values()
            if one.name == "linear_accuracy"
        ]
        return f"step {self.step:,}, {self.judged}: " + ", ".join(told)


def look_at(
    embedding: Embedding,
    *,
    step: int,
    epoch: int,
    further: Sequence[Metric] = (),
    is_judged: bool = True,
) -> Look:
    """Return what the layers of an embedding hold.

    Probes train on four fifths of each finest class and test on the rest, chosen by the
    hash of ids alone, so that it is the same rows at every look.

    Args:
        embedding: of the watched images.
        step: how many are done.
        epoch: how many are done.
        further: metrics to take besides.
        is_judged: whether the deepest layer is judged.
    """
    judged = embedding.default_layer
    layers = {}
    for name in embedding.layers:
        layer = _JUDGED if name == judged else name
        rows = _with_split(dataclasses.replace(embedding[name], layer=layer))
        layers[name] = _measured(rows, further)
    findings = _findings(embedding[judged], layers[judged]) if is_judged else ()
    return Look(step, epoch, layers, judged, findings)


def _with_split(rows: Representation) -> Representation:
    if not rows.levels:
        return rows
    # Rows that are equal now may differ at the next look: only ids count.
    is_test = default_split(rows.ids, rows.levels[0].codes, hash_ids(rows.ids))
    return dataclasses.replace(rows, is_test=is_test)


def _measured(
    rows: Representation, further: Sequence[Metric]
) -> tuple[Measurement, ...]:
    entries = entries_with(further)
    try:
        supply = Supply.of(Ingredients.of(rows))
    except NonFiniteFeatureError as error:
        levels = [level.name for level in rows.levels]
        return unmeasured(entries, levels, reason=error.what, rows=rows)
    taken = (pair for entry in entries for pair in taken_of(entry, supply))
    return tuple(
        _with_quantiles(one, supply) if one.name in _SCORES else one
        for one, missing in taken
        if not missing
    )


def entries_with(further: Sequence[Metric]) -> tuple[Metric, ...]:
    """Return the metrics that are taken, each once.

    Args:
        further: metrics to take besides those that always are.
    """
    return tuple(dict.fromkeys((*WATCHED, *WATCHED_WITH_LABELS, *further)))


def unmeasured(
    entries: Sequence[Metric],
    levels: Sequence[str],
    *,
    reason: str,
    layer: str = _JUDGED,
    rows: Representation | None = None,
) -> tuple[Measurement, ...]:
    """Return measurements without values.

    Args:
        entries: metrics.
        levels: names of the label levels.
        reason: why there is no value.
        layer: of the encoder.
        rows: those that were to be measured.
    """
    return tuple(
        Measurement(
            name=entry.name,
            value=None,
            reason=reason,
            level=level,
            layer=layer if rows is None else rows.layer,
            n=0 if rows is None else rows.n,
            d=None if rows is None else rows.d,
        )
        for entry in entries
        for level in (levels if entry.needs in _WITH_LABELS else (None,))
    )


def _with_quantiles(one: Measurement, supply: Supply) -> Measurement:
    if one.value is None:
        return one
    scores = supply.base.row_scores[one.name]
    values = np.quantile(scores, list(_QUANTILES.values())).tolist()
    quantiles = dict(zip(_QUANTILES, values, strict=True))
    return dataclasses.replace(one, details={**one.details, **quantiles})


def _findings(
    rows: Representation, taken: Sequence[Measurement]
) -> tuple[Finding, ...]:
    """Return the judgements; a collapse is found only with the spectrum's intervals.

    They cost one decomposition for each block of rows, which is worth it only where
    they can acquit.
    """
    findings = _judged(rows, taken)
    if not any(one.status is Status.FOUND for one in findings):
        return findings
    certain, _ = spectral_measurements(survey(rows))
    return _judged(rows, (*taken, *certain))


def _judged(rows: Representation, taken: Sequence[Measurement]) -> tuple[Finding, ...]:
    evidence = Evidence(
        measurements={one.key: one for one in taken},
        levels=tuple(level.name for level in rows.levels),
    )
    return tuple(check.finding(evidence) for check in CHECKS)


def _values(taken: Sequence[Measurement]) -> dict[str, Any]:
    """Return the numbers of a layer by name, those of labels by level too."""
    values: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    for one in taken:
        if one.level is not None:
            values.setdefault(one.name, {})[one.level] = one.value
        elif one.name in _SCORES:
            kept = {name: _number(one.details.get(name)) for name in _QUANTILES}
            values[one.name] = {"mean": one.value, **kept}
        else:
            values[one.name] = one.value
        if one.name == "alpha":
            values["alpha_r_squared"] = _number(one.details.get("r_squared"))
        if one.reason is not None:
            level = f"[{one.level}]" if one.level else ""
            reasons[one.name + level] = one.reason
    return values | ({"reasons": reasons} if reasons else {})


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and math.isfinite(value)
    return float(value) if is_number else None


def _flat(values: Mapping[str, Any], path: str) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}{name}/")
        elif isinstance(value, int | float):
            yield f"{path}{name}", float(value)


def _told(value: float | None) -> str:
    return "undecided" if value is None else f"{value:.3g}"
