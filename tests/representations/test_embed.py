import logging

import numpy as np
import pytest
import torch
from torch import nn

from representations.embedding_cases import (
    CLOSE,
    MEAN,
    PREPROCESS,
    SIDE,
    STD,
    SomeBroken,
    Tiny,
    broken_set,
    by_hand,
    expected,
    image_set,
    normalised_by_hand,
    pixels_of,
)
from repscope._checking import InputError, UsageError
from repscope._images import Preprocess, fit
from repscope.data.digits import digits16
from repscope.data.imageset import ImageSet
from repscope.data.shortcuts import randbit
from repscope.models.architecture import Architecture
from repscope.models.backbones import build
from repscope.models.encoder import Encoder
from repscope.representations import embed as embed_module
from repscope.representations.embed import embed

LAYERS = ["first", "norm", "last"]
# what the features are


def test_features_are_those_of_one_image_at_a_time():
    module, images = Tiny(), image_set(23)
    embedding = embed(module, images, preprocess=PREPROCESS, layers=LAYERS)
    reference = expected(module, images)
    assert embedding.layers == ("first", "norm", "last")
    for layer in LAYERS:
        assert embedding.features(layer).dtype == np.float32
        np.testing.assert_allclose(embedding.features(layer), reference[layer], **CLOSE)


def test_an_encoder_brings_its_preprocessing():
    module, images = Tiny(), image_set(9)
    encoder = Encoder.of(module, PREPROCESS, layers=["first", "last"])
    embedding = embed(encoder, images)
    assert embedding.layers == ("last",)
    np.testing.assert_allclose(
        embedding.features(), expected(module, images)["last"], **CLOSE
    )


@pytest.mark.parametrize("batch_size", [1, 3, 7, 16, 1000])
def test_the_batch_size_changes_rounding_only(batch_size):
    module, images = Tiny(), image_set(40)
    embedding = embed(module, images, preprocess=PREPROCESS, batch_size=batch_size)
    np.testing.assert_allclose(
        embedding.features(), expected(module, images)["last"], **CLOSE
    )


def test_the_same_command_gives_the_same_bytes():
    runs = [embed(Tiny(), image_set(30), preprocess=PREPROCESS) for _ in range(2)]
    np.testing.assert_array_equal(runs[0].features(), runs[1].features())
    assert runs[0].plan == runs[1].plan


def test_rows_keep_the_order_of_the_set():
    module, images = Tiny(), image_set(40)
    rows = np.random.default_rng(1).permutation(40)[:17]
    chosen = images.subset(rows)
    embedding = embed(module, chosen, preprocess=PREPROCESS, batch_size=5)
    np.testing.assert_allclose(
        embedding.features(), expected(module, images, rows)["last"], **CLOSE
    )
    assert embedding.ids.tolist() == [f"image_{row}.png" for row in rows]
    np.testing.assert_array_equal(
        embedding.levels[0].codes, images.levels[0].codes[rows]
    )
    assert embedding.levels[1].classes == ("a", "b")
    assert embedding["output"].attributes[0].name == "colour"


def test_layers_come_from_one_forward_pass_each():
    module = Tiny()
    embed(module, image_set(40), preprocess=PREPROCESS, layers=LAYERS, batch_size=16)
    assert module.calls == [1, 16, 16, 8]  # the first one tells the widths


def test_a_backbone_gives_all_its_layers():
    module = build(Architecture("small_conv", channels=1))
    encoder = Encoder.of(module, Preprocess(16, channels=1, mean=(0.5,), std=(0.5,)))
    images = digits16("test").subset(np.arange(20))
    embedding = embed(encoder, images, layers="all", batch_size=8)
    assert embedding.layers == tuple(encoder.layers)
    assert embedding.default_layer == encoder.default_layer
    one = torch.from_numpy(images.images.read(int(images.rows[7])) / 255.0).float()
    with torch.inference_mode():
        alone = module.eval()((one.permute(2, 0, 1)[None] - 0.5) / 0.5)
    np.testing.assert_allclose(embedding.features()[7], alone[0].numpy(), **CLOSE)


def test_grey_pictures_enter_a_network_of_three_channels():
    module = Tiny()
    grey = pixels_of(6)[..., :1]
    embedding = embed(module, ImageSet.of(grey), preprocess=PREPROCESS)
    reference = by_hand(module, [normalised_by_hand(one.repeat(3, 2)) for one in grey])
    np.testing.assert_allclose(embedding.features(), reference["last"], **CLOSE)


