"""Where does each pixel of a sheared, shifted or turned image come from?

The nearest pixel is taken, black where there is none. Places are whole numbers of
1/65,536 of a pixel, as in Pillow: the same on every device, and in every batch.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

# 1/65,536 of a pixel.
_FRACTION_BITS = 16

Images = Float[Tensor, "n c h w"]
Magnitudes = Float[np.ndarray, " n"]


def sheared_x(images: Images, shears: Magnitudes) -> Images:
    """Return images whose rows are shifted to the left, the lower the further.

    Args:
        images: any values.
        shears: pixels for each pixel from the upper border.

    Source: Pillow's affine transform, (1, shear, 0; 0, 1, 0). As in the source.
    """
    matrices = _unmoved(images)
    matrices[0, 1] = shears
    return _moved(images, matrices)


def sheared_y(images: Images, shears: Magnitudes) -> Images:
    """Return images whose columns are shifted upwards, the further right the further.

    Args:
        images: any values.
        shears: pixels for each pixel from the left border.

    Source: Pillow's affine transform, (1, 0, 0; shear, 1, 0). As in the source.
    """
    matrices = _unmoved(images)
    matrices[1, 0] = shears
    return _moved(images, matrices)


def translated_x(images: Images, shifts: Magnitudes) -> Images:
    """Return images shifted to the right by whole pixels, rounded towards 0.

    Args:
        images: any values.
        shifts: in pixels.

    Source: torchvision.transforms.AutoAugment. As in the source.
    """
    matrices = _unmoved(images)
    matrices[0, 2] = -np.trunc(shifts)
    return _moved(images, matrices)


def translated_y(images: Images, shifts: Magnitudes) -> Images:
    """Return images shifted downwards by whole pixels, rounded towards 0.

    Args:
        images: any values.
        shifts: in pixels.

    Source: torchvision.transforms.AutoAugment. As in the source.
    """
    matrices = _unmoved(images)
    matrices[1, 2] = -np.trunc(shifts)
    return _moved(images, matrices)


def rotated(images: Images, degrees: Magnitudes) -> Images:
    """Return images turned around their middle, anticlockwise.

    Args:
        images: any values.
        degrees: of each.

    Source: Pillow's rotate. As in the source.
    """
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    down, across = (side / 2 for side in images.shape[2:])
    constants = (
        across - cosine * across + sine * down,
        down - sine * across - cosine * down,
    )
    matrices = np.array(
        [[cosine, -sine, constants[0]], [sine, cosine, constants[1]]], np.float64
    )
    return _moved(images, matrices)


def _unmoved(images: Images) -> Float[np.ndarray, "2 3 n"]:
    return np.repeat(np.eye(2, 3)[:, :, None], len(images), axis=2)


def _moved(images: Images, matrices: Float[np.ndarray, "2 3 n"]) -> Images:
    """Return images whose pixels come from where an affine map of theirs leads to.

    Args:
        images: any values.
        matrices: two rows (of x, of y, constant) for the place of origin: x, then y.
            Places count from the upper left border, so that pixels' centres lie on
            halves.
    """
    channels, height, width = images.shape[1:]
    device = images.device
    rows = torch.arange(height, device=device)[:, None]
    columns = torch.arange(width, device=device)
    places = []
    for of_x, of_y, constant in matrices:
        start = constant + 0.5 * of_x + 0.5 * of_y  # of the first pixel's centre
        step_x, step_y, first = (
            _in_fractions(values, device) for values in (of_x, of_y, start)
        )
        places.append((first + step_x * columns + step_y * rows) >> _FRACTION_BITS)
    x, y = places
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    origins = (y.clamp(0, height - 1) * width + x.clamp(0, width - 1)).flatten(1)
    taken = images.flatten(2).gather(2, origins[:, None].expand(-1, channels, -1))
    return taken.view_as(images) * inside[:, None]


def _in_fractions(
    values: Float[np.ndarray, " n"], device: torch.device
) -> Int[Tensor, "n 1 1"]:
    """Return values in 1/65,536, rounded away from 0 where they lie half way."""
    scaled = np.asarray(values, np.float64) * 2**_FRACTION_BITS
    whole = np.trunc(scaled + np.copysign(0.5, scaled)).astype(np.int64)
    return torch.from_numpy(whole).to(device)[:, None, None]
