"""What the commands do: run the verb, save the report, show it and judge the gates.

`repscope.cli` only declares the options and hands them over as records.
"""

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from repscope import _terminal
from repscope._checking import EXIT_GATE, EXIT_OK, UsageError, check_choice
from repscope._inputs import (
    Columns,
    Inputs,
    Opened,
    folders_read,
    image_source,
    open_inputs,
)
from repscope.data.operations import describe
from repscope.data.protocols import PROTOCOLS, protocol
from repscope.diagnosis.checks import CHECKS
from repscope.diagnosis.compare import compare
from repscope.diagnosis.diagnose import diagnose
from repscope.diagnosis.gate import Gate, check_gates, evaluate, parse_gates
from repscope.diagnosis.probe_rows import PROBE_MAXIMUM_ROWS
from repscope.metrics.catalogue import FAMILIES, METRICS
from repscope.metrics.intervals import n_blocks
from repscope.metrics.metric import Metric, metric_of
from repscope.records import RunRecord, to_json
from repscope.report.report import Report
from repscope.representations.representation import BLOCK_VALUES
from repscope.representations.store import Store

# For the rough cost that a dry run tells.
BASE_BYTES, BYTES_PER_ROW, BASE_SECONDS = 190 * 10**6, 200, 1.0
BLOCK_COPIES, PROBE_COPIES = 6, 14
SECONDS_PER_VALUE, SECONDS_PER_CUBE = 9e-8, 8e-11
# Probing a value costs so much for each level, and once more for every 200 classes.
SECONDS_PER_PROBED_VALUE, CLASSES_PER_LEVEL = 1.2e-6, 200
# Folders of features beside a report, which a diagnosis of images goes on with.
FEATURES, REFERENCE = "features", "reference"
KEPT = frozenset({FEATURES, REFERENCE})
# What `ls` prints of a check or a protocol; of a metric, and with --json, all.
BRIEF = ("title", "severity", "needs", "cost")
LISTS = {
    "metrics": "what is measured, with formulas",
    "checks": "what is judged, with codes",
    "protocols": "augmentations of published methods, with every parameter",
    "objectives": "what training can minimise, with options and what they need",
    "encoders": "the backbones of [encoder] in a recipe",
    "heads": "the projection heads of [head] in a recipe",
    "experiments": "tables and figures of papers, for repscope reproduce",
}


@dataclass(frozen=True)
class Output:
    """Where a run goes, how much of it is said, and the words that asked for it."""

    out: Path | None = None
    overwrite: bool = False
    fail_on: Sequence[str] = ()
    as_json: bool = False
    quiet: bool = False
    verbose: bool = False
    words: Sequence[str] = ()

    @property
    def command(self) -> str:
        """The command as it can be typed again."""
        return shlex.join(["repscope", *self.words]) if self.words else ""


def diagnose_features(
    inputs: Inputs,
    output: Output,
    *,
    dry_run: bool = False,
    again: Mapping[str, str] | None = None,
) -> int:
    """Diagnose a features file, save the report and print it.

    Args:
        inputs: what to read.
        output: where to write and what to say.
        dry_run: say what would be done from headers and label columns, write nothing.
        again: what stands for the words in capitals of the next commands, where it is
            not what the inputs say.

    Returns:
        The exit code: 0, or 1 where a gate failed.

    Raises:
        UsageError: for an option that does not fit, or an output folder in use.
        InputError: for features, labels or ids that cannot be used.
    """
    sources = inputs.sources
    gates = parsed_gates(output.fail_on)
    layer = "" if sources.column is None else f"-{sources.column}"
    stem = f"{Path(sources.features).resolve().stem}{layer}"
    out = output.out or Path(f"{stem}-report")
    data = open_inputs(inputs)
    if not dry_run:
        check_folder(out, overwrite=output.overwrite, read=folders_read(sources))
    images = image_source(sources.images, data.store)
    if images is None and data.embedding is not None:
        images = data.embedding.thumbnails
    if dry_run:
        _terminal.show_entries({"would do": plan(data, out)}, as_json=output.as_json)
        return EXIT_OK
    with _terminal.progress(quiet=output.quiet):
        report = diagnose(
            data.features,
            labels=data.train_labels,
            attributes=data.attributes or None,
            ids=data.ids,
            images=images,
            test=(data.test, data.test_labels) if data.test else None,
            reference=sources.reference,
            split=data.split,
            seed=inputs.seed,
            drop_nonfinite=inputs.drop_nonfinite,
        )
    save_and_show(report, out, output, again or _words_of(inputs, data))
    return judge(gates, report.record)


def _words_of(inputs: Inputs, data: Opened) -> dict[str, str]:
    """Return what stands for the words in capitals of the next commands."""
    words = {"FEATURES": shlex.quote(inputs.sources.features)}
    if inputs.labels is not None:
        words["LABELS"] = shlex.quote(inputs.labels)
    elif data.embedding is not None and data.embedding.levels:
        words[" --labels LABELS"] = ""  # the folder knows them
    return words


