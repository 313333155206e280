"""Courses over epochs and layers: by hand, in plain loops, and their limits."""

import inspect

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from references import courses
from repscope._checking import InputError, Undecidable, UsageError
from repscope.metrics.curves import (
    best_layer,
    chance_corrected,
    ncc_linear_ratio,
    normalised_curve,
    ratio_curve,
    saturation_epoch,
    semantic_random_ratio,
)

# Sample- and class-level NCC of one VICReg run, from the specification (S3-F2L).
EPOCHS = [0, 3, 10, 20, 30, 60]
SAMPLE = [0.735, 0.753, 0.862, 0.929, 0.943, 0.957]
CLASS = [0.614, 0.556, 0.698, 0.778, 0.794, 0.820]

curves = st.lists(
    st.floats(-1e3, 1e3, allow_nan=False).map(lambda x: round(x, 3)),
    min_size=2,
    max_size=12,
)


# --- transforms -----------------------------------------------------------------------


def test_a_normalised_curve_begins_at_one():
    found = normalised_curve([0.5, 1.0, 0.25])
    assert found.tolist() == [1.0, 2.0, 0.5]
    assert found.dtype == np.float64


def test_a_common_factor_leaves_a_normalised_curve():
    curve = np.array(CLASS)
    for factor in (1e-20, 1e20, 1e-150, 1e150):
        np.testing.assert_allclose(
            normalised_curve(factor * curve), normalised_curve(curve), rtol=1e-14
        )


@pytest.mark.parametrize("chance", [0.1, 0, np.array([0.1, 0.1, 0.1]), [0.1, 0.2, 0.3]])
def test_chance_corrected_by_hand(chance):
    values = [0.1, 0.55, 1.0]
    each = np.broadcast_to(chance, 3)
    expected = [(x - c) / (1 - c) for x, c in zip(values, each, strict=True)]
    assert chance_corrected(values, chance) == pytest.approx(expected)


def test_chance_corrected_is_cohens_kappa_of_guessing_evenly():
    # Balanced truth, answers spread evenly: kappa's chance is 1 / c.
    truth = np.repeat(np.arange(4), 6)
    answers = truth.copy()
    answers[::3] = (answers[::3] + 1) % 4
    metrics = pytest.importorskip("sklearn.metrics")
    kappa = metrics.cohen_kappa_score(truth, answers)
    found = chance_corrected([float((truth == answers).mean())], 0.25)
    assert found[0] == pytest.approx(kappa)


def test_ratio_of_superclass_and_class_accuracy():
    assert ratio_curve([0.6, 0.9], [0.3, 0.6]) == pytest.approx([2.0, 1.5])


@pytest.mark.parametrize(
    ("of", "larger_when_semantic_clusters"),
    [
        ("ncc_accuracy", True),
        ("ridge_accuracy", True),
        ("cdnv", True),
        ("within_variance", None),
        ("between_squared_distance", None),
    ],
)
def test_the_direction_of_semantic_to_random(of, larger_when_semantic_clusters):
    rng = np.random.default_rng(0)
    semantic, random = rng.uniform(0.1, 1, 7), rng.uniform(0.1, 1, 7)
    found = semantic_random_ratio(semantic, random, of)
    expected = courses.semantic_random(semantic.tolist(), random.tolist(), of)
    assert found == pytest.approx(expected)
    if larger_when_semantic_clusters:
        # Semantics cluster better: a higher accuracy, a lower CDNV.
        better = 0.5 * semantic if of == "cdnv" else 2 * semantic
        assert (semantic_random_ratio(better, random, of) > found).all()


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: normalised_curve([0.0, 1.0]), "the curve begins at 0"),
        (lambda: chance_corrected([0.5], 1.0), "guessing is always right"),
        (lambda: ratio_curve([1.0, 1.0], [1.0, 0.0]), r"below is 0 \(point 1\)"),
        (lambda: semantic_random_ratio([0.0], [1.0], "cdnv"), "below is 0"),
        (lambda: normalised_curve([1e-300, 1e300]), "exceeds the range"),
    ],
)
def test_a_point_without_a_ratio_is_undecidable(call, reason):
    with pytest.raises(Undecidable, match=reason):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: normalised_curve([]), "values: a curve is needed"),
        (lambda: normalised_curve([1.0, np.nan]), "values: point 1 is no number"),
        (lambda: ratio_curve([1.0], [1.0, 2.0]), "below: one entry per row"),
        (lambda: chance_corrected([0.1, 0.2], [0.1]), "chance: one entry per row"),
    ],
)
def test_no_curve_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_an_unknown_measure_is_named():
    with pytest.raises(UsageError, match="did you mean cdnv"):
        inspect.unwrap(semantic_random_ratio)([1.0], [1.0], "cndv")


