import numpy as np
import pytest
import torch

from repscope._checking import ResourceError, UsageError
from repscope.data.images import Images
from repscope.data.imageset import ImageSet
from repscope.data.operations import (
    GaussianBlur,
    HorizontalFlip,
    Normalize,
    RandomResizedCrop,
)
from repscope.data.protocols import CIFAR10, protocol
from repscope.training import memory, preparation
from repscope.training.preparation import prepare, views_of
from repscope.training.recipe import AugmentationSection, Recipe, difference, override


def pictures(n=12, side=8, channels=3, seed=0):
    shape = (n, side, side, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def prepared(images, *words):
    return prepare(override(Recipe(), words), images)


def operation(made, kind, view=0):
    [found] = [one for one in made.views[view] if isinstance(one, kind)]
    return found


def test_what_a_recipe_leaves_open_is_filled_in():
    found = prepared(ImageSet.of(pictures()))
    recipe = found.recipe
    assert (recipe.data.size, recipe.data.channels) == (8, 3)
    assert (recipe.encoder.width, recipe.encoder.stem) == (32, "cifar")
    assert recipe.objective.options == {"temperature": 0.5, "variant": "standard"}
    assert (recipe.augmentation.mean, recipe.augmentation.std) == CIFAR10
    assert (found.preprocess.mean, found.preprocess.std) == CIFAR10
    assert found.preprocess.size == found.protocol.size == 8


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("augmentation.protocol=digits16",),
        ("data.channels=1",),
        ("data.bits=2", "data.limit=6", "objective.name=vicreg"),
        ("augmentation.mean=[0.1, 0.2, 0.3]", "augmentation.std=[1, 1, 1]"),
        ("augmentation.crop_minimum=0.5", "augmentation.blur=none"),
    ],
)
def test_a_filled_recipe_stays_as_it_is(words):
    images = ImageSet.of(pictures(), labels=np.arange(12) % 2)
    once = prepared(images, *words).recipe
    assert difference(once, prepare(once, images).recipe) == ()
    assert Recipe.from_dict(once.to_dict()) == once


def test_grey_images_get_their_own_mean_and_deviation():
    grey = pictures(channels=1)
    found = prepared(ImageSet.of(grey)).preprocess
    assert found.channels == 1
    assert found.mean == pytest.approx([np.mean(grey) / 255], abs=5e-5)
    assert found.std == pytest.approx([np.std(grey) / 255], abs=5e-5)


def test_images_of_one_colour_have_a_deviation_to_divide_by():
    found = prepared(ImageSet.of(np.full((4, 8, 8), 7, dtype=np.uint8)))
    assert found.preprocess.std == (1e-4,)


def test_a_protocol_without_statistics_keeps_the_pixels_as_they_are():
    found = prepared(ImageSet.of(pictures()), "augmentation.protocol=digits16")
    assert found.recipe.augmentation.mean is None
    assert found.preprocess.mean == (0.0,) * len(found.preprocess.mean)
    assert not any(isinstance(one, Normalize) for one in found.protocol.views[0])


def test_images_are_resized_and_turned_grey_as_the_recipe_says():
    found = prepared(ImageSet.of(pictures()), "data.size=5", "data.channels=1")
    assert found.images.images.shape == (5, 5, 1)
    assert found.architecture.channels == 1


def test_images_of_several_sizes_need_one():
    images = ImageSet.of(np.zeros((4, 6, 8), dtype=np.uint8))
    with pytest.raises(UsageError, match=r"data.size is needed\n.*images of 6 x 8"):
        prepared(images)
    assert prepared(images, "data.size=4").images.images.shape == (4, 4, 1)


class Unmeasured(Images):
    """Pictures of one size, as files are: nobody has looked at their sizes."""

    name, shape, n = "files", None, 4

    def read(self, row):
        return np.full((8, 8, 3), row, dtype=np.uint8)

    def fingerprint(self, rows):
        return "files"


def test_the_size_of_pictures_in_files_is_looked_at():
    assert prepared(ImageSet.of(Unmeasured())).recipe.data.size == 8


def test_pictures_in_files_of_several_sizes_need_one(monkeypatch):
    def read(self, row):
        return np.zeros((8 + row, 8 + row, 3), dtype=np.uint8)

    monkeypatch.setattr(Unmeasured, "read", read)
    with pytest.raises(UsageError, match=r"needed\n.*images of 8 x 8, 9 x 9, 10 x 10"):
        prepared(ImageSet.of(Unmeasured()))


