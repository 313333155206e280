"""Records of architectures: what they refuse, and what their kinds complete."""

import pytest

from repscope._checking import UsageError
from repscope.models import architecture
from repscope.models.architecture import Architecture
from repscope.models.backbones import BACKBONES, build, completed


def test_a_record_survives_a_dictionary():
    record = Architecture("resnet18", channels=5, width=16, stem="imagenet")
    assert Architecture.from_dict(record.to_dict()) == record


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
    ],
)
def test_a_size_that_is_no_choice_is_refused(record, message):
    with pytest.raises(UsageError, match=message):
        completed(record)


def test_defaults_are_written_into_the_record_of_the_backbone():
    assert build(Architecture("res_lh")).architecture == Architecture(
        "res_lh", depth=5, width=50
    )


def test_the_list_of_backbones_is_closed():
    with pytest.raises(TypeError):
        BACKBONES["other"] = BACKBONES["small_conv"]  # type: ignore[index]
