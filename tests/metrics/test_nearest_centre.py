"""Nearest centres: references, ties, cosines, and rows that come in blocks."""

import inspect
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestCentroid

from references import clusters
from repscope._checking import InputError, Undecidable, UsageError
from repscope.metrics.nearest_centre import (
    classify_blocks,
    ncc_accuracy,
    nearest_centre_of_blocks,
    nearest_centre_probe,
)
from repscope.representations.class_moments import ClassMoments


def blobs(n=120, d=6, n_classes=4, *, distance=1.0, seed=0):
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    centres = distance * generator.standard_normal((n_classes, d))
    return centres[labels] + generator.standard_normal((n, d)), labels


def halves(features, labels):
    half = len(labels) // 2
    return features[:half], labels[:half], features[half:], labels[half:]


def in_blocks(features, sizes=(7, 1, 60)):
    """Yield blocks of rows, the last ones first."""
    ends = np.cumsum([*sizes, len(features) - sum(sizes)]).tolist()
    pairs = list(zip([0, *ends], ends, strict=False))
    return [(start, features[start:end]) for start, end in reversed(pairs)]


@given(st.integers(0, 10**6))
@settings(max_examples=25)
def test_answers_equal_the_naive_transcription(seed):
    train, train_labels, test, test_labels = halves(*blobs(30, 3, 3, seed=seed))
    result = nearest_centre_probe(train, train_labels, test, test_labels, 3)
    groups = clusters.by_class(train.tolist(), train_labels.tolist())
    centres = {label: clusters.centre(rows) for label, rows in groups.items()}
    for row, answer in zip(test.tolist(), result.predictions.tolist(), strict=True):
        assert answer == clusters.nearest_centre(row, centres)


@pytest.mark.parametrize("seed", range(3))
def test_answers_are_those_of_scikit_learn(seed):
    train, labels, test, test_labels = halves(*blobs(300, 20, 7, seed=seed))
    result = nearest_centre_probe(train, labels, test, test_labels, 7)
    model = NearestCentroid().fit(train, labels)
    assert (result.predictions == model.predict(test)).all()
    assert ncc_accuracy(result).value == model.score(test, test_labels)
    assert result.train_accuracy == model.score(train, labels)


def test_margins_are_differences_of_squared_distances():
    train = np.array([[0.0, 0.0], [2.0, 0.0], [10.0, 1.0]])
    test = np.array([[4.0, 0.0], [4.0, 0.0]])
    result = nearest_centre_probe(train, np.array([0, 0, 1]), test, np.array([0, 1]), 2)
    # From (1, 0) and (10, 1): 9 and 37.
    assert result.margins == pytest.approx([28.0, -28.0])
    assert result.predictions.tolist() == [0, 0]


@pytest.mark.parametrize("seed", range(3))
def test_cosines_are_compared_by_angle(seed):
    train, labels, test, test_labels = halves(*blobs(90, 5, 3, seed=seed))
    result = nearest_centre_probe(train, labels, test, test_labels, 3, metric="cosine")
    centres = np.array([train[labels == k].mean(axis=0) for k in range(3)])
    cosines = (test @ centres.T) / np.linalg.norm(test, axis=1)[:, None]
    cosines /= np.linalg.norm(centres, axis=1)
    assert (result.predictions == cosines.argmax(axis=1)).all()
    own = cosines[np.arange(len(test)), test_labels]
    cosines[np.arange(len(test)), test_labels] = -2
    assert result.margins == pytest.approx(own - cosines.max(axis=1), abs=1e-12)
    lengths = np.random.default_rng(seed).uniform(0.1, 9, (len(test), 1))
    longer = nearest_centre_probe(
        train, labels, lengths * test, test_labels, 3, metric="cosine"
    )
    assert (longer.predictions == result.predictions).all()


def test_ties_go_to_the_smallest_class():
    train, labels = np.array([[2.0], [2.0], [0.0], [5.0]]), np.array([3, 1, 2, 0])
    result = nearest_centre_probe(
        train, labels, np.array([[2.1], [1.0], [3.5]]), np.array([1, 1, 1]), 4
    )
    assert result.predictions.tolist() == [1, 1, 0]


def test_constant_features_give_the_smallest_class_seen():
    rows, labels = np.full((6, 3), 0.1), np.array([4, 1, 2, 2, 4, 2])
    result = nearest_centre_probe(rows, labels, rows, labels, 5)
    assert (result.predictions == 1).all()
    assert (result.margins == 0).all()


def test_a_class_without_training_rows_is_skipped_and_told():
    train, labels, test, test_labels = halves(*blobs(200, distance=4.0))
    seen = labels != 2
    result = nearest_centre_probe(train[seen], labels[seen], test, test_labels, 4)
    assert not (result.predictions == 2).any()
    assert result.details["classes_without_training_rows"] == 1
    assert result.details["test_rows_of_unseen_classes"] == (test_labels == 2).sum()
    assert result.class_accuracies[2] == 0
    assert np.isfinite(result.margins).all()


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e-20, 1e20, 1e150, 1e300])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_the_scale_of_the_features_does_not_matter(scale, metric):
    train, labels, test, test_labels = halves(*blobs())
    expected = nearest_centre_probe(train, labels, test, test_labels, 4, metric=metric)
    found = nearest_centre_probe(
        scale * train, labels, scale * test, test_labels, 4, metric=metric
    )
    assert (found.predictions == expected.predictions).all()
    assert found.train_accuracy == expected.train_accuracy
    assert np.isfinite(found.margins).all()


