"""What is read of a transformation before and behind the head: planted, and by hand."""

import re

import numpy as np
import pytest
import torch

from repscope._checking import InputError, Undecidable
from repscope.metrics.failure import wilson_interval
from repscope.metrics.transformation_probe import (
    paired_interval,
    transformation_gap,
    transformation_probe,
)


def transformed(n=80, d=6, *, behind=0.0, seed=0):
    """Return h, z, the transformation, the split and the image of each row.

    Four transformations of each image move h along axes of their own, and z by a share
    of that.
    """
    generator = np.random.default_rng(seed)
    images = np.repeat(generator.standard_normal((n, d)), 4, axis=0)
    codes = np.tile(np.arange(4), n)
    moved = 3 * np.eye(d)[codes]
    ids = np.repeat(np.arange(n), 4)
    noise = 0.3 * generator.standard_normal((2, 4 * n, d))
    return (
        images + moved + noise[0],
        images + behind * moved + noise[1],
        codes,
        (ids % 2 == 1),
        ids,
    )


def test_a_head_that_filters_leaves_a_gap():
    *given, ids = transformed()
    found = transformation_gap(*given, object_ids=ids)
    assert found.details["accuracy_features"] > 0.85
    # Four transformations that are not in z are guessed: .25 of 160 rows, within 4 sd.
    assert found.details["accuracy_other"] == pytest.approx(0.25, abs=0.14)
    assert found.value == pytest.approx(
        found.details["accuracy_features"] - found.details["accuracy_other"]
    )
    assert found.interval[0] > 0.3
    assert found.details["chance"] == found.details["majority"] == 0.25
    assert found.details["n_images"] == 40
    assert found.details["converged"]


def test_a_head_that_keeps_all_leaves_none():
    *given, ids = transformed(behind=1.0)
    found = transformation_gap(*given, object_ids=ids)
    assert found.value == pytest.approx(0, abs=0.06)
    assert found.interval[0] < 0 < found.interval[1]
    # With z before the head and h behind it the sign turns.
    features, other, codes, is_test = given
    turned = transformation_gap(other, features, codes, is_test, object_ids=ids)
    assert turned.value == pytest.approx(-found.value, abs=1e-12)
    assert turned.interval == pytest.approx(
        (-found.interval[1], -found.interval[0]), abs=1e-12
    )


def test_the_gap_is_that_of_the_two_probes():
    features, other, codes, is_test, ids = transformed(behind=0.2)
    probe = transformation_probe(features, other, codes, is_test)
    right = probe.features.predictions == codes[is_test]
    right_other = probe.other.predictions == codes[is_test]
    assert probe.gap.value == pytest.approx(right.mean() - right_other.mean())
    assert probe.gap.interval == paired_interval(right, right_other)
    assert probe.features.interval == wilson_interval(int(right.sum()), len(right))
    # Rows of one image are not independent: fewer of them count.
    grouped = transformation_gap(features, other, codes, is_test, object_ids=ids)
    assert grouped.value == probe.gap.value
    assert grouped.interval[0] < probe.gap.interval[0]
    assert grouped.interval[1] > probe.gap.interval[1]


@pytest.mark.parametrize("names", [np.array(["none", "90", "180", "270"]), None])
def test_transformations_have_any_names_and_features_any_array(names):
    features, other, codes, is_test, ids = transformed(behind=0.2)
    expected = transformation_gap(features, other, codes, is_test, object_ids=ids)
    called = codes * 90 - 7 if names is None else names[codes]
    found = transformation_gap(
        torch.from_numpy(features), torch.from_numpy(other), called, is_test
    )
    assert found.value == pytest.approx(expected.value, abs=1e-12)


@pytest.mark.parametrize("scale", [1e-120, 1e-20, 1e20, 1e120])
def test_scale_and_shift_change_nothing(scale):
    features, other, codes, is_test, _ = transformed(behind=0.2)
    expected = transformation_gap(features, other, codes, is_test).value
    found = transformation_gap((features + 7) * scale, other * scale, codes, is_test)
    assert found.value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("cells", "interval"),
    [
        # both right, first only, second only, neither
        ((36, 12, 2, 0), (0.0569, 0.3404)),
        ((20, 12, 2, 16), None),
        ((1, 0, 29, 3), None),
        ((24, 12, 2, 12), None),
    ],
)
def test_the_paired_interval_is_newcombes(cells, interval):
    right = np.repeat([True, True, False, False], cells)
    other = np.repeat([True, False, True, False], cells)
    found = paired_interval(right, other)
    assert found == pytest.approx(naive_newcombe(*cells), abs=1e-12)
    if interval:
        assert found == pytest.approx(interval, abs=5e-5)


def naive_newcombe(a, b, c, d):
    """Newcombe 1998, method 10, as printed."""
    n = a + b + c + d
    low_1, high_1 = wilson_interval(a + b, n)
    low_2, high_2 = wilson_interval(a + c, n)
    p_1, p_2 = (a + b) / n, (a + c) / n
    product = (a + b) * (c + d) * (a + c) * (b + d)
    phi = 0.0
    if product:
        numerator = a * d - b * c
        if numerator > n / 2:
            numerator -= n / 2
        elif numerator >= 0:
            numerator = 0
        phi = numerator / product**0.5
    one, other = p_1 - low_1, high_2 - p_2
    below = (one**2 - 2 * phi * one * other + other**2) ** 0.5
    one, other = high_1 - p_1, p_2 - low_2
    above = (one**2 - 2 * phi * one * other + other**2) ** 0.5
    return p_1 - p_2 - below, p_1 - p_2 + above


def test_two_perfect_answers_are_not_certain_to_be_equal():
    right = np.ones(30, dtype=bool)
    low, high = paired_interval(right, right)
    assert low == -high
    assert 0.1 < high < 0.2


@pytest.mark.slow
@pytest.mark.parametrize(("p", "q"), [(0.9, 0.5), (0.97, 0.95), (0.3, 0.3)])
def test_the_paired_interval_covers(p, q):
    generator = np.random.default_rng(0)
    covered = []
    for _ in range(1000):
        shared = generator.random(60)
        right = np.where(generator.random(60) < 0.5, shared, generator.random(60)) < p
        low, high = paired_interval(right, shared < q)
        covered.append(low <= p - q <= high)
    assert np.mean(covered) > 0.93


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"other": np.ones((5, 2))},
            InputError,
            "other: one entry per row of features",
        ),
        ({"transformations": [0, 1]}, InputError, "transformations: one entry per row"),
        ({"is_test": np.ones(3, bool)}, InputError, "is_test: one entry per row of"),
        (
            {"features": np.full((8, 2), np.nan)},
            InputError,
            "features: some features are NaN or infinite",
        ),
        (
            {"object_ids": [1, 1, 2, 2, 2, 3, 2, 2]},
            InputError,
            "is_test: images with rows on both sides of the split\n  found: 1, the "
            "first: 2; expected: all rows of an image on one side",
        ),
        ({"is_test": np.zeros(8, bool)}, Undecidable, "no test rows"),
        ({"is_test": np.ones(8, bool)}, Undecidable, "no training rows"),
        ({"transformations": np.zeros(8, int)}, Undecidable, "one class only: there"),
    ],
)
def test_what_is_no_transformation_probe(change, error, message):
    given = {
        "features": np.arange(16.0).reshape(8, 2),
        "other": np.arange(16.0).reshape(8, 2),
        "transformations": np.arange(8) % 2,
        "is_test": np.arange(8) > 4,
        **change,
    }
    with pytest.raises(error, match="^" + re.escape(message)):
        transformation_gap(**given)
