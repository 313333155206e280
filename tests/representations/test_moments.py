"""Moments are the same however the rows arrive, and exact at any offset and scale."""

import io
import re
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from references.spectra import column_means, scatter
from repscope import _numerics as numerics
from repscope._checking import InputError, Undecidable
from repscope.metrics.spectral import effective_rank
from repscope.representations import moments as moments_module
from repscope.representations import summed_state
from repscope.representations.moments import Moments
from repscope.theory.planted import with_exact_spectrum


def rows_of(n, d, *, seed=0, offset=0.0):
    return np.random.default_rng(seed).standard_normal((n, d)) + offset


def moments_of(rows):
    return Moments(rows.shape[1]).update(rows)


def assert_equal(one, other, *, tolerance=1e-10):
    """Both states agree to a relative tolerance: of the trace, and of the mean."""
    assert one.n == other.n
    scale = np.abs(other.mean).max() + np.sqrt(np.trace(other.scatter) / other.n)
    np.testing.assert_allclose(one.mean, other.mean, rtol=0, atol=tolerance * scale)
    np.testing.assert_allclose(
        one.scatter, other.scatter, rtol=0, atol=tolerance * np.trace(other.scatter)
    )


def test_moments_by_hand():
    moments = moments_of(np.array([[0.0, 1.0], [2.0, 1.0], [4.0, 4.0]]))
    assert moments.n == 3
    assert moments.d == 2
    assert moments.mean.tolist() == [2, 2]
    assert moments.scatter.tolist() == [[8, 6], [6, 6]]
    np.testing.assert_allclose(moments.covariance(), [[8 / 3, 2], [2, 2]])


def test_moments_equal_exact_sums_and_numpy():
    rows = rows_of(40, 5, offset=3.0)
    moments = moments_of(rows)
    np.testing.assert_allclose(moments.mean, column_means(rows.tolist()), rtol=1e-14)
    np.testing.assert_allclose(moments.scatter, scatter(rows.tolist()), atol=1e-12)
    np.testing.assert_allclose(
        moments.covariance(), np.cov(rows, rowvar=False, ddof=0), atol=1e-13
    )


@given(
    n=st.integers(1, 60),
    d=st.integers(1, 6),
    cuts=st.lists(st.integers(0, 60), max_size=7),
    offset=st.sampled_from([0.0, 1.0, 1e3]),
    seed=st.integers(0, 10**6),
)
def test_any_batches_shards_and_merge_order_agree(n, d, cuts, offset, seed):
    rows = rows_of(n, d, seed=seed, offset=offset)
    order = np.random.default_rng(seed)
    whole = moments_of(rows)
    pieces = [p for p in np.split(rows, sorted(min(c, n) for c in cuts)) if len(p)]
    stream = Moments(d)
    for piece in pieces:
        stream.update(piece)
    shards = [moments_of(piece) for piece in pieces]
    while len(shards) > 1:  # a random merge tree
        a, b = order.choice(len(shards), 2, replace=False)
        merged = shards[a].merge(shards[b])
        shards = [s for k, s in enumerate(shards) if k not in (a, b)] + [merged]
    shuffled = moments_of(rows[order.permutation(n)])
    # n = 1 has no scatter at all; then all must be exactly zero.
    for other in (stream, shards[0], shuffled):
        assert_equal(other, whole, tolerance=1e-10 * max(1.0, offset / 1e3))


def test_merging_leaves_the_other_state_and_takes_empty_ones():
    one, other = moments_of(rows_of(5, 2)), moments_of(rows_of(4, 2, seed=1))
    before = other.to_bytes()
    merged = Moments(2).merge(one).merge(Moments(2)).merge(other)
    assert merged.n == 9
    assert other.to_bytes() == before
    merged.update(np.ones((1, 2)))
    assert other.to_bytes() == before


