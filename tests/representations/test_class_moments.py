"""Class moments are the same however rows arrive, and refuse what is no class."""

import inspect
import io
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from repscope._checking import InputError
from repscope.representations import summed_state
from repscope.representations.class_moments import ClassMoments


def rows_of(n, d, *, seed=0, offset=0.0):
    return np.random.default_rng(seed).standard_normal((n, d)) + offset


def assert_equal(one, other, *, tolerance=1e-10):
    np.testing.assert_array_equal(one.counts, other.counts)
    total = other.scatters.sum()
    scale = np.abs(other.means).max() + np.sqrt(total / max(other.counts.sum(), 1))
    np.testing.assert_allclose(one.means, other.means, rtol=0, atol=tolerance * scale)
    np.testing.assert_allclose(
        one.scatters, other.scatters, rtol=0, atol=tolerance * total
    )


def test_class_moments_equal_numpy_per_class():
    rows = rows_of(200, 6, offset=1e4)
    labels = np.random.default_rng(1).integers(0, 5, 200)
    labels[labels == 3] = 4  # class 3 stays empty
    moments = ClassMoments(6, 6)
    for part in np.array_split(np.arange(200), 7):
        moments.update(rows[part], labels[part])
    for one in range(6):
        own = rows[labels == one]
        assert moments.counts[one] == len(own)
        if not len(own):
            assert not moments.means[one].any()
            assert moments.variances[one] == moments.scatters[one] == 0
            continue
        np.testing.assert_allclose(moments.means[one], own.mean(axis=0), rtol=1e-14)
        # An offset of 1e4 deviations costs four of sixteen digits.
        expected = own.var(axis=0).sum()
        assert moments.variances[one] == pytest.approx(expected, rel=1e-10)


@given(
    st.integers(0, 10**6),
    st.integers(1, 50),
    st.lists(st.integers(0, 50), max_size=5),
)
def test_class_moments_agree_over_any_shards(seed, n, cuts):
    generator = np.random.default_rng(seed)
    rows, labels = generator.standard_normal((n, 3)) + 10, generator.integers(0, 4, n)
    whole = ClassMoments(4, 3).update(rows, labels)
    parts = [
        p for p in np.split(np.arange(n), sorted(min(c, n) for c in cuts)) if len(p)
    ]
    merged = ClassMoments(4, 3)
    for part in generator.permutation(len(parts)):
        own = parts[part]
        merged.merge(ClassMoments(4, 3).update(rows[own], labels[own]))
    np.testing.assert_array_equal(merged.counts, whole.counts)
    np.testing.assert_allclose(merged.means, whole.means, rtol=1e-12)
    np.testing.assert_allclose(merged.scatters, whole.scatters, rtol=1e-10, atol=1e-12)


def test_class_moments_without_a_part_equal_those_of_the_rest():
    rows = rows_of(80, 4, offset=20.0)
    labels = np.arange(80) % 5
    labels[:3] = 5  # this class lies in the part alone
    whole = ClassMoments(6, 4).update(rows, labels)
    left = whole.without(ClassMoments(6, 4).update(rows[:20], labels[:20]))
    rest = ClassMoments(6, 4).update(rows[20:], labels[20:])
    np.testing.assert_array_equal(left.counts, rest.counts)
    np.testing.assert_allclose(left.means, rest.means, rtol=1e-12)
    np.testing.assert_allclose(left.scatters, rest.scatters, rtol=1e-9, atol=1e-9)


def test_grouped_classes_equal_coarse_labels():
    rows = rows_of(120, 4, offset=5.0)
    fine = np.random.default_rng(2).integers(0, 6, 120)
    parents = np.array([1, 0, 1, 2, 0, 2])
    grouped = ClassMoments(7, 4).update(rows, fine).grouped(np.append(parents, 4))
    coarse = ClassMoments(5, 4).update(rows, parents[fine])
    np.testing.assert_array_equal(grouped.counts, coarse.counts)
    np.testing.assert_allclose(grouped.means, coarse.means, rtol=1e-13)
    np.testing.assert_allclose(grouped.scatters, coarse.scatters, rtol=1e-12)


