"""How features gather by class: golden values, references, noise floors, limits."""

import re

import numpy as np
import pytest
import scipy.spatial
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestCentroid

from references import clusters
from repscope._checking import Undecidable
from repscope.metrics import class_centres, clustering
from repscope.representations.class_moments import ClassMoments
from repscope.theory import planted

METRICS = ("cdnv", "between_squared_distance", "variance_share")


def class_moments(rows, labels, n_classes=None):
    labels = np.asarray(labels)
    rows = np.asarray(rows, dtype=float)
    n_classes = int(labels.max()) + 1 if n_classes is None else n_classes
    return ClassMoments(n_classes, rows.shape[1]).update(rows, labels)


def blobs(n=90, d=5, n_classes=4, *, distance=2.0, seed=0):
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    centres = distance * generator.standard_normal((n_classes, d))
    return centres[labels] + generator.standard_normal((n, d)), labels


GOLDEN_ROWS, GOLDEN_LABELS = [[0.0], [2.0], [10.0], [12.0]], [0, 0, 1, 1]


def test_golden_values_by_hand():
    # Two classes, each of variance 1, their centres 10 apart.
    moments = class_moments(GOLDEN_ROWS, GOLDEN_LABELS)
    assert clustering.cdnv(moments).value == pytest.approx(0.01, rel=1e-14)
    assert clustering.within_variance(moments).value == 1
    assert clustering.between_squared_distance(moments) == pytest.approx(100)
    # B = 4 * 25, W = 4: (100 - 1 * 4/2) / 104.
    assert clustering.variance_share(moments) == pytest.approx(98 / 104)


@given(st.integers(0, 10**6), st.integers(2, 4), st.integers(1, 4))
def test_values_equal_the_naive_transcriptions(seed, n_classes, d):
    rows, labels = blobs(24, d, n_classes, seed=seed)
    moments = class_moments(rows, labels)
    plain, codes = rows.tolist(), labels.tolist()
    for name in (*METRICS, "within_variance"):
        found = getattr(clustering, name)(moments)
        value = getattr(found, "value", found)
        expected = getattr(clusters, name)(plain, codes)
        assert value == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(st.integers(0, 10**6))
def test_each_pair_has_its_own_cdnv(seed):
    rows, labels = blobs(30, 3, 4, seed=seed)
    spread = np.array([0, 2, 3, 7])[labels]
    found = clustering.cdnv_matrix(class_moments(rows, spread))
    assert found.classes.tolist() == [0, 2, 3, 7]
    for i in range(4):
        assert found.values[i, i] == 0
        for j in range(i):
            pair = (labels == i) | (labels == j)
            alone = clusters.cdnv(rows[pair].tolist(), labels[pair].tolist())
            assert found.values[i, j] == pytest.approx(alone, rel=1e-9)
            assert found.values[j, i] == found.values[i, j]


def test_cdnv_equals_distances_of_scipy():
    rows, labels = blobs(200, 7, 12)
    moments = class_moments(rows, labels)
    gaps = scipy.spatial.distance.pdist(moments.means, "sqeuclidean")
    widths = [rows[labels == k].var(axis=0).sum() for k in range(12)]
    i, j = np.triu_indices(12, 1)
    ratios = (np.array(widths)[i] + np.array(widths)[j]) / (2 * gaps)
    estimate = clustering.cdnv(moments)
    assert estimate.value == pytest.approx(ratios.mean(), rel=1e-10)
    assert estimate.details["median"] == pytest.approx(np.median(ratios), rel=1e-10)
    assert estimate.details["n_pairs"] == 66
    found = clustering.between_squared_distance(moments)
    assert found == pytest.approx(gaps.mean(), rel=1e-12)


