"""The drawn shapes are those of the specification, and their factors are the truth."""

import math
import re

import numpy as np
import pytest
import scipy.stats
from sklearn.linear_model import LogisticRegression

from repscope._checking import UsageError
from repscope.data.shapes import RANGES, SHAPES, VARIANTS, gauge, shapes20


def array_of(shapes):
    return shapes.images.pixels(np.arange(shapes.images.n)).array


def opacity_by_hand(variant, factors, row, column, size):
    """Return a pixel's opacity, word for word from the specification."""
    x = (2 * column + 1) / size - 1 - factors["centre_x"]
    y = (2 * row + 1) / size - 1 - factors["centre_y"]
    angle, scale = factors["rotation"], factors["scale"]
    x, y = (
        (math.cos(angle) * x + math.sin(angle) * y) / scale,
        (-math.sin(angle) * x + math.cos(angle) * y) / scale,
    )
    superclass, kind = divmod(variant, 4)
    asp = 1 if kind in (0, 2) else 0.5
    if superclass == 0:
        r = math.sqrt(x**2 + (y / asp) ** 2)
    elif superclass == 1:
        r = 1.15 * max(abs(x), abs(y) / asp)
    elif superclass == 2:
        r = max(y / asp, 1.4 * abs(x) - 0.7 * y / asp)
    elif superclass == 3 and kind in (0, 2):
        r = min(max(abs(x), 3 * abs(y)), max(3 * abs(x), abs(y)))
    elif superclass == 3:
        r = min(
            max(abs(x + y) / 1.4, 2.2 * abs(x - y)),
            max(2.2 * abs(x + y), abs(x - y) / 1.4),
        )
    else:
        n = 3 if kind in (0, 2) else 5
        radius = math.sqrt(x**2 + y**2)
        r = radius / (0.65 + 0.35 * math.cos(n * math.atan2(y, x)))

    def sigmoid(value):
        return 1 / (1 + math.exp(-value))

    hollow = sigmoid(14 * (0.55 - r)) if kind in (2, 3) else 0
    return sigmoid(14 * (0.9 - r)) - hollow


def test_pixels_are_background_and_contrast_times_opacity_with_noise():
    shapes = shapes20(40, size=16, seed=3)
    pixels = array_of(shapes)[..., 0] / 255
    rest = []
    for one, variant in enumerate(shapes.images.levels[0].codes.tolist()):
        factors = {name: float(values[one]) for name, values in shapes.factors.items()}
        for row in range(16):
            for column in range(16):
                opacity = opacity_by_hand(variant, factors, row, column, 16)
                assert shapes.masks[one, row, column] == (opacity >= 0.5)
                expected = factors["background"] + factors["contrast"] * opacity
                if 0.2 < expected < 0.8:  # four deviations from what is clipped
                    rest.append(pixels[one, row, column] - expected)
    # Noise N(0, .05): the errors of mean and deviation at this n, four times over.
    n = len(rest)
    assert n > 2000
    assert abs(np.mean(rest)) < 4 * 0.05 / np.sqrt(n)
    assert abs(np.std(rest) - 0.05) < 4 * 0.05 / np.sqrt(2 * n)
    assert scipy.stats.kstest(np.array(rest) / 0.05, "norm").pvalue > 0.01


def test_every_twenty_rows_hold_every_variant_in_another_order():
    images = shapes20(100).images
    blocks = images.levels[0].codes.reshape(5, 20)
    assert (np.sort(blocks, axis=1) == np.arange(20)).all()
    assert len({tuple(block) for block in blocks.tolist()}) == 5


def test_each_variant_is_called_after_its_shape():
    images = shapes20(20).images
    assert [level.name for level in images.levels] == ["variant", "shape"]
    for variant, shape in zip(*images.labels.values(), strict=True):
        assert variant.split()[-1] == shape
    assert len(set(VARIANTS)) == 20
    assert [name.split()[-1] for name in VARIANTS[::4]] == [*SHAPES]


def test_a_longer_set_begins_with_the_shorter_one():
    short, long = shapes20(33), shapes20(70)
    np.testing.assert_array_equal(array_of(short), array_of(long)[:33])
    np.testing.assert_array_equal(short.masks, long.masks[:33])
    assert short.images.fingerprint == long.images.subset(np.arange(33)).fingerprint


def test_another_seed_draws_other_pictures():
    first, second = shapes20(40), shapes20(40, seed=1)
    assert (
        first.images.levels[0].codes.tolist() != second.images.levels[0].codes.tolist()
    )
    for name, values in first.factors.items():
        assert abs(np.corrcoef(values, second.factors[name])[0, 1]) < 0.6


def test_factors_are_uniform_and_tell_nothing_of_the_class_or_of_one_another():
    shapes = shapes20(2000)
    codes = shapes.images.levels[0].codes
    assert set(shapes.factors) == set(RANGES)
    for name, (low, high) in RANGES.items():
        values = shapes.factors[name]
        uniform = scipy.stats.uniform(low, high - low)
        assert scipy.stats.kstest(values, uniform.cdf).pvalue > 0.01
        groups = [values[codes == code] for code in range(20)]
        assert scipy.stats.kruskal(*groups).pvalue > 0.01
    correlations = np.corrcoef([*shapes.factors.values()]) - np.eye(len(RANGES))
    assert np.abs(correlations).max() < 4 / np.sqrt(2000)


