"""What views keep of an image: by hand, against loops, and at both ends."""

import itertools
import math
import re

import numpy as np
import pytest
import torch

from repscope._checking import InputError, Undecidable
from repscope.metrics import augmented


def views_of(n=40, q=3, d=6, *, spread=0.5, seed=0):
    generator = np.random.default_rng(seed)
    images = generator.standard_normal((n, 1, d))
    return images + spread * generator.standard_normal((n, q, d))


def naive_alignment(views):
    total, count = 0.0, 0
    for image in views.tolist():
        unit = [[x / math.dist(row, [0] * len(row)) for x in row] for row in image]
        for a, b in itertools.combinations(unit, 2):
            total += math.dist(a, b) ** 2
            count += 1
    return total / count


@pytest.mark.parametrize("q", [2, 3, 5])
def test_alignment_equals_a_loop_over_pairs(q):
    views = views_of(q=q)
    found = augmented.alignment(views)
    assert found == pytest.approx(naive_alignment(views), rel=1e-12)
    assert augmented.alignment(torch.tensor(views)) == pytest.approx(found, rel=1e-12)


@pytest.mark.parametrize(
    ("views", "value"),
    [
        ([[[1.0, 0.0], [1.0, 0.0]]], 0.0),
        ([[[1.0, 0.0], [0.0, 5.0]]], 2.0),
        ([[[1.0, 0.0], [-3.0, 0.0]]], 4.0),
        ([[[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [-1.0, 0.0]]], 2.0),
        ([[[0.0, 0.0], [1.0, 0.0]]], 1.0),  # a zero row has no direction
        ([[[0.0, 0.0], [0.0, 0.0]]], 0.0),
    ],
)
def test_alignment_by_hand(views, value):
    assert augmented.alignment(np.array(views)) == pytest.approx(value, abs=1e-15)


@pytest.mark.parametrize("scale", [1e-20, 1e20])
def test_scale_changes_neither(scale):
    views = views_of()
    for metric in (augmented.alignment, augmented.invariance_score):
        assert metric(views * scale) == pytest.approx(metric(views), rel=1e-12)


@pytest.mark.parametrize("offset", [1e2, 1e6])
def test_offset_leaves_the_invariance_score(offset):
    views = views_of()
    expected = augmented.invariance_score(views)
    found = augmented.invariance_score(views + offset)
    assert found == pytest.approx(expected, rel=1e-8)


def test_invariance_score_equals_the_mean_squares_of_an_anova():
    views = views_of(n=12, q=4, d=1)
    within = np.mean([image.var(ddof=1) for image in views[:, :, 0]])
    expected = within / views.var(ddof=1)
    assert augmented.invariance_score(views) == pytest.approx(expected, rel=1e-12)


def test_invariance_score_by_hand():
    # Two images at 0 and 4, views one apart: within 1/2; total (4 * 1/4 + 16)/3.
    views = np.array([[[-0.5], [0.5]], [[3.5], [4.5]]])
    assert augmented.invariance_score(views) == pytest.approx(0.5 / (17 / 3))


@pytest.mark.parametrize("q", [2, 5])
def test_unrelated_views_score_one_whatever_their_number(q):
    # With ddof 0 over views this would be (q - 1)/q.
    views = np.random.default_rng(0).standard_normal((3000, q, 8))
    # One standard deviation is sqrt(2 / 24,000) = .009.
    assert augmented.invariance_score(views) == pytest.approx(1, abs=0.04)


def test_equal_views_score_zero():
    views = np.repeat(views_of(q=2)[:, :1], 3, axis=1)
    assert augmented.invariance_score(views) == pytest.approx(0, abs=1e-30)
    assert augmented.alignment(views) == pytest.approx(0, abs=1e-14)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1 / 3])
def test_constant_features_say_nothing_of_invariance(constant):
    with pytest.raises(Undecidable, match="^all features are constant$"):
        augmented.invariance_score(np.full((10, 3, 4), constant))


@pytest.mark.parametrize(
    ("views", "n", "message"),
    [
        (
            np.zeros((4, 3)),
            None,
            "views: features of several views of each image are needed\n"
            "  found: an array of shape (4, 3); expected: (n images, at least 2 views, "
            "d features)\n  fix: group by image: views[i, k] is view k of image i",
        ),
        (
            np.zeros((4, 2, 3)),
            1200,
            "views: features of several views of each image are needed\n"
            "  found: an array of shape (4, 2, 3); expected: (1,200 images, at least 2",
        ),
        (np.zeros((4, 1, 3)), None, "views: features of several views of each image"),
        ([[[1.0], [2.0]]], None, "views: features of several views of each image"),
        (np.full((2, 2, 2), np.nan), None, "views: some contain NaN or infinity"),
        (torch.full((2, 2, 2), math.inf), 2, "views: some contain NaN or infinity"),
    ],
)
def test_what_are_no_views_is_refused(views, n, message):
    with pytest.raises(InputError, match="^" + re.escape(message)):
        augmented.check_views(views, n)


@pytest.mark.parametrize("dtype", ["float16", "float32", "int64", "uint8"])
def test_views_of_any_type_are_computed_in_float64(dtype):
    views = (views_of() * 10 + 60).astype(dtype)
    checked = augmented.check_views(views, 40)
    assert checked.dtype == np.float64
    np.testing.assert_array_equal(checked, views)
