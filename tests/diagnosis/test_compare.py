"""Comparisons: paired where rows are shared, honest where they are not."""

import dataclasses
import functools

import numpy as np
import pytest
import scipy.stats

from diagnosis.cases import diagnosed, measured, sound
from repscope._checking import InputError, UsageError
from repscope.diagnosis.compare import (
    BOOTSTRAP_GROUPS,
    Difference,
    compare,
    paired_bootstrap,
)
from repscope.diagnosis.diagnose import diagnose
from repscope.records import Provenance, RunRecord, Samples, Verdict
from repscope.report.report import Report

N, D = 400, 32
COLUMNS = (
    "run",
    "metric",
    "baseline",
    "value",
    "difference",
    "from",
    "to",
    "verdict",
    "method",
    "n",
)


def noisy(noise, seed=5):
    """Return features of the sound example with noise, ids and labels."""
    one = sound(N, D, 0)
    generator = np.random.default_rng(seed)
    features = one.features + noise * generator.standard_normal((N, D))
    return features, one.labels, np.array([f"image {k}" for k in range(N)])


@functools.cache
def run(noise=0.0, *, seed=0):
    features, labels, ids = noisy(noise)
    return diagnose(features, labels=labels, ids=ids, seed=seed)


def rows_of(report, rows):
    """Return the same run on some of its rows, in this order."""
    ids = report.samples.columns["id"]
    positions = {one: k for k, one in enumerate(ids.tolist())}
    features, labels, all_ids = noisy(0.0)
    chosen = [positions[one] for one in all_ids[rows].tolist()]
    return diagnose(
        features[chosen],
        labels={name: codes[chosen] for name, codes in labels.items()},
        ids=ids[chosen],
    )


def table(report, name):
    return next(one for one in report.record.tables if one.name == name)


def differences(report):
    """Return the rows of the differences by metric, as dictionaries."""
    found = table(report, "differences")
    assert found.columns == COLUMNS
    return {row[1]: dict(zip(COLUMNS, row, strict=True)) for row in found.rows}


def made(*measurements, title="run", ids=(), columns=None, **provenance):
    """Return a report made of measurements and per-row values."""
    record = RunRecord(
        kind="diagnosis",
        title=title,
        verdict=Verdict(word="HEALTHY", sentence="sound"),
        provenance=Provenance(n=len(ids), **provenance),
        measurements=measurements,
    )
    samples = Samples({"id": np.asarray(ids), **(columns or {})} if len(ids) else {})
    return Report(record, samples)


def test_a_run_equals_itself():
    found = differences(compare(run(), run()))
    assert {one["verdict"] for one in found.values()} == {"equal"}
    assert {one["difference"] for one in found.values()} == {0.0}


def test_a_run_equals_itself_when_rows_are_permuted():
    permuted = rows_of(run(), np.random.default_rng(0).permutation(N))
    compared = compare(run(), permuted)
    found = differences(compared)
    assert compared.record.provenance.n == N
    for one in found.values():
        assert one["difference"] == pytest.approx(0, abs=1e-9), one["metric"]
        assert one["verdict"] in ("equal", "not distinguishable", "no interval")
    assert found["linear_accuracy[fine]"]["method"] == "paired bootstrap"


def test_a_better_run_is_better_and_the_other_way_round_worse():
    better = differences(compare(run(4.0), run()))
    worse = differences(compare(run(), run(4.0)))
    for name in ("linear_accuracy[fine]", "ncc_accuracy[coarse]", "cdnv[fine]"):
        assert better[name]["verdict"] == "better"
        assert worse[name]["verdict"] == "worse"
        assert better[name]["difference"] == pytest.approx(-worse[name]["difference"])
    assert better["linear_accuracy[fine]"]["difference"] > 0
    assert better["cdnv[fine]"]["difference"] < 0


def test_a_little_noise_is_not_distinguishable():
    found = differences(compare(run(), run(0.1)))
    assert found["linear_accuracy[fine]"]["verdict"] in ("equal", "not distinguishable")


