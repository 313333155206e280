"""Nearest neighbours: exactness, ties, duplicates, collapsed and zero rows, limits."""

import re
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from references import classifiers
from repscope import _numerics
from repscope._arrays import hash_rows
from repscope._checking import Undecidable, UsageError
from repscope.metrics.neighbours import knn_accuracy, knn_probe, nearest, vote


def rows(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


def exact_order(bank, queries, k):
    """The k rows of greatest cosine in extended precision."""
    bank, queries = bank.astype(np.longdouble), queries.astype(np.longdouble)
    bank = bank / np.sqrt((bank**2).sum(axis=1, keepdims=True))
    queries = queries / np.sqrt((queries**2).sum(axis=1, keepdims=True))
    return np.argsort(-(queries @ bank.T), axis=1, kind="stable")[:, :k]


@pytest.mark.parametrize("n", [1, 5, 33, 3000])
def test_neighbours_are_those_of_scikit_learn(n):
    bank, queries = rows(n, 8), rows(50, 8, seed=1)
    k = min(n, 10)
    model = NearestNeighbors(metric="cosine", algorithm="brute").fit(bank)
    distances, indices = model.kneighbors(queries, k)
    found, cosines = nearest(bank, queries, k)
    assert (found == indices).all()
    assert cosines == pytest.approx(1 - distances, abs=1e-12)


@given(st.integers(0, 10**6))
@settings(max_examples=40)
def test_neighbours_equal_the_naive_transcription(seed):
    # Few whole numbers: many ties, and zero rows.
    generator = np.random.default_rng(seed)
    bank = generator.integers(-1, 2, (15, 3)).astype(float)
    queries = generator.integers(-1, 2, (6, 3)).astype(float)
    found, _ = nearest(bank, queries, 4)
    for query, indices in zip(queries.tolist(), found.tolist(), strict=True):
        if any(query):
            assert indices == classifiers.nearest(bank.tolist(), query, 4)


@pytest.mark.parametrize("mean", [0.0, 1e2, 1e4])
def test_a_large_mean_hides_no_neighbour(mean):
    # At a mean of 1e4 cosines differ by 1e-9, far below single precision.
    bank, queries = rows(1500, 16) + mean, rows(40, 16, seed=1) + mean
    found, _ = nearest(bank, queries, 20)
    expected = exact_order(bank, queries, 20)
    shared = [len(set(a) & set(b)) for a, b in zip(found, expected, strict=True)]
    assert np.mean(shared) >= 19.95


@pytest.mark.parametrize("scale", [1e-200, 1e-20, 1e20, 1e200])
def test_scale_does_not_matter(scale):
    bank, queries = rows(200, 6), rows(20, 6, seed=1)
    expected, _ = nearest(bank, queries, 5)
    found, cosines = nearest(scale * bank, queries / scale, 5)
    assert (found == expected).all()
    assert np.isfinite(cosines).all()


def test_rows_of_the_bank_can_come_in_any_order():
    bank, queries = rows(700, 5), rows(30, 5, seed=1)
    order = np.random.default_rng(2).permutation(700)
    found, _ = nearest(bank[order], queries, 7)
    assert (order[found] == nearest(bank, queries, 7)[0]).all()


def test_blocks_of_memory_do_not_change_neighbours(monkeypatch):
    bank, queries = rows(300, 5), rows(90, 5, seed=1)
    hashes = hash_rows(bank), hash_rows(queries)
    expected = nearest(bank, queries, 7, hashes=hashes)
    monkeypatch.setattr(_numerics, "BLOCK_BYTES", 2**15)
    found = nearest(bank, queries, 7, hashes=hashes)
    assert (found[0] == expected[0]).all()
    assert (found[1] == expected[1]).all()


@pytest.mark.parametrize(("n", "m", "d"), [(60, 20_000, 128), (2000, 2000, 2000)])
def test_memory_stays_within_blocks(n, m, d):
    bank, queries = rows(n, d).astype(np.float32), rows(m, d, 1).astype(np.float32)
    tracemalloc.start()
    nearest(bank, queries, 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Rows of length one in both precisions, and what makes them, stay whole.
    whole = 8 * 4 * (bank.size + queries.size)
    assert peak < whole + 3 * _numerics.BLOCK_BYTES


def test_votes_by_hand():
    votes = vote(np.array([[0, 1, 0]]), np.array([[1.0, 0.93, 0.86]]), 3, 0.07)
    expected = [1 + np.exp(-2), np.exp(-1), 0]
    assert votes == pytest.approx(np.array([expected]))


@given(st.integers(0, 10**6), st.sampled_from([0.05, 0.07, 1.0]))
@settings(max_examples=30)
def test_predictions_equal_the_naive_transcription(seed, temperature):
    train, test = rows(25, 3, seed), rows(8, 3, seed + 1)
    labels = np.arange(25) % 4
    result = knn_probe(train, labels, test, labels[:8], 4, k=6, temperature=temperature)
    for query, answer in zip(test.tolist(), result.predictions.tolist(), strict=True):
        votes = classifiers.neighbour_votes(
            train.tolist(), labels.tolist(), query, 4, 6, temperature
        )
        assert answer == votes.index(max(votes))


def test_predictions_are_those_of_scikit_learn():
    data = load_digits()
    train, test = data.data[:1200], data.data[1200:]
    labels = data.target.astype(np.int64)
    model = KNeighborsClassifier(
        20, metric="cosine", weights=lambda distances: np.exp((1 - distances) / 0.07)
    ).fit(train, labels[:1200])
    result = knn_probe(train, labels[:1200], test, labels[1200:], 10)
    assert (result.predictions == model.predict(test)).all()
    assert knn_accuracy(result) == (result.predictions == labels[1200:]).mean() > 0.9


def test_doubled_rows_do_not_answer_for_each_other():
    generator = np.random.default_rng(0)
    base = rows(1500, 16)
    labels = np.tile(generator.integers(0, 10, 1500), 2)
    features = np.concatenate([base, base])
    order = generator.permutation(3000)
    train, test = order[:2400], order[2400:]
    hashes = hash_rows(features)

    def accuracy(pair):
        return knn_probe(
            features[train],
            labels[train],
            features[test],
            labels[test],
            10,
            k=1,
            hashes=pair,
        ).test_accuracy

    # Naively, the copy in the training rows gives the random label away.
    assert accuracy(None) > 0.7
    # Guessing, within three deviations of a share among 600.
    assert abs(accuracy((hashes[train], hashes[test])) - 0.1) < 3 * (0.09 / 600) ** 0.5


def test_copies_are_replaced_by_the_next_neighbours():
    bank = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
    query = np.array([[1.0, 0.0]])
    hashes = hash_rows(bank), hash_rows(query)
    indices, cosines = nearest(bank, query, 3, hashes=hashes)
    assert indices[0, :2].tolist() == [2, 3]
    assert np.isneginf(cosines[0, 2])


def test_classes_collapsed_to_points_are_told_apart():
    # Forty rows at one point are a collapsed class, not copies of one image.
    labels = np.arange(250) % 5
    features = np.eye(5)[labels]
    hashes = hash_rows(features)
    result = knn_probe(
        features[:200],
        labels[:200],
        features[200:],
        labels[200:],
        5,
        hashes=(hashes[:200], hashes[200:]),
    )
    assert result.test_accuracy == 1


def test_a_row_without_neighbours_is_given_the_most_frequent_class():
    train = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0], [0.0, 3.0], [0.0, 4.0]])
    labels = np.array([0, 0, 1, 1, 1])
    test = np.array([[0.0, 0.0], [1.0, 0.01]])  # a zero row has no direction
    result = knn_probe(train, labels, test, np.array([1, 0]), 2, k=2)
    assert result.predictions.tolist() == [1, 0]
    assert np.isfinite(result.margins).all()


