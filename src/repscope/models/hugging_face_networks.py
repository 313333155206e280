"""Vision models of the Hugging Face Hub, by name, through the transformers library.

Only safetensors weights are taken, and no code of a repository is ever run.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor, nn

from repscope._checking import InputError, UsageError
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

EXTRA = "hub"
Output = Literal["cls", "mean", "gap", "pooled"]


@dataclass(frozen=True)
class Family:
    """How one type of model gives its features.

    Args:
        output: of the last hidden state, "cls" is the first token, "mean" the mean of
            the tokens, "gap" the mean over positions; "pooled" is the model's own
            pooler, where that is trained.
        pool: of its blocks.
        model: the class of transformers that sees images alone.
        one_size: whether it takes images of the size in its configuration only.
    """

    output: Output
    pool: Pool
    model: str = "AutoModel"
    one_size: bool = False


_TOKENS = Family("cls", "cls")
_TOKENS_OF_ONE_SIZE = Family("cls", "cls", one_size=True)
_MAPS = Family("pooled", "gap")
# By `model_type` of a repository's config.json. A type is added once it is checked:
# some mask patches at random (vit_mae) or have an untrained pooler.
FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "vit": _TOKENS_OF_ONE_SIZE,
        "deit": _TOKENS_OF_ONE_SIZE,
        "vit_msn": _TOKENS_OF_ONE_SIZE,
        "ijepa": Family("mean", "mean", one_size=True),
        "dinov2": _TOKENS,
        "dinov2_with_registers": _TOKENS,
        "dinov3_vit": _TOKENS,
        "clip": Family("pooled", "cls", "CLIPVisionModel", one_size=True),
        "siglip": Family("pooled", "mean", "SiglipVisionModel", one_size=True),
        "resnet": Family("gap", "gap"),
        "convnext": _MAPS,
        "convnextv2": _MAPS,
    }
)
# Where the versions of transformers keep the blocks; the first that exists.
_BLOCKS = (
    *("encoder.layer", "encoder.layers", "encoder.stages", "layers", "layer"),
    *("model.layer", "vision_model.encoder.layers"),
)
# Parts that are made with the model but not used here, so they may be untrained.
_UNUSED = ("pooler.", "embeddings.mask_token")
# Pillow's numbers.
_INTERPOLATIONS: Mapping[int, Interpolation] = MappingProxyType(
    {2: "bilinear", 3: "bicubic"}
)
# ConvNeXt's own rule: smaller images are resized to more than the crop.
_CROP_BELOW = 384


class PooledModel(nn.Module):
    """A model of transformers that returns one vector per image.

    Args:
        model: of transformers.
        output: see `Family`.
    """

    def __init__(self, model: nn.Module, output: Output) -> None:
        super().__init__()
        self.model, self.output = model, output

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Return the pooled features."""
        given = self.model(pixel_values=images)
        if self.output == "pooled":
            return given.pooler_output.flatten(1)
        hidden = given.last_hidden_state
        if self.output == "gap":
            return hidden.mean(dim=(2, 3))
        return hidden[:, 0] if self.output == "cls" else hidden.mean(dim=1)


def open_hugging_face(
    name: str,
    *,
    weights: bool = True,
    preprocess: Preprocess | None = None,
    seed: int = 0,
) -> NamedNetwork:
    """Return a vision model of a repository of the Hugging Face Hub.

    Args:
        name: "ORG/NAME", as the Hub names it.
        weights: whether they are downloaded; otherwise the network is drawn from
            `seed`, and its configuration must have been downloaded before.
        preprocess: None is what the repository's preprocessor_config.json says.
        seed: of the weights that are drawn; unused where they are trained.

    Raises:
        UsageError: where the name is none, or its type of model is not known here.
        InputError: where the repository lacks weights or its preprocessing.
        MissingExtraError: where transformers is not installed.
        ResourceError: where it cannot be imported, or a file not be downloaded.
    """
    with importing("transformers", EXTRA):
        import transformers
        import transformers.modeling_utils  # else a bad torchvision shows much later
    config = _json_file(name, "config.json", download=weights)
    family = _family_of(name, config)
    chosen = preprocess or preprocess_of(
        name, _json_file(name, "preprocessor_config.json", download=weights)
    )
    size = config.get("vision_config", config).get("image_size", chosen.size)
    if family.one_size and chosen.size != size:
        raise UsageError(
            f"hf/{name}: takes images of {size} pixels",
            found=f"preprocess of size {chosen.size}",
        )

    def rebuild() -> nn.Module:
        return PooledModel(_untrained(name, family), family.output).eval()

    if weights:
        with downloading(f"hf/{name}"):
            module: nn.Module = PooledModel(_trained(name, family), family.output)
    else:
        with seeded(seed):
            module = rebuild()
    return NamedNetwork(
        module=module.eval(),
        preprocess=chosen,
        layers=_layers_of(module),
        pool=family.pool,
        rebuild=rebuild,
        nonnegative=True if config["model_type"] == "resnet" else None,
        facts={
            "library": f"transformers {transformers.__version__}",
            "model": name,
            "training": "pretrained" if weights else untrained_fact(seed),
        },
    )


