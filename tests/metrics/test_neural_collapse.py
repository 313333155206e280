"""Neural collapse: by hand, naive transcriptions, simplices, sampling, limits."""

import inspect
import re

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from references import clusters
from repscope._checking import InputError, Undecidable
from repscope.metrics import neural_collapse
from repscope.representations.class_moments import ClassMoments
from repscope.representations.moments import Moments

NC2 = (
    neural_collapse.nc2_norms,
    neural_collapse.nc2_angles,
    neural_collapse.nc2_simplex,
)


def sums(rows, labels):
    rows, labels = np.asarray(rows, dtype=float), np.asarray(labels)
    d = rows.shape[1]
    moments = ClassMoments(int(labels.max()) + 1, d).update(rows, labels)
    return moments, Moments(d).update(rows)


def blobs(n=60, d=4, n_classes=3, *, distance=2.0, seed=0):
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    centres = distance * generator.standard_normal((n_classes, d))
    return centres[labels] + generator.standard_normal((n, d)), labels


def simplex(n_classes, d=None, *, seed=0):
    """Return centres of equal length and angle, rotated into d dimensions."""
    d = d or n_classes + 2
    centres = np.eye(n_classes) - 1 / n_classes
    generator = np.random.default_rng(seed)
    rotation = np.linalg.qr(generator.standard_normal((d, d)))[0]
    return np.pad(centres, ((0, 0), (0, d - n_classes))) @ rotation


def nc1(rows, labels):
    return neural_collapse.nc1_variability(*sums(rows, labels)).value


def test_variability_by_hand():
    # Two classes at -3 and 3, each of variance 1: S_W = 1, S_B = 9, C = 2.
    rows = [[-4.0], [-2.0], [2.0], [4.0]]
    assert nc1(rows, [0, 0, 1, 1]) == pytest.approx(1 / 18, rel=1e-14)
    # Along a second axis the classes agree: it plays no part.
    rows = [[-4.0, 5.0], [-2.0, -5.0], [2.0, 5.0], [4.0, -5.0]]
    estimate = neural_collapse.nc1_variability(*sums(rows, [0, 0, 1, 1]))
    assert estimate.value == pytest.approx(1 / 18, rel=1e-14)
    assert estimate.details["rank"] == 1
    assert estimate.details["within_share"] == pytest.approx(26 / 35, rel=1e-14)


@given(st.integers(0, 10**6), st.integers(2, 4), st.integers(2, 6))
def test_variability_equals_the_naive_transcription(seed, n_classes, d):
    rows, labels = blobs(20, d, n_classes, seed=seed)
    expected = clusters.neural_collapse_1(
        rows.tolist(), labels.tolist(), lambda m: scipy.linalg.pinvh(m, rtol=1e-9)
    )
    assert nc1(rows, labels) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(("n_classes", "d"), [(3, 8), (6, 12)])
def test_variability_is_that_of_discriminant_coordinates(n_classes, d):
    # For balanced classes and d >= c: with S_W whitened, tr(S_W S_B^+) is the sum of
    # the inverse eigenvalues of B restricted to its span; Fisher's coordinates of
    # centres that differ in c - 1 directions orthogonal in S_W share that span.
    rows, labels = blobs(40 * n_classes, d, n_classes)
    axes = np.linalg.svd(rows - rows.mean(axis=0))[2][: n_classes - 1]
    flat = rows @ axes.T  # d = c - 1: S_B has full rank and an inverse
    fit = LinearDiscriminantAnalysis(solver="eigen").fit(flat, labels)
    # scikit-learn's ratios are eigenvalues of S_W^-1 S_B up to their sum.
    shares = 1 / fit.explained_variance_ratio_
    moments, total = sums(flat, labels)
    within = (total.scatter / total.n) - np.cov(
        moments.means.T, bias=True, aweights=moments.counts
    ).reshape(n_classes - 1, -1)
    trace = np.trace(np.linalg.solve(within, np.cov(moments.means.T, bias=True)))
    expected = shares.sum() / trace / n_classes
    assert nc1(flat, labels) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("n_classes", [3, 5, 10])
@pytest.mark.parametrize("spread", [0.1, 2.0])
def test_variability_of_a_simplex_with_exact_noise(n_classes, spread):
    # Each class: its centre plus and minus `spread` along each axis, S_W = s^2 / d I.
    d = n_classes + 2
    centres = simplex(n_classes)
    steps = np.concatenate([np.eye(d), -np.eye(d)]) * spread
    rows = (centres[:, None, :] + steps[None, :, :]).reshape(-1, d)
    labels = np.repeat(np.arange(n_classes), 2 * d)
    # S_B has c - 1 eigenvalues of 1 / c.
    expected = spread**2 / d * (n_classes - 1) * n_classes / n_classes
    assert nc1(rows, labels) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("per_class", [20, 100])
