import dataclasses
import errno
import json
import os
import re

import numpy as np
import pytest

from repscope._checking import InputError, ResourceError, UsageError
from repscope.records import RunRecord, Samples, from_json, to_dict
from repscope.report import samples_file
from repscope.report.report import Report
from repscope.report.terminal import summary


@pytest.fixture
def report(record, samples):
    return Report(dataclasses.replace(record, curves=record.curves[1:2]), samples)


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def _assert_same(left, right):
    assert left.record == right.record
    assert list(left.samples.columns) == list(right.samples.columns)
    for name, column in left.samples.columns.items():
        other = right.samples.columns[name]
        assert other.dtype == column.dtype
        np.testing.assert_array_equal(other, column)


def test_a_report_shows_what_its_record_holds(record, samples):
    report = Report(record, samples)
    assert report.findings == record.findings
    assert report.measurements == record.measurements
    assert report.verdict == record.verdict
    assert report.to_dict() == to_dict(record)


def test_the_table_holds_every_measurement_unrounded(report):
    table = report.table()
    assert table.columns == (
        "metric",
        "level",
        "value",
        "95 % interval",
        "range",
        "better",
        "n",
        "note",
    )
    assert len(table.rows) == len(report.measurements)
    rows = {(row[0], row[1]): row[2:] for row in table.rows}
    assert rows["linear_accuracy", "fine"] == (
        0.7132,
        "0.690 to 0.735",
        "0 to 1",
        "higher",
        10_000,
        "test split",
    )
    assert rows["alpha", None][3] == "near 1"
    assert rows["feature_accuracy", "background"][0] is None
    assert (
        rows["feature_accuracy", "background"][-1] == "fewer than 8 samples per class"
    )


def test_every_curve_and_the_map_can_be_plotted(record, samples):
    report = Report(record, samples)
    for curve in record.curves:
        assert report.plot(curve.name).axes[0].get_title(loc="left") == curve.title
    assert len(report.plot("map").axes[0].collections) == 9


def test_an_unknown_figure_is_named(record, samples):
    report = Report(record, samples)
    match = "unknown figure 'spectrm'\n  fix: did you mean spectrum"
    with pytest.raises(UsageError, match=match):
        report.plot("spectrm")


def test_without_places_there_is_no_map_to_plot(record):
    match = (
        "unknown figure 'map'\n  fix: choose from class_accuracy, roc, score_q_score"
    )
    with pytest.raises(UsageError, match=match):
        Report(record, Samples({})).plot("map")


def test_text_and_notebook_views(report):
    assert repr(report) == summary(report.record)
    assert "<table>" in report._repr_html_()
    assert "<script" not in report._repr_html_()


def test_what_is_saved_comes_back(report, tmp_path):
    assert report.save(tmp_path / "deep" / "out") == tmp_path / "deep" / "out"
    assert _names(tmp_path / "deep" / "out") == [
        "report.html",
        "results.json",
        "samples.csv",
    ]
    _assert_same(report, Report.load(tmp_path / "deep" / "out"))


def test_a_comparison_comes_back_without_samples(comparison, tmp_path):
    report = Report(comparison, Samples({}))
    report.save(str(tmp_path))
    assert _names(tmp_path) == ["report.html", "results.json"]
    _assert_same(report, Report.load(str(tmp_path)))


