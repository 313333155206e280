"""Two-dimensional maps of features, each with its distortion stated."""

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from jaxtyping import Float, Int, Shaped

from repscope._arrays import hash_ids
from repscope._numerics import squared_distances
from repscope.representations.moments import Moments

NEIGHBOURS = 10
AGREEMENT_ROWS = 1000


@dataclass(frozen=True, eq=False)
class Projection:
    """A map of rows.

    Args:
        positions: (n, 2).
        variance_share: share of the variance that the map shows.
        neighbour_agreement: share of each row's 10 nearest on the map that are among
            its 10 nearest in the features, on up to 1,000 rows.
    """

    positions: Float[np.ndarray, "n 2"]
    variance_share: float
    neighbour_agreement: float


def principal_axes(moments: Moments) -> tuple[Float[np.ndarray, "d k"], float]:
    """Return the first two principal axes and the share of the variance they show.

    Signs are fixed: the largest entry of each axis is positive.
    """
    d = moments.d
    covariance = moments.covariance()
    total = float(np.trace(covariance))
    if total <= 0 or d == 1:
        return np.eye(d)[:, : min(2, d)], 1.0 if d == 1 else 0.0
    values, axes = scipy.linalg.eigh(
        covariance / total, subset_by_index=[d - 2, d - 1], check_finite=False
    )
    axes = axes[:, ::-1]
    signs = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(2)])
    return axes * signs, float(np.clip(values.sum(), 0, 1))


def principal_map(features: Shaped[np.ndarray, "n d"], moments: Moments) -> Projection:
    """Return the rows on the first two principal components.

    Args:
        features: rows to place.
        moments: of the features the axes are taken from.

    Source: Pearson 1901. As in the source.
    """
    axes, share = principal_axes(moments)
    positions = (np.asarray(features, dtype=np.float64) - moments.mean) @ axes
    if positions.shape[1] == 1:
        positions = np.column_stack([positions, np.zeros(len(positions))])
    rows = _some_rows(len(features))
    agreement = neighbour_agreement(np.asarray(features)[rows], positions[rows])
    return Projection(positions, share, agreement)


def _some_rows(n: int) -> Int[np.ndarray, " m"]:
    order = np.argsort(hash_ids(np.arange(n)), kind="stable")
    return np.sort(order[:AGREEMENT_ROWS])


def neighbour_agreement(
    features: Shaped[np.ndarray, "n d"], positions: Float[np.ndarray, "n 2"]
) -> float:
    """Return how many of the nearest rows on a map are nearest in the features too.

    Returns:
        From about 10 / n (unrelated) to 1; 1 where there are too few rows to differ.
    """
    k = min(NEIGHBOURS, len(features) - 1)
    if k < 1:
        return 1.0
    near = [_nearest(np.asarray(x, dtype=np.float64), k) for x in (features, positions)]
    shared = [len(np.intersect1d(a, b)) for a, b in zip(*near, strict=True)]
    return float(np.mean(shared) / k)


def _nearest(rows: Float[np.ndarray, "n d"], k: int) -> Int[np.ndarray, "n k"]:
    distances = squared_distances(rows, rows)
    np.fill_diagonal(distances, np.inf)
    return np.argpartition(distances, k - 1, axis=1)[:, :k]
