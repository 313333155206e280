"""RS501: names dead features, repeats, leaks and dropped rows; never counts."""

import re

import numpy as np
import pytest

from diagnosis.cases import (
    ABSENT,
    FOUND,
    SMALL_SIZES,
    UNDECIDED,
    damaged,
    diagnosed,
    finding_of,
    gathered,
    measured,
    sound,
)
from repscope.diagnosis.data_hygiene import CHECK, decide
from repscope.diagnosis.diagnose import diagnose
from repscope.diagnosis.run_report import LISTED_ROWS

NAMES = ("dead_features", "duplicate_rows", "leaked_rows", "dropped_rows")


def stained(*values):
    return gathered(
        *[measured(name, v) for name, v in zip(NAMES, values, strict=False)]
    )


CASES = {
    "one row": (gathered(), UNDECIDED, "^One row only: nothing can repeat.$"),
    "clean": (stained(0.0, 0.0, 0.0, 0.0), ABSENT, "^No constant feature, no repeat"),
    "clean, no split": (stained(0.0, 0.0), ABSENT, "no row dropped.$"),
    "dead": (stained(0.25, 0.0), FOUND, "^25% of the features never vary.$"),
    "repeats": (stained(0.0, 0.1), FOUND, "^10% of the rows repeat an earlier one"),
    "leaks": (stained(0.0, 0.0, 0.5), FOUND, "^50% of the test rows also stand among"),
    "dropped": (
        stained(0.0, 0.0, 0.0, 0.01),
        FOUND,
        "^1% of the rows were dropped for N",
    ),
    "a few": (stained(0.0, 0.0001), FOUND, "^0.01% of the rows repeat"),
    "all": (
        stained(0.1, 0.2, 0.3, 0.4),
        FOUND,
        "^10% .* vary; 20% .*; 30% .* on; 40% .* infinity.$",
    ),
    "pairs": (
        stained(0.0, 0.1),
        FOUND,
        r"exactly \(row 5 = row 2; row 6 = row 2, labelled otherwise\); in 1 of these "
        "pairs the labels differ.$",
    ),
}
REMEDIES = {
    "dead": ("drop_constant_features",),
    "repeats": ("remove_duplicates",),
    "leaks": ("remove_duplicates",),
    "dropped": ("find_nonfinite",),
    "all": CHECK.remedies,
}


@pytest.mark.parametrize("case", REMEDIES)
def test_only_remedies_of_what_was_seen_are_named(case):
    assert CHECK.finding(CASES[case][0]).remedies == REMEDIES[case]


def test_repeats_are_named_with_their_rows_labelled_otherwise_or_not():
    one = sound(400, 32, 0)
    features = np.concatenate([one.features, one.features[[9, 3, 9, 3]]])
    fine = np.concatenate([one.labels["fine"], one.labels["fine"][[9, 3, 9, 3]]])
    fine[401] = (fine[401] + 1) % (fine.max() + 1)
    report = diagnose(features, labels=fine)
    told = finding_of(report, "RS501").explanation
    pairs = "row 400 = row 9; row 401 = row 3, labelled otherwise; row 402 = row 9"
    assert f"({pairs} and more); in 1 of these pairs the labels differ" in told


def test_rows_that_a_finding_points_at_are_listed_and_those_of_low_score_are_not():
    report = diagnosed("duplicates", 1000, 64, 0)
    assert finding_of(report, "RS301").status is not FOUND
    columns = report.samples.columns
    listed = columns["row"][columns["listed"] == 1]
    assert tuple(listed) == finding_of(report, "RS501").rows


@pytest.mark.parametrize("case", CASES)
def test_words(case):
    evidence, status, words = CASES[case]
    judgement = decide(evidence)
    assert judgement.status is status
    assert re.search(words, judgement.explanation), judgement.explanation


@pytest.mark.parametrize("size", SMALL_SIZES[1:])
def test_fires_on_repeats_and_points_at_them(size):
    report = diagnosed("duplicates", *size)
    finding = finding_of(report, "RS501")
    repeats = damaged("duplicates", *size).rows
    assert CHECK.code == "RS501"
    assert finding.status is FOUND
    assert finding.rows == tuple(repeats[:LISTED_ROWS].tolist())
    assert "20% of the rows repeat an earlier one exactly" in finding.explanation


def test_the_default_split_leaks_no_repeats():
    report = diagnosed("duplicates", 400, 32, 0)
    leaked = next(one for one in report.measurements if one.name == "leaked_rows")
    assert leaked.value == 0


def test_fires_on_rows_in_both_splits():
    one = sound(400, 32, 0)
    features = np.concatenate([one.features, one.features[:50]])
    labels = np.concatenate([one.labels["fine"], one.labels["fine"][:50]])
    report = diagnose(features, labels=labels, test=np.arange(450) >= 400)
    finding = finding_of(report, "RS501")
    assert finding.status is FOUND
    assert "100% of the test rows also stand among" in finding.explanation


def test_fires_on_constant_features_and_dropped_rows():
    features = sound(400, 32, 0).features.copy()
    features[:, :8] = 1.5
    features[[3, 7], 20] = np.nan
    finding = finding_of(diagnose(features, drop_nonfinite=True), "RS501")
    assert finding.status is FOUND
    assert "25% of the features never vary" in finding.explanation
    assert "0.5% of the rows were dropped for NaN or infinity" in finding.explanation


@pytest.mark.parametrize("damage", ["sound", "whitened", "low quality"])
@pytest.mark.parametrize("size", SMALL_SIZES[1:])
def test_is_silent_when_clean(damage, size):
    assert finding_of(diagnosed(damage, *size), "RS501").status is ABSENT


def test_is_undecided_for_one_row():
    finding = finding_of(diagnose(np.ones((1, 4))), "RS501")
    assert finding.status is UNDECIDED


def test_does_not_change_the_verdict():
    assert diagnosed("duplicates", 1000, 64, 0).verdict.word == "HEALTHY"
