"""How does a batch whose rows lie on several ranks become one batch again?"""

from dataclasses import replace

from jaxtyping import Shaped
from torch import Tensor

from repscope._distributed import n_ranks
from repscope._gathering import gathered_rows
from repscope.objectives.batch import ViewBatch

Views = tuple[Shaped[Tensor, "..."], ...]


def gathered(batch: ViewBatch) -> ViewBatch:
    """Return the batch with the rows of all ranks, in the order of the ranks.

    An objective of it gives the same loss on every rank, and gradients of weights whose
    mean over ranks is the gradient of one process with the whole batch. Memory, step,
    epoch and seed are equal on all ranks anyway. On one rank the batch comes back.

    Args:
        batch: the rows of this rank; ranks may differ in how many they have. Its h is
            left out: no objective works with it.
    """
    if n_ranks() == 1:
        return batch
    return replace(
        batch,
        h=(),
        z=_views(batch.z),
        predictions=_views(batch.predictions),
        targets=_views(batch.targets),
        ids=None if batch.ids is None else gathered_rows(batch.ids),
        labels=None if batch.labels is None else gathered_rows(batch.labels),
    )


def _views(views: Views) -> Views:
    return tuple(gathered_rows(view) for view in views)
