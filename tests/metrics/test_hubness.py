"""Hubness: how often each row is a neighbour, and when that cannot be told."""

import re

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group
from sklearn.neighbors import NearestNeighbors

from references import geometry as reference
from repscope._checking import InputError, Undecidable, UsageError
from repscope.metrics import hubness as module
from repscope.metrics.hubness import hubness


def rows(n=300, d=8, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


def hub(n=300, d=300, seed=0):
    """Rows about a common direction, and one row along it: the nearest of nearly all.

    Cosines with that row exceed those of any two others.
    """
    features = rows(n, d, seed)
    features[:, 0] += 10
    features[0] = np.eye(d)[0]
    return features


@given(st.integers(0, 10**6), st.sampled_from([1, 3, 6]))
@settings(max_examples=25)
def test_values_equal_the_naive_transcription(seed, k):
    features = rows(20, 3, seed)
    counts = reference.occurrences(features.tolist(), k)
    found = hubness(features, k=k)
    assert found.value == pytest.approx(reference.skewness(counts), rel=1e-9, abs=1e-12)
    assert found.details["largest_share"] == max(counts) / 19
    assert found.details["antihub_share"] == counts.count(0) / 20


def test_values_are_those_of_scikit_learn_and_scipy():
    features = rows()
    model = NearestNeighbors(metric="cosine", algorithm="brute").fit(features)
    counts = np.asarray(model.kneighbors_graph(n_neighbors=10).sum(axis=0)).ravel()
    found = hubness(features)
    assert found.value == pytest.approx(scipy.stats.skew(counts), rel=1e-12)
    assert found.interval[0] < found.value < found.interval[1]
    assert (found.details["k"], found.details["rows"]) == (10, 300)


def test_a_planted_hub_is_found():
    found = hubness(hub())
    assert found.value > 5
    assert found.details["largest_share"] > 0.9
    assert hubness(rows(300, 3)).value < 1


def test_rotation_factors_and_order_change_nothing():
    features = rows()
    expected = pytest.approx(hubness(features).value, rel=1e-12)
    lengths = np.random.default_rng(1).uniform(0.1, 9, (300, 1))
    turned = lengths * features @ ortho_group.rvs(8, random_state=0)
    assert hubness(turned).value == expected
    order = np.random.default_rng(2).permutation(300)
    assert hubness(features[order]).value == expected
    assert hubness(1e200 * features).value == expected


def test_a_large_common_offset_hides_no_neighbour():
    # Cosines differ by 1e-12: directions about the offset stand for them.
    features = rows(200, 6) + 1e6
    across = features - features.mean() * np.ones(6)
    model = NearestNeighbors(algorithm="brute").fit(
        across - across.mean(axis=1, keepdims=True)
    )
    counts = np.asarray(model.kneighbors_graph(n_neighbors=10).sum(axis=0)).ravel()
    assert hubness(features).value == pytest.approx(scipy.stats.skew(counts), rel=0.02)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_tensors_do_as_well_as_arrays(dtype):
    tensor = torch.from_numpy(rows()).to(dtype)
    assert hubness(tensor) == hubness(tensor.double().numpy())


def test_zero_rows_are_left_out_and_counted():
    features = rows()
    features[::3] = 0
    found = hubness(features)
    assert found.value == hubness(features[features.any(axis=1)]).value
    assert (found.details["zero_rows"], found.details["rows"]) == (100, 200)


@pytest.mark.parametrize("features", [np.ones((50, 4)), np.eye(5)[np.arange(200) % 5]])
def test_ties_decide_nothing(features):
    message = "100% of rows have ties at their last neighbour"
    with pytest.raises(Undecidable, match=re.escape(message)):
        hubness(features)


def test_rows_that_are_all_chosen_alike_are_not_decided():
    # Steps that grow: the next row on the circle is the nearest of each.
    angles = np.cumsum(np.linspace(0.1, 0.05, 30))
    features = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = hubness(features, k=1)
    assert found.details["largest_share"] <= 2 / 29
    with pytest.raises(Undecidable, match="^every row is a neighbour equally often$"):
        module._skewness(np.full(9, 4))


@pytest.mark.parametrize("n", [1, 5, 11])
def test_fewer_rows_than_neighbours_are_not_decided(n):
    message = f"{n} rows with a direction; 12 are needed to tell 10 neighbours"
    with pytest.raises(Undecidable, match=message):
        hubness(rows(n))
    assert np.isfinite(hubness(rows(12)).value)


def test_impossible_arguments_are_refused():
    with pytest.raises(UsageError, match="^hubness: neighbours\n  found: k = 0"):
        hubness(rows(), k=0)
    features = rows()
    features[5, 0] = np.nan
    with pytest.raises(InputError, match=r"1 row contains NaN or infinity .*row 5"):
        hubness(features)


def test_many_rows_are_drawn_by_their_values(monkeypatch):
    monkeypatch.setattr(module, "HUBNESS_ROWS", 150)
    features = rows()
    found = hubness(features)
    assert found.details["rows"] == 150
    order = np.random.default_rng(0).permutation(300)
    assert hubness(features[order]).value == pytest.approx(found.value)
    assert hubness(features, seed=1).value != found.value
