"""Curves and tables of a run: the numbers behind each picture."""

import numpy as np
import pytest

from diagnosis.cases import measured
from repscope.diagnosis.diagnose import diagnose
from repscope.diagnosis.pictures import (
    DRAWN_RANKS,
    HISTOGRAM_BINS,
    LISTED_CONFUSIONS,
    LISTED_SAMPLES,
    attribute_table,
    class_curve,
    class_table,
    confusion_table,
    histogram_curve,
    spectrum_curve,
    split_table,
    worst_table,
)
from repscope.metrics.metric import metric_of
from repscope.metrics.power_law import alpha
from repscope.records import to_json
from repscope.representations.representation import Level
from repscope.theory.planted import power_law, sound

NO_ALPHA = measured("alpha", None, reason="no power law")
THREE = Level("animal", np.arange(0), ("cat", "dog", "eel"))


def measured_alpha(eigenvalues, n=10_000):
    return metric_of(alpha).measured(lambda: alpha(eigenvalues, n), n=n)


def test_a_spectrum_is_drawn_as_shares_of_variance():
    curve = spectrum_curve(np.array([6.0, 3.0, 1.0, 0.0]), NO_ALPHA)
    (line,) = curve.series
    assert line.x == (1.0, 2.0, 3.0)
    assert line.y == pytest.approx((0.6, 0.3, 0.1))
    assert curve.shaded is None


def test_a_long_spectrum_is_thinned_evenly_in_the_logarithm():
    curve = spectrum_curve(np.arange(1.0, 5001) ** -1.0, NO_ALPHA)
    ranks = np.array(curve.series[0].x)
    assert len(ranks) <= DRAWN_RANKS
    assert (ranks[0], ranks[-1]) == (1, 5000)
    assert (np.diff(ranks) > 0).all()
    assert np.diff(np.log(ranks[ranks > 300])).max() < 0.05


@pytest.mark.parametrize("exponent", [0.7, 1.3])
def test_the_fitted_line_runs_through_an_exact_power_law(exponent):
    eigenvalues = 5 * np.arange(1.0, 201) ** -exponent
    curve = spectrum_curve(eigenvalues, measured_alpha(eigenvalues))
    features, fitted = curve.series
    assert fitted.label == f"power law, α = {exponent:.2f}"
    assert fitted.y == pytest.approx((features.y[0], features.y[-1]), rel=1e-9)
    assert curve.shaded == (11, 50)
    assert "ranks 11-50 (R² 1.000)" in curve.how_to_read


def test_no_variance_has_no_spectrum():
    assert spectrum_curve(np.zeros(3), NO_ALPHA) is None


def test_a_histogram_counts_every_row_once():
    scores = np.random.default_rng(0).standard_normal(500)
    (bars,) = histogram_curve("score", "score", scores, None).series
    assert bars.style == "bars"
    assert bars.label == "all rows (500)"
    assert len(bars.x) == HISTOGRAM_BINS
    assert sum(bars.y) == pytest.approx(1)


def test_right_and_wrong_rows_are_drawn_apart():
    scores = np.linspace(0, 1, 100)
    correct = np.where(scores > 0.5, 1.0, 0.0)
    correct[:10] = np.nan
    curve = histogram_curve("score", "Q-Score", scores, correct)
    right, wrong = curve.series
    assert (right.label, wrong.label) == ("right (50)", "wrong (40)")
    assert sum(right.y) == pytest.approx(1)
    assert max(x for x, y in zip(wrong.x, wrong.y, strict=True) if y) < 0.52
    assert min(x for x, y in zip(right.x, right.y, strict=True) if y) > 0.48
    assert "Right and wrong" in curve.how_to_read


@pytest.mark.parametrize("correct", [np.ones(50), np.zeros(50), np.full(50, np.nan)])
def test_rows_of_one_kind_are_not_drawn_apart(correct):
    curve = histogram_curve("score", "score", np.arange(50.0), correct)
    assert [one.label for one in curve.series] == ["all rows (50)"]


def test_equal_scores_fall_into_one_bin():
    (bars,) = histogram_curve("score", "score", np.full(30, 2.5), None).series
    assert sorted(bars.y)[-1] == 1
    assert bars.x[0] > 2 and bars.x[-1] < 3


LABELS = np.array([0, 0, 0, 1, 1, 2])
LINEAR = np.array([0, 0, 1, 0, 0, 2])
NEAREST = np.array([0, 0, 0, 1, 1, 0])