def test_variability_of_random_labels_is_about_n_over_d(per_class):
    n_classes, d = 10, 300
    rows = np.random.default_rng(0).standard_normal((n_classes * per_class, d))
    labels = np.arange(len(rows)) % n_classes
    # Centres are noise of variance 1 / per_class: the mean inverse of a Wishart matrix.
    expected = per_class * (n_classes - 1) / (d - n_classes)
    assert nc1(rows, labels) == pytest.approx(expected, rel=0.1)


def test_variability_of_unequal_classes_weighs_rows_within_and_classes_between():
    rows, labels = blobs(90, 3, 4)
    kept = (labels != 2) | (np.arange(90) < 30)
    rows, labels = rows[kept], labels[kept]
    expected = clusters.neural_collapse_1(
        rows.tolist(), labels.tolist(), lambda m: scipy.linalg.pinvh(m, rtol=1e-9)
    )
    assert nc1(rows, labels) == pytest.approx(expected, rel=1e-9)


def test_classes_of_one_row_are_left_out_of_the_variability():
    rows, labels = blobs(60, 4, 3)
    more = np.concatenate([rows, [[9.0, 9.0, 9.0, 0.0], [-9.0, 0.0, 9.0, 5.0]]])
    sums_of_all = sums(more, np.concatenate([labels + 1, [0, 6]]))
    found = neural_collapse.nc1_variability(*sums_of_all)
    expected = neural_collapse.nc1_variability(*sums(rows, labels))
    assert found.value == pytest.approx(expected.value, rel=1e-10)
    share = pytest.approx(expected.details["within_share"], rel=1e-10)
    assert found.details == {
        "rank": 2,
        "within_share": share,
        "single_row_classes": 2,
        "few_rows": 2,
    }


def test_collapsed_classes_have_no_variability():
    rows = simplex(5)[np.arange(100) % 5] + 3
    assert nc1(rows, np.arange(100) % 5) < 1e-14


def test_equal_centres_take_no_direction():
    # Two of four classes coincide: rank 2, not 3.
    centres = np.array([[0.0, 0, 0], [0, 0, 0], [4, 0, 0], [0, 4, 0]])
    generator = np.random.default_rng(0)
    noise = generator.standard_normal((50, 3))
    noise = np.concatenate([noise, -noise])  # centres are exact
    rows = (centres[:, None] + noise[None]).reshape(-1, 3) + 1000
    estimate = neural_collapse.nc1_variability(*sums(rows, np.repeat(range(4), 100)))
    assert estimate.details["rank"] == 2
    between = np.cov(centres.T, bias=True)
    within = noise.T @ noise / 100
    expected = np.trace(within @ np.linalg.pinv(between)) / 4
    assert estimate.value == pytest.approx(expected, rel=1e-9)


@given(st.integers(0, 10**6), st.integers(3, 5), st.integers(2, 6))
def test_lengths_and_angles_equal_the_naive_transcriptions(seed, n_classes, d):
    rows, labels = blobs(20, d, n_classes, seed=seed)
    found = [function(sums(rows, labels)[0]) for function in NC2]
    expected = clusters.neural_collapse_2(rows.tolist(), labels.tolist())
    assert found == pytest.approx(list(expected), rel=1e-8, abs=1e-12)


def test_lengths_and_angles_equal_those_of_scipy():
    rows, labels = blobs(100, 6, 5)
    moments, _ = sums(rows, labels)
    apart = moments.means - moments.means.mean(axis=0)
    variation = scipy.stats.variation(np.linalg.norm(apart, axis=1))
    cosines = 1 - scipy.spatial.distance.pdist(apart, "cosine")
    assert neural_collapse.nc2_norms(moments) == pytest.approx(variation)
    assert neural_collapse.nc2_angles(moments) == pytest.approx(cosines.std())
    simplex_distance = np.abs(cosines + 1 / 4).mean()
    assert neural_collapse.nc2_simplex(moments) == pytest.approx(simplex_distance)


def test_lengths_and_angles_by_hand():
    # Centres 1, 1 and 2 from their mean 0, at angles 0 and 180 degrees.
    moments, _ = sums([[1.0, 0], [1.0, 0], [-2.0, 0]], [0, 1, 2])
    assert neural_collapse.nc2_norms(moments) == pytest.approx(2**0.5 / 4)
    # Cosines 1, -1, -1: mean -1/3, standard deviation sqrt(8)/3.
    assert neural_collapse.nc2_angles(moments) == pytest.approx(8**0.5 / 3)
    assert neural_collapse.nc2_simplex(moments) == pytest.approx(2.5 / 3)


@pytest.mark.parametrize("n_classes", [3, 4, 10, 50])
def test_a_simplex_is_equinorm_equiangular_and_maximal(n_classes):
    rows = 7 * simplex(n_classes)[np.arange(4 * n_classes) % n_classes] + 5
    moments, _ = sums(rows, np.arange(4 * n_classes) % n_classes)
    assert [function(moments) for function in NC2] == pytest.approx([0, 0, 0], abs=1e-7)


