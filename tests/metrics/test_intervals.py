"""Jackknife intervals cover the truth as often as they promise."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from references.spectra import delete_group_variance, delete_one_variance
from repscope._checking import Undecidable
from repscope.metrics import intervals
from repscope.metrics.power_law import alpha
from repscope.metrics.spectral import effective_rank_covariance
from repscope.representations.moments import Moments
from repscope.theory.planted import power_law


def half_width(found):
    return (found.interval[1] - found.interval[0]) / 2


def jackknifed_mean(values, block_of, count):
    sizes = np.bincount(block_of, minlength=count)

    def compute(block):
        kept = values if block is None else values[block_of != block]
        return float(kept.mean())

    return intervals.jackknifed(compute, sizes)


def test_blocks_of_one_row_give_the_classical_delete_one_interval():
    values = np.random.default_rng(0).exponential(size=25)
    found = jackknifed_mean(values, np.arange(25), 25)
    variance = delete_one_variance(list(found.replicates))
    t = scipy.stats.t.ppf(0.975, 24)
    assert half_width(found) == pytest.approx(t * math.sqrt(variance), rel=1e-12)
    # For a mean the jackknife is the textbook standard error.
    expected = t * values.std(ddof=1) / 5
    assert half_width(found) == pytest.approx(expected, rel=1e-12)
    assert found.value == values.mean()
    assert sum(found.interval) / 2 == pytest.approx(values.mean())


@given(
    st.integers(0, 10**6),
    st.lists(st.integers(1, 50), min_size=3, max_size=12),
)
def test_unequal_blocks_equal_the_naive_transcription(seed, sizes):
    generator = np.random.default_rng(seed)
    value, replicates = generator.normal(), generator.normal(size=len(sizes))
    found = intervals.jackknife(value, replicates, np.array(sizes))
    variance = delete_group_variance(value, replicates.tolist(), sizes)
    t = scipy.stats.t.ppf(0.975, len(sizes) - 1)
    assert half_width(found) == pytest.approx(t * math.sqrt(variance), rel=1e-9)
    assert found.replicates == tuple(replicates.tolist())


@pytest.mark.parametrize("n", [100, 400])
def test_interval_of_a_mean_covers_it_in_95_of_100(n):
    count = intervals.n_blocks(n, 8)
    covered = 0
    for seed in range(200):
        generator = np.random.default_rng(seed)
        values = generator.exponential(size=n)
        ids = generator.integers(0, 2**60, n)
        found = jackknifed_mean(values, intervals.block_of_rows(ids, count), count)
        covered += found.interval[0] <= 1.0 <= found.interval[1]
    # 200 fair draws at 95 %: one standard deviation is 3; skewness costs a little.
    assert 181 <= covered <= 198


def moments_by_block(rows, block_of, count):
    blocks = [Moments(rows.shape[1]) for _ in range(count)]
    for number, block in enumerate(blocks):
        block.update(rows[block_of == number])
    whole = Moments(rows.shape[1])
    for block in blocks:
        whole.merge(block)
    return whole, blocks


def jackknifed_over_moments(rows, compute):
    count = intervals.n_blocks(*rows.shape)
    block_of = intervals.block_of_rows(np.arange(len(rows)), count)
    whole, blocks = moments_by_block(rows, block_of, count)
    return intervals.jackknifed(
        lambda block: compute(whole if block is None else whole.without(blocks[block])),
        np.array([block.n for block in blocks]),
    )


def exponent(moments):
    values = moments.spectrum().values
    # Ranks 11 to 50, as for all rows.
    return alpha(values, moments.n, auto_range=False).value


@pytest.mark.parametrize("truth", [1.0, 2.0])
def test_interval_of_the_exponent_covers_planted_power_laws(truth):
    covered = 0
    for seed in range(20):
        rows = power_law(4000, 120, truth, seed=seed)
        found = jackknifed_over_moments(rows, exponent)
        covered += found.interval[0] <= truth <= found.interval[1]
        assert half_width(found) < 0.04
    # 20 draws at 95 %: 17 or more in 98 of 100.
    assert covered >= 17


def test_interval_of_a_rank_has_the_width_that_repeated_draws_show():
    found, widths = [], []
    for seed in range(60):
        rows = power_law(1000, 30, 1.0, seed=seed)
        one = jackknifed_over_moments(
            rows, lambda m: effective_rank_covariance(m.spectrum().values)
        )
        found.append(one.value)
        widths.append(half_width(one) / scipy.stats.t.ppf(0.975, 19))
    # 60 draws know their own deviation to 9 %.
    assert np.mean(widths) == pytest.approx(np.std(found, ddof=1), rel=0.3)


def test_blocks_that_got_no_row_play_no_part():
    generator = np.random.default_rng(0)
    value, replicates = 1.0, 1.0 + 0.1 * generator.normal(size=6)
    sizes = np.array([5, 7, 0, 4, 6, 0])
    replicates[sizes == 0] = value
    found = intervals.jackknife(value, replicates, sizes)
    occupied = sizes > 0
    expected = intervals.jackknife(value, replicates[occupied], sizes[occupied])
    assert found.interval == expected.interval
    # Replicates keep their places, so that two runs pair block by block.
    assert found.replicates == tuple(replicates.tolist())


@pytest.mark.parametrize("sizes", [[5, 5], [5], [5, 5, 0, 0]])
def test_fewer_than_three_blocks_are_undecidable(sizes):
    with pytest.raises(Undecidable, match="^fewer than 3 jackknife blocks$"):
        intervals.jackknife(1.0, np.ones(len(sizes)), np.array(sizes))


def test_a_number_that_a_block_decides_has_no_interval():
    def compute(block):
        if block == 2:
            raise Undecidable("only this block has the class")
        return 1.0

    assert intervals.jackknifed(compute, np.array([5, 5, 5, 5])) is None


def test_an_undecidable_number_stays_undecidable():
    def compute(_):
        raise Undecidable("no power law")

    with pytest.raises(Undecidable, match="^no power law$"):
        intervals.jackknifed(compute, np.array([5, 5, 5]))


@pytest.mark.parametrize(
    ("n", "d", "count"),
    [
        *((1, 8, 0), (9, 8, 0), (10, 8, 2), (99, 8, 19), (100, 8, 20)),
        *((10**6, 8, 20), (10**6, 1024, 20), (10**6, 1025, 10)),
        *((30, 2048, 6), (10**6, 4096, 10), (10**6, 4097, 0)),
    ],
)
def test_number_of_blocks_follows_rows_and_width(n, d, count):
    assert intervals.n_blocks(n, d) == count


def test_blocks_depend_on_the_id_alone_and_fill_evenly():
    ids = np.arange(20_000)
    block_of = intervals.block_of_rows(ids, 20)
    order = np.random.default_rng(0).permutation(20_000)
    reordered = intervals.block_of_rows(ids[order], 20)
    np.testing.assert_array_equal(reordered, block_of[order])
    counts = np.bincount(block_of, minlength=20)
    # One standard deviation of a block is 31 rows.
    assert np.abs(counts - 1000).max() < 130


def test_no_blocks_put_all_rows_into_one():
    assert intervals.block_of_rows(np.arange(3), 0).tolist() == [0, 0, 0]
