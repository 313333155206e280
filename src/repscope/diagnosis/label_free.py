"""All that is measured without labels: spectrum, scores, shared features, hygiene."""

import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float

from repscope._arrays import Array
from repscope._checking import Undecidable
from repscope.diagnosis.survey import Survey
from repscope.metrics import (
    augmented,
    hygiene,
    lidar,
    samples,
    sharing,
)
from repscope.metrics.metric import Estimate, metric_of
from repscope.records import Measurement
from repscope.representations.object_moments import ObjectMoments


def score_columns(survey: Survey) -> dict[str, Float[np.ndarray, " n"]]:
    """Return the per-row scores that go into the sample table."""
    return {
        name: survey.scores[name] for name in samples.SCORES if name in survey.scores
    }


def score_measurements(survey: Survey) -> list[Measurement]:
    """Return the mean over rows of each score, with its interval."""
    taken = []
    for function in samples.SCORE_FUNCTIONS:
        entry = metric_of(function)
        taken.append(
            entry.measured(
                functools.partial(_of_scores, survey, entry.name, samples.mean_score),
                n=survey.moments.n,
                d=survey.moments.d,
            )
        )
    taken.append(
        metric_of(sharing.low_score_share).measured(
            lambda: _of_scores(survey, "q_score_normalized", sharing.low_score_share),
            n=survey.moments.n,
        )
    )
    return taken


def _of_scores(
    survey: Survey, name: str, function: Callable[[np.ndarray], Estimate]
) -> Estimate:
    if name not in survey.scores:
        raise Undecidable("one feature per row: it has none to stand out from")
    return function(survey.scores[name])


def structure_measurements(survey: Survey) -> list[Measurement]:
    """Return how far a few features serve all rows."""
    n, d = survey.moments.n, survey.moments.d
    return [
        metric_of(sharing.argmax_concentration).measured(
            lambda: sharing.argmax_concentration(survey.argmax), n=n, d=d
        ),
        metric_of(sharing.shared_feature_index).measured(
            lambda: sharing.shared_feature_index(survey.column_l1), n=n, d=d
        ),
    ]


def hygiene_measurements(
    survey: Survey, is_test: Bool[np.ndarray, " n"] | None
) -> list[Measurement]:
    """Return what stains the rows."""
    n = survey.moments.n
    taken = [
        metric_of(hygiene.duplicate_rows).measured(
            lambda: hygiene.duplicate_rows(survey.row_hashes), n=n
        ),
        metric_of(hygiene.dropped_rows).measured(
            lambda: hygiene.dropped_rows(survey.n_dropped, n), n=n
        ),
    ]
    if is_test is not None:
        taken.append(
            metric_of(hygiene.leaked_rows).measured(
                lambda: hygiene.leaked_rows(survey.row_hashes, is_test),
                n=int(is_test.sum()),
                split="test",
            )
        )
    return taken


def view_measurements(views: Array, n: int) -> list[Measurement]:
    """Return what features keep under augmentation."""
    checked = augmented.check_views(views, n)
    d = checked.shape[2]
    taken = [
        metric_of(function).measured(functools.partial(function, checked), n=n, d=d)
        for function in (augmented.alignment, augmented.invariance_score)
    ]
    objects = ObjectMoments.of_views(checked)
    taken.append(
        metric_of(lidar.lidar).measured(lambda: lidar.lidar(objects), n=n, d=d)
    )
    return taken
