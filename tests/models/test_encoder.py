"""Encoders around any network: layers, preprocessing, planes, untrained references."""

from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from repscope._checking import InputError, UsageError
from repscope._images import Preprocess
from repscope.models.backbones import Architecture, build
from repscope.models.encoder import Encoder, append_planes, normalised

PREPROCESS = Preprocess(16, mean=(0.5, 0.4, 0.3), std=(0.25, 0.5, 1.0))
RES = Architecture("res_lh", depth=2, width=8)
IMAGES = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Tokens(nn.Module):
    """A network of nobody's family: patches, attention, a dictionary at the end."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 8, stride=8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)

    def forward(self, images):
        tokens = self.block(self.patches(images).flatten(2).transpose(1, 2))
        return OrderedDict(last_hidden_state=tokens, pooled=tokens.mean(dim=1))


@pytest.fixture
def tokens():
    with torch.random.fork_rng(devices=[]):
        return Tokens().eval()


def same_weights(one, other):
    first, second = one.module.state_dict(), other.module.state_dict()
    return all(torch.equal(first[name], second[name]) for name in first)


def test_a_backbone_of_ours_brings_its_layers():
    encoder = Encoder.of(build(RES).eval(), PREPROCESS)
    assert encoder.layers == {"block1": "block1", "block2": "block2", "h": ""}
    assert encoder.default_layer == "h"
    assert encoder.nonnegative is True
    assert encoder.name == "res_lh"
    found = encoder.forward_features(IMAGES)
    assert list(found) == ["h"]
    assert torch.equal(found["h"], encoder.module(IMAGES))


def test_any_other_network_has_its_output(tokens):
    encoder = Encoder.of(tokens, PREPROCESS)
    assert encoder.layers == {"output": ""}
    assert encoder.nonnegative is None
    assert encoder.name == "Tokens"
    found = encoder.forward_features(IMAGES, pool="mean")["output"]
    torch.testing.assert_close(found, tokens(IMAGES)["pooled"])


def test_several_layers_come_in_the_order_asked_for(tokens):
    encoder = Encoder.of(tokens, PREPROCESS, layers=["patches", "block.norm1", "block"])
    assert encoder.default_layer == "block"
    asked = ["block", "output", "block.linear1"]
    found = encoder.forward_features(IMAGES, asked, pool="cls")
    assert list(found) == asked
    assert found["block.linear1"].shape == (3, 16)
    assert torch.equal(found["block"], found["output"])


def test_layers_can_have_names_of_their_own(tokens):
    encoder = Encoder.of(tokens, PREPROCESS, layers={"early": "patches", "late": ""})
    found = encoder.forward_features(IMAGES, ["early"])
    torch.testing.assert_close(found["early"], tokens.patches(IMAGES).mean(dim=(2, 3)))


def test_a_layer_inside_a_block_of_ours_may_be_negative():
    encoder = Encoder.of(build(RES), PREPROCESS, layers=["block1.bn2"])
    assert encoder.nonnegative is None
    encoder = Encoder.of(build(RES), PREPROCESS, layers=["block1", "h"])
    assert encoder.nonnegative is True
    assert encoder.layers == {"block1": "block1", "h": ""}


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (["block.lineer1"], "did you mean block.linear1"),
        ({"early": "patch"}, "unknown layer 'patch'"),
        ([], "one layer at least"),
        ({}, "one layer at least"),
        ("block", r"layers=\['block'\]"),
    ],
)
def test_an_unknown_layer_is_refused_when_the_encoder_is_made(tokens, layers, message):
    with pytest.raises(UsageError, match=message):
        Encoder.of(tokens, PREPROCESS, layers=layers)


def test_an_unknown_layer_is_refused_when_features_are_asked_for():
    encoder = Encoder.of(build(RES), PREPROCESS)
    with pytest.raises(UsageError, match=r"did you mean block2\.conv1"):
        encoder.forward_features(IMAGES, ["block2.cnv1"])
    with pytest.raises(UsageError, match=r"layers=\['block1'\]"):
        encoder.forward_features(IMAGES, "block1")


def test_a_default_layer_that_is_none_of_the_layers_is_refused():
    encoder = Encoder.of(build(RES), PREPROCESS)
    with pytest.raises(UsageError, match="unknown layer 'block9'"):
        replace(encoder, default_layer="block9")


def test_mode_and_hooks_stay_as_they_were():
    backbone = build(RES).train()
    Encoder.of(backbone, PREPROCESS).forward_features(IMAGES, ["block1", "h"])
    assert backbone.training
    assert all(not part._forward_hooks for part in backbone.modules())


def test_images_of_other_channels_are_refused():
    encoder = Encoder.of(build(RES), PREPROCESS)
    with pytest.raises(InputError, match="images of 1 channels"):
        encoder.forward_features(IMAGES[:, :1])


def test_planes_are_channels_after_those_of_the_image():
    backbone = build(Architecture("res_lh", channels=5, depth=1, width=8))
    encoder = Encoder.of(backbone, PREPROCESS, planes=2)
    with pytest.raises(InputError, match="append the planes of the image set"):
        encoder.forward_features(IMAGES)
    planes = np.array([[0, 1], [1, 1], [0, 0]], dtype=np.uint8)
    images = append_planes(IMAGES, planes)
    assert encoder.forward_features(images)["h"].shape == (3, 8)


@pytest.mark.parametrize("planes", [0, 1, 3])
def test_channels_that_do_not_fit_a_backbone_are_refused(planes):
    backbone = build(Architecture("res_lh", channels=5, depth=1, width=8))
    with pytest.raises(UsageError, match=f"3 of the images and {planes} planes"):
        Encoder.of(backbone, PREPROCESS, planes=planes)


def test_fewer_than_no_planes_are_refused(tokens):
    with pytest.raises(UsageError, match="planes: -1"):
        Encoder.of(tokens, PREPROCESS, planes=-1)


def test_appended_planes_by_hand():
    images = torch.full((2, 1, 2, 2), 0.5, dtype=torch.float64)
    planes = torch.tensor([[1, 0], [0, 1]], dtype=torch.uint8)
    found = append_planes(images, planes)
    assert found.dtype == torch.float64
    half, zeros, ones = [[0.5] * 2] * 2, [[0.0] * 2] * 2, [[1.0] * 2] * 2
    assert found.tolist() == [[half, ones, zeros], [half, zeros, ones]]


def test_normalised_pixels_by_hand():
    pixels = torch.zeros(1, 1, 2, 3, dtype=torch.uint8)
    pixels[0, 0, 0] = torch.tensor([255, 51, 0])
    found = normalised(pixels, PREPROCESS)
    assert found.dtype == torch.float32
    # (1 - .5) / .25, (.2 - .4) / .5, (0 - .3) / 1, and of black pixels
    expected = [[[2.0, -2.0]], [[-0.4, -0.8]], [[-0.3, -0.3]]]
    torch.testing.assert_close(found, torch.tensor([expected]))


def test_grey_pixels_are_repeated_for_a_network_of_three_channels():
    grey = torch.arange(4, dtype=torch.uint8).reshape(1, 2, 2, 1)
    three = grey.repeat(1, 1, 1, 3)
    assert torch.equal(normalised(grey, PREPROCESS), normalised(three, PREPROCESS))


def test_coloured_pixels_are_refused_by_a_network_of_one_channel():
    pixels = torch.zeros(1, 2, 2, 3, dtype=torch.uint8)
    with pytest.raises(InputError, match="images of 3 channels"):
        normalised(pixels, Preprocess(2, channels=1))


def test_provenance_tells_the_weights_as_they_are():
    encoder = Encoder.of(build(RES), PREPROCESS, provenance={"data": "digits"})
    first = encoder.provenance
    assert first["data"] == "digits"
    # 4 * (3 + 8) * 8, four times 9 * 8 * 8, and six times 2 * 8
    assert first["parameters"] == str(352 + 2304 + 96)
    assert first == encoder.provenance
    with torch.no_grad():
        encoder.module.block1.bn1.bias[0] += 1
    assert encoder.provenance["weights"] != first["weights"]


def test_facts_are_added_to_a_copy():
    encoder = Encoder.of(build(RES), PREPROCESS, provenance={"data": "digits"})
    other = encoder.with_provenance({"recipe": "simclr"})
    assert other.facts == {"data": "digits", "recipe": "simclr"}
    assert encoder.facts == {"data": "digits"}
    assert other.module is encoder.module


def test_untrained_is_the_backbone_built_anew():
    backbone = build(RES, seed=5).eval()
    with torch.no_grad():
        backbone.block1.conv1.weight += 1
    encoder = Encoder.of(backbone, PREPROCESS, provenance={"data": "digits"})
    reference = encoder.untrained(5)
    assert not same_weights(encoder, reference)
    assert same_weights(reference, Encoder.of(build(RES, seed=5), PREPROCESS))
    assert not reference.module.training
    assert reference.facts == {"training": "none: weights drawn from seed 5"}
    assert reference.name == "res_lh, untrained"
    assert reference.untrained(5).name == "res_lh, untrained"


def test_untrained_keeps_what_is_known_of_the_network():
    facts = {"pool": "cls", "library": "timm 1", "keys": "matched", "training": "x"}
    encoder = Encoder.of(build(RES), PREPROCESS, provenance=facts)
    assert encoder.untrained(1).facts == {
        "pool": "cls",
        "library": "timm 1",
        "training": "none: weights drawn from seed 1",
    }


def test_untrained_draws_another_network_anew_from_the_seed_alone(tokens):
    encoder = Encoder.of(tokens, PREPROCESS, layers=["block"])
    before = torch.random.get_rng_state()
    first, again, other = (encoder.untrained(seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert same_weights(first, again)
    assert not same_weights(first, other)
    assert not same_weights(first, encoder)
    assert same_weights(encoder, Encoder.of(tokens, PREPROCESS))
    assert first.layers == {"block": "block"}


def test_untrained_uses_the_way_that_is_given(tokens):
    encoder = replace(Encoder.of(tokens, PREPROCESS), rebuild=Tokens)
    before = torch.random.get_rng_state()
    reference = encoder.untrained(3)
    assert torch.equal(torch.random.get_rng_state(), before)
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(3)
        expected = Tokens()
    assert same_weights(reference, Encoder.of(expected, PREPROCESS))
    assert not reference.module.training


def test_untrained_resets_the_statistics_of_normalisation():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    module(IMAGES)
    reference = Encoder.of(module, PREPROCESS).untrained()
    assert reference.module[1].running_mean.abs().max() == 0
    assert module[1].running_mean.abs().max() > 0


def test_untrained_refuses_what_it_cannot_draw():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))

        def forward(self, images):
            return images.mean(dim=(2, 3)) * self.scale

    module = nn.Sequential(Own())
    with pytest.raises(UsageError, match="0 cannot be drawn anew") as caught:
        Encoder.of(module, PREPROCESS).untrained()
    assert "Own has parameters but no reset_parameters" in str(caught.value)
