"""Grids over epochs, layers and label sets: references, tidiness, merging, limits."""

import dataclasses
import inspect
import json

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score
from sklearn.neighbors import NearestCentroid
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from references import clusters
from repscope._checking import (
    InputError,
    NonFiniteFeatureError,
    Undecidable,
    UsageError,
)
from repscope.metrics import grid_rows
from repscope.metrics.catalogue import METRICS
from repscope.metrics.curves import normalised_curve, ratio_curve, saturation_epoch
from repscope.metrics.grid_rows import GridRow
from repscope.metrics.probe_grid import ProbeGrid, probe_grid
from repscope.representations.representation import Representation
from repscope.theory.planted import sound

N = 240
IS_TEST = np.arange(N) % 4 == 0
EPOCHS = (5, 20)


def layers_of(epoch, *, n=N):
    """Return two layers of an encoder that reads the classes ever better."""
    one = sound(n, 16, n_classes=3, noise=3.0 - 2.0 * epoch / 20)
    deep = one.features
    shallow = deep[:, :10] + 0.5 * np.random.default_rng(epoch).standard_normal((n, 10))
    return {"block1": shallow, "block2": deep}


def levels_of(n=N):
    labels = sound(n, 16, n_classes=3).labels
    random = np.random.default_rng(9).integers(0, 4, n)
    return {"fine": labels["fine"], "coarse": labels["coarse"], "random": random}


@pytest.fixture(scope="module")
def grid():
    features = {epoch: layers_of(epoch) for epoch in EPOCHS}
    return probe_grid(features, levels_of(), IS_TEST)


def alone(epoch, features=None, **options):
    """Return the grid of one label set on the deeper layer."""
    features = layers_of(epoch)["block2"] if features is None else features
    levels = {"coarse": levels_of()["coarse"]}
    return ProbeGrid(**options).add(epoch, {"block2": features}, levels, IS_TEST)


def key_of(row):
    return *row.cell, row.metric, row.split


def by_key(grid):
    return {key_of(row): row.value for row in grid.rows}


# --- numbers --------------------------------------------------------------------------


def cells(grid):
    keys = dict.fromkeys((row.epoch, row.layer, row.level) for row in grid.rows)
    for epoch, layer, level in keys:
        yield epoch, layer, level, layers_of(epoch)[layer], levels_of()[level]


def value(grid, metric, epoch, layer, level, split="test"):
    (row,) = grid.select(metric, epoch=epoch, layer=layer, level=level, split=split)
    return row.value


def test_linear_accuracies_are_scikit_learns(grid):
    for epoch, layer, level, features, labels in cells(grid):
        scaler = StandardScaler().fit(features[~IS_TEST])
        model = LinearSVC(C=1.0, dual=False, tol=1e-8, max_iter=10_000)
        model.fit(scaler.transform(features[~IS_TEST]), labels[~IS_TEST])
        for split, rows in (("train", ~IS_TEST), ("test", IS_TEST)):
            expected = model.score(scaler.transform(features[rows]), labels[rows])
            found = value(grid, "linear", epoch, layer, level, split)
            # A row on the border may fall to either side.
            assert found == pytest.approx(expected, abs=1.01 / rows.sum())


def test_nearest_centre_accuracies_are_scikit_learns(grid):
    for epoch, layer, level, features, labels in cells(grid):
        model = NearestCentroid().fit(features[~IS_TEST], labels[~IS_TEST])
        for split, rows in (("train", ~IS_TEST), ("test", IS_TEST)):
            expected = accuracy_score(labels[rows], model.predict(features[rows]))
            assert value(grid, "ncc_accuracy", epoch, layer, level, split) == expected


@pytest.mark.parametrize("split", ["train", "test"])
def test_class_geometry_is_that_of_plain_loops(grid, split):
    rows = IS_TEST if split == "test" else ~IS_TEST
    for epoch, layer, level, features, labels in cells(grid):
        if epoch != 5:
            continue
        given = features[rows].tolist(), labels[rows].tolist()
        for name in ("cdnv", "within_variance", "between_squared_distance"):
            found = value(grid, name, epoch, layer, level, split)
            assert found == pytest.approx(getattr(clusters, name)(*given), rel=1e-10)


def test_ratio_rows_are_ratios_of_the_others(grid):
    for epoch, layer, level, _, _ in cells(grid):
        ncc, linear, ratio = (
            value(grid, name, epoch, layer, level)
            for name in ("ncc_accuracy", "linear", "ncc_linear_ratio")
        )
        assert ratio == pytest.approx(ncc / linear)


