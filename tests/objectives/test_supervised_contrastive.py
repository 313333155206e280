"""SupCon and the joint loss: by hand, by loops, by probabilities, by calculus."""

import math

import pytest
import torch
from torch.nn.functional import cosine_similarity, normalize

from repscope._checking import InputError, UsageError
from repscope.objectives.batch import ViewBatch
from repscope.objectives.contrastive import NTXent
from repscope.objectives.supervised_contrastive import JointLoss, SupCon

VARIANTS = ["out", "in"]
OBJECTIVES = [
    SupCon(temperature=0.5),
    SupCon(temperature=0.5, variant="in"),
    JointLoss(beta=0.3, temperature=0.5),
]
LABELS = torch.tensor([2, 0, 2, 1, 0, 2])
E = math.e


def views(n=6, m=4, *, count=2, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(count, n, m, generator=generator, dtype=torch.float64)
    return tuple(drawn.to(dtype))


def output(objective, z, labels=LABELS):
    return objective(ViewBatch(h=(), z=z, labels=labels))


def loss(objective, z, labels=LABELS):
    return float(output(objective, z, labels).total.detach())


@pytest.mark.parametrize(
    ("variant", "invariance"),
    # Each anchor has three positives, one of cosine 1 and two of cosine 0.
    [("out", -1 / 3), ("in", -math.log((E + 2) / 3))],
)
def test_two_orthogonal_images_of_one_class_by_hand(variant, invariance):
    view, labels = torch.eye(2), torch.tensor([7, 7])
    found = output(SupCon(temperature=1.0, variant=variant), (view, view), labels)
    assert float(found.invariance) == pytest.approx(invariance, abs=1e-6)
    assert float(found.regularization) == pytest.approx(math.log(E + 2))
    assert float(found.parts["positive"]) == pytest.approx(-invariance)


def test_two_classes_by_hand():
    # Four images in two directions, the classes as well: cosine 1 with the three
    # positives, 0 with the four others.
    view = torch.eye(2)[[0, 0, 1, 1]]
    labels = torch.tensor([0, 0, 1, 1])
    for variant in VARIANTS:
        objective = SupCon(temperature=1.0, variant=variant)
        expected = math.log(3 * E + 4) - 1
        assert loss(objective, (view, view), labels) == pytest.approx(expected)
        crossed = loss(objective, (view, view), torch.tensor([0, 1, 1, 0]))
        assert crossed > expected + 0.3


def loops(z, labels, temperature, variant):
    """Khosla et al. 2020, eq. 2 and 3, one term after the other, in Python's floats."""
    anchors = [row for view in z for row in view.tolist()]
    classes = labels.tolist() * len(z)

    def score(i, k):
        dot = sum(a * b for a, b in zip(anchors[i], anchors[k], strict=True))
        return dot / math.hypot(*anchors[i]) / math.hypot(*anchors[k]) / temperature

    total = 0.0
    for i in range(len(anchors)):
        others = [k for k in range(len(anchors)) if k != i]
        positives = [k for k in others if classes[k] == classes[i]]
        if not positives:
            continue
        below = sum(math.exp(score(i, k)) for k in others)
        chances = [math.exp(score(i, k)) / below for k in positives]
        if variant == "out":
            total -= sum(math.log(chance) for chance in chances) / len(positives)
        else:
            total -= math.log(sum(chances) / len(positives))
    return total / len(anchors)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("temperature", [0.1, 2.0])
def test_as_the_papers_sums_term_by_term(variant, count, temperature):
    z = views(count=count)
    expected = loops(z, LABELS, temperature, variant)
    found = loss(SupCon(temperature=temperature, variant=variant), z)
    assert found == pytest.approx(expected, rel=1e-12)


def probabilities(z, temperature):
    """Return the softmax over others of each anchor, and its mask of positives."""
    anchors = normalize(torch.cat(z), dim=1)
    scores = anchors @ anchors.T / temperature
    own = torch.eye(len(anchors), dtype=torch.bool)
    classes = LABELS.repeat(len(z))
    positives = (classes == classes[:, None]) & ~own
    return torch.softmax(scores.masked_fill(own, -torch.inf), dim=1), positives


def test_out_as_the_authors_code_weighs_positives():
    """HobbitLong/SupContrast at 66a8fe5, losses.py, lines 57-104.

    Anchors are all views, one after the other; the log-probabilities of the positives
    of an anchor are averaged, then the anchors.
    """
    z = views(count=3)
    chances, positives = probabilities(z, 0.07)
    of_anchors = [
        torch.log(row[mask]).mean()
        for row, mask in zip(chances, positives, strict=True)
    ]
    expected = -float(torch.stack(of_anchors).mean())
    assert loss(SupCon(), z) == pytest.approx(expected, rel=1e-12)


def test_in_takes_the_logarithm_of_the_mean_probability():
    z = views(count=2)
    chances, positives = probabilities(z, 0.3)
    means = (chances * positives).sum(dim=1) / positives.sum(dim=1)
    found = loss(SupCon(temperature=0.3, variant="in"), z)
    assert found == pytest.approx(-float(means.log().mean()), rel=1e-12)
    # Jensen: the logarithm of a mean is above the mean of logarithms.
    assert found < loss(SupCon(temperature=0.3), z) - 0.01


@pytest.mark.parametrize("variant", VARIANTS)
def test_where_each_image_is_a_class_it_is_nt_xent(variant):
    ids = torch.tensor([5, 3, 11, 0, 8, 2])
    for seed in range(3):
        z = tuple(view.requires_grad_() for view in views(seed=seed))
        supervised = output(SupCon(temperature=0.2, variant=variant), z, ids)
        unsupervised = NTXent(temperature=0.2)(ViewBatch(h=(), z=z))
        for part in ("total", "invariance", "regularization"):
            ours, theirs = getattr(supervised, part), getattr(unsupervised, part)
            torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=0)
            gradients = [
                torch.autograd.grad(x, z, retain_graph=True) for x in (ours, theirs)
            ]
            torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_gradient_is_that_of_finite_differences(objective):
    z = tuple(view.requires_grad_() for view in views(n=3, m=2))
    labels = torch.tensor([0, 0, -1])
    for part in ("total", "invariance", "regularization"):
        assert torch.autograd.gradcheck(
            lambda *inputs: getattr(output(objective, inputs, labels), part),  # noqa: B023
            z,
            rtol=1e-4,
            atol=1e-7,
        )


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_total_is_the_sum_of_its_parts(objective, temperature):
    z = views(32, 8, dtype=torch.float32)
    found = output(objective, z, torch.arange(32) % 5)
    together = float(found.invariance) + float(found.regularization)
    assert together == pytest.approx(float(found.total), rel=1e-6)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_order_lengths_and_names_of_classes_do_not_matter(objective):
    first, second = views()
    expected = pytest.approx(loss(objective, (first, second)), rel=1e-12)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(1))
    assert loss(objective, (first[order], second[order]), LABELS[order]) == expected
    assert loss(objective, (second, first)) == expected
    lengths = torch.linspace(0.01, 100, 6, dtype=torch.float64)[:, None]
    assert loss(objective, (lengths * first, 3 * second)) == expected
    assert loss(objective, (first, second), 10 - 3 * LABELS) == expected
    assert loss(objective, (first, second), LABELS.roll(1)) != expected


