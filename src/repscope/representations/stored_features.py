"""A features folder read back: each layer as a store, the columns and the thumbnails.

Only headers are read at first. Nothing outside the folder is, whatever it says.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt8

from repscope._checking import InputError, did_you_mean
from repscope.data.levels import Level
from repscope.files.file_access import damaged, fill
from repscope.representations.abstract_store import (
    Store,
    check_rows,
    no_column,
    no_images,
)
from repscope.representations.arrays_on_disk import stored_npz
from repscope.representations.features_manifest import (
    ID,
    MANIFEST,
    THUMBNAIL,
    ColumnPlan,
    Manifest,
    Plan,
    level_of,
    read_manifest,
    shard_path,
)
from repscope.representations.stored_array import StoredArray

Arrays = Mapping[str, StoredArray]


@dataclass(eq=False)
class StoredThumbnails:
    """Small pictures of all rows, read from their shard when one is asked for.

    Args:
        arrays: one (m, h, w, 3) array per shard.
    """

    arrays: tuple[StoredArray, ...]
    _last: tuple[int, np.ndarray] | None = field(default=None, init=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, h, w, 3)."""
        return (int(self._ends[-1]), *self.arrays[0].shape[1:])

    @property
    def _ends(self) -> np.ndarray:
        return np.cumsum([array.shape[0] for array in self.arrays])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, row: int) -> UInt8[np.ndarray, "h w 3"]:
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)} thumbnails")
        ends = self._ends
        shard = int(np.searchsorted(ends, row, side="right"))
        # rows that are listed together often lie in one shard
        if self._last is None or self._last[0] != shard:
            self._last = shard, _pixels(self.arrays[shard])
        return self._last[1][row - int(ends[shard])]

    def __array__(
        self, dtype: Any = None, copy: bool | None = None
    ) -> UInt8[np.ndarray, "n h w 3"]:
        pixels = np.concatenate([_pixels(array) for array in self.arrays])
        return pixels if dtype is None else pixels.astype(dtype)


def _pixels(array: StoredArray) -> UInt8[np.ndarray, "m h w 3"]:
    pixels = np.empty(array.shape, np.uint8)
    with array.place.open() as file:
        file.seek(array.offset)
        fill(file, pixels, array.label)
    return pixels


@dataclass(frozen=True, eq=False)
class FeaturesFolder:
    """A finished features folder.

    Args:
        path: the folder.
        manifest: what its `features.json` says.
        shards: the arrays of each shard by name; no value of them is in memory.
    """

    path: Path
    manifest: Manifest
    shards: tuple[Arrays, ...]

    @property
    def plan(self) -> Plan:
        """What decides the features."""
        return self.manifest.plan

    @property
    def n(self) -> int:
        """Rows of features."""
        return sum(shard.rows for shard in self.manifest.shards)

    def column(self, name: str) -> Shaped[np.ndarray, " n"]:
        """Return ids, or the class names of a level or attribute, one per row."""
        return np.concatenate([arrays[name].vector() for arrays in self.shards])

    def level(self, plan: ColumnPlan) -> Level:
        """Return a label level or an attribute."""
        return level_of(plan, self.column(plan.column))

    def thumbnails(self) -> StoredThumbnails | None:
        """Return the small pictures; None where the folder has none."""
        if self.plan.thumbnail is None:
            return None
        return StoredThumbnails(tuple(arrays[THUMBNAIL] for arrays in self.shards))

    def layer(self, name: str | None = None) -> "FeaturesStore":
        """Return the features of a layer, by default of the default layer.

        Raises:
            InputError: where there is no such layer.
        """
        name = self.plan.default_layer if name is None else name
        widths = {layer.name: layer.width for layer in self.plan.layers}
        if name not in widths:
            raise InputError(
                f"{self.path.name}: no layer `{name}`",
                found=", ".join(widths),
                fix=did_you_mean(name, widths),
            )
        columns = (*self.plan.levels, *self.plan.attributes)
        return FeaturesStore(
            path=self.path,
            n=self.n,
            d=widths[name],
            dtype="float32",
            column_names=(ID, *(column.column for column in columns)),
            image_names=() if self.plan.thumbnail is None else (THUMBNAIL,),
            folder=self,
            layer=name,
        )


