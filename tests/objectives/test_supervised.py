"""Cross-entropy: by hand, by torch, by loops, by calculus."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from repscope._checking import InputError, UsageError
from repscope.objectives.batch import ViewBatch
from repscope.objectives.supervised import CrossEntropy

LABELS = torch.tensor([2, 0, 1, 1, 2, 0])


def drawn(n=6, c=3, *, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, c, generator=generator, dtype=torch.float64).to(dtype)


def output(scores, labels, smoothing=0.0):
    z = (torch.zeros(len(labels), 2),)
    batch = ViewBatch(h=(), z=z, predictions=(scores,), labels=labels)
    return CrossEntropy(label_smoothing=smoothing)(batch)


def loss(scores, labels=LABELS, smoothing=0.0):
    return float(output(scores, labels, smoothing).total.detach())


def test_two_rows_by_hand():
    scores = torch.tensor([[math.log(3), 0.0], [0.0, 0.0]])
    found = output(scores, torch.tensor([0, 1]))
    # Probabilities 3/4 and 1/2 of the labels; 4 and 2 are the sums.
    assert float(found.total) == pytest.approx(-math.log(3 / 8) / 2)
    assert float(found.invariance) == pytest.approx(-math.log(3) / 2)
    assert float(found.regularization) == pytest.approx(math.log(8) / 2)
    assert float(found.stats["accuracy"]) == 0.5  # the first of equals is taken


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_it_is_torchs_cross_entropy(smoothing):
    scores = drawn()
    expected = float(cross_entropy(scores, LABELS, label_smoothing=smoothing))
    assert loss(scores, smoothing=smoothing) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_it_is_the_papers_sum_term_by_term(smoothing):
    scores = drawn()
    total = 0.0
    for row, label in zip(scores.tolist(), LABELS.tolist(), strict=True):
        partition = sum(math.exp(one) for one in row)
        for c, score in enumerate(row):
            weight = (1 - smoothing) * (c == label) + smoothing / len(row)
            total -= weight * math.log(math.exp(score) / partition)
    assert loss(scores, smoothing=smoothing) == pytest.approx(total / 6, rel=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_gradient_is_that_of_finite_differences(smoothing):
    scores = drawn().requires_grad_()
    for part in ("total", "invariance", "regularization"):
        assert torch.autograd.gradcheck(
            lambda x: getattr(output(x, LABELS, smoothing), part),  # noqa: B023
            (scores,),
            rtol=1e-4,
        )


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_total_is_the_sum_of_its_parts(smoothing):
    found = output(drawn(dtype=torch.float32), LABELS, smoothing)
    together = float(found.invariance) + float(found.regularization)
    assert together == pytest.approx(float(found.total), rel=1e-6)


def test_order_of_images_names_of_classes_and_a_shift_do_not_matter():
    scores = drawn()
    expected = pytest.approx(loss(scores), rel=1e-12)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    assert loss(scores[order], LABELS[order]) == expected
    renamed = torch.tensor([1, 2, 0])  # class c is now renamed[c]
    assert loss(scores[:, renamed.argsort()], renamed[LABELS]) == expected
    assert loss(scores + 7) == expected
    assert loss(scores, LABELS.roll(1)) != expected


def test_large_scores_do_not_overflow():
    scores = torch.tensor([[9e4, 0.0], [0.0, 9e4]], requires_grad=True)
    found = output(scores, torch.tensor([1, 1]))
    found.total.backward()
    assert float(found.total.detach()) == 4.5e4
    assert scores.grad.isfinite().all()


def test_scores_of_nothing_lose_the_logarithm_of_the_classes():
    found = output(torch.zeros(6, 3), LABELS)
    assert float(found.total) == pytest.approx(math.log(3))
    assert float(found.stats["accuracy"]) == pytest.approx(1 / 3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    scores = (10 * drawn()).to(dtype).requires_grad_()
    expected = loss(scores.detach().double())
    found = output(scores, LABELS).total
    assert found.dtype == torch.float32
    assert float(found.detach()) == pytest.approx(expected, rel=1e-6)
    found.backward()
    assert scores.grad.dtype == dtype


def test_several_views_are_averaged():
    views = (drawn(), drawn(seed=1))
    batch = ViewBatch(h=(), z=views, predictions=views, labels=LABELS)
    expected = (loss(views[0]) + loss(views[1])) / 2
    assert float(CrossEntropy()(batch).total) == pytest.approx(expected)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, math.nan])
def test_a_smoothing_is_below_one(smoothing):
    with pytest.raises(UsageError, match=r"label_smoothing is .*\n.*0 to below 1"):
        CrossEntropy(label_smoothing=smoothing)


def test_what_is_missing_is_named():
    scores = drawn()
    with pytest.raises(InputError, match="cross_entropy: there are no labels"):
        CrossEntropy()(ViewBatch(h=(), z=(scores,), predictions=(scores,)))
    with pytest.raises(InputError, match="a predictor such as classes"):
        CrossEntropy()(ViewBatch(h=(), z=(scores,), labels=LABELS))
    with pytest.raises(InputError, match=r"whole numbers.*\n.*float64, 1-d"):
        output(scores, LABELS.double())


def test_what_it_needs():
    needs = CrossEntropy().needs
    assert needs.labels and needs.predictor == "classes"
    assert (needs.least_views, needs.trained_views, needs.target) == (1, 1, None)
