"""S2-F1: each objective on vectors at once; all of it, on digits too, when slow."""

import math

import pytest

from repscope.experiments.experiment import Workplace
from repscope.experiments.outcome import Outcome
from repscope.experiments.reproduce import reproduce
from repscope.experiments.s2_f1_pipeline import (
    OBJECTIVES,
    Checks,
    checks_of,
    on_vectors,
    recipe_with,
    rows_on_digits,
    rows_on_vectors,
    vectors,
)
from repscope.objectives.catalogue import OBJECTIVES as KNOWN

ALL = Checks(finite=True, gradient=True, identity=True)


@pytest.mark.parametrize(
    ("objective", "head"), [("swav", "none"), *((one, "mlp2") for one in OBJECTIVES)]
)
def test_an_objective_trains_an_encoder_of_vectors(objective, head):
    rows = rows_on_vectors(on_vectors(recipe_with(objective, head)))
    assert len(rows) == 5
    assert checks_of(rows) == ALL, rows
    totals = {row["total"] for row in rows}
    assert len(totals) == 5  # it moves


def test_an_objective_trains_an_encoder_of_digits():
    rows = rows_on_digits(recipe_with("byol", "mlp2"), Workplace(device="cpu"), "run")
    assert len(rows) == 5 and checks_of(rows) == ALL


def test_no_objective_is_left_out():
    assert set(OBJECTIVES) == set(KNOWN)


GOOD = {
    "total": 3.0,
    "invariance": 1.0,
    "regularization": 2.0,
    "gradient_norm": 1.0,
}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, ALL),
        ({"gradient_norm": None}, Checks(finite=True, gradient=False, identity=True)),
        ({"total": None}, Checks(finite=False, gradient=True, identity=False)),
        ({"total": 3.0001}, Checks(finite=True, gradient=True, identity=False)),
        ({"total": 3.000001}, ALL),  # within the rounding of float32
        ({"regularization": None}, Checks(finite=True, gradient=True, identity=False)),
    ],
)
def test_one_step_that_fails_is_found(changed, expected):
    assert checks_of([GOOD, GOOD | changed, GOOD]) == expected


def test_a_run_without_steps_holds_nothing():
    assert checks_of([]) == Checks(finite=False, gradient=False, identity=False)


def test_vectors_are_labelled_and_all_different():
    images = vectors()
    assert images.n == 250 and images.images.shape == (8, 8, 1)
    assert [level.name for level in images.levels] == ["fine", "coarse"]
    rows = images.images.array.reshape(250, -1)
    assert len({row.tobytes() for row in rows}) == 250
    assert rows.max() == 255


@pytest.mark.slow
def test_the_pipeline_runs_for_each_objective(tmp_path):
    outcome = reproduce("S2-F1", tmp_path / "out", device="cpu")
    assert outcome.status == "pass", outcome.text()
    assert outcome.numbers["runs"] == 48
    assert all(one.is_expected for one in outcome.comparisons), outcome.text()
    assert Outcome.load(tmp_path / "out") == outcome
    assert math.prod(outcome.numbers[name] for name in OBJECTIVES) == 1
