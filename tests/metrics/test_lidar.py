"""LiDAR: planted truth, references, invariances, limits, and what it refuses."""

import math
import re

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch

from references import objects as naive
from references.spectra import delete_group_variance
from repscope._checking import InputError, Undecidable, UsageError
from repscope.metrics import lidar as lidar_file
from repscope.metrics.lidar import lidar, lidar_of_views
from repscope.metrics.metric import metric_of
from repscope.representations.object_moments import ObjectMoments


def views_of(n=40, q=5, d=6, *, informative=3, spread=0.5, seed=0):
    """Return views of objects that differ in the first dimensions only."""
    generator = np.random.default_rng(seed)
    images = np.zeros((n, 1, d))
    images[..., :informative] = generator.standard_normal((n, 1, informative))
    return images + spread * generator.standard_normal((n, q, d))


def exact_views(between, within, *, n=12, q=4):
    """Return views whose S_b and S_w are exactly diagonal, with these entries.

    Object means are columns of a Hadamard-like orthogonal basis without the constant;
    views lie at plus and minus each axis, the same around every mean.
    """
    d = len(between)
    basis = scipy.linalg.dft(n)
    waves = [part[:, k] for k in range(1, n) for part in (basis.real, basis.imag)]
    columns, _ = np.linalg.qr(np.column_stack([np.ones(n), *waves]))
    means = columns[:, 1 : d + 1] * np.sqrt((n - 1) * np.array(between))
    around = np.concatenate([np.diag(s) for s in (np.sqrt(within), -np.sqrt(within))])
    return means[:, None, :] + math.sqrt(d) * around[None, :, :]


@pytest.mark.parametrize("module", ["numpy", "torch"])
@pytest.mark.parametrize(("n", "q", "d"), [(9, 3, 4), (30, 2, 6), (5, 4, 8), (2, 2, 3)])
@pytest.mark.parametrize("delta", [1e-4, 0.1])
def test_lidar_equals_the_naive_transcription(n, q, d, delta, module):
    views = views_of(n, q, d)
    expected = naive.lidar(views.tolist(), delta)
    given = torch.from_numpy(views) if module == "torch" else views
    found = lidar_of_views(given, delta=delta).value
    # The epsilon's part of p log p feels eigenvalues of rounding, 1e-16 of the first.
    assert found == pytest.approx(expected, rel=1e-9)


def test_the_factor_of_the_between_scatter_cancels():
    objects = views_of().tolist()
    assert naive.lidar(objects, ddof=0) == pytest.approx(
        naive.lidar(objects), rel=1e-12
    )


def test_lidar_equals_scipys_generalised_eigenproblem():
    views = views_of(200, 6, 20)
    means = views.mean(axis=1)
    s_b = np.cov(means, rowvar=False)
    s_w = (views - means[:, None]).reshape(-1, 20)
    s_w = s_w.T @ s_w / len(s_w) + 1e-4 * np.eye(20)
    eigenvalues = scipy.linalg.eigh(s_b, s_w, eigvals_only=True)
    shares = eigenvalues / eigenvalues.sum() + 1e-7
    expected = math.exp(-(shares * np.log(shares)).sum())
    assert lidar_of_views(views).value == pytest.approx(expected, rel=1e-10)


def test_lidar_by_hand():
    # S_b diag(2, 1), S_w the identity less the published delta: shares 2/3 and 1/3.
    views = exact_views([2.0, 1.0], [1 - 1e-4, 1 - 1e-4])
    shares = np.array([2 / 3, 1 / 3]) + 1e-7
    expected = math.exp(-(shares * np.log(shares)).sum())
    assert lidar_of_views(views).value == pytest.approx(expected, rel=1e-12)
    assert expected == pytest.approx(3 / 4 ** (1 / 3), rel=1e-6)
    # Variance within divides: 2/2 against 1/0.5.
    views = exact_views([2.0, 1.0], [2.0 - 1e-4, 0.5 - 1e-4])
    assert lidar_of_views(views).value == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("rank", [1, 2, 5, 9])
def test_equal_directions_have_their_number_as_value(rank):
    d = 9
    views = exact_views([1.0] * rank + [0.0] * (d - rank), [1.0] * d)
    found = lidar_of_views(views).value
    assert found == pytest.approx(naive.flat_with_epsilon(rank, d), rel=1e-10)
    assert found == pytest.approx(rank, abs=1e-3)