def test_a_thousand_classes_are_grouped_at_once():
    fine = ClassMoments(5000, 16)
    fine.counts[:] = 1
    fine.means = rows_of(5000, 16)
    grouped = fine.grouped(np.arange(5000) // 5)
    expected = fine.means.reshape(1000, 5, 16)
    np.testing.assert_allclose(grouped.means, expected.mean(axis=1), atol=1e-14)
    spread = expected.var(axis=1).sum(axis=1) * 5
    np.testing.assert_allclose(grouped.scatters, spread, rtol=1e-12)


@pytest.mark.parametrize("constant", [0.1, 1 / 3])
def test_constant_features_have_no_variance_in_any_class(constant):
    rows, labels = np.full((1000, 4), constant), np.arange(1000) % 3
    moments = ClassMoments(3, 4)
    for part in np.array_split(np.arange(1000), 3):
        moments.update(rows[part], labels[part])
    assert not moments.scatters.any()
    np.testing.assert_array_equal(moments.means, rows[:3])


@given(
    kind=st.sampled_from(["offset", "outlying row", "drift", "plain"]),
    n=st.integers(1, 200),
    cuts=st.lists(st.integers(0, 200), max_size=9),
    at_once=st.integers(5, 50),
    seed=st.integers(0, 10**6),
)
def test_hard_rows_agree_however_they_arrive(kind, n, cuts, at_once, seed):
    generator = np.random.default_rng(seed)
    rows, labels = generator.standard_normal((n, 3)), generator.integers(0, 4, n)
    if kind == "offset":
        rows += 1e6
    elif kind == "outlying row":
        rows[generator.integers(n)] *= 1e4
    elif kind == "drift":
        rows += np.arange(n)[:, None]
    whole = ClassMoments(5, 3).update(rows, labels)
    stream, merged = ClassMoments(5, 3), ClassMoments(5, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(summed_state, "BLOCK_VALUES", 1)
        patch.setattr(summed_state, "WIDE_BLOCK_VALUES", 1)
        patch.setattr(summed_state, "BLOCK_MINIMUM_ROWS", at_once)
        for part in np.split(np.arange(n), sorted(min(c, n) for c in cuts)):
            stream.update(rows[part], labels[part])
            merged.merge(ClassMoments(5, 3).update(rows[part], labels[part]))
    order = generator.permutation(n)
    shuffled = ClassMoments(5, 3).update(rows[order], labels[order])
    for other in (stream, merged, shuffled):
        assert_equal(other, whole)
    for one in range(4):
        own = rows[labels == one]
        if len(own):
            spread = ((own - own.mean(axis=0)) ** 2).sum()
            total = whole.scatters.sum()
            assert whole.scatters[one] == pytest.approx(spread, abs=1e-9 * total)


@pytest.mark.parametrize(
    "kind", ["f2", "f4", ">f4", "i1", "bool", "torch f4", "torch bf16", "torch u1"]
)
def test_every_kind_of_array_adds_up_to_the_same(kind):
    whole = np.random.default_rng(0).integers(0, 2, (30, 4)).astype(np.float64)
    labels = np.arange(30) % 3
    tensors = {"f4": torch.float32, "bf16": torch.bfloat16, "u1": torch.uint8}
    if kind.startswith("torch"):
        rows = torch.tensor(whole).to(tensors[kind[6:]])
        codes = torch.tensor(labels)
    else:
        rows, codes = whole.astype(kind), labels.astype(np.uint16)
    found = ClassMoments(3, 4).update(rows, codes)
    assert_equal(found, ClassMoments(3, 4).update(whole, labels), tolerance=1e-14)


def test_updating_does_not_touch_the_batch():
    rows, labels = rows_of(10, 3), np.arange(10) % 2
    before = rows.copy()
    ClassMoments(2, 3).update(rows, labels)
    np.testing.assert_array_equal(rows, before)


def test_no_rows_change_nothing():
    moments = ClassMoments(3, 2).update(rows_of(6, 2), np.arange(6) % 3)
    before = moments.to_bytes()
    moments.update(np.zeros((0, 2)), np.zeros(0, np.int64)).merge(ClassMoments(3, 2))
    assert moments.to_bytes() == before


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 2, 3], "labels: a code that is no class\n  found: 3; expected: 0 to 2"),
        (
            [0, -1, 2, 1],
            "labels: a code that is no class\n  found: -1; expected: 0 to 2",
        ),
        ([0, 1, 2], "labels: one entry per row of features is needed\n  found: 3 entr"),
        (
            [0.0, 1.0, 2.0, 0.0],
            "labels: class codes are needed\n  found: values of typ",
        ),
        (
            [[0], [1], [2], [0]],
            "labels: class codes are needed\n  found: values of typ",
        ),
    ],
)
@pytest.mark.parametrize("make", [np.array, torch.tensor])
def test_labels_that_are_no_classes_are_refused(make, labels, message):
    moments = ClassMoments(3, 2)
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        inspect.unwrap(ClassMoments.update)(moments, rows_of(4, 2), make(labels))
    assert not moments.counts.any()


def test_other_widths_and_classes_are_refused():
    with pytest.raises(InputError, match="^moments: a batch of another width"):
        ClassMoments(2, 3).update(np.zeros((4, 2)), np.zeros(4, int))
    message = "^moments: states of different classes or widths cannot be merged"
    for other in (ClassMoments(2, 4), ClassMoments(3, 3)):
        with pytest.raises(InputError, match=message):
            ClassMoments(2, 3).merge(other)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e160])
def test_values_that_cannot_be_squared_are_refused(bad):
    rows = rows_of(6, 2)
    rows[4, 1] = bad
    moments = ClassMoments(2, 2)
    with pytest.raises(
        InputError, match="^moments: (some features|features too large)"
    ):
        moments.update(rows, np.arange(6) % 2)
    assert not moments.counts.any()


def test_state_returns_from_its_bytes():
    moments = ClassMoments(3, 4).update(rows_of(20, 4, offset=1e3), np.arange(20) % 2)
    again = ClassMoments.from_bytes(moments.to_bytes())
    assert_equal(again, moments, tolerance=0)
    again.update(np.zeros((1, 4)), np.array([2]))
    assert again.counts.tolist() == [10, 10, 1]
    assert moments.counts.tolist() == [10, 10, 0]


def archive(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


GOOD = {"counts": np.ones(2), "means": np.zeros((2, 3)), "scatters": np.zeros(2)}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no archive",
        archive(**GOOD)[:200],
        archive(counts=np.ones(2)),
        archive(**{**GOOD, "counts": np.ones(3)}),
        archive(**{**GOOD, "means": np.zeros(2)}),
        archive(**{**GOOD, "scatters": np.zeros((2, 1))}),
        archive(**{**GOOD, "counts": np.ones(2, int)}),
        archive(**{**GOOD, "counts": np.array([1.0, -1.0])}),
        archive(**{**GOOD, "counts": np.array([1.0, 0.5])}),
        archive(**{**GOOD, "scatters": np.array([1.0, -1.0])}),
        archive(**{**GOOD, "means": np.full((2, 3), np.nan)}),
        archive(**{**GOOD, "means": np.array([["a"], ["b"]])}),
    ],
)
def test_damaged_bytes_are_refused(data):
    with pytest.raises(InputError, match="^no saved class moments: "):
        ClassMoments.from_bytes(data)