@pytest.mark.parametrize(
    "kind",
    ["f2", "f4", "f8", ">f4", "i1", "u1", "i8", ">i2", "bool", "fortran", "strided"]
    + ["memmap", "matrix", "torch f2", "torch bf16", "torch f4", "torch u1"],
)
def test_every_kind_of_array_adds_up_to_the_same(kind, tmp_path):
    whole = np.random.default_rng(0).integers(0, 2, (30, 4)).astype(np.float64)
    tensors = {"f2": torch.float16, "bf16": torch.bfloat16, "f4": torch.float32}
    if kind.startswith("torch"):
        batch = torch.tensor(whole).to(tensors.get(kind[6:], torch.uint8))
    elif kind == "fortran":
        batch = np.asfortranarray(whole)
    elif kind == "strided":
        batch = np.repeat(whole, 3, axis=1)[:, ::3]
    elif kind == "memmap":
        np.save(tmp_path / "f.npy", whole.astype(np.float32))
        batch = np.load(tmp_path / "f.npy", mmap_mode="r")
    elif kind == "matrix":
        batch = whole.view(np.matrix)
    else:
        batch = whole.astype(kind)
    moments = Moments(4).update(batch)
    assert_equal(moments, moments_of(whole), tolerance=1e-15)
    assert moments.mean.shape == (4,)


def test_torch_gives_what_numpy_gives():
    rows = rows_of(200, 7, offset=100.0).astype(np.float32)
    tensor = torch.tensor(rows, requires_grad=True)
    assert_equal(Moments(7).update(tensor), moments_of(rows), tolerance=1e-13)


def test_updating_does_not_touch_the_batch():
    rows = rows_of(10, 3)
    before = rows.copy()
    moments_of(rows)
    np.testing.assert_array_equal(rows, before)


SPECTRUM = np.logspace(0, -4, 64)


def float32_batches(mean):
    rows = (with_exact_spectrum(20_000, SPECTRUM) + mean).astype(np.float32)
    return np.array_split(rows, 7)


@pytest.mark.parametrize("mean", [0.0, 1e2, 1e3, 1e4, 1e5, 1e6])
def test_float32_with_a_large_mean_loses_nothing_beyond_its_storage(mean):
    batches = float32_batches(mean)
    moments = Moments(64)
    for batch in batches:
        moments.update(batch)
    stored = np.concatenate(batches).astype(np.longdouble)
    centred = (stored - stored.mean(axis=0)).astype(np.float64)
    exact = centred.T @ centred / len(centred)
    difference = np.linalg.norm(moments.covariance() - exact)
    assert difference < 1e-10 * np.linalg.norm(exact)
    # Storage itself: float32 rounds to 6e-8 of the mean.
    if mean <= 1e3:
        found = effective_rank(moments.spectrum().values)
        assert found == pytest.approx(effective_rank(SPECTRUM), rel=1e-5)


def test_float32_products_that_are_not_centred_first_would_fail():
    # 64-bit sums of 32-bit products look careful; this is why batches are centred.
    batches = float32_batches(1e4)
    product, total = np.zeros((64, 64)), np.zeros(64)
    for batch in batches:
        product += batch.T @ batch
        total += batch.sum(axis=0, dtype=np.float64)
    n = sum(map(len, batches))
    covariance = product / n - np.outer(total / n, total / n)
    exact = np.cov(np.concatenate(batches).astype(float), rowvar=False, ddof=0)
    assert np.linalg.norm(covariance - exact) > 0.1 * np.linalg.norm(exact)


@pytest.mark.parametrize("ratio", [1e3, 1e4, 1e5, 1e6])
def test_offset_of_a_million_deviations_costs_no_precision_in_float64(ratio):
    rows = rows_of(5000, 20)
    shifted = rows + ratio
    stored = shifted - ratio  # what the offset left of the values
    moments = Moments(20)
    for batch in np.array_split(shifted, 9):
        moments.update(batch)
    exact = np.cov(stored, rowvar=False, ddof=0)
    np.testing.assert_allclose(moments.covariance(), exact, rtol=0, atol=1e-10)


