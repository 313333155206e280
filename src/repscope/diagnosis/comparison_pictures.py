"""What a comparison shows: differences, findings and values side by side."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from repscope.records import Curve, RunRecord, Samples, Scalar, Table

Method = Literal[
    "paired bootstrap", "paired jackknife", "unpaired", "the same features", "none"
]


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
class ComparedRun:
    """A run with the name it has in the comparison."""

    name: str
    record: RunRecord
    samples: Samples

    @property
    def has_row_numbers(self) -> bool:
        """Whether its ids are the numbers of its rows, because none were given."""
        ids = self.samples.columns.get("id")
        rows = self.samples.columns.get("row")
        if ids is None or rows is None or ids.dtype.kind not in "iu":
            return False
        return bool((ids == rows).all())


def differences_table(differences: Sequence[Difference]) -> Table:
    """Return every difference with its interval and verdict."""
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


def values_table(runs: Sequence[ComparedRun]) -> Table:
    """Return all numbers of all runs side by side."""
    by_run = [{m.key: m.value for m in run.record.measurements} for run in runs]
    keys = list(dict.fromkeys(key for values in by_run for key in values))
    return Table(
        name="values",
        title="All numbers side by side",
        columns=("metric", *[run.name for run in runs]),
        rows=tuple((key, *[values.get(key) for values in by_run]) for key in keys),
        how_to_read="An empty cell was not measured or could not be decided.",
    )


def findings_table(runs: Sequence[ComparedRun]) -> Table:
    """Return verdicts and findings of all runs side by side."""
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


def overlaid_spectra(runs: Sequence[ComparedRun]) -> tuple[Curve, ...]:
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
