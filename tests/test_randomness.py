"""Draws: uniform, independent of one another, a function of their names alone."""

import itertools

import numpy as np
import pytest
import scipy.stats

from repscope._arrays import hash_ids
from repscope._randomness import Purpose, permutation, sample_keys, uniform
from repscope.data.digits import digits16
from repscope.data.draws import draw_parameters
from repscope.data.operations import RandomResizedCrop
from repscope.data.shortcuts import randbit

SAMPLES = hash_ids(np.arange(4000))


def test_draws_are_uniform():
    pvalues = [
        scipy.stats.kstest(
            uniform(sample_keys(purpose, seed, SAMPLES), draw), "uniform"
        ).pvalue
        for purpose, seed, draw in itertools.product(Purpose, range(5), range(5))
    ]
    assert scipy.stats.kstest(pvalues, "uniform").pvalue > 0.01


@pytest.mark.parametrize("one", ["purpose", "seed", "epoch", "view", "draw"])
def test_another_name_gives_independent_draws(one):
    names = {"purpose": Purpose.ORDER, "seed": 1, "epoch": 1, "view": 1, "draw": 1}
    drawn = []
    for value in (names[one], Purpose(names[one] + 1) if one == "purpose" else 2):
        chosen = {**names, one: value}
        keys = sample_keys(
            chosen["purpose"],
            chosen["seed"],
            SAMPLES,
            epoch=chosen["epoch"],
            view=chosen["view"],
        )
        drawn.append(uniform(keys, chosen["draw"]))
    assert scipy.stats.spearmanr(*drawn).pvalue > 0.001
    assert not np.isin(*drawn).any()


def test_no_purpose_shares_a_draw_with_another():
    drawn = np.concatenate(
        [uniform(sample_keys(purpose, 0, SAMPLES), 0) for purpose in Purpose]
    )
    assert len(np.unique(drawn)) == len(drawn)


def test_images_chosen_at_random_are_cropped_like_any_other():
    chosen = digits16().balanced(300)
    keys = sample_keys(Purpose.AUGMENTATION, 0, chosen.keys)
    crop = RandomResizedCrop(16, (0.0001, 1.0), (1.0, 1.0))
    boxes = draw_parameters(keys, (crop,), 1000, 1000).boxes
    shares = boxes.height * boxes.width / 1e6
    assert scipy.stats.kstest(shares, "uniform").pvalue > 0.01


@pytest.mark.parametrize("mode", ["random", "balanced"])
def test_codes_of_chosen_images_are_random(mode):
    planted = randbit(digits16().balanced(500), 3, mode=mode)
    codes = planted.planes @ (1 << np.arange(3))
    counts = np.bincount(codes, minlength=8)
    assert scipy.stats.chisquare(counts).pvalue > 0.01


def test_the_order_is_a_permutation_of_its_own_for_each_epoch():
    first, second = permutation(0, 0, 500), permutation(0, 1, 500)
    assert sorted(first) == sorted(second) == list(range(500))
    assert scipy.stats.spearmanr(first, second).pvalue > 0.01
    assert (permutation(0, 1, 500) == second).all()
