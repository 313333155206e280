"""What does a batch become under AutoAugment's policy?

The images that one operation concerns are changed at once, each with its own magnitude.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from repscope.data import geometry_operations as geometry
from repscope.data import level_operations as level
from repscope.data.autoaugment import LEFT_OUT, OPERATIONS, PolicyDraws

_CHANGES: dict[str, Callable[[Tensor, np.ndarray], Tensor]] = {
    "ShearX": geometry.sheared_x,
    "ShearY": geometry.sheared_y,
    "TranslateX": geometry.translated_x,
    "TranslateY": geometry.translated_y,
    "Rotate": geometry.rotated,
    "Brightness": level.brightened,
    "Color": level.saturated,
    "Contrast": level.contrasted,
    "Sharpness": level.sharpened,
    "Posterize": level.posterized,
    "Solarize": level.solarized,
    "AutoContrast": level.autocontrasted,
    "Equalize": level.equalized,
    "Invert": level.inverted,
}


def autoaugmented(
    images: Float[Tensor, "n c h w"], draws: PolicyDraws
) -> Float[Tensor, "n c h w"]:
    """Return images, rounded to whole levels, after both of their operations.

    Args:
        images: values in [0, 1].
        draws: one pair per image.

    Source: Cubuk et al. 2019, Table 7; torchvision.transforms.AutoAugment, on uint8.
    As in the source for levels, and for geometry as the source is on Pillow's images.
    Differs from the authors' code, tensorflow/models/research/autoaugment, as
    torchvision does: that one has 95 pairs for CIFAR, shifts by at most 10 pixels,
    fills with the mean colour, and crops, flips and cuts out afterwards.
    """
    levels = (images * level.WHITE).round_()
    for turn in range(draws.operations.shape[1]):
        now = draws.operations[:, turn]
        for operation in np.unique(now[now != LEFT_OUT]).tolist():
            which = np.flatnonzero(now == operation)
            rows = torch.from_numpy(which).to(images.device)
            change = _CHANGES[OPERATIONS[operation]]
            changed = change(
                levels.index_select(0, rows), draws.magnitudes[which, turn]
            )
            levels.index_copy_(0, rows, changed)
    return levels.div_(level.WHITE)