def preprocess_of(name: str, config: Mapping[str, Any]) -> Preprocess:
    """Return the preprocessing that a preprocessor_config.json describes.

    A resize to width and height without respect of the picture's own becomes a resize
    of the short side and a crop of the centre.

    Raises:
        InputError: where sizes or statistics are missing or make no sense.
    """
    try:
        short = _side(config.get("size", 224))
        cropped = config.get("do_center_crop", "crop_size" in config)
        size = _side(config["crop_size"]) if cropped else short
        if "crop_pct" in config and short < _CROP_BELOW:
            short = int(size / config["crop_pct"])
        is_normalised = config.get("do_normalize", True)
        return Preprocess(
            size=size,
            resize=max(short, size),
            mean=tuple(config["image_mean"]) if is_normalised else (0.0,) * 3,
            std=tuple(config["image_std"]) if is_normalised else (1.0,) * 3,
            interpolation=_INTERPOLATIONS.get(config.get("resample", 2), "bicubic"),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"hf/{name}: its preprocessor_config.json cannot be understood",
            found=f"{type(error).__name__}: {error}",
            fix="pass preprocess",
        ) from error


def _side(size: Any) -> int:
    """Return the side of a size in any of the forms that the Hub's files have."""
    if isinstance(size, int):
        return size
    if isinstance(size, list | tuple):
        return int(size[0])
    return int(size["shortest_edge"] if "shortest_edge" in size else size["height"])


def _json_file(name: str, file: str, *, download: bool) -> dict[str, Any]:
    import huggingface_hub

    if name.count("/") != 1:
        raise UsageError(f"hf/{name}: no name of the Hub", expected="hf/ORG/NAME")
    if not download and huggingface_hub.try_to_load_from_cache(name, file) is None:
        raise UsageError(
            f"hf/{name}: {file} was not downloaded before",
            fix="open it once with its weights; its architecture is in its repository",
        )
    with downloading(f"hf/{name}"):
        path = huggingface_hub.hf_hub_download(
            name, file, local_files_only=not download
        )
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise InputError(f"hf/{name}: {file} holds no object")
    return values


def _family_of(name: str, config: Mapping[str, Any]) -> Family:
    kind = config.get("model_type")
    if kind is None and isinstance(config.get("architecture"), str):
        raise UsageError(
            f"hf/{name}: is a model of timm", fix=f"timm/{config['architecture']}"
        )
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise UsageError(
            f"hf/{name}: models of type {kind!r} are not known here",
            fix=f"{closest(str(kind), FAMILIES)}; in Python, pass the module itself",
        )
    return FAMILIES[kind]


def _trained(name: str, family: Family) -> nn.Module:
    import transformers

    with _quietly():
        model, told = getattr(transformers, family.model).from_pretrained(
            name,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    missing = [
        key for key in told["missing_keys"] if not key.startswith(_UNUSED)
    ] + list(told["mismatched_keys"])
    if missing:
        raise InputError(
            f"hf/{name}: {len(missing):,} tensors of the network are not in its files",
            found=f"no {missing[0]}",
            fix="choose another repository: these would stay random",
        )
    return model


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep transformers from telling what this module checks and tells itself."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def _untrained(name: str, family: Family) -> nn.Module:
    import transformers

    config = transformers.AutoConfig.from_pretrained(
        name, trust_remote_code=False, local_files_only=True
    )
    if family.model == "AutoModel":
        return transformers.AutoModel.from_config(config, trust_remote_code=False)
    make: Callable[[Any], nn.Module] = getattr(transformers, family.model)
    return make(config.vision_config)


def _layers_of(module: nn.Module) -> dict[str, str]:
    known = dict(module.named_modules())
    for blocks in _BLOCKS:
        path = f"model.{blocks}"
        if path in known:
            count = len(list(known[path].children()))
            return {f"{blocks}.{i}": f"{path}.{i}" for i in range(count)}
    return {}