def test_coinciding_centres_are_infinite_in_the_matrix():
    moments = class_moments(
        [[1.0], [3.0], [0.0], [4.0], [9.0], [9.0]], [0, 0, 1, 1, 2, 2]
    )
    found = clustering.cdnv_matrix(moments).values
    assert found[0, 1] == found[1, 0] == np.inf
    assert found[0, 2] == pytest.approx((1 + 0) / 2 / 49)
    estimate = clustering.cdnv(moments)
    assert estimate.value == pytest.approx((1 + 4) / 2 / 49 / 2)
    assert (estimate.details["n_pairs"], estimate.details["n_infinite"]) == (3, 1)


def test_share_of_variance_of_one_dimension_is_that_of_an_anova():
    rows, labels = blobs(60, 1, 3, distance=0.5)
    groups = [rows[labels == one, 0] for one in range(3)]
    # The classical identity: epsilon squared = (F - 1) / (F + (n - k) / (k - 1)).
    f = scipy.stats.f_oneway(*groups).statistic
    share = clustering.variance_share(class_moments(rows, labels))
    assert share == pytest.approx((f - 1) / (f + 57 / 2), rel=1e-10)


@pytest.mark.parametrize("signal", [0.0, 1.0])
@pytest.mark.parametrize("corrected", [True, False])
def test_class_collapse_index_equals_the_naive_transcription(signal, corrected):
    rows, fine = blobs(66, 3, 6, distance=signal)
    parents = np.array([0, 0, 1, 1, 1, 2])  # class 2 has one subclass: no distance
    rows[parents[fine] == 1] += 3
    rows[parents[fine] == 2] -= 3
    estimate = clustering.class_collapse_index(class_moments(rows, fine), parents)
    found = estimate.value if corrected else estimate.details["uncorrected"]
    groups = clusters.by_class(rows.tolist(), fine.tolist())
    by_child = dict(enumerate(parents.tolist()))
    expected = clusters.class_collapse_index(groups, by_child, corrected=corrected)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_class_collapse_index_by_hand():
    # Subclasses 2 apart within classes 10 apart, each subclass one point seen twice.
    rows = [[0.0], [0.0], [2.0], [2.0], [10.0], [10.0], [12.0], [12.0]]
    moments = class_moments(rows, [0, 0, 1, 1, 2, 2, 3, 3])
    estimate = clustering.class_collapse_index(moments, np.array([0, 0, 1, 1]))
    assert estimate.details["uncorrected"] == pytest.approx(0.2)
    # Classes have variance 1 (ddof 0) and 4 rows: sampling takes 1/3 + 1/3 off 100.
    assert estimate.value == pytest.approx(2 / np.sqrt(100 - 2 / 3))


def test_rows_per_subclass_are_told():
    rows, fine = blobs(66, 3, 6)
    parents = np.array([0, 0, 1, 1, 1, 2])
    kept = (fine != 1) | (np.arange(66) < 20)  # subclass 1 has 4 rows
    moments = class_moments(rows[kept], fine[kept])
    details = clustering.class_collapse_index(moments, parents).details
    assert (details["n_least"], details["n_median"]) == (4, 11)
    assert details["few_rows"] == 1


