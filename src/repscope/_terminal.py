"""What goes to which stream, at what width, and what only a terminal shows.

Results go to standard output, everything else to standard error. Text that came with
the data cannot steer the terminal: control characters are taken out.
"""

import contextlib
import json
import logging
import os
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping

from repscope.records import Finding, Measurement, RunRecord, Scalar, Table
from repscope.report.terminal import summary
from repscope.report.wording import clean, interval_text, note_text, rounded

DEFAULT_WIDTH, MAXIMUM_WIDTH, MINIMUM_WIDTH = 100, 120, 40


def show(text: str) -> None:
    """Write a result to standard output."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        silence(sys.stdout.fileno())


def note(text: str) -> None:
    """Write progress or advice to standard error."""
    try:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    except BrokenPipeError:
        silence(sys.stderr.fileno())


@contextlib.contextmanager
def progress(*, quiet: bool) -> Iterator[None]:
    """Write what repscope logs to standard error while the block runs.

    Args:
        quiet: write nothing.
    """
    logger, handler = logging.getLogger("repscope"), _Notes()
    before = logger.level
    if not quiet:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


class _Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        note(printable(record.getMessage()))


def silence(descriptor: int) -> None:
    """Point a stream whose reader has gone at nothing, so that closing it is quiet."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, descriptor)
    os.close(nothing)


def width() -> int:
    """Return how many columns to fill."""
    columns = shutil.get_terminal_size((DEFAULT_WIDTH, 24)).columns
    return max(min(columns, MAXIMUM_WIDTH), MINIMUM_WIDTH)


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


def verdict(record: RunRecord) -> str:
    """Return the verdict on one line."""
    return f"{record.verdict.word}  {clean(record.verdict.sentence)}"


def overview(record: RunRecord) -> str:
    """Return a run in a screenful; the verdict in colour on a terminal that can."""
    columns = width()
    blocks = [summary(record, width=columns, colour=_has_colour())]
    if record.kind == "comparison":
        blocks += [_folded(line, columns) for line in _tallies(record)]
    return "\n\n".join(blocks)


def everything(record: RunRecord) -> str:
    """Return a run with every finding, measurement and, of a comparison, table."""
    columns = width()
    blocks = [overview(record), *(_finding(one, columns) for one in record.findings)]
    blocks.append("\n".join(_measurement(m, columns) for m in record.measurements))
    if record.kind == "comparison":
        blocks += [_table(table, columns) for table in record.tables[1:]]
    return "\n\n".join(block for block in blocks if block)


def show_entries(catalogue: Mapping[str, Mapping[str, str]], *, as_json: bool) -> None:
    """Write named entries of named facts to standard output, as text or JSON."""
    show(json.dumps(catalogue, indent=2) if as_json else entries(catalogue, width()))


def entries(catalogue: Mapping[str, Mapping[str, str]], columns: int) -> str:
    """Return named entries of named facts, such as the metrics with their formulas.

    Args:
        catalogue: entry -> heading -> text; facts without text, and entries without
            facts, are left out.
        columns: the width to fill.
    """
    blocks = []
    for name, facts in catalogue.items():
        if not facts:
            continue
        told = {clean(heading): text for heading, text in facts.items() if text}
        size = max(map(len, told), default=0)
        lines = [
            _folded(text, columns, indent=size + 4, head=f"  {heading.ljust(size)}  ")
            for heading, text in told.items()
        ]
        blocks.append("\n".join([clean(name), *lines]))
    return "\n\n".join(blocks)


def _tallies(record: RunRecord) -> list[str]:
    """Return for each run how many numbers differ from the baseline's, and how."""
    tables = [table for table in record.tables if table.name == "differences"]
    verdicts: dict[str, Counter[str]] = {}
    for table in tables:
        run, verdict_of = table.columns.index("run"), table.columns.index("verdict")
        for row in table.rows:
            verdicts.setdefault(str(row[run]), Counter())[str(row[verdict_of])] += 1
    return [
        f"{run}, number by number: "
        + ", ".join(f"{count} {word}" for word, count in counts.most_common())
        for run, counts in verdicts.items()
    ]


def _finding(finding: Finding, columns: int) -> str:
    head = f"{finding.code} {finding.title}: {finding.status.value}"
    return _folded(f"{head} ({finding.severity})  {finding.explanation}", columns)


def _measurement(measurement: Measurement, columns: int) -> str:
    interval = interval_text(measurement.interval)
    parts = (f"[{interval}]" if interval else "", note_text(measurement))
    said = "  ".join(part for part in parts if part)
    return _folded(f"{measurement.key}: {rounded(measurement.value)}  {said}", columns)


def _table(table: Table, columns: int) -> str:
    lines = [_folded(_named_cells(table.columns, row), columns) for row in table.rows]
    return "\n".join([clean(table.title), *lines])


def _named_cells(names: tuple[str, ...], row: tuple[Scalar, ...]) -> str:
    cells = zip(names[1:], row[1:], strict=True)
    named = "; ".join(f"{name} {_cell(cell)}" for name, cell in cells)
    return f"{_cell(row[0])}  {named}"


def _cell(value: Scalar) -> str:
    return rounded(value) if isinstance(value, float | None) else str(value)


def _folded(text: str, columns: int, *, indent: int = 4, head: str = "") -> str:
    """Wrap text after a head; the lines below the first are set in."""
    return textwrap.fill(
        clean(text),
        columns,
        initial_indent=head,
        subsequent_indent=" " * indent,
        break_on_hyphens=False,
    )


def _has_colour() -> bool:
    return (
        sys.stdout.isatty()
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM") != "dumb"
    )
