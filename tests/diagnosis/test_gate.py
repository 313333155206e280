"""Gates: the grammar, what fails, what cannot be decided, and what it says."""

import dataclasses

import pytest

from repscope._checking import UsageError
from repscope.diagnosis.gate import (
    FindingGate,
    NumberGate,
    evaluate,
    parse_gate,
    parse_gates,
)
from repscope.records import (
    Finding,
    Measurement,
    Provenance,
    RunRecord,
    Status,
    Verdict,
)


def finding(code, status, severity="failure"):
    title = {"RS102": "dimensional collapse"}.get(code, "some failure")
    return Finding(
        code=code, title=title, status=status, severity=severity, explanation="seen"
    )


RUN = RunRecord(
    kind="diagnosis",
    title="emb.npy",
    verdict=Verdict(word="COLLAPSED", sentence="collapsed"),
    provenance=Provenance(n=1000, d=64),
    measurements=(
        Measurement(name="effective_rank", value=3.125, n=1000, d=64),
        Measurement(name="alpha", value=None, reason="no power law", n=1000, d=64),
        Measurement(name="linear_accuracy", value=0.25, level="fine", n=800),
        Measurement(name="linear_accuracy", value=0.75, level="coarse", n=800),
        Measurement(name="knn_accuracy", value=0.5, level="fine"),
        Measurement(name="sparsity", value=0.1, layer="layer3"),
        Measurement(name="sparsity", value=0.2, layer="layer4"),
        Measurement(name="cdnv", value=0.1, split="train"),
        Measurement(name="cdnv", value=0.9, split="test"),
    ),
    findings=(
        finding("RS101", Status.ABSENT),
        finding("RS102", Status.FOUND),
        finding("RS103", Status.UNDECIDED, "warning"),
        finding("RS201", Status.UNDECIDED),
        finding("RS202", Status.NOT_APPLICABLE),
        finding("RS301", Status.SKIPPED, "warning"),
        finding("RS501", Status.FOUND, "advisory"),
    ),
)


def failures(*texts, run=RUN, baseline=None):
    return evaluate(parse_gates(texts), run, baseline).failures


@pytest.mark.parametrize(
    ("text", "code", "undecided_fails"),
    [
        ("RS102", "RS102", False),
        (" rs102 ", "RS102", False),
        ("RS1xx", "RS1xx", False),
        ("rs1XX?", "RS1xx", True),
        ("any", "any", False),
        ("ANY?", "any", True),
    ],
)
def test_finding_expressions_are_read(text, code, undecided_fails):
    assert parse_gate(text) == FindingGate(text.strip(), code, undecided_fails)


@pytest.mark.parametrize(
    ("text", "name", "level", "layer", "comparison", "factor", "unit"),
    [
        ("rankme<8", "rankme", None, None, "<", 8.0, ""),
        ("rankme >= 1e-3", "rankme", None, None, ">=", 0.001, ""),
        ("rankme<0.3*d", "rankme", None, None, "<", 0.3, "d"),
        ("rankme < .3 * n", "rankme", None, None, "<", 0.3, "n"),
        ("rankme<=baseline", "rankme", None, None, "<=", 1.0, "baseline"),
        ("a[super class]>-2", "a", "super class", None, ">", -2.0, ""),
        ("a@layer3.conv<1", "a", None, "layer3.conv", "<", 1.0, ""),
        ("a[x, y]@b<0.9*baseline", "a", "x, y", "b", "<", 0.9, "baseline"),
    ],
)
def test_comparisons_are_read(text, name, level, layer, comparison, factor, unit):
    assert parse_gate(text) == NumberGate(
        text, name, level, layer, comparison, factor, unit
    )


