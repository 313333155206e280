"""SwAV: by hand, by the authors' loop over numbers, by calculus, by its queue."""

import dataclasses
import math

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from repscope._checking import InputError, UsageError
from repscope.objectives.assignment import QUEUE, QUEUE_ROWS, SwAV
from repscope.objectives.batch import ViewBatch
from repscope.objectives.objective import MemorySizes

E = math.e
M = 3


def scores(n=6, k=4, *, count=2, seed=0, dtype=torch.float64):
    """Cosines: of drawn rows with drawn prototypes."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(count, n, M, generator=generator, dtype=torch.float64)
    prototypes = torch.randn(k, M, generator=generator, dtype=torch.float64)
    drawn = normalize(z, dim=2) @ normalize(prototypes, dim=1).T
    return tuple(drawn.to(dtype))


def output(views, **options):
    return SwAV(**options)(ViewBatch(h=(), z=views, predictions=views))


def loss(views, **options):
    return float(output(views, **options).total.detach())


def loops(rows, epsilon, iterations):
    """N.4 of the authors' code, on lists: exponentials first, k times n."""
    n, k = len(rows), len(rows[0])
    greatest = max(map(max, rows))
    q = [[math.exp((row[j] - greatest) / epsilon) for row in rows] for j in range(k)]
    whole = sum(map(sum, q))
    q = [[one / whole for one in prototype] for prototype in q]
    for _ in range(iterations):
        q = [[one / (sum(prototype) * k) for one in prototype] for prototype in q]
        sums = [sum(q[j][i] for j in range(k)) for i in range(n)]
        q = [[q[j][i] / (sums[i] * n) for i in range(n)] for j in range(k)]
    return [[q[j][i] * n for j in range(k)] for i in range(n)]


def entropy(shares):
    return -sum(one * math.log(one) for one in shares if one > 0)


def swapped(views, temperature, q):
    """The authors' loop over crops: (mean cross-entropy, mean entropy of q)."""
    total, n = 0.0, len(views[0])
    for i in (0, 1):
        for j, view in enumerate(views):
            if i == j:
                continue
            for assigned, row in zip(q[i], view.tolist(), strict=True):
                partition = sum(math.exp(one / temperature) for one in row)
                log_p = [one / temperature - math.log(partition) for one in row]
                pair = zip(assigned, log_p, strict=True)
                total -= sum(a * b for a, b in pair) / n / (len(views) - 1) / 2
    return total, sum(entropy(row) for of in q for row in of) / (2 * n)


def test_two_images_and_two_prototypes_by_hand():
    view = torch.eye(2)
    found = output((view, view), temperature=1.0, epsilon=1.0)
    # Balanced as it is: q = p = (e, 1) / (e + 1) and the other way round.
    assert float(found.invariance) == pytest.approx(0, abs=1e-6)
    assert float(found.regularization) == pytest.approx(math.log(E + 1) - E / (E + 1))
    # The other way round, e and 1 change places in p: (e - 1) / (e + 1) more.
    turned = output((view, view.flip(0)), temperature=1.0, epsilon=1.0)
    assert float(turned.invariance) == pytest.approx((E - 1) / (E + 1))


def test_sharp_assignments_are_labels_of_a_cross_entropy():
    """Each image is best with its own of three prototypes, by .2 at least."""
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    own = torch.eye(3, dtype=torch.float64)[labels] / 2
    views = tuple(own + noise / 10 for noise in scores(k=3))
    losses = [float(cross_entropy(view / 0.1, labels)) for view in views]
    found = output(views, epsilon=1e-3)
    assert float(found.total) == pytest.approx(sum(losses) / 2, rel=1e-6)
    assert float(found.regularization) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("options", [{}, {"epsilon": 0.5}, {"iterations": 7}])
def test_as_the_authors_loop_number_by_number(options, count):
    views = scores(count=count)
    given = {"epsilon": 0.05, "iterations": 3} | options
    q = [loops(view.tolist(), **given) for view in views[:2]]
    expected, spread = swapped(views, 0.1, q)
    found = output(views, **options)
    assert float(found.total) == pytest.approx(expected, rel=1e-10)
    assert float(found.regularization) == pytest.approx(spread, rel=1e-9)
    assert float(found.parts["divergence"]) == pytest.approx(expected - spread)
    assert float(found.parts["divergence"]) > 0


@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_total_is_the_sum_of_its_parts(temperature):
    found = output(scores(32, 10, dtype=torch.float32), temperature=temperature)
    together = float(found.invariance) + float(found.regularization)
    assert together == pytest.approx(float(found.total), rel=1e-6)
    assert float(found.parts["cross_entropy"]) == pytest.approx(together, rel=1e-6)


