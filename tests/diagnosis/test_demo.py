"""The demo: three versions of real digits; verdicts from measurements, for any seed."""

import numpy as np
import pytest

from diagnosis.cases import ABSENT, FOUND, finding_of
from repscope._checking import UsageError
from repscope.diagnosis.compare import compare
from repscope.diagnosis.demo import PAIR_OF_DIGIT, demo_inputs, digits, run_demo
from repscope.diagnosis.diagnose import diagnose
from repscope.records import Status
from repscope.report.report import Report

WORDS = {"sound": "HEALTHY", "collapsed": "COLLAPSED", "suppressed": "WARN"}
FAULTS = {"sound": [], "collapsed": ["RS102"], "suppressed": ["RS202"]}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Run the demo of seed 0: comparison, reports by name, and the folder."""
    folder = tmp_path_factory.mktemp("demo") / "out"
    comparison, reports = run_demo(folder)
    return comparison, reports, folder


@pytest.fixture(scope="module", params=range(5), ids=lambda seed: f"seed {seed}")
def demo(request, saved):
    """Run the demo once per seed, without writing its pages again."""
    if request.param == 0:
        return saved[:2]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Report, "save", lambda report, out, overwrite=False: out)
        return run_demo("unwritten", seed=request.param)


def test_the_words_are_right(demo):
    _, reports = demo
    assert {name: one.verdict.word for name, one in reports.items()} == WORDS


def test_what_was_planted_is_found_and_nothing_else_fails(demo):
    _, reports = demo
    for name, report in reports.items():
        found = [one for one in report.findings if one.status is FOUND]
        failures = [one.code for one in found if one.severity == "failure"]
        assert failures == FAULTS[name], name


def test_the_sound_version_has_no_finding_that_counts(demo):
    _, reports = demo
    counted = [one for one in reports["sound"].findings if one.code < "RS5"]
    assert not any(one.status is FOUND for one in counted)
    decided = [one.code for one in counted if one.status is ABSENT]
    assert {"RS101", "RS102", "RS103", "RS201", "RS302"} <= set(decided)


def test_the_comparison_says_what_the_damaged_versions_add(demo):
    comparison, _ = demo
    assert comparison.verdict.word == "COMPARED"
    sentence = comparison.verdict.sentence
    assert sentence.startswith("Against sound (HEALTHY): collapsed (COLLAPSED) adds RS")
    assert "collapsed (COLLAPSED) adds RS102" in sentence
    assert "suppressed (WARN) adds" in sentence
    added = {
        (one.code, one.title.rsplit(" in ", 1)[1])
        for one in comparison.findings
        if one.severity == "failure"
    }
    assert added == {("RS102", "collapsed"), ("RS202", "suppressed")}


def test_the_damaged_versions_are_worse_beyond_chance(demo):
    comparison, _ = demo
    rows = next(t for t in comparison.record.tables if t.name == "differences").rows
    verdicts = {(row[0], row[1]): row[7] for row in rows}
    assert verdicts["collapsed", "effective_rank_covariance"] == "worse"
    assert verdicts["suppressed", "linear_accuracy[digit]"] == "worse"
    assert not comparison.record.notices


def test_the_suppressed_version_names_the_factor(demo):
    _, reports = demo
    finding = finding_of(reports["suppressed"], "RS202")
    assert "of the skill it has on the reference" in finding.explanation
    assert "while 'bit " in finding.explanation


def test_every_version_is_saved_and_can_be_read(saved):
    comparison, reports, folder = saved
    for name, report in {**reports, "comparison": comparison}.items():
        again = Report.load(folder / name)
        assert again.record == report.record
        assert (folder / name / "report.html").stat().st_size < 5 * 2**20


def test_reports_show_pictures_of_the_rows_they_list(demo):
    _, reports = demo
    for report in reports.values():
        listed = next(
            one for one in report.record.tables if one.name == "worst_samples"
        )
        shown = [one.row for one in report.record.thumbnails]
        assert shown == [row[0] for row in listed.rows]


def test_findings_do_not_come_from_names():
    inputs = demo_inputs(0)
    collapsed = inputs["collapsed"]
    report = diagnose(collapsed.features, labels=collapsed.labels)
    assert report.record.title == "features"
    assert finding_of(report, "RS102").status is FOUND


def test_the_suppressed_version_alone_is_not_found_guilty():
    suppressed = demo_inputs(0)["suppressed"]
    report = diagnose(suppressed.features, labels=suppressed.labels)
    assert finding_of(report, "RS202").status is Status.NOT_APPLICABLE


def test_digits_are_real_and_nested():
    pixels, images = digits()
    assert images.shape == (1797, 8, 8)
    assert (images.min(), images.max()) == (0, 1)
    assert (pixels.features == images.reshape(1797, 64)).all()
    pairs = np.array(PAIR_OF_DIGIT)
    assert np.bincount(pairs).tolist() == [2] * 5
    assert (pixels.labels["pair"] == pairs[pixels.labels["digit"]]).all()


def test_one_seed_gives_one_demo():
    first, again, other = (demo_inputs(seed) for seed in (0, 0, 1))
    assert (first["suppressed"].features == again["suppressed"].features).all()
    assert (first["suppressed"].features != other["suppressed"].features).any()
    assert (first["collapsed"].features == other["collapsed"].features).all()


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
