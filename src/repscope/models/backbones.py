"""Which backbones are there, and how is one built from its record and a seed?"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import torch

from repscope._checking import UsageError, check_choice
from repscope.models.abstract_backbone import REPRESENTATION, Backbone
from repscope.models.architecture import Architecture
from repscope.models.convolutions import RandBitConv, ResLH, SmallConv
from repscope.models.initialisation import (
    BACKBONE_STREAM,
    Draw,
    draw_he,
    draw_transformer,
    draw_uniform,
    generator_of,
    made,
)
from repscope.models.resnet import resnet18, resnet50
from repscope.models.shallow_convolutions import DEPTHS, ShallowConv
from repscope.models.vector_encoders import LinearEncoder, MLPEncoder
from repscope.models.vgg import vgg11, vgg13, vgg16
from repscope.models.vision_transformer import VisionTransformer, check_transformer

__all__ = ["BACKBONES", "REPRESENTATION", "Architecture", "Backbone", "build"]

# Sizes that have a default where a kind leaves the choice at all.
_CHOICES = ("depth", "width", "patch", "heads", "hidden")


@dataclass(frozen=True)
class BackboneKind:
    """One entry of the closed list of backbones.

    Args:
        make: from the completed record to the module.
        summary: what it is, in a few words.
        depth: the default, None where depth is no choice; so for all below.
        width: the default.
        patch: the default.
        heads: the default.
        hidden: the default.
        depths: the only ones there are; () for any.
        stems: whether the stem is a choice.
        sized: whether weights depend on the size of the images, which must be given.
        draw: fills one layer with first weights.
        check: raises UsageError where sizes do not fit each other.
    """

    make: Callable[[Architecture], Backbone]
    summary: str
    depth: int | None = None
    width: int | None = None
    patch: int | None = None
    heads: int | None = None
    hidden: tuple[int, ...] | None = None
    depths: tuple[int, ...] = ()
    stems: bool = False
    sized: bool = False
    draw: Draw = draw_he
    check: Callable[[Architecture], None] | None = None


# Files name backbones by these keys only: nothing else can ever be built from one.
BACKBONES: Mapping[str, BackboneKind] = MappingProxyType(
    {
        "small_conv": BackboneKind(
            SmallConv, "four 3x3 convolutions of w, 2w, 4w, 4w channels", width=32
        ),
        "res_lh": BackboneKind(
            ResLH, "RES-L-H: two stems, L residual blocks, H wide", depth=5, width=50
        ),
        "resnet18": BackboneKind(resnet18, "ResNet-18", width=64, stems=True),
        "resnet50": BackboneKind(resnet50, "ResNet-50", width=64, stems=True),
        "randbit_conv": BackboneKind(
            RandBitConv, "three convolutions and a dense layer, for RandBit"
        ),
        "vgg11": BackboneKind(vgg11, "VGG-11 with BN, mean of positions", width=64),
        "vgg13": BackboneKind(vgg13, "VGG-13 with BN, mean of positions", width=64),
        "vgg16": BackboneKind(vgg16, "VGG-16 with BN, mean of positions", width=64),
        "vit": BackboneKind(
            VisionTransformer,
            "vision transformer, class token",
            depth=4,
            width=96,
            patch=4,
            heads=3,
            sized=True,
            draw=draw_transformer,
            check=check_transformer,
        ),
        "shallow_conv": BackboneKind(
            ShallowConv, "2 to 8 convolutions, 2,048 features", depth=4, depths=DEPTHS
        ),
        "linear": BackboneKind(
            LinearEncoder,
            "one matrix, no bias",
            width=128,
            sized=True,
            draw=draw_uniform,
        ),
        "mlp": BackboneKind(
            MLPEncoder,
            "hidden layers with ReLU, then a linear one",
            width=128,
            hidden=(512, 512),
            sized=True,
            draw=draw_uniform,
        ),
    }
)


def build(architecture: Architecture, *, seed: int = 0) -> Backbone:
    """Return a backbone on the CPU, in training mode, with its first weights.

    Convolutions and dense layers of convolutional networks get normal weights of
    variance 2 / fan-out, BN ones and zeros; transformers are filled as torchvision
    does, `linear` and `mlp` uniformly in ±1 / sqrt(fan-in). The same record and seed
    give the same weights, as far as torch's normal numbers are the same; its global
    state is neither read nor changed.

    Args:
        architecture: what to build; its None become the defaults of its kind and the
            completed record is the module's `architecture`.
        seed: of the first weights.

    Raises:
        UsageError: for an unknown name, a size that is no choice of this backbone or
            does not fit the others, or a missing size of the images.

    Example:
        >>> build(Architecture("small_conv", channels=1)).feature_dim
        128
    """
    whole = completed(architecture)
    kind = BACKBONES[whole.name]
    generator = generator_of(seed, BACKBONE_STREAM)
    return made(lambda: kind.make(whole), kind.draw, generator)


def outline(architecture: Architecture) -> Backbone:
    """Return a backbone without weights, on the device "meta": for names and shapes.

    Raises:
        UsageError: as `build`.
    """
    whole = completed(architecture)
    with torch.device("meta"):
        return BACKBONES[whole.name].make(whole)


def completed(architecture: Architecture) -> Architecture:
    """Return the record with the defaults of its kind in place of each None.

    Raises:
        UsageError: as `build`.
    """
    check_choice("backbone", architecture.name, BACKBONES)
    kind = BACKBONES[architecture.name]
    filled: dict[str, Any] = {}
    for size in _CHOICES:
        value, default = getattr(architecture, size), getattr(kind, size)
        if value is not None and default is None:
            raise _no_choice(architecture.name, size, value)
        filled[size] = default if value is None else value
    _check_stem(architecture, kind)
    _check_images(architecture, kind)
    if kind.depths and filled["depth"] not in kind.depths:
        raise UsageError(
            f"{architecture.name}: depth is {filled['depth']}",
            expected=", ".join(str(depth) for depth in kind.depths),
        )
    whole = replace(architecture, **filled)
    if kind.check is not None:
        kind.check(whole)
    return whole


def takes_size(name: str) -> bool:
    """Return whether a backbone must be told the size of the images.

    Raises:
        UsageError: for an unknown name.
    """
    check_choice("backbone", name, BACKBONES)
    return BACKBONES[name].sized


def _check_stem(architecture: Architecture, kind: BackboneKind) -> None:
    if architecture.stem == "cifar" or kind.stems:
        return
    with_stems = ", ".join(name for name, one in BACKBONES.items() if one.stems)
    raise UsageError(
        f"{architecture.name} has no stem to choose",
        found=f"stem={architecture.stem}",
        fix=f"leave stem out; {with_stems} have one",
    )


def _check_images(architecture: Architecture, kind: BackboneKind) -> None:
    if architecture.size is None and kind.sized:
        raise UsageError(
            f"{architecture.name}: size is missing",
            expected="the side of the images in pixels: its weights depend on it",
            fix="give size, as size=32",
        )
    if architecture.size is not None and not kind.sized:
        raise _no_choice(architecture.name, "size", architecture.size)


def _no_choice(name: str, size: str, value: Any) -> UsageError:
    return UsageError(
        f"{name} has no {size} to choose",
        found=f"{size}={value}",
        fix=f"leave {size} out",
    )
