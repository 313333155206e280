"""VICReg and Barlow Twins: by hand, by loops, by the sources' code, by calculus."""

import math

import pytest
import torch
from torch import nn

from repscope._checking import InputError, UsageError
from repscope.objectives.batch import ViewBatch
from repscope.objectives.redundancy import BarlowTwins, VICReg

BOTH = [VICReg, BarlowTwins]
OPTIONS = [
    VICReg(),
    VICReg(variance_average=False),
    VICReg(invariance_reduction="sum"),
    VICReg(invariance_weight=3.0, variance_weight=7.0, covariance_weight=2.0),
    BarlowTwins(),
    BarlowTwins(off_diagonal_weight=0.3),
    BarlowTwins(center=False),
    BarlowTwins(joint_norm=True),
]
# Four rows, mean 0, variance 1 (population), no covariance.
WHITE = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])


def views(n=7, m=4, *, count=2, seed=0, dtype=torch.float64):
    """Views that are correlated with each other and across dimensions."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(n, m, generator=generator, dtype=torch.float64)
    noise = torch.randn(count, n, m, generator=generator, dtype=torch.float64)
    mixing = torch.randn(m, m, generator=generator, dtype=torch.float64)
    return tuple(((shared + 0.4 * noise) @ mixing / 3 + 0.2).to(dtype))


def output(objective, *z):
    return objective(ViewBatch(h=(), z=z))


def loss(objective, *z):
    return float(output(objective, *z).total)


def test_vicreg_by_hand():
    first = torch.tensor([[0.0, 0.0], [2.0, 2.0]])
    second = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    found = output(VICReg(), first, second)
    assert float(found.parts["similarity"]) == 1  # one difference of 2 among four
    # Variances 2, 2 and 2, 0: only the last is below gamma, by 1 - sqrt(1e-4).
    assert float(found.parts["variance"]) == pytest.approx(0.99 / 4)
    assert float(found.parts["covariance"]) == 4  # 2² + 2², over two dimensions
    assert float(found.invariance) == 25
    assert float(found.regularization) == pytest.approx(25 * 0.99 / 4 + 4)
    # Deviations sqrt 2, sqrt 2, sqrt 2 and 0.
    assert float(found.stats["mean_std"]) == pytest.approx(3 * math.sqrt(2) / 4)


def test_vicreg_of_constant_projections_is_the_golden_value():
    still = torch.full((5, 3), 7.0)
    printed = output(VICReg(variance_average=False), still, still)
    assert float(printed.parts["variance"]) == pytest.approx(2 * 0.99)
    assert loss(VICReg(), still, still) == pytest.approx(25 * 0.99)


def test_barlow_twins_by_hand():
    first = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    same = output(BarlowTwins(eps=1e-12), first, first)  # C is 1 everywhere
    assert float(same.invariance) == pytest.approx(0, abs=1e-9)
    assert float(same.regularization) == pytest.approx(0.0051 * 2)
    opposite = output(BarlowTwins(eps=1e-12), first, -first)  # C is -1 everywhere
    assert float(opposite.invariance) == pytest.approx(2 * 2**2)
    assert float(opposite.parts["off_diagonal"]) == pytest.approx(2)
    assert float(opposite.stats["mean_correlation"]) == pytest.approx(-1)


def column(view, j):
    return [row[j] for row in view.tolist()]


def covariance(left, right, ddof):
    n = len(left)
    mean_left, mean_right = sum(left) / n, sum(right) / n
    products = [
        (a - mean_left) * (b - mean_right) for a, b in zip(left, right, strict=True)
    ]
    return sum(products) / (n - ddof)


def vicreg_loops(first, second):
    """Bardes et al. 2022, eq. 1-6, one term after the other; (s, v + v', c + c')."""
    n, m = first.shape
    rows = zip(first.tolist(), second.tolist(), strict=True)
    squared = [math.dist(a, b) ** 2 for a, b in rows]
    variance = covariances = 0.0
    for view in (first, second):
        columns = [column(view, j) for j in range(m)]
        for i in range(m):
            spread = math.sqrt(covariance(columns[i], columns[i], 1) + 1e-4)
            variance += max(0.0, 1 - spread) / m
            others = [columns[j] for j in range(m) if j != i]
            covariances += sum(covariance(columns[i], o, 1) ** 2 for o in others) / m
    return sum(squared) / n, variance, covariances


def test_vicreg_as_the_papers_sums_term_by_term():
    first, second = views()
    s, v, c = vicreg_loops(first, second)
    printed = VICReg(variance_average=False, invariance_reduction="sum")
    found = loss(printed, first, second)
    assert found == pytest.approx(25 * s + 25 * v + c, rel=1e-12)
    found = loss(VICReg(), first, second)
    assert found == pytest.approx(25 * s / 4 + 25 * v / 2 + c, rel=1e-12)
    assert 0 < v < 2  # the hinge is at work


def test_vicreg_as_the_authors_code_computes_it():
    """facebookresearch/vicreg, main_vicreg.py, forward of the class VICReg."""
    x, y = views(n=12, m=5)
    repr_loss = nn.functional.mse_loss(x, y)
    std_x, std_y = (torch.sqrt(one.var(dim=0) + 0.0001) for one in (x, y))
    std_loss = torch.relu(1 - std_x).mean() / 2 + torch.relu(1 - std_y).mean() / 2
    off = ~torch.eye(5, dtype=torch.bool)
    cov_loss = sum(torch.cov(one.T)[off].pow(2).sum() / 5 for one in (x, y))
    expected = 25 * repr_loss + 25 * std_loss + cov_loss
    found = output(VICReg(), x, y)
    assert float(found.total) == pytest.approx(float(expected), rel=1e-12)
    assert float(found.invariance) == pytest.approx(25 * float(repr_loss))


def barlow_loops(first, second, eps):
    """Zbontar et al. 2021, eq. 1-2: sums on and off the diagonal."""
    n, m = first.shape
    on = off = 0.0
    for i in range(m):
        for j in range(m):
            left, right = column(first, i), column(second, j)
            scale = (covariance(left, left, 0) + eps) * (
                covariance(right, right, 0) + eps
            )
            correlation = covariance(left, right, 0) / math.sqrt(scale)
            if i == j:
                on += (1 - correlation) ** 2
            else:
                off += correlation**2
    return on, off


def test_barlow_twins_as_the_papers_sums_term_by_term():
    first, second = views()
    on, off = barlow_loops(first, second, 1e-5)
    found = output(BarlowTwins(), first, second)
    assert float(found.invariance) == pytest.approx(on, rel=1e-12)
    assert float(found.regularization) == pytest.approx(0.0051 * off, rel=1e-12)


def test_barlow_twins_as_the_authors_code_computes_it():
    """facebookresearch/barlowtwins at 046eec3, main.py: batch normalisation."""
    first, second = views(n=12, m=5)
    normalise = nn.BatchNorm1d(5, affine=False, dtype=torch.float64)
    c = normalise(first).T @ normalise(second) / 12
    off = ~torch.eye(5, dtype=torch.bool)
    expected = (c.diagonal() - 1).pow(2).sum() + 0.0051 * c[off].pow(2).sum()
    found = loss(BarlowTwins(), first, second)
    assert found == pytest.approx(float(expected), rel=1e-12)


def test_barlow_twins_without_centring_is_the_cosine_over_the_batch():
    """Agrawal et al. 2022 as printed: no mean is taken off."""
    first, second = views()
    on = off = 0.0
    for i in range(4):
        for j in range(4):
            left, right = column(first, i), column(second, j)
            dot = sum(a * b for a, b in zip(left, right, strict=True))
            cosine = dot / (math.hypot(*left) * math.hypot(*right))
            on, off = (on + (1 - cosine) ** 2, off) if i == j else (on, off + cosine**2)
    found = output(BarlowTwins(center=False, eps=1e-14), first, second)
    assert float(found.parts["on_diagonal"]) == pytest.approx(on, rel=1e-9)
    assert float(found.parts["off_diagonal"]) == pytest.approx(off, rel=1e-9)
    # A shift is seen, as it is not by the centred loss.
    assert loss(BarlowTwins(center=False), first + 5, second) != pytest.approx(
        loss(BarlowTwins(center=False), first, second), rel=0.01
    )


def test_barlow_twins_with_joint_statistics_is_the_code_of_alpha_req():
    """kumarkrishna/fastssl at 96dfa37, barlow_twins.py: rows of length 1, one std."""
    first, second = views()
    z = nn.functional.normalize(torch.cat([first, second]), dim=1)
    first_norm, second_norm = torch.chunk((z - z.mean(0)) / z.std(0), 2)
    c = first_norm.T @ second_norm / len(first)
    off = ~torch.eye(4, dtype=torch.bool)
    expected = (c.diagonal() - 1).pow(2).sum() + 0.0051 * c[off].pow(2).sum()
    found = loss(BarlowTwins(joint_norm=True, eps=1e-14), first, second)
    assert found == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize("objective", OPTIONS, ids=repr)
def test_gradient_is_that_of_finite_differences(objective):
    z = tuple(view.requires_grad_() for view in views(n=5, m=3))
    for part in ("total", "invariance", "regularization"):
        assert torch.autograd.gradcheck(
            lambda *inputs: getattr(output(objective, *inputs), part),  # noqa: B023
            z,
            rtol=1e-4,
            atol=1e-6,
        )


@pytest.mark.parametrize("objective", OPTIONS, ids=repr)
def test_total_is_the_sum_of_its_parts(objective):
    found = output(objective, *views(32, 8, dtype=torch.float32))
    together = float(found.invariance) + float(found.regularization)
    assert together == pytest.approx(float(found.total), rel=1e-6)


@pytest.mark.parametrize("objective", OPTIONS, ids=repr)
def test_order_of_images_and_of_views_does_not_matter(objective):
    first, second = views()
    expected = pytest.approx(loss(objective, first, second), rel=1e-12)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    assert loss(objective, first[order], second[order]) == expected
    assert loss(objective, second, first) == expected
    assert loss(objective, first, second.roll(1, dims=0)) != expected


@pytest.mark.parametrize("objective", OPTIONS, ids=repr)
def test_more_views_are_the_mean_over_ordered_pairs(objective):
    z = views(count=3)
    pairs = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
    outputs = [output(objective, z[a], z[b]).scalars() for a, b in pairs]
    found = output(objective, *z).scalars()
    for name, value in found.items():
        mean = sum(float(one[name]) for one in outputs) / len(pairs)
        assert float(value) == pytest.approx(mean, rel=1e-9), name


def test_vicreg_is_zero_at_perfect_white_identical_views():
    assert loss(VICReg(), 2 * WHITE, 2 * WHITE) == 0
    # Deviations below gamma, covariance and disagreement each cost something alone.
    small = output(VICReg(), WHITE / 2, WHITE / 2).parts
    assert float(small["variance"]) > 0
    assert float(small["similarity"]) == float(small["covariance"]) == 0
    copied = 2 * WHITE[:, [0, 0]]
    assert float(output(VICReg(), copied, copied).parts["covariance"]) > 0
    assert float(output(VICReg(), 2 * WHITE, -2 * WHITE).parts["similarity"]) > 0


def test_vicreg_conventions_differ_by_two_and_by_the_dimensions():
    z = views(n=9, m=4)
    ours = output(VICReg(), *z)
    printed = output(VICReg(variance_average=False, invariance_reduction="sum"), *z)
    halves, whole = ours.parts["variance"], printed.parts["variance"]
    assert float(whole) == pytest.approx(2 * float(halves)) and float(halves) > 0
    assert float(printed.invariance) == pytest.approx(4 * float(ours.invariance))


def test_vicreg_sees_no_common_shift_but_the_scale():
    first, second = views()
    expected = loss(VICReg(), first, second)
    assert loss(VICReg(), first + 5, second + 5) == pytest.approx(expected)
    assert loss(VICReg(), first + 5, second) > expected + 100
    assert loss(VICReg(), 2 * first, 2 * second) != pytest.approx(expected, rel=0.01)


def test_barlow_twins_is_zero_at_the_identity_and_blind_to_affine_maps():
    # 1 - C_ii is 1e-5 there, eps / (1 + eps): its square stays.
    assert loss(BarlowTwins(), WHITE, WHITE) == pytest.approx(0, abs=1e-8)
    first, second = views(n=32)
    slopes = torch.tensor([2.0, 0.5, -3.0, 10.0], dtype=torch.float64)
    expected = loss(BarlowTwins(eps=1e-14), first, first)
    found = loss(BarlowTwins(eps=1e-14), first, 2 * first + 4)
    assert found == pytest.approx(expected, rel=1e-6)
    expected = loss(BarlowTwins(eps=1e-14), first, second)
    found = loss(BarlowTwins(eps=1e-14), first * slopes, second * slopes - 4)
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("objective", OPTIONS, ids=repr)
def test_collapsed_projections_have_finite_gradients(objective):
    for value in (0.0, 3.0):
        still = torch.full((6, 4), value, requires_grad=True)
        output(objective, still, still).total.backward()
        assert torch.isfinite(still.grad).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("objective", BOTH)
def test_half_precision_is_computed_in_float32(objective, dtype):
    # Squares of 300 overflow float16.
    rounded = tuple((300 * view).to(dtype).requires_grad_() for view in views(64, 8))
    exact = [view.detach().double() for view in rounded]
    found = output(objective(), *rounded).total
    assert found.dtype == torch.float32
    expected = loss(objective(), *exact)
    assert float(found.detach()) == pytest.approx(expected, rel=1e-4)
    found.backward()
    assert rounded[0].grad.dtype == dtype


@pytest.mark.parametrize("objective", BOTH)
def test_autocast_does_not_lower_the_precision(objective):
    z = views(64, 8, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss(objective(), *z)
    assert found == loss(objective(), *z)
    assert output(objective(), *views()).total.dtype == torch.float64


@pytest.mark.parametrize("objective", BOTH)
def test_a_batch_of_one_image_has_no_variance(objective):
    with pytest.raises(InputError, match="a batch of 1 has no other image"):
        output(objective(), *views(n=1))


@pytest.mark.parametrize(
    ("objective", "options", "message"),
    [
        (VICReg, {"variance_weight": -1.0}, r"variance_weight is -1.0\n.*from 0"),
        (VICReg, {"eps": 0.0}, r"eps is 0.0\n.*above 0"),
        (VICReg, {"gamma": math.inf}, "gamma is inf"),
        (BarlowTwins, {"eps": 0.0}, r"eps is 0.0\n.*above 0"),
        (BarlowTwins, {"off_diagonal_weight": math.nan}, "off_diagonal_weight is nan"),
    ],
)
def test_weights_outside_of_their_range_are_refused(objective, options, message):
    with pytest.raises(UsageError, match=message):
        objective(**options)


# With few rows the products of rows are summed, and not those of dimensions.
FEW = {"n": 5, "m": 12}


def test_few_rows_have_the_papers_sums_term_by_term():
    first, second = views(**FEW)
    s, v, c = vicreg_loops(first, second)
    found = output(VICReg(), first, second)
    assert float(found.total) == pytest.approx(25 * s / 12 + 25 * v / 2 + c, rel=1e-12)
    assert float(found.parts["covariance"]) == pytest.approx(c, rel=1e-12)
    on, off = barlow_loops(first, second, 1e-5)
    found = output(BarlowTwins(), first, second)
    assert float(found.parts["on_diagonal"]) == pytest.approx(on, rel=1e-12)
    assert float(found.parts["off_diagonal"]) == pytest.approx(off, rel=1e-12)


@pytest.mark.parametrize("sizes", [{"n": 4, "m": 6}, {"n": 4, "m": 3}], ids=repr)
@pytest.mark.parametrize("objective", [VICReg(), BarlowTwins()], ids=repr)
def test_first_and_second_derivatives_are_those_of_finite_differences(objective, sizes):
    z = tuple(view.requires_grad_() for view in views(**sizes))

    def regularization(*inputs):
        return output(objective, *inputs).regularization

    assert torch.autograd.gradcheck(regularization, z, rtol=1e-4, atol=1e-6)
    assert torch.autograd.gradgradcheck(regularization, z, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("width", "tolerance"), [(1, 1e-6), (10, 1e-6), (100, 1e-4)])
def test_few_rows_lose_little_precision_where_one_dimension_is_wide(width, tolerance):
    """The squares of all covariances are sums from which those of variances go."""
    wide = torch.where(torch.arange(512) == 3, float(width), 1.0)
    z = [view * wide for view in views(64, 512, dtype=torch.float32)]
    expected = loss(VICReg(), *[view.double() for view in z])
    assert loss(VICReg(), *z) == pytest.approx(expected, rel=tolerance)
    expected = loss(BarlowTwins(), *[view.double() for view in z])
    assert loss(BarlowTwins(), *z) == pytest.approx(expected, rel=1e-5)


def test_dimensions_without_covariance_have_none_up_to_rounding():
    # One row each way along three of twelve dimensions; nine are constant.
    rows = torch.zeros(6, 12)
    rows[:3, :3], rows[3:, :3] = torch.eye(3), -torch.eye(3)
    found = output(VICReg(), rows, rows).parts["covariance"]
    assert float(found) == pytest.approx(0, abs=1e-7)
    found = output(BarlowTwins(), rows, rows).parts["off_diagonal"]
    assert float(found) == pytest.approx(0, abs=1e-6)


def test_barlow_twins_of_few_rows_is_blind_to_affine_maps():
    first, _ = views(**FEW)
    expected = loss(BarlowTwins(eps=1e-14), first, first)
    found = loss(BarlowTwins(eps=1e-14), first, 2 * first + 4)
    assert found == pytest.approx(expected, rel=1e-6)


def test_a_row_without_direction_gets_no_gradient_from_joint_norm():
    first, second = views()
    first[0] = 0
    first.requires_grad_()
    output(BarlowTwins(joint_norm=True), first, second).total.backward()
    assert first.grad[0].abs().max() == 0
    assert first.grad[1:].norm() > 0
