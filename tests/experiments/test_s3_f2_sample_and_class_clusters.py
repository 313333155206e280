"""S3-F2L, S3-F2M and S3-F3L of one training, about a minute on one core."""

from dataclasses import replace

import pytest

from experiments.stand_ins import as_expected, reading
from repscope.experiments import s3_f3_regularization_clusters as regularization
from repscope.experiments.experiment import Workplace
from repscope.experiments.outcome import outcome_of
from repscope.experiments.s3_f2_sample_and_class_clusters import (
    CLUSTERS,
    EPOCHS,
    RATIOS,
    RECIPES,
    clusters,
    course,
    ratios,
)
from repscope.records import Provenance


def test_numbers_of_the_figure_are_those_of_planted_curves():
    sample = (0.2, 0.5, 0.98, 0.99, 1.0, 1.0, 1.0, 1.0)
    digit = (0.4, 0.4, 0.5, 0.6, 0.7, 0.79, 0.8, 0.8)
    seen = {
        epoch: reading(*values)
        for epoch, values in zip(EPOCHS, zip(sample, digit, strict=True), strict=True)
    }
    numbers = {name: one.value for name, one in clusters(seen).items()}
    assert CLUSTERS.predicate(numbers)
    assert (numbers["sample_train_10"], numbers["sample_test_10"]) == (0.98, 0.49)
    assert (numbers["digit_train_60"], numbers["digit_test_60"]) == (0.8, 0.4)
    # 95 % of .8 above .2 is .96, of .4 above .4 is .78.
    assert (numbers["sample_saturation"], numbers["digit_saturation"]) == (10, 40)
    assert numbers["later"] == -30
    assert numbers["sample_done"] == pytest.approx(0.78 / 0.8)
    assert numbers["digit_done"] == pytest.approx(0.1 / 0.4)
    shares = {name: one.value for name, one in ratios(seen).items()}
    assert shares["ratio_60"] == 0.4 and RATIOS.predicate(shares)


def test_a_course_is_looked_at_at_each_epoch_asked_for(monkeypatch):
    module = "repscope.experiments.s3_f2_sample_and_class_clusters."
    monkeypatch.setattr(module + "EPOCHS", (0, 1))
    monkeypatch.setattr(module + "N_IMAGES", 5)
    recipe = RECIPES["vicreg"]
    recipe = replace(
        recipe,
        data=replace(recipe.data, limit=100),
        encoder=replace(recipe.encoder, depth=1, width=8),
        training=replace(recipe.training, epochs=1, batch_size=50),
    )
    seen = course(recipe, Workplace(device="cpu")).seen
    assert list(seen) == [0, 1]
    for one in seen.values():
        assert one.sample.predictions.shape == (25,) and set(
            one.sample.predictions.tolist()
        ) <= set(range(5))
        assert one.digit.predictions.shape == (500,)
        assert one.ratio.value == pytest.approx(
            one.digit.test_accuracy / one.ratio.details["linear"]
        )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    place = Workplace(tmp_path_factory.mktemp("runs"), device="cpu")
    return course(RECIPES["vicreg"], place)


def outcome(experiment, observed):
    made = outcome_of(experiment, observed, Provenance())
    assert made.status == "pass", made.text()
    assert as_expected(made), made.text()
    return made.numbers


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_samples_cluster_before_classes(whole):
    numbers = outcome(CLUSTERS, clusters(whole.seen))
    assert numbers["sample_train_60"] >= 0.93
    assert numbers["digit_train_60"] - numbers["digit_train_3"] >= 0.15
    assert numbers["sample_saturation"] <= numbers["digit_saturation"] + 10
    assert numbers["sample_done"] > numbers["digit_done"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_centres_come_near_the_linear_probe(whole):
    numbers = outcome(RATIOS, ratios(whole.seen))
    assert numbers["ratio_60"] > numbers["ratio_3"] + 0.15


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_regularization_falls_while_digits_cluster(whole):
    numbers = outcome(regularization.EXPERIMENT, regularization.parts(whole))
    assert numbers["share_3"] >= 0.6
    assert numbers["digit_60"] > numbers["digit_3"]
