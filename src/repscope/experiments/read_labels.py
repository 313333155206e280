"""What do probes read of labels from an encoder? One set trains them, another tests."""

import copy
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import nn

from repscope.data.imageset import ImageSet
from repscope.metrics.logistic import logistic_probe
from repscope.metrics.nearest_centre import nearest_centre_probe
from repscope.metrics.probing import ProbeResult, standardise
from repscope.models.encoder import Encoder, normalised
from repscope.representations.embed import embed


@dataclass(frozen=True, eq=False)
class Rows:
    """Features of known images and of those that are asked for, with their labels.

    Args:
        known: (n, d) features that probes are fitted on.
        known_labels: (n,) class codes.
        asked: (m, d) features that they are tested on.
        asked_labels: (m,) class codes.
        n_classes: number of classes.
    """

    known: Float[np.ndarray, "n d"]
    known_labels: Int[np.ndarray, " n"]
    asked: Float[np.ndarray, "m d"]
    asked_labels: Int[np.ndarray, " m"]
    n_classes: int

    def nearest_centres(self) -> ProbeResult:
        """Return what nearest class centres read from the features as they are."""
        return nearest_centre_probe(
            self.known,
            self.known_labels,
            self.asked,
            self.asked_labels,
            self.n_classes,
        )

    def linear(self, *, C: float = 1.0) -> ProbeResult:
        """Return what logistic regression reads from standardised features.

        Args:
            C: inverse strength of its penalty.
        """
        known, asked = standardise(self.known, self.asked)
        return logistic_probe(
            known,
            self.known_labels,
            asked,
            self.asked_labels,
            self.n_classes,
            C=C,
        )


def rows_of(
    encoder: Encoder,
    known: ImageSet,
    asked: ImageSet,
    *,
    level: str | None = None,
    layer: str | None = None,
    device: str = "auto",
) -> Rows:
    """Return features of two image sets, in double precision, with labels of a level.

    Args:
        encoder: in whatever mode; it is evaluated, and left as it was.
        known: on which probes are fitted.
        asked: on which they are tested; its classes have the same codes.
        level: of both sets; the finest by default.
        layer: of the encoder; its default by default.
        device: as for `train`.
    """
    features = [
        embed(encoder, images, layers=layer, device=device, thumbnails=False)
        .features(layer)
        .astype(np.float64)
        for images in (known, asked)
    ]
    return Rows(
        features[0],
        known.level(level).codes,
        features[1],
        asked.level(level).codes,
        known.level(level).n_classes,
    )


def with_statistics_of(encoder: Encoder, images: ImageSet) -> Encoder:
    """Return the encoder with the images' own statistics in its batch normalisation.

    Running averages lag behind weights that move fast, as in the first epochs of a
    training, and know nothing before it. All images pass at once.

    Args:
        encoder: whose network is copied.
        images: without planes, as few as fit into memory.
    """
    module = copy.deepcopy(encoder.module)
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.reset_running_stats()
            part.momentum = None  # the plain mean of all batches, which is one
    pixels = images.pixels(np.arange(images.n), encoder.preprocess).array
    device = next(module.parameters()).device
    with torch.no_grad():
        module.train()
        module(normalised(torch.from_numpy(pixels).to(device), encoder.preprocess))
    return replace(encoder, module=module.eval())
