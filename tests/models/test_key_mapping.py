import re

import hypothesis
import pytest
import torch
from hypothesis import strategies

from repscope._checking import InputError
from repscope.models.architecture import Architecture
from repscope.models.backbones import build, outline
from repscope.models.key_layouts import LAYOUTS, renamed_keys, unwrapped
from repscope.models.key_mapping import best_match, load_into, map_keys, shapes_of
from repscope.models.recognition import recognised

IMAGENET = Architecture("resnet18", width=8, stem="imagenet")
CIFAR = Architecture("resnet18", width=8)
STATE = build(IMAGENET, seed=1).state_dict()
CIFAR_STATE = build(CIFAR, seed=1).state_dict()
TARGET = shapes_of(STATE)
HEAD = {"weight": torch.ones(3, 64), "bias": torch.ones(3)}


def under(prefix, state=STATE):
    return {prefix + name: tensor for name, tensor in state.items()}


def head(prefix):
    return {f"{prefix}.{name}": tensor for name, tensor in HEAD.items()}


def counted(state, places, prefix=""):
    """Name a network's first parts by their place among its children."""
    renamed = {}
    for name, tensor in state.items():
        part, rest = name.split(".", 1)
        renamed[f"{prefix}{places[part]}.{rest}"] = tensor
    return renamed


def kuangliu(state):
    """The names of pytorch-cifar, where the way around a block is its shortcut."""
    return {name.replace("downsample", "shortcut"): t for name, t in state.items()}


# nn.Sequential(*list(torchvision.models.resnet18().children())[:-1]): conv1, bn1, relu,
# maxpool, layer1 ... layer4, avgpool. Examples of lightly-ai/lightly.
PARTS = ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")
OF_TORCHVISION = dict(zip(PARTS, (0, 1, 4, 5, 6, 7), strict=True))
# lightly/models/resnet.py: conv1, bn1, layer1 ... layer4, linear.
OF_LIGHTLY = dict(zip(PARTS, range(6), strict=True))

