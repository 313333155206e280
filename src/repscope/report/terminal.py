"""A run on a terminal: verdict, the numbers that matter, the findings, in plain lines.

The frame is ASCII and fits any width from 40 columns on; words of the user lose
control characters and terminal commands.
"""

import textwrap
from collections.abc import Iterable, Sequence

from repscope.records import Measurement, RunRecord, Scalar, Status, Table
from repscope.report.wording import (
    clean,
    interval_text,
    range_text,
    rounded,
    shorten,
)

MINIMUM_WIDTH = 40
MAXIMUM_ROWS = 10
MAXIMUM_FINDINGS = 3

_RED, _YELLOW, _GREEN, _BLUE, _PLAIN = "31", "33", "32", "34", "0"
_COLOURS = {
    "COLLAPSED": _RED,
    "WARN": _YELLOW,
    "HEALTHY": _GREEN,
    "COMPARED": _BLUE,
    "UNDECIDED": _PLAIN,
}
_SEVERITIES = ("failure", "warning", "advisory")
_STATUSES = (Status.FOUND, Status.UNDECIDED)
# What a reader asks for first, in this order.
_HEADLINE = (
    "effective_rank_covariance",
    "effective_rank",
    "rankme",
    "alpha",
    "linear_accuracy",
    "knn_accuracy",
    "ncc_accuracy",
    "auroc",
    "q_score_normalized",
)
_ELLIPSIS = "..."
_LEAST_NAME = 12
_GAP = "  "


def summary(record: RunRecord, *, width: int = 80, colour: bool = False) -> str:
    """Return a run as text: verdict, up to ten numbers, up to three findings, notices.

    Args:
        record: a diagnosis or a comparison.
        width: columns of the terminal; at least 40 are used.
        colour: whether the verdict's word may be coloured by terminal codes.
    """
    width = max(width, MINIMUM_WIDTH)
    parts = [
        _verdict_lines(record, width, colour=colour),
        _table_lines(record, width),
        _finding_lines(record, width),
        [line for note in record.notices for line in _wrapped("note: ", note, width)],
    ]
    return "\n\n".join("\n".join(lines) for lines in parts if lines)


def telling(record: RunRecord) -> list[Measurement]:
    """Return the at most ten measurements that say most.

    The evidence of what was found comes first, then of what is undecided, up to half of
    the rows; then the headline numbers, then the rest. Advisories come last.
    """
    findings = sorted(
        (one for one in record.findings if one.severity != "advisory"),
        key=lambda one: (
            (
                _STATUSES.index(one.status),
                _SEVERITIES.index(one.severity),
            )
            if one.status in _STATUSES
            else (len(_STATUSES), 0)
        ),
    )
    judged = [one for one in findings if one.status in _STATUSES]
    evidence = [one for finding in judged for one in finding.evidence]
    headline = [
        one
        for name in _HEADLINE
        for one in record.measurements
        if one.name == name and one.layer != "reference"
    ]
    first = _decided(evidence)[: MAXIMUM_ROWS // 2]
    return _decided([*first, *headline, *record.measurements])[:MAXIMUM_ROWS]


def _decided(measurements: Iterable[Measurement]) -> list[Measurement]:
    """Return those with a value, each once, in their order."""
    unique = {one.key: one for one in measurements if one.value is not None}
    return list(unique.values())


def _verdict_lines(record: RunRecord, width: int, *, colour: bool) -> list[str]:
    word = record.verdict.word
    lines = _wrapped(f"{word}  ", record.verdict.sentence, width)
    if colour:
        painted = f"\x1b[1;{_COLOURS[word]}m{word}\x1b[0m"
        lines[0] = painted + lines[0].removeprefix(word)
    return lines


def _table_lines(record: RunRecord, width: int) -> list[str]:
    if record.kind == "comparison":
        return _comparison_lines(record.tables[0], width) if record.tables else []
    rows: list[tuple[str, ...]] = [
        (
            clean(one.key),
            rounded(one.value),
            interval_text(one.interval),
            range_text(one.range),
        )
        for one in telling(record)
    ]
    heading: tuple[str, ...] = ("metric", "value", "95 % interval", "range")
    of_reference = {one.key: one.value for one in record.measurements}
    beside = [of_reference.get(f"{one.key}@reference") for one in telling(record)]
    if any(value is not None for value in beside):
        texts = ["" if value is None else rounded(value) for value in beside]
        rows = [
            (*row[:2], text, *row[2:]) for row, text in zip(rows, texts, strict=True)
        ]
        heading = (*heading[:2], "reference", *heading[2:])
        return _aligned(heading, rows, width, dropped=(4, 3), right=(1, 2))
    return _aligned(heading, rows, width, dropped=(3, 2), right=(1,))


def _comparison_lines(table: Table, width: int) -> list[str]:
    """Show the first rows; the last column, the verdict, outlives those before it."""
    numeric = [
        place
        for place, column in enumerate(zip(*table.rows, strict=True))
        if all(isinstance(cell, float | None) for cell in column)
    ]
    rows = [
        tuple("" if cell is None else _cell_text(cell) for cell in row)
        for row in table.rows[:MAXIMUM_ROWS]
    ]
    heading = tuple(map(clean, table.columns))
    dropped = range(len(heading) - 2, 0, -1)
    return _aligned(heading, rows, width, dropped=dropped, right=numeric)


def _cell_text(cell: Scalar) -> str:
    return rounded(cell) if isinstance(cell, float) else clean(str(cell))


def _aligned(
    heading: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int,
    *,
    dropped: Sequence[int],
    right: Sequence[int],
) -> list[str]:
    """Align columns; while they do not fit, the next of `dropped` goes.

    In the end the first column is shortened.
    """
    if not rows:
        return []
    lines = [heading, *rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(heading))]
    kept = list(range(len(heading)))
    for place in dropped:
        if _total([widths[one] for one in kept]) <= width:
            break
        kept.remove(place)
    excess = _total([widths[one] for one in kept]) - width
    widths[0] = max(widths[0] - max(excess, 0), _LEAST_NAME)
    return [_line(line, widths, kept, right)[:width] for line in lines]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _line(
    cells: Sequence[str],
    widths: Sequence[int],
    kept: Sequence[int],
    right: Sequence[int],
) -> str:
    shown = []
    for place in kept:
        text = shorten(cells[place], widths[place], _ELLIPSIS)
        is_right = place in right
        shown.append(
            text.rjust(widths[place]) if is_right else text.ljust(widths[place])
        )
    return _GAP.join(shown).rstrip()


def _finding_lines(record: RunRecord, width: int) -> list[str]:
    shown = [one for one in record.findings if one.status in _STATUSES]
    shown.sort(
        key=lambda one: (_STATUSES.index(one.status), _SEVERITIES.index(one.severity))
    )
    lines = []
    for finding in shown[:MAXIMUM_FINDINGS]:
        word = "" if finding.status is Status.FOUND else f" ({finding.status.value})"
        head = f"{finding.code} {finding.title}{word}: "
        lines += _wrapped(clean(head) + " ", finding.explanation, width)
        if finding.action:
            lines += _wrapped("  do: ", finding.action, width)
    if len(shown) > MAXIMUM_FINDINGS:
        lines.append(f"and {len(shown) - MAXIMUM_FINDINGS} more in the report")
    return lines


def _wrapped(head: str, text: str, width: int) -> list[str]:
    """Wrap a paragraph; lines after the first are set in by four columns."""
    return textwrap.wrap(
        head + clean(text),
        width,
        initial_indent="",
        subsequent_indent="    ",
        break_on_hyphens=False,
    )