@pytest.mark.parametrize("row", [0, 250, 499])
@pytest.mark.parametrize("size", [1e4, 1e8, 1e12])
def test_an_outlying_row_blurs_no_more_than_its_own_variance(size, row):
    rows = rows_of(500, 5)
    rows[row, 2] = size
    moments = moments_of(rows)
    exact = np.array(scatter(rows.tolist()))
    deviations = np.sqrt(np.diag(exact))
    scaled = (moments.scatter - exact) / np.outer(deviations, deviations)
    assert np.abs(scaled).max() < 1e-13


def test_an_outlying_dimension_leaves_the_others():
    rows = rows_of(500, 5)
    others = np.delete(np.arange(5), 3)
    before = moments_of(rows).scatter[np.ix_(others, others)]
    rows[:, 3] = 1e4 * (rows[:, 3] + 7)
    after = moments_of(rows).scatter[np.ix_(others, others)]
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-12 * before.max())


@pytest.mark.parametrize("constant", [0.0, 0.1, 1 / 3, -7e20, 3e-21])
@pytest.mark.parametrize("n", [1, 7, 1000, 3333])
def test_constant_features_have_no_variance_at_all(constant, n):
    rows = np.full((n, 3), constant) * [1.0, 2.0, 3.3]
    moments = Moments(3)
    for batch in np.array_split(rows, min(n, 4)):
        moments.update(batch)
    assert not moments.scatter.any()
    assert not moments.spectrum().values.any()
    np.testing.assert_allclose(moments.mean, rows[0])


def test_one_constant_feature_does_not_leak_into_others():
    rows = rows_of(1000, 3)
    rows[:, 1] = 1e19 / 3
    moments = moments_of(rows)
    np.testing.assert_array_equal(moments.scatter[1], 0)
    expected = np.linalg.eigvalsh(np.cov(rows[:, [0, 2]].T, ddof=0))[::-1]
    np.testing.assert_allclose(moments.spectrum().values[:2], expected, rtol=1e-12)


@pytest.mark.parametrize(("n", "d"), [(2, 512), (3, 900), (10, 300), (30, 30), (40, 8)])
def test_spectrum_has_at_most_n_minus_one_eigenvalues(n, d):
    moments = moments_of(rows_of(n, d, offset=5.0))
    assert (moments.spectrum().values > 0).sum() == min(n - 1, d)
    assert (moments.singular_values() > 0).sum() == min(n, d)


def test_spectrum_and_singular_values_equal_the_svd():
    rows = rows_of(60, 12, offset=2.0)
    moments = moments_of(rows)
    centred = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False)
    np.testing.assert_allclose(moments.spectrum().values, centred**2 / 60, rtol=1e-11)
    plain = np.linalg.svd(rows, compute_uv=False)
    np.testing.assert_allclose(moments.singular_values(), plain, rtol=1e-11)
    eigen = moments.spectrum(vectors=True)
    rebuilt = (eigen.vectors * eigen.values) @ eigen.vectors.T
    np.testing.assert_allclose(rebuilt, moments.covariance(), atol=1e-13)


def test_spectrum_equals_that_of_scikit_learn():
    from sklearn.decomposition import PCA

    rows = rows_of(300, 10, offset=1000.0) * np.arange(1, 11)
    variances = PCA(svd_solver="full").fit(rows).explained_variance_
    values = moments_of(rows).spectrum().values
    np.testing.assert_allclose(values, variances * 299 / 300, rtol=1e-10)


@pytest.mark.parametrize("offset", [0.0, 50.0, 1e4])
def test_rows_taken_out_leave_what_the_rest_adds_up_to(offset):
    rows = rows_of(90, 6, offset=offset)
    part, rest = rows[:31], rows[31:]
    left = moments_of(rows).without(moments_of(part))
    assert_equal(left, moments_of(rest))
    assert_equal(left.merge(moments_of(part)), moments_of(rows))


def test_taking_out_an_empty_part_changes_nothing():
    whole = moments_of(rows_of(9, 2))
    assert_equal(whole.without(Moments(2)), whole, tolerance=0)