CHECKPOINTS = {
    # pytorch/vision; facebookresearch/swav under DistributedDataParallel
    "torchvision": (STATE | head("fc"), IMAGENET),
    "swav": (
        under("module.") | head("module.projection_head.0") | head("module.prototypes"),
        IMAGENET,
    ),
    # lightly examples: self.backbone = nn.Sequential(*children[:-1]), momentum twins
    "lightly": (
        counted(STATE, OF_TORCHVISION, "backbone.")
        | counted(STATE, OF_TORCHVISION, "backbone_momentum.")
        | head("projection_head.layers.0"),
        IMAGENET,
    ),
    # lightly.models.ResNetGenerator, cut the same way
    "lightly ResNetGenerator": (
        counted(kuangliu(CIFAR_STATE), OF_LIGHTLY, "backbone.")
        | head("projection_head.layers.3"),
        CIFAR,
    ),
    # solo-learn, solo/methods/base.py: backbone (encoder before 1.0.3), classifier,
    # momentum_backbone
    "solo-learn": (
        under("backbone.")
        | under("momentum_backbone.")
        | head("classifier")
        | head("projector.0"),
        IMAGENET,
    ),
    "solo-learn, old": (under("encoder.") | head("classifier"), IMAGENET),
    # vissl/models/trunks/resnext.py: a ModuleDict of torchvision's parts
    "vissl": (under("_feature_blocks."), IMAGENET),
    "vissl, whole": (under("trunk.base_model._feature_blocks."), IMAGENET),
    # facebookresearch/moco, moco/builder.py under DistributedDataParallel
    "moco": (
        under("module.encoder_q.")
        | under("module.encoder_k.", build(IMAGENET, seed=2).state_dict())
        | head("module.encoder_q.fc.0")
        | {"module.queue": torch.ones(3, 5), "module.queue_ptr": torch.ones(1)},
        IMAGENET,
    ),
    # facebookresearch/moco-v3: base_encoder, momentum_encoder, predictor
    "moco v3": (
        under("module.base_encoder.")
        | under("module.momentum_encoder.")
        | head("module.predictor.0"),
        IMAGENET,
    ),
    # facebookresearch/dino: MultiCropWrapper has backbone and head
    "dino": (under("backbone.") | head("head.mlp.0"), IMAGENET),
    "dino student": (under("module.backbone.") | head("module.head.mlp.0"), IMAGENET),
    # facebookresearch/simsiam: the projector is encoder.fc
    "simsiam": (under("module.encoder.") | head("module.encoder.fc.0"), IMAGENET),
    # facebookresearch/barlowtwins and vicreg
    "barlow": (under("module.backbone.") | head("module.projector.0"), IMAGENET),
    # HobbitLong/SupContrast: encoder = DataParallel(encoder), and the whole in DDP
    "supcontrast": (
        under("encoder.module.", kuangliu(CIFAR_STATE)) | head("head.0"),
        CIFAR,
    ),
    "supcontrast, ddp": (
        under("module.encoder.", kuangliu(CIFAR_STATE)) | head("module.head.2"),
        CIFAR,
    ),
    # sthalles/SimCLR: the projection head is backbone.fc
    "simclr": (under("backbone.") | head("backbone.fc.0"), IMAGENET),
    # lucidrains/byol-pytorch: NetWrapper has net and projector
    "byol": (
        under("online_encoder.net.")
        | under("target_encoder.net.")
        | head("online_encoder.projector.0"),
        IMAGENET,
    ),
    # Lightning: the network is an attribute, often called model
    "lightning": (under("model.") | head("model.fc"), IMAGENET),
    "lightning of a method": (under("model.backbone.") | head("model.head"), IMAGENET),
    # torch.compile wraps the whole or a part
    "compiled": (under("_orig_mod."), IMAGENET),
    "compiled part in ddp": (under("module.backbone._orig_mod."), IMAGENET),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_every_public_layout_matches_all_tensors(name):
    state, architecture = CHECKPOINTS[name]
    expected = build(architecture, seed=1).state_dict()
    match = map_keys(state, shapes_of(expected))
    assert match.share == 1 and match.missing == () == match.unexpected
    assert set(match.loaded) == set(expected)
    assert all(torch.equal(match.loaded[key], expected[key]) for key in expected)


def test_what_is_no_encoder_is_named_as_left_out():
    match = map_keys(CHECKPOINTS["moco"][0], TARGET)
    assert match.layout == "MoCo, `encoder_q.`"
    left_out = {"encoder_k": 120, "fc": 2, "queue": 1, "queue_ptr": 1}
    assert dict(match.left_out) == left_out
    assert "left out on purpose: encoder_k (120), fc (2)" in match.report()


def test_the_report_counts_by_hand():
    # 20 convolutions and 20 normalisations of four tensors each; counters do not count
    state = {name: t for name, t in STATE.items() if name != "layer1.0.bn1.bias"}
    match = map_keys(state | {"extra.weight": torch.ones(1)}, TARGET)
    assert (match.matched, match.needed) == (99, 100)
    assert match.report().splitlines() == [
        "layout: plain",
        "matched: 99 of 100 tensors (99.0%)",
        "missing, left as initialised: layer1.0.bn1.bias",
        "not in the network: extra.weight",
    ]


def test_counters_of_batches_may_be_absent_or_of_another_shape():
    state = {n: t for n, t in STATE.items() if not n.endswith("num_batches_tracked")}
    assert map_keys(state, TARGET).share == 1
    state["bn1.num_batches_tracked"] = torch.ones(3)
    assert map_keys(state, TARGET).share == 1


def without(count):
    names = [n for n in STATE if not n.endswith("num_batches_tracked")][-count:]
    return {name: tensor for name, tensor in STATE.items() if name not in names}


def test_94_percent_is_an_error_and_95_loads_with_its_report():
    match = map_keys(without(5), TARGET)
    assert match.share == 0.95 and "95 of 100 tensors (95.0%)" in match.report()
    with pytest.raises(InputError, match="net.pth: only 94.0% of the encoder's") as e:
        map_keys(without(6), TARGET, name="net.pth")
    assert "matched: 94 of 100 tensors" in e.value.what
    assert "missing, left as initialised: layer4.1." in e.value.what
    assert "name the architecture that was trained" in e.value.fix
    assert e.value.exit_code == 3


def test_one_tensor_of_another_shape_is_an_error_though_99_percent_match():
    # a 3x3 stem in a 7x7 one: the first layer would stay random
    with pytest.raises(InputError, match="c.pt: tensors of another shape") as error:
        map_keys(CIFAR_STATE, TARGET, name="c.pt")
    assert "conv1.weight is 8 x 3 x 3 x 3, needs 8 x 3 x 7 x 7" in error.value.what


def test_a_deeper_network_is_no_shallower_one_though_100_percent_match():
    deeper = STATE | {
        f"layer1.{block}.conv{i}.weight": torch.ones(8, 8, 3, 3)
        for block in (2, 3, 4)
        for i in (1, 2)
    }
    assert best_match(deeper, TARGET).share == 1
    with pytest.raises(InputError, match="6 tensors have no place in the encoder"):
        map_keys(deeper, TARGET)


def test_another_network_is_an_error():
    with pytest.raises(InputError, match=r"only 0\.0% of the encoder's tensors"):
        map_keys(torch.nn.Linear(3, 4).state_dict(), TARGET)
    with pytest.raises(InputError, match=r"only 0\.0%"):
        map_keys({}, TARGET)


def test_an_unknown_prefix_is_found_where_there_is_only_one():
    match = map_keys(under("image.tower.") | head("text.head"), TARGET)
    assert match.layout == "a prefix of its own, `image.tower.`"
    with pytest.raises(InputError, match=r"only 0\.0%"):
        map_keys(under("one.net.") | under("two.net."), TARGET)


def test_of_teacher_and_student_the_teacher_is_taken():
    state = under("student.backbone.") | under(
        "teacher.backbone.", build(IMAGENET, seed=2).state_dict()
    )
    assert best_match(state, TARGET).layout == "backbone, `teacher.backbone.`"


def test_loading_fills_the_module_and_casts_to_its_type():
    module = build(IMAGENET, seed=3)
    half = {name: t.half() if t.is_floating_point() else t for name, t in STATE.items()}
    match = load_into(module, half)
    assert match.share == 1 and module.conv1.weight.dtype == torch.float32
    torch.testing.assert_close(module.state_dict(), STATE, rtol=1e-3, atol=1e-4)


def one_of(tensor, value):
    tensor[0, 0, 0, 0] = value
    return tensor


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: one_of(t, torch.nan), "`conv1.weight` holds NaN or infinity"),
        (lambda t: one_of(t, torch.inf), "`conv1.weight` holds NaN or infinity"),
        (lambda t: t.to(torch.int8), "`conv1.weight` is of type int8"),
    ],
)
def test_spoilt_weights_are_refused_and_the_module_stays(spoil, message):
    module = build(IMAGENET, seed=3)
    before = module.bn1.weight.clone(), module.conv1.weight.clone()
    state = STATE | {"conv1.weight": spoil(STATE["conv1.weight"].clone())}
    with pytest.raises(InputError, match=f"^w.pt: {message}"):
        load_into(module, state, name="w.pt")
    assert torch.equal(module.bn1.weight, before[0])
    assert torch.equal(module.conv1.weight, before[1])