@pytest.mark.parametrize("probe", ["logistic", "ridge"])
def test_other_probes_go_by_their_own_name(probe, grid):
    names = {"logistic": "linear_accuracy", "ridge": "ridge_accuracy"}
    found = alone(5, probe=probe)
    assert found.linear_metric == names[probe]
    both = [value(one, "linear", 5, "block2", "coarse") for one in (found, grid)]
    # Sixty test rows: probes of one kind agree to a few of them.
    assert both[0] == pytest.approx(both[1], abs=0.08)


def test_labels_among_others_are_what_they_are_alone(grid):
    expected = by_key(grid)
    for row in alone(5).rows:
        # A solver that stops a little elsewhere may move a row across the border.
        assert row.value == pytest.approx(expected[key_of(row)], abs=1.01 / row.n)


@pytest.mark.parametrize("function", grid_rows._GEOMETRY, ids=lambda one: one.__name__)
def test_the_interval_of_geometry_is_the_spread_of_new_rows(function):
    one = sound(6000, 16, n_classes=3, noise=1.0)
    values, halves = [], []
    for k in range(30):
        rows = slice(200 * k, 200 * k + 200)
        features, labels = one.features[rows], one.labels["coarse"][rows]
        found = grid_rows._BlockSums.of(features, labels, 3).estimate(function, 1.0)
        values.append(found.value)
        halves.append((found.interval[1] - found.interval[0]) / 2)
    # Student's t of 19 degrees of freedom; thirty samples know a deviation to 13 %, and
    # the jackknife's own bias is of that size.
    assert np.mean(halves) / 2.093 == pytest.approx(np.std(values, ddof=1), rel=0.35)


def test_semantics_are_learnt_and_random_labels_are_not(grid):
    epochs, coarse = grid.curve("ncc_accuracy", layer="block2", level="coarse")
    assert epochs.tolist() == [5.0, 20.0]
    assert coarse[-1] > coarse[0] + 0.1
    random = value(grid, "linear", 20, "block2", "random")
    # Three standard errors of guessing between four on 60 rows.
    assert abs(random - 0.25) < 3 * np.sqrt(0.25 * 0.75 / 60)
    assert normalised_curve(coarse)[-1] > 1
    assert saturation_epoch(epochs, coarse).value in EPOCHS


# --- tidiness -------------------------------------------------------------------------


def test_rows_are_tidy(grid):
    keys = [key_of(row) for row in grid.rows]
    assert len(keys) == len(set(keys)) == 2 * 2 * 3 * 11
    for row in grid.rows:
        assert row.n == (60 if row.split == "test" else 180)
        assert (row.value is None) == (row.reason is not None)
        if row.low is not None:
            assert row.low <= row.value <= row.high
        is_linear = row.metric == "squared_hinge_accuracy"
        assert (row.converged is not None) == is_linear
    assert {row.n_classes for row in grid.rows} == {6, 3, 4}
    assert {row.metric for row in grid.rows} <= {entry.name for entry in METRICS}
    assert grid.epochs == EPOCHS
    assert grid.layers == ("block1", "block2")


def test_a_table_has_a_column_per_field(grid):
    table = grid.to_table()
    assert table.columns == tuple(field.name for field in dataclasses.fields(GridRow))
    assert len(table.rows) == len(grid.rows)
    first = dict(zip(table.columns, table.rows[0], strict=True))
    assert GridRow(**first) == grid.rows[0]


def test_frames_are_made_of_rows(grid):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(list(grid.rows))
    wide = frame[frame.split == "test"].pivot_table(
        index=["epoch", "layer"], columns=["metric", "level"], values="value"
    )
    found = wide.loc[(20, "block2"), ("cdnv", "fine")]
    assert found == value(grid, "cdnv", 20, "block2", "fine")


def test_profiles_run_over_layers_and_make_ratios(grid):
    layers, coarse = grid.profile("linear", epoch=20, level="coarse")
    _, fine = grid.profile("linear", epoch=20, level="fine")
    assert layers == ("block1", "block2")
    assert (ratio_curve(coarse, fine) >= 1).all()


def test_best_layer_knows_intervals_and_directions(grid):
    best = grid.best_layer("linear", epoch=20, level="coarse")
    rows = grid.select("linear", epoch=20, level="coarse")
    top = max(rows, key=lambda row: row.value)
    equal = [row.layer for row in rows if row.value >= top.low]
    assert best.indistinguishable == tuple(equal)
    assert best.layer == equal[0]
    values = dict(zip(*grid.profile("cdnv", epoch=20, level="coarse"), strict=True))
    found = grid.best_layer("cdnv", epoch=20, level="coarse")
    assert found.best == min(values, key=values.get)
    with pytest.raises(UsageError, match="no layer is best by within_variance"):
        grid.best_layer("within_variance", epoch=20, level="coarse")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"metric": "ncc"}, "the grid has no metric 'ncc'"),
        ({"metric": "cdnv", "layer": "blok1"}, "did you mean block1"),
        ({"metric": "cdnv", "level": "superclass"}, "no level 'superclass'"),
        ({"metric": "cdnv", "epoch": 7}, "no epoch 7"),
    ],
)
def test_what_a_grid_lacks_is_named(grid, query, message):
    with pytest.raises(UsageError, match=message):
        grid.select(**query)


