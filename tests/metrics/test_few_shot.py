"""A few labels per class: against scikit-learn, planted classes, draws and limits."""

import inspect

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, RidgeClassifierCV
from sklearn.preprocessing import StandardScaler

from repscope._arrays import hash_ids
from repscope._checking import InputError, Undecidable, UsageError
from repscope.metrics import few_shot
from repscope.metrics.few_shot import FewShot, few_shot_accuracy

N, D, C = 200, 6, 4
IDS = np.arange(N) + 1000
IS_TEST = np.arange(N) % 2 == 0


def blobs(distance, *, seed=0, n=N):
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.arange(n) % C)
    centres = distance * np.eye(D)[:C]
    return centres[labels] + generator.standard_normal((n, D)), labels


@pytest.fixture
def drawn(monkeypatch):
    """Return a list that collects the training rows of each draw, as positions."""
    seen = []
    chosen = few_shot._chosen

    def collect(*arguments):
        seen.append(chosen(*arguments))
        return seen[-1]

    monkeypatch.setattr(few_shot, "_chosen", collect)
    return seen


@pytest.mark.parametrize("probe", ["ridge", "logistic"])
@pytest.mark.parametrize("k", [1, 5])
def test_each_draw_is_scikit_learns_probe_on_the_same_rows(probe, k, drawn):
    features, labels = blobs(2.0)
    found = few_shot_accuracy(
        features, labels, IS_TEST, IDS, options=FewShot(k=k, draws=4, probe=probe)
    )
    pool, test = features[~IS_TEST], features[IS_TEST]
    scaler = StandardScaler().fit(pool)
    accuracies = []
    for rows in drawn:
        few, codes = scaler.transform(pool)[rows], labels[~IS_TEST][rows]
        if probe == "logistic":
            model = LogisticRegression(C=1.0, tol=1e-8, max_iter=2000)
        else:
            unit = _mean_eigenvalue(few)
            model = RidgeClassifierCV(alphas=[unit * 10.0**p for p in range(-6, 4)])
        model.fit(few, codes)
        accuracies.append(model.score(scaler.transform(test), labels[IS_TEST]))
    # A row on the border may fall to either side.
    assert found.details["accuracies"] == pytest.approx(accuracies, abs=0.021)
    assert found.value == pytest.approx(np.mean(accuracies), abs=0.01)


def _mean_eigenvalue(rows):
    values = np.linalg.eigvalsh((rows - rows.mean(0)).T @ (rows - rows.mean(0)))
    return values[values > 1e-10 * values.max()].mean()


def test_mean_and_deviation_are_those_of_the_draws():
    features, labels = blobs(1.5)
    found = few_shot_accuracy(features, labels, IS_TEST, IDS)
    accuracies = found.details["accuracies"]
    assert len(accuracies) == found.details["draws"] == 10
    assert found.value == pytest.approx(np.mean(accuracies))
    assert found.details["sd"] == pytest.approx(np.std(accuracies, ddof=1))
    assert found.details["chance"] == 0.25
    assert found.details["n_train"] == 5 * C
    assert found.interval[0] < found.value < found.interval[1]


def test_each_draw_takes_k_rows_of_each_class(drawn):
    features, labels = blobs(1.0)
    few_shot_accuracy(features, labels, IS_TEST, IDS, options=FewShot(k=3))
    codes = labels[~IS_TEST]
    for rows in drawn:
        assert np.bincount(codes[rows]).tolist() == [3] * C
        assert len(set(rows.tolist())) == 3 * C
    assert len({tuple(sorted(rows.tolist())) for rows in drawn}) == len(drawn)


def test_draws_take_every_row_alike():
    hashes, codes = hash_ids(IDS), np.arange(N) % C
    drawn = [few_shot._chosen(hashes, codes, 5, 0, draw) for draw in range(1000)]
    counts = np.bincount(np.concatenate(drawn), minlength=N)
    expected = 1000 * 5 / (N / C)
    # Binomial counts: five standard deviations over two hundred rows.
    assert (np.abs(counts - expected) < 5 * np.sqrt(expected)).all()
    # Two rows come together as often as chance has it.
    together = sum(0 in one and 4 in one for one in drawn)
    chance = 1000 * (5 * 4) / (50 * 49)
    assert abs(together - chance) < 5 * np.sqrt(chance)


def test_planted_classes_are_read_and_noise_is_not():
    features, labels = blobs(8.0)
    assert few_shot_accuracy(features, labels, IS_TEST, IDS).value > 0.97
    noise = np.random.default_rng(1).standard_normal((N, D))
    found = few_shot_accuracy(noise, labels, IS_TEST, IDS)
    assert found.interval[0] < 0.25 < found.interval[1]


