"""What an encoder makes of images: features per layer, with labels, ids and pictures.

An embedding is held in memory or lies in a folder; both read the same, and reading
needs no torch.
"""

import dataclasses
import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from repscope._checking import UsageError, did_you_mean
from repscope.data.levels import Level
from repscope.data.reading import Failure
from repscope.files.file_access import local_path
from repscope.representations.features_folder import (
    Piece,
    nonfinite_rows,
    prepare_folder,
    read_failures,
    write_manifest,
    write_piece,
    writing_into,
)
from repscope.representations.features_manifest import (
    ID,
    Manifest,
    Plan,
    column_values,
    is_features_folder,
    level_of,
)
from repscope.representations.representation import Representation
from repscope.representations.stored_features import FeaturesFolder, open_folder

Columns = dict[str, Shaped[np.ndarray, " n"]]


@dataclass(frozen=True, eq=False, repr=False)
class Embedding:
    """Features of one image set from one encoder.

    Args:
        plan: what decides the features: encoder, images, layers, preprocessing.
        representations: layer -> features with labels, attributes and ids, shallow to
            deep; images that could not be read have no row.
        thumbnails: small pictures of the rows, uint8 (n, h, w, 3), in memory or read
            when asked for; None where none were kept.
        failures: the images that could not be read, by their row in the image set.
        nonfinite: layer -> rows with NaN or infinity, for the layers that have some.
        versions: package -> version that computed the features.

    Example:
        >>> embedding = Embedding.open("features")  # doctest: +SKIP
        >>> embedding["block2"].d  # doctest: +SKIP
        64
    """

    plan: Plan
    representations: Mapping[str, Representation]
    thumbnails: Any = None
    failures: tuple[Failure, ...] = ()
    nonfinite: Mapping[str, int] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Return encoder, images and the widths of the layers in a line."""
        layers = ", ".join(f"{one} ({self[one].d})" for one in self.layers)
        encoder, images = self.plan.encoder.get("name"), self.plan.images.get("name")
        return f"<Embedding of {self.n} images: {encoder} on {images}; layers {layers}>"

    def __getitem__(self, layer: str) -> Representation:
        """Return the representation of a layer.

        Raises:
            UsageError: for an unknown layer, with the closest one.
        """
        if layer not in self.representations:
            raise UsageError(
                f"no layer {layer!r} was embedded",
                found=", ".join(self.representations),
                fix=did_you_mean(layer, self.representations),
            )
        return self.representations[layer]

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers, shallow to deep."""
        return tuple(self.representations)

    @property
    def default_layer(self) -> str:
        """The layer that is meant where none is named: the deepest."""
        return self.plan.default_layer

    @property
    def representation(self) -> Representation:
        """The representation of the default layer."""
        return self[self.default_layer]

    def titled(self, layer: str | None = None) -> Representation:
        """Return the representation of a layer, named for reports.

        Args:
            layer: the default layer where None.

        Raises:
            UsageError: for an unknown layer.
        """
        one = self[self.default_layer if layer is None else layer]
        encoder, images = self.plan.encoder.get("name"), self.plan.images.get("name")
        name = f"{encoder}, {one.layer}, on {images}"
        return dataclasses.replace(one, name=name)

    @property
    def n(self) -> int:
        """Rows of features."""
        return self.representation.n

    @property
    def ids(self) -> Shaped[np.ndarray, " n"]:
        """One id per row."""
        return self.representation.ids

    @property
    def levels(self) -> tuple[Level, ...]:
        """Label levels, fine to coarse."""
        return self.representation.levels

    @property
    def attributes(self) -> tuple[Level, ...]:
        """Factors that may compete with the labels."""
        return self.representation.attributes

    @property
    def image_rows(self) -> Int[np.ndarray, " n"]:
        """Which row of the image set each row of features comes from."""
        failed = [failure.row for failure in self.failures]
        return np.setdiff1d(np.arange(self.plan.n_images), failed)

    @property
    def provenance(self) -> dict[str, str]:
        """What made the features, as plain words."""
        return provenance_of(self.plan)

    def features(self, layer: str | None = None) -> Float[np.ndarray, "n d"]:
        """Return the features of a layer as one array in memory, float32.

        Args:
            layer: the default layer where None.

        Raises:
            UsageError: for an unknown layer.
        """
        chosen = self[self.default_layer if layer is None else layer]
        return chosen.take(np.arange(chosen.n))

    def save(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write a features folder: the same files as `embed` with `out` writes.

        Args:
            folder: new or empty.
            overwrite: replace features that lie there.

        Raises:
            UsageError: where the folder holds something and may not be overwritten, or
                another process writes into it.
            ResourceError: where it cannot be written.
        """
        manifest = Manifest(self.plan, versions=self.versions)
        path = Path(folder)
        with writing_into(path):
            prepare_folder(path, self.plan, overwrite=overwrite, resume=False)
            write_manifest(path, manifest)
            columns = self._columns()
            for piece in self._pieces():
                known = [one for one in self.failures if one.row <= _last_row(piece)]
                manifest = write_piece(path, manifest, piece, columns, known)

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> "Embedding":
        """Return the embedding in a features folder; features stay on disk.

        Raises:
            InputError: where it holds no finished features, or is damaged.
            ResourceError: where it may not be read.
        """
        stored = open_folder(local_path(folder))
        plan = stored.plan
        levels = tuple(stored.level(one) for one in plan.levels)
        attributes = tuple(stored.level(one) for one in plan.attributes)
        described = functools.partial(
            Representation,
            name=stored.path.name,
            ids=stored.column(ID),
            levels=levels,
            attributes=attributes,
        )
        representations = {
            layer.name: described(
                sources=(stored.layer(layer.name),),
                layer=layer.name,
                inputs=provenance_of(plan, layer.name),
            )
            for layer in plan.layers
        }
        return cls(
            plan=plan,
            representations=representations,
            thumbnails=stored.thumbnails(),
            failures=read_failures(stored.path, stored.manifest),
            nonfinite=_total_nonfinite(stored),
            versions=stored.manifest.versions,
        )

    def _columns(self) -> Columns:
        """Return ids, levels and attributes of all images; of failed ones nothing."""
        n, rows = self.plan.n_images, self.image_rows
        columns = {ID: _spread(self.ids, rows, n)}
        plans = (*self.plan.levels, *self.plan.attributes)
        levels = (*self.levels, *self.attributes)
        for plan, level in zip(plans, levels, strict=True):
            columns[plan.column] = _spread(column_values(level), rows, n)
        return columns

    def _pieces(self) -> Iterator[Piece]:
        rows = self.image_rows
        features = {name: self.features(name) for name in self.layers}
        small = None if self.thumbnails is None else np.asarray(self.thumbnails)
        for index in range(self.plan.n_shards):
            covered = self.plan.image_rows(index)
            first, last = np.searchsorted(rows, [covered.start, covered.stop])
            piece = slice(int(first), int(last))
            yield Piece(
                index=index,
                image_rows=rows[piece],
                features={name: values[piece] for name, values in features.items()},
                thumbnails=None if small is None else small[piece],
                failures=tuple(one for one in self.failures if one.row in covered),
            )


def embedding_of(
    plan: Plan,
    pieces: Sequence[Piece],
    columns: Mapping[str, Shaped[np.ndarray, " n"]],
    versions: Mapping[str, str],
) -> Embedding:
    """Return an embedding in memory.

    Args:
        plan: what decides the features.
        pieces: all shards, in order.
        columns: ids, levels and attributes of all images.
        versions: package -> version.
    """
    rows = np.concatenate([piece.image_rows for piece in pieces])
    known = {name: values[rows] for name, values in columns.items()}
    described = functools.partial(
        Representation,
        name=f"{plan.encoder['name']} on {plan.images['name']}",
        ids=known[ID],
        levels=tuple(level_of(one, known[one.column]) for one in plan.levels),
        attributes=tuple(level_of(one, known[one.column]) for one in plan.attributes),
    )
    features = {
        layer.name: np.concatenate([piece.features[layer.name] for piece in pieces])
        for layer in plan.layers
    }
    small = [piece.thumbnails for piece in pieces if piece.thumbnails is not None]
    return Embedding(
        plan=plan,
        representations={
            layer: described(
                sources=(values,), layer=layer, inputs=provenance_of(plan, layer)
            )
            for layer, values in features.items()
        },
        thumbnails=np.concatenate(small) if small else None,
        failures=tuple(failure for piece in pieces for failure in piece.failures),
        nonfinite=nonfinite_rows(features),
        versions=versions,
    )


def open_features(folder: str | os.PathLike[str]) -> Embedding | None:
    """Return the embedding in a folder; None where it is no features folder.

    Raises:
        InputError: where its features are unfinished or damaged.
        ResourceError: where it may not be read.
    """
    path = Path(folder)
    return Embedding.open(path) if is_features_folder(path) else None


def as_embedding(features: Any) -> Embedding | None:
    """Return an embedding as it is, or that in a folder; None for other features."""
    if isinstance(features, str | Path):
        return open_features(features)
    return features if isinstance(features, Embedding) else None


def provenance_of(plan: Plan, layer: str | None = None) -> dict[str, str]:
    """Return what made features, as plain words.

    Args:
        plan: what decides the features.
        layer: the layer that is meant; None for all.
    """
    layers = [one.name for one in plan.layers] if layer is None else [layer]
    words = {f"encoder {key}": value for key, value in plan.encoder.items()}
    words |= {f"images {key}": value for key, value in plan.images.items()}
    words |= {f"preprocessing {k}": str(v) for k, v in plan.preprocessing.items()}
    return words | {"layer": ", ".join(layers), "pool": plan.pool}


def _spread(
    values: Shaped[np.ndarray, " m"], rows: Int[np.ndarray, " m"], n: int
) -> Shaped[np.ndarray, " n"]:
    """Return values at their rows, zeros or "" elsewhere."""
    spread = np.zeros(n, dtype=values.dtype)
    spread[rows] = values
    return spread


def _last_row(piece: Piece) -> int:
    failed: Sequence[int] = [failure.row for failure in piece.failures]
    return max([int(piece.image_rows[-1]), *failed])


def _total_nonfinite(stored: FeaturesFolder) -> dict[str, int]:
    totals: dict[str, int] = {}
    for shard in stored.manifest.shards:
        for layer, count in shard.nonfinite.items():
            totals[layer] = totals.get(layer, 0) + count
    return totals
