"""First weights, drawn from a seed of their own: torch's global state stays untouched.

Modules are made on the device "meta", where nothing is drawn, and filled here.
"""

import math
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from repscope._randomness import Purpose, sample_keys

# Each purpose has its own stream: a backbone and its head share no numbers.
BACKBONE_STREAM, HEAD_STREAM = 0, 1

Made = TypeVar("Made", bound=nn.Module)


def made(
    make: Callable[[], Made],
    draw: Callable[[nn.Module, torch.Generator], None],
    generator: torch.Generator,
) -> Made:
    """Return a module on the CPU with weights from the generator and from nothing else.

    Args:
        make: makes the module; its own initialisation draws nothing.
        draw: fills one convolution or linear layer.
        generator: of the CPU.
    """
    with torch.device("meta"):
        module = make()
    module.to_empty(device="cpu")
    for part in module.modules():
        _fill(part, draw, generator)
    return module


def generator_of(seed: int, stream: int) -> torch.Generator:
    """Return a generator whose numbers depend on seed and stream alone."""
    code = sample_keys(Purpose.WEIGHTS, seed, np.array([stream], dtype=np.uint64))[0]
    return torch.Generator().manual_seed(int(code))


def draw_he(layer: nn.Module, generator: torch.Generator) -> None:
    """Fill a layer with normal weights of variance 2 / fan-out, and biases of 0.

    Source: He, Zhang, Ren, Sun 2015, "Delving Deep into Rectifiers", section 2.2, in
    the backward form; as torchvision does for ResNets.
    """
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, torch.Tensor)
    nn.init.kaiming_normal_(
        weight, mode="fan_out", nonlinearity="relu", generator=generator
    )
    if isinstance(bias, torch.Tensor):
        nn.init.zeros_(bias)


def draw_uniform(layer: nn.Module, generator: torch.Generator) -> None:
    """Fill a linear layer uniformly in ±1 / sqrt(fan-in), as torch does by itself."""
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, torch.Tensor)
    bound = 1 / math.sqrt(weight.shape[1])
    for values in (weight, bias):
        if isinstance(values, torch.Tensor):
            nn.init.uniform_(values, -bound, bound, generator=generator)


def _fill(
    part: nn.Module,
    draw: Callable[[nn.Module, torch.Generator], None],
    generator: torch.Generator,
) -> None:
    if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
        part.reset_parameters()  # ones and zeros; draws nothing
    elif isinstance(part, nn.Conv2d | nn.Linear):
        draw(part, generator)
    else:
        own = [*part.parameters(recurse=False), *part.buffers(recurse=False)]
        assert not own, f"{type(part).__name__} has weights that nothing fills"
