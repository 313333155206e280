"""Silhouettes: by hand, loops over rows, scikit-learn, blocks, samples, limits."""

import inspect
import re

import numpy as np
import pytest
import sklearn.metrics
import torch
from hypothesis import given
from hypothesis import strategies as st

from references import clusters
from repscope._arrays import hash_ids
from repscope._checking import InputError, NonFiniteFeatureError, Undecidable
from repscope.metrics import silhouette as module
from repscope.metrics.row_sample import sampled_rows
from repscope.metrics.silhouette import silhouette, silhouette_values


def blobs(n=60, d=4, n_classes=3, *, distance=1.0, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.arange(n) % n_classes)
    centres = distance * generator.standard_normal((n_classes, d))
    return centres[labels] + generator.standard_normal((n, d)), labels


def test_values_by_hand():
    rows = np.array([[0.0], [1.0], [10.0], [11.0], [99.0]])
    found = silhouette_values(rows, np.array([0, 0, 1, 1, 2]))
    expected = [(10.5 - 1) / 10.5, (9.5 - 1) / 9.5, (9.5 - 1) / 9.5, (10.5 - 1) / 10.5]
    assert found == pytest.approx([*expected, 0.0])  # alone in its class: 0


@given(st.integers(0, 10**6), st.integers(2, 5), st.integers(1, 4))
def test_values_equal_the_naive_transcription(seed, n_classes, d):
    rows, labels = blobs(18, d, n_classes, seed=seed)
    expected = clusters.silhouettes(rows.tolist(), labels.tolist())
    assert silhouette_values(rows, labels) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("n", "d", "c"), [(700, 8, 2), (600, 3, 90), (40, 60, 4)])
@pytest.mark.parametrize("library", [np.asarray, torch.tensor])
def test_values_equal_those_of_scikit_learn(n, d, c, library):
    rows, labels = blobs(n, d, c)
    expected = sklearn.metrics.silhouette_samples(rows, labels)
    found = silhouette_values(library(rows), labels)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    estimate = silhouette(library(rows), labels)
    library_mean = sklearn.metrics.silhouette_score(rows, labels)
    assert estimate.value == pytest.approx(library_mean, abs=1e-12)
    assert estimate.details["n_classes"] == c


@pytest.mark.parametrize("values", [40, 1000])
@pytest.mark.parametrize("rows_of_a_group", [1, 10])
def test_blocks_change_nothing(monkeypatch, values, rows_of_a_group):
    rows, labels = blobs(90, 5, 7)
    whole = silhouette_values(rows, labels)
    monkeypatch.setattr(module, "NEAR_VALUES", values)
    monkeypatch.setattr(module, "MINIMUM_GROUP_ROWS", rows_of_a_group)
    np.testing.assert_allclose(silhouette_values(rows, labels), whole, atol=1e-14)


@pytest.mark.parametrize("dtype", ["float16", "float32", "uint8", "bool", ">f8"])
def test_any_real_type_is_measured_in_float64(dtype):
    rows, labels = blobs(80, 6)
    given_rows = (np.abs(rows) * 3).round().astype(dtype)
    expected = sklearn.metrics.silhouette_samples(given_rows.astype(float), labels)
    np.testing.assert_allclose(
        silhouette_values(given_rows, labels), expected, atol=1e-12
    )


@pytest.mark.parametrize("scale", [1e-150, 1e-20, 1.0, 1e20, 1e150])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_rotation_shift_scale_and_order_change_nothing(scale, offset):
    rows, labels = blobs(100, 5, 4)
    generator = np.random.default_rng(1)
    rotation = np.linalg.qr(generator.standard_normal((5, 5)))[0]
    order = generator.permutation(100)
    moved = (rows[order] @ rotation + offset) * scale
    found = silhouette_values(moved, labels[order])
    np.testing.assert_allclose(found, silhouette_values(rows, labels)[order], atol=1e-9)


