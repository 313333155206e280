"""RS103: fires on noise that no probe reads, not on whitened features."""

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
    damaged,
    diagnosed,
    finding_of,
    gathered,
    measured,
    probed,
)
from repscope.diagnosis.diagnose import diagnose
from repscope.diagnosis.flat_spectrum import (
    CHECK,
    FLATNESS_NOISE,
    SKILL_NONE,
    SKILL_READS,
    decide,
)


def flat(value, *others, **fields):
    return gathered(measured("spectral_flatness", value), *others, **fields)


def flat_with(*skills):
    levels = ("fine", "coarse")[: len(skills)]
    probes = [probed(s, level=one) for s, one in zip(skills, levels, strict=True)]
    return flat(1.0, *probes, levels=levels)


HARD = measured(
    "linear_accuracy",
    0.03,
    level="fine",
    interval=(0.02, 0.04),
    skill=0.02,
    majority=0.01,
)
CASES = {
    "not measured": (gathered(), UNDECIDED, "cannot be measured"),
    "steep": (flat(FLATNESS_NOISE - HAIR), ABSENT, "not flat: 0.80, where noise"),
    "no labels": (flat(FLATNESS_NOISE), UNDECIDED, "labels would decide"),
    "unprobed labels": (flat(1.0, levels=("fine",)), UNDECIDED, "labels would decide"),
    "read": (flat_with(SKILL_READS), ABSENT, r"\(skill 0.50\): the features were w"),
    "half read": (flat_with(SKILL_READS - HAIR), UNDECIDED, "more than guessing"),
    "little read": (flat_with(SKILL_NONE), UNDECIDED, r"\(skill 0.20\): whitened"),
    "hard": (flat(1.0, HARD, levels=("fine",)), UNDECIDED, r"\(skill 0.02\)"),
    "not read": (flat_with(0.19), FOUND, r"reads no label from it \(skill 0.19\)"),
    "one level read": (flat_with(0.0, 0.9), ABSENT, r"\(skill 0.90\)"),
}


@pytest.mark.parametrize("case", CASES)
def test_thresholds_and_words(case):
    evidence, status, words = CASES[case]
    judgement = decide(evidence)
    assert judgement.status is status
    assert re.search(words, judgement.explanation), judgement.explanation


@pytest.mark.parametrize("size", SIZES)
def test_fires_when_planted(size):
    report = diagnosed("noise", *size)
    assert CHECK.code == "RS103"
    assert finding_of(report, "RS103").status is FOUND
    assert report.verdict.word == "WARN"


@pytest.mark.parametrize("damage", ["sound", "whitened", "rank 3", "class collapse"])
@pytest.mark.parametrize("size", SMALL_SIZES)
def test_is_silent_on_other_features(damage, size):
    assert finding_of(diagnosed(damage, *size), "RS103").status is ABSENT


@pytest.mark.parametrize("damage", ["whitened", "noise"])
@pytest.mark.parametrize("size", SMALL_SIZES[1:])
def test_is_undecided_without_labels(damage, size):
    report = diagnosed(damage, *size, labelled=False)
    assert finding_of(report, "RS103").status is UNDECIDED


def test_is_undecided_on_whitened_features_with_hard_labels():
    one = damaged("whitened", 2000, 128, 0)
    generator = np.random.default_rng(99)
    # Two fifths of the labels are the true ones, the rest are drawn from 20 classes.
    drawn = generator.integers(0, 20, 2000)
    mixed = np.where(generator.random(2000) < 0.4, one.labels["fine"], drawn)
    finding = finding_of(diagnose(one.features, labels=mixed), "RS103")
    assert finding.status is UNDECIDED
    assert "more than guessing" in finding.explanation


@pytest.mark.parametrize("n", [1, 2])
def test_is_undecided_with_too_few_rows(n):
    features = np.random.default_rng(0).standard_normal((n, 8))
    assert finding_of(diagnose(features), "RS103").status is UNDECIDED