def test_classes_are_listed_the_worst_first():
    table = class_table(THREE, LABELS, {"linear": LINEAR, "knn": NEAREST})
    assert table.columns == ("class", "test rows", "linear", "knn")
    assert table.rows == (
        ("dog", 2, 0.0, 1.0),
        ("cat", 3, 2 / 3, 1.0),
        ("eel", 1, 1.0, 0.0),
    )


def test_classes_without_test_rows_are_left_out():
    table = class_table(THREE, np.array([0, 2]), {"linear": np.array([0, 2])})
    assert [row[0] for row in table.rows] == ["cat", "eel"]


def test_class_accuracies_are_drawn_in_the_order_of_the_table():
    table = class_table(THREE, LABELS, {"linear": LINEAR, "knn": NEAREST})
    linear, knn = class_curve(table).series
    assert (linear.label, linear.style, knn.style) == ("linear", "line", "points")
    assert linear.x == knn.x == (1.0, 2.0, 3.0)
    assert linear.y == (0.0, 2 / 3, 1.0)
    assert knn.y == (1.0, 1.0, 0.0)


def test_confusions_are_counted_and_related_to_the_class():
    table = confusion_table(THREE, LABELS, LINEAR)
    assert table.rows == (("dog", "cat", 2, 1.0), ("cat", "dog", 1, 1 / 3))


def test_no_confusion_leaves_an_empty_table():
    assert confusion_table(THREE, LABELS, LABELS).rows == ()


def test_only_the_most_frequent_confusions_are_listed():
    level = Level("many", np.arange(0), tuple(str(k) for k in range(40)))
    labels = np.repeat(np.arange(40), np.arange(1, 41))
    table = confusion_table(level, labels, (labels + 1) % 40)
    counts = [row[2] for row in table.rows]
    assert counts == list(range(40, 40 - LISTED_CONFUSIONS, -1))


def test_attributes_are_listed_with_what_was_measured():
    levels = [Level("hue", np.arange(0), ("red", "blue")), THREE]
    by_key = {
        "linear_accuracy[hue]": measured("linear_accuracy", 0.75, skill=0.5),
        "variance_share[hue]": measured("variance_share", 0.25),
        "linear_accuracy[animal]": measured("linear_accuracy", None, reason="no"),
    }
    assert attribute_table(levels, by_key).rows == (
        ("hue", 2, 0.75, 0.5, 0.25),
        ("animal", 3, None, None, None),
    )


def test_worst_rows_show_plain_cells_of_the_columns_there_are():
    columns = {
        "row": np.arange(4),
        "id": np.array(["a", "b", "c", "d"]),
        "q_score": np.array([0.1, np.nan, 0.3, np.inf]),
    }
    table = worst_table([3, 1, 0], columns, ["id", "q_score", "row", "missing"])
    assert table.columns == ("id", "q score", "row")
    assert table.rows == (("d", None, 3), ("b", None, 1), ("a", 0.1, 0))
    to_json(table)


def test_no_more_rows_are_listed_than_a_reader_looks_at():
    table = worst_table(list(range(100)), {"row": np.arange(100)}, ["row"])
    assert len(table.rows) == LISTED_SAMPLES


def test_splits_count_rows_and_classes():
    level = Level("animal", np.array([0, 0, 1, 2, 2]), THREE.classes)
    is_test = np.array([False, True, False, True, False])
    table = split_table(is_test, [level])
    assert table.columns == ("split", "rows", "classes of animal")
    assert table.rows == (("train", 3, 3), ("test", 2, 2))


def test_a_reference_stands_beside_the_features():
    features = sound(400, 24)
    other = power_law(400, 24, 2.0)
    report = diagnose(features.features, labels=features.labels, reference=other)
    table = report.record.tables[0]
    assert table.name == "beside_reference"
    by_key = {one.key: one.value for one in report.measurements}
    rows = {row[0]: row[1:] for row in table.rows}
    assert {"effective_rank", "linear_accuracy[fine]"} <= set(rows)
    for key, (own, theirs, difference) in rows.items():
        assert (own, theirs) == (by_key[key], by_key[f"{key}@reference"])
        assert difference == own - theirs
    spectrum = next(one for one in report.record.curves if one.name == "spectrum")
    drawn = {series.label: series for series in spectrum.series}
    expected = np.linalg.eigvalsh(np.cov(other.T))[::-1]
    np.testing.assert_allclose(
        drawn["reference"].y, expected / expected.sum(), rtol=1e-6
    )