@pytest.mark.parametrize(("distance", "share"), [(0.0, 1.0), (1e3, 0.0)])
def test_share_of_distance_that_is_noise(distance, share):
    generator = np.random.default_rng(0)
    fine = np.arange(4000) % 40
    centres = distance * generator.standard_normal((40, 20))
    moments = class_moments(centres[fine] + generator.standard_normal((4000, 20)), fine)
    estimate = clustering.class_collapse_index(moments, np.arange(40) // 4)
    # 60 pairs in 20 dimensions: about sqrt(2 / 600) = .06.
    assert estimate.details["noise_share"] == pytest.approx(share, abs=0.12)


def test_a_subclass_of_one_row_takes_the_width_of_the_others():
    # Subclasses {0, 2} and {5}; the class beside them is {20, 22}, {27, 29}.
    rows = [[0.0], [2.0], [5.0], [20.0], [22.0], [27.0], [29.0]]
    moments = class_moments(rows, [0, 0, 1, 2, 2, 3, 3])
    estimate = clustering.class_collapse_index(moments, np.array([0, 0, 1, 1]))
    # Sums of squares 2, 0, 2, 2 over 3 degrees of freedom: the row's variance is 2.
    within = [np.sqrt(4**2 - 1 - 2), np.sqrt(7**2 - 1 - 1)]
    coarse = [np.array([0.0, 2, 5]), np.array([20.0, 22, 27, 29])]
    noise = sum(one.var() / (len(one) - 1) for one in coarse)
    between = np.sqrt((coarse[1].mean() - coarse[0].mean()) ** 2 - noise)
    assert estimate.value == pytest.approx(np.mean(within) / between, rel=1e-12)
    assert estimate.details["few_rows"] == 4


def test_interval_of_the_collapse_index_leaves_classes_out():
    rows, fine = blobs(240, 4, 8)
    parents = np.arange(8) // 2
    estimate = clustering.class_collapse_index(class_moments(rows, fine), parents)
    values = []
    for one in range(4):
        kept = parents[fine] != one
        moments = class_moments(rows[kept], fine[kept], 8)
        values.append(clustering.class_collapse_index(moments, parents).value)
    error = np.sqrt(3 / 4 * ((values - np.mean(values)) ** 2).sum())
    half = scipy.stats.t.ppf(0.975, 3) * error
    low, high = estimate.interval
    assert high - estimate.value == pytest.approx(half, rel=1e-9)
    assert low == pytest.approx(max(0, estimate.value - half), rel=1e-9)
    assert estimate.details["interval"] == "jackknife over classes"


def test_two_classes_give_no_interval():
    rows, fine = blobs(40, 3, 4)
    moments = class_moments(rows, fine)
    estimate = clustering.class_collapse_index(moments, np.array([0, 0, 1, 1]))
    assert estimate.interval is None


def upsampled(images):
    """Double both sides: bilinear, half-pixel centres, clamped at the edge."""

    def weights(length):
        position = np.clip((np.arange(2 * length) + 0.5) / 2 - 0.5, 0, length - 1)
        return np.maximum(0, 1 - np.abs(position[:, None] - np.arange(length)))

    return weights(8) @ images @ weights(8).T


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    order = np.random.default_rng(0).permutation(1797)
    pixels = upsampled(data.images / 16).reshape(1797, 256)[order]
    return pixels, data.target[order].astype(np.int64)


@pytest.mark.filterwarnings("ignore:self.within_class_std_dev_")
def test_digits_have_their_published_nearest_centre_accuracy(digits):
    pixels, labels = digits
    train, test = slice(0, 1297), slice(1297, 1797)
    centres = class_moments(pixels[train], labels[train]).means
    found = class_centres.nearest_class_centre(pixels[test], centres, np.arange(10))
    assert (found == labels[test]).mean() == pytest.approx(0.898, abs=5e-4)
    library = NearestCentroid().fit(pixels[train], labels[train]).predict(pixels[test])
    np.testing.assert_array_equal(found, library)


def test_nearest_centre_equals_a_loop_and_keeps_class_codes():
    rows, labels = blobs(40, 3, 3)
    centres = {7 * k + 2: rows[labels == k].mean(axis=0).tolist() for k in range(3)}
    found = class_centres.nearest_class_centre(
        rows, np.array(list(centres.values())), np.array(list(centres))
    )
    expected = [clusters.nearest_centre(row, centres) for row in rows.tolist()]
    assert found.tolist() == expected


def test_ties_go_to_the_first_class():
    found = class_centres.nearest_class_centre(
        np.array([[0.0], [0.5], [1.0]]), np.array([[0.0], [1.0]]), np.array([3, 5])
    )
    assert found.tolist() == [3, 3, 5]


def test_centres_that_nearly_coincide_beside_a_far_one_are_told_apart():
    centres = np.array([[0.0], [1e-6], [1e6]])
    rows = np.array([[0.0], [4e-7], [6e-7], [1e-6], [9e5]])
    found = class_centres.nearest_class_centre(rows, centres, np.arange(3))
    assert found.tolist() == [0, 0, 1, 1, 2]


@pytest.mark.parametrize("scale", [1e-150, 1e-20, 1.0, 1e20, 1e150])
@pytest.mark.parametrize("library", [np.asarray, torch.tensor])
def test_nearest_centres_of_any_scale_and_library(scale, library):
    rows, labels = blobs(3000, 40, 9, distance=0.3)
    centres = class_moments(rows, labels).means
    expected = scipy.spatial.cKDTree(centres).query(rows)[1]
    found = class_centres.nearest_class_centre(
        library(rows * scale), centres * scale, np.arange(9)
    )
    np.testing.assert_array_equal(found, expected)


def test_rows_are_classified_block_by_block(monkeypatch):
    rows, labels = blobs(500, 6, 5)
    centres = class_moments(rows, labels).means
    whole = class_centres.nearest_class_centre(rows, centres, np.arange(5))
    monkeypatch.setattr(class_centres, "NEAR_VALUES", 100)
    parts = class_centres.nearest_class_centre(rows, centres, np.arange(5))
    np.testing.assert_array_equal(parts, whole)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int64])