def test_no_row_left_is_undecidable():
    whole = moments_of(rows_of(9, 2))
    with pytest.raises(Undecidable, match="^leaving a block out leaves no row$"):
        whole.without(moments_of(rows_of(9, 2)))


@pytest.mark.parametrize("method", ["covariance", "spectrum", "singular_values"])
def test_before_any_row_nothing_is_decidable(method):
    with pytest.raises(Undecidable, match="^no rows$"):
        getattr(Moments(3), method)()


def test_other_widths_are_refused():
    message = re.escape(
        "moments: a batch of another width\n  found: 3 dimensions; expected: 2"
    )
    with pytest.raises(InputError, match=f"^{message}$"):
        Moments(2).update(np.zeros((4, 3)))
    message = "moments: states of different widths cannot be merged"
    with pytest.raises(InputError, match=f"^{message}\n  found: 3 dimensions; exp"):
        Moments(2).merge(Moments(3))


def test_state_returns_from_its_bytes():
    moments = moments_of(rows_of(20, 4, offset=1e3))
    again = Moments.from_bytes(moments.to_bytes())
    assert again.n == 20
    np.testing.assert_array_equal(again.mean, moments.mean)
    np.testing.assert_array_equal(again.scatter, moments.scatter)
    again.update(np.zeros((1, 4)))
    assert again.n == 21


def archive(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


GOOD = {
    "n": np.array(2),
    "mean": np.zeros(3),
    "scatter": np.zeros((3, 3)),
    "vanished": np.array(False),
}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no archive",
        b"PK\x03\x04" + b"\x00" * 40,
        archive(**GOOD)[:200],
        archive(**GOOD)[:-10],
        archive(mean=np.zeros(3)),
        archive(**{**GOOD, "scatter": np.zeros((2, 3))}),
        archive(**{**GOOD, "mean": np.zeros((3, 1))}),
        archive(**{**GOOD, "n": np.zeros(3)}),
        archive(**{**GOOD, "n": np.array(-1)}),
        archive(**{**GOOD, "mean": np.array(["a", "b", "c"])}),
        archive(**{**GOOD, "mean": np.array([None] * 3)}),
        archive(**{**GOOD, "mean": np.array([0, np.nan, 0])}),
        archive(**{**GOOD, "vanished": np.array(0)}),
    ],
)
def test_damaged_bytes_are_refused(data):
    with pytest.raises(InputError, match="^no saved moments: "):
        Moments.from_bytes(data)


@pytest.mark.parametrize("place", range(0, 700, 13))
def test_bytes_with_one_byte_changed_are_refused_or_read(place):
    data = bytearray(archive(**GOOD))
    data[place % len(data)] ^= 0x55
    try:
        moments = Moments.from_bytes(bytes(data))
    except InputError:
        return
    assert moments.scatter.shape == (moments.d, moments.d)


def stressed(kind, n, d, seed):
    """Return rows that are hard to add up: offsets, outliers, constants, one line."""
    generator = np.random.default_rng(seed)
    rows = generator.standard_normal((n, d))
    if kind == "offset":
        rows += 1e6 * generator.standard_normal(d)
    elif kind == "outlying row":
        rows[generator.integers(n)] *= 1e4
    elif kind == "outlying feature":
        rows[:, generator.integers(d)] *= 1e4
    elif kind == "drift":
        rows += np.arange(n)[:, None]
    elif kind == "constant feature":
        rows[:, 0] = 1 / 3
    elif kind == "one line":
        rows = rows[:, :1] * generator.standard_normal(d) + 1
    return rows


KINDS = ["offset", "outlying row", "outlying feature", "drift"]
KINDS += ["constant feature", "one line"]


