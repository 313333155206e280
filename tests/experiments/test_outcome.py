"""Outcomes: judged, shown, written whole and read again."""

import pytest

from experiments.stand_ins import experiment
from repscope._checking import InputError
from repscope.experiments.experiment import Observation
from repscope.experiments.outcome import Outcome, outcome_of
from repscope.records import Provenance


def made(*, before=0.92, after=0.35, **changes):
    observed = {"before": Observation(before, (0.9, 0.94)), "after": Observation(after)}
    return outcome_of(experiment(**changes), observed, Provenance(seconds=1.5))


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({}, "pass"),
        ({"after": 0.8}, "fail"),
        ({"before": 0.45, "after": 0.1}, "fail"),
        ({"kind": "report"}, "report only"),
        ({"kind": "report", "after": 0.8}, "report only"),
    ],
)
def test_the_predicate_decides_where_it_is_a_gate(options, status):
    assert made(**options).status == status


def test_numbers_stand_beside_what_was_expected_and_published():
    before, after = made().comparisons
    assert (before.observed, before.interval) == (0.92, (0.9, 0.94))
    assert before.is_expected and not after.is_expected  # .35 is not .5 ± .1
    assert (before.published, after.published) == (None, 0.25)
    assert made().numbers == {"before": 0.92, "after": 0.35}
    assert '\n[data]\nsource = "digits"' in made().recipes["only"]


def test_the_text_shows_all_of_it():
    lines = made(after=0.8).text(width=40).splitlines()
    assert lines[0] == "X-1  A stand-in: FAIL"
    table = [" ".join(line.split()) for line in lines]
    assert "accuracy before 0.920 0.900 to 0.940 0.9 ± 0.05" in table
    assert "after 0.800 0.5 ± 0.1, not so 0.25" in table
    assert "  NO it falls by .3" in lines
    assert "  yes before is above .5" in lines
    assert "  note: published for after: on other" in lines
    assert "  note: A caveat." in lines


def test_an_outcome_is_the_same_after_reading_it_again(tmp_path):
    outcome = made()
    outcome.save(tmp_path / "new" / "folder")
    assert Outcome.load(tmp_path / "new" / "folder") == outcome
    names = [path.name for path in (tmp_path / "new" / "folder").iterdir()]
    assert names == ["results.json"]  # nothing temporary is left


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "results.json"),
        ("{", "no outcome of an experiment.*no valid JSON"),
        ('{"kind": "diagnosis"}', "no outcome of an experiment.*unknown key 'kind'"),
    ],
)
def test_what_is_no_outcome_is_refused_by_name(tmp_path, content, message):
    if content is not None:
        (tmp_path / "results.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        Outcome.load(tmp_path)
