"""Repeats, leaks and dropped rows are counted, each once."""

import re

import numpy as np
import pytest

from repscope._arrays import hash_rows
from repscope._checking import Undecidable
from repscope.metrics import hygiene
from repscope.theory import planted


@pytest.mark.parametrize(
    ("values", "rows"),
    [
        ([1, 2, 3], []),
        ([1, 1, 1], [1, 2]),
        ([5, 7, 5, 8, 7, 5], [2, 4, 5]),
        ([9], []),
    ],
)
def test_repeats_are_all_but_the_first_of_equal_rows(values, rows):
    hashes = np.array(values, dtype=np.uint64)
    assert hygiene.repeats(hashes).tolist() == rows
    assert hygiene.duplicate_rows(hashes) == len(rows) / len(values)


def test_each_repeat_is_traced_to_the_first_of_its_kind():
    hashes = np.array([5, 7, 5, 8, 7, 5], dtype=np.uint64)
    assert hygiene.originals(hashes, hygiene.repeats(hashes)).tolist() == [0, 1, 0]
    assert hygiene.originals(hashes, np.arange(0)).tolist() == []


def test_planted_duplicates_are_found_row_by_row():
    one = planted.duplicates(planted.sound(500, 16), share=0.3)
    hashes = hash_rows(one.features)
    np.testing.assert_array_equal(hygiene.repeats(hashes), one.rows)
    assert hygiene.duplicate_rows(hashes) == pytest.approx(0.3)
    assert hygiene.duplicate_rows(hash_rows(planted.sound(500, 16).features)) == 0


@pytest.mark.parametrize(
    ("values", "is_test", "share"),
    [
        ([1, 2, 3, 4], [0, 0, 1, 1], 0.0),
        ([1, 2, 1, 4], [0, 0, 1, 1], 0.5),
        ([1, 1, 1, 1], [0, 0, 0, 1], 1.0),
        ([1, 2, 3, 3], [0, 0, 1, 1], 0.0),  # repeats within the test rows only
        ([1, 2], [1, 1], 0.0),
    ],
)
def test_leaks_are_test_rows_that_train_too(values, is_test, share):
    hashes = np.array(values, dtype=np.uint64)
    assert hygiene.leaked_rows(hashes, np.array(is_test, dtype=bool)) == share


def test_no_test_rows_is_undecidable():
    with pytest.raises(Undecidable, match=f"^{re.escape('no test rows')}$"):
        hygiene.leaked_rows(np.zeros(2, dtype=np.uint64), np.zeros(2, dtype=bool))


@pytest.mark.parametrize(
    ("dropped", "kept", "share"), [(0, 10, 0.0), (3, 1, 0.75), (1, 99, 0.01)]
)
def test_dropped_rows_are_a_share_of_all(dropped, kept, share):
    estimate = hygiene.dropped_rows(dropped, kept)
    assert estimate.value == pytest.approx(share)
    assert estimate.details == {"count": dropped}