@pytest.mark.parametrize("variant", VARIANTS)
def test_of_one_view_anchors_without_positives_add_nothing_and_are_counted(variant):
    z = views(count=1)
    labels = torch.tensor([0, 1, 0, 2, 0, -1])
    found = output(SupCon(variant=variant), z, labels)
    assert float(found.stats["anchors_without_positive"]) == 3
    # The other three, among all; the mean is still over six.
    alone = loops(z, torch.tensor([0, 1, 0, 2, 0, 3]), 0.07, variant)
    assert float(found.total) == pytest.approx(alone, rel=1e-12)
    none = output(SupCon(variant=variant), z, torch.arange(6))
    assert float(none.total) == 0
    assert float(none.stats["anchors_without_positive"]) == 6


@pytest.mark.parametrize("variant", VARIANTS)
def test_anchors_without_positives_still_push_as_negatives(variant):
    (z,) = views(count=1)
    z = z.requires_grad_()
    output(
        SupCon(variant=variant), (z,), torch.tensor([0, 0, 1, 2, 3, 4])
    ).total.backward()
    assert torch.isfinite(z.grad).all()
    assert z.grad.abs().amax(dim=1).min() > 0


def test_images_without_labels_have_their_own_views_as_positives():
    named = torch.tensor([0, 1, 0, 7, 8, 9])
    unnamed = torch.tensor([0, 1, 0, -1, -1, -1])
    for variant in VARIANTS:
        objective = SupCon(variant=variant)
        found, expected = (output(objective, views(), y) for y in (unnamed, named))
        assert float(found.total) == float(expected.total)
        assert float(found.stats["anchors_without_positive"]) == 0


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_collapsed_class_is_the_logarithm_of_its_positives(variant):
    z = (torch.ones(5, 3), 2 * torch.ones(5, 3))
    labels = torch.zeros(5, dtype=torch.int64)
    found = loss(SupCon(variant=variant), z, labels)
    assert found == pytest.approx(math.log(9), abs=1e-5)


