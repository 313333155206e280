"""How sure is a comparison of two probes on the same test rows?"""

import numpy as np
from jaxtyping import Bool, Float

from repscope.metrics.intervals import CONFIDENCE

BOOTSTRAP_DRAWS = 1000


def paired_draws(
    first: Bool[np.ndarray, " n"], second: Bool[np.ndarray, " n"], *, seed: int
) -> Float[np.ndarray, "draws 4"]:
    """Return bootstrap counts of the rows that both probes, one or none have right.

    Column 0 counts rows where neither is right, 1 only the second, 2 only the first, 3
    both. Drawing the counts of four outcomes is drawing rows.

    Args:
        first: (n,) right answers of one probe.
        second: (n,) those of another on the same rows.
        seed: of the draws.
    """
    outcomes = 2 * first.astype(int) + second.astype(int)
    shares = np.bincount(outcomes, minlength=4) / len(outcomes)
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(len(outcomes), shares, size=BOOTSTRAP_DRAWS)
    return drawn.astype(np.float64)


def central_interval(drawn: Float[np.ndarray, " k"]) -> tuple[float, float]:
    """Return the central 95 % of bootstrap draws."""
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
