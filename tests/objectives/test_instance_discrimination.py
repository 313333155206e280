"""InstDisc: by hand, by loops, by the sources' two criteria, by calculus."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from repscope._checking import InputError, UsageError
from repscope.objectives.batch import ViewBatch
from repscope.objectives.instance_discrimination import InstDisc
from repscope.objectives.negatives import draws
from repscope.objectives.objective import MemorySizes

IMAGES = 9
OPTIONS = [
    InstDisc(negatives=0),
    InstDisc(negatives=0, proximal_weight=2.0),
    InstDisc(negatives=5),  # the drawn entries are gathered after the product,
    InstDisc(negatives=2, proximal_weight=2.0),  # and before it
]
IDS = torch.tensor([7, 0, 3, 4, 8, 1])
E = math.e


def view(n=6, m=4, *, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, m, generator=generator, dtype=torch.float64).to(dtype)


def memory(objective, m=4, *, n_images=IMAGES, seed=7, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    made = objective.first_memory(MemorySizes(n_images=n_images, width=m), generator)
    return {name: value.to(dtype) for name, value in made.items()}


def seen(objective, z, **others):
    given = {"memory": memory(objective, z.shape[1]), "ids": IDS[: len(z)]} | others
    return ViewBatch(h=(), z=(z,), **given)


def output(objective, z, **others):
    return objective(seen(objective, z, **others))


def loss(objective, z, **others):
    return float(output(objective, z, **others).total.detach())


def test_all_images_by_hand():
    bank = {"bank": torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])}
    z = torch.tensor([[0.0, 5.0], [2.0, 0.0]])
    given = {"memory": bank, "ids": torch.tensor([2, 0])}
    # Scores 0, 1, -1, the own -1; and 1, 0, 0, the own 1.
    found = output(InstDisc(temperature=1.0, negatives=0), z, **given)
    assert float(found.invariance) == pytest.approx(0)
    log_sums = math.log(1 + E + 1 / E), math.log(E + 2)
    assert float(found.regularization) == pytest.approx(sum(log_sums) / 2)
    near = InstDisc(temperature=1.0, negatives=0, proximal_weight=3.0)
    # |(0, 1) - (0, -1)|² = 4, and 0.
    found = output(near, z, **given)
    assert float(found.parts["proximal"]) == 2
    assert float(found.invariance) == pytest.approx(6)


def test_noise_contrastive_estimate_by_hand():
    # All entries and projections are one direction: each P is exp(1) / Z.
    bank = torch.eye(4)[[0, 0, 0, 0]]
    z = torch.eye(4)[[0, 0]]
    given = {"ids": torch.tensor([1, 3])}
    first = {"bank": bank, "log_normaliser": torch.tensor(-math.inf)}
    objective = InstDisc(temperature=1.0, negatives=8)
    found = output(objective, z, memory=first, **given)
    # Z = 4 e, so that P = 1 / 4; K / N = 2.
    assert float(found.stats["log_normaliser"]) == pytest.approx(1 + math.log(4))
    assert float(found.invariance) == pytest.approx(math.log(9))
    assert float(found.regularization) == pytest.approx(8 * math.log(9 / 8))
    kept = {"bank": bank, "log_normaliser": torch.tensor(1.0)}  # P = 1
    found = output(objective, z, memory=kept, **given)
    assert float(found.invariance) == pytest.approx(math.log(3))
    assert float(found.regularization) == pytest.approx(8 * math.log(3 / 2))


def drawn(objective, batch):
    shape = (len(batch.z[0]), objective.negatives)
    return torch.randint(IMAGES, shape, generator=draws(batch)).tolist()


def loops(objective, batch):
    """Wu et al. 2018, eq. 2-10, one term after the other, in Python's own floats."""
    rows = normalize(batch.z[0], dim=1).tolist()
    bank = batch.memory["bank"].tolist()
    n, total, ids = len(rows), len(bank), batch.ids.tolist()

    def exponential(f, v):
        dot = sum(a * b for a, b in zip(f, v, strict=True))
        return math.exp(dot / objective.temperature)

    lost = 0.0
    for i, f in enumerate(rows):
        v = bank[ids[i]]
        lost += objective.proximal_weight * math.dist(f, v) ** 2
        if objective.negatives == 0:
            every = sum(exponential(f, other) for other in bank)
            lost -= math.log(exponential(f, v) / every)
    if objective.negatives == 0:
        return lost / n
    places = drawn(objective, batch)
    every = [
        [exponential(f, bank[k]) for k in [ids[i], *places[i]]]
        for i, f in enumerate(rows)
    ]
    z = total * sum(map(sum, every)) / n / (objective.negatives + 1)
    ratio = objective.negatives / total
    for own, *others in every:
        lost -= math.log(own / z / (own / z + ratio + 1e-7))
        for other in others:
            lost -= math.log(ratio / (other / z + ratio + 1e-7))
    return lost / n


