"""Views of a few images as classes of their own: what is drawn, and what is not."""

import dataclasses

import numpy as np
import pytest
import torch

from repscope._checking import InputError, UsageError
from repscope._randomness import Purpose, sample_keys
from repscope.data.augmentations import augment
from repscope.data.digits import digits16
from repscope.data.imageset import ImageSet
from repscope.data.protocols import protocol
from repscope.data.sample_level import sample_level
from repscope.data.shortcuts import randbit

PROTOCOL = protocol("digits16")


def small(**changes):
    options = {"n_images": 6, "n_train": 3, "n_test": 2} | changes
    return sample_level(digits16("train"), PROTOCOL, **options)


def pixels(images: ImageSet) -> np.ndarray:
    return images.pixels(np.arange(images.n)).array


def test_each_image_is_a_class_with_as_many_views_in_each_set():
    known, asked = small()
    for images, n_views in ((known, 3), (asked, 2)):
        level = images.level("sample")
        assert level.codes.tolist() == np.repeat(np.arange(6), n_views).tolist()
        assert level.n_classes == 6
        assert [one.name for one in images.levels] == ["sample", "digit", "pair"]
        assert pixels(images).shape == (6 * n_views, 16, 16, 1)
    assert known.level("sample").classes == asked.level("sample").classes
    assert known.ids[:3].tolist() == [
        f"{known.ids[0].split(':')[0]}:{k}" for k in range(3)
    ]
    assert not set(known.ids.tolist()) & set(asked.ids.tolist())


def test_a_view_is_the_augmentation_of_its_image_rounded_to_8_bits():
    train = digits16("train")
    known, asked = small(seed=4)
    for images, first in ((known, 0), (asked, 3)):
        for row, name in enumerate(images.ids.tolist()):
            own, number = map(int, name.split(":"))
            place = int(np.flatnonzero(train.ids == own)[0])
            keys = sample_keys(
                Purpose.AUGMENTATION, 4, train.keys[[place]], epoch=-1, view=number
            )
            image = torch.from_numpy(train.pixels(np.array([place])).array)
            view = augment(image, PROTOCOL.views[0], keys)[0].permute(1, 2, 0)
            assert number >= first
            assert (
                np.abs(pixels(images)[row] / 255 - view.numpy()).max() <= 0.5001 / 255
            )
            assert images.level("digit").codes[row] == train.level("digit").codes[place]


def test_views_of_training_are_none_of_these():
    train = digits16("train")
    seen = sample_keys(Purpose.AUGMENTATION, 0, train.keys, epoch=0, view=0)
    own = sample_keys(Purpose.AUGMENTATION, 0, train.keys, epoch=-1, view=0)
    assert not set(seen.tolist()) & set(own.tolist())


def test_the_same_seed_gives_the_same_views_and_more_images_keep_the_first():
    first, again = small()[0], small()[0]
    assert np.array_equal(pixels(first), pixels(again))
    other = small(seed=1)[0]
    assert other.ids.tolist() != first.ids.tolist()
    more = small(n_images=9, n_train=4)[0]
    assert set(first.ids.tolist()) < set(more.ids.tolist())


def test_the_normalisation_of_a_protocol_is_left_to_the_encoder():
    images = ImageSet.of(np.full((4, 32, 32, 3), 200, np.uint8))
    for made in sample_level(
        images, protocol("supcon_cifar", strength=0.0), n_images=2, n_train=1, n_test=1
    ):
        assert np.abs(pixels(made).astype(int) - 200).max() <= 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_images": 1}, "n_images: 1"),
        ({"n_train": 0}, "n_train: 0"),
        ({"n_test": 0}, "n_test: 0"),
        ({"n_images": 1298}, "n_images: more than there are"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        small(**changes)


def test_planes_are_refused():
    with pytest.raises(InputError, match="views of planes"):
        sample_level(randbit(digits16("test"), 2), PROTOCOL, n_images=4)


def test_attributes_come_along():
    images = digits16("test")
    shade = dataclasses.replace(images.level("pair"), name="shade")
    images = dataclasses.replace(images, attributes=(shade,))
    known, _ = sample_level(images, PROTOCOL, n_images=3, n_train=2, n_test=1)
    assert known.level("shade").codes.tolist() == known.level("pair").codes.tolist()