# --- saturation -----------------------------------------------------------------------


def test_saturation_epoch_of_the_published_shape():
    sample, by_class = (saturation_epoch(EPOCHS, one) for one in (SAMPLE, CLASS))
    # .735 + .95 (.957 - .735) = .9459, first reached at the end; .614 + ... = .8097.
    assert sample.value == 60
    assert by_class.value == 60
    assert sample.details["level"] == pytest.approx(0.9459)
    assert saturation_epoch(EPOCHS, SAMPLE, share=0.9).value == 30
    assert saturation_epoch(EPOCHS, CLASS, share=0.9).value == 60


@given(values=curves, share=st.sampled_from([0.25, 0.5, 0.95, 1.0]))
def test_saturation_epoch_is_that_of_a_plain_loop(values, share):
    epochs = [3 * k for k in range(len(values))]
    if values[0] == values[-1]:
        with pytest.raises(Undecidable, match="ends where it began"):
            saturation_epoch(epochs, values, share=share)
        return
    found = saturation_epoch(epochs, values, share=share)
    change = values[-1] - values[0]
    reach = [(v - values[0]) / change for v in values]
    if min(abs(r - share) for r in reach[1:-1] or [9]) > 1e-9:
        assert found.value == courses.saturation(epochs, values, share)
    assert found.details["previous_epoch"] == found.value - 3
    assert found.value <= found.details["holds_from"] <= epochs[-1]


def test_an_exponential_saturates_where_its_formula_says():
    # 1 - exp(-t / 7), measured to t = 100, makes 95 % of its change at the crossing.
    epochs = np.arange(101)
    curve = 1 - np.exp(-epochs / 7)
    crossing = -7 * np.log(0.05 + 0.95 * np.exp(-100 / 7))
    found = saturation_epoch(epochs, curve)
    assert found.value == np.ceil(crossing)
    assert found.details["previous_epoch"] < crossing <= found.value


@pytest.mark.parametrize("factor", [-3.0, 1e-20, 1e20])
def test_neither_factor_nor_offset_moves_saturation(factor):
    curve = np.array(SAMPLE)
    moved = saturation_epoch(EPOCHS, factor * curve, share=0.9)
    assert moved.value == saturation_epoch(EPOCHS, curve + 7, share=0.9).value == 30


def test_a_curve_that_falls_back_says_from_when_it_holds():
    found = saturation_epoch([0, 1, 2, 3, 4], [0.0, 1.0, 0.2, 1.1, 1.0])
    assert found.value == 1
    assert found.details["holds_from"] == 3


def test_a_small_change_counts_as_none_where_asked():
    assert saturation_epoch([0, 1], [0.5, 0.51]).value == 1
    with pytest.raises(Undecidable, match=r"a change of 0\.01"):
        saturation_epoch([0, 1], [0.5, 0.51], least_change=0.02)


@pytest.mark.parametrize(
    ("epochs", "values", "error", "message"),
    [
        ([0], [1.0], Undecidable, "one epoch only"),
        ([0, 1], [1.0, 1.0], Undecidable, "ends where it began"),
        ([1, 0], [1.0, 2.0], InputError, "they do not ascend"),
        ([0, 0], [1.0, 2.0], InputError, "they do not ascend"),
        ([0, 1], [1.0], InputError, "values: one entry per row"),
    ],
)
def test_courses_without_saturation(epochs, values, error, message):
    with pytest.raises(error, match=message):
        saturation_epoch(epochs, values)


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5, float("nan")])
def test_a_share_must_be_one(share):
    with pytest.raises(UsageError, match="share of the change"):
        saturation_epoch([0, 1], [0.0, 1.0], share=share)


# --- nearest centres relative to a linear probe ---------------------------------------


def right(n_right, n):
    return np.arange(n) < n_right


@pytest.mark.parametrize(
    ("ncc", "linear", "ratio"),
    [(40, 80, 0.5), (80, 80, 1.0), (0, 80, 0.0), (90, 60, 1.5)],
)
def test_ncc_linear_ratio_by_hand(ncc, linear, ratio):
    found = ncc_linear_ratio(right(ncc, 100), right(linear, 100))
    assert found.value == pytest.approx(ratio)
    low, high = found.interval
    assert low <= found.value <= high


