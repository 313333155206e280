"""From what a user types to an encoder: a run, a file of weights, or a name.

Names begin with `timm/`, `torchvision/` or `hf/`; nothing else is ever downloaded, and
those only because the user named them. Everything else is a file or folder.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import torch
from torch import nn

from repscope._checking import InputError, ResourceError, UsageError, did_you_mean
from repscope._images import Preprocess
from repscope.files.file_access import local_path
from repscope.files.sniffing import Kind, sniff
from repscope.models.architecture import Architecture
from repscope.models.backbones import build
from repscope.models.encoder import OUTPUT, Encoder, untrained_name
from repscope.models.encoder_file import KEY
from repscope.models.hugging_face_networks import open_hugging_face
from repscope.models.key_mapping import Match, MisfitError, load_into
from repscope.models.layer_outputs import WHOLE_MODULE
from repscope.models.named_network import NamedNetwork, untrained_fact
from repscope.models.recognition import architecture_of, recognised
from repscope.models.state_dicts import StateFile, metadata_of, read_state_file
from repscope.models.timm_networks import open_timm
from repscope.models.torchvision_networks import open_torchvision

Opener = Callable[..., NamedNetwork]

# The only words before a slash that lead to a library; the rest is the library's name.
LIBRARIES: Mapping[str, Opener] = MappingProxyType(
    {"timm": open_timm, "torchvision": open_torchvision, "hf": open_hugging_face}
)
# What a run folder calls its encoder.
RUN_ENCODER = "encoder.safetensors"
NAMES_FIX = "names begin with timm/, torchvision/ or hf/ORG/; files with their path"
# What networks of this field are trained with, where a file of weights does not say.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_ASSUMED = MappingProxyType(
    {
        "imagenet": Preprocess(224, 256, mean=_MEAN, std=_STD),
        "cifar": Preprocess(32, mean=_MEAN, std=_STD),
    }
)
ASSUMED_FACT = "assumed: the file does not say what the network was trained with"


def open_encoder(
    text: str | os.PathLike[str],
    *,
    weights: bool = True,
    preprocess: Preprocess | None = None,
    architecture: str | None = None,
    device: str = "cpu",
    seed: int = 0,
) -> Encoder:
    """Return the encoder that a text names, in evaluation mode.

    Args:
        text: a run folder or an encoder's file of ours; a file of weights (.pt, .pth,
            .ckpt, .safetensors) of a known layout; or "timm/NAME", "torchvision/NAME"
            or "hf/ORG/NAME". A `Path` is never taken as a name.
        weights: whether the trained ones are loaded, and downloaded for a name;
            otherwise the network is drawn from `seed`, and its name says so.
        preprocess: None is what the encoder or the library says. For a file of weights,
            which does not say, None is a guess that the provenance names.
        architecture: of a file of weights: "resnet18", "resnet50[stem=imagenet]",
            "timm/NAME" or "torchvision/NAME". None is what the shapes tell.
        device: where the network goes, as torch writes it.
        seed: of the first weights, where `weights` is False.

    Returns:
        The encoder. Its provenance has "keys", the report of the match for a file of
        weights, and "pool", what fits its layers, for a network of a library.

    Raises:
        UsageError: for an unknown name, architecture or device.
        InputError: where the file is damaged, unsafe, or does not fit the architecture.
        MissingExtraError: where a library is not installed.
        ResourceError: where it cannot be imported, or the weights not be downloaded.
    """
    is_path = not isinstance(text, str)
    text = os.fspath(text)
    library, _, name = text.partition("/")
    if library in LIBRARIES and name and not is_path:
        _refuse(architecture, f"{text} is an architecture itself")
        network = LIBRARIES[library](
            name, weights=weights, preprocess=preprocess, seed=seed
        )
        encoder = _encoder_of(network, text)
    else:
        path = local_path(text) if is_path else _path_of(text)
        drawn = None if weights else seed
        encoder = _from_path(path, drawn, preprocess, architecture)
    if not weights:
        encoder = replace(encoder, name=untrained_name(encoder.name))
    return replace(encoder, module=_placed(encoder.module.eval(), device))


def _from_path(
    path: Path,
    drawn: int | None,
    preprocess: Preprocess | None,
    architecture: str | None,
) -> Encoder:
    """Return the encoder of a file or a run; drawn from a seed unless that is None."""
    if path.is_dir():
        path = _encoder_of_run(path)
    kind = sniff(path)
    if kind is Kind.TOML:
        raise _no_recipe(path)
    if kind is Kind.SAFETENSORS and KEY in metadata_of(path):
        _refuse(architecture, f"{path.name} says its architecture itself")
        encoder = Encoder.load(path)
        if preprocess is not None:
            encoder = replace(encoder, preprocess=preprocess)
        return encoder if drawn is None else encoder.untrained(drawn)
    state = read_state_file(path)
    told = recognised(state.tensors)
    text = architecture or told
    if text is None:
        raise UsageError(
            f"{path.name}: its architecture cannot be recognised",
            found=f"{len(state.tensors):,} tensors",
            expected="a ResNet-18 or ResNet-50, or an architecture beside the file",
            fix="name it: resnet50[stem=imagenet], timm/NAME or torchvision/NAME",
        )
    encoder = _untrained(text, preprocess, drawn or 0)
    if drawn is not None:
        return encoder
    try:
        return _filled(encoder, state, path, text)
    except MisfitError as error:
        if told is None or told == text:
            raise
        raise MisfitError(
            error.what,
            found=f"the shapes of {told}",
            expected=f"those of {text}",
            fix=f"architecture {told}",
        ) from error


def _filled(encoder: Encoder, state: StateFile, path: Path, text: str) -> Encoder:
    match: Match = load_into(encoder.module, state.tensors, name=path.name)
    facts = {
        "training": f"unknown: weights of {path.name}",
        "architecture": text,
        "keys": match.report(),
    }
    if state.entry:
        facts["entry"] = state.entry
    return replace(encoder, name=path.stem).with_provenance(facts)


def _untrained(text: str, preprocess: Preprocess | None, seed: int) -> Encoder:
    """Return the network of an architecture's name, to be filled."""
    library, _, name = text.partition("/")
    if library in ("timm", "torchvision") and name:
        network = LIBRARIES[library](
            name, weights=False, preprocess=preprocess, seed=seed
        )
        encoder = _encoder_of(network, text)
    elif "/" in text:
        raise UsageError(
            f"architecture {text!r} is none of timm's, torchvision's or ours",
            fix="timm/NAME, torchvision/NAME or resnet50[stem=imagenet]",
        )
    else:
        record = architecture_of(text)
        facts = {"architecture": text, "training": untrained_fact(seed)}
        chosen = preprocess or _assumed(record)
        planes = record.channels - chosen.channels
        encoder = Encoder.of(
            build(record, seed=seed), chosen, planes=max(planes, 0), provenance=facts
        )
    if preprocess is None:
        encoder = encoder.with_provenance({"preprocess": ASSUMED_FACT})
    return encoder


