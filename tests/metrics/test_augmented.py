"""What views keep of an image: by hand, against loops, and at both ends."""

import itertools
import math
import re

import numpy as np
import pytest
import scipy.stats
import torch

from references.spectra import delete_one_variance
from repscope._checking import InputError, Undecidable, UsageError
from repscope.metrics import augmented


def views_of(n=40, q=3, d=6, *, spread=0.5, seed=0):
    generator = np.random.default_rng(seed)
    images = generator.standard_normal((n, 1, d))
    return images + spread * generator.standard_normal((n, q, d))


def naive_alignments(views, exponent=2):
    """Per image, the mean over pairs of views of their distance to the power."""
    means = []
    for image in views.tolist():
        unit = [[x / math.dist(row, [0] * len(row)) for x in row] for row in image]
        pairs = list(itertools.combinations(unit, 2))
        means.append(sum(math.dist(a, b) ** exponent for a, b in pairs) / len(pairs))
    return means


def naive_score(views):
    """Mean variance over views (ddof 1) over the variance of all views."""
    within = np.mean([np.var(image, axis=0, ddof=1).sum() for image in views])
    return within / np.var(views.reshape(-1, views.shape[2]), axis=0, ddof=1).sum()


@pytest.mark.parametrize("q", [2, 3, 5])
def test_alignment_equals_a_loop_over_pairs(q):
    views = views_of(q=q)
    found = augmented.alignment(views).value
    assert found == pytest.approx(np.mean(naive_alignments(views)), rel=1e-12)
    again = augmented.alignment(torch.tensor(views)).value
    assert again == pytest.approx(found, rel=1e-12)


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("q", [2, 4])
def test_alignment_to_any_power_equals_a_loop_over_pairs(q, exponent):
    views = views_of(q=q)
    expected = np.mean(naive_alignments(views, exponent))
    for given in (views, torch.tensor(views)):
        found = augmented.alignment(given, exponent=exponent).value
        assert found == pytest.approx(expected, rel=1e-12)
    opposite = np.array([[[1.0, 0.0], [-3.0, 0.0]]])
    found = augmented.alignment(opposite, exponent=exponent).value
    assert found == pytest.approx(2**exponent)


@pytest.mark.parametrize("exponent", [0.0, -1.0, math.nan, math.inf])
def test_an_exponent_that_is_none_is_refused(exponent):
    with pytest.raises(UsageError, match="^alignment: the exponent must be positive\n"):
        augmented.alignment(views_of(), exponent=exponent)


def test_alignments_interval_is_students_over_images():
    views = views_of()
    expected = scipy.stats.ttest_1samp(naive_alignments(views), 0).confidence_interval()
    found = augmented.alignment(views)
    assert found.interval == pytest.approx(tuple(expected), rel=1e-10)
    assert found.details == {
        "n_images": 40,
        "interval": "Student's t",
        "zero_images": 0,
    }
    assert augmented.alignment(views[:1]).interval is None


def test_the_scores_interval_is_a_jackknife_over_images():
    views = views_of(n=9)
    left_out = [naive_score(np.delete(views, one, axis=0)) for one in range(9)]
    found = augmented.invariance_score(views)
    half = scipy.stats.t.ppf(0.975, 8) * math.sqrt(delete_one_variance(left_out))
    expected = (max(found.value - half, 0), found.value + half)
    assert found.value == pytest.approx(naive_score(views), rel=1e-12)
    assert found.interval == pytest.approx(expected, rel=1e-9)
    assert augmented.invariance_score(views[:2]).interval is None


