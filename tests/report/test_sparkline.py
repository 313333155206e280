"""Rows of small blocks: their shape, their bounds, and what a stream can show."""

import math

import numpy as np
import pytest

from repscope.report.sparkline import (
    ASCII_BLOCKS,
    BLOCKS,
    POINTS,
    History,
    blocks_for,
    sparkline,
)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], ""),
        ([3.0], "▁"),
        ([2.0, 2.0], "▁▁"),
        ([0.0, 7.0], "▁█"),
        ([7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0], "█▇▆▅▄▃▂▁"),
        ([-1.7e308, 1.7e308], "▁▁"),  # their distance is no number
    ],
)
def test_the_least_is_the_lowest_and_the_greatest_the_highest(values, expected):
    assert sparkline(values) == expected


def test_neither_shift_nor_scale_changes_it():
    values = np.random.default_rng(0).standard_normal(32).tolist()
    moved = [3 + 100 * one for one in values]
    assert sparkline(values) == sparkline(moved)


@pytest.mark.parametrize(
    ("encoding", "blocks"),
    [
        ("utf-8", BLOCKS),
        ("cp437", ASCII_BLOCKS),  # has some of the blocks, not all
        ("latin-1", ASCII_BLOCKS),
        ("no such", ASCII_BLOCKS),
        (None, ASCII_BLOCKS),
    ],
)
def test_a_stream_gets_what_it_can_show(encoding, blocks):
    assert blocks_for(encoding) == blocks
    assert len(BLOCKS) == len(ASCII_BLOCKS) == len(set(ASCII_BLOCKS))


@pytest.mark.parametrize("n", [1, 31, 32, 33, 63, 64, 65, 1000, 4097])
def test_a_history_is_short_and_goes_from_first_to_last(n):
    history = History()
    for value in range(n):
        history.add(float(value))
    values = history.values
    assert 1 <= len(values) <= POINTS
    assert len(values) >= min(n, POINTS // 2)
    assert values == sorted(values)
    assert (history.first, history.last) == (0.0, n - 1.0)


def test_its_points_are_means_of_equal_stretches():
    history = History(points=4)
    for value in np.arange(32.0):
        history.add(float(value))
    assert history.values == [3.5, 11.5, 19.5, 27.5]


def test_what_is_no_number_leaves_no_point():
    history = History()
    for value in (None, 1.0, math.nan, math.inf, 2.0, None):
        history.add(value)
    assert history.values == [1.0, 2.0]
