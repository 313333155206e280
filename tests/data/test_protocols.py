import dataclasses
import json
import re

import pytest

from repscope._checking import UsageError
from repscope.data.operations import (
    AutoAugment,
    ColorJitter,
    GaussianBlur,
    Grayscale,
    HorizontalFlip,
    Normalize,
    RandomCrop,
    RandomResizedCrop,
    Solarize,
)
from repscope.data.protocols import CIFAR10, IMAGENET, PROTOCOLS, protocol

# The table of the specification, written a second time: crop (size, least area,
# kernel), jitter (brightness, contrast, saturation, hue; p), grey, flip, blur (taps; p)
# and solarisation of both views, and the order of what each view has.
TABLE = """
simclr        224 .08 bilinear | .8 .8 .8 .2 .8 | .2 | .5 | 23 .5 .5  | -  -  | CFJGBN
simclr_cifar   32 .08 bilinear | .4 .4 .4 .1 .8 | .2 | .5 | -         | -  -  | CFJGN
s0_simclr     224 .08 bilinear | .8 .8 .8 .2 .8 | .2 | .5 | 23 .5 .5  | -  -  | CFJGBN
s3_protocol    32 .08 bilinear | .4 .4 .2 .1 .8 | .2 | .5 | 23 .5 .5  | .1 .1 | CFJGBSN
vicreg        224 .08 bicubic  | .4 .4 .2 .1 .8 | .2 | .5 | 23 1 .1   | 0 .2  | CFJGBSN
barlow        224 .08 bicubic  | .4 .4 .2 .1 .8 | .2 | .5 | 23 1 .1   | 0 .2  | CFJGBSN
byol          224 .08 bicubic  | .4 .4 .2 .1 .8 | .2 | .5 | 23 1 .1   | 0 .2  | CFJGBSN
moco_v1       224 .2 bilinear  | .4 .4 .4 .4 1  | .2 | .5 | -         | -  -  | CGJFN
moco_v2       224 .2 bilinear  | .4 .4 .4 .1 .8 | .2 | .5 | 23 .5 .5  | -  -  | CJGBFN
fastssl        32 .08 bilinear | .4 .4 .4 .1 .8 | .2 | .5 | -         | -  -  | CFJGN
supcon_cifar   32 .2 bilinear  | .4 .4 .4 .1 .8 | .2 | .5 | -         | -  -  | CFJGN
randbit_mnist  28 .5 bilinear  | -              | -  | -  | -         | -  -  | C
digits16       16 .4 bilinear  | -              | -  | -  | -         | -  -  | C
"""
ROWS = [
    [cell.split() for cell in line.split("|")] for line in TABLE.strip().splitlines()
]
KINDS = {
    "C": RandomResizedCrop,
    "F": HorizontalFlip,
    "J": ColorJitter,
    "G": Grayscale,
    "B": GaussianBlur,
    "S": Solarize,
    "N": Normalize,
}


def one(view, kind):
    [found] = [operation for operation in view if isinstance(operation, kind)]
    return found


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][0])
def test_protocols_are_those_of_the_table(row):
    (name, size, area, kernel), jitter, grey, flip, blur, solarised, [order] = row
    made = protocol(name)
    assert len(made.views) == 2
    for i, view in enumerate(made.views):
        assert [type(operation) for operation in view] == [KINDS[k] for k in order]
        assert view[0] == RandomResizedCrop(
            int(size), (float(area), 1.0), (3 / 4, 4 / 3), kernel
        )
        if "J" in order:
            *amounts, p = (float(value) for value in jitter)
            found = one(view, ColorJitter)
            assert (found.p, found.hue_method) == (p, "exact")
            assert found.brightness == pytest.approx(amounts[0])
            assert found.contrast == pytest.approx(amounts[1])
            assert found.saturation == pytest.approx(amounts[2])
            assert found.hue == pytest.approx(amounts[3])
            assert one(view, Grayscale) == Grayscale(float(grey[0]))
            assert one(view, HorizontalFlip) == HorizontalFlip(float(flip[0]))
        if "B" in order:
            expected = GaussianBlur(int(blur[0]), (0.1, 2.0), p=float(blur[1 + i]))
            assert one(view, GaussianBlur) == expected
        if "S" in order:
            assert one(view, Solarize) == Solarize(128 / 255, p=float(solarised[i]))


def test_the_table_has_all_protocols_of_two_views():
    names = [name for name in PROTOCOLS if len(protocol(name).views) == 2]
    assert [row[0][0] for row in ROWS] == names
    assert set(PROTOCOLS) - set(names) == {
        "swav",
        "digits16_multicrop",
        "supervised_cifar",
        "supervised_autoaugment",
    }


@pytest.mark.parametrize(
    ("name", "statistics"),
    [("simclr", IMAGENET), ("s3_protocol", IMAGENET), ("fastssl", CIFAR10)],
)
def test_views_are_normalised_as_published(name, statistics):
    for view in protocol(name).views:
        assert view[-1] == Normalize(*statistics)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_parameter_is_told(name):
    made = protocol(name)
    title, source, *lines = made.describe().splitlines()
    assert (title, source) == (name, f"  source: {made.source}")
    assert len(made.source) > 20
    told = [line.strip() for line in lines if line.startswith("    ")]
    operations = [operation for _, view in made.kinds for operation in view]
    for line, operation in zip(told, operations, strict=True):
        names = [field.name for field in dataclasses.fields(operation)]
        assert line.startswith(type(operation).__name__ + "(")
        assert re.findall(r"(\w+)=", line) == names


