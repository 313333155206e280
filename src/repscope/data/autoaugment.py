"""Which pairs of operations are AutoAugment's policy, how often and how strongly?

Each image has a pair of its own, drawn in `repscope.data.draws`; of each pair, either
operation may be left out.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from repscope.data.operations import Policy

# What a step is: operation, probability, and which of ten magnitudes; None for none.
Step = tuple[str, float, int | None]
POLICY_TABLES: dict[Policy, tuple[tuple[Step, Step], ...]] = {
    "cifar10": (
        (("Invert", 0.1, None), ("Contrast", 0.2, 6)),
        (("Rotate", 0.7, 2), ("TranslateX", 0.3, 9)),
        (("Sharpness", 0.8, 1), ("Sharpness", 0.9, 3)),
        (("ShearY", 0.5, 8), ("TranslateY", 0.7, 9)),
        (("AutoContrast", 0.5, None), ("Equalize", 0.9, None)),
        (("ShearY", 0.2, 7), ("Posterize", 0.3, 7)),
        (("Color", 0.4, 3), ("Brightness", 0.6, 7)),
        (("Sharpness", 0.3, 9), ("Brightness", 0.7, 9)),
        (("Equalize", 0.6, None), ("Equalize", 0.5, None)),
        (("Contrast", 0.6, 7), ("Sharpness", 0.6, 5)),
        (("Color", 0.7, 7), ("TranslateX", 0.5, 8)),
        (("Equalize", 0.3, None), ("AutoContrast", 0.4, None)),
        (("TranslateY", 0.4, 3), ("Sharpness", 0.2, 6)),
        (("Brightness", 0.9, 6), ("Color", 0.2, 8)),
        (("Solarize", 0.5, 2), ("Invert", 0.0, None)),
        (("Equalize", 0.2, None), ("AutoContrast", 0.6, None)),
        (("Equalize", 0.2, None), ("Equalize", 0.6, None)),
        (("Color", 0.9, 9), ("Equalize", 0.6, None)),
        (("AutoContrast", 0.8, None), ("Solarize", 0.2, 8)),
        (("Brightness", 0.1, 3), ("Color", 0.7, 0)),
        (("Solarize", 0.4, 5), ("AutoContrast", 0.9, None)),
        (("TranslateY", 0.9, 9), ("TranslateY", 0.7, 9)),
        (("AutoContrast", 0.9, None), ("Solarize", 0.8, 3)),
        (("Equalize", 0.8, None), ("Invert", 0.1, None)),
        (("TranslateY", 0.7, 9), ("AutoContrast", 0.9, None)),
    ),
}
MAGNITUDES = 10
# Of the side, as 150 pixels are of the 331 that the policy for ImageNet was found with.
_LARGEST_SHIFT = 150 / 331
# The order gives each operation its number in `PolicyDraws`; the first nine have a
# magnitude that is as likely negative.
OPERATIONS = (
    *("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"),
    *("Brightness", "Color", "Contrast", "Sharpness"),
    *("Posterize", "Solarize", "AutoContrast", "Equalize", "Invert"),
)
SIGNED = frozenset(OPERATIONS[:9])
LEFT_OUT = -1


@dataclass(frozen=True, eq=False)
class PolicyDraws:
    """What a policy does to each image, first and second.

    Args:
        operations: rows of `OPERATIONS`; -1 where nothing is done.
        magnitudes: with their sign, in the unit of the operation; 0 where it has none.
    """

    operations: Int[np.ndarray, "n 2"]
    magnitudes: Float[np.ndarray, "n 2"]


def magnitudes_of(operation: str, height: int, width: int) -> tuple[float, ...]:
    """Return the ten magnitudes of an operation, of one that has none ten zeros.

    Shears in pixels for each pixel, translations in pixels, rotations in degrees,
    changes of a factor that is 1, bits for "Posterize", and for "Solarize" the level
    from which on pixels are inverted.

    Args:
        operation: one of `OPERATIONS`.
        height: of the images, in pixels.
        width: of the images, in pixels.

    Source: torchvision.transforms.AutoAugment, rounded to float32 as there.
    As in the source.
    """
    largest = {
        "ShearX": 0.3,
        "ShearY": 0.3,
        "TranslateX": _LARGEST_SHIFT * width,
        "TranslateY": _LARGEST_SHIFT * height,
        "Rotate": 30.0,
    }
    match operation:
        case "Posterize":
            bits = 8 - np.rint(np.arange(MAGNITUDES) * 4 / (MAGNITUDES - 1))
            return tuple(bits.tolist())
        case "Solarize":
            return tuple(torch.linspace(255, 0, MAGNITUDES).tolist())
        case "AutoContrast" | "Equalize" | "Invert":
            return (0.0,) * MAGNITUDES
    return tuple(torch.linspace(0, largest.get(operation, 0.9), MAGNITUDES).tolist())
