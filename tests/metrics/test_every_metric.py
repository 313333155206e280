"""Every metric passes `check_metric`, or is tested by name elsewhere."""

import re
from pathlib import Path

import jaxtyping
import pytest

from metrics.check_metric import CHECKS, measured, taken
from metrics.planted_variants import supply
from repscope.metrics.catalogue import METRICS
from repscope.metrics.measuring import FROM_ELSEWHERE

ROOT = Path(__file__).parents[2]
MEASURED = [entry for entry in METRICS if entry.needs not in FROM_ELSEWHERE]
# Metrics of images, heatmaps and curves: which file tests each.
ELSEWHERE: dict[str, tuple[str, ...]] = {
    "tests/metrics/test_curves.py": ("saturation_epoch",),
    "tests/metrics/test_decomposition.py": (
        "regularization_share",
        "invariance_share",
    ),
    "tests/metrics/test_heatmap_scores.py": (
        "heatmap_core_overlap",
        "heatmap_energy",
        "pointing_game",
        "energy_ratio",
    ),
    "tests/metrics/test_hierarchy.py": ("suppression_between",),
    "tests/metrics/test_image_similarity.py": (
        "psnr",
        "ssim",
        "colour_histogram_distance",
        "foreground_centroid_error",
        "gradient_correlation",
    ),
    "tests/metrics/test_information.py": ("mutual_information",),
}


@pytest.fixture
def types_unchecked():
    """Leave annotations unchecked, which would take most of the time."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("entry", MEASURED, ids=lambda entry: entry.name)
def test_every_metric_passes(entry, check):
    CHECKS[check](entry)


@pytest.mark.parametrize("form", ["int8", "bfloat16", "tensor"])
@pytest.mark.parametrize("entry", MEASURED, ids=lambda entry: entry.name)
def test_annotations_hold_for_every_form(entry, form):
    measured(entry, supply(form))


@pytest.mark.parametrize("entry", MEASURED, ids=lambda entry: entry.name)
def test_every_metric_has_a_value_on_sound_features(entry):
    # A metric that is undecidable on the plain data would pass all else unseen.
    assert any(one.value is not None for one in taken(entry, "plain").values())


def test_every_other_metric_is_tested_by_name():
    others = {entry.name for entry in METRICS} - {entry.name for entry in MEASURED}
    listed = [name for names in ELSEWHERE.values() for name in names]
    assert sorted(listed) == sorted(others)
    for path, names in ELSEWHERE.items():
        text = (ROOT / path).read_text(encoding="utf-8")
        for name in names:
            assert re.search(rf"\b{name}\b", text), name
