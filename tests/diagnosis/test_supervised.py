"""Probes and class geometry of a diagnosis: small samples, all rows, intervals."""

import numpy as np
import pytest
from sklearn.neighbors import NearestCentroid

from repscope.diagnosis import probe_rows
from repscope.diagnosis.diagnose import diagnose
from repscope.diagnosis.supervised import streamed_nearest_centre
from repscope.representations.representation import Representation
from repscope.theory.planted import sound


def test_nearest_centres_see_all_rows_where_probes_see_a_sample(monkeypatch):
    monkeypatch.setattr(probe_rows, "PROBE_MAXIMUM_ROWS", 200)
    one = sound(n=600, d=16)
    is_test = np.arange(600) % 4 == 0
    report = diagnose(one.features, labels=one.labels, split=is_test)
    by_key = {taken.key: taken for taken in report.measurements}
    assert by_key["ncc_accuracy[fine]"].n == 150
    assert by_key["linear_accuracy[fine]"].n < 100
    assert any("probes saw 200 of 600 rows" in note for note in report.record.notices)
    column = report.samples.columns["correct:fine:ncc"].astype(float)
    assert np.isfinite(column).sum() == 150
    model = NearestCentroid().fit(one.features[~is_test], one.labels["fine"][~is_test])
    expected = model.score(one.features[is_test], one.labels["fine"][is_test])
    assert by_key["ncc_accuracy[fine]"].value == pytest.approx(expected)


def test_streamed_centres_read_blocks_of_any_size(monkeypatch):
    one = sound(n=300, d=8)
    rows = Representation.of(one.features, labels=one.labels)
    is_test = np.arange(300) >= 200
    whole, correct = streamed_nearest_centre(rows.levels[0], rows, is_test)
    monkeypatch.setattr("repscope.representations.representation.BLOCK_VALUES", 8 * 7)
    assert len(list(rows.blocks())) > 40
    in_blocks, _ = streamed_nearest_centre(rows.levels[0], rows, is_test)
    assert in_blocks.value == whole.value
    assert in_blocks.interval == whole.interval
    assert np.nanmean(correct) == pytest.approx(whole.value)
    assert np.isnan(correct[~is_test]).all()
