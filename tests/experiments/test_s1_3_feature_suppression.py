"""S1-3 run as it is: two trainings, about 20 s on one core."""

import pytest

from repscope.experiments.outcome import Outcome
from repscope.experiments.reproduce import reproduce
from repscope.models.encoder import Encoder
from repscope.training.recipe import Recipe


@pytest.mark.slow
def test_random_bits_suppress_the_digit(tmp_path):
    outcome = reproduce("S1-3", tmp_path / "out", device="cpu")
    numbers = outcome.numbers
    assert outcome.status == "pass", outcome.text()
    assert numbers["digit_with_bits"] <= numbers["digit_without_bits"] - 0.3
    assert numbers["bits"] >= 0.85
    assert all(one.is_expected for one in outcome.comparisons), outcome.text()
    assert Outcome.load(tmp_path / "out") == outcome
    run = tmp_path / "out" / "runs" / "with_bits"
    assert Recipe.load(run / "recipe.toml").data.bits == 8
    assert Encoder.load(run / "encoder.safetensors").planes == 8
