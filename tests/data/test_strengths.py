import dataclasses

import pytest

from repscope._checking import UsageError
from repscope.data.operations import (
    ColorJitter,
    GaussianBlur,
    Grayscale,
    RandomResizedCrop,
)
from repscope.data.protocols import protocol
from repscope.data.strengths import CROP_STRENGTHS, strength_sweep, with_strength
from repscope.training.preparation import views_of
from repscope.training.sections import AugmentationSection


def one(view, kind):
    [found] = [operation for operation in view if isinstance(operation, kind)]
    return found


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


def test_what_distinguishes_the_views_stays():
    # the second view of BYOL is blurred a tenth as often as the first
    made = with_strength(protocol("byol"), "blur", 0.5)
    blurs = [one(view, GaussianBlur).p for view in made.views]
    assert blurs == pytest.approx([0.5, 0.05])
    made = with_strength(protocol("swav"), "crop", "medium")
    scales = [one(view, RandomResizedCrop).scale for view in made.views]
    assert scales == [(0.2, 0.5)] * 2 + [(0.05, 0.14)] * 6
    made = with_strength(protocol("swav"), "color", 0.5)
    assert {one(view, ColorJitter).brightness for view in made.views} == {0.4}


def test_an_operation_that_never_comes_can_come():
    never = with_strength(protocol("byol"), "gray", 0.0)
    made = with_strength(never, "gray", 0.5)
    assert [one(view, Grayscale).p for view in made.views] == [0.5, 0.5]


@pytest.mark.parametrize("level", CROP_STRENGTHS)
@pytest.mark.parametrize("name", ["simclr", "byol"])
def test_recipes_reach_every_level_of_the_table_of_crops(name, level):
    low, high = CROP_STRENGTHS[level]
    section = AugmentationSection(name, crop_minimum=low, crop_maximum=high)
    expected = with_strength(protocol(name, size=32), "crop", level)
    assert views_of(section, 32).views == expected.views


@pytest.mark.parametrize("level", [1 / 8, 1 / 4, 1 / 2, 1.0])
@pytest.mark.parametrize("name", ["simclr", "simclr_cifar", "s0_simclr", "swav"])
def test_recipes_reach_every_level_of_the_table_of_colours(name, level):
    section = AugmentationSection(name, strength=level)
    expected = with_strength(protocol(name, size=32), "color", level)
    assert views_of(section, 32).views == expected.views


@pytest.mark.parametrize("axis", ["gray", "blur"])
def test_recipes_reach_every_probability(axis):
    for level in (0.0, 0.2, 1.0):
        section = dataclasses.replace(AugmentationSection("simclr"), **{axis: level})
        expected = with_strength(protocol("simclr", size=32), axis, level)
        assert views_of(section, 32).views == expected.views
