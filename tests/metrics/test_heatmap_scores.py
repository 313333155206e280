"""Heatmaps against masks: by hand, by naive loops, at the limits."""

import numpy as np
import pytest

from repscope._checking import InputError, Undecidable, UsageError
from repscope.metrics.heatmap_scores import (
    energy_ratio,
    feature_tag,
    heatmap_core_overlap,
    heatmap_energy,
    pointing_game,
)

SCORES = (heatmap_core_overlap, heatmap_energy, pointing_game)


def planted(n=40, size=10, on_object=True):
    """Return heatmaps with a bright square, and masks of it or of the other corner."""
    generator = np.random.default_rng(0)
    heatmaps = 0.01 * generator.random((n, size, size))
    masks = np.zeros((n, size, size), dtype=bool)
    heatmaps[:, :4, :5] += 1  # a fifth of the pixels
    if on_object:
        masks[:, :4, :5] = True
    else:
        masks[:, -4:, -5:] = True
    return heatmaps, masks


def test_a_feature_that_looks_at_the_object_reaches_the_top():
    heatmaps, masks = planted()
    assert heatmap_core_overlap(heatmaps, masks).value == 1
    assert pointing_game(heatmaps, masks).value == 1
    assert heatmap_energy(heatmaps, masks).value > 0.97


def test_a_feature_that_looks_elsewhere_reaches_the_bottom():
    heatmaps, masks = planted(on_object=False)
    assert heatmap_core_overlap(heatmaps, masks).value == 0
    assert pointing_game(heatmaps, masks).value == 0
    assert heatmap_energy(heatmaps, masks).value < 0.03


def test_scores_by_hand():
    heatmaps = np.array([[[4.0, 3.0], [2.0, 1.0]]])
    masks = np.array([[[True, False], [True, False]]])
    # the two brightest are the upper ones: one of three pixels is in both
    assert heatmap_core_overlap(heatmaps, masks, top=0.5).value == pytest.approx(1 / 3)
    assert heatmap_energy(heatmaps, masks).value == pytest.approx(0.6)
    assert energy_ratio(heatmaps, masks, ~masks).value == pytest.approx(1.5)


def test_scores_equal_loops_over_sets_of_pixels():
    generator = np.random.default_rng(1)
    heatmaps = generator.random((6, 5, 4))
    masks = generator.random((6, 5, 4)) < 0.4
    overlaps, energies, hits = [], [], []
    for heat, mask in zip(heatmaps, masks, strict=True):
        pixels = sorted(np.ndindex(5, 4), key=lambda at, heat=heat: -heat[at])
        bright, inside = set(pixels[:4]), set(zip(*np.nonzero(mask), strict=True))
        overlaps.append(len(bright & inside) / len(bright | inside))
        energies.append(sum(heat[at] for at in inside) / heat.sum())
        hits.append(pixels[0] in inside)
    assert heatmap_core_overlap(heatmaps, masks).value == pytest.approx(
        np.mean(overlaps)
    )
    assert heatmap_energy(heatmaps, masks).value == pytest.approx(np.mean(energies))
    assert pointing_game(heatmaps, masks).value == pytest.approx(np.mean(hits))


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("scale", [1e-300, 1e-20, 1e20, 1e300])
def test_energies_have_no_unit(score, scale):
    generator = np.random.default_rng(2)
    heatmaps = 0.1 + generator.random((5, 4, 4))
    masks = generator.random((5, 4, 4)) < 0.5
    assert score(heatmaps * scale, masks).value == pytest.approx(
        score(heatmaps, masks).value
    )


def test_an_even_heatmap_gives_areas():
    masks = np.zeros((3, 10, 10), dtype=bool)
    masks[:, :3] = True
    spurious = np.zeros_like(masks)
    spurious[:, 9:] = True
    estimate = heatmap_energy(np.ones((3, 10, 10)), masks)
    assert (
        estimate.value == pytest.approx(estimate.details["area"]) == pytest.approx(0.3)
    )
    ratio = energy_ratio(np.ones((3, 10, 10)), masks, spurious)
    assert ratio.value == pytest.approx(ratio.details["area_ratio"]) == pytest.approx(3)


def test_images_without_energy_or_object_are_left_out_and_counted():
    heatmaps, masks = planted(n=5)
    heatmaps[0], masks[1] = 0, False
    for score in SCORES:
        assert score(heatmaps, masks).details["left_out"] == 2
        with pytest.raises(Undecidable, match="no heatmap"):
            score(np.zeros_like(heatmaps), masks)


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda heat, mask: (-heat, mask), "energies"),
        (lambda heat, mask: (heat * np.nan, mask), "energies"),
        (lambda heat, mask: (heat, mask[:, :3]), "masks"),
        (lambda heat, mask: (heat, 255 * mask.astype(np.uint8)), "True and False"),
    ],
)
def test_bad_heatmaps_are_refused(score, spoil, said):
    with pytest.raises(InputError, match=said):
        score(*spoil(*planted(n=3)))


def test_a_ratio_needs_energy_on_the_shortcut():
    heatmaps, masks = planted(n=3)
    heatmaps[~masks] = 0
    with pytest.raises(Undecidable, match="shortcut"):
        energy_ratio(heatmaps, masks, ~masks)
    with pytest.raises(UsageError, match="top"):
        heatmap_core_overlap(heatmaps, masks, top=0.0)


def test_features_are_tagged_by_where_they_look():
    assert feature_tag(0.5) == "core"
    assert feature_tag(0.4) == "spurious"
    assert feature_tag(0.4, 0.3) == "noisy"