@pytest.mark.parametrize("offset", [1e2, 1e6])
def test_an_offset_a_rotation_and_doubled_rows_do_not_matter(offset):
    train, labels, test, test_labels = halves(*blobs())
    expected = nearest_centre_probe(train, labels, test, test_labels, 4).predictions
    rotation = np.linalg.qr(np.random.default_rng(1).standard_normal((6, 6)))[0]
    for change in (lambda rows: rows + offset, lambda rows: rows @ rotation):
        found = nearest_centre_probe(
            change(train), labels, change(test), test_labels, 4
        )
        assert (found.predictions == expected).all()
    twice = nearest_centre_probe(
        np.tile(train, (2, 1)), np.tile(labels, 2), test, test_labels, 4
    )
    assert (twice.predictions == expected).all()


@pytest.mark.parametrize("kind", ["float16", "float32", "int8", "bool"])
def test_any_real_type_counts_as_float64(kind):
    features, labels = blobs()
    features = (3 * features).astype(kind)
    expected = nearest_centre_probe(*halves(features.astype(float), labels), 4)
    found = nearest_centre_probe(*halves(features, labels), 4)
    assert (found.predictions == expected.predictions).all()
    assert found.margins == pytest.approx(expected.margins)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_a_tensor_gives_the_same(dtype, metric):
    features, labels = blobs()
    tensor = torch.from_numpy(features).to(dtype)
    found = nearest_centre_probe(*halves(tensor, labels), 4, metric=metric)
    doubled = tensor.double().numpy()
    expected = nearest_centre_probe(*halves(doubled, labels), 4, metric=metric)
    assert isinstance(found.predictions, np.ndarray)
    assert (found.predictions == expected.predictions).all()
    assert found.margins == pytest.approx(expected.margins, abs=1e-12)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("convert", [np.asarray, torch.from_numpy])
def test_rows_in_blocks_get_the_same_answers(metric, convert):
    features, labels = blobs(200, 8, 5, distance=0.7)
    # Copies, and rows half-way between two others, may tie.
    features[50:60] = features[40:50]
    is_test = np.random.default_rng(0).random(200) < 0.5
    moments = ClassMoments(6, 8)
    for start, rows in in_blocks(features[~is_test], (40, 3)):
        moments.update(rows, labels[~is_test][start : start + len(rows)])
    found = nearest_centre_of_blocks(
        in_blocks(convert(features)), labels, is_test, moments, metric=metric
    )
    expected = nearest_centre_probe(
        features[~is_test],
        labels[~is_test],
        features[is_test],
        labels[is_test],
        6,
        metric=metric,
    )
    assert (found.predictions == expected.predictions).all()
    assert found.margins == pytest.approx(expected.margins, abs=1e-12)
    assert found.train_accuracy == expected.train_accuracy
    assert found.details == expected.details


def test_blocks_in_any_order_are_classified_in_place():
    features, labels = blobs()
    classes = np.array([1, 2, 5, 9])
    centres = np.array([features[labels == k].mean(axis=0) for k in range(4)])
    found = classify_blocks(in_blocks(features), centres, classes)
    assert (found == classify_blocks([(0, features)], centres, classes)).all()
    expected = NearestCentroid().fit(features, classes[labels]).predict(features)
    assert (found == expected).all()


@pytest.mark.parametrize(
    ("blocks", "found"),
    [
        ([(0, 3), (4, 6)], "rows 0 to 2, rows 4 to 5"),
        ([(0, 3), (2, 6)], "rows 0 to 2, rows 2 to 5"),
        ([(0, 3)], "rows 0 to 2"),
        ([], "no block"),
    ],
)
def test_rows_that_are_missing_or_come_twice_are_refused(blocks, found):
    features, labels = blobs(6, 3, 2)
    moments = ClassMoments(2, 3).update(features, labels)
    message = (
        f"blocks: each row is needed once\n  found: {found}; expected: rows 0 to 5"
    )
    with pytest.raises(InputError, match="^" + re.escape(message) + "$"):
        nearest_centre_of_blocks(
            ((start, features[start:end]) for start, end in blocks),
            labels,
            np.arange(6) % 3 == 0,
            moments,
        )


def test_centres_without_a_direction_have_no_cosine():
    rows, labels = np.array([[1.0], [-1.0], [2.0], [3.0]]), np.array([0, 0, 1, 1])
    reason = "fewer than two class centres have a direction"
    with pytest.raises(Undecidable, match=f"^{reason}$"):
        nearest_centre_probe(rows, labels, rows, labels, 2, metric="cosine")


def test_another_metric_is_refused():
    unchecked = inspect.unwrap(nearest_centre_probe)  # types are checked in tests only
    message = "unknown metric 'cosin'\n  fix: did you mean cosine?"
    with pytest.raises(UsageError, match="^" + re.escape(message) + "$"):
        unchecked(*halves(*blobs()), 4, metric="cosin")
