"""The one place that draws: curves and maps, as figures and as SVG for the page.

Nothing here touches matplotlib's global state (no pyplot). Words of the user are drawn
as plain text, never as mathematics. In the SVG the ink and the series colours are names
that the page's theme fills in.
"""

import io
import re
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import matplotlib.style
import numpy as np
from jaxtyping import Float, Shaped
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.container import Container
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter

from repscope._checking import UsageError, did_you_mean
from repscope.records import Curve, Samples, Series
from repscope.report.wording import clean, rounded, shorten

Handle = Artist | Container

# Stands for "the colour of the page's text"; no other artist uses it.
INK = "#010203"
# Okabe and Ito 2008, without black (the ink) and yellow (unreadable on white).
PALETTE = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#8c6bb1",
)
SIZE_INCHES = (5.4, 3.5)
MAP_SIZE_INCHES = (6.4, 6.0)
# More markers than this add bytes and no information at this size.
MAXIMUM_MARKERS = 500
MAXIMUM_LEGEND = 10
_LABEL_LIMIT = 48
# Names of ticks: so many at most, so long at most, level up to so many letters in all.
MAXIMUM_TICKS = 16
_TICK_LIMIT = 20
_LEVEL_TICKS = 44
# Bars at whole numbers, such as classes, stand apart up to this many.
_MAXIMUM_SEPARATE = 60

_STYLE = {
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.use_mathtext": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "text.usetex": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "lines.linewidth": 1.6,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


class _PlainLogFormatter(LogFormatter):
    """Labels a logarithmic axis with 0.01, 1, 1,000 and 1e-05."""

    def _num_to_string(self, x: float, vmin: float, vmax: float) -> str:
        return f"{x:,g}" if 1e-4 < abs(x) < 1e5 else f"{x:.0e}"


@contextmanager
def _plain_style() -> Iterator[None]:
    with matplotlib.style.context(["default", _STYLE]):
        yield


def draw(curve: Curve, *, titled: bool = True) -> Figure:
    """Return a curve as a matplotlib figure.

    Args:
        curve: bars and steps have x as centres, or as edges where x is one longer.
        titled: whether the title stands above the axes; the page has it as a heading.

    Example:
        >>> line = Series(label="a", x=(1.0, 2.0), y=(3.0, 4.0))
        >>> curve = Curve(name="c", title="T", x_label="x", y_label="y", series=(line,))
        >>> draw(curve).axes[0].get_xlabel()
        'x'
    """
    with _plain_style():
        figure = Figure(figsize=SIZE_INCHES, layout="constrained")
        figure.set_label(clean(curve.title))
        axes = figure.subplots()
        _set_scales(axes, curve)
        handles = [
            _draw_series(axes, series, PALETTE[index % len(PALETTE)], curve)
            for index, series in enumerate(curve.series)
        ]
        if curve.shaded is not None:
            axes.axvspan(*curve.shaded, color=INK, alpha=0.07, linewidth=0)
        if titled:
            _plain(axes.set_title("", loc="left"), curve.title)
        _plain(axes.set_xlabel(""), curve.x_label)
        _plain(axes.set_ylabel(""), curve.y_label)
        _name_ticks(axes, curve.x_ticks)
        _add_legend(figure, handles, [series.label for series in curve.series])
    return figure


def draw_map(samples: Samples, *, colour_by: str | None = None) -> Figure:
    """Return the two-dimensional map as a matplotlib figure.

    Args:
        samples: with the columns ``map_x`` and ``map_y``; rows that are not on the map
            have NaN there.
        colour_by: a column; by default the first label level, else ``q_score``.

    Raises:
        UsageError: where there is no map, or no such column.
    """
    columns = samples.columns
    if "map_x" not in columns or "map_y" not in columns:
        raise UsageError("this report has no map", fix="diagnose features, not runs")
    if colour_by is None:
        levels = [name for name in columns if name.startswith("label:")]
        colour_by = levels[0] if levels else "q_score"
    elif colour_by not in columns:
        raise UsageError(
            f"no column {colour_by!r} in the samples",
            fix=did_you_mean(colour_by, columns),
        )
    x, y = np.asarray(columns["map_x"]), np.asarray(columns["map_y"])
    shown = np.isfinite(x) & np.isfinite(y)
    colours = np.asarray(columns.get(colour_by, np.zeros(len(x))))[shown]
    with _plain_style():
        figure = Figure(figsize=MAP_SIZE_INCHES, layout="constrained")
        figure.set_label("map")
        axes = figure.subplots()
        axes.set(xticks=[], yticks=[], aspect="equal")
        axes.spines[:].set_visible(False)
        points = np.column_stack([x[shown], y[shown]]).astype(np.float64)
        if colours.dtype.kind == "f":
            _scatter_scores(figure, axes, points, colours, colour_by)
        else:
            _scatter_categories(figure, axes, points, colours)
    return figure


def svg(figure: Figure, name: str = "figure") -> str:
    """Return a figure as SVG to stand inside an HTML page.

    Without prolog and doctype, the same bytes for the same figure, with no background;
    ink is ``currentColor``, series colours are ``var(--series-1)`` and so on, and all
    ids begin with `name`, so that several figures can share a page.

    Args:
        figure: its label becomes the picture's name for screen readers.
        name: letters, digits and hyphens; unique on the page.
    """
    buffer = io.StringIO()
    with (
        matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}),
        warnings.catch_warnings(),
    ):
        # Fonts of the page draw the text; what DejaVu lacks does not matter here.
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        warnings.filterwarnings("ignore", "constrained_layout not applied", UserWarning)
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    root = ElementTree.fromstring(buffer.getvalue())
    _make_inline(root, name)
    for key in ("width", "height"):
        del root.attrib[key]
    words = str(figure.get_label())
    root.attrib |= {"role": "img", "aria-label": words, "style": _LINES}
    title = ElementTree.Element("title")
    title.text = words
    root.insert(0, title)
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)


