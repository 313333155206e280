"""Consistency, semantic shift and occlusion: by hand, against loops, at the ends."""

import math
import re

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
import torch

from references import clusters
from repscope._checking import InputError, Undecidable
from repscope.metrics import augmentation_shift
from repscope.metrics.augmentation_shift import (
    label_consistency,
    occlusion_cosine,
    occlusion_invariance,
    semantic_shift,
)
from repscope.metrics.failure import wilson_interval


@pytest.mark.parametrize(
    ("predictions", "view_predictions", "value", "expected"),
    [
        ([0, 1], [[0, 0], [1, 1]], 1.0, 0.5),
        ([0, 1], [[1, 1], [0, 0]], 0.0, 0.5),
        ([0, 1, 2, 3], [[0], [1], [2], [0]], 0.75, (2 + 1 + 1) / 16),
        ([5, 5], [[5, 5, 7], [5, 7, 7]], 0.5, 0.5),
        ([-1], [[3]], 0.0, 0.0),
    ],
)
def test_label_consistency_by_hand(predictions, view_predictions, value, expected):
    for array in (np.array, torch.tensor):
        found = label_consistency(array(predictions), array(view_predictions))
        assert found.value == value
        assert found.details["expected"] == pytest.approx(expected)


def test_label_consistency_of_random_predictions_is_what_is_expected():
    generator = np.random.default_rng(0)
    predictions = generator.choice(4, 5000, p=[0.7, 0.1, 0.1, 0.1])
    of_views = generator.choice(4, (5000, 3), p=[0.4, 0.4, 0.1, 0.1])
    found = label_consistency(predictions, of_views)
    expected = 0.7 * 0.4 + 0.1 * 0.6
    # Three standard errors of a share of 5,000 images.
    assert found.value == pytest.approx(expected, abs=0.02)
    assert found.details["expected"] == pytest.approx(expected, abs=0.01)


def test_label_consistency_is_as_sure_as_the_number_of_images():
    one = label_consistency(np.zeros(50, int), np.zeros((50, 1), int))
    many = label_consistency(np.zeros(50, int), np.zeros((50, 9), int))
    assert one.interval == many.interval == wilson_interval(50, 50)
    assert one.details["interval"] == "Wilson, images"


@pytest.mark.slow
def test_the_interval_of_label_consistency_covers():
    """Views of one image agree more or less; images are drawn."""
    generator = np.random.default_rng(0)
    covered = []
    for _ in range(400):
        easy = generator.beta(2, 1, size=(80, 1))  # mean 2/3
        of_views = (generator.random((80, 5)) > easy).astype(int)
        low, high = label_consistency(np.zeros(80, int), of_views).interval
        covered.append(low < 2 / 3 < high)
    assert np.mean(covered) >= 0.95


@pytest.mark.parametrize(
    ("predictions", "view_predictions", "message"),
    [
        (np.zeros(3, int), np.zeros(3, int), "one prediction per image and one per"),
        (np.zeros((3, 1), int), np.zeros((3, 1), int), "one prediction per image and"),
        (np.zeros(0, int), np.zeros((0, 2), int), "one prediction per image and one"),
        (
            np.zeros(3, int),
            np.zeros((2, 2), int),
            "view_predictions: one entry per row",
        ),
    ],
)
def test_predictions_of_other_shapes_are_refused(
    predictions, view_predictions, message
):
    with pytest.raises(InputError, match=message):
        augmentation_shift.label_consistency(predictions, view_predictions)


def classes_of(n=120, d=5, n_classes=12, *, spread=0.3, seed=0):
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    centres = generator.standard_normal((n_classes, d))
    return centres[labels] + spread * generator.standard_normal((n, d)), labels


def protocols_of(**options):
    features, labels = classes_of(**options)
    generator = np.random.default_rng(9)
    noise = generator.standard_normal(features.shape)
    return {
        "none": features,
        "weak": features + 0.2 * noise,
        "strong": features + 2 * noise,
    }, labels


def values_of(rows, metric):
    return [row.value for row in rows if row.metric == metric]


def naive_accuracy(rows, reference, labels):
    right = 0
    for i, row in enumerate(rows):
        distances = {}
        for code in sorted(set(labels)):
            own = [k for k in range(len(rows)) if labels[k] == code and k != i]
            centre = clusters.centre([reference[k] for k in own])
            distances[code] = clusters.squared_distance(row, centre)
        right += min(distances, key=distances.get) == labels[i]
    return right / len(rows)


