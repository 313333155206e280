"""Which run is better, and is the difference more than chance?

Runs are joined on row ids. Accuracies and scores are compared row by row with a paired
bootstrap, spectra block by block with a paired jackknife; what overlaps zero is called
not distinguishable.
"""

import dataclasses
import datetime
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import scipy.special
from jaxtyping import Float, Int, Shaped

from repscope import _environment
from repscope._arrays import hash_ids
from repscope._checking import InputError, UsageError
from repscope.metrics.intervals import CONFIDENCE
from repscope.records import (
    Curve,
    Finding,
    Measurement,
    Provenance,
    RunRecord,
    Samples,
    Scalar,
    Status,
    Table,
    Verdict,
)
from repscope.report.report import Report

BOOTSTRAP_DRAWS = 2000
# Rows are gathered into this many groups before they are drawn; each row its own if
# fewer.
BOOTSTRAP_GROUPS = 1000
PROBES = ("linear", "ridge", "knn", "ncc")
# Scores whose mean does not depend on the features' scale.
SCALE_FREE_SCORES = ("z_max", "q_score_normalized", "gini", "hoyer", "soft_sparsity")

Method = Literal["paired bootstrap", "paired jackknife", "unpaired", "none"]


@dataclass(frozen=True)
class Difference:
    """One number of a run less that of the baseline.

    Args:
        key: the measurement's key.
        run: the run's name.
        baseline_value: the number in the baseline.
        value: the number in the run.
        difference: value less baseline value, over the rows that both have where rows
            can be paired.
        interval: 95 % of the difference, or None.
        method: how the interval was made.
        n: rows that both have.
        direction: which way is better.
    """

    key: str
    run: str
    baseline_value: float
    value: float
    difference: float
    interval: tuple[float, float] | None
    method: Method
    n: int
    direction: str

    @property
    def verdict(self) -> str:
        """In words: better, worse, higher, lower, equal or not distinguishable."""
        if self.difference == 0 and self.interval in (None, (0.0, 0.0)):
            return "equal"
        if self.interval is None:
            return "no interval"
        if self.interval[0] <= 0 <= self.interval[1]:
            return "not distinguishable"
        rises = self.difference > 0
        if self.direction in ("higher", "lower"):
            return "better" if rises == (self.direction == "higher") else "worse"
        return "higher" if rises else "lower"


@dataclass(frozen=True, eq=False)
class _Run:
    name: str
    record: RunRecord
    samples: Samples


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
        curves=_overlaid(opened),
        tables=(
            _findings_table(opened),
            _differences_table(differences),
            _values_table(opened),
        ),
        glossary=baseline.record.glossary,
        notices=_notices(baseline, others),
    )
    return Report(record, Samples({}))


def _opened(run: Report | str | Path) -> _Run:
    report = run if isinstance(run, Report) else Report.load(run)
    if report.record.kind != "diagnosis":
        raise InputError(
            f"{run if not isinstance(run, Report) else 'a report'}: is itself a "
            f"comparison",
            expected="folders that `repscope diagnose` wrote",
        )
    name = report.record.title if isinstance(run, Report) else Path(run).name
    return _Run(name or report.record.title, report.record, report.samples)


def _named(runs: Sequence[_Run]) -> list[_Run]:
    """Return runs with names of their own."""
    seen: dict[str, int] = {}
    renamed = []
    for run in runs:
        seen[run.name] = seen.get(run.name, 0) + 1
        count = seen[run.name]
        name = run.name if count == 1 else f"{run.name} ({count})"
        renamed.append(_Run(name, run.record, run.samples))
    return renamed


def _shared_ids(
    baseline: _Run, run: _Run
) -> tuple[Shaped[np.ndarray, " m"], Shaped[np.ndarray, " m"]]:
    """Return the positions in both runs of the ids that both have."""
    first, second = baseline.samples.columns.get("id"), run.samples.columns.get("id")
    if first is None or second is None:
        return np.arange(0), np.arange(0)
    if first.dtype.kind != second.dtype.kind:
        first, second = first.astype(str), second.astype(str)
    _, a, b = np.intersect1d(first, second, assume_unique=True, return_indices=True)
    return a, b


