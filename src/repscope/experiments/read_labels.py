"""What do probes read of labels from an encoder? One set trains them, another tests."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from repscope.data.imageset import ImageSet
from repscope.metrics.logistic import logistic_probe
from repscope.metrics.nearest_centre import nearest_centre_probe
from repscope.metrics.probing import ProbeResult, standardise
from repscope.models.encoder import Encoder
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
