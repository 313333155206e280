"""What is measured of one layer at one epoch, for all label sets at once?

Linear probe, nearest class centres and class geometry share the rows; the linear probe
shares their standardisation, one eigenbasis and one solve.
"""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from repscope._arrays import Array, as_double, as_matrix, host, namespace
from repscope._checking import (
    NonFiniteFeatureError,
    Undecidable,
    UsageError,
    check_choice,
    check_length,
)
from repscope.data.levels import Level, encode_level
from repscope.metrics.class_centres import in_squared_units
from repscope.metrics.clustering import (
    between_squared_distance,
    cdnv,
    within_variance,
)
from repscope.metrics.curves import ncc_linear_ratio
from repscope.metrics.intervals import block_of_rows, jackknifed, n_blocks
from repscope.metrics.linear_probes import LabelPair, LinearProbe, linear_probes
from repscope.metrics.metric import Estimate, metric_of
from repscope.metrics.nearest_centre import nearest_centre_probe
from repscope.metrics.probing import ProbeResult, standardise
from repscope.records import Detail
from repscope.representations.class_moments import ClassMoments
from repscope.representations.representation import Representation

Split = Literal["train", "test"]
Cell = tuple[int | float, str, str]
# The linear probe's name in the catalogue.
_LINEAR_METRIC: Mapping[LinearProbe, str] = {
    "squared_hinge": "squared_hinge_accuracy",
    "logistic": "linear_accuracy",
    "ridge": "ridge_accuracy",
}
Geometry = Callable[[ClassMoments], Estimate | float]
_GEOMETRY: tuple[Geometry, ...] = (
    cdnv,
    within_variance,
    between_squared_distance,
)
# Beyond these sizes squares leave the range of float64.
_LEAST_PEAK, _GREATEST_PEAK = 2.0**-200, 2.0**200


@dataclass(frozen=True, kw_only=True)
class GridRow:
    """One number of a grid, with what it is of.

    Args:
        epoch: of training.
        layer: of the encoder.
        level: the label set.
        metric: its name in the catalogue.
        split: the rows it was taken on; probes and centres are those of training rows.
        value: the number, or None where it cannot be decided; then `reason` says why.
        low: of its 95 % interval, where it has one.
        high: of its 95 % interval, where it has one.
        n: rows it was taken on.
        n_classes: classes of the label set.
        absent_classes: those of them without training rows, which count as wrong.
        converged: whether the probe's solver did; None where nothing was solved.
        reason: why there is no value.
    """

    epoch: int | float = 0
    layer: str = "features"
    level: str
    metric: str
    split: Split
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int
    n_classes: int
    absent_classes: int = 0
    converged: bool | None = None
    reason: str | None = None

    @property
    def cell(self) -> Cell:
        """What was measured together: epoch, layer and label set."""
        return self.epoch, self.layer, self.level


def linear_metric(probe: LinearProbe) -> str:
    """Return the name in the catalogue of a linear probe's accuracy.

    Raises:
        UsageError: for an unknown probe.
    """
    check_choice("probe", probe, _LINEAR_METRIC)
    return _LINEAR_METRIC[probe]


def label_sets(
    layers: Mapping[str, Any],
    levels: Mapping[str, Any] | None,
    is_test: Bool[np.ndarray, " n"] | None,
) -> tuple[tuple[Level, ...], Bool[np.ndarray, " n"]]:
    """Return the label sets as codes and the test rows, given or of the first layer.

    Args:
        layers: layer -> (n, d) array, tensor or `Representation`.
        levels: label set -> n values or a `Level`.
        is_test: (n,) which rows test.

    Raises:
        InputError: where lengths differ or a label is missing.
        UsageError: where there are no layers, or labels or split are not known.
    """
    if not layers:
        raise UsageError("no layers to probe", expected="layer -> features")
    first = next(iter(layers.values()))
    brings = first if isinstance(first, Representation) else None
    n = brings.n if brings else len(first)
    if levels is None and brings:
        levels = {one.name: one for one in (*brings.levels, *brings.attributes)}
    if is_test is None and brings:
        is_test = brings.is_test
    if not levels:
        raise UsageError("no label sets to probe", fix="give levels: name -> n labels")
    if is_test is None:
        raise UsageError("no split into training and test rows", fix="give is_test")
    check_length("is_test", len(is_test), n)
    encoded = []
    for name, values in levels.items():
        if isinstance(values, Level):
            check_length(f"labels {name!r}", len(values.codes), n)
            encoded.append(Level(name, values.codes, values.classes))
        else:
            encoded.append(encode_level(name, values, n))
    return tuple(encoded), np.asarray(host(is_test), dtype=bool)