@pytest.mark.parametrize(("d", "n"), [(2048, 3), (2048, 1000)])
def test_the_epsilon_exceeds_the_range_by_a_known_amount(d, n):
    # n - 1 equal eigenvalues of d: the excess that the catalogue's range speaks of.
    excess = naive.flat_with_epsilon(n - 1, d) - (n - 1)
    assert 0 < excess < d**2 * 1e-7 * math.log(d)
    assert excess < 3.3


def test_planted_directions_order_the_value():
    """The more directions tell objects apart, the higher; wrong grouping inverts it."""
    right, wrong = [], []
    for informative in (4, 16, 64):
        views = views_of(300, 10, 64, informative=informative, spread=0.3)
        right.append(lidar_of_views(views).value)
        # What stacked views do when they are cut into pieces of q: one piece holds
        # views of q different objects.
        stacked = views.transpose(1, 0, 2).reshape(300, 10, 64)
        found = lidar_of_views(stacked)
        wrong.append(found.value)
        assert found.details["unrelated_views"] == pytest.approx(1, abs=0.03)
        assert any(
            "which views belong together" in w for w in found.details["warnings"]
        )
    assert right == sorted(right)
    assert right[2] - right[0] > 30
    assert wrong == sorted(wrong, reverse=True)


def test_shuffled_ids_give_another_number():
    views = views_of(100, 5, 16, informative=2, spread=0.2)
    flat, ids = views.reshape(-1, 16), np.repeat(np.arange(100), 5)
    right = lidar(ObjectMoments(16).update(flat, ids))
    assert right.value == lidar_of_views(views, np.arange(100)).value
    shuffled = np.random.default_rng(0).permutation(ids)
    wrong = lidar(ObjectMoments(16).update(flat, shuffled))
    assert right.value < 4
    assert wrong.value > 8
    assert right.details["warnings"] == ()
    assert wrong.details["warnings"]


@pytest.mark.parametrize("form", [np.asarray, torch.from_numpy])
def test_rows_with_ids_are_views_of_the_objects_they_name(form):
    views = views_of(40, 5, 6)
    order = np.random.default_rng(0).permutation(200)
    rows, ids = views.reshape(-1, 6)[order], np.repeat(np.arange(40), 5)[order]
    found = lidar_of_views(form(rows), ids)
    expected = lidar_of_views(views, np.arange(40))
    assert found.value == pytest.approx(expected.value, rel=1e-10)
    assert found.interval == pytest.approx(expected.interval, rel=1e-9)
    with pytest.raises(InputError, match="^object_ids: one entry per row"):
        lidar_of_views(form(rows), ids[:-1])


def test_a_flat_matrix_is_refused():
    flat = views_of().reshape(-1, 6)
    message = "views: a flat matrix does not say which rows are views of one object"
    with pytest.raises(UsageError, match=message):
        lidar_of_views(flat)
    message = "lidar: which views are of one object must be said, not guessed\n"
    for given in (flat, views_of(), torch.from_numpy(flat)):
        with pytest.raises(UsageError, match=message):
            lidar(given)


def test_one_view_per_object_is_refused():
    message = re.escape(
        "lidar: an object needs at least two views\n  found: 40 of 40 objects with one "
        "view; expected: two or more augmented views of every object"
    )
    with pytest.raises(InputError, match="^" + message):
        lidar_of_views(views_of(q=1))
    objects = ObjectMoments(1).update(np.zeros((5, 1)), [1, 1, 2, 2, 3])
    with pytest.raises(InputError, match="found: 1 of 3 objects with one view"):
        lidar(objects)


def test_objects_of_different_numbers_of_views():
    """Each object counts once between objects, each view once within."""
    features = views_of(8, 6, 4).reshape(-1, 4)
    ids = np.repeat(np.arange(8), [2, 3, 9, 4, 10, 2, 2, 16])
    groups = [features[ids == one].tolist() for one in range(8)]
    found = lidar(ObjectMoments(4).update(features, ids)).value
    assert found == pytest.approx(naive.lidar(groups), rel=1e-10)


@pytest.mark.parametrize("offset", [1e2, 1e6])
def test_offset_changes_nothing(offset):
    views = views_of()
    found = lidar_of_views(views + offset).value
    assert found == pytest.approx(lidar_of_views(views).value, rel=1e-8)


def test_rotation_order_and_duplication_change_nothing():
    generator = np.random.default_rng(1)
    views = views_of()
    expected = lidar_of_views(views).value
    rotation = np.linalg.qr(generator.standard_normal((6, 6)))[0]
    for same in (
        views @ rotation,
        views[generator.permutation(40)],
        views[:, generator.permutation(5)],
        np.concatenate([views, views]),
        np.concatenate([views, views], axis=1),
    ):
        assert lidar_of_views(same).value == pytest.approx(expected, rel=1e-10)


