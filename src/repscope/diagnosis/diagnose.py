"""The verb diagnose: from features to findings to a report."""

import dataclasses
import datetime
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from repscope import _environment
from repscope._arrays import fingerprint, hash_ids
from repscope._checking import InputError, UsageError
from repscope.diagnosis import failure_pictures, label_free, pictures, supervised
from repscope.diagnosis.check import Evidence
from repscope.diagnosis.checks import CHECKS
from repscope.diagnosis.supervised import ProbeRows
from repscope.diagnosis.survey import Survey, survey
from repscope.diagnosis.thumbnails import thumbnails
from repscope.diagnosis.verdict import next_commands, verdict_of
from repscope.explanation.projections import Projection, principal_map
from repscope.metrics import hierarchy, hygiene
from repscope.metrics.catalogue import METRICS
from repscope.metrics.metric import metric_of
from repscope.records import (
    Curve,
    Measurement,
    Provenance,
    RunRecord,
    Samples,
    Table,
    Thumbnail,
)
from repscope.report.report import Report
from repscope.representations.embedding import as_embedding
from repscope.representations.representation import Level, Representation
from repscope.representations.splitting import default_split

# Points on the map; above it rows are chosen by the hash of their id.
MAP_MAXIMUM_ROWS = 50_000
# Not that of the split: a map of the rows that test would be no sample of all.
_MAP_SEED = 0x3A9
LISTED_ROWS = 100

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
        layer: of an embedding; its deepest by default.

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
    run = _Run(survey(given, drop_nonfinite=drop_nonfinite), seed)
    run.measure_label_free(views)
    if run.levels or run.survey.representation.attributes:
        run.measure_supervised()
    if other is not None:
        run.measure_reference(other)
        run.tables.insert(0, pictures.reference_table(run.measurements))
    return run.report(images, time.perf_counter() - started)


