"""RS202: fires against a reference or in extreme cases, never on hard labels."""

import re

import numpy as np
import pytest

from diagnosis.cases import (
    ABSENT,
    FOUND,
    HAIR,
    LARGER_SIZES,
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
from repscope.diagnosis.diagnose import diagnose
from repscope.diagnosis.feature_suppression import (
    CHECK,
    FACTOR_SHARE,
    FACTOR_SKILL,
    LABEL_SHARE,
    LABEL_SKILL,
    MINIMUM_TEST_ROWS,
    REFERENCE_SKILL,
    SUPPRESSION_FOUND,
    decide,
)
from repscope.diagnosis.flat_spectrum import FLATNESS_NOISE


def against(index, *others, interval=(0.1, 0.9), n=1000, reference=0.8, attributes=()):
    measurements = [
        probed(0.5),
        measured("suppression_index", index, level="fine", interval=interval, n=n),
        *others,
    ]
    if reference is not None:
        measurements.append(probed(reference, layer="reference"))
    return gathered(
        *measurements, levels=("fine",), attributes=attributes, has_reference=True
    )


def shares(
    *,
    skill=LABEL_SKILL,
    label_share=LABEL_SHARE,
    factor_share=FACTOR_SHARE,
    factor_skill=FACTOR_SKILL,
):
    """Return evidence of labels at and factors at their thresholds, "bit" easiest."""
    return gathered(
        probed(skill),
        measured("variance_share", label_share, level="fine"),
        probed(factor_skill, level="bit"),
        measured("variance_share", factor_share - 0.1, level="bit"),
        measured("variance_share", 0.1, level="hue"),
        levels=("fine",),
        attributes=("bit", "hue"),
    )


BIT = probed(FACTOR_SKILL, level="bit")
CASES = {
    "no labels": (gathered(), NOT_APPLICABLE, "Labels are needed"),
    "no probe": (gathered(levels=("fine",)), UNDECIDED, "No probe of 'fine'"),
    "labels alone": (
        gathered(probed(0.0), levels=("fine",)),
        NOT_APPLICABLE,
        "A reference .* or attributes",
    ),
    "reference unprobed": (against(0.5, reference=None), UNDECIDED, "gives no skill"),
    "reference blind": (
        against(0.9, reference=REFERENCE_SKILL - HAIR),
        UNDECIDED,
        "The reference itself hardly reads 'fine'",
    ),
    "gained on a blind reference": (
        against(-1.0, interval=(-1.3, 0.0), reference=0.1),
        ABSENT,
        r"reads more than on the reference \(accuracy 0.550 against 0.190\)",
    ),
    "perhaps gained on a blind reference": (
        against(-1.0, interval=(-1.3, HAIR), reference=0.1),
        UNDECIDED,
        "hardly reads",
    ),
    "lost": (
        against(SUPPRESSION_FOUND, reference=REFERENCE_SKILL),
        FOUND,
        r"lost 30% of the skill it has on the reference \(skill 0.20: .*\); what took",
    ),
    "lost to a factor": (
        against(0.5, BIT, attributes=("bit",)),
        FOUND,
        ", while 'bit' is read with skill 0.80",
    ),
    "lost, no easy factor": (
        against(0.5, probed(FACTOR_SKILL - HAIR, level="bit"), attributes=("bit",)),
        UNDECIDED,
        "none of the attributes is read well either .'bit' best, with skill 0.80",
    ),
    "lost in noise": (
        against(0.5, measured("spectral_flatness", FLATNESS_NOISE)),
        UNDECIDED,
        "as flat as noise",
    ),
    "lost, hardly flat": (
        against(0.5, measured("spectral_flatness", FLATNESS_NOISE - HAIR)),
        FOUND,
        "what took its place is not known",
    ),
    "less lost": (against(SUPPRESSION_FOUND - HAIR), ABSENT, "less than counts"),
    "nothing lost": (
        against(0.0),
        ABSENT,
        r"no less than on the reference \(accuracy 0.550 against 0.820\)",
    ),
    "uncertain": (against(0.9, interval=(0.0, 1.0)), UNDECIDED, "rows are too few"),
    "few test rows": (
        against(0.9, n=MINIMUM_TEST_ROWS - 1),
        UNDECIDED,
        "test rows are too few",
    ),
    "enough test rows": (against(0.9, n=MINIMUM_TEST_ROWS), FOUND, "has lost 90%"),
    "no interval": (against(0.9, interval=None), UNDECIDED, "test rows are too few"),
    "drowned": (shares(), FOUND, "attributes explain 50% of .* 'fine' 2.0%"),
    "factors too small": (
        shares(factor_share=FACTOR_SHARE - HAIR),
        UNDECIDED,
        "needs a reference",
    ),
    "factor too hard": (
        shares(factor_skill=FACTOR_SKILL - HAIR),
        UNDECIDED,
        "needs a reference",
    ),
    "labels vary": (shares(label_share=LABEL_SHARE + HAIR), UNDECIDED, "reference"),
    "labels read": (shares(skill=LABEL_SKILL + HAIR), UNDECIDED, "needs a reference"),
    "labels read, no factor": (
        shares(skill=LABEL_SKILL + HAIR, factor_share=FACTOR_SHARE - HAIR),
        ABSENT,
        r"a probe reads 'fine' \(skill 0.30\)",
    ),
    # At skill .22 the accuracy is 1.98 half-widths of its interval above guessing.
    "labels only guessed": (shares(skill=0.22), UNDECIDED, "needs a reference"),
    "factors overlap": (shares(factor_share=1.4), FOUND, "explain 100% of the var"),
}


@pytest.mark.parametrize("case", CASES)
def test_thresholds_and_words(case):
    evidence, status, words = CASES[case]
    judgement = decide(evidence)
    assert judgement.status is status
    assert re.search(words, judgement.explanation), judgement.explanation


@pytest.mark.parametrize("size", SIZES)
def test_fires_against_a_reference(size):
    report = diagnosed("suppression", *size, referenced=True)
    assert CHECK.code == "RS202"
    assert finding_of(report, "RS202").status is FOUND
    assert report.verdict.word == "WARN"


@pytest.mark.parametrize("seed", [0, 1])
def test_fires_in_extreme_cases_by_shares_of_variance(seed):
    report = diagnosed("suppression", 1000, 64, seed)
    assert finding_of(report, "RS202").status is FOUND


@pytest.mark.parametrize("size", SMALL_SIZES)
def test_is_silent_against_a_reference_that_reads_no_more(size):
    one = sound(*size)
    noise = np.random.default_rng(7).standard_normal(one.features.shape)
    report = diagnose(one.features, labels=one.labels, reference=one.features + noise)
    assert finding_of(report, "RS202").status is ABSENT


@pytest.mark.parametrize("size", LARGER_SIZES)
def test_is_silent_with_attributes_that_explain_little(size):
    one = sound(*size)
    chance = np.random.default_rng(8).integers(0, 2, size[0])
    report = diagnose(one.features, labels=one.labels, attributes={"chance": chance})
    assert finding_of(report, "RS202").status is ABSENT


@pytest.mark.parametrize("given", ["reference", "attributes"])
@pytest.mark.parametrize("size", SMALL_SIZES)
def test_random_labels_on_sound_features_are_not_suppressed(size, given):
    one = sound(*size)
    labels = np.random.default_rng(1234).integers(0, 10, size[0])
    context = {
        "reference": {"reference": one.features[:, ::-1] ** 2},
        "attributes": {"attributes": one.labels},
    }
    report = diagnose(one.features, labels=labels, **context[given])
    assert finding_of(report, "RS202").status is UNDECIDED


def test_is_not_applicable_without_reference_and_attributes():
    report = diagnosed("class collapse", 400, 32, 0)
    assert finding_of(report, "RS202").status is NOT_APPLICABLE


def test_is_undecided_with_few_test_rows():
    features = sound(400, 32, 0).features[:60]
    noise = np.random.default_rng(0).standard_normal(features.shape)
    report = diagnose(
        features + 1.5 * noise,
        labels=sound(400, 32, 0).labels["coarse"][:60],
        reference=features,
    )
    finding = finding_of(report, "RS202")
    assert finding.status is UNDECIDED
    assert "the test rows are too few" in finding.explanation
