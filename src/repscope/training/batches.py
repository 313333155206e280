"""Which images come in which step? Pixels by step number, read ahead where that helps.

The order is a function of seed and epoch, a batch one of its step number: where a run
begins, and how many threads read ahead, changes nothing in any batch.
"""

import contextlib
import functools
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, UInt8, UInt64

from repscope._checking import InputError
from repscope._images import Preprocess
from repscope._randomness import permutation
from repscope.data.imageset import ImageSet
from repscope.data.large_images import Crops
from repscope.data.reading import Failure


@dataclass(frozen=True)
class Plan:
    """How a run goes through its images.

    Each epoch takes whole batches only: what is left over differs from epoch to epoch.

    Args:
        n: images.
        batch_size: images in a step.
        epochs: passes over the images.
        seed: of the order.

    Raises:
        InputError: where there are fewer images than a batch needs.
    """

    n: int
    batch_size: int
    epochs: int
    seed: int

    def __post_init__(self) -> None:
        if self.n < self.batch_size:
            raise InputError(
                f"{self.n:,} images do not fill one batch",
                found=f"training.batch_size = {self.batch_size}",
                expected=f"at most {self.n:,}",
                fix=f"training.batch_size={self.n}"
                if self.n > 1
                else "give more images",
            )

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch."""
        return self.n // self.batch_size

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.epochs * self.steps_per_epoch

    @property
    def left_out(self) -> int:
        """Images that an epoch leaves out."""
        return self.n % self.batch_size

    def epoch_of(self, step: int) -> int:
        """Return the epoch of a step, both counted from 0."""
        return step // self.steps_per_epoch

    def rows_of(self, step: int) -> Int[np.ndarray, " b"]:
        """Return the rows of a step's images."""
        epoch, place = divmod(step, self.steps_per_epoch)
        start = place * self.batch_size
        order = _order(self.seed, epoch, self.n)
        return order[start : start + self.batch_size]


# Reads the crops of each view of the pictures in some rows, in an epoch.
Cut = Callable[[ImageSet, Int[np.ndarray, " m"], int], Crops]


@dataclass(frozen=True)
class Share:
    """Which part of each batch a process takes: its rows in their order, in one piece.

    Where a batch cannot be shared evenly, the first ranks take one image more.

    Args:
        rank: of the process, from 0.
        n_ranks: how many processes there are.
    """

    rank: int = 0
    n_ranks: int = 1

    def of(self, rows: Int[np.ndarray, " n"]) -> Int[np.ndarray, " b"]:
        """Return the rows of this process."""
        return np.array_split(rows, self.n_ranks)[self.rank]


@dataclass(frozen=True, eq=False)
class Batch:
    """The images of one step that a process takes.

    Args:
        step: counted from 0.
        epoch: counted from 0.
        rows: of the images in their set.
        keys: what their augmentation is drawn for.
        pixels: of the images, one array; or one for each view, where crops are cut from
            large pictures as they are read.
        is_cut: whether these are crops.
        planes: their constant channels; None for none.
        labels: their classes; None where there are none.
        failures: images for which another stands in.
    """

    step: int
    epoch: int
    rows: Int[np.ndarray, " n"]
    keys: UInt64[np.ndarray, " n"]
    pixels: tuple[UInt8[np.ndarray, "n _ _ c"], ...]
    is_cut: bool
    planes: UInt8[np.ndarray, "n b"] | None
    labels: Int[np.ndarray, " n"] | None
    failures: tuple[Failure, ...]


def batches(
    images: ImageSet,
    preprocess: Preprocess,
    plan: Plan,
    *,
    labels: Int[np.ndarray, " all"] | None = None,
    cut: Cut | None = None,
    first_step: int = 0,
    workers: int = 0,
    share: Share = Share(),
) -> Generator[Batch]:
    """Yield the batches of the steps from `first_step` to the last.

    Args:
        images: in memory or read as they come.
        preprocess: their size and channels.
        plan: how they are gone through.
        labels: the class of each image; None for none.
        cut: reads the crops of large pictures; None reads whole pictures.
        first_step: steps done before.
        workers: batches that are read at once, ahead of their turn; 0 reads each when
            it is asked for. The batches are the same.
        share: which part of each batch is read.
    """
    read = _Reading(images, preprocess, plan, labels, cut, share).batch
    steps = range(first_step, plan.total_steps)
    if workers < 1:
        yield from map(read, steps)
        return
    pending: deque[Future[Batch]] = deque()
    with ThreadPoolExecutor(workers) as pool, contextlib.ExitStack() as stack:
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)
        for step in steps:
            pending.append(pool.submit(read, step))
            if len(pending) > workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


@dataclass(frozen=True, eq=False)
class _Reading:
    """Where the batches of a run come from."""

    images: ImageSet
    preprocess: Preprocess
    plan: Plan
    labels: Int[np.ndarray, " all"] | None
    cut: Cut | None
    share: Share

    def batch(self, step: int) -> Batch:
        """Return the batch of a step."""
        images, epoch = self.images, self.plan.epoch_of(step)
        rows = self.share.of(self.plan.rows_of(step))
        pixels: tuple[UInt8[np.ndarray, "n _ _ c"], ...]
        if self.cut is None:
            found = images.pixels(rows, self.preprocess)
            pixels, failures = (found.array,), found.failures
        else:
            crops = self.cut(images, rows, epoch)
            pixels, failures = crops.views, crops.failures
        shown = rows.copy()
        if failures:
            stand_in = {one.row: one.replaced_by for one in failures}
            shown = np.array([stand_in.get(row, row) for row in rows.tolist()])
        return Batch(
            step=step,
            epoch=epoch,
            rows=rows,
            keys=images.keys[rows],
            pixels=pixels,
            is_cut=self.cut is not None,
            planes=None if images.planes is None else images.planes[shown],
            labels=None if self.labels is None else self.labels[shown],
            failures=failures,
        )


# Threads ahead of their turn may be in the next epoch already.
@functools.lru_cache(maxsize=4)
def _order(seed: int, epoch: int, n: int) -> Int[np.ndarray, " n"]:
    order = permutation(seed, epoch, n)
    order.setflags(write=False)
    return order
