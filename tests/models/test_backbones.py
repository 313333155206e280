"""Backbones: sizes by hand, outputs by naive transcriptions and by torchvision."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from repscope._checking import UsageError
from repscope.models.backbones import BACKBONES, Architecture, build
from repscope.models.heads import count_parameters

SMALL = {
    "small_conv": Architecture("small_conv", width=8),
    "res_lh": Architecture("res_lh", depth=3, width=8),
    "resnet18": Architecture("resnet18", width=4),
    "resnet50": Architecture("resnet50", width=4, stem="imagenet"),
    "randbit_conv": Architecture("randbit_conv"),
    "vgg11": Architecture("vgg11", width=2),
    "vgg13": Architecture("vgg13", width=2),
    "vgg16": Architecture("vgg16", width=2),
    "vit": Architecture("vit", size=32, depth=2, width=12, heads=2),
    "shallow_conv": Architecture("shallow_conv", depth=2),
    "linear": Architecture("linear", size=32, width=8),
    "mlp": Architecture("mlp", size=32, hidden=(16, 9), width=8),
}
SIGNED = {"vit", "linear", "mlp"}


def random_images(n=4, channels=3, size=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, channels, size, size, generator=generator)


def lively(architecture, seed=0):
    """Return a backbone in evaluation mode whose BN statistics are not 0 and 1."""
    backbone = build(architecture, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for name, values in backbone.state_dict().items():
        if "num_batches" not in name and values.ndim == 1:
            values.copy_(torch.rand(values.shape, generator=generator) + 0.5)
    return backbone.eval()


def normalise(maps, state, name):
    """Return BN in evaluation mode, from the formula."""
    mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    scale = state[f"{name}.weight"] / torch.sqrt(variance + 1e-5)
    shift = state[f"{name}.bias"] - mean * scale
    axes = (..., None, None) if maps.ndim == 4 else (...,)
    return maps * scale[axes] + shift[axes]


def test_every_backbone_has_a_small_case():
    assert set(SMALL) == set(BACKBONES)


@pytest.mark.parametrize(
    ("architecture", "parameters", "dimensions"),
    [
        (Architecture("resnet18", stem="imagenet"), 11_176_512, 512),
        (Architecture("resnet50", stem="imagenet"), 23_508_032, 2048),
        # the 3x3 stem in place of the 7x7 one: 64 * 3 * (49 - 9) fewer
        (Architecture("resnet18"), 11_176_512 - 7_680, 512),
        # 9 * (3*32 + 32*64 + 64*128 + 128*128) and 2 * (32 + 64 + 128 + 128)
        (Architecture("small_conv"), 240_480 + 704, 128),
        # 4 * (3 + 48) * 48, ten times 9 * 48 * 48, and twelve times 2 * 48
        (Architecture("res_lh", depth=5, width=48), 9_792 + 207_360 + 1_152, 48),
        # 9 * (1*32 + 32*64 + 64*64), 1024 * 128, and 2 * (32 + 64 + 64 + 128)
        (Architecture("randbit_conv", channels=1), 55_584 + 131_072 + 576, 128),
        # convolutions of 9 * 3 * 16 + 16 and 9 * 16 * 64 + 64, and BN of 2 * (16 + 64)
        (Architecture("shallow_conv", depth=2), 448 + 9_280 + 160, 2048),
        # and 9 * 64 * 256 + 256, 9 * 256 * 512 + 512, and BN of 2 * (256 + 512)
        (Architecture("shallow_conv"), 9_888 + 147_712 + 1_180_160 + 1_536, 2048),
        # and two of 9 * 512 * 512 + 512, with BN of 2 * 512 each
        (Architecture("shallow_conv", depth=6), 1_339_296 + 2 * 2_360_832, 2048),
        (Architecture("shallow_conv", depth=8), 1_339_296 + 4 * 2_360_832, 2048),
        (Architecture("linear", size=16, channels=1, width=10), 256 * 10, 10),
        # 192 * 7 + 7, 7 * 5 + 5, 5 * 3 + 3
        (Architecture("mlp", size=8, hidden=(7, 5), width=3), 1_351 + 40 + 18, 3),
        (Architecture("mlp", size=8, hidden=(), width=3), 192 * 3 + 3, 3),
    ],
    ids=str,
)
def test_parameters_are_as_counted_by_hand(architecture, parameters, dimensions):
    backbone = build(architecture)
    assert count_parameters(backbone) == parameters
    assert backbone.feature_dim == dimensions


@pytest.mark.parametrize("name", sorted(set(SMALL) - SIGNED))
@pytest.mark.parametrize("size", [16, 28, 32])
def test_features_are_non_negative_vectors_of_any_size_of_images(name, size):
    backbone = lively(SMALL[name])
    h = backbone(random_images(size=size))
    assert h.shape == (4, backbone.feature_dim)
    assert backbone.nonnegative
    assert h.min() >= 0
    assert h.max() > 0


@pytest.mark.parametrize("name", sorted(SIGNED))
def test_features_of_the_others_are_of_both_signs(name):
    backbone = lively(SMALL[name])
    h = backbone(random_images())
    assert h.shape == (4, backbone.feature_dim)
    assert not backbone.nonnegative
    assert h.min() < 0 < h.max()


@pytest.mark.parametrize("channels", [1, 3, 11])
@pytest.mark.parametrize("name", SMALL)
def test_any_number_of_channels_is_taken(name, channels):
    backbone = build(replace(SMALL[name], channels=channels))
    assert backbone(random_images(channels=channels)).shape[0] == 4


@pytest.mark.parametrize("name", SMALL)
def test_layers_of_one_pass_are_those_of_a_pass_each(name):
    backbone = lively(SMALL[name])
    images = random_images()
    together = backbone.features(images, backbone.layer_names)
    for layer in backbone.layer_names:
        alone = backbone.features(images, [layer])[layer]
        torch.testing.assert_close(together[layer], alone, rtol=0, atol=0)
    torch.testing.assert_close(together["h"], backbone(images), rtol=0, atol=0)


@pytest.mark.parametrize("name", SMALL)
def test_layers_run_from_shallow_to_deep_and_end_with_h(name):
    backbone = build(SMALL[name])
    order = [path for path, _ in backbone.named_modules()]
    places = [order.index(layer) for layer in backbone.layer_names[:-1]]
    assert places == sorted(places)
    assert backbone.layer_names[-1] == "h"


def test_one_pass_calls_each_block_once():
    backbone = lively(SMALL["res_lh"])
    calls = []
    backbone.block2.register_forward_hook(lambda *_: calls.append(1))
    backbone.features(random_images(), backbone.layer_names)
    assert len(calls) == 1


def test_an_unknown_layer_is_refused_with_the_closest():
    backbone = build(SMALL["res_lh"])
    with pytest.raises(UsageError, match="did you mean block3"):
        backbone.features(random_images(), ["blok3"])
    with pytest.raises(UsageError, match=r"layers=\['block3'\]"):
        backbone.features(random_images(), "block3")


def test_res_lh_is_its_definition():
    backbone = lively(SMALL["res_lh"])
    state = backbone.state_dict()
    maps = random_images()
    expected = {}
    for stem in ("stem1", "stem2"):
        maps = functional.conv2d(maps, state[f"{stem}.conv.weight"], stride=2)
        maps = normalise(maps, state, f"{stem}.bn").clamp(min=0)
    assert maps.shape == (4, 8, 8, 8)
    for block in ("block1", "block2", "block3"):
        inner = functional.conv2d(maps, state[f"{block}.conv1.weight"], padding=1)
        inner = normalise(inner, state, f"{block}.bn1").clamp(min=0)
        inner = functional.conv2d(inner, state[f"{block}.conv2.weight"], padding=1)
        maps = (maps + normalise(inner, state, f"{block}.bn2")).clamp(min=0)
        expected[block] = maps
    flat = backbone.features(random_images(), list(expected), pool="flatten")
    for block, values in expected.items():
        torch.testing.assert_close(flat[block], values.flatten(1))
    mean = expected["block3"].reshape(4, 8, 64).sum(dim=2) / 64
    torch.testing.assert_close(backbone(random_images()), mean)


def test_small_conv_is_its_definition():
    backbone = lively(SMALL["small_conv"])
    state = backbone.state_dict()
    maps = random_images()
    for block, stride in (("block1", 2), ("block2", 2), ("block3", 2), ("block4", 1)):
        weight = state[f"{block}.conv.weight"]
        maps = functional.conv2d(maps, weight, stride=stride, padding=1)
        maps = normalise(maps, state, f"{block}.bn").clamp(min=0)
    assert maps.shape == (4, 32, 4, 4)
    torch.testing.assert_close(
        backbone(random_images()), maps.reshape(4, 32, 16).sum(dim=2) / 16
    )


@pytest.mark.parametrize("size", [28, 32])
def test_randbit_conv_is_its_definition_on_the_images_of_its_source(size):
    backbone = lively(SMALL["randbit_conv"])
    state = backbone.state_dict()
    maps = random_images(size=size)
    for block in ("block1", "block2", "block3"):
        weight = state[f"{block}.conv.weight"]
        maps = functional.conv2d(maps, weight, stride=2, padding=1)
        maps = normalise(maps, state, f"{block}.bn").clamp(min=0)
    dense = maps.reshape(4, 1024) @ state["dense.weight"].T
    expected = normalise(dense, state, "bn").clamp(min=0)
    torch.testing.assert_close(backbone(random_images(size=size)), expected)


@pytest.fixture(scope="module")
def torchvision_models():
    # it may be absent, or made for another version of torch
    try:
        from torchvision import models
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"torchvision: {error}")
    return models


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_resnets_are_those_of_torchvision_without_the_classifier(
    torchvision_models, name
):
    with torch.random.fork_rng(devices=[]):
        theirs = getattr(torchvision_models, name)(weights=None)
    state = {k: v for k, v in theirs.state_dict().items() if not k.startswith("fc.")}
    ours = lively(Architecture(name, stem="imagenet"), seed=3)
    assert [(k, v.shape) for k, v in ours.state_dict().items()] == [
        (k, v.shape) for k, v in state.items()
    ]
    theirs.fc = torch.nn.Identity()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    images = random_images(n=2, size=64)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs.eval()(images))


@pytest.mark.parametrize("name", SMALL)
def test_weights_depend_on_the_seed_and_on_nothing_else(name):
    before = torch.random.get_rng_state()
    first = build(SMALL[name], seed=1).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(99)
        again = build(SMALL[name], seed=1).state_dict()
    other = build(SMALL[name], seed=2).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    drawn = [key for key in first if first[key].ndim > 1]
    assert drawn
    assert not any(torch.equal(first[key], other[key]) for key in drawn)


def test_first_weights_are_he_normal():
    weight = build(Architecture("resnet18")).state_dict()["layer4.0.conv1.weight"]
    assert weight.shape == (512, 256, 3, 3)
    # variance 2 / fan-out; of 1.2 million numbers it is known to 0.2 %
    expected = math.sqrt(2 / (512 * 9))
    assert weight.std().item() == pytest.approx(expected, rel=0.005)
    assert abs(weight.mean().item()) < expected / 200
    kurtosis = (weight / weight.std()).pow(4).mean().item()
    assert kurtosis == pytest.approx(3, abs=0.05)


@pytest.mark.parametrize("name", ["linear", "mlp"])
def test_first_weights_of_vector_encoders_are_uniform(name):
    weight = next(build(Architecture(name, size=32, width=500)).parameters())
    assert weight.shape == ((500 if name == "linear" else 512), 3072)
    bound = 1 / math.sqrt(3072)
    assert weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.005)


def test_first_normalisation_changes_nothing():
    state = build(SMALL["resnet18"]).state_dict()
    for key, values in state.items():
        if key.endswith(("running_var", "bn1.weight", "bn2.weight")):
            assert (values == 1).all()
        if key.endswith(("running_mean", ".bias", "num_batches_tracked")):
            assert (values == 0).all()


def test_a_new_backbone_trains():
    backbone = build(SMALL["small_conv"])
    assert backbone.training
    backbone(random_images()).square().mean().backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters())


@pytest.mark.parametrize("name", SMALL)
def test_memory_layout_does_not_change_the_features(name):
    backbone = lively(SMALL[name]).double()
    images = random_images().double()
    plain = backbone(images)
    backbone.to(memory_format=torch.channels_last)
    last = backbone(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(last, plain)
