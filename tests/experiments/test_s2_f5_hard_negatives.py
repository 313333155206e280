"""S2-F5: what is drawn from the queue, beside the density itself from SciPy."""

import numpy as np
import pytest
from scipy.stats import skewnorm

from repscope.experiments.reproduce import reproduce
from repscope.experiments.s2_f5_hard_negatives import BANDS, EXPERIMENT, K


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    return reproduce("S2-F5", tmp_path_factory.mktemp("runs") / "out", device="cpu")


def test_hard_negatives_are_drawn(outcome):
    assert outcome.status == "pass", outcome.text()
    assert all(one.is_expected for one in outcome.comparisons), outcome.text()
    numbers = outcome.numbers
    assert numbers["mined_similarity"] > numbers["uniform_similarity"] + 0.005


def test_expectations_are_those_of_the_density():
    ranks = np.linspace(0, 1, K)
    chances = skewnorm.pdf(ranks, 4, loc=0, scale=0.35)
    chances /= chances.sum()
    expected = EXPERIMENT.expected
    assert expected["mined_mean_rank"] == pytest.approx(chances @ ranks, abs=1e-3)
    for band, (low, high) in BANDS.items():
        share = chances[(ranks >= low) & (ranks < high)].sum() / (high - low)
        assert expected[f"mined_{band}"] == pytest.approx(share, abs=0.01)
    for name, own in (("mined", chances), ("uniform", np.full(K, 1 / K))):
        unique = (1 - (1 - own) ** K).mean()
        assert expected[f"{name}_unique"] == pytest.approx(unique, abs=1e-3)
