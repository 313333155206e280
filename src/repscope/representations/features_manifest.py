"""What decides the features in a folder, and which of them are there: the manifest.

Equal plans give equal features. A run that was ended between two shards goes on from
them; a run that would mix in other features is refused with the difference.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from repscope._checking import InputError, UsageError
from repscope.data.levels import Level
from repscope.files.file_access import damaged, reading
from repscope.records import Detail, from_json, to_json

MANIFEST = "features.json"
FORMAT, VERSION = "repscope features", 1
ID, THUMBNAIL = "id", "thumbnail"
# A manifest larger than this is none of ours; 100,000 classes take 5 MB.
MANIFEST_BYTES = 256 * 2**20
# What a message shows of a value.
SHOWN = 120

_NOTHING = object()


@dataclass(frozen=True)
class LayerPlan:
    """A layer of the encoder: its name, also of its array in each shard, and width."""

    name: str
    width: int


@dataclass(frozen=True)
class ColumnPlan:
    """A label level or an attribute.

    Args:
        name: what the user calls it.
        column: the name of its array in each shard.
        classes: names of its classes; code k is classes[k].
    """

    name: str
    column: str
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What decides the features of a folder: equal plans give equal features.

    Args:
        encoder: name, fingerprint of the weights, and where they come from.
        preprocessing: what was done to each picture.
        layers: shallow to deep.
        default_layer: the layer that is meant where none is named.
        pool: how a layer's map became one vector.
        images: name and fingerprint of the image set.
        n_images: how many images there are, the unreadable ones included.
        planes: constant channels appended to each image.
        levels: label levels, fine to coarse.
        attributes: factors that may compete with the labels.
        thumbnail: height and width of the thumbnails; None for none.
        shard_rows: images per shard.
    """

    encoder: Mapping[str, str]
    preprocessing: Mapping[str, Detail]
    layers: tuple[LayerPlan, ...]
    default_layer: str
    pool: str
    images: Mapping[str, str]
    n_images: int
    planes: int
    levels: tuple[ColumnPlan, ...]
    attributes: tuple[ColumnPlan, ...]
    thumbnail: tuple[int, int] | None
    shard_rows: int

    @property
    def n_shards(self) -> int:
        """How many shards there are when all is done."""
        return -(-self.n_images // self.shard_rows)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row in a shard, its columns left out."""
        height, width = self.thumbnail or (0, 0)
        return 4 * sum(layer.width for layer in self.layers) + 3 * height * width

    def shard_name(self, index: int) -> str:
        """Return the file name of a shard."""
        return f"{index:05d}-of-{self.n_shards:05d}.npz"

    def image_rows(self, index: int) -> range:
        """Return the rows of the image set that a shard covers."""
        start = index * self.shard_rows
        return range(start, min(start + self.shard_rows, self.n_images))


@dataclass(frozen=True)
class Shard:
    """A complete shard.

    Args:
        index: its number, from 0.
        rows: rows of features; fewer than the images it covers where some failed.
        size: bytes.
        sha256: of the file.
        nonfinite: layer -> rows with NaN or infinity, where there are some.
    """

    index: int
    rows: int
    size: int
    sha256: str
    nonfinite: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """What `features.json` holds."""

    plan: Plan
    shards: tuple[Shard, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    format: str = FORMAT
    version: int = VERSION

    @property
    def finished(self) -> bool:
        """Whether every shard is there."""
        return len(self.shards) == self.plan.n_shards

    @property
    def missing(self) -> list[int]:
        """The numbers of the shards that are still to be computed."""
        present = {shard.index for shard in self.shards}
        return [k for k in range(self.plan.n_shards) if k not in present]


def is_features_folder(folder: Path) -> bool:
    """Return whether a folder has a manifest of features.

    Raises:
        ResourceError: where the folder may not be read.
    """
    with reading(folder):
        return (folder / MANIFEST).is_file()


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a features folder.

    Raises:
        InputError: where it is damaged, of a newer format, or contradicts itself.
        ResourceError: where it may not be read.
    """
    path = folder / MANIFEST
    label = f"{folder.name}: {MANIFEST}"
    with reading(path), path.open("rb") as file:
        content = file.read(MANIFEST_BYTES + 1)
    if len(content) > MANIFEST_BYTES:
        raise damaged(label, "larger than any manifest")
    text = content.decode("utf-8", "replace")
    _check_format(label, text)
    try:
        manifest = from_json(Manifest, text)
    except InputError as error:
        raise damaged(label, error.what) from error
    _check_sense(label, manifest)
    return manifest


def _check_format(label: str, text: str) -> None:
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise damaged(label, f"no valid JSON: {str(error)[:80]}") from error
    if not isinstance(plain, dict) or plain.get("format") != FORMAT:
        raise InputError(f"{label}: describes no features of repscope")
    if plain.get("version") != VERSION:
        raise InputError(
            f"{label}: features of format {str(plain.get('version'))[:20]}",
            expected=f"format {VERSION}",
            fix="read them with the repscope version that wrote them, or embed again",
        )


def _check_sense(label: str, manifest: Manifest) -> None:
    """Raise InputError where numbers cannot be true; names are ours by construction."""
    plan = manifest.plan
    indices = [shard.index for shard in manifest.shards]
    names = [layer.name for layer in plan.layers]
    columns = [column.column for column in (*plan.levels, *plan.attributes)]
    arrays = [*names, *columns, ID, THUMBNAIL]
    if plan.n_images < 1 or plan.shard_rows < 1:
        raise damaged(label, f"{plan.n_images} images, {plan.shard_rows} per shard")
    if plan.default_layer not in names:
        raise damaged(label, "the default layer is not among the layers")
    if len(set(arrays)) < len(arrays):
        raise damaged(label, "two arrays of a shard have one name")
    is_within = not indices or (indices[0] >= 0 and indices[-1] < plan.n_shards)
    if indices != sorted(set(indices)) or not is_within:
        raise damaged(label, "its shards are not in order")
    for shard in manifest.shards:
        if not 1 <= shard.rows <= len(plan.image_rows(shard.index)):
            raise damaged(label, f"shard {shard.index} with {shard.rows:,} rows")
        for layer, count in shard.nonfinite.items():
            if layer not in names or not 0 <= count <= shard.rows:
                reason = f"{count:,} rows with NaN or infinity in layer {layer[:SHOWN]}"
                raise damaged(label, f"shard {shard.index} with {reason}")


def shard_path(folder: Path, plan: Plan, index: int) -> Path:
    """Return the path of a shard.

    The name follows from the shard's number: a manifest cannot name another file.

    Raises:
        InputError: where it is a link leading out of the folder.
    """
    path = folder / plan.shard_name(index)
    if not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(
            f"{folder.name}: {path.name} is a link leading out of the folder",
            expected="shards that lie in the folder",
            fix="copy the file into the folder",
        )
    return path


def difference(old: Plan, new: Plan) -> str:
    """Return the first thing in which two plans differ, in words; "" for none."""
    for one in fields(Plan):
        before, after = _plain(getattr(old, one.name)), _plain(getattr(new, one.name))
        if before != after:
            return f"{one.name}: {_short(before, after)} there, {_short(after, before)}"
    return ""


def check_same(folder: Path, old: Plan, new: Plan) -> None:
    """Raise UsageError unless a folder's features are those that would be computed."""
    differing = difference(old, new)
    if differing:
        raise UsageError(
            f"{folder} holds other features",
            found=f"{differing} here",
            fix="--overwrite replaces them; -o names another folder",
        )


def _plain(value: Any) -> Any:
    return json.loads(to_json(value))


def _short(value: Any, other: Any) -> str:
    """Return a value in words; of a mapping only what the other one has not."""
    if isinstance(value, dict) and isinstance(other, dict):
        keys = [key for key in value if value[key] != other.get(key, _NOTHING)]
        value = {key: value[key] for key in keys}
    if isinstance(value, list):
        value = [
            one.get("name", one) if isinstance(one, dict) else one for one in value
        ]
    text = str(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def column_plans(
    levels: Sequence[Level], taken: Iterable[str]
) -> tuple[ColumnPlan, ...]:
    """Return how levels are stored; one that is named as an array is named anew.

    Args:
        levels: label levels or attributes.
        taken: names of arrays in the shards.
    """
    used = {ID, THUMBNAIL, *taken}
    plans = []
    for level in levels:
        column = level.name
        while column in used:
            column = f"label {column}"
        used.add(column)
        plans.append(ColumnPlan(level.name, column, level.classes))
    return tuple(plans)


def column_values(level: Level) -> Shaped[np.ndarray, " n"]:
    """Return a level's class names per row; integers where all names are integers."""
    classes = np.array(level.classes)
    if all(_is_integer(name) for name in level.classes):
        classes = classes.astype(np.int64)
    return classes[level.codes]


def level_of(plan: ColumnPlan, values: Shaped[np.ndarray, " n"]) -> Level:
    """Return a stored column as codes, in the order of classes that it had.

    Raises:
        InputError: where a value is none of the classes.
    """
    found, inverse = np.unique(values, return_inverse=True)
    codes = {name: code for code, name in enumerate(plan.classes)}
    names = [str(value) for value in found.tolist()]
    unknown = [name for name in names if name not in codes]
    if unknown:
        raise damaged(MANIFEST, f"no class {unknown[0]!r} of {plan.name!r}")
    order = np.array([codes[name] for name in names], dtype=np.int64)
    return Level(plan.name, order[inverse], plan.classes)


def _is_integer(name: str) -> bool:
    return len(name) < 19 and re.fullmatch(r"0|-?[1-9][0-9]*", name) is not None
