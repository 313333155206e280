import pytest
import torch

from references.networks import block_network, same_weights, save_weights
from repscope._checking import (
    InputError,
    ResourceError,
    UsageError,
)
from repscope._images import Preprocess
from repscope.models.architecture import Architecture
from repscope.models.backbones import build
from repscope.models.encoder import Encoder
from repscope.models.third_party import ASSUMED_FACT, open_encoder

SMALL = Architecture("resnet18", width=8)
SMALL_TEXT = "resnet18[width=8]"
PIXELS = Preprocess(32)
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def no_network(monkeypatch):
    return block_network(monkeypatch)


def features(encoder, images=IMAGES):
    with torch.inference_mode():
        return encoder.forward_features(images)[encoder.default_layer]


# Our own runs and files


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    Encoder.of(build(SMALL, seed=5), PIXELS, name="mine").save(
        folder / "encoder.safetensors"
    )
    return folder


@pytest.mark.parametrize("inside", ["", "encoder.safetensors"])
def test_a_run_and_its_encoder_are_opened(inside, run, no_network):
    encoder = open_encoder(str(run / inside))
    assert encoder.name == "mine" and encoder.preprocess == PIXELS
    assert same_weights(encoder.module, build(SMALL, seed=5))
    assert not encoder.module.training and no_network == []


def test_a_run_without_weights_is_its_network_untrained(run):
    encoder = open_encoder(str(run), weights=False)
    assert same_weights(encoder.module, build(SMALL, seed=0))
    assert encoder.facts["training"] == "none: weights drawn from seed 0"
    assert encoder.name == "mine, untrained"


@pytest.mark.parametrize("kind", ["run", "weights"])
def test_first_weights_are_drawn_from_the_seed(kind, run, tmp_path):
    words = {"preprocess": PIXELS}
    if kind == "weights":
        words["architecture"] = SMALL_TEXT
        run = save_weights(tmp_path / "net.pth", build(SMALL, seed=5).state_dict())
    encoder = open_encoder(run, weights=False, seed=3, **words)
    assert same_weights(encoder.module, build(SMALL, seed=3))
    assert encoder.facts["training"] == "none: weights drawn from seed 3"
    assert encoder.name.endswith(", untrained")
    again = encoder.untrained(3)
    assert again.name == encoder.name
    assert same_weights(again.module, encoder.module)
    trained = open_encoder(run, seed=3, **words)
    assert same_weights(trained.module, build(SMALL, seed=5))


def test_a_recipe_is_no_encoder(run, tmp_path):
    for folder in (run, tmp_path):
        (folder / "recipe.toml").write_text("[data]\nimages = 'digits'\n")
    with pytest.raises(InputError, match="recipe.toml: is a TOML file") as error:
        open_encoder(run / "recipe.toml")
    assert error.value.fix == f"pass the run folder: {run}"
    with pytest.raises(InputError, match="recipe.toml: is a TOML file") as error:
        open_encoder(tmp_path / "recipe.toml")
    assert f"repscope train {tmp_path / 'recipe.toml'} --images" in error.value.fix


def test_preprocessing_can_be_chosen(run):
    other = Preprocess(24, mean=(0.5,), std=(0.5,))
    assert open_encoder(str(run), preprocess=other).preprocess == other


def test_a_folder_without_an_encoder_is_named(tmp_path):
    with pytest.raises(InputError, match="no encoder in this folder") as error:
        open_encoder(str(tmp_path))
    assert "encoder.safetensors" in error.value.expected


def test_an_architecture_is_for_files_of_weights_only(run):
    for text in (str(run), "torchvision/resnet18"):
        with pytest.raises(UsageError, match="architecture='resnet18'"):
            open_encoder(text, architecture="resnet18")


# Files of weights


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
def test_weights_under_foreign_names_give_our_features(name, tmp_path):
    backbone = build(SMALL, seed=5).eval()
    state = {f"module.encoder_q.{n}": t for n, t in backbone.state_dict().items()}
    state["module.queue"] = torch.ones(4)
    path = save_weights(tmp_path / name, state)
    encoder = open_encoder(path, architecture=SMALL_TEXT, preprocess=PIXELS)
    with torch.inference_mode():
        assert torch.equal(features(encoder), backbone(IMAGES))
    assert encoder.name == "net" and encoder.default_layer == "h"
    facts = encoder.provenance
    assert facts["architecture"] == SMALL_TEXT
    assert facts["training"] == f"unknown: weights of {name}"
    assert "layout: MoCo, `encoder_q.`" in facts["keys"]
    assert "matched: 100 of 100 tensors" in facts["keys"]
    assert "preprocess" not in facts  # it was given


def test_the_entry_of_a_teacher_is_told(tmp_path):
    state = {f"backbone.{n}": t for n, t in build(SMALL, seed=5).state_dict().items()}
    path = save_weights(
        tmp_path / "c.pth", {"teacher": state, "student": {}, "epoch": 3}
    )
    encoder = open_encoder(path, architecture=SMALL_TEXT)
    assert encoder.facts["entry"] == "teacher"
    assert same_weights(encoder.module, build(SMALL, seed=5))


