"""Pictures with what is known about them: ids, label levels, attributes.

An image set is read by row numbers. Pictures that cannot be read are replaced by
others, chosen by a hash, so that neither batches nor threads can change the choice;
each is listed, and too many stop the run.
"""

import contextlib
import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import array_api_compat
import numpy as np
from jaxtyping import Int, Shaped, UInt8, UInt64

from repscope._arrays import fingerprint, hash_ids
from repscope._checking import (
    InputError,
    UsageError,
    check_choice,
    check_length,
    did_you_mean,
)
from repscope._images import Preprocess
from repscope._randomness import Purpose, sample_keys, uniform
from repscope.data.images import ArrayImages, Images, as_pixels
from repscope.data.indexed_dataset import PROBED_ROWS, as_dataset
from repscope.data.levels import (
    Level,
    encode_attribute,
    encode_level,
)
from repscope.data.reading import (
    ALLOWED_FAILURES,
    Failure,
    Pixels,
    Reader,
    check_failures,
    is_fit,
)
from repscope.data.rows import (
    check_ids,
    check_levels,
    checked_rows,
    class_of_each,
    encode_ids,
    encode_levels,
    used_classes,
)

# An image set of up to this many bytes is kept in memory.
LIMIT_BYTES = 2 * 2**30


@dataclass(frozen=True, eq=False, repr=False)
class ImageSet:
    """Pictures with their ids, labels and attributes.

    Args:
        images: where the pixels come from.
        name: what to call the set.
        ids: (n,) integers or strings, each its own.
        levels: label levels, fine to coarse, each nested in the next.
        attributes: factors that may compete with the labels.
        rows: (n,) the row of each picture in `images`.
        planes: (n, b) zeros and ones: constant channels that are appended after
            augmentation; None for none.
        failures: pictures that were replaced when the set was put into memory; their
            rows are those of the set that was read.
    """

    images: Images
    name: str
    ids: Shaped[np.ndarray, " n"]
    levels: tuple[Level, ...]
    attributes: tuple[Level, ...]
    rows: Int[np.ndarray, " n"]
    planes: UInt8[np.ndarray, "n b"] | None = None
    failures: tuple[Failure, ...] = ()

    def __post_init__(self) -> None:
        _check(self)

    def __repr__(self) -> str:
        known = [f"{one.name} ({one.n_classes})" for one in self.levels]
        known += [f"attribute {one.name}" for one in self.attributes]
        return f"ImageSet({self.name!r}, {self.n:,} pictures: {', '.join(known)})"

    @classmethod
    def of(
        cls,
        images: Any,
        *,
        labels: Any = None,
        attributes: Mapping[str, Any] | None = None,
        ids: Any = None,
        name: str = "images",
    ) -> "ImageSet":
        """Return a checked image set.

        Args:
            images: an array or tensor (n, h, w), (n, h, w, c) or (n, c, h, w) of 8-bit
                pixels or floats in [0, 1]; `Images`; or anything with a length whose
                items are pictures, (picture, label) pairs or dictionaries, such as the
                datasets of torchvision and Hugging Face.
            labels: one array, or a dictionary of level name -> array (or `Level`), fine
                to coarse; a dataset's own by default.
            attributes: dictionary of factor -> array (or `Level`).
            ids: (n,) unique integers or strings; row numbers by default.
            name: what to call the set.

        Raises:
            InputError: where pictures are of no known form, lengths differ, labels are
                not nested, or ids repeat.
            UsageError: where a level and an attribute share a name.
        """
        source, known, more = _as_images(images, name, has_labels=labels is not None)
        n = source.n
        levels = known if labels is None else encode_levels(labels, n, encode_level)
        return cls(
            images=source,
            name=name,
            ids=encode_ids(ids, n),
            levels=levels,
            attributes=more + encode_levels(attributes or {}, n, encode_attribute),
            rows=np.arange(n),
        )

    @property
    def n(self) -> int:
        """Number of pictures."""
        return len(self.ids)

    @cached_property
    def channels(self) -> int:
        """Channels of the pictures, 1 or 3, without planes."""
        shape = self._first_shape
        return 3 if shape is None else shape[2]

    @cached_property
    def _first_shape(self) -> tuple[int, int, int] | None:
        """The shape of all pictures, or else of the first; None where none is read."""
        if self.images.shape is not None:
            return self.images.shape
        for row in self.rows[:PROBED_ROWS].tolist():
            with contextlib.suppress(InputError):
                height, width, channels = self.images.read(row).shape
                return height, width, channels
        return None

    @property
    def n_planes(self) -> int:
        """Constant channels that are appended to the picture's."""
        return 0 if self.planes is None else self.planes.shape[1]

    @property
    def labels(self) -> dict[str, Shaped[np.ndarray, " n"]]:
        """Level name -> (n,) class of each picture: whole numbers, or else words."""
        return {level.name: class_of_each(level) for level in self.levels}

    @cached_property
    def keys(self) -> UInt64[np.ndarray, " n"]:
        """A hash of each id: what randomness is drawn for."""
        return hash_ids(self.ids)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of pictures, ids, labels, attributes and planes."""
        parts = [self.images.fingerprint(self.rows), fingerprint(self.ids)]
        for level in self.levels + self.attributes:
            parts += [level.name, fingerprint(class_of_each(level))]
        parts += [] if self.planes is None else [fingerprint(self.planes)]
        return fingerprint(parts)

    def level(self, name: str | None = None) -> Level:
        """Return a label level or an attribute by name; the finest level by default.

        Raises:
            UsageError: where there is none of that name, or no level at all.
        """
        if name is None and not self.levels:
            what = f"{self.name}: there are no labels"
            raise UsageError(what, fix="give labels, or name an attribute")
        named = {one.name: one for one in self.levels + self.attributes}
        chosen = self.levels[0].name if name is None else name
        check_choice("level", chosen, named)
        return named[chosen]

    def with_levels(self, names: Sequence[str]) -> "ImageSet":
        """Return the set with these label levels alone, fine to coarse.

        Args:
            names: of levels or attributes; other levels are left out.

        Raises:
            UsageError: for an unknown name.
            InputError: where they are not nested in that order.
        """
        levels = tuple(self.level(name) for name in names)
        others = tuple(one for one in self.attributes if one.name not in names)
        return dataclasses.replace(self, levels=levels, attributes=others)

    def subset(self, rows: Shaped[np.ndarray, " m"] | Sequence[int]) -> "ImageSet":
        """Return some pictures, in the order given; classes keep their codes.

        Args:
            rows: (m,) row numbers from 0 to n - 1, or (n,) booleans.

        Raises:
            InputError: for no rows, or a row that is not there or comes twice.
        """
        chosen = checked_rows(rows, self.n, self.name)
        ids = self.ids[chosen]
        kept = {str(one) for one in ids.tolist()} if self.failures else set()
        return dataclasses.replace(
            self,
            ids=ids,
            levels=tuple(level.take(chosen) for level in self.levels),
            attributes=tuple(level.take(chosen) for level in self.attributes),
            rows=self.rows[chosen],
            planes=None if self.planes is None else self.planes[chosen],
            failures=tuple(one for one in self.failures if one.id in kept),
        )

    def balanced(
        self, n: int, *, level: str | None = None, seed: int = 0
    ) -> "ImageSet":
        """Return about n pictures, as many of each class, in the order of the set.

        Each class gives n / c, rounded down but at least 1, or all it has. A picture's
        chance depends on its id alone, not on its place. Without labels, any n.

        Args:
            n: how many in all, at least 1.
            level: a level or attribute; the finest level by default.
            seed: another seed gives other pictures.

        Raises:
            UsageError: for n below 1 or an unknown level.
        """
        if n < 1:
            raise UsageError("n: pictures to keep", found=str(n), expected="at least 1")
        if level is None and not self.levels:
            codes = np.zeros(self.n, dtype=np.int64)
        else:
            codes = self.level(level).codes
        share = max(1, n // len(np.unique(codes)))
        draws = uniform(sample_keys(Purpose.SUBSET, seed, self.keys), 0)
        order = np.lexsort((draws, codes))
        starts = np.searchsorted(codes[order], codes[order], side="left")
        within = np.arange(self.n) - starts  # the place of each among its class
        return self.subset(np.sort(order[within < share]))

    def of_classes(
        self, classes: Iterable[str], *, level: str | None = None
    ) -> "ImageSet":
        """Return the pictures of some classes; the others leave no codes behind.

        Args:
            classes: names of classes.
            level: a level or attribute; the finest level by default.

        Raises:
            UsageError: for an unknown class or level.
        """
        chosen = self.level(level)
        names = [str(name) for name in classes]
        unknown = [name for name in names if name not in chosen.classes]
        if unknown or not names:
            what = f"{chosen.name!r} has no class {unknown[0]!r}" if unknown else ""
            raise UsageError(
                what or "classes: none given",
                fix=did_you_mean(unknown[0] if unknown else "", chosen.classes),
            )
        codes = [chosen.classes.index(name) for name in names]
        kept = self.subset(np.isin(chosen.codes, codes))
        return dataclasses.replace(
            kept,
            levels=tuple(used_classes(one) for one in kept.levels),
            attributes=tuple(used_classes(one) for one in kept.attributes),
        )

    def pixels(
        self, rows: Int[np.ndarray, " m"], preprocess: Preprocess | None = None
    ) -> Pixels:
        """Return pictures as one array; those that cannot be read are replaced.

        Args:
            rows: (m,) row numbers from 0 to n - 1.
            preprocess: resize and centre crop; None where all are of one size.

        Raises:
            InputError: for a row that is not there, where pictures differ in size and
                there is no preprocess, or where hardly any can be read.
        """
        chosen = checked_rows(rows, self.n, self.name)
        reader = Reader(self.images, self.name, self.rows, self.ids, self.keys)
        return reader.pixels(chosen, preprocess)

    def in_memory(
        self,
        preprocess: Preprocess | None = None,
        *,
        limit_bytes: int = LIMIT_BYTES,
        allowed_failures: float = ALLOWED_FAILURES,
    ) -> "ImageSet":
        """Return the set with its pixels in memory, or itself where they do not fit.

        A picture that cannot be read takes another one's pixels, labels and planes, and
        keeps its id; `failures` lists it. Take `fingerprint` before: it tells what was
        given, not how it was decoded.

        Args:
            preprocess: resize and centre crop; None keeps pictures of one size.
            limit_bytes: of pixels.
            allowed_failures: share of pictures that may be unreadable.

        Raises:
            InputError: where more pictures are unreadable than allowed, or they differ
                in size and there is no preprocess.
        """
        if not _fits(self, preprocess, limit_bytes) or _is_done(self, preprocess):
            return self
        pixels = self.pixels(np.arange(self.n), preprocess)
        check_failures(self.name, pixels.failures, self.n, allowed=allowed_failures)
        source = np.arange(self.n)
        for one in pixels.failures:
            if one.replaced_by is not None:
                source[one.row] = one.replaced_by
        return dataclasses.replace(
            self,
            images=ArrayImages(pixels.array, self.images.name),
            levels=tuple(level.take(source) for level in self.levels),
            attributes=tuple(level.take(source) for level in self.attributes),
            rows=np.arange(self.n),
            planes=None if self.planes is None else self.planes[source],
            failures=self.failures + pixels.failures,
        )


def _fits(images: ImageSet, preprocess: Preprocess | None, limit_bytes: int) -> bool:
    """Return whether all pictures fit into memory, if all are as large as the first."""
    shape = images._first_shape
    if preprocess is not None:
        shape = (preprocess.size, preprocess.size, preprocess.channels)
    return shape is not None and images.n * math.prod(shape) <= limit_bytes


def _is_done(images: ImageSet, preprocess: Preprocess | None) -> bool:
    """Return whether pixels are in memory already, as they are to be."""
    in_memory = isinstance(images.images, ArrayImages)
    is_same = preprocess is None or preprocess.channels == images.channels
    return in_memory and is_same and is_fit(images.images, preprocess)


def _as_images(
    images: Any, name: str, *, has_labels: bool
) -> tuple[Images, tuple[Level, ...], tuple[Level, ...]]:
    """Return where pixels come from, with the levels and attributes that come along."""
    if isinstance(images, Images):
        return images, (), ()
    if array_api_compat.is_array_api_obj(images):
        return ArrayImages(as_pixels(images, name), name), (), ()
    if isinstance(images, Mapping):
        parts = ", ".join(repr(key) for key in images)
        fix = "pass one of its parts"
        raise InputError(f"{name}: a dictionary", found=parts, fix=fix)
    has_items = hasattr(images, "__getitem__") and hasattr(images, "__len__")
    if isinstance(images, str | bytes | ImageSet) or not has_items:
        raise InputError(
            f"{name}: no pictures",
            found=f"an object of type {type(images).__name__}",
            expected="an array, Images, or a data set with a length and items",
            fix="pass the data set itself, not its loader; open_images opens paths",
        )
    return as_dataset(images, name, with_labels=not has_labels)


def _check(images: ImageSet) -> None:
    """Raise an error where the parts of a set do not belong together.

    Raises:
        InputError: for lengths, rows, ids or levels that do not fit.
        UsageError: where a name is given to two levels or attributes.
    """
    n, name = len(images.ids), images.name
    if not n:
        raise InputError(f"{name}: there are no pictures")
    check_length("rows", len(images.rows), n, of="images")
    checked_rows(images.rows, images.images.n, name)
    check_ids(images.ids, name)
    check_levels(images.levels, images.attributes, n, name)
    if images.planes is not None:
        check_length("planes", len(images.planes), n, of="images")
