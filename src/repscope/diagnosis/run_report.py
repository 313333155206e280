"""From what was measured to a report: judgements, sample table, map, provenance."""

import dataclasses
import datetime
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from repscope import _environment
from repscope._arrays import fingerprint, hash_ids
from repscope.diagnosis import class_pictures, label_free, pictures
from repscope.diagnosis.check import Evidence, Repeat
from repscope.diagnosis.checks import CHECKS
from repscope.diagnosis.measured_run import MeasuredRun
from repscope.diagnosis.thumbnails import thumbnails
from repscope.diagnosis.verdict import next_commands, verdict_of
from repscope.explanation.projections import Projection, principal_map
from repscope.metrics import hygiene
from repscope.metrics.catalogue import FAMILIES
from repscope.metrics.metric import metric_of
from repscope.records import (
    Finding,
    Formula,
    Measurement,
    Provenance,
    RunRecord,
    Samples,
    Status,
    Table,
    Thumbnail,
)
from repscope.report.report import Report

# Points on the map; above it rows are chosen by the hash of their id.
MAP_MAXIMUM_ROWS = 50_000
# Not that of the split: a map of the rows that test would be no sample of all.
_MAP_SEED = 0x3A9
LISTED_ROWS = 100


def report_of(run: MeasuredRun, images: Any, seconds: float) -> Report:
    """Return the report of a run.

    Args:
        run: all measured.
        images: pictures of the rows, or None.
        seconds: since the run began.
    """
    kept = run.representation
    lowest = _lowest(run)
    evidence = _evidence(run, lowest)
    findings = tuple(check.finding(evidence) for check in CHECKS)
    samples, projection = _samples(run, findings)
    status = next((f.status for f in findings if f.code == "RS301"), None)
    run.tables = [class_pictures.judged_scores(one, status) for one in run.tables]
    _show(run, samples, lowest, projection, status)
    if run.survey.n_dropped:
        run.notices.insert(
            0,
            f"{run.survey.n_dropped:,} rows with NaN or infinity were dropped; no "
            "number below knows them",
        )
    pictures_of_rows: tuple[Thumbnail, ...] = ()
    if images is not None:
        listed = kept.rows[lowest[: pictures.LISTED_SAMPLES]].tolist()
        pictures_of_rows, failed = thumbnails(images, kept, listed)
        run.notices += failed
    record = RunRecord(
        kind="diagnosis",
        title=kept.name,
        verdict=verdict_of(findings),
        provenance=_provenance(run, seconds),
        measurements=tuple(run.measurements),
        findings=findings,
        curves=tuple(run.curves),
        tables=tuple(run.tables),
        thumbnails=pictures_of_rows,
        glossary=_glossary(run.measurements),
        notices=tuple(run.notices),
        next_commands=next_commands(evidence),
    )
    return Report(record, samples)


def _lowest(run: MeasuredRun) -> Int[np.ndarray, " m"]:
    scores = run.survey.scores.get("q_score", np.zeros(run.representation.n))
    return np.argsort(scores, kind="stable")[:LISTED_ROWS]


def _evidence(run: MeasuredRun, lowest: Int[np.ndarray, " m"]) -> Evidence:
    kept = run.representation
    repeats, n_relabelled = _repeats(run)
    return Evidence(
        measurements={one.key: one for one in run.measurements},
        levels=tuple(level.name for level in kept.levels),
        attributes=tuple(level.name for level in kept.attributes),
        has_reference=run.has_reference,
        is_negative=run.survey.is_negative,
        lowest_rows=tuple(kept.rows[lowest].tolist()),
        repeats=repeats,
        n_relabelled=n_relabelled,
    )


