"""Objects' states are the same however their views arrive, and exact at any offset."""

import io
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from references import objects as naive
from repscope._checking import InputError, UsageError
from repscope.representations import object_moments
from repscope.representations.moments import Moments
from repscope.representations.object_ids import GroupedRows
from repscope.representations.object_moments import ObjectMoments
from repscope.representations.summed_state import rows_at_once


def views_of(n=12, q=4, d=3, *, seed=0, offset=0.0):
    generator = np.random.default_rng(seed)
    images = generator.standard_normal((n, 1, d))
    return images + 0.5 * generator.standard_normal((n, q, d)) + offset


def near(found, expected, tolerance=1e-10):
    atol = tolerance * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


def assert_same(one, other, tolerance=1e-10):
    """Two states hold the same objects, in whatever order."""
    assert set(one.ids) == set(other.ids)
    place = [one.ids.index(name) for name in other.ids]
    np.testing.assert_array_equal(one.counts[place], other.counts)
    np.testing.assert_array_equal(one.blocks[place], other.blocks)
    near(one.means[place], other.means, tolerance)
    near(one.within(), other.within(), tolerance)
    near(one.between(), other.between(), tolerance)
    for block in range(one.n_blocks):
        rest, expected = one.without_block(block), other.without_block(block)
        assert (rest.n, rest.n_views) == (expected.n, expected.n_views)
        near(rest.within(), expected.within(), tolerance)


def test_object_moments_by_hand():
    views = np.array([[[0.0, 1.0], [2.0, 1.0]], [[4.0, 4.0], [6.0, 8.0]]])
    objects = ObjectMoments.of_views(views, ["a", "b"])
    assert (objects.n, objects.d, objects.n_views) == (2, 2, 4)
    assert objects.ids == ("a", "b")
    assert objects.counts.tolist() == [2, 2]
    assert objects.means.tolist() == [[1, 1], [5, 6]]
    assert objects.within().tolist() == [[4, 4], [4, 8]]
    assert objects.between().tolist() == [[8, 10], [10, 12.5]]


def test_scatters_equal_exact_sums():
    views = views_of(offset=3.0)
    objects = ObjectMoments.of_views(views)
    near(objects.within(), np.array(naive.within(views.tolist())), 1e-14)
    near(objects.between(), np.array(naive.between(views.tolist())), 1e-14)


def test_many_views_pass_in_pieces():
    views = views_of(700, 4, 600, offset=5.0).astype(np.float32)
    assert views[:, :, 0].size > 2 * rows_at_once(600)
    means = views.astype(float).mean(axis=1)
    centred = (views - means[:, None, :]).reshape(-1, 600)
    for n_blocks in (1, 3):
        objects = ObjectMoments.of_views(views, np.arange(700), n_blocks=n_blocks)
        near(objects.within(), centred.T @ centred, 1e-13)
        near(objects.means, means, 1e-14)


def test_moments_of_all_views_are_those_of_the_flat_rows():
    features = views_of().reshape(-1, 3)[:-3]  # the last object has one view
    ids = np.arange(len(features)) // 4
    found = ObjectMoments(3).update(features, ids).moments()
    expected = Moments(3).update(features)
    assert found.n == expected.n
    near(found.mean, expected.mean, 1e-14)
    near(found.scatter, expected.scatter, 1e-14)
    assert ObjectMoments(3).moments().n == 0


