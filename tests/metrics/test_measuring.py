"""`measure` takes what the data allow, and says of the rest what it needs."""

import dataclasses
import math
import re

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from metrics.check_metric import check_sane
from metrics.planted_variants import planted_data
from repscope._checking import InputError, NonFiniteFeatureError, UsageError
from repscope.diagnosis.diagnose import diagnose
from repscope.metrics import measured_rows
from repscope.metrics.catalogue import METRICS
from repscope.metrics.measuring import FROM_ELSEWHERE, measure
from repscope.representations.representation import Representation
from repscope.theory import planted

DATA = planted_data()
LABELS = {"fine": DATA.fine, "coarse": DATA.coarse}
EVERYTHING = {
    "labels": LABELS,
    "attributes": {"colour": DATA.colour},
    "views": DATA.views,
    "other": DATA.other,
    "given": {"occluded": DATA.occluded, "transformations": DATA.turned},
}
TAKEN = {one.key: one for one in measure(DATA.features, **EVERYTHING)}


def test_everything_is_taken_that_can_be():
    names = {one.name for one in TAKEN.values()}
    wanted = {entry.name for entry in METRICS if entry.needs not in FROM_ELSEWHERE}
    assert names == wanted
    assert all(one.value is not None for one in TAKEN.values())


def test_features_alone_give_what_needs_nothing_else():
    found = measure(DATA.features)
    needs = {entry.name: entry.needs for entry in METRICS}
    assert {needs[one.name] for one in found} <= {"rows", "spectrum"}
    assert "effective_rank" in {one.name for one in found}
    assert all(one.value is not None for one in found)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("cdnv", "needs labels"),
        ("linear_accuracy", "needs labels"),
        ("auroc", "needs labels"),
        ("leaked_rows", "needs labels or a split"),
        ("alignment", "needs views"),
        ("occlusion_cosine", "needs occluded"),
        ("gaussian_pair_information", "needs other features of the same rows"),
        (
            "mutual_information",
            "needs images: call repscope.metrics.mine.train_mine",
        ),
        (
            "pointing_game",
            "needs heatmaps: call repscope.metrics.heatmap_scores.pointing_game",
        ),
    ],
)
def test_a_metric_named_without_what_it_needs_says_so(name, reason):
    (one,) = measure(DATA.features, names=[name])
    assert one.value is None
    assert one.reason == reason


def test_a_single_level_has_no_coarser_one():
    (one,) = measure(DATA.features, names=["class_collapse_index"], labels=DATA.fine)
    assert one.reason == "needs a coarser label level"
    assert one.level == "label"


def test_names_are_taken_in_their_order_level_by_level():
    found = measure(DATA.features, names=["cdnv", "rankme"], labels=LABELS)
    assert [one.key for one in found] == ["cdnv[fine]", "cdnv[coarse]", "rankme"]


def test_a_wrong_name_is_met_with_the_right_one():
    message = "unknown metric 'efective_rank'\n  fix: did you mean effective_rank?"
    with pytest.raises(UsageError, match="^" + re.escape(message)):
        measure(DATA.features, names=["efective_rank"])


def test_values_are_those_of_a_diagnosis():
    report = diagnose(DATA.features, labels=LABELS, views=DATA.views)
    told = {one.key: one for one in report.measurements}
    shared = set(told) & set(TAKEN)
    assert len(shared) > 40
    for key in shared:
        assert told[key].value == pytest.approx(TAKEN[key].value, rel=1e-9), key
        assert told[key].n == TAKEN[key].n, key
        assert told[key].split == TAKEN[key].split, key


def test_attributes_are_factors_for_what_takes_attributes():
    assert "variance_share[colour]" in TAKEN
    assert "cdnv[colour]" not in TAKEN


def test_a_representation_brings_labels_ids_and_split_along():
    whole = Representation.of(DATA.features, labels=LABELS, split=DATA.is_test)
    (one,) = measure(whole, names=["ncc_accuracy"], labels=None)[:1]
    (same,) = measure(
        DATA.features, names=["ncc_accuracy"], labels=LABELS, split=DATA.is_test
    )[:1]
    assert one == same
    assert (one.n, one.split) == (DATA.is_test.sum(), "test")