def test_pictures_of_any_size_are_fitted():
    generator = np.random.default_rng(0)
    sizes = [(8, 8), (20, 9), (9, 31), (40, 40), (8, 64)]
    pictures = [generator.integers(0, 256, (*s, 3), dtype=np.uint8) for s in sizes]
    module, preprocess = Tiny(), Preprocess(SIDE, 9, mean=MEAN, std=STD)
    embedding = embed(
        module, ImageSet.of(SomeBroken(pictures)), preprocess=preprocess, batch_size=2
    )
    inputs = [normalised_by_hand(fit(one, preprocess)) for one in pictures]
    np.testing.assert_allclose(
        embedding.features(), by_hand(module, inputs)["last"], **CLOSE
    )
    assert embedding.thumbnails.shape == (5, SIDE, SIDE, 3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_inputs_follow_the_type_of_the_weights(dtype):
    module, images = Tiny().to(dtype), image_set(5)
    features = embed(module, images, preprocess=PREPROCESS).features()
    assert features.dtype == np.float32
    # bfloat16 has 8 bits; some ten sums of values around 1
    tolerance = 1e-5 if dtype == torch.float64 else 0.1
    reference = expected(Tiny(), images)["last"]
    np.testing.assert_allclose(features, reference, atol=tolerance, rtol=tolerance)


def test_non_finite_features_are_counted_and_kept(caplog):
    class Broken(Tiny):
        def forward(self, images):
            output = super().forward(images)
            return torch.where(output[:, :1] > output[0, 0], torch.nan, output)

    images = image_set(30)
    embedding = embed(Broken(), images, preprocess=PREPROCESS, batch_size=30)
    bad = int((~np.isfinite(embedding.features()).all(axis=1)).sum())
    assert 0 < bad < 30
    assert embedding.nonfinite == {"output": bad}
    assert f"layer output: {bad} rows with NaN or infinity, kept" in caplog.text


# planted bits


def test_planes_are_appended_unnormalised():
    module = Tiny(channels=5)
    images = randbit(image_set(12), 2)
    embedding = embed(module, images, preprocess=PREPROCESS, batch_size=5)
    inputs = []
    for row in range(12):
        bits = np.broadcast_to(images.planes[row][:, None, None], (2, SIDE, SIDE))
        image = normalised_by_hand(images.images.read(row))
        inputs.append(np.concatenate([image, bits.astype(np.float32)]))
    np.testing.assert_allclose(
        embedding.features(), by_hand(module, inputs)["last"], **CLOSE
    )
    assert embedding.plan.planes == 2


@pytest.mark.parametrize(
    ("bits", "planes", "fix"),
    [(0, 2, "plant the same bits"), (2, 0, "without planted bits"), (1, 2, "plant")],
)
def test_planes_must_be_those_of_the_encoder(bits, planes, fix):
    encoder = Encoder.of(Tiny(channels=3 + planes), PREPROCESS, planes=planes)
    with pytest.raises(
        UsageError, match="encoder Tiny: the planes do not fit"
    ) as error:
        embed(encoder, randbit(image_set(6), bits))
    assert error.value.found == f"{bits} constant planes on noise"
    assert fix in error.value.fix


def test_an_untrained_reference_has_other_weights_from_its_seed():
    encoder, images = Encoder.of(Tiny(), PREPROCESS), image_set(8)
    one, again, other = (
        embed(encoder, images, untrained_seed=seed) for seed in (0, 0, 1)
    )
    trained = embed(encoder, images)
    np.testing.assert_array_equal(one.features(), again.features())
    for different in (trained, other):
        assert not np.allclose(one.features(), different.features(), atol=1e-3)
    assert "untrained" in one.plan.encoder["name"]


# arguments


def test_an_unknown_layer_is_refused_with_the_closest():
    with pytest.raises(UsageError, match="unknown layer 'secnd'") as error:
        embed(Tiny(), image_set(3), preprocess=PREPROCESS, layers=["secnd"])
    assert error.value.fix == "did you mean second?"


def test_layers_are_put_in_order_once():
    module = Tiny()
    asked = ["output", "norm", "first", "norm"]
    embedding = embed(module, image_set(3), preprocess=PREPROCESS, layers=asked)
    assert embedding.layers == ("first", "norm", "output")
    assert embedding.default_layer == "output"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preprocess": None}, "preprocess: a plain module does not say"),
        ({"batch_size": 0}, "batch_size: images per pass"),
        ({"layers": []}, "layers: none given"),
        ({"pool": "cls", "layers": ["first"]}, "layer first: pool 'cls' does not fit"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        embed(Tiny(), image_set(3), **{"preprocess": PREPROCESS, **options})


@pytest.mark.parametrize("device", ["gpu", "meta"])
def test_an_unknown_device_is_refused(device):
    module = Tiny()
    with pytest.raises(UsageError, match=f"device '{device}'"):
        embed(module, image_set(3), preprocess=PREPROCESS, device=device)
    assert module.training and module.last.weight.device.type == "cpu"


@pytest.mark.parametrize(
    ("preprocess", "made"),
    [
        (PREPROCESS, "short side 8 (bilinear), centre crop 8 x 8, RGB, mean 0.4"),
        (lambda _: torch.zeros(3, SIDE, SIDE), "a function"),
    ],
)
def test_an_input_that_the_network_does_not_take_is_explained(preprocess, made):
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 2))
    message = "encoder Sequential: its network does not take .*mat1 and mat2 shapes"
    with pytest.raises(UsageError, match=message) as error:
        embed(module, image_set(3), preprocess=preprocess)
    assert error.value.found.startswith(
        f"an input of shape (1, 3, 8, 8), from preprocess: {made}"
    )
    assert isinstance(error.value.__cause__, RuntimeError)


