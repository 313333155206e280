from itertools import permutations

import numpy as np
import pytest
import torch

from references.torchvision_operators import torchvision_or_skip
from repscope._checking import InputError, UsageError
from repscope._randomness import Purpose, sample_keys
from repscope.data.augmentations import augment, views
from repscope.data.draws import draw_parameters, rows_of
from repscope.data.operations import (
    AutoAugment,
    ColorJitter,
    GaussianBlur,
    Grayscale,
    HorizontalFlip,
    Normalize,
    RandomCrop,
    RandomResizedCrop,
    Solarize,
)
from repscope.data.policy_operations import autoaugmented
from repscope.data.protocols import IMAGENET, PROTOCOLS, protocol

# Values of up to 1 after a dozen float32 operations, divided by deviations above 0.22.
TOLERANCE = 1e-4
EVERYTHING = (
    RandomResizedCrop(24, interpolation="bicubic"),
    ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8),
    HorizontalFlip(0.5),
    Grayscale(0.2),
    GaussianBlur(7, p=0.5),
    Solarize(p=0.3),
    Normalize(*IMAGENET),
)


def pictures(n, side=32, channels=3, seed=0):
    shape = (n, side, side, channels)
    values = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return torch.from_numpy(values)


def keys(n, seed=0, epoch=0, view=0):
    return sample_keys(
        Purpose.AUGMENTATION,
        seed,
        np.arange(n, dtype=np.uint64),
        epoch=epoch,
        view=view,
    )


def by_torchvision(image, operations, parameters, i):
    """Return one image's view, made by torchvision with the parameters of ours."""
    from torchvision.transforms.v2 import InterpolationMode, functional

    work = image.permute(2, 0, 1) / 255
    for operation in operations:
        match operation:
            case RandomResizedCrop():
                boxes = parameters.boxes
                place = (boxes.top, boxes.left, boxes.height, boxes.width)
                work = functional.resized_crop(
                    work,
                    *(int(one[i]) for one in place),
                    size=[operation.size] * 2,
                    interpolation=InterpolationMode(operation.interpolation),
                    antialias=True,
                ).clamp(0, 1)
            case HorizontalFlip() if parameters.flipped[i]:
                work = functional.horizontal_flip(work)
            case ColorJitter() if parameters.jittered[i]:
                order = list(
                    permutations(("brightness", "contrast", "saturation", "hue"))
                )
                for name in order[parameters.jitter.order[i]]:
                    factor = float(getattr(parameters.jitter, name)[i])
                    work = getattr(functional, f"adjust_{name}")(work, factor)
            case Grayscale() if parameters.greyed[i]:
                work = functional.rgb_to_grayscale(work, 3)
            case GaussianBlur() if parameters.blurred[i]:
                sigma = float(parameters.sigma[i])
                work = functional.gaussian_blur(
                    work, [operation.kernel] * 2, [sigma] * 2
                )
            case Solarize() if parameters.solarised[i]:
                work = functional.solarize(work, operation.threshold)
            case Normalize():
                work = functional.normalize(work, operation.mean, operation.std)
    return work


@pytest.mark.parametrize(
    "operations",
    [
        EVERYTHING,
        protocol("s3_protocol", size=24).views[1],
        protocol("moco_v1", size=24).views[0],
    ],
)
def test_views_are_those_of_torchvision_with_the_same_parameters(operations):
    torchvision_or_skip()
    images = pictures(60)
    found = augment(images, operations, keys(60))
    parameters = draw_parameters(keys(60), operations, 32, 32)
    for i in range(60):
        expected = by_torchvision(images[i], operations, parameters, i)
        # A value within rounding of the threshold may fall on either side of it, and a
        # blur before it spreads over nothing after it.
        off = (found[i] - expected).abs() > TOLERANCE
        assert off.float().mean() < 2e-3
        assert bool(parameters.solarised[i]) or not off.any()