@pytest.mark.parametrize(
    ("views", "value"),
    [
        ([[[1.0, 0.0], [1.0, 0.0]]], 0.0),
        ([[[1.0, 0.0], [0.0, 5.0]]], 2.0),
        ([[[1.0, 0.0], [-3.0, 0.0]]], 4.0),
        ([[[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [-1.0, 0.0]]], 2.0),
    ],
)
def test_alignment_by_hand(views, value):
    found = augmented.alignment(np.array(views)).value
    assert found == pytest.approx(value, abs=1e-15)


@pytest.mark.parametrize("scale", [1e-300, 1e-150, 1e-20, 1e20, 1e150, 1e300])
@pytest.mark.parametrize("module", ["numpy", "torch"])
def test_scale_changes_neither(scale, module):
    views = views_of()
    given = views * scale
    given = torch.from_numpy(given) if module == "torch" else given
    for metric in (augmented.alignment, augmented.invariance_score):
        found, expected = metric(given), metric(views)
        assert found.value == pytest.approx(expected.value, rel=1e-12)
        assert found.interval == pytest.approx(expected.interval, rel=1e-10)


def test_rotation_order_and_an_outlier_change_what_they_should():
    generator = np.random.default_rng(1)
    views = views_of()
    rotation = np.linalg.qr(generator.standard_normal((6, 6)))[0]
    for metric in (augmented.alignment, augmented.invariance_score):
        expected = metric(views).value
        for same in (
            views @ rotation,
            views[generator.permutation(40)],
            views[:, generator.permutation(3)],
        ):
            assert metric(same).value == pytest.approx(expected, rel=1e-12)
    twice = np.concatenate([views, views])
    assert augmented.alignment(twice).value == pytest.approx(
        augmented.alignment(views).value, rel=1e-12
    )
    # One dimension of 1e4 times the size decides both, as it does by loops.
    views[..., 0] *= 1e4
    found = augmented.invariance_score(views).value
    assert found == pytest.approx(naive_score(views), rel=1e-10)
    found = augmented.alignment(views).value
    assert found == pytest.approx(np.mean(naive_alignments(views)), rel=1e-10)


@pytest.mark.parametrize("offset", [1e2, 1e6])
def test_offset_leaves_the_invariance_score(offset):
    views = views_of()
    expected = augmented.invariance_score(views).value
    found = augmented.invariance_score(views + offset).value
    assert found == pytest.approx(expected, rel=1e-8)


def test_invariance_score_equals_the_mean_squares_of_an_anova():
    views = views_of(n=12, q=4, d=1)
    within = np.mean([image.var(ddof=1) for image in views[:, :, 0]])
    expected = within / views.var(ddof=1)
    assert augmented.invariance_score(views).value == pytest.approx(expected, rel=1e-12)


def test_invariance_score_by_hand():
    # Two images at 0 and 4, views one apart: within 1/2; total (4 * 1/4 + 16)/3.
    views = np.array([[[-0.5], [0.5]], [[3.5], [4.5]]])
    assert augmented.invariance_score(views).value == pytest.approx(0.5 / (17 / 3))


@pytest.mark.parametrize("q", [2, 5])
def test_unrelated_views_score_one_whatever_their_number(q):
    # With ddof 0 over views this would be (q - 1)/q.
    views = np.random.default_rng(0).standard_normal((3000, q, 8))
    # One standard deviation is sqrt(2 / 24,000) = .009.
    assert augmented.invariance_score(views).value == pytest.approx(1, abs=0.04)


def test_equal_views_score_zero():
    views = np.repeat(views_of(q=2)[:, :1], 3, axis=1)
    assert augmented.invariance_score(views).value == pytest.approx(0, abs=1e-30)
    assert augmented.alignment(views).value == pytest.approx(0, abs=1e-14)


def test_images_with_a_view_of_zeros_have_no_direction_to_compare():
    views = views_of(n=5)
    expected = augmented.alignment(views[1:]).value
    views[0, 1] = 0
    found = augmented.alignment(views)
    assert found.value == pytest.approx(expected)
    assert found.details["zero_images"] == 1
    with pytest.raises(Undecidable, match="without direction"):
        augmented.alignment(np.zeros((3, 2, 4)))


@pytest.mark.parametrize("constant", [-2.0, 0.1, 1 / 3])
def test_constant_features_say_nothing_of_invariance(constant):
    with pytest.raises(Undecidable, match="^all features are constant$"):
        augmented.invariance_score(np.full((10, 3, 4), constant))
    assert augmented.alignment(np.full((10, 3, 4), constant)).value == 0


def test_one_image_says_nothing_of_invariance():
    with pytest.raises(Undecidable, match="^one image: there is nothing to compare"):
        augmented.invariance_score(views_of(n=1))


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
        (np.zeros((0, 2, 3)), None, "views: features of several views of each image"),
        (np.zeros((4, 2, 0)), None, "views: features of several views of each image"),
        (np.zeros((4, 2, 3), complex), None, "views: features must be real numbers"),
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


@pytest.mark.parametrize("module", ["numpy", "torch"])
def test_rows_with_ids_are_grouped_by_image(module):
    views = views_of(5, 3, 2)
    order = np.random.default_rng(0).permutation(15)
    rows, ids = views.reshape(15, 2)[order], np.repeat(np.arange(5), 3)[order]
    given = torch.from_numpy(rows) if module == "torch" else rows
    found = np.asarray(augmented.views_of_rows(given, ids))
    assert found.shape == (5, 3, 2)
    for image in range(5):
        np.testing.assert_array_equal(found[image], rows[ids == image])
    assert augmented.alignment(found).value == pytest.approx(
        augmented.alignment(views).value, rel=1e-12
    )


@pytest.mark.parametrize(
    ("ids", "found"),
    [
        ([0, 1, 2, 3], "one row for each id"),
        ([0, 0, 0, 1], "1 to 3 rows for an id"),
    ],
)
def test_rows_that_are_no_views_are_refused(ids, found):
    message = "object_ids: as many views of each image are needed, and at least 2\n"
    with pytest.raises(InputError, match=f"^{message}  found: {found}"):
        augmented.views_of_rows(np.zeros((4, 2)), ids)
    with pytest.raises(InputError, match="^object_ids: one entry per row of features"):
        augmented.views_of_rows(np.zeros((4, 2)), ids[:3])