# --- adding, merging, keeping ---------------------------------------------------------


def test_grids_of_two_machines_are_merged(grid):
    parts = [
        dataclasses.replace(
            grid, rows=tuple(row for row in grid.rows if row.epoch == epoch)
        )
        for epoch in EPOCHS
    ]
    assert parts[1].merge(parts[0]).epochs == EPOCHS
    assert parts[0].merge(parts[1]) == grid


def test_adding_returns_a_new_grid():
    empty = ProbeGrid()
    features = {"h": np.random.default_rng(0).standard_normal((40, 3))}
    added = empty.add(0, features, {"two": np.arange(40) % 2}, np.arange(40) >= 20)
    assert empty.rows == ()
    assert len(added.rows) == 11


def test_one_number_comes_once(grid):
    message = "the grid has epoch 5, layer 'block1', 'fine' already"
    with pytest.raises(UsageError, match=message):
        grid.add(5, layers_of(5), levels_of(), IS_TEST)
    with pytest.raises(UsageError, match=message):
        grid.merge(grid)
    with pytest.raises(UsageError, match="grids of different probes"):
        grid.merge(ProbeGrid(probe="ridge"))
    with pytest.raises(UsageError, match="grids of different probes"):
        grid.merge(ProbeGrid(C=0.1))


def test_a_grid_is_kept_as_strict_json(grid, tmp_path):
    path = tmp_path / "grid.json"
    grid.save(path)
    assert ProbeGrid.open(path) == grid
    assert json.loads(path.read_text())["rows"][0]["epoch"] == 5
    path.write_text('{"probe": "logistic"')
    with pytest.raises(InputError, match="no valid JSON"):
        ProbeGrid.open(path)
    with pytest.raises(InputError, match="no probe grid"):
        ProbeGrid.open(tmp_path / "none.json")


def test_representations_bring_labels_and_split(grid):
    levels = levels_of()
    nested = {"fine": levels["fine"], "coarse": levels["coarse"]}
    given = Representation.of(
        layers_of(5)["block2"],
        labels=nested,
        attributes={"random": levels["random"]},
        split=np.where(IS_TEST, "test", "train"),
    )
    found = ProbeGrid().add(5, {"block2": given})
    expected = (row for row in grid.rows if row.cell[:2] == (5, "block2"))
    assert found.rows == tuple(expected)


def test_tensors_and_words_give_the_same(grid):
    words = {"coarse": [f"class {c}" for c in levels_of()["coarse"].tolist()]}
    features = torch.from_numpy(layers_of(5)["block2"])
    found = ProbeGrid().add(5, {"block2": features}, words, IS_TEST)
    expected = by_key(grid)
    for row in found.rows:
        assert row.value == pytest.approx(expected[key_of(row)], rel=1e-9)


# --- limits ---------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-160, 1e-20, 1e20, 1e150])
def test_scale_changes_only_what_has_a_unit(grid, scale):
    found = alone(5, scale * layers_of(5)["block2"])
    expected = {key_of(row): row for row in grid.rows}
    for row in found.rows:
        wanted = expected[key_of(row)]
        if row.metric not in ("within_variance", "between_squared_distance"):
            assert row.value == pytest.approx(wanted.value, rel=1e-6), row
        elif scale in (1e-160, 1e150) and row.value is None:
            assert "squares of the features" in row.reason
        else:
            given = (row.value, row.low, row.high)
            plain = np.array([wanted.value, wanted.low, wanted.high])
            assert given == pytest.approx(plain * scale * scale, rel=1e-6), row
    if scale == 1e-160:
        (row,) = found.select("within_variance")
        assert row.value is None


def test_a_large_offset_changes_nothing():
    features = layers_of(5)["block2"]
    shifted = features + 1e6 * features.std()
    found, expected = (
        alone(5, one).rows for one in (shifted, shifted - 1e6 * features.std())
    )
    for row, wanted in zip(found, expected, strict=True):
        is_linear = row.metric in ("squared_hinge_accuracy", "ncc_linear_ratio")
        # A solver that stops a little elsewhere may move a row across the border.
        slack = 2.01 / row.n if is_linear else 0
        assert row.value == pytest.approx(wanted.value, rel=1e-6, abs=slack), row