def test_each_factor_is_an_attribute_in_fifths():
    shapes = shapes20(500)
    assert [one.name for one in shapes.images.attributes] == [*RANGES]
    for one in shapes.images.attributes:
        low, high = RANGES[one.name]
        fifth = (shapes.factors[one.name] - low) / (high - low) * 5
        assert one.n_classes == 5
        assert (one.codes <= fifth).all()
        assert (fifth <= one.codes + 1).all()


def upright(variant, size=64):
    """Return where a shape is that is neither turned nor moved."""
    # Twice as far as the picture, which cuts the tops of the triangles off.
    place = (4 * np.arange(size) + 2) / size - 2
    x, y = np.meshgrid(place, place)
    return gauge(variant, x, y) < 0.9


def sides(mask):
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.ptp(rows) + 1, np.ptp(columns) + 1


@pytest.mark.parametrize("shape", [0, 1, 2])
def test_flat_variants_are_half_as_high(shape):
    height, width = sides(upright(4 * shape))
    flat_height, flat_width = sides(upright(4 * shape + 1))
    assert abs(flat_height - height / 2) <= 1
    assert flat_width == width


def test_a_triangle_stands_on_its_side():
    widths = upright(8).sum(axis=1)
    assert (np.diff(widths[widths > 0]) >= 0).all()
    assert widths.max() > 3 * widths[widths > 0].min()


@pytest.mark.parametrize(
    ("variant", "runs"), [(0, 0), (12, 4), (13, 4), (16, 3), (17, 5)]
)
def test_arms_are_counted_on_a_circle(variant, runs):
    angles = np.linspace(0, 2 * np.pi, 2000, endpoint=False)
    inside = (
        gauge(variant, 0.6 * np.cos(angles)[None], 0.6 * np.sin(angles)[None]) < 0.9
    )
    starts = inside[0] & ~np.roll(inside[0], 1)
    assert starts.sum() == runs


def test_an_upright_cross_turned_by_an_eighth_is_like_a_diagonal_one():
    ways = np.linspace(-1, 1, 41)
    x, y = np.meshgrid(ways, ways)
    turned_x, turned_y = (x - y) / np.sqrt(2), (x + y) / np.sqrt(2)
    turned = gauge(12, turned_x, turned_y) < 0.9
    diagonal = gauge(13, x, y) < 0.9
    assert (turned & diagonal).sum() > 0.8 * (turned | diagonal).sum()


def test_hollow_variants_have_a_hole_in_the_middle():
    shapes = shapes20(200, size=32)
    hollow = shapes.images.levels[0].codes % 4 >= 2
    middle = shapes.masks[:, 15:17, 15:17].mean(axis=(1, 2))
    # The middle is at most .1 of the half side away, and holes are .55 wide.
    round_ones = shapes.images.levels[1].codes < 2
    assert (middle[hollow & round_ones] == 0).all()
    assert (middle[~hollow & round_ones] == 1).all()


def test_masks_are_brighter_than_what_is_around_them():
    shapes = shapes20(100)
    pixels, inside = array_of(shapes)[..., 0], shapes.masks == 1
    for picture, mask in zip(pixels, inside, strict=True):
        assert picture[mask].mean() > picture[~mask].mean() + 30


def test_a_tint_multiplies_the_grey_picture():
    grey, tinted = shapes20(60), shapes20(60, colour=0.8)
    assert (grey.images.channels, tinted.images.channels) == (1, 3)
    np.testing.assert_array_equal(grey.masks, tinted.masks)
    tints = np.stack(
        [tinted.factors[name] for name in ("red", "green", "blue")], axis=1
    )
    assert tints.min() >= 0.2
    assert (
        scipy.stats.kstest(tints.ravel(), scipy.stats.uniform(0.2, 0.8).cdf).pvalue
        > 0.01
    )
    expected = array_of(grey) * tints[:, None, None]
    assert np.abs(array_of(tinted) - expected).max() <= 1  # each rounds once
    named = tinted.images.level("tint")
    assert [named.classes[code] for code in named.codes] == [
        ("red", "green", "blue")[one] for one in tints.argmax(axis=1)
    ]


def test_raw_pixels_tell_the_variants_apart():
    images = shapes20(3000).images
    pixels = images.pixels(np.arange(3000)).array.reshape(3000, -1) / 255
    codes = images.levels[0].codes
    classifier = LogisticRegression(max_iter=300).fit(pixels[:2000], codes[:2000])
    assert classifier.score(pixels[2000:], codes[2000:]) >= 0.989


@pytest.mark.parametrize(
    "options", [{"n": 0}, {"size": 7}, {"colour": 1.1}, {"colour": -0.1}]
)
def test_arguments_outside_of_their_range_are_refused(options):
    message = (
        "^shapes20: an argument outside of its range\n  found: n .*n >= 1, size >="
    )
    with pytest.raises(UsageError, match=message):
        shapes20(**({"n": 5} | options))


def test_a_set_of_one_and_of_any_size():
    assert re.match("ImageSet\\('shapes20', 1 pictures", repr(shapes20(1).images))
    assert shapes20(3, size=33).images.images.shape == (33, 33, 1)
