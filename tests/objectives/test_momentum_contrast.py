"""MoCo: by hand, by loops, by cross-entropy as its authors do, by calculus."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from repscope._checking import InputError, UsageError
from repscope.objectives.batch import ViewBatch
from repscope.objectives.momentum_contrast import MoCo
from repscope.objectives.negatives import draws, hard_negatives, skew_normal_weights
from repscope.objectives.objective import MemorySizes

OPTIONS = [
    MoCo(queue=12),
    MoCo(queue=12, symmetric=True),
    MoCo(queue=12, mining="skew_normal"),
    MoCo(queue=12, mining="skew_normal", rank_by="query", symmetric=True),
]
LABELS = torch.tensor([2, 0, 2, 1, 0, 2])
E = math.e


def views(n=6, m=4, *, count=2, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(count, n, m, generator=generator, dtype=torch.float64)
    return tuple(drawn.to(dtype))


def memory(objective, m=4, *, seed=7):
    generator = torch.Generator().manual_seed(seed)
    return objective.first_memory(MemorySizes(n_images=100, width=m), generator)


def seen(objective, z, keys, **others):
    """Return the batch that an objective of so many views sees."""
    count = 2 if objective.symmetric else 1
    given = {"memory": memory(objective, z[0].shape[1])} | others
    return ViewBatch(h=(), z=z[:count], targets=keys[:count], **given)


def output(objective, z, keys, **others):
    return objective(seen(objective, z, keys, **others))


def loss(objective, z, keys, **others):
    return float(output(objective, z, keys, **others).total.detach())


def test_two_orthogonal_images_by_hand():
    queue = {"queue": torch.tensor([[1.0, 0.0], [-1.0, 0.0]])}
    keys = (torch.tensor([[0.0, 2.0], [0.0, -3.0]]),)
    queries = (torch.tensor([[5.0, 0.0], [0.0, 1.0]]),)
    # Cosines: with the keys 0 and -1, with the queue 1, -1 and 0, 0.
    found = output(MoCo(temperature=1.0, queue=2), queries, keys, memory=queue)
    log_sums = math.log(1 + E + 1 / E), math.log(1 / E + 2)
    assert float(found.invariance) == pytest.approx(0.5)
    assert float(found.regularization) == pytest.approx(sum(log_sums) / 2)
    assert float(found.parts["positive"]) == pytest.approx(-0.5)
    assert float(found.stats["negative_similarity"]) == 0
    bound = math.log(3) - 0.5 - sum(log_sums) / 2
    assert float(found.stats["mi_lower_bound"]) == pytest.approx(bound)


def loops(query, key, queue, temperature, counts=None):
    """He et al. 2020, eq. 1, one term after the other, in Python's own floats."""
    total = 0.0
    for row, q in enumerate(query.tolist()):

        def score(other, q=q):
            dot = sum(a * b for a, b in zip(q, other, strict=True))
            return math.exp(dot / math.hypot(*q) / math.hypot(*other) / temperature)

        positive = score(key[row].tolist())
        below = positive
        for place, negative in enumerate(queue.tolist()):
            times = 1 if counts is None else int(counts.expand(6, -1)[row, place])
            for _ in range(times):
                below += score(negative)
        total -= math.log(positive / below)
    return total / len(query)


@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
def test_as_the_papers_sum_term_by_term(temperature):
    z, keys = views(), views(seed=1)
    objective = MoCo(temperature=temperature, queue=12)
    queue = memory(objective)["queue"]
    # The queue is in float32, its rows 1 long to 1e-7.
    expected = loops(z[0], keys[0], queue.double(), temperature)
    assert loss(objective, z, keys) == pytest.approx(expected, rel=1e-6)
    both = MoCo(temperature=temperature, queue=12, symmetric=True)
    other = loops(z[0], keys[1], queue.double(), temperature)
    other += loops(z[1], keys[0], queue.double(), temperature)
    assert loss(both, z, keys) == pytest.approx(other / 2, rel=1e-6)


