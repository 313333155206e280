"""Which differences are too small to count? Noise of a stated size hides them.

A linear probe reads a difference of any size where features carry no noise: at
initialisation, or along a direction that training has shrunk to nothing. Noise is
added to the features as they are, before they are standardised: standardising would
blow up a vanishing direction to the size of all others, and no floor could hide it.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped

from repscope._arrays import Array, as_double, host, namespace
from repscope._checking import Undecidable, UsageError
from repscope.metrics.class_centres import ClassCentres
from repscope.representations.class_moments import ClassMoments

# Another stream than those of splits and bootstraps with the same seed.
_STREAM = 0xF1008


@dataclass(frozen=True)
class NoiseFloor:
    """How much noise is added to features before they are probed.

    N(0, (share * margin)^2), independent in each dimension of each row, training and
    test rows alike.

    Args:
        share: of the margin, from 0; .05 to .1 is usual.
        margin: half a distance that counts, in units of the features; None for what
            the metric takes by itself: `class_margin` where it knows classes above
            those it probes, else `row_margin`.
        seed: of the noise, which belongs to a row's position.
    """

    share: float = 0.1
    margin: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in (("share", self.share), ("margin", self.margin)):
            if value is not None and not 0 <= value < math.inf:
                raise UsageError(
                    f"noise floor: {name}", found=str(value), expected="from 0, finite"
                )

    def added_to(
        self, features: Shaped[Array, "n d"], margin: float
    ) -> Float[Array, "n d"]:
        """Return the features with noise, in float64 on their own device.

        Args:
            features: (n, d).
            margin: where the floor has none of its own.

        Source: Xue et al. 2023 (features learnt), as a noise of stated size. Differs
        from the source, which has no noise floor.
        """
        deviation = self.share * (margin if self.margin is None else self.margin)
        generator = np.random.default_rng([_STREAM, self.seed])
        noise = deviation * generator.standard_normal(tuple(features.shape))
        doubled = as_double(features)
        xp = namespace(doubled)
        return doubled + xp.asarray(noise, device=doubled.device)


def class_margin(
    features: Shaped[Array, "n d"], labels: Int[np.ndarray, " n"], n_classes: int
) -> float:
    """Return half the root mean square distance of two class centres.

    sqrt(mean over i != j of |mu_i - mu_j|^2) / 2: how far a class centre lies from the
    border to another class.

    Args:
        features: (n, d).
        labels: (n,) class codes.
        n_classes: number of classes c.

    Raises:
        Undecidable: with fewer than two classes.

    Example:
        >>> class_margin(np.array([[0.0], [0.0], [4.0]]), np.array([0, 0, 1]), 2)
        2.0
    """
    moments = ClassMoments(n_classes, features.shape[1])
    moments.update(host(as_double(features)), labels)
    centres = ClassCentres.of(moments)
    k = len(centres.classes)
    mean = float(centres.squared_distances().sum()) / (k * (k - 1))
    return centres.unit * math.sqrt(mean) / 2


def row_margin(features: Shaped[Array, "n d"]) -> float:
    """Return half the root mean square distance of two rows, sqrt(trace(S) / 2).

    S is the covariance (ddof 0).

    Args:
        features: (n, d).

    Raises:
        Undecidable: without rows, or where squares exceed the range of float64.

    Example:
        >>> row_margin(np.array([[0.0], [4.0]]))
        1.4142135623730951
    """
    if features.shape[0] == 0:
        raise Undecidable("no rows")
    doubled = as_double(features)
    xp = namespace(doubled)
    # Less the first row, constant features are zero, not the rounding of a mean.
    centred = doubled - doubled[:1, :]
    centred = centred - xp.mean(centred, axis=0)
    peak = float(xp.max(xp.abs(centred)))
    if not math.isfinite(peak):
        raise Undecidable("features exceed the range of float64")
    if peak == 0:
        return 0.0
    unit = math.ldexp(1.0, math.frexp(peak)[1])
    trace = float(xp.sum((centred / unit) ** 2)) / features.shape[0]
    return unit * math.sqrt(trace / 2)