def test_gradient_of_a_view_that_is_only_predicted_is_that_of_differences():
    first, second, third = scores(n=4, k=3, count=3)
    assert torch.autograd.gradcheck(
        lambda x: output((first, second, x)).total, (third.requires_grad_(),), rtol=1e-4
    )


def test_no_gradient_passes_the_assignment():
    views = tuple(view.requires_grad_() for view in scores())
    found = output(views)
    assert not found.regularization.requires_grad
    found.total.backward()
    q = [torch.tensor(loops(view.tolist(), 0.05, 3)) for view in views]
    for i in (0, 1):
        # Of cross-entropy in x: (softmax(x / tau) - q) / tau, over n rows and 2 pairs.
        p = (views[i].detach() / 0.1).softmax(dim=1)
        expected = (p - q[1 - i]) / 0.1 / 6 / 2
        torch.testing.assert_close(views[i].grad, expected)


def test_order_of_images_of_prototypes_and_of_views_do_not_matter():
    first, second = scores()
    expected = pytest.approx(loss((first, second)), rel=1e-12)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    assert loss((first[order], second[order])) == expected
    columns = torch.tensor([2, 0, 3, 1])
    assert loss((first[:, columns], second[:, columns])) == expected
    assert loss((second, first)) == expected
    assert loss((first + 5, second - 5)) == expected
    assert loss((first, second.roll(1, dims=0))) != expected


