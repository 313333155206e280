"""What came out of a reproduction? Observed beside expected and published, and kept.

An outcome holds plain values only: it is written as ``results.json`` and read again
without data, weights or torch.
"""

import io
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from repscope._checking import InputError
from repscope.experiments.experiment import Experiment, Observation
from repscope.files.file_access import local_path, reading
from repscope.files.saving import write_together
from repscope.records import SCHEMA_VERSION, Provenance, from_json, to_json
from repscope.report.wording import interval_text, rounded

RESULTS_NAME = "results.json"

OutcomeStatus = Literal["pass", "fail", "report only"]
_HEADING = ("number", "observed", "95 % interval", "expected", "published")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One number: as observed, as expected beforehand, as published.

    Args:
        name: of the quantity.
        title: for people.
        observed: the number.
        interval: of 95 %; None where none is known.
        expected: beforehand.
        tolerance: how far from `expected` is no surprise.
        is_expected: whether it is within that.
        published: by the source; None where it gives none for this set-up.
        setting: of the published number, where it differs.
    """

    name: str
    title: str
    observed: float
    interval: tuple[float, float] | None
    expected: float
    tolerance: float
    is_expected: bool
    published: float | None
    setting: str


@dataclass(frozen=True, kw_only=True)
class ConditionResult:
    """A part of the predicate, and whether it holds."""

    text: str
    holds: bool


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A reproduction that has run.

    Args:
        id: of the experiment.
        title: of the experiment.
        claim: that was tested.
        source: of the claim.
        status: "pass" where all conditions hold, "fail" where one does not, "report
            only" where they do not decide.
        comparisons: all numbers.
        conditions: the predicate, part by part.
        caveats: what must be known to read it.
        recipes: name → what was trained, as TOML.
        provenance: when, on what, from which images.
        schema_version: of the record.
    """

    id: str
    title: str
    claim: str
    source: str
    status: OutcomeStatus
    comparisons: tuple[Comparison, ...]
    conditions: tuple[ConditionResult, ...]
    caveats: tuple[str, ...]
    recipes: Mapping[str, str]
    provenance: Provenance
    schema_version: str = SCHEMA_VERSION

    @property
    def numbers(self) -> dict[str, float]:
        """The observed numbers by name."""
        return {one.name: one.observed for one in self.comparisons}

    def text(self, *, width: int = 80) -> str:
        """Return the outcome as lines for a terminal: numbers, conditions, caveats.

        Args:
            width: at which prose is wrapped; the table is as wide as it must be.
        """
        rows = [_cells(one) for one in self.comparisons]
        settings = [
            f"published for {one.title}: {one.setting}"
            for one in self.comparisons
            if one.setting
        ]
        lines = [
            f"{self.id}  {self.title}: {self.status.upper()}",
            *_wrapped("claim:", self.claim, width),
            *_wrapped("source:", self.source, width),
            "",
            *(f"  {line}" for line in _aligned([_HEADING, *rows])),
            "",
        ]
        for condition in self.conditions:
            lines += _wrapped("yes" if condition.holds else "NO", condition.text, width)
        for note in (*settings, *self.caveats):
            lines += _wrapped("note:", note, width)
        return "\n".join(lines)

    def save(self, folder: Path) -> None:
        """Write ``results.json`` into a folder: whole, or not at all.

        Raises:
            ResourceError: where it cannot be written.
        """
        content = (to_json(self, indent=2) + "\n").encode("utf-8")

        def write(file: io.BufferedIOBase) -> None:
            file.write(content)

        write_together(folder, {RESULTS_NAME: write}, len(content))

    @classmethod
    def load(cls, folder: str | Path) -> "Outcome":
        """Return the outcome in a folder.

        Raises:
            InputError: where there is none, or it is damaged.
        """
        path = local_path(folder) / RESULTS_NAME
        with reading(path):
            text = path.read_text(encoding="utf-8")
        try:
            return from_json(cls, text)
        except InputError as error:
            raise InputError(f"{path}: no outcome of an experiment: {error}") from error


def outcome_of(
    experiment: Experiment,
    observed: Mapping[str, Observation],
    provenance: Provenance,
) -> Outcome:
    """Return the outcome of an experiment.

    Args:
        experiment: that has run.
        observed: what it measured, by name.
        provenance: of the run.

    Raises:
        InputError: where a number is missing, superfluous, NaN or infinite.
    """
    judged = experiment.judge({name: one.value for name, one in observed.items()})
    status: OutcomeStatus = "report only"
    if experiment.kind == "gate":
        status = "pass" if all(holds for _, holds in judged) else "fail"
    return Outcome(
        id=experiment.id,
        title=experiment.title,
        claim=experiment.claim,
        source=experiment.source,
        status=status,
        comparisons=_comparisons(experiment, observed),
        conditions=tuple(ConditionResult(text=t, holds=holds) for t, holds in judged),
        caveats=experiment.caveats,
        recipes={name: one.dump() for name, one in experiment.recipes.items()},
        provenance=provenance,
    )


def _comparisons(
    experiment: Experiment, observed: Mapping[str, Observation]
) -> tuple[Comparison, ...]:
    return tuple(
        Comparison(
            name=one.name,
            title=one.title,
            observed=observed[one.name].value,
            interval=observed[one.name].interval,
            expected=one.expected,
            tolerance=one.tolerance,
            is_expected=abs(observed[one.name].value - one.expected) <= one.tolerance,
            published=one.published,
            setting=one.setting,
        )
        for one in experiment.quantities
    )


def _cells(one: Comparison) -> tuple[str, ...]:
    expected = f"{one.expected:g} ± {one.tolerance:g}"
    return (
        one.title,
        rounded(one.observed),
        interval_text(one.interval),
        expected if one.is_expected else f"{expected}, not so",
        "" if one.published is None else f"{one.published:g}",
    )


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(map(str.ljust, row, widths)).rstrip()  # one width per column
        for row in rows
    ]


def _wrapped(head: str, text: str, width: int) -> list[str]:
    return textwrap.wrap(
        f"{head} {text}", width, initial_indent="  ", subsequent_indent="    "
    )
