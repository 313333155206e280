"""Tables of classes: what stands out, why rows are wrong, how they score."""

import re

import numpy as np
import pytest

from repscope.diagnosis.class_pictures import (
    judged_scores,
    profile_table,
    score_table,
)
from repscope.diagnosis.probe_rows import ProbeRows
from repscope.records import Status, Table
from repscope.representations.representation import Representation


@pytest.fixture
def rows():
    """Return 40 test rows; feature 3 marks "cat" and feature 5 "dog"."""
    generator = np.random.default_rng(0)
    features = 0.1 * generator.random((42, 8))
    labels = np.array(["cat"] * 20 + ["dog"] * 20 + ["cat", "dog"])
    features[:20, 3] += 1
    features[20:40, 5] += 1
    features[18:20, 3] = 0  # two cats without their feature
    features[38, 3] += 2  # a dog with both
    given = Representation.of(
        features, labels={"kind": labels}, split=np.arange(42) < 40
    )
    return ProbeRows.of(given, np.arange(42), given.is_test, 0)


@pytest.fixture
def predicted(rows):
    codes = rows.representation.levels[0].codes[:40].copy()
    codes[[18, 19]] = 1
    codes[38] = 0
    return codes


def cells_of(table):
    return {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}


def test_the_dominant_feature_and_the_causes_of_errors_are_told(rows, predicted):
    table = profile_table(rows.representation.levels[0], rows, predicted)
    cat, dog = cells_of(table)["cat"], cells_of(table)["dog"]
    assert (cat["dominant feature"], dog["dominant feature"]) == (3, 5)
    assert cat["errors: feature missing"] == 2
    assert dog["errors: feature missing"] + dog["errors: feature there"] == 1
    assert cat["its z-score, right rows"] == pytest.approx(7**0.5, rel=0.02)
    assert [row[0] for row in table.rows][0] == "cat"


def test_a_class_without_a_right_answer_has_no_dominant_feature(rows):
    table = profile_table(
        rows.representation.levels[0], rows, np.zeros(40, dtype=np.int64)
    )
    dog = cells_of(table)["dog"]
    assert dog["dominant feature"] is None
    assert dog["its z-score, right rows"] is None
    assert dog["errors: undecided"] == 20


def test_scores_by_class_come_lowest_first(rows, predicted):
    level = rows.representation.levels[0]
    scores = np.where(level.codes[:40] == 1, 0.1, 0.5)
    scores[18:20] = 0.3
    table = score_table(level, rows, scores, predicted)
    assert [row[0] for row in table.rows] == ["dog", "cat"]
    cat = cells_of(table)["cat"]
    assert cat["mean"] == pytest.approx(scores[:20].mean())
    assert cat["median"] == 0.5
    assert cat["right less wrong"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (Status.FOUND, "may be represented badly"),
        (Status.ABSENT, "does not single out errors \\(RS301\\)"),
        (Status.UNDECIDED, "undecided \\(RS301\\)"),
    ],
)
def test_scores_by_class_are_worded_by_what_the_check_of_scores_says(status, words):
    table = Table(name="class_scores", title="t", columns=("a",), rows=())
    assert re.search(words, judged_scores(table, status).how_to_read)
    other = Table(name="splits", title="t", columns=("a",), rows=())
    assert judged_scores(other, status) is other


def test_one_feature_has_no_profile():
    given = Representation.of(
        np.arange(6.0)[:, None], labels=np.arange(6) % 2, split=np.arange(6) > 3
    )
    rows = ProbeRows.of(given, np.arange(6), given.is_test, 0)
    level = rows.representation.levels[0]
    assert profile_table(level, rows, np.array([0, 1])) is None