@pytest.mark.parametrize("objective", OPTIONS, ids=repr)
def test_as_the_papers_sums_term_by_term(objective):
    for seed in range(3):
        batch = seen(objective, view(seed=seed), seed=seed, step=4)
        found = float(objective(batch).total)
        assert found == pytest.approx(loops(objective, batch), rel=1e-12)


def test_all_images_as_the_authors_code_computes_it():
    """zhirongw/lemniscate.pytorch at f7cfe29, LinearAverage.py, lines 13-14.

    Products with the bank / temperature are logits; the criterion is cross-entropy.
    """
    batch = seen(OPTIONS[0], view())
    logits = normalize(view(), dim=1) @ batch.memory["bank"].T / 0.07
    expected = float(cross_entropy(logits, IDS))
    assert float(OPTIONS[0](batch).total) == pytest.approx(expected, rel=1e-12)


def test_the_estimate_as_the_authors_code_computes_it():
    """zhirongw/lemniscate.pytorch at f7cfe29, NCEAverage.py, 19-36, NCECriterion.py.

    Column 0 holds the own entry; Z is the mean of all exponentials times N; the sums
    over both kinds of columns are divided by n.
    """
    objective = InstDisc(negatives=5)
    batch = seen(objective, view(), seed=1)
    places = torch.cat([IDS[:, None], torch.tensor(drawn(objective, batch))], dim=1)
    entries = batch.memory["bank"][places]  # (6, 6, 4)
    scores = torch.bmm(entries, normalize(view(), dim=1)[:, :, None])[:, :, 0] / 0.07
    p = torch.softmax(scores.flatten(), 0).view(6, 6) * 36 / IMAGES
    noise = 5 / IMAGES
    data = (p[:, 0] / (p[:, 0] + noise + 1e-7)).log().sum() / 6
    others = (noise / (p[:, 1:] + noise + 1e-7)).log().sum() / 6
    found = objective(batch)
    assert float(found.parts["data"]) == pytest.approx(-float(data), rel=1e-12)
    assert float(found.parts["noise"]) == pytest.approx(-float(others), rel=1e-12)


def test_both_ways_to_score_what_was_drawn_agree():
    """Either all scores are computed, or the entries that were drawn are gathered."""
    objective, wide = InstDisc(negatives=2), view(m=4)
    gathered = seen(objective, wide)
    assert objective.negatives * 4 < IMAGES
    assert float(objective(gathered).total) == pytest.approx(loops(objective, gathered))
    narrow = InstDisc(negatives=3)
    whole = seen(narrow, wide)
    assert narrow.negatives * 4 > IMAGES
    assert float(narrow(whole).total) == pytest.approx(loops(narrow, whole))


