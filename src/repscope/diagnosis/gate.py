"""Should this run fail a build? Expressions that state what counts as a failure.

A gate is a finding (``RS102``, ``RS1xx``, ``any``; ``RS102?`` fails on undecided too)
or a comparison of a measurement with a number, which may be a share of d, n or the
baseline's value (``effective_rank<0.3*d``). Expressions are parsed, never executed.
"""

import math
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from repscope._checking import (
    Undecidable,
    UsageError,
    check_choice,
    did_you_mean,
)
from repscope.records import Finding, Measurement, RunRecord, Status

Unit = Literal["", "d", "n", "baseline"]

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_FINDING = re.compile(r"(?P<code>any|rs\d(?:\d\d|xx))(?P<undecided>\?)?", re.IGNORECASE)
_NUMBER = re.compile(
    r"(?P<name>[A-Za-z_]\w*)(?:\[(?P<level>.+)\])?(?:@(?P<layer>[^\s<>=]+))?"
    r"\s*(?P<comparison><=|>=|<|>)\s*(?P<threshold>[^<>=]+)"
)
_THRESHOLD = re.compile(
    r"(?P<factor>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)?"
    r"(?(factor)(?:\s*\*\s*(?P<of>d|n|baseline))?|(?P<bare>d|n|baseline))"
)
_SEPARATOR = re.compile(r",(?![^\[]*\])")  # not the commas inside [level]
_GRAMMAR = (
    "write RS102, RS1xx or any (RS102? fails on undecided too), or a comparison such "
    "as effective_rank<20, effective_rank<0.3*d or linear_accuracy[coarse]<0.5"
)


@dataclass(frozen=True)
class FindingGate:
    """Fails when a check has found its failure.

    Args:
        text: the expression as written.
        code: ``RS102``, ``RS1xx`` (every code that begins so) or ``any``.
        undecided_fails: whether an undecided finding fails too.
    """

    text: str
    code: str
    undecided_fails: bool


@dataclass(frozen=True)
class NumberGate:
    """Fails when a measurement compares so with its threshold, or has no value.

    Args:
        text: the expression as written.
        name: the measurement's name.
        level: the label level or attribute; None when not named.
        layer: the layer; None when not named.
        comparison: ``<``, ``<=``, ``>`` or ``>=``.
        factor: the number.
        unit: what the number is a share of; "" for a plain number.
    """

    text: str
    name: str
    level: str | None
    layer: str | None
    comparison: str
    factor: float
    unit: Unit

    @property
    def key(self) -> str:
        """The measurement as written, such as ``linear_accuracy[coarse]``."""
        level = f"[{self.level}]" if self.level else ""
        return self.name + level + (f"@{self.layer}" if self.layer else "")


Gate = FindingGate | NumberGate


