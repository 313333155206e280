"""Information of features: closed forms, libraries, caps and limits."""

import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch

from repscope._checking import InputError, Undecidable, UsageError
from repscope.metrics.information import (
    MineResult,
    binned_information,
    gaussian_information,
    gaussian_pair_information,
    infonce_information,
    mutual_information,
)

BITS = 1 / math.log(2)


def generator():
    return np.random.default_rng(0)


def correlated(n, d, rho):
    one = generator().standard_normal((n, d))
    noise = np.random.default_rng(1).standard_normal((n, d))
    return one, rho * one + math.sqrt(1 - rho**2) * noise


def result_of(bits):
    return MineResult(tuple(bits), tuple(range(len(bits))), 800, 200, 10.6, 100)


def test_mutual_information_is_the_mean_over_seeds_with_students_interval():
    bits = [1.0, 1.2, 0.9, 1.1, 0.8]
    estimate = mutual_information(result_of(bits))
    expected = scipy.stats.t.interval(0.95, 4, np.mean(bits), scipy.stats.sem(bits))
    assert estimate.value == pytest.approx(1.0)
    assert estimate.interval == pytest.approx(expected)
    assert estimate.details["nats"] == pytest.approx(math.log(2))
    assert estimate.details["standard_deviation"] == pytest.approx(np.std(bits, ddof=1))


def test_mutual_information_prints_its_caveats_beside_the_value():
    said = mutual_information(result_of([1.0])).details["caveats"]
    assert "infinite" in said
    assert "above the logarithm of the pairs it is evaluated on is not to be" in said


@pytest.mark.parametrize(
    ("bits", "beyond"), [([1.0, 2.0], False), ([10.6], False), ([1.0, 10.7], True)]
)
def test_an_estimate_beyond_its_pairs_is_kept_and_said_to_be(bits, beyond):
    found = mutual_information(result_of(bits))
    assert found.value == pytest.approx(np.mean(bits))
    assert found.details["beyond_pairs"] is beyond
    assert found.details["log2_pairs_bits"] == 10.6
    assert type(found.details["nats"]) is float


def test_one_seed_has_no_interval_and_no_seed_no_value():
    assert mutual_information(result_of([1.0])).interval is None
    with pytest.raises(Undecidable, match="no seed"):
        mutual_information(result_of([]))


def test_gaussian_information_is_half_the_log_determinant():
    rows = generator().standard_normal((500, 6)) @ generator().standard_normal((6, 6))
    covariance = np.cov(rows.T, ddof=0)
    noise = 0.01 * np.trace(covariance) / 6
    determinant = np.linalg.slogdet(np.eye(6) + covariance / noise)[1]
    value = gaussian_information(np.linalg.eigvalsh(covariance)[::-1])
    assert value == pytest.approx(determinant / 2 * BITS)


def test_gaussian_information_equals_the_difference_of_entropies():
    eigenvalues, share = np.array([4.0, 1.0, 0.25]), 0.1
    noise = share * eigenvalues.mean()
    entropies = [
        scipy.stats.norm(scale=math.sqrt(one + noise)).entropy()
        - scipy.stats.norm(scale=math.sqrt(noise)).entropy()
        for one in eigenvalues
    ]
    value = gaussian_information(eigenvalues, noise_share=share)
    assert value == pytest.approx(sum(entropies) * BITS)


def test_gaussian_information_needs_variance_and_noise():
    with pytest.raises(Undecidable, match="constant"):
        gaussian_information(np.zeros(3))
    with pytest.raises(UsageError, match="noise_share"):
        gaussian_information(np.ones(3), noise_share=0.0)


@pytest.mark.parametrize(("d", "rho"), [(5, 0.9), (2, 0.5)])
def test_gaussian_pair_information_finds_the_planted_truth(d, rho):
    estimate = gaussian_pair_information(*correlated(40_000, d, rho))
    truth = -d / 2 * math.log2(1 - rho**2)
    assert estimate.value == pytest.approx(truth, rel=0.02)


