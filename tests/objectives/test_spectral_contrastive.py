"""The spectral loss: by hand, by loops, by the closed form, by calculus."""

import math

import pytest
import torch

from repscope._checking import InputError
from repscope.objectives.batch import ViewBatch
from repscope.objectives.spectral_contrastive import SpectralContrastive

OPTIONS = [
    SpectralContrastive(),
    SpectralContrastive(include_self=True),
    SpectralContrastive(positives="labels"),
    SpectralContrastive(positives="labels", include_self=True),
]
LABELS = torch.tensor([2, 0, 2, 1, 0, 2])


def views(n=6, m=4, *, count=2, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(count, n, m, generator=generator, dtype=torch.float64)
    return tuple(drawn.to(dtype))


def output(objective, z, labels=LABELS):
    return objective(ViewBatch(h=(), z=z, labels=labels))


def loss(objective, z, labels=LABELS):
    return float(output(objective, z, labels).total.detach())


def test_two_images_by_hand():
    first = torch.tensor([[1.0, 0.0], [1.0, 2.0]])
    second = torch.tensor([[3.0, 1.0], [0.0, 1.0]])
    # Products: 3, 0 from the first row, 5, 2 from the second.
    found = output(SpectralContrastive(), (first, second), None)
    assert float(found.invariance) == -2 * (3 + 2) / 2
    assert float(found.regularization) == (0 + 25) / 2
    every = output(SpectralContrastive(include_self=True), (first, second), None)
    assert float(every.regularization) == (9 + 0 + 25 + 4) / 4
    one_class = SpectralContrastive(positives="labels")
    found = output(one_class, (first, second), torch.tensor([4, 4]))
    assert float(found.invariance) == -2 * (3 + 0 + 5 + 2) / 4
    assert float(found.parts["positive"]) == 2.5
    assert float(found.parts["negative"]) == 12.5
    assert float(found.stats["mean_square_length"]) == (1 + 5 + 10 + 1) / 4


def loops(first, second, labels, objective):
    """HaoChen et al. 2021, section 3.2, as sums over pairs, in Python's own floats."""
    first, second = first.tolist(), second.tolist()
    n = len(first)

    def product(i, k):
        return sum(a * b for a, b in zip(first[i], second[k], strict=True))

    positive, negatives = 0.0, []
    for i in range(n):
        alike = [i]
        if objective.positives == "labels":
            alike = [k for k in range(n) if labels[k] == labels[i]]
        positive += sum(product(i, k) for k in alike) / len(alike) / n
        negatives += [
            product(i, k) ** 2 for k in range(n) if objective.include_self or k != i
        ]
    return -2 * positive + sum(negatives) / len(negatives)


@pytest.mark.parametrize("objective", OPTIONS, ids=repr)
def test_as_the_papers_sums_term_by_term(objective):
    for seed in range(3):
        z = views(seed=seed)
        expected = loops(*z, LABELS.tolist(), objective)
        assert loss(objective, z) == pytest.approx(expected, rel=1e-12)


def test_as_the_authors_code_computes_it_for_short_projections():
    """jhaochenz96/spectral_contrastive_learning at ee431bd, spectral.py, lines 8-17.

    The second term is the mean square of z1 z2^T off its diagonal. What is longer than
    sqrt(mu) is shortened there; these are not.
    """
    z1, z2 = (0.1 * view for view in views())
    squares = torch.einsum("im,km->ik", z1, z2).square()
    off = squares[~torch.eye(6, dtype=torch.bool)].mean()
    expected = -2 * torch.einsum("im,im->i", z1, z2).mean() + off
    found = loss(SpectralContrastive(), (z1, z2))
    assert found == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("positives", ["views", "labels"])
def test_least_value_and_least_point_are_those_of_the_closed_form(positives):
    """L(W) = -2 tr(W M+ W^T) + |W M W^T|², least at -sum of e² of M^-½ M+ M^-½."""
    (x,) = views(n=12, m=3, count=1, seed=5)
    labels = torch.arange(12) % 3
    centres = torch.stack([x[labels == label].mean(dim=0) for label in labels])
    second = x.T @ x / 12
    alike = second if positives == "views" else centres.T @ centres / 12
    values, vectors = torch.linalg.eigh(second)
    root = vectors @ torch.diag(values**-0.5) @ vectors.T
    e, q = torch.linalg.eigh(root @ alike @ root)
    best = torch.diag(e[1:] ** 0.5) @ q[:, 1:].T @ root  # the two largest of three
    objective = SpectralContrastive(positives=positives, include_self=True)

    def of(weights):
        return loss(objective, (x @ weights.T, x @ weights.T), labels)

    expected = -float((e[1:] ** 2).sum())
    assert of(best) == pytest.approx(expected, rel=1e-9)
    if positives == "views":
        assert expected == pytest.approx(-2)  # -m
    (steps,) = views(n=20, m=6, count=1)
    assert min(of(best + 0.1 * step.view(2, 3)) for step in steps) > expected
    (weights,) = views(n=2, m=3, count=1)
    closed = -2 * torch.trace(weights @ alike @ weights.T)
    closed = closed + (weights @ second @ weights.T).square().sum()
    assert of(weights) == pytest.approx(float(closed), rel=1e-12)


@pytest.mark.parametrize("objective", OPTIONS, ids=repr)
def test_gradient_is_that_of_finite_differences(objective):
    z = tuple(view.requires_grad_() for view in views(n=4, m=3))
    labels = torch.tensor([0, 1, 0, -1])
    for part in ("total", "invariance", "regularization"):
        assert torch.autograd.gradcheck(
            lambda *inputs: getattr(output(objective, inputs, labels), part),  # noqa: B023
            z,
            rtol=1e-4,
            atol=1e-6,
        )


@pytest.mark.parametrize("objective", OPTIONS, ids=repr)
def test_order_of_images_order_of_views_and_rotations_do_not_matter(objective):
    first, second = views()
    expected = pytest.approx(loss(objective, (first, second)), rel=1e-12)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(1))
    assert loss(objective, (first[order], second[order]), LABELS[order]) == expected
    assert loss(objective, (second, first)) == expected
    rotation = torch.linalg.qr(views(4, 4, count=1)[0]).Q
    assert loss(objective, (first @ rotation, second @ rotation)) == expected
    # It is no cosine: lengths count.
    assert loss(objective, (2 * first, 2 * second)) != expected
    assert loss(objective, (first, second.roll(1, dims=0))) != expected


