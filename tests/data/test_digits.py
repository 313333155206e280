"""The digits are those of the specification, with its reference numbers."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from repscope.data.digits import digits16, doubled


def pixels_and_digits(split):
    images = digits16(split)
    pixels = images.pixels(np.arange(images.n)).array
    return pixels.reshape(images.n, -1) / 255, images.labels["digit"]


def test_the_split_is_the_published_one():
    every, train, test = digits16(), digits16("train"), digits16("test")
    assert (every.n, train.n, test.n) == (1797, 1297, 500)
    order = np.random.default_rng(0).permutation(1797)
    assert every.ids.tolist() == order.tolist()
    assert [*train.ids, *test.ids] == order.tolist()
    bunch = load_digits()
    assert every.labels["digit"].tolist() == bunch.target[order].tolist()
    assert len({every.fingerprint, train.fingerprint, test.fingerprint}) == 3


def test_levels_are_digits_and_pairs_that_look_alike():
    images = digits16()
    assert images.channels == 1
    assert images.images.shape == (16, 16, 1)
    pairs = {
        (int(digit), str(pair))
        for digit, pair in zip(*images.labels.values(), strict=True)
    }
    assert len(pairs) == 10
    for digit, pair in pairs:
        assert str(digit) in pair.split(" or ")


def test_pixels_are_enlarged_by_hand():
    # Half-pixel centres: new pixels lie at -1/4, 1/4, 3/4, 5/4 of the old ones.
    small = np.array([[[0.0, 4.0], [8.0, 0.0]]])
    rows = np.array([[0, 1, 3, 4], [8, 6, 2, 0]])
    expected = [rows[0], 0.75 * rows[0] + 0.25 * rows[1], 0, rows[1]]
    expected[2] = 0.25 * rows[0] + 0.75 * rows[1]
    np.testing.assert_array_equal(doubled(small)[0], expected)


def test_pixels_are_enlarged_as_torch_does():
    torch = pytest.importorskip("torch", reason="the reference is torch's interpolate")
    small = np.random.default_rng(0).random((5, 8, 7))
    expected = torch.nn.functional.interpolate(
        torch.tensor(small)[:, None], scale_factor=2, mode="bilinear"
    )[:, 0]
    np.testing.assert_allclose(doubled(small), expected.numpy(), atol=1e-15)


def test_nearest_class_centre_on_raw_pixels():
    pixels, digits = pixels_and_digits("train")
    test_pixels, test_digits = pixels_and_digits("test")
    centres = np.stack([pixels[digits == k].mean(axis=0) for k in range(10)])
    distances = ((test_pixels[:, None] - centres) ** 2).sum(axis=2)
    assert (distances.argmin(axis=1) == test_digits).mean() == pytest.approx(0.898)


def logistic(pixels, digits, test_pixels, test_digits):
    classifier = LogisticRegression(C=0.1, max_iter=1000)
    return classifier.fit(pixels, digits).score(test_pixels, test_digits)


def test_logistic_regression_on_raw_pixels():
    score = logistic(*pixels_and_digits("train"), *pixels_and_digits("test"))
    # Rounding to 8 bits turns one picture of 500, which lies .0002 from the border.
    assert score == pytest.approx(0.964, abs=0.0021)


def test_logistic_regression_before_rounding():
    images = digits16()
    pixels = doubled(load_digits().images[images.ids] / 16).reshape(1797, -1)
    digits = images.labels["digit"]
    score = logistic(pixels[:1297], digits[:1297], pixels[1297:], digits[1297:])
    assert score == pytest.approx(0.964)
