"""Which backbones are there, and how is one built from its record and a seed?"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch

from repscope._checking import UsageError, check_choice
from repscope.models.abstract_backbone import REPRESENTATION, Backbone
from repscope.models.architecture import Architecture
from repscope.models.convolutions import RandBitConv, ResLH, SmallConv
from repscope.models.initialisation import (
    BACKBONE_STREAM,
    draw_he,
    generator_of,
    made,
)
from repscope.models.resnet import resnet18, resnet50

__all__ = ["BACKBONES", "REPRESENTATION", "Architecture", "Backbone", "build"]


@dataclass(frozen=True)
class BackboneKind:
    """One entry of the closed list of backbones.

    Args:
        make: from the completed record to the module.
        summary: what it is, in a few words.
        depth: the default, None where depth is no choice.
        width: the default, None where width is no choice.
        stems: whether the stem is a choice.
    """

    make: Callable[[Architecture], Backbone]
    summary: str
    depth: int | None = None
    width: int | None = None
    stems: bool = False


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
    }
)


def build(architecture: Architecture, *, seed: int = 0) -> Backbone:
    """Return a backbone on the CPU, in training mode, with its first weights.

    Convolutions and dense layers get normal weights of variance 2 / fan-out, BN ones
    and zeros. The same record and seed give the same weights, as far as torch's normal
    numbers are the same; its global state is neither read nor changed.

    Args:
        architecture: what to build; its None become the defaults of its kind and the
            completed record is the module's `architecture`.
        seed: of the first weights.

    Raises:
        UsageError: for an unknown name, or a size that is no choice of this backbone.

    Example:
        >>> build(Architecture("small_conv", channels=1)).feature_dim
        128
    """
    whole = completed(architecture)
    kind = BACKBONES[whole.name]
    return made(lambda: kind.make(whole), draw_he, generator_of(seed, BACKBONE_STREAM))


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
    choices = {"depth": (architecture.depth, kind.depth)}
    choices["width"] = (architecture.width, kind.width)
    for size, (value, default) in choices.items():
        if value is not None and default is None:
            raise UsageError(
                f"{architecture.name} has no {size} to choose",
                found=f"{size}={value}",
                fix=f"leave {size} out",
            )
    if architecture.stem != "cifar" and not kind.stems:
        with_stems = ", ".join(name for name, one in BACKBONES.items() if one.stems)
        raise UsageError(
            f"{architecture.name} has no stem to choose",
            found=f"stem={architecture.stem}",
            fix=f"leave stem out; {with_stems} have one",
        )
    return replace(
        architecture,
        depth=architecture.depth or kind.depth,
        width=architecture.width or kind.width,
    )
