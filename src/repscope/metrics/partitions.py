"""Do clusters that are found without labels agree with the labels?

k-means finds as many clusters as there are classes; what two partitions share is read
from their contingency table.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.special
from jaxtyping import Float, Int, Shaped, UInt64

from repscope._arrays import Array, as_double, as_matrix, hash_rows, host, namespace
from repscope._checking import NonFiniteFeatureError, Undecidable, check_length
from repscope.metrics.class_centres import power_of_two
from repscope.metrics.intervals import CONFIDENCE
from repscope.metrics.metric import Estimate, metric
from repscope.metrics.row_sample import sampled_rows
from repscope.records import Detail

# k-means from scratch on more rows than this takes minutes: more are sampled.
MAXIMUM_ROWS = 20_000
INITIALISATIONS = 10
MAXIMUM_ITERATIONS = 300

Table = Float[np.ndarray, "k c"]
_MISLEADS = (
    "k-means looks for round clusters of equal width: classes that a probe tells apart "
    "perfectly may be no clusters; the interval knows nothing of another clustering"
)


@dataclass(frozen=True, eq=False)
class Partition:
    """What k-means finds.

    Args:
        rows: (m,) rows that were clustered, ascending.
        clusters: (m,) the cluster of each.
        inertia: mean squared distance to the nearest centre, as a share of the total
            variance.
        iterations: of the best of its starts.
        converged: whether that one came to rest.
    """

    rows: Int[np.ndarray, " m"]
    clusters: Int[np.ndarray, " m"]
    inertia: float
    iterations: int
    converged: bool


def k_means(
    features: Shaped[Array, "n d"],
    n_clusters: int,
    *,
    row_hashes: UInt64[np.ndarray, " n"] | None = None,
    seed: int = 0,
    maximum_rows: int = MAXIMUM_ROWS,
) -> Partition:
    """Return the best of ten k-means clusterings, of scikit-learn.

    Rows are centred, in float64, and sorted by their length, so that the same rows give
    the same clusters in any order and, but for rounding, on any scale. Above
    `maximum_rows`, those of smallest hash with the seed are clustered.

    Args:
        features: (n, d), finite.
        n_clusters: k, at most n.
        row_hashes: (n,) one hash per row, of its id; of its values if not given.
        seed: of the starts and of the sample.
        maximum_rows: more rows are sampled.

    Raises:
        InputError: where values are not finite.
        Undecidable: with constant features, or no more rows than clusters.

    Source: Lloyd 1982; Arthur, Vassilvitskii 2007 (k-means++). As in the source.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    matrix = as_matrix(features)
    chosen = sampled_rows(matrix, row_hashes, seed=seed, maximum_rows=maximum_rows)
    if len(chosen) <= n_clusters:
        raise Undecidable(f"{len(chosen)} rows for {n_clusters} clusters")
    taken = matrix[namespace(matrix).asarray(chosen), :]
    rows = _in_their_own_unit(host(as_double(taken)))
    order = _canonical_order(rows)
    with warnings.catch_warnings():
        # Fewer distinct rows than clusters leave clusters empty; the table shows it.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fit = KMeans(
            n_clusters,
            n_init=INITIALISATIONS,
            max_iter=MAXIMUM_ITERATIONS,
            random_state=seed,
        ).fit(rows[order])
    clusters = np.empty(len(rows), dtype=np.int64)
    clusters[order] = fit.labels_
    return Partition(
        rows=chosen,
        clusters=clusters,
        inertia=float(fit.inertia_) / float((rows**2).sum()),
        iterations=int(fit.n_iter_),
        converged=bool(fit.n_iter_ < MAXIMUM_ITERATIONS),
    )


def _in_their_own_unit(rows: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "m d"]:
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise NonFiniteFeatureError("features", len(bad), int(bad[0]))
    # Less the first row, constant features are zero, not the rounding of a mean.
    rows = rows - rows[0]
    size = float(np.abs(rows).max())
    if size == 0:
        raise Undecidable("all features are constant")
    rows /= power_of_two(size)
    return rows - rows.mean(axis=0)


def _canonical_order(rows: Float[np.ndarray, "m d"]) -> Int[np.ndarray, " m"]:
    """Return an order that neither the order of the rows nor their scale changes."""
    lengths = np.sqrt((rows**2).sum(axis=1))
    # Rows as long as each other but for rounding are told apart by their values.
    steps = np.round(lengths / lengths.max() * 1e9)
    return np.lexsort((hash_rows(np.round(rows, 9)), steps))


