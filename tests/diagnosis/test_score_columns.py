"""Score columns return what was put in, in less memory where rows are many."""

import numpy as np
import pytest

from repscope.diagnosis import score_columns
from repscope.diagnosis.score_columns import ScoreColumns


def filled(n, *blocks):
    columns = ScoreColumns(n)
    start = 0
    for block in blocks:
        values = np.asarray(block, dtype=np.float64)
        columns.put("score", start + np.arange(len(values)), values)
        start += len(values)
    return columns


def test_few_rows_keep_every_digit():
    columns = filled(3, [1 / 3, 1e300], [-1e-300])
    assert columns["score"].tolist() == [1 / 3, 1e300, -1e-300]
    assert columns["score"].dtype == np.float64
    assert list(columns) == ["score"]
    assert len(columns) == 1
    assert "other" not in columns


def test_rows_come_in_any_order():
    columns = ScoreColumns(4)
    columns.put("score", np.array([3, 0]), np.array([30.0, 0.0]))
    columns.put("score", np.array([2, 1]), np.array([20.0, 10.0]))
    assert columns["score"].tolist() == [0, 10, 20, 30]


def test_many_rows_are_kept_in_single_precision(monkeypatch):
    monkeypatch.setattr(score_columns, "SINGLE_ABOVE", 2)
    columns = filled(3, [1 / 3, 0.0], [-1e29])
    assert columns["score"].dtype == np.float64
    assert columns["score"] == pytest.approx([1 / 3, 0, -1e29], rel=6e-8)
    assert columns["score"][0] != 1 / 3
    assert columns._columns["score"].nbytes == 12


@pytest.mark.parametrize("extreme", [1e31, -1e300, 1e-31, 5e-324, np.inf])
@pytest.mark.parametrize("first", [True, False])
def test_scores_beyond_single_precision_widen_their_column(monkeypatch, first, extreme):
    monkeypatch.setattr(score_columns, "SINGLE_ABOVE", 2)
    blocks = ([extreme], [0.5, 0.0]) if first else ([0.5, 0.0], [extreme])
    columns = filled(3, *blocks)
    assert extreme in columns["score"].tolist()
    assert columns._columns["score"].dtype == np.float64


def test_one_column_can_be_let_go():
    columns = filled(2, [1.0, 2.0])
    columns.put("other", np.arange(2), np.array([3.0, 4.0]))
    rest = columns.without("score")
    assert list(rest) == ["other"]
    assert rest.n == 2
    assert set(columns) == {"score", "other"}
