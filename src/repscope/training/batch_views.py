"""How do the images of a batch become the views that an objective sees?

Pictures that lie in memory are cropped and changed by the batch, on the device. Of
larger ones, the threads that decode them cut the crops; the rest is done here.
"""

import contextlib
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from repscope.data.augmentations import views, views_of_crops
from repscope.data.imageset import ImageSet
from repscope.data.large_images import Crops, is_cut_when_read, read_crops
from repscope.objectives.objective import views_needed
from repscope.training.batches import Batch, Cut
from repscope.training.preparation import Prepared

Views = tuple[Float[Tensor, "n c _ _"], ...]


def cut_of(prepared: Prepared) -> Cut | None:
    """Return what reads the crops of large pictures; None where they fit in memory."""
    if not is_cut_when_read(prepared.images, prepared.protocol, prepared.stored):
        return None

    def cut(images: ImageSet, rows: Int[np.ndarray, " m"], epoch: int) -> Crops:
        return read_crops(
            images,
            rows,
            prepared.protocol,
            channels=prepared.preprocess.channels,
            seed=prepared.recipe.training.seed,
            epoch=epoch,
            count=views_needed(prepared.objective.needs),
        )

    return cut


def viewed(
    stream: Generator[Batch], prepared: Prepared, device: torch.device
) -> Generator[tuple[Batch, Views]]:
    """Yield batches with their views.

    On several threads of a CPU the views of the next batch are made while a step is
    taken: much of both is too small to be shared by threads. They are the same.

    Args:
        stream: the batches; is closed with this.
        prepared: says how views are made.
        device: where they are made.
    """
    with contextlib.closing(stream):
        if device.type != "cpu" or torch.get_num_threads() == 1:
            for batch in stream:
                yield batch, views_of_batch(batch, prepared, device)
            return
        with ThreadPoolExecutor(1) as pool:

            def made() -> tuple[Batch, Views] | None:
                batch = next(stream, None)
                if batch is None:
                    return None
                return batch, views_of_batch(batch, prepared, device)

            coming = pool.submit(made)
            while (found := coming.result()) is not None:
                coming = pool.submit(made)
                yield found


def views_of_batch(batch: Batch, prepared: Prepared, device: torch.device) -> Views:
    """Return as many views of each image as the objective needs.

    Args:
        batch: the images.
        prepared: says how views are made, and from which seed.
        device: where they are made.
    """
    pixels = [torch.from_numpy(one).to(device) for one in batch.pixels]
    seed = prepared.recipe.training.seed
    if batch.is_cut:
        return views_of_crops(
            pixels,
            prepared.protocol,
            samples=batch.keys,
            seed=seed,
            epoch=batch.epoch,
        )
    return views(
        pixels[0],
        prepared.protocol,
        samples=batch.keys,
        seed=seed,
        epoch=batch.epoch,
        count=views_needed(prepared.objective.needs),
    )