def test_names_of_a_file_do_no_harm_on_a_terminal():
    evil = "\x1b[2J" + "x" * 500
    report = best_match(STATE | {evil: torch.ones(1)}, TARGET).report()
    assert "\x1b" not in report and "?[2Jxxx" in report
    assert max(map(len, report.splitlines())) < 200


def test_every_layout_names_its_source_and_prefixes_end_with_a_dot():
    assert len({layout.name for layout in LAYOUTS}) == len(LAYOUTS)
    for layout in LAYOUTS:
        assert re.search(r"\w+-?\w*/\w+", layout.source)
        assert all(prefix == "" or prefix.endswith(".") for prefix in layout.prefixes)


def test_of_two_names_that_become_one_the_first_is_kept():
    state = {"module.a.b": torch.ones(1), "a._orig_mod.b": torch.zeros(1)}
    assert unwrapped(state) == {"a.b": state["module.a.b"]}
    twice = {"0.w": torch.ones(1), "conv1.w": torch.zeros(1)}
    counting = next(layout for layout in LAYOUTS if layout.name == "lightly")
    renamed, others = renamed_keys(twice, counting, "")
    assert renamed == {"conv1.w": twice["0.w"]} and others == {"conv1": 1}


def test_resnet50_matches_in_every_residual_layout():
    big = Architecture("resnet50", width=4, stem="imagenet")
    state = {n: torch.empty(t.shape) for n, t in outline(big).state_dict().items()}
    target = shapes_of(state)
    for names in (
        counted(state, OF_TORCHVISION, "backbone."),
        counted(kuangliu(state), OF_LIGHTLY, "backbone."),
        under("encoder.", kuangliu(state)),
        under("trunk._feature_blocks.", state),
    ):
        assert map_keys(names, target).share == 1


PARTS_OF_NAMES = strategies.sampled_from(
    [*PARTS, "0", "4", "module", "_orig_mod", "backbone", "shortcut", "weight", "", "x"]
)
NAMES = strategies.lists(PARTS_OF_NAMES | strategies.text(max_size=4), max_size=6)


@hypothesis.settings(max_examples=50)
@hypothesis.given(strategies.lists(NAMES, max_size=8))
def test_any_names_are_mapped_or_refused_and_nothing_else(names):
    state = {".".join(parts): torch.ones(1) for parts in names}
    with pytest.raises(InputError, match="of the encoder's tensors are in it"):
        map_keys(state, TARGET)
    assert recognised(state) is None
    recognised({name: torch.ones(8, 3, 3, 3) for name in state})
