"""One embedding under way: which images go into which shard, and what is told."""

import dataclasses
import itertools
import logging
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int, Shaped

from repscope._checking import InputError, RepscopeError, UsageError
from repscope._environment import versions
from repscope._images import Preprocess
from repscope.data.imageset import ImageSet
from repscope.data.reading import Failure, check_failures
from repscope.representations.embedding import Embedding, embedding_of
from repscope.representations.features_folder import (
    Piece,
    check_space,
    prepare_folder,
    read_failures,
    write_failures,
    write_manifest,
    write_piece,
    writing_into,
)
from repscope.representations.features_manifest import (
    ID,
    LayerPlan,
    Manifest,
    Plan,
    column_plans,
    column_values,
)
from repscope.representations.forward_pass import Forward
from repscope.representations.image_batches import (
    ImageBatch,
    ImageReader,
    Prepare,
    ahead,
)

# A shard holds so many images, or fewer where their features would take more bytes.
SHARD_ROWS, SHARD_BYTES = 4096, 64 * 2**20
SECONDS_BETWEEN_NOTES = 30.0
# What a network raises that is given another input than it was made for.
REFUSALS = (RuntimeError, ValueError, TypeError, AssertionError)
SHOWN_REASON = 300
SHOWN_VERSIONS = ("python", "repscope", "numpy", "pillow", "torch")

Progress = Callable[[int, int], None]

_log = logging.getLogger("repscope")


