"""A mean over images, and how sure it is: images are drawn, views of one are not."""

import numpy as np
import scipy.special
from jaxtyping import Float

from repscope.metrics.intervals import CONFIDENCE
from repscope.metrics.metric import Estimate


def mean_over_images(
    values: Float[np.ndarray, " n"],
    *,
    bounds: tuple[float, float],
) -> Estimate:
    """Return the mean of one number per image, with its 95 % interval.

    mean plus or minus t_{n-1} std / sqrt(n), with std of ddof 1, cut at the bounds

    Args:
        values: one number for each image, at least one.
        bounds: least and greatest possible value.

    Returns:
        The mean; no interval for one image.

    Source: Student 1908. As in the source.

    Example:
        >>> estimate = mean_over_images(np.array([0.0, 1.0]), bounds=(-99.0, 99.0))
        >>> estimate.value, [round(end, 2) for end in estimate.interval]
        (0.5, [-5.85, 6.85])
    """
    n = len(values)
    mean = min(max(float(values.mean()), bounds[0]), bounds[1])
    if n < 2:
        return Estimate(mean, details={"n_images": n})
    t = float(scipy.special.stdtrit(n - 1, (1 + CONFIDENCE) / 2))
    half = t * float(values.std(ddof=1)) / n**0.5
    interval = (max(mean - half, bounds[0]), min(mean + half, bounds[1]))
    return Estimate(mean, interval, {"n_images": n, "interval": "Student's t"})
