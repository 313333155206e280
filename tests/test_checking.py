"""Errors name the offender, what came, what is allowed and what to do next."""

import re

import pytest

from repscope import _checking as checking


@pytest.mark.parametrize(
    ("details", "message"),
    [
        ({}, "what"),
        ({"found": "a"}, "what\n  found: a"),
        ({"expected": "b"}, "what\n  expected: b"),
        ({"found": "a", "expected": "b"}, "what\n  found: a; expected: b"),
        ({"fix": "c"}, "what\n  fix: c"),
        (
            {"found": "a", "expected": "b", "fix": "c"},
            "what\n  found: a; expected: b\n  fix: c",
        ),
    ],
)
def test_message_has_one_line_for_facts_and_one_for_the_fix(details, message):
    assert str(checking.RepscopeError("what", **details)) == message


def test_parts_of_the_message_stay_readable_by_code():
    error = checking.InputError("what", found="a", expected="b", fix="c")
    assert (error.what, error.found, error.expected, error.fix) == (
        "what",
        "a",
        "b",
        "c",
    )


@pytest.mark.parametrize(
    ("error", "exit_code", "builtin"),
    [
        (checking.RepscopeError("x"), 70, Exception),
        (checking.InputError("x"), 3, ValueError),
        (checking.NonFiniteFeatureError("x", 1, 0), 3, ValueError),
        (checking.UsageError("x"), 2, ValueError),
        (checking.MissingExtraError("x", "train"), 2, ImportError),
        (checking.ResourceError("x"), 4, OSError),
    ],
)
def test_each_error_carries_its_exit_code_and_a_builtin_type(error, exit_code, builtin):
    assert error.exit_code == exit_code
    assert isinstance(error, builtin)


def test_exit_codes_are_the_published_contract():
    codes = {
        name: value for name, value in vars(checking).items() if name[:5] == "EXIT_"
    }
    assert codes == {
        "EXIT_OK": 0,
        "EXIT_GATE": 1,
        "EXIT_USAGE": 2,
        "EXIT_DATA": 3,
        "EXIT_ENVIRONMENT": 4,
        "EXIT_BUG": 70,
        "EXIT_INTERRUPTED": 130,
        "EXIT_TERMINATED": 143,
    }


@pytest.mark.parametrize(
    ("count", "start"),
    [
        (1, "emb.npy: 1 row contains NaN or infinity (first: row 7)"),
        (41, "emb.npy: 41 rows contain NaN or infinity (first: row 7)"),
    ],
)
def test_nonfinite_error_counts_rows_and_names_the_first(count, start):
    error = checking.NonFiniteFeatureError("emb.npy", count, 7)
    fix = "  fix: --drop-nonfinite (drop_nonfinite=True in Python) drops, counts them"
    assert str(error) == f"{start}\n{fix}"
    assert (error.n_bad_rows, error.first_bad_row) == (count, 7)


def test_missing_extra_says_what_to_install():
    error = checking.MissingExtraError("reading Parquet needs pyarrow", "parquet")
    assert error.fix == 'pip install "repscope[parquet]"'


def test_undecidable_is_no_error_of_the_caller():
    answer = checking.Undecidable("no rows")
    assert answer.reason == str(answer) == "no rows"
    assert not isinstance(answer, checking.RepscopeError)


@pytest.mark.parametrize(
    ("name", "options", "hint"),
    [
        ("alpah", ["rankme", "alpha"], "did you mean alpha?"),
        ("xyz", ["rankme", "alpha"], "choose from alpha, rankme"),
        ("xyz", [], "there are none"),
        ("emb", {"emb": 1, "label": 2}, "did you mean emb?"),
    ],
)
def test_hint_names_the_closest_option_or_lists_all(name, options, hint):
    assert checking.did_you_mean(name, options) == hint


def test_unknown_choice_is_refused_with_a_hint():
    message = re.escape("unknown metric 'alpah'\n  fix: did you mean alpha?")
    with pytest.raises(checking.UsageError, match=f"^{message}$"):
        checking.check_choice("metric", "alpah", iter(["rankme", "alpha"]))


def test_wrong_length_names_both_numbers():
    message = re.escape(
        "labels: one entry per row of features is needed\n"
        "  found: 1,999 entries; expected: 12,000\n"
        "  fix: pass labels in the order of the rows, one for each"
    )
    with pytest.raises(checking.InputError, match=f"^{message}$"):
        checking.check_length("labels", 1999, 12_000)


def test_what_is_allowed_passes():
    checking.check_choice("metric", "alpha", ["alpha"])
    checking.check_length("labels", 0, 0)
