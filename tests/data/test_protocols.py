import dataclasses
import json
import re

import pytest

from repscope._checking import UsageError
from repscope.data.operations import (
    ColorJitter,
    GaussianBlur,
    Grayscale,
    HorizontalFlip,
    Normalize,
    RandomResizedCrop,
    Solarize,
)
from repscope.data.protocols import (
    CIFAR10,
    CROP_STRENGTHS,
    IMAGENET,
    PROTOCOLS,
    protocol,
    strength_sweep,
)

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


def test_the_table_has_all_protocols():
    assert [row[0][0] for row in ROWS] == list(PROTOCOLS)


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
    alike = made.views[0] == made.views[1]
    operations = made.views[0] if alike else made.views[0] + made.views[1]
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


@pytest.mark.parametrize("name", PROTOCOLS)
def test_everything_goes_into_json(name):
    made = protocol(name)
    found = made.to_dict()
    assert json.loads(json.dumps(found)) == found
    assert found["name"] == name
    assert [len(view) for view in found["views"]] == [len(view) for view in made.views]
    assert found["views"][0][0]["ratio"] == [3 / 4, 4 / 3]


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


def test_a_sweep_of_crops_is_the_published_table():
    swept = strength_sweep(protocol("simclr"), "crop")
    scales = [one(made.views[1], RandomResizedCrop).scale for made in swept]
    assert scales == [(0.2, 1.0), (0.2, 0.5), (0.02, 0.1)]
    assert [made.name for made in swept] == [
        "simclr crop=baseline",
        "simclr crop=medium",
        "simclr crop=extreme",
    ]
    assert list(CROP_STRENGTHS) == ["baseline", "medium", "extreme"]


def test_a_sweep_of_colours_is_simclr_s_grid():
    swept = strength_sweep(protocol("s3_protocol"), "color")
    jitters = [one(made.views[0], ColorJitter) for made in swept]
    for jitter, strength in zip(jitters, (1 / 8, 1 / 4, 1 / 2, 1), strict=True):
        assert jitter.brightness == jitter.contrast == jitter.saturation
        assert jitter.brightness == pytest.approx(0.8 * strength)
        assert jitter.hue == pytest.approx(0.2 * strength)
        assert jitter.p == 0.8
    assert swept[0].name == "s3_protocol color=0.125"


@pytest.mark.parametrize(
    ("axis", "kind", "levels"),
    [
        ("crop", RandomResizedCrop, ["medium", (0.3, 0.4)]),
        ("color", ColorJitter, [0.0, 0.7]),
        ("blur", GaussianBlur, [0.3, 0.9]),
        ("gray", Grayscale, [0.0, 1.0]),
    ],
)
def test_a_sweep_changes_one_operation_in_all_views(axis, kind, levels):
    base = protocol("vicreg", size=32)
    swept = strength_sweep(base, axis, levels)
    assert len({made.name for made in swept}) == len(swept) == 2
    for made in swept:
        assert made.source == base.source
        for old, new in zip(base.views, made.views, strict=True):
            changed = [a for a, b in zip(old, new, strict=True) if a != b]
            assert [type(operation) for operation in changed] == [kind]


def test_impossible_sweeps_are_refused():
    base = protocol("simclr")
    with pytest.raises(UsageError, match="digits16 has no GaussianBlur"):
        strength_sweep(protocol("digits16"), "blur")
    with pytest.raises(UsageError, match="did you mean extreme"):
        strength_sweep(base, "crop", ["extrem"])
    for level in (0.5, (0.1, 0.2, 0.3)):
        with pytest.raises(UsageError, match="level: a crop needs the least and the"):
            strength_sweep(base, "crop", [level])
    with pytest.raises(UsageError, match="p: out of range"):
        strength_sweep(base, "gray", [2.0])
