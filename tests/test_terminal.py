"""A run in a terminal: the right stream, any width, inert words, colour if wanted."""

import dataclasses
import io
import json
import logging
import re
import sys

import pytest

from repscope import _terminal
from repscope._terminal import (
    entries,
    everything,
    note,
    overview,
    printable,
    progress,
    show,
    show_entries,
    verdict,
    width,
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

RANK = Measurement(name="effective_rank", value=3.125, interval=(3.0, 3.25))
ALPHA = Measurement(name="alpha", value=None, reason="no power law")


def finding(code, status, evidence=()):
    return Finding(
        code=code,
        title=f"title of {code}",
        status=status,
        severity="failure",
        explanation=f"words about {code}",
        evidence=evidence,
    )


RUN = RunRecord(
    kind="diagnosis",
    title="emb.npy",
    verdict=Verdict(word="COLLAPSED", sentence="found: RS102 dimensional collapse."),
    provenance=Provenance(),
    measurements=(RANK, ALPHA),
    findings=(finding("RS101", Status.ABSENT), finding("RS102", Status.FOUND, (RANK,))),
)
COMPARISON = dataclasses.replace(
    RUN,
    kind="comparison",
    measurements=(),
    findings=(),
    tables=(
        Table(name="a", title="First", columns=("x", "y"), rows=(("rank", -1.5),)),
        Table(
            name="differences",
            title="Second",
            columns=("run", "metric", "difference", "verdict"),
            rows=(
                ("b", "alpha", None, "not distinguishable"),
                ("b", "rankme", -20.5, "worse"),
                ("b", "hoyer", -0.25, "worse"),
                ("c", "alpha", 1.0, "better"),
            ),
        ),
    ),
)


@pytest.fixture
def terminal(monkeypatch):
    """Stand on a terminal that can show colours."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_results_and_notes_go_to_their_streams(capsys):
    show("a result")
    note("a note")
    assert capsys.readouterr() == ("a result\n", "a note\n")


def test_progress_is_what_repscope_logs(capsys):
    with progress(quiet=False):
        logging.getLogger("repscope").info("reading %s", "a\x1b[2Jb")
        logging.getLogger("repscope.deep").info("deeper")
    logging.getLogger("repscope").info("afterwards")
    assert capsys.readouterr() == ("", "reading ab\ndeeper\n")


def test_quiet_progress_is_silent(capsys):
    with progress(quiet=True):
        logging.getLogger("repscope").info("reading")
    assert capsys.readouterr() == ("", "")


def test_the_verdict_is_one_line():
    assert verdict(RUN) == "COLLAPSED  found: RS102 dimensional collapse."
    long = Verdict(word="WARN", sentence="words\n" * 100)
    assert "\n" not in verdict(dataclasses.replace(RUN, verdict=long))


def test_everything_tells_absent_findings_and_reasons():
    text = everything(RUN)
    assert text.startswith(overview(RUN))
    assert "RS101 title of RS101: absent (failure)  words about RS101" in text
    assert "effective_rank: 3.12  [3 to 3.25]" in text
    assert "alpha: undecided  no power law" in text


def test_everything_of_a_comparison_tells_every_difference():
    lines = everything(COMPARISON).splitlines()
    assert "b  metric rankme; difference -20.5; verdict worse" in lines
    assert "b  metric alpha; difference undecided; verdict not distinguishable" in lines


def test_a_comparison_counts_what_differs():
    lines = overview(COMPARISON).splitlines()
    assert "b, number by number: 2 worse, 1 not distinguishable" in lines
    assert "c, number by number: 1 better" in lines


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
@pytest.mark.parametrize("run", [RUN, COMPARISON], ids=lambda run: run.kind)
def test_every_width_is_kept(monkeypatch, columns, run):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert width() == columns
    assert max(map(len, everything(run).splitlines())) <= columns


@pytest.mark.parametrize(("columns", "used"), [("5", 40), ("500", 120), ("", 100)])
def test_a_width_is_used_where_it_is_readable(monkeypatch, columns, used):
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr("sys.__stdout__", io.StringIO())  # no terminal to ask
    assert width() == used


def test_entries_align_their_facts_and_leave_empty_ones_out():
    facts = {"title": "effective rank", "of": "one two three four", "page": ""}
    assert entries({"effective_rank": facts}, 24) == (
        "effective_rank\n  title  effective rank\n  of     one two three\n         four"
    )


def test_entries_as_json(capsys):
    show_entries({"a": {"b": "c"}}, as_json=True)
    assert json.loads(capsys.readouterr().out) == {"a": {"b": "c"}}


HOSTILE = [
    "\x1b[31mred",
    "\x1b]0;title\x07",
    "a\x08\x08b",
    "a\rb",
    "\x9b2J",
    "\u202egnp.exe",
    "\x00",
]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_words_from_data_cannot_steer_the_terminal(hostile):
    said = Finding(
        code=hostile,
        title=hostile,
        status=Status.FOUND,
        severity="failure",
        explanation=hostile,
        action=hostile,
        evidence=(RANK,),
    )
    run = dataclasses.replace(
        RUN,
        verdict=Verdict(word="WARN", sentence=hostile),
        findings=(said,),
        measurements=(dataclasses.replace(RANK, level=hostile),),
        tables=(Table(name="t", title=hostile, columns=("a",), rows=((hostile,),)),),
        notices=(hostile,),
    )
    comparison = dataclasses.replace(run, kind="comparison")
    texts = [everything(run), everything(comparison), verdict(run), printable(hostile)]
    texts.append(entries({hostile: {hostile: hostile}}, 80))
    assert all(one.isprintable() or one == "\n" for text in texts for one in text)


def test_a_terminal_gets_a_coloured_verdict(terminal):
    assert overview(RUN).startswith("\x1b[1;31mCOLLAPSED\x1b[0m  found: RS102")


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_a_terminal_that_wants_no_colour_gets_none(terminal, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert overview(RUN).startswith("COLLAPSED  found")


def test_a_pipe_gets_no_colour(capsys):
    assert not sys.stdout.isatty()
    assert "\x1b" not in overview(RUN)


def test_a_reader_that_leaves_silences_the_stream(monkeypatch):
    silenced = []

    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

        def fileno(self):
            return 17

    monkeypatch.setattr(sys, "stdout", Closed())
    monkeypatch.setattr(sys, "stderr", Closed())
    monkeypatch.setattr(_terminal, "silence", silenced.append)
    show("text")
    note("text")
    assert silenced == [17, 17]


def test_indents_of_an_error_are_kept():
    assert printable("error: a\n  fix: b\x07") == "error: a\n  fix: b"
    assert re.fullmatch("", printable(""))
