import dataclasses
import re

import pytest

from report.hostile_strings import PAYLOADS, hostile_record
from repscope.records import Measurement, Status
from repscope.report.terminal import summary, telling


@pytest.mark.parametrize("width", [20, 40, 57, 80, 120])
def test_no_line_is_wider_than_the_terminal(record, comparison, width):
    for run in (record, comparison):
        assert max(map(len, summary(run, width=width).splitlines())) <= max(width, 40)


def test_the_verdict_comes_first(record):
    first = summary(record).splitlines()[0]
    assert first == "COLLAPSED  " + record.verdict.sentence


def test_the_frame_is_ascii(record, comparison):
    assert summary(record).isascii()
    assert summary(comparison).isascii()


def test_numbers_come_with_interval_and_range(record):
    text = summary(record)
    assert re.search(r"^metric +value  95 % interval +range$", text, re.MULTILINE)
    assert re.search(
        r"^effective_rank +23.4  22.9 to 24.1 +1 to 512$", text, re.MULTILINE
    )


def test_a_narrow_terminal_keeps_names_and_values(record):
    lines = summary(record, width=40).splitlines()
    assert "linear_accuracy[coarse]  0.954" in lines
    assert "95 % interval" not in "".join(lines)


def test_colour_only_where_asked_for(record):
    assert "\x1b" not in summary(record)
    assert summary(record, colour=True).startswith("\x1b[1;31mCOLLAPSED\x1b[0m  Dimens")


def test_colour_changes_nothing_else(record):
    plain = re.sub("\x1b\\[[0-9;]*m", "", summary(record, colour=True))
    assert plain == summary(record)


def test_at_most_three_findings_and_what_to_do(record):
    found = [dataclasses.replace(record.findings[0], code=f"RS{k}") for k in range(5)]
    text = summary(dataclasses.replace(record, findings=tuple(found)))
    assert re.findall("^RS[0-9]+", text, re.MULTILINE) == ["RS0", "RS1", "RS2"]
    assert text.count("  do: Raise the weight") == 3
    assert "and 2 more in the report" in text


def test_what_was_found_comes_before_the_undecided(record):
    shown = dataclasses.replace(record, findings=record.findings[::-1])
    codes = re.findall("^RS[0-9]+", summary(shown), re.MULTILINE)
    assert codes == ["RS102", "RS301", "RS202"]
    assert "RS202 Feature suppression (undecided): " in summary(shown)


def test_notices_are_told(record):
    assert "note: 12 rows held NaN and were dropped." in summary(record)


def test_the_evidence_of_what_was_found_is_most_telling(record):
    keys = [one.key for one in telling(record)]
    assert keys[:4] == ["effective_rank", "alpha", "auroc[fine]", "rankme"]
    assert "dead_features" not in keys[:4]
    assert len(keys) == len(set(keys)) == 10


def test_at_most_ten_decided_numbers_are_shown(record):
    many = tuple(
        Measurement(
            name=f"m{k}", value=None if k % 2 else 1.0, reason="r" if k % 2 else None
        )
        for k in range(50)
    )
    shown = telling(dataclasses.replace(record, findings=(), measurements=many))
    assert [one.name for one in shown] == [f"m{k}" for k in range(0, 20, 2)]


def test_a_run_without_anything_is_its_verdict(record):
    bare = dataclasses.replace(record, findings=(), measurements=(), notices=())
    assert summary(bare) == "COLLAPSED  " + record.verdict.sentence


def test_a_comparison_shows_differences_and_their_verdict(comparison):
    lines = summary(comparison, width=100).splitlines()
    assert " ".join(lines[2].split()) == "metric a b difference 95 % interval verdict"
    assert " ".join(lines[3].split()) == (
        "effective_rank 180 23.4 -157 -158 to -155 worse"
    )


def test_in_a_narrow_comparison_the_verdict_stays(comparison):
    lines = summary(comparison, width=40).splitlines()
    assert lines[2].split() == ["metric", "verdict"]
    assert lines[5].split() == ["cdnv[fine]", "not", "distinguishable"]


def test_any_payload_is_inert(payload):
    text = summary(hostile_record(payload), width=60)
    assert not re.search(
        "[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text
    )
    assert max(map(len, text.splitlines())) <= 60


def test_the_payloads_number_at_least_thirty():
    assert len(set(PAYLOADS)) >= 30


def test_every_status_has_its_place(record):
    findings = tuple(
        dataclasses.replace(record.findings[0], status=status) for status in Status
    )
    assert summary(dataclasses.replace(record, findings=findings)).count("RS102") == 2
