"""How far it is: lines now and then where there is no terminal, nothing when quiet."""

import io
import re

import pytest

from repscope import _progress
from repscope._progress import TrainingProgress, counted


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is told to go on."""
    now = [100.0]
    monkeypatch.setattr(_progress.time, "monotonic", lambda: now[0])
    return now


def test_lines_come_now_and_then_with_rate_and_time_left(clock, capsys):
    with counted("embedding", "images", quiet=False) as counter:
        counter(10, 1000)
        assert capsys.readouterr().err == ""
        clock[0] += 50
        counter(250, 1000)
        assert capsys.readouterr().err == (
            "embedding: 250 of 1,000 (5 images/s, 150 s left)\n"
        )
        clock[0] += 1
        counter(300, 1000)
        assert capsys.readouterr().err == ""


def test_the_last_count_is_always_told(clock, capsys):
    with counted("embedding", "images", quiet=False) as counter:
        clock[0] += 2
        counter(30, 30)
    assert capsys.readouterr().err == "embedding: 30 of 30 (15 images/s)\n"


def test_quiet_is_quiet(capsys):
    with counted("embedding", "images", quiet=True) as counter:
        assert counter is None
    TrainingProgress(None, 8).advance(1, {"total": 1.0})
    assert capsys.readouterr().err == ""


def test_training_counts_from_where_it_goes_on(clock, capsys):
    with counted("training", "images", quiet=False) as counter:
        progress = TrainingProgress(counter, 8)
        progress.start(total_steps=100, first_step=50)
        clock[0] += 40
        progress.advance(60, {"total": 0.5})
        progress.finish()
    assert capsys.readouterr().err == (
        "training: 480 of 800 (2 images/s loss 0.500, 160 s left)\n"
    )


def test_a_skipped_step_has_no_loss(clock, capsys):
    with counted("training", "images", quiet=False) as counter:
        progress = TrainingProgress(counter, 8)
        progress.start(total_steps=100, first_step=0)
        clock[0] += 40
        progress.advance(1, {"total": None})
    assert "skipped" in capsys.readouterr().err


def test_the_summary_shows_loss_and_watched_numbers_from_first_to_last():
    progress = TrainingProgress(None, 8)
    progress.start(total_steps=8, first_step=0)
    for step in range(1, 9):
        progress.advance(step, {"total": 9.0 - step, "positive": 1.0})
    progress.look({"effective_rank": 2.5, "linear_accuracy[fine]": None, "d": 1.0})
    progress.look({"effective_rank": 5.5, "linear_accuracy[fine]": 0.25})
    lines = [line.split() for line in progress.summary.splitlines()]
    assert lines == [
        ["first", "last"],
        ["total", "8", "1", "█▇▆▅▄▃▂▁"],
        ["effective_rank", "2.50", "5.50", "▁█"],
        ["linear_accuracy[fine]", "0.250", "0.250", "▁"],
    ]


def test_a_training_without_a_step_has_no_summary():
    progress = TrainingProgress(None, 8)
    progress.start(total_steps=8, first_step=8)
    progress.finish()
    assert progress.summary == ""


def test_a_second_training_begins_its_own_summary():
    progress = TrainingProgress(None, 8)
    for total in (1.0, 2.0):
        progress.start(total_steps=1, first_step=0)
        progress.advance(1, {"total": total})
    assert progress.summary.split()[2:5] == ["total", "2", "2"]


def test_names_of_levels_cannot_steer_the_terminal():
    progress = TrainingProgress(None, 8)
    progress.look({"cdnv[\x1b[31mred]": 1.0})
    assert "\x1b" not in progress.summary
    assert "cdnv[red]" in progress.summary


class Terminal(io.StringIO):
    """A stream that says it is a terminal of an encoding."""

    def __init__(self, encoding):
        super().__init__()
        self._encoding = encoding

    encoding = property(lambda self: self._encoding)

    def isatty(self):
        return True


def shown_on(terminal, monkeypatch, **environment):
    """Return what a short training shows on a terminal."""
    for name in ("NO_COLOR", "TERM", "COLORTERM", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm", "COLUMNS": "100", **environment}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(_progress.sys, "stderr", terminal)
    with counted("training", "images", quiet=False) as counter:
        progress = TrainingProgress(counter, 8)
        progress.start(total_steps=8, first_step=0)
        for step in range(1, 9):
            progress.advance(step, {"total": 9.0 - step})
    return terminal.getvalue()


def test_a_terminal_shows_the_way_of_the_loss_below_the_bar(monkeypatch):
    assert "█▇▆▅▄▃▂▁" in shown_on(Terminal("utf-8"), monkeypatch)


def test_a_terminal_without_blocks_gets_plain_signs(monkeypatch):
    shown = shown_on(Terminal("ascii"), monkeypatch)
    assert "#*+=-:._" in shown
    assert "█" not in shown


def test_a_terminal_without_colour_gets_none(monkeypatch):
    shown = shown_on(Terminal("utf-8"), monkeypatch, NO_COLOR="1")
    assert not re.search("\x1b\\[[0-9;]*3[0-9]", shown)


def test_a_dumb_terminal_gets_lines(monkeypatch):
    shown = shown_on(Terminal("utf-8"), monkeypatch, TERM="dumb")
    assert re.fullmatch(r"training: 64 of 64 \([\d,]+ images/s loss 1\.000\)\n", shown)
