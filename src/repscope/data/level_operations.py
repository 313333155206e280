"""What do AutoAugment's operations on brightness and colour make of whole levels?

Images are float32 tensors of whole numbers from 0 to 255, and stay so: each operation
rounds as it does on 8-bit images, each image has its own magnitude, and no number
depends on the batch.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from repscope.data.colour import LUMA

WHITE = 255
# Smoothing weighs a pixel 5 times and its eight neighbours once each.
_CENTRE, _TOTAL = 5, 13

Images = Float[Tensor, "n c h w"]
Magnitudes = Float[np.ndarray, " n"]


def brightened(images: Images, changes: Magnitudes) -> Images:
    """Return images times 1 + change.

    Args:
        images: whole levels.
        changes: -1 or more; 0 changes nothing, as for all below.

    Source: torchvision.transforms.functional.adjust_brightness, on uint8.
    As in the source.
    """
    return _blend(images, torch.zeros_like(images), changes)


def saturated(images: Images, changes: Magnitudes) -> Images:
    """Return images moved away from their grey; grey images stay.

    Args:
        images: whole levels.
        changes: -1 (grey) or more.

    Source: torchvision.transforms.functional.adjust_saturation, on uint8.
    As in the source.
    """
    return images if images.shape[1] == 1 else _blend(images, _grey(images), changes)


def contrasted(images: Images, changes: Magnitudes) -> Images:
    """Return images moved away from the mean of their grey.

    Args:
        images: whole levels.
        changes: -1 (one grey) or more.

    Source: torchvision.transforms.functional.adjust_contrast, on uint8.
    As in the source. Pillow rounds the mean, and so is a level off now and then.
    """
    grey = images if images.shape[1] == 1 else _grey(images)
    mean = grey.mean((1, 2, 3), keepdim=True, dtype=torch.float64).float()
    return _blend(images, mean, changes)


def sharpened(images: Images, changes: Magnitudes) -> Images:
    """Return images moved away from their smoothed version; the border stays.

    Args:
        images: whole levels; those of 2 pixels or fewer a side stay.
        changes: -1 (smooth) or more.

    Source: torchvision.transforms.functional.adjust_sharpness, on uint8.
    As in the source.
    """
    height, width = images.shape[2:]
    if height <= 2 or width <= 2:
        return images
    # Sums of whole numbers: in no order do they come out otherwise.
    across = images[..., :-2] + images[..., 1:-1] + images[..., 2:]
    around = across[..., :-2, :] + across[..., 1:-1, :] + across[..., 2:, :]
    inner = images[..., 1:-1, 1:-1]
    smooth = images.clone()
    smooth[..., 1:-1, 1:-1] = ((around + (_CENTRE - 1) * inner) / _TOTAL).round_()
    return _blend(images, smooth, changes)


def posterized(images: Images, bits: Magnitudes) -> Images:
    """Return images whose levels keep their upper bits alone.

    Args:
        images: whole levels.
        bits: 0 to 8.

    Source: torchvision.transforms.functional.posterize. As in the source.
    """
    steps = _per_image(2.0 ** (8 - np.trunc(bits)), images)
    return (images / steps).floor_().mul_(steps)


def solarized(images: Images, thresholds: Magnitudes) -> Images:
    """Return images with levels at or above a threshold inverted.

    Args:
        images: whole levels.
        thresholds: levels, not necessarily whole.

    Source: torchvision.transforms.functional.solarize, on uint8. As in the source.
    """
    return torch.where(images >= _per_image(thresholds, images), WHITE - images, images)


def inverted(images: Images, _: Magnitudes) -> Images:
    """Return 255 less each level.

    Source: torchvision.transforms.functional.invert, on uint8. As in the source.
    """
    return WHITE - images


def autocontrasted(images: Images, _: Magnitudes) -> Images:
    """Return images with each channel stretched to 0 and 255; one of a level stays.

    Source: torchvision.transforms.functional.autocontrast, on uint8.
    As in the source. Pillow rounds elsewhere, and so is a level off now and then.
    """
    least, greatest = images.amin((2, 3), True), images.amax((2, 3), True)
    is_flat = least == greatest
    scale = (WHITE / (greatest - least)).masked_fill_(is_flat, 1)
    stretched = (images - least.masked_fill(is_flat, 0)).mul_(scale)
    return stretched.clamp_(0, WHITE).floor_()


def equalized(images: Images, _: Magnitudes) -> Images:
    """Return images with each channel's levels spread as evenly as they can be.

    A level becomes (pixels below it + s // 2) // s, at most 255, where s is the number
    of pixels below the greatest level // 255; where s is 0, it stays.

    Source: torchvision.transforms.functional.equalize, on uint8. As in the source.
    """
    n, channels, height, width = images.shape
    levels = images.view(n * channels, height * width).long()
    rows = torch.arange(len(levels), device=images.device)[:, None]
    counts = torch.bincount(
        (rows * (WHITE + 1) + levels).view(-1), minlength=len(levels) * (WHITE + 1)
    ).view(-1, WHITE + 1)
    greatest = levels.amax(1, keepdim=True)
    step = (height * width - counts.gather(1, greatest)) // WHITE
    below = counts.cumsum(1) - counts
    table = ((below + step // 2) // step.clamp(min=1)).clamp_(max=WHITE)
    spread = table.gather(1, levels).float().view_as(images)
    return torch.where(step.view(n, channels, 1, 1) == 0, images, spread)


def _grey(images: Images) -> Float[Tensor, "n 1 h w"]:
    red, green, blue = images.split(1, 1)
    return (red * LUMA[0] + green * LUMA[1] + blue * LUMA[2]).floor_()


def _blend(images: Images, others: Tensor, changes: Magnitudes) -> Images:
    """Return (1 + change) images - change others, cut off and rounded downwards.

    A product and a sum each on its own: fused, as they are on some machines, they
    would fall on the other side of a whole number now and then.
    """
    factors = 1.0 + changes
    own = images * _per_image(factors, images)
    return (own + others * _per_image(1.0 - factors, images)).clamp_(0, WHITE).floor_()


def _per_image(values: Magnitudes, images: Images) -> Float[Tensor, "n 1 1 1"]:
    ready = torch.from_numpy(np.asarray(values, np.float32)).to(images.device)
    return ready[:, None, None, None]
