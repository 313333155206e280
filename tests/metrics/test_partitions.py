"""k-means and what partitions share: by hand, pairs of rows, scikit-learn, limits."""

import inspect
import re

import numpy as np
import pytest
import sklearn.metrics
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.cluster.vq import kmeans2

from references import clusters
from repscope._arrays import hash_ids
from repscope._checking import InputError, NonFiniteFeatureError, Undecidable
from repscope.metrics import partitions
from repscope.metrics.partitions import kmeans_ari, kmeans_nmi

BOTH = (kmeans_ari, kmeans_nmi)


def blobs(n=120, d=4, n_classes=3, *, distance=8.0, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.arange(n) % n_classes)
    centres = distance * generator.standard_normal((n_classes, d))
    return centres[labels] + generator.standard_normal((n, d)), labels


def two_partitions(n, k=3, c=4, agreement=0.5, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, c, n)
    random = generator.integers(0, k, n)
    return labels, np.where(generator.random(n) < agreement, labels % k, random)


def agreements(labels, found):
    table = partitions.contingency(labels, found)
    return (
        partitions.adjusted_rand_index(table),
        partitions.normalised_mutual_information(table),
    )


def test_a_table_counts_rows_of_each_class_and_cluster():
    table = partitions.contingency(np.array([5, 5, 9, 9, 9]), np.array([1, 3, 3, 3, 1]))
    assert table.tolist() == [[1, 1], [1, 2]]


def test_agreements_by_hand():
    table = np.array([[2.0, 0.0], [1.0, 1.0]])
    # Pairs of six: 1 shares a cell, 2 a class, 3 a cluster, expected 1.
    assert partitions.adjusted_rand_index(table).value == pytest.approx(0)
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    joint = 1.5 * np.log(2)
    shared = np.log(2) + entropy - joint
    found = partitions.normalised_mutual_information(table).value
    assert found == pytest.approx(2 * shared / (np.log(2) + entropy))


@given(st.integers(0, 10**6), st.integers(2, 5), st.integers(2, 5))
def test_agreements_equal_the_naive_transcriptions(seed, k, c):
    labels, found = two_partitions(14, k, c, seed=seed)
    assume(len(set(labels)) > 1 and len(set(found)) > 1)
    one, other = labels.tolist(), found.tolist()
    rand, information = agreements(labels, found)
    assert rand.value == pytest.approx(
        clusters.adjusted_rand_index(one, other), abs=1e-12
    )
    assert information.value == pytest.approx(
        clusters.normalised_mutual_information(one, other), abs=1e-12
    )


@pytest.mark.parametrize(("n", "k", "c"), [(50, 3, 3), (1000, 20, 15), (200, 90, 100)])
def test_agreements_equal_those_of_scikit_learn(n, k, c):
    labels, found = two_partitions(n, k, c)
    rand, information = agreements(labels, found)
    library = sklearn.metrics.adjusted_rand_score(labels, found)
    assert rand.value == pytest.approx(library, abs=1e-12)
    library = sklearn.metrics.normalized_mutual_info_score(labels, found)
    assert information.value == pytest.approx(library, abs=1e-12)


@pytest.mark.parametrize("n", [30, 90])
def test_intervals_leave_each_row_out(n):
    labels, found = two_partitions(n)
    library = (
        sklearn.metrics.adjusted_rand_score,
        sklearn.metrics.normalized_mutual_info_score,
    )
    for estimate, function in zip(agreements(labels, found), library, strict=True):
        values = np.array(
            [function(np.delete(labels, i), np.delete(found, i)) for i in range(n)]
        )
        error = np.sqrt((n - 1) / n * ((values - values.mean()) ** 2).sum())
        half = estimate.interval[1] - estimate.value
        assert half == pytest.approx(1.959964 * error, rel=1e-5)
        assert estimate.details["interval"] == "jackknife over rows, clusters fixed"


def test_intervals_cover_the_agreement_of_many_rows():
    labels, found = two_partitions(200_000)
    truths = [one.value for one in agreements(labels, found)]
    covered = np.zeros(2)
    for seed in range(1, 121):
        drawn = agreements(*two_partitions(400, seed=seed))
        for i, estimate in enumerate(drawn):
            low, high = estimate.interval
            covered[i] += low <= truths[i] <= high
    assert (covered / 120 >= 0.9).all()


@pytest.mark.parametrize("function", BOTH)
@pytest.mark.parametrize("library", [np.asarray, torch.tensor])
def test_clusters_that_are_classes_are_found(function, library):
    rows, labels = blobs()
    estimate = function(library(rows), labels)
    assert estimate.value == pytest.approx(1)
    assert (estimate.details["k"], estimate.details["n_sampled"]) == (3, 120)
    assert estimate.details["converged"] is True
    assert estimate.interval[1] - estimate.interval[0] < 1e-9