def test_batches_and_shards_change_nothing():
    views = views_of()
    flat, ids = views.reshape(-1, 6), np.repeat(np.arange(40), 5)
    order = np.random.default_rng(0).permutation(200)
    stream, shards = ObjectMoments(6), [ObjectMoments(6) for _ in range(3)]
    for k, piece in enumerate(np.split(order, [1, 50, 51, 180])):
        stream.update(flat[piece], ids[piece])
        shards[k % 3].update(flat[piece], ids[piece])
    whole = lidar_of_views(views, np.arange(40))
    for state in (stream, shards[2].merge(shards[0]).merge(shards[1])):
        found = lidar(state)
        assert found.value == pytest.approx(whole.value, rel=1e-10)
        assert found.interval == pytest.approx(whole.interval, rel=1e-9)


def test_invertible_maps_change_nothing_without_delta():
    generator = np.random.default_rng(2)
    views = views_of(60, 6, 5)
    any_map = generator.standard_normal((5, 5)) + 2 * np.eye(5)
    expected = lidar_of_views(views, delta=0.0).value
    assert lidar_of_views(views @ any_map, delta=0.0).value == pytest.approx(
        expected, rel=1e-9
    )
    # The published delta is not one of them; the smaller, the nearer.
    errors = [
        abs(lidar_of_views(views @ any_map / 30, delta=delta).value - expected)
        for delta in (1e-4, 1e-6, 1e-8)
    ]
    assert errors[0] > 10 * errors[1] > 100 * errors[2]


def test_the_published_delta_sets_a_scale():
    views = views_of()
    small = lidar_of_views(views * 1e-3)
    assert abs(small.value - lidar_of_views(views).value) > 0.1
    assert small.details["delta_share"] > 0.99
    assert small.details["warnings"][0].startswith(
        "delta is 100% of the mean within-object variance: it sets the scale"
    )
    assert lidar_of_views(views).details["delta_share"] == pytest.approx(
        1e-4 / (1e-4 + 0.25 * 4 / 5), rel=0.2
    )


@pytest.mark.parametrize("scale", [1e-120, 1e-20, 1e-8, 1e8, 1e20, 1e120])
def test_a_relative_delta_sets_none(scale):
    views = views_of()
    expected = lidar_of_views(views, delta_relative=1e-3).value
    found = lidar_of_views(views * scale, delta_relative=1e-3)
    assert found.value == pytest.approx(expected, rel=1e-9)
    assert found.details["delta_share"] == pytest.approx(1e-3 / 1.001, rel=1e-9)


@pytest.mark.parametrize("scale", [1e-150, 1e-20, 1e-8, 1e8, 1e20, 1e138])
def test_the_published_delta_is_exact_at_any_scale(scale):
    """Far below delta S_w is the identity, far above delta plays no part."""
    views = views_of()
    means = views.mean(axis=1)
    small = np.linalg.eigvalsh(np.cov(means, rowvar=False))
    shares = small / small.sum() + 1e-7
    expected = (
        math.exp(-(shares * np.log(shares)).sum())
        if scale < 1
        else lidar_of_views(views, delta=0.0).value
    )
    assert lidar_of_views(views * scale).value == pytest.approx(expected, rel=1e-7)


def test_an_outlier_dimension_costs_nothing():
    views = views_of(60, 5, 6)
    expected = lidar_of_views(views, delta=0.0).value
    views[..., 5] *= 1e4
    assert lidar_of_views(views, delta=0.0).value == pytest.approx(expected, rel=1e-9)


def test_more_dimensions_than_views():
    views = views_of(8, 2, 100, informative=100)
    found = lidar_of_views(views)
    assert found.value == pytest.approx(naive.lidar(views.tolist()), rel=1e-6)
    assert 1 <= found.value <= naive.flat_with_epsilon(7, 100) * (1 + 1e-9)
    assert found.details["upper"] == 7


def test_few_objects_saturate_and_it_is_said():
    found = lidar_of_views(views_of(6, 5, 50, informative=50, spread=0.01))
    assert "near its upper bound, n - 1 = 5" in found.details["warnings"]
    found = lidar_of_views(views_of(500, 5, 4, informative=4, spread=0.1))
    assert found.details["warnings"] == ("near its upper bound, d = 4",)


def test_one_dimension_has_rank_one():
    found = lidar_of_views(views_of(d=1, informative=1))
    assert found.value == 1
    assert found.interval == (1, 1)


