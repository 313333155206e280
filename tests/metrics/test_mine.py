"""MINE against Gaussian pairs of known information."""

import math

import numpy as np
import pytest
import torch

from repscope._checking import InputError, NonFiniteFeatureError, UsageError
from repscope.metrics.information import mutual_information
from repscope.metrics.mine import MineSettings, train_mine

QUICK = MineSettings(
    steps=300, batch=256, width=64, learning_rate=2e-3, seeds=(0, 1), device="cpu"
)


def correlated(n, d, rho):
    generator = np.random.default_rng(0)
    one = generator.standard_normal((n, d))
    return one, rho * one + math.sqrt(1 - rho**2) * generator.standard_normal((n, d))


def nats(inputs, features, settings):
    result = train_mine(inputs, features, settings=settings)
    return mutual_information(result).details["nats"]


def test_a_correlated_pair_of_numbers_has_about_its_information():
    truth = -math.log(1 - 0.9**2) / 2  # .830 nats
    assert nats(*correlated(6000, 1, 0.9), QUICK) == pytest.approx(truth, rel=0.15)


def test_independent_pairs_have_none():
    one = correlated(4000, 3, 0.0)[0]
    other = np.random.default_rng(5).standard_normal((4000, 2))
    assert abs(nats(one, other, QUICK)) < 0.1


@pytest.mark.slow
def test_five_dimensions_lie_within_15_percent():
    settings = MineSettings(steps=3000, seeds=(0,), device="cpu")
    truth = -5 / 2 * math.log(1 - 0.9**2)  # 4.15 nats
    assert nats(*correlated(20_000, 5, 0.9), settings) == pytest.approx(truth, rel=0.15)


def test_a_seed_decides_and_torchs_own_state_is_left_alone():
    pair = correlated(200, 2, 0.5)
    settings = MineSettings(steps=20, batch=32, width=8, seeds=(3, 4), device="cpu")
    before = torch.get_rng_state()
    first, second = (train_mine(*pair, settings=settings) for _ in range(2))
    assert first == second
    assert first.bits[0] != first.bits[1]
    assert torch.equal(torch.get_rng_state(), before)


def test_images_are_flattened_and_standardised():
    images = np.random.default_rng(0).integers(0, 256, (60, 4, 4, 3), dtype=np.uint8)
    settings = MineSettings(steps=10, batch=16, width=8, seeds=(0,), device="cpu")
    features = np.random.default_rng(1).standard_normal((60, 3))
    one = train_mine(images, features, settings=settings)
    assert train_mine(images, features * 1e6 - 5, settings=settings).bits == (
        pytest.approx(one.bits, abs=1e-3)
    )
    assert one.log2_pairs_bits == pytest.approx(math.log2(12 * 8))
    assert (one.n_train, one.n_evaluated) == (48, 12)


def test_a_bound_may_exceed_the_logarithm_of_its_pairs_and_says_so():
    one = correlated(4000, 4, 0.0)[0]
    settings = MineSettings(
        steps=800,
        batch=256,
        width=64,
        learning_rate=2e-3,
        held_out=0.001,
        seeds=(0,),
        device="cpu",
    )
    found = mutual_information(train_mine(one, one, settings=settings))
    assert found.details["log2_pairs_bits"] == pytest.approx(math.log2(4 * 3))
    assert found.value > found.details["log2_pairs_bits"]
    assert found.details["beyond_pairs"] is True


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["inputs", "features"])
def test_rows_that_are_not_finite_are_refused_by_number(name, wrong):
    pair = dict(zip(("inputs", "features"), correlated(40, 2, 0.5), strict=True))
    pair[name][7, 1] = wrong
    with pytest.raises(NonFiniteFeatureError, match=f"^{name}: 1 row .* row 7"):
        train_mine(**pair)


@pytest.mark.parametrize(("inputs", "features"), [(30, 40), (10, 10)])
def test_too_few_or_unequal_rows_are_refused(inputs, features):
    with pytest.raises(InputError, match="pairs of inputs and features"):
        train_mine(np.ones((inputs, 2)), np.ones((features, 2)))


@pytest.mark.parametrize(
    "wrong", [{"steps": 1}, {"learning_rate": 0.0}, {"held_out": 1.0}, {"seeds": ()}]
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(UsageError, match="MINE"):
        MineSettings(**wrong)