def test_gaussian_pair_information_is_that_of_the_joint_covariance():
    one, two = correlated(400, 3, 0.6)
    two = np.column_stack([two, one[:, 0] + generator().standard_normal(400)])
    joint = np.cov(np.column_stack([one, two]).T)
    logs = [np.linalg.slogdet(part)[1] for part in (joint[:3, :3], joint[3:, 3:])]
    expected = (sum(logs) - np.linalg.slogdet(joint)[1]) / 2 * BITS
    assert gaussian_pair_information(one, two).value == pytest.approx(expected)


def test_independent_sets_score_what_chance_gives():
    values = []
    for seed in range(20):
        rows = np.random.default_rng(seed).standard_normal((1000, 9))
        estimate = gaussian_pair_information(rows[:, :4], rows[:, 4:])
        values.append(estimate.value)
    assert np.mean(values) == pytest.approx(estimate.details["chance_bits"], rel=0.15)


def test_gaussian_pair_information_knows_no_units():
    one, two = correlated(300, 4, 0.7)
    scales = np.array([1e-8, 1.0, 1e8, 3.0])
    expected = gaussian_pair_information(one, two).value
    assert gaussian_pair_information(one * scales + 5, two).value == pytest.approx(
        expected, rel=1e-6
    )


@pytest.mark.parametrize(
    ("one", "two", "error", "said"),
    [
        (np.ones((50, 2)), np.ones((50, 2)), Undecidable, "constant"),
        (generator().random((50, 2)), generator().random((40, 2)), InputError, "rows"),
        (generator().random((9, 5)), generator().random((9, 4)), Undecidable, "chance"),
        (generator().random((50, 2)), generator().random((50, 2)), Undecidable, "lin"),
    ],
)
def test_gaussian_pair_information_refuses(one, two, error, said):
    with pytest.raises(error, match=said):
        gaussian_pair_information(one, two)


def test_binned_information_is_the_entropy_of_the_cells():
    rows = generator().standard_normal((300, 2))
    edges = [np.linspace(one.min(), one.max(), 5) for one in rows.T]
    histogram = np.histogramdd(rows, bins=edges)[0].ravel()
    expected = scipy.stats.entropy(histogram, base=2)
    assert binned_information(rows, bins=4).value == pytest.approx(expected)


def test_binned_information_by_hand():
    rows = np.array([[0.0, 0.0], [0.1, 0.1], [0.9, 0.0], [1.0, 1.0]])
    # cells (0,0) twice, (1,0), (1,1): 1/2 + 1/4 2 + 1/4 2
    assert binned_information(rows, bins=2).value == 1.5


def test_binned_information_says_when_it_is_saturated():
    estimate = binned_information(generator().standard_normal((200, 20)))
    assert estimate.details["saturated"]
    assert estimate.value == pytest.approx(math.log2(200))
    assert binned_information(np.ones((10, 3))).value == 0
    with pytest.raises(UsageError, match="bins"):
        binned_information(np.ones((10, 3)), bins=1)


def test_infonce_is_the_cross_entropy_of_finding_the_partner():
    one, two = correlated(60, 8, 0.8)
    cosines = torch.nn.functional.cosine_similarity(
        torch.from_numpy(one)[:, None], torch.from_numpy(two)[None], dim=2
    )
    loss = torch.nn.functional.cross_entropy(cosines / 0.1, torch.arange(60))
    expected = (math.log(60) - float(loss)) * BITS
    assert infonce_information(one, two).value == pytest.approx(expected)


def test_infonce_reaches_its_cap_for_equal_orthogonal_rows_and_0_for_equal_ones():
    estimate = infonce_information(np.eye(16), np.eye(16), temperature=0.01)
    assert estimate.value == pytest.approx(4.0)
    assert estimate.details["cap_bits"] == 4.0
    ones = np.ones((16, 3))
    assert infonce_information(ones, ones).value == pytest.approx(0, abs=1e-12)


def test_infonce_refuses_other_shapes_and_temperatures():
    with pytest.raises(InputError, match="same rows"):
        infonce_information(np.ones((3, 2)), np.ones((4, 2)))
    with pytest.raises(UsageError, match="temperature"):
        infonce_information(np.ones((3, 2)), np.ones((3, 2)), temperature=0.0)