def contingency(
    labels: Int[np.ndarray, " m"], clusters: Int[np.ndarray, " m"]
) -> Table:
    """Return how many rows each class (row) and cluster (column) share.

    Classes and clusters without rows have no place in it.
    """
    classes, first = np.unique(labels, return_inverse=True)
    found, second = np.unique(clusters, return_inverse=True)
    flat = first * len(found) + second
    counts = np.bincount(flat, minlength=len(classes) * len(found))
    return counts.reshape(len(classes), len(found)).astype(np.float64)


def adjusted_rand_index(table: Table) -> Estimate:
    """Return the adjusted Rand index of two partitions.

    (S - A B / T) / ((A + B) / 2 - A B / T), with S, A and B the pairs of rows that
    share a cell, a class and a cluster, and T all pairs.

    Args:
        table: (k, c) rows that each class shares with each cluster.

    Returns:
        1 where the partitions are one, 0 on average for random ones, -.5 at least.
        Interval: jackknife over rows, both partitions fixed.

    Source: Hubert, Arabie 1985, Eq. 5. As in the source.

    Example:
        >>> adjusted_rand_index(np.array([[2.0, 0.0], [0.0, 2.0]])).value
        1.0
    """
    n = float(table.sum())
    classes = table.sum(axis=1, keepdims=True)
    clusters = table.sum(axis=0, keepdims=True)
    shared, of_classes, of_clusters = (
        np.array((x * (x - 1) / 2).sum()) for x in (table, classes, clusters)
    )

    def index(shared: Array, a: Array, b: Array, n: float) -> Array:
        expected = a * b / max(n * (n - 1) / 2, 1)
        span = (a + b) / 2 - expected
        trivial = span == 0
        return np.where(trivial, 1, (shared - expected) / np.where(trivial, 1, span))

    value = index(shared, of_classes, of_clusters, n)
    # Without one row of a cell, each count of pairs loses those of that row.
    without = index(
        shared - (table - 1),
        of_classes - (classes - 1) + np.zeros_like(table),
        of_clusters - (clusters - 1) + np.zeros_like(table),
        n - 1,
    )
    return _jackknifed(float(value), without, table, (-0.5, 1.0))


def normalised_mutual_information(table: Table) -> Estimate:
    """Return the mutual information of two partitions over their mean entropy.

    2 I / (H_classes + H_clusters)

    Args:
        table: (k, c) rows that each class shares with each cluster.

    Returns:
        From 0 (independent) to 1 (the partitions are one). Interval: jackknife over
        rows, both partitions fixed.

    Source: Kvalseth 1987. As in the source; Strehl, Ghosh 2002 divide by the geometric
    mean. Any base of the logarithm.

    Example:
        >>> normalised_mutual_information(np.array([[2.0, 0.0], [0.0, 2.0]])).value
        1.0
    """
    n = float(table.sum())
    classes = table.sum(axis=1, keepdims=True)
    clusters = table.sum(axis=0, keepdims=True)
    shared, of_classes, of_clusters = (
        np.array(_x_log_x(x).sum()) for x in (table, classes, clusters)
    )

    def information(shared: Array, a: Array, b: Array, n: float) -> Array:
        whole = _x_log_x(np.array(n))
        entropies = 2 * whole - a - b
        mutual = np.clip(2 * (shared - a - b + whole), 0, entropies)
        trivial = entropies <= 1e-12 * whole
        return np.where(trivial, 1, mutual / np.where(trivial, 1, entropies))

    value = information(shared, of_classes, of_clusters, n)
    without = information(
        shared + _less_one(table),
        of_classes + _less_one(classes) + np.zeros_like(table),
        of_clusters + _less_one(clusters) + np.zeros_like(table),
        n - 1,
    )
    return _jackknifed(float(value), without, table, (0.0, 1.0))