def test_semantic_shift_equals_loops_and_scikit_learn():
    protocols, labels = protocols_of(n=60, n_classes=5)
    rows = semantic_shift(protocols, labels)
    assert [(row.protocol, row.metric) for row in rows] == [
        (protocol, metric)
        for protocol in ("none", "weak", "strong")
        for metric in ("cdnv", "ncc_accuracy", "silhouette")
    ]
    plain = {name: given.tolist() for name, given in protocols.items()}
    for protocol, row in zip(protocols, values_of(rows, "cdnv"), strict=True):
        assert row == pytest.approx(clusters.cdnv(plain[protocol], labels.tolist()))
    for protocol, row in zip(protocols, values_of(rows, "silhouette"), strict=True):
        expected = sklearn.metrics.silhouette_score(protocols[protocol], labels)
        assert row == pytest.approx(expected)
    for protocol, row in zip(protocols, values_of(rows, "ncc_accuracy"), strict=True):
        assert row == naive_accuracy(plain[protocol], plain["none"], labels.tolist())


def test_stronger_augmentation_shifts_more():
    rows = semantic_shift(*protocols_of())
    for metric, sign in (("cdnv", 1), ("ncc_accuracy", -1), ("silhouette", -1)):
        none, weak, strong = values_of(rows, metric)
        assert sign * none < sign * weak < sign * strong


def test_ten_random_classes_are_shown():
    protocols, labels = protocols_of(n=240, n_classes=24)
    rows = semantic_shift(protocols, labels)
    kept = [
        set(labels[: k + 1].tolist()) for k in range(24)
    ]  # any order of rows draws the same classes
    order = np.random.default_rng(0).permutation(240)
    shuffled = {name: given[order] for name, given in protocols.items()}
    again = semantic_shift(shuffled, labels[order])
    for one, other in zip(rows, again, strict=True):
        assert one.value == pytest.approx(other.value, rel=1e-10)
    assert len(kept[-1]) == 24
    assert semantic_shift(protocols, labels, seed=1) != rows
    # As many as there are is all of them, in whatever order they are drawn.
    all_classes = semantic_shift(protocols, labels, shown_classes=24, seed=1)
    assert all_classes == semantic_shift(protocols, labels, shown_classes=99)


@pytest.mark.parametrize("scale", [1e-120, 1e-20, 1e20, 1e120])
def test_scale_shift_and_torch_change_nothing(scale):
    protocols, labels = protocols_of()
    expected = semantic_shift(protocols, labels)
    scaled = {name: torch.from_numpy(f * scale) for name, f in protocols.items()}
    moved = {name: f + 100 for name, f in protocols.items()}
    for given in (scaled, moved):
        for row, other in zip(semantic_shift(given, labels), expected, strict=True):
            assert row.value == pytest.approx(other.value, rel=1e-7)


def test_what_cannot_be_decided_has_its_reason():
    features, _ = classes_of(6)
    rows = semantic_shift({"none": features}, np.zeros(6, int))
    assert [row.value for row in rows] == [None] * 3
    assert {row.reason for row in rows} == {
        "fewer than two classes have samples",
        "one class only: there is nothing to tell apart",
    }
    rows = semantic_shift({"none": features}, np.array([0, 0, 0, 1, 1, 2]))
    assert "a class of one image has no centre without it" in {r.reason for r in rows}
    rows = semantic_shift({"none": np.full((6, 2), 0.1)}, np.arange(6) % 2)
    assert [row.value for row in rows] == [None, 0.5, None]


@pytest.mark.parametrize(
    ("protocols", "message"),
    [
        ({}, "semantic shift: no protocol"),
        ({"none": np.zeros((5, 2))}, "features['none']: one entry per row of labels"),
        (
            {"none": np.zeros((6, 2)), "weak": np.zeros((6, 3))},
            "weak: features of another width\n  found: 3 dimensions; expected: 2",
        ),
        ({"none": np.full((6, 2), np.nan)}, "none: some features are NaN or infinite"),
    ],
)
def test_protocols_of_other_rows_are_refused(protocols, message):
    with pytest.raises(InputError, match="^" + re.escape(message)):
        semantic_shift(protocols, np.arange(6) % 2)


def pairs_of(n=50, d=8, *, noise=0.5, seed=0):
    generator = np.random.default_rng(seed)
    features = generator.standard_normal((n, d))
    return features, features + noise * generator.standard_normal((n, d))


def naive_cosine(a, b):
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / (
        math.hypot(*a) * math.hypot(*b)
    )


def test_occlusion_cosine_equals_a_loop_and_scikit_learn():
    features, occluded = pairs_of()
    values = [naive_cosine(a, b) for a, b in zip(features, occluded, strict=True)]
    expected = scipy.stats.ttest_1samp(values, 0).confidence_interval()
    for array in (np.asarray, torch.from_numpy):
        found = occlusion_cosine(array(features), array(occluded))
        assert found.value == pytest.approx(np.mean(values), rel=1e-12)
        assert found.interval == pytest.approx(tuple(expected), rel=1e-9)
    cosines = sklearn.metrics.pairwise.cosine_similarity(features, occluded)
    assert found.value == pytest.approx(np.diag(cosines).mean(), rel=1e-12)
    others = [cosines[k, k - 1] for k in range(50)]
    assert found.details["expected"] == pytest.approx(np.mean(others), rel=1e-10)


