import dataclasses
import itertools

import numpy as np
import pytest

from repscope._checking import InputError
from repscope._images import Preprocess
from repscope.data.images import Images
from repscope.data.imageset import ImageSet
from repscope.training.batches import Plan, Share, batches

GREY = Preprocess(4, channels=1)


def images_of(n, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (n, 4, 4), dtype=np.uint8)
    return ImageSet.of(pixels, labels=np.arange(n) % 3)


def test_an_epoch_takes_whole_batches_and_each_image_once_at_most():
    plan = Plan(n=23, batch_size=5, epochs=3, seed=0)
    assert (plan.steps_per_epoch, plan.total_steps, plan.left_out) == (4, 12, 3)
    left_out = []
    for epoch in range(3):
        steps = range(4 * epoch, 4 * epoch + 4)
        rows = np.concatenate([plan.rows_of(step) for step in steps])
        assert len(set(rows.tolist())) == 20
        assert all(plan.epoch_of(step) == epoch for step in steps)
        left_out.append(frozenset(range(23)) - set(rows.tolist()))
    assert len(set(left_out)) == 3


def test_the_order_depends_on_seed_and_epoch_and_on_nothing_else():
    plans = [Plan(n=50, batch_size=50, epochs=2, seed=seed) for seed in (0, 0, 1)]
    orders = [plan.rows_of(step).tolist() for plan in plans for step in (0, 1)]
    first, second, again, again_second, other, _ = orders
    assert (first, second) == (again, again_second)
    assert first != second != other != first


def test_too_few_images_name_the_batch_that_fits():
    message = r"5 images do not fill one batch\n.*batch_size = 8.*\n.*batch_size=5"
    with pytest.raises(InputError, match=message):
        Plan(n=5, batch_size=8, epochs=1, seed=0)
    with pytest.raises(InputError, match="give more images"):
        Plan(n=1, batch_size=8, epochs=1, seed=0)


def test_a_batch_holds_its_images_with_all_that_is_known_of_them():
    images, plan = images_of(12), Plan(n=12, batch_size=4, epochs=2, seed=3)
    codes = images.levels[0].codes
    for step, batch in enumerate(batches(images, GREY, plan, labels=codes)):
        rows = plan.rows_of(step)
        assert (batch.step, batch.epoch) == (step, step // 3)
        assert np.array_equal(batch.rows, rows)
        assert np.array_equal(batch.pixels[0], images.images.array[rows])
        assert np.array_equal(batch.keys, images.keys[rows])
        assert np.array_equal(batch.labels, rows % 3)
    assert step == 5


class OneIsDamaged(Images):
    """Twelve pictures, of which the sixth cannot be read."""

    name, shape = "files", (4, 4, 1)
    n = 12

    def read(self, row):
        if row == 5:
            raise InputError("picture 5 is damaged")
        return np.full((4, 4, 1), row, dtype=np.uint8)

    def fingerprint(self, rows):
        return "files"


def test_a_stand_in_brings_its_own_label_and_bits_and_not_its_name():
    images = ImageSet.of(OneIsDamaged(), labels=np.arange(12))
    images = dataclasses.replace(images, planes=np.arange(12, dtype=np.uint8)[:, None])
    plan = Plan(n=12, batch_size=12, epochs=1, seed=3)
    [batch] = batches(images, GREY, plan, labels=images.levels[0].codes)
    [failure] = batch.failures
    place = batch.rows.tolist().index(5)
    shown = failure.replaced_by
    assert (failure.row, shown != 5) == (5, True)
    assert np.unique(batch.pixels[0][place]).tolist() == [shown]
    assert batch.planes[place].tolist() == [shown]
    assert images.levels[0].classes[batch.labels[place]] == str(shown)
    assert batch.keys[place] == images.keys[5]


@pytest.mark.parametrize(("first_step", "workers"), [(0, 1), (0, 3), (2, 2), (5, 2)])
def test_neither_workers_nor_the_first_step_change_a_batch(first_step, workers):
    images, plan = images_of(12), Plan(n=12, batch_size=4, epochs=2, seed=3)
    expected = list(batches(images, GREY, plan))[first_step:]
    found = list(batches(images, GREY, plan, first_step=first_step, workers=workers))
    assert [one.step for one in found] == [one.step for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert np.array_equal(one.pixels[0], other.pixels[0])
        assert np.array_equal(one.keys, other.keys)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_that_ends_early_reads_no_further(workers, monkeypatch):
    asked = []

    monkeypatch.setattr(ImageSet, "pixels", _counted(asked))
    images, plan = images_of(400), Plan(n=400, batch_size=4, epochs=9, seed=0)
    stream = batches(images, GREY, plan, workers=workers)
    list(itertools.islice(stream, 2))
    stream.close()
    assert len(asked) <= 2 + 2 * workers


def _counted(asked):
    original = ImageSet.pixels

    def read(self, rows, preprocess=None):
        asked.append(rows)
        return original(self, rows, preprocess)

    return read


@pytest.mark.parametrize("workers", [0, 2])
def test_what_goes_wrong_in_a_worker_reaches_the_caller(workers, monkeypatch):
    def fail(self, rows, preprocess=None):
        raise InputError("no good")

    monkeypatch.setattr(ImageSet, "pixels", fail)
    plan = Plan(n=12, batch_size=4, epochs=1, seed=0)
    with pytest.raises(InputError, match="no good"):
        list(batches(images_of(12), GREY, plan, workers=workers))


@pytest.mark.parametrize("n_ranks", [1, 2, 3, 5])
def test_processes_share_each_batch_without_gap_or_overlap(n_ranks):
    rows = np.arange(7) * 3
    shares = [Share(rank, n_ranks).of(rows) for rank in range(n_ranks)]
    assert np.concatenate(shares).tolist() == rows.tolist()
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1
    assert sizes == sorted(sizes, reverse=True)