@pytest.mark.parametrize("kind", [ValueError, TypeError, AssertionError])
def test_whatever_a_network_says_first_is_passed_on(kind):
    class Picky(Tiny):
        def forward(self, images):
            assert images.shape[1] == 5  # the two planes are counted
            raise kind("Input height (8)\n should be 224")

    encoder = Encoder.of(Picky(5), PREPROCESS, planes=2)
    with pytest.raises(UsageError, match=r"Input height \(8\) should be 224") as error:
        embed(encoder, randbit(image_set(3), 2))
    assert "shape (1, 5, 8, 8)" in error.value.found


def test_too_many_unreadable_images_end_it_where_they_are_found():
    images = broken_set(400, [2, 3, 4, 5, 6])
    with pytest.raises(InputError, match=r"^noise: image_2.png: no re.*and 4") as error:
        embed(Tiny(), images, preprocess=PREPROCESS, batch_size=100)
    assert error.value.found == "at least 5 unreadable of the first 100 read"
    assert "allowed_failures=0.1 in Python" in error.value.fix
    embed(Tiny(), images, preprocess=PREPROCESS, allowed_failures=0.1)


def test_progress_is_told_after_each_batch():
    told = []
    embed(
        Tiny(),
        broken_set(250, [4, 5]),
        preprocess=PREPROCESS,
        batch_size=100,
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(100, 250), (200, 250), (250, 250)]


def test_a_long_run_says_how_far_it_is(monkeypatch, caplog):
    monkeypatch.setattr(
        "repscope.representations.embedding_run.SECONDS_BETWEEN_NOTES", -1.0
    )
    with caplog.at_level(logging.INFO, logger="repscope"):
        embed(Tiny(), image_set(20), preprocess=PREPROCESS, batch_size=10)
    assert "embedded 10 of 20 images" in caplog.text


def test_embed_takes_what_can_be_opened():
    assert embed_module.open_images is not None
    encoder = Encoder.of(
        build(Architecture("small_conv", channels=1)),
        Preprocess(16, channels=1, mean=(0.5,), std=(0.5,)),
    )
    assert embed(encoder, "digits", batch_size=512).n == 1797


def test_a_run_may_be_named_as_on_the_command_line(tmp_path):
    backbone = build(Architecture("small_conv", width=4))
    encoder = Encoder.of(backbone.eval(), PREPROCESS)
    encoder.save(tmp_path / "encoder.safetensors")
    named = embed(tmp_path / "encoder.safetensors", image_set(7))
    assert (named.features() == embed(encoder, image_set(7)).features()).all()


def test_class_scores_are_not_taken_for_features_in_silence(caplog):
    with caplog.at_level(logging.INFO, logger="repscope"):
        embed(Tiny(), image_set(5), preprocess=PREPROCESS)
    assert "ends in a linear layer, last, of 4 outputs" in caplog.text


def test_an_embedding_is_shown_in_a_line():
    shown = repr(embed(Tiny(), image_set(5), preprocess=PREPROCESS))
    assert shown.startswith("<Embedding of 5 images: Tiny on ")
    assert shown.endswith("; layers output (4)>")