@given(
    n=st.integers(1, 9),
    q=st.integers(1, 5),
    cuts=st.lists(st.integers(0, 45), max_size=7),
    offset=st.sampled_from([0.0, 1.0, 1e3]),
    strings=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_any_batches_shards_and_merge_order_agree(n, q, cuts, offset, strings, seed):
    features = views_of(n, q, seed=seed, offset=offset).reshape(n * q, 3)
    ids = np.repeat(np.arange(n), q)
    ids = np.char.add("image ", ids.astype(str)) if strings else ids
    order = np.random.default_rng(seed).permutation(n * q)
    features, ids = features[order], ids[order]
    whole = ObjectMoments(3, n_blocks=3).update(features, ids)
    pieces = np.split(np.arange(n * q), sorted(min(cut, n * q) for cut in cuts))
    pieces = [piece for piece in pieces if len(piece)]
    stream = ObjectMoments(3, n_blocks=3)
    for piece in pieces:
        stream.update(features[piece], ids[piece])
    shards = [
        ObjectMoments(3, n_blocks=3).update(features[piece], ids[piece])
        for piece in pieces
    ]
    while len(shards) > 1:  # a random merge tree
        a, b = np.random.default_rng(seed).choice(len(shards), 2, replace=False)
        merged = shards[a].merge(shards[b])
        shards = [s for k, s in enumerate(shards) if k not in (a, b)] + [merged]
    exact = 1e-10 * max(1.0, offset / 1e3)
    assert_same(stream, whole, exact)
    assert_same(shards[0], whole, exact)


def test_views_and_rows_with_ids_are_one_thing():
    views = views_of()
    names = np.arange(100, 112)
    rows = ObjectMoments(3).update(views.reshape(-1, 3), np.repeat(names, 4))
    assert_same(ObjectMoments.of_views(views, names), rows)
    # One view at a time, as an epoch of augmentations would come.
    stream = ObjectMoments(3)
    for k in range(4):
        stream.update_views(views[:, k : k + 1], names)
    assert_same(stream, rows)


def test_an_object_may_come_twice_in_one_batch():
    views = views_of()
    names = np.arange(12) % 5
    flat = ObjectMoments(3).update(views.reshape(-1, 3), np.repeat(names, 4))
    assert_same(ObjectMoments(3).update_views(views, names), flat)


def test_objects_of_different_numbers_of_views():
    features = views_of().reshape(-1, 3)
    ids = np.random.default_rng(0).integers(0, 9, len(features))
    objects = ObjectMoments(3).update(features, ids)
    groups = [features[ids == name].tolist() for name in objects.ids]
    assert objects.counts.tolist() == [len(group) for group in groups]
    near(objects.within(), np.array(naive.within(groups)))
    near(objects.between(), np.array(naive.between(groups)))


@pytest.mark.parametrize("dtype", ["float16", "float32", "int64", "uint8", "bool"])
@pytest.mark.parametrize("module", ["numpy", "torch"])
def test_any_real_type_is_added_up_in_float64(dtype, module):
    stored = (views_of() * 10 + 60).astype(dtype)
    expected = ObjectMoments.of_views(stored.astype(float), np.arange(12))
    given = torch.from_numpy(stored) if module == "torch" else stored
    assert_same(ObjectMoments.of_views(given, np.arange(12)), expected, 1e-14)
    rows, ids = given.reshape(-1, 3), np.repeat(np.arange(12), 4)
    ids = torch.from_numpy(ids) if module == "torch" else ids
    assert_same(ObjectMoments(3).update(rows, ids), expected, 1e-12)


def test_bfloat16_and_layouts():
    views = views_of().astype(np.float32)
    short = torch.from_numpy(views).to(torch.bfloat16)
    expected = ObjectMoments.of_views(short.double(), np.arange(12))
    assert_same(ObjectMoments.of_views(short, np.arange(12)), expected, 1e-14)
    expected = ObjectMoments.of_views(views, np.arange(12))
    read_only = views.copy()
    read_only.flags.writeable = False
    wide = np.zeros((12, 4, 6), dtype=np.float32)
    wide[:, :, ::2] = views
    for same in (
        views.astype(">f4"),
        np.asfortranarray(views),
        read_only,
        wide[..., ::2],
    ):
        assert_same(ObjectMoments.of_views(same, np.arange(12)), expected, 1e-14)


@pytest.mark.parametrize("offset", [1e2, 1e6])
@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20, 1e130])
def test_offset_and_scale_cost_no_digits(offset, scale):
    views = views_of()
    expected = ObjectMoments.of_views(views)
    found = ObjectMoments.of_views((views + offset) * scale)
    # Storage rounds to 1e-16 of the offset.
    near(found.within() / scale / scale, expected.within(), 1e-14 * offset)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1 / 3, -1e8])
def test_constant_features_scatter_by_exactly_nothing(constant):
    stream = ObjectMoments(3)
    for _ in range(3):
        stream.update_views(np.full((7, 3, 3), constant), np.arange(7))
    assert not stream.within().any()
    assert not stream.between().any()
    assert not stream.moments().scatter.any()


def test_blocks_are_left_out_whole():
    views = views_of(60)
    objects = ObjectMoments.of_views(views, np.arange(60), n_blocks=4)
    assert sorted(set(objects.blocks.tolist())) == [0, 1, 2, 3]
    for block in range(4):
        kept = objects.blocks != block
        rest = objects.without_block(block)
        expected = ObjectMoments.of_views(views[kept], np.flatnonzero(kept), n_blocks=4)
        assert_same(rest, expected)
        rest.update_views(views[:2], [0, 999])  # it is a state like any other
        assert objects.n == 60


def test_blocks_depend_on_ids_alone():
    one = ObjectMoments.of_views(views_of(50), np.arange(50))
    other = ObjectMoments.of_views(views_of(50)[::-1], np.arange(50)[::-1])
    blocks = dict(zip(other.ids, other.blocks, strict=True))
    assert [blocks[name] for name in one.ids] == one.blocks.tolist()