def test_a_wrong_name_is_told_before_a_size_is_asked_for_or_a_picture_read(monkeypatch):
    def fail(self, row):
        raise AssertionError("read")

    monkeypatch.setattr(Unmeasured, "read", fail)
    for word in (
        *("augmentation.protocol=x", "encoder.name=x", "head.name=x"),
        *("objective.name=x", "objective.options.x=1", "encoder.depth=3"),
    ):
        with pytest.raises(UsageError, match="unknown|has no"):
            prepared(ImageSet.of(Unmeasured()), word)
    with pytest.raises(UsageError, match="head linear has no option hidden"):
        prepared(ImageSet.of(Unmeasured()), "head.name=linear", "head.hidden=3")


def test_statistics_are_the_same_however_many_pictures_are_read_at_once(monkeypatch):
    grey = ImageSet.of(pictures(n=40, channels=1))
    at_once = prepared(grey).preprocess
    monkeypatch.setattr(preparation, "STATISTICS_BYTES", 3 * 64)
    assert prepared(grey).preprocess == at_once


def test_memory_is_asked_for_before_pictures_are_read(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda device: 10**9)
    recipe = override(Recipe(), ["data.size=4096", "data.channels=3"])
    with pytest.raises(ResourceError, match=r"256 images of 4,096 x 4,096.*\n.*1.0 GB"):
        prepare(recipe, ImageSet.of(pictures()), device=torch.device("cpu"))
    monkeypatch.setattr(ImageSet, "in_memory", lambda self, bare: 1 / 0)
    with pytest.raises(ResourceError, match="more memory than there is"):
        prepare(recipe, ImageSet.of(pictures()), device=torch.device("cpu"))


def test_a_limit_takes_as_many_of_each_class():
    labels = np.repeat([0, 1], [10, 2])
    found = prepared(ImageSet.of(pictures(), labels=labels), "data.limit=4").images
    assert np.bincount(found.levels[0].codes).tolist() == [2, 2]


def test_bits_become_planes_and_channels_of_the_encoder():
    images = ImageSet.of(pictures())
    found = prepared(images, "data.bits=2")
    assert found.images.planes.shape == (12, 2)
    assert (found.architecture.channels, found.preprocess.channels) == (5, 3)
    other = prepared(images, "data.bits=2", "data.bit_seed=1")
    assert not np.array_equal(found.images.planes, other.images.planes)
    assert found.fingerprint != other.fingerprint


def test_changes_reach_the_operations_of_each_view():
    section = AugmentationSection(
        "moco_v2", crop_minimum=0.3, crop_maximum=0.9, flip=0.0, blur=0.7
    )
    made, plain = views_of(section, 16), protocol("moco_v2", size=16)
    for view in (0, 1):
        assert operation(made, RandomResizedCrop, view).scale == (0.3, 0.9)
        assert operation(made, HorizontalFlip, view).p == 0.0
        assert operation(made, GaussianBlur, view).p == 0.7
        assert operation(made, Normalize, view) == operation(plain, Normalize, view)
    one_side = views_of(AugmentationSection("moco_v2", crop_minimum=0.3), 16)
    assert operation(one_side, RandomResizedCrop).scale == (0.3, 1.0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["augmentation.protocol=simcrl"], "unknown protocol.*\n.*did you mean simclr"),
        (
            ["augmentation.protocol=digits16", "augmentation.blur=0.5"],
            "augmentation.blur: the protocol digits16 has no GaussianBlur",
        ),
        (["encoder.name=resnet81"], "unknown backbone.*\n.*did you mean resnet18"),
        (["encoder.depth=3"], "small_conv has no depth"),
        (["head.name=mlp5"], "unknown head.*\n.*did you mean mlp[23]"),
        (["objective.name=nt_xnt"], "unknown objective.*\n.*did you mean nt_xent"),
        (
            ["objective.options.temprature=1"],
            "temprature.*\n.*mean temperature",
        ),
        (
            ["augmentation.protocol=digits16", "augmentation.crop_maximum=0.1"],
            "augmentation.crop_maximum = 0.1\n.*from 0.4 to 1 .*\n.*together",
        ),
    ],
)
def test_a_wrong_name_is_refused_with_the_right_one(words, message):
    with pytest.raises(UsageError, match=message):
        prepared(ImageSet.of(pictures()), *words)
