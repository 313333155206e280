"""Records of architectures: what they refuse, and what their kinds complete."""

import json

import pytest

from repscope._checking import UsageError
from repscope.models import architecture
from repscope.models.architecture import Architecture
from repscope.models.backbones import BACKBONES, build, completed, takes_size


@pytest.mark.parametrize(
    "record",
    [
        Architecture("resnet18", channels=5, width=16, stem="imagenet"),
        Architecture("vit", size=32, patch=8, heads=2, depth=1, width=4),
        Architecture("mlp", size=8, hidden=(7, 5)),
        Architecture("mlp", size=8, hidden=()),
    ],
    ids=str,
)
def test_a_record_survives_a_dictionary_and_json(record):
    assert Architecture.from_dict(record.to_dict()) == record
    assert Architecture.from_dict(json.loads(json.dumps(record.to_dict()))) == record


def test_a_record_without_the_later_fields_is_read():
    old = {"name": "res_lh", "channels": 3, "depth": 2, "width": 8, "stem": "cifar"}
    assert Architecture.from_dict(old) == Architecture("res_lh", depth=2, width=8)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "small_conv", "widht": 3}, "did you mean width"),
        ({"width": 3}, "no name"),
        ({"name": 3}, "no name"),
        ({"name": "small_conv", "stem": ["cifar"]}, "stem"),
        ({"name": "small_conv", "stem": "cifr"}, "did you mean cifar"),
        ({"name": "small_conv", "width": True}, "width is True"),
        ({"name": "small_conv", "width": 0}, "from 1 to 65,536"),
        ({"name": "res_lh", "depth": 10**9}, "from 1 to 1,000"),
        ({"name": "vit", "patch": 0}, "patch is 0"),
        ({"name": "vit", "size": 2**20}, "from 1 to 16,384"),
        ({"name": "mlp", "hidden": [3, 0]}, "hidden is 0"),
        ({"name": "mlp", "hidden": ["3"]}, "hidden is '3'"),
        ({"name": "mlp", "hidden": [1] * 101}, "101 of them"),
    ],
)
def test_a_wrong_field_is_named(values, message):
    with pytest.raises(UsageError, match=message):
        Architecture.from_dict(values)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("width", "32", "width is '32'"),
        ("depth", 3.0, "depth is 3.0"),
        ("channels", None, "channels is None"),
        ("stem", "cifr", "did you mean cifar"),
        ("heads", True, "heads is True"),
        ("hidden", 64, r"hidden is no list of widths\n.*as \[256, 64\]"),
    ],
)
def test_a_field_of_another_type_is_named(as_users_have_it, field, value, message):
    plain = as_users_have_it(architecture)
    with pytest.raises(UsageError, match=message):
        plain.Architecture.from_dict({"name": "res_lh", field: value})


def test_an_unknown_backbone_is_refused_with_the_closest():
    with pytest.raises(UsageError, match="did you mean resnet18"):
        build(Architecture("resnet81"))


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (Architecture("resnet18", depth=3), "resnet18 has no depth"),
        (Architecture("randbit_conv", width=3), "randbit_conv has no width"),
        (Architecture("res_lh", stem="imagenet"), "resnet18, resnet50 have one"),
        (Architecture("vgg11", depth=3), "vgg11 has no depth"),
        (Architecture("small_conv", patch=4), "small_conv has no patch"),
        (Architecture("small_conv", hidden=(3,)), "small_conv has no hidden"),
        (Architecture("resnet18", size=32), "resnet18 has no size"),
        (Architecture("linear", size=32, hidden=(3,)), "linear has no hidden"),
        (Architecture("shallow_conv", depth=3), "depth is 3\n.*2, 4, 6, 8"),
        (Architecture("vit"), "vit: size is missing"),
        (Architecture("linear"), "linear: size is missing"),
        (Architecture("mlp"), "mlp: size is missing"),
        (Architecture("vit", size=30), "patch must divide size\n.*patch=4, size=30"),
        (Architecture("vit", size=32, heads=5), "heads must divide width\n.*heads=5"),
    ],
)
def test_a_size_that_is_no_choice_is_refused(record, message):
    with pytest.raises(UsageError, match=message):
        completed(record)


def test_defaults_are_written_into_the_record_of_the_backbone():
    assert build(Architecture("res_lh")).architecture == Architecture(
        "res_lh", depth=5, width=50
    )


def test_all_sizes_of_a_transformer_are_completed():
    assert completed(Architecture("vit", size=16)) == Architecture(
        "vit", size=16, depth=4, width=96, patch=4, heads=3
    )


def test_no_hidden_layers_are_not_the_default_ones():
    assert completed(Architecture("mlp", size=16, hidden=())).hidden == ()
    assert completed(Architecture("mlp", size=16)).hidden == (512, 512)


@pytest.mark.parametrize("name", BACKBONES)
def test_a_kind_says_whether_it_takes_the_size_of_the_images(name):
    size = 32 if takes_size(name) else None
    assert completed(Architecture(name, size=size)).size == size
    with pytest.raises(UsageError, match="size"):
        completed(Architecture(name, size=None if size else 32))


def test_the_list_of_backbones_is_closed():
    with pytest.raises(TypeError):
        BACKBONES["other"] = BACKBONES["small_conv"]  # type: ignore[index]