def test_as_the_authors_code_computes_it():
    """facebookresearch/moco at 4397a04, moco/builder.py, lines 147-183.

    The positive is class 0 of K + 1 logits; the criterion is the cross-entropy.
    """
    z, keys = views(), views(seed=1)
    objective = MoCo(temperature=0.07, queue=12)
    q, k = normalize(z[0], dim=1), normalize(keys[0], dim=1)
    queue = memory(objective)["queue"].double()
    logits = torch.cat([(q * k).sum(dim=1, keepdim=True), q @ queue.T], dim=1)
    expected = cross_entropy(logits / 0.07, torch.zeros(6, dtype=torch.int64))
    assert loss(objective, z, keys) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("rank_by", ["batch", "query"])
def test_mined_negatives_count_as_often_as_they_were_drawn(rank_by):
    z, keys = views(), views(seed=1)
    objective = MoCo(queue=12, mining="skew_normal", rank_by=rank_by)
    batch = seen(objective, z, keys, labels=LABELS, seed=3, step=8)
    batch.memory["queue_labels"].copy_(torch.arange(12) % 3)
    queue = batch.memory["queue"].double()
    similarities = normalize(z[0], dim=1) @ queue.T
    chances = skew_normal_weights(12, 0.0, 0.35, 4.0)
    drawn = hard_negatives(similarities, chances, draws(batch), rank_by=rank_by)
    assert (drawn.counts > 1).any() and (drawn.counts == 0).any()
    found = objective(batch)
    expected = loops(z[0], keys[0], queue, 0.2, drawn.counts)
    assert float(found.total) == pytest.approx(expected, rel=1e-6)
    mined = (similarities * drawn.counts).mean()
    assert float(found.stats["negative_similarity"]) == pytest.approx(float(mined))
    assert float(found.stats["negatives_rank"]) == float(drawn.mean_rank)
    assert float(found.stats["negatives_unique"]) == float(drawn.unique_share)
    same = LABELS[:, None] == torch.arange(12) % 3
    share = float((same * drawn.counts).sum()) / 72
    assert float(found.stats["false_negatives"]) == pytest.approx(share)
    assert "mi_lower_bound" not in found.stats


def test_mining_draws_anew_in_each_step_and_the_same_in_the_same():
    z, keys, objective = views(), views(seed=1), OPTIONS[2]
    losses = [loss(objective, z, keys, step=step) for step in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]
    # The queue has no labels yet, and the batch none either.
    assert "false_negatives" not in output(objective, z, keys).stats


def test_each_direction_draws_for_itself():
    batch = seen(OPTIONS[3], views(), views(seed=1))
    chances = skew_normal_weights(12, 0.0, 0.35, 4.0)
    scores = torch.zeros(6, 12)
    ranks = [
        hard_negatives(scores, chances, draws(batch, stream), rank_by="batch").mean_rank
        for stream in (0, 1)
    ]
    assert ranks[0] != ranks[1]
    found = float(OPTIONS[3](batch).stats["negatives_rank"])
    assert found == pytest.approx(float(sum(ranks)) / 2)


@pytest.mark.parametrize("rank_by", ["batch", "query"])
def test_even_mining_converges_to_the_whole_queue(rank_by):
    z, keys = views(), views(seed=1)
    options = {"mining": "skew_normal", "rank_by": rank_by, "temperature": 1.0}
    even = MoCo(queue=12, scale=math.inf, skewness=0.0, **options)
    whole = output(MoCo(queue=12, temperature=1.0), z, keys)
    found = [output(even, z, keys, step=step) for step in range(80)]
    mean = sum(float(one.stats["negative_similarity"]) for one in found) / 80
    # One draw of 12 has deviation .3 / sqrt(12) here.
    expected = float(whole.stats["negative_similarity"])
    assert mean == pytest.approx(expected, abs=0.05)
    mean = sum(float(one.total) for one in found) / 80
    assert mean == pytest.approx(float(whole.total), abs=0.08)


