import numpy as np
import pytest
import torch
from PIL import Image

from references.torchvision_operators import torchvision_or_skip
from repscope._checking import InputError, UsageError
from repscope._images import Preprocess
from repscope.data.augmentations import views, views_of_crops
from repscope.data.image_folder import open_folder
from repscope.data.imageset import ImageSet
from repscope.data.large_images import is_cut_when_read, read_crops, stored_side
from repscope.data.protocols import protocol

SIZES = [(60, 90), (90, 60), (64, 64), (41, 200), (300, 50), (70, 71)]


def photograph(height, width, seed):
    """Return a smooth picture, whose crops cannot be mistaken for one another."""
    random = np.random.default_rng(seed)
    down, across = np.mgrid[:height, :width]
    waves = random.uniform(0.02, 0.2, (3, 2))
    values = [np.sin(a * down + b * across + seed) for a, b in waves]
    return (127.5 + 127 * np.stack(values, 2)).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    for i, size in enumerate(SIZES * 2):
        place = tmp_path / f"class {i % 2}"
        place.mkdir(exist_ok=True)
        Image.fromarray(photograph(*size, i)).save(place / f"{i}.png")
    return tmp_path


def crops_of(images, name, rows=None, size=32, **more):
    chosen = np.arange(images.n) if rows is None else np.asarray(rows)
    options = {"channels": 3, "seed": 3, "epoch": 1, **more}
    return read_crops(images, chosen, protocol(name, size=size), **options)


def same(one, other):
    return len(one) == len(other) and all(map(np.array_equal, one, other))


@pytest.mark.parametrize("name", ["simclr", "vicreg", "swav"])
def test_crops_are_torchvision_s_of_the_whole_picture(name, folder):
    torchvision_or_skip()
    from torchvision.transforms.v2 import InterpolationMode, functional

    from repscope._randomness import Purpose, sample_keys
    from repscope.data.draws import draw_boxes

    images = open_folder(folder)
    made, found = protocol(name, size=32), crops_of(images, name)
    assert len(found.views) == len(made.views)
    assert found.good.all()
    for view, (crops, (crop, *_)) in enumerate(
        zip(found.views, made.views, strict=True)
    ):
        keys = sample_keys(Purpose.AUGMENTATION, 3, images.keys, epoch=1, view=view)
        assert crops.shape == (12, crop.size, crop.size, 3)
        for row in range(12):
            pixels = images.images.read(row)
            box = draw_boxes(keys[row : row + 1], crop, *pixels.shape[:2])
            place = (box.top[0], box.left[0], box.height[0], box.width[0])
            expected = functional.resized_crop(
                Image.fromarray(pixels),
                *map(int, place),
                size=[crop.size] * 2,
                interpolation=InterpolationMode(crop.interpolation),
            )
            np.testing.assert_array_equal(crops[row], np.asarray(expected))


@pytest.mark.parametrize("name", ["digits16", "randbit_mnist", "digits16_multicrop"])
@pytest.mark.parametrize("channels", [1, 3])
def test_views_of_crops_are_those_of_pictures_in_memory(name, channels):
    pixels = np.stack([photograph(48, 48, i) for i in range(20)])
    images, made = ImageSet.of(pixels), protocol(name, size=24)
    found = crops_of(images, name, size=24, channels=channels)
    chosen = {"samples": images.keys, "seed": 3, "epoch": 1}
    ready = images.in_memory(Preprocess(48, channels=channels)).images.array
    expected = views(torch.from_numpy(ready), made, **chosen)
    crops = [torch.from_numpy(one) for one in found.views]
    for ours, theirs in zip(
        views_of_crops(crops, made, **chosen), expected, strict=True
    ):
        # Pillow rounds to whole levels after the columns and after the rows.
        assert (ours - theirs).abs().max() * 255 <= 1.3


