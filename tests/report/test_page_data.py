import base64
import json

import numpy as np
import pytest

from report.report_examples import example_samples
from repscope.records import Samples, Table
from repscope.report import page_data
from repscope.report.page_data import (
    grid,
    map_data,
    map_in_words,
    map_rows,
    position,
    row_in_words,
    sample_grid,
    worst_rows,
)


def _unpacked(text, kind):
    return np.frombuffer(base64.b64decode(text), kind)


def _places(x, y, **columns):
    return Samples({"map_x": np.array(x, float), "map_y": np.array(y, float)} | columns)


def _channel(samples, title):
    channels = {one["title"]: one for one in map_data(samples)["channels"]}
    return channels[title]


def test_positions_are_sixteen_bit_fractions_of_the_longer_side():
    packed = map_data(_places([0, 10, 5], [0, 5, 2.5]))
    assert _unpacked(packed["x"], "<u2").tolist() == [0, 65535, 32768]
    assert _unpacked(packed["y"], "<u2").tolist() == [16384, 49151, 32768]


def test_one_point_lies_in_the_middle():
    packed = map_data(_places([7], [7]))
    assert _unpacked(packed["x"], "<u2").tolist() == [32768]


def test_rows_without_a_place_are_left_out():
    samples = _places([0, np.nan, 1, 2], [0, 1, np.inf, 2], row=np.array([5, 6, 7, 8]))
    assert _unpacked(map_data(samples)["row"], "<u4").tolist() == [5, 8]


def test_no_place_means_no_map(samples):
    assert map_data(Samples({"row": np.arange(3)})) is None
    assert map_data(_places([np.nan], [1])) is None
    assert map_in_words(_places([np.nan], [1])) is None


def test_too_many_points_are_thinned_evenly(monkeypatch):
    monkeypatch.setattr(page_data, "MAXIMUM_POINTS", 4)
    assert map_rows(_places(range(10), range(10))).tolist() == [0, 3, 6, 9]


def test_categories_are_indices_into_names():
    labels = np.array(["class 10", "class 9", "class 10"])
    channel = _channel(_places([0, 1, 2], [0, 1, 2], **{"label:a": labels}), "a")
    assert channel["names"] == ["class 9", "class 10"]
    assert _unpacked(channel["codes"], "u1").tolist() == [1, 0, 1]


def test_more_than_256_categories_take_two_bytes():
    places = np.arange(300)
    labels = {"label:a": places.astype(str)}
    channel = _channel(_places(places, places, **labels), "a")
    assert channel["bytes"] == 2
    assert _unpacked(channel["codes"], "<u2").tolist() == places.tolist()


def test_a_probe_is_right_wrong_or_not_tested():
    outcomes = np.array([1.0, 0.0, np.nan])
    samples = _places([0, 1, 2], [0, 1, 2], **{"correct:a:knn": outcomes})
    channel = _channel(samples, "knn probe on a")
    names = [channel["names"][code] for code in _unpacked(channel["codes"], "u1")]
    assert names == ["correct", "wrong", "not tested"]
    assert channel["names"][channel["silent"]] == "not tested"


def test_scores_travel_as_floats():
    scores = np.array([0.25, np.nan, 1e-3])
    channel = _channel(_places([0, 1, 2], [0, 1, 2], q_score=scores), "Q-Score")
    np.testing.assert_array_equal(
        _unpacked(channel["values"], "<f4"), scores.astype("f4")
    )


def test_ids_that_are_the_rows_do_not_travel():
    rows = np.array([3, 4])
    assert map_data(_places([0, 1], [0, 1], row=rows, id=rows))["id"] is None
    assert map_data(_places([0, 1], [0, 1], row=rows, id=rows + 1))["id"] == ["4", "5"]


@pytest.mark.parametrize(
    "ids",
    [
        "a/long/path/to/a/folder/of/pictures/of/many/kinds/{:08d}.png",
        "\u6f22\u5b57\u6f22\u5b57\u6f22\u5b57\u6f22\u5b57/{:08d}",
        "\U0001f600" * 30 + "{:d}",
    ],
    ids=["path", "chinese", "pictures"],
)
def test_long_ids_are_shortened_to_fit(monkeypatch, ids):
    monkeypatch.setattr(page_data, "ID_BYTES", 14_000)
    packed = map_data(example_samples(400, ids=ids))
    assert len(json.dumps(packed["id"])) <= 14_000


def test_ids_that_cannot_be_shortened_enough_are_left_out(monkeypatch):
    monkeypatch.setattr(page_data, "ID_BYTES", 1000)
    assert map_data(example_samples(400))["id"] is None


