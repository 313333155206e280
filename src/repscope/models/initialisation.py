"""First weights, drawn from a seed of their own: torch's global state stays untouched.

Modules are made on the device "meta", where nothing is drawn, and filled here.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from repscope._randomness import Purpose, sample_keys

# Each purpose has its own stream: a backbone and its head share no numbers. 2 and 3 are
# those of the network that estimates mutual information.
BACKBONE_STREAM, HEAD_STREAM, PREDICTOR_STREAM = 0, 1, 4
# Deviation of tokens and positions before training: of positions as in BERT and in
# torchvision, whose class token begins at 0.
TOKEN_DEVIATION = 0.02

Made = TypeVar("Made", bound=nn.Module)
Draw = Callable[[nn.Module, torch.Generator], None]


class AbstractSelfDrawn(ABC):
    """A module with weights of its own beside those of the layers in it."""

    @abstractmethod
    def draw_own_(self, generator: torch.Generator) -> None:
        """Fill its own parameters in place; those of its submodules are not its own."""


def made(make: Callable[[], Made], draw: Draw, generator: torch.Generator) -> Made:
    """Return a module on the CPU with weights from the generator and from nothing else.

    Normalisation gets ones and zeros. Parts that are `AbstractSelfDrawn` fill
    themselves, each before what is in it.

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
    the backward form; as torchvision does for ResNets and VGG.
    """
    weight = _weight_of(layer)
    nn.init.kaiming_normal_(
        weight, mode="fan_out", nonlinearity="relu", generator=generator
    )
    _zero_bias(layer)


def draw_uniform(layer: nn.Module, generator: torch.Generator) -> None:
    """Fill a linear layer uniformly in ±1 / sqrt(fan-in), as torch does by itself."""
    weight, bias = _weight_of(layer), layer.bias
    bound = 1 / math.sqrt(weight.shape[1])
    for values in (weight, bias):
        if isinstance(values, Tensor):
            nn.init.uniform_(values, -bound, bound, generator=generator)


def draw_transformer(layer: nn.Module, generator: torch.Generator) -> None:
    """Fill a layer of a vision transformer; biases are 0.

    Linear layers are uniform in ±sqrt(6 / (fan-in + fan-out)); the convolution that
    makes tokens of patches is normal of variance 1 / fan-in, cut off at ±2.

    Source: torchvision, `vision_transformer.py`. Differs from the source in biases of
    0 where it has normal ones of deviation 1e-6, and in the output of the attention,
    which it draws as torch does by itself.
    """
    weight = _weight_of(layer)
    if isinstance(layer, nn.Conv2d):
        deviation = 1 / math.sqrt(weight[0].numel())
        nn.init.trunc_normal_(weight, std=deviation, generator=generator)
    else:
        nn.init.xavier_uniform_(weight, generator=generator)
    _zero_bias(layer)


def draw_tokens_(values: Float[Tensor, "..."], generator: torch.Generator) -> None:
    """Fill a class token or positions: normal, of deviation 0.02, cut off at ±2."""
    nn.init.trunc_normal_(values, std=TOKEN_DEVIATION, generator=generator)


def _fill(part: nn.Module, draw: Draw, generator: torch.Generator) -> None:
    if isinstance(part, AbstractSelfDrawn):
        part.draw_own_(generator)
    elif isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d | nn.LayerNorm):
        part.reset_parameters()  # ones and zeros; draws nothing
    elif isinstance(part, nn.Conv2d | nn.Linear):
        draw(part, generator)
    else:
        own = [*part.parameters(recurse=False), *part.buffers(recurse=False)]
        assert not own, f"{type(part).__name__} has weights that nothing fills"


def _weight_of(layer: nn.Module) -> Tensor:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight


def _zero_bias(layer: nn.Module) -> None:
    if isinstance(layer.bias, Tensor):
        nn.init.zeros_(layer.bias)
