"""How do images become random views, a batch at a time and on any device?

Every image has its own parameters, drawn from its key on the host; the pixels never
leave their device.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8, UInt64
from torch import Tensor

from repscope._checking import InputError, UsageError
from repscope._randomness import Purpose, sample_keys
from repscope.data.blur import blurred
from repscope.data.colour import jittered, luma, solarized
from repscope.data.cropping import padded_crops, resized_crops
from repscope.data.draws import Parameters, draw_parameters, rows_of
from repscope.data.operations import (
    AutoAugment,
    ColorJitter,
    GaussianBlur,
    Grayscale,
    HorizontalFlip,
    Normalize,
    Operation,
    RandomCrop,
    RandomResizedCrop,
    Solarize,
)
from repscope.data.policy_operations import autoaugmented
from repscope.data.protocols import Protocol

# On a CPU, blocks of 128 images of 32 x 32 pixels are fastest: what they need stays in
# the cache, and is allocated without asking the system for memory.
_BLOCK_VALUES = 128 * 32 * 32 * 3


def views(
    images: UInt8[Tensor, "n h w c"],
    protocol: Protocol,
    *,
    samples: UInt64[np.ndarray, " n"],
    seed: int,
    epoch: int,
    count: int | None = None,
) -> tuple[Float[Tensor, "n c rows columns"], ...]:
    """Return the random views of each image that a protocol asks for.

    A view depends on the image, the protocol, seed, epoch, sample and its own number
    alone: how many are made changes none of them. Views may differ in size.

    Args:
        images: 0 to 255, on the device where the views are wanted.
        protocol: what to do for each view.
        samples: a code of each image, such as `hash_ids` gives.
        seed: of the run.
        epoch: counted from 0.
        count: how many views, the first of the protocol; all by default.

    Raises:
        InputError: as `augment`.
        UsageError: as `augment`, or where there are not as many views.
    """
    return tuple(
        augment(images, operations, _keys(samples, seed, epoch, view))
        for view, operations in enumerate(protocol.first(count))
    )


def views_of_crops(
    crops: Sequence[UInt8[Tensor, "n _ _ c"]],
    protocol: Protocol,
    *,
    samples: UInt64[np.ndarray, " n"],
    seed: int,
    epoch: int,
) -> tuple[Float[Tensor, "n c _ _"], ...]:
    """Return the random views of images whose crops are cut out and resized already.

    All but the crop is done to them, with the draws that `views` would make.

    Args:
        crops: those of the first views of the protocol, from `read_crops` with the same
            samples, seed and epoch.
        protocol: what to do for each view, the crop first.
        samples: a code of each image.
        seed: of the run.
        epoch: counted from 0.

    Raises:
        InputError: as `augment`.
        UsageError: as `augment`, or where there are not as many views.
    """
    return tuple(
        augment(crop, operations[1:], _keys(samples, seed, epoch, view))
        for view, (crop, operations) in enumerate(
            zip(crops, protocol.first(len(crops)), strict=True)
        )
    )


def _keys(
    samples: UInt64[np.ndarray, " n"], seed: int, epoch: int, view: int
) -> UInt64[np.ndarray, " n"]:
    return sample_keys(Purpose.AUGMENTATION, seed, samples, epoch=epoch, view=view)


def augment(
    images: UInt8[Tensor, "n h w c"],
    operations: Sequence[Operation],
    keys: UInt64[np.ndarray, " n"],
) -> Float[Tensor, "n c rows columns"]:
    """Return one random view of each image.

    An image's view depends on its pixels, its key and the operations alone. Operations
    on colour leave images of one channel as they are.

    Args:
        images: 0 to 255, with 1 or 3 channels, on any device.
        operations: in their order; each kind at most once.
        keys: one per image, of `sample_keys`.

    Returns:
        Squares of the crop's size, or images of the size they had; values in [0, 1]
        unless `operations` normalise.

    Raises:
        InputError: where there are neither 1 nor 3 channels, or not as many as there
            are means, or images are smaller than a crop that does not resize.
        UsageError: where an operation comes twice, the crop not first, the
            normalisation not last, or a flip after AutoAugment.
    """
    _check(images, operations)
    n, height, width, channels = images.shape
    parameters = draw_parameters(keys, operations, height, width)
    block = max(1, _BLOCK_VALUES // (height * width * channels))
    # Half precision, where a training step asks for it, is not for pixels.
    with torch.autocast(images.device.type, enabled=False):
        if images.device.type != "cpu" or n <= block:
            return _view(images, operations, parameters)
        slices = (slice(start, start + block) for start in range(0, n, block))
        return torch.cat(
            [_view(images[one], operations, rows_of(parameters, one)) for one in slices]
        )


def _check(images: Tensor, operations: Sequence[Operation]) -> None:
    channels = images.shape[3]
    if channels not in (1, 3):
        raise InputError(
            "images: operations on colour need grey or RGB images",
            found=f"{channels} channels",
            expected="1 or 3",
            fix="append further channels after the augmentation",
        )
    kinds = [type(operation) for operation in operations]
    if len(set(kinds)) < len(kinds):
        raise UsageError("operations: each kind may come once in a view")
    if RandomResizedCrop in kinds[1:] or RandomCrop in kinds[1:]:
        raise UsageError("operations: the crop must come first")
    if AutoAugment in kinds and HorizontalFlip in kinds[kinds.index(AutoAugment) :]:
        raise UsageError("operations: the flip must come before AutoAugment")
    if Normalize in kinds[:-1]:
        raise UsageError("operations: the normalisation must come last")
    for operation in operations:
        if isinstance(operation, Normalize) and len(operation.mean) != channels:
            raise InputError(
                "mean and std: one per channel of the images is needed",
                found=f"{len(operation.mean)} for {channels} channels",
                fix="pass mean and std of these images to protocol()",
            )


def _view(
    images: UInt8[Tensor, "n h w c"],
    operations: Sequence[Operation],
    parameters: Parameters,
) -> Float[Tensor, "n c rows columns"]:
    boxes, flipped = parameters.boxes, parameters.flipped
    # A flip commutes with all that may lie between it and a crop, which does it for
    # nothing.
    match operations[0] if operations else None:
        case RandomResizedCrop(size, interpolation=interpolation):
            work = resized_crops(
                images, boxes, size, interpolation=interpolation, flipped=flipped
            )
        case RandomCrop() as crop:
            work = padded_crops(images, boxes, crop, flipped=flipped)
        case _:
            work = images.permute(0, 3, 1, 2).contiguous().float().div_(255)
            _change_(work, flipped, lambda some: some.flip(3))
    for operation in operations:
        _apply_(work, operation, parameters)
    return work


def _apply_(
    images: Float[Tensor, "n c h w"], operation: Operation, parameters: Parameters
) -> None:
    """Change the images in place."""
    coloured = images.shape[1] == 3
    match operation:
        case ColorJitter() if coloured:
            draws = rows_of(parameters.jitter, parameters.jittered)
            _change_(
                images,
                parameters.jittered,
                lambda some: jittered(some, draws, hue=operation.hue_method),
            )
        case Grayscale() if coloured:
            _change_(images, parameters.greyed, lambda some: luma(some).expand_as(some))
        case GaussianBlur():
            sigma = parameters.sigma[parameters.blurred]
            _change_(
                images,
                parameters.blurred,
                lambda some: blurred(some, sigma, operation.kernel),
            )
        case Solarize():
            _change_(
                images,
                parameters.solarised,
                lambda some: solarized(some, operation.threshold),
            )
        case AutoAugment() if parameters.policy is not None:
            images.copy_(autoaugmented(images, parameters.policy))
        case Normalize():
            mean, std = (
                images.new_tensor(values)[:, None, None]
                for values in (operation.mean, operation.std)
            )
            images.sub_(mean).div_(std)


def _change_(
    images: Float[Tensor, "n c h w"],
    chosen: Bool[np.ndarray, " n"],
    change: Callable[[Tensor], Tensor],
) -> None:
    """Change those images in place that are chosen; the others cost nothing."""
    if chosen.any():
        which = torch.from_numpy(np.flatnonzero(chosen)).to(images.device)
        images.index_copy_(0, which, change(images.index_select(0, which)))