def test_runs_are_joined_on_ids_where_one_has_a_part_of_the_rows():
    part = rows_of(run(), np.arange(50, 350))
    compared = compare(run(), part)
    assert compared.record.provenance.n == 300
    notices = " ".join(compared.record.notices)
    assert "hold different rows: 300 ids are in both, of 300 and 400" in notices
    assert "spectra are compared unpaired" in notices
    found = differences(compared)
    assert found["z_max"]["method"] == "paired bootstrap"
    assert found["z_max"]["n"] == 300
    # The same rows have the same scores, though the means of the two runs differ.
    assert found["z_max"]["difference"] == pytest.approx(0, abs=1e-12)
    assert found["z_max"]["baseline"] != found["z_max"]["value"]
    assert found["effective_rank"]["method"] == "unpaired"


def test_runs_without_a_shared_row_are_compared_unpaired():
    halves = rows_of(run(), np.arange(200)), rows_of(run(), np.arange(200, 400))
    compared = compare(*halves)
    assert compared.record.provenance.n == 0
    methods = {one["method"] for one in differences(compared).values()}
    assert methods == {"unpaired", "none"}
    assert "0 ids are in both" in compared.record.notices[0]


def test_integer_and_text_ids_of_the_same_rows_are_joined():
    features, labels, _ = noisy(0.0)
    numbers = np.arange(N)
    first = diagnose(features, labels=labels, ids=numbers)
    second = diagnose(features, labels=labels, ids=numbers.astype(str))
    assert compare(first, second).record.provenance.n == N


def test_accuracies_of_another_split_are_compared_on_shared_test_rows():
    compared = compare(run(), run(seed=1))
    notices = " ".join(compared.record.notices)
    assert "was tested on other rows" in notices
    assert "hold the same features" in notices
    accuracy = differences(compared)["linear_accuracy[fine]"]
    splits = [one.samples.columns["split"] == "test" for one in (run(), run(seed=1))]
    assert accuracy["n"] == (splits[0] & splits[1]).sum() < splits[0].sum()


def test_changed_labels_are_noticed():
    features, labels, ids = noisy(0.0)
    other = labels | {"fine": (labels["coarse"] * 2 + np.arange(N) % 2)}
    compared = compare(run(), diagnose(features, labels=other, ids=ids))
    said = [one for one in compared.record.notices if one.startswith("labels of")]
    assert len(said) == 1
    assert "labels of 'fine' differ" in said[0]


def test_spectra_of_correlated_runs_are_paired_and_narrower():
    found = differences(compare(run(), run(0.3)))
    by_run = [{m.key: m for m in one.measurements} for one in (run(), run(0.3))]
    for name in ("effective_rank", "effective_rank_covariance", "cdnv[fine]"):
        paired = found[name]["to"] - found[name]["from"]
        widths = [one[name].interval[1] - one[name].interval[0] for one in by_run]
        assert found[name]["method"] == "paired jackknife"
        assert paired < 0.6 * np.hypot(*widths), name


def test_numbers_that_depend_on_scale_are_left_out():
    features, labels, ids = noisy(0.0)
    scaled = diagnose(8 * features, labels=labels, ids=ids)
    found = differences(compare(run(), scaled))
    for name in ("q_score", "l1_norm", "feature_mean", "feature_std"):
        assert name not in found
    assert not any(name.startswith("within_variance") for name in found)
    for name in ("z_max", "q_score_normalized", "effective_rank", "cdnv[fine]"):
        assert found[name]["difference"] == pytest.approx(0, abs=1e-9)


def test_numbers_of_the_reference_are_left_out():
    report = diagnosed("sound", N, D, 0, referenced=True)
    assert any(one.layer == "reference" for one in report.measurements)
    assert not any("@" in name for name in differences(compare(report, report)))