def test_commas_separate_gates_but_not_inside_a_level():
    gates = parse_gates(["RS102,a[x, y]<1", "any"])
    assert [gate.text for gate in gates] == ["RS102", "a[x, y]<1", "any"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "RS12",
        "RS1x2",
        "collapse",
        "rankme",
        "rankme=20",
        "rankme==20",
        "rankme<<20",
        "rankme<",
        "<20",
        "rankme<twenty",
        "rankme<3*rank",
        "rankme<1e999",
        "rankme<nan",
        "rankme<2*3*d",
        "rankme<__import__('os').system('true')",
        "1<rankme",
        "RS102??",
    ],
)
def test_anything_else_is_refused(text):
    with pytest.raises(UsageError, match=r"--fail-on: cannot read .*\n(.|\n)*RS1xx"):
        parse_gate(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("RS102", ("RS102 dimensional collapse: found",)),
        ("RS101", ()),
        ("RS202", ()),
        ("RS301?", ()),
        ("RS201", ()),
        ("RS201?", ("RS201 some failure: undecided",)),
        ("RS501", ("RS501 some failure: found",)),
        ("RS1xx", ("RS102 dimensional collapse: found",)),
        (
            "RS1xx?",
            ("RS102 dimensional collapse: found", "RS103 some failure: undecided"),
        ),
        ("any", ("RS102 dimensional collapse: found",)),
    ],
)
def test_findings_fail_when_found_or_undecided_where_asked(text, expected):
    assert failures(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("effective_rank<20", ("effective_rank 3.125 < 20",)),
        ("effective_rank<3.125", ()),
        ("effective_rank<=3.125", ("effective_rank 3.125 <= 3.125",)),
        ("effective_rank>20", ()),
        ("effective_rank<0.3*d", ("effective_rank 3.125 < 19.2 (0.3*d)",)),
        ("effective_rank<=0.01*n", ("effective_rank 3.125 <= 10 (0.01*n)",)),
        ("linear_accuracy[coarse]<0.5", ()),
        ("linear_accuracy[fine]<0.5", ("linear_accuracy[fine] 0.25 < 0.5",)),
        ("knn_accuracy<0.6", ("knn_accuracy[fine] 0.5 < 0.6",)),
        ("sparsity@layer3<0.5", ("sparsity@layer3 0.1 < 0.5",)),
        ("cdnv>0.5", ("cdnv 0.9 > 0.5",)),
    ],
)
def test_comparisons_state_the_failure(text, expected):
    assert failures(text) == expected


def test_a_measurement_without_a_value_fails_closed():
    assert failures("alpha>2") == ("alpha>2 could not be decided: no power law",)


def test_the_share_of_d_falls_back_to_the_run():
    assert failures("linear_accuracy[fine]<0.1*d") == (
        "linear_accuracy[fine] 0.25 < 6.4 (0.1*d)",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("RS104", r"no finding RS104\n.*did you mean RS10\d\?"),
        ("RS9xx", r"no finding RS9xx"),
        ("efective_rank<2", r"measure efective_rank\n.*did you mean effective_rank\?"),
        (
            "linear_accuracy<0.5",
            r"linear_accuracy fits 2 measurements\n  fix: choose from "
            r"linear_accuracy\[coarse\], linear_accuracy\[fine\]",
        ),
        ("sparsity<1", r"sparsity@layer3, sparsity@layer4"),
        (
            "linear_accuracy[coarze]<0.5",
            r"measure linear_accuracy\[coarze\]\n.*mean linear_accuracy\[coarse\]\?",
        ),
        ("effective_rank<baseline", r"needs a baseline\n  fix: repscope compare"),
    ],
)
def test_what_the_run_does_not_hold_is_a_usage_error(text, message):
    with pytest.raises(UsageError, match=message):
        failures(text)


def with_effective_rank(**changes):
    first = dataclasses.replace(RUN.measurements[0], **changes)
    return dataclasses.replace(RUN, measurements=(first, *RUN.measurements[1:]))


@pytest.mark.parametrize(
    ("baseline", "expected"),
    [
        (with_effective_rank(value=3.2), ()),
        (
            with_effective_rank(value=30.0),
            ("effective_rank 3.125 < 27 (0.9*baseline)",),
        ),
        (
            with_effective_rank(value=None, reason="n is 1"),
            (
                "effective_rank<0.9*baseline could not be decided: in the baseline, "
                "n is 1",
            ),
        ),
        (
            with_effective_rank(name="something_else"),
            (
                "effective_rank<0.9*baseline could not be decided: the baseline did "
                "not measure effective_rank",
            ),
        ),
    ],
)
def test_comparisons_with_a_baseline(baseline, expected):
    assert failures("effective_rank<0.9*baseline", baseline=baseline) == expected


def test_all_gates_are_judged_and_each_failure_is_said_once():
    result = evaluate(parse_gates(["RS102,any", "effective_rank<20"]), RUN)
    assert result.failures == (
        "RS102 dimensional collapse: found",
        "effective_rank 3.125 < 20",
    )
    assert not result.passed


def test_no_gates_pass():
    assert evaluate((), RUN).passed
