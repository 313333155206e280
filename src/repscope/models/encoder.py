"""What turns images into features: any network, its preprocessing, its named layers."""

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

from repscope._checking import InputError, UsageError, did_you_mean
from repscope._images import Preprocess
from repscope.files.file_access import LISTED
from repscope.models.abstract_backbone import Backbone
from repscope.models.backbones import build
from repscope.models.encoder_file import (
    SavedEncoder,
    blaming,
    read_encoder,
    write_encoder,
)
from repscope.models.heads import count_parameters
from repscope.models.layer_outputs import (
    WHOLE_MODULE,
    Pool,
    listed,
    pooled_outputs,
)
from repscope.models.weights import reset_weights, weights_fingerprint

# The layer of any network that is what it returns.
OUTPUT = "output"
# Facts of the network, whatever its weights are.
KEPT_FACTS = ("architecture", "library", "model", "pool", "preprocess")
_UNTRAINED_SUFFIX = ", untrained"


@final
@dataclass(frozen=True, eq=False)
class Encoder:
    """A network with all that is needed to get features from it; made by `Encoder.of`.

    Args:
        module: the network; called with images (n c h w), c being the channels of the
            preprocessing and the planes together.
        preprocess: from pictures to what the network was trained on.
        name: for reports.
        layers: name → path of the submodule whose output it is ("" is what the module
            returns), shallow to deep.
        default_layer: one of them.
        nonnegative: whether that layer's features cannot be negative; None is unknown.
        planes: constant 0/1 channels that the network expects after the image's.
        facts: where it comes from; see `provenance`.
        rebuild: makes a network of the same kind, with weights from torch's global
            generator; for networks that cannot be drawn anew part by part.

    Raises:
        UsageError: where a path leads to no submodule, the default layer is none of the
            layers, there are fewer than 0 planes, or the channels of a backbone of ours
            do not fit.
    """

    module: nn.Module
    preprocess: Preprocess
    name: str
    layers: Mapping[str, str]
    default_layer: str
    nonnegative: bool | None = None
    planes: int = 0
    facts: Mapping[str, str] = field(default_factory=dict)
    rebuild: Callable[[], nn.Module] | None = None

    def __post_init__(self) -> None:
        if self.planes < 0:
            raise UsageError(f"planes: {self.planes}", expected="0 or more")
        known = set(self.module_paths) | {WHOLE_MODULE}
        for path in self.layers.values():
            if path not in known:
                raise _unknown_layer(path, [OUTPUT, *self.module_paths])
        if self.default_layer not in self.layers:
            raise _unknown_layer(self.default_layer, self.layers)
        if isinstance(self.module, Backbone):
            channels = self.module.architecture.channels
            if channels != self.channels:
                raise UsageError(
                    f"encoder {self.name}: the channels do not fit",
                    found=f"{self.preprocess.channels} of the images "
                    f"and {self.planes} planes",
                    expected=f"{channels} together, as the backbone takes",
                )

    @classmethod
    def of(
        cls,
        module: nn.Module,
        preprocess: Preprocess,
        *,
        layers: Sequence[str] | Mapping[str, str] | None = None,
        name: str | None = None,
        planes: int = 0,
        provenance: Mapping[str, str] | None = None,
    ) -> "Encoder":
        """Return an encoder around any network; the network is not copied.

        Args:
            module: takes images (n c h w).
            preprocess: from pictures to its input.
            layers: paths of submodules, shallow to deep, "output" being what the module
                returns; or name → path. None is all layers of a backbone of ours, and
                "output" of any other. The last is the default layer.
            name: None is the backbone's or the class's.
            planes: constant channels expected after the image's own.
            provenance: facts to keep with it: data, recipe, source, licence.

        Raises:
            UsageError: for an unknown layer, with the closest path named.
        """
        backbone = module if isinstance(module, Backbone) else None
        if layers is None:
            paths = backbone.layer_paths if backbone else {OUTPUT: WHOLE_MODULE}
        elif isinstance(layers, Mapping):
            paths = {name: layers[name] for name in listed([*layers])}
        else:
            paths = {layer: _path_of(layer, backbone) for layer in listed(layers)}
        default_layer = list(paths)[-1]
        plain_name = backbone.architecture.name if backbone else type(module).__name__
        return cls(
            module=module,
            preprocess=preprocess,
            name=name or plain_name,
            layers=paths,
            default_layer=default_layer,
            nonnegative=_nonnegative(backbone, paths[default_layer]),
            planes=planes,
            facts=_own_facts(backbone) | dict(provenance or {}),
        )

    @property
    def channels(self) -> int:
        """Return how many channels the network takes: the image's and the planes."""
        return self.preprocess.channels + self.planes

    @property
    def module_paths(self) -> tuple[str, ...]:
        """Return the path of every submodule: each can be asked for as a layer."""
        return tuple(path for path, _ in self.module.named_modules() if path)

    @property
    def provenance(self) -> dict[str, str]:
        """Return the facts, the parameter count and a fingerprint of the weights.

        The fingerprint is taken anew each time, so that it is that of the weights as
        they are: about a second per gigabyte.
        """
        return dict(self.facts) | {
            "parameters": str(count_parameters(self.module)),
            "weights": weights_fingerprint(self.module.state_dict()),
        }

    def with_provenance(self, facts: Mapping[str, str]) -> "Encoder":
        """Return the encoder with further facts; the network is shared."""
        return replace(self, facts=dict(self.facts) | dict(facts))

    def forward_features(
        self,
        images: Float[Tensor, "n c h w"],
        layers: Sequence[str] | None = None,
        pool: Pool = "gap",
    ) -> dict[str, Float[Tensor, "n _"]]:
        """Return one vector per image and layer, from one forward pass.

        Training mode and gradients stay as the caller set them; see `pooled_outputs`.

        Args:
            images: normalised, planes appended.
            layers: names of `layers`, paths of any submodules, or "output"; None is the
                default layer.
            pool: "gap" for maps (n c h w), "cls" or "mean" for tokens (n t d),
                "flatten" for both; vectors stay as they are.

        Raises:
            UsageError: for an unknown layer, with the closest named, or a pooling that
                does not fit.
            InputError: where the images have other channels, or a layer gives no
                tensor with one entry per image.
        """
        if images.shape[1] != self.channels:
            raise InputError(
                f"encoder {self.name}: images of {images.shape[1]} channels",
                expected=f"{self.preprocess.channels} and {self.planes} planes",
                fix="append the planes of the image set" if self.planes else "",
            )
        names = [self.default_layer] if layers is None else listed(layers)
        paths = {name: self._path(name) for name in names}
        return pooled_outputs(self.module, images, paths, pool)

    def untrained(self, seed: int = 0) -> "Encoder":
        """Return the same network freshly initialised: a reference without training.

        A backbone of ours is built anew. Of any other network a copy is made and each
        submodule's `reset_parameters` is called, or `rebuild` where the encoder has it;
        torch's global generator is set from the seed meanwhile and restored after.

        Args:
            seed: of the first weights.

        Raises:
            UsageError: where a submodule has parameters but no `reset_parameters`.
        """
        module: nn.Module
        if isinstance(self.module, Backbone):
            module = build(self.module.architecture, seed=seed)
        else:
            # on the CPU: the numbers must not depend on the device
            with torch.random.fork_rng(devices=[]):
                torch.random.default_generator.manual_seed(seed)
                if self.rebuild is not None:
                    module = self.rebuild()
                else:
                    module = copy.deepcopy(self.module).cpu()
                    reset_weights(module, self.name)
        like = next(self.module.parameters(), torch.empty(0))
        if isinstance(module, Backbone):
            module = module.to(like.dtype)
        module = module.to(like.device).train(self.module.training)
        kept = {name: self.facts[name] for name in KEPT_FACTS if name in self.facts}
        return replace(
            self,
            module=module,
            name=untrained_name(self.name),
            facts=kept | {"training": f"none: weights drawn from seed {seed}"},
        )

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the weights with all that is needed to use them, and a card beside.

        Weights are stored as float32, in the safetensors format; the card is README.md.

        Args:
            path: ends in .safetensors.
            overwrite: whether an encoder and its card may be replaced.

        Returns:
            The path.

        Raises:
            UsageError: where the network is none of our backbones, the name ends
                otherwise, or a file is there already.
            ResourceError: where the disk is full or permission is missing.
        """
        if not isinstance(self.module, Backbone):
            raise UsageError(
                f"encoder {self.name}: only repscope's own backbones are saved",
                found=type(self.module).__name__,
                fix="keep its name (timm/..., torchvision/...), or write its "
                "state_dict() with safetensors.torch.save_file",
            )
        saved = SavedEncoder(
            backbone=self.module,
            preprocess=self.preprocess,
            name=self.name,
            layers=dict(self.layers),
            default_layer=self.default_layer,
            planes=self.planes,
            facts=dict(self.facts),
        )
        return write_encoder(Path(path), saved, overwrite=overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Encoder":
        """Return an encoder that `save` wrote, on the CPU and in evaluation mode.

        Nothing is unpickled or imported: the file names a backbone of the closed list,
        and names, shapes and fingerprint of the weights must fit exactly.

        Raises:
            InputError: where the file is damaged, no encoder of ours, or of an unknown
                architecture.
        """
        saved = read_encoder(path)
        with blaming(Path(path).name):
            encoder = cls.of(
                saved.backbone.eval(),
                saved.preprocess,
                layers=saved.layers,
                name=saved.name,
                planes=saved.planes,
                provenance=saved.facts,
            )
            return replace(encoder, default_layer=saved.default_layer)

    def _path(self, layer: str) -> str:
        if layer in self.layers:
            return self.layers[layer]
        if layer == OUTPUT:
            return WHOLE_MODULE
        if layer not in self.module_paths:
            options = [*self.layers, OUTPUT, *self.module_paths]
            raise _unknown_layer(layer, options)
        return layer


def normalised(
    pixels: UInt8[Tensor, "n h w c"], preprocess: Preprocess
) -> Float32[Tensor, "n d h w"]:
    """Return images as a network takes them: (pixels / 255 - mean) / std, per channel.

    Args:
        pixels: resized already; grey ones (c = 1) are repeated for a network of three
            channels. Device as the result's.
        preprocess: its mean and std, in units of the full range.

    Raises:
        InputError: where the channels do not fit.
    """
    channels = preprocess.channels
    if pixels.shape[3] == 1 and channels == 3:
        pixels = pixels.expand(-1, -1, -1, 3)
    if pixels.shape[3] != channels:
        raise InputError(
            f"images of {pixels.shape[3]} channels",
            expected=f"{channels}, as the preprocessing says",
        )
    mean = torch.tensor(preprocess.mean, dtype=torch.float32, device=pixels.device)
    std = torch.tensor(preprocess.std, dtype=torch.float32, device=pixels.device)
    # (n h w c) -> (n c h w), which is torch's channels_last layout
    return ((pixels.float() / 255 - mean) / std).permute(0, 3, 1, 2)


def append_planes(
    images: Float[Tensor, "n c h w"],
    planes: UInt8[Tensor, "n b"] | UInt8[np.ndarray, "n b"],
) -> Float[Tensor, "n d h w"]:
    """Return normalised images with one more channel per plane, each constant 0 or 1.

    Args:
        images: normalised; device and dtype of the result.
        planes: one value per image and plane.
    """
    bits = torch.as_tensor(planes).to(images)
    n, _, height, width = images.shape
    constant = bits[:, :, None, None].expand(n, bits.shape[1], height, width)
    return torch.cat([images, constant], dim=1)


def untrained_name(name: str) -> str:
    """Return the name of an encoder without its training; of one without it, its own.

    Example:
        >>> untrained_name("mine"), untrained_name("mine, untrained")
        ('mine, untrained', 'mine, untrained')
    """
    return name.removesuffix(_UNTRAINED_SUFFIX) + _UNTRAINED_SUFFIX


def _path_of(layer: str, backbone: Backbone | None) -> str:
    if backbone is not None and layer in backbone.layer_paths:
        return backbone.layer_paths[layer]
    return WHOLE_MODULE if layer == OUTPUT else layer


def _own_facts(backbone: Backbone | None) -> dict[str, str]:
    """Return how the layers are pooled, where that is not the mean over positions."""
    if backbone is None or backbone.pool == Backbone.pool:
        return {}
    return {"pool": backbone.pool}


def _nonnegative(backbone: Backbone | None, path: str) -> bool | None:
    if backbone is None or path not in backbone.layer_paths.values():
        return None  # inside a block, before its ReLU perhaps
    return backbone.nonnegative


def _unknown_layer(
    layer: str, options: Sequence[str] | Mapping[str, str]
) -> UsageError:
    """Return the error for a layer; its first options, named ones, are told."""
    distinct = list(dict.fromkeys(options))
    fix = did_you_mean(layer, distinct)
    if not fix.startswith("did you mean"):
        rest = len(distinct) - LISTED
        more = f" and {rest:,} more" if rest > 0 else ""
        fix = f"choose from {', '.join(distinct[:LISTED])}{more}"
    return UsageError(f"unknown layer {layer!r}", fix=fix)