class EmbeddingRun:
    """One embedding: which batches, in which shards, and what is told meanwhile."""

    def __init__(
        self,
        forward: Forward,
        reader: ImageReader,
        allowed_failures: float,
        progress: Progress | None,
    ) -> None:
        self.forward, self.reader, self.progress = forward, reader, progress
        self.images, self.allowed_failures = reader.images, allowed_failures
        self.plan = self._plan(first_batch(reader, allowed_failures))
        self.columns = self._columns()
        self.batch_rows = forward.batch_size
        self.done = 0
        self.told = time.monotonic()

    def in_memory(self) -> Embedding:
        """Return the embedding of all images, in memory."""
        pieces = list(self.pieces(range(self.plan.n_shards), ()))
        return _told(embedding_of(self.plan, pieces, self.columns, _versions()))

    def in_folder(self, folder: str | Path, overwrite: bool) -> Embedding:
        """Return the embedding from a folder, after writing the shards it lacks."""
        path = Path(folder)
        with writing_into(path):
            self._write(path, overwrite)
        return _told(Embedding.open(path))

    def _write(self, path: Path, overwrite: bool) -> None:
        manifest = prepare_folder(path, self.plan, overwrite=overwrite, resume=True)
        if manifest is None:
            manifest = Manifest(self.plan, versions=_versions())
            write_manifest(path, manifest)
        elif manifest.finished:
            _log.info("%s: complete already, nothing is computed", path)
        elif manifest.shards:
            there, count = len(manifest.shards), self.plan.n_shards
            _log.info("%s: going on after %d of %d shards", path, there, count)
        check_space(path, manifest)
        failures = list(read_failures(path, manifest))
        for piece in self.pieces(manifest.missing, failures, path):
            failures += piece.failures
            failures.sort(key=lambda failure: failure.row)
            manifest = write_piece(path, manifest, piece, self.columns, failures)

    def pieces(
        self,
        indices: Sequence[int],
        failures: Sequence[Failure],
        folder: Path | None = None,
    ) -> Iterator[Piece]:
        """Yield shards as they are computed.

        Args:
            indices: numbers of the shards.
            failures: of shards that are there already.
            folder: where unreadable images are listed when there are too many.
        """
        seen = list(failures)
        requests = (one for index in indices for one in self._requests(index))
        missing = sum(len(self.plan.image_rows(index)) for index in indices)
        self.done = self.images.n - missing
        batches = ahead(lambda request: self.reader.read(*request), requests)
        for index, mine in itertools.groupby(batches, key=lambda one: one.shard):
            parts = []
            for batch in mine:
                seen += batch.failures
                n_read = self.done + len(batch.rows) + len(batch.failures)
                self._check(seen, n_read, folder)
                parts.append((batch, self._features(batch)))
                self._tell(len(batch.rows) + len(batch.failures))
            yield _piece(index, parts, self.images)
        self._conclude(len(seen), missing)

    def _requests(self, index: int) -> Iterator[tuple[int, Int[np.ndarray, " b"]]]:
        rows = np.array(self.plan.image_rows(index))
        for start in range(0, len(rows), self.batch_rows):
            yield index, rows[start : start + self.batch_rows]

    def _features(self, batch: ImageBatch) -> dict[str, Float32[np.ndarray, "m _"]]:
        if not len(batch.rows):
            return {}
        planes = self.images.planes
        bits = None if planes is None else planes[batch.rows]
        return self.forward(batch.inputs, bits)

    def _check(self, failures: list[Failure], n_read: int, folder: Path | None) -> None:
        try:
            check_failures(
                self.images.name,
                failures,
                self.images.n,
                allowed=self.allowed_failures,
                n_read=n_read,
            )
        except InputError:
            if folder is not None:
                write_failures(folder, failures)
            raise

    def _tell(self, count: int) -> None:
        self.done += count
        if self.progress is not None:
            self.progress(self.done, self.images.n)
        if time.monotonic() - self.told > SECONDS_BETWEEN_NOTES:
            self.told = time.monotonic()
            _log.info("embedded %d of %d images", self.done, self.images.n)

    def _conclude(self, n_failures: int, n_computed: int) -> None:
        if n_failures:
            n = self.images.n
            _log.warning("%d of %d images cannot be read: no row", n_failures, n)
        if n_computed:
            _log.info("embedded %d images", self.images.n - n_failures)

    def _columns(self) -> dict[str, Shaped[np.ndarray, " n"]]:
        levels = (*self.images.levels, *self.images.attributes)
        plans = (*self.plan.levels, *self.plan.attributes)
        named = zip(plans, levels, strict=True)
        values = {plan.column: column_values(level) for plan, level in named}
        return {ID: self.images.ids, **values}

    def _plan(self, first: ImageBatch) -> Plan:
        images, encoder = self.images, self.forward.encoder
        features = self._first_features(first)
        widths = [LayerPlan(name, one.shape[1]) for name, one in features.items()]
        names = [layer.name for layer in widths]
        levels = column_plans(images.levels, names)
        taken = [*names, *(level.column for level in levels)]
        plan = Plan(
            encoder={"name": encoder.name, **encoder.provenance},
            preprocessing=_described(self.reader.preprocess),
            layers=tuple(widths),
            default_layer=names[-1],
            pool=self.forward.pool,
            images={"name": images.name, "fingerprint": images.fingerprint},
            n_images=images.n,
            planes=images.n_planes,
            levels=levels,
            attributes=column_plans(images.attributes, taken),
            thumbnail=self.reader.thumbnail,
            shard_rows=1,
        )
        shard_rows = max(1, min(SHARD_ROWS, SHARD_BYTES // plan.row_bytes))
        return dataclasses.replace(plan, shard_rows=shard_rows)

    def _first_features(
        self, first: ImageBatch
    ) -> dict[str, Float32[np.ndarray, "1 _"]]:
        """Return the features of one image: the network is seen to take it.

        Raises:
            UsageError: where it does not, with what it says.
        """
        try:
            return self._features(first)
        except RepscopeError:
            raise
        except REFUSALS as error:
            raise self._refusal(first, error) from error

    def _refusal(self, first: ImageBatch, error: Exception) -> UsageError:
        name, preprocess = self.forward.encoder.name, self.reader.preprocess
        shape = tuple(first.inputs.shape[1:])
        if isinstance(preprocess, Preprocess):
            shape, made = (shape[2], *shape[:2]), preprocess.describe()
        else:
            made = "a function"
        shape = (1, shape[0] + self.images.n_planes, *shape[1:])
        reason = " ".join(str(error).split()) or type(error).__name__
        return UsageError(
            f"encoder {name}: its network does not take such an image: "
            f"{reason[:SHOWN_REASON]}",
            found=f"an input of shape {shape}, from preprocess: {made}",
            expected="the size and channels that the network was made for",
            fix="preprocess=Preprocess(size=...) with that size",
        )


def first_batch(reader: ImageReader, allowed_failures: float) -> ImageBatch:
    """Return a batch of the first readable image: it tells shapes and widths.

    Raises:
        InputError: where more than the allowed share fails before one is readable.
    """
    name, n = reader.images.name, reader.images.n
    failures: list[Failure] = []
    for row in range(n):
        batch = reader.read(0, np.array([row]))
        if len(batch.rows):
            return batch
        failures += batch.failures
        check_failures(
            name, failures, n, allowed=allowed_failures, n_read=len(failures)
        )
    raise InputError(f"{name}: no image can be read")


def _piece(
    index: int,
    parts: Sequence[tuple[ImageBatch, dict[str, Float32[np.ndarray, "_ _"]]]],
    images: ImageSet,
) -> Piece:
    failures = [failure for batch, _ in parts for failure in batch.failures]
    readable = [(batch, features) for batch, features in parts if len(batch.rows)]
    if not readable:
        raise InputError(
            f"{images.name}: none of {len(failures):,} images in a row can be read",
            found=f"{failures[0].id}: {failures[0].reason}",
            fix="repair or remove them",
        )
    small = [b.thumbnails for b, _ in readable if b.thumbnails is not None]
    return Piece(
        index=index,
        image_rows=np.concatenate([batch.rows for batch, _ in readable]),
        features={
            name: np.concatenate([features[name] for _, features in readable])
            for name in readable[0][1]
        },
        thumbnails=np.concatenate(small) if small else None,
        failures=tuple(failures),
    )


def _described(preprocess: Preprocess | Prepare) -> dict[str, Any]:
    """Return a preprocessing as plain values; of a function its name or its text."""
    if isinstance(preprocess, Preprocess):
        values = preprocess.to_dict()
        return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    name = getattr(preprocess, "__qualname__", None)
    text = repr(preprocess) if name is None else f"{preprocess.__module__}.{name}"
    return {"function": re.sub(r" at 0x[0-9a-f]+", "", text)}


def _told(embedding: Embedding) -> Embedding:
    for layer, count in embedding.nonfinite.items():
        _log.warning("layer %s: %d rows with NaN or infinity, kept", layer, count)
    return embedding


def _versions() -> dict[str, str]:
    """Return package -> version of what decides the last digits of features."""
    return {k: v for k, v in versions().items() if k in SHOWN_VERSIONS}