def _x_log_x(counts: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    return np.asarray(scipy.special.xlogy(counts, counts))


def _less_one(counts: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Return how x log x changes where one row is taken off."""
    return _x_log_x(np.maximum(counts - 1, 0)) - _x_log_x(counts)


def _jackknifed(
    value: float, without: Table, table: Table, bounds: tuple[float, float]
) -> Estimate:
    """Return the value with its delete-one-row jackknife interval.

    Args:
        value: on all rows.
        without: without one row of each cell.
        table: rows of each cell.
        bounds: least and greatest possible value.

    Source: Efron, Tibshirani 1993, Eq. 11.5. As in the source.
    """
    n = float(table.sum())
    used = np.where(table > 0, without, 0)
    mean = float((table * used).sum()) / n
    variance = (n - 1) / n * float((table * (used - mean) ** 2).sum())
    half = float(scipy.special.ndtri((1 + CONFIDENCE) / 2)) * variance**0.5
    interval = max(value - half, bounds[0]), min(value + half, bounds[1])
    return Estimate(
        value, interval, {"interval": "jackknife over rows, clusters fixed"}
    )


@metric(
    title="adjusted Rand index of k-means",
    formula="(S - A B / T) / ((A + B) / 2 - A B / T); S, A, B: pairs of rows in one "
    "cell, class, cluster; T all pairs; k = c clusters, best of 10 starts",
    needs="labels",
    range="[-.5, 1]; 0 is chance",
    bounds=(-0.5, 1.0),
    direction="higher",
    minimum_n=4,
    degree=0,
    invariances=("shift", "rotation"),
    cost="O(m k d) per step, m = min(n, 20,000)",
    source="Hubert, Arabie 1985, Eq. 5",
    misleads=_MISLEADS,
)
def kmeans_ari(
    features: Shaped[Array, "n d"],
    labels: Int[np.ndarray, " n"],
    *,
    row_hashes: UInt64[np.ndarray, " n"] | None = None,
    seed: int = 0,
) -> Estimate:
    """Return how well k-means finds the classes, adjusted for chance.

    Args:
        features: (n, d), finite.
        labels: (n,) class codes; k is the number of classes that have rows.
        row_hashes: (n,) one hash per row, of its id; of its values if not given.
        seed: of k-means, and of the sample of more than 20,000 rows.

    Returns:
        1 where clusters are the classes, about 0 for random labels; higher is better.
        Interval: jackknife over rows for these clusters. Details: `k`, `inertia` as a
        share of the variance, `iterations`, `converged`, `n_sampled`.

    Raises:
        InputError: where labels and features differ in length, or some are not finite.
        Undecidable: with fewer than two classes, constant features, or no more rows
            than classes.

    Source: Hubert, Arabie 1985. As in the source.
    """
    return _agreement(
        features, labels, row_hashes, seed=seed, agreement=adjusted_rand_index
    )


@metric(
    title="normalised mutual information of k-means",
    formula="2 I(class, cluster) / (H(class) + H(cluster)); k = c clusters, best of 10 "
    "starts",
    needs="labels",
    range="[0, 1]",
    bounds=(0.0, 1.0),
    direction="higher",
    minimum_n=4,
    degree=0,
    invariances=("shift", "rotation"),
    cost="O(m k d) per step, m = min(n, 20,000)",
    source="Kvalseth 1987 (arithmetic mean of entropies)",
    misleads="not adjusted for chance: many classes of few rows score high at random; "
    + _MISLEADS,
)
def kmeans_nmi(
    features: Shaped[Array, "n d"],
    labels: Int[np.ndarray, " n"],
    *,
    row_hashes: UInt64[np.ndarray, " n"] | None = None,
    seed: int = 0,
) -> Estimate:
    """Return the information that k-means clusters share with the classes.

    Args:
        features: (n, d), finite.
        labels: (n,) class codes; k is the number of classes that have rows.
        row_hashes: (n,) one hash per row, of its id; of its values if not given.
        seed: of k-means, and of the sample of more than 20,000 rows.

    Returns:
        From 0 to 1, where clusters are the classes; higher is better. Interval:
        jackknife over rows for these clusters. Details as those of `kmeans_ari`.

    Raises:
        InputError: where labels and features differ in length, or some are not finite.
        Undecidable: with fewer than two classes, constant features, or no more rows
            than classes.

    Source: Kvalseth 1987. As in the source.
    """
    return _agreement(
        features, labels, row_hashes, seed=seed, agreement=normalised_mutual_information
    )


def _agreement(
    features: Array,
    labels: Int[np.ndarray, " n"],
    row_hashes: UInt64[np.ndarray, " n"] | None,
    *,
    seed: int,
    agreement: Callable[[Table], Estimate],
) -> Estimate:
    codes = np.asarray(labels)
    check_length("labels", len(codes), as_matrix(features).shape[0])
    k = len(np.unique(codes))
    if k < 2:
        raise Undecidable("fewer than two classes have samples")
    partition = k_means(features, k, row_hashes=row_hashes, seed=seed)
    return agreement_of(partition, codes, agreement)


def agreement_of(
    partition: Partition,
    labels: Int[np.ndarray, " n"],
    agreement: Callable[[Table], Estimate] = adjusted_rand_index,
) -> Estimate:
    """Return how a clustering that is known agrees with labels.

    Args:
        partition: of `k_means`.
        labels: (n,) class codes of all rows.
        agreement: `adjusted_rand_index` or `normalised_mutual_information`.

    Returns:
        The estimate, with details of the clustering.
    """
    table = contingency(labels[partition.rows], partition.clusters)
    found = agreement(table)
    details: dict[str, Detail] = {
        "k": int(table.shape[0]),
        "inertia": partition.inertia,
        "iterations": partition.iterations,
        "converged": partition.converged,
        "n_sampled": len(partition.rows),
        **found.details,
    }
    return Estimate(found.value, found.interval, details)