def test_large_samples_come_back_from_parquet(report, tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    monkeypatch.setattr(samples_file, "CSV_MAXIMUM_ROWS", 100)
    report.save(tmp_path)
    assert "samples.parquet" in _names(tmp_path)
    _assert_same(report, Report.load(tmp_path))


def test_results_are_strict_json(report, tmp_path):
    report.save(tmp_path)

    def refuse(name):
        raise AssertionError(name)

    text = (tmp_path / "results.json").read_text("utf-8")
    assert json.loads(text, parse_constant=refuse)["schema_version"] == "1.0"
    assert from_json(RunRecord, text) == report.record


@pytest.mark.parametrize("name", ["results.json", "notes.txt"])
def test_a_folder_with_something_in_it_is_refused(report, tmp_path, name):
    (tmp_path / name).write_text("old")
    match = re.escape(
        f"{tmp_path} exists and is not empty\n  fix: --overwrite (in Python "
        "overwrite=True), or choose another folder with -o"
    )
    with pytest.raises(UsageError, match=match):
        report.save(tmp_path)
    assert _names(tmp_path) == [name]
    assert (tmp_path / name).read_text() == "old"


def test_an_empty_folder_is_used(report, tmp_path):
    (tmp_path / "out").mkdir()
    report.save(tmp_path / "out")
    assert len(_names(tmp_path / "out")) == 3


def test_a_file_in_the_place_of_the_folder_is_refused(report, tmp_path):
    (tmp_path / "out").write_text("old")
    with pytest.raises(UsageError, match="out is a file, not a folder\n.*with -o"):
        report.save(tmp_path / "out", overwrite=True)
    assert (tmp_path / "out").read_text() == "old"


def test_overwriting_replaces_our_files_and_leaves_others(report, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "results.json").write_text("old")
    report.save(tmp_path, overwrite=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    _assert_same(report, Report.load(tmp_path))


def test_overwriting_removes_samples_of_the_other_format(report, tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    report.save(tmp_path)
    monkeypatch.setattr(samples_file, "CSV_MAXIMUM_ROWS", 100)
    report.save(tmp_path, overwrite=True)
    assert _names(tmp_path) == ["report.html", "results.json", "samples.parquet"]


def test_a_table_of_another_program_is_not_removed(report, tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    (tmp_path / "samples.csv").write_text("mine")
    monkeypatch.setattr(samples_file, "CSV_MAXIMUM_ROWS", 100)
    report.save(tmp_path, overwrite=True)
    assert (tmp_path / "samples.csv").read_text() == "mine"


def test_a_full_disk_leaves_the_earlier_run(report, comparison, tmp_path, monkeypatch):
    report.save(tmp_path)

    def fail(*_arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    match = (
        r"cannot write .*results.json: no space left on the disk\n  found: .* MB free"
    )
    with pytest.raises(ResourceError, match=match):
        Report(comparison, Samples({})).save(tmp_path, overwrite=True)
    monkeypatch.undo()
    assert _names(tmp_path) == ["report.html", "results.json", "samples.csv"]
    _assert_same(report, Report.load(tmp_path))


def test_a_folder_that_cannot_be_read_is_named(report, tmp_path, monkeypatch):
    def fail(*_arguments):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "listdir", fail)
    with pytest.raises(ResourceError, match=f"cannot write {tmp_path}: no permission"):
        report.save(tmp_path)


def test_a_missing_folder_is_named(tmp_path):
    match = "nowhere: there is no such folder\n  fix: name a folder that repscope wrote"
    with pytest.raises(InputError, match=match):
        Report.load(tmp_path / "nowhere")


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(InputError, match="no repscope run: results.json is missing"):
        Report.load(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "no valid JSON"),
        (b"[]", "RunRecord: list instead of an object"),
        (b'{"results": {}}', "RunRecord: unknown key 'results'"),
        (b'{"schema_version": "9.0"}', "a run of schema 9.0"),
        (b'{"title": NaN}', "the number NaN in JSON"),
        (b"\xff\xfe", "'utf-8' codec can't decode"),
        (b"[" * 200_000, ""),
    ],
)
def test_results_of_another_program_are_named(tmp_path, content, reason):
    (tmp_path / "results.json").write_bytes(content)
    with pytest.raises(InputError, match=f"results.json: no repscope run: {reason}"):
        Report.load(tmp_path)


def test_missing_samples_are_named(report, tmp_path):
    report.save(tmp_path)
    (tmp_path / "samples.csv").unlink()
    with pytest.raises(InputError, match="samples.csv is missing beside results.json"):
        Report.load(tmp_path)
