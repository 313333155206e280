"""Noise of a stated size: margins by hand, what it hides, and what it leaves."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist

from repscope._checking import Undecidable, UsageError
from repscope.metrics.noise_floor import NoiseFloor, class_margin, row_margin

LABELS = np.array([0, 0, 1, 1, 2, 2])


def rows(n=6, d=3, *, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


def test_class_margin_is_half_the_distance_of_two_centres():
    features = np.array([[0.0, 0.0], [2.0, 0.0], [1.0, 3.0], [1.0, 5.0]])
    # Centres (1, 0) and (1, 4).
    assert class_margin(features, np.array([0, 0, 1, 1]), 2) == 2.0


def test_margins_are_those_of_all_pairs():
    features = rows()
    centres = np.stack([features[c == LABELS].mean(axis=0) for c in range(3)])
    expected = np.sqrt((pdist(centres) ** 2).mean()) / 2
    # A class without rows has no centre.
    assert class_margin(features, LABELS, 5) == pytest.approx(expected)
    # Two independent rows: each of the n^2 pairs, a row with itself included.
    squares = 2 * (pdist(features) ** 2).sum() / 36
    assert row_margin(features) == pytest.approx(np.sqrt(squares) / 2)


@pytest.mark.parametrize("scale", [1e-150, 1e-20, 1e20, 1e150])
def test_margins_have_the_unit_of_the_features(scale):
    features = rows()
    for margin in (row_margin, lambda x: class_margin(x, LABELS, 3)):
        if scale in (1e-150, 1e150) and margin is not row_margin:
            continue
        found = margin(scale * features)
        assert found == pytest.approx(scale * margin(features), rel=1e-12)
    shifted = row_margin(features + 1e6)
    assert shifted == pytest.approx(row_margin(features), rel=1e-9)


def test_the_noise_has_the_stated_deviation_in_every_dimension():
    features = np.zeros((20_000, 4))
    noise = NoiseFloor(0.1, seed=1).added_to(features, 5.0)
    # Twenty thousand draws know a deviation to half a percent.
    np.testing.assert_allclose(noise.std(axis=0), 0.5, rtol=0.03)
    np.testing.assert_allclose(noise.mean(axis=0), 0, atol=0.02)
    assert abs(np.corrcoef(noise.T)[np.triu_indices(4, 1)]).max() < 0.03


def test_a_seed_decides_the_noise_and_a_margin_of_its_own_comes_first():
    features = rows()
    first, again, other = (
        NoiseFloor(0.1, seed=seed).added_to(features, 2.0) for seed in (3, 3, 4)
    )
    assert (first == again).all()
    assert (first != other).all()
    own = NoiseFloor(0.1, margin=4.0, seed=3).added_to(features, 2.0)
    np.testing.assert_allclose(own - features, 2 * (first - features))
    assert (NoiseFloor(0.0).added_to(features, 2.0) == features).all()


def test_noise_follows_the_library_of_the_features():
    features = rows()
    expected = NoiseFloor().added_to(features, 1.0)
    found = NoiseFloor().added_to(torch.from_numpy(features), 1.0)
    assert isinstance(found, torch.Tensor)
    np.testing.assert_array_equal(found.numpy(), expected)
    assert row_margin(torch.from_numpy(features)) == pytest.approx(row_margin(features))


@pytest.mark.parametrize("wrong", [{"share": -0.1}, {"margin": float("inf")}])
def test_sizes_must_be_sizes(wrong):
    with pytest.raises(UsageError, match=f"noise floor: {next(iter(wrong))}"):
        NoiseFloor(**wrong)


def test_no_margin_without_rows_or_classes():
    with pytest.raises(Undecidable, match="no rows"):
        row_margin(np.zeros((0, 3)))
    with pytest.raises(Undecidable, match="fewer than two classes"):
        class_margin(rows(), np.zeros(6, dtype=np.int64), 1)
    assert row_margin(np.full((5, 2), 3.7)) == 0.0