@dataclass(frozen=True, eq=False)
class FeaturesStore(Store):
    """One layer of a features folder; its thumbnails are an image column."""

    path: Path
    n: int
    d: int
    dtype: str
    column_names: tuple[str, ...]
    image_names: tuple[str, ...]
    folder: FeaturesFolder
    layer: str

    def blocks(self, rows: int) -> Iterator[np.ndarray]:
        """Yield consecutive blocks of rows; they end where shards end."""
        check_rows(rows)
        return (
            block
            for arrays in self.folder.shards
            for block in arrays[self.layer].blocks(rows)
        )

    def column(self, name: str) -> Shaped[np.ndarray, " n"]:
        """Return the ids, a label level or an attribute, by its array or its name."""
        plan = self.folder.plan
        arrays = {one.name: one.column for one in (*plan.levels, *plan.attributes)}
        arrays |= {column: column for column in self.column_names}
        if name not in arrays:
            raise no_column(self.name, name, self.column_names)
        return self.folder.column(arrays[name])

    def images(self, name: str, rows: Sequence[int]) -> list[bytes]:
        """Return the thumbnails of some rows as PNG."""
        thumbnails = self.folder.thumbnails()
        if name not in self.image_names or thumbnails is None:
            raise no_images(self.name, name)
        outside = [row for row in rows if not 0 <= row < self.n]
        if outside:
            raise InputError(
                f"{self.name}: no row {outside[0]}", expected=f"0 to {self.n - 1}"
            )
        return [_as_png(thumbnails[row]) for row in rows]


def open_folder(path: Path) -> FeaturesFolder:
    """Return a finished features folder, its manifest and headers checked.

    Raises:
        InputError: where it is unfinished, damaged, or a shard is not as the manifest
            says.
        ResourceError: where it may not be read.
    """
    manifest = read_manifest(path)
    if not manifest.finished:
        raise InputError(
            f"{path.name}: unfinished features",
            found=f"{len(manifest.shards):,} of {manifest.plan.n_shards:,} shards",
            fix="run the same embed command again: it goes on from there",
        )
    shards = []
    for shard in manifest.shards:
        file = shard_path(path, manifest.plan, shard.index)
        arrays = stored_npz(file)
        _check_arrays(file, arrays, manifest.plan, shard.rows)
        shards.append(arrays)
    return FeaturesFolder(path, manifest, tuple(shards))


def _check_arrays(file: Path, arrays: Arrays, plan: Plan, rows: int) -> None:
    """Raise InputError where a shard lacks an array or has one of another shape."""
    shapes: dict[str, tuple[int, ...]] = {
        layer.name: (rows, layer.width) for layer in plan.layers
    }
    columns = (*plan.levels, *plan.attributes)
    shapes |= dict.fromkeys((ID, *(one.column for one in columns)), (rows,))
    if plan.thumbnail is not None:
        shapes[THUMBNAIL] = (rows, *plan.thumbnail, 3)
    types = {layer.name: "float32" for layer in plan.layers} | {THUMBNAIL: "uint8"}
    for name, shape in shapes.items():
        array = arrays.get(name)
        if array is None or array.shape != shape:
            raise InputError(
                f"{file.name}: array `{name}` is not as {MANIFEST} says",
                found="no such array" if array is None else f"shape {array.shape}",
                expected=f"shape {shape}",
                fix="embed the images again",
            )
        if name in types and array.dtype != types[name]:
            raise damaged(array.label, f"values of {array.dtype}")


def _as_png(pixels: UInt8[np.ndarray, "h w 3"]) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