def test_rows_are_compared_in_float64(dtype):
    rows = np.array([[1000.0], [1001.0], [1002.0]]).astype(dtype)
    centres = np.array([[1000.4], [1001.6]])
    found = class_centres.nearest_class_centre(rows, centres, np.arange(2))
    assert found.tolist() == [0, 0, 1]


@pytest.mark.parametrize("scale", [1e-145, 1e-20, 1.0, 1e20, 1e145])
@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize(
    "name", ["cdnv", "variance_share", "class_collapse_index", "ncc"]
)
def test_rotation_shift_and_scale_change_nothing(name, scale, offset):
    rows, labels = blobs(120, 6, 4)
    generator = np.random.default_rng(1)
    rotation = np.linalg.qr(generator.standard_normal((6, 6)))[0]
    moved = (rows @ rotation + offset) * scale

    def measured(features):
        moments = class_moments(features, labels)
        if name == "ncc":
            found = class_centres.nearest_class_centre(
                features, moments.means, np.arange(4)
            )
            return (found == labels).mean()
        if name == "class_collapse_index":
            parents = np.array([0, 0, 1, 1])
            return clustering.class_collapse_index(moments, parents).value
        found = getattr(clustering, name)(moments)
        return getattr(found, "value", found)

    assert measured(moved) == pytest.approx(measured(rows), rel=1e-8)


@pytest.mark.parametrize("n_classes", [2, 5, 20])
def test_random_labels_are_guessed_by_chance(n_classes):
    generator = np.random.default_rng(0)
    rows, labels = generator.standard_normal((4000, 8)), np.arange(4000) % n_classes
    centres = class_moments(rows[:2000], labels[:2000]).means
    found = class_centres.nearest_class_centre(
        rows[2000:], centres, np.arange(n_classes)
    )
    chance = 1 / n_classes
    deviation = np.sqrt(chance * (1 - chance) / 2000)
    assert abs((found == labels[2000:]).mean() - chance) < 4 * deviation


@pytest.mark.parametrize("per_class", [10, 100])
def test_cdnv_of_random_labels_is_half_the_class_size(per_class):
    rows = np.random.default_rng(0).standard_normal((20 * per_class, 200))
    labels = np.arange(len(rows)) % 20
    found = clustering.cdnv(class_moments(rows, labels)).value
    assert found == pytest.approx(per_class / 2, rel=0.1)


@pytest.mark.parametrize("n_groups", [2, 20, 200])
def test_random_groups_share_no_variance(n_groups):
    rows = np.random.default_rng(0).standard_normal((1000, 50))
    labels = np.random.default_rng(1).permutation(1000) % n_groups
    # Uncorrected, the share would be (k - 1)/(n - 1): .2 for 200 groups.
    assert abs(clustering.variance_share(class_moments(rows, labels))) < 0.004


