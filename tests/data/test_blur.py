import numpy as np
import pytest
import torch

from references.torchvision_operators import torchvision_or_skip
from repscope.data.blur import blurred, fitting_kernel

TOLERANCE = 1e-5


def images_of(n, height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, 3, height, width, generator=generator)


@pytest.mark.parametrize(
    ("height", "width", "kernel"),
    [(32, 32, 3), (32, 32, 23), (16, 16, 13), (20, 31, 9), (224, 224, 23), (8, 8, 1)],
)
def test_blurs_are_torchvision_s(height, width, kernel):
    torchvision_or_skip()
    from torchvision.transforms.v2 import functional

    images, sigmas = images_of(6, height, width), np.linspace(0.1, 2.0, 6)
    found = blurred(images, sigmas, kernel)
    for i, sigma in enumerate(sigmas):
        expected = functional.gaussian_blur(images[i], [kernel] * 2, [float(sigma)] * 2)
        torch.testing.assert_close(found[i], expected, rtol=0, atol=TOLERANCE)


def test_a_blur_is_a_convolution_with_reflected_borders():
    images, sigmas, radius = images_of(3, 12, 9), np.array([0.3, 1.0, 4.0]), 3
    found = blurred(images, sigmas, 2 * radius + 1)
    for image, sigma, ours in zip(images.numpy(), sigmas, found.numpy(), strict=True):
        distances = np.arange(-radius, radius + 1)
        taps = np.exp(-(distances**2) / (2 * sigma**2))
        kernel = np.outer(taps, taps) / taps.sum() ** 2
        edges = ((0, 0), (radius, radius), (radius, radius))
        padded = np.pad(image, edges, mode="reflect")
        windows = np.lib.stride_tricks.sliding_window_view(padded, (7, 7), (1, 2))
        expected = np.einsum("chwij,ij->chw", windows, kernel)
        np.testing.assert_allclose(ours, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("kernel", "size", "fits"),
    [(23, 32, 23), (23, 16, 13), (23, 24, 21), (3, 224, 3), (5, 4, 1), (3, 1, 1)],
)
def test_kernels_shrink_to_small_images(kernel, size, fits):
    assert fitting_kernel(kernel, size) == fits


def test_small_images_get_the_kernel_that_fits():
    images, sigmas = images_of(2, 16, 16), np.array([1.0, 5.0])
    assert torch.equal(blurred(images, sigmas, 23), blurred(images, sigmas, 13))
    assert not torch.equal(blurred(images, sigmas, 11), blurred(images, sigmas, 13))


def test_each_axis_gets_the_kernel_that_fits():
    flat = images_of(2, 1, 30)
    found = blurred(flat, np.array([1.0, 3.0]), 9)
    tall = blurred(flat.transpose(2, 3), np.array([1.0, 3.0]), 9).transpose(2, 3)
    torch.testing.assert_close(found, tall, rtol=0, atol=1e-6)
    assert found.std(3).max() < flat.std(3).min()


def test_one_colour_stays_one_colour():
    images = torch.full((4, 3, 16, 16), 0.3)
    found = blurred(images, np.array([0.1, 0.5, 2.0, 50.0]), 9)
    torch.testing.assert_close(found, images)


def test_a_narrow_blur_changes_nothing():
    images = images_of(1, 16, 16)
    assert torch.equal(blurred(images, np.array([0.05]), 9), images)
