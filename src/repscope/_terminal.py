"""How a run reads in a terminal: plain lines that survive any width, locale or pipe.

Results go to standard output, everything else to standard error. Text that came with
the data cannot steer the terminal: control characters are taken out.
"""

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import TextIO

from repscope.records import Finding, Measurement, RunRecord, Scalar, Status, Table
from repscope.report.wording import (
    better_text,
    clean,
    interval_text,
    note_text,
    range_text,
    rounded,
)

MAXIMUM_WIDTH, MINIMUM_WIDTH = 120, 24
# Rows of the summary table; -v and the report show them all.
SUMMARY_ROWS = 10
SUMMARY_FINDINGS = 3
SUMMARY_COMMANDS = 2
MINIMUM_FIRST_COLUMN = 12

_COLORS = {
    "HEALTHY": "32",
    "WARN": "33",
    "COLLAPSED": "31",
    "UNDECIDED": "36",
    "COMPARED": "36",
}
_SEVERITIES = ("failure", "warning", "advisory")
_TOLD = (Status.FOUND, Status.UNDECIDED)
_STATUSES = (*_TOLD, Status.ABSENT, Status.NOT_APPLICABLE, Status.SKIPPED)
_COLUMNS = ("measurement", "value", "95 % interval", "check", "range", "better")
_GAP = "  "
_NUMBER_STARTS = ("", "-", *"0123456789")


def show(text: str) -> None:
    """Write a result to standard output."""
    _write(sys.stdout, text)


def note(text: str) -> None:
    """Write progress or advice to standard error."""
    _write(sys.stderr, text)


def show_entries(catalogue: Mapping[str, Mapping[str, str]], *, as_json: bool) -> None:
    """Write named entries of named facts to standard output, as text or JSON."""
    show(json.dumps(catalogue, indent=2) if as_json else entries(catalogue, width()))


def printable(text: str) -> str:
    r"""Return lines without control characters or terminal commands, indents kept.

    Example:
        >>> printable("  red: \x1b[31mcat")
        '  red: cat'
    """
    lines = text.split("\n")
    indents = [len(line) - len(line.lstrip(" ")) for line in lines]
    return "\n".join(
        " " * indent + clean(line) for indent, line in zip(indents, lines, strict=True)
    )


def silence(stream: TextIO) -> None:
    """Point a stream whose reader has gone at nothing, so that closing it is quiet."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, stream.fileno())
    os.close(nothing)


def width() -> int:
    """Return how many columns to fill."""
    return min(shutil.get_terminal_size((100, 24)).columns, MAXIMUM_WIDTH)


def summary(record: RunRecord, columns: int, *, verbose: bool = False) -> str:
    """Return a run as text: verdict, numbers behind it, findings.

    Args:
        record: the run.
        columns: the width to fill.
        verbose: every measurement and finding instead of the first few.
    """
    if record.kind == "comparison" and record.tables:
        tables = record.tables if verbose else record.tables[:1]
        numbers = "\n\n".join(_table(table, columns, verbose) for table in tables)
    else:
        numbers = _measurements(record, columns, verbose)
    blocks = [verdict_line(record, columns), numbers]
    blocks += _findings(record.findings, columns, verbose)
    blocks += [_folded(f"note: {notice}", columns) for notice in record.notices]
    return "\n\n".join(block for block in blocks if block)


def verdict_line(record: RunRecord, columns: int) -> str:
    """Return the verdict's word and sentence; coloured on a terminal that can."""
    word, sentence = record.verdict.word, record.verdict.sentence
    text = _folded(f"{word}: {sentence}", columns)
    if not _colored():
        return text
    return f"\x1b[1;{_COLORS[word]}m{word}\x1b[0m{text[len(word) :]}"


def next_steps(record: RunRecord) -> str:
    """Return the commands to run next, at most two."""
    commands = record.next_commands[:SUMMARY_COMMANDS]
    return "\n".join(f"next: {clean(command)}" for command in commands)


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]], columns: int) -> str:
    """Return rows under a header, numbers to the right; what does not fit is left out.

    Args:
        header: the titles.
        rows: as many cells each as there are titles.
        columns: the width; columns from the right go first, then the first is cut.
    """
    grid = [[clean(cell) for cell in row] for row in (header, *rows)]
    by_column = [*zip(*grid, strict=True)]
    widths = [max(map(len, cells)) for cells in by_column]
    while len(widths) > 2 and sum(widths) + len(_GAP) * (len(widths) - 1) > columns:
        widths.pop()
    rest = sum(widths[1:]) + len(_GAP) * (len(widths) - 1)
    widths[0] = min(widths[0], max(columns - rest, MINIMUM_FIRST_COLUMN))
    to_the_right = [_are_numbers(cells[1:]) for cells in by_column]
    lines = []
    for row in grid:
        cells = zip(row, widths, to_the_right, strict=False)
        fitted = [_fit(cell, size, right) for cell, size, right in cells]
        lines.append(_GAP.join(fitted).rstrip())
    return "\n".join(lines)


