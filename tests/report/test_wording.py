import re

import pytest

from repscope.records import Measurement
from repscope.report.wording import (
    better_text,
    clean,
    interval_text,
    metric_text,
    moment_text,
    note_text,
    range_text,
    rounded,
    shorten,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "undecided"),
        (0.0, "0"),
        (-0.0, "0"),
        (1.0, "1"),
        (12.0, "12"),
        (0.95, "0.950"),
        (0.99996, "1.00"),
        (23.456, "23.5"),
        (99.97, "100"),
        (214.7, "215"),
        (-1234.5, "-1,234"),
        (1_000_000, "1,000,000"),
        (1234567.5, "1.23e+06"),
        (0.00012345, "1.23e-04"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
    ],
)
def test_numbers_have_three_significant_digits(value, text):
    assert rounded(value) == text


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("plain", "plain"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]0;title\x1b\\after", "after"),
        ("\x9b2Jcleared", "cleared"),
        ("two\r\nlines\tand more", "two lines and more"),
        ("nul\x00bell\x07", "nulbell"),
        ("\u202eevil\u202c", "evil"),
        ("\u05e9\u05dc\u05d5\u05dd", "\u05e9\u05dc\u05d5\u05dd"),
        ("half \ud800 pair", "half \ufffd pair"),
        ("<b>&amp;</b>", "<b>&amp;</b>"),
    ],
)
def test_words_lose_what_steers_a_terminal(text, cleaned):
    assert clean(text) == cleaned


def test_no_payload_keeps_a_control_character(payload):
    assert not re.search(
        "[\x00-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", clean(payload)
    )


@pytest.mark.parametrize("limit", [5, 16, 40])
def test_long_words_lose_their_middle(limit):
    short = shorten("a" * 50 + "b" * 50, limit, "...")
    assert len(short) == limit
    assert short[0] == "a"
    assert short[-1] == "b"
    assert "..." in short


def test_short_words_stay():
    assert shorten("cat", 3) == "cat"


@pytest.mark.parametrize(
    ("bounds", "text"),
    [
        ((0.0, 1.0), "0 to 1"),
        ((0.5, None), "from 0.500"),
        ((None, 2.0), "up to 2"),
        ((None, None), "any"),
    ],
)
def test_ranges_read_as_words(bounds, text):
    assert range_text(bounds) == text


def test_an_interval_reads_as_words():
    assert interval_text((0.12345, 250.4)) == "0.123 to 250"
    assert interval_text(None) == ""


@pytest.mark.parametrize(
    ("direction", "text"),
    [("higher", "higher"), ("lower", "lower"), ("target", "near 1"), ("none", "")],
)
def test_the_better_direction_reads_as_words(direction, text):
    target = 1.0 if direction == "target" else None
    one = Measurement(name="m", value=1.0, direction=direction, target=target)
    assert better_text(one) == text


def test_the_method_of_an_interval_is_named():
    one = Measurement(name="m", value=1.0, details={"interval": "bootstrap"})
    assert note_text(one) == "interval: bootstrap"


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        ("2026-11-21T04:09:06+00:00", "2026-11-21 04:09 UTC"),
        ("2026-11-21T04:09:06+02:00", "2026-11-21 04:09 UTC+02:00"),
        ("2026-11-21", "2026-11-21 00:00"),
        ("yesterday\x1b[0m", "yesterday"),
    ],
)
def test_moments_are_told_to_the_minute(moment, text):
    assert moment_text(moment) == text


def test_a_metric_of_another_layer_says_so():
    assert metric_text(Measurement(name="m", value=1.0, level="fine")) == "m"
    assert metric_text(Measurement(name="m", value=1.0, layer="conv1")) == "m@conv1"


def test_a_note_gives_reason_split_and_details():
    details = {"first_rank": 11, "r_squared": 0.98765, "signed": True, "pair": ("a", 2)}
    one = Measurement(
        name="m", value=None, reason="one class", split="test", details=details
    )
    assert note_text(one) == (
        "one class; test split; first rank 11; r squared 0.988; signed yes; pair a, 2"
    )


def test_a_note_leaves_out_details_that_hold_nothing():
    details = {"missing": (), "score": "", "count": 0, "pairs": ("a",)}
    assert note_text(Measurement(name="m", value=1.0, details=details)) == (
        "count 0; pairs a"
    )
