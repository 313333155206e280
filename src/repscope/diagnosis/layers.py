"""What does each layer of the encoder hold? The same numbers, layer by layer."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from repscope._arrays import fingerprint, hash_rows
from repscope._checking import Undecidable
from repscope.metrics import power_law, spectral
from repscope.metrics.metric import metric_of
from repscope.metrics.probe_grid import ProbeGrid
from repscope.records import Curve, Scalar, Series, Table
from repscope.representations.moments import Moments
from repscope.representations.representation import Level, Representation

# A decomposition of wider features costs more than the comparison is worth.
SPECTRUM_MAXIMUM_D = 4096
_COLUMNS = (
    "layer",
    "level",
    "d",
    "α",
    "effective rank",
    "squared hinge",
    "95 % from",
    "95 % to",
    "nearest centres",
    "ratio",
    "CDNV",
)

_log = logging.getLogger("repscope")


@dataclass(frozen=True, eq=False)
class LayerRecords:
    """What is shown of the layers.

    Args:
        table: one row per layer and label level; without labels one row per layer.
        curves: accuracy over layers.
    """

    table: Table
    curves: tuple[Curve, ...] = ()


def compare_layers(
    layers: Mapping[str, Representation],
    kept: Int[np.ndarray, " n"],
    probed: Int[np.ndarray, " m"],
    levels: Sequence[Level],
    is_test: Bool[np.ndarray, " m"] | None,
) -> LayerRecords:
    """Return what each layer holds, shallow to deep.

    Layers of the same values on the probed rows are one, under all their names.

    Args:
        layers: several layers of the same images, shallow to deep, finite.
        kept: the rows that are measured.
        probed: those of the rows that probes see, positions in the layers.
        levels: labels of the rows that probes see.
        is_test: which of those test.
    """
    grid = ProbeGrid()
    spectra: dict[str, tuple[int, float | None, float | None]] = {}
    for names in _alike(layers, probed):
        layer, rows = " = ".join(names), layers[names[0]]
        _log.info("measuring layer %s", layer)
        spectra[layer] = _spectrum(rows.subset(kept))
        if levels and is_test is not None:
            named = {one.name: one for one in levels}
            grid = grid.add(0, {layer: rows.take(probed)}, named, is_test)
    table = _table(spectra, grid, [one.name for one in levels])
    return LayerRecords(table, _curves(grid, levels))


def _alike(
    layers: Mapping[str, Representation], probed: Int[np.ndarray, " m"]
) -> list[list[str]]:
    """Return the names of the layers, those of equal values together."""
    groups: dict[tuple[int, str], list[str]] = {}
    for layer, rows in layers.items():
        values = fingerprint(hash_rows(rows.take(probed)))
        groups.setdefault((rows.d, values), []).append(layer)
    return list(groups.values())


def _spectrum(rows: Representation) -> tuple[int, float | None, float | None]:
    """Return the width, alpha and effective rank of a layer."""
    if rows.d > SPECTRUM_MAXIMUM_D:
        return rows.d, None, None
    moments = Moments(rows.d)
    for _, block in rows.blocks():
        moments.update(block)
    eigenvalues = moments.spectrum().values
    decay = metric_of(power_law.alpha).measured(
        lambda: power_law.alpha(eigenvalues, moments.n), n=moments.n
    )
    rank = metric_of(spectral.effective_rank_covariance).measured(
        lambda: spectral.effective_rank_covariance(eigenvalues), n=moments.n
    )
    return rows.d, decay.value, rank.value


def _table(
    spectra: Mapping[str, tuple[int, float | None, float | None]],
    grid: ProbeGrid,
    levels: Sequence[str],
) -> Table:
    rows: list[tuple[Scalar, ...]] = []
    for level in levels or [""]:
        for layer, known in spectra.items():
            cells = {
                (row.metric, row.split): row
                for row in grid.rows
                if (row.layer, row.level) == (layer, level)
            }
            linear = cells.get((grid.linear_metric, "test"))
            others = (
                cells.get((name, "test"))
                for name in ("ncc_accuracy", "ncc_linear_ratio", "cdnv")
            )
            rows.append(
                (
                    layer,
                    level,
                    *known,
                    linear.value if linear else None,
                    linear.low if linear else None,
                    linear.high if linear else None,
                    *(one.value if one else None for one in others),
                )
            )
    return Table(
        name="layers",
        title="What each layer holds",
        columns=_COLUMNS,
        rows=tuple(rows),
        how_to_read="Shallow to deep, on the test rows; layers joined by = hold the "
        "same values. α and effective rank (of the covariance) compare only roughly "
        "between widths d. Squared hinge: accuracy of that probe on standardised "
        "features, with its 95 % interval; ratio: of nearest centres to it. "
        + _best(grid, levels),
    )


def _best(grid: ProbeGrid, levels: Sequence[str]) -> str:
    """Return in words where each level is read best."""
    said = []
    for level in levels:
        try:
            best = grid.best_layer("linear", epoch=0, level=level)
        except Undecidable:
            continue
        others = [one for one in best.indistinguishable if one != best.best]
        alike = f"; {', '.join(others)} lies within its interval" if others else ""
        said.append(f"{level!r} is read best from {best.best}{alike}.")
    return " ".join(said)


def _curves(grid: ProbeGrid, levels: Sequence[Level]) -> tuple[Curve, ...]:
    series = []
    for level in levels:
        for metric, style in (("linear", "line"), ("ncc_accuracy", "dashed")):
            try:
                names, values = grid.profile(metric, epoch=0, level=level.name)
            except Undecidable:
                continue
            word = "squared hinge" if metric == "linear" else "nearest centres"
            places = tuple(float(grid.layers.index(name) + 1) for name in names)
            series.append(
                Series(
                    label=f"{level.name}, {word}",
                    x=places,
                    y=tuple(values.tolist()),
                    style="line" if style == "line" else "dashed",
                )
            )
    if not series:
        return ()
    return (
        Curve(
            name="layers",
            title="What probes read, layer by layer",
            x_label="layer, shallow to deep",
            y_label="test accuracy",
            series=tuple(series),
            how_to_read="The deepest layer is not always the best; where nearest "
            "centres come near the squared-hinge probe, classes have gathered.",
            x_ticks=grid.layers,
        ),
    )
