"""RS102: fires on few dimensions, not on steep spectra; labels and n can forbid it."""

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
from repscope.diagnosis.dimensional_collapse import (
    BORDER_FACTOR,
    CHECK,
    EFFECTIVE_RANK_COLLAPSED,
    EFFECTIVE_RANK_SHARE_BORDER,
    EFFECTIVE_RANK_SHARE_COLLAPSED,
    MINIMUM_RANK_BOUND,
    REFERENCE_FACTOR,
    SHARE_OF_RANK_COLLAPSED,
    SKILL_SEPARATED,
    decide,
    rank_bound,
)
from repscope.theory.planted import power_law, with_exact_spectrum

LIMIT, SHARE = EFFECTIVE_RANK_COLLAPSED, EFFECTIVE_RANK_SHARE_COLLAPSED
BORDER, BORDER_SHARE = BORDER_FACTOR * LIMIT, EFFECTIVE_RANK_SHARE_BORDER


def ranks(covariance, share, *others, n=1001, d=100, **fields):
    """Return evidence of an effective rank, and of a share of the possible rank."""
    bound = min(n - 1, d)
    return gathered(
        measured("effective_rank_covariance", covariance, n=n, d=d),
        measured("effective_rank", share * bound, n=n, d=d),
        *others,
        **fields,
    )


def reference(rank):
    return measured("effective_rank_covariance", rank, layer="reference")


