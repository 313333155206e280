"""Networks of the timm library, by name: built, stripped of the classifier, described.

Source: Wightman 2019, "PyTorch Image Models", huggingface/pytorch-image-models.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, get_args

from torch import nn

from repscope._checking import UsageError
from repscope._images import Interpolation, Preprocess
from repscope.files.file_access import closest
from repscope.models.layer_outputs import Pool
from repscope.models.named_network import (
    NamedNetwork,
    downloading,
    importing,
    seeded,
    untrained_fact,
)

EXTRA = "timm"
# What makes a vector of the tokens between blocks, by class of timm; others have maps.
# Cait, ConVit and Xcit see their class token in the last blocks only.
_POOLS: Mapping[str, Pool] = MappingProxyType(
    {
        "VisionTransformer": "cls",
        "VisionTransformerDistilled": "cls",
        "Beit": "cls",
        "Eva": "cls",
        "Cait": "mean",
        "ConVit": "mean",
        "Xcit": "mean",
        "Hiera": "mean",
        "LevitDistilled": "mean",
        "MlpMixer": "mean",
    }
)


def open_timm(
    name: str,
    *,
    weights: bool = True,
    preprocess: Preprocess | None = None,
    seed: int = 0,
) -> NamedNetwork:
    """Return a network of timm without its classifier.

    Args:
        name: as `timm.list_models()` names it, with a tag of its weights or without.
        weights: whether the pretrained ones are downloaded; otherwise it is drawn from
            `seed` and no network is used.
        preprocess: None is what timm says the weights were trained with. Of another
            size, it changes the input size of networks that are made for one.
        seed: of the weights that are drawn; unused where they are trained.

    Raises:
        UsageError: for an unknown name or one without weights.
        MissingExtraError: where timm is not installed.
        ResourceError: where it cannot be imported, or the weights not be downloaded.
    """
    with importing("timm", EXTRA):
        import timm
    _check_name(name, weights)

    def rebuild() -> nn.Module:
        return _made(name, False, preprocess)

    if weights:
        with downloading(f"timm/{name}"):
            module = _made(name, True, preprocess)
    else:
        with seeded(seed):
            module = rebuild()
    config = timm.data.resolve_model_data_config(module)
    facts = {"library": f"timm {timm.__version__}", "model": name}
    tag = (getattr(module, "pretrained_cfg", None) or {}).get("tag", "")
    facts["training"] = f"pretrained: {tag}" if weights else untrained_fact(seed)
    if preprocess is None and config["crop_mode"] == "squash":
        facts["preprocess"] = "timm squashes to a square; here the centre is cropped"
    return NamedNetwork(
        module=module,
        preprocess=preprocess or _preprocess_of(name, config),
        layers=_layers_of(module),
        pool=_pool_of(module),
        rebuild=rebuild,
        nonnegative=_sign_of(module),
        facts=facts,
    )


def _check_name(name: str, weights: bool) -> None:
    import timm

    plain, _, tag = name.partition(".")
    if not timm.is_model(plain):
        raise UsageError(
            f"timm/{name}: timm has no such model",
            fix=closest(plain, timm.list_models()),
        )
    tagged = timm.list_pretrained(f"{plain}.*") + timm.list_pretrained(plain)
    if tag and name not in tagged:
        raise UsageError(f"timm/{name}: no such weights", fix=closest(name, tagged))
    if weights and not tagged:
        raise UsageError(
            f"timm/{name}: timm has no pretrained weights for it",
            fix="choose another model, or build it untrained with weights=False",
        )


def _made(name: str, pretrained: bool, preprocess: Preprocess | None) -> nn.Module:
    import timm

    channels = preprocess.channels if preprocess else 3
    module = timm.create_model(
        name, pretrained=pretrained, num_classes=0, in_chans=channels
    )
    native = timm.data.resolve_model_data_config(module)["input_size"][-1]
    resize = getattr(module, "set_input_size", None)
    if preprocess and preprocess.size != native and callable(resize):
        resize(img_size=(preprocess.size, preprocess.size))
    return module.eval()


def _preprocess_of(name: str, config: dict[str, Any]) -> Preprocess:
    channels, height, width = config["input_size"]
    if height != width:
        raise UsageError(
            f"timm/{name}: takes {height} x {width} pixels, no square",
            fix="pass preprocess and a module of yours in Python",
        )
    interpolation = config["interpolation"]
    if interpolation not in get_args(Interpolation):  # "random" and "lanczos" of timm
        interpolation = "bicubic"
    return Preprocess(
        size=height,
        resize=max(height, math.floor(height / config["crop_pct"])),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=interpolation,
        channels=channels,
    )


def _layers_of(module: nn.Module) -> dict[str, str]:
    """Return the stages that timm names, or the blocks of a transformer."""
    if getattr(module, "output_fmt", "NCHW") == "NHWC":
        return {}  # channels last: the mean over positions would be over channels
    stages = getattr(module, "feature_info", None) or []
    paths = [stage["module"] for stage in stages if isinstance(stage, dict)]
    if not paths:
        paths = [
            f"{child}.{index}"
            for child in ("blocks", "stages", "layers")
            for index, _ in enumerate(getattr(module, child, ()))
        ]
    known = {path for path, _ in module.named_modules()}
    return {path: path for path in paths if path in known}


def _pool_of(module: nn.Module) -> Pool:
    pool = _POOLS.get(type(module).__name__, "gap")
    has_class_token = getattr(module, "cls_token", None) is not None
    return "mean" if pool == "cls" and not has_class_token else pool


def _sign_of(module: nn.Module) -> bool | None:
    """Return whether the features are means of what a last ReLU lets through."""
    if type(module).__name__ != "ResNet":
        return False if type(module).__name__ in _POOLS else None
    block = list(module.get_submodule("layer4").children())[-1]
    last = getattr(block, "act3", None) or getattr(block, "act2", None)
    return True if isinstance(last, nn.ReLU) else None
