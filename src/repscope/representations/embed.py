"""The verb embed: an encoder over images, in order, in evaluation mode, resumable."""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from repscope._checking import UsageError
from repscope._images import Preprocess
from repscope.data.imageset import ImageSet
from repscope.data.reading import ALLOWED_FAILURES
from repscope.data.sources import open_images
from repscope.models.encoder import Encoder
from repscope.models.layer_outputs import Pool
from repscope.models.third_party import open_encoder
from repscope.representations.embedding import Embedding
from repscope.representations.embedding_run import (
    EmbeddingRun,
    Progress,
    first_batch,
)
from repscope.representations.forward_pass import Forward, evaluating
from repscope.representations.image_batches import (
    ImageReader,
    Prepare,
    first_pixels,
    takes_arrays,
)

_log = logging.getLogger("repscope")

# Of layers that are maps; of an encoder that does not say what fits its layers.
DEFAULT_POOL: Pool = "gap"


def embed(
    encoder: Encoder | nn.Module | str | Path,
    images: Any,
    *,
    preprocess: Preprocess | Prepare | None = None,
    layers: Sequence[str] | str | None = None,
    pool: Pool | None = None,
    batch_size: int = 256,
    device: str | torch.device = "auto",
    out: str | Path | None = None,
    overwrite: bool = False,
    untrained_seed: int | None = None,
    thumbnails: bool = True,
    allowed_failures: float = ALLOWED_FAILURES,
    progress: Progress | None = None,
) -> Embedding:
    """Return what an encoder makes of images: one row per readable image and layer.

    Evaluation mode, no gradients, float32 without TF32, all layers from one pass, the
    images in their order; the network is left as it was. The batch size changes
    features by rounding only; batches are halved where memory ends.

    Args:
        encoder: an `Encoder`, what `open_encoder` takes (a run, a file of weights, a
            name such as "timm/resnet18"), or any module together with `preprocess`.
        images: an `ImageSet`, or what `open_images` takes.
        preprocess: in place of the encoder's; or a function of a Pillow image (or uint8
            array) that returns a tensor (c, h, w); several threads call it.
        layers: names or module paths; "all" named ones, None the default layer.
        pool: how maps and tokens become vectors: "gap", "cls", "mean" or "flatten".
        batch_size: images per pass.
        device: "auto" is CUDA where there is one, else where the network is.
        out: a folder to write shard by shard; the same command goes on where it ended.
        overwrite: replace other features in that folder.
        untrained_seed: take the network freshly initialised: an untrained reference.
        thumbnails: keep pictures of at most 48 pixels for reports.
        allowed_failures: share of images that may be unreadable; they have no row.
        progress: called with how many images are done and how many there are.

    Raises:
        InputError: where more images cannot be read than allowed.
        UsageError: for a layer, planes, a device, a size of images or a folder that do
            not fit, or a folder that another process writes into.
        ResourceError: where memory ends with one image, the disk is full, or there is
            no such device.
    """
    if isinstance(encoder, str | Path):
        encoder = open_encoder(encoder)
    source = open_images(images)
    reader = _reader_of(encoder, source, preprocess, thumbnails)
    network = _network_of(encoder, reader, allowed_failures)
    if untrained_seed is not None:
        network = network.untrained(untrained_seed)
    names = _ordered_layers(network, layers)
    with evaluating(network.module, device) as place:
        chosen = pool or cast(Pool, network.facts.get("pool", DEFAULT_POOL))
        forward = Forward(network, names, chosen, place, batch_size)
        run = EmbeddingRun(forward, reader, allowed_failures, progress)
        return run.in_memory() if out is None else run.in_folder(out, overwrite)


def _reader_of(
    encoder: Encoder | nn.Module,
    images: ImageSet,
    preprocess: Preprocess | Prepare | None,
    thumbnails: bool,
) -> ImageReader:
    if preprocess is None and isinstance(encoder, Encoder):
        preprocess = encoder.preprocess
    if preprocess is None:
        raise UsageError(
            "preprocess: a plain module does not say what pictures it takes",
            expected="a Preprocess record, or a function of a picture",
            fix="preprocess=Preprocess(size=224, mean=(...), std=(...))",
        )
    wants_arrays = not isinstance(preprocess, Preprocess) and takes_arrays(
        preprocess, first_pixels(images)
    )
    return ImageReader(
        images,
        preprocess,
        with_thumbnails=thumbnails,
        takes_arrays=wants_arrays,
        substituted=images.failures,
    )


def _network_of(
    encoder: Encoder | nn.Module, reader: ImageReader, allowed_failures: float
) -> Encoder:
    """Return an encoder that fits the reader's preprocessing and planes.

    Raises:
        UsageError: where the encoder expects other planes than the images have.
    """
    preprocess, planes = reader.preprocess, reader.images.n_planes
    if not isinstance(preprocess, Preprocess):
        # A function does all itself: what is left is the identity.
        channels = first_batch(reader, allowed_failures).inputs.shape[1]
        preprocess = Preprocess(1, channels=channels)
    if not isinstance(encoder, Encoder):
        _tell_of_scores(encoder)
        encoder = Encoder.of(encoder, preprocess, planes=planes)
    encoder = dataclasses.replace(encoder, preprocess=preprocess)
    if encoder.planes != planes:
        raise UsageError(
            f"encoder {encoder.name}: the planes do not fit",
            found=f"{planes} constant planes on {reader.images.name}",
            expected=f"{encoder.planes}, as the encoder was made for",
            fix="plant the same bits with randbit(images, bits)"
            if encoder.planes
            else "embed the images without planted bits",
        )
    return encoder


def _tell_of_scores(module: nn.Module) -> None:
    """Say that what a classifier returns are class scores, where it looks like one."""
    leaves = [path for path, part in module.named_modules() if not any(part.children())]
    last = module.get_submodule(leaves[-1])
    if isinstance(last, nn.Linear) and len(leaves) > 1:
        _log.info(
            "the module ends in a linear layer, %s, of %d outputs: if they are class "
            "scores, name the layer before it, layers=[...], or put nn.Identity there",
            leaves[-1],
            last.out_features,
        )


def _ordered_layers(
    encoder: Encoder, layers: Sequence[str] | str | None
) -> tuple[str, ...]:
    """Return layers once each, shallow to deep.

    Raises:
        UsageError: where none is given.
    """
    named, paths = list(encoder.layers), list(encoder.module_paths)
    if layers == "all":
        return tuple(named)
    if layers is None:
        return (encoder.default_layer,)
    asked = list(dict.fromkeys([layers] if isinstance(layers, str) else layers))
    if not asked:
        raise UsageError("layers: none given", fix="leave layers out for the default")
    if set(asked) <= set(named):
        return tuple(sorted(asked, key=named.index))
    # Modules are registered in the order of the computation, nearly always.
    places = {path: place for place, path in enumerate(paths)}
    paths_asked = {name: encoder.layers.get(name, name) for name in asked}
    return tuple(
        sorted(asked, key=lambda name: places.get(paths_asked[name], len(paths)))
    )
