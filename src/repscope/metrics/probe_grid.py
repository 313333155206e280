"""How does what features tell of labels change with training and with depth?

For every epoch, layer and label set: what a linear probe and nearest class centres
read, and how wide and how far apart the classes lie; as tidy rows, one number in each.
"""

import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float

from repscope._checking import InputError, Undecidable, UsageError, did_you_mean
from repscope.files.saving import write_together
from repscope.metrics.curves import BestLayer, best_layer
from repscope.metrics.grid_rows import (
    Cell,
    GridRow,
    Sides,
    Split,
    label_sets,
    linear_metric,
    rows_of_layer,
)
from repscope.metrics.linear_probes import LinearProbe
from repscope.records import Scalar, Table, from_json, to_json

# Which values are better; higher where nothing is said.
_DIRECTIONS: Mapping[str, Literal["higher", "lower"] | None] = {
    "cdnv": "lower",
    "within_variance": None,
    "between_squared_distance": None,
}


@dataclass(frozen=True, kw_only=True)
class ProbeGrid:
    """Tidy rows over epochs, layers and label sets; `add` returns a new grid.

    A list of the rows makes a frame: ``pandas.DataFrame(list(grid.rows))``,
    ``polars.DataFrame(list(grid.rows))``.

    Args:
        probe: the linear probe: "squared_hinge" (as S3 used it), "logistic" or "ridge".
        C: inverse strength of its penalty; plays no part in ridge.
        rows: in the order added; layers shallow to deep.

    Source: Ben-Shaul et al. 2023, Figs. 2, 4 and 5. Differs from the source in
    standardising the features of the linear probe, and in taking CDNV and its two parts
    on test rows too.

    Example:
        >>> generator = np.random.default_rng(0)
        >>> labels = np.arange(60) % 3
        >>> is_test = np.arange(60) >= 40
        >>> features = np.eye(3)[labels] + 0.1 * generator.standard_normal((60, 3))
        >>> grid = ProbeGrid().add(10, {"h": features}, {"class": labels}, is_test)
        >>> grid.curve("ncc_accuracy", layer="h", level="class")
        (array([10.]), array([1.]))
    """

    probe: LinearProbe = "squared_hinge"
    C: float = 1.0
    rows: tuple[GridRow, ...] = field(default=(), repr=False)

    @property
    def linear_metric(self) -> str:
        """The name of the linear probe's accuracy among the metrics."""
        return linear_metric(self.probe)

    @property
    def epochs(self) -> tuple[int | float, ...]:
        """The epochs, ascending."""
        return tuple(sorted({row.epoch for row in self.rows}))

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers in the order added."""
        return tuple(dict.fromkeys(row.layer for row in self.rows))

    def add(
        self,
        epoch: int | float,
        layers: Mapping[str, Any],
        levels: Mapping[str, Any] | None = None,
        is_test: Bool[np.ndarray, " n"] | None = None,
    ) -> "ProbeGrid":
        """Return the grid with the numbers of one epoch added.

        All label sets of a layer share its standardised features, their eigenbasis and
        one solve.

        Args:
            epoch: of training.
            layers: layer -> (n, d) array, tensor or `Representation`, of the same rows;
                shallow to deep.
            levels: label set -> n values or a `Level`; not necessarily nested. Those of
                the first representation by default.
            is_test: (n,) which rows test; that of the first representation by default.

        Raises:
            InputError: where lengths differ, a label is missing, or features are not
                finite.
            UsageError: where labels or split are not given, or the grid has a label set
                of this epoch and layer already.
        """
        sets, mask = label_sets(layers, levels, is_test)
        self._check_new((epoch, layer, one.name) for layer in layers for one in sets)
        rows: list[GridRow] = []
        for layer, features in layers.items():
            where = f"layer {layer!r} of epoch {epoch:g}"
            sides = Sides.of(features, mask, where)
            found = rows_of_layer(sides, sets, mask, probe=self.probe, C=self.C)
            rows += (replace(row, epoch=epoch, layer=layer) for row in found)
        return replace(self, rows=(*self.rows, *rows))

    def merge(self, other: "ProbeGrid") -> "ProbeGrid":
        """Return both grids' rows as one grid, such as those of two machines.

        Raises:
            UsageError: where probe or C differ, or both have numbers of one label set,
                layer and epoch.
        """
        if (self.probe, self.C) != (other.probe, other.C):
            raise UsageError(
                "grids of different probes cannot be merged",
                found=f"{other.probe} with C = {other.C:g}",
                expected=f"{self.probe} with C = {self.C:g}",
            )
        self._check_new(row.cell for row in other.rows)
        return replace(self, rows=self.rows + other.rows)

    def _check_new(self, cells: Iterable[Cell]) -> None:
        known = {row.cell for row in self.rows}
        for cell in cells:
            if cell in known:
                epoch, layer, level = cell
                raise UsageError(
                    f"the grid has epoch {epoch:g}, layer {layer!r}, {level!r} already",
                    fix="give each label set of a layer and epoch once",
                )

    def select(
        self,
        metric: str,
        *,
        layer: str | None = None,
        level: str | None = None,
        split: Split = "test",
        epoch: int | float | None = None,
    ) -> tuple[GridRow, ...]:
        """Return the rows of a metric, in the order of epochs.

        Args:
            metric: its name in the catalogue, or "linear" for this grid's linear probe.
            layer: all where None.
            level: all where None.
            split: the rows it was taken on.
            epoch: all where None.

        Raises:
            UsageError: where there are none, with what there is.
        """
        name = self.linear_metric if metric == "linear" else metric
        wanted = {
            "metric": name,
            "layer": layer,
            "level": level,
            "split": split,
            "epoch": epoch,
        }
        found = self.rows
        for column, value in wanted.items():
            if value is None:
                continue
            known = dict.fromkeys(getattr(row, column) for row in found)
            found = tuple(row for row in found if getattr(row, column) == value)
            if not found:
                names = [str(one) for one in known]
                raise UsageError(
                    f"the grid has no {column} {value!r}",
                    fix=did_you_mean(str(value), names),
                )
        return tuple(sorted(found, key=lambda row: row.epoch))

    def curve(
        self, metric: str, *, layer: str, level: str, split: Split = "test"
    ) -> tuple[Float[np.ndarray, " t"], Float[np.ndarray, " t"]]:
        """Return (epochs, values) of one layer and label set, epochs ascending.

        Epochs without a value are left out.

        Args:
            metric: its name in the catalogue, or "linear".
            layer: of the encoder.
            level: the label set.
            split: the rows it was taken on.

        Raises:
            UsageError: for what the grid does not have.
            Undecidable: where no epoch has a value.
        """
        rows = self.select(metric, layer=layer, level=level, split=split)
        known = _decided(rows)
        return (
            np.array([row.epoch for row in known], dtype=np.float64),
            np.array([row.value for row in known], dtype=np.float64),
        )

    def profile(
        self, metric: str, *, epoch: int | float, level: str, split: Split = "test"
    ) -> tuple[tuple[str, ...], Float[np.ndarray, " l"]]:
        """Return (layers, values) of one epoch and label set, shallow to deep.

        Layers without a value are left out.

        Args:
            metric: its name in the catalogue, or "linear".
            epoch: of training.
            level: the label set.
            split: the rows it was taken on.

        Raises:
            UsageError: for what the grid does not have.
            Undecidable: where no layer has a value.
        """
        known = _decided(self.select(metric, epoch=epoch, level=level, split=split))
        values = np.array([row.value for row in known], dtype=np.float64)
        return tuple(row.layer for row in known), values

    def best_layer(
        self, metric: str, *, epoch: int | float, level: str, split: Split = "test"
    ) -> BestLayer:
        """Return the shallowest layer within the interval of the best.

        Args:
            metric: its name in the catalogue, or "linear".
            epoch: of training.
            level: the label set.
            split: the rows it was taken on.

        Raises:
            UsageError: for what the grid does not have, or a metric of which neither
                direction is better.
            Undecidable: where no layer has a value.
        """
        known = _decided(self.select(metric, epoch=epoch, level=level, split=split))
        direction = _DIRECTIONS.get(known[0].metric, "higher")
        if direction is None:
            raise UsageError(f"no layer is best by {known[0].metric}")
        return best_layer(
            [row.layer for row in known],
            [float(row.value or 0) for row in known],
            intervals=[
                None if row.low is None or row.high is None else (row.low, row.high)
                for row in known
            ],
            direction=direction,
        )

    def to_table(self, title: str = "Probe grid") -> Table:
        """Return all rows under the names of their columns."""
        names = tuple(one.name for one in fields(GridRow))
        rows: list[tuple[Scalar, ...]] = [
            tuple(getattr(row, name) for name in names) for row in self.rows
        ]
        return Table(
            name="probe_grid",
            title=title,
            columns=names,
            rows=tuple(rows),
            how_to_read="One number per row. Probes and centres are those of training "
            "rows; features are standardised for the linear probe only.",
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the grid as strict JSON, whole or not at all.

        Raises:
            ResourceError: where it cannot be written.
        """
        text = to_json(self).encode()
        target = Path(path)

        def write(file: io.BufferedIOBase) -> None:
            file.write(text)

        write_together(target.parent, {target.name: write}, len(text))

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "ProbeGrid":
        """Return a grid that `save` wrote.

        Raises:
            InputError: where the file does not exist or holds no grid.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: no probe grid: {error}") from error
        return from_json(cls, text)


def probe_grid(
    features: Mapping[int | float, Mapping[str, Any]],
    levels: Mapping[str, Any] | None = None,
    is_test: Bool[np.ndarray, " n"] | None = None,
    *,
    probe: LinearProbe = "squared_hinge",
    C: float = 1.0,
) -> ProbeGrid:
    """Return the grid of several epochs.

    Args:
        features: epoch -> layer -> (n, d) array, tensor or `Representation`.
        levels: label set -> n values or a `Level`.
        is_test: (n,) which rows test.
        probe: "squared_hinge", "logistic" or "ridge".
        C: inverse strength of its penalty.

    Raises:
        InputError: where lengths differ, a label is missing, or features are not
            finite.
        UsageError: where labels or split are not given, or the probe is unknown.
    """
    grid = ProbeGrid(probe=probe, C=C)
    for epoch, layers in features.items():
        grid = grid.add(epoch, layers, levels, is_test)
    return grid


def _decided(rows: Sequence[GridRow]) -> tuple[GridRow, ...]:
    known = tuple(row for row in rows if row.value is not None)
    if not known:
        raise Undecidable(rows[0].reason or "no value")
    return known
