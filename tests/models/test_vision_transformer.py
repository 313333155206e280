"""The vision transformer: as torchvision, by plain sums, and its positions by hand."""

import math

import numpy as np
import pytest
import safetensors.torch
import torch

from references.torchvision_operators import torchvision_or_skip
from repscope._checking import InputError, UsageError
from repscope._images import Preprocess
from repscope.models.backbones import Architecture, build, outline
from repscope.models.encoder import Encoder
from repscope.models.heads import count_parameters
from repscope.models.key_mapping import load_into
from repscope.models.third_party import open_encoder
from repscope.models.vision_transformer import Attention, positions_of

SMALL = Architecture("vit", size=16, depth=2, width=12, heads=3)
IMAGES = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
BLOCKS = ["encoder.layers.encoder_layer_0", "encoder.layers.encoder_layer_1"]


def lively(architecture, seed=0):
    """Return a transformer in float64, none of whose weights is 0 or 1."""
    backbone = build(architecture, seed=seed).double()
    generator = torch.Generator().manual_seed(seed)
    for values in backbone.state_dict().values():
        values.add_(0.3 * torch.randn(values.shape, generator=generator).double())
    return backbone.eval()


def counted(patch, depth, width, side, channels=3):
    tokens = width * (channels * patch**2 + 1) + width + (side**2 + 1) * width
    # of a block: qkv 3ww + 3w, output ww + w, perceptron 8ww + 5w, two norms 4w
    return tokens + depth * (12 * width**2 + 13 * width) + 2 * width


@pytest.mark.parametrize(
    ("architecture", "parameters"),
    [
        (Architecture("vit", size=16), counted(4, 4, 96, 4)),
        (Architecture("vit", size=32), counted(4, 4, 96, 8)),
        (Architecture("vit", size=16, channels=1), counted(4, 4, 96, 4, channels=1)),
        # the target network of the study of random targets
        (
            Architecture("vit", size=32, depth=10, width=384, heads=8),
            counted(4, 10, 384, 8),
        ),
        # vit_b_16 of torchvision has 86,567,656, of which its classifier 769,000
        (
            Architecture("vit", size=224, patch=16, depth=12, width=768, heads=12),
            86_567_656 - 769_000,
        ),
    ],
    ids=str,
)
def test_parameters_are_as_counted_by_hand(architecture, parameters):
    assert count_parameters(outline(architecture)) == parameters


def test_names_and_shapes_are_those_of_vit_b_16():
    models = torchvision_or_skip().models
    with torch.device("meta"):
        theirs = models.vit_b_16(weights=None).state_dict()
    ours = outline(
        Architecture("vit", size=224, patch=16, depth=12, width=768, heads=12)
    )
    expected = {k: v.shape for k, v in theirs.items() if not k.startswith("heads.")}
    assert {k: v.shape for k, v in ours.state_dict().items()} == expected


def theirs_of(architecture):
    """Return torchvision's transformer of the same sizes, its classifier taken off."""
    transformer = torchvision_or_skip().models.vision_transformer.VisionTransformer
    with torch.random.fork_rng(devices=[]):
        module = transformer(
            image_size=architecture.size,
            patch_size=architecture.patch or 4,
            num_layers=architecture.depth,
            num_heads=architecture.heads,
            hidden_dim=architecture.width,
            mlp_dim=4 * architecture.width,
        )
    module.heads = torch.nn.Identity()
    return module.double().eval()


@pytest.mark.parametrize("training", [False, True])
def test_outputs_are_those_of_torchvision(training):
    ours, theirs = lively(SMALL, seed=2).train(training), theirs_of(SMALL)
    theirs.train(training).load_state_dict(ours.state_dict(), strict=True)
    torch.testing.assert_close(ours(IMAGES.double()), theirs(IMAGES.double()))
    layers = ours.features(IMAGES.double(), BLOCKS)
    tokens = []
    for block in theirs.encoder.layers:
        block.register_forward_hook(lambda *a: tokens.append(a[-1][:, 0]))
    theirs(IMAGES.double())
    for layer, expected in zip(layers.values(), tokens, strict=True):
        torch.testing.assert_close(layer, expected)