def differences_of(baseline: _Run, run: _Run) -> list[Difference]:
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


_SCALE_BOUND = frozenset(
    {
        "feature_mean",
        "feature_std",
        "l1_norm",
        "q_score",
        "within_variance",
        "between_squared_distance",
    }
)


def _is_comparable(measurement: Measurement) -> bool:
    return measurement.name not in _SCALE_BOUND and measurement.layer != "reference"


def _interval(
    baseline: _Run,
    run: _Run,
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
    same_rows = _fingerprint(baseline) == _fingerprint(run)
    if same_rows and one.replicates and len(one.replicates) == len(other.replicates):
        interval = _paired_jackknife(one, other)
        return difference, interval, "paired jackknife", other.n
    if one.interval and other.interval:
        return difference, _unpaired(one, other), "unpaired", min(one.n, other.n)
    return difference, None, "none", min(one.n, other.n)


def _fingerprint(run: _Run) -> str:
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


def _differences_table(differences: Sequence[Difference]) -> Table:
    columns = ("run", "metric", "baseline", "value", "difference", "from", "to")
    rows: list[tuple[Scalar, ...]] = []
    for one in differences:
        low, high = one.interval or (None, None)
        values = (one.baseline_value, one.value, one.difference, low, high)
        rows.append((one.run, one.key, *values, one.verdict, one.method, one.n))
    return Table(
        name="differences",
        title="Differences from the baseline",
        columns=(*columns, "verdict", "method", "n"),
        rows=tuple(rows),
        how_to_read="From and to bound 95 % of the difference; where they enclose "
        "zero the "
        "runs are not distinguishable. Numbers with a unit of their own (L1, Q-Score, "
        "variances) are not compared.",
    )


def _values_table(runs: Sequence[_Run]) -> Table:
    by_run = [{m.key: m.value for m in run.record.measurements} for run in runs]
    keys = list(dict.fromkeys(key for values in by_run for key in values))
    return Table(
        name="values",
        title="All numbers side by side",
        columns=("metric", *[run.name for run in runs]),
        rows=tuple((key, *[values.get(key) for values in by_run]) for key in keys),
        how_to_read="An empty cell was not measured or could not be decided.",
    )


def _findings_table(runs: Sequence[_Run]) -> Table:
    codes = list(dict.fromkeys(f.code for run in runs for f in run.record.findings))
    titles = {f.code: f.title for run in runs for f in run.record.findings}
    by_run = [{f.code: f.status.value for f in r.record.findings} for r in runs]
    verdicts = ("verdict", "", *[run.record.verdict.word for run in runs])
    rows = [
        (code, titles[code], *[found.get(code) for found in by_run]) for code in codes
    ]
    return Table(
        name="findings",
        title="Verdicts and findings side by side",
        columns=("code", "check", *[run.name for run in runs]),
        rows=(verdicts, *rows),
    )


def _changed_findings(baseline: _Run, runs: Sequence[_Run]) -> tuple[Finding, ...]:
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


def _sentence(baseline: _Run, others: Sequence[_Run]) -> str:
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


def _overlaid(runs: Sequence[_Run]) -> tuple[Curve, ...]:
    """Return the spectra of the runs over one another."""
    spectra = [
        (run.name, curve)
        for run in runs
        for curve in run.record.curves
        if curve.name == "spectrum" and curve.series
    ]
    if len(spectra) < 2:
        return ()
    series = tuple(
        dataclasses.replace(curve.series[0], label=name) for name, curve in spectra
    )
    how = "One line per run; a steeper one keeps less in its later dimensions."
    return (
        dataclasses.replace(spectra[0][1], series=series, shaded=None, how_to_read=how),
    )


def _notices(baseline: _Run, others: Sequence[_Run]) -> tuple[str, ...]:
    return tuple(notice for run in others for notice in _notices_of(baseline, run))


def _notices_of(baseline: _Run, run: _Run) -> list[str]:
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
