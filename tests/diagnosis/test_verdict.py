"""The run in one word: what each set of findings makes of it, and what to do next."""

import pytest

from diagnosis.cases import (
    ABSENT,
    FOUND,
    NOT_APPLICABLE,
    UNDECIDED,
    diagnosed,
    gathered,
)
from repscope.diagnosis.checks import CHECKS
from repscope.diagnosis.verdict import next_commands, verdict_of
from repscope.records import Finding

BY_CODE = {check.code: check for check in CHECKS}
# What every run that reads HEALTHY has decided.
CORE = {"RS101": ABSENT, "RS102": ABSENT}


def verdict(**statuses):
    """Return the word and the sentence for findings of these statuses."""
    findings = [
        Finding(
            code=code,
            title=BY_CODE[code].title,
            status=status,
            severity=BY_CODE[code].severity,
            explanation="Seen.",
        )
        for code, status in statuses.items()
    ]
    said = verdict_of(findings)
    return said.word, said.sentence


VERDICTS = {
    "collapse": ({"RS101": FOUND}, "COLLAPSED", "found: RS101 complete collapse."),
    "dimensions": (
        {"RS101": ABSENT, "RS102": FOUND},
        "COLLAPSED",
        "found: RS102 dimensional collapse.",
    ),
    "dimensions and samples": (
        {"RS102": FOUND, "RS301": FOUND},
        "COLLAPSED",
        "found: RS102 dimensional collapse, RS301 low-quality samples.",
    ),
    "classes": ({"RS201": FOUND}, "WARN", "found: RS201 class collapse."),
    "suppression": ({"RS202": FOUND}, "WARN", "found: RS202 feature suppression."),
    "a warning": (
        CORE | {"RS302": FOUND},
        "WARN",
        "found: RS302 shared features.",
    ),
    "a warning, core open": (
        {"RS101": UNDECIDED, "RS302": FOUND},
        "WARN",
        "found: RS302 shared features; undecided: RS101 complete collapse.",
    ),
    "sound": (CORE, "HEALTHY", "no failure found."),
    "advisories do not count": (
        CORE | {"RS501": FOUND, "RS502": UNDECIDED},
        "HEALTHY",
        "no failure found.",
    ),
    "others open": (
        CORE | {"RS103": UNDECIDED, "RS201": NOT_APPLICABLE, "RS302": ABSENT},
        "HEALTHY",
        "no failure found; undecided: RS103 flat spectrum.",
    ),
    "collapse open": (
        CORE | {"RS102": UNDECIDED, "RS302": ABSENT},
        "UNDECIDED",
        "whether it collapsed cannot be told; undecided: RS102 dimensional collapse.",
    ),
    "nothing": ({}, "UNDECIDED", "whether it collapsed cannot be told."),
    "advisories alone": (
        {"RS501": FOUND, "RS502": FOUND},
        "UNDECIDED",
        "whether it collapsed cannot be told.",
    ),
}


@pytest.mark.parametrize("case", VERDICTS)
def test_the_worst_finding_decides(case):
    statuses, word, sentence = VERDICTS[case]
    assert verdict(**statuses) == (word, sentence)


@pytest.mark.parametrize("code", sorted(BY_CODE))
def test_every_check_that_counts_can_change_the_word(code):
    word, _ = verdict(**(CORE | {code: FOUND}))
    counts = BY_CODE[code].severity != "advisory"
    collapses = code in ("RS101", "RS102")
    expected = "COLLAPSED" if collapses else "WARN" if counts else "HEALTHY"
    assert word == expected


def test_a_coarse_level_does_not_explain_a_low_rank_away():
    # Three dimensions of 64 separate the five coarse classes, not the ten fine ones.
    assert diagnosed("rank 3", 1000, 64, 0).verdict.word == "COLLAPSED"


def test_labels_are_asked_for_first_then_a_reference_then_a_comparison():
    compare = "repscope compare OTHER-REPORT OUT"
    unlabelled = next_commands(gathered())
    labelled = next_commands(gathered(levels=("fine",)))
    complete = next_commands(gathered(levels=("fine",), has_reference=True))
    assert unlabelled == ("repscope diagnose FEATURES --labels LABELS", compare)
    assert labelled == (
        "repscope diagnose FEATURES --labels LABELS --reference REFERENCE",
        compare,
    )
    assert complete == (compare,)