def test_negatives_are_drawn_anew_in_each_step_and_the_same_in_the_same():
    losses = [loss(InstDisc(negatives=5), view(), step=step) for step in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("objective", OPTIONS, ids=repr)
def test_gradient_is_that_of_finite_differences(objective):
    # The normaliser is a constant, as the source has it: it must be kept already.
    given = memory(objective, 3)
    if objective.negatives:
        given["log_normaliser"].fill_(2.0)
    for part in ("total", "invariance", "regularization"):
        assert torch.autograd.gradcheck(
            lambda z: getattr(output(objective, z, memory=given), part),  # noqa: B023
            view(n=3, m=3).requires_grad_(),
            rtol=1e-4,
            atol=1e-6,
        )


@pytest.mark.parametrize("objective", OPTIONS, ids=repr)
def test_total_is_the_sum_of_its_parts(objective):
    found = output(objective, view(dtype=torch.float32))
    together = float(found.invariance) + float(found.regularization)
    assert together == pytest.approx(float(found.total), rel=1e-6)


@pytest.mark.parametrize("objective", OPTIONS[:2], ids=repr)
def test_order_of_images_and_lengths_do_not_matter(objective):
    z, given = view(), memory(objective)
    expected = pytest.approx(loss(objective, z, memory=given), rel=1e-12)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(1))
    moved = {"ids": IDS[order], "memory": given}
    assert loss(objective, z[order], **moved) == expected
    assert loss(objective, 3 * z, memory=given) == expected
    assert loss(objective, z[order], memory=given) != expected
    renamed = {"ids": IMAGES - 1 - IDS, "memory": {"bank": given["bank"].flip(0)}}
    assert loss(objective, z, **renamed) == expected


def test_the_order_of_images_matters_to_what_is_drawn_alone():
    """Draws go by place in the batch; in the mean over steps the order is gone."""
    objective, z = InstDisc(negatives=50, temperature=1.0), view()
    given = memory(objective) | {"log_normaliser": torch.tensor(2.0)}
    means = []
    for order in (torch.arange(6), torch.arange(5, -1, -1)):
        moved = {"ids": IDS[order], "memory": given}
        found = [loss(objective, z[order], step=step, **moved) for step in range(30)]
        means.append(sum(found) / 30)
    assert means[0] == pytest.approx(means[1], rel=0.01)


def test_first_entries_are_about_one_long_and_uniform():
    made = memory(InstDisc(negatives=3), 32, n_images=4_000)
    bank, side = made["bank"], math.sqrt(3 / 32)
    assert bank.shape == (4_000, 32)
    assert side * 0.999 < float(bank.max()) <= side
    assert -side <= float(bank.min()) < -side * 0.999
    assert float(bank.square().sum(dim=1).mean()) == pytest.approx(1, abs=0.01)
    assert float(made["log_normaliser"]) == -math.inf
    assert set(memory(InstDisc(negatives=0))) == {"bank"}


def test_a_new_bank_loses_the_logarithm_and_the_variance_of_scores():
    """log N + 1 / (2 m tau²); entries are about 1 long."""
    m, temperature = 64, 0.2
    objective = InstDisc(temperature=temperature, negatives=0)
    given = {
        "memory": memory(objective, m, n_images=4_000, dtype=torch.float32),
        "ids": torch.arange(512),
    }
    expected = math.log(4_000) + 1 / (2 * m * temperature**2)
    # The mean of 512 positive scores has deviation 1 / (tau sqrt(512 m)) = .028.
    found = loss(objective, view(512, m, dtype=torch.float32), **given)
    assert found == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("objective", OPTIONS, ids=repr)
def test_a_call_changes_nothing_and_the_bank_has_no_gradient(objective):
    z = view().requires_grad_()
    batch = seen(objective, z)
    before = {name: value.clone() for name, value in batch.memory.items()}
    objective(batch).total.backward()
    assert z.grad.abs().max() > 0
    assert all(torch.equal(batch.memory[name], before[name]) for name in before)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_entries_move_half_way_and_stay_directions(momentum):
    objective = InstDisc(negatives=0, momentum=momentum)
    batch = seen(objective, view().requires_grad_())
    before = batch.memory["bank"].clone()
    objective.remember_(batch)
    after = batch.memory["bank"]
    features = normalize(view(), dim=1)
    for row, place in enumerate(IDS.tolist()):
        mixed = momentum * before[place] + (1 - momentum) * features[row]
        torch.testing.assert_close(after[place], mixed / mixed.norm())
    others = [k for k in range(IMAGES) if k not in IDS.tolist()]
    assert torch.equal(after[others], before[others])
    assert not after.requires_grad


