"""Which run is better, and is the difference more than chance?

Runs are joined on row ids. Accuracies and scores are compared row by row with a paired
bootstrap, spectra block by block with a paired jackknife; what overlaps zero is called
not distinguishable.
"""

import dataclasses
import datetime
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scipy.special
from jaxtyping import Float, Int, Shaped

from repscope import _environment
from repscope._arrays import hash_ids
from repscope._checking import InputError, UsageError
from repscope.diagnosis.comparison_pictures import (
    ComparedRun,
    Difference,
    Method,
    differences_table,
    findings_table,
    overlaid_spectra,
    values_table,
)
from repscope.metrics.catalogue import METRICS
from repscope.metrics.intervals import CONFIDENCE
from repscope.records import (
    Finding,
    Measurement,
    Provenance,
    RunRecord,
    Samples,
    Status,
    Verdict,
)
from repscope.report.report import Report

BOOTSTRAP_DRAWS = 2000
# Rows are gathered into this many groups before they are drawn; each row its own if
# fewer.
BOOTSTRAP_GROUPS = 1000
PROBES = ("linear", "squared_hinge", "ridge", "knn", "ncc")
# Scores whose mean does not depend on the features' scale.
SCALE_FREE_SCORES = ("z_max", "q_score_normalized", "gini", "hoyer", "soft_sparsity")


def compare(*runs: Report | str | Path) -> Report:
    """Return what distinguishes runs from the first of them, the baseline.

    Args:
        runs: two or more reports, or the folders they were saved in.

    Raises:
        UsageError: with fewer than two runs.
        InputError: where a folder holds no run, or is itself a comparison.
    """
    if len(runs) < 2:
        raise UsageError(
            "compare: two runs or more are needed",
            found=str(len(runs)),
            fix="repscope compare BASELINE OTHER ...",
        )
    opened = _named([_opened(run) for run in runs])
    baseline, *others = opened
    differences = [d for run in others for d in differences_of(baseline, run)]
    started = datetime.datetime.now(datetime.UTC)
    record = RunRecord(
        kind="comparison",
        title=" against ".join([", ".join(r.name for r in others), baseline.name]),
        verdict=Verdict(word="COMPARED", sentence=_sentence(baseline, others)),
        provenance=Provenance(
            created=started.isoformat(timespec="seconds"),
            n=len(_shared_ids(baseline, others[0])[0]),
            inputs={run.name: run.record.provenance.ids_fingerprint for run in opened},
            versions=_environment.versions(),
            machine=_environment.machine(),
        ),
        findings=_changed_findings(baseline, others),
        curves=overlaid_spectra(opened),
        tables=(
            findings_table(opened),
            differences_table(differences),
            values_table(opened),
        ),
        glossary=tuple({f.id: f for r in opened for f in r.record.glossary}.values()),
        notices=_notices(baseline, others),
    )
    return Report(record, Samples({}))


def _opened(run: Report | str | Path) -> ComparedRun:
    report = run if isinstance(run, Report) else Report.load(run)
    if report.record.kind != "diagnosis":
        raise InputError(
            f"{run if not isinstance(run, Report) else 'a report'}: is itself a "
            f"comparison",
            expected="folders that `repscope diagnose` wrote",
        )
    name = report.record.title if isinstance(run, Report) else Path(run).name
    return ComparedRun(name or report.record.title, report.record, report.samples)


def _named(runs: Sequence[ComparedRun]) -> list[ComparedRun]:
    """Return runs with names of their own."""
    seen: dict[str, int] = {}
    renamed = []
    for run in runs:
        seen[run.name] = seen.get(run.name, 0) + 1
        count = seen[run.name]
        name = run.name if count == 1 else f"{run.name} ({count})"
        renamed.append(ComparedRun(name, run.record, run.samples))
    return renamed


def _shared_ids(
    baseline: ComparedRun, run: ComparedRun
) -> tuple[Shaped[np.ndarray, " m"], Shaped[np.ndarray, " m"]]:
    """Return the positions in both runs of the ids that both have.

    Row numbers name the same images only where both runs have equally many rows.
    """
    first, second = baseline.samples.columns.get("id"), run.samples.columns.get("id")
    nameless = baseline.has_row_numbers and run.has_row_numbers
    if first is None or second is None or (nameless and len(first) != len(second)):
        return np.arange(0), np.arange(0)
    if first.dtype.kind != second.dtype.kind:
        first, second = first.astype(str), second.astype(str)
    _, a, b = np.intersect1d(first, second, assume_unique=True, return_indices=True)
    return a, b


