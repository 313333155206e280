"""NT-Xent and its variants: by hand, by loops, by the sources' code, by calculus."""

import math

import pytest
import torch
from torch.nn.functional import cosine_similarity, cross_entropy, normalize, softmax

from repscope._checking import InputError, UsageError
from repscope.objectives.batch import ViewBatch
from repscope.objectives.contrastive import NTXent

VARIANTS = ["standard", "decoupled", "cross_view", "decoupled_cross_view", "ratio"]
E = math.e


def views(n=6, m=4, *, count=2, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(count, n, m, generator=generator, dtype=torch.float64)
    return tuple(drawn.to(dtype))


def output(z, *, temperature=0.5, variant="standard"):
    return NTXent(temperature=temperature, variant=variant)(ViewBatch(h=(), z=z))


def loss(z, **options):
    return float(output(z, **options).total)


@pytest.mark.parametrize(
    ("variant", "invariance", "regularization"),
    [
        # Views e1, e2 and e1, e2: cosine 1 with the partner, 0 with all others.
        ("standard", -1, math.log(E + 2)),
        ("decoupled", -1, math.log(2)),
        ("cross_view", -2, 2 * math.log(E + 1)),
        ("decoupled_cross_view", -1, 0),
    ],
)
def test_two_orthogonal_images_by_hand(variant, invariance, regularization):
    view = torch.eye(2)
    found = output((view, view), temperature=1.0, variant=variant)
    assert float(found.invariance) == pytest.approx(invariance, abs=1e-6)
    assert float(found.regularization) == pytest.approx(regularization, abs=1e-6)


def test_golden_values_by_hand():
    view = torch.eye(2)
    assert loss((view, view), temperature=1.0) == pytest.approx(0.5514, abs=5e-5)
    ratio = loss((view, view), temperature=1.0, variant="ratio")
    assert ratio == pytest.approx(-E / (E + 2))


def loops(first, second, temperature, variant):
    """The papers' sums, one term after the other, in Python's own floats."""
    n = len(first)
    both = [*first.tolist(), *second.tolist()]

    def score(i, k):
        dot = sum(a * b for a, b in zip(both[i], both[k], strict=True))
        lengths = math.hypot(*both[i]) * math.hypot(*both[k])
        return dot / lengths / temperature

    total = 0.0
    for i in range(2 * n):
        partner = (i + n) % (2 * n)
        candidates = [k for k in range(2 * n) if k != i]
        if "cross_view" in variant:
            candidates = [k for k in candidates if (k < n) != (i < n)]
        if "decoupled" in variant:
            candidates.remove(partner)
        exponentials = sum(math.exp(score(i, k)) for k in candidates)
        if variant == "ratio":
            total -= math.exp(score(i, partner)) / exponentials
        else:
            total += math.log(exponentials) - score(i, partner)
    return total / (n if variant == "cross_view" else 2 * n)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_as_the_papers_sums_term_by_term(variant, temperature):
    z = views()
    expected = loops(*z, temperature, variant)
    found = loss(z, temperature=temperature, variant=variant)
    assert found == pytest.approx(expected, rel=1e-12)


def test_standard_as_lightly_computes_it():
    """lightly/loss/ntx_ent_loss.py at 00283d7: classes among joined logits."""
    first, second = (normalize(view, dim=1) for view in views(n=5))
    others = ~torch.eye(5, dtype=torch.bool)
    own_first = (first @ first.T / 0.5)[others].view(5, 4)
    own_second = (second @ second.T / 0.5)[others].view(5, 4)
    from_first = torch.cat([first @ second.T / 0.5, own_first], dim=1)
    from_second = torch.cat([second @ first.T / 0.5, own_second], dim=1)
    labels = torch.arange(5).repeat(2)
    expected = cross_entropy(torch.cat([from_first, from_second]), labels)
    assert loss(views(n=5)) == pytest.approx(float(expected), rel=1e-12)


def test_cross_view_as_the_randbit_experiment_computes_it():
    first, second = views(n=5)
    scores = cosine_similarity(first[:, None], second[None], dim=2) / 0.1
    labels = torch.arange(5)
    expected = cross_entropy(scores, labels) + cross_entropy(scores.T, labels)
    found = loss((first, second), temperature=0.1, variant="cross_view")
    assert found == pytest.approx(float(expected), rel=1e-12)


def test_decoupled_leaves_the_partner_out_of_one_log_sum():
    """Yeh et al. 2022, eq. 6: the negatives of both views stand in one sum."""
    first, second = (normalize(view, dim=1) for view in views(n=5))
    others = ~torch.eye(5, dtype=torch.bool)
    across = (first @ second.T / 0.5)[others].view(5, 4)
    back = (second @ first.T / 0.5)[others].view(5, 4)
    own_first = (first @ first.T / 0.5)[others].view(5, 4)
    own_second = (second @ second.T / 0.5)[others].view(5, 4)
    log_sums = torch.stack(
        [
            torch.logsumexp(torch.cat([across, own_first], dim=1), dim=1),
            torch.logsumexp(torch.cat([back, own_second], dim=1), dim=1),
        ]
    )
    expected = log_sums.mean() - (first * second).sum(dim=1).mean() / 0.5
    assert loss(views(n=5), variant="decoupled") == pytest.approx(float(expected))


def test_ratio_is_a_mean_probability_without_a_split():
    first, second = views(n=5)
    both = normalize(torch.cat([first, second]), dim=1)
    scores = both @ both.T / 0.5 - 1e9 * torch.eye(10)
    chances = softmax(scores, dim=1)[torch.arange(10), torch.arange(10).roll(5)]
    found = output((first, second), variant="ratio")
    assert float(found.total) == pytest.approx(-float(chances.mean()), rel=1e-9)
    assert found.invariance is None and found.regularization is None
    assert {"positive", "log_sum_exp"} <= set(found.scalars())


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradient_is_that_of_finite_differences(variant):
    z = tuple(view.requires_grad_() for view in views(n=4, m=3))
    assert torch.autograd.gradcheck(
        lambda *inputs: output(inputs, variant=variant).total, z, rtol=1e-4, atol=1e-7
    )


@pytest.mark.parametrize("variant", VARIANTS[:-1])
@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_total_is_the_sum_of_its_parts(variant, temperature):
    found = output(
        views(32, 8, dtype=torch.float32), temperature=temperature, variant=variant
    )
    total = float(found.total)
    together = float(found.invariance) + float(found.regularization)
    assert together == pytest.approx(total, rel=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_order_of_images_order_of_views_and_lengths_do_not_matter(variant):
    first, second = views()
    expected = pytest.approx(loss((first, second), variant=variant), rel=1e-12)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(1))
    lengths = torch.linspace(0.01, 100, 6, dtype=torch.float64)[:, None]
    assert loss((first[order], second[order]), variant=variant) == expected
    assert loss((second, first), variant=variant) == expected
    assert loss((lengths * first, 3 * second), variant=variant) == expected
    # The pairing does matter, or nothing would be learned.
    assert loss((first, second.roll(1, dims=0)), variant=variant) != expected


@pytest.mark.parametrize("variant", VARIANTS)
def test_more_views_are_the_mean_over_ordered_pairs(variant):
    z = views(count=3)
    pairs = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
    losses = [loss((z[a], z[b]), variant=variant) for a, b in pairs]
    found = loss(z, variant=variant)
    assert found == pytest.approx(sum(losses) / len(pairs), rel=1e-12)


def test_random_projections_lose_the_logarithm_and_the_variance_of_scores():
    """log(2n - 1) + 1 / (2 m tau²): scores have variance 1 / (m tau²)."""
    n, m, temperature = 1024, 16, 0.5
    z = views(n, m, dtype=torch.float32)
    expected = math.log(2 * n - 1) + 1 / (2 * m * temperature**2)
    # The mean of n positive scores has deviation 1 / (tau sqrt(m n)) = .016.
    assert loss(z, temperature=temperature) == pytest.approx(expected, abs=0.04)


def test_the_bound_on_information_is_at_most_that_of_naming_one_of_all():
    random, same = views(64, 8), views(64, 8, count=1) * 2
    standard = output(random)
    bound = math.log(127) - float(standard.total)
    assert float(standard.stats["mi_lower_bound"]) == pytest.approx(bound)
    sharp = output(same, temperature=0.001)
    assert float(sharp.stats["mi_lower_bound"]) == pytest.approx(math.log(127))
    crossed = output(random, variant="cross_view")
    bound = math.log(64) - float(crossed.total) / 2
    assert float(crossed.stats["mi_lower_bound"]) == pytest.approx(bound)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_positive_part_is_the_mean_cosine_of_partners(variant):
    first, second = views()
    expected = float(cosine_similarity(first, second).mean())
    found = output((first, second), temperature=0.1, variant=variant)
    assert float(found.parts["positive"]) == pytest.approx(expected)


@pytest.mark.parametrize("variant", ["decoupled", "ratio"])
def test_the_bound_of_a_variant_is_that_of_its_scores(variant):
    bounds = [output(views(), variant=one).stats for one in ("standard", variant)]
    assert float(bounds[0]["mi_lower_bound"]) == float(bounds[1]["mi_lower_bound"])


@pytest.mark.parametrize("variant", VARIANTS)
def test_zero_rows_count_as_unlike_all_and_get_no_gradient(variant):
    first, second = views(n=4, m=3)
    first[1] = 0
    z = (first.requires_grad_(), second.requires_grad_())
    found = output(z, variant=variant)
    found.total.backward()
    assert float(found.stats["zero_rows"]) == 1
    assert torch.isfinite(found.total)
    assert torch.isfinite(first.grad).all() and torch.isfinite(second.grad).all()
    assert first.grad[1].abs().max() == 0 and first.grad[0].abs().max() > 0
    # A row orthogonal to all others says the same without being 0.
    wide = [torch.nn.functional.pad(view.detach(), (0, 1)) for view in z]
    wide[0][1, 3] = 1
    expected = pytest.approx(loss(tuple(wide), variant=variant))
    assert float(found.total.detach()) == expected


def test_all_projections_zero_is_a_loss_not_a_nan():
    still = torch.zeros(4, 3, requires_grad=True)
    found = output((still, still))
    found.total.backward()
    assert float(found.total.detach()) == pytest.approx(math.log(7))
    assert float(found.stats["zero_rows"]) == 8
    assert still.grad.abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("variant", VARIANTS)
def test_half_precision_is_computed_in_float32(dtype, variant):
    rounded = tuple(view.requires_grad_() for view in views(64, 16, dtype=dtype))
    exact = tuple(view.detach().double() for view in rounded)
    found = output(rounded, temperature=0.02, variant=variant).total
    assert found.dtype == torch.float32
    expected = loss(exact, temperature=0.02, variant=variant)
    assert float(found.detach()) == pytest.approx(expected, rel=1e-5)
    found.backward()
    assert rounded[0].grad.dtype == dtype


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_better_precision_is_kept(dtype):
    assert output(views(dtype=dtype)).total.dtype == dtype


def test_autocast_does_not_lower_the_precision_of_scores():
    z = views(64, 16, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lowered = z[0] @ z[1].T
        found = loss(z, temperature=0.02)
    assert lowered.dtype == torch.bfloat16
    assert found == loss(z, temperature=0.02)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_a_temperature_is_above_zero(temperature):
    with pytest.raises(UsageError, match=r"temperature is .*\n.*expected: above 0"):
        NTXent(temperature=temperature)


def test_a_batch_of_one_image_has_no_negatives():
    with pytest.raises(InputError, match="a batch of 1 has no other image"):
        output(views(n=1))
