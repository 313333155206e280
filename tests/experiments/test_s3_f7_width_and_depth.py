"""S3-F7 run as it is: three trainings, about half a minute on one core."""

import pytest

from experiments.stand_ins import as_expected
from repscope.experiments.outcome import Outcome
from repscope.experiments.reproduce import reproduce
from repscope.experiments.s3_f7_width_and_depth import EXPERIMENT


def test_each_layer_decides_by_itself():
    expected = EXPERIMENT.expected
    for k, layer in enumerate(("block1", "block2", "block3")):
        wrong = expected | {f"width_8_{layer}": expected[f"width_48_{layer}"]}
        assert [holds for _, holds in EXPERIMENT.judge(wrong)] == [
            number != k for number in range(3)
        ]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_wider_networks_read_better_at_each_layer(tmp_path):
    outcome = reproduce("S3-F7", tmp_path / "out", device="cpu")
    numbers = outcome.numbers
    assert outcome.status == "pass", outcome.text()
    for layer in ("block1", "block2", "block3"):
        assert numbers[f"width_48_{layer}"] >= numbers[f"width_8_{layer}"] + 0.1
    assert as_expected(outcome), outcome.text()
    assert Outcome.load(tmp_path / "out") == outcome