@pytest.mark.parametrize("objective", OPTIONS, ids=repr)
def test_gradient_is_that_of_finite_differences(objective):
    z = tuple(view.requires_grad_() for view in views(n=3, m=3))
    given = {"memory": memory(objective, 3)}
    for part in ("total", "invariance", "regularization"):
        assert torch.autograd.gradcheck(
            lambda *inputs: getattr(
                output(objective, inputs, views(n=3, m=3, seed=1), **given),
                part,  # noqa: B023
            ),
            z if objective.symmetric else z[:1],
            rtol=1e-4,
            atol=1e-7,
        )


@pytest.mark.parametrize("objective", OPTIONS, ids=repr)
def test_total_is_the_sum_of_its_parts(objective):
    z = views(dtype=torch.float32)
    found = output(objective, z, views(seed=1, dtype=torch.float32), labels=LABELS)
    together = float(found.invariance) + float(found.regularization)
    assert together == pytest.approx(float(found.total), rel=1e-6)


@pytest.mark.parametrize("objective", OPTIONS, ids=repr)
def test_order_of_images_of_the_queue_and_lengths_do_not_matter(objective):
    z, keys = views(), views(seed=1)
    given = memory(objective)
    expected = pytest.approx(loss(objective, z, keys, memory=given), rel=1e-9)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(1))
    moved = [tuple(view[order] for view in one) for one in (z, keys)]
    assert loss(objective, *moved, memory=given) == expected
    longer = [tuple(3 * view for view in one) for one in (z, keys)]
    assert loss(objective, *longer, memory=given) == expected
    turned = given | {"queue": given["queue"].flip(0)}
    assert loss(objective, z, keys, memory=turned) == expected
    assert loss(objective, moved[0], keys, memory=given) != expected


def test_two_views_are_symmetric_where_it_says_so():
    z, keys = views(), views(seed=1)
    swapped = (z[::-1], keys[::-1])
    for symmetric in (False, True):
        objective = MoCo(queue=12, symmetric=symmetric)
        same = loss(objective, z, keys) == pytest.approx(loss(objective, *swapped))
        assert same is symmetric


def test_a_new_queue_loses_the_logarithm_and_the_variance_of_scores():
    """log(K + 1) + 1 / (2 m tau²)."""
    m, temperature = 64, 0.2
    objective = MoCo(temperature=temperature, queue=4_096)
    z, keys = (views(512, m, seed=seed, dtype=torch.float32) for seed in (0, 1))
    expected = math.log(4_097) + 1 / (2 * m * temperature**2)
    # The mean of 512 positive scores has deviation 1 / (tau sqrt(512 m)) = .028.
    assert loss(objective, z, keys) == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("objective", OPTIONS, ids=repr)
def test_keys_and_queue_carry_no_gradient_and_a_call_changes_nothing(objective):
    z = tuple(view.requires_grad_() for view in views())
    keys = tuple(view.requires_grad_() for view in views(seed=1))
    batch = seen(objective, z, keys, labels=LABELS)
    before = {name: value.clone() for name, value in batch.memory.items()}
    objective(batch).total.backward()
    assert keys[0].grad is None and keys[1].grad is None
    assert z[0].grad.abs().max() > 0
    assert all(torch.equal(batch.memory[name], before[name]) for name in before)


def test_the_step_s_keys_and_labels_are_remembered():
    z, keys = views(), views(seed=1)
    plain, symmetric = OPTIONS[:2]
    batch = seen(plain, z, keys, labels=LABELS)
    plain.remember_(batch)
    queue = batch.memory["queue"]
    torch.testing.assert_close(queue[:6].double(), normalize(keys[0], dim=1))
    assert batch.memory["queue_labels"].tolist() == LABELS.tolist() + [-1] * 6
    assert int(batch.memory["queue_pointer"]) == 6
    batch = seen(symmetric, z, keys)
    symmetric.remember_(batch)
    expected = normalize(torch.cat(keys), dim=1)
    torch.testing.assert_close(batch.memory["queue"].double(), expected)
    assert int(batch.memory["queue_pointer"]) == 0