def _are_numbers(cells: Sequence[str]) -> bool:
    return all(cell[:1] in _NUMBER_STARTS for cell in cells)


def _fit(cell: str, size: int, right: bool) -> str:
    cut = cell if len(cell) <= size else cell[: size - 2] + ".."
    return cut.rjust(size) if right else cut.ljust(size)


def entries(catalogue: Mapping[str, Mapping[str, str]], columns: int) -> str:
    """Return named entries of named facts, such as the metrics with their formulas.

    Args:
        catalogue: entry -> heading -> text; facts without text are left out.
        columns: the width to fill.
    """
    blocks = []
    for name, facts in catalogue.items():
        indent = " " * (2 + max(map(len, facts), default=0) + len(_GAP))
        lines = [clean(name)]
        for heading, text in facts.items():
            label = f"  {clean(heading)}".ljust(len(indent))
            lines += [_folded(text, columns, label, indent)] if text else []
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _measurements(record: RunRecord, columns: int, verbose: bool) -> str:
    chosen = list(record.measurements) if verbose else _headlines(record)
    rows = [_measurement_row(m, record) for m in chosen]
    table = aligned(_COLUMNS, rows, columns) if rows else ""
    if not verbose:
        return table
    notes = [f"{m.key}: {note_text(m)}" for m in chosen if note_text(m)]
    return "\n".join([table, "", *(_folded(text, columns, "", "  ") for text in notes)])


def _headlines(record: RunRecord) -> list[Measurement]:
    """Return the numbers that the findings rest on, those of the found first."""
    gravest = sorted(record.findings, key=_gravity)
    evidence = [m for finding in gravest for m in finding.evidence]
    held = {(m.key, m.split): m for m in (*evidence, *record.measurements)}
    return [m for m in held.values() if m.value is not None][:SUMMARY_ROWS]


def _gravity(finding: Finding) -> tuple[int, int]:
    return _STATUSES.index(finding.status), _SEVERITIES.index(finding.severity)


def _measurement_row(measurement: Measurement, record: RunRecord) -> list[str]:
    split = "" if measurement.split == "all" else f" ({measurement.split})"
    judges = [
        f"{finding.code} {finding.status.value}"
        for finding in record.findings
        if measurement.key in {m.key for m in finding.evidence}
    ]
    return [
        measurement.key + split,
        "-" if measurement.value is None else rounded(measurement.value),
        interval_text(measurement.interval),
        ", ".join(judges),
        range_text(measurement.range),
        better_text(measurement),
    ]


def _findings(findings: Sequence[Finding], columns: int, verbose: bool) -> list[str]:
    told = [f for f in findings if verbose or f.status in _TOLD]
    told.sort(key=_gravity)
    shown = told if verbose else told[:SUMMARY_FINDINGS]
    blocks = [_finding(finding, columns) for finding in shown]
    if len(told) > len(shown):
        blocks.append(f"and {len(told) - len(shown)} more in the report")
    return blocks


def _finding(finding: Finding, columns: int) -> str:
    title = f"{finding.code} {finding.title}: {finding.status.value}"
    lines = [_folded(f"{title} ({finding.severity})", columns)]
    lines.append(_folded(finding.explanation, columns, "  "))
    if finding.action:
        lines.append(_folded(f"do: {finding.action}", columns, "  "))
    return "\n".join(lines)


def _table(table: Table, columns: int, verbose: bool) -> str:
    rows = [[_cell(value) for value in row] for row in table.rows]
    shown = rows if verbose else rows[:SUMMARY_ROWS]
    text = aligned(table.columns, shown, columns) if rows else ""
    if len(rows) > len(shown):
        text += f"\nand {len(rows) - len(shown)} more in the report"
    return f"{clean(table.title)}\n{text}"


def _cell(value: Scalar) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return rounded(value)
    return value or ""


def _folded(text: str, columns: int, first: str = "", rest: str | None = None) -> str:
    return textwrap.fill(
        clean(text),
        max(columns, MINIMUM_WIDTH),
        initial_indent=first,
        subsequent_indent=first if rest is None else rest,
        break_on_hyphens=False,
    )


def _colored() -> bool:
    return (
        sys.stdout.isatty()
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM") != "dumb"
    )


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text + "\n")
        stream.flush()
    except BrokenPipeError:
        silence(stream)