def test_a_file_and_a_subset_are_measured_as_the_array(tmp_path):
    np.save(tmp_path / "features.npy", DATA.features)
    assert measure(tmp_path / "features.npy") == measure(DATA.features)
    rows = np.arange(0, 240, 2)
    subset = Representation.of(DATA.features).subset(rows)
    names = ["effective_rank", "z_max", "duplicate_rows"]
    assert measure(subset, names=names) == measure(DATA.features[rows], names=names)


def test_a_tensor_stays_a_tensor_for_metrics_that_take_tensors():
    tensor = torch.from_numpy(DATA.features)
    (one,) = measure(tensor, names=["q_score"])
    (same,) = measure(DATA.features, names=["q_score"])
    assert one.value == pytest.approx(same.value, rel=1e-12)


def test_metrics_of_single_rows_are_means_with_intervals():
    (one,) = measure(DATA.features, names=["l1_norm"])
    norms = np.abs(DATA.features).sum(axis=1)
    assert one.value == pytest.approx(norms.mean(), rel=1e-12)
    half = 1.959964 * norms.std(ddof=1) / 240**0.5
    assert one.interval[1] - one.value == pytest.approx(half, rel=1e-6)


@pytest.mark.parametrize("power", [-600, -300, 300, 600])
def test_extreme_features_are_measured_in_another_unit(power):
    unit = 2.0**power
    found = {one.key: one for one in measure(unit * DATA.features, labels=LABELS)}
    plain = {one.key: one for one in measure(DATA.features, labels=LABELS)}
    degrees = {entry.name: entry.degree for entry in METRICS}
    for key, one in found.items():
        degree = degrees[one.name]
        if degree is None:
            assert one.reason.startswith("the features are of size "), key
        elif abs(degree * power) <= 1000:
            # A power of two changes no digit.
            expected = math.ldexp(plain[key].value, degree * power)
            assert one.value == pytest.approx(expected, rel=1e-12), key
        else:
            leaves = "the value leaves the range of floating-point numbers"
            assert one.reason == leaves, key


def test_rows_that_are_not_finite_are_refused_by_number():
    features = DATA.features.copy()
    features[7, 3] = np.nan
    with pytest.raises(NonFiniteFeatureError, match="first: row 7"):
        measure(features)
    with pytest.raises(InputError, match=r"^views: some contain NaN"):
        measure(DATA.features, views=DATA.views * np.inf)
    with pytest.raises(NonFiniteFeatureError, match="^other: 1 row"):
        measure(DATA.features, other=features)


@pytest.mark.parametrize("where", ["features", "views", "other"])
def test_rows_that_are_not_finite_are_dropped_everywhere(where):
    data = {"features": DATA.features, "views": DATA.views, "other": DATA.other}
    broken = {name: values.copy() for name, values in data.items()}
    broken[where][7].flat[3] = np.nan
    kept = np.arange(len(DATA.features)) != 7
    names = ["dropped_rows", "cdnv", "alignment", "cka_linear", "occlusion_cosine"]
    found, expected = (
        measure(
            **rows,
            names=names,
            labels=labels,
            given={"occluded": occluded},
            drop_nonfinite=True,
        )
        for rows, labels, occluded in [
            (broken, DATA.fine, DATA.occluded),
            (
                {name: values[kept] for name, values in data.items()},
                DATA.fine[kept],
                DATA.occluded[kept],
            ),
        ]
    )
    assert found[1:] == expected[1:]
    assert found[0].details["count"] == 1
    assert found[0].value == pytest.approx(1 / len(DATA.features))
    assert expected[0].value == 0


def test_one_name_may_be_given_alone():
    assert measure(DATA.features, names="rankme") == (
        measure(DATA.features, names=["rankme"])
    )


