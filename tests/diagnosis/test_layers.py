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
    wanted = {(a, b) for a in embedding.layers for b in ("digit", "pair")}
    assert {(row[0], row[1]) for row in rows} == wanted
    columns = table_of(report).columns
    for row in rows:
        cells = dict(zip(columns, row, strict=True))
        assert 0.1 < cells["lowest"] <= cells["linear"] <= cells["highest"] <= 1
        assert cells["CDNV of test rows"] > 0
    assert {one.name for one in report.record.curves} >= {"layers"}


def test_the_deepest_layer_has_the_numbers_of_the_report(embedding, report):
    by_key = {one.key: one for one in report.measurements}
    deepest = next(
        row
        for row in table_of(report).rows
        if row[:2] == (embedding.default_layer, "digit")
    )
    cells = dict(zip(table_of(report).columns, deepest, strict=True))
    assert cells["α"] == pytest.approx(by_key["alpha"].value)
    assert cells["linear"] == by_key["squared_hinge_accuracy[digit]"].value
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


def test_layers_with_nan_are_named_and_left_out(embedding):
    spoiled = dataclasses.replace(embedding, nonfinite={embedding.layers[1]: 3})
    report = diagnose(spoiled)
    shown = {row[0] for row in table_of(report).rows}
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