@dataclass(frozen=True, eq=False)
class Sides:
    """Training and test rows of one layer, in a unit in which they can be squared.

    Args:
        train: (n, d) in float64.
        test: (m, d) in float64.
        unit: a power of two by which they were divided; 1 but for extreme features.
    """

    train: Float[Array, "n d"]
    test: Float[Array, "m d"]
    unit: float

    @classmethod
    def of(cls, features: Any, is_test: Bool[np.ndarray, " n"], name: str) -> "Sides":
        """Return the two sides of an (n, d) array, tensor or `Representation`.

        Args:
            features: of all rows.
            is_test: (n,) which rows test.
            name: what to call the features in an error.

        Raises:
            InputError: where features have another number of rows or are no numbers.
            NonFiniteFeatureError: where they are not finite.
        """
        if isinstance(features, Representation):
            features = features.take(np.arange(features.n))
        rows = as_double(as_matrix(features, name))
        check_length(name, rows.shape[0], len(is_test), "the first layer")
        xp = namespace(rows)
        greatest = xp.max(xp.abs(rows), axis=1)
        bad = np.flatnonzero(~host(xp.isfinite(greatest)))
        if len(bad):
            raise NonFiniteFeatureError(name, len(bad), int(bad[0]))
        peak, unit = float(xp.max(greatest)), 1.0
        if peak > 0 and not _LEAST_PEAK <= peak <= _GREATEST_PEAK:
            unit = math.ldexp(1.0, math.frexp(peak)[1] - 1)
            rows = rows / unit
        positions = (np.flatnonzero(~is_test), np.flatnonzero(is_test))
        train, test = (
            xp.take(rows, xp.asarray(one, device=rows.device), axis=0)
            for one in positions
        )
        return cls(train, test, unit)


def rows_of_layer(
    sides: Sides,
    sets: Sequence[Level],
    is_test: Bool[np.ndarray, " n"],
    *,
    probe: LinearProbe,
    C: float,
) -> tuple[GridRow, ...]:
    """Return the numbers of one layer, label set by label set.

    Args:
        sides: of the layer's rows.
        sets: labels of the same rows.
        is_test: (n,) which rows test.
        probe: the linear probe.
        C: inverse strength of its penalty.

    Raises:
        UsageError: for an unknown probe, or where C is not positive.
    """
    pairs = [
        LabelPair(one.codes[~is_test], one.codes[is_test], one.n_classes)
        for one in sets
    ]
    standard = standardise(sides.train, sides.test)
    linear = linear_probes(*standard, pairs, probe=probe, C=C)
    rows: list[GridRow] = []
    for level, pair, found in zip(sets, pairs, linear, strict=True):
        cell = _Cell(level.name, pair, sides)
        rows += cell.accuracies(linear_metric(probe), found)
        centres = cell.nearest_centres()
        rows += cell.accuracies("ncc_accuracy", centres)
        rows.append(cell.ratio(centres, found))
        rows += cell.geometry("train", sides.train, pair.train)
        rows += cell.geometry("test", sides.test, pair.test)
    return tuple(rows)


