"""Small backbones of plain convolutions: for digits, CIFAR and quick experiments."""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from repscope.models.abstract_backbone import REPRESENTATION, Backbone
from repscope.models.architecture import Architecture


class ConvolutionBlock(nn.Module):
    """A convolution without bias, batch normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        padding = (kernel - 1) // 2
        self.conv = nn.Conv2d(
            inputs, outputs, kernel, stride=stride, padding=padding, bias=False
        )
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d y x"]:
        """Return non-negative maps."""
        return torch.relu(self.bn(self.conv(maps)))


class ResidualBlock(nn.Module):
    """ReLU(maps + BN(conv(ReLU(BN(conv(maps)))))), both convolutions 3x3."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Return maps of the same shape, non-negative."""
        inner = torch.relu(self.bn1(self.conv1(maps)))
        return torch.relu(maps + self.bn2(self.conv2(inner)))


@final
class SmallConv(Backbone):
    """Four 3x3 convolutions of w, 2w, 4w and 4w channels, BN and ReLU; then the mean.

    All but the last have stride 2: images of 32x32 end as 4x4 maps, of 16x16 as 2x2.
    The default w = 32 gives 241,184 parameters for 3 channels. With the stride in the
    first convolution a step takes a fifth of the time that it takes without.
    """

    nonnegative = True

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        width = architecture.width or 0
        widths = [architecture.channels, width, 2 * width, 4 * width, 4 * width]
        self.block1 = ConvolutionBlock(widths[0], widths[1], kernel=3, stride=2)
        self.block2 = ConvolutionBlock(widths[1], widths[2], kernel=3, stride=2)
        self.block3 = ConvolutionBlock(widths[2], widths[3], kernel=3, stride=2)
        self.block4 = ConvolutionBlock(widths[3], widths[4], kernel=3, stride=1)
        self.layer_names = ("block1", "block2", "block3", "block4", REPRESENTATION)
        self.feature_dim = widths[4]

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Return h, non-negative."""
        maps = self.block4(self.block3(self.block2(self.block1(images))))
        return maps.mean(dim=(2, 3))


@final
class ResLH(Backbone):
    """RES-L-H: two 2x2 convolutions of stride 2, then L residual blocks of H channels.

    Images of 32x32 give 8x8 maps, of 16x16 4x4. The two stems have BN and ReLU.

    Source: the layer-wise study of VICReg (RES-L-H, L in {5, 10}, H in {50, 250,
    1000}). Differs from the source in nothing that is printed there; the pooling after
    the last block is not, and is the mean over positions here (`pool="flatten"` of the
    last block gives the other reading). Convolutions that BN follows have no bias.
    """

    nonnegative = True

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        depth, width = architecture.depth or 0, architecture.width or 0
        self.stem1 = ConvolutionBlock(architecture.channels, width, kernel=2, stride=2)
        self.stem2 = ConvolutionBlock(width, width, kernel=2, stride=2)
        names = [f"block{number}" for number in range(1, depth + 1)]
        for name in names:
            self.add_module(name, ResidualBlock(width))
        self.layer_names = (*names, REPRESENTATION)
        self.feature_dim = width

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Return h, non-negative."""
        maps = self.stem2(self.stem1(images))
        for name in self.layer_names[:-1]:
            maps = self.get_submodule(name)(maps)
        return maps.mean(dim=(2, 3))


@final
class RandBitConv(Backbone):
    """Three 3x3 convolutions of stride 2 (32, 64, 64), then a dense layer of 128.

    BN and ReLU follow each. h is the output of the dense layer.

    Source: Chen, Luo, Li 2021, "Intriguing Properties of Contrastive Losses", the
    network of their RandBit notebook on MNIST (28x28, 4x4 maps before the dense layer).
    Differs from the source in that the maps are brought to 4x4 by adaptive mean pooling
    where images are smaller than 25 or larger than 32 pixels, and in that padding is
    the same on all sides.
    """

    nonnegative = True
    _side, _dense = 4, 128

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.block1 = ConvolutionBlock(architecture.channels, 32, kernel=3, stride=2)
        self.block2 = ConvolutionBlock(32, 64, kernel=3, stride=2)
        self.block3 = ConvolutionBlock(64, 64, kernel=3, stride=2)
        self.side = nn.AdaptiveAvgPool2d(self._side)
        self.dense = nn.Linear(64 * self._side**2, self._dense, bias=False)
        self.bn = nn.BatchNorm1d(self._dense)
        self.layer_names = ("block1", "block2", "block3", REPRESENTATION)
        self.feature_dim = self._dense

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Return h, non-negative."""
        maps = self.side(self.block3(self.block2(self.block1(images))))
        return torch.relu(self.bn(self.dense(maps.flatten(1))))
