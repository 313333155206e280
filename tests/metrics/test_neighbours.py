"""Votes of the nearest rows: duplicates, collapsed and zero rows, several k, limits."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from references import classifiers
from repscope._arrays import hash_rows
from repscope._checking import Undecidable, UsageError
from repscope.metrics import neighbours
from repscope.metrics.neighbours import knn_accuracy, knn_probe, knn_probes, vote


def rows(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


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
    assert (
        knn_accuracy(result).value == (result.predictions == labels[1200:]).mean() > 0.9
    )


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


@pytest.mark.parametrize("k", [7, 200])
def test_more_neighbours_than_rows_are_refused(k):
    features, labels = rows(6, 2), np.arange(6) % 2
    message = f"knn: more neighbours than training rows\n  found: k = {k}, n = 6"
    with pytest.raises(UsageError, match="^" + re.escape(message)):
        knn_probe(features, labels, features, labels, 2, k=k)


@pytest.mark.parametrize("empty", ["train", "test"])
def test_no_rows_are_not_decided(empty):
    features, labels = rows(9, 2), np.arange(9) % 3
    train, test = (slice(0, 0 if name == empty else 9) for name in ("train", "test"))
    with pytest.raises(Undecidable, match="^no (training|test) rows"):
        knn_probe(features[train], labels[train], features[test], labels[test], 3)


def test_several_numbers_of_neighbours_share_one_search(monkeypatch):
    train, test = rows(300, 4), rows(50, 4, 1)
    labels = np.arange(300) % 3
    alone = [knn_probe(train, labels, test, labels[:50], 3, k=k) for k in (5, 20, 200)]
    searches = []

    def counted(*arguments, **options):
        searches.append(arguments[2])
        return nearest(*arguments, **options)

    nearest = neighbours.nearest
    monkeypatch.setattr(neighbours, "nearest", counted)
    together = knn_probes(train, labels, test, labels[:50], 3)
    assert searches == [200]
    for one, other, k in zip(together, alone, (5, 20, 200), strict=True):
        assert (one.predictions == other.predictions).all()
        assert one.margins == pytest.approx(other.margins)
        assert one.details["k"] == k
        assert knn_accuracy(one).value == other.test_accuracy


@pytest.mark.parametrize(
    ("n", "taken", "left_out"),
    [(300, [5, 20, 200], None), (50, [5, 20], (200,)), (4, [4], (5, 20, 200))],
)
def test_default_counts_beyond_the_rows_are_left_out_and_told(n, taken, left_out):
    features, labels = rows(n, 3), np.arange(n) % 2
    found = knn_probes(features, labels, features[:4], labels[:4], 2)
    assert [one.details["k"] for one in found] == taken
    assert {one.details.get("counts_left_out") for one in found} == {left_out}


def test_a_count_that_was_asked_for_is_refused_by_name():
    features, labels = rows(30, 3), np.arange(30) % 2
    message = "^knn: more neighbours than training rows\n  found: k = 31, n = 30"
    with pytest.raises(UsageError, match=message):
        knn_probes(features, labels, features, labels, 2, counts=(5, 31))