@pytest.mark.parametrize(("variant", "of_negatives"), [("out", 1), ("in", 0)])
def test_random_projections_lose_the_logarithm_and_the_variance(variant, of_negatives):
    """log(2n - 1) + 1 / (2 m tau²); `in` has the second term for positives as well."""
    n, m, temperature = 512, 16, 0.5
    z, labels = views(n, m, dtype=torch.float32), torch.arange(n) % 4
    expected = math.log(2 * n - 1) + of_negatives / (2 * m * temperature**2)
    found = loss(SupCon(temperature=temperature, variant=variant), z, labels)
    # The term is .125; higher orders of 1 / (m tau²) = .25 are left out.
    assert found == pytest.approx(expected, abs=0.02)


def test_the_positive_part_is_the_mean_cosine_with_positives():
    z = views()
    anchors, classes = torch.cat(z), LABELS.repeat(2)
    cosines = cosine_similarity(anchors[:, None], anchors[None], dim=2)
    same = (classes == classes[:, None]) & ~torch.eye(12, dtype=torch.bool)
    expected = ((cosines * same).sum(dim=1) / same.sum(dim=1)).mean()
    found = output(SupCon(), z).parts["positive"]
    assert float(found) == pytest.approx(float(expected))


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_zero_rows_count_as_unlike_all_and_get_no_gradient(objective):
    first, second = views(m=3)
    first[1] = 0
    z = (first.requires_grad_(), second.requires_grad_())
    found = output(objective, z)
    found.total.backward()
    assert float(found.stats["zero_rows"]) == 1
    assert torch.isfinite(first.grad).all() and torch.isfinite(second.grad).all()
    assert first.grad[1].abs().max() == 0 and first.grad[0].abs().max() > 0
    wide = [torch.nn.functional.pad(view.detach(), (0, 1)) for view in z]
    wide[0][1, 3] = 1
    expected = loss(objective, tuple(wide))
    assert float(found.total.detach()) == pytest.approx(expected)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_all_projections_alike_is_a_loss_not_a_nan(variant, value):
    still = torch.full((6, 3), value, requires_grad=True)
    found = output(SupCon(temperature=0.01, variant=variant), (still, still))
    found.total.backward()
    assert float(found.total.detach()) == pytest.approx(math.log(11), abs=1e-4)
    assert torch.isfinite(still.grad).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_half_precision_is_computed_in_float32(objective, dtype):
    labels = torch.arange(64) % 7
    rounded = tuple(view.requires_grad_() for view in views(64, 16, dtype=dtype))
    exact = tuple(view.detach().double() for view in rounded)
    found = output(objective, rounded, labels).total
    assert found.dtype == torch.float32
    assert float(found.detach()) == pytest.approx(
        loss(objective, exact, labels), rel=1e-5
    )
    found.backward()
    assert rounded[0].grad.dtype == dtype


