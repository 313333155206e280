"""How do large pictures become crops without loss of detail, within memory?

A crop of a small part of a picture should be cut from the picture as it is, not from
what is left of it at the size of a view. Sets that fit are kept in memory a little
larger than views are; of others, the threads that decode a picture cut out its crops.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int, UInt8, UInt64

from repscope._checking import UsageError
from repscope._images import Preprocess, with_channels
from repscope._randomness import Purpose, sample_keys
from repscope.data.draws import draw_boxes
from repscope.data.imageset import ImageSet
from repscope.data.operations import RandomResizedCrop
from repscope.data.protocols import Protocol
from repscope.data.reading import Failure, Reader, is_fit
from repscope.data.rows import checked_rows

# Pictures are kept 256 pixels wide for views of 224, as they usually are.
STORED_SHARE = 8 / 7
# Views up to this side are of small images, which are kept as they are.
SMALL_SIDE = 64


@dataclass(frozen=True, eq=False)
class Crops:
    """Crops of pictures, resized, one array per view.

    Args:
        views: of each view one crop per picture.
        failures: pictures that could not be read, in the order of the rows asked for.
        good: (m,) False where another picture stands in.
    """

    views: tuple[UInt8[np.ndarray, "m _ _ c"], ...]
    failures: tuple[Failure, ...]
    good: Bool[np.ndarray, " m"]


def stored_side(made: Protocol, size: int, short_side: int) -> int:
    """Return the side at which pictures are kept before crops are cut from them.

    8/7 of the views' side, 256 for 224, but no more than the pictures have; the views'
    own where they are small (64 or less), or are not cut by a crop that resizes.

    Args:
        made: the protocol of the views.
        size: side of the views in pixels.
        short_side: of the pictures, the least of a few of them, in pixels.
    """
    if size <= SMALL_SIDE or not made.resizes:
        return size
    return max(size, min(round(size * STORED_SHARE), short_side))


def is_cut_when_read(images: ImageSet, made: Protocol, stored: Preprocess) -> bool:
    """Return whether crops are to be cut from pictures as they are read.

    So it is where pictures do not lie ready at the side at which they were to be kept.

    Args:
        images: after `in_memory(stored)`.
        made: the protocol of the views.
        stored: side and channels at which pictures were to be kept.
    """
    return made.resizes and not is_fit(images.images, stored)


def read_crops(
    images: ImageSet,
    rows: Int[np.ndarray, " m"],
    protocol: Protocol,
    *,
    channels: int,
    seed: int,
    epoch: int,
    count: int | None = None,
) -> Crops:
    """Return the crops of a protocol's views, cut from pictures in their own size.

    Pictures are decoded, and their crops resized, in threads; a picture is in memory
    only while its crops are cut. A crop depends on the picture, the protocol, seed,
    epoch, the picture's id and the view's number alone. `views_of_crops` does the rest.

    Args:
        images: to read from.
        rows: of the pictures.
        protocol: whose views begin with `RandomResizedCrop`.
        channels: 1 or 3.
        seed: of the run.
        epoch: counted from 0.
        count: how many views, the first of the protocol; all by default.

    Raises:
        InputError: for a row that is not there, or where hardly any can be read.
        UsageError: where a view begins otherwise, or there are not as many.

    Source: torchvision.transforms.RandomResizedCrop, on Pillow's images.
    As in the source.
    """
    operations = [
        view[0]
        for view in protocol.first(count)
        if view and isinstance(view[0], RandomResizedCrop)
    ]
    if not protocol.resizes:
        raise UsageError(
            f"protocol: not every view of {protocol.name} begins with a crop that "
            "resizes",
            fix="resize the pictures first, and use views()",
        )
    chosen = checked_rows(rows, images.n, images.name)
    keys = np.stack(
        [
            sample_keys(
                Purpose.AUGMENTATION, seed, images.keys[chosen], epoch=epoch, view=view
            )
            for view in range(len(operations))
        ],
        axis=1,
    )

    def cut(place: int, pixels: UInt8[np.ndarray, "h w c"]) -> tuple[np.ndarray, ...]:
        return _cut(with_channels(pixels, channels), operations, keys[place])

    reader = Reader(images.images, images.name, images.rows, images.ids, images.keys)
    made = reader.made(chosen, cut)
    return Crops(made.arrays, made.failures, made.good)


def _cut(
    pixels: UInt8[np.ndarray, "h w c"],
    operations: list[RandomResizedCrop],
    keys: UInt64[np.ndarray, " views"],
) -> tuple[UInt8[np.ndarray, "_ _ c"], ...]:
    """Return the crop of each view of one picture."""
    height, width = pixels.shape[:2]
    found: dict[int, UInt8[np.ndarray, "_ _ c"]] = {}
    for operation in dict.fromkeys(operations):
        alike = [view for view, one in enumerate(operations) if one == operation]
        boxes = draw_boxes(keys[alike], operation, height, width)
        for i, view in enumerate(alike):
            top, left = int(boxes.top[i]), int(boxes.left[i])
            bottom, right = top + int(boxes.height[i]), left + int(boxes.width[i])
            found[view] = _resized(pixels[top:bottom, left:right], operation)
    return tuple(found[view] for view in range(len(operations)))


def _resized(
    box: UInt8[np.ndarray, "h w c"], operation: RandomResizedCrop
) -> UInt8[np.ndarray, "size size c"]:
    from PIL import Image

    channels, size = box.shape[2], operation.size
    picture = Image.fromarray(
        np.ascontiguousarray(box[..., 0] if channels == 1 else box)
    )
    method = Image.Resampling[operation.interpolation.upper()]
    resized = np.asarray(picture.resize((size, size), method))
    return resized.reshape(size, size, channels)
