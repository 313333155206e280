"""Layers side by side: planted ones, and those of a network on real digits."""

import dataclasses

import numpy as np
import pytest

from repscope._images import Preprocess
from repscope.data.digits import digits16
from repscope.diagnosis.diagnose import diagnose
from repscope.diagnosis.layers import compare_layers
from repscope.models.architecture import Architecture
from repscope.models.backbones import build
from repscope.models.encoder import Encoder
from repscope.representations.embed import embed
from repscope.representations.representation import Representation


@pytest.fixture(scope="module")
def embedding():
    """Return all layers of an untrained network on 600 digits."""
    encoder = Encoder.of(
        build(Architecture("small_conv", channels=1), seed=0),
        Preprocess(16, channels=1, mean=(0.5,), std=(0.5,)),
    )
    return embed(encoder, digits16().subset(np.arange(600)), layers="all")


@pytest.fixture(scope="module")
def report(embedding):
    return diagnose(embedding)


def table_of(report, name="layers"):
    return next(one for one in report.record.tables if one.name == name)


def test_the_report_of_an_embedding_compares_all_layers_at_all_levels(
    embedding, report
):
    rows = table_of(report).rows
    shown = [(layer, row[1]) for row in rows for layer in row[0].split(" = ")]
    wanted = {(a, b) for a in embedding.layers for b in ("digit", "pair")}
    assert set(shown) == wanted
    assert len(shown) == len(wanted)
    columns = table_of(report).columns
    for row in rows:
        cells = dict(zip(columns, row, strict=True))
        assert 0.1 < cells["95 % from"] <= cells["squared hinge"]
        assert cells["squared hinge"] <= cells["95 % to"] <= 1
        assert cells["CDNV"] > 0
    assert {one.name for one in report.record.curves} >= {"layers"}


def test_the_deepest_layer_has_the_numbers_of_the_report(embedding, report):
    by_key = {one.key: one for one in report.measurements}
    deepest = next(
        row
        for row in table_of(report).rows
        if embedding.default_layer in row[0].split(" = ") and row[1] == "digit"
    )
    cells = dict(zip(table_of(report).columns, deepest, strict=True))
    assert cells["α"] == pytest.approx(by_key["alpha"].value)
    assert cells["squared hinge"] == by_key["squared_hinge_accuracy[digit]"].value
    assert cells["nearest centres"] == by_key["ncc_accuracy[digit]"].value


def test_one_layer_that_is_named_is_not_compared(embedding):
    named = diagnose(embedding, layer=embedding.layers[0])
    assert "layers" not in {one.name for one in named.record.tables}


def test_the_layer_that_holds_the_labels_is_named():
    generator = np.random.default_rng(0)
    labels = np.arange(300) % 3
    noise = generator.standard_normal((300, 8)).astype(np.float32)
    clear = noise + 6 * np.eye(8, dtype=np.float32)[labels]
    found = compared({"noise": noise, "clear": clear}, labels)
    assert "'class' is read best from clear" in found.table.how_to_read


def test_layers_of_the_same_values_are_one_row_under_both_names():
    generator = np.random.default_rng(0)
    labels = np.arange(300) % 3
    rows = generator.standard_normal((300, 8)).astype(np.float32)
    other = rows.copy()
    other[7, 3] += 1
    layers = {"pooled": rows, "other": other, "h": rows.copy(), "wide": rows[:, [0, 0]]}
    found = compared(layers, labels)
    names = ("pooled = h", "other", "wide")
    assert tuple(row[0] for row in found.table.rows) == names
    (curve,) = found.curves
    assert curve.x_ticks == names
    assert [one.label for one in curve.series] == [
        "class, squared hinge",
        "class, nearest centres",
    ]
    assert curve.series[0].x == (1.0, 2.0, 3.0)


def test_layers_with_nan_are_named_and_left_out(embedding):
    spoiled = dataclasses.replace(embedding, nonfinite={embedding.layers[1]: 3})
    report = diagnose(spoiled)
    shown = {one for row in table_of(report).rows for one in row[0].split(" = ")}
    assert shown == set(embedding.layers) - {embedding.layers[1]}
    assert any(embedding.layers[1] in note for note in report.record.notices)


def test_without_labels_spectra_are_compared():
    generator = np.random.default_rng(0)
    rows = generator.standard_normal((200, 40)).astype(np.float32)
    found = compared({"a": rows, "b": rows[:, :30]}, None)
    assert [row[:3] for row in found.table.rows] == [("a", "", 40), ("b", "", 30)]
    assert all(row[4] > 20 and row[5] is None for row in found.table.rows)
    assert found.curves == ()


def compared(layers, labels):
    """Compare arrays as if an encoder had made them."""
    known = {} if labels is None else {"class": labels}
    representations = {
        name: Representation.of(rows, labels=known) for name, rows in layers.items()
    }
    first = next(iter(representations.values()))
    every = np.arange(first.n)
    return compare_layers(
        representations, every, every, first.levels, every >= 0.8 * first.n
    )
