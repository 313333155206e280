"""The one pass: blocks of any size agree, bad rows are named, every type is read."""

import numpy as np
import pytest

from repscope._checking import InputError, NonFiniteFeatureError
from repscope.diagnosis import survey as surveying
from repscope.diagnosis.diagnose import diagnose
from repscope.diagnosis.survey import MAXIMUM_D, survey
from repscope.representations import representation as representing
from repscope.representations.representation import Representation
from repscope.theory.planted import sound

N, D = 203, 12


def example(*, signed=False, dtype=np.float64):
    """Return features with ties and repeats, two label levels and an attribute."""
    one = sound(N, D, noise=2.0)
    features = np.round(one.features, 1) - 0.5 * signed
    features[190:200] = features[:10]
    hue = np.arange(N) % 3
    return features.astype(dtype), one.labels, {"hue": hue}


def represented(features, labels, attributes, **fields):
    return Representation.of(features, labels=labels, attributes=attributes, **fields)


def naive_argmax(features):
    """Return how often each feature is the greatest, ties shared, row by row."""
    counts = np.zeros(features.shape[1])
    for row in features.tolist():
        best = [k for k, value in enumerate(row) if value == max(row)]
        counts[best] += 1 / len(best)
    return counts


@pytest.mark.parametrize("signed", [False, True])
def test_what_one_pass_leaves(signed):
    features, labels, attributes = example(signed=signed)
    found = survey(represented(features, labels, attributes))
    used = features
    if signed:
        used = (features - features.mean(axis=0)) / features.std(axis=0)
    assert found.is_negative is signed
    assert found.moments.covariance() == pytest.approx(
        np.cov(features.T, ddof=0), abs=1e-12
    )
    assert found.deviations == pytest.approx(features.std(axis=0), rel=1e-12)
    assert found.argmax == pytest.approx(naive_argmax(used), abs=1e-9)
    assert found.column_l1 == pytest.approx(np.abs(used).mean(axis=0), rel=1e-12)
    assert len(np.unique(found.row_hashes)) == len(np.unique(features, axis=0))
    assert found.scores["l1_norm"] == pytest.approx(np.abs(features).sum(axis=1))


def test_classes_and_attributes_are_summed():
    features, labels, attributes = example()
    found = survey(represented(features, labels, attributes))
    for name, codes in {**labels, **attributes}.items():
        whole = found.groups[name].whole
        for code in np.unique(codes):
            own = features[codes == code]
            assert whole.counts[code] == len(own)
            assert whole.means[code] == pytest.approx(own.mean(axis=0), rel=1e-12)
            assert whole.variances[code] == pytest.approx(own.var(axis=0).sum())


def test_blocks_of_the_jackknife_add_up():
    features, labels, attributes = example()
    found = survey(represented(features, labels, attributes))
    assert found.block_sizes.sum() == N
    assert [part.n for part in found.blocks] == found.block_sizes.tolist()
    rest = found.moments.without(found.blocks[0])
    assert rest.n == N - found.block_sizes[0]
    group = found.groups["fine"]
    assert sum(part.counts for part in group.blocks) == pytest.approx(
        group.whole.counts
    )


def numbers(report):
    """Return every number of a report by a name of its own."""
    found = {}
    for one in report.measurements:
        found[one.key] = one.value
        found |= {f"{one.key} {k}": v for k, v in enumerate(one.interval or ())}
        found |= {f"{one.key} replicate {k}": v for k, v in enumerate(one.replicates)}
    return {key: value for key, value in found.items() if value is not None}


def assert_same(one, other):
    assert numbers(one) == pytest.approx(numbers(other), rel=1e-10, abs=1e-10)
    first, second = one.record.provenance, other.record.provenance
    assert first.features_fingerprint == second.features_fingerprint
    assert first.split_fingerprint == second.split_fingerprint
    for name, column in one.samples.columns.items():
        expected = other.samples.columns[name]
        if column.dtype.kind == "f":
            # A map's axes are eigenvectors: rounding is divided by gaps of eigenvalues.
            assert column == pytest.approx(expected, abs=1e-7, nan_ok=True), name
        else:
            assert (column == expected).all(), name
    statuses = [[finding.status for finding in r.findings] for r in (one, other)]
    assert statuses[0] == statuses[1]


@pytest.mark.parametrize(
    ("rows", "signed"),
    [
        pytest.param(1, False, marks=pytest.mark.slow),
        (7, True),
        pytest.param(100, False, marks=pytest.mark.slow),
    ],
)
def test_blocks_of_any_size_give_the_same_run(monkeypatch, rows, signed):
    features, labels, attributes = example(signed=signed)
    given = {"labels": labels, "attributes": attributes, "reference": features[:, ::-1]}
    whole = diagnose(features, **given)
    monkeypatch.setattr(representing, "BLOCK_VALUES", rows * D)
    monkeypatch.setattr(surveying, "CACHE_VALUES", 3 * D)
    assert_same(diagnose(features, **given), whole)


def test_a_file_gives_the_same_run_as_its_array(tmp_path, monkeypatch):
    features, labels, _ = example(dtype=np.float32)
    np.save(tmp_path / "emb.npy", features)
    whole = diagnose(features, labels=labels)
    monkeypatch.setattr(representing, "BLOCK_VALUES", 7 * D)
    assert_same(diagnose(tmp_path / "emb.npy", labels=labels), whole)


