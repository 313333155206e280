"""What every backbone of ours answers: its layers, its width, its features."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from repscope._checking import InputError, check_choice
from repscope.models.architecture import Architecture
from repscope.models.layer_outputs import WHOLE_MODULE, Pool, listed, pooled_outputs

# The name of the representation: what the backbone returns.
REPRESENTATION = "h"


class Backbone(nn.Module, ABC):
    """Images to a representation h, one vector per image.

    Each layer name but the last, "h", is also the path of the submodule whose output
    the layer is. All parameters are drawn by `repscope.models.backbones.build`.
    `nonnegative` says whether h cannot be negative, `pool` what makes a vector of the
    output of a layer: the mean over positions unless it says otherwise.
    """

    architecture: Architecture
    feature_dim: int
    layer_names: tuple[str, ...]
    nonnegative: bool
    pool: Pool = "gap"

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
        pool: Pool | None = None,
    ) -> dict[str, Float[Tensor, "n _"]]:
        """Return the pooled output of each layer, all from one forward pass.

        Args:
            images: normalised.
            layers: some of `layer_names`.
            pool: how a layer's maps or tokens become a vector; None is the backbone's
                own. h is a vector already.

        Raises:
            UsageError: for an unknown layer, or a pooling that does not fit a layer.
        """
        for layer in listed(layers):
            check_choice("layer", layer, self.layer_names)
        paths = {layer: self.layer_paths[layer] for layer in layers}
        return pooled_outputs(self, images, paths, pool or self.pool)


def check_least_side(name: str, images: Float[Tensor, "n c h w"], least: int) -> None:
    """Raise InputError for images that vanish in the poolings of a backbone.

    Args:
        name: of the backbone.
        images: as it is given them.
        least: side in pixels from which something is left.

    Raises:
        InputError: where a side is shorter.
    """
    height, width = images.shape[2:]
    if min(height, width) < least:
        raise InputError(
            f"{name}: images of {height}x{width} pixels are too small",
            expected=f"sides of {least} pixels or more",
            fix="take larger images (data.size), or the backbone small_conv",
        )


def check_exact_side(name: str, images: Float[Tensor, "n c h w"], side: int) -> None:
    """Raise InputError for images of another size than the weights are made for.

    Args:
        name: of the backbone.
        images: as it is given them.
        side: of the images in pixels.

    Raises:
        InputError: where a side is another.
    """
    height, width = images.shape[2:]
    if (height, width) != (side, side):
        raise InputError(
            f"{name}: images of {height}x{width} pixels",
            expected=f"{side}x{side}, as its weights are made for",
            fix=f"fit the images to {side} pixels, or build it with size={height}",
        )
