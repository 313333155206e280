"""BYOL and SimSiam: by hand, by loops, by torch's losses, by calculus, by collapse."""

import math

import pytest
import torch
from torch.nn.functional import cosine_embedding_loss, normalize

from repscope._checking import InputError, UsageError
from repscope.objectives.batch import ViewBatch
from repscope.objectives.distillation import BYOL, SimSiam
from repscope.objectives.objective import Target

BOTH = [BYOL, SimSiam]
OPTIONS = [BYOL(), BYOL(symmetric=False), SimSiam(), SimSiam(symmetric=False)]


def views(n=6, m=4, *, count=2, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(count, n, m, generator=generator, dtype=torch.float64)
    return tuple(drawn.to(dtype))


def output(objective, predictions, targets):
    """Aim the predictions at the targets, whatever the objective calls them."""
    if isinstance(objective, SimSiam):
        return objective(ViewBatch(h=(), z=targets, predictions=predictions))
    aims = targets[:2] if objective.symmetric else targets[1:2]
    return objective(
        ViewBatch(h=(), z=predictions, predictions=predictions, targets=aims)
    )


def loss(objective, predictions, targets):
    return float(output(objective, predictions, targets).total.detach())


EAST, NORTH = [2.0, 0.0], [0.0, 3.0]
# Cosines 1 and 0 from the first view to the second, 0 and -1 back.
P = (torch.tensor([EAST, NORTH]), torch.tensor([NORTH, EAST]))
T = (torch.tensor([EAST, [-1.0, 0.0]]), torch.tensor([EAST, EAST]))


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (BYOL(), (2 - 2 * 0.5) + (2 - 2 * -0.5)),
        (BYOL(symmetric=False), 2 - 2 * 0.5),
        (SimSiam(), -(0.5 - 0.5) / 2),
        (SimSiam(symmetric=False), -0.5),
    ],
    ids=repr,
)
def test_four_cosines_by_hand(objective, expected):
    found = output(objective, P, T)
    assert float(found.total) == pytest.approx(expected, abs=1e-6)
    assert float(found.invariance) == float(found.total)
    assert float(found.regularization) == 0


@pytest.mark.parametrize("objective", OPTIONS, ids=repr)
def test_the_least_and_the_greatest_loss(objective):
    rows = views(count=1)[0]
    least, greatest = (0, 8) if isinstance(objective, BYOL) else (-1, 1)
    if objective == BYOL(symmetric=False):
        greatest = 4
    same, opposite = (rows, rows), (-rows, -rows)
    assert loss(objective, same, same) == pytest.approx(least, abs=1e-12)
    assert loss(objective, same, opposite) == pytest.approx(greatest, abs=1e-12)


def cosine(left, right):
    dot = sum(a * b for a, b in zip(left, right, strict=True))
    return dot / (math.hypot(*left) * math.hypot(*right))


def loops(predictions, targets):
    """Mean over rows of the cosine from each view to each other of the first two."""
    means = {}
    for i, prediction in enumerate(predictions):
        for k, target in enumerate(targets[:2]):
            rows = zip(prediction.tolist(), target.tolist(), strict=True)
            values = [cosine(p, t) for p, t in rows]
            if i != k:
                means[i, k] = sum(values) / len(values)
    return means


def test_as_the_papers_equations_term_by_term():
    p, t = views(), views(seed=1)
    means = loops(p, t)
    byol = (2 - 2 * means[0, 1]) + (2 - 2 * means[1, 0])
    assert loss(BYOL(), p, t) == pytest.approx(byol, rel=1e-12)
    one = 2 - 2 * means[0, 1]
    assert loss(BYOL(symmetric=False), p, t) == pytest.approx(one, rel=1e-12)
    simsiam = -means[0, 1] / 2 - means[1, 0] / 2
    assert loss(SimSiam(), p, t) == pytest.approx(simsiam, rel=1e-12)
    one = -means[0, 1]
    assert loss(SimSiam(symmetric=False), p, t) == pytest.approx(one, rel=1e-12)


def test_byol_as_the_authors_code_computes_it():
    """deepmind-research at f5de0ed, byol: squared distances, both directions summed."""
    p, t = views(), views(seed=1)
    squares = [
        (normalize(a, dim=1) - normalize(b, dim=1)).square().sum(dim=1)
        for a, b in ((p[0], t[1]), (p[1], t[0]))
    ]
    expected = float((squares[0] + squares[1]).mean())
    assert loss(BYOL(), p, t) == pytest.approx(expected, rel=1e-12)


