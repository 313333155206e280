"""Nearest rows: exact whatever the offset, scale, order, ties, threads and memory."""

import re
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from references import classifiers
from repscope import _numerics
from repscope._arrays import hash_rows
from repscope._checking import InputError, UsageError
from repscope.metrics import nearest as module
from repscope.metrics import (
    nearest_candidates,
    nearest_points,
    worker_threads,
)
from repscope.metrics.nearest import nearest, nearest_euclidean, nearest_within


def rows(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


def exact_order(bank, queries, k):
    """The k rows of greatest cosine in extended precision."""
    bank, queries = bank.astype(np.longdouble), queries.astype(np.longdouble)
    bank = bank / np.sqrt((bank**2).sum(axis=1, keepdims=True))
    queries = queries / np.sqrt((queries**2).sum(axis=1, keepdims=True))
    return np.argsort(-(queries @ bank.T), axis=1, kind="stable")[:, :k]


def same_neighbours(found, expected):
    """The mean number of neighbours that two searches share."""
    return np.mean([len(set(a) & set(b)) for a, b in zip(found, expected, strict=True)])


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


@pytest.mark.parametrize("mean", [0.0, 1e2, 1e4, 1e6])
def test_a_large_mean_hides_no_neighbour(mean):
    # At a mean of 1e6 cosines differ by 1e-12, far below single precision.
    bank, queries = rows(1500, 16) + mean, rows(40, 16, seed=1) + mean
    found, _ = nearest(bank, queries, 20)
    expected = exact_order(bank, queries, 20)
    assert same_neighbours(found, expected) >= (20 if mean < 1e6 else 19.95)


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
    monkeypatch.setattr(_numerics, "BLOCK_BYTES", 2**20)
    found = nearest(bank, queries, 7, hashes=hashes)
    assert (found[0] == expected[0]).all()
    assert (found[1] == expected[1]).all()


def test_copies_are_replaced_by_the_next_neighbours():
    bank = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
    query = np.array([[1.0, 0.0]])
    hashes = hash_rows(bank), hash_rows(query)
    indices, cosines = nearest(bank, query, 3, hashes=hashes)
    assert indices[0, :2].tolist() == [2, 3]
    assert np.isneginf(cosines[0, 2])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_any_floating_type_gives_the_same_neighbours(dtype):
    bank = np.random.default_rng(0).integers(-50, 50, (300, 6)).astype(dtype)
    queries = np.random.default_rng(1).integers(-50, 50, (20, 6)).astype(dtype)
    expected, _ = nearest(bank.astype(np.float64), queries.astype(np.float64), 9)
    assert (nearest(bank, queries, 9)[0] == expected).all()


@pytest.mark.parametrize("search", [nearest, nearest_euclidean])
def test_memory_does_not_grow_with_the_bank(search, monkeypatch):
    monkeypatch.setattr(_numerics, "BLOCK_BYTES", 2**25)
    queries = rows(1000, 32, 1).astype(np.float32)
    peaks = []
    for n in (40_000, 120_000):
        bank = rows(n, 32).astype(np.float32)
        tracemalloc.start()
        search(bank, queries, 20)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.25 * peaks[0]
    assert peaks[1] < 2**25


@pytest.mark.parametrize("k", [1, 10, 300])
def test_euclidean_neighbours_are_those_of_scikit_learn(k):
    bank, queries = rows(3000, 6), rows(50, 6, seed=1)
    model = NearestNeighbors(algorithm="kd_tree").fit(bank)
    expected, indices = model.kneighbors(queries, k)
    found, distances = nearest_euclidean(bank, queries, k)
    assert (found == indices).all()
    assert distances == pytest.approx(expected, rel=1e-12)


@given(st.integers(0, 10**6))
@settings(max_examples=40)
def test_euclidean_ties_go_to_the_first_row(seed):
    generator = np.random.default_rng(seed)
    bank = generator.integers(-2, 3, (15, 2)).astype(float)
    queries = generator.integers(-2, 3, (6, 2)).astype(float)
    found, _ = nearest_euclidean(bank, queries, 4)
    squared = ((queries[:, None] - bank) ** 2).sum(axis=2)
    assert (found == np.argsort(squared, axis=1, kind="stable")[:, :4]).all()


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
@pytest.mark.parametrize("scale", [1e-150, 1.0, 1e150])
def test_euclidean_distances_stand_offsets_and_scales(offset, scale):
    bank, queries = rows(600, 8) + offset, rows(30, 8, 1) + offset
    found, distances = nearest_euclidean(scale * bank, scale * queries, 15)
    expected = np.sqrt(((queries[:, None] - bank) ** 2).sum(axis=2))
    order = np.argsort(expected, axis=1)[:, :15]
    assert same_neighbours(found, order) >= 14.9
    expected = np.take_along_axis(expected, order, axis=1)
    assert distances / scale == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("outlier", ["dimension", "row", "zeros"])
def test_outliers_hide_no_neighbour(outlier):
    bank, queries = rows(3000, 16) + 5, rows(40, 16, seed=1) + 5
    if outlier == "dimension":
        bank[:, 3] *= 1e4
        queries[:, 3] *= 1e4
    elif outlier == "row":
        bank[7] *= -1e4
    else:
        bank[::3] = 0
    found, _ = nearest(bank, queries, 20)
    bank[~bank.any(axis=1), 0] = -1e-300  # as far as any
    assert same_neighbours(found, exact_order(bank, queries, 20)) == 20


def collapsed(n, d=6, points=3, seed=0):
    """Rows at a few points, and as many around them."""
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((points, d))
    bank = centres[generator.integers(0, points, n)]
    bank[::2] += 0.01 * generator.standard_normal((len(bank[::2]), d))
    return bank


@pytest.mark.parametrize("k", [3, 40])
def test_point_masses_give_their_first_rows(k):
    # Hundreds of ties at the last neighbour: single precision cannot decide.
    bank = collapsed(2000)
    queries = bank[1:60:2]
    found, cosines = nearest(bank, queries, k)
    for row, query in enumerate(queries):
        expected = np.flatnonzero((bank == query).all(axis=1))[:k]
        assert (found[row] == expected).all()
    assert cosines == pytest.approx(1, abs=1e-13)


def test_queries_near_point_masses_are_ranked_in_full():
    bank, queries = collapsed(2000), collapsed(100, seed=1) + 0.001
    found, cosines = nearest(bank, queries, 30)
    expected = exact_order(bank, queries, 30)
    exact = np.take_along_axis(nearest(bank, queries, 2000)[1], found * 0, axis=1)
    assert cosines[:, 0] == pytest.approx(exact[:, 0], abs=1e-14)
    # Which rows of a point mass come last is a matter of their order alone.
    assert same_neighbours(found, expected) >= 29.9


@pytest.mark.parametrize("ascending", [True, False])
def test_a_sorted_bank_hides_no_neighbour(ascending):
    query = np.array([[1.0, 0.0]])
    angles = np.linspace(3, 0.1, 20_000)
    bank = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    last = np.arange(20_000)[::-1][:25]
    if not ascending:
        bank, last = bank[::-1], np.arange(25)
    found, _ = nearest(bank, np.repeat(query, 5, axis=0), 25)
    assert (found == last).all()


@pytest.mark.parametrize("n", [2, 12, 500])
def test_neighbours_within_a_set_leave_the_row_itself_out(n):
    features = rows(n, 5)
    k = min(n - 1, 10)
    model = NearestNeighbors(metric="cosine", algorithm="brute").fit(features)
    expected, indices = model.kneighbors(n_neighbors=k)
    found, distances = nearest_within(features, k)
    assert (found == indices).all()
    assert distances**2 / 2 == pytest.approx(expected, abs=1e-12)


def test_copies_are_neighbours_within_a_set():
    features = np.repeat(rows(40, 4), 30, axis=0)
    found, distances = nearest_within(features, 29)
    own = np.arange(1200) // 30
    assert (found // 30 == own[:, None]).all()
    assert (found != np.arange(1200)[:, None]).all()
    assert distances.max() == 0


@pytest.fixture
def as_if_on_device(monkeypatch):
    """Let tensors of the CPU take the way of an accelerator's."""
    for one in (module, nearest_candidates, nearest_points):
        monkeypatch.setattr(one, "is_on_device", lambda array: True)


@pytest.mark.parametrize("precision", ["highest", "high"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_tensors_on_a_device_give_the_same(as_if_on_device, dtype, precision):
    bank, queries = (torch.from_numpy(collapsed(n)).to(dtype) for n in (1500, 60))
    expected = nearest(bank.double().numpy(), queries.double().numpy(), 20)
    torch.set_float32_matmul_precision(precision)
    try:
        found = nearest(bank, queries, 20)
    finally:
        torch.set_float32_matmul_precision("highest")
    assert (found[0] == expected[0]).all()
    assert found[1] == pytest.approx(expected[1], abs=1e-13)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int8])
def test_tensors_of_the_processor_give_the_same(dtype):
    bank, queries = (torch.from_numpy(rows(n, 8) * 9).to(dtype) for n in (500, 60))
    expected = nearest(bank.double().numpy(), queries.double().numpy(), 20)
    found = nearest(bank, queries, 20)
    assert (found[0] == expected[0]).all()


@pytest.mark.parametrize("order", ["F", "strided", "big-endian", "read-only"])
def test_the_layout_of_an_array_does_not_matter(order):
    bank, queries = rows(500, 8), rows(60, 8, 1)
    expected = nearest(bank, queries, 20)
    bank = {
        "F": lambda: np.asfortranarray(bank),
        "strided": lambda: np.repeat(bank, 2, axis=1)[:, ::2],
        "big-endian": lambda: bank.astype(">f8"),
        "read-only": lambda: np.frombuffer(bank.tobytes()).reshape(bank.shape),
    }[order]()
    assert (nearest(bank, queries, 20)[0] == expected[0]).all()


def test_threads_change_nothing(monkeypatch):
    bank, queries = collapsed(6000, 12), collapsed(5000, 12, seed=1)
    expected = nearest(bank, queries, 10)
    four = [{"user_api": "blas", "num_threads": 4}]
    control = worker_threads.threadpoolctl
    monkeypatch.setattr(control, "threadpool_info", lambda: four)
    found = nearest(bank, queries, 10)
    assert (found[0] == expected[0]).all()
    assert found[1] == pytest.approx(expected[1], abs=1e-14)


@pytest.mark.parametrize("search", [nearest, nearest_euclidean])
@pytest.mark.parametrize("k", [0, 6])
def test_more_neighbours_than_rows_are_refused(search, k):
    message = "nearest: as many neighbours as there are rows, at most\n  found: k = "
    with pytest.raises(UsageError, match=re.escape(f"{message}{k}, n = 5")):
        search(rows(5, 2), rows(3, 2), k)


def test_a_row_has_no_more_neighbours_than_others():
    with pytest.raises(UsageError, match="^nearest_within: each row has n - 1 others"):
        nearest_within(rows(5, 2), 5)


@pytest.mark.parametrize("search", [nearest, nearest_euclidean])
def test_bad_rows_are_named(search):
    bank, queries = rows(9, 2), rows(4, 2)
    with pytest.raises(InputError, match="^nearest: bank and queries of different wid"):
        search(bank, queries[:, :1], 2)
    queries[2, 1] = np.nan
    with pytest.raises(InputError, match=r"1 row contains NaN or infinity .*row 2"):
        search(bank, queries, 2)