def test_a_square_is_equinorm_and_no_simplex():
    moments, _ = sums([[1.0, 0], [0, 1.0], [-1.0, 0], [0, -1.0]], [0, 1, 2, 3])
    assert neural_collapse.nc2_norms(moments) == pytest.approx(0, abs=1e-15)
    # Cosines: four of 0, two of -1.
    assert neural_collapse.nc2_angles(moments) == pytest.approx(2**0.5 / 3)
    assert neural_collapse.nc2_simplex(moments) == pytest.approx((4 / 3 + 4 / 3) / 6)


@pytest.mark.parametrize("scale", [1e-120, 1e-20, 1.0, 1e20, 1e120])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_scale_shift_rotation_and_repetition_change_nothing(scale, offset):
    rows, labels = blobs(80, 5, 4)
    generator = np.random.default_rng(1)
    rotation = np.linalg.qr(generator.standard_normal((5, 5)))[0]
    moved = (rows @ rotation + offset) * scale
    twice, both = np.concatenate([moved, moved]), np.concatenate([labels, labels])
    for features, codes in ((moved, labels), (twice, both)):
        assert nc1(features, codes) == pytest.approx(nc1(rows, labels), rel=1e-8)
        for function in NC2:
            expected = function(sums(rows, labels)[0])
            found = function(sums(features, codes)[0])
            assert found == pytest.approx(expected, rel=1e-8)


def test_shards_and_tensors_give_the_same():
    rows, labels = blobs(97, 5, 4)
    moments, total = ClassMoments(4, 5), Moments(5)
    for part in np.array_split(np.random.default_rng(0).permutation(97), 7):
        moments.merge(ClassMoments(4, 5).update(rows[part], labels[part]))
        total.merge(Moments(5).update(torch.tensor(rows[part])))
    found = neural_collapse.nc1_variability(moments, total).value
    assert found == pytest.approx(nc1(rows, labels), rel=1e-10)


def test_more_dimensions_than_rows():
    rows, labels = blobs(12, 40, 3)
    assert 0 < nc1(rows, labels) < 1


def test_agreement_by_hand_and_of_a_library():
    one, other = np.array([0, 1, 1, 2, 2]), np.array([0, 1, 2, 2, 2])
    estimate = neural_collapse.nc4_agreement(one, other)
    assert estimate.value == 0.8
    library = scipy.stats.binomtest(4, 5).proportion_ci(method="wilson")
    assert estimate.interval == pytest.approx((library.low, library.high))
    distance = scipy.spatial.distance.hamming(one, other)
    assert estimate.value == pytest.approx(1 - distance)


def coinciding():
    rows = np.full((30, 4), 0.1) * [1, 2, 3.3, 0.7]
    return sums(rows, np.arange(30) % 3)


@pytest.mark.parametrize(
    ("compute", "reason"),
    [
        (
            lambda: neural_collapse.nc1_variability(*sums(np.eye(3), [1, 1, 1])),
            "fewer than two classes have samples",
        ),
        (
            lambda: neural_collapse.nc1_variability(*sums(np.eye(3), [0, 1, 2])),
            "no class has two rows: variances within are unknown",
        ),
        (
            lambda: neural_collapse.nc1_variability(*sums(np.eye(3), [0, 1, 1])),
            "fewer than two classes have two rows: variances within are unknown",
        ),
        (
            lambda: neural_collapse.nc1_variability(*coinciding()),
            "all class centres coincide",
        ),
        (
            lambda: neural_collapse.nc2_norms(coinciding()[0]),
            "all class centres coincide",
        ),
        (
            lambda: neural_collapse.nc2_angles(sums(np.eye(2), [0, 1])[0]),
            "two centres are always opposite each other about their mean",
        ),
        (
            lambda: neural_collapse.nc2_angles(
                sums([[-1.0], [0.0], [1.0]], [0, 1, 2])[0]
            ),
            "a class centre lies at the mean of centres: no direction",
        ),
        (
            lambda: neural_collapse.nc4_agreement(np.arange(0), np.arange(0)),
            "no rows",
        ),
    ],
)
def test_what_cannot_be_decided_says_why(compute, reason):
    with pytest.raises(Undecidable, match=f"^{re.escape(reason)}$"):
        compute()


def test_sums_of_other_rows_are_an_error():
    rows, labels = blobs(20)
    moments, _ = sums(rows, labels)
    plain = inspect.unwrap(neural_collapse.nc4_agreement)
    message = "^neural collapse: class moments and total moments of different rows"
    with pytest.raises(InputError, match=message):
        neural_collapse.nc1_variability(moments, Moments(4).update(rows[:19]))
    with pytest.raises(InputError, match="^nearest: one entry per row of predictions"):
        plain(np.arange(3), np.arange(2))
