"""How is each image blurred by its own width, a batch at a time?

A blur with reflected borders is linear along each axis: a banded matrix whose borders
are folded inwards. Two batched products apply it.
"""

from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

_NEGLIGIBLE = 1e-12


def fitting_kernel(kernel: int, size: int) -> int:
    """Return the number of taps that an image's reflection allows.

    The kernel itself, but at most 2 floor((size - 1) / 2) - 1 and at least 1.

    Example:
        >>> fitting_kernel(23, 32), fitting_kernel(23, 16)
        (23, 13)
    """
    return min(kernel, max(1, 2 * ((size - 1) // 2) - 1))


def blurred(
    images: Float[Tensor, "n c h w"], sigmas: Float[np.ndarray, " n"], kernel: int
) -> Float[Tensor, "n c h w"]:
    """Return each image convolved with its Gaussian, with reflected borders.

    Weights are exp(-d²/2σ²) for |d| <= kernel // 2, divided by their sum.

    Args:
        images: any range.
        sigmas: one deviation per image, in pixels.
        kernel: number of taps, odd.

    Source: torchvision.transforms.v2.functional.gaussian_blur.
    As in the source, but for kernels that do not fit (`fitting_kernel`).
    """
    n, channels, height, width = images.shape
    columns = _matrices(sigmas, fitting_kernel(kernel, width), width, images.device)
    rows = columns
    if height != width:
        rows = _matrices(sigmas, fitting_kernel(kernel, height), height, images.device)
    narrowed = torch.bmm(images.reshape(n, channels * height, width), columns.mT)
    return torch.matmul(rows[:, None], narrowed.view(n, channels, height, width))


def _matrices(
    sigmas: Float[np.ndarray, " n"], kernel: int, size: int, device: torch.device
) -> Float[Tensor, "n size size"]:
    """Return the banded matrix of each blur along an axis."""
    taps = torch.from_numpy(_taps(sigmas, kernel)).to(device)
    patterns = torch.from_numpy(_patterns(kernel // 2, size)).to(device)
    total = torch.zeros(len(sigmas), size, size, device=device)
    for distance, pattern in enumerate(patterns):
        total.addcmul_(taps[:, distance, None, None], pattern)
    return total


@cache
def _patterns(radius: int, size: int) -> Float[np.ndarray, "distances size size"]:
    """Return how often each pixel lies at each distance, reflections included."""
    to, of = np.indices((size, size))
    last = size - 1
    # A pixel, its image beyond the first and its image beyond the last; the borders
    # themselves have but one image.
    places = (
        of - to,
        np.where(of > 0, -of - to, size),
        np.where(of < last, 2 * last - of - to, size),
    )
    return np.stack(
        [
            sum((np.abs(place) == distance) for place in places)
            for distance in range(radius + 1)
        ]
    ).astype(np.float32)


def _taps(
    sigmas: Float[np.ndarray, " n"], kernel: int
) -> Float[np.ndarray, "n distances"]:
    """Return the weight at each distance from the middle."""
    distances = np.arange(kernel // 2 + 1)
    weights = np.exp(-0.5 * (distances / sigmas[:, None]) ** 2)
    weights /= 2 * weights.sum(1, keepdims=True) - 1
    # Denormal numbers would make the products many times slower.
    weights[weights < _NEGLIGIBLE] = 0
    return weights.astype(np.float32)
