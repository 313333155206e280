"""Networks of torchvision, by name: built, stripped of the classifier, described.

Source: pytorch/vision, `torchvision.models`, image classification.
"""

import warnings
from typing import Any

from torch import nn

from repscope._checking import UsageError
from repscope._images import Preprocess
from repscope.files.file_access import closest
from repscope.models.layer_outputs import Pool
from repscope.models.named_network import (
    NamedNetwork,
    downloading,
    importing,
    seeded,
    untrained_fact,
)

EXTRA = "torchvision"
# Where the classifiers are; the last dense layer in it becomes an identity.
_CLASSIFIERS = ("fc", "heads", "head", "classifier")
# Where the blocks are, by name of their container, and whether its children are meant.
_STAGES = ("layer1", "layer2", "layer3", "layer4", "stage2", "stage3", "stage4")
_CONTAINERS = ("encoder.layers", "features", "trunk_output", "blocks", "layers")
# Families whose features are means of what a ReLU lets through.
_RECTIFIED = ("resnet", "resnext", "wide_resnet", "densenet", "regnet", "vgg")
# Channels last inside: what hooks see of them cannot be pooled.
_CHANNELS_LAST = "swin"


def open_torchvision(
    name: str,
    *,
    weights: bool = True,
    preprocess: Preprocess | None = None,
    seed: int = 0,
) -> NamedNetwork:
    """Return a classification network of torchvision without its classifier.

    Args:
        name: as `torchvision.models.list_models()` names it.
        weights: whether the default ones are downloaded; otherwise it is drawn from
            `seed` and no network is used.
        preprocess: None is what torchvision says the weights were trained with.
        seed: of the weights that are drawn; unused where they are trained.

    Raises:
        UsageError: for an unknown name, or a preprocessing that it cannot take.
        MissingExtraError: where torchvision is not installed.
        ResourceError: where it cannot be imported, or the weights not be downloaded.
    """
    with importing("torchvision", EXTRA):
        import torchvision
    names = torchvision.models.list_models(module=torchvision.models)
    if name not in names:
        raise UsageError(
            f"torchvision/{name}: torchvision has no such model",
            fix=closest(name, names),
        )
    default = torchvision.models.get_model_weights(name).DEFAULT

    def rebuild() -> nn.Module:
        return _without_classifier(_made(name))

    if weights:
        with downloading(f"torchvision/{name}"):
            # with check_hash the file is what torchvision published; weights_only is
            # not its default
            state = default.get_state_dict(
                progress=False, check_hash=True, weights_only=True, map_location="cpu"
            )
            module = _made(name)
            module.load_state_dict(state)
        module = _without_classifier(module)
    else:
        with seeded(seed):
            module = rebuild()
    own = _preprocess_of(default.transforms())
    if preprocess and name.startswith("vit") and preprocess.size != own.size:
        raise UsageError(
            f"torchvision/{name}: takes images of {own.size} pixels",
            found=f"preprocess of size {preprocess.size}",
            fix="choose that size, or the same network as timm/...",
        )
    return NamedNetwork(
        module=module,
        preprocess=preprocess or own,
        layers=_layers_of(module, name),
        pool=_pool_of(name),
        rebuild=rebuild,
        nonnegative=True if name.startswith(_RECTIFIED) else None,
        facts={
            "library": f"torchvision {torchvision.__version__}",
            "model": name,
            "training": f"pretrained: {default.name}"
            if weights
            else untrained_fact(seed),
        },
    )


def _made(name: str) -> nn.Module:
    import torchvision

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of GoogLeNet, about how it draws weights
        return torchvision.models.get_model(name, weights=None).eval()


def _without_classifier(module: nn.Module) -> nn.Module:
    """Return the network with its last dense layer replaced by nothing, in place."""
    for path in _CLASSIFIERS:
        head = getattr(module, path, None)
        if head is None:
            continue
        dense = [
            f"{path}.{inner}".rstrip(".")
            for inner, part in head.named_modules()
            if isinstance(part, nn.Linear)
        ]
        if dense:
            module.set_submodule(dense[-1], nn.Identity())
        else:  # a convolution to the classes, then a pooling: SqueezeNet
            setattr(module, path, nn.AdaptiveAvgPool2d(1))
        break
    return module


def _preprocess_of(transforms: Any) -> Preprocess:
    return Preprocess(
        size=transforms.crop_size[0],
        resize=max(transforms.resize_size[0], transforms.crop_size[0]),
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
        interpolation=transforms.interpolation.value,
    )


def _layers_of(module: nn.Module, name: str) -> dict[str, str]:
    if name.startswith(_CHANNELS_LAST):
        return {}
    known = dict(module.named_modules())
    paths = [path for path in _STAGES if path in known]
    for container in _CONTAINERS:
        if not paths and container in known:
            inner = [child for child, _ in known[container].named_children()]
            paths = [f"{container}.{child}" for child in inner]
    return {path: path for path in paths}


def _pool_of(name: str) -> Pool:
    return "cls" if name.startswith("vit") else "gap"
