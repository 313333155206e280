"""The shallow networks: their definition by hand, and their source's layers."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from repscope._checking import InputError
from repscope.models.backbones import Architecture, build

IMAGES = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def lively(depth):
    backbone = build(Architecture("shallow_conv", depth=depth), seed=depth)
    generator = torch.Generator().manual_seed(depth)
    for values in backbone.state_dict().values():
        if values.ndim == 1:
            values.copy_(torch.rand(values.shape, generator=generator) + 0.5)
    return backbone.eval()


def mean_of_cells(maps, rows, columns):
    """Return the mean of each cell of a grid that divides the map, in order."""
    height, width = maps.shape[2] // rows, maps.shape[3] // columns
    cells = [
        maps[:, :, r * height : (r + 1) * height, c * width : (c + 1) * width]
        for r in range(rows)
        for c in range(columns)
    ]
    return torch.stack([cell.sum(dim=(2, 3)) / (height * width) for cell in cells], 2)


@pytest.mark.parametrize(
    ("depth", "channels", "grid"),
    [(2, [16, 64], (4, 8)), (4, [16, 64, 256, 512], (2, 2))],
)
def test_the_network_is_its_definition(depth, channels, grid):
    backbone = lively(depth)
    state = backbone.state_dict()
    maps = IMAGES
    for number, count in enumerate(channels, start=1):
        names = [f"layer{number}.{place}" for place in (0, 1)]
        maps = functional.conv2d(
            maps, state[f"{names[0]}.weight"], state[f"{names[0]}.bias"], padding=1
        )
        assert maps.shape[1] == count
        mean, variance = (
            state[f"{names[1]}.running_{which}"][:, None, None]
            for which in ("mean", "var")
        )
        scale, shift = (
            state[f"{names[1]}.{which}"][:, None, None] for which in ("weight", "bias")
        )
        maps = ((maps - mean) / torch.sqrt(variance + 1e-5) * scale + shift).clamp(0)
        # the greatest of each 2x2 cell
        quarters = maps.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))
        maps = quarters.amax(dim=(3, 5))
    expected = mean_of_cells(maps, *grid).flatten(1)
    assert expected.shape == (3, 2048)
    # sums of up to 2,304 products in float32, in two ways
    torch.testing.assert_close(backbone(IMAGES), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("depth", [2, 4, 6, 8])
def test_only_the_first_four_layers_are_pooled(depth):
    backbone = build(Architecture("shallow_conv", depth=depth))
    pooled = [
        any(isinstance(part, nn.MaxPool2d) for part in backbone.get_submodule(name))
        for name in backbone.layer_names[:-1]
    ]
    assert pooled == [place < 4 for place in range(depth)]
    assert backbone(IMAGES).shape == (3, 2048)
    assert backbone.feature_dim == 2048


@pytest.mark.parametrize(("depth", "least"), [(2, 4), (4, 16), (6, 16)])
def test_images_that_vanish_are_refused(depth, least):
    backbone = build(Architecture("shallow_conv", depth=depth))
    assert backbone(IMAGES[..., :least, :least]).shape == (3, 2048)
    with pytest.raises(InputError, match=f"sides of {least} pixels or more"):
        backbone(IMAGES[..., : least - 1, :])
