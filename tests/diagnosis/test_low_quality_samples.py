"""RS301: fires where low scores foretell errors, lists rows, leaves the rest open."""

import re

import numpy as np
import pytest

from diagnosis.cases import (
    ABSENT,
    FOUND,
    HAIR,
    LARGER_SIZES,
    SMALL_SIZES,
    UNDECIDED,
    damaged,
    diagnosed,
    finding_of,
    gathered,
    measured,
    sound,
)
from repscope.diagnosis.diagnose import diagnose
from repscope.diagnosis.low_quality_samples import (
    AUROC_PREDICTS,
    CHECK,
    ERROR_RATIO,
    MINIMUM_ERRORS,
    OUTLIER_SHARE,
    decide,
)
from repscope.diagnosis.run_report import LISTED_ROWS
from repscope.report.page import render

LISTED = (7, 8, 9)
SCORED = measured("q_score", 0.1)


def unlabelled(share, *, threshold=0.01, reason=None):
    outliers = measured("low_score_share", share, reason=reason, threshold=threshold)
    return gathered(SCORED, outliers)


def predicted(
    *,
    low=AUROC_PREDICTS,
    ratio=ERROR_RATIO,
    least_ratio=1 + HAIR,
    errors=MINIMUM_ERRORS,
    **fields,
):
    """Return evidence with each number at its threshold."""
    return gathered(
        SCORED,
        measured(
            "auroc", 0.75, level="fine", interval=(low, 0.9), n_error=float(errors)
        ),
        measured(
            "error_ratio_lowest", ratio, level="fine", interval=(least_ratio, 9.0)
        ),
        levels=("fine",),
        **fields,
    )


FLAWLESS = gathered(
    SCORED,
    measured("auroc", None, level="fine", reason="the probe makes no error"),
    measured("error_ratio_lowest", None, level="fine", reason="no error"),
    levels=("fine",),
)
CASES = {
    "no score": (gathered(), UNDECIDED, "cannot be computed", ()),
    "no outliers": (
        unlabelled(OUTLIER_SHARE - HAIR),
        ABSENT,
        "No group of rows scores far below",
        (),
    ),
    "outliers": (unlabelled(OUTLIER_SHARE), UNDECIDED, "1.0% of the rows", LISTED),
    "few rows": (
        unlabelled(None, reason="n = 9; at least 20 rows are needed"),
        UNDECIDED,
        "n = 9; at least 20 rows are needed",
        (),
    ),
    "wide": (unlabelled(0.0, threshold=0.0), UNDECIDED, "even a score of 0", ()),
    "unmeasured": (gathered(SCORED), UNDECIDED, "is open: not measured", ()),
    "not measured": (gathered(SCORED, levels=("fine",)), UNDECIDED, "not measured", ()),
    "no error": (FLAWLESS, UNDECIDED, "is open: the probe makes no error", ()),
    "few errors": (
        predicted(errors=MINIMUM_ERRORS - 1),
        UNDECIDED,
        "makes 9 errors only; 10 are needed",
        (),
    ),
    "predicts": (
        predicted(),
        FOUND,
        "the 'fine' probe with AUROC 0.75; the lowest tenth errs 1.5 times",
        LISTED,
    ),
    "predicts too little": (
        predicted(low=AUROC_PREDICTS - HAIR),
        ABSENT,
        "not enough to single images out",
        (),
    ),
    "ratio too small": (predicted(ratio=ERROR_RATIO - HAIR), ABSENT, "not enough", ()),
    "ratio by chance": (predicted(least_ratio=1.0), ABSENT, "not enough", ()),
    "signed": (predicted(is_negative=True), UNDECIDED, "after a rectifier", LISTED),
    "signed, not predicting": (
        predicted(low=AUROC_PREDICTS - HAIR, is_negative=True),
        ABSENT,
        "not enough",
        (),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_thresholds_words_and_rows(case):
    evidence, status, words, rows = CASES[case]
    judgement = decide(evidence)
    assert judgement.status is status
    assert re.search(words, judgement.explanation), judgement.explanation
    assert judgement.rows == rows


@pytest.mark.parametrize("size", LARGER_SIZES)
def test_fires_when_planted_and_lists_the_damaged_rows(size):
    finding = finding_of(diagnosed("low quality", *size), "RS301")
    assert CHECK.code == "RS301"
    assert finding.status is FOUND
    assert len(finding.rows) == LISTED_ROWS
    bad = damaged("low quality", *size).rows
    assert np.isin(finding.rows, bad).mean() > 0.5 > 5 * len(bad) / size[0] - HAIR


def test_low_scores_are_listed_and_called_worst_only_where_they_mean_something():
    found, sure = (diagnosed(one, 1000, 64, 0) for one in ("low quality", "sound"))
    assert finding_of(sure, "RS301").status is not FOUND
    for report, is_found in ((found, True), (sure, False)):
        finding = finding_of(report, "RS301")
        columns = report.samples.columns
        listed = columns["row"][columns["listed"] == 1].tolist()
        assert listed == (sorted(finding.rows) if is_found else [])
        tables = {one.name: one.how_to_read for one in report.record.tables}
        assert ("look at these images first" in tables["worst_samples"]) == is_found
        assert ("represented badly" in tables["class_scores"]) == is_found
        assert ("Worst samples" in render(report.record, report.samples)) == is_found


@pytest.mark.parametrize("damage", ["sound", "class collapse", "3 shared"])
@pytest.mark.parametrize("size", SMALL_SIZES)
def test_does_not_fire_on_other_features(damage, size):
    finding = finding_of(diagnosed(damage, *size), "RS301")
    assert finding.status in (ABSENT, UNDECIDED)


@pytest.mark.parametrize("size", SMALL_SIZES[1:])
def test_does_not_fire_where_errors_are_random(size):
    one = sound(*size)
    labels = np.random.default_rng(1234).integers(0, 5, size[0])
    finding = finding_of(diagnose(one.features, labels=labels), "RS301")
    assert finding.status is ABSENT


def test_is_undecided_with_few_errors():
    finding = finding_of(diagnosed("sound", 400, 32, 1), "RS301")
    assert finding.status is UNDECIDED


def test_without_labels_lists_what_stands_apart_and_decides_nothing():
    one = damaged("low quality", 2000, 128, 0)
    emptied = one.features.copy()
    emptied[one.rows] = np.linspace(1, 2, len(one.rows))[:, None]
    finding = finding_of(diagnose(emptied), "RS301")
    assert finding.status is UNDECIDED
    assert "10.0% of the rows score far below the rest" in finding.explanation
    assert set(finding.rows) <= set(one.rows.tolist())


def test_is_undecided_without_labels_where_nothing_could_stand_apart():
    finding = finding_of(diagnosed("sound", 400, 32, 0, labelled=False), "RS301")
    assert finding.status is UNDECIDED
    assert "even a score of 0 would not stand apart" in finding.explanation


def test_is_undecided_on_signed_features():
    one = damaged("low quality", 1000, 64, 0)
    signed = one.features.copy()
    signed -= 0.1
    report = diagnose(signed, labels=one.labels)
    assert finding_of(report, "RS301").status is UNDECIDED


@pytest.mark.parametrize("n", [1, 2, 10, 19])
def test_is_undecided_with_too_few_rows(n):
    features = np.abs(np.random.default_rng(0).standard_normal((n, 8)))
    assert finding_of(diagnose(features), "RS301").status is UNDECIDED
