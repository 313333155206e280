"""The tuple of checks, how evidence is read, and what a finding carries."""

import re
from pathlib import Path

import pytest

from diagnosis.cases import (
    FOUND,
    NOT_APPLICABLE,
    UNDECIDED,
    diagnosed,
    gathered,
    measured,
    probed,
)
from repscope.diagnosis.check import BEYOND_GUESSING, Check, Judgement
from repscope.diagnosis.checks import CHECKS
from repscope.records import Finding, Status

ROOT = Path(__file__).parents[2]
SEVERITIES = {
    "RS101": "failure",
    "RS102": "failure",
    "RS103": "warning",
    "RS201": "failure",
    "RS202": "failure",
    "RS301": "warning",
    "RS302": "warning",
    "RS501": "advisory",
    "RS502": "advisory",
}


def test_codes_come_once_and_in_order():
    assert [check.code for check in CHECKS] == sorted(SEVERITIES)


def test_severities():
    assert {check.code: check.severity for check in CHECKS} == SEVERITIES


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.code)
def test_a_check_names_its_page_remedies_and_needs(check):
    page = ROOT / check.page
    assert page.read_text(encoding="utf-8").startswith(f"# {check.code} {check.title}")
    assert check.remedies
    assert len(set(check.remedies)) == len(check.remedies)
    assert check.needs


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.code)
def test_without_evidence_nothing_is_claimed(check):
    finding = check.finding(gathered())
    assert finding.status in (UNDECIDED, NOT_APPLICABLE)
    assert finding.explanation.endswith(".")
    assert (finding.remedies, finding.action) == ((), "")


@pytest.mark.parametrize("damage", ["sound", "rank 1", "suppression", "1 shared"])
def test_remedies_and_an_action_come_with_what_is_found_and_only_then(damage):
    for finding in diagnosed(damage, 400, 32, 0, referenced=True).findings:
        is_found = finding.status is FOUND
        assert bool(finding.remedies) == is_found
        assert bool(finding.action) == is_found


@pytest.mark.parametrize("damage", ["sound", "rank 1", "suppression", "1 shared"])
def test_explanations_are_sentences_that_rest_on_evidence(damage):
    for finding in diagnosed(damage, 400, 32, 0, referenced=True).findings:
        assert re.match(r"[A-Z\dα]", finding.explanation)
        assert finding.explanation.endswith(".")
        assert "  " not in finding.explanation
        assert finding.evidence or finding.status is NOT_APPLICABLE


def test_findings_come_in_the_order_of_the_tuple():
    findings = diagnosed("sound", 400, 32, 0).findings
    assert [one.code for one in findings] == [check.code for check in CHECKS]


def check_that_says(status):
    return Check(
        code="RS999",
        title="planted",
        severity="warning",
        needs="nothing",
        name="planted",
        remedies=("mend",),
        decide=lambda evidence: Judgement(status, "Seen.", rows=(1,)),
    )


@pytest.mark.parametrize("status", Status)
def test_a_finding_carries_the_check_and_the_judgement(status):
    finding = check_that_says(status).finding(gathered())
    assert finding == Finding(
        code="RS999",
        title="planted",
        status=status,
        severity="warning",
        explanation="Seen.",
        remedies=("mend",) if status is FOUND else (),
        rows=(1,),
        page="docs/failures/planted.md",
    )


EVIDENCE = gathered(
    measured("alpha", 1.5, r_squared=0.5, note="word"),
    measured("alpha", 2.5, layer="reference"),
    measured("cdnv", None, level="fine", reason="no"),
    probed(0.5),
    probed(0.25, layer="reference"),
)


def test_evidence_finds_values_by_name_level_and_layer():
    assert EVIDENCE.value("alpha") == 1.5
    assert EVIDENCE.value("alpha", layer="reference") == 2.5
    assert EVIDENCE.value("alpha", level="fine") is None
    assert EVIDENCE.value("cdnv", level="fine") is None
    assert EVIDENCE.measurement("cdnv", level="fine").reason == "no"


def test_evidence_reads_numbers_from_details():
    assert EVIDENCE.detail("alpha", "r_squared") == 0.5
    assert EVIDENCE.detail("alpha", "note") is None
    assert EVIDENCE.detail("alpha", "other") is None
    assert EVIDENCE.detail("beta", "r_squared") is None


def test_evidence_knows_the_skill_of_the_linear_probe():
    assert EVIDENCE.skill("fine") == 0.5
    assert EVIDENCE.skill("fine", layer="reference") == 0.25
    assert EVIDENCE.skill("coarse") is None


def test_those_leaves_out_what_was_not_measured():
    shown = EVIDENCE.those("alpha@reference", "nothing", "alpha")
    assert [one.key for one in shown] == ["alpha@reference", "alpha"]


def accuracy(value, half_width=0.05, majority=0.1):
    interval = None if half_width is None else (value - half_width, value + half_width)
    return measured(
        "linear_accuracy", value, level="fine", interval=interval, majority=majority
    )


@pytest.mark.parametrize(
    ("probe", "reads"),
    [
        (accuracy(0.1 + BEYOND_GUESSING * 0.0501), True),
        (accuracy(0.1 + BEYOND_GUESSING * 0.05, half_width=0.0501), False),
        (accuracy(0.05), False),
        (accuracy(0.9, half_width=None), False),
        (measured("linear_accuracy", None, level="fine", reason="one class"), False),
        (measured("knn_accuracy", 0.9, level="fine"), False),
    ],
)
def test_reading_is_being_right_beyond_guessing(probe, reads):
    assert gathered(probe).reads("fine") is reads