def test_what_the_learner_must_give_follows_from_the_options():
    needs = MoCo(momentum=0.99).needs
    assert needs.target.views == (1,) and needs.target.momentum == 0.99
    assert needs.target.shuffled and needs.target.schedule == "constant"
    assert (needs.trained_views, needs.divisor) == (1, 65_536)
    both = MoCo(symmetric=True).needs
    assert (both.target.views, both.trained_views) == ((0, 1), 2)
    # Two keys an image: batches that divide half the queue.
    assert both.divisor == 32_768


@pytest.mark.parametrize("objective", OPTIONS, ids=repr)
def test_zero_rows_count_as_unlike_all_and_get_no_gradient(objective):
    z, keys = views(dtype=torch.float32), views(seed=1, dtype=torch.float32)
    z[0][1], keys[0][2] = 0, 0
    for view in z:
        view.requires_grad_()
    batch = seen(objective, z, keys)
    found = objective(batch)
    found.total.backward()
    assert float(found.stats["zero_rows"]) == 2
    assert torch.isfinite(z[0].grad).all() and torch.isfinite(found.total)
    assert z[0].grad[1].abs().max() == 0 and z[0].grad[0].abs().max() > 0
    objective.remember_(batch)
    assert torch.isfinite(batch.memory["queue"]).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("objective", [OPTIONS[0], OPTIONS[3]], ids=repr)
def test_half_precision_is_computed_in_float32(objective, dtype):
    z = tuple(view.requires_grad_() for view in views(dtype=dtype))
    keys = views(seed=1, dtype=dtype)
    found = output(objective, z, keys).total
    assert found.dtype == torch.float32
    exact = [tuple(view.detach().double() for view in one) for one in (z, keys)]
    assert float(found.detach()) == pytest.approx(loss(objective, *exact), rel=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert loss(objective, z, keys) == float(found.detach())
    found.backward()
    assert z[0].grad.dtype == dtype


@pytest.mark.parametrize("mining", ["none", "skew_normal"])
def test_large_scores_keep_their_precision(mining):
    objective = MoCo(temperature=0.01, queue=12, mining=mining)
    z = tuple(view.requires_grad_() for view in views(dtype=torch.float32))
    keys = views(seed=1, dtype=torch.float32)
    found = output(objective, z, keys).total
    found.backward()
    exact = [tuple(view.detach().double() for view in one) for one in (z, keys)]
    assert float(found.detach()) == pytest.approx(loss(objective, *exact), abs=1e-4)
    assert torch.isfinite(z[0].grad).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "moco: temperature is 0.0"),
        ({"queue": 0}, r"moco: queue is 0\n.*from 1"),
        ({"queue": 7, "symmetric": True}, r"moco: queue is 7\n.*an even number"),
        ({"momentum": 1.5}, r"moco: momentum is 1.5\n.*0 to 1"),
        ({"scale": 0.0}, r"moco: scale is 0.0\n.*above 0"),
        ({"scale": math.nan}, "moco: scale is nan"),
        ({"location": math.inf}, "moco: location is inf"),
        ({"skewness": math.nan}, r"skewness is nan\n.*a finite number"),
    ],
)
def test_options_outside_of_their_range_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        MoCo(**options)


def test_keys_and_memory_are_needed():
    z = views()
    with pytest.raises(InputError, match="moco: too few views in targets"):
        MoCo()(ViewBatch(h=(), z=z[:1]))
    with pytest.raises(InputError, match="moco: too few views in z"):
        MoCo(symmetric=True)(ViewBatch(h=(), z=z[:1], targets=z))
    with pytest.raises(InputError, match="memory: there is no 'queue'"):
        MoCo()(ViewBatch(h=(), z=z[:1], targets=z[:1]))
    batch = seen(MoCo(queue=9), z, z)
    with pytest.raises(InputError, match="6 keys do not fill a queue of 9 evenly"):
        MoCo(queue=9).remember_(batch)
