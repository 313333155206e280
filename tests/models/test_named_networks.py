import re
import sys

import pytest
import torch

from references.networks import block_network, same_weights, save_weights
from references.torchvision_operators import timm_or_skip, torchvision_or_skip
from repscope._checking import (
    InputError,
    MissingExtraError,
    ResourceError,
    UsageError,
)
from repscope._images import Preprocess
from repscope.models.third_party import ASSUMED_FACT, open_encoder

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def no_network(monkeypatch):
    return block_network(monkeypatch)


def features(encoder, images=IMAGES):
    with torch.inference_mode():
        return encoder.forward_features(images)[encoder.default_layer]


# Libraries that are absent or broken


class Broken:
    """Imports of one package end in an error, as with operators that do not fit."""

    def __init__(self, package, error):
        self.package, self.error = package, error

    def find_spec(self, name, path=None, target=None):
        if name == self.package:
            raise self.error


def unload(monkeypatch, *packages):
    for name in list(sys.modules):
        if name.partition(".")[0] in packages:
            monkeypatch.delitem(sys.modules, name)


@pytest.mark.parametrize(
    ("text", "package", "extra"),
    [
        ("timm/resnet18", "timm", "timm"),
        ("torchvision/resnet18", "torchvision", "torchvision"),
        ("hf/facebook/dinov2-small", "transformers", "hub"),
    ],
)
def test_an_absent_library_is_named_with_its_extra(text, package, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=f"^{package} is not installed") as e:
        open_encoder(text)
    assert e.value.fix == f'pip install "repscope[{extra}]"'
    assert e.value.exit_code == 2


def test_what_a_library_lacks_is_named(monkeypatch):
    unload(monkeypatch, "timm")
    missing = ModuleNotFoundError("No module named 'yaml'", name="yaml")
    monkeypatch.setattr(sys, "meta_path", [Broken("timm", missing), *sys.meta_path])
    with pytest.raises(MissingExtraError, match="timm needs yaml is not installed"):
        open_encoder("timm/resnet18")


@pytest.mark.parametrize("text", ["timm/resnet18", "torchvision/resnet18"])
def test_a_torchvision_of_another_torch_is_explained(text, monkeypatch):
    unload(monkeypatch, "timm", "torchvision")
    fault = RuntimeError("operator torchvision::nms does not exist")
    broken = [Broken(package, fault) for package in ("timm", "torchvision")]
    monkeypatch.setattr(sys, "meta_path", [*broken, *sys.meta_path])
    with pytest.raises(ResourceError, match="operator torchvision::nms does") as error:
        open_encoder(text)
    assert error.value.found == f"torch {torch.__version__}"
    assert "made for this torch" in error.value.expected
    assert "download.pytorch.org/whl/cpu" in error.value.fix
    assert error.value.exit_code == 4


# torchvision


def test_torchvision_networks_give_what_their_classifier_gets(no_network):
    torchvision = torchvision_or_skip()
    encoder = open_encoder("torchvision/resnet18", weights=False)
    whole = torchvision.models.resnet18(weights=None).eval()
    assert whole.load_state_dict(encoder.module.state_dict(), strict=False) == (
        ["fc.weight", "fc.bias"],
        [],
    )
    seen = []
    whole.fc.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        whole(IMAGES)
    assert torch.equal(features(encoder), seen[0]) and encoder.nonnegative is True
    assert [*encoder.layers] == ["layer1", "layer2", "layer3", "layer4", "output"]
    assert encoder.facts["training"] == "none: weights drawn from seed 0"
    assert no_network == []


@pytest.mark.parametrize(
    ("name", "width", "layer"),
    [
        ("vit_b_32", 768, "encoder.layers.encoder_layer_11"),
        ("convnext_tiny", 768, "features.7"),
        ("squeezenet1_1", 512, "features.12"),
        ("swin_t", 768, "output"),
        ("mobilenet_v3_small", 1024, "features.12"),
        ("regnet_x_400mf", 400, "trunk_output.block4"),
    ],
)
def test_torchvision_families(name, width, layer, no_network):
    torchvision_or_skip()
    encoder = open_encoder(f"torchvision/{name}", weights=False)
    images = torch.zeros(1, 3, 224, 224)
    with torch.inference_mode():
        found = encoder.forward_features(
            images, [layer, "output"], pool=encoder.facts["pool"]
        )
    assert found["output"].shape == (1, width) and layer in encoder.layers
    assert found[layer].shape[0] == 1 and no_network == []