@pytest.mark.parametrize(
    ("features", "occluded", "value"),
    [
        ([[1.0, 0.0]], [[2.0, 0.0]], 1.0),
        ([[1.0, 0.0]], [[0.0, 3.0]], 0.0),
        ([[1.0, 0.0]], [[-3.0, 0.0]], -1.0),
        ([[1.0, 0.0], [1.0, 0.0]], [[0.0, 0.0], [1.0, 0.0]], 0.5),
    ],
)
def test_occlusion_cosine_by_hand(features, occluded, value):
    assert occlusion_cosine(np.array(features), np.array(occluded)).value == value


@pytest.mark.parametrize("scale", [1e-300, 1e-20, 1e20, 1e300])
def test_scale_rotation_and_duplication_leave_the_cosine(scale):
    features, occluded = pairs_of()
    expected = occlusion_cosine(features, occluded).value
    rotation = np.linalg.qr(np.random.default_rng(1).standard_normal((8, 8)))[0]
    for one, other in (
        (features * scale, occluded * scale),
        (features * scale, occluded),
        (features @ rotation, occluded @ rotation),
        (np.tile(features, (2, 1)), np.tile(occluded, (2, 1))),
    ):
        assert occlusion_cosine(one, other).value == pytest.approx(expected, rel=1e-10)


def test_a_collapsed_encoder_is_seen_by_what_is_expected():
    found = occlusion_cosine(np.ones((9, 3)), np.ones((9, 3)))
    assert found.value == pytest.approx(found.details["expected"]) == pytest.approx(1)


def test_occlusion_is_a_curve_over_area():
    features, labels = classes_of(200, 16, 8)
    centres = np.stack([features[labels == code].mean(axis=0) for code in range(8)])
    noise = np.random.default_rng(3).standard_normal(features.shape)
    occluded = {area: features + 4 * area * noise for area in (0.4, 0.05, 0.2, 0.1)}
    rows = occlusion_invariance(features, occluded, centres)
    assert [row.area for row in rows] == [0.05, 0.1, 0.2, 0.4]
    for attribute in ("cosine", "unchanged"):
        values = [getattr(row, attribute) for row in rows]
        assert values == sorted(values, reverse=True)
        assert values[0] > values[-1] + 0.1
    for row in rows:
        plain = [rows.tolist() for rows in (features, occluded[row.area], centres)]
        before, after = (
            [clusters.nearest_centre(one, dict(enumerate(plain[2]))) for one in given]
            for given in plain[:2]
        )
        kept = sum(a == b for a, b in zip(before, after, strict=True))
        assert row.unchanged == kept / 200
        assert row.unchanged_interval == wilson_interval(kept, 200)
        cosine = occlusion_cosine(features, occluded[row.area])
        assert (row.cosine, row.cosine_interval) == (cosine.value, cosine.interval)
        assert row.n == 200


@pytest.mark.parametrize(
    ("occluded", "message"),
    [
        ({0.1: np.ones((5, 3))}, "occluded[0.1]: one entry per row of features"),
        ({0.1: np.ones((6, 2))}, "occluded[0.1]: features of another width"),
        ({0.1: np.full((6, 3), np.inf)}, "occluded[0.1]: some features are NaN or"),
        ({0.0: np.ones((6, 3))}, "occluded: an area is a share of the image\n  found"),
        (
            {20.0: np.ones((6, 3))},
            "occluded: an area is a share of the image\n  found: 20.0",
        ),
    ],
)
def test_occluded_features_of_other_images_are_refused(occluded, message):
    with pytest.raises(InputError, match="^" + re.escape(message)):
        occlusion_invariance(np.ones((6, 3)), occluded, np.eye(3))


def test_occlusion_without_directions_or_classes_is_undecided():
    with pytest.raises(Undecidable, match="^all features are zero: they have no dir"):
        occlusion_cosine(np.zeros((3, 2)), np.ones((3, 2)))
    with pytest.raises(Undecidable, match="^fewer than two class centres$"):
        occlusion_invariance(np.ones((3, 2)), {0.1: np.ones((3, 2))}, np.ones((1, 2)))
    with pytest.raises(InputError, match="^features: some features are NaN or infinit"):
        occlusion_cosine(np.full((3, 2), np.nan), np.ones((3, 2)))
    with pytest.raises(InputError, match="^occluded: one entry per row of features"):
        occlusion_cosine(np.ones((3, 2)), np.ones((4, 2)))
    with pytest.raises(InputError, match="^occluded: features of another width"):
        occlusion_cosine(np.ones((3, 2)), np.ones((3, 3)))