def test_what_no_metric_asks_for_is_met_with_what_they_do():
    message = "unknown ingredient in given 'ocluded'\n  fix: did you mean occluded?"
    with pytest.raises(UsageError, match="^" + re.escape(message)):
        measure(DATA.features, given={"ocluded": DATA.occluded})


def test_an_embedding_brings_labels_and_layer_along(tmp_path, monkeypatch):
    known = Representation.of(DATA.features, labels=DATA.fine)
    stored = dataclasses.replace(known, layer="block2")

    class Stored:
        def titled(self):
            return stored

    monkeypatch.setattr(
        measured_rows,
        "as_embedding",
        lambda given: Stored() if isinstance(given, str) else None,
    )
    (one,) = measure("folder", names="cdnv")
    (same,) = measure(DATA.features, labels=DATA.fine, names="cdnv")
    assert (one.value, one.layer) == (same.value, "block2")
    (pair,) = measure(DATA.other, other="folder", names="cka_linear")
    (as_array,) = measure(DATA.other, other=DATA.features, names="cka_linear")
    assert pair == as_array


def test_other_features_may_be_a_file_or_a_representation(tmp_path):
    np.save(tmp_path / "other.npy", DATA.other)
    forms = [DATA.other, tmp_path / "other.npy", Representation.of(DATA.other)]
    found = [measure(DATA.features, other=one, names="cka_linear") for one in forms]
    assert found[0] == found[1] == found[2]
    ids = [f"image {row}" for row in range(len(DATA.features))]
    known = Representation.of(DATA.features, ids=ids)
    turned = Representation.of(DATA.other, ids=ids[::-1])
    with pytest.raises(InputError, match="^other: features of the same images"):
        measure(known, other=turned, names="cka_linear")


@pytest.mark.filterwarnings("error")
def test_tensors_that_ask_for_gradients_are_detached():
    features = torch.from_numpy(DATA.features).clone().requires_grad_()
    other = torch.from_numpy(DATA.other).clone().requires_grad_()
    names = ["q_score", "effective_rank", "cka_linear", "argmax_concentration"]
    found = measure(features, other=other, names=names)
    expected = measure(features.detach(), other=other.detach(), names=names)
    assert found == expected


def test_other_rows_are_refused():
    with pytest.raises(InputError, match="^other: one entry per row of features"):
        measure(DATA.features, other=DATA.other[:100])
    with pytest.raises(InputError, match="^views: features of several views"):
        measure(DATA.features, views=DATA.views[:100])


AWKWARD = [0.0, -0.0, 1.0, 1.0, -1.0, 3.0, 1e-300, -1e-160, 5e-324, 1e160, -1e300, 1e8]


@settings(max_examples=15, deadline=None, derandomize=True, phases=[Phase.generate])
@given(
    arrays.arrays(
        np.float64,
        st.tuples(st.integers(1, 7), st.integers(1, 4)),
        elements=st.one_of(st.sampled_from(AWKWARD), st.floats(-2, 2)),
    ),
    st.integers(0, 10**6),
)
def test_no_features_give_a_number_that_is_none(features, seed):
    n, d = features.shape
    generator = np.random.default_rng(seed)
    fine = generator.integers(0, 4, n)
    views = np.stack([features, generator.permutation(features)], axis=1)
    found = measure(
        features,
        labels={"fine": fine, "coarse": fine // 2},
        views=views,
        other=generator.permutation(features),
        given={"occluded": generator.permutation(features), "transformations": fine},
    )
    assert found
    assert [told for told in map(what_is_wrong, found) if told] == []


def what_is_wrong(one):
    try:
        check_sane(one)
    except AssertionError as error:
        return str(error)
    return ""


def test_planted_truths_come_out_by_name():
    features = planted.with_exact_spectrum(400, np.array([4.0, 2.0, 1.0, 1.0]))
    named = {
        one.name: one.value
        for one in measure(
            features, names=["participation_ratio", "stable_rank", "anisotropy"]
        )
    }
    assert named == pytest.approx(
        {"participation_ratio": 64 / 22, "stable_rank": 2.0, "anisotropy": 0.5}
    )