def test_a_third_view_is_predicted_but_not_assigned():
    first, second, third = scores(count=3)
    views = (first, second, third)
    expected = loss(views)
    assert loss((second, first, third)) == pytest.approx(expected, rel=1e-12)
    assert loss((first, third, second)) != pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scores_over_epsilon_that_overflow_an_exponential_do_not(dtype):
    """dinov2 issue 583: exp(90) is no float32."""
    views = tuple(90 * 0.04 * view for view in scores(dtype=dtype))
    assert torch.isinf(torch.exp(torch.tensor(3.6 / 0.04)))
    still = output(views, epsilon=0.001, temperature=0.001)
    assert all(torch.isfinite(one) for one in still.scalars().values())
    # The assignment is that of the best prototypes; it is exact in float64.
    exact = output(tuple(v.double() for v in views), epsilon=0.001, temperature=0.001)
    assert float(still.total) == pytest.approx(float(exact.total), rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    rounded = tuple(view.requires_grad_() for view in scores(64, 20, dtype=dtype))
    expected = loss(tuple(view.detach().double() for view in rounded))
    found = output(rounded).total
    assert found.dtype == torch.float32
    assert float(found.detach()) == pytest.approx(expected, rel=1e-5)
    found.backward()
    assert rounded[0].grad.dtype == dtype


def test_autocast_does_not_lower_the_precision():
    views = scores(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = output(views).scalars()
    assert found == output(views).scalars()
    assert output(scores()).total.dtype == torch.float64


def test_zero_projections_have_scores_of_zero_and_a_finite_loss():
    still = torch.zeros(6, 4, requires_grad=True)
    found = output((still, still))
    found.total.backward()
    assert float(found.total.detach()) == pytest.approx(math.log(4))
    assert still.grad.abs().max() == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("row", [[0.9, 0.1, -0.5, 0.0], [0.2, 0.2, 0.2, 0.2]])
def test_collapse_shows_in_the_information_not_in_the_spread(row):
    still = torch.tensor([row] * 8)
    stats = output((still, still)).stats
    assert float(stats["mean_assignment_entropy"]) == pytest.approx(math.log(4))
    assert float(stats["assignment_information"]) == pytest.approx(0, abs=1e-6)


def test_images_with_prototypes_of_their_own_have_all_the_information():
    own = torch.eye(4).repeat(2, 1)  # eight images, two for each prototype
    stats = output((own, own)).stats
    assert float(stats["assignment_information"]) == pytest.approx(math.log(4))
    assert float(stats["mean_assignment_entropy"]) == pytest.approx(math.log(4))
    assert float(stats["queue_rows"]) == 0


# The queue.

PROTOTYPES = normalize(torch.randn(5, M, generator=torch.Generator().manual_seed(9)))


def batch_of(objective, memory, *, n=4, seed=0, epoch=2):
    generator = torch.Generator().manual_seed(seed)
    z = tuple(3 * torch.randn(2, n, M, generator=generator))
    predictions = tuple(normalize(view, dim=1) @ PROTOTYPES.T for view in z)
    return ViewBatch(
        h=(),
        z=z,
        predictions=predictions,
        memory=memory,
        prototypes=PROTOTYPES,
        epoch=epoch,
    )


def with_queue(queue, from_epoch=2):
    objective = SwAV(queue=queue, queue_from_epoch=from_epoch)
    sizes = MemorySizes(n_images=100, width=M, predicted=5)
    return objective, objective.first_memory(sizes, torch.Generator())


def test_the_queue_begins_at_its_epoch_and_is_used_when_full():
    objective, memory = with_queue(8)
    assert memory[QUEUE].shape == (2, 8, M)
    plain = SwAV()
    used = []
    for step, epoch in enumerate([0, 1, 2, 2, 2]):
        batch = batch_of(objective, memory, seed=step, epoch=epoch)
        found = objective(batch)
        used.append(int(found.stats["queue_rows"]))
        if not used[-1]:
            assert float(found.total) == float(plain(batch).total)
        objective.remember_(batch)
    assert used == [0, 0, 0, 0, 8]
    assert int(memory[QUEUE_ROWS]) == 8


@pytest.mark.parametrize("queue", [3, 4, 6, 8, 11])
def test_it_holds_the_newest_directions_of_both_views(queue):
    objective, memory = with_queue(queue, from_epoch=0)
    batches = [batch_of(objective, memory, seed=seed) for seed in range(4)]
    for batch in batches:
        objective.remember_(batch)
    for view in (0, 1):
        newest = torch.cat([batch.z[view] for batch in reversed(batches)])[:queue]
        lengths = torch.tensor([[math.hypot(*row)] for row in newest.tolist()])
        torch.testing.assert_close(memory[QUEUE][view], newest / lengths)


def test_earlier_rows_take_part_in_the_assignment_and_not_in_the_loss():
    objective, memory = with_queue(8, from_epoch=0)
    for seed in (1, 2):
        objective.remember_(batch_of(objective, memory, seed=seed))
    batch = batch_of(objective, memory)
    q = []
    for view in (0, 1):
        rows = [*batch.predictions[view].tolist()]
        for earlier in memory[QUEUE][view].tolist():
            products = [
                [a * b for a, b in zip(earlier, one, strict=True)]
                for one in PROTOTYPES.tolist()
            ]
            rows.append([sum(one) for one in products])
        q.append(loops(rows, 0.05, 3)[:4])
    expected, _ = swapped(batch.predictions, 0.1, q)
    found = objective(batch)
    assert float(found.total) == pytest.approx(expected, rel=1e-4)
    assert float(found.total) != pytest.approx(float(SwAV()(batch).total), rel=1e-2)
    assert int(found.stats["queue_rows"]) == 8


def test_a_loss_changes_no_memory_and_remembering_makes_no_graph():
    objective, memory = with_queue(4, from_epoch=0)
    batch = batch_of(objective, memory)
    z = tuple(view.requires_grad_() for view in batch.z)
    objective.remember_(batch)
    before = {name: one.clone() for name, one in memory.items()}
    objective(dataclasses.replace(batch, z=z))
    assert all(torch.equal(memory[name], before[name]) for name in memory)
    assert not memory[QUEUE].requires_grad


def test_without_a_queue_there_is_no_memory():
    objective, memory = with_queue(0)
    assert memory == {}
    objective.remember_(batch_of(objective, memory))
    assert memory == {}


def test_half_precision_projections_can_be_remembered():
    objective, memory = with_queue(4, from_epoch=0)
    batch = batch_of(objective, memory)
    half = tuple(view.half() for view in batch.z)
    objective.remember_(dataclasses.replace(batch, z=half))
    assert memory[QUEUE].dtype == torch.float32
    lengths = memory[QUEUE].norm(dim=2)
    torch.testing.assert_close(lengths, torch.ones(2, 4))


def test_what_it_needs():
    needs = SwAV(frozen_steps=7).needs
    assert needs.predictor == "prototypes" and needs.frozen_predictor_steps == 7
    assert (needs.target, needs.divisor, needs.trained_views) == (None, None, None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, r"swav: temperature is 0.0\n.*above 0"),
        ({"epsilon": math.inf}, r"swav: epsilon is inf\n.*above 0"),
        ({"epsilon": math.nan}, "swav: epsilon is nan"),
        ({"iterations": 0}, r"swav: iterations is 0\n.*from 1"),
        ({"queue": -1}, r"swav: queue is -1\n.*from 0"),
        ({"queue_from_epoch": -1}, "queue_from_epoch is -1"),
        ({"frozen_steps": -1}, "frozen_steps is -1"),
    ],
)
def test_an_option_outside_of_its_range_is_refused(options, message):
    with pytest.raises(UsageError, match=message):
        SwAV(**options)


def test_what_is_missing_is_named():
    views = scores()
    with pytest.raises(InputError, match="a predictor such as prototypes"):
        SwAV()(ViewBatch(h=(), z=views))
    with pytest.raises(InputError, match="swav: too few views in z"):
        SwAV()(ViewBatch(h=(), z=views[:1], predictions=views[:1]))
    with pytest.raises(InputError, match="a queue needs a memory and the prototypes"):
        output(views, queue=4)