def test_views_that_differ_are_told_one_by_one():
    assert "each of 2 views:" in protocol("simclr").describe()
    text = protocol("vicreg").describe()
    first, second = text.split("  view 2:")
    assert "GaussianBlur(kernel=23, sigma=(0.1, 2), p=1)" in first
    assert "GaussianBlur(kernel=23, sigma=(0.1, 2), p=0.1)" in second
    titles = [title for title, _ in protocol("swav").kinds]
    assert titles == ["views 1 to 2", "views 3 to 8"]
    assert "  the only view:" in protocol("supervised_cifar").describe()


@pytest.mark.parametrize("name", PROTOCOLS)
def test_everything_goes_into_json(name):
    made = protocol(name)
    found = made.to_dict()
    assert json.loads(json.dumps(found)) == found
    assert found["name"] == name
    assert [len(view) for view in found["views"]] == [len(view) for view in made.views]
    assert found["views"][0][0]["size"] == made.size


@pytest.mark.parametrize(("size", "taps"), [(32, 3), (64, 7), (96, 9), (224, 23)])
def test_another_size(size, taps):
    made = protocol("simclr", size=size)
    assert made.size == size
    assert one(made.views[1], GaussianBlur).kernel == taps
    # which the paper gives in pixels
    assert one(protocol("s3_protocol", size=size).views[0], GaussianBlur).kernel == 23


@pytest.mark.parametrize("name", ["simclr", "simclr_cifar"])
def test_strength_is_that_of_simclr(name):
    jitter = one(protocol(name, strength=0.25).views[0], ColorJitter)
    assert (jitter.brightness, jitter.hue, jitter.p) == (0.2, 0.05, 0.8)


def test_strength_multiplies_another_jitter():
    jitter = one(protocol("barlow", strength=0.5).views[1], ColorJitter)
    assert (jitter.brightness, jitter.saturation, jitter.hue) == (0.2, 0.1, 0.05)


def test_other_statistics():
    made = protocol("simclr", mean=[0.5], std=[0.25])
    assert all(view[-1] == Normalize((0.5,), (0.25,)) for view in made.views)
    made = protocol("digits16", mean=[0.5], std=[0.25])
    assert [type(operation) for operation in made.views[0]] == [
        RandomResizedCrop,
        Normalize,
    ]


def test_mistakes_are_named():
    with pytest.raises(UsageError, match="'simclrr'\n  fix: did you mean simclr?"):
        protocol("simclrr")
    with pytest.raises(UsageError, match="strength: the protocol digits16 has no"):
        protocol("digits16", strength=0.5)
    with pytest.raises(UsageError, match="give both or neither"):
        protocol("simclr", mean=[0.5])
    with pytest.raises(UsageError, match=r"hue: out of range\n  found: 0\.6"):
        protocol("simclr", strength=3.0)


def test_small_crops_follow_the_large_ones():
    large, small = {"scale": (0.14, 1.0)}, {"scale": (0.05, 0.14)}
    made = protocol("swav")
    assert [one(view, RandomResizedCrop) for view in made.views] == [
        *[RandomResizedCrop(224, **large)] * 2,
        *[RandomResizedCrop(96, **small)] * 6,
    ]
    assert made.size == 224
    for view in made.views:
        assert [type(operation) for operation in view] == [KINDS[k] for k in "CFJGBN"]
        assert one(view, ColorJitter) == ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8)
        assert one(view, GaussianBlur) == GaussianBlur(23, (0.1, 2.0), p=0.5)
    made = protocol("digits16_multicrop")
    assert [view for (view,) in made.views] == [
        *[RandomResizedCrop(16, (0.4, 1.0))] * 2,
        *[RandomResizedCrop(8, (0.1, 0.4))] * 4,
    ]


# 96/224 of the side is 6.9, 13.7, 27.4, 41.1, 54.9 and 2.6 pixels
@pytest.mark.parametrize(
    ("size", "small"), [(16, 6), (32, 14), (64, 28), (96, 42), (128, 54), (6, 4)]
)
def test_small_crops_are_proportional_and_even(size, small):
    sides = [view[0].size for view in protocol("swav", size=size).views]
    assert sides == [size] * 2 + [small] * 6


def test_the_number_of_small_crops_can_be_chosen():
    whole = protocol("swav", size=32)
    for count in (0, 2, 9):
        made = protocol("swav", size=32, small_crops=count)
        assert len(made.views) == 2 + count
        assert made.views[:2] == whole.views[:2]
        assert set(made.views[2:]) <= {whole.views[2]}
    with pytest.raises(
        UsageError, match=r"simclr has none\n.*\n.*choose digits16_multi"
    ):
        protocol("simclr", small_crops=2)
    with pytest.raises(UsageError, match="small_crops.*\n  found: -1; expected: 0 or"):
        protocol("swav", small_crops=-1)


def test_supervised_protocols_have_one_view():
    [view] = protocol("supervised_cifar").views
    start = (RandomCrop(32, 4), HorizontalFlip(0.5))
    assert view == (*start, Normalize(*CIFAR10))
    [view] = protocol("supervised_autoaugment").views
    assert view == (*start, AutoAugment("cifar10"), Normalize(*IMAGENET))
    assert protocol("supervised_cifar", size=64).views[0][0] == RandomCrop(64, 8)
    assert protocol("supervised_cifar").size == 32