def test_tight_clusters_beside_a_far_one_keep_their_distances():
    # The expansion |a|^2 + |b|^2 - 2ab loses 1e-4 beside 1e6 in float64.
    rows, labels = blobs(60, 3, 2)
    tight = silhouette_values(rows, labels)
    rows = np.concatenate([rows, np.full((5, 3), 1e6)])
    found = silhouette_values(rows, np.concatenate([labels, np.full(5, 2)]))
    np.testing.assert_allclose(found[:60], tight, atol=1e-12)


def test_equal_rows_are_at_no_distance():
    rows = np.repeat([[0.1, 0.7], [0.3, 0.2]], 20, axis=0) + 1e3
    labels = np.arange(40) // 20
    assert silhouette(rows, labels).value == 1
    # Each class holds both points alike: nearer to neither.
    found = silhouette_values(rows, np.arange(40) % 2)
    assert found == pytest.approx(-1 / 20, abs=0.06)
    # A row that coincides with all of its class and with another class scores 0.
    same = np.array([[1.0], [1.0], [1.0], [1.0], [5.0], [5.0]])
    found = silhouette_values(same, np.array([0, 0, 1, 1, 2, 2]))
    assert found.tolist() == [0, 0, 0, 0, 1, 1]


def test_interval_is_that_of_leaving_each_row_out():
    rows, labels = blobs(150, 3, 3)
    values = [
        sklearn.metrics.silhouette_score(np.delete(rows, i, 0), np.delete(labels, i))
        for i in range(150)
    ]
    error = np.sqrt(149 / 150 * ((values - np.mean(values)) ** 2).sum())
    low, high = silhouette(rows, labels).interval
    # Leaving a row out and weighing it a little less differ by about 1 / n.
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.05)


def test_interval_covers_the_value_of_many_rows():
    generator = np.random.default_rng(2)
    rows, labels = blobs(4000, 3, 3, seed=1)
    truth, covered = silhouette(rows, labels).value, 0
    for _ in range(200):
        drawn = generator.integers(0, 4000, 150)
        rows_drawn = rows[drawn] + 1e-9 * generator.standard_normal((150, 3))
        low, high = silhouette(rows_drawn, labels[drawn]).interval
        covered += low <= truth <= high
    assert 0.91 <= covered / 200 <= 0.99


def test_many_rows_are_sampled_by_their_hash():
    rows, labels = blobs(500, 4, 3)
    hashes = hash_ids(np.arange(500))
    estimate = silhouette(rows, labels, row_hashes=hashes, maximum_rows=200, seed=3)
    assert estimate.details["n_sampled"] == 200
    order = np.random.default_rng(0).permutation(500)
    again = silhouette(
        rows[order], labels[order], row_hashes=hashes[order], maximum_rows=200, seed=3
    )
    assert again.value == pytest.approx(estimate.value, rel=1e-10)
    other = silhouette(rows, labels, row_hashes=hashes, maximum_rows=200, seed=4)
    assert other.value != estimate.value
    by_values = silhouette(rows, labels, maximum_rows=200)
    shuffled = silhouette(torch.tensor(rows[order]), labels[order], maximum_rows=200)
    assert shuffled.value == pytest.approx(by_values.value, rel=1e-10)


@pytest.mark.parametrize(
    ("rows", "labels", "reason"),
    [
        (np.eye(3), [1, 1, 1], "fewer than two classes have samples"),
        (np.eye(3), [0, 1, 2], "each class has one row: none has another of its own"),
        (np.full((6, 3), 0.1), [0, 1] * 3, "all features are constant"),
    ],
)
def test_what_cannot_be_decided_says_why(rows, labels, reason):
    with pytest.raises(Undecidable, match=f"^{re.escape(reason)}$"):
        silhouette(rows, np.array(labels))


def test_bad_input_is_named():
    rows, labels = blobs(10)
    plain = inspect.unwrap(silhouette)
    with pytest.raises(InputError, match="^labels: one entry per row of features"):
        plain(rows, labels[:9])
    with pytest.raises(InputError, match="^row_hashes: one entry per row of features"):
        inspect.unwrap(sampled_rows)(
            rows, hash_ids(np.arange(9)), seed=0, maximum_rows=5
        )
    rows[4, 1] = np.nan
    with pytest.raises(NonFiniteFeatureError, match="1 row contains NaN .* row 4"):
        silhouette(rows, labels)
