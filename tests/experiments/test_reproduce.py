"""The verb reproduce around an experiment: folders, words, records."""

import pytest

from experiments.stand_ins import Measure, experiment
from repscope._checking import InputError, UsageError
from repscope.data.digits import digits16
from repscope.experiments import reproduce as module
from repscope.experiments.outcome import Outcome
from repscope.experiments.reproduce import reproduce


@pytest.fixture
def measure(monkeypatch):
    chosen = Measure(before=0.92, after=0.35)
    monkeypatch.setattr(module, "EXPERIMENTS", (experiment(chosen),))
    return chosen


def test_an_outcome_knows_where_it_comes_from(measure, tmp_path):
    outcome = reproduce("X-1", tmp_path / "out", device="cpu")
    assert outcome.status == "pass"
    assert Outcome.load(tmp_path / "out") == outcome
    assert measure.places[0].folder == tmp_path / "out" / "runs"
    provenance = outcome.provenance
    assert provenance.command == "repscope reproduce X-1"
    assert provenance.inputs["images digits test"] == digits16("test").fingerprint
    assert provenance.machine["device"] == "cpu"
    assert "torch" in provenance.versions


def test_without_a_folder_nothing_is_kept(measure, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    reproduce("X-1")
    assert measure.places[0].folder is None
    assert list(tmp_path.iterdir()) == []


def test_earlier_results_are_replaced_only_when_told_to(measure, tmp_path):
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match=r"is not empty\n.*--overwrite"):
        reproduce("X-1", tmp_path)
    assert measure.places == []  # refused before anything is trained
    reproduce("X-1", tmp_path, overwrite=True)
    assert (tmp_path / "notes.txt").read_text(encoding="utf-8") == "mine"
    with pytest.raises(UsageError, match="is a file, not a folder"):
        reproduce("X-1", tmp_path / "notes.txt")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"id": "x-1"}, r"unknown experiment 'x-1'\n.*did you mean X-1\?"),
        ({"id": "X-1", "device": "tpu9"}, "device 'tpu9'"),
    ],
)
def test_a_wrong_word_is_refused_before_the_work(measure, words, message):
    with pytest.raises(UsageError, match=message):
        reproduce(**words)
    assert measure.places == []


def test_a_measure_that_forgets_a_number_is_found_out(measure, tmp_path):
    del measure.values["after"]
    with pytest.raises(InputError, match="found: after"):
        reproduce("X-1", tmp_path)
    assert not (tmp_path / "results.json").exists()
