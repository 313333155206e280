"""S3-F10 run as it is: three trainings, about a minute on one core."""

from dataclasses import replace

import pytest

from experiments.stand_ins import as_expected
from repscope.experiments.experiment import Workplace
from repscope.experiments.outcome import Outcome
from repscope.experiments.reproduce import reproduce
from repscope.experiments.s3_f10_weight_of_variance import EXPERIMENT, measure
from repscope.training.json_lines import read_rows


def test_losses_are_divided_by_their_weights(tmp_path):
    recipe = EXPERIMENT.recipes["mu_5"]
    recipe = replace(
        recipe,
        data=replace(recipe.data, limit=100),
        encoder=replace(recipe.encoder, depth=1, width=8),
        training=replace(recipe.training, epochs=2, batch_size=50),
    )
    found = measure({"mu_5": recipe}, Workplace(tmp_path, device="cpu"))
    last = [
        r for r in read_rows(tmp_path / "mu_5" / "metrics.jsonl") if r["epoch"] == 1
    ]
    similarity = sum(row["similarity"] for row in last) / len(last)
    assert found["mu_5_distance"].value == pytest.approx(similarity, rel=1e-5)
    rest = sum(5 * row["variance"] + row["covariance"] for row in last) / len(last)
    assert found["mu_5_regularization"].value == pytest.approx(rest / 5, rel=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_too_little_weight_on_variance_spoils_the_clusters(tmp_path):
    outcome = reproduce("S3-F10", tmp_path / "out", device="cpu")
    numbers = outcome.numbers
    assert outcome.status == "pass", outcome.text()
    assert numbers["mu_5_centres"] <= numbers["mu_25_centres"] - 0.1
    assert numbers["mu_5_distance"] < numbers["mu_25_distance"]
    assert as_expected(outcome), outcome.text()
    assert Outcome.load(tmp_path / "out") == outcome
