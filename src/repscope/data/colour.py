"""How do colours change: jitter in an order random per image, grey, solarised.

Brightness, contrast and saturation are blends of an image with black, with its mean
grey and with its grey; one formula does all three, with other numbers for each image.
"""

from itertools import permutations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from repscope.data.draws import JitterDraws
from repscope.data.operations import Hue

# ITU-R 601 to four digits, as torchvision has them; they add up to 0.9999.
LUMA = (0.2989, 0.587, 0.114)

_YIQ = np.array(
    [[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]]
)
# What a turn of the plane of I and Q does to red, green and blue: a part that is always
# there, one that goes with the angle's cosine, one with its sine.
_TURNING = [
    (np.linalg.inv(_YIQ) @ np.array(part) @ _YIQ).tolist()
    for part in (
        [[1, 0, 0], [0, 0, 0], [0, 0, 0]],
        [[0, 0, 0], [0, 1, 0], [0, 0, 1]],
        [[0, 0, 0], [0, 0, 1], [0, -1, 0]],
    )
]

_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = range(4)
_ORDERS = np.array(list(permutations(range(4))))


def luma(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 1 h w"]:
    """Return 0.2989 red + 0.587 green + 0.114 blue.

    Source: torchvision.transforms.v2.functional.rgb_to_grayscale. As in the source.
    """
    red, green, blue = images.split(1, 1)
    grey = red * LUMA[0]
    return grey.add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])


def jittered(
    images: Float[Tensor, "n 3 h w"], draws: JitterDraws, *, hue: Hue = "exact"
) -> Float[Tensor, "n 3 h w"]:
    """Return images with brightness, contrast, saturation and hue changed.

    Each image has its own factors and its own order, and is cut off at 0 and 1 after
    every change.

    Args:
        images: values in [0, 1].
        draws: factors and orders, one per image.
        hue: how the hue is shifted, as in `ColorJitter`.

    Source: torchvision.transforms.v2.ColorJitter and its functionals.
    As in the source.
    """
    orders = _ORDERS[draws.order]
    turn_of_hue = np.argmax(orders == _HUE, axis=1)
    # Sorted by when their hue is shifted, the images whose turn it is lie side by side.
    sequence = np.argsort(turn_of_hue, kind="stable")
    bounds = np.searchsorted(turn_of_hue[sequence], np.arange(5)).tolist()
    blends = _blends(orders, draws)[:, :, sequence, None, None, None]
    coefficients = torch.from_numpy(blends).to(images.device)
    turns = torch.from_numpy(draws.hue[sequence].astype(np.float32)).to(images.device)
    shift = shift_hue if hue == "exact" else turn_yiq

    work = images.index_select(0, torch.from_numpy(sequence).to(images.device))
    for turn in range(4):
        now = slice(bounds[turn], bounds[turn + 1])
        work[now] = shift(work[now], turns[now])
        if turn < 3:
            work = _blend(work, *coefficients[turn])
    return work.index_select(
        0, torch.from_numpy(np.argsort(sequence)).to(images.device)
    )


def _blends(
    orders: Int[np.ndarray, "n 4"], draws: JitterDraws
) -> Float[np.ndarray, "3 3 n"]:
    """Return the weights of image, grey and mean grey in each image's three blends."""
    kinds = orders[orders != _HUE].reshape(-1, 3).T
    factors = np.choose(kinds, [draws.brightness, draws.contrast, draws.saturation])
    rest = 1 - factors
    weights = (factors, rest * (kinds == _SATURATION), rest * (kinds == _CONTRAST))
    return np.stack(weights, axis=1).astype(np.float32)


def _blend(
    images: Float[Tensor, "n 3 h w"],
    of_image: Float[Tensor, "n 1 1 1"],
    of_grey: Float[Tensor, "n 1 1 1"],
    of_mean: Float[Tensor, "n 1 1 1"],
) -> Float[Tensor, "n 3 h w"]:
    """Return a weighted sum of each image, its grey and its mean grey, in [0, 1]."""
    grey = luma(images)
    # Summed row by row, so that neither the batch nor threads decide the rounding.
    mean = grey.sum(3, keepdim=True).sum(2, keepdim=True) / grey[0].numel()
    target = grey.mul_(of_grey).add_(mean.mul_(of_mean))
    return torch.addcmul(target, images, of_image).clamp_(0, 1)


def shift_hue(
    images: Float[Tensor, "n 3 h w"], turns: Float[Tensor, " n"]
) -> Float[Tensor, "n 3 h w"]:
    """Return images with the hue of HSV shifted; value and saturation stay.

    With V and m the largest and the least channel, C = V - m and the hue H in sixths
    of a turn, a channel is V - C clamp(2 - |k - 2|, 0, 1), k = (H + o + 6 turns) mod 6
    and o = 5, 3, 1 for red, green, blue. Here everything is kept multiplied by C, so
    that no pixel is divided, none chosen, and grey needs no exception.

    Args:
        images: values in [0, 1].
        turns: one shift per image, in [-0.5, 0.5].

    Source: torchvision.transforms.v2.functional.adjust_hue. As in the source, up to
    rounding.
    """
    red, green, blue = images.split(1, 1)
    value, least = images.amax(1, keepdim=True), images.amin(1, keepdim=True)
    chroma = value - least
    # Distance of the hue from red, times C: 0 to 3 C, either way round the circle.
    hue = (green + blue).sub_(red).add_(value).sub_(least, alpha=2)
    hue.copysign_(green - blue)
    # From 0 to 6, minus the half turn of the fold below.
    offsets = images.new_tensor([3.0, 1.0, -1.0]) + 6 * turns[:, None]
    offsets = offsets.remainder_(6).sub_(3)[:, :, None, None]
    # Folded twice, this is the distance round the circle from the opposite colour.
    shifted = torch.addcmul(hue, offsets, chroma).abs_()
    shifted.sub_(3 * chroma).abs_().add_(least - chroma)
    return torch.clamp(shifted, least, value)


def turn_yiq(
    images: Float[Tensor, "n 3 h w"], turns: Float[Tensor, " n"]
) -> Float[Tensor, "n 3 h w"]:
    """Return images with the colour plane of YIQ turned, within [0, 1].

    One product per pixel; luma stays, value and saturation do not quite.

    Args:
        images: values in [0, 1].
        turns: one angle per image, in full turns; red turns towards yellow.

    Source: the NTSC colour space; a cheaper stand-in for `shift_hue`.
    """
    angles = (2 * torch.pi * turns)[:, None, None]
    still, cosine, sine = images.new_tensor(_TURNING)
    matrices = still + cosine * angles.cos() + sine * angles.sin()
    return torch.bmm(matrices, images.flatten(2)).view_as(images).clamp_(0, 1)


def solarized(
    images: Float[Tensor, "n c h w"], threshold: float
) -> Float[Tensor, "n c h w"]:
    """Return images with values at or above the threshold inverted.

    Args:
        images: values in [0, 1].
        threshold: in [0, 1].

    Source: torchvision.transforms.v2.functional.solarize. As in the source.
    """
    # torch.where takes ten times as long on a CPU: |x - 1| is 1 - x, and |x - 0| is x.
    below = float(np.nextafter(np.float32(threshold), np.float32(-1)))
    at_least = (images - below).sign_().clamp_(min=0)
    return at_least.neg_().add_(images).abs_()
