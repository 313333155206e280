"""RS101: fires on one vector for all, never on a small dispersion that holds labels."""

import re

import numpy as np
import pytest

from diagnosis.cases import (
    ABSENT,
    FOUND,
    HAIR,
    SIZES,
    SMALL_SIZES,
    UNDECIDED,
    diagnosed,
    finding_of,
    gathered,
    measured,
    probed,
    sound,
)
from repscope.diagnosis.complete_collapse import (
    CHECK,
    DISPERSION_COLLAPSED,
    DISPERSION_CONSTANT,
    SKILL_NONE,
    decide,
)
from repscope.diagnosis.diagnose import diagnose
from repscope.theory.planted import complete_collapse

SMALL = DISPERSION_COLLAPSED - HAIR


def dispersed(value, dead=0.0, *others, **fields):
    dispersion = measured("relative_dispersion", value)
    return gathered(dispersion, measured("dead_features", dead), *others, **fields)


def unmeasured(reason):
    return gathered(measured("relative_dispersion", None, reason=reason))


# An accuracy that guessing cannot reach, though its skill is next to nothing.
LITTLE = measured(
    "linear_accuracy",
    0.1,
    level="fine",
    interval=(0.08, 0.12),
    skill=0.05,
    majority=0.05,
)
CASES = {
    "not measured": (gathered(), UNDECIDED, "cannot be measured: not measured"),
    "one row": (unmeasured("n = 1"), UNDECIDED, "cannot be measured: n = 1"),
    "zero": (unmeasured("all features are zero"), FOUND, "of every row is zero"),
    "dead": (dispersed(0.0, 1.0), FOUND, "No feature varies"),
    "nearly all dead": (dispersed(0.5, 1 - HAIR), ABSENT, "50% of their length"),
    "dispersed": (dispersed(DISPERSION_COLLAPSED), ABSENT, "1% of their length"),
    "small": (dispersed(SMALL), UNDECIDED, "Labels would show"),
    "small enough": (dispersed(DISPERSION_CONSTANT), UNDECIDED, "Labels would show"),
    "rounding": (dispersed(DISPERSION_CONSTANT - HAIR), FOUND, "Only 1.0e-03 of the"),
    "labels read": (
        dispersed(SMALL, 0.0, probed(SKILL_NONE), levels=("fine",)),
        UNDECIDED,
        r"reads labels from it \(skill 0.20\). Subtract the mean",
    ),
    "labels hard but read": (
        dispersed(SMALL, 0.0, LITTLE, levels=("fine",)),
        UNDECIDED,
        r"reads labels from it \(skill 0.05\)",
    ),
    "labels not read": (
        dispersed(SMALL, 0.0, probed(0.1), levels=("fine",)),
        FOUND,
        "Only 1.0e-02 of the rows' length is variation and a linear probe finds no",
    ),
    "one level read": (
        dispersed(
            SMALL,
            0.0,
            probed(0.0),
            probed(0.9, level="coarse"),
            levels=("fine", "coarse"),
        ),
        UNDECIDED,
        r"\(skill 0.90\)",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_thresholds_and_words(case):
    evidence, status, words = CASES[case]
    judgement = decide(evidence)
    assert judgement.status is status
    assert re.search(words, judgement.explanation), judgement.explanation


def test_the_evidence_is_what_the_words_rest_on():
    evidence = dispersed(SMALL, 0.0, probed(0.1), levels=("fine",))
    shown = [one.key for one in decide(evidence).evidence]
    assert shown == ["relative_dispersion", "dead_features", "linear_accuracy[fine]"]


@pytest.mark.parametrize("size", SIZES)
def test_fires_when_planted(size):
    report = diagnosed("complete collapse", *size)
    assert CHECK.code == "RS101"
    assert finding_of(report, "RS101").status is FOUND
    assert report.verdict.word == "COLLAPSED"


@pytest.mark.parametrize("size", SMALL_SIZES[1:])
def test_fires_without_labels_where_only_rounding_is_left(size):
    report = diagnosed("complete collapse", *size, labelled=False)
    assert finding_of(report, "RS101").status is FOUND


@pytest.mark.parametrize("value", [0.0, 3.5])
def test_fires_on_constant_features(value):
    report = diagnose(np.full((50, 16), value))
    assert finding_of(report, "RS101").status is FOUND
    assert report.verdict.word == "COLLAPSED"


@pytest.mark.parametrize("damage", ["sound", "whitened", "rank 1", "noise"])
@pytest.mark.parametrize("size", SMALL_SIZES[:2])
def test_is_silent_when_rows_differ(damage, size):
    assert finding_of(diagnosed(damage, *size), "RS101").status is ABSENT


@pytest.mark.parametrize("size", SMALL_SIZES[1:])
def test_is_undecided_between_without_labels(size):
    features = complete_collapse(sound(*size), spread=5e-3).features
    assert finding_of(diagnose(features), "RS101").status is UNDECIDED


@pytest.mark.parametrize("size", SMALL_SIZES[1:])
def test_is_undecided_where_an_offset_hides_what_labels_need(size):
    one = sound(*size)
    far = one.features + 1000 * one.features.std()
    finding = finding_of(diagnose(far, labels=one.labels), "RS101")
    assert finding.status is UNDECIDED
    assert "Subtract the mean" in finding.explanation


def test_is_undecided_for_one_row():
    finding = finding_of(diagnose(np.ones((1, 8))), "RS101")
    assert finding.status is UNDECIDED
    assert "at least 2 rows are needed" in finding.explanation
