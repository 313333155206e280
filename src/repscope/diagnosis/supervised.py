"""All that is measured with labels: class geometry, probes, failure prediction."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float

from repscope._arrays import host
from repscope.diagnosis.probe_rows import ProbeRows
from repscope.diagnosis.spectrum import with_jackknife
from repscope.diagnosis.survey import GroupSums, Survey
from repscope.metrics import (
    clustering,
    failure,
    hierarchy,
    logistic,
    nearest_centre,
    neighbours,
    neural_collapse,
    ridge,
    squared_hinge,
)
from repscope.metrics.metric import Estimate, metric_of
from repscope.metrics.probing import ProbeResult
from repscope.records import Measurement
from repscope.representations.class_moments import ClassMoments
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


# Functions of class moments, and of all rows' moments too.
OF_CLASSES: tuple[Callable[..., Estimate | float], ...] = (
    clustering.cdnv,
    clustering.within_variance,
    clustering.between_squared_distance,
    clustering.variance_share,
    neural_collapse.nc1_variability,
    neural_collapse.nc2_norms,
    neural_collapse.nc2_angles,
    neural_collapse.nc2_simplex,
)
OF_ATTRIBUTES = (clustering.variance_share,)


def group_measurements(
    group: GroupSums,
    survey: Survey,
    functions: Sequence[Callable[..., Estimate | float]] = OF_CLASSES,
) -> list[Measurement]:
    """Return the class geometry of a level or attribute, from its moments."""
    n, d = survey.moments.n, survey.moments.d
    taken = []
    for function in functions:
        of_all = "total" in inspect.signature(function).parameters
        whole = (group.whole, survey.moments) if of_all else (group.whole,)
        one = metric_of(function).measured(
            functools.partial(function, *whole), n=n, d=d, level=group.level.name
        )
        taken.append(_group_interval(one, function, group, survey))
    return taken


def _group_interval(
    one: Measurement,
    function: Callable[..., Estimate | float],
    group: GroupSums,
    survey: Survey,
) -> Measurement:
    if one.value is None or one.interval is not None or not group.blocks:
        return one
    of_all = "total" in inspect.signature(function).parameters

    def number(block: int | None) -> float:
        classes, total = group.whole, survey.moments
        if block is not None:
            classes = classes.without(group.blocks[block])
            total = total.without(survey.blocks[block]) if of_all else total
        result = function(classes, total) if of_all else function(classes)
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
    labelled = rows.of_level(level.name)
    compute: dict[str, Callable[[], ProbeResult]] = {
        "linear": lambda: labelled.linear,
        "squared_hinge": lambda: labelled.squared_hinge,
        "ridge": lambda: labelled.ridge,
        "knn": lambda: labelled.neighbours,
        "ncc": lambda: labelled.nearest_centre,
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
            return caught[0].estimate

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


def streamed_nearest_centre(
    level: Level, representation: Representation, is_test: Bool[np.ndarray, " n"]
) -> tuple[Measurement, Float[np.ndarray, " n"]]:
    """Return the accuracy of nearest class centres over all rows, in two passes.

    With it, 1 for each row that they get right, 0 wrong, NaN where it does not test.

    Args:
        level: of all rows.
        representation: read block by block, first for centres, then for answers.
        is_test: which rows test.
    """
    moments = ClassMoments(level.n_classes, representation.d)
    for start, block in representation.blocks():
        rows = slice(start, start + block.shape[0])
        training = np.flatnonzero(~is_test[rows])
        if len(training):
            moments.update(host(block)[training], level.codes[rows][training])
    correct = np.full(representation.n, np.nan)

    def estimate() -> Estimate:
        result = nearest_centre.nearest_centre_of_blocks(
            representation.blocks(), level.codes, is_test, moments
        )
        correct[is_test] = result.predictions == level.codes[is_test]
        return result.estimate

    one = metric_of(nearest_centre.ncc_accuracy).measured(
        estimate,
        n=int(is_test.sum()),
        d=representation.d,
        level=level.name,
        split="test",
    )
    return one, correct


PROBE_METRICS: Mapping[str, Callable] = {
    "linear": logistic.linear_accuracy,
    "squared_hinge": squared_hinge.squared_hinge_accuracy,
    "ridge": ridge.ridge_accuracy,
    "knn": neighbours.knn_accuracy,
    "ncc": nearest_centre.ncc_accuracy,
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
    return metric_of(hierarchy.subclass_given_class).measured(
        lambda: hierarchy.subclass_given_class(
            rows.supply.base.division.joined,
            fine.codes[rows.rows],
            coarse.codes[rows.rows],
            rows.is_test,
            ridge.ridge_classify,
        ),
        n=int(rows.is_test.sum()),
        d=rows.features.shape[1],
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