def parsed_gates(texts: Sequence[str]) -> tuple[Gate, ...]:
    """Return the gates of ``--fail-on``, refusing unknown names before computing.

    Raises:
        UsageError: for an expression, a code or a metric that does not exist.
    """
    gates = parse_gates(texts)
    codes = [check.code for check in CHECKS]
    check_gates(gates, codes, [metric.name for metric in METRICS])
    return gates


def compare_runs(folders: Sequence[Path], output: Output) -> int:
    """Compare saved runs with the first of them, save the comparison and print it.

    Args:
        folders: result folders; the first is the baseline.
        output: where to write and what to say; the gates judge each run but the first.

    Returns:
        The exit code: 0, or 1 where a gate failed.

    Raises:
        UsageError: for fewer than two runs, or an output folder in use.
        InputError: for a folder that holds no run.
    """
    if len(folders) < 2:
        raise UsageError(
            "compare needs at least two result folders",
            found=f"{len(folders)}",
            fix="repscope compare BASELINE-report OTHER-report",
        )
    gates = parsed_gates(output.fail_on)
    out = output.out or Path("comparison-report")
    check_folder(out, overwrite=output.overwrite, read=folders)
    runs = [Report.load(folder) for folder in folders]
    save_and_show(compare(*folders), out, output, {})
    codes = [
        judge(gates, run.record, baseline=runs[0].record, name=f"{folder}: ")
        for folder, run in zip(folders[1:], runs[1:], strict=True)
    ]
    return max(codes)


def list_catalogue(what: str | None, *, as_json: bool) -> int:
    """Print the metrics, the checks or the protocols; or what can be listed.

    Args:
        what: one of `LISTS`; None for their names.
        as_json: as JSON instead of text.

    Returns:
        The exit code 0.

    Raises:
        UsageError: for another word.
    """
    if what is None:
        entries = {f"repscope ls {name}": {"": text} for name, text in LISTS.items()}
        _terminal.show_entries(entries, as_json=as_json)
        return EXIT_OK
    check_choice("list", what, LISTS)
    catalogues = {
        "metrics": _metric_entries,
        "checks": _check_entries,
        "protocols": _protocol_entries,
    }
    entries = catalogues[what]()
    if not as_json and what == "checks":
        entries = {
            name: {heading: facts[heading] for heading in BRIEF if heading in facts}
            for name, facts in entries.items()
        }
    _terminal.show_entries(entries, as_json=as_json)
    return EXIT_OK


def _protocol_entries() -> dict[str, dict[str, str]]:
    entries = {}
    for name in PROTOCOLS:
        made = protocol(name)
        views = {title: "; ".join(map(describe, view)) for title, view in made.kinds}
        entries[name] = {"source": made.source, **views}
    return entries


def _metric_entries() -> dict[str, dict[str, str]]:
    return {
        entry.name: {
            "title": entry.title,
            "family": family,
            "formula": entry.formula,
            "needs": entry.needs,
            "minimum_n": str(entry.minimum_n),
            "degree": "" if entry.degree is None else str(entry.degree),
            "invariances": ", ".join(entry.invariances),
            "cost": entry.cost,
            "range": entry.range,
            "direction": _direction(entry),
            "source": entry.source,
            "misleads": entry.misleads,
        }
        for family, functions in FAMILIES.items()
        for entry in map(metric_of, functions)
    }


def _direction(entry: Metric) -> str:
    return f"target {entry.target}" if entry.direction == "target" else entry.direction


def _check_entries() -> dict[str, dict[str, str]]:
    return {
        check.code: {
            "title": check.title,
            "severity": check.severity,
            "needs": check.needs,
            "cost": check.cost,
            "page": check.page,
            "remedies": ", ".join(check.remedies),
        }
        for check in CHECKS
    }


def check_folder(out: Path, *, overwrite: bool, read: Sequence[Path] = ()) -> None:
    """Refuse an output folder that would destroy something, before computing.

    Args:
        out: the folder to write.
        overwrite: whether a report in it may be replaced.
        read: folders that the run reads.

    Raises:
        UsageError: where it is a file, lies inside a folder that is read, or is not
            empty and may not be replaced.
    """
    for folder in read:
        check_not_inside(out, str(folder))
    if out.exists() and not out.is_dir():
        raise UsageError(
            f"the output {out} is a file",
            expected="a new or empty folder",
            fix="name another folder with -o",
        )
    if (
        out.is_dir()
        and any(one.name not in KEPT for one in out.iterdir())
        and not overwrite
    ):
        raise UsageError(
            f"the output folder {out} is not empty",
            fix="--overwrite replaces the report in it; -o names another folder",
        )