@dataclass(frozen=True, eq=False)
class _Cell:
    """One label set on the rows of one layer."""

    level: str
    pair: LabelPair
    sides: Sides

    def accuracies(
        self, metric: str, found: ProbeResult | Undecidable
    ) -> tuple[GridRow, ...]:
        """Return a probe's training and test accuracy."""
        if isinstance(found, Undecidable):
            return self._row(metric, "train", found), self._row(metric, "test", found)
        train: Estimate | Undecidable = Undecidable("not asked for")
        if found.train_accuracy is not None:
            train = Estimate(found.train_accuracy)
        test = Estimate(found.test_accuracy, found.interval)
        solved = found.converged if metric != "ncc_accuracy" else None
        return (
            self._row(metric, "train", train, converged=solved),
            self._row(metric, "test", test, converged=solved),
        )

    def nearest_centres(self) -> ProbeResult | Undecidable:
        """Return what the nearest centres of training classes read."""
        pair, sides = self.pair, self.sides
        try:
            return nearest_centre_probe(
                sides.train, pair.train, sides.test, pair.test, pair.n_classes
            )
        except Undecidable as answer:
            return answer

    def ratio(
        self, centres: ProbeResult | Undecidable, linear: ProbeResult | Undecidable
    ) -> GridRow:
        """Return nearest-centre over linear test accuracy."""

        def compute() -> Estimate:
            right = []
            for one in (centres, linear):
                if isinstance(one, Undecidable):
                    raise one
                right.append(host(one.predictions) == self.pair.test)
            return ncc_linear_ratio(*right)

        return self._row("ncc_linear_ratio", "test", _answer(compute))

    def geometry(
        self, split: Split, rows: Float[Array, "n d"], labels: Int[np.ndarray, " n"]
    ) -> tuple[GridRow, ...]:
        """Return CDNV and its two parts, with their jackknife over blocks of rows."""
        sums = _BlockSums.of(rows, labels, self.pair.n_classes)
        return tuple(
            self._row(
                metric_of(function).name,
                split,
                _answer(partial(sums.estimate, function, self.sides.unit)),
            )
            for function in _GEOMETRY
        )

    def _row(
        self,
        metric: str,
        split: Split,
        found: Estimate | Undecidable,
        *,
        converged: bool | None = None,
    ) -> GridRow:
        estimate = found if isinstance(found, Estimate) else None
        low, high = (estimate.interval if estimate else None) or (None, None)
        return GridRow(
            level=self.level,
            metric=metric,
            split=split,
            value=float(estimate.value) if estimate else None,
            low=low,
            high=high,
            n=len(self.pair.train if split == "train" else self.pair.test),
            n_classes=self.pair.n_classes,
            absent_classes=self.pair.absent,
            converged=converged,
            reason=found.reason if isinstance(found, Undecidable) else None,
        )


@dataclass(frozen=True, eq=False)
class _BlockSums:
    """Class moments of all rows, and without each jackknife block of them."""

    whole: ClassMoments
    rests: tuple[ClassMoments, ...]
    sizes: Int[np.ndarray, " k"]

    @classmethod
    def of(
        cls, rows: Float[Array, "n d"], labels: Int[np.ndarray, " n"], n_classes: int
    ) -> "_BlockSums":
        n, d = rows.shape
        count = max(n_blocks(n, d), 1)
        # Rows are dealt by their position, the same in each layer and epoch; a class
        # in each block counts as one of its own, so that one pass sums all.
        blocks = block_of_rows(np.arange(n), count)
        joint = ClassMoments(count * n_classes, d)
        joint.update(rows, blocks * n_classes + labels)
        parts, whole = [], ClassMoments(n_classes, d)
        for k in range(count):
            part = ClassMoments(n_classes, d)
            own = slice(k * n_classes, (k + 1) * n_classes)
            part.counts, part.means = joint.counts[own], joint.means[own]
            part.scatters = joint.scatters[own]
            parts.append(part)
            whole.merge(part)
        sizes = np.bincount(blocks, minlength=count)
        return cls(whole, tuple(whole.without(part) for part in parts), sizes)

    def estimate(self, function: Geometry, unit: float) -> Estimate:
        """Return a number in units of the features as they were given."""

        def number(block: int | None) -> float:
            found = function(self.whole if block is None else self.rests[block])
            return found.value if isinstance(found, Estimate) else float(found)

        found = jackknifed(number, self.sizes)
        numbers = [number(None), *(found.interval if found else ())]
        if metric_of(function).degree != 0 and unit != 1:
            numbers = [_in_given_units(one, unit) for one in numbers]
        value, *ends = numbers
        if not ends:
            return Estimate(value)
        details: dict[str, Detail] = {"interval": "jackknife over blocks of rows"}
        return Estimate(value, (max(ends[0], 0.0), ends[1]), details)


def _in_given_units(value: float, unit: float) -> float:
    given = in_squared_units(value, unit)
    if value != 0 and abs(given) < sys.float_info.min:
        raise Undecidable("squares of the features are too small for float64")
    return given


def _answer(compute: Callable[[], Estimate]) -> Estimate | Undecidable:
    try:
        return compute()
    except Undecidable as answer:
        return answer
