"""The demo: three encoders trained on real digits; verdicts from measurements alone."""

import pytest

from diagnosis.cases import ABSENT, FOUND, finding_of
from repscope._checking import UsageError
from repscope.diagnosis.compare import compare
from repscope.diagnosis.demo import (
    DAMAGE,
    ENCODERS,
    demo_recipes,
    demo_reports,
    run_demo,
)
from repscope.report.report import Report
from repscope.training.recipe import difference

WORDS = {"healthy": "HEALTHY", "collapsed": "COLLAPSED", "suppressed": "WARN"}
FAULTS = {"healthy": [], "collapsed": ["RS102"], "suppressed": ["RS202"]}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Run the demo of seed 0: comparison, reports by name, and the folder."""
    folder = tmp_path_factory.mktemp("demo") / "out"
    comparison, reports = run_demo(folder)
    return comparison, reports, folder


@pytest.fixture(scope="module")
def reports(saved):
    return saved[1]


def check_verdicts(reports):
    assert {name: one.verdict.word for name, one in reports.items()} == WORDS
    for name, report in reports.items():
        found = [one for one in report.findings if one.status is FOUND]
        failures = [one.code for one in found if one.severity == "failure"]
        assert failures == FAULTS[name], name
    counted = [one for one in reports["healthy"].findings if one.code < "RS5"]
    assert not any(one.status is FOUND for one in counted)


def test_what_was_done_to_an_encoder_is_found_and_nothing_else(reports):
    check_verdicts(reports)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_the_verdicts_hold_for_other_seeds(seed):
    check_verdicts(demo_reports(seed))


def test_the_healthy_encoder_is_cleared_by_what_can_decide(reports):
    counted = [one for one in reports["healthy"].findings if one.code < "RS5"]
    decided = [one.code for one in counted if one.status is ABSENT]
    assert {"RS101", "RS102", "RS103", "RS201", "RS202", "RS302"} <= set(decided)


def test_the_encoders_differ_by_the_damage_alone():
    recipes = demo_recipes(3)
    for name, words in DAMAGE.items():
        changed = difference(recipes["healthy"], recipes[name])
        keys = {line.partition(":")[0] for line in changed}
        assert keys == {word.partition("=")[0] for word in words}, name
        assert recipes[name].training.seed == recipes[name].data.bit_seed == 3


def test_the_comparison_says_what_the_damage_adds(saved):
    comparison, _, _ = saved
    sentence = comparison.verdict.sentence
    assert comparison.verdict.word == "COMPARED"
    assert "collapsed (COLLAPSED) adds RS102" in sentence
    assert "suppressed (WARN) adds RS202" in sentence
    added = {
        (one.code, one.title.rsplit(" in ", 1)[1])
        for one in comparison.findings
        if one.severity == "failure"
    }
    assert added == {("RS102", "collapsed"), ("RS202", "suppressed")}


def test_the_damaged_encoders_are_worse_beyond_chance(saved):
    comparison = saved[0]
    rows = next(t for t in comparison.record.tables if t.name == "differences").rows
    verdicts = {(row[0], row[1]): row[7] for row in rows}
    assert verdicts["collapsed", "effective_rank_covariance"] == "worse"
    assert verdicts["suppressed", "linear_accuracy[digit]"] == "worse"
    assert not comparison.record.notices


def test_the_suppressed_encoder_names_what_it_looks_at(reports):
    finding = finding_of(reports["suppressed"], "RS202")
    assert "of the skill it has on the reference" in finding.explanation
    assert "while 'bit" in finding.explanation


def test_every_report_and_encoder_is_saved_and_can_be_read(saved):
    comparison, reports, folder = saved
    for name, report in {**reports, "comparison": comparison}.items():
        assert Report.load(folder / name).record == report.record
        assert (folder / name / "report.html").stat().st_size < 5 * 2**20
    for name in reports:
        assert (folder / ENCODERS / name / "encoder.safetensors").is_file()


def test_reports_show_pictures_of_the_rows_they_list(reports):
    for report in reports.values():
        tables = report.record.tables
        listed = next(one for one in tables if one.name == "worst_samples")
        shown = [one.row for one in report.record.thumbnails]
        assert shown == [row[0] for row in listed.rows]


def test_an_earlier_demo_is_not_written_over(tmp_path):
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(UsageError, match="exists and is not empty") as refused:
        run_demo(tmp_path)
    assert "--overwrite" in str(refused.value)
    assert (tmp_path / "mine.txt").read_text() == "kept"


def test_compare_takes_the_folders_of_a_demo(saved):
    comparison, _, folder = saved
    again = compare(*[folder / name for name in WORDS])
    assert again.verdict == comparison.verdict
