"""S2-T2a run as it is: twelve trainings, about 2 minutes on one core."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from experiments.stand_ins import as_expected
from repscope.data.digits import digits16
from repscope.experiments.experiment import Workplace
from repscope.experiments.outcome import Outcome
from repscope.experiments.reproduce import reproduce
from repscope.experiments.s2_t2_crop_strength import CROPS, measure, supervised
from repscope.models.encoder import Encoder
from repscope.training.checkpoint import load_latest


def test_the_classifier_is_scored_with_its_own_scores(tmp_path):
    recipe = supervised(CROPS["mild"])
    recipe = replace(
        recipe,
        data=replace(recipe.data, limit=200),
        encoder=replace(recipe.encoder, depth=1, width=16),
        training=replace(recipe.training, epochs=3, batch_size=50),
    )
    found = measure({"supervised_mild_0": recipe}, Workplace(tmp_path, device="cpu"))
    run = tmp_path / "supervised_mild_0"
    encoder = Encoder.load(run / "encoder.safetensors")
    layer = torch.nn.Linear(16, 10)
    layer.load_state_dict(load_latest(run / "checkpoints").state["predictor"])
    test = digits16("test")
    pixels = torch.from_numpy(test.pixels(np.arange(500)).array)
    with torch.no_grad():
        scores = layer(encoder.module(pixels.permute(0, 3, 1, 2).float() / 255))
    right = scores.argmax(dim=1).numpy() == test.level("digit").codes
    assert found["supervised_mild"].value == pytest.approx(right.mean(), abs=0.0021)


def test_without_a_folder_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    recipe = supervised(CROPS["mild"])
    recipe = replace(
        recipe,
        data=replace(recipe.data, limit=60),
        encoder=replace(recipe.encoder, depth=1, width=8),
    )
    recipe = replace(recipe, training=replace(recipe.training, epochs=1, batch_size=50))
    found = measure({"supervised_mild_0": recipe}, Workplace(device="cpu"))
    assert set(found) == {"supervised_mild", "supervised_mild_probe"}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_crops_cost_a_classifier_more(tmp_path):
    outcome = reproduce("S2-T2a", tmp_path / "out", device="cpu")
    assert outcome.status == "pass", outcome.text()
    numbers = outcome.numbers
    fall = numbers["supervised_mild"] - numbers["supervised_extreme"]
    unlabelled = "contrastive_{}_probe".format
    assert fall > numbers[unlabelled("mild")] - numbers[unlabelled("extreme")]
    assert as_expected(outcome), outcome.text()
    assert Outcome.load(tmp_path / "out") == outcome