@pytest.mark.parametrize(("d", "blocks"), [(1024, 10), (1025, 1)])
def test_wide_features_have_one_block(d, blocks):
    assert ObjectMoments(d).n_blocks == blocks


def test_without_ids_each_image_is_an_object_of_its_own():
    views = views_of()
    stream = ObjectMoments(3).update_views(views[:5]).update_views(views[5:])
    merged = ObjectMoments.of_views(views[:5]).merge(ObjectMoments.of_views(views[5:]))
    for state in (stream, merged):
        assert state.ids is None
        assert state.n == 12
        near(state.means, views.mean(axis=1))
    assert merged.without_block(0).ids is None


def test_states_survive_bytes():
    views = views_of()
    for ids in (None, np.arange(12), [f"image {k}" for k in range(12)]):
        state = ObjectMoments.of_views(views, ids, n_blocks=2)
        again = ObjectMoments.from_bytes(state.to_bytes())
        assert again.ids == state.ids
        assert again.to_bytes() == state.to_bytes()
        again.update_views(views, ids)  # goes on where it stopped
        assert again.n_views == 96
    empty = ObjectMoments.from_bytes(ObjectMoments(4).to_bytes())
    assert (empty.n, empty.d, empty.n_blocks) == (0, 4, 10)


def saved(**changes):
    arrays = {
        "counts": np.array([2, 2]),
        "means": np.zeros((2, 3)),
        "within": np.zeros((1, 3, 3)),
        "blocks": np.array([0, 0]),
        "ids": np.array([7, 8]),
        **changes,
    }
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"counts": np.array([2])}, "arrays that do not fit together"),
        ({"counts": np.array([2.0, 2.0])}, "numbers of another type"),
        ({"counts": np.array([2, 0])}, "impossible numbers"),
        ({"means": np.zeros(3)}, "arrays of other dimensions"),
        ({"means": np.full((2, 3), np.nan)}, "impossible numbers"),
        ({"within": np.zeros((1, 3, 2))}, "arrays that do not fit together"),
        ({"within": np.zeros((0, 3, 3))}, "arrays of other dimensions"),
        ({"within": -np.ones((1, 3, 3))}, "impossible numbers"),
        ({"blocks": np.array([0, 1])}, "impossible numbers"),
        ({"ids": np.array([7, 7])}, "not one id for each object"),
        ({"ids": np.array([7])}, "not one id for each object"),
        ({"ids": np.array([7.0, 8.0])}, "ids that are neither integers nor strings"),
    ],
)
def test_damaged_states_are_refused(changes, problem):
    ObjectMoments.from_bytes(saved())
    with pytest.raises(InputError, match=f"^no saved object moments: {problem}$"):
        ObjectMoments.from_bytes(saved(**changes))


@pytest.mark.parametrize("data", [b"", b"no archive", saved()[:200]])
def test_what_is_no_archive_is_refused(data):
    with pytest.raises(InputError, match="^no saved object moments: "):
        ObjectMoments.from_bytes(data)


def test_nothing_is_unpickled():
    with pytest.raises(InputError, match="^no saved object moments: "):
        ObjectMoments.from_bytes(saved(ids=np.array([1, "a"], dtype=object)))


@pytest.mark.parametrize(
    ("views", "error", "message"),
    [
        (
            np.zeros((4, 3)),
            UsageError,
            "views: a flat matrix does not say which rows are views of one object\n"
            "  found: an array of shape (4, 3); expected: (n objects, q views, d "
            "features), or rows with object ids\n  fix: reshape to (n, q, d)",
        ),
        (np.zeros(4), InputError, "views: features of several views of each object"),
        (np.zeros((4, 0, 3)), InputError, "views: features of several views of each"),
        ([[[1.0]]], InputError, "views: features of several views of each object are "),
        (np.zeros((4, 2, 3), complex), InputError, "views: features must be real"),
        (
            np.ma.masked_array(np.zeros((1, 2, 1)), [[[True], [False]]]),
            InputError,
            "views: some entries are masked",
        ),
        (
            np.full((2, 2, 3), np.inf),
            InputError,
            "object moments: some features are NaN or infinite",
        ),
        (
            np.full((2, 2, 3), np.nan),
            InputError,
            "object moments: some features are NaN or infinite",
        ),
        (
            np.full((2, 2, 3), 1e141),
            InputError,
            "object moments: features too large to square\n  found: 1e+141; expected: "
            "at most 1e+140\n  fix: divide all features by a common factor",
        ),
    ],
)
def test_what_are_no_views_is_refused(views, error, message):
    with pytest.raises(error, match="^" + re.escape(message)):
        ObjectMoments.of_views(views)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1, 2, 3], "object_ids: one entry per row of features is needed"),
        ([[1], [2]], "object_ids: one id for each row is needed"),
        ([1.0, 2.0], "object_ids: ids must be integers or strings, all of one kind"),
        ([1, "a"], "object_ids: ids must be integers or strings, all of one kind"),
        ([True, False], "object_ids: ids must be integers or strings, all of one"),
        (np.array([1.0, 2.0]), "object_ids: ids must be integers below 2^63, or"),
        (np.array([True, False]), "object_ids: ids must be integers below 2^63, or"),
        ([1, 2**63], "object_ids: ids must be integers below 2^63, or strings"),
        (np.array([1, 2**63], np.uint64), "object_ids: ids must be integers below"),
        (["a", "b"], "object ids: integers and strings\n  expected: ids of one kind"),
    ],
)
def test_ids_that_cannot_be_told_apart_are_refused(ids, message):
    state = ObjectMoments(3).update(np.zeros((1, 3)), [5])
    before = state.to_bytes()
    with pytest.raises(InputError, match="^" + re.escape(message)):
        state.update(np.zeros((2, 3)), ids)
    assert state.to_bytes() == before