def test_the_map_in_words_names_the_nearest_label():
    labels = np.array(["a", "a", "b", "b", "c", "c"])
    x, y = [0, 0, 2, 2, 10, 10], [0, 1, 0, 1, 0, 1]
    table = map_in_words(_places(x, y, **{"label:kind": labels}))
    rows = {row[0]: row[1:] for row in table.rows}
    # centres at x = 0, 2 and 10, half a unit of spread, on a map 10 wide
    assert rows["a"] == pytest.approx((2, 0.05, "b", 0.2))
    assert rows["b"] == pytest.approx((2, 0.05, "a", 0.2))
    assert rows["c"] == pytest.approx((2, 0.05, "b", 0.8))


def test_a_single_label_has_no_neighbour():
    table = map_in_words(_places([0, 1], [0, 0], **{"label:k": np.array(["a", "a"])}))
    assert table.rows[0][3:] == (None, None)


def test_listed_rows_come_first_then_the_lowest_quality():
    samples = Samples(
        {
            "listed": np.array([0, 1, 0, 1, 0]),
            "q_score": np.array([0.1, 0.9, np.nan, 0.5, 0.05]),
        }
    )
    assert worst_rows(samples).tolist() == [3, 1, 4, 0, 2]
    assert worst_rows(samples, 2).tolist() == [3, 1]


def test_without_scores_the_first_rows_are_shown():
    assert worst_rows(Samples({"row": np.arange(5)}), 3).tolist() == [0, 1, 2]


def test_the_sample_table_shows_labels_scores_and_who_was_wrong():
    shown = sample_grid(
        Samples(
            {
                "row": np.array([1204, 7]),
                "id": np.array(["x", "y"]),
                "label:kind": np.array(["cat", "dog"]),
                "predicted:kind": np.array(["dog", ""]),
                "split": np.array(["test", "train"]),
                "q_score": np.array([0.12345, np.nan]),
                "correct:kind:linear": np.array([0.0, np.nan]),
                "correct:kind:knn": np.array([1.0, np.nan]),
                "listed": np.array([1, 0]),
            }
        )
    )
    names = ("row", "id", "kind", "predicted kind", "split", "Q-Score", "wrong kind")
    assert shown.columns == (*names, "listed")
    texts = [tuple(cell.text for cell in row) for row in shown.rows]
    assert texts == [
        ("1204", "x", "cat", "dog", "test", "0.123", "linear", "yes"),
        ("7", "y", "dog", "\u2013", "train", "\u2013", "\u2013", ""),
    ]
    assert shown.rows[0][5].number == 0.12345


def test_a_table_becomes_cells():
    table = Table(
        name="t",
        title="t",
        columns=("a", "b", "c"),
        rows=(("x", 1234, 0.5), ("y", None, 2.0), ("z", 3, None)),
    )
    shown = grid(table, limit=2)
    assert shown.numeric == (False, True, True)
    assert shown.total == 3
    assert [[cell.text for cell in row] for row in shown.rows] == [
        ["x", "1,234", "0.500"],
        ["y", "\u2013", "2.00"],
    ]


def test_names_of_rows_have_no_thousands_separator():
    table = Table(name="t", title="t", columns=("row", "n"), rows=((1747, 1747),))
    assert [cell.text for cell in grid(table).rows[0]] == ["1747", "1,747"]


def test_a_column_of_whole_numbers_stays_whole():
    table = Table(name="t", title="t", columns=("a",), rows=((1.0,), (25.0,)))
    assert [row[0].text for row in grid(table).rows] == ["1", "25"]


def test_a_table_without_rows_keeps_its_columns():
    shown = grid(Table(name="t", title="t", columns=("a", "b"), rows=()))
    assert (shown.columns, shown.numeric, shown.rows) == (
        ("a", "b"),
        (False, False),
        (),
    )


def test_a_row_is_described_in_short_and_in_full():
    samples = Samples(
        {
            "row": np.array([8, 9]),
            "id": np.array(["x", "y"]),
            "label:kind": np.array(["cat", "dog"]),
            "predicted:kind": np.array(["dog", "dog"]),
            "q_score": np.array([0.5, np.nan]),
        }
    )
    assert row_in_words(samples, 8) == (
        "cat, taken for dog",
        "row 8, kind: cat, predicted dog, id x, Q-Score 0.500",
    )
    assert row_in_words(samples, 9)[0] == "dog"
    assert row_in_words(samples, 1) == ("row 1", "row 1")


def test_rows_are_found_by_their_number():
    samples = Samples({"row": np.array([8, 9])})
    assert [position(samples, row) for row in (8, 9, 1)] == [0, 1, None]
    assert position(Samples({"a": np.zeros(3)}), 2) == 2
    assert position(Samples({"a": np.zeros(3)}), 3) is None