def test_its_interval_is_that_of_a_paired_bootstrap():
    generator = np.random.default_rng(1)
    linear = generator.random(300) < 0.8
    ncc = linear & (generator.random(300) < 0.7)
    found = ncc_linear_ratio(ncc, linear)
    expected = scipy.stats.bootstrap(
        (ncc.astype(float), linear.astype(float)),
        lambda a, b, axis: a.mean(axis=axis) / b.mean(axis=axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=4000,
        rng=np.random.default_rng(1),
    ).confidence_interval
    # A thousand draws know the end of a 95 % interval to about .01.
    assert found.interval == pytest.approx((expected.low, expected.high), abs=0.015)


def test_the_ratio_of_accuracies_that_are_equal_has_no_width():
    assert ncc_linear_ratio(right(70, 100), right(70, 100)).interval == (1.0, 1.0)


def test_a_probe_that_is_seldom_right_leaves_the_interval_open():
    found = ncc_linear_ratio(right(1, 30), right(1, 30))
    assert found.value == 1.0
    assert found.interval is None
    assert "too seldom right" in found.details["interval"]


@pytest.mark.parametrize(
    ("ncc", "linear", "error", "message"),
    [
        (right(1, 5), right(0, 5), Undecidable, "never right"),
        (right(0, 0), right(0, 0), Undecidable, "no test rows"),
        (right(1, 5), right(1, 4), InputError, "linear_right: one entry per row"),
    ],
)
def test_ratios_that_cannot_be_taken(ncc, linear, error, message):
    with pytest.raises(error, match=message):
        inspect.unwrap(ncc_linear_ratio)(ncc, linear)


# --- best layer -----------------------------------------------------------------------

LAYERS = ["block1", "block2", "block3"]


def test_the_final_layer_is_not_always_best():
    # VICReg at width 48, from the specification (S3-F7).
    found = best_layer(LAYERS, [0.950, 0.952, 0.942])
    assert (found.layer, found.best) == ("block2", "block2")
    assert found.indistinguishable == ("block2",)
    assert found.value == found.best_value == 0.952


def test_of_equal_layers_the_shallowest_is_best():
    found = best_layer(LAYERS, [0.9, 0.95, 0.95])
    assert found.layer == found.best == "block2"
    assert found.indistinguishable == ("block2", "block3")


def test_lower_may_be_better():
    assert best_layer(LAYERS, [3.0, 1.0, 2.0], direction="lower").layer == "block2"
    found = best_layer(LAYERS, [1.05, 1.0, 2.0], direction="lower", margin=0.1)
    assert (found.layer, found.best) == ("block1", "block2")


def test_within_the_interval_of_the_best_nothing_is_told_apart():
    intervals = [(0.93, 0.965), (0.935, 0.966), (0.922, 0.957)]
    found = best_layer(LAYERS, [0.950, 0.952, 0.942], intervals=intervals)
    assert (found.layer, found.value, found.best) == ("block1", 0.95, "block2")
    assert found.indistinguishable == tuple(LAYERS)
    narrow = [(x - 0.005, x + 0.005) for x in (0.950, 0.952, 0.942)]
    found = best_layer(LAYERS, [0.950, 0.952, 0.942], intervals=narrow)
    assert found.indistinguishable == ("block1", "block2")


@given(
    values=st.lists(st.floats(0, 1).map(lambda x: round(x, 2)), min_size=1, max_size=8),
    half=st.sampled_from([0.0, 0.05, 0.3]),
)
def test_the_set_is_that_of_a_plain_loop(values, half):
    layers = [f"block{k}" for k in range(len(values))]
    intervals = [(x - half, x + half) for x in values]
    found = best_layer(layers, values, intervals=intervals)
    expected = courses.not_worse(layers, values, intervals)
    assert list(found.indistinguishable) == expected
    assert found.layer == expected[0]
    assert found.best in expected


def test_an_interval_that_is_missing_leaves_ties():
    found = best_layer(LAYERS, [0.9, 0.95, 0.94], intervals=[None, None, (0.0, 1.0)])
    assert found.indistinguishable == ("block2",)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"margin": -1.0}, UsageError, "margin"),
        ({"intervals": [None]}, InputError, "intervals: one entry per row"),
    ],
)
def test_wrong_options_are_named(options, error, message):
    with pytest.raises(error, match=message):
        best_layer(LAYERS, [1.0, 2.0, 3.0], **options)
