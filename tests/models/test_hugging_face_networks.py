"""Models of the Hub, in a cache made here: no network is used, or allowed."""

import json
import socket

import pytest
import torch

from references.torchvision_operators import torchvision_or_skip
from repscope._checking import InputError, ResourceError, UsageError
from repscope._images import Preprocess
from repscope.models.hugging_face_networks import FAMILIES, preprocess_of
from repscope.models.third_party import open_encoder

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STATISTICS = {"image_mean": MEAN, "image_std": STD}
# preprocessor_config.json of facebook/dinov2-small, shortened
DINOV2 = STATISTICS | {
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
    "resample": 3,
    "size": {"shortest_edge": 256},
}
# of google/vit-base-patch16-224
VIT = {
    "size": {"height": 224, "width": 224},
    "resample": 2,
    "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
}
# of facebook/convnext-tiny-224, whose rule is 224 / 0.875
CONVNEXT = STATISTICS | {
    "crop_pct": 0.875,
    "resample": 3,
    "size": {"shortest_edge": 224},
}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (DINOV2, Preprocess(224, 256, mean=MEAN, std=STD, interpolation="bicubic")),
        (VIT, Preprocess(224, mean=(0.5,), std=(0.5,))),
        (CONVNEXT, Preprocess(224, 256, mean=MEAN, std=STD, interpolation="bicubic")),
        # the forms of older files
        (STATISTICS | {"size": 224}, Preprocess(224, mean=MEAN, std=STD)),
        (
            STATISTICS | {"size": 256, "crop_size": 224},
            Preprocess(224, 256, mean=MEAN, std=STD),
        ),
        (
            STATISTICS | {"size": 256, "crop_size": 224, "do_center_crop": False},
            Preprocess(256, mean=MEAN, std=STD),
        ),
        ({"size": 64, "do_normalize": False}, Preprocess(64)),
    ],
)
def test_preprocessing_of_the_hubs_files(config, expected):
    found = preprocess_of("org/name", config)
    assert found.describe() == expected.describe()


@pytest.mark.parametrize(
    "config", [{"size": 64}, VIT | {"size": {}}, VIT | {"image_std": [0.0] * 3}]
)
def test_preprocessing_that_makes_no_sense_is_refused(config):
    with pytest.raises(InputError, match="hf/org/name: its preprocessor_config.json"):
        preprocess_of("org/name", config)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Plant repositories in an empty cache; the network fails."""
    huggingface_hub = pytest.importorskip("huggingface_hub")
    pytest.importorskip("transformers")
    torchvision_or_skip()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    def refuse(*_, **__):
        raise OSError("the network is blocked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)

    def plant(name, model=None, **files):
        folder = tmp_path / f"models--{name.replace('/', '--')}"
        snapshot = folder / "snapshots" / ("0" * 40)
        snapshot.mkdir(parents=True)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text("0" * 40)
        if model is not None:
            model.save_pretrained(snapshot)
        for file, content in files.items():
            (snapshot / f"{file}.json").write_text(json.dumps(content))
        return snapshot

    return plant


def small(kind):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3}
    sizes |= {"intermediate_size": 32}
    if kind in ("clip", "siglip"):
        whole = transformers.CLIPConfig if kind == "clip" else transformers.SiglipConfig
        config = whole(text_config=sizes, vision_config=sizes | {"patch_size": 32})
    elif kind == "resnet":
        config = transformers.ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"
        )
    elif kind in ("convnext", "convnextv2"):
        sizes = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}
        config = transformers.AutoConfig.for_model(kind, **sizes)
    else:
        config = transformers.AutoConfig.for_model(kind, **sizes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return transformers.AutoModel.from_config(config).eval()


def by_hand(kind, model, images):
    given = getattr(model, "vision_model", model)(pixel_values=images)
    if kind in ("clip", "siglip", "convnext", "convnextv2"):
        return given.pooler_output.flatten(1)
    if kind == "resnet":
        return given.last_hidden_state.mean((2, 3))
    if kind == "ijepa":
        return given.last_hidden_state.mean(1)
    return given.last_hidden_state[:, 0]


@pytest.mark.parametrize("kind", FAMILIES)
def test_families_give_their_features(kind, hub):
    model = small(kind)
    hub(f"org/{kind}", model, preprocessor_config=DINOV2)
    encoder = open_encoder(f"hf/org/{kind}")
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    layers = [*encoder.layers]
    with torch.inference_mode():
        found = encoder.forward_features(images, layers, pool=encoder.facts["pool"])
        torch.testing.assert_close(found["output"], by_hand(kind, model, images))
    assert len(layers) > 2 and encoder.preprocess.size == 224
    # the same network without its weights needs no network either
    untrained = open_encoder(f"hf/org/{kind}", weights=False).module.state_dict()
    again = encoder.untrained(0).module.state_dict()
    assert all(torch.equal(untrained[name], again[name]) for name in untrained)


def test_tensors_that_would_stay_random_are_an_error(hub):
    from safetensors.torch import load_file, save_file

    snapshot = hub("org/name", small("dinov2"), preprocessor_config=DINOV2)
    file = snapshot / "model.safetensors"
    state = load_file(file)
    state.pop("layernorm.weight")
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(InputError, match="hf/org/name: 1 tensors of the network are"):
        open_encoder("hf/org/name")


def test_pickled_weights_are_never_loaded(hub):
    snapshot = hub("org/name", small("dinov2"), preprocessor_config=DINOV2)
    (snapshot / "model.safetensors").rename(snapshot / "pytorch_model.bin")
    with pytest.raises(ResourceError, match="hf/org/name: its weights could not be"):
        open_encoder("hf/org/name")


def test_types_that_are_not_known_are_named(hub):
    hub("org/mae", config={"model_type": "vit_mae"})
    with pytest.raises(UsageError, match="models of type 'vit_mae' are not known"):
        open_encoder("hf/org/mae")
    hub("org/timm", config={"architecture": "resnet18"})
    with pytest.raises(UsageError, match="is a model of timm") as error:
        open_encoder("hf/org/timm")
    assert error.value.fix == "timm/resnet18"


def test_names_and_absent_files_are_explained(hub):
    with pytest.raises(UsageError, match="hf/name: no name of the Hub"):
        open_encoder("hf/name")
    with pytest.raises(ResourceError, match="hf/org/absent: its weights could not"):
        open_encoder("hf/org/absent")
    with pytest.raises(UsageError, match="config.json was not downloaded before"):
        open_encoder("hf/org/absent", weights=False)


def test_networks_of_one_size_take_no_other(hub):
    hub("org/vit", small("vit"), preprocessor_config=DINOV2)
    with pytest.raises(UsageError, match="hf/org/vit: takes images of 224 pixels"):
        open_encoder("hf/org/vit", preprocess=Preprocess(64))