def test_torchvision_preprocessing_is_that_of_its_weights():
    # the transforms that torchvision documents for ResNet50_Weights.IMAGENET1K_V2
    torchvision_or_skip()
    encoder = open_encoder("torchvision/resnet50", weights=False)
    assert encoder.preprocess == Preprocess(
        224, 232, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )


def test_torchvision_weights_are_loaded_by_the_safe_loader(monkeypatch):
    torchvision = torchvision_or_skip()
    weights = torchvision.models.get_model_weights("resnet18").DEFAULT
    asked = {}

    def state(self, **options):
        asked.update(options)
        return torchvision.models.resnet18(weights=None).state_dict()

    monkeypatch.setattr(type(weights), "get_state_dict", state)
    encoder = open_encoder("torchvision/resnet18")
    assert asked["weights_only"] is True and asked["check_hash"] is True
    assert encoder.facts["training"] == "pretrained: IMAGENET1K_V1"


def test_a_failed_download_is_told(no_network, tmp_path, monkeypatch):
    torchvision_or_skip()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ResourceError, match="torchvision/resnet18: its weights") as e:
        open_encoder("torchvision/resnet18")
    assert no_network and e.value.exit_code == 4


def test_untrained_networks_are_drawn_from_a_seed_and_leave_the_generator_alone():
    torchvision_or_skip()
    torch.manual_seed(1)
    first = open_encoder("torchvision/resnet18", weights=False)
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(drawn, torch.rand(1))
    second = open_encoder("torchvision/resnet18", weights=False)
    assert same_weights(first.module, second.module)
    assert same_weights(first.untrained(0).module, first.module)
    other = open_encoder("torchvision/resnet18", weights=False, seed=1)
    assert same_weights(first.untrained(1).module, other.module)
    assert not same_weights(other.module, first.module)
    assert other.name == "torchvision/resnet18, untrained" == other.untrained().name
    assert other.facts["training"] == "none: weights drawn from seed 1"
    assert other.untrained().facts["pool"] == first.facts["pool"]


@pytest.mark.parametrize(
    ("text", "closest"),
    [
        ("torchvision/resnet5", "resnet50"),
        ("torchvision/vitb16", "vit_b_16"),
        ("timm/vit_small_patch14_dino2", "vit_small_patch14_dinov2"),
        ("timm/resnet-50", "resnet50"),
    ],
)
def test_unknown_names_are_met_with_the_closest(text, closest, no_network):
    timm_or_skip()
    library = text.partition("/")[0]
    with pytest.raises(UsageError, match=f"^{text}: {library} has no such") as error:
        open_encoder(text)
    assert error.value.fix == f"did you mean {closest}?" and no_network == []


def test_torchvision_sees_transformers_in_their_own_size_only():
    torchvision_or_skip()
    with pytest.raises(UsageError, match="takes images of 224 pixels"):
        open_encoder("torchvision/vit_b_32", weights=False, preprocess=Preprocess(64))


def test_raw_weights_fill_a_network_of_a_library(tmp_path):
    torchvision = torchvision_or_skip()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        whole = torchvision.models.resnet34(weights=None)
    path = save_weights(tmp_path / "net.pth", whole.state_dict())
    encoder = open_encoder(path)  # recognised
    assert encoder.facts["architecture"] == "torchvision/resnet34"
    assert torch.equal(encoder.module.conv1.weight, whole.conv1.weight)
    assert "left out on purpose: fc (2)" in encoder.facts["keys"]
    assert encoder.facts["preprocess"] == ASSUMED_FACT
    # and a network of less depth is not filled with part of them
    with pytest.raises(InputError, match="tensors have no place in the enc") as error:
        open_encoder(path, architecture="resnet18[stem=imagenet]")
    assert error.value.found == "the shapes of torchvision/resnet34"
    assert error.value.fix == "architecture torchvision/resnet34"