@given(
    kind=st.sampled_from(KINDS),
    n=st.integers(1, 300),
    d=st.integers(1, 5),
    cuts=st.lists(st.integers(0, 300), max_size=12),
    seed=st.integers(0, 10**6),
)
def test_hard_rows_agree_however_they_arrive(kind, n, d, cuts, seed):
    rows = stressed(kind, n, d, seed)
    order = np.random.default_rng(seed)
    whole = moments_of(rows)
    stream, merged = Moments(d), Moments(d)
    for piece in np.split(rows, sorted(min(c, n) for c in cuts)):
        stream.update(piece)  # empty pieces are among them
        merged.merge(Moments(d).update(piece))
    shuffled = moments_of(rows[order.permutation(n)])
    for other in (stream, merged, shuffled):
        # Storing 1e6 deviations rounds the rows to 1e-10 of a deviation each.
        assert_equal(other, whole)
        np.testing.assert_array_equal(other.scatter, other.scatter.T)
    centred = rows - rows.mean(axis=0)
    truth = centred.T @ centred
    np.testing.assert_allclose(
        whole.scatter, truth, rtol=0, atol=1e-9 * np.trace(truth) + 1e-18
    )


@pytest.mark.parametrize("rows_at_once", [1, 2, 7, 64])
def test_blocks_within_a_batch_change_nothing(rows_at_once, monkeypatch):
    rows = stressed("offset", 200, 4, 0)
    whole = moments_of(rows)
    monkeypatch.setattr(summed_state, "BLOCK_VALUES", 1)
    monkeypatch.setattr(summed_state, "WIDE_BLOCK_VALUES", 1)
    monkeypatch.setattr(summed_state, "BLOCK_MINIMUM_ROWS", rows_at_once)
    for make in (np.asarray, torch.tensor, np.asfortranarray):
        assert_equal(Moments(4).update(make(rows)), whole)


def test_no_rows_change_nothing():
    moments = moments_of(rows_of(5, 3))
    before = moments.to_bytes()
    moments.update(np.zeros((0, 3))).update(torch.zeros((0, 3))).merge(Moments(3))
    assert moments.to_bytes() == before
    assert Moments(3).update(np.zeros((0, 3), np.float16)).n == 0
    with pytest.raises(InputError, match="there is nothing to measure"):
        moments.update(np.zeros((0, 2)))