def _assumed(record: Architecture) -> Preprocess:
    assumed = _ASSUMED[record.stem]
    if record.size is not None:
        assumed = replace(assumed, size=record.size, resize=None)
    if record.channels >= 3:
        return assumed
    return replace(assumed, mean=(0.5,), std=(0.5,), channels=1)


def _encoder_of(network: NamedNetwork, name: str) -> Encoder:
    return Encoder(
        module=network.module,
        preprocess=network.preprocess,
        name=name,
        layers={**network.layers, OUTPUT: WHOLE_MODULE},
        default_layer=OUTPUT,
        nonnegative=network.nonnegative,
        facts={**network.facts, "pool": network.pool},
        rebuild=network.rebuild,
    )


def _encoder_of_run(folder: Path) -> Path:
    path = folder / RUN_ENCODER
    if not path.is_file():
        raise InputError(
            f"{folder.name}: no encoder in this folder",
            expected=f"a run of `repscope train`, with {RUN_ENCODER} in it",
            fix="wait until the run has ended, or pass a file of weights",
        )
    return path


def _no_recipe(path: Path) -> InputError:
    """Return the error for a recipe, or another text, in place of an encoder."""
    folder = path.parent
    is_run = (folder / RUN_ENCODER).is_file()
    return InputError(
        f"{path.name}: is {Kind.TOML.value}, no weights",
        expected=f"a run of `repscope train`, with {RUN_ENCODER} in it",
        fix=f"pass the run folder: {folder}"
        if is_run
        else "pass the run folder; of a recipe alone, train the encoder first: "
        f"repscope train {path} --images IMAGES",
    )


def _path_of(text: str) -> Path:
    """Return the path that a text is, unless it can only be a name.

    Raises:
        UsageError: where it is no path and looks like the name of a network.
    """
    first, slash, _ = text.partition("/")
    is_path = Path(text).exists() or Path(text).suffix or text.startswith((".", "/"))
    if is_path or "\0" in text or (slash and Path(first).is_dir()):
        return local_path(text)
    hint = did_you_mean(first.partition(":")[0], LIBRARIES)
    hint = f"{hint} " if hint.startswith("did you mean") else ""
    raise UsageError(
        f"{text}: no such file, and no name of an encoder", fix=hint + NAMES_FIX
    )


def _refuse(architecture: str | None, reason: str) -> None:
    if architecture is not None:
        raise UsageError(
            f"architecture={architecture!r}: {reason}",
            fix="pass architecture with a file of weights only",
        )


def _placed(module: nn.Module, device: str) -> nn.Module:
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise UsageError(
            f"unknown device {device!r}", expected="cpu, cuda, cuda:1 or mps"
        ) from error
    try:
        return module.to(place)
    except (AssertionError, RuntimeError) as error:
        raise ResourceError(
            f"device {device}: cannot be used here",
            found=str(error).splitlines()[0][:120],
            fix="device cpu",
        ) from error
