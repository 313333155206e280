"""A run in a terminal: what is shown, in which order, at any width, inert."""

import dataclasses
import re

import pytest

from repscope._terminal import (
    aligned,
    entries,
    next_steps,
    printable,
    summary,
    verdict_line,
)
from repscope.records import (
    Finding,
    Measurement,
    Provenance,
    RunRecord,
    Status,
    Table,
    Verdict,
)

RANK = Measurement(
    name="effective_rank",
    value=3.125,
    interval=(3.0, 3.25),
    range=(1.0, 64.0),
    direction="higher",
)
ALPHA = Measurement(name="alpha", value=None, reason="no power law")
ACCURACY = Measurement(
    name="linear_accuracy", value=0.75, level="fine", split="test", direction="higher"
)
UNJUDGED = Measurement(name="hoyer", value=0.5)


def finding(code, status, severity="failure", evidence=(), action=""):
    return Finding(
        code=code,
        title=f"title of {code}",
        status=status,
        severity=severity,
        explanation=f"words about {code}",
        action=action,
        evidence=evidence,
    )


RUN = RunRecord(
    kind="diagnosis",
    title="emb.npy",
    verdict=Verdict(word="COLLAPSED", sentence="dimensional collapse (RS102)"),
    provenance=Provenance(),
    measurements=(UNJUDGED, RANK, ALPHA, ACCURACY),
    findings=(
        finding("RS101", Status.ABSENT, evidence=(ACCURACY,)),
        finding("RS301", Status.UNDECIDED, "warning"),
        finding("RS501", Status.FOUND, "advisory"),
        finding("RS102", Status.FOUND, "failure", (RANK, ALPHA), action="repair it"),
        finding("RS302", Status.FOUND, "warning"),
    ),
    notices=("41 rows were dropped",),
    next_commands=("first", "second", "third"),
)


def test_the_verdict_comes_first():
    assert summary(RUN, 100).splitlines()[0] == (
        "COLLAPSED: dimensional collapse (RS102)"
    )


def test_numbers_behind_found_failures_come_before_the_others():
    table = summary(RUN, 120).split("\n\n")[1].splitlines()
    names = [line.split()[0] for line in table]
    assert names == ["measurement", "effective_rank", "linear_accuracy[fine]", "hoyer"]


def test_a_row_says_what_a_reader_needs():
    row = summary(RUN, 120).split("\n\n")[1].splitlines()[1]
    cells = re.split(r"  +", row)
    assert cells == [
        "effective_rank",
        "3.12",
        "3 to 3.25",
        "RS102 found",
        "1 to 64",
        "higher",
    ]


def test_the_three_gravest_findings_are_told_and_the_rest_counted():
    text = summary(RUN, 100)
    told = re.findall(r"^(RS\d+) .*: (\w+) ", text, flags=re.MULTILINE)
    assert told == [("RS102", "found"), ("RS302", "found"), ("RS501", "found")]
    assert "and 1 more in the report" in text
    assert "  do: repair it" in text


def test_verbose_tells_all_with_reasons():
    text = summary(RUN, 100, verbose=True)
    codes = re.findall(r"^(RS\d+) title", text, flags=re.MULTILINE)
    assert codes == ["RS102", "RS302", "RS501", "RS301", "RS101"]
    assert "alpha: no power law" in text


def test_notices_are_told():
    assert "note: 41 rows were dropped" in summary(RUN, 100)


def test_a_comparison_shows_its_tables():
    table = Table(
        name="differences",
        title="Differences",
        columns=("metric", "value", "sure"),
        rows=(("rank", -1.5, True), ("alpha", None, False)),
    )
    run = dataclasses.replace(RUN, kind="comparison", tables=(table,), findings=())
    block = summary(run, 80).split("\n\n")[1]
    assert block.splitlines() == [
        "Differences",
        "metric  value  sure",
        "rank    -1.50  yes",
        "alpha          no",
    ]


@pytest.mark.parametrize("columns", [24, 40, 60, 80, 120])
@pytest.mark.parametrize("verbose", [False, True])
def test_every_width_is_kept(columns, verbose):
    text = summary(RUN, columns, verbose=verbose)
    assert max(map(len, text.splitlines())) <= columns
    assert "effective_rank"[: columns - 14] in text


def test_columns_that_do_not_fit_are_left_out_from_the_right():
    rows = [("a long name of a row", "1", "b" * 30)]
    assert aligned(("name", "value", "more"), rows, 30) == (
        "name                  value\na long name of a row      1"
    )


def test_a_name_that_does_not_fit_is_cut():
    assert aligned(("name", "value"), [("x" * 40, "1")], 20).splitlines()[1] == (
        "xxxxxxxxxxx..      1"
    )


def test_entries_align_their_facts_and_leave_empty_ones_out():
    facts = {"title": "effective rank", "needs": "spectrum", "page": ""}
    assert entries({"effective_rank": facts}, 80) == (
        "effective_rank\n  title  effective rank\n  needs  spectrum"
    )


def test_at_most_two_next_commands():
    assert next_steps(RUN) == "next: first\nnext: second"


@pytest.mark.parametrize(
    "hostile",
    [
        "\x1b[31mred",
        "\x1b]0;title\x07",
        "a\x08\x08b",
        "a\rb",
        "\x9b2J",
        "\u202egnp.exe",
        "\x00",
    ],
)
def test_words_from_data_cannot_steer_the_terminal(hostile):
    run = dataclasses.replace(
        RUN,
        verdict=Verdict(word="WARN", sentence=hostile),
        findings=(finding(hostile, Status.FOUND, evidence=(RANK,), action=hostile),),
        measurements=(dataclasses.replace(RANK, level=hostile),),
        notices=(hostile,),
        next_commands=(hostile,),
    )
    text = summary(run, 80, verbose=True) + next_steps(run) + printable(hostile)
    assert all(letter.isprintable() or letter == "\n" for letter in text)


def test_a_terminal_gets_a_coloured_verdict(monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert verdict_line(RUN, 80) == (
        "\x1b[1;31mCOLLAPSED\x1b[0m: dimensional collapse (RS102)"
    )


@pytest.mark.parametrize(
    ("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")], ids=["NO_COLOR", "TERM"]
)
def test_a_terminal_that_wants_no_colour_gets_none(monkeypatch, name, value):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(name, value)
    assert verdict_line(RUN, 80).startswith("COLLAPSED: ")
