import pytest
import torch

from repscope.models.global_normalisation import GlobalBatchNorm
from repscope.models.normalisation import SplitBatchNorm1d
from repscope.training.networks import Outputs, built, follow_
from repscope.training.preparation import prepare
from repscope.training.shuffling import shuffled_outputs
from training.many_methods import recipe_of
from training.tiny_runs import recipe_with, tiny_images


def networks_of(*words, is_target=False):
    return built(prepare(recipe_with(*words), tiny_images()), is_target=is_target)


def test_one_pass_gives_what_the_parts_give_of_each_view():
    networks = networks_of("objective.name=byol", "predictor.hidden=6")
    views = [torch.rand(4, 1, 16, 16), torch.rand(4, 1, 8, 8)]
    found = networks(views)
    for view, h, z, prediction in zip(views, *found, strict=True):
        torch.testing.assert_close(h, networks.backbone(view))
        torch.testing.assert_close(z, networks.head(h))
        torch.testing.assert_close(prediction, networks.predictor(z))


def test_a_target_begins_equal_without_predictor_and_without_gradients():
    trained = networks_of("objective.name=byol")
    target = networks_of("objective.name=byol", is_target=True)
    assert target.predictor is None
    assert not any(one.requires_grad for one in target.parameters())
    for name, value in target.state_dict().items():
        assert torch.equal(value, trained.state_dict()[name]), name


def test_a_target_follows_by_the_momentum_and_keeps_its_own_statistics():
    trained, target = networks_of(), networks_of(is_target=True)
    before = {name: one.clone() for name, one in target.named_parameters()}
    with torch.no_grad():
        for one in trained.parameters():
            one.add_(1.0)
        trained.backbone.block1.bn.running_mean.fill_(5.0)
    follow_(target, trained, 0.75)
    for name, one in target.named_parameters():
        expected = 0.75 * before[name] + 0.25 * (before[name] + 1)
        torch.testing.assert_close(one, expected)
    assert not target.backbone.block1.bn.running_mean.any()


@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.999, 1.0])
def test_a_target_that_is_equal_stays_equal_to_the_bit(momentum):
    trained, target = networks_of(), networks_of(is_target=True)
    follow_(target, trained, momentum)
    for name, one in target.named_parameters():
        assert torch.equal(one, trained.get_parameter(name)), name


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("training.batch_norm=global", GlobalBatchNorm),
        ("training.bn_splits=2", SplitBatchNorm1d),
    ],
)
def test_the_recipe_says_how_batches_are_normalised(word, kind):
    networks = networks_of(word)
    assert any(isinstance(one, kind) for one in networks.modules())
    assert list(networks.state_dict()) == list(networks_of().state_dict())


def test_rows_in_other_company_come_back_in_their_order():
    """Without normalisation the order of rows changes nothing but the company."""
    network = networks_of().eval()
    views = [torch.rand(8, 1, 16, 16)]
    usual = network(views)
    found = shuffled_outputs(network, views, seed=3, step=5)
    assert isinstance(found, Outputs)
    torch.testing.assert_close(found.z[0], usual.z[0])


def test_the_company_changes_from_step_to_step_and_not_from_run_to_run():
    recipe = recipe_of("moco", "training.batch_size=14", "training.bn_splits=2")
    network = built(prepare(recipe, tiny_images()), is_target=True).train()
    views = [torch.rand(14, 1, 16, 16)]
    first, again, later = (
        shuffled_outputs(network, views, seed=0, step=step).z[0] for step in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.allclose(first, later)


@pytest.mark.parametrize(
    "word",
    ["training.bn_splits=1", "training.batch_norm=global", "training.bn_splits=2"],
)
def test_small_crops_leave_the_running_statistics_alone(word):
    networks, other = networks_of(word), networks_of(word)
    large, small = torch.rand(4, 1, 16, 16), torch.rand(4, 1, 8, 8)
    alone, both = networks([large]), other([large, small])
    torch.testing.assert_close(both.z[0], alone.z[0])
    for name, value in networks.named_buffers():
        if "num_batches" not in name:
            assert torch.equal(other.get_buffer(name), value), name
    layers = [one for one in other.modules() if hasattr(one, "momentum")]
    assert all(layer.momentum == 0.1 for layer in layers)
