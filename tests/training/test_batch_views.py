"""Views of pictures that lie in memory, and of those that are cut as they are read."""

import numpy as np
import pytest
import torch
from PIL import Image

from repscope.data.imageset import ImageSet
from repscope.data.sources import open_images
from repscope.training.batch_views import cut_of, views_of_batch
from repscope.training.batches import Plan, batches
from repscope.training.preparation import prepare
from training.tiny_runs import recipe_with

CPU = torch.device("cpu")
WORDS = ("augmentation.protocol=simclr", "data.size=72", "data.channels=3")


@pytest.fixture
def photos(tmp_path):
    """Return a folder of photographs of several sizes."""
    generator = np.random.default_rng(0)
    for row in range(6):
        coarse = generator.integers(0, 256, (10, 12 + row % 2, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((120 + row, 100)).save(tmp_path / f"{row}.png")
    return open_images(str(tmp_path))


def keep_none_in_memory(monkeypatch):
    """As where a set is larger than the memory that it may take."""
    original = ImageSet.in_memory
    monkeypatch.setattr(
        ImageSet, "in_memory", lambda self, one: original(self, one, limit_bytes=1)
    )


def first_views(prepared):
    plan = Plan(n=6, batch_size=6, epochs=1, seed=0)
    stream = batches(prepared.images, prepared.stored, plan, cut=cut_of(prepared))
    batch = next(stream)
    stream.close()
    return batch, views_of_batch(batch, prepared, CPU)


def test_pictures_that_fit_are_kept_larger_than_their_views(photos):
    prepared = prepare(recipe_with(*WORDS), photos)
    assert prepared.recipe.data.stored_size == prepared.stored.size == 82  # 72 * 8 / 7
    batch, views = first_views(prepared)
    assert not batch.is_cut
    assert batch.pixels[0].shape == (6, 82, 82, 3)
    assert [tuple(view.shape) for view in views] == [(6, 3, 72, 72)] * 2


def test_crops_of_others_are_cut_from_the_whole_picture(photos, monkeypatch):
    keep_none_in_memory(monkeypatch)
    prepared = prepare(recipe_with(*WORDS), photos)
    batch, views = first_views(prepared)
    assert batch.is_cut
    assert [one.shape for one in batch.pixels] == [(6, 72, 72, 3)] * 2
    assert [tuple(view.shape) for view in views] == [(6, 3, 72, 72)] * 2
    _, again = first_views(prepared)
    assert all(torch.equal(a, b) for a, b in zip(views, again, strict=True))


@pytest.mark.parametrize("fits", [True, False])
def test_only_the_views_that_an_objective_needs_are_made(photos, monkeypatch, fits):
    if not fits:
        keep_none_in_memory(monkeypatch)
    words = (*WORDS, "objective.name=inst_disc")
    batch, views = first_views(prepare(recipe_with(*words), photos))
    assert batch.is_cut is not fits
    assert len(views) == 1
