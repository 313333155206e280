"""RS502: says when n is too small for d or a spectrum is no power law."""

import re

import numpy as np
import pytest

from diagnosis.cases import (
    ABSENT,
    FOUND,
    HAIR,
    UNDECIDED,
    finding_of,
    gathered,
    measured,
)
from repscope.diagnosis.diagnose import diagnose
from repscope.diagnosis.measurement_validity import (
    ALPHA_BIASED_BELOW,
    CHECK,
    ROWS_PER_FEATURE,
    decide,
)
from repscope.metrics.power_law import alpha
from repscope.representations.moments import Moments
from repscope.theory.planted import power_law, with_exact_spectrum


def spectrum(n, d, alpha=1.2, reason=None):
    return gathered(
        measured("effective_rank_covariance", 5.0, n=n, d=d),
        measured("alpha", alpha, reason=reason),
    )


SMALL = ALPHA_BIASED_BELOW - HAIR
CASES = {
    "not measured": (gathered(), UNDECIDED, "was not measured"),
    "as many": (spectrum(64, 64), FOUND, "64 rows of 64 .* 63 dimensions at most"),
    "one row": (spectrum(1, 64), FOUND, "shows 0 dimensions at most"),
    "one more": (
        spectrum(65, 64, ALPHA_BIASED_BELOW),
        ABSENT,
        "65 rows of 64 features suffice",
    ),
    "few": (
        spectrum(8 * 64 - 1, 64, SMALL),
        FOUND,
        "8.0 rows per feature bias an α of this size; 8 per feature",
    ),
    "enough": (spectrum(ROWS_PER_FEATURE * 64, 64, SMALL), ABSENT, "512 rows of 64"),
    "few, steep": (spectrum(100, 64, ALPHA_BIASED_BELOW), ABSENT, "suffice"),
    "no power law": (
        spectrum(5000, 64, None, "no power law"),
        FOUND,
        r"^α has no value \(no power law\).$",
    ),
    "both": (spectrum(9, 64, None, "too few"), FOUND, r"at most; α has no value"),
}


@pytest.mark.parametrize("case", CASES)
def test_thresholds_and_words(case):
    evidence, status, words = CASES[case]
    judgement = decide(evidence)
    assert judgement.status is status
    assert re.search(words, judgement.explanation), judgement.explanation


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("n", "d"), [(32, 32), (60, 128)])
def test_fires_with_no_more_rows_than_features(n, d, seed):
    report = diagnose(power_law(n, d, 1.0, seed=seed))
    finding = finding_of(report, "RS502")
    assert CHECK.code == "RS502"
    assert finding.status is FOUND
    assert f"{n - 1:,} dimensions at most" in finding.explanation


@pytest.mark.parametrize(("n", "d"), [(400, 32), (1000, 64)])
def test_fires_where_the_spectrum_is_no_power_law(n, d):
    steps = np.where(np.arange(d) < d // 4, 1.0, 1e-4)
    report = diagnose(with_exact_spectrum(n, steps))
    finding = finding_of(report, "RS502")
    assert finding.status is FOUND
    assert "no power law" in finding.explanation
    assert "RS502" not in report.verdict.sentence


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("n", "d"), [(1000, 64), (2000, 128)])
def test_is_silent_on_power_laws_with_enough_rows(n, d, seed):
    report = diagnose(power_law(n, d, 1.2, seed=seed))
    assert finding_of(report, "RS502").status is ABSENT


def alpha_of(n, d, truth):
    spectrum = Moments(d).update(power_law(n, d, truth)).spectrum().values
    return alpha(spectrum, n).value


@pytest.mark.parametrize(
    ("d", "few", "low", "high"), [(512, 512, 0.9, 0.94), (64, 128, 1.1, 1.3)]
)
def test_few_rows_bias_alpha_down_or_up_and_enough_do_not(d, few, low, high):
    assert low < alpha_of(few, d, 1.0) < high
    assert alpha_of(ROWS_PER_FEATURE * d, d, 1.0) == pytest.approx(1, abs=0.03)


def test_constant_features_have_no_alpha_to_trust():
    finding = finding_of(diagnose(np.ones((50, 4))), "RS502")
    assert finding.status is FOUND
    assert "α has no value" in finding.explanation