@pytest.mark.parametrize("batch", [1, 2, 7, 100, 300])
@pytest.mark.parametrize("hue", ["exact", "yiq"])
def test_views_depend_neither_on_the_batch_nor_on_the_order(batch, hue):
    jitter = ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8, hue_method=hue)
    operations = (EVERYTHING[0], jitter, *EVERYTHING[2:])
    n = 300  # more than a block
    images, whole = pictures(n), augment(pictures(n), operations, keys(n))
    order = np.random.default_rng(0).permutation(n)
    for start in range(0, n, batch)[:20]:
        rows = order[start : start + batch]
        assert torch.equal(
            augment(images[rows], operations, keys(n)[rows]), whole[rows]
        )


def test_views_do_not_depend_on_threads():
    images = pictures(20, side=96)
    operations = (RandomResizedCrop(96), *EVERYTHING[1:])
    before = torch.get_num_threads()
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(augment(images, operations, keys(20)))
    torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_seed_epoch_sample_and_view_each_change_the_view():
    images = pictures(1).repeat(2, 1, 1, 1)  # one picture under two ids
    ids, made = np.arange(2, dtype=np.uint64), protocol("simclr", size=32)
    found = [
        *views(images, made, samples=ids, seed=0, epoch=0),
        *views(images, made, samples=ids, seed=1, epoch=0),
        *views(images, made, samples=ids, seed=0, epoch=1),
    ]
    assert len(torch.unique(torch.cat(found).flatten(1), dim=0)) == 12


def test_views_can_be_made_again():
    images, made = pictures(9), protocol("vicreg", size=32)
    ids = np.arange(9, dtype=np.uint64)
    once = views(images, made, samples=ids, seed=3, epoch=5)
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    again = views(images, made, samples=ids, seed=3, epoch=5)
    assert len(once) == 2
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))


def test_a_supervised_view_is_that_of_torchvision_one_step_after_another():
    torchvision_or_skip()
    from torchvision.transforms.v2 import functional

    images, [view] = pictures(200), protocol("supervised_autoaugment").views
    found = augment(images, view, keys(200))  # more than a block
    draws = draw_parameters(keys(200), view, 32, 32)
    for i in range(0, 200, 9):
        padded = functional.pad(images[i].permute(2, 0, 1), [4])
        corner = int(draws.boxes.top[i]) + 4, int(draws.boxes.left[i]) + 4
        cut = functional.crop(padded, *corner, 32, 32)
        cut = cut.flip(2) if draws.flipped[i] else cut
        one = rows_of(draws.policy, np.array([i]))
        [expected] = autoaugmented(cut[None] / 255, one)
        expected = functional.normalize(expected, *IMAGENET)
        torch.testing.assert_close(found[i], expected, rtol=0, atol=TOLERANCE)


def test_views_of_multi_crop_are_those_of_their_own_number():
    images, ids = pictures(5), np.arange(5, dtype=np.uint64)
    found = views(images, protocol("digits16_multicrop"), samples=ids, seed=1, epoch=2)
    fewer = protocol("digits16_multicrop", small_crops=1)
    again = views(images, fewer, samples=ids, seed=1, epoch=2)
    assert [view.shape[2] for view in found] == [16, 16, 8, 8, 8, 8]
    assert all(torch.equal(*pair) for pair in zip(again, found[:3], strict=True))
    assert len(torch.unique(torch.cat(found[2:]).flatten(1), dim=0)) == 20


def test_fewer_views_are_the_first_of_all():
    images, ids = pictures(9), np.arange(9, dtype=np.uint64)
    made = protocol("vicreg", size=32)
    every = views(images, made, samples=ids, seed=3, epoch=5)
    for count in (1, 2):
        some = views(images, made, samples=ids, seed=3, epoch=5, count=count)
        assert len(some) == count
        assert all(torch.equal(*pair) for pair in zip(some, every, strict=False))
    for count in (0, 3):
        with pytest.raises(UsageError, match=f"vicreg\n  found: {count}; expected: 1"):
            views(images, made, samples=ids, seed=3, epoch=5, count=count)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_makes_finite_views(name):
    made = protocol(name, size=16)
    ids = np.arange(40, dtype=np.uint64)
    found = views(pictures(40, 20), made, samples=ids, seed=0, epoch=0)
    assert len(found) == len(made.views)
    for view, operations in zip(found, made.views, strict=True):
        side = operations[0].size
        assert view.shape == (40, 3, side, side)
        assert view.dtype == torch.float32
        assert view.is_contiguous()
        assert torch.isfinite(view).all()
        if not isinstance(made.views[0][-1], Normalize):
            assert view.min() >= 0
            assert view.max() <= 1 + 1e-6