def test_folders_compare_like_reports(tmp_path):
    one = run().save(tmp_path / "before")
    other = run(4.0).save(tmp_path / "after")
    compared = compare(one, str(other))
    assert compared.record.title == "after against before"
    in_memory = differences(compare(run(), run(4.0)))
    for name, row in differences(compared).items():
        expected = {**in_memory[name], "run": "after"}
        for column, value in row.items():
            is_number = isinstance(value, float)
            told = pytest.approx(expected[column]) if is_number else expected[column]
            assert value == told, (name, column)


def test_a_comparison_is_saved_and_read(tmp_path):
    compared = compare(run(), run(4.0))
    again = Report.load(compared.save(tmp_path / "both"))
    assert again.record == compared.record


def test_a_comparison_is_not_compared(tmp_path):
    compared = compare(run(), run())
    with pytest.raises(InputError, match="a report: is itself a comparison"):
        compare(run(), compared)
    folder = compared.save(tmp_path / "both")
    with pytest.raises(InputError, match="both: is itself a comparison") as refused:
        compare(folder, run())
    assert "folders that `repscope diagnose` wrote" in str(refused.value)


@pytest.mark.parametrize("runs", [(), ("one",)])
def test_one_run_is_not_enough(runs):
    with pytest.raises(UsageError, match="two runs or more are needed") as refused:
        compare(*runs)
    assert f"found: {len(runs)}" in str(refused.value)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="there is no such folder"):
        compare(run(), tmp_path / "missing")


def test_runs_of_one_name_are_told_apart():
    compared = compare(run(), run(0.1), run(4.0))
    assert compared.record.title == "features (2), features (3) against features"
    columns = table(compared, "values").columns
    assert columns == ("metric", "features", "features (2)", "features (3)")


def test_findings_that_a_run_adds_are_named():
    before, after = diagnosed("sound", N, D, 0), diagnosed("1 shared", N, D, 0)
    compared = compare(before, after)
    added = [one for one in compared.findings if one.severity != "advisory"]
    assert [(one.code, one.title) for one in added] == [
        ("RS302", "shared features in features (2)")
    ]
    assert compared.verdict.word == "COMPARED"
    assert compared.verdict.sentence == (
        "Against features (HEALTHY): features (2) (WARN) adds RS302."
    )
    back = compare(after, before).verdict.sentence
    assert back.endswith("features (2) (HEALTHY) adds no failure.")


def test_findings_and_values_stand_side_by_side():
    compared = compare(run(), diagnosed("rank 1", N, D, 0, labelled=False))
    findings = table(compared, "findings").rows
    assert findings[0] == ("verdict", "", "HEALTHY", "COLLAPSED")
    by_code = {row[0]: row[2:] for row in findings}
    assert by_code["RS102"] == ("absent", "found")
    values = {row[0]: row[1:] for row in table(compared, "values").rows}
    assert values["linear_accuracy[fine]"][1] is None
    assert values["effective_rank"][1] == pytest.approx(1, rel=1e-4)


def test_spectra_lie_over_one_another():
    (curve,) = compare(run(), run(4.0)).record.curves
    assert [series.label for series in curve.series] == ["features", "features (2)"]
    assert curve.shaded is None


def difference(value, interval, direction):
    return Difference(
        key="metric",
        run="run",
        baseline_value=1.0,
        value=1.0 + value,
        difference=value,
        interval=interval,
        method="unpaired",
        n=10,
        direction=direction,
    )


@pytest.mark.parametrize(
    ("value", "interval", "direction", "verdict"),
    [
        (0.2, (0.1, 0.3), "higher", "better"),
        (-0.2, (-0.3, -0.1), "higher", "worse"),
        (0.2, (0.1, 0.3), "lower", "worse"),
        (-0.2, (-0.3, -0.1), "lower", "better"),
        (0.2, (0.1, 0.3), "target", "higher"),
        (-0.2, (-0.3, -0.1), "none", "lower"),
        (0.2, (0.0, 0.4), "higher", "not distinguishable"),
        (0.2, (-0.1, 0.5), "none", "not distinguishable"),
        (0.2, None, "higher", "no interval"),
        (0.0, None, "higher", "equal"),
        (0.0, (0.0, 0.0), "higher", "equal"),
        (0.0, (-0.1, 0.1), "higher", "not distinguishable"),
    ],
)
def test_a_difference_is_put_into_words(value, interval, direction, verdict):
    assert difference(value, interval, direction).verdict == verdict


