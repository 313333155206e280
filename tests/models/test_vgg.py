"""VGG: layers and outputs by torchvision's, checkpoints of its layout, small images."""

import pytest
import safetensors.torch
import torch

from references.torchvision_operators import torchvision_or_skip
from repscope._checking import InputError
from repscope.models.backbones import Architecture, build, outline
from repscope.models.heads import count_parameters
from repscope.models.key_mapping import MisfitError, load_into, map_keys, shapes_of
from repscope.models.third_party import open_encoder

# (name, letter of torchvision's table, parameters of the convolutions and their BN)
KINDS = [
    # biases and BN are 3 numbers a channel; 3x3 weights by pairs of neighbours
    ("vgg11", "A", 9_217_728 + 3 * 2_752),
    ("vgg13", "B", 9_402_048 + 3 * 2_944),
    ("vgg16", "D", 14_710_464 + 3 * 4_224),
]
IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def as_torchvision(state):
    return {name.replace("convolutions.", "features."): t for name, t in state.items()}


@pytest.mark.parametrize(("name", "letter", "parameters"), KINDS)
def test_parameters_are_as_counted_by_hand(name, letter, parameters):
    assert count_parameters(outline(Architecture(name))) == parameters


@pytest.mark.parametrize(("name", "letter", "parameters"), KINDS)
def test_tensors_are_those_of_torchvision_without_the_classifier(
    name, letter, parameters
):
    models = torchvision_or_skip().models
    with torch.device("meta"):
        theirs = getattr(models, f"{name}_bn")(weights=None).state_dict()
    ours = as_torchvision(outline(Architecture(name)).state_dict())
    expected = {
        key: value.shape
        for key, value in theirs.items()
        if not key.startswith("classifier.")
    }
    assert {key: value.shape for key, value in ours.items()} == expected


@pytest.mark.parametrize(("name", "letter", "parameters"), KINDS)
def test_outputs_are_those_of_torchvision_before_the_last_pooling(
    name, letter, parameters
):
    vgg = torchvision_or_skip().models.vgg
    ours = build(Architecture(name), seed=1).eval()
    generator = torch.Generator().manual_seed(1)
    for key, values in ours.state_dict().items():
        if "running" in key or (values.ndim == 1 and values.is_floating_point()):
            values.copy_(torch.rand(values.shape, generator=generator) + 0.5)
    with torch.device("meta"):
        theirs = vgg.make_layers(vgg.cfgs[letter], batch_norm=True)
    theirs = theirs.to_empty(device="cpu").eval()
    theirs.load_state_dict(ours.convolutions.state_dict())
    with torch.no_grad():
        maps = theirs[:-1](IMAGES)
        h = ours(IMAGES)
    assert maps.shape == (2, 512, 2, 2)
    assert h.min() >= 0
    torch.testing.assert_close(h, maps.reshape(2, 512, 4).sum(dim=2) / 4)


def test_layers_are_the_outputs_of_the_relus():
    backbone = build(Architecture("vgg11", width=2)).eval()
    layers = backbone.features(IMAGES, backbone.layer_names)
    assert [layer.shape[1] for layer in layers.values()] == [
        *(2, 4, 8, 8, 16, 16, 16, 16),
        16,
    ]
    assert all(layer.min() >= 0 for layer in layers.values())
    torch.testing.assert_close(layers["convolutions.27"], layers["h"], rtol=0, atol=0)


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module.encoder_q."])
def test_checkpoints_of_torchvision_load(prefix):
    source = build(Architecture("vgg13", width=2), seed=5)
    state = {prefix + k: v for k, v in as_torchvision(source.state_dict()).items()}
    state[prefix + "classifier.0.weight"] = torch.ones(3, 3)
    network = build(Architecture("vgg13", width=2), seed=6)
    match = load_into(network, state)
    assert match.share == 1
    assert sum(dict(match.left_out).values()) == 1  # the classifier
    expected = source.state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in network.state_dict().items())


def test_a_deeper_vgg_is_no_shallower_one():
    state = as_torchvision(build(Architecture("vgg16", width=2)).state_dict())
    with pytest.raises(MisfitError):
        map_keys(state, shapes_of(outline(Architecture("vgg13", width=2)).state_dict()))


def test_a_file_of_weights_opens_by_its_architecture(tmp_path):
    source = build(Architecture("vgg11", width=2), seed=5).eval()
    path = tmp_path / "vgg11_bn.safetensors"
    safetensors.torch.save_file(as_torchvision(source.state_dict()), path)
    encoder = open_encoder(path, architecture="vgg11[width=2]")
    assert encoder.nonnegative
    assert encoder.default_layer == "h"
    torch.testing.assert_close(
        encoder.forward_features(IMAGES)["h"], source(IMAGES), rtol=0, atol=0
    )


@pytest.mark.parametrize("side", [16, 20])
def test_small_images_are_taken_and_smaller_ones_refused(side):
    backbone = build(Architecture("vgg11", width=2))
    assert backbone(IMAGES[..., :side, :side]).shape == (2, 16)
    with pytest.raises(InputError, match="vgg11: images of 15x32 pixels are too small"):
        backbone(IMAGES[..., :15, :])
