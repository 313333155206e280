"""What a run hands back: a value, a table, figures, a page and a folder.

A `Report` holds only records, so that an old run can be read and shown again without
its data, weights or a GPU.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from repscope._checking import InputError, UsageError, check_choice
from repscope.files import saving
from repscope.records import (
    Finding,
    Measurement,
    RunRecord,
    Samples,
    Scalar,
    Table,
    Verdict,
    from_json,
    to_dict,
    to_json,
)
from repscope.report import figures, page, samples_file, terminal, wording

PAGE_NAME = "report.html"
RESULTS_NAME = "results.json"
MAP = "map"

_COLUMNS = (
    "metric",
    "level",
    "value",
    "95 % interval",
    "range",
    "better",
    "n",
    "note",
)


@dataclass(frozen=True, eq=False, repr=False)
class Report:
    """A diagnosis or a comparison, to read, show and keep.

    Args:
        record: everything the run says.
        samples: its rows; without columns for a comparison.
    """

    record: RunRecord
    samples: Samples

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What the checks say, in the order in which they ran."""
        return self.record.findings

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """All numbers of the run."""
        return self.record.measurements

    @property
    def verdict(self) -> Verdict:
        """The run in one word and one sentence."""
        return self.record.verdict

    def table(self) -> Table:
        """Return the measurements as a table; `value` holds the unrounded number."""
        return Table(
            name="measurements",
            title=f"Measurements of {self.record.title}",
            columns=_COLUMNS,
            rows=tuple(_table_row(one) for one in self.measurements),
        )

    def plot(self, name: str) -> Figure:
        """Return one figure of the report as a matplotlib figure.

        Args:
            name: the name of a curve, such as "spectrum", or "map".

        Raises:
            UsageError: where the report has no such figure; the message names the
                closest.
        """
        curves = {curve.name: curve for curve in self.record.curves}
        has_map = {"map_x", "map_y"} <= set(self.samples.columns)
        check_choice("figure", name, [*curves, *([MAP] if has_map else [])])
        if name in curves:
            return figures.draw(curves[name])
        return figures.draw_map(self.samples)

    def to_dict(self) -> dict[str, Any]:
        """Return the run as plain values, as they stand in ``results.json``."""
        plain: dict[str, Any] = to_dict(self.record)
        return plain

    def save(self, out: str | Path, *, overwrite: bool = False) -> Path:
        """Write ``report.html``, ``results.json`` and the samples into a folder.

        Each file is replaced whole, or stays as it was. The samples are
        ``samples.csv``, or ``samples.parquet`` above 200,000 rows where pyarrow is
        installed; a comparison has none.

        Args:
            out: the folder; made where it does not exist.
            overwrite: whether earlier results in it may be replaced. Files of other
                names always stay.

        Returns:
            The folder.

        Raises:
            UsageError: where the folder holds something and `overwrite` is not set.
            ResourceError: where the disk is full or permission is missing.
        """
        folder = Path(out)
        _check_free(folder, overwrite=overwrite)
        files = {
            RESULTS_NAME: (to_json(self.record, indent=2) + "\n").encode("utf-8"),
            PAGE_NAME: page.render(self.record, self.samples).encode("utf-8"),
        }
        writers: dict[str, saving.Writer] = {
            name: _byte_writer(content) for name, content in files.items()
        }
        need = sum(map(len, files.values()))
        if self.record.kind == "diagnosis":
            writers |= _samples_writer(self.samples)
            need += samples_file.estimated_bytes(self.samples)
        had_run = (folder / RESULTS_NAME).is_file()
        saving.write_together(folder, writers, need)
        if had_run and self.record.kind == "diagnosis":
            _remove_stale(folder, writers)
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> "Report":
        """Return the report that `save` wrote into a folder.

        Raises:
            InputError: where the folder is missing, holds no run, or its files are
                damaged.
        """
        record = _read_results(Path(folder))
        if record.kind == "comparison":
            return cls(record, Samples(columns={}))
        return cls(record, _read_samples(Path(folder), record))

    def _repr_html_(self) -> str:
        return page.render_notebook(self.record)

    def __repr__(self) -> str:
        return terminal.summary(self.record)


def _table_row(one: Measurement) -> tuple[Scalar, ...]:
    return (
        wording.metric_text(one),
        one.level,
        one.value,
        wording.interval_text(one.interval),
        wording.range_text(one.range),
        wording.better_text(one),
        one.n,
        wording.note_text(one),
    )


def _check_free(folder: Path, *, overwrite: bool) -> None:
    """Refuse a file, and a folder with something in it, unless told to overwrite."""
    fix = "--overwrite (in Python overwrite=True), or choose another folder with -o"
    try:
        if folder.exists() and not folder.is_dir():
            raise UsageError(
                f"{folder} is a file, not a folder", fix="choose a folder with -o"
            )
        if not overwrite and folder.is_dir() and any(folder.iterdir()):
            raise UsageError(f"{folder} exists and is not empty", fix=fix)
    except OSError as error:
        raise saving.resource_error(folder, error) from error


def _byte_writer(content: bytes) -> saving.Writer:
    def write(file: io.BufferedIOBase) -> None:
        file.write(content)

    return write


def _samples_writer(samples: Samples) -> dict[str, saving.Writer]:
    name = samples_file.file_name(len(samples))
    is_csv = name == samples_file.CSV_NAME
    write = samples_file.write_csv if is_csv else samples_file.write_parquet
    return {name: lambda file: write(samples, file)}


def _remove_stale(folder: Path, written: Mapping[str, saving.Writer]) -> None:
    """Remove the samples of an earlier run that had the other format."""
    for name in (samples_file.CSV_NAME, samples_file.PARQUET_NAME):
        if name in written:
            continue
        try:
            (folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise saving.resource_error(folder / name, error) from error


def _read_results(folder: Path) -> RunRecord:
    path = folder / RESULTS_NAME
    fix = "name a folder that repscope wrote (the one given to -o)"
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder", fix=fix)
    if not path.is_file():
        raise InputError(
            f"{folder}: no repscope run: {RESULTS_NAME} is missing", fix=fix
        )
    try:
        return from_json(RunRecord, path.read_text("utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{path}: no repscope run: {reason}", fix=fix) from error


def _read_samples(folder: Path, record: RunRecord) -> Samples:
    """Read the samples; where both formats lie there, the one that fits the run."""
    likely = samples_file.file_name(record.provenance.n)
    names = sorted(
        (samples_file.CSV_NAME, samples_file.PARQUET_NAME),
        key=lambda name: name != likely,
    )
    for name in names:
        path = folder / name
        if path.is_file():
            is_csv = name == samples_file.CSV_NAME
            read = samples_file.read_csv if is_csv else samples_file.read_parquet
            return read(path)
    raise InputError(
        f"{folder}: {samples_file.CSV_NAME} is missing beside {RESULTS_NAME}",
        fix="run diagnose again, with --overwrite",
    )