def test_unpaired_intervals_add_in_squares():
    runs = [
        made(measured("effective_rank", value, interval=(value - half, value + half)))
        for value, half in ((10.0, 3.0), (20.0, 4.0))
    ]
    one = differences(compare(*runs))["effective_rank"]
    assert (one["difference"], one["from"], one["to"]) == (10.0, 5.0, 15.0)
    assert (one["method"], one["verdict"]) == ("unpaired", "higher")


def test_values_without_intervals_are_listed_and_not_judged():
    runs = [made(measured("n_components", value)) for value in (3.0, 5.0)]
    one = differences(compare(*runs))["n_components"]
    assert (one["difference"], one["from"], one["method"]) == (2.0, None, "none")
    assert one["verdict"] == "no interval"


def test_numbers_that_one_run_lacks_are_not_compared():
    first = made(measured("alpha", None, reason="no power law"), measured("cdnv", 1.0))
    second = made(measured("alpha", 1.0), measured("rankme", 2.0))
    assert differences(compare(first, second)) == {}


def test_the_paired_jackknife_by_hand():
    """k = 4 blocks; (k - 1) / k times the sum of squared deviations is the variance."""
    same = {"ids": np.arange(8), "ids_fingerprint": "same"}
    runs = [
        made(
            dataclasses.replace(
                measured("effective_rank", value), replicates=replicates
            ),
            **same,
        )
        for value, replicates in (
            (10.0, (9.0, 10.0, 11.0, 10.0)),
            (12.0, (11.5, 12.0, 12.5, 12.0)),
        )
    ]
    one = differences(compare(*runs))["effective_rank"]
    # Differences without each block are 2.5, 2, 1.5, 2: deviations .5, 0, -.5, 0.
    half = scipy.stats.t.ppf(0.975, 3) * np.sqrt(3 / 4 * 0.5)
    assert (one["from"], one["to"]) == pytest.approx((2 - half, 2 + half))
    assert one["method"] == "paired jackknife"


@pytest.mark.parametrize("n", [60, 1500])
def test_the_paired_bootstrap_agrees_with_the_normal_interval(n):
    gains = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], n, p=[0.1, 0.7, 0.2])
    low, high = paired_bootstrap(gains, np.arange(n))
    half = 1.96 * gains.std(ddof=1) / np.sqrt(n)
    # 2,000 draws know a quantile to about 5 % of the interval's half-width.
    assert (low, high) == pytest.approx(
        (gains.mean() - half, gains.mean() + half), abs=0.15 * half
    )


def test_the_paired_bootstrap_covers_the_true_gain():
    generator = np.random.default_rng(0)
    trials, n, truth = 250, 60, 0.1
    covered = 0
    for trial in range(trials):
        gains = generator.choice([-1.0, 0.0, 1.0], n, p=[0.1, 0.7, 0.2])
        low, high = paired_bootstrap(gains, np.arange(n), seed=trial)
        covered += low <= truth <= high
    # 250 trials know a coverage of .95 to .014 (one standard error).
    assert 0.9 <= covered / trials <= 0.985


def test_rows_are_gathered_by_id_where_there_are_many():
    n = 4 * BOOTSTRAP_GROUPS
    gains = np.random.default_rng(0).standard_normal(n)
    ids = np.array([f"row {k}" for k in range(n)])
    order = np.random.default_rng(1).permutation(n)
    first, again = (
        paired_bootstrap(gains, ids),
        paired_bootstrap(gains[order], ids[order]),
    )
    assert again == pytest.approx(first, rel=1e-9)
    assert paired_bootstrap(gains, ids, seed=1) != first