def test_attention_is_its_sum():
    attention = Attention(6, 2).double()
    attention.draw_own_(torch.Generator().manual_seed(0))
    torch.nn.init.eye_(attention.out_proj.weight)
    torch.nn.init.zeros_(attention.out_proj.bias)
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randn(1, 4, 6, generator=generator).double()
    matrix = attention.in_proj_weight.detach()
    expected = torch.zeros(4, 6).double()
    for head in (slice(0, 3), slice(3, 6)):
        query, key, value = (
            tokens[0] @ matrix[6 * i : 6 * i + 6][head].T for i in range(3)
        )
        for t in range(4):
            scores = [math.exp(query[t] @ key[s] / math.sqrt(3)) for s in range(4)]
            mix = sum(scores[s] * value[s] for s in range(4)) / sum(scores)
            expected[t, head] = mix
    torch.testing.assert_close(attention(tokens)[0], expected)


def test_layers_are_the_class_tokens_of_the_blocks():
    backbone = build(SMALL).eval()
    assert backbone.layer_names == (*BLOCKS, "h")
    assert backbone.pool == "cls"
    assert not backbone.nonnegative
    layers = backbone.features(IMAGES, backbone.layer_names)
    assert {layer.shape for layer in layers.values()} == {(3, 12)}
    last = layers[BLOCKS[-1]]
    centred = last - last.mean(dim=1, keepdim=True)
    deviation = torch.sqrt(centred.square().mean(dim=1, keepdim=True) + 1e-6)
    torch.testing.assert_close(layers["h"], centred / deviation)
    with pytest.raises(UsageError, match="expected: cls, mean"):
        backbone.features(IMAGES, BLOCKS, pool="gap")
    mean = backbone.features(IMAGES, BLOCKS, pool="mean")[BLOCKS[0]]
    assert not torch.allclose(mean, layers[BLOCKS[0]])


def test_an_encoder_knows_how_its_layers_are_pooled():
    encoder = Encoder.of(build(SMALL).eval(), Preprocess(16))
    assert encoder.facts["pool"] == "cls"
    assert encoder.untrained(3).facts["pool"] == "cls"
    assert encoder.nonnegative is False


def cubic(distance):
    """Return the weight of Keys' kernel with a = -0.75."""
    a, x = -0.75, abs(distance)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def resized(values, count):
    """Return a row of numbers brought to another length, edges repeated."""
    length, result = len(values), []
    for place in range(count):
        centre = (place + 0.5) * length / count - 0.5
        first = math.floor(centre)
        taps = range(first - 1, first + 3)
        result.append(
            sum(values[min(max(i, 0), length - 1)] * cubic(centre - i) for i in taps)
        )
    return result


@pytest.mark.parametrize(("rows", "columns"), [(4, 4), (6, 5), (2, 3), (1, 1)])
def test_positions_between_the_learned_ones_are_bicubic(rows, columns):
    generator = torch.Generator().manual_seed(rows)
    learned = torch.randn(1, 10, 2, generator=generator).double()
    fitted = positions_of(learned, 3, rows, columns)
    assert torch.equal(fitted[:, :1], learned[:, :1])
    for channel in range(2):
        grid = learned[0, 1:, channel].reshape(3, 3).numpy()
        wide = np.array([resized(row, columns) for row in grid])
        expected = np.array([resized(column, rows) for column in wide.T]).T
        torch.testing.assert_close(
            fitted[0, 1:, channel], torch.from_numpy(expected).flatten()
        )


def test_positions_of_the_learned_grid_are_the_learned_ones():
    learned = torch.randn(1, 10, 2, generator=torch.Generator().manual_seed(0))
    assert positions_of(learned, 3, 3, 3) is learned
    turned = positions_of(learned, 3, 2, 3)
    assert turned.shape == (1, 7, 2)


def test_equal_positions_stay_equal_on_every_grid():
    learned = torch.full((1, 17, 3), 0.7, dtype=torch.float64)
    fitted = positions_of(learned, 4, 7, 2)
    torch.testing.assert_close(fitted, torch.full((1, 15, 3), 0.7).double())


def test_crops_of_another_size_pass_with_fitted_positions():
    large, small = (
        lively(SMALL, seed=1),
        build(Architecture("vit", size=8, depth=2, width=12, heads=3)),
    )
    state = large.state_dict()
    state["encoder.pos_embedding"] = positions_of(
        state["encoder.pos_embedding"], 4, 2, 2
    )
    small.double().load_state_dict(state)
    crops = IMAGES[..., :8, :8].double()
    torch.testing.assert_close(large(crops), small.eval()(crops))
    assert large(IMAGES[..., :8, :].double()).shape == (3, 12)