@dataclass(frozen=True)
class GateResult:
    """What the gates say: one line for each that failed.

    Args:
        failures: such as ``effective_rank 3.1 < 20``; empty when all passed.
    """

    failures: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether no gate failed."""
        return not self.failures


def check_gates(
    gates: Iterable[Gate], codes: Iterable[str], metrics: Iterable[str]
) -> None:
    """Raise UsageError for a gate on a code or metric that does not exist.

    Args:
        gates: parsed.
        codes: of all checks.
        metrics: names of all metrics.
    """
    known_codes, known_metrics = list(codes), list(metrics)
    for gate in gates:
        if isinstance(gate, NumberGate):
            check_choice("metric", gate.name, known_metrics)
        elif gate.code != "any" and "x" not in gate.code:
            check_choice("finding code", gate.code, known_codes)


def parse_gates(texts: Iterable[str]) -> tuple[Gate, ...]:
    """Return the gates of several expressions, each with commas between its gates.

    Args:
        texts: the values of the option ``--fail-on``.

    Raises:
        UsageError: where an expression is not in the grammar.

    Example:
        >>> [gate.text for gate in parse_gates(["RS102, rankme<8", "any"])]
        ['RS102', 'rankme<8', 'any']
    """
    return tuple(parse_gate(part) for text in texts for part in _SEPARATOR.split(text))


def parse_gate(text: str) -> Gate:
    """Return one gate.

    Args:
        text: one expression, such as ``RS102`` or ``effective_rank<0.3*d``.

    Raises:
        UsageError: where the expression is not in the grammar.

    Example:
        >>> parse_gate("effective_rank < 0.3*d").unit
        'd'
    """
    text = text.strip()
    finding = _FINDING.fullmatch(text)
    if finding:
        code = finding["code"].lower()
        code = code if code == "any" else code.replace("rs", "RS")
        return FindingGate(text, code, undecided_fails=bool(finding["undecided"]))
    number = _NUMBER.fullmatch(text)
    if not number:
        raise UsageError(f"--fail-on: cannot read {text!r}", fix=_GRAMMAR)
    factor, unit = _parse_threshold(number["threshold"].strip(), text)
    return NumberGate(
        text,
        number["name"],
        number["level"],
        number["layer"],
        number["comparison"],
        factor,
        unit,
    )


def _parse_threshold(threshold: str, text: str) -> tuple[float, Unit]:
    match = _THRESHOLD.fullmatch(threshold)
    factor = float(match["factor"] or 1) if match else math.inf
    if match is None or not math.isfinite(factor):
        raise UsageError(
            f"--fail-on: cannot read {threshold!r} in {text!r}",
            expected="a number, or a number times d, n or baseline",
            fix=_GRAMMAR,
        )
    return factor, cast(Unit, match["of"] or match["bare"] or "")


def evaluate(
    gates: Sequence[Gate], record: RunRecord, baseline: RunRecord | None = None
) -> GateResult:
    """Return which gates fail on a run.

    A finding fails its gate when found; an undecided one only where the gate says so. A
    measurement without a value fails its gate, with the reason.

    Args:
        gates: from `parse_gates`.
        record: the run.
        baseline: the run that ``baseline`` in a threshold refers to.

    Raises:
        UsageError: for a code or a measurement that the run does not hold, for a name
            that fits several measurements, and for ``baseline`` without one.
    """
    failures: list[str] = []
    for gate in gates:
        if isinstance(gate, FindingGate):
            failures += _failing_findings(gate, record)
        else:
            failures += _failing_numbers(gate, record, baseline)
    return GateResult(tuple(dict.fromkeys(failures)))


def _failing_findings(gate: FindingGate, record: RunRecord) -> list[str]:
    fails = {Status.FOUND} | ({Status.UNDECIDED} if gate.undecided_fails else set())
    return [
        f"{finding.code} {finding.title}: {finding.status.value}"
        for finding in _named_findings(gate, record)
        if finding.status in fails
    ]


def _named_findings(gate: FindingGate, record: RunRecord) -> list[Finding]:
    if gate.code == "any":
        return [f for f in record.findings if f.severity != "advisory"]
    prefix = gate.code.removesuffix("xx")
    named = [f for f in record.findings if f.code.startswith(prefix)]
    if not named:
        codes = [finding.code for finding in record.findings]
        raise UsageError(
            f"--fail-on: this run has no finding {gate.code}",
            fix=did_you_mean(gate.code, codes),
        )
    return named


def _failing_numbers(
    gate: NumberGate, record: RunRecord, baseline: RunRecord | None
) -> list[str]:
    if gate.unit == "baseline" and baseline is None:
        raise UsageError(
            f"--fail-on: {gate.text!r} needs a baseline",
            fix="repscope compare BASELINE OUT --fail-on ... has one",
        )
    failures = []
    for measurement in _named_measurements(gate, record):
        try:
            value = _value(measurement)
            threshold = gate.factor * _unit(gate, measurement, record, baseline)
        except Undecidable as undecidable:
            failures.append(f"{gate.text} could not be decided: {undecidable.reason}")
            continue
        if _COMPARE[gate.comparison](value, threshold):
            failures.append(_sentence(gate, measurement, value, threshold))
    return failures


def _sentence(
    gate: NumberGate, measurement: Measurement, value: float, threshold: float
) -> str:
    written = gate.text.partition(gate.comparison)[2].lstrip("= ")
    share = f" ({written})" if gate.unit else ""
    return f"{measurement.key} {value:.6g} {gate.comparison} {threshold:.6g}{share}"


def _named_measurements(gate: NumberGate, record: RunRecord) -> list[Measurement]:
    """Return the measurements of the one key that the gate names.

    One key can stand for several: the same number on the train and the test split.
    """
    everything = record.measurements
    named = [m for m in everything if m.name == gate.name]
    if not named:
        hint = did_you_mean(gate.name, {m.name for m in everything})
        raise UsageError(f"--fail-on: this run did not measure {gate.name}", fix=hint)
    exact = [m for m in named if m.key == gate.key]
    if exact:
        return exact
    fitting = [m for m in named if gate.level in (None, m.level)]
    fitting = [m for m in fitting if gate.layer in (None, m.layer)]
    keys = sorted({m.key for m in fitting})
    if len(keys) > 1:
        raise UsageError(
            f"--fail-on: {gate.key} fits {len(keys)} measurements",
            fix="choose from " + ", ".join(keys),
        )
    if not keys:
        hint = did_you_mean(gate.key, {m.key for m in named})
        raise UsageError(f"--fail-on: this run did not measure {gate.key}", fix=hint)
    return fitting


def _value(measurement: Measurement) -> float:
    if measurement.value is None:
        raise Undecidable(measurement.reason or "no value")
    return measurement.value


def _unit(
    gate: NumberGate,
    measurement: Measurement,
    record: RunRecord,
    baseline: RunRecord | None,
) -> float:
    if gate.unit == "baseline" and baseline is not None:
        return _baseline_value(measurement, baseline)
    if gate.unit == "d":
        return float(measurement.d or record.provenance.d)
    if gate.unit == "n":
        return float(measurement.n or record.provenance.n)
    return 1.0


def _baseline_value(measurement: Measurement, baseline: RunRecord) -> float:
    for candidate in baseline.measurements:
        if (candidate.key, candidate.split) == (measurement.key, measurement.split):
            if candidate.value is None:
                raise Undecidable(f"in the baseline, {candidate.reason}")
            return candidate.value
    raise Undecidable(f"the baseline did not measure {measurement.key}")