def test_more_labels_serve_better():
    features, labels = blobs(2.0)
    values = [
        few_shot_accuracy(features, labels, IS_TEST, IDS, options=FewShot(k=k)).value
        for k in (1, 3, 10)
    ]
    assert values == sorted(values)
    assert values[-1] > values[0] + 0.1


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    # The truth: the mean over many draws and many test rows of one distribution.
    features, labels = blobs(2.0, n=5000)
    is_test = np.arange(5000) % 2 == 0
    many = FewShot(k=3, draws=20)
    truth = few_shot_accuracy(
        features, labels, is_test, np.arange(5000), options=many
    ).value
    held = 0
    for repeat in range(25):
        rows = np.arange(repeat * 200, repeat * 200 + 200)
        found = few_shot_accuracy(
            features[rows],
            labels[rows],
            is_test[rows],
            rows,
            options=FewShot(k=3, draws=5),
            seed=repeat,
        )
        held += found.interval[0] <= truth <= found.interval[1]
    # Conservative: what draws and rows share is counted twice.
    assert held >= 22


def test_order_seed_and_library():
    features, labels = blobs(1.5)
    first = few_shot_accuracy(features, labels, IS_TEST, IDS, seed=3)
    order = np.random.default_rng(0).permutation(N)
    again = few_shot_accuracy(
        features[order], labels[order], IS_TEST[order], IDS[order], seed=3
    )
    assert again.value == pytest.approx(first.value, rel=1e-12)
    other = few_shot_accuracy(features, labels, IS_TEST, IDS, seed=4)
    assert other.details["accuracies"] != first.details["accuracies"]
    words = np.array([f"image {k}" for k in IDS])
    assert few_shot_accuracy(features, labels, IS_TEST, words).value > 0.25
    tensor = few_shot_accuracy(torch.from_numpy(features), labels, IS_TEST, IDS, seed=3)
    assert tensor.value == pytest.approx(first.value, rel=1e-12)


@pytest.mark.parametrize("scale", [1e-20, 1e20])
def test_neither_scale_nor_offset_changes_anything(scale):
    features, labels = blobs(1.5)
    expected = few_shot_accuracy(features, labels, IS_TEST, IDS).value
    for changed in (scale * features, features + 1e6):
        found = few_shot_accuracy(changed, labels, IS_TEST, IDS)
        assert found.value == pytest.approx(expected, abs=1e-12)


def test_codes_without_any_row_are_no_classes():
    features, labels = blobs(2.0)
    expected = few_shot_accuracy(features, labels, IS_TEST, IDS)
    found = few_shot_accuracy(features, 3 * labels + 2, IS_TEST, IDS)
    assert found == expected
    assert found.details["chance"] == 0.25
    assert found.details["short_classes"] == found.details["absent_classes"] == 0


def test_classes_with_few_rows_give_all_they_have(drawn):
    labels = np.array([0] * 50 + [1] * 2 + [2] * 50 + [0, 1, 2, 3])
    is_test = np.arange(len(labels)) >= 102
    features = np.eye(4)[labels] + 0.01 * np.random.default_rng(0).standard_normal(
        (len(labels), 4)
    )
    found = few_shot_accuracy(features, labels, is_test, np.arange(len(labels)))
    assert np.bincount(labels[~is_test][drawn[0]]).tolist() == [5, 2, 5]
    assert found.details["short_classes"] == 2
    assert found.details["absent_classes"] == 1
    # The class without training rows counts as wrong.
    assert found.value == 0.75


@pytest.mark.parametrize(
    ("labels", "is_test", "message"),
    [
        ([0, 1, 0, 1], [False] * 4, "no test rows"),
        ([0, 1, 0, 1], [True] * 4, "fewer than two classes have training rows"),
        ([0, 0, 0, 1], [False, False, True, True], "fewer than two classes"),
        ([0, 0, 0, 0], [False, False, True, True], "fewer than two classes"),
    ],
)
def test_undecidable_without_rows_or_classes(labels, is_test, message):
    with pytest.raises(Undecidable, match=message):
        few_shot_accuracy(
            np.zeros((4, 2)), np.array(labels), np.array(is_test), np.arange(4)
        )


def test_constant_features_guess():
    labels = np.arange(40) % 2
    is_test = np.arange(40) >= 20
    found = few_shot_accuracy(np.ones((40, 3)), labels, is_test, np.arange(40))
    assert found.value == 0.5


def test_one_test_row_and_one_feature():
    labels = np.array([0, 1, 0])
    features = np.array([[0.0], [1.0], [0.1]])
    found = few_shot_accuracy(
        features, labels, np.array([False, False, True]), np.arange(3)
    )
    assert found.value == 1.0
    assert found.interval[1] == 1.0


@pytest.mark.parametrize(
    ("options", "message"), [({"k": 0}, "few-shot k"), ({"draws": 1}, "few-shot draws")]
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(UsageError, match=message):
        FewShot(**options)


def test_lengths_are_checked():
    with pytest.raises(InputError, match="ids: one entry per row"):
        inspect.unwrap(few_shot_accuracy)(
            np.zeros((4, 2)), np.array([0, 1, 0, 1]), IS_TEST[:4], np.arange(3)
        )