@pytest.mark.parametrize("objective", OPTIONS, ids=repr)
def test_more_views_are_the_mean_over_ordered_pairs(objective):
    z = views(count=3)
    pairs = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
    outputs = [output(objective, (z[a], z[b])).scalars() for a, b in pairs]
    for name, value in output(objective, z).scalars().items():
        mean = sum(float(one[name]) for one in outputs) / len(pairs)
        assert float(value) == pytest.approx(mean, rel=1e-9), name


def test_labels_of_single_images_are_views():
    alone = SpectralContrastive(positives="labels")
    for labels in (torch.arange(6), torch.full((6,), -1)):
        found = loss(alone, views(), labels)
        assert found == pytest.approx(loss(SpectralContrastive(), views()), rel=1e-12)


@pytest.mark.parametrize("objective", OPTIONS, ids=repr)
def test_total_is_the_sum_of_its_parts(objective):
    z = views(32, 8, dtype=torch.float32)
    found = output(objective, z, torch.arange(32) % 5)
    together = float(found.invariance) + float(found.regularization)
    assert together == pytest.approx(float(found.total), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("objective", OPTIONS, ids=repr)
def test_half_precision_is_computed_in_float32(objective, dtype):
    # Squares of 300 overflow float16.
    rounded = tuple((30 * x).to(dtype).requires_grad_() for x in views(16, 8))
    labels = torch.arange(16) % 3
    found = output(objective, rounded, labels).total
    assert found.dtype == torch.float32
    expected = loss(objective, tuple(x.detach().double() for x in rounded), labels)
    assert float(found.detach()) == pytest.approx(expected, rel=1e-4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert loss(objective, rounded, labels) == float(found.detach())


@pytest.mark.parametrize("objective", OPTIONS, ids=repr)
def test_projections_of_zero_lose_nothing_and_have_finite_gradients(objective):
    still = torch.zeros(6, 4, requires_grad=True)
    found = output(objective, (still, still))
    found.total.backward()
    assert float(found.total.detach()) == 0
    assert still.grad.abs().max() == 0


def test_a_batch_no_larger_than_its_dimensions_has_no_least_value():
    view = torch.eye(3)
    assert loss(SpectralContrastive(), (9 * view, 9 * view), None) == -162
    bounded = SpectralContrastive(include_self=True)
    assert loss(bounded, (9 * view, 9 * view), None) > 0
    root = math.sqrt(3) * view
    assert loss(bounded, (root, root), None) == pytest.approx(-3)


def test_views_are_needed_and_labels_where_they_are_asked_for():
    assert SpectralContrastive(positives="labels").needs.labels
    assert not SpectralContrastive().needs.labels
    with pytest.raises(InputError, match="spectral: there are no labels"):
        loss(SpectralContrastive(positives="labels"), views(), None)
    with pytest.raises(InputError, match="spectral: too few views"):
        loss(SpectralContrastive(), views(count=1))
