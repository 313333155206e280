"""VGG-11, 13 and 16 with batch normalisation, numbered as torchvision numbers them.

A state dictionary of torchvision's `vgg11_bn` and so on fits, its "features" being the
"convolutions" here, but for its "classifier", which these have not.
"""

from typing import final

from jaxtyping import Float
from torch import Tensor, nn

from repscope.models.abstract_backbone import (
    REPRESENTATION,
    Backbone,
    check_least_side,
)
from repscope.models.architecture import Architecture

# Channels of each stage as multiples of the width.
_STAGES = (1, 2, 4, 8, 8)
# Before the last convolution sides are halved four times.
LEAST_SIDE = 16


@final
class VGG(Backbone):
    """3x3 convolutions with BN and ReLU in five stages, max-pooling between them.

    Stages have w, 2w, 4w, 8w and 8w channels; h is the mean over the positions of the
    last convolution's maps, 512 values at the default w = 64. The layers are the
    outputs of the ReLUs, and h. Convolutions have biases, though BN follows.

    Source: Simonyan, Zisserman 2015, "Very Deep Convolutional Networks", table 1, A, B
    and D; torchvision, `vgg.py`. Differs from the source in the mean over positions in
    place of the last max-pooling and of the classifier: images of 32x32 end as 2x2
    maps, of 16x16 as one value per channel.

    Raises:
        InputError: in `forward`, for images of less than 16 pixels.
    """

    nonnegative = True

    def __init__(self, architecture: Architecture, counts: tuple[int, ...]) -> None:
        super().__init__()
        self.architecture = architecture
        width, inputs = architecture.width or 0, architecture.channels
        parts: list[nn.Module] = []
        outputs = []
        for stage, (count, multiple) in enumerate(zip(counts, _STAGES, strict=True)):
            if stage:
                parts.append(nn.MaxPool2d(2, 2))
            for _ in range(count):
                parts.append(nn.Conv2d(inputs, multiple * width, 3, padding=1))
                parts += [nn.BatchNorm2d(multiple * width), nn.ReLU()]
                outputs.append(f"convolutions.{len(parts) - 1}")
                inputs = multiple * width
        self.convolutions = nn.Sequential(*parts)
        self.layer_names = (*outputs, REPRESENTATION)
        self.feature_dim = inputs

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Return h, non-negative."""
        check_least_side(self.architecture.name, images, LEAST_SIDE)
        return self.convolutions(images).mean(dim=(2, 3))


def vgg11(architecture: Architecture) -> VGG:
    """Return a network of 8 convolutions; h has 8 times the width."""
    return VGG(architecture, (1, 1, 2, 2, 2))


def vgg13(architecture: Architecture) -> VGG:
    """Return one of 10 convolutions."""
    return VGG(architecture, (2, 2, 2, 2, 2))


def vgg16(architecture: Architecture) -> VGG:
    """Return one of 13 convolutions."""
    return VGG(architecture, (2, 2, 3, 3, 3))