def test_a_long_batch_is_not_copied():
    rows = np.broadcast_to(np.arange(64, dtype=np.float32), (2**19, 64))
    tracemalloc.start()
    moments = moments_of(rows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6  # of 268 MB in float64
    assert moments.n == 2**19
    assert not moments.scatter.any()


@pytest.mark.parametrize("d", [1, 2, 255, 256, 257, 600])
def test_the_scatter_is_whole_and_symmetric(d):
    rows = rows_of(40, d)
    moments = moments_of(rows[:25]).update(rows[25:])
    expected = np.atleast_2d(np.cov(rows, rowvar=False, ddof=0)) * 40
    np.testing.assert_allclose(moments.scatter, expected, atol=1e-12)
    np.testing.assert_array_equal(moments.scatter, moments.scatter.T)


def test_a_scatter_that_is_set_is_a_copy():
    square = np.array([[2.0, 1.0], [1.0, 3.0]])
    moments = Moments(2)
    moments.n, moments.scatter = 2, square
    moments.update(np.array([[1.0, 5.0], [0.0, 1.0]]))
    assert square.tolist() == [[2, 1], [1, 3]]
    assert moments.scatter[0, 1] == moments.scatter[1, 0]


@pytest.mark.parametrize(("n", "d"), [(200, 12), (8, 12), (1, 3), (50, 1)])
@pytest.mark.parametrize("offset", [0.0, 1.0, 1e3])
def test_both_spectra_equal_singular_values_of_the_rows(n, d, offset):
    rows = rows_of(n, d, offset=offset)
    spectra = moments_of(rows).spectra()
    for found, matrix, rank in (
        (np.sqrt(spectra.eigenvalues * n), rows - rows.mean(axis=0), n - 1),
        (spectra.singular_values, rows, n),
    ):
        truth = np.zeros(d)
        values = np.linalg.svd(matrix, compute_uv=False)
        truth[: len(values)] = values
        tolerance = 1e-7 * truth[0] + 1e-12  # roots of eps
        np.testing.assert_allclose(found, truth, rtol=1e-9, atol=tolerance)
        assert not found[rank:].any()


def test_both_spectra_equal_those_taken_one_by_one():
    moments = moments_of(rows_of(100, 20, offset=2.0))
    spectra = moments.spectra()
    expected = moments.spectrum().values
    np.testing.assert_allclose(spectra.eigenvalues, expected, rtol=1e-12)
    expected = moments.singular_values()
    np.testing.assert_allclose(spectra.singular_values, expected, rtol=1e-12)


@pytest.mark.parametrize("constant", [0.0, 0.5, 1e-170, 1e100])
def test_equal_rows_have_one_singular_value(constant):
    moments = moments_of(np.full((4, 9), constant))
    for values in (moments.spectra().singular_values, moments.singular_values()):
        assert values[0] == pytest.approx(6 * constant, rel=1e-12)
        assert not values[1:].any()
    assert not moments.spectra().eigenvalues.any()


@pytest.mark.parametrize("scale", [1e-120, 1e-20, 1e20, 1e120])
def test_both_spectra_scale_with_the_rows(scale):
    rows = rows_of(30, 5, offset=1.0)
    plain, scaled = moments_of(rows).spectra(), moments_of(rows * scale).spectra()
    expected = plain.eigenvalues * scale**2
    np.testing.assert_allclose(scaled.eigenvalues, expected, rtol=1e-12)
    expected = plain.singular_values * scale
    np.testing.assert_allclose(scaled.singular_values, expected, rtol=1e-12)


@pytest.mark.parametrize("scale", [1e155, 1e160, 1e300])
@pytest.mark.parametrize("make", [np.asarray, torch.tensor])
def test_rows_too_large_to_square_are_refused(make, scale):
    moments = moments_of(rows_of(9, 3))
    before = moments.to_bytes()
    message = "^moments: features too large to square\n  found: .*e[+]"
    with pytest.raises(InputError, match=message):
        moments.update(make(rows_of(9, 3) * scale))
    with pytest.raises(InputError, match=message):
        moments.update(make(np.full((9, 3), scale)))
    assert moments.to_bytes() == before


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(bad):
    rows = rows_of(9, 3)
    rows[4, 1] = bad
    moments = Moments(3)
    with pytest.raises(InputError, match="^moments: some features are NaN or infinite"):
        moments.update(rows)
    assert moments.n == 0
    assert not moments.scatter.any()


@pytest.mark.parametrize("scale", [1e-150, 1e-170, 1e-300])
def test_deviations_too_small_to_square_are_not_taken_for_constants(scale):
    moments = moments_of(rows_of(9, 3) * scale)
    message = "^moments: deviations too small to square\n"
    again = Moments.from_bytes(moments.to_bytes())
    merged = Moments(3).merge(moments)
    for state in (moments, again, merged):
        for read in (state.covariance, state.spectrum, state.spectra):
            with pytest.raises(InputError, match=message):
                read()
    # Beside rows that vary as usual they are equal rows indeed.
    usual = rows_of(9, 3, seed=1)
    mixed = moments.merge(moments_of(usual))
    assert_equal(mixed, moments_of(np.concatenate([np.zeros((9, 3)), usual])))


def test_rows_on_a_device_are_added_in_blocks(monkeypatch):
    rows = stressed("offset", 300, 4, 0)
    expected = moments_of(rows)
    monkeypatch.setattr(moments_module, "is_on_device", lambda _: True)
    monkeypatch.setattr(numerics, "BLOCK_BYTES", 50 * 4 * 8)
    assert_equal(Moments(4).update(torch.tensor(rows)), expected)
    with pytest.raises(InputError, match="too large to square"):
        Moments(4).update(torch.tensor(rows) * 1e150)
    tiny = Moments(4).update(torch.tensor(rows) * 1e-170)
    with pytest.raises(InputError, match="too small to square"):
        tiny.covariance()
    assert not Moments(4).update(torch.full((5, 4), 0.1)).covariance().any()
