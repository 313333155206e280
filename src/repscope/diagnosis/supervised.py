"""All that is measured with labels: class geometry, probes, failure prediction."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int, UInt64

from repscope._arrays import hash_ids
from repscope.diagnosis.label_free import with_jackknife
from repscope.diagnosis.survey import GroupSums, Survey
from repscope.metrics import clustering, failure, hierarchy, neighbours, probing
from repscope.metrics.gram import GramBasis
from repscope.metrics.metric import Estimate, metric_of
from repscope.metrics.probing import ProbeResult
from repscope.records import Measurement
from repscope.representations.representation import (
    Level,
    Representation,
    parents_of,
)

# The scores whose prediction of errors is shown, those of the source's Table 1.
PREDICTORS = (
    "q_score",
    "z_max",
    "l1_norm",
    "feature_mean",
    "feature_std",
    "soft_sparsity",
)
# Probes see at most this many rows, chosen by the hash of their id.
PROBE_MAXIMUM_ROWS = 20_000
_PROBE_SEED = 0x9B0BE


@dataclass(frozen=True, eq=False)
class ProbeRows:
    """The rows that probes see, features in memory.

    Args:
        rows: (m,) positions in the representation, ascending.
        features: (m, d).
        is_test: (m,) True for test rows.
        row_hashes: (m,) equal for equal rows.
    """

    rows: Int[np.ndarray, " m"]
    features: Float[np.ndarray, "m d"]
    is_test: Bool[np.ndarray, " m"]
    row_hashes: UInt64[np.ndarray, " m"]

    @functools.cached_property
    def standardised(
        self,
    ) -> tuple[Float[np.ndarray, "a d"], Float[np.ndarray, "b d"]]:
        """Train and test features, standardised by the training rows."""
        return probing.standardise(
            self.features[~self.is_test], self.features[self.is_test]
        )

    @functools.cached_property
    def basis(self) -> GramBasis:
        """The eigenbasis that all linear probes of these rows share."""
        return GramBasis.of(self.standardised[0])


@dataclass(eq=False)
class Supervised:
    """What labels added.

    Args:
        measurements: in the order taken.
        predictions: (level, probe) -> predicted codes of the test rows.
        results: (level, probe) -> the probe's result.
    """

    measurements: list[Measurement] = field(default_factory=list)
    results: dict[tuple[str, str], ProbeResult] = field(default_factory=dict)


def choose_rows(
    representation: Representation,
    is_test: Bool[np.ndarray, " n"],
    row_hashes: UInt64[np.ndarray, " n"],
) -> ProbeRows:
    """Return the rows that probes see: all, or 20,000 by the hash of their id."""
    rows = np.arange(representation.n)
    if representation.n > PROBE_MAXIMUM_ROWS:
        order = np.argsort(hash_ids(representation.ids, _PROBE_SEED), kind="stable")
        rows = np.sort(order[:PROBE_MAXIMUM_ROWS])
    features = np.asarray(representation.take(rows), dtype=np.float64)
    return ProbeRows(rows, features, is_test[rows], row_hashes[rows])


def group_measurements(group: GroupSums, survey: Survey) -> list[Measurement]:
    """Return the class geometry of a level or attribute, from its class moments."""
    n, d = survey.moments.n, survey.moments.d
    functions: tuple[Callable[..., Estimate | float], ...] = (
        clustering.cdnv,
        clustering.within_variance,
        clustering.between_squared_distance,
        clustering.variance_share,
    )
    taken = []
    for function in functions:
        one = metric_of(function).measured(
            functools.partial(function, group.whole), n=n, d=d, level=group.level.name
        )
        taken.append(_group_interval(one, function, group, survey))
    return taken


def _group_interval(
    one: Measurement,
    function: Callable[..., Estimate | float],
    group: GroupSums,
    survey: Survey,
) -> Measurement:
    if one.value is None or not group.blocks:
        return one

    def number(block: int | None) -> float:
        whole = group.whole
        moments = whole if block is None else whole.without(group.blocks[block])
        result = function(moments)
        return result.value if isinstance(result, Estimate) else float(result)

    return with_jackknife(one, number, survey.block_sizes)


def probe_level(
    level: Level, rows: ProbeRows, *, layer: str = "features", only_linear: bool = False
) -> Supervised:
    """Return what probes read of one level or attribute on the test rows.

    Args:
        level: of all rows of the representation.
        rows: those that probes see.
        layer: what to call the features.
        only_linear: skip ridge, nearest neighbours and nearest centres.
    """
    labels = level.codes[rows.rows]
    train_labels, test_labels = labels[~rows.is_test], labels[rows.is_test]
    train, test = rows.standardised
    raw_train, raw_test = rows.features[~rows.is_test], rows.features[rows.is_test]
    hashes = rows.row_hashes[~rows.is_test], rows.row_hashes[rows.is_test]
    c = level.n_classes
    compute: dict[str, Callable[[], ProbeResult]] = {
        "linear": lambda: probing.logistic_probe(
            train, train_labels, test, test_labels, c, basis=rows.basis
        ),
        "ridge": lambda: probing.ridge_probe(
            train, train_labels, test, test_labels, c, basis=rows.basis
        ),
        "knn": lambda: neighbours.knn_probe(
            raw_train, train_labels, raw_test, test_labels, c, hashes=hashes
        ),
        "ncc": lambda: probing.nearest_centre_probe(
            raw_train, train_labels, raw_test, test_labels, c
        ),
    }
    taken = Supervised()
    for name, probe in compute.items():
        if only_linear and name != "linear":
            continue
        entry = metric_of(PROBE_METRICS[name])
        caught: list[ProbeResult] = []

        def estimate(
            probe: Callable[[], ProbeResult] = probe,
            caught: list[ProbeResult] = caught,
        ) -> Estimate:
            caught.append(probe())
            return _probe_estimate(caught[0], c)

        taken.measurements.append(
            entry.measured(
                estimate,
                n=int(rows.is_test.sum()),
                d=rows.features.shape[1],
                level=level.name,
                split="test",
                layer=layer,
            )
        )
        if caught:
            taken.results[level.name, name] = caught[0]
    return taken


def _probe_estimate(result: ProbeResult, n_classes: int) -> Estimate:
    accuracy, majority = result.test_accuracy, result.majority
    skill = (accuracy - majority) / (1 - majority) if majority < 1 else 0.0
    return Estimate(
        accuracy,
        interval=result.interval,
        details={
            "skill": float(skill),
            "chance": result.chance,
            "majority": majority,
            "train_accuracy": result.train_accuracy,
            "converged": result.converged,
            "n_classes": n_classes,
            "interval": "Wilson",
            **result.details,
        },
    )


PROBE_METRICS: Mapping[str, Callable] = {
    "linear": probing.linear_accuracy,
    "ridge": probing.ridge_accuracy,
    "knn": neighbours.knn_accuracy,
    "ncc": probing.ncc_accuracy,
}


def hierarchy_measurements(
    survey: Survey, rows: ProbeRows, *, layer: str = "features"
) -> list[Measurement]:
    """Return what the two finest levels say together; nothing with a single level."""
    levels = survey.representation.levels
    if len(levels) < 2:
        return []
    fine, coarse = levels[0], levels[1]
    parents = parents_of(fine, coarse)
    n, d = survey.moments.n, survey.moments.d
    index = metric_of(clustering.class_collapse_index).measured(
        lambda: clustering.class_collapse_index(
            survey.groups[fine.name].whole, parents
        ),
        n=n,
        d=d,
        level=fine.name,
        layer=layer,
    )
    group = survey.groups[fine.name]
    if index.value is not None and group.blocks:

        def number(block: int | None) -> float:
            whole = group.whole
            moments = whole if block is None else whole.without(group.blocks[block])
            return clustering.class_collapse_index(moments, parents).value

        index = with_jackknife(index, number, survey.block_sizes)
    return [index, subclass_measurement(fine, coarse, rows, layer=layer)]


def subclass_measurement(
    fine: Level, coarse: Level, rows: ProbeRows, *, layer: str = "features"
) -> Measurement:
    """Return how well subclasses are told apart within their class."""
    train, test = rows.standardised
    features = np.empty_like(rows.features)
    features[~rows.is_test], features[rows.is_test] = train, test
    return metric_of(hierarchy.subclass_given_class).measured(
        lambda: hierarchy.subclass_given_class(
            features,
            fine.codes[rows.rows],
            coarse.codes[rows.rows],
            rows.is_test,
            probing.ridge_classify,
        ),
        n=int(rows.is_test.sum()),
        d=features.shape[1],
        level=fine.name,
        split="test",
        layer=layer,
    )


def correct_column(
    level: Level, result: ProbeResult, rows: ProbeRows, n: int
) -> Float[np.ndarray, " n"]:
    """Return 1 for rows a probe gets right, 0 wrong, NaN where it was not tested."""
    column = np.full(n, np.nan)
    tested = rows.rows[rows.is_test]
    column[tested] = result.predictions == level.codes[tested]
    return column


def failure_measurements(
    level: Level,
    survey: Survey,
    correct: Float[np.ndarray, " n"],
    *,
    seed: int,
) -> tuple[list[Measurement], dict[str, failure.FailurePrediction]]:
    """Return how well the scores predict the linear probe's errors.

    The Q-Score's prediction is measured; all scores' go to the failure table.
    """
    tested = np.flatnonzero(np.isfinite(correct))
    right = correct[tested] == 1
    predictions = {}
    if right.any() and not right.all():
        predictions = {
            name: failure.predict_failure(
                name, survey.scores[name][tested], right, seed=seed
            )
            for name in PREDICTORS
        }
    n = len(tested)
    q_scores = survey.scores["q_score"][tested]
    taken = [
        metric_of(function).measured(
            functools.partial(_failure_estimate, function, q_scores, right, seed),
            n=n,
            level=level.name,
            split="test",
        )
        for function in (
            failure.auroc,
            failure.auprc_correct,
            failure.auprc_error,
            failure.error_ratio_lowest,
        )
    ]
    return taken, predictions


def _failure_estimate(
    function: Callable[..., Estimate],
    scores: Float[np.ndarray, " n"],
    right: Bool[np.ndarray, " n"],
    seed: int,
) -> Estimate:
    estimate = function(scores, right, seed=seed)
    details = {"score": "q_score", "n_error": int((~right).sum()), **estimate.details}
    return dataclasses.replace(estimate, details=details)