# timm


@pytest.mark.parametrize(
    ("name", "width", "layer", "pool", "nonnegative"),
    [
        ("resnet18", 512, "layer4", "gap", True),
        ("vit_tiny_patch16_224", 192, "blocks.11", "cls", False),
        ("vit_wee_patch16_reg1_gap_256", 256, "blocks.13", "mean", False),
        ("convnext_atto", 320, "stages.3", "gap", None),
        ("mixer_s32_224", 512, "blocks.7", "mean", False),
        ("efficientnet_lite0", 1280, "blocks.6", "gap", None),
    ],
)
def test_timm_families(name, width, layer, pool, nonnegative, no_network):
    timm = timm_or_skip()
    encoder = open_encoder(f"timm/{name}", weights=False)
    size = encoder.preprocess.size
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found = encoder.forward_features(images, [layer, "output"], pool=pool)
        whole = timm.create_model(name).eval()
        whole.load_state_dict(encoder.module.state_dict(), strict=False)
        maps = whole.forward_features(images)
        expected = whole.forward_head(maps, pre_logits=True)
    assert found["output"].shape == (2, width)
    torch.testing.assert_close(found["output"], expected)
    assert encoder.facts["pool"] == pool and encoder.nonnegative is nonnegative
    assert encoder.facts["library"] == f"timm {timm.__version__}"
    assert no_network == []


def test_timm_preprocessing_is_that_of_its_configuration():
    # the published configuration of vit_tiny_patch16_224: 0.9 of 248 pixels, bicubic
    timm_or_skip()
    encoder = open_encoder("timm/vit_tiny_patch16_224", weights=False)
    assert encoder.preprocess == Preprocess(
        224, 248, mean=(0.5,), std=(0.5,), interpolation="bicubic"
    )


def test_timm_transformers_take_another_size():
    timm_or_skip()
    chosen = Preprocess(64, mean=(0.5,), std=(0.5,))
    encoder = open_encoder(
        "timm/vit_tiny_patch16_224", weights=False, preprocess=chosen
    )
    assert features(encoder, torch.zeros(1, 3, 64, 64)).shape == (1, 192)


def test_timm_weights_and_their_tags_are_checked_before_anything_else(no_network):
    timm = timm_or_skip()
    with pytest.raises(UsageError, match="resnet18.a1_in2k: no such weights") as error:
        open_encoder("timm/resnet18.a1_in2k")
    assert "resnet18.a1_in1k" in error.value.fix
    bare = sorted(set(timm.list_models()) - {n.partition(".")[0] for n in pretrained()})
    with pytest.raises(UsageError, match="no pretrained weights for it"):
        open_encoder(f"timm/{bare[0]}")
    # other sources that timm knows by a scheme in the name
    for scheme in ("hf-hub:timm/resnet18", "local-dir:/tmp"):
        with pytest.raises(UsageError, match="timm has no such model"):
            open_encoder(f"timm/{scheme}")
    assert no_network == []


def pretrained():
    import timm

    return timm.list_pretrained()


def test_raw_weights_fill_a_transformer_of_timm(tmp_path):
    timm = timm_or_skip()
    whole = timm.create_model("vit_tiny_patch16_224")
    state = {f"module.backbone.{n}": t for n, t in whole.state_dict().items()}
    path = save_weights(tmp_path / "dino.pth", {"teacher": state})
    encoder = open_encoder(path, architecture="timm/vit_tiny_patch16_224")
    assert torch.equal(encoder.module.pos_embed, whole.pos_embed)
    assert re.search(r"matched: 150 of 150 tensors", encoder.facts["keys"])
    # a block more than the architecture has
    extra = {n.replace("blocks.0.", "blocks.12."): t for n, t in state.items()}
    path = save_weights(tmp_path / "deeper.pth", state | extra)
    with pytest.raises(InputError, match="12 tensors have no place"):
        open_encoder(path, architecture="timm/vit_tiny_patch16_224")