def differences_of(baseline: ComparedRun, run: ComparedRun) -> list[Difference]:
    """Return the difference of every number that both runs have.

    Numbers that depend on the features' scale (L1, Q-Score, variances) are left out:
    they differ between encoders for no reason.
    """
    rows = _shared_ids(baseline, run)
    first = {m.key: m for m in baseline.record.measurements}
    differences = []
    for other in run.record.measurements:
        one = first.get(other.key)
        if one is None or one.value is None or other.value is None:
            continue
        if not _is_comparable(one):
            continue
        difference, interval, method, n = _interval(baseline, run, one, other, rows)
        differences.append(
            Difference(
                key=other.key,
                run=run.name,
                baseline_value=one.value,
                value=other.value,
                difference=difference,
                interval=interval,
                method=method,
                n=n,
                direction=other.direction,
            )
        )
    return differences


# Values that change with the scale of the features, which no two encoders share.
_SCALE_BOUND = frozenset(
    entry.name
    for entry in METRICS
    if entry.degree not in (0, None) or entry.name in ("lidar", "score_gap")
)


def _is_comparable(measurement: Measurement) -> bool:
    return measurement.name not in _SCALE_BOUND and measurement.layer != "reference"


def _interval(
    baseline: ComparedRun,
    run: ComparedRun,
    one: Measurement,
    other: Measurement,
    rows: tuple[Shaped[np.ndarray, " m"], Shaped[np.ndarray, " m"]],
) -> tuple[float, tuple[float, float] | None, Method, int]:
    """Return the difference, its interval, the method and the rows behind it."""
    difference = (other.value or 0.0) - (one.value or 0.0)
    column = _row_column(other)
    pair = [r.samples.columns.get(column) for r in (baseline, run)]
    if pair[0] is not None and pair[1] is not None:
        gains = pair[1][rows[1]].astype(float) - pair[0][rows[0]].astype(float)
        known = np.isfinite(gains)
        if known.sum() >= 2:
            ids = baseline.samples.columns["id"][rows[0]][known]
            gains = gains[known]
            interval = paired_bootstrap(gains, ids)
            return float(gains.mean()), interval, "paired bootstrap", len(gains)
    if difference == 0 and _same_features(baseline, run):
        return 0.0, (0.0, 0.0), "the same features", min(one.n, other.n)
    same_rows = _fingerprint(baseline) == _fingerprint(run)
    if same_rows and one.replicates and len(one.replicates) == len(other.replicates):
        interval = _paired_jackknife(one, other)
        return difference, interval, "paired jackknife", other.n
    if one.interval and other.interval:
        return difference, _unpaired(one, other), "unpaired", min(one.n, other.n)
    return difference, None, "none", min(one.n, other.n)


def _same_features(baseline: ComparedRun, run: ComparedRun) -> bool:
    one, other = baseline.record.provenance, run.record.provenance
    return one.features_fingerprint == other.features_fingerprint


def _fingerprint(run: ComparedRun) -> str:
    return run.record.provenance.ids_fingerprint


def _row_column(measurement: Measurement) -> str:
    """Return the column of per-row values that a measurement is the mean of."""
    probe = measurement.name.removesuffix("_accuracy")
    if probe in PROBES and measurement.level:
        return f"correct:{measurement.level}:{probe}"
    return measurement.name if measurement.name in SCALE_FREE_SCORES else ""