@dataclass(eq=False)
class _Run:
    """One diagnosis: measurements first, then judgements, then what is shown."""

    survey: Survey
    seed: int
    measurements: list[Measurement] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    correct: dict[str, Float[np.ndarray, " n"]] = field(default_factory=dict)
    predicted: dict[str, Shaped[np.ndarray, " n"]] = field(default_factory=dict)
    results: dict = field(default_factory=dict)
    rows: ProbeRows | None = None
    is_test: Bool[np.ndarray, " n"] | None = None
    split_rule: str = "no split"
    has_reference: bool = False

    @property
    def representation(self) -> Representation:
        return self.survey.representation

    @property
    def levels(self) -> tuple[Level, ...]:
        return self.representation.levels

    def measure_label_free(self, views: Any) -> None:
        _log.info("measuring the spectrum")
        spectral, eigenvalues = label_free.spectral_measurements(self.survey)
        self.measurements += spectral
        self.measurements += label_free.score_measurements(self.survey)
        self.measurements += label_free.structure_measurements(self.survey)
        if views is not None:
            if self.survey.n_dropped:
                views = views[self.representation.rows]
            self.measurements += label_free.view_measurements(
                views, self.representation.n
            )
        alpha = next(one for one in spectral if one.name == "alpha")
        curve = pictures.spectrum_curve(eigenvalues, alpha)
        self.curves += [curve] if curve else []
        self._split()
        self.measurements += label_free.hygiene_measurements(self.survey, self.is_test)

    def _split(self) -> None:
        kept = self.representation
        if kept.is_test is not None:
            self.is_test, self.split_rule = kept.is_test, "as given"
        elif kept.levels or kept.attributes:
            finest = (*kept.levels, *kept.attributes)[0]
            self.is_test = default_split(
                kept.ids, finest.codes, self.survey.row_hashes, seed=self.seed
            )
            self.split_rule = (
                f"stratified 80/20 by the hash of row ids, seed {self.seed}"
            )

    def measure_supervised(self) -> None:
        kept = self.representation
        assert self.is_test is not None
        _log.info("probing labels")
        self.rows = supervised.choose_rows(kept, self.is_test, self.survey.row_hashes)
        self.tables.append(pictures.split_table(self.rows.is_test, kept.levels))
        if len(self.rows.rows) < kept.n:
            self.notices.append(
                f"probes saw {len(self.rows.rows):,} of {kept.n:,} rows, chosen by the "
                "hash of their ids"
            )
        for level in (*kept.levels, *kept.attributes):
            is_label = any(level is one for one in kept.levels)
            group = self.survey.groups[level.name]
            taken = supervised.group_measurements(group, self.survey)
            self.measurements += (
                taken if is_label else [m for m in taken if m.name == "variance_share"]
            )
            probed = supervised.probe_level(level, self.rows, only_linear=not is_label)
            self.measurements += probed.measurements
            self.results |= probed.results
            if is_label:
                self._keep_answers(level)
        if kept.levels:
            self.measurements += supervised.hierarchy_measurements(
                self.survey, self.rows
            )
            self._measure_failure(kept.levels[0])
        if kept.attributes:
            by_key = {one.key: one for one in self.measurements}
            self.tables.append(pictures.attribute_table(kept.attributes, by_key))

    def _keep_answers(self, level: Level) -> None:
        assert self.rows is not None
        n = self.representation.n
        for (name, probe), result in self.results.items():
            if name == level.name:
                column = supervised.correct_column(level, result, self.rows, n)
                self.correct[f"correct:{name}:{probe}"] = column
        linear = self.results.get((level.name, "linear"))
        if linear is not None:
            names = np.array(["", *level.classes])
            codes = np.zeros(n, dtype=np.int64)
            codes[self.rows.rows[self.rows.is_test]] = linear.predictions + 1
            self.predicted[f"predicted:{level.name}"] = names[codes]

    def _measure_failure(self, level: Level) -> None:
        assert self.rows is not None
        correct = self.correct.get(f"correct:{level.name}:linear")
        if correct is None or "q_score" not in self.survey.scores:
            return
        taken, predictions = supervised.failure_measurements(
            level, self.survey, correct, seed=self.seed
        )
        self.measurements += taken
        if predictions:
            self.tables.append(failure_pictures.prediction_table(predictions))
            self.curves += failure_pictures.prediction_curves(predictions)
        labels = level.codes[self.rows.rows[self.rows.is_test]]
        answers = {
            probe: result.predictions
            for (name, probe), result in self.results.items()
            if name == level.name
        }
        table = pictures.class_table(level, labels, answers)
        self.tables += [
            table,
            pictures.confusion_table(level, labels, answers["linear"]),
        ]
        self.curves.append(pictures.class_curve(table))

    def measure_reference(self, given: Representation) -> None:
        _log.info("measuring the reference")
        kept = self.representation
        # Its rows are those that the features kept, with their labels.
        other = dataclasses.replace(
            given.subset(kept.rows) if kept.n < given.n else given,
            ids=kept.ids,
            levels=kept.levels,
        )
        surveyed = survey(other)
        self.has_reference = True
        spectral, eigenvalues = label_free.spectral_measurements(
            surveyed, layer="reference", intervals=False
        )
        self.curves = [pictures.with_reference(c, eigenvalues) for c in self.curves]
        wanted = ("effective_rank", "effective_rank_covariance", "alpha")
        self.measurements += [one for one in spectral if one.name in wanted]
        if not kept.levels or self.rows is None:
            return
        rows = ProbeRows(
            self.rows.rows,
            np.asarray(other.take(self.rows.rows), dtype=np.float64),
            self.rows.is_test,
            surveyed.row_hashes[self.rows.rows],
        )
        for level in kept.levels:
            probed = supervised.probe_level(
                level, rows, layer="reference", only_linear=True
            )
            self.measurements += probed.measurements
            self._compare_skill(level, probed, rows)
        if len(kept.levels) > 1:
            self.measurements.append(
                supervised.subclass_measurement(
                    kept.levels[0], kept.levels[1], rows, layer="reference"
                )
            )

    def _compare_skill(
        self, level: Level, probed: supervised.Supervised, rows: ProbeRows
    ) -> None:
        own = self.results.get((level.name, "linear"))
        theirs = probed.results.get((level.name, "linear"))
        if own is None or theirs is None:
            return
        labels = level.codes[rows.rows[rows.is_test]]
        self.measurements.append(
            metric_of(hierarchy.suppression_index).measured(
                lambda: hierarchy.suppression_index(
                    own.predictions == labels,
                    theirs.predictions == labels,
                    own.majority,
                    seed=self.seed,
                ),
                n=len(labels),
                level=level.name,
                split="test",
            )
        )

    def report(self, images: Any, seconds: float) -> Report:
        kept = self.representation
        lowest = self._lowest()
        evidence = self._evidence(lowest)
        findings = tuple(check.finding(evidence) for check in CHECKS)
        samples, projection = self._samples(lowest)
        self._show(samples, lowest, projection)
        if self.survey.n_dropped:
            self.notices.insert(
                0,
                f"{self.survey.n_dropped:,} rows with NaN or infinity were dropped; no "
                "number below knows them",
            )
        pictures_of_rows: tuple[Thumbnail, ...] = ()
        if images is not None:
            listed = kept.rows[lowest[: pictures.LISTED_SAMPLES]].tolist()
            pictures_of_rows, failed = thumbnails(images, kept, listed)
            self.notices += failed
        record = RunRecord(
            kind="diagnosis",
            title=kept.name,
            verdict=verdict_of(findings),
            provenance=self._provenance(seconds),
            measurements=tuple(self.measurements),
            findings=findings,
            curves=tuple(self.curves),
            tables=tuple(self.tables),
            thumbnails=pictures_of_rows,
            glossary=_glossary(self.measurements),
            notices=tuple(self.notices),
            next_commands=next_commands(evidence),
        )
        return Report(record, samples)

    def _lowest(self) -> Int[np.ndarray, " m"]:
        scores = self.survey.scores.get("q_score", np.zeros(self.representation.n))
        return np.argsort(scores, kind="stable")[:LISTED_ROWS]

    def _evidence(self, lowest: Int[np.ndarray, " m"]) -> Evidence:
        kept = self.representation
        repeated = hygiene.repeats(self.survey.row_hashes)[:LISTED_ROWS]
        return Evidence(
            measurements={one.key: one for one in self.measurements},
            levels=tuple(level.name for level in kept.levels),
            attributes=tuple(level.name for level in kept.attributes),
            has_reference=self.has_reference,
            is_negative=self.survey.is_negative,
            lowest_rows=tuple(kept.rows[lowest].tolist()),
            duplicate_rows=tuple(kept.rows[repeated].tolist()),
        )

    def _samples(self, lowest: Int[np.ndarray, " m"]) -> tuple[Samples, Projection]:
        kept = self.representation
        on_map = np.arange(kept.n)
        if kept.n > MAP_MAXIMUM_ROWS:
            order = np.argsort(hash_ids(kept.ids, _MAP_SEED), kind="stable")
            on_map = np.sort(order[:MAP_MAXIMUM_ROWS])
        projection = principal_map(kept.take(on_map), self.survey.moments)
        places = np.full((kept.n, 2), np.nan)
        places[on_map] = projection.positions
        listed = np.zeros(kept.n, dtype=np.int64)
        listed[lowest] = 1
        columns: dict[str, np.ndarray] = {"row": kept.rows, "id": kept.ids}
        for level in kept.levels:
            columns[f"label:{level.name}"] = np.array(level.classes)[level.codes]
        if self.is_test is not None:
            columns["split"] = np.where(self.is_test, "test", "train")
        columns |= self.predicted | self.correct
        columns |= label_free.score_columns(self.survey)
        columns |= {"map_x": places[:, 0], "map_y": places[:, 1], "listed": listed}
        return Samples(columns), projection

    def _show(
        self, samples: Samples, lowest: Int[np.ndarray, " m"], projection: Projection
    ) -> None:
        finest = self.levels[0].name if self.levels else ""
        if "q_score" in samples.columns:
            self.curves.append(
                pictures.histogram_curve(
                    "score_q_score",
                    "Q-Score",
                    samples.columns["q_score"],
                    self.correct.get(f"correct:{finest}:linear"),
                )
            )
        shown = ["row", "id", f"label:{finest}", f"predicted:{finest}"]
        shown += ["q_score", "z_max", "l1_norm"]
        self.tables.append(
            pictures.worst_table(lowest.tolist(), samples.columns, shown)
        )
        self.tables.append(
            Table(
                name="map",
                title="How true the map is",
                columns=("share of variance shown", "agreement of 10 nearest"),
                rows=((projection.variance_share, projection.neighbour_agreement),),
                how_to_read="The map shows the first two principal components; what is "
                "near on it need not be near in the features.",
            )
        )

    def _provenance(self, seconds: float) -> Provenance:
        kept = self.representation
        now = datetime.datetime.now(datetime.UTC)
        tested = kept.ids[self.is_test] if self.is_test is not None else kept.ids[:0]
        return Provenance(
            created=now.isoformat(timespec="seconds"),
            seconds=round(seconds, 3),
            seed=self.seed,
            n=kept.n,
            d=kept.d,
            dtype=kept.dtype,
            features_fingerprint=fingerprint(self.survey.row_hashes),
            ids_fingerprint=fingerprint(kept.ids),
            labels_fingerprints={
                level.name: fingerprint(np.array(level.classes)[level.codes])
                for level in kept.levels
            },
            split_fingerprint=fingerprint(tested),
            split_rule=self.split_rule,
            inputs=dict(kept.inputs),
            versions=_environment.versions(),
            machine=_environment.machine(),
        )


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


def _glossary(measurements: Sequence[Measurement]) -> tuple:
    used = {one.formula for one in measurements}
    return tuple(entry.glossary for entry in METRICS if entry.name in used)