@pytest.mark.parametrize("rows", [1, 7, 10, 1000])
@pytest.mark.parametrize("bad", [(6, 7), (0,), (N - 1,), (13, 14, 27, 28)])
def test_bad_rows_are_counted_and_the_first_is_named(monkeypatch, rows, bad):
    monkeypatch.setattr(representing, "BLOCK_VALUES", rows * D)
    features, *_ = example()
    features[list(bad), 3] = [np.nan, np.inf, -np.inf, np.nan][: len(bad)]
    contain = "row contains" if len(bad) == 1 else "rows contain"
    said = rf"{len(bad)} {contain} NaN or infinity \(first: row {bad[0]}\)"
    with pytest.raises(NonFiniteFeatureError, match=said):
        survey(Representation.of(features))


@pytest.mark.parametrize("rows", [7, 1000])
def test_dropping_keeps_what_belongs_to_the_rows_left(monkeypatch, rows):
    monkeypatch.setattr(representing, "BLOCK_VALUES", rows * D)
    features, labels, attributes = example()
    ids = np.array([f"image {k}" for k in range(N)])
    features[[0, 6, 7, 120], 2] = np.nan
    left = np.setdiff1d(np.arange(N), [0, 6, 7, 120])
    report = diagnose(
        features, labels=labels, attributes=attributes, ids=ids, drop_nonfinite=True
    )
    columns = report.samples.columns
    assert columns["row"].tolist() == left.tolist()
    assert columns["id"].tolist() == ids[left].tolist()
    assert columns["label:fine"].tolist() == [str(k) for k in labels["fine"][left]]
    assert "4 rows with NaN or infinity were dropped" in report.record.notices[0]
    clean = diagnose(
        features[left],
        labels={name: codes[left] for name, codes in labels.items()},
        attributes={name: codes[left] for name, codes in attributes.items()},
        ids=ids[left],
    )
    expected = numbers(clean) | {"dropped_rows": 4 / N}
    assert numbers(report) == pytest.approx(expected, rel=1e-10, abs=1e-10)


def test_findings_point_at_rows_as_they_were_given():
    features, *_ = example()
    features[3] = np.nan
    report = diagnose(features, drop_nonfinite=True)
    repeats = next(one for one in report.findings if one.code == "RS501").rows
    # Rows 190 to 199 repeat rows 0 to 9; row 3, whose repeat is 193, was dropped.
    assert repeats == (190, 191, 192, 194, 195, 196, 197, 198, 199)


def test_a_reference_loses_the_same_rows():
    features, labels, _ = example()
    reference = features.copy()
    features[[3, 50]] = np.inf
    report = diagnose(features, labels=labels, reference=reference, drop_nonfinite=True)
    lost = {one.level: one for one in report.measurements if "suppression" in one.name}
    assert lost["fine"].value == 0
    assert lost["coarse"].value == 0


def test_nothing_left_is_an_error():
    with pytest.raises(InputError, match="features: every row contains NaN or infin"):
        survey(Representation.of(np.full((3, 2), np.nan)), drop_nonfinite=True)


def test_too_many_dimensions_are_refused():
    wide = np.zeros((2, MAXIMUM_D + 1), dtype=np.int8)
    with pytest.raises(InputError, match="features: 16,385 feature dimensions") as said:
        survey(Representation.of(wide))
    assert "at most 16,384" in str(said.value)
    assert "pool feature maps over positions" in str(said.value)


@pytest.mark.parametrize(
    "dtype", [bool, np.int8, np.uint8, np.int64, np.float16, np.float32, ">f4"]
)
def test_every_real_type_counts_as_its_values(dtype):
    generator = np.random.default_rng(0)
    features = generator.integers(0, 2 if dtype is bool else 9, (100, D)).astype(dtype)
    labels = {"side": np.arange(100) % 2}
    doubled = diagnose(features.astype(np.float64), labels=labels)
    assert_same(diagnose(features, labels=labels), doubled)


@pytest.mark.parametrize(
    ("dtype", "signed"),
    [
        ("float64", True),
        ("float32", False),
        ("bfloat16", True),
        ("int64", False),
    ],
)
def test_tensors_count_as_arrays(dtype, signed):
    torch = pytest.importorskip("torch", reason="torch is an extra")
    features, labels, _ = example(signed=signed)
    tensor = torch.from_numpy(features).to(getattr(torch, dtype))
    values, given = tensor.double().numpy(), {"labels": labels["fine"]}
    assert_same(diagnose(tensor, **given), diagnose(values, **given))


def test_tensors_that_need_gradients_are_read():
    torch = pytest.importorskip("torch", reason="torch is an extra")
    features, *_ = example()
    tensor = torch.from_numpy(features).requires_grad_()
    assert_same(diagnose(tensor), diagnose(features))


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_a_common_offset_costs_no_precision(offset):
    features = sound(N, D).features
    found = survey(Representation.of(features + offset))
    exact = np.cov((features + offset).T.astype(np.longdouble), ddof=0)
    # At an offset of 1e6 float64 holds deviations to 1e-10.
    assert found.moments.covariance() == pytest.approx(exact.astype(float), abs=1e-9)
