"""What stands out in each class, why its rows are wrong, and how they score."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from repscope.diagnosis.probe_rows import ProbeRows
from repscope.metrics.class_scores import class_quantiles
from repscope.metrics.error_causes import Answers, Cause, error_causes
from repscope.metrics.profiles import ClassProfiles, Group, class_profiles
from repscope.records import Scalar, Status, Table
from repscope.representations.representation import Level

CLASS_SCORES = "class_scores"
_WITHIN = (
    "Where 'right less wrong' is above 0, low scores point at errors within the class."
)
_SCORE_READING = {
    Status.FOUND: "Low scores predict errors here (RS301): classes that score low may "
    "be represented badly. " + _WITHIN,
    Status.ABSENT: "The class with the lowest median comes first; on these features "
    "the score does not single out errors (RS301), and a low one is no sign of a bad "
    "class. " + _WITHIN,
    Status.UNDECIDED: "The class with the lowest median comes first; whether the score "
    "singles out errors is undecided (RS301). " + _WITHIN,
}
_QUANTILES = (0.05, 0.95)
_GROUPS: tuple[Group, ...] = ("correct", "incorrect")
_CAUSES = (Cause.MISSING, Cause.CONFUSABLE, Cause.UNDECIDED)
_PROFILE_COLUMNS = (
    "class",
    "test rows",
    "dominant feature",
    "its z-score, right rows",
    "greatest z-score, wrong rows",
    "errors: feature missing",
    "errors: feature there",
    "errors: undecided",
)


def profile_table(
    level: Level, rows: ProbeRows, predicted: Int[np.ndarray, " m"]
) -> Table | None:
    """Return the dominant feature of each class and the causes of its errors.

    Args:
        level: the label level.
        rows: those that probes see; test rows are judged.
        predicted: by the linear probe, for the test rows.

    Returns:
        One row per class with test rows; None with a single feature.
    """
    if rows.features.shape[1] < 2:
        return None
    features = rows.features[rows.is_test]
    answers = Answers.of(level.codes[rows.rows[rows.is_test]], predicted)
    profiles = class_profiles(features, answers.labels, answers.right, level.n_classes)
    causes = error_causes(features, answers, profiles)
    right, wrong = (_deviances(profiles, group) for group in _GROUPS)
    known = profiles.present("correct").tolist()
    features_of = profiles.dominant()[:, 0].tolist() if known else []
    dominant = dict(zip(known, features_of, strict=True))
    table: list[tuple[Scalar, ...]] = []
    for code in np.unique(answers.labels).tolist():
        own = causes.counts.get(code, {})
        errors = [own.get(cause, 0) for cause in _CAUSES]
        size = int((answers.labels == code).sum())
        stands_out = (dominant.get(code), right.get(code), wrong.get(code))
        table.append((level.classes[code], size, *stands_out, *errors))
    table.sort(key=lambda row: -float(str(row[5])))
    return Table(
        name="class_profiles",
        title=f"What stands out in each class of {level.name!r}",
        columns=_PROFILE_COLUMNS,
        rows=tuple(table),
        how_to_read="The feature that stands out most in the mean of the rows answered "
        "rightly. An error where it is missing is one of the encoder; where it is "
        "there, the class is confusable, or the feature looks at something else "
        "(heatmaps tell which).",
    )


def _deviances(profiles: ClassProfiles, group: Group) -> dict[int, float]:
    present, deviances = profiles.present(group), profiles.deviances(group)
    return dict(zip(present.tolist(), deviances.tolist(), strict=True))


def score_table(
    level: Level,
    rows: ProbeRows,
    scores: Float[np.ndarray, " m"],
    predicted: Int[np.ndarray, " m"],
) -> Table:
    """Return mean, median and spread of the Q-Score of each class, the lowest first.

    Args:
        level: the label level.
        rows: those that probes see; test rows are shown.
        scores: Q-Scores of the test rows.
        predicted: by the linear probe, for the test rows.
    """
    labels = level.codes[rows.rows[rows.is_test]]
    known = class_quantiles(
        scores,
        labels,
        level.n_classes,
        quantiles=_QUANTILES,
        right=predicted == labels,
    )
    table = [
        (
            level.classes[one.label],
            one.n,
            one.mean,
            one.median,
            *(one.quantiles or ()),
            one.gap,
        )
        for one in sorted(known, key=lambda one: one.median or 0.0)
        if one.n
    ]
    return Table(
        name=CLASS_SCORES,
        title=f"Q-Score by class of {level.name!r}",
        columns=(
            "class",
            "test rows",
            "mean",
            "median",
            "5 %",
            "95 %",
            "right less wrong",
        ),
        rows=tuple(table),
        how_to_read=_SCORE_READING[Status.UNDECIDED],
    )


def judged_scores(table: Table, status: Status | None) -> Table:
    """Return the table of class scores worded by what RS301 says of the score.

    Args:
        table: any; others than that of class scores stay as they are.
        status: of RS301.
    """
    if table.name != CLASS_SCORES or status not in _SCORE_READING:
        return table
    return dataclasses.replace(table, how_to_read=_SCORE_READING[status])