def test_what_follows_the_crop_has_the_draws_that_views_make():
    # Of one colour, so that the crop does not matter.
    pixels = np.repeat(np.arange(60, dtype=np.uint8) * 4, 40 * 40 * 3)
    images = ImageSet.of(pixels.reshape(60, 40, 40, 3))
    made = protocol("byol", size=32)
    chosen = {"samples": images.keys, "seed": 3, "epoch": 1}
    crops = [torch.from_numpy(one) for one in crops_of(images, "byol").views]
    found = views_of_crops(crops, made, **chosen)
    expected = views(torch.from_numpy(images.images.array), made, **chosen)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
    fewer = views_of_crops(crops[:1], made, **chosen)
    assert same([one.numpy() for one in fewer], [found[0].numpy()])


def test_crops_depend_neither_on_the_batch_nor_on_threads(folder, monkeypatch):
    images = open_folder(folder)
    whole = crops_of(images, "swav").views
    order = np.random.default_rng(0).permutation(12)
    for rows in (order[:1], order[1:6], order):
        some = crops_of(images, "swav", rows).views
        assert same(some, [view[rows] for view in whole])
    monkeypatch.setattr("repscope.data.reading.MAXIMUM_THREADS", 1)
    assert same(crops_of(images, "swav").views, whole)
    assert same(crops_of(images, "swav", count=3).views, whole[:3])


def test_seed_and_epoch_change_the_crops(folder):
    images = open_folder(folder)
    found = [
        crops_of(images, "simclr", seed=seed, epoch=epoch).views[0]
        for seed, epoch in ((0, 0), (0, 1), (1, 0))
    ]
    # Of very long pictures, now and then no box fits, and the middle is taken.
    assert len(np.unique(np.concatenate(found), axis=0)) > 30


def test_a_picture_that_stands_in_is_cropped_as_the_other_would_be(folder):
    before = open_folder(folder)
    (folder / "class 0" / "2.png").write_bytes(b"no picture")
    images = open_folder(folder)
    row = [str(one) for one in images.ids].index("class 0/2.png")
    found = crops_of(images, "simclr")
    [failure] = found.failures
    assert (failure.row, found.good.sum()) == (row, 11)
    # The picture is the other's, the draws are those of the unreadable one.
    ids = before.ids.copy()
    ids[failure.replaced_by], ids[row] = ids[row], ids[failure.replaced_by]
    swapped = ImageSet.of(before.images, ids=ids)
    expected = crops_of(swapped, "simclr", [failure.replaced_by])
    assert same([view[row] for view in found.views], [v[0] for v in expected.views])


def test_grey_crops(folder):
    images = open_folder(folder)
    found = crops_of(images, "digits16", channels=1)
    assert [view.shape for view in found.views] == [(12, 32, 32, 1)] * 2


def test_pixels_as_they_were_for_pictures_that_differ_in_size(folder):
    images = open_folder(folder)
    with pytest.raises(InputError, match="pictures differ in size"):
        images.pixels(np.arange(3))
    assert images.pixels(np.arange(12), Preprocess(32)).array.shape == (12, 32, 32, 3)


def test_what_does_not_resize_is_refused(folder):
    images = open_folder(folder)
    with pytest.raises(UsageError, match="not every view of supervised_cifar begins"):
        crops_of(images, "supervised_cifar")
    with pytest.raises(UsageError, match="count: views of the protocol simclr"):
        crops_of(images, "simclr", count=3)


@pytest.mark.parametrize(
    ("name", "size", "short_side", "expected"),
    [
        ("simclr", 224, 500, 256),
        ("simclr", 224, 240, 240),
        ("simclr", 224, 100, 224),
        ("simclr", 96, 500, 110),
        ("simclr", 64, 500, 64),
        ("simclr_cifar", 32, 32, 32),
        ("supervised_cifar", 224, 500, 224),
    ],
)
def test_pictures_are_kept_a_little_larger_than_views(name, size, short_side, expected):
    assert stored_side(protocol(name, size=size), size, short_side) == expected


def test_crops_are_cut_when_read_where_pictures_are_not_ready(folder):
    images, stored = open_folder(folder), Preprocess(32)
    made = protocol("simclr", size=32)
    assert is_cut_when_read(images, made, stored)
    assert is_cut_when_read(images.in_memory(stored, limit_bytes=100), made, stored)
    assert not is_cut_when_read(images.in_memory(stored), made, stored)
    supervised = protocol("supervised_cifar")
    assert not is_cut_when_read(images, supervised, stored)
