"""Layers of any network: what hooks see, how it is pooled, and what is refused."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

from repscope._checking import InputError, UsageError
from repscope.models import layer_outputs
from repscope.models.layer_outputs import listed, pooled_outputs


class Giving(nn.Module):
    """Returns one fixed value, whatever it is given."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, _images):
        return self.value


class Around(nn.Module):
    """Calls its part and returns something else."""

    def __init__(self, part):
        super().__init__()
        self.part = part

    def forward(self, images):
        self.part(images)
        return images.mean(dim=(2, 3))


IMAGES = torch.arange(2 * 3 * 4 * 4, dtype=torch.float32).reshape(2, 3, 4, 4)
TOKENS = torch.tensor([[[1.0, 2], [3, 4], [5, 9]], [[0, 0], [6, 6], [0, 3]]])


@pytest.mark.parametrize(
    ("value", "pool", "expected"),
    [
        (TOKENS, "cls", [[1, 2], [0, 0]]),
        (TOKENS, "mean", [[3, 5], [2, 3]]),
        (TOKENS, "flatten", [[1, 2, 3, 4, 5, 9], [0, 0, 6, 6, 0, 3]]),
        (TOKENS[:, :, :, None], "gap", [[1.5, 3.5, 7], [0, 6, 1.5]]),
        (TOKENS[:, :, None, :], "flatten", [[1, 2, 3, 4, 5, 9], [0, 0, 6, 6, 0, 3]]),
        (TOKENS[:, 0], "gap", [[1, 2], [0, 0]]),
        (TOKENS[:, 0], "cls", [[1, 2], [0, 0]]),
        (TOKENS[:, 0], "mean", [[1, 2], [0, 0]]),
        (TOKENS[:, 0], "flatten", [[1, 2], [0, 0]]),
    ],
)
def test_pooling_by_hand(value, pool, expected):
    outputs = pooled_outputs(Around(Giving(value)), IMAGES, {"part": "part"}, pool)
    assert outputs["part"].tolist() == expected


@pytest.mark.parametrize(
    ("value", "pool", "message"),
    [
        (TOKENS, "gap", "expected: cls, mean"),
        (TOKENS[..., None], "cls", "expected: gap"),
        (TOKENS[..., None], "mean", "expected: gap"),
        (TOKENS[..., None, None], "gap", "expected: flatten"),
    ],
)
def test_a_pooling_that_does_not_fit_is_refused(value, pool, message):
    with pytest.raises(UsageError, match=message):
        pooled_outputs(Around(Giving(value)), IMAGES, {"part": "part"}, pool)


def test_an_unknown_pooling_is_refused_with_the_choice(as_users_have_it):
    plain = as_users_have_it(layer_outputs)
    with pytest.raises(UsageError, match="did you mean mean"):
        plain.pooled_outputs(Around(Giving(TOKENS)), IMAGES, {"part": "part"}, "meen")


@pytest.mark.parametrize(
    "value",
    [
        (TOKENS, torch.zeros(2, 1)),
        [TOKENS],
        (None, TOKENS),
        OrderedDict(last=TOKENS, pooled=torch.zeros(2, 1)),
    ],
)
def test_the_first_tensor_of_a_collection_is_taken(value):
    outputs = pooled_outputs(Around(Giving(value)), IMAGES, {"part": "part"}, "cls")
    assert outputs["part"].tolist() == [[1, 2], [0, 0]]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("text", "gives no tensor"),
        ({}, "gives no tensor"),
        ((None,), "gives no tensor"),
        (TOKENS[:1], "2 entries first"),
        (TOKENS.long(), "floating point"),
        (torch.zeros(2), "not one vector"),
    ],
)
def test_what_is_no_feature_is_refused(value, message):
    with pytest.raises(InputError, match=message):
        pooled_outputs(Around(Giving(value)), IMAGES, {"part": "part"}, "cls")


def test_a_layer_that_does_not_run_is_refused():
    module = Around(nn.Identity())
    module.unused = nn.ReLU()
    with pytest.raises(InputError, match="layer unused: did not run"):
        pooled_outputs(module, IMAGES, {"unused": "unused"})


@pytest.mark.parametrize("pool", ["gap", "flatten"])
def test_an_operation_in_place_does_not_change_the_layer_before_it(pool):
    module = nn.Sequential(nn.Identity(), nn.ReLU(inplace=True))
    images = -IMAGES
    expected = images.mean(dim=(2, 3)) if pool == "gap" else images.flatten(1)
    expected = expected.clone()
    found = pooled_outputs(module, images, {"before": "0", "after": "1"}, pool)
    torch.testing.assert_close(found["before"], expected)
    assert found["after"].max() == 0


def test_a_shared_module_counts_with_its_last_output():
    relu = nn.ReLU()
    module = nn.Sequential(OrderedDict(a=relu, b=nn.Conv2d(3, 1, 1), c=relu))
    nn.init.constant_(module.b.weight, 0)
    nn.init.constant_(module.b.bias, 7)
    assert pooled_outputs(module, IMAGES, {"relu": "a"})["relu"].tolist() == [[7], [7]]


def test_hooks_are_removed_and_the_mode_stays():
    module = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Sequential(nn.ReLU())).train()
    pooled_outputs(module, IMAGES, {"a": "0", "b": "1.0", "all": ""})
    assert module.training
    assert all(not part._forward_hooks for part in module.modules())


@pytest.mark.parametrize("pool", ["cls", "gap"])
def test_hooks_are_removed_after_an_error(pool):
    class Failing(nn.Module):
        def forward(self, _images):
            raise RuntimeError("out of something")

    module = nn.Sequential(nn.Conv2d(3, 2, 1), Failing())
    # in the hook itself for "cls", in a later module for "gap"
    with pytest.raises((RuntimeError, UsageError)):
        pooled_outputs(module, IMAGES, {"a": "0", "all": ""}, pool)
    assert all(not part._forward_hooks for part in module.modules())


def test_gradients_pass_unless_the_caller_forbids_them():
    module = nn.Sequential(nn.Conv2d(3, 2, 1))
    assert pooled_outputs(module, IMAGES, {"a": "0"})["a"].requires_grad
    with torch.inference_mode():
        assert not pooled_outputs(module, IMAGES, {"a": "0"})["a"].requires_grad


def test_names_of_layers_are_a_list():
    assert listed(("a", "b")) == ["a", "b"]
    with pytest.raises(UsageError, match="one layer at least"):
        listed([])