def test_a_class_without_training_rows_is_counted_and_wrong():
    labels = np.where(np.arange(N) >= 232, 3, np.arange(N) % 3)
    is_test = np.arange(N) >= 180
    features = 5 * np.eye(4)[labels] + 0.1 * np.random.default_rng(0).standard_normal(
        (N, 4)
    )
    found = ProbeGrid().add(0, {"h": features}, {"class": labels}, is_test)
    assert {row.absent_classes for row in found.rows} == {1}
    assert {row.n_classes for row in found.rows} == {4}
    for metric in ("linear", "ncc_accuracy"):
        assert value(found, metric, 0, "h", "class") == pytest.approx(52 / 60)
        assert value(found, metric, 0, "h", "class", "train") == 1.0


def test_what_cannot_be_decided_is_null_with_a_reason():
    features = {"h": np.random.default_rng(0).standard_normal((40, 3))}
    levels = {"one": np.zeros(40, dtype=int), "two": np.arange(40) % 2}
    found = ProbeGrid().add(1, features, levels, np.arange(40) >= 20)
    by_level = {
        level: [row for row in found.rows if row.level == level] for level in levels
    }
    for row in by_level["one"]:
        if row.metric != "within_variance":
            assert row.value is None
            assert "class" in row.reason
    assert all(row.value is not None for row in by_level["two"])
    with pytest.raises(Undecidable, match="one class only"):
        found.curve("linear", layer="h", level="one")


@pytest.mark.parametrize("side", [True, False])
def test_without_training_or_test_rows_nothing_is_probed(side):
    features = {"h": np.random.default_rng(0).standard_normal((20, 3))}
    levels = {"two": np.arange(20) % 2}
    found = ProbeGrid().add(1, features, levels, np.full(20, side))
    for metric in ("linear", "ncc_accuracy", "ncc_linear_ratio"):
        (row,) = found.select(metric)
        assert row.value is None
        assert (
            "no training rows" in row.reason if side else "no test rows" in row.reason
        )
    (whole,) = found.select("cdnv", split="test" if side else "train")
    assert whole.value is not None


@pytest.mark.parametrize("kind", ["constant", "one feature", "wide", "float16", "bool"])
def test_degenerate_features_give_sane_rows(kind):
    features = {
        "constant": np.full((60, 4), 3.7),
        "one feature": np.random.default_rng(0).standard_normal((60, 1)),
        "wide": np.random.default_rng(0).standard_normal((60, 200)),
        "float16": layers_of(0, n=60)["block2"].astype(np.float16),
        "bool": layers_of(0, n=60)["block2"] > 0.5,
    }[kind]
    labels = {"class": np.arange(60) % 3}
    found = ProbeGrid().add(0, {"h": features}, labels, np.arange(60) >= 40)
    for row in found.rows:
        assert (row.value is None) == (row.reason is not None)
        assert row.value is None or np.isfinite(row.value)
    if kind == "constant":
        (row,) = found.select("cdnv")
        assert row.reason == "all class centres coincide"


def test_wrong_input_is_named():
    features = np.zeros((10, 2))
    levels, is_test = {"class": np.arange(10) % 2}, np.arange(10) >= 5
    add = inspect.unwrap(ProbeGrid.add)
    bad = features.copy()
    bad[3, 1] = np.nan
    with pytest.raises(NonFiniteFeatureError, match=r"layer 'h' of epoch 2: .* row 3"):
        add(ProbeGrid(), 2, {"h": bad}, levels, is_test)
    with pytest.raises(InputError, match="labels 'class': one entry per row"):
        add(ProbeGrid(), 0, {"h": features}, {"class": [0, 1]}, is_test)
    with pytest.raises(InputError, match="is_test: one entry per row"):
        add(ProbeGrid(), 0, {"h": features}, levels, is_test[:4])
    with pytest.raises(InputError, match=r"layer 'b' of epoch 0"):
        add(ProbeGrid(), 0, {"a": features, "b": features[:9]}, levels, is_test)
    with pytest.raises(UsageError, match="no label sets"):
        add(ProbeGrid(), 0, {"h": features}, None, is_test)
    with pytest.raises(UsageError, match="no split"):
        add(ProbeGrid(), 0, {"h": features}, levels)
    with pytest.raises(UsageError, match="no layers"):
        add(ProbeGrid(), 0, {}, levels, is_test)
    with pytest.raises(UsageError, match="C: a penalty"):
        add(ProbeGrid(C=-1.0), 0, {"h": features}, levels, is_test)