@pytest.mark.parametrize(
    "ids",
    [
        np.array([3, 2**40], np.uint64),
        np.array(["3", "b"], object),
        np.array([3, 4], object),
        [np.int32(3), 4],
        ("3", "b"),
    ],
)
def test_ids_of_any_integers_or_strings(ids):
    state = ObjectMoments(1).update(np.array([[1.0], [2.0]]), ids)
    assert state.ids == tuple(np.asarray(ids).tolist())
    assert ObjectMoments.from_bytes(state.to_bytes()).ids == state.ids


def test_objects_with_and_without_ids_do_not_mix():
    message = "^object moments: some objects came with ids and some without\n"
    named = ObjectMoments.of_views(np.zeros((2, 2, 1)), [1, 2])
    unnamed = ObjectMoments.of_views(np.zeros((2, 2, 1)))
    for add in (
        lambda: named.update_views(np.zeros((2, 2, 1))),
        lambda: unnamed.update(np.zeros((2, 1)), [1, 2]),
        lambda: named.merge(unnamed),
        lambda: unnamed.merge(named),
    ):
        with pytest.raises(UsageError, match=message):
            add()
    assert named.merge(ObjectMoments(1)).n == 2
    assert ObjectMoments(1).merge(unnamed).n == 2


def test_states_of_other_sizes_do_not_merge():
    with pytest.raises(InputError, match="states of different widths cannot be merged"):
        ObjectMoments(2).merge(ObjectMoments(3))
    with pytest.raises(UsageError, match="states of different blocks cannot be merged"):
        ObjectMoments(2, n_blocks=2).merge(ObjectMoments(2, n_blocks=3))
    with pytest.raises(InputError, match="a batch of another width\n  found: 3 dimens"):
        ObjectMoments(2).update(np.zeros((1, 3)), [0])
    with pytest.raises(UsageError, match="a width and blocks are needed"):
        ObjectMoments(2, n_blocks=0)


def test_no_rows_change_nothing():
    state = ObjectMoments.of_views(views_of(), np.arange(12))
    before = state.to_bytes()
    state.update(np.zeros((0, 3)), []).update_views(np.zeros((0, 4, 3)), [])
    state.update_views(np.zeros((0, 4, 3))).merge(ObjectMoments(3))
    assert state.to_bytes() == before


def test_merging_leaves_the_other_state_as_it_was():
    one = ObjectMoments.of_views(views_of(), np.arange(12))
    other = ObjectMoments.of_views(views_of(seed=1), np.arange(12))
    before = other.to_bytes()
    one.merge(other)
    one.update_views(views_of(), np.arange(12))
    assert other.to_bytes() == before


def test_rows_of_objects_are_gathered_in_order():
    groups = GroupedRows.of(np.array([5, 3, 5, 5, 3]))
    assert groups.objects.tolist() == [3, 5]
    assert groups.counts.tolist() == [2, 3]
    assert groups.rows_of(np.array([1]), 3).tolist() == [[0, 2, 3]]


def test_memory_is_objects_and_scatters():
    """A stream of many views holds means and d x d matrices, not the views."""
    state = ObjectMoments(2, n_blocks=1)
    for batch in range(50):
        state.update_views(np.full((20, 5, 2), float(batch)), np.arange(20))
    assert state.n_views == 5000
    assert state._means.shape[0] <= 2 * 20
    assert object_moments.BLOCKS_MAXIMUM_D == 1024
