"""S2-T1 run as it is: twelve trainings, about 2 minutes on one core."""

import pytest

from experiments.stand_ins import as_expected
from repscope.experiments.outcome import Outcome
from repscope.experiments.reproduce import reproduce
from repscope.experiments.s2_t1_projection_heads import EXPERIMENT
from repscope.training.recipe import difference


def test_recipes_of_a_seed_differ_in_the_head_alone():
    base = EXPERIMENT.recipes["mlp2_0"]
    for name, recipe in EXPERIMENT.recipes.items():
        sections = {line.split(".")[0] for line in difference(base, recipe)}
        seed = {"training"} if name.endswith("_1") else set()
        assert sections - {"head"} == seed


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_head_of_two_layers_keeps_more_of_the_digit(tmp_path):
    outcome = reproduce("S2-T1", tmp_path / "out", device="cpu")
    numbers = outcome.numbers
    assert outcome.status == "pass", outcome.text()
    assert numbers["mlp2"] >= numbers["none"] + 0.05
    assert numbers["mlp2"] >= numbers["mlp2_frozen"]
    assert as_expected(outcome), outcome.text()
    assert Outcome.load(tmp_path / "out") == outcome
