"""ResNet-18 and ResNet-50 with the parameter names of torchvision.

A state dictionary of torchvision fits the imagenet stem, but for its classifier "fc",
which these have not.
"""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from repscope.models.abstract_backbone import REPRESENTATION, Backbone
from repscope.models.architecture import Architecture

STAGES = 4


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and the way around them."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(inputs, width * self.expansion, stride)

    def forward(self, maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d y x"]:
        """Return non-negative maps."""
        inner = torch.relu(self.bn1(self.conv1(maps)))
        inner = self.bn2(self.conv2(inner))
        around = maps if self.downsample is None else self.downsample(maps)
        return torch.relu(inner + around)


class BottleneckBlock(nn.Module):
    """Convolutions 1x1, 3x3 and 1x1 and the way around them; stride in the 3x3 one.

    Differs from the source (He et al. 2016), which has the stride in the first, as
    torchvision does.
    """

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = _shortcut(inputs, outputs, stride)

    def forward(self, maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d y x"]:
        """Return non-negative maps."""
        inner = torch.relu(self.bn1(self.conv1(maps)))
        inner = torch.relu(self.bn2(self.conv2(inner)))
        inner = self.bn3(self.conv3(inner))
        around = maps if self.downsample is None else self.downsample(maps)
        return torch.relu(inner + around)


Block = type[BasicBlock] | type[BottleneckBlock]


@final
class ResNet(Backbone):
    """A residual network of four stages, then the mean over positions.

    The imagenet stem is a 7x7 convolution of stride 2 and a 3x3 max-pooling of stride
    2; the cifar stem a 3x3 convolution of stride 1 alone. The layers are the outputs of
    the blocks and h.

    Source: He, Zhang, Ren, Sun 2016, "Deep Residual Learning for Image Recognition",
    table 1. The cifar stem: Chen et al. 2020 (SimCLR), appendix B.9.
    """

    nonnegative = True

    def __init__(
        self, architecture: Architecture, block: Block, counts: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.architecture = architecture
        width, channels = architecture.width or 0, architecture.channels
        if architecture.stem == "imagenet":
            self.conv1 = nn.Conv2d(channels, width, 7, 2, padding=3, bias=False)
            self.maxpool: nn.Module = nn.MaxPool2d(3, 2, padding=1)
        else:
            self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
            self.maxpool = nn.Identity()
        self.bn1 = nn.BatchNorm2d(width)
        inputs = width
        for stage, count in enumerate(counts):
            stride, stage_width = min(stage, 1) + 1, width * 2**stage
            blocks = [block(inputs, stage_width, stride)]
            inputs = stage_width * block.expansion
            blocks += [block(inputs, stage_width, 1) for _ in range(count - 1)]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        names = [f"layer{s + 1}.{i}" for s, n in enumerate(counts) for i in range(n)]
        self.layer_names = (*names, REPRESENTATION)
        self.feature_dim = inputs

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Return h, non-negative."""
        maps = self.maxpool(torch.relu(self.bn1(self.conv1(images))))
        for stage in range(1, STAGES + 1):
            maps = self.get_submodule(f"layer{stage}")(maps)
        return maps.mean(dim=(2, 3))


def resnet18(architecture: Architecture) -> ResNet:
    """Return a network of 2, 2, 2 and 2 basic blocks; h has 8 times the width."""
    return ResNet(architecture, BasicBlock, (2, 2, 2, 2))


def resnet50(architecture: Architecture) -> ResNet:
    """Return one of 3, 4, 6 and 3 bottleneck blocks; h has 32 times the width."""
    return ResNet(architecture, BottleneckBlock, (3, 4, 6, 3))


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
    )
