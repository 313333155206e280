"""The default split depends on ids and labels alone, and never parts equal rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from repscope._arrays import hash_rows
from repscope.representations.splitting import default_split
from repscope.theory import planted


def distinct(n):
    return np.arange(n, dtype=np.uint64)


def test_a_fifth_of_each_class_tests():
    labels = np.repeat([0, 1, 2, 3], [1000, 100, 15, 5])
    is_test = default_split(np.arange(1120), labels, distinct(1120))
    counts = np.bincount(labels, weights=is_test)
    assert counts.tolist() == [200, 20, 3, 1]


@pytest.mark.parametrize(
    ("size", "tests"), [(1, 0), (2, 1), (3, 1), (4, 1), (7, 1), (8, 2), (13, 3)]
)
def test_small_classes_test_at_least_one_row_and_train_the_rest(size, tests):
    labels = np.repeat([0, 1], [size, 50])
    is_test = default_split(np.arange(size + 50), labels, distinct(size + 50))
    assert is_test[:size].sum() == tests


@given(st.integers(0, 10**6), st.integers(5, 200), st.integers(1, 6))
def test_order_of_the_rows_does_not_matter(seed, n, n_classes):
    generator = np.random.default_rng(seed)
    ids = generator.permutation(10 * n)[:n]
    labels = generator.integers(0, n_classes, n)
    # Some rows are equal, and equal rows may carry different labels.
    hashes = generator.integers(0, n, n).astype(np.uint64)
    order = generator.permutation(n)
    whole = default_split(ids, labels, hashes)
    again = default_split(ids[order], labels[order], hashes[order])
    np.testing.assert_array_equal(again, whole[order])


def test_word_ids_split_like_any_other():
    ids = np.array([f"img_{k:04d}.png" for k in range(500)])
    is_test = default_split(ids, np.zeros(500, dtype=np.int64), distinct(500))
    assert is_test.sum() == 100


def test_seeds_give_unrelated_splits():
    ids, labels = np.arange(2000), np.arange(2000) % 10
    one = default_split(ids, labels, distinct(2000), seed=0)
    same = default_split(ids, labels, distinct(2000), seed=0)
    other = default_split(ids, labels, distinct(2000), seed=1)
    np.testing.assert_array_equal(one, same)
    # Independent fifths share a twenty-fifth of the rows: 80 of 2,000.
    assert 50 <= (one & other).sum() <= 110


def test_features_do_not_enter_the_split():
    ids, labels = np.arange(300), np.arange(300) % 3
    one, other = (np.random.default_rng(k).random((300, 4)) for k in range(2))
    np.testing.assert_array_equal(
        default_split(ids, labels, hash_rows(one)),
        default_split(ids, labels, hash_rows(other)),
    )


@pytest.mark.parametrize("copies", [2, 3, 5])
def test_equal_rows_share_a_side(copies):
    n = 400
    hashes = np.tile(distinct(n), copies)
    labels = np.tile(np.arange(n) % 4, copies)
    is_test = default_split(np.arange(n * copies), labels, hashes)
    sides = is_test.reshape(copies, n)
    assert (sides == sides[0]).all()
    assert is_test.mean() == pytest.approx(0.2, abs=0.01)


def test_planted_duplicates_do_not_leak():
    one = planted.duplicates(planted.sound(1000, 16), share=0.4)
    hashes = hash_rows(one.features)
    is_test = default_split(np.arange(1000), one.labels["fine"], hashes)
    assert not np.isin(hashes[is_test], hashes[~is_test]).any()
    for codes in one.labels.values():
        assert set(codes[is_test]) == set(codes)


def test_equal_rows_with_different_labels_share_a_side_too():
    hashes = np.repeat(distinct(100), 2)
    labels = np.tile([0, 1], 100)
    is_test = default_split(np.arange(200), labels, hashes)
    assert (is_test[::2] == is_test[1::2]).all()
    assert is_test.sum() == pytest.approx(40, abs=4)


def test_a_class_of_large_groups_still_has_a_test_group():
    # Four different pictures, each stored five times: a fifth of 20 rows is 4.
    hashes = np.concatenate([np.repeat(distinct(4), 5), distinct(500) + 10])
    labels = np.repeat([0, 1], [20, 500])
    is_test = default_split(np.arange(520), labels, hashes.astype(np.uint64))
    assert is_test[:20].sum() == 5


def test_the_smallest_group_tests_where_none_fits():
    hashes = np.repeat(distinct(3), [12, 2, 12])
    hashes = np.concatenate([hashes, distinct(474) + 10]).astype(np.uint64)
    labels = np.repeat([0, 1], [26, 474])
    for seed in range(8):
        is_test = default_split(np.arange(500), labels, hashes, seed=seed)
        assert 0 < is_test[:26].sum() <= 5


@pytest.mark.parametrize("n", [2, 10, 500])
def test_collapsed_features_are_still_split(n):
    labels = np.arange(n) % 2
    is_test = default_split(np.arange(n), labels, np.zeros(n, dtype=np.uint64))
    assert is_test.sum() == (0 if n == 2 else n // 5)


def test_one_frequent_row_does_not_part_the_other_pairs():
    # A tenth of the rows are one black picture; the others come in pairs.
    hashes = np.concatenate([np.zeros(100), np.repeat(np.arange(1, 451), 2)])
    labels = np.arange(1000) // 2 % 5
    is_test = default_split(np.arange(1000), labels, hashes.astype(np.uint64))
    pairs = is_test[100:].reshape(450, 2)
    assert (pairs[:, 0] == pairs[:, 1]).all()
    assert 0 < is_test[:100].sum() < 100
    assert is_test.mean() == pytest.approx(0.2, abs=0.02)


@given(
    st.integers(0, 10**6),
    st.integers(1, 120),
    st.integers(1, 8),
    st.integers(1, 60),
)
def test_every_class_keeps_training_rows(seed, n, n_classes, n_different):
    generator = np.random.default_rng(seed)
    different = generator.integers(0, n_different, n)
    labels = generator.integers(0, n_classes, n_different)[different]
    hashes = different.astype(np.uint64)
    is_test = default_split(np.arange(n), labels, hashes)
    assert set(labels[~is_test]) == set(labels)
    limit = max(2, 0.05 * n)
    for one in np.unique(different):
        side = is_test[different == one]
        assert len(side) > limit or side.all() or not side.any()