def test_a_sound_encoder_has_no_warnings():
    found = lidar_of_views(views_of(200, 5, 20, informative=8))
    assert found.details["warnings"] == ()
    assert (found.details["n_objects"], found.details["n_views"]) == (200, 1000)


@pytest.mark.parametrize(
    ("views", "options", "reason"),
    [
        (views_of(1), {}, "^one object: there is nothing to tell apart$"),
        (np.full((5, 3, 2), 0.1), {}, "^all objects have one mean: nothing tells"),
        (np.zeros((5, 3, 2)), {}, "^all objects have one mean: nothing tells"),
        (
            np.repeat(views_of(q=1), 3, axis=1),
            {"delta_relative": 1e-4},
            "^views of one object do not differ, or by too little to square",
        ),
        (
            views_of(3, 2, 20),
            {"delta": 0.0},
            "^views span fewer dimensions than features have, and delta = 0 is lost",
        ),
        (views_of(3, 2, 20) * 1e10, {}, "^views span fewer dimensions than"),
        (np.repeat(views_of(q=1), 3, axis=1), {"delta": 0.0}, "^views span fewer dim"),
    ],
)
def test_what_cannot_be_decided(views, options, reason):
    with pytest.raises(Undecidable, match=reason):
        lidar_of_views(views, **options)


def test_no_objects_at_all():
    with pytest.raises(Undecidable, match="^one object"):
        lidar(ObjectMoments(3))
    measured = metric_of(lidar).measured(lambda: lidar_of_views(views_of(1)), n=1)
    assert measured.value is None
    assert measured.reason == "n = 1; at least 2 rows are needed"


def test_equal_views_leave_the_rank_of_the_objects():
    # S_w is delta times the identity: the spectrum of the objects themselves.
    views = np.repeat(views_of(q=1, spread=0.0), 3, axis=1)
    expected = naive.lidar(views.tolist())
    assert lidar_of_views(views).value == pytest.approx(expected, rel=1e-9)
    assert lidar_of_views(views).details["delta_share"] == 1


@pytest.mark.parametrize("name", ["delta", "delta_relative"])
@pytest.mark.parametrize("value", [-1e-4, math.nan, math.inf])
def test_a_delta_that_is_none_is_refused(name, value):
    with pytest.raises(UsageError, match=f"^{name}: what is added to a covariance"):
        lidar_of_views(views_of(), **{name: value})


def test_the_interval_is_a_jackknife_over_objects():
    views = views_of(60)
    objects = ObjectMoments.of_views(views, np.arange(60), n_blocks=4)
    found = lidar(objects)
    blocks = objects.blocks
    replicates = [naive.lidar(views[blocks != one].tolist()) for one in range(4)]
    sizes = np.bincount(blocks).tolist()
    half = scipy.stats.t.ppf(0.975, 3) * math.sqrt(
        delete_group_variance(found.value, replicates, sizes)
    )
    expected = (found.value - half, found.value + half)
    assert found.interval == pytest.approx(expected, rel=1e-7)
    assert found.details["interval"] == "jackknife over 4 blocks of objects"


@pytest.mark.parametrize(("n", "n_blocks"), [(40, 1), (40, 2), (2, 10)])
def test_too_few_blocks_give_no_interval(n, n_blocks):
    found = lidar(ObjectMoments.of_views(views_of(n), n_blocks=n_blocks))
    assert found.interval is None
    assert "interval" not in found.details


@pytest.mark.slow
def test_the_interval_covers_what_other_objects_would_give():
    """Of 200 draws of 300 objects, 95 % cover their common mean."""
    found = [
        lidar_of_views(views_of(300, 5, 20, informative=8, seed=seed))
        for seed in range(200)
    ]
    centre = np.mean([one.value for one in found])
    covered = np.mean([one.interval[0] < centre < one.interval[1] for one in found])
    # Two standard errors of a share of .95 among 200 are .03.
    assert 0.91 < covered < 0.99


@pytest.mark.parametrize("dtype", ["float16", "float32", "int32", "uint8"])
def test_stored_type_changes_nothing_beyond_its_rounding(dtype):
    stored = (views_of() * 10 + 60).astype(dtype)
    expected = lidar_of_views(stored.astype(float)).value
    assert lidar_of_views(stored).value == pytest.approx(expected, rel=1e-12)


def test_the_thresholds_of_the_warnings_are_as_documented():
    assert lidar_file.DELTA == 1e-4
    assert lidar_file.EPSILON == 1e-7
    assert lidar_file.DOMINANT_DELTA == 0.1
