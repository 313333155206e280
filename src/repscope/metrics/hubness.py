"""Are a few images the nearest neighbours of nearly all others?"""

import numpy as np
from jaxtyping import Float, Int

from repscope._arrays import as_matrix
from repscope._checking import Undecidable, UsageError
from repscope.metrics.directions import (
    RowHashes,
    Rows,
    chosen_rows,
    has_direction,
    hashes_of,
)
from repscope.metrics.intervals import CONFIDENCE
from repscope.metrics.metric import Estimate, metric
from repscope.metrics.nearest import nearest_within
from repscope.metrics.nearest_points import take_rows

NEIGHBOURS = 10
# Above this many rows, as many are drawn.
HUBNESS_ROWS = 20_000
# With ties at the last neighbour of more rows than this share, which row counts as a
# neighbour is a matter of order.
MOST_TIES = 0.1
BOOTSTRAP_DRAWS = 500


@metric(
    title="hubness",
    formula="skewness of N_i, the number of rows that have row i among their 10 most "
    "similar others, by cosine",
    needs="rows",
    range="(-∞, ∞); about 0 without hubs",
    bounds=(None, None),
    direction="lower",
    minimum_n=12,
    degree=0,
    invariances=("rotation",),
    cost="O(n² d), n at most 20,000",
    source="Radovanović, Nanopoulos, Ivanović 2010, Eq. 1",
    misleads="grows with n and with the dimension even of pure noise: compare at equal "
    "n, and beside a reference",
)
def hubness(
    features: Rows,
    *,
    k: int = NEIGHBOURS,
    seed: int = 0,
    row_hashes: RowHashes | None = None,
) -> Estimate:
    """Return the skewness of how often each row is a neighbour.

    mean (N_i - mean)^3 / std^3 with deviations of ddof 0, N_i the number of other rows
    that have row i among their k most similar others. Zero rows have no direction and
    are left out. The interval resamples occurrences.

    Args:
        features: (n, d).
        k: neighbours per row, at least 1.
        seed: of the bootstrap, and of the choice of rows above 20,000, by a hash of
            their values.
        row_hashes: of the rows, where they are known.

    Returns:
        About 0 where all rows are chosen about equally often, large where a few hubs
        are neighbours of many; lower is better. Details: `largest_share`, of rows that
        have the greatest hub among their neighbours; `antihub_share`, of rows that are
        nobody's neighbour; `tied_share`, of rows whose last neighbour is a tie.

    Raises:
        UsageError: where k is not positive.
        NonFiniteFeatureError: where a row holds NaN or infinity.
        Undecidable: with fewer than k + 2 rows, where ties decide who is a neighbour,
            or where every row is chosen equally often.

    Source: Radovanović, Nanopoulos, Ivanović 2010, Eq. 1. As in the source, with
    cosines.
    """
    if k < 1:
        raise UsageError("hubness: neighbours", found=f"k = {k}", expected="at least 1")
    rows = as_matrix(features)
    directed = np.flatnonzero(has_direction(rows))
    zero_rows = rows.shape[0] - len(directed)
    if zero_rows or len(directed) > HUBNESS_ROWS:
        hashes = hashes_of(rows) if row_hashes is None else row_hashes
        taken = directed[chosen_rows(hashes[directed], HUBNESS_ROWS, seed)]
        rows = take_rows(rows, taken) if len(taken) else rows[:0, :]
    n = rows.shape[0]
    if n < k + 2:
        raise Undecidable(
            f"{n} rows with a direction; {k + 2} are needed to tell {k} neighbours "
            "from the others"
        )
    # One neighbour more tells whether the last that counts is a tie.
    indices, distances = nearest_within(rows, k + 1)
    tied = float((distances[:, k - 1] == distances[:, k]).mean())
    if tied > MOST_TIES:
        raise Undecidable(
            f"{tied:.0%} of rows have ties at their last neighbour: which row counts "
            "is a matter of order"
        )
    occurrences = np.bincount(indices[:, :k].ravel(), minlength=n)
    return Estimate(
        _skewness(occurrences),
        interval=_bootstrapped(occurrences, seed),
        details={
            "interval": "bootstrap of occurrences",
            "k": k,
            "rows": n,
            "zero_rows": zero_rows,
            "largest_share": float(occurrences.max()) / (n - 1),
            "antihub_share": float((occurrences == 0).mean()),
            "tied_share": tied,
        },
    )


def _bootstrapped(
    occurrences: Int[np.ndarray, " n"], seed: int
) -> tuple[float, float] | None:
    """Return the percentile interval of resampled occurrences; None without spread.

    Occurrences are drawn as if they were independent, which they nearly are; no
    neighbour is searched again. Coverage of 95 % intervals was 89 to 95 % over planted
    sets of 500 to 1,500 rows.
    """
    generator = np.random.default_rng(seed)
    n = len(occurrences)
    drawn = []
    for _ in range(BOOTSTRAP_DRAWS):
        sample = occurrences[generator.integers(0, n, n)]
        if sample.min() == sample.max():
            return None
        drawn.append(_skewness(sample))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return float(low), float(high)


def _skewness(values: Int[np.ndarray, " n"]) -> float:
    centred: Float[np.ndarray, " n"] = values - values.mean()
    deviation = np.sqrt((centred**2).mean())
    if deviation == 0:
        raise Undecidable("every row is a neighbour equally often")
    return float(((centred / deviation) ** 3).mean())