def _repeats(run: MeasuredRun) -> tuple[tuple[Repeat, ...], int]:
    """Return the first rows that repeat another; of all, how many change the label."""
    kept = run.representation
    rows = hygiene.repeats(run.survey.row_hashes)
    earlier = hygiene.originals(run.survey.row_hashes, rows)
    is_relabelled = np.zeros(len(rows), dtype=bool)
    if kept.levels:
        codes = kept.levels[0].codes
        is_relabelled = codes[rows] != codes[earlier]
    pairs = zip(
        kept.rows[rows[:LISTED_ROWS]].tolist(),
        kept.rows[earlier[:LISTED_ROWS]].tolist(),
        is_relabelled[:LISTED_ROWS].tolist(),
        strict=True,
    )
    return tuple(Repeat(*pair) for pair in pairs), int(is_relabelled.sum())


def _samples(
    run: MeasuredRun, findings: Sequence[Finding]
) -> tuple[Samples, Projection]:
    kept = run.representation
    on_map = np.arange(kept.n)
    if kept.n > MAP_MAXIMUM_ROWS:
        order = np.argsort(hash_ids(kept.ids, _MAP_SEED), kind="stable")
        on_map = np.sort(order[:MAP_MAXIMUM_ROWS])
    projection = principal_map(kept.take(on_map), run.survey.moments)
    places = np.full((kept.n, 2), np.nan)
    places[on_map] = projection.positions
    pointed = [f.rows for f in findings if f.status is Status.FOUND]
    listed = np.isin(kept.rows, [row for rows in pointed for row in rows])
    columns: dict[str, np.ndarray] = {"row": kept.rows, "id": kept.ids}
    for level in kept.levels:
        columns[f"label:{level.name}"] = np.array(level.classes)[level.codes]
    if run.is_test is not None:
        columns["split"] = np.where(run.is_test, "test", "train")
    columns |= run.predicted | run.correct
    columns |= label_free.score_columns(run.survey)
    columns |= {"map_x": places[:, 0], "map_y": places[:, 1], "listed": listed * 1}
    return Samples(columns), projection


def _show(
    run: MeasuredRun,
    samples: Samples,
    lowest: Int[np.ndarray, " m"],
    projection: Projection,
    status: Status | None,
) -> None:
    finest = run.levels[0].name if run.levels else ""
    if "q_score" in samples.columns:
        run.curves.append(
            pictures.histogram_curve(
                "score_q_score",
                "Q-Score",
                samples.columns["q_score"],
                run.correct.get(f"correct:{finest}:linear"),
            )
        )
    shown = ["row", "id", f"label:{finest}", f"predicted:{finest}"]
    shown += ["q_score", "z_max", "l1_norm"]
    run.tables.append(
        pictures.worst_table(lowest.tolist(), samples.columns, shown, status)
    )
    run.tables.append(
        Table(
            name="map",
            title="How true the map is",
            columns=("share of variance shown", "agreement of 10 nearest"),
            rows=((projection.variance_share, projection.neighbour_agreement),),
            how_to_read="The map shows the first two principal components; what is "
            "near on it need not be near in the features.",
        )
    )


def _provenance(run: MeasuredRun, seconds: float) -> Provenance:
    kept = run.representation
    now = datetime.datetime.now(datetime.UTC)
    tested = kept.ids[run.is_test] if run.is_test is not None else kept.ids[:0]
    return Provenance(
        created=now.isoformat(timespec="seconds"),
        seconds=round(seconds, 3),
        seed=run.seed,
        n=kept.n,
        d=kept.d,
        dtype=kept.dtype,
        features_fingerprint=fingerprint(run.survey.row_hashes),
        ids_fingerprint=fingerprint(kept.ids),
        labels_fingerprints={
            level.name: fingerprint(np.array(level.classes)[level.codes])
            for level in kept.levels
        },
        split_fingerprint=fingerprint(tested),
        split_rule=run.split_rule,
        inputs=dict(kept.inputs),
        versions=_environment.versions(),
        machine=_environment.machine(),
    )


def _glossary(measurements: Sequence[Measurement]) -> tuple[Formula, ...]:
    used = {one.formula for one in measurements}
    return tuple(
        dataclasses.replace(metric_of(function).glossary, family=family)
        for family, functions in FAMILIES.items()
        for function in functions
        if metric_of(function).name in used
    )