def test_groups_that_are_all_share_all_variance():
    rows = np.eye(4)[np.arange(40) % 4]
    assert clustering.variance_share(class_moments(rows, np.arange(40) % 4)) == 1


def test_collapsed_classes_have_cdnv_zero_and_are_all_told_apart():
    centres = np.random.default_rng(0).standard_normal((5, 8)) + 3
    labels = np.arange(1000) % 5
    rows = centres[labels]
    moments = class_moments(rows, labels)
    assert clustering.cdnv(moments).value < 1e-25
    found = class_centres.nearest_class_centre(rows, moments.means, np.arange(5))
    np.testing.assert_array_equal(found, labels)


@pytest.mark.parametrize(("n", "d"), [(500, 128), (2000, 128), (1000, 32)])
def test_noise_floor_of_the_collapse_index_is_taken_off(n, d):
    values, raw = [], []
    for seed in range(4):
        sound = planted.sound(n, d, seed=seed)
        # Subclasses drawn at random within each class: nothing to be found.
        random = np.random.default_rng(seed).integers(0, 2, n)
        moments = class_moments(sound.features, 2 * sound.labels["coarse"] + random)
        estimate = clustering.class_collapse_index(moments, np.arange(10) // 2)
        values.append(estimate.value)
        raw.append(estimate.details["uncorrected"])
    assert min(raw) > 0.05
    assert np.mean(values) < 0.35 * np.mean(raw)


def test_collapse_index_tells_sound_from_collapsed():
    sound = planted.sound(1000, 64)
    collapsed = planted.class_collapse(sound)
    parents = np.arange(10) // 2
    index = {
        one.truth: clustering.class_collapse_index(
            class_moments(one.features, one.labels["fine"]), parents
        ).value
        for one in (sound, collapsed)
    }
    assert index["sound"] > 0.5
    assert index["class collapse"] < 0.1


def test_a_large_offset_does_not_blur_centre_distances():
    rows, labels = blobs(200, 4, 4, distance=1e-3)
    near = class_moments(rows, labels)
    far = class_moments(rows + 1e6, labels)
    found = clustering.between_squared_distance(far)
    assert found == pytest.approx(clustering.between_squared_distance(near), rel=1e-6)


def test_near_equal_centres_beside_a_far_one_keep_their_distance():
    # The expansion |a|^2 + |b|^2 - 2ab loses 1e-6 beside 1e6 in float64.
    rows = [[0.0], [0.0], [1e-6], [1e-6], [1e6], [1e6]]
    moments = class_moments(rows, [0, 0, 1, 1, 2, 2])
    moments.scatters[:] = 2e-12
    pair = clustering.cdnv(moments).details["median"]
    assert pair < 1e-20  # two of three pairs are far
    assert clustering.cdnv(moments).value == pytest.approx(1 / 3, rel=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_equal_centres_count_as_infinite_whatever_their_rounding(seed):
    generator = np.random.default_rng(seed)
    one = generator.standard_normal((301, 8)) + 0.3
    # The same rows under two labels, in another order; and a class of its own.
    rows = np.concatenate([one, one[generator.permutation(301)], one + 1])
    estimate = clustering.cdnv(class_moments(rows, np.repeat([0, 1, 2], 301)))
    assert estimate.details["n_infinite"] == 1
    width = one.var(axis=0).sum()
    assert estimate.value == pytest.approx(width / 8, rel=1e-9)


@pytest.mark.parametrize("name", METRICS)
def test_one_class_is_undecidable(name):
    moments = class_moments(np.eye(3), [1, 1, 1], n_classes=4)
    with pytest.raises(Undecidable, match="^fewer than two classes have samples$"):
        getattr(clustering, name)(moments)


def test_no_class_at_all_is_undecidable():
    with pytest.raises(Undecidable, match="^no class has samples$"):
        clustering.within_variance(ClassMoments(3, 2))


def constant(n=1000):
    return class_moments(np.full((n, 5), 0.1) * [1, 2, 3.3, 0.7, 11], np.arange(n) % 3)


@pytest.mark.parametrize(
    ("compute", "moments", "reason"),
    [
        (clustering.cdnv, constant(), "all class centres coincide"),
        (clustering.variance_share, constant(), "all features are constant"),
        (
            clustering.variance_share,
            class_moments(np.eye(3), [0, 1, 2]),
            "as many groups as rows",
        ),
        (
            lambda m: clustering.class_collapse_index(m, np.array([0, 0, 1])),
            constant(),
            "class centres coincide within their sampling error",
        ),
        (
            lambda m: clustering.class_collapse_index(m, np.array([0, 1, 2])),
            class_moments(*blobs(30, 2, 3)),
            "no class has two subclasses with samples",
        ),
        (
            lambda m: clustering.class_collapse_index(m, np.array([0, 0, 0])),
            class_moments(*blobs(30, 2, 3)),
            "fewer than two classes have samples",
        ),
        (
            lambda m: clustering.class_collapse_index(m, np.array([0, 0, 1, 1])),
            class_moments(np.eye(4), [0, 1, 2, 3]),
            "no subclass has two rows: the noise of centres is open",
        ),
    ],
)
def test_what_cannot_be_decided_says_why(compute, moments, reason):
    with pytest.raises(Undecidable, match=f"^{re.escape(reason)}$"):
        compute(moments)


@pytest.mark.parametrize("name", ["within_variance", "between_squared_distance"])
def test_squares_beyond_float64_are_undecidable(name):
    rows, labels = blobs(20, 3, 2)
    moments = class_moments(rows, labels)
    moments.means *= 1e200
    moments.scatters[:] = np.inf
    reason = "^squares of the features exceed the range of float64$"
    with pytest.raises(Undecidable, match=reason):
        getattr(clustering, name)(moments)


def test_constant_features_have_no_width():
    assert clustering.within_variance(constant()).value == 0
    assert clustering.between_squared_distance(constant()) == 0


def test_empty_classes_play_no_part():
    rows, labels = blobs(60, 3, 3)
    spread = np.array([0, 4, 9])[labels]
    full, sparse = class_moments(rows, labels), class_moments(rows, spread)
    for name in (*METRICS, "within_variance"):
        found, expected = (getattr(clustering, name)(m) for m in (sparse, full))
        assert getattr(found, "value", found) == pytest.approx(
            getattr(expected, "value", expected)
        )


@pytest.mark.parametrize("name", ["cdnv", "within_variance"])
def test_classes_of_one_row_are_left_out_and_counted(name):
    rows, labels = blobs(60, 3, 3)
    more = np.concatenate([rows, [[9.0, 9.0, 9.0], [-9.0, 0.0, 9.0]]])
    spread = np.concatenate([labels + 1, [0, 6]])
    compute = getattr(clustering, name)
    found = compute(class_moments(more, spread))
    expected = compute(class_moments(rows, labels))
    assert found.value == pytest.approx(expected.value, rel=1e-12)
    assert found.details["single_row_classes"] == found.details["few_rows"] == 2
    assert expected.details["single_row_classes"] == expected.details["few_rows"] == 0
    few = compute(class_moments(rows[:21], labels[:21]))
    assert (few.details["single_row_classes"], few.details["few_rows"]) == (0, 3)


@pytest.mark.parametrize("name", ["cdnv", "within_variance"])
def test_no_class_of_two_rows_has_no_width(name):
    moments = class_moments([[0.0], [3.0], [5.0]], [0, 1, 2])
    with pytest.raises(Undecidable, match="^no class has two rows"):
        getattr(clustering, name)(moments)


def test_one_class_of_two_rows_has_no_pair():
    moments = class_moments([[0.0], [3.0], [5.0]], [0, 0, 2])
    with pytest.raises(Undecidable, match="^fewer than two classes have two rows"):
        clustering.cdnv(moments)
