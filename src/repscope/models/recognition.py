"""Which architecture does a text, or a file of weights, speak of?"""

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from torch import Tensor

from repscope._checking import UsageError, check_choice
from repscope.models.architecture import Architecture
from repscope.models.backbones import BACKBONES
from repscope.models.key_layouts import possible_layouts, renamed_keys, unwrapped

_WITH_OPTIONS = re.compile(r"(?P<name>\w+)(?:\[(?P<options>[^\[\]]*)\])?")
_OPTIONS = {field.name: field.type for field in fields(Architecture)}
# (blocks per stage, convolutions per block) of networks with torchvision's names.
_RESNETS: dict[tuple[tuple[int, ...], int], str] = {
    ((2, 2, 2, 2), 2): "resnet18",
    ((3, 4, 6, 3), 2): "resnet34",
    ((3, 4, 6, 3), 3): "resnet50",
    ((3, 4, 23, 3), 3): "resnet101",
    ((3, 8, 36, 3), 3): "resnet152",
}
# Width of the first convolution that needs not be told, and its side by stem.
_WIDTH, _STEMS = 64, {3: "cifar", 7: "imagenet"}


def architecture_of(text: str) -> Architecture:
    """Return the record of a text such as "resnet18" or "resnet50[stem=imagenet]".

    Args:
        text: a backbone of ours; options in brackets, separated by commas.

    Raises:
        UsageError: for an unknown name or option, or a value that cannot be.

    Example:
        >>> architecture_of("res_lh[depth=5, width=48]").width
        48
    """
    match = _WITH_OPTIONS.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            f"architecture {text!r} cannot be understood",
            expected="name or name[option=value,...], such as resnet50[stem=imagenet]",
        )
    check_choice("architecture", match["name"], BACKBONES)
    values: dict[str, Any] = {"name": match["name"]}
    for option in filter(None, (match["options"] or "").split(",")):
        key, _, value = (part.strip() for part in option.partition("="))
        check_choice("option of an architecture", key, set(_OPTIONS) - {"name"})
        values[key] = int(value) if value.isdecimal() else value
    return Architecture.from_dict(values)


def recognised(state: Mapping[str, Tensor]) -> str | None:
    """Return the architecture that names and shapes of weights tell of, or None.

    Only residual networks are recognised, in any known layout: "resnet18[...]" and
    "resnet50[...]" of ours, and "torchvision/..." of other depths.
    """
    state = unwrapped(state)
    for layout, prefix in possible_layouts(state):
        text = _resnet(renamed_keys(state, layout, prefix)[0])
        if text:
            return text
    return None


def _resnet(state: Mapping[str, Tensor]) -> str | None:
    first = state.get("conv1.weight")
    if first is None or first.ndim != 4 or first.shape[2] not in _STEMS:
        return None
    blocks = [0, 0, 0, 0]
    convolutions = 0
    for name in state:
        match = re.fullmatch(r"layer([1-4])\.(\d{1,3})\.conv(\d)\.weight", name)
        if match:
            stage = int(match[1]) - 1
            blocks[stage] = max(blocks[stage], int(match[2]) + 1)
            convolutions = max(convolutions, int(match[3]))
    depth = _RESNETS.get((tuple(blocks), convolutions))
    if depth is None:
        return None
    is_ours = depth in BACKBONES
    return _with_options(depth, first) if is_ours else f"torchvision/{depth}"


def _with_options(name: str, first: Tensor) -> str:
    width, channels, side, _ = first.shape
    options = [f"stem={_STEMS[side]}"]
    if width != _WIDTH:
        options.append(f"width={width}")
    if channels != 3:
        options.append(f"channels={channels}")
    return f"{name}[{','.join(options)}]"
