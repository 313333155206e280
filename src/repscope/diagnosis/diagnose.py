"""The verb diagnose: from features to findings to a report."""

import dataclasses
import logging
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from repscope._checking import InputError, UsageError
from repscope.diagnosis import pictures
from repscope.diagnosis.measured_run import MeasuredRun
from repscope.diagnosis.run_report import report_of
from repscope.diagnosis.survey import survey
from repscope.report.report import Report
from repscope.representations.embedding import as_embedding
from repscope.representations.representation import Representation

_log = logging.getLogger("repscope")


def diagnose(
    features: Any,
    *,
    labels: Any = None,
    attributes: Mapping[str, Any] | None = None,
    views: Any = None,
    ids: Any = None,
    images: Any = None,
    test: Any = None,
    reference: Any = None,
    seed: int = 0,
    split: Any = None,
    drop_nonfinite: bool = False,
    layer: str | None = None,
) -> Report:
    """Return what these features hold, what is wrong with them and what to do.

    Args:
        features: (n, d) array or tensor, a path, a store, a `Representation`, or an
            `Embedding` or its folder, which bring labels, ids and pictures along.
        labels: one array, or a dictionary of level name -> array, fine to coarse.
        attributes: dictionary of factor -> array: what may compete with the labels.
        views: (n, q, d) features of q augmented views of each image.
        ids: (n,) unique ids; runs are compared on them.
        images: pixels (n, h, w[, c]), a folder, an image column or paths.
        test: (features, labels) of test rows, or a mask over the rows; by default a
            stratified fifth, chosen by the hash of the ids.
        reference: features of the same images from another encoder, an untrained one,
            or pixels; shows what could have been learnt.
        seed: of the default split and of bootstraps.
        split: (n,) train or test per row.
        drop_nonfinite: drop rows with NaN or infinity instead of refusing them.
        layer: of an embedding; by default its deepest is judged and all are compared.

    Returns:
        A report; `report.save(folder)` writes it.

    Raises:
        InputError: for bad data, naming what, where and how to mend it.

    Example:
        >>> from repscope.theory.planted import sound
        >>> diagnose(sound(n=300, d=32).features).verdict.word
        'HEALTHY'
    """
    started = time.perf_counter()
    if (embedding := as_embedding(features)) is not None:
        images = embedding.thumbnails if images is None else images
        features = embedding.titled(layer)
    elif layer is not None:
        raise UsageError("layer: only an embedding has several", found=layer)
    known = {"labels": labels, "attributes": attributes, "ids": ids}
    given = Representation.of(features, **known, split=split, test=test)
    other = None if reference is None else _aligned_reference(reference, given)
    _log.info("reading %s: %d rows of %d features", given.name, given.n, given.d)
    run = MeasuredRun(survey(given, drop_nonfinite=drop_nonfinite), seed)
    run.measure_label_free(views)
    if run.levels or run.survey.representation.attributes:
        run.measure_supervised()
    if embedding is not None and layer is None and len(embedding.layers) > 1:
        run.measure_layers(embedding)
    if other is not None:
        run.measure_reference(other)
        run.tables.insert(0, pictures.reference_table(run.measurements))
    return report_of(run, images, time.perf_counter() - started)


def _aligned_reference(reference: Any, given: Representation) -> Representation:
    """Return the reference, which must have one row for each row of the features."""
    embedding = as_embedding(reference)
    other = embedding.representation if embedding else Representation.of(reference)
    is_same = other.n == given.n
    is_named = not np.array_equal(given.ids, np.arange(given.n))
    if is_same and is_named and embedding is not None:
        is_same = np.array_equal(other.ids.astype(str), given.ids.astype(str))
    if not is_same:
        raise InputError(
            "reference: features of the same images are needed",
            found=f"{other.n:,} rows",
            expected=f"{given.n:,}, row for row those of the features",
        )
    return dataclasses.replace(other, name=f"reference {other.name}", layer="reference")