def test_fewer_rows_than_neighbours_all_vote():
    train, labels = rows(6, 3), np.array([0, 0, 1, 1, 1, 1])
    result = knn_probe(train, labels, rows(4, 3, 1), np.zeros(4, dtype=int), 2)
    assert result.details["k"] == 6
    single = knn_probe(train, labels, rows(4, 3, 1), np.zeros(4, dtype=int), 2, k=6)
    assert (result.predictions == single.predictions).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_any_floating_type_gives_the_same_neighbours(dtype):
    bank = np.random.default_rng(0).integers(-50, 50, (300, 6)).astype(dtype)
    queries = np.random.default_rng(1).integers(-50, 50, (20, 6)).astype(dtype)
    expected, _ = nearest(bank.astype(np.float64), queries.astype(np.float64), 9)
    assert (nearest(bank, queries, 9)[0] == expected).all()


@pytest.mark.parametrize(("k", "temperature"), [(0, 0.07), (20, 0.0), (5, -1.0)])
def test_impossible_options_are_refused(k, temperature):
    message = (
        f"knn: neighbours and temperature\n  found: k = {k}, temperature = "
        f"{temperature}; expected: k of at least 1 and a temperature above 0"
    )
    features, labels = rows(9, 2), np.arange(9) % 3
    with pytest.raises(UsageError, match="^" + re.escape(message)):
        knn_probe(features, labels, features, labels, 3, k=k, temperature=temperature)


def test_one_class_is_not_decided():
    features, labels = rows(9, 2), np.zeros(9, dtype=int)
    with pytest.raises(Undecidable, match="^one class only"):
        knn_probe(features, labels, features, labels, 1)