def test_grey_images_skip_what_colours_need():
    images = pictures(40, channels=1)
    crop = RandomResizedCrop(16)
    coloured = (crop, ColorJitter(0.8, 0.8, 0.8, 0.2), Grayscale(1.0))
    plain = augment(images, (crop,), keys(40))
    assert torch.equal(augment(images, coloured, keys(40)), plain)
    rest = (
        crop,
        HorizontalFlip(),
        GaussianBlur(3),
        Solarize(),
        Normalize((0.5,), (2.0,)),
    )
    assert not torch.equal(augment(images, rest, keys(40)), plain)


def test_an_operation_changes_those_it_concerns_alone():
    images = pictures(200, side=8)
    plain = images.permute(0, 3, 1, 2) / 255
    for operation, name in (
        (HorizontalFlip(0.3), "flipped"),
        (ColorJitter(0.5, 0.5, 0.5, 0.1, p=0.3), "jittered"),
        (Grayscale(0.3), "greyed"),
        (GaussianBlur(3, (1.0, 2.0), p=0.3), "blurred"),
        (Solarize(0.5, p=0.3), "solarised"),
    ):
        found = augment(images, (operation,), keys(200))
        changed = (found != plain).flatten(1).any(1).numpy()
        concerned = getattr(draw_parameters(keys(200), (operation,), 8, 8), name)
        np.testing.assert_array_equal(changed, concerned, err_msg=name)


def test_without_a_crop_images_keep_their_shape():
    images = torch.from_numpy(
        np.random.default_rng(0).integers(0, 256, (5, 10, 14, 3), dtype=np.uint8)
    )
    found = augment(images, (HorizontalFlip(1.0), Normalize(*IMAGENET)), keys(5))
    mean, std = (torch.tensor(one)[:, None, None] for one in IMAGENET)
    expected = (images.permute(0, 3, 1, 2).flip(3) / 255 - mean) / std
    torch.testing.assert_close(found, expected)


def test_no_operations_and_no_images():
    images = pictures(3)
    expected = images.permute(0, 3, 1, 2) / 255
    assert torch.equal(augment(images, (), keys(3)), expected)
    assert augment(images[:0], EVERYTHING, keys(0)).shape == (0, 3, 24, 24)


def test_images_are_left_alone():
    images = pictures(10)
    before = images.clone()
    augment(images, EVERYTHING, keys(10))
    assert torch.equal(images, before)


def test_half_precision_of_the_training_step_does_not_reach_the_pixels():
    images = pictures(4)
    expected = augment(images, EVERYTHING, keys(4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = augment(images, EVERYTHING, keys(4))
    assert torch.equal(found, expected)


def test_what_cannot_be_done_is_refused():
    with pytest.raises(InputError, match="found: 4 channels; expected: 1 or 3"):
        augment(pictures(2, channels=4), EVERYTHING, keys(2))
    with pytest.raises(InputError, match="found: 3 for 1 channels.*\n  fix: pass mean"):
        augment(pictures(2, channels=1), EVERYTHING, keys(2))
    with pytest.raises(UsageError, match="each kind may come once"):
        augment(pictures(2), (Solarize(), Solarize(0.1)), keys(2))
    with pytest.raises(UsageError, match="the crop must come first"):
        augment(pictures(2), (Solarize(), RandomResizedCrop(8)), keys(2))
    with pytest.raises(UsageError, match="the crop must come first"):
        augment(pictures(2), (RandomCrop(32), RandomResizedCrop(8)), keys(2))
    with pytest.raises(UsageError, match="the flip must come before AutoAugment"):
        augment(pictures(2), (AutoAugment(), HorizontalFlip()), keys(2))
    with pytest.raises(UsageError, match="the normalisation must come last"):
        augment(pictures(2), (Normalize(*IMAGENET), Solarize()), keys(2))