@pytest.mark.parametrize(
    ("architecture", "text", "size"),
    [
        (Architecture("resnet18", width=8), "resnet18[stem=cifar,width=8]", 32),
        (Architecture("resnet50", stem="imagenet"), "resnet50[stem=imagenet]", 224),
        (
            Architecture("resnet18", width=8, channels=1),
            "resnet18[stem=cifar,width=8,channels=1]",
            32,
        ),
    ],
)
def test_residual_networks_are_recognised(architecture, text, size, tmp_path):
    backbone = build(architecture, seed=5)
    state = {f"backbone.{n}": t for n, t in backbone.state_dict().items()}
    encoder = open_encoder(save_weights(tmp_path / "net.pt", {"state_dict": state}))
    assert encoder.facts["architecture"] == text
    assert same_weights(encoder.module, backbone)
    assert encoder.preprocess.size == size
    assert encoder.channels == architecture.channels
    assert encoder.facts["preprocess"] == ASSUMED_FACT


def test_constant_planes_are_what_channels_are_too_many(tmp_path):
    five = Architecture("resnet18", width=8, channels=5)
    encoder = open_encoder(save_weights(tmp_path / "net.pt", build(five).state_dict()))
    assert (encoder.planes, encoder.preprocess.channels) == (2, 3)


def test_what_cannot_be_recognised_asks_for_its_architecture(tmp_path):
    path = save_weights(tmp_path / "net.pt", torch.nn.Linear(3, 4).state_dict())
    with pytest.raises(UsageError, match="net.pt: its architecture cannot be") as error:
        open_encoder(path)
    assert "resnet50[stem=imagenet], timm/NAME" in error.value.fix
    with pytest.raises(InputError, match=r"net.pt: only 0\.0% of the encoder's"):
        open_encoder(path, architecture="resnet18")


@pytest.mark.parametrize(
    ("architecture", "message", "fix"),
    [
        ("resnet81", "unknown architecture 'resnet81'", "did you mean resnet18"),
        ("resnet18[stm=cifar]", "unknown option of an architecture 'stm'", "stem"),
        ("resnet18[stem=imagnet]", "unknown stem 'imagnet'", "imagenet"),
        ("resnet18[", r"architecture 'resnet18\[' cannot be understood", ""),
        ("keras/resnet18", "is none of timm's, torchvision's or ours", "timm/NAME"),
    ],
)
def test_wrong_architectures_are_named(architecture, message, fix, tmp_path):
    path = save_weights(tmp_path / "net.pt", build(SMALL).state_dict())
    with pytest.raises(UsageError, match=message) as error:
        open_encoder(path, architecture=architecture)
    assert fix in error.value.fix


def test_without_weights_a_file_only_gives_its_architecture(tmp_path):
    path = save_weights(tmp_path / "net.pt", build(SMALL, seed=5).state_dict())
    encoder = open_encoder(path, weights=False)
    assert same_weights(encoder.module, build(SMALL, seed=0))


def test_nothing_of_a_file_is_loaded_where_too_little_fits(tmp_path):
    state = build(SMALL, seed=5).state_dict()
    for name in [name for name in state if "layer4.1" in name]:
        del state[name]
    with pytest.raises(InputError, match=r"net.pt: only 90\.0% of the encoder's"):
        open_encoder(save_weights(tmp_path / "net.pt", state), architecture=SMALL_TEXT)


# Names


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("resnet50", "names begin with timm/"),
        ("tim/resnet50", "did you mean timm?"),
        ("torchvison/resnet50", "did you mean torchvision?"),
        ("hf:org/name", "did you mean hf?"),
        ("facebook/dinov2-small", "names begin with timm/"),
    ],
)
def test_what_is_neither_name_nor_file_is_explained(text, fix):
    with pytest.raises(UsageError, match="no such file, and no name") as error:
        open_encoder(text)
    assert fix in error.value.fix


def test_absent_files_and_addresses_are_told_apart(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="no such file"):
        open_encoder(str(tmp_path / "absent.pth"))
    (tmp_path / "runs" / "first").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="runs/fist: no such file") as error:
        open_encoder("runs/fist")
    assert error.value.fix == "did you mean first?"
    with pytest.raises(UsageError, match="is an address"):
        open_encoder("https://example.org/net.pth")
    with pytest.raises(InputError, match="no such file"):
        open_encoder(tmp_path / "timm" / "resnet18")  # a Path is no name


@pytest.mark.parametrize(
    ("device", "error", "message"),
    [
        ("gpu", UsageError, "unknown device 'gpu'"),
        ("cuda:99", ResourceError, "device cuda:99: cannot be used here"),
    ],
)
def test_wrong_devices_are_named(device, error, message, run):
    with pytest.raises(error, match=message):
        open_encoder(str(run), device=device)