def paired_bootstrap(
    gains: Float[np.ndarray, " n"], ids: Shaped[np.ndarray, " n"], *, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the mean gain.

    Above 1,000 rows, rows are first gathered into 1,000 groups by the hash of their id,
    and groups are drawn.

    Args:
        gains: per row, value in the run less value in the baseline.
        ids: row ids.
        seed: of the draws.

    Source: Efron 1979; Efron, Tibshirani 1993, Section 13.3 (percentile). As in the
        source.
    """
    if len(gains) > BOOTSTRAP_GROUPS:
        group = (hash_ids(ids, seed) % np.uint64(BOOTSTRAP_GROUPS)).astype(np.int64)
    else:
        group = np.arange(len(gains))
    sums = np.bincount(group, weights=gains)
    sizes = np.bincount(group)
    sums, sizes = sums[sizes > 0], sizes[sizes > 0]
    counts = _drawn(len(sums), seed)
    means = (counts @ sums) / (counts @ sizes)
    tails = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    low, high = np.quantile(means, tails)
    return float(low), float(high)


@functools.lru_cache(maxsize=2)
def _drawn(groups: int, seed: int) -> Int[np.ndarray, "draws groups"]:
    """Return how often each group is drawn; the same for every number of a run."""
    generator = np.random.default_rng(seed)
    chances = np.full(groups, 1 / groups)
    return generator.multinomial(groups, chances, size=BOOTSTRAP_DRAWS)


def _paired_jackknife(one: Measurement, other: Measurement) -> tuple[float, float]:
    """Return the interval of the difference from its leave-one-block-out values."""
    difference = (other.value or 0.0) - (one.value or 0.0)
    replicates = np.array(other.replicates) - np.array(one.replicates)
    k = len(replicates)
    variance = (k - 1) / k * ((replicates - replicates.mean()) ** 2).sum()
    half = float(scipy.special.stdtrit(k - 1, (1 + CONFIDENCE) / 2) * np.sqrt(variance))
    return difference - half, difference + half


def _unpaired(one: Measurement, other: Measurement) -> tuple[float, float]:
    """Return the interval of the difference of two independent numbers."""
    difference = (other.value or 0.0) - (one.value or 0.0)
    halves = [(m.interval[1] - m.interval[0]) / 2 for m in (one, other) if m.interval]
    half = float(np.hypot(halves[0], halves[1]))
    return difference - half, difference + half


def _changed_findings(
    baseline: ComparedRun, runs: Sequence[ComparedRun]
) -> tuple[Finding, ...]:
    """Return the findings of the runs that the baseline does not have."""
    before = {f.code for f in baseline.record.findings if f.status is Status.FOUND}
    return tuple(
        _in_run(finding, run.name)
        for run in runs
        for finding in run.record.findings
        if finding.status is Status.FOUND and finding.code not in before
    )


def _in_run(finding: Finding, name: str) -> Finding:
    return dataclasses.replace(finding, title=f"{finding.title} in {name}", rows=())


def _sentence(baseline: ComparedRun, others: Sequence[ComparedRun]) -> str:
    parts = []
    for run in others:
        found = [
            finding.code
            for finding in _changed_findings(baseline, [run])
            if finding.severity != "advisory"
        ]
        said = f"adds {', '.join(found)}" if found else "adds no failure"
        parts.append(f"{run.name} ({run.record.verdict.word}) {said}")
    return (
        f"Against {baseline.name} ({baseline.record.verdict.word}): "
        + "; ".join(parts)
        + "."
    )


def _notices(baseline: ComparedRun, others: Sequence[ComparedRun]) -> tuple[str, ...]:
    return tuple(notice for run in others for notice in _notices_of(baseline, run))


def _notices_of(baseline: ComparedRun, run: ComparedRun) -> list[str]:
    notices = []
    shared = len(_shared_ids(baseline, run)[0])
    mine, theirs = run.record.provenance, baseline.record.provenance
    same_rows = mine.ids_fingerprint == theirs.ids_fingerprint
    if not same_rows:
        notices.append(
            f"{run.name} and {baseline.name} hold different rows: {shared:,} ids are "
            f"in "
            f"both, of {mine.n:,} and {theirs.n:,}; spectra are compared unpaired"
        )
        if run.has_row_numbers and baseline.has_row_numbers:
            notices.append(
                f"{run.name} and {baseline.name} have no ids, so no row is compared "
                "with its like: give --ids where they share images"
            )
    if mine.split_fingerprint != theirs.split_fingerprint and shared:
        notices.append(
            f"{run.name} was tested on other rows than {baseline.name}; accuracies are "
            "compared on the test rows that both have"
        )
    if mine.features_fingerprint == theirs.features_fingerprint:
        notices.append(f"{run.name} and {baseline.name} hold the same features")
    labels, others = mine.labels_fingerprints, theirs.labels_fingerprints
    if same_rows:
        notices += [
            f"labels of {level!r} differ between {run.name} and {baseline.name}: their "
            "accuracies do not compare"
            for level in sorted(labels.keys() & others.keys())
            if labels[level] != others[level]
        ]
    return notices
