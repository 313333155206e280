"""RS201: fires where a reference shows lost subclasses, never on hard subclasses."""

import re

import numpy as np
import pytest

from diagnosis.cases import (
    ABSENT,
    FOUND,
    HAIR,
    NOT_APPLICABLE,
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
from repscope.diagnosis.class_collapse import (
    CHECK,
    CLASS_SKILL,
    INDEX_COLLAPSED,
    REFERENCE_GAIN,
    SUBCLASS_SKILL_COLLAPSED,
    SUBCLASS_SKILL_PRESENT,
    decide,
)
from repscope.diagnosis.diagnose import diagnose

LOW = SUBCLASS_SKILL_COLLAPSED
LEVELS = ("fine", "coarse")


def told_apart(skill, layer="features"):
    return measured("subclass_given_class", 0.5, level="fine", layer=layer, skill=skill)


def centres(value, interval=None):
    return measured("class_collapse_index", value, level="fine", interval=interval)


def levels(*measurements, class_skill=1.0):
    coarse = probed(class_skill, level="coarse")
    return gathered(coarse, *measurements, levels=LEVELS)


def referenced(skill):
    return told_apart(skill, layer="reference")


def low(index, *others):
    return levels(told_apart(LOW), index, *others)


UNPROBED = measured("subclass_given_class", None, level="fine", reason="no class")
LOST = referenced(LOW + REFERENCE_GAIN)
CASES = {
    "no labels": (gathered(), NOT_APPLICABLE, "Two label levels are needed"),
    "one level": (gathered(levels=("fine",)), NOT_APPLICABLE, "Two label levels"),
    "not measured": (levels(), UNDECIDED, "cannot be probed: not measured"),
    "not probed": (levels(UNPROBED), UNDECIDED, "cannot be probed: no class"),
    "present": (levels(told_apart(SUBCLASS_SKILL_PRESENT)), ABSENT, "skill 0.50"),
    "some left": (
        levels(told_apart(SUBCLASS_SKILL_PRESENT - HAIR)),
        UNDECIDED,
        "some of it is left",
    ),
    "some left, centres apart": (
        levels(told_apart(LOW + HAIR), centres(INDEX_COLLAPSED + HAIR)),
        ABSENT,
        "at least 0.10 of a class distance apart: both say",
    ),
    "apart, classes hardly read": (
        levels(told_apart(0.4), centres(0.9), class_skill=0.1),
        ABSENT,
        "have not merged",
    ),
    "little left": (levels(told_apart(LOW + HAIR), centres(0.0)), UNDECIDED, "is left"),
    "classes not read": (
        levels(told_apart(LOW), centres(0.0), LOST, class_skill=CLASS_SKILL - HAIR),
        UNDECIDED,
        r"the classes themselves are hardly read either \(skill 0.50\)",
    ),
    "classes read": (
        levels(told_apart(LOW), centres(0.0), LOST, class_skill=CLASS_SKILL),
        FOUND,
        "'coarse' class a linear probe tells 'fine' classes apart with skill 0.20",
    ),
    "no reference": (low(centres(0.0)), UNDECIDED, "hardly tell apart look the same"),
    "collapsed": (low(centres(INDEX_COLLAPSED), LOST), FOUND, "0.10 of a class dist"),
    "reference": (low(centres(0.0), LOST), FOUND, "reference .* apart with skill 0.40"),
    "reference no better": (
        low(centres(0.0), referenced(LOW + REFERENCE_GAIN - HAIR)),
        UNDECIDED,
        r"The reference does no better \(0.40\)",
    ),
    "centres apart": (
        low(centres(INDEX_COLLAPSED + HAIR), LOST),
        UNDECIDED,
        "although their centres lie 0.10 of a class distance apart",
    ),
    "centres perhaps together": (
        low(centres(0.3, interval=(INDEX_COLLAPSED, 0.5)), LOST),
        FOUND,
        "their centres lie 0.30",
    ),
    "centres surely apart": (
        low(centres(0.3, interval=(INDEX_COLLAPSED + HAIR, 0.5)), LOST),
        UNDECIDED,
        "although",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_thresholds_and_words(case):
    evidence, status, words = CASES[case]
    judgement = decide(evidence)
    assert judgement.status is status
    assert re.search(words, judgement.explanation), judgement.explanation


@pytest.mark.parametrize("size", SIZES)
def test_fires_when_planted(size):
    report = diagnosed("class collapse", *size, referenced=True)
    assert CHECK.code == "RS201"
    assert finding_of(report, "RS201").status is FOUND
    assert report.verdict.word == "WARN"


@pytest.mark.parametrize("damage", ["sound", "whitened"])
@pytest.mark.parametrize("size", SMALL_SIZES)
def test_is_silent_when_sound(damage, size):
    assert finding_of(diagnosed(damage, *size), "RS201").status is ABSENT


@pytest.mark.parametrize("size", SMALL_SIZES)
def test_is_undecided_without_a_reference(size):
    finding = finding_of(diagnosed("class collapse", *size), "RS201")
    assert finding.status is UNDECIDED


@pytest.mark.parametrize("with_reference", [False, True])
@pytest.mark.parametrize("size", SMALL_SIZES)
def test_random_subclasses_of_sound_features_are_no_collapse(size, with_reference):
    one = sound(*size)
    generator = np.random.default_rng(1234)
    coarse = one.labels["coarse"]
    labels = {"fine": 2 * coarse + generator.integers(0, 2, size[0]), "coarse": coarse}
    noise = generator.standard_normal(one.features.shape)
    reference = one.features + 0.1 * noise if with_reference else None
    report = diagnose(one.features, labels=labels, reference=reference)
    assert finding_of(report, "RS201").status is UNDECIDED


def test_is_undecided_where_the_classes_are_not_read():
    one = sound(400, 32, 0)
    fine = np.random.default_rng(1234).integers(0, 10, 400)
    report = diagnose(one.features, labels={"fine": fine, "coarse": fine // 2})
    assert finding_of(report, "RS201").status is UNDECIDED


def test_is_undecided_with_one_subclass_per_class():
    coarse = np.arange(200) % 4
    features = np.eye(4, 16)[coarse] + 0.1 * sound(400, 32, 0).features[:200, :16]
    report = diagnose(features, labels={"fine": coarse, "coarse": coarse})
    finding = finding_of(report, "RS201")
    assert finding.status is UNDECIDED
    assert "no class has two subclasses" in finding.explanation


def test_one_label_level_is_not_enough():
    report = diagnose(
        sound(400, 32, 0).features, labels=sound(400, 32, 0).labels["fine"]
    )
    assert finding_of(report, "RS201").status is NOT_APPLICABLE
