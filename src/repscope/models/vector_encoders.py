"""Images as plain vectors: a matrix, or a perceptron, and no convolution.

The linear encoder is the one that theory speaks of.
"""

import itertools
from typing import final

from jaxtyping import Float
from torch import Tensor, nn

from repscope.models.abstract_backbone import (
    REPRESENTATION,
    Backbone,
    check_exact_side,
)
from repscope.models.architecture import Architecture


@final
class LinearEncoder(Backbone):
    """h = W x, x being all values of the image, channel by channel; no bias.

    Source: Xue et al. 2023, "Which Features are Learnt by Contrastive Learning?", the
    model of its theory. As in the source.

    Raises:
        InputError: in `forward`, for images of another size.
    """

    nonnegative = False

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.side, self.feature_dim = architecture.size or 0, architecture.width or 0
        inputs = architecture.channels * self.side**2
        self.linear = nn.Linear(inputs, self.feature_dim, bias=False)
        self.layer_names = (REPRESENTATION,)

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Return h, of either sign."""
        check_exact_side(self.architecture.name, images, self.side)
        return self.linear(images.flatten(1))


@final
class MLPEncoder(Backbone):
    """A perceptron of the image's values: hidden layers with ReLU, then a linear one.

    All layers have biases and none has normalisation. The layers are the hidden ones,
    after the ReLU, and h.

    Raises:
        InputError: in `forward`, for images of another size.
    """

    nonnegative = False

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.side, self.feature_dim = architecture.size or 0, architecture.width or 0
        widths = [architecture.channels * self.side**2, *(architecture.hidden or ())]
        names = [f"layer{number}" for number in range(1, len(widths))]
        for name, (inputs, outputs) in zip(
            names, itertools.pairwise(widths), strict=True
        ):
            self.add_module(name, nn.Sequential(nn.Linear(inputs, outputs), nn.ReLU()))
        self.last = nn.Linear(widths[-1], self.feature_dim)
        self.layer_names = (*names, REPRESENTATION)

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Return h, of either sign."""
        check_exact_side(self.architecture.name, images, self.side)
        features = images.flatten(1)
        for name in self.layer_names[:-1]:
            features = self.get_submodule(name)(features)
        return self.last(features)
