"""How the rows lie among each other and their classes, beyond what sums can tell."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from repscope._arrays import hash_ids
from repscope._checking import Undecidable
from repscope.diagnosis.probe_rows import ProbeRows
from repscope.metrics import (
    class_scores,
    few_shot,
    geometry,
    hubness,
    neural_collapse,
    partitions,
    profiles,
    silhouette,
)
from repscope.metrics.curves import ncc_linear_ratio
from repscope.metrics.labelled_ingredients import LabelledIngredients
from repscope.metrics.measuring import taken_of
from repscope.metrics.metric import Estimate, Metric, metric_of
from repscope.records import Detail, Measurement

# Of features alone; each compares rows with rows.
GEOMETRY: tuple[Metric, ...] = tuple(
    metric_of(function)
    for function in (geometry.uniformity, geometry.mean_cosine, hubness.hubness)
)
# Of labels, each comparing rows with rows.
CLASSES: tuple[Metric, ...] = tuple(
    metric_of(function)
    for function in (
        geometry.tolerance,
        silhouette.silhouette,
    )
)
# Of labels and clusters; both read the same clusters.
CLUSTERS = (
    (partitions.kmeans_ari, partitions.adjusted_rand_index),
    (partitions.kmeans_nmi, partitions.normalised_mutual_information),
)
# Ten starts of k-means on more values cost more than all probes.
CLUSTERS_MAXIMUM_VALUES = 2_560_000
# Of labels and the answers of probes.
ANSWERS: tuple[Metric, ...] = tuple(
    metric_of(function)
    for function in (
        ncc_linear_ratio,
        neural_collapse.nc4_agreement,
        few_shot.few_shot_accuracy,
        profiles.class_deviance,
        profiles.deviance_gap,
        profiles.exclusivity,
        class_scores.score_gap,
    )
)

# Details of these that hold codes of classes.
_CLASS_DETAILS = ("missing", "missing_correct", "missing_incorrect")


def structure_measurements(
    rows: ProbeRows, entries: Sequence[Metric]
) -> list[Measurement]:
    """Return some metrics of some rows, level by level where labels take part."""
    return list(_taken(rows, entries))


def _taken(rows: ProbeRows, entries: Sequence[Metric]) -> Iterator[Measurement]:
    classes = {one.level.name: one.level.classes for one in rows.supply.levels}
    for entry in entries:
        for one, missing in taken_of(entry, rows.supply):
            if not missing:
                details = _named(one.details, classes.get(one.level or "", ()))
                yield dataclasses.replace(one, layer="features", details=details)


def _named(
    details: Mapping[str, Detail], classes: Sequence[str]
) -> Mapping[str, Detail]:
    """Return details with the names of missing classes in place of their codes."""
    return {
        key: tuple(classes[code] if isinstance(code, int) else code for code in value)
        if key in _CLASS_DETAILS and isinstance(value, tuple) and classes
        else value
        for key, value in details.items()
    }


def cluster_measurements(rows: ProbeRows) -> list[Measurement]:
    """Return how well k-means finds the classes of each label level."""
    base = rows.supply.base
    most = max(2, CLUSTERS_MAXIMUM_VALUES // base.d)
    taken = []
    for one in rows.supply.levels:
        clusters = functools.cache(functools.partial(_clusters, rows, one, most))
        for function, agreement in CLUSTERS:
            taken.append(
                metric_of(function).measured(
                    functools.partial(_agreement, clusters, one, agreement),
                    n=min(base.n, most),
                    d=base.d,
                    level=one.level.name,
                )
            )
    return taken


def _agreement(
    clusters: Callable[[], partitions.Partition],
    one: LabelledIngredients,
    agreement: Callable[..., Estimate],
) -> Estimate:
    return partitions.agreement_of(clusters(), one.labels, agreement)


def _clusters(
    rows: ProbeRows, one: LabelledIngredients, most: int
) -> partitions.Partition:
    k = len(np.unique(one.labels))
    if k < 2:
        raise Undecidable("fewer than two classes have samples")
    return partitions.k_means(
        rows.supply.base.doubled,
        k,
        row_hashes=hash_ids(rows.representation.ids),
        seed=rows.seed,
        maximum_rows=most,
    )
