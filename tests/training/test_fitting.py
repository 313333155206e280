"""Whether what a recipe names fits together, told before the first step."""

import numpy as np
import pytest
import torch

from repscope._checking import InputError, UsageError
from repscope.data.imageset import ImageSet
from repscope.training.preparation import prepare
from training.tiny_runs import recipe_with, tiny_images

CPU = torch.device("cpu")
NO_SIZES = ("head.hidden=none", "head.out=none")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["objective.name=moco", "objective.options.queue=100"],
            r"by whole batches(?s:.*)100 places for batches of 32(?s:.*)queue=96",
        ),
        (
            [
                "objective.name=moco",
                "objective.options.queue=100",
                "objective.options.symmetric=true",
            ],
            r"50 places for batches of 32(?s:.*)queue=128",
        ),
        (["training.batch_size=1"], r"batch_size = 1\n.*at least 2"),
        (["objective.name=simclr"], r"unknown objective 'simclr'"),
        (
            ["training.bn_splits=3"],
            r"bn_splits = 3(?s:.*)batch_size = 32(?s:.*)a multiple of 3",
        ),
        (
            ["predictor.name=byol"],
            "nt_xent has no predictor(?s:.*)predictor.name = byol",
        ),
        (["objective.labels=colour"], "unknown level of labels 'colour'"),
        (
            ["augmentation.protocol=supervised_cifar"],
            r"nt_xent compares 2 views(?s:.*)1 of augmentation.protocol",
        ),
        (
            ["training.bn_splits=32"],
            r"each group needs as many images, at least 2(?s:.*)from 64",
        ),
        (
            ["objective.name=byol", "predictor.name=prototypes"],
            r"byol works with the predictor byol\n.*predictor.name = prototypes",
        ),
        (
            ["objective.name=cross_entropy", "predictor.name=simsiam"],
            "cross_entropy works with the predictor classes",
        ),
        (
            ["objective.name=byol", "predictor.name=bylo"],
            r"unknown predictor 'bylo'\n.*did you mean byol",
        ),
    ],
)
def test_what_does_not_fit_is_named_with_what_would(words, message):
    with pytest.raises(UsageError, match=message):
        prepare(recipe_with(*words), tiny_images(), device=CPU)


@pytest.mark.parametrize("name", ["supcon", "joint", "cross_entropy"])
def test_a_supervised_loss_asks_for_labels(name):
    pixels = np.zeros((40, 16, 16, 1), dtype=np.uint8)
    with pytest.raises(InputError, match=f"{name} needs labels(?s:.*)nt_xent"):
        prepare(recipe_with(f"objective.name={name}"), ImageSet.of(pixels))


def test_the_level_of_labels_is_the_one_that_is_asked_for():
    levels = {"fine": np.arange(40) % 8, "coarse": np.arange(40) % 2}
    images = ImageSet.of(np.zeros((40, 16, 16, 1), dtype=np.uint8), labels=levels)
    assert prepare(recipe_with("objective.name=supcon"), images).n_classes == 8
    ready = prepare(recipe_with("objective.labels=coarse"), images)
    assert ready.n_classes == 2
    assert ready.labels.tolist() == levels["coarse"].tolist()


def test_an_objective_brings_its_predictor_and_the_recipe_says_so():
    ready = prepare(recipe_with("objective.name=simsiam"), tiny_images())
    assert ready.predictor.name == "simsiam"
    assert ready.recipe.predictor.name == "simsiam"
    assert prepare(recipe_with(), tiny_images()).predictor is None


def test_colour_leaves_grey_images_as_they_are():
    """Operations on colour skip images of one channel, as everywhere."""
    words = ("augmentation.protocol=simclr_cifar", "data.size=16")
    ready = prepare(recipe_with(*words), tiny_images())
    assert ready.preprocess.channels == 1


def test_a_perceptron_of_pixels_refuses_small_crops():
    words = ("augmentation.protocol=digits16_multicrop", "encoder.name=linear")
    with pytest.raises(UsageError, match="linear takes images of one size"):
        prepare(recipe_with(*words), tiny_images())


def test_the_head_none_can_be_typed_without_quotation_marks():
    ready = prepare(recipe_with("head.name=none", *NO_SIZES), tiny_images())
    assert ready.head.name == "none"


def test_a_predictor_may_be_left_out_of_what_compares_vectors():
    words = ("objective.name=byol", 'predictor.name="none"')
    assert prepare(recipe_with(*words), tiny_images()).predictor.name == "none"
