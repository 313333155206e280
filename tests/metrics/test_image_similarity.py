"""Reconstructions against images: closed forms, loops, planted changes, limits."""

import math

import numpy as np
import pytest

from repscope._checking import InputError, Undecidable
from repscope.metrics.image_similarity import (
    colour_histogram_distance,
    foreground_centroid_error,
    gradient_correlation,
    psnr,
    ssim,
)

SCORES = (
    ssim,
    colour_histogram_distance,
    foreground_centroid_error,
    gradient_correlation,
)


def pictures(n=4, size=16, channels=3, seed=0):
    """Return smooth pictures with a bright disc."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    images = np.zeros((n, size, size, channels))
    for image in images:
        y, x = generator.integers(5, size - 5, 2)
        disc = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 8)
        image += disc[..., None] * generator.uniform(0.3, 0.9, channels)
    return images


def noisy(images, deviation):
    noise = np.random.default_rng(1).normal(0, deviation, images.shape)
    return np.clip(images + noise, 0, 1)


def test_equal_images_are_at_their_best():
    images = pictures()
    assert ssim(images, images).value == pytest.approx(1)
    assert gradient_correlation(images, images).value == pytest.approx(1)
    assert colour_histogram_distance(images, images).value == 0
    assert foreground_centroid_error(images, images).value == 0
    with pytest.raises(Undecidable, match="exact"):
        psnr(images, images)


def test_more_noise_is_worse_by_every_score():
    images = pictures(n=8)
    slight, strong = noisy(images, 0.02), noisy(images, 0.3)
    for score in (psnr, ssim, gradient_correlation):
        assert score(images, slight).value > score(images, strong).value
    assert (
        colour_histogram_distance(images, slight).value
        < colour_histogram_distance(images, strong).value
    )


def test_psnr_of_a_known_error():
    images = np.full((2, 4, 4, 1), 0.5)
    assert psnr(images, images + 0.1).value == pytest.approx(20)
    errors = noisy(images, 0.2)
    expected = [
        20 * math.log10(1 / math.sqrt(((one - two) ** 2).mean()))
        for one, two in zip(images, errors, strict=True)
    ]
    assert psnr(images, errors).value == pytest.approx(np.mean(expected))


def test_ssim_of_constant_images_is_its_luminance_term():
    one, two = np.full((1, 12, 12, 1), 0.2), np.full((1, 12, 12, 1), 0.8)
    expected = (2 * 0.2 * 0.8 + 1e-4) / (0.2**2 + 0.8**2 + 1e-4)
    assert ssim(one, two).value == pytest.approx(expected)


def test_ssim_equals_a_loop_over_windows():
    one, two = pictures(1, 13, 1), noisy(pictures(1, 13, 1), 0.1)
    offsets = np.arange(-5, 6)
    weights = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    weights /= weights.sum()
    values = []
    for y in range(3):
        for x in range(3):
            a = one[0, y : y + 11, x : x + 11, 0]
            b = two[0, y : y + 11, x : x + 11, 0]
            mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
            var_a = (weights * (a - mean_a) ** 2).sum()
            var_b = (weights * (b - mean_b) ** 2).sum()
            shared = (weights * (a - mean_a) * (b - mean_b)).sum()
            values.append(
                (2 * mean_a * mean_b + 1e-4)
                * (2 * shared + 9e-4)
                / ((mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4))
            )
    assert ssim(one, two).value == pytest.approx(np.mean(values))


def test_ssim_of_an_inverted_picture_is_negative_where_it_has_contrast():
    checks = np.indices((16, 16)).sum(axis=0) % 2
    image = checks[None, :, :, None].astype(float)
    assert ssim(image, 1 - image).value < -0.9


def test_the_histogram_distance_counts_colours_wherever_they_are():
    images = pictures()
    shuffled = images[:, ::-1, ::-1]
    assert colour_histogram_distance(images, shuffled).value == 0
    black, white = np.zeros((1, 2, 2, 3)), np.ones((1, 2, 2, 3))
    assert colour_histogram_distance(black, white).value == 1
    half = black.copy()
    half[:, 0] = 1
    assert colour_histogram_distance(black, half).value == 0.5


def test_the_centroid_moves_with_the_object():
    image = np.zeros((1, 20, 20, 3))
    image[0, 5:8, 5:8] = 0.9
    moved = np.roll(image, (3, 4), axis=(1, 2))
    expected = 5 / math.hypot(20, 20)
    assert foreground_centroid_error(image, moved).value == pytest.approx(expected)
    with pytest.raises(Undecidable, match="border"):
        foreground_centroid_error(np.zeros_like(image), image)


def test_gradient_correlation_is_numpys_of_the_edge_sizes():
    images, others = pictures(3, 12, 1), noisy(pictures(3, 12, 1), 0.1)
    expected = []
    for one, two in zip(images[..., 0], others[..., 0], strict=True):
        sizes = [np.hypot(*np.gradient(picture)).ravel() for picture in (one, two)]
        expected.append(np.corrcoef(*sizes)[0, 1])
    assert gradient_correlation(images, others).value == pytest.approx(
        np.mean(expected)
    )
    flat = np.full((1, 4, 4, 1), 0.1)
    with pytest.raises(Undecidable, match="edges"):
        gradient_correlation(flat, flat)


@pytest.mark.parametrize("score", [psnr, *SCORES])
def test_other_shapes_and_other_ranges_are_refused(score):
    images = pictures(2)
    with pytest.raises(InputError, match="one for each image"):
        score(images, images[:, :8])
    with pytest.raises(InputError, match="pictures"):
        score(images[..., 0], images[..., 0])
    with pytest.raises(InputError, match="divide bytes by 255"):
        score(images, images * 255)


def test_small_images_have_no_window():
    with pytest.raises(Undecidable, match="windows of 11"):
        ssim(np.zeros((1, 8, 8, 1)), np.zeros((1, 8, 8, 1)))