def test_gradients_reach_everything_from_any_size():
    backbone = build(SMALL)
    backbone(IMAGES[..., :12, :12]).square().sum().backward()
    missing = [k for k, p in backbone.named_parameters() if p.grad is None]
    assert missing == []


def test_patches_do_not_overlap_and_order_matters_through_positions_alone():
    backbone = lively(SMALL)
    backbone.encoder.pos_embedding.data.zero_()
    swapped = IMAGES.double().clone()
    swapped[..., :4, :4], swapped[..., 4:8, 8:12] = (
        IMAGES[..., 4:8, 8:12].double(),
        IMAGES[..., :4, :4].double(),
    )
    torch.testing.assert_close(backbone(swapped), backbone(IMAGES.double()))


@pytest.mark.parametrize("shape", [(15, 16), (16, 18), (2, 4)])
def test_sides_that_the_patch_does_not_divide_are_refused(shape):
    message = f"vit: images of {shape[0]}x{shape[1]} pixels\n.*patch of 4 pixels"
    with pytest.raises(InputError, match=message):
        build(SMALL)(torch.zeros(2, 3, *shape))


def test_first_weights_are_those_of_the_formulas():
    backbone = build(Architecture("vit", size=128, patch=4, width=192, depth=1))
    state = backbone.state_dict()
    positions = state["encoder.pos_embedding"]
    assert positions.shape == (1, 1025, 192)
    assert positions.std().item() == pytest.approx(0.02, rel=0.01)
    assert state["class_token"].std().item() == pytest.approx(0.02, rel=0.15)
    assert state["conv_proj.weight"].std().item() == pytest.approx(
        math.sqrt(1 / 48), rel=0.03
    )
    block = BLOCKS[0]
    for name, fans in (
        ("self_attention.in_proj_weight", 192 + 3 * 192),
        ("self_attention.out_proj.weight", 192 + 192),
        ("mlp.0.weight", 192 + 768),
        ("mlp.3.weight", 192 + 768),
    ):
        weight, bound = state[f"{block}.{name}"], math.sqrt(6 / fans)
        assert weight.abs().max() <= bound
        assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.01)
    for name, values in state.items():
        if name.endswith("bias"):
            assert (values == 0).all()
        if name.endswith(("ln_1.weight", "ln_2.weight", "ln.weight")):
            assert (values == 1).all()


@pytest.mark.parametrize("numbers", [True, False])
@pytest.mark.parametrize("prefix", ["", "module.backbone.", "model."])
def test_checkpoints_of_torchvision_load_by_new_and_by_old_names(prefix, numbers):
    source = build(SMALL, seed=5)
    state = {prefix + k: v for k, v in source.state_dict().items()}
    if not numbers:
        state = {
            k.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): v
            for k, v in state.items()
        }
    state[f"{prefix}heads.head.weight"] = torch.ones(3, 12)
    network = build(SMALL, seed=6)
    match = load_into(network, state)
    assert match.share == 1
    expected = source.state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in network.state_dict().items())


def test_a_file_of_weights_opens_by_its_architecture(tmp_path):
    source = build(SMALL, seed=5).eval()
    path = tmp_path / "vit.safetensors"
    safetensors.torch.save_file(source.state_dict(), path)
    encoder = open_encoder(path, architecture="vit[size=16,depth=2,width=12,heads=3]")
    assert encoder.preprocess.size == 16
    torch.testing.assert_close(
        encoder.forward_features(IMAGES)["h"], source(IMAGES), rtol=0, atol=0
    )


def test_half_precision_stays_near():
    backbone = build(SMALL).eval()
    exact = backbone(IMAGES)
    with torch.autocast("cpu", torch.bfloat16):
        rough = backbone(IMAGES)
    # bfloat16 has 8 bits; entries of h are about 1
    assert (rough.float() - exact).abs().max() < 0.1


def test_heads_that_do_not_divide_the_width_are_refused_with_a_width():
    with pytest.raises(UsageError, match="choose width=6, or other heads"):
        build(Architecture("vit", size=16, heads=3, width=8))
