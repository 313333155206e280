"""RS302: fires on features that are always on, not on what a common mean does."""

import re

import numpy as np
import pytest

from diagnosis.cases import (
    ABSENT,
    FOUND,
    HAIR,
    LARGER_SIZES,
    SIZES,
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
from repscope.diagnosis.shared_features import (
    ARGMAX_CONCENTRATED,
    CHECK,
    MINIMUM_ROWS,
    SHARED_BEYOND_CHANCE,
    chance_index,
    decide,
)

LIMIT = SHARED_BEYOND_CHANCE * chance_index(64)


def shared(concentration, index, *, n=1000, **fields):
    return gathered(
        measured("argmax_concentration", concentration, n=n),
        measured("shared_feature_index", index, n=n),
        **fields,
    )


CASES = {
    "not measured": (gathered(), UNDECIDED, "No feature varies or is on"),
    "spread": (shared(ARGMAX_CONCENTRATED - HAIR, 20.0), ABSENT, "of 30% of the rows"),
    "always on": (
        shared(ARGMAX_CONCENTRATED, LIMIT),
        FOUND,
        r"30% of the rows; the most used carries 8.3 times the average: they say",
    ),
    "common mean": (shared(1.0, LIMIT - HAIR), ABSENT, "than a common mean"),
    "signed": (shared(1.0, 20.0, is_negative=True), UNDECIDED, "take both signs"),
    "signed, spread": (shared(0.1, 20.0, is_negative=True), ABSENT, "10% of the rows"),
    "few rows": (
        shared(1.0, 20.0, n=MINIMUM_ROWS - 1),
        UNDECIDED,
        "19 rows; 20 are needed",
    ),
    "enough rows": (shared(1.0, 20.0, n=MINIMUM_ROWS), FOUND, "100% of the rows"),
}


@pytest.mark.parametrize("case", CASES)
def test_thresholds_and_words(case):
    evidence, status, words = CASES[case]
    judgement = decide(evidence)
    assert judgement.status is status
    assert re.search(words, judgement.explanation), judgement.explanation


@pytest.mark.parametrize("d", [32, 128, 512])
def test_the_chance_index_is_that_of_rectified_random_means(d):
    means = np.maximum(np.random.default_rng(0).standard_normal((2000, d)), 0)
    drawn = means.max(axis=1) / means.mean(axis=1)
    # The square root bounds the expected greatest of d normals from above.
    assert 0.75 * chance_index(d) < np.median(drawn) < chance_index(d)
    # Even features that are nothing but a common mean seldom pass the limit.
    assert (drawn > SHARED_BEYOND_CHANCE * chance_index(d)).mean() < 0.08


@pytest.mark.parametrize(
    ("damage", "size"),
    [("1 shared", size) for size in SIZES]
    # Three of 32 features cannot carry much more than the average of all.
    + [("3 shared", size) for size in LARGER_SIZES],
)
def test_fires_when_planted(damage, size):
    report = diagnosed(damage, *size)
    assert CHECK.code == "RS302"
    assert finding_of(report, "RS302").status is FOUND
    assert report.verdict.word == "WARN"


@pytest.mark.parametrize("damage", ["sound", "class collapse", "low quality", "noise"])
@pytest.mark.parametrize("size", SMALL_SIZES)
def test_is_silent_on_other_features(damage, size):
    assert finding_of(diagnosed(damage, *size), "RS302").status is ABSENT


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("offset", [0.5, 2.0])
def test_is_silent_where_random_features_share_a_mean(seed, offset):
    generator = np.random.default_rng(seed)
    latent = offset + generator.standard_normal((500, 40))
    features = np.maximum(latent @ generator.standard_normal((40, 128)), 0)
    assert finding_of(diagnose(features), "RS302").status is ABSENT


@pytest.mark.parametrize("size", SMALL_SIZES[1:])
def test_a_dominant_coordinate_of_signed_features_is_none_once_standardised(size):
    features = damaged("1 shared", *size).features - 0.1
    assert finding_of(diagnose(features), "RS302").status is ABSENT


@pytest.mark.parametrize("seed", [0, 1])
def test_is_undecided_on_signed_features(seed):
    features = np.random.default_rng(seed).standard_normal((400, 3))
    finding = finding_of(diagnose(features), "RS302")
    assert finding.status is UNDECIDED
    assert "take both signs" in finding.explanation


@pytest.mark.parametrize("n", [1, 2, 5, 19])
def test_is_undecided_with_too_few_rows(n):
    features = sound(400, 32, 0).features[:n].copy()
    features[:, 0] = 100
    assert finding_of(diagnose(features), "RS302").status is UNDECIDED