def test_both_are_torchs_cosine_loss():
    p, t = views(), views(seed=1)
    alike = torch.ones(6)
    there = float(cosine_embedding_loss(p[0], t[1], alike))
    back = float(cosine_embedding_loss(p[1], t[0], alike))
    assert loss(BYOL(), p, t) == pytest.approx(2 * there + 2 * back)
    assert loss(SimSiam(), p, t) == pytest.approx((there + back) / 2 - 1)


@pytest.mark.parametrize("objective", [BYOL(), SimSiam()], ids=repr)
def test_more_views_are_the_mean_over_ordered_pairs_with_the_first_two(objective):
    p, t = views(count=4), views(count=4, seed=1)
    means = loops(p, t)
    assert len(means) == 2 + 2 * 2
    mean = sum(means.values()) / len(means)
    expected = 2 * (2 - 2 * mean) if isinstance(objective, BYOL) else -mean
    assert loss(objective, p, t) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("objective", OPTIONS, ids=repr)
def test_gradient_is_that_of_finite_differences(objective):
    p = tuple(view.requires_grad_() for view in views(n=4, m=3))
    targets = views(n=4, m=3, seed=1)
    assert torch.autograd.gradcheck(
        lambda *inputs: output(objective, inputs, targets).total, p, rtol=1e-4
    )


@pytest.mark.parametrize("objective", OPTIONS, ids=repr)
def test_no_gradient_passes_what_is_aimed_at(objective):
    p, t = (
        tuple(view.requires_grad_() for view in views(seed=seed)) for seed in (0, 1)
    )
    found = output(objective, p, t)
    found.total.backward()
    assert all(view.grad is None for view in t)
    assert p[0].grad.abs().max() > 0
    assert (p[1].grad is None) == (not objective.symmetric)
    assert not found.regularization.requires_grad


@pytest.mark.parametrize("objective", OPTIONS, ids=repr)
def test_order_of_images_and_lengths_do_not_matter_but_the_pairing_does(objective):
    p, t = views(), views(seed=1)
    expected = pytest.approx(loss(objective, p, t), rel=1e-12)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(1))
    ordered = [tuple(view[order] for view in of) for of in (p, t)]
    assert loss(objective, *ordered) == expected
    lengths = torch.linspace(0.01, 100, 6, dtype=torch.float64)[:, None]
    longer = tuple(lengths * view for view in p)
    assert loss(objective, longer, (3 * t[0], lengths * t[1])) == expected
    if objective.symmetric:
        assert loss(objective, p[::-1], t[::-1]) == expected
    else:
        assert loss(objective, p[::-1], t[::-1]) != expected
    turned = tuple(view.roll(1, dims=0) for view in t)
    assert loss(objective, p, turned) != expected


def spectrum(rows):
    centred = rows - rows.mean(dim=0)
    return torch.linalg.eigvalsh(centred.T @ centred / len(rows)).clamp(min=0)


@pytest.mark.parametrize(("n", "m"), [(30, 5), (5, 30), (6, 6)])
def test_the_rank_of_predictions_is_the_participation_ratio_of_eigenvalues(n, m):
    p = tuple(
        view * torch.linspace(0.1, 2, m, dtype=torch.float64) for view in views(n, m)
    )
    ratios = [float(s.sum() ** 2 / s.square().sum()) for s in map(spectrum, p)]
    found = output(BYOL(), p, views(n, m, seed=1)).stats["predictor_rank"]
    assert float(found) == pytest.approx(sum(ratios) / 2, rel=1e-9)
    assert 1 <= float(found) <= min(n - 1, m)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[1, 1], [1, -1], [-1, 1], [-1, -1]], 2),  # a square
        ([[1, 2], [2, 4], [3, 6], [4, 8]], 1),  # a line
        ([[0.1, 0.7]] * 4, 0),  # a point, whose mean is rounded
        ([[0, 0]] * 4, 0),
    ],
)
def test_the_rank_of_known_shapes(rows, expected, dtype):
    still = torch.tensor(rows, dtype=dtype)
    found = output(BYOL(), (still, still), (still, still)).stats["predictor_rank"]
    assert float(found) == pytest.approx(expected, abs=1e-6)


SPREADS = [(BYOL(), "target_std"), (SimSiam(), "output_std")]


