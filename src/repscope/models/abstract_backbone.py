"""What every backbone of ours answers: its layers, its width, its features."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from repscope._checking import check_choice
from repscope.models.architecture import Architecture
from repscope.models.layer_outputs import WHOLE_MODULE, Pool, listed, pooled_outputs

# The name of the representation: what the backbone returns.
REPRESENTATION = "h"


class Backbone(nn.Module, ABC):
    """Images to a representation h, one vector per image.

    Each layer name but the last, "h", is also the path of the submodule whose output
    the layer is. All parameters are drawn by `repscope.models.backbones.build`.
    """

    architecture: Architecture
    feature_dim: int
    layer_names: tuple[str, ...]
    nonnegative: bool

    @abstractmethod
    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Return the representation h of each image."""

    @property
    def layer_paths(self) -> dict[str, str]:
        """Return each layer's path in the module, shallow to deep."""
        paths = {name: name for name in self.layer_names}
        return paths | {REPRESENTATION: WHOLE_MODULE}

    def features(
        self,
        images: Float[Tensor, "n c h w"],
        layers: Sequence[str],
        pool: Pool = "gap",
    ) -> dict[str, Float[Tensor, "n _"]]:
        """Return the pooled output of each layer, all from one forward pass.

        Args:
            images: normalised.
            layers: some of `layer_names`.
            pool: how a layer's map becomes a vector; h is one already.

        Raises:
            UsageError: for an unknown layer, or a pooling that does not fit a layer.
        """
        for layer in listed(layers):
            check_choice("layer", layer, self.layer_names)
        paths = {layer: self.layer_paths[layer] for layer in layers}
        return pooled_outputs(self, images, paths, pool)
