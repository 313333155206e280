"""One diagnosis on its way: what was measured so far, and what is shown of it."""

import dataclasses
import logging
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Shaped

from repscope.diagnosis import (
    class_pictures,
    failure_pictures,
    label_free,
    pictures,
    supervised,
)
from repscope.diagnosis.layers import compare_layers
from repscope.diagnosis.probe_rows import ProbeRows, pairwise_rows, probe_rows
from repscope.diagnosis.spectrum import spectral_measurements
from repscope.diagnosis.structure import (
    ANSWERS,
    CLASSES,
    GEOMETRY,
    cluster_measurements,
    structure_measurements,
)
from repscope.diagnosis.survey import Survey, survey
from repscope.metrics import augmented, hierarchy
from repscope.metrics.metric import metric_of
from repscope.records import Curve, Measurement, Table
from repscope.representations.embedding import Embedding
from repscope.representations.representation import Level, Representation
from repscope.representations.splitting import default_split

_log = logging.getLogger("repscope")


@dataclass(eq=False)
class MeasuredRun:
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
    pairwise: ProbeRows | None = None
    is_test: Bool[np.ndarray, " n"] | None = None
    split_rule: str = "no split"
    has_reference: bool = False

    @property
    def representation(self) -> Representation:
        """The rows that are measured."""
        return self.survey.representation

    @property
    def levels(self) -> tuple[Level, ...]:
        """Their label levels, fine to coarse."""
        return self.representation.levels

    def measure_label_free(self, views: Any) -> None:
        """Take what needs no labels, and decide on the split."""
        _log.info("measuring the spectrum")
        spectral, eigenvalues = spectral_measurements(self.survey)
        self.measurements += spectral
        self.measurements += label_free.score_measurements(self.survey)
        self.measurements += label_free.structure_measurements(self.survey)
        if views is not None:
            given = self.representation.n + self.survey.n_dropped
            views = augmented.check_views(views, given)
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
        self.rows = probe_rows(self.representation, self.is_test, seed=self.seed)
        _log.info("comparing rows with one another")
        self.pairwise = pairwise_rows(self.rows)
        self.measurements += structure_measurements(self.pairwise, GEOMETRY)
        self._say_sample("metrics that compare rows", self.pairwise)

    def _say_sample(self, what: str, rows: ProbeRows) -> None:
        if len(rows.rows) < self.representation.n:
            self.notices.append(
                f"{what} saw {len(rows.rows):,} of {self.representation.n:,} rows, "
                "chosen by the hash of their ids"
            )

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
        """Take what needs labels or attributes."""
        kept = self.representation
        assert self.rows is not None and self.pairwise is not None
        _log.info("probing labels")
        self.tables.append(
            pictures.split_table(self.rows.is_test, self.rows.representation.levels)
        )
        self._say_sample("probes", self.rows)
        for level in (*kept.levels, *kept.attributes):
            is_label = any(level is one for one in kept.levels)
            group = self.survey.groups[level.name]
            functions = supervised.OF_CLASSES if is_label else supervised.OF_ATTRIBUTES
            self.measurements += supervised.group_measurements(
                group, self.survey, functions
            )
            probed = supervised.probe_level(level, self.rows, only_linear=not is_label)
            self.measurements += probed.measurements
            self.results |= probed.results
            if is_label and len(self.rows.rows) < kept.n:
                # Centres need no row in memory: they see them all.
                assert self.is_test is not None
                whole, correct = supervised.streamed_nearest_centre(
                    level, kept, self.is_test
                )
                self.measurements = [
                    whole if one.key == whole.key else one for one in self.measurements
                ]
                self.correct[f"correct:{level.name}:ncc"] = correct
            if is_label:
                self._keep_answers(level)
        if kept.levels:
            self.measurements += supervised.hierarchy_measurements(
                self.survey, self.rows
            )
            _log.info("measuring how classes lie")
            self.measurements += structure_measurements(self.pairwise, CLASSES)
            self.measurements += cluster_measurements(self.pairwise)
            self.measurements += structure_measurements(self.rows, ANSWERS)
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
                self.correct.setdefault(f"correct:{name}:{probe}", column)
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
        predicted = answers["linear"]
        profiles = class_pictures.profile_table(level, self.rows, predicted)
        tested = self.rows.rows[self.rows.is_test]
        scores = self.survey.scores["q_score"][tested]
        self.tables += [] if profiles is None else [profiles]
        self.tables.append(
            class_pictures.score_table(level, self.rows, scores, predicted)
        )

    def measure_layers(self, embedding: Embedding) -> None:
        """Take the same numbers of every layer of an embedding."""
        kept = self.representation
        assert self.rows is not None
        finite = {}
        for layer, rows in embedding.representations.items():
            if embedding.nonfinite.get(layer):
                self.notices.append(
                    f"layer {layer} has NaN or infinity: it is not compared"
                )
            else:
                finite[layer] = rows
        found = compare_layers(
            finite,
            kept.rows,
            kept.rows[self.rows.rows],
            self.rows.representation.levels,
            self.rows.is_test if kept.levels else None,
        )
        self.tables.insert(0, found.table)
        self.curves += found.curves

    def measure_reference(self, given: Representation) -> None:
        """Take what shows how much could have been learnt."""
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
        spectral, eigenvalues = spectral_measurements(
            surveyed, layer="reference", intervals=False
        )
        self.curves = [pictures.with_reference(c, eigenvalues) for c in self.curves]
        wanted = ("effective_rank", "effective_rank_covariance", "alpha")
        self.measurements += [one for one in spectral if one.name in wanted]
        if not kept.levels or self.rows is None:
            return
        rows = ProbeRows.of(other, self.rows.rows, self.is_test, self.seed)
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