@pytest.mark.parametrize(("objective", "name"), SPREADS)
def test_the_spread_is_one_on_the_sphere_and_zero_at_a_point(objective, name):
    p = views(2000, 16, dtype=torch.float32)
    around = views(2000, 16, seed=1, dtype=torch.float32)
    # Means over 2,000 rows have a deviation of .02, and their square counts.
    assert float(output(objective, p, around).stats[name]) == pytest.approx(1, abs=0.01)
    still = (torch.full((2000, 16), 0.3),) * 2
    found = output(objective, p, still)
    assert float(found.stats[name]) == pytest.approx(0, abs=1e-6)
    # Two opposite points are one dimension out of sixteen.
    ends = torch.zeros(2000, 16)
    ends[::2, 3], ends[1::2, 3] = 5, -5
    found = float(output(objective, p, (ends, ends)).stats[name])
    assert found == pytest.approx(1 / 4, abs=1e-6)


@pytest.mark.parametrize(("objective", "name"), SPREADS)
def test_a_collapsed_network_has_the_least_loss_and_no_spread(objective, name):
    still = (torch.ones(5, 3),) * 2
    found = output(objective, still, still)
    least = 0 if isinstance(objective, BYOL) else -1
    assert float(found.total) == pytest.approx(least, abs=1e-6)
    assert float(found.stats[name]) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("objective", OPTIONS, ids=repr)
def test_zero_rows_are_orthogonal_to_all_and_get_no_gradient(objective):
    p, t = views(n=4, m=3), views(n=4, m=3, seed=1)
    p[0][1], t[1][2] = 0, 0
    p[0].requires_grad_()
    found = output(objective, p, t)
    found.total.backward()
    assert torch.isfinite(p[0].grad).all()
    assert p[0].grad[1:3].abs().max() == 0 and p[0].grad[0].abs().max() > 0
    wide = [
        tuple(torch.nn.functional.pad(view.detach(), (0, 2)) for view in of)
        for of in (p, t)
    ]
    wide[0][0][1, 3], wide[1][1][2, 4] = 1, 1
    assert float(found.total.detach()) == pytest.approx(loss(objective, *wide))
    assert all(torch.isfinite(value) for value in found.scalars().values())


@pytest.mark.parametrize("objective", OPTIONS, ids=repr)
def test_all_zero_is_a_loss_and_not_a_nan(objective):
    still = torch.zeros(4, 3, requires_grad=True)
    found = output(objective, (still, still), (still, still))
    found.total.backward()
    assert all(torch.isfinite(value) for value in found.scalars().values())
    assert still.grad.abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("objective", OPTIONS, ids=repr)
def test_half_precision_is_computed_in_float32(objective, dtype):
    # Squares of 300 overflow float16.
    p, t = (
        tuple((300 * v).to(dtype) for v in views(32, 8, seed=seed)) for seed in (0, 1)
    )
    exact = [tuple(v.double() for v in of) for of in (p, t)]
    p[0].requires_grad_()
    found = output(objective, p, t).total
    assert found.dtype == torch.float32
    expected = loss(objective, *exact)
    assert float(found.detach()) == pytest.approx(expected, rel=1e-5, abs=1e-6)
    found.backward()
    assert p[0].grad.dtype == dtype and p[0].grad.isfinite().all()


@pytest.mark.parametrize("objective", [BYOL(), SimSiam()], ids=repr)
def test_autocast_does_not_lower_the_precision(objective):
    p, t = views(dtype=torch.float32), views(seed=1, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = output(objective, p, t).scalars()
    assert found == output(objective, p, t).scalars()
    assert output(objective, views(), views(seed=1)).total.dtype == torch.float64


def test_what_they_need():
    needs = BYOL(momentum=0.9).needs
    assert needs.target == Target((0, 1), 0.9, "cosine")
    assert needs.predictor == "byol" and needs.trained_views is None
    assert BYOL(symmetric=False).needs.target.views == (1,)
    assert BYOL(symmetric=False).needs.trained_views == 1
    assert SimSiam().needs.predictor == "simsiam" and SimSiam().needs.target is None


@pytest.mark.parametrize("momentum", [-0.1, 1.1, math.nan])
def test_a_momentum_is_a_share(momentum):
    with pytest.raises(UsageError, match=r"byol: momentum is .*\n.*0 to 1"):
        BYOL(momentum=momentum)


def test_what_is_missing_is_named():
    z = views()
    with pytest.raises(InputError, match=r"simsiam: .*one prediction for each view"):
        SimSiam()(ViewBatch(h=(), z=z))
    with pytest.raises(InputError, match=r"found: 1 for 2"):
        SimSiam()(ViewBatch(h=(), z=z, predictions=z[:1]))
    with pytest.raises(InputError, match=r"byol: too few views in targets\n.*least 2"):
        BYOL()(ViewBatch(h=(), z=z, predictions=z, targets=z[:1]))
    with pytest.raises(InputError, match=r"simsiam: too few views in z\n.*least 2"):
        SimSiam()(ViewBatch(h=(), z=z[:1], predictions=z[:1]))
