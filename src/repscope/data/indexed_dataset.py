"""Data sets of other libraries: anything with a length and items that hold pictures.

Items are pictures, (picture, label) pairs, as torchvision has them, or dictionaries,
as Hugging Face has them. Nothing of either library is imported.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import array_api_compat
import numpy as np
from jaxtyping import Int, UInt8

from repscope._arrays import host
from repscope._checking import InputError, RepscopeError
from repscope._images import decode, from_pillow, with_channels
from repscope.data.images import Images, as_pixels
from repscope.data.levels import Level, encode_level, parents_of

# Names of pictures and of labels among the entries of an item, the likeliest first.
PICTURE_KEYS = ("image", "img", "picture", "jpg", "png", "webp", "pixels")
LABEL_KEYS = ("label", "fine_label", "coarse_label", "labels", "target", "class")
# Rows that are looked at to learn what a data set holds, and that are fingerprinted.
PROBED_ROWS = 16


@dataclass(frozen=True, eq=False)
class DatasetImages(Images):
    """Pictures of another library's data set, read by its own code, in one thread.

    Args:
        dataset: has a length and items.
        name: what to call it.
        channels: 1 where the pictures are grey, else 3.
        shape: None: a data set does not say.
    """

    dataset: Any
    name: str
    channels: Literal[1, 3]
    shape: tuple[int, int, int] | None = None
    parallel: ClassVar[bool] = False

    @property
    def n(self) -> int:
        """How many pictures there are."""
        return len(self.dataset)

    def read(self, row: int) -> UInt8[np.ndarray, "h w c"]:
        """Return one picture.

        Raises:
            InputError: where the data set raises an error of reading, or the item holds
                no picture.
        """
        item = _item(self.dataset, row, self.name)
        return with_channels(_pixels_of(item, f"{self.name}, row {row}"), self.channels)

    def fingerprint(self, rows: Int[np.ndarray, " m"]) -> str:
        """Return a hash of the number of rows and the pixels of a few of them."""
        digest = hashlib.blake2b(str(len(rows)).encode(), digest_size=8)
        for row in _spread(rows):
            try:
                pixels = self.read(int(row))
            except InputError:
                continue
            digest.update(repr(pixels.shape).encode() + pixels.tobytes())
        return digest.hexdigest()


def as_dataset(
    dataset: Any, name: str, *, with_labels: bool = True
) -> tuple[DatasetImages, tuple[Level, ...], tuple[Level, ...]]:
    """Return a data set's pictures, its label levels and other classes as attributes.

    Labels are taken from `targets` (torchvision) or the columns that know their class
    names (Hugging Face) where they are there, else by reading every item.

    Args:
        dataset: has a length and items.
        name: what to call it.
        with_labels: whether to look for labels.

    Raises:
        InputError: where it is empty, holds no pictures, or labels are none.
    """
    n = len(dataset)
    if not n:
        raise InputError(f"{name}: there are no pictures")
    rows = _spread(np.arange(n))
    shapes = []
    for row in rows:
        item = _item(dataset, int(row), name)
        shapes.append(_pixels_of(item, f"{name}, row {row}").shape)
    is_grey = all(shape[2] == 1 for shape in shapes)
    images = DatasetImages(dataset, name, 1 if is_grey else 3)
    if not with_labels:
        return images, (), ()
    return images, *_in_order(_levels_of(dataset, name, n))


def _spread(rows: Int[np.ndarray, " m"]) -> Int[np.ndarray, " k"]:
    """Return up to PROBED_ROWS of the rows, evenly spread."""
    places = np.linspace(0, len(rows) - 1, min(len(rows), PROBED_ROWS))
    return rows[np.round(places).astype(np.int64)]


def _item(dataset: Any, row: int, name: str) -> Any:
    try:
        return dataset[row]
    except RepscopeError:
        raise
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise InputError(f"{name}, row {row}: {error}") from error


def _pixels_of(item: Any, name: str) -> UInt8[np.ndarray, "h w c"]:
    """Return the picture of an item as 8-bit."""
    if isinstance(item, Mapping):
        item = item[_picture_key(item, name)]
        if isinstance(item, Mapping):  # a picture that Hugging Face did not decode
            item = item.get("bytes")
    elif isinstance(item, tuple | list) and item:
        item = item[0]
    if isinstance(item, bytes):
        return decode(item, name)
    if hasattr(item, "getbands"):
        return from_pillow(item, name)
    if array_api_compat.is_array_api_obj(item) and item.ndim in (2, 3):
        return as_pixels(item[None], name)[0]
    raise InputError(
        f"{name}: no picture",
        found=f"an item of type {type(item).__name__}",
        expected="a Pillow image, an array or tensor, or a pair or dictionary with one",
    )


def _picture_key(item: Mapping[str, Any], name: str) -> str:
    for key in PICTURE_KEYS:
        if key in item:
            return key
    for key, value in item.items():
        if hasattr(value, "getbands"):
            return key
    raise InputError(
        f"{name}: no picture",
        found=f"entries {', '.join(map(repr, item))}",
        expected=f"one of {', '.join(map(repr, PICTURE_KEYS))}",
    )


def _levels_of(dataset: Any, name: str, n: int) -> list[Level]:
    names = _class_names(dataset)
    columns = [column for column in names if column is not None]
    if columns:
        return _known([_level(c, dataset[c], names[c], n) for c in columns])
    classes = names.get(None)
    targets = getattr(dataset, "targets", None)
    is_plain = getattr(dataset, "target_transform", None) is None
    if targets is not None and is_plain and len(targets) == n:
        return _known([_level("label", targets, classes, n)])
    return _known(
        [_level(k, v, classes, n) for k, v in _read_labels(dataset, name, n).items()]
    )


def _class_names(dataset: Any) -> dict[str | None, Sequence[str]]:
    """Return the class names of each column that has any; of the labels under None."""
    features = getattr(dataset, "features", None)
    if isinstance(features, Mapping):
        named = {key: getattr(one, "names", None) for key, one in features.items()}
        return {key: classes for key, classes in named.items() if classes}
    classes = getattr(dataset, "classes", None)
    return {None: classes} if isinstance(classes, Sequence) else {}


def _read_labels(dataset: Any, name: str, n: int) -> dict[str, list[Any]]:
    """Return label name -> values by reading every item; none where items have none."""
    first = _item(dataset, 0, name)
    if isinstance(first, Mapping):
        keys: list[Any] = [key for key in LABEL_KEYS if key in first]
        named = {key: key for key in keys}
    else:
        has_label = isinstance(first, tuple | list) and len(first) > 1
        named = {"label": 1} if has_label else {}
    values: dict[str, list[Any]] = {key: [] for key in named}
    for row in range(n if named else 0):
        item = _item(dataset, row, name)
        for key, place in named.items():
            values[key].append(_scalar(item[place], f"{name}, row {row}: {key}"))
    return values


def _scalar(value: Any, name: str) -> Any:
    if hasattr(value, "shape"):
        value = host(value)
        if value.size == 1:
            return value.item()
    elif isinstance(value, int | float | str | None):
        return value
    raise InputError(
        f"{name}: a label of another form",
        found=str(type(value).__name__) + str(getattr(value, "shape", "")),
        expected="one number or word",
        fix="pass labels, a dictionary of level name -> array",
    )


def _level(name: str, values: Any, classes: Sequence[str] | None, n: int) -> Level:
    array = host(values) if hasattr(values, "shape") else np.asarray(list(values))
    if classes is None or array.dtype.kind not in "iu" or array.max() >= len(classes):
        return encode_level(name, array, n)
    codes = array.astype(np.int64)
    if (codes < 0).all():
        return Level(name, codes, ())  # unlabelled
    if (codes < 0).any():
        what = f"labels {name!r}: row {int(np.argmin(codes))} has no label"
        raise InputError(what, fix="drop those rows first, or pass labels")
    words = [str(one) for one in classes]
    # Two classes of one name (ImageNet has two cranes) stay two.
    words = [f"{w} ({k})" if words.count(w) > 1 else w for k, w in enumerate(words)]
    return Level(name, codes, tuple(words))


def _known(levels: list[Level]) -> list[Level]:
    return [level for level in levels if level.classes]


def _in_order(levels: list[Level]) -> tuple[tuple[Level, ...], tuple[Level, ...]]:
    """Return levels fine to coarse, and those that are not nested as attributes."""
    nested: list[Level] = []
    others: list[Level] = []
    for level in sorted(levels, key=lambda one: -one.n_classes):
        try:
            if nested:
                parents_of(nested[-1], level)
        except InputError:
            others.append(level)
        else:
            nested.append(level)
    return tuple(nested), tuple(others)