@pytest.mark.parametrize("variant", VARIANTS)
def test_large_scores_keep_their_precision(variant):
    objective = SupCon(temperature=0.01, variant=variant)
    single = tuple(view.requires_grad_() for view in views(dtype=torch.float32))
    expected = loss(objective, tuple(view.detach().double() for view in single))
    found = output(objective, single).total
    found.backward()
    # Scores to 100 with a relative error of 6e-8 each.
    assert float(found.detach()) == pytest.approx(expected, abs=1e-4)
    assert torch.isfinite(single[0].grad).all()


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_autocast_does_not_lower_the_precision(objective):
    z, labels = views(64, 16, dtype=torch.float32), torch.arange(64) % 7
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss(objective, z, labels)
    assert found == loss(objective, z, labels)


@pytest.mark.parametrize(
    ("beta", "part"), [(0.0, NTXent(temperature=0.2)), (1.0, SupCon(temperature=0.2))]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_joint_loss_at_its_ends_is_one_of_the_two_bit_for_bit(beta, part, dtype):
    z = tuple(view.requires_grad_() for view in views(dtype=dtype))
    joint, alone = (output(x, z) for x in (JointLoss(beta=beta, temperature=0.2), part))
    for name in ("total", "invariance", "regularization"):
        ours, theirs = getattr(joint, name), getattr(alone, name)
        assert torch.equal(ours, theirs)
    gradients = [torch.autograd.grad(x.total, z) for x in (joint, alone)]
    for ours, theirs in zip(*gradients, strict=True):
        assert torch.equal(ours, theirs)


def test_the_joint_loss_weighs_both_and_tells_both():
    z, beta = views(), 0.3
    found = output(JointLoss(beta=beta, temperature=0.2), z)
    one, other = (output(x(temperature=0.2), z) for x in (SupCon, NTXent))
    for name in ("total", "invariance", "regularization"):
        expected = beta * getattr(one, name) + (1 - beta) * getattr(other, name)
        assert float(getattr(found, name)) == pytest.approx(float(expected), rel=1e-14)
    assert float(found.parts["supervised"]) == float(one.total)
    assert float(found.parts["unsupervised"]) == float(other.total)
    assert {
        "supervised_positive",
        "unsupervised_positive",
        "supervised_log_sum_exp",
        "unsupervised_log_sum_exp",
    } <= set(found.parts)
    assert set(found.stats) == set(one.stats) | set(other.stats)


@pytest.mark.parametrize(
    ("objective", "options", "message"),
    [
        (SupCon, {"temperature": 0.0}, r"supcon: temperature is 0.0\n.*above 0"),
        (JointLoss, {"temperature": -1.0}, "joint: temperature is -1.0"),
        (JointLoss, {"beta": 1.5}, r"joint: beta is 1.5\n.*0 to 1"),
        (JointLoss, {"beta": math.nan}, "joint: beta is nan"),
    ],
)
def test_options_outside_of_their_range_are_refused(objective, options, message):
    with pytest.raises(UsageError, match=message):
        objective(**options)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_labels_are_needed(objective):
    assert objective.needs.labels
    with pytest.raises(InputError, match="there are no labels"):
        output(objective, views(), None)


def test_the_joint_loss_needs_two_views():
    with pytest.raises(InputError, match="joint: too few views in z"):
        output(JointLoss(), views(count=1))
