"""A queue that forgets the oldest, and draws that favour the similar."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from repscope._checking import InputError, UsageError
from repscope.objectives.batch import ViewBatch
from repscope.objectives.negatives import (
    DrawnNegatives,
    draws,
    enqueue_,
    false_negative_share,
    first_queue,
    hard_negatives,
    remembered,
    skew_normal_weights,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(*, seed=0, step=0):
    return ViewBatch(h=(), z=(torch.eye(2),), seed=seed, step=step)


def numbers(generator):
    return torch.rand(8, generator=generator).tolist()


def test_draws_depend_on_seed_step_and_stream_alone():
    expected = numbers(draws(batch(seed=3, step=5)))
    assert numbers(draws(batch(seed=3, step=5), 0)) == expected
    others = [
        draws(batch(seed=4, step=5)),
        draws(batch(seed=3, step=6)),
        draws(batch(seed=3, step=5), 1),
        draws(batch(seed=5, step=3)),
    ]
    assert all(numbers(other) != expected for other in others)


def test_a_memory_that_is_not_given_is_named():
    given = ViewBatch(h=(), z=(torch.eye(2),), memory={"bank": torch.eye(2)})
    assert torch.equal(remembered(given, "bank"), torch.eye(2))
    with pytest.raises(InputError, match=r"no 'queue'\n.*found: bank\n.*first_memory"):
        remembered(given, "queue")


def test_a_new_queue_holds_random_directions_without_labels():
    queue = first_queue(2_000, 3, seeded())
    keys = queue["queue"]
    torch.testing.assert_close(keys.norm(dim=1), torch.ones(2_000))
    # The mean of 2,000 directions in three dimensions has deviation .013 each.
    assert keys.mean(dim=0).abs().max() < 0.05
    assert queue["queue_labels"].tolist() == [-1] * 2_000
    assert int(queue["queue_pointer"]) == 0
    assert torch.equal(first_queue(2_000, 3, seeded())["queue"], keys)
    assert not torch.equal(first_queue(2_000, 3, seeded(1))["queue"], keys)


def test_keys_take_the_places_of_the_oldest_in_order_and_begin_anew():
    memory = first_queue(6, 2, seeded())
    first = memory["queue"].clone()
    batches = [torch.full((2, 2), float(i)) for i in range(5)]
    for i, keys in enumerate(batches):
        enqueue_(memory, keys, torch.tensor([10 * i, 10 * i + 1]))
        if i == 0:
            assert torch.equal(memory["queue"][2:], first[2:])
            assert memory["queue_labels"].tolist() == [0, 1, -1, -1, -1, -1]
    # Batches 3 and 4 have taken the places of 0 and 1.
    assert memory["queue"][:, 0].tolist() == [3, 3, 4, 4, 2, 2]
    assert memory["queue_labels"].tolist() == [30, 31, 40, 41, 20, 21]
    assert int(memory["queue_pointer"]) == 4
    enqueue_(memory, batches[0], None)
    assert memory["queue_labels"].tolist() == [30, 31, 40, 41, -1, -1]
    assert int(memory["queue_pointer"]) == 0


def test_keys_keep_no_gradient_and_take_the_queue_s_precision():
    memory = first_queue(4, 2, seeded())
    keys = torch.eye(2, dtype=torch.float64, requires_grad=True)
    enqueue_(memory, 1 * keys, None)
    assert not memory["queue"].requires_grad
    assert memory["queue"].dtype == torch.float32
    assert torch.equal(memory["queue"][:2], torch.eye(2))


@pytest.mark.parametrize("n", [4, 12])
def test_keys_that_do_not_fill_a_queue_evenly_are_refused(n):
    memory = first_queue(6, 2, seeded())
    before = memory["queue"].clone()
    with pytest.raises(InputError, match=f"{n} keys do not fill a queue of 6 evenly"):
        enqueue_(memory, torch.ones(n, 2), None)
    assert torch.equal(memory["queue"], before)


@pytest.mark.parametrize(
    ("location", "scale", "skewness"),
    [(0.0, 0.35, 4.0), (0.2, 0.1, -3.0), (0.5, 2.0, 0.0), (-1.0, 0.2, 5.0)],
)
def test_chances_are_those_of_scipys_skew_normal(location, scale, skewness):
    density = stats.skewnorm.pdf(np.arange(50) / 49, skewness, location, scale)
    found = skew_normal_weights(50, location, scale, skewness)
    np.testing.assert_allclose(found.numpy(), density / density.sum(), rtol=1e-9)


def test_chances_by_hand():
    # u is 0, .5 and 1; phi(0), phi(.5), phi(1) with Phi(0), Phi(1), Phi(2).
    shares = [
        math.exp(-(u**2) / 2) * (1 + math.erf(2 * u / math.sqrt(2)))
        for u in (0, 0.5, 1)
    ]
    found = skew_normal_weights(3, 0.0, 1.0, 2.0)
    assert found.tolist() == pytest.approx([x / sum(shares) for x in shares])
    assert skew_normal_weights(1, 0.0, 0.35, 4.0).tolist() == [1]


@pytest.mark.parametrize("skewness", [0.0, 4.0])
def test_a_wide_scale_is_the_uniform_bootstrap(skewness):
    even = torch.full((100,), 0.01, dtype=torch.float64)
    torch.testing.assert_close(skew_normal_weights(100, 0.0, math.inf, skewness), even)
    wide = skew_normal_weights(100, 0.3, 1e7, skewness)
    torch.testing.assert_close(wide, even, rtol=1e-6, atol=0)


def test_the_defaults_favour_the_hard_but_not_the_very_hardest():
    chances = skew_normal_weights(1_001, 0.0, 0.35, 4.0)
    u = torch.linspace(0, 1, 1_001, dtype=torch.float64)
    assert 0.1 < float(u[chances.argmax()]) < 0.2
    assert float(chances[0]) < float(chances.max()) * 0.7
    assert float(chances @ u) < 0.35


def test_chances_far_from_all_ranks_are_told_apart_or_refused():
    far = skew_normal_weights(5, 60.0, 1.0, 4.0)
    assert float(far.sum()) == pytest.approx(1) and int(far.argmax()) == 4
    with pytest.raises(UsageError, match="no rank can be drawn"):
        skew_normal_weights(5, 60.0, 1e-200, 4.0)


def drawn(similarities, chances, *, seed=0, rank_by="batch"):
    return hard_negatives(similarities, chances, seeded(seed), rank_by=rank_by)


def test_the_ranks_are_those_of_the_mean_similarity_or_of_each_query():
    similarities = torch.tensor([[0.1, 0.9, 0.2], [0.5, -0.9, 0.3]])  # means .3, 0, .25
    hardest = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    found = drawn(similarities, hardest)
    assert found.counts.tolist() == [3, 0, 0]
    found = drawn(similarities, hardest, rank_by="query")
    assert found.counts.tolist() == [[0, 3, 0], [3, 0, 0]]
    assert float(found.mean_rank) == 0
    assert float(found.unique_share) == pytest.approx(1 / 3)
    easiest = drawn(similarities, hardest.flip(0))
    assert easiest.counts.tolist() == [0, 3, 0] and float(easiest.mean_rank) == 1


@pytest.mark.parametrize("rank_by", ["batch", "query"])
def test_as_many_are_drawn_as_there_are(rank_by):
    similarities = torch.randn(4, 500, generator=seeded())
    found = drawn(
        similarities, skew_normal_weights(500, 0.0, 0.35, 4.0), rank_by=rank_by
    )
    rows = found.counts.reshape(-1, 500)
    assert rows.sum(dim=1).tolist() == [500] * len(rows)
    ranks = similarities.mean(0, keepdim=True) if rank_by == "batch" else similarities
    u = ranks.argsort(descending=True).argsort() / 499  # of each column
    assert float((rows * u).sum() / rows.sum()) == pytest.approx(float(found.mean_rank))
    assert float((rows > 0).float().mean()) == pytest.approx(float(found.unique_share))
    again = drawn(
        similarities, skew_normal_weights(500, 0.0, 0.35, 4.0), rank_by=rank_by
    )
    assert torch.equal(again.counts, found.counts)


def test_draws_converge_to_the_chances():
    """Frequencies of 4,000 draws of 20 ranks: a chi-squared of 19 degrees."""
    chances = skew_normal_weights(20, 0.1, 0.3, 2.0)
    similarities = torch.arange(20.0, 0, -1)[None]
    counts = sum(drawn(similarities, chances, seed=seed).counts for seed in range(200))
    found = stats.chisquare(counts.numpy(), 4_000 * chances.numpy())
    assert counts.sum() == 4_000
    assert found.pvalue > 0.001


def test_even_chances_are_a_bootstrap():
    similarities = torch.randn(2, 4_000, generator=seeded())
    found = drawn(similarities, skew_normal_weights(4_000, 0.0, math.inf, 0.0))
    # Deviations .0046 and about .005.
    assert float(found.mean_rank) == pytest.approx(0.5, abs=0.02)
    assert float(found.unique_share) == pytest.approx(1 - 1 / math.e, abs=0.02)


def test_hard_draws_of_a_default_queue_are_hard():
    """S2, figure 5: the mean rank is below .35, and the number of negatives is K."""
    similarities = torch.randn(8, 1_024, generator=seeded())
    found = drawn(similarities, skew_normal_weights(1_024, 0.0, 0.35, 4.0))
    assert float(found.mean_rank) < 0.35
    assert int(found.counts.sum()) == 1_024
    mined = (similarities.mean(0) * found.counts).mean()
    assert float(mined) > float(similarities.mean()) + 0.1


def test_false_negatives_are_counted_as_often_as_they_were_drawn():
    one = torch.tensor(0.0)
    labels, known = torch.tensor([3, 5, -1]), torch.tensor([3, 5, -1, 3])
    for_all = DrawnNegatives(torch.tensor([2, 1, 1, 0]), one, one)
    # Two of the first query's four draws, one of the second's, none of the third's.
    assert float(false_negative_share(for_all, labels, known)) == pytest.approx(3 / 12)
    counts = torch.tensor([[0, 0, 0, 4], [4, 0, 0, 0], [0, 0, 4, 0]])
    of_each = DrawnNegatives(counts, one, one)
    assert float(false_negative_share(of_each, labels, known)) == pytest.approx(4 / 12)
    unknown = torch.full((4,), -1)
    assert float(false_negative_share(for_all, labels, unknown)) == 0
