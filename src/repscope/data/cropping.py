"""How is a box cut out of each image, resized without aliasing, a batch at a time?

Resampling is separable and linear: each image has one matrix of weights for its rows
and one for its columns, and two batched products apply them. A flip only reverses the
order of the columns' weights and so costs nothing.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional

from repscope.data.draws import Boxes
from repscope.data.operations import Interpolation, RandomCrop


def resized_crops(
    images: UInt8[Tensor, "n h w c"],
    boxes: Boxes,
    size: int,
    *,
    interpolation: Interpolation = "bilinear",
    flipped: Bool[np.ndarray, " n"] | None = None,
) -> Float[Tensor, "n c size size"]:
    """Return each image's box resized to a square, with values in [0, 1].

    Args:
        images: 0 to 255.
        boxes: one per image, inside it.
        size: side of the result, in pixels.
        interpolation: the kernel; it widens by the scale where it shrinks.
        flipped: which images to mirror.

    Source: torchvision.transforms.v2.functional.resized_crop with antialias=True, on
    float images.
    Differs from the source in that bicubic overshoot is cut off at 0 and 1. PIL, which
    the published protocols used, also cuts it off, and rounds, between the axes.
    """
    n, height, width, channels = images.shape
    placed = torch.from_numpy(
        np.array([boxes.top, boxes.height, boxes.left, boxes.width], np.float32)
    ).to(images.device)[:, :, None]
    rows = _weights(placed[0], placed[1], (height, size), interpolation)
    columns = _weights(placed[2], placed[3], (width, size), interpolation)
    if flipped is not None:
        which = torch.from_numpy(np.flatnonzero(flipped)).to(images.device)
        columns = columns.index_copy(0, which, columns[which].flip(1))
    planes = images.permute(0, 3, 1, 2).contiguous().float()
    # (n, c h, w) @ (n, w, size), then (n, 1, size, h) @ (n, c, h, size)
    narrowed = torch.bmm(planes.view(n, channels * height, width), columns.mT)
    narrowed = narrowed.view(n, channels, height, size)
    resized = torch.matmul((rows / 255)[:, None], narrowed)
    return resized.clamp_(0, 1) if interpolation == "bicubic" else resized


def padded_crops(
    images: UInt8[Tensor, "n h w c"],
    boxes: Boxes,
    crop: RandomCrop,
    *,
    flipped: Bool[np.ndarray, " n"] | None = None,
) -> Float[Tensor, "n c size size"]:
    """Return each image's box, with values in [0, 1], black where there is no image.

    Args:
        images: 0 to 255.
        boxes: one per image, inside it and its border.
        crop: side and border.
        flipped: which images to mirror.

    Source: torchvision.transforms.functional.pad and crop. As in the source.
    """
    device, size, border = images.device, crop.size, crop.padding
    steps = np.arange(size)
    across = np.broadcast_to(steps, (len(images), size))
    if flipped is not None:
        across = np.where(flipped[:, None], steps[::-1], steps)
    # (n, size, 1) and (n, 1, size): places in the image with its border
    rows = torch.from_numpy(boxes.top[:, None] + steps + border).to(device)[:, :, None]
    columns = torch.from_numpy(boxes.left[:, None] + across + border).to(device)[
        :, None
    ]
    which = torch.arange(len(images), device=device)[:, None, None]
    padded = functional.pad(images, (0, 0, border, border, border, border))
    cut = padded[which, rows, columns]
    return cut.permute(0, 3, 1, 2).contiguous().float().div_(255)


def _weights(
    starts: Float[Tensor, "n 1"],
    lengths: Float[Tensor, "n 1"],
    sides: tuple[int, int],
    interpolation: Interpolation,
) -> Float[Tensor, "n size pixels"]:
    """Return how much each pixel along an axis counts for each pixel of the result.

    Args:
        starts: where each box begins.
        lengths: of each box.
        sides: pixels of the image and of the result along the axis.
        interpolation: the kernel.
    """
    pixels, size = sides
    device = starts.device
    steps = torch.arange(size, device=device) + 0.5
    scales = lengths / size
    widening = scales.clamp(min=1)
    # Coordinates start at the box: what lies outside it does not exist.
    positions = torch.arange(pixels, device=device) - starts
    outside = (positions < 0) | (positions >= lengths)
    positions = ((positions + 0.5) / widening).masked_fill_(outside, torch.inf)
    centres = steps * (scales / widening)
    distances = (positions[:, None] - centres[:, :, None]).abs_()
    kernel = _triangle if interpolation == "bilinear" else _cubic
    weights = kernel(distances)
    return weights.div_(weights.sum(2, keepdim=True))


def _triangle(distances: Float[Tensor, "n i j"]) -> Float[Tensor, "n i j"]:
    return distances.neg_().add_(1).clamp_(min=0)


def _cubic(distances: Float[Tensor, "n i j"]) -> Float[Tensor, "n i j"]:
    """Return Keys's kernel with a = -1/2: 0 from 2 on.

    (1 - d) (2 - d)² / 2 holds from 1 to 2; below 1 comes (1 - d)² (2d - 1) on top. Each
    part is 0 where it ends, so that clamping the distance takes the place of a choice.
    """
    far = distances.clamp_(max=2)
    near = far.clamp(max=1)
    top = (1 - near).square_().mul_(near.mul_(2).sub_(1))
    return (2 - far).square_().mul_(far.neg_().add_(1)).mul_(0.5).add_(top)
