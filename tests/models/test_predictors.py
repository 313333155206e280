"""Predictors and prototypes: by formula, unit rows, what they refuse."""

import math

import pytest
import torch
from torch import nn

from repscope._checking import UsageError
from repscope.models import predictors
from repscope.models.heads import Head, build_head, count_parameters
from repscope.models.predictors import Predictor, Prototypes, build_predictor


@pytest.mark.parametrize(
    ("predictor", "d_in", "parameters", "out"),
    [
        (Predictor("none"), 64, 0, 64),
        # 256 -> 4096 -> 256, as the authors of BYOL have it
        (Predictor("byol"), 256, 256 * 4096 + 3 * 4096 + 4096 * 256, 256),
        (Predictor("byol", hidden=16), 4, 64 + 48 + 64, 4),
        (Predictor("byol", hidden=16, bn=False), 4, 64 + 16 + 64, 4),
        # 2048 -> 512 -> 2048, as the authors of SimSiam have it
        (Predictor("simsiam"), 2048, 2048 * 512 * 2 + 2 * 512 + 2048, 2048),
        (Predictor("simsiam", hidden=16, bn=False), 4, 64 + 64 + 4, 4),
        (Predictor("simsiam"), 3, 3 + 2 + 3 + 3, 3),
        (Predictor("prototypes"), 128, 3000 * 128, 3000),
        (Predictor("prototypes", out=7), 4, 28, 7),
        (Predictor("classes"), 64, 64 * 10 + 10, 10),
    ],
    ids=str,
)
def test_parameters_are_as_counted_by_hand(predictor, d_in, parameters, out):
    module = build_predictor(predictor, d_in, seed=0, n_classes=10)
    assert count_parameters(module) == parameters
    assert module(torch.rand(5, d_in)).shape == (5, out)


def batch_normalised(features):
    """Return each column with mean 0 and population variance 1."""
    centred = features - features.mean(dim=0)
    return centred / torch.sqrt((centred**2).mean(dim=0) + 1e-5)


@pytest.mark.parametrize("bn", [None, True, False])
@pytest.mark.parametrize(
    ("name", "biases"), [("byol", (True, False)), ("simsiam", (False, True))]
)
def test_a_predictor_is_its_formula_in_training(name, biases, bn):
    module = build_predictor(Predictor(name, hidden=6, bn=bn), 4, seed=2)
    z = torch.rand(9, 4, generator=torch.Generator().manual_seed(0))
    first, last = (part for part in module if isinstance(part, nn.Linear))
    assert (first.bias is not None, last.bias is not None) == biases
    hidden = z @ first.weight.T + (0 if first.bias is None else first.bias)
    hidden = (hidden if bn is False else batch_normalised(hidden)).clamp(min=0)
    expected = hidden @ last.weight.T + (0 if last.bias is None else last.bias)
    # BN of float32 in two ways
    torch.testing.assert_close(module(z), expected, rtol=1e-4, atol=1e-5)


def test_prototypes_are_unit_at_first_and_give_cosines():
    module = build_predictor(Predictor("prototypes", out=40), 6, seed=1)
    lengths = module.weight.square().sum(dim=1).sqrt()
    torch.testing.assert_close(lengths, torch.ones(40))
    vectors = 5 * torch.randn(9, 6, generator=torch.Generator().manual_seed(0))
    scores = module(vectors)
    for i, vector in enumerate(vectors.double()):
        for k, row in enumerate(module.weight.double()):
            cosine = (vector @ row) / vector.norm() / row.norm()
            assert scores[i, k].item() == pytest.approx(cosine.item(), abs=1e-6)
    torch.testing.assert_close(module(vectors * 1e6), scores)


def test_rows_are_made_unit_in_place_and_keep_their_directions():
    module = Prototypes(2, 3)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[3.0, 4.0], [0.0, -0.5], [0.0, 0.0]]))
    weight = module.weight
    module.normalize_()
    assert module.weight is weight
    assert weight.requires_grad
    expected = torch.tensor([[0.6, 0.8], [0.0, -1.0], [0.0, 0.0]])
    torch.testing.assert_close(weight.detach(), expected)


def test_zero_vectors_have_no_score_and_no_gradient():
    module = build_predictor(Predictor("prototypes", out=4), 3, seed=1)
    vectors = torch.tensor([[0.0, 0, 0], [1e-30, 0, 0], [0, 2, 0]], requires_grad=True)
    scores = module(vectors)
    assert torch.equal(scores[:2], torch.zeros(2, 4))
    (scores / 0.1).exp().sum().backward()
    assert vectors.grad is not None
    assert torch.equal(vectors.grad[:2], torch.zeros(2, 3))
    assert vectors.grad.isfinite().all()
    assert module.weight.grad is not None
    assert module.weight.grad.isfinite().all()


def test_scores_stay_exact_under_autocast():
    module = build_predictor(Predictor("prototypes", out=40), 6, seed=1)
    vectors = torch.randn(9, 6, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        scores = module(vectors)
        rough = module(vectors.bfloat16())
    assert scores.dtype == rough.dtype == torch.float32
    torch.testing.assert_close(scores, module(vectors), rtol=0, atol=0)
    assert module.double()(vectors.double()).dtype == torch.float64


@pytest.mark.parametrize("name", ["byol", "simsiam", "prototypes", "classes"])
def test_weights_depend_on_the_seed_and_on_nothing_else(name):
    def drawn(seed):
        module = build_predictor(Predictor(name), 32, seed=seed, n_classes=5)
        return next(module.parameters())

    before = torch.random.get_rng_state()
    first = drawn(1)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first, drawn(1))
    assert not torch.equal(first, drawn(2))


def test_a_predictor_shares_no_numbers_with_a_head_of_the_same_seed():
    head = build_head(Head("linear", out=50), 50, seed=1).state_dict()["weight"]
    predictor = build_predictor(Predictor("classes"), 50, seed=1, n_classes=50)
    order = predictor.state_dict()["weight"].flatten().argsort()
    assert not torch.equal(head.flatten().argsort(), order)


def test_first_weights_are_uniform_within_one_over_the_root_of_the_fan_in():
    module = build_predictor(Predictor("classes"), 400, seed=1, n_classes=500)
    bound = 1 / math.sqrt(400)
    assert module.weight.abs().max() <= bound
    expected = pytest.approx(bound / math.sqrt(3), rel=0.01)
    assert module.weight.std().item() == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "none", "hidden": 3}, "predictor none has no option hidden"),
        ({"name": "byol", "out": 3}, "predictor byol has no option out"),
        ({"name": "prototypes", "bn": True}, "prototypes has no option bn"),
        ({"name": "classes", "out": 3}, "classes has no option out"),
        ({"name": "simsiam", "hidden": 0}, "hidden is 0"),
        ({"name": "prototypes", "out": True}, "out is True"),
    ],
)
def test_a_wrong_option_is_named(options, message):
    with pytest.raises(UsageError, match=message):
        Predictor(**options)


def test_an_unknown_predictor_is_refused_with_the_closest(as_users_have_it):
    with pytest.raises(UsageError, match="did you mean simsiam"):
        as_users_have_it(predictors).Predictor("simsaim")


def test_classes_must_be_known():
    with pytest.raises(UsageError, match="how many classes there are is not known"):
        build_predictor(Predictor("classes"), 4, seed=0)