def check_not_inside(out: Path, images: str) -> None:
    """Refuse to write into a folder of images, where it would be read again.

    Args:
        out: the folder to write.
        images: as typed; nothing is refused where it is no folder.

    Raises:
        UsageError: where the output lies inside.
    """
    source = Path(images)
    inside = out.resolve().is_relative_to(source.resolve())
    if images and source.is_dir() and inside:
        raise UsageError(
            f"the output folder {out} lies inside {source}, which is read",
            fix="name another folder with -o",
        )


def plan(data: Opened, out: Path) -> dict[str, str]:
    """Return what a diagnosis would do, as heading -> text.

    Args:
        data: the features, of which only the header is read, and their columns.
        out: the folder that would be written.
    """
    available = {"rows", "spectrum"}
    available |= {"labels", "probe", "failure"} if data.labels else set()
    available |= {"attribute"} if data.attributes else set()
    names = [metric.name for metric in METRICS if metric.needs in available]
    return {
        "features": f"{data.store.name}: {_size(data.store)}",
        "test": f"{data.test.name}: {_size(data.test)}" if data.test else "",
        "labels": _levels(data.labels),
        "attributes": _levels(data.attributes),
        "measures": ", ".join(names),
        "costs": _rough_cost(data),
        "writes": f"{out / 'report.html'}, results.json and the samples beside it",
    }


def _rough_cost(data: Opened) -> str:
    """Return memory and time in words; right to a factor of two or so.

    The rates are those of one AVX2 core; see benchmarks/RESULTS.md for exact cases.
    """
    d = data.store.d
    n = data.store.n + (data.test.n if data.test else 0)
    squares = (n_blocks(n, d) + 1) * d * d
    size = BASE_BYTES + BYTES_PER_ROW * n + 8 * squares
    size += 8 * BLOCK_COPIES * min(n * d, BLOCK_VALUES)
    seconds = BASE_SECONDS + SECONDS_PER_VALUE * n * d + SECONDS_PER_CUBE * squares * d
    n_classes = sum(len(np.unique(values)) for values in data.labels.values())
    probed = min(n, PROBE_MAXIMUM_ROWS) * d if data.labels else 0
    size += 8 * PROBE_COPIES * probed
    levels = len(data.labels) + n_classes / CLASSES_PER_LEVEL
    seconds += SECONDS_PER_PROBED_VALUE * probed * levels
    return f"about {size / 1e9:.1f} GB of memory and {seconds:,.0f} s"


def _size(store: Store) -> str:
    return f"{store.n:,} x {store.d:,} {store.dtype}"


def _levels(columns: Columns) -> str:
    counts = {name: len(np.unique(values)) for name, values in columns.items()}
    return ", ".join(f"{name} ({count:,} values)" for name, count in counts.items())


def save_and_show(
    report: Report, out: Path, output: Output, words: Mapping[str, str]
) -> None:
    """Write a report's folder, with the command that made it, and print the run.

    Args:
        report: of the run.
        out: the folder.
        output: how much of it is said.
        words: what stands for the words in capitals of the next commands.
    """
    made = dataclasses.replace(report.record.provenance, command=output.command)
    commands = list(report.record.next_commands)
    for word, text in {**words, "OUT": shlex.quote(str(out))}.items():
        commands = [command.replace(word, text) for command in commands]
    # Without labels to add it would be what was just done.
    done = f"repscope diagnose {words.get('FEATURES')}"
    commands = [command for command in commands if command != done]
    record = dataclasses.replace(
        report.record, provenance=made, next_commands=tuple(commands)
    )
    Report(record, report.samples).save(out, overwrite=output.overwrite)
    show_run(record, out, output)


def show_run(record: RunRecord, out: Path, output: Output) -> None:
    """Print a run: the results on standard output, the rest on standard error.

    Args:
        record: the run.
        out: its folder.
        output: as JSON, quiet (the verdict alone) or verbose.
    """
    if output.as_json:
        _terminal.show(to_json(record, indent=2))
    elif output.quiet:
        _terminal.show(_terminal.verdict(record))
    else:
        tell = _terminal.everything if output.verbose else _terminal.overview
        _terminal.show(tell(record))
        next_steps = [f"next: {command}" for command in record.next_commands[:2]]
        lines = ["", f"report: {out / 'report.html'}", *next_steps]
        _terminal.note(_terminal.printable("\n".join(lines)))


def judge(
    gates: Sequence[Gate],
    record: RunRecord,
    *,
    baseline: RunRecord | None = None,
    name: str = "",
) -> int:
    """Return the exit code that the gates give, and say which failed.

    Args:
        gates: from ``--fail-on``.
        record: the run they judge.
        baseline: the run that ``baseline`` refers to.
        name: put before each line; needed where several runs are judged.
    """
    result = evaluate(gates, record, baseline)
    for failure in result.failures:
        _terminal.note(f"gate failed: {_terminal.printable(name + failure)}")
    return EXIT_OK if result.passed else EXIT_GATE
