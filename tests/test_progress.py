"""How far it is: lines now and then where there is no terminal, nothing when quiet."""

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
