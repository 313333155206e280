"""How features gather by class: golden values, references, noise floors, limits."""

import re

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestCentroid

from references import clusters
from repscope._checking import Undecidable
from repscope.metrics import clustering
from repscope.representations.moments import ClassMoments
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
    assert clustering.within_variance(moments) == 1
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
    found = clustering.nearest_class_centre(pixels[test], centres, np.arange(10))
    assert (found == labels[test]).mean() == pytest.approx(0.898, abs=5e-4)
    library = NearestCentroid().fit(pixels[train], labels[train]).predict(pixels[test])
    np.testing.assert_array_equal(found, library)


def test_nearest_centre_equals_a_loop_and_keeps_class_codes():
    rows, labels = blobs(40, 3, 3)
    centres = {7 * k + 2: rows[labels == k].mean(axis=0).tolist() for k in range(3)}
    found = clustering.nearest_class_centre(
        rows, np.array(list(centres.values())), np.array(list(centres))
    )
    expected = [clusters.nearest_centre(row, centres) for row in rows.tolist()]
    assert found.tolist() == expected


def test_ties_go_to_the_first_class():
    found = clustering.nearest_class_centre(
        np.array([[0.0], [0.5], [1.0]]), np.array([[0.0], [1.0]]), np.array([3, 5])
    )
    assert found.tolist() == [3, 3, 5]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int64])
def test_rows_are_compared_in_float64(dtype):
    rows = np.array([[1000.0], [1001.0], [1002.0]]).astype(dtype)
    centres = np.array([[1000.4], [1001.6]])
    found = clustering.nearest_class_centre(rows, centres, np.arange(2))
    assert found.tolist() == [0, 0, 1]


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
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
            found = clustering.nearest_class_centre(
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
    found = clustering.nearest_class_centre(rows[2000:], centres, np.arange(n_classes))
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
    found = clustering.nearest_class_centre(rows, moments.means, np.arange(5))
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
    ],
)
def test_what_cannot_be_decided_says_why(compute, moments, reason):
    with pytest.raises(Undecidable, match=f"^{re.escape(reason)}$"):
        compute(moments)


def test_constant_features_have_no_width():
    assert clustering.within_variance(constant()) == 0
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


def test_singleton_classes_have_no_width_and_a_distance():
    estimate = clustering.cdnv(class_moments([[0.0], [3.0]], [0, 1]))
    assert estimate.value == 0
    assert estimate.details == {"median": 0.0, "n_infinite": 0}
