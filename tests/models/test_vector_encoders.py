"""Linear encoder and perceptron: matrices by hand, layers, sizes."""

import pytest
import torch

from repscope._checking import InputError
from repscope._images import Preprocess
from repscope.models.backbones import Architecture, build
from repscope.models.encoder import Encoder

IMAGES = torch.rand(4, 2, 5, 5, generator=torch.Generator().manual_seed(0))
PERCEPTRON = Architecture("mlp", channels=2, size=5, hidden=(7, 6), width=3)


def test_the_linear_encoder_is_a_matrix():
    backbone = build(Architecture("linear", channels=2, size=5, width=3))
    matrix = backbone.linear.weight
    expected = IMAGES.reshape(4, 50).double() @ matrix.double().T
    torch.testing.assert_close(backbone(IMAGES), expected.float())
    assert torch.equal(backbone(torch.zeros(1, 2, 5, 5)), torch.zeros(1, 3))
    assert backbone.layer_names == ("h",)


def test_pixels_are_taken_channel_by_channel_and_row_by_row():
    backbone = build(Architecture("linear", channels=2, size=5, width=3))
    image = torch.zeros(1, 2, 5, 5)
    image[0, 1, 2, 3] = 1
    expected = backbone.linear.weight[:, 25 + 2 * 5 + 3]
    torch.testing.assert_close(backbone(image)[0], expected, rtol=0, atol=0)


def test_the_perceptron_is_its_formula_with_all_its_layers():
    backbone = build(PERCEPTRON, seed=3)
    state = {name: values.double() for name, values in backbone.state_dict().items()}
    expected, features = {}, IMAGES.reshape(4, 50).double()
    for name in ("layer1", "layer2"):
        features = features @ state[f"{name}.0.weight"].T + state[f"{name}.0.bias"]
        features = torch.where(features > 0, features, 0)
        expected[name] = features.float()
    last = features @ state["last.weight"].T + state["last.bias"]
    expected["h"] = last.float()
    layers = backbone.features(IMAGES, backbone.layer_names)
    assert list(layers) == list(expected)
    for name, values in expected.items():
        torch.testing.assert_close(layers[name], values)


@pytest.mark.parametrize("shape", [(5, 6), (4, 4), (6, 5)])
@pytest.mark.parametrize(
    "architecture", [PERCEPTRON, Architecture("linear", channels=2, size=5)]
)
def test_images_of_another_size_are_refused(architecture, shape):
    backbone = build(architecture)
    message = f"{architecture.name}: images of {shape[0]}x{shape[1]} pixels\n.*5x5"
    with pytest.raises(InputError, match=message):
        backbone(torch.zeros(2, 2, *shape))


def test_an_encoder_around_it_gives_signed_features():
    backbone = build(Architecture("linear", channels=1, size=5, width=3))
    encoder = Encoder.of(backbone, Preprocess(5, channels=1))
    assert encoder.nonnegative is False
    assert encoder.forward_features(IMAGES[:, :1])["h"].shape == (4, 3)