def test_random_labels_are_found_by_chance():
    rows, _ = blobs(600, distance=0.0)
    labels = np.random.default_rng(1).permutation(np.arange(600) % 3)
    assert abs(kmeans_ari(rows, labels).value) < 0.02
    assert 0 <= kmeans_nmi(rows, labels).value < 0.02


def test_k_means_is_no_worse_than_that_of_scipy():
    rows, _ = blobs(300, 5, 6, distance=2.0)
    found = partitions.k_means(rows, 6)
    total = ((rows - rows.mean(axis=0)) ** 2).sum()
    best = np.inf
    for seed in range(10):
        centres, codes = kmeans2(rows, 6, minit="++", iter=100, rng=seed)
        best = min(best, ((rows - centres[codes]) ** 2).sum() / total)
    assert found.inertia <= best * 1.01
    # The inertia is that of its own clusters.
    own = sum(
        rows[found.clusters == k].var(axis=0).sum() * (found.clusters == k).sum()
        for k in range(6)
    )
    assert found.inertia == pytest.approx(own / total, rel=1e-9)


@pytest.mark.parametrize("scale", [1e-150, 1e-20, 1.0, 3e20, 1e150])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_rotation_shift_scale_and_order_change_nothing(scale, offset):
    rows, labels = blobs(200, 5, 6, distance=0.7)  # far from separate
    generator = np.random.default_rng(1)
    rotation = np.linalg.qr(generator.standard_normal((5, 5)))[0]
    order = generator.permutation(200)
    moved = (rows[order] @ rotation + offset) * scale
    for function in BOTH:
        found = function(moved, labels[order])
        assert found.value == pytest.approx(function(rows, labels).value, rel=1e-9)


@pytest.mark.parametrize("dtype", ["float16", "uint8", "bool", ">f8"])
def test_rows_of_equal_length_keep_their_order(dtype):
    rows, labels = blobs(150, 4, 3)
    rows = np.clip(np.abs(rows), 0, 9).round().astype(dtype)
    order = np.random.default_rng(0).permutation(150)
    found = kmeans_ari(rows[order], labels[order]).value
    assert found == pytest.approx(kmeans_ari(rows, labels).value, rel=1e-10)


def test_fewer_distinct_rows_than_clusters_leave_clusters_empty():
    rows = np.repeat([[0.0], [1.0]], 10, axis=0)
    labels = np.arange(20) // 5
    estimate = kmeans_ari(rows, labels)
    expected = sklearn.metrics.adjusted_rand_score(labels, np.arange(20) // 10)
    assert estimate.value == pytest.approx(expected)
    assert estimate.details["inertia"] == pytest.approx(0, abs=1e-15)


def test_many_rows_are_sampled_by_their_hash():
    rows, labels = blobs(400)
    hashes = hash_ids(np.arange(400))
    found = partitions.k_means(rows, 3, row_hashes=hashes, maximum_rows=100)
    assert len(found.rows) == len(found.clusters) == 100
    order = np.random.default_rng(0).permutation(400)
    again = partitions.k_means(
        rows[order], 3, row_hashes=hashes[order], maximum_rows=100
    )
    assert set(order[again.rows]) == set(found.rows)
    assert partitions.agreement_of(found, labels).details["n_sampled"] == 100


def test_the_seed_decides_the_clusters():
    rows, labels = blobs(200, 5, 6, distance=0.5)
    assert kmeans_ari(rows, labels, seed=1) == kmeans_ari(rows, labels, seed=1)


@pytest.mark.parametrize("function", BOTH)
@pytest.mark.parametrize(
    ("rows", "labels", "reason"),
    [
        (np.eye(4), [1, 1, 1, 1], "fewer than two classes have samples"),
        (np.eye(4), [0, 1, 2, 3], "4 rows for 4 clusters"),
        (np.full((6, 3), 0.1), [0, 1] * 3, "all features are constant"),
    ],
)
def test_what_cannot_be_decided_says_why(function, rows, labels, reason):
    with pytest.raises(Undecidable, match=f"^{re.escape(reason)}$"):
        function(rows, np.array(labels))


def test_bad_input_is_named():
    rows, labels = blobs(10)
    plain = inspect.unwrap(kmeans_ari)
    with pytest.raises(InputError, match="^labels: one entry per row of features"):
        plain(rows, labels[:9])
    rows[4, 1] = np.inf
    with pytest.raises(NonFiniteFeatureError, match="1 row contains NaN .* row 4"):
        kmeans_ari(rows, labels)