def test_the_first_normaliser_is_kept():
    objective = InstDisc(negatives=5)
    batch = seen(objective, view(), step=0)
    first = objective(batch).stats["log_normaliser"]
    objective.remember_(batch)
    assert float(batch.memory["log_normaliser"]) == pytest.approx(float(first))
    later = seen(objective, view(seed=1), step=1, memory=batch.memory)
    assert objective(later).stats["log_normaliser"] == batch.memory["log_normaliser"]
    objective.remember_(later)
    assert float(batch.memory["log_normaliser"]) == pytest.approx(float(first))


def test_no_gradient_passes_the_normaliser():
    objective = InstDisc(negatives=5)
    given, gradients = memory(objective), []
    for _ in range(2):
        z = view().requires_grad_()
        found = output(objective, z, memory=given)
        gradients.append(torch.autograd.grad(found.total, z)[0])
        given = given | {"log_normaliser": found.stats["log_normaliser"]}
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("objective", OPTIONS, ids=repr)
def test_zero_rows_count_as_unlike_all_and_get_no_gradient(objective):
    z = view(dtype=torch.float32)
    z[1] = 0
    batch = seen(objective, z.requires_grad_())
    found = objective(batch)
    found.total.backward()
    assert float(found.stats["zero_rows"]) == 1
    assert torch.isfinite(z.grad).all() and torch.isfinite(found.total)
    assert z.grad[1].abs().max() == 0 and z.grad[0].abs().max() > 0
    objective.remember_(batch)
    assert torch.isfinite(batch.memory["bank"]).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("objective", OPTIONS, ids=repr)
def test_half_precision_is_computed_in_float32(objective, dtype):
    z, given = view(dtype=dtype), memory(objective, dtype=torch.float32)
    found = output(objective, z.requires_grad_(), memory=given).total
    assert found.dtype == torch.float32
    exact = loss(objective, z.detach().double(), memory=given)
    assert float(found.detach()) == pytest.approx(exact, rel=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert loss(objective, z, memory=given) == float(found.detach())
    found.backward()
    assert z.grad.dtype == dtype


@pytest.mark.parametrize("negatives", [0, 5])
def test_small_temperatures_do_not_overflow(negatives):
    # exp(1 / .004) is beyond float32 and exp(1 / .001) beyond float64.
    objective = InstDisc(temperature=0.001, negatives=negatives)
    z = view(dtype=torch.float32).requires_grad_()
    given = memory(objective, dtype=torch.float32)
    found = output(objective, z, memory=given).total
    found.backward()
    exact = loss(objective, z.detach().double(), memory=given)
    # Scores to 1,000 with a relative error of 6e-8 each, six of them.
    assert float(found.detach()) == pytest.approx(exact, rel=1e-4)
    assert torch.isfinite(z.grad).all()


def test_one_view_is_enough():
    needs = InstDisc().needs
    assert (needs.least_views, needs.trained_views) == (1, 1)
    assert needs.target is None and not needs.labels and needs.divisor is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": math.inf}, "inst_disc: temperature is inf"),
        ({"negatives": -1}, r"inst_disc: negatives is -1\n.*from 0"),
        ({"momentum": 1.0}, r"inst_disc: momentum is 1.0\n.*0 to below 1"),
        ({"proximal_weight": -0.1}, r"proximal_weight is -0.1\n.*from 0"),
        ({"proximal_weight": math.nan}, "proximal_weight is nan"),
    ],
)
def test_options_outside_of_their_range_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        InstDisc(**options)


def test_ids_and_memory_are_needed():
    with pytest.raises(InputError, match="inst_disc: there are no ids"):
        output(InstDisc(), view(), ids=None)
    with pytest.raises(InputError, match="memory: there is no 'bank'"):
        output(InstDisc(), view(), memory={})
