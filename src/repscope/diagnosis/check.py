"""What a check is: measurements in, one judgement out.

A check computes no formula; it reads measurements, compares them with named thresholds
and says found, absent, undecided or not applicable, in words that rest on those
numbers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from repscope.records import Finding, Measurement, Severity, Status

PAGES = PurePosixPath("docs/failures")
# Half-widths of its 95 % interval by which an accuracy must exceed the majority share.
BEYOND_GUESSING = 2.0


@dataclass(frozen=True)
class Repeat:
    """A row that equals an earlier one.

    Args:
        row: its number.
        earlier: that of the first row that equals it.
        is_relabelled: whether the finest labels of the two differ.
    """

    row: int
    earlier: int
    is_relabelled: bool = False


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that checks may read.

    Args:
        measurements: by key, as in ``linear_accuracy[coarse]`` or
            ``effective_rank@reference``.
        levels: label levels, fine to coarse.
        attributes: names of the competing factors.
        has_reference: whether features of the same rows from elsewhere were given.
        is_negative: whether any feature is below zero.
        lowest_rows: row numbers with the lowest Q-Score, the lowest first.
        repeats: rows that repeat an earlier row.
        n_relabelled: all repeats whose finest label is not that of the earlier row.
    """

    measurements: Mapping[str, Measurement]
    levels: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    has_reference: bool = False
    is_negative: bool = False
    lowest_rows: tuple[int, ...] = ()
    repeats: tuple[Repeat, ...] = ()
    n_relabelled: int = 0

    def measurement(
        self, name: str, *, level: str | None = None, layer: str = "features"
    ) -> Measurement | None:
        """Return a measurement, or None where it was not taken."""
        key = f"{name}[{level}]" if level else name
        return self.measurements.get(key if layer == "features" else f"{key}@{layer}")

    def value(
        self, name: str, *, level: str | None = None, layer: str = "features"
    ) -> float | None:
        """Return a measurement's value, or None where it was not taken or decided."""
        found = self.measurement(name, level=level, layer=layer)
        return None if found is None else found.value

    def detail(
        self, name: str, key: str, *, level: str | None = None, layer: str = "features"
    ) -> float | None:
        """Return a number from a measurement's details, or None."""
        found = self.measurement(name, level=level, layer=layer)
        detail = None if found is None else found.details.get(key)
        return float(detail) if isinstance(detail, int | float) else None

    def skill(self, level: str, *, layer: str = "features") -> float | None:
        """Return the linear probe's skill: 0 at the majority share, 1 perfect."""
        return self.detail("linear_accuracy", "skill", level=level, layer=layer)

    def reads(self, level: str) -> bool:
        """Return whether the linear probe is right more often than guessing could be.

        However hard the labels are, accuracy above the majority share by twice the
        half-width of its interval (about four standard errors) is no chance.
        """
        probe = self.measurement("linear_accuracy", level=level)
        majority = self.detail("linear_accuracy", "majority", level=level)
        if probe is None or probe.value is None or not probe.interval:
            return False
        certain = BEYOND_GUESSING * (probe.value - probe.interval[0])
        return majority is not None and probe.value - majority >= certain

    def those(self, *keys: str) -> tuple[Measurement, ...]:
        """Return the measurements among `keys` that were taken."""
        return tuple(self.measurements[key] for key in keys if key in self.measurements)


@dataclass(frozen=True)
class Judgement:
    """What a check says about the evidence.

    `remedies` are those of the check that apply; None stands for all of them.
    """

    status: Status
    explanation: str
    action: str = ""
    evidence: tuple[Measurement, ...] = ()
    rows: tuple[int, ...] = field(default=())
    remedies: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Check:
    """One failure and how it is recognised.

    Args:
        code: stable for ever.
        title: the failure's name.
        severity: "failure" and "warning" count for the verdict, "advisory" does not.
        needs: what must be given for a decision, in words.
        cost: what it costs beyond the measurements.
        name: the name of its file, its page and its test.
        remedies: codes of the remedies that apply.
        decide: the judgement.
    """

    code: str
    title: str
    severity: Severity
    needs: str
    name: str
    remedies: tuple[str, ...]
    decide: Callable[[Evidence], Judgement]
    cost: str = "free once measured"

    @property
    def page(self) -> str:
        """The documentation page."""
        return str(PAGES / f"{self.name}.md")

    def finding(self, evidence: Evidence) -> Finding:
        """Return the finding of this check."""
        judgement = self.decide(evidence)
        remedies = self.remedies if judgement.remedies is None else judgement.remedies
        return Finding(
            code=self.code,
            title=self.title,
            status=judgement.status,
            severity=self.severity,
            explanation=judgement.explanation,
            action=judgement.action,
            evidence=judgement.evidence,
            remedies=remedies if judgement.status is Status.FOUND else (),
            rows=judgement.rows,
            page=self.page,
        )


def not_applicable(reason: str) -> Judgement:
    """Return that the check has nothing to judge."""
    return Judgement(Status.NOT_APPLICABLE, reason)


def undecided(reason: str, evidence: tuple[Measurement, ...] = ()) -> Judgement:
    """Return that the evidence does not suffice."""
    return Judgement(Status.UNDECIDED, reason, evidence=evidence)


def absent(reason: str, evidence: tuple[Measurement, ...] = ()) -> Judgement:
    """Return that the failure is not there."""
    return Judgement(Status.ABSENT, reason, evidence=evidence)
