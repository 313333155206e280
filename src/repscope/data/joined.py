"""Several sets of images as one, such as the shards of a large table."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, UInt8

from repscope._arrays import fingerprint
from repscope._checking import InputError
from repscope.data.images import Images
from repscope.data.imageset import ImageSet
from repscope.data.levels import Level, encode_level
from repscope.data.rows import class_of_each


@dataclass(frozen=True, eq=False)
class JoinedImages(Images):
    """Pictures of several sources, one after another.

    Args:
        name: what to call them together.
        parts: the sources.
        starts: the first row of each, and the number of all.
        shape: of every picture, where all sources share it.
    """

    name: str
    parts: tuple[Images, ...]
    starts: Int[np.ndarray, " p"]
    shape: tuple[int, int, int] | None

    @property
    def n(self) -> int:
        """How many pictures there are."""
        return int(self.starts[-1])

    def read(self, row: int) -> UInt8[np.ndarray, "h w c"]:
        """Return one picture.

        Raises:
            InputError: where it cannot be read.
        """
        part = int(np.searchsorted(self.starts, row, side="right")) - 1
        return self.parts[part].read(row - int(self.starts[part]))

    def fingerprint(self, rows: Int[np.ndarray, " m"]) -> str:
        """Return a hash of the rows of each source, and of their order."""
        part_of = np.searchsorted(self.starts, rows, side="right") - 1
        hashes = [
            part.fingerprint(rows[part_of == place] - self.starts[place])
            for place, part in enumerate(self.parts)
            if (part_of == place).any()
        ]
        return fingerprint([*hashes, fingerprint(part_of)])


def joined(sets: Sequence[ImageSet], name: str) -> ImageSet:
    """Return several sets as one; ids become "set/id".

    Args:
        sets: at least one, with the same label levels and attributes, without planes.
        name: what to call the whole.

    Raises:
        InputError: where levels or attributes have other names, or are not nested.
    """
    for one in sets[1:]:
        for kind in ("levels", "attributes"):
            first, other = (_names(one_set, kind) for one_set in (sets[0], one))
            if first != other:
                raise InputError(
                    f"{one.name}: other {kind} than {sets[0].name} has",
                    found=", ".join(other) or "none",
                    expected=", ".join(first) or "none",
                    fix="pass one file, or those of one data set alone",
                )
    shapes = {one.images.shape for one in sets}
    starts = np.cumsum([0, *(one.images.n for one in sets)])
    return ImageSet(
        images=JoinedImages(
            name,
            tuple(one.images for one in sets),
            starts,
            shapes.pop() if len(shapes) == 1 else None,
        ),
        name=name,
        ids=np.array([f"{one.name}/{row}" for one in sets for row in one.ids.tolist()]),
        levels=_merged([one.levels for one in sets]),
        attributes=_merged([one.attributes for one in sets]),
        rows=np.concatenate(
            [one.rows + start for one, start in zip(sets, starts, strict=False)]
        ),
        failures=tuple(failure for one in sets for failure in one.failures),
    )


def _names(images: ImageSet, kind: str) -> list[str]:
    return [level.name for level in getattr(images, kind)]


def _merged(parts: Sequence[tuple[Level, ...]]) -> tuple[Level, ...]:
    """Return levels of all rows; classes keep their codes where all parts agree."""
    merged = []
    for levels in zip(*parts, strict=True):
        name, classes = levels[0].name, levels[0].classes
        if all(level.classes == classes for level in levels):
            codes = np.concatenate([level.codes for level in levels])
            merged.append(Level(name, codes, classes))
        else:
            values = np.concatenate([class_of_each(level) for level in levels])
            merged.append(encode_level(name, values, len(values)))
    return tuple(merged)
