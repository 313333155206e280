"""Shallow networks of plain convolutions, for studies of spectra against depth."""

from typing import final

from jaxtyping import Float
from torch import Tensor, nn

from repscope.models.abstract_backbone import (
    REPRESENTATION,
    Backbone,
    check_least_side,
)
from repscope.models.architecture import Architecture

DEPTHS = (2, 4, 6, 8)
# Channels of the first layer; each layer has four times as many, up to the last.
_FIRST, _GROWTH, _MOST = 16, 4, 512
# Layers with a max-pooling.
_POOLED = 4
_FEATURES = 2048


@final
class ShallowConv(Backbone):
    """3x3 convolutions of 16, 64, 256, 512, 512, ... channels, with BN and ReLU.

    A 2x2 max-pooling follows each of the first four. h is the last map, brought to
    2x2 positions (4x8 where depth is 2 and there are 64 channels) by adaptive mean
    pooling and laid out in a row: 2,048 values.

    Source: kumarkrishna/fastssl (alpha-ReQ), `fastssl/models/backbone.py`,
    `_shallowConvmod`. Differs from the source in the number of features: it declares
    2,048, but its side of the last pooling, floor(sqrt(1024 / channels)), makes 1,024
    of depth 2 and 512 of the others.

    Raises:
        InputError: in `forward`, for images that the poolings leave nothing of: less
            than 16 pixels, or 4 where depth is 2.
    """

    nonnegative = True

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        depth, inputs = architecture.depth or 0, architecture.channels
        names = [f"layer{number}" for number in range(1, depth + 1)]
        for place, name in enumerate(names):
            outputs = min(_FIRST * _GROWTH**place, _MOST)
            self.add_module(name, _layer(inputs, outputs, is_pooled=place < _POOLED))
            inputs = outputs
        cells = _FEATURES // inputs
        rows = 2 ** ((cells.bit_length() - 1) // 2)
        self.grid = nn.AdaptiveAvgPool2d((rows, cells // rows))
        self.least_side = 2 ** min(depth, _POOLED)
        self.layer_names = (*names, REPRESENTATION)
        self.feature_dim = _FEATURES

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Return h, non-negative."""
        check_least_side(self.architecture.name, images, self.least_side)
        maps = images
        for name in self.layer_names[:-1]:
            maps = self.get_submodule(name)(maps)
        return self.grid(maps).flatten(1)


def _layer(inputs: int, outputs: int, *, is_pooled: bool) -> nn.Sequential:
    parts = [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs)]
    return nn.Sequential(*parts, nn.ReLU(), *([nn.MaxPool2d(2)] if is_pooled else []))
