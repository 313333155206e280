"""Images on their way to an encoder: read in order, ahead of the computation.

An image that cannot be read has no row in its batch. Nothing takes its place.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Int, Shaped, UInt8
from torch import Tensor

from repscope._checking import InputError, UsageError
from repscope._environment import usable_cores
from repscope._images import Preprocess, fit, with_channels
from repscope.data.imageset import ImageSet
from repscope.data.reading import Failure

THUMBNAIL_SIDE = 48

Prepare = Callable[[Any], Tensor]
Request = TypeVar("Request")
Answer = TypeVar("Answer")


@dataclass(frozen=True, eq=False)
class ImageBatch:
    """Some readable images of one shard.

    Args:
        shard: which shard they belong to.
        rows: their rows in the image set, ascending.
        inputs: pixels uint8 (m h w c), or floats (m c h w) where a function prepared
            them.
        thumbnails: small pictures; None where none are kept.
        failures: images between them that could not be read.
    """

    shard: int
    rows: Int[np.ndarray, " m"]
    inputs: Shaped[Tensor, "m _ _ _"]
    thumbnails: UInt8[np.ndarray, "m h w 3"] | None
    failures: tuple[Failure, ...]


@dataclass(frozen=True, eq=False)
class ImageReader:
    """Reads rows of an image set as an encoder wants them.

    Args:
        images: the image set.
        preprocess: sizes, or a function of a picture that returns a tensor (c h w).
        with_thumbnails: whether small pictures are kept.
        takes_arrays: whether the function takes a uint8 array (h w c) instead of a
            Pillow image.
        substituted: rows whose pixels are another image's; they count as unreadable.
    """

    images: ImageSet
    preprocess: Preprocess | Prepare
    with_thumbnails: bool = True
    takes_arrays: bool = False
    substituted: tuple[Failure, ...] = ()

    @property
    def thumbnail(self) -> tuple[int, int] | None:
        """Height and width of the thumbnails, the same for all; None for none."""
        if not self.with_thumbnails:
            return None
        if isinstance(self.preprocess, Preprocess):
            side = min(THUMBNAIL_SIDE, self.preprocess.size)
            return side, side
        shape = self.images.images.shape
        if shape is not None and max(shape[:2]) <= THUMBNAIL_SIDE:
            return shape[0], shape[1]
        return THUMBNAIL_SIDE, THUMBNAIL_SIDE

    def read(self, shard: int, rows: Int[np.ndarray, " b"]) -> ImageBatch:
        """Return the readable ones of some rows.

        Raises:
            UsageError: where the function returns no tensors (c h w) of one shape.
        """
        known = {failure.row: failure for failure in self.substituted}
        failures = [known[row] for row in rows.tolist() if row in known]
        rows = np.array([row for row in rows.tolist() if row not in known], np.int64)
        if isinstance(self.preprocess, Preprocess):
            return self._read_pixels(shard, rows, self.preprocess, failures)
        return self._read_prepared(shard, rows, self.preprocess, failures)

    def _read_pixels(
        self,
        shard: int,
        rows: Int[np.ndarray, " b"],
        preprocess: Preprocess,
        failures: Sequence[Failure],
    ) -> ImageBatch:
        size, channels = preprocess.size, preprocess.channels
        array = np.empty((0, size, size, channels), np.uint8)
        if len(rows):
            found = self.images.pixels(rows, preprocess)
            failures = [*failures, *found.failures]
            is_all = bool(found.good.all())
            array = found.array if is_all else found.array[found.good]
            rows = rows if is_all else rows[found.good]
        return ImageBatch(
            shard=shard,
            rows=rows,
            inputs=torch.from_numpy(np.ascontiguousarray(array)),
            thumbnails=self._thumbnails(list(array)),
            failures=tuple(sorted(failures, key=lambda failure: failure.row)),
        )

    def _read_prepared(
        self,
        shard: int,
        rows: Int[np.ndarray, " b"],
        prepare: Prepare,
        failures: Sequence[Failure],
    ) -> ImageBatch:
        with ThreadPoolExecutor(usable_cores()) as threads:
            read = list(threads.map(self._read_one, rows.tolist()))
            pictures = [one for one in read if not isinstance(one, Failure)]
            tensors = list(
                threads.map(lambda one: self._prepared(one, prepare), pictures)
            )
        failures = [*failures, *(one for one in read if isinstance(one, Failure))]
        shapes = sorted({tuple(tensor.shape) for tensor in tensors})
        if len(shapes) > 1:
            raise UsageError(
                "preprocess: images of several shapes in one batch",
                found=f"{shapes[0]} and {shapes[1]}",
                expected="one shape (c, h, w) for all images",
                fix="resize and crop in preprocess, or pass a Preprocess record",
            )
        good = [not isinstance(one, Failure) for one in read]
        return ImageBatch(
            shard=shard,
            rows=rows[np.array(good, dtype=bool)],
            inputs=torch.stack(tensors) if tensors else torch.empty(0, 0, 0, 0),
            thumbnails=self._thumbnails(pictures),
            failures=tuple(sorted(failures, key=lambda failure: failure.row)),
        )

    def _thumbnails(
        self, pictures: Sequence[np.ndarray]
    ) -> UInt8[np.ndarray, "m h w 3"] | None:
        return None if self.thumbnail is None else _small(pictures, self.thumbnail)

    def _read_one(self, row: int) -> UInt8[np.ndarray, "h w c"] | Failure:
        try:
            return self.images.images.read(int(self.images.rows[row]))
        except InputError as error:
            return Failure(row, str(self.images.ids[row]), error.what, None)

    def _prepared(self, pixels: UInt8[np.ndarray, "h w c"], prepare: Prepare) -> Tensor:
        tensor = prepare(pixels if self.takes_arrays else _as_picture(pixels))
        if isinstance(tensor, Tensor) and tensor.ndim == 4 and len(tensor) == 1:
            tensor = tensor[0]
        is_fit = isinstance(tensor, Tensor) and tensor.ndim == 3
        if not is_fit or not tensor.is_floating_point():
            shape = tuple(getattr(tensor, "shape", ()))
            raise UsageError(
                "preprocess: returns no image as a tensor",
                found=f"{type(tensor).__name__} {shape}",
                expected="a floating-point tensor (c, h, w)",
            )
        return tensor


def first_pixels(images: ImageSet) -> UInt8[np.ndarray, "h w c"]:
    """Return the first picture that can be read.

    Raises:
        InputError: where none can.
    """
    for row in images.rows.tolist():
        with contextlib.suppress(InputError):
            return images.images.read(row)
    raise InputError(f"{images.name}: no image can be read")


def takes_arrays(prepare: Prepare, pixels: UInt8[np.ndarray, "h w c"]) -> bool:
    """Return whether a function wants arrays; tried on one picture, Pillow first.

    Raises:
        UsageError: where it takes neither.
    """
    try:
        prepare(_as_picture(pixels))
    except (TypeError, AttributeError, ValueError, RuntimeError) as first:
        try:
            prepare(pixels)
        except (TypeError, AttributeError, ValueError, RuntimeError) as error:
            raise UsageError(
                "preprocess: takes neither a Pillow image nor an array",
                found=f"{first} / {error}",
                expected="a function of a Pillow image or a uint8 array (h, w, c) that "
                "returns a tensor (c, h, w)",
            ) from error
        return True
    return False


def ahead(
    read: Callable[[Request], Answer], requests: Iterable[Request]
) -> Iterator[Answer]:
    """Yield the answer to each request, in order, with the next one on its way.

    Args:
        read: called in one thread beside the caller's, one request after another.
        requests: what to read.
    """
    with ThreadPoolExecutor(1) as reader:
        waiting: deque[Future[Answer]] = deque()
        for request in requests:
            waiting.append(reader.submit(read, request))
            if len(waiting) > 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _as_picture(pixels: UInt8[np.ndarray, "h w c"]) -> Any:
    from PIL import Image

    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def _small(
    pictures: Sequence[np.ndarray], shape: tuple[int, int]
) -> UInt8[np.ndarray, "m h w 3"]:
    """Return pictures as thumbnails; of another shape they are fitted to a square."""
    small = np.empty((len(pictures), *shape, 3), np.uint8)
    for place, picture in enumerate(pictures):
        is_small = picture.shape[:2] == shape
        fitted = picture if is_small else fit(picture, Preprocess(shape[0]))
        small[place] = with_channels(fitted, 3)
    return small