def _plain(text: Text, words: str) -> None:
    """Set words that came from a user: no mathematics, no control characters."""
    text.set_parse_math(False)
    text.set_text(shorten(words, 2 * _LABEL_LIMIT))


def _set_scales(axes: Axes, curve: Curve) -> None:
    """Set the axes' scales; without a positive value there is no logarithm."""
    for axis, scale in ((axes.xaxis, curve.x_scale), (axes.yaxis, curve.y_scale)):
        is_x = axis is axes.xaxis
        values = [
            v for series in curve.series for v in (series.x if is_x else series.y)
        ]
        if scale == "log" and max(values, default=0.0) > 0:
            (axes.set_xscale if is_x else axes.set_yscale)("log")
            axis.set_major_formatter(_PlainLogFormatter())
            axis.set_minor_formatter(_PlainLogFormatter(minor_thresholds=(1.0, 0.4)))


def _name_ticks(axes: Axes, names: Sequence[str]) -> None:
    """Put names at x = 1, 2, ...; of too many, evenly spread ones."""
    if not names:
        return
    shown = range(0, len(names), -(-len(names) // MAXIMUM_TICKS))
    short = [shorten(names[place], _TICK_LIMIT) for place in shown]
    is_level = sum(map(len, short)) <= _LEVEL_TICKS
    axes.set_xticks([place + 1 for place in shown])
    for text, name in zip(axes.set_xticklabels(short), short, strict=True):
        _plain(text, name)
        if not is_level:
            text.set(rotation=35.0, ha="right", rotation_mode="anchor")


def _draw_series(axes: Axes, series: Series, colour: str, curve: Curve) -> Handle:
    x, y = np.asarray(series.x, np.float64), np.asarray(series.y, np.float64)
    if series.style == "bars":
        return _draw_bars(axes, x, y, colour, several=len(curve.series) > 1)
    if series.style == "points":
        keep = _markers(x, logarithmic=axes.get_xscale() == "log")
        (line,) = axes.plot(
            x[keep], y[keep], linestyle="none", marker="o", markersize=3.2, color=colour
        )
        line.set_markeredgewidth(0)
        return line
    if series.style == "step" and len(x) == len(y) + 1:
        return axes.stairs(y, x, color=colour, linewidth=1.6)
    drawstyle = "steps-mid" if series.style == "step" else "default"
    dashes = (0, (5, 3)) if series.style == "dashed" else "solid"
    (line,) = axes.plot(x, y, color=colour, linestyle=dashes, drawstyle=drawstyle)
    return line


def _draw_bars(
    axes: Axes,
    x: Float[np.ndarray, " m"],
    y: Float[np.ndarray, " k"],
    colour: str,
    *,
    several: bool,
) -> Handle:
    alpha = 0.45 if several else 0.8
    is_places = len(x) == len(y) <= _MAXIMUM_SEPARATE and np.array_equal(x, x.round())
    if is_places and not several:
        return axes.bar(x, y, width=0.75, color=colour, alpha=alpha, linewidth=0)
    edges = x if len(x) == len(y) + 1 else _edges(x)
    axes.stairs(y, edges, fill=True, color=colour, alpha=alpha, linewidth=0)
    return axes.stairs(y, edges, color=colour, linewidth=1.1)


def _edges(centres: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n_plus_1"]:
    """Return bin edges halfway between centres."""
    if len(centres) < 2:
        return np.concatenate([centres - 0.5, centres[-1:] + 0.5, centres[:0]])
    middles = (centres[1:] + centres[:-1]) / 2
    first, last = 2 * centres[0] - middles[0], 2 * centres[-1] - middles[-1]
    return np.concatenate([[first], middles, [last]])


def _markers(
    x: Float[np.ndarray, " n"], *, logarithmic: bool
) -> Shaped[np.ndarray, " m"]:
    """Return the positions of at most MAXIMUM_MARKERS markers, spread over the axis."""
    if len(x) <= MAXIMUM_MARKERS:
        return np.arange(len(x))
    spread = np.geomspace if logarithmic else np.linspace
    ranks = spread(1, len(x), MAXIMUM_MARKERS).round().astype(np.int64) - 1
    return np.unique(ranks)


def _add_legend(figure: Figure, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """Put the legend above the axes, where it can hide nothing."""
    if len(handles) < 2:
        return
    short = [shorten(label, _LABEL_LIMIT) for label in labels]
    columns = 1 if max(map(len, short)) > 28 else 2 if len(short) != 3 else 3
    # Placeholders first: matplotlib drops a label that begins with an underscore.
    legend = figure.legend(
        handles[:MAXIMUM_LEGEND],
        ["-"] * len(handles[:MAXIMUM_LEGEND]),
        loc="outside upper left",
        ncols=columns,
        handlelength=1.6,
        borderaxespad=0.2,
    )
    for text, label in zip(legend.get_texts(), short, strict=False):
        _plain(text, label)


def _scatter_scores(
    figure: Figure,
    axes: Axes,
    points: Float[np.ndarray, "n 2"],
    scores: Float[np.ndarray, " n"],
    name: str,
) -> None:
    size = _marker_size(len(points))
    x, y = points.T
    cloud = axes.scatter(x, y, c=scores, s=size, cmap="cividis", linewidths=0)
    cloud.set_rasterized(True)
    bar = figure.colorbar(cloud, ax=axes, shrink=0.6)
    _plain(bar.ax.yaxis.label, name)


def _scatter_categories(
    figure: Figure,
    axes: Axes,
    points: Float[np.ndarray, "n 2"],
    labels: Shaped[np.ndarray, " n"],
) -> None:
    names, codes = np.unique(labels.astype(str), return_inverse=True)
    size = _marker_size(len(points))
    wheel = matplotlib.colormaps["turbo"](np.linspace(0.05, 0.95, max(len(names), 1)))
    colours = PALETTE if len(names) <= len(PALETTE) else list(wheel)
    handles = []
    for code in range(len(names)):
        x, y = points[codes == code].T
        cloud = axes.scatter(x, y, s=size, color=colours[code], linewidths=0, alpha=0.7)
        cloud.set_rasterized(True)
        handles.append(cloud)
    if len(names) <= MAXIMUM_LEGEND:
        _add_legend(figure, handles, [str(name) for name in names])
    else:
        axes.set_xlabel(f"colours: {rounded(len(names))} labels")


def _marker_size(n: int) -> float:
    return float(np.clip(40_000 / max(n, 1), 2.0, 18.0))


# SVG inside HTML: no namespaces, no unused ids, no styles that reach the whole page;
# the theme fills in the colours. Text is never touched.

_COLOURS = {INK: "currentColor"} | {
    colour: f"var(--series-{index}, {colour})"
    for index, colour in enumerate(PALETTE, start=1)
}
_HEX = re.compile("#[0-9a-f]{6}")
_REFERENCE = re.compile(r"url\(#([^)]*)\)")
_FONT = re.compile(r"font-family: [^;]*; ?")
_LEFT_OUT = ("metadata", "style")
_LINES = "stroke-linejoin: round; stroke-linecap: butt"


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _make_inline(root: ElementTree.Element, name: str) -> None:
    """Rewrite a parsed picture so that it can stand inside a page."""
    targets = _referenced(root)
    for element in root.iter():
        element.tag = _local(element.tag)
        element.text = (element.text or "").strip()
        element.tail = ""
        for child in list(element):
            if _local(child.tag) in _LEFT_OUT:
                element.remove(child)
        attributes = {_local(key): value for key, value in element.attrib.items()}
        element.attrib.clear()
        element.attrib.update(_themed(attributes, name, targets))


def _referenced(root: ElementTree.Element) -> set[str]:
    """Return the ids that something in the picture points at."""
    targets: set[str] = set()
    for element in root.iter():
        for key, value in element.attrib.items():
            targets.update(_REFERENCE.findall(value))
            if _local(key) == "href":
                targets.add(value.removeprefix("#"))
    return targets


def _themed(attributes: dict[str, str], name: str, targets: set[str]) -> dict[str, str]:
    themed = {}
    for key, value in attributes.items():
        if key == "id":
            if value in targets:
                themed[key] = f"{name}-{value}"
        elif key == "href":
            themed[key] = f"#{name}-{value.removeprefix('#')}"
        else:
            value = _REFERENCE.sub(rf"url(#{name}-\1)", value)
            value = _HEX.sub(lambda found: _COLOURS.get(found[0], found[0]), value)
            themed[key] = _FONT.sub("", value)  # the page's own font
    return themed