CONSTANT = [
    measured(name, None, reason="all features are constant")
    for name in ("effective_rank_covariance", "effective_rank")
]
# At this bound one percent of the rank is more than the fixed limit.
WIDE = {"n": 4001, "d": 4000}
WIDE_LIMIT = SHARE_OF_RANK_COLLAPSED * 4000
CASES = {
    "not measured": (gathered(), UNDECIDED, "was not measured"),
    "constant": (gathered(*CONSTANT), UNDECIDED, "all features are constant"),
    "few rows": (ranks(1.0, 0.1, n=10), UNDECIDED, "at most 9 dimensions; 10 are"),
    "narrow": (ranks(1.0, 0.1, d=9), UNDECIDED, "1,001 rows of 9 features span"),
    "just enough": (ranks(1.0, 0.1, n=11), FOUND, "1.0 of 10 possible dimensions"),
    "few": (ranks(LIMIT, SHARE), FOUND, "5.0 of 100 possible .* included, 20.0"),
    "not so few": (ranks(LIMIT + HAIR, SHARE), UNDECIDED, "few, but not few enough"),
    "long tail": (ranks(LIMIT, SHARE + HAIR), UNDECIDED, "few, but not few enough"),
    "border": (ranks(BORDER, BORDER_SHARE), UNDECIDED, "A reference of the same"),
    "beyond": (ranks(BORDER + HAIR, BORDER_SHARE), ABSENT, "Variance spreads over 7"),
    "longer tail": (ranks(1.0, BORDER_SHARE + HAIR), ABSENT, "included, 25.0"),
    "wide": (ranks(WIDE_LIMIT, SHARE, **WIDE), FOUND, "40.0 of 4,000"),
    "wide beyond": (
        ranks(BORDER_FACTOR * WIDE_LIMIT + HAIR, SHARE, **WIDE),
        ABSENT,
        "60.0 of 4,000",
    ),
    "border, reference": (
        ranks(BORDER, BORDER_SHARE, reference(REFERENCE_FACTOR * BORDER)),
        FOUND,
        "The reference spreads over 22.5",
    ),
    "border, low reference": (
        ranks(BORDER, BORDER_SHARE, reference(REFERENCE_FACTOR * BORDER - HAIR)),
        UNDECIDED,
        "few, but not few enough",
    ),
    "labels explain": (
        ranks(4.5, SHARE, probed(SKILL_SEPARATED), levels=("fine",)),
        UNDECIDED,
        "reads the labels almost perfectly",
    ),
    "labels not separated": (
        ranks(4.5, SHARE, probed(SKILL_SEPARATED - HAIR), levels=("fine",)),
        FOUND,
        "Variance spreads over 4.5",
    ),
    "labels need more": (
        ranks(4.5 - HAIR, SHARE, probed(0.99), levels=("fine",)),
        FOUND,
        "Variance spreads over 4.5",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_thresholds_and_words(case):
    evidence, status, words = CASES[case]
    judgement = decide(evidence)
    assert judgement.status is status
    assert re.search(words, judgement.explanation), judgement.explanation


@pytest.mark.parametrize(
    ("n", "d", "bound"), [(1, 8, 0), (8, 8, 7), (9, 8, 8), (100, 8, 8), (5, None, 0)]
)
def test_centred_rows_span_one_dimension_less(n, d, bound):
    assert rank_bound(measured("effective_rank", 1.0, n=n, d=d)) == bound


@pytest.mark.parametrize("damage", ["rank 1", "rank 3", "rank 3, leaking"])
@pytest.mark.parametrize("size", SIZES)
def test_fires_when_planted(damage, size):
    report = diagnosed(damage, *size, labelled=False)
    assert CHECK.code == "RS102"
    assert finding_of(report, "RS102").status is FOUND
    assert report.verdict.word == "COLLAPSED"


@pytest.mark.parametrize("damage", ["sound", "whitened", "noise", "class collapse"])
@pytest.mark.parametrize("size", SMALL_SIZES)
def test_is_silent_on_other_features(damage, size):
    assert finding_of(diagnosed(damage, *size), "RS102").status is ABSENT


@pytest.mark.parametrize("alpha", [0.5, 1.0, 1.5])
def test_is_silent_on_power_laws(alpha):
    finding = finding_of(diagnose(power_law(1000, 64, alpha)), "RS102")
    assert finding.status is ABSENT


@pytest.mark.parametrize("size", SMALL_SIZES[1:])
def test_a_reference_decides_a_border_case(size):
    n, d, seed = size
    eigenvalues = np.r_[np.ones(6), np.full(d - 6, 1e-4)]
    features = with_exact_spectrum(n, eigenvalues, seed=seed)
    alone = finding_of(diagnose(features), "RS102")
    beside = diagnose(features, reference=damaged("whitened", *size).features)
    assert alone.status is UNDECIDED
    assert finding_of(beside, "RS102").status is FOUND


@pytest.mark.parametrize("rank", [8, 12, 20])
def test_a_reference_decides_a_short_tail_of_any_rank(rank):
    n, d = 900, 300
    eigenvalues = np.r_[np.ones(rank), np.full(d - rank, 1e-9)]
    features = with_exact_spectrum(n, eigenvalues, seed=rank)
    pixels = with_exact_spectrum(n, np.ones(d), seed=0)
    assert finding_of(diagnose(features), "RS102").status is not ABSENT
    finding = finding_of(diagnose(features, reference=pixels), "RS102")
    assert finding.status is FOUND
    assert "The reference spreads over 300" in finding.explanation


def test_is_undecided_where_labels_need_no_more_dimensions():
    generator = np.random.default_rng(0)
    labels = np.arange(500) % 4
    corners = np.linalg.qr(generator.standard_normal((40, 40)))[0][labels]
    features = corners + 0.002 * generator.standard_normal((500, 40))
    report = diagnose(features, labels=labels)
    assert finding_of(report, "RS102").status is UNDECIDED
    assert finding_of(diagnose(features), "RS102").status is FOUND


@pytest.mark.parametrize("size", SMALL_SIZES)
def test_is_undecided_where_one_feature_has_larger_units(size):
    features = damaged("sound", *size).features.copy()
    features[:, 3] *= 1e4
    finding = finding_of(diagnose(features), "RS102")
    assert finding.status is UNDECIDED
    assert "a few features have larger units" in finding.explanation


@pytest.mark.parametrize("size", SMALL_SIZES[1:])
def test_is_undecided_where_one_row_carries_the_variance(size):
    features = damaged("sound", *size).features.copy()
    features[7] *= 1e4
    finding = finding_of(diagnose(features), "RS102")
    assert finding.status is UNDECIDED
    assert "hangs on a few rows" in finding.explanation


@pytest.mark.parametrize(("n", "d"), [(MINIMUM_RANK_BOUND, 32), (100, 9), (2, 2)])
def test_is_undecided_with_too_few_rows_or_dimensions(n, d):
    features = np.random.default_rng(0).standard_normal((n, d))
    assert finding_of(diagnose(features), "RS102").status is UNDECIDED
