import re
import subprocess
import sys
import warnings
import xml.etree.ElementTree as ElementTree

import matplotlib
import numpy as np
import pytest

from report.hostile_strings import hostile_record
from repscope._checking import UsageError
from repscope.records import Curve, Samples, Series
from repscope.report import figures
from repscope.report.figures import INK, PALETTE, draw, draw_map, svg


def _curve(*series, **changes):
    values = {"name": "c", "title": "T", "x_label": "x", "y_label": "y"}
    return Curve(**(values | changes), series=series)


def _line(style="line", x=(1.0, 2.0, 3.0), y=(3.0, 2.0, 1.0), label="a"):
    return Series(label=label, x=x, y=y, style=style)


def _ids(text):
    return re.findall(' id="([^"]*)"', text)


def _words(text):
    root = ElementTree.fromstring(text)
    return [element.text for element in root.iter("text")]


def test_pyplot_is_never_loaded():
    code = (
        "import sys; import repscope.report.figures as f; import repscope.records as r;"
        "s = r.Series(label='a', x=(1.0,), y=(1.0,));"
        "c = r.Curve(name='c', title='t', x_label='x', y_label='y', series=(s,));"
        "f.svg(f.draw(c)); sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_global_settings_stay(record):
    before = dict(matplotlib.rcParams)
    svg(draw(record.curves[0]))
    assert dict(matplotlib.rcParams) == before


def test_a_users_own_style_changes_nothing(record):
    plain = svg(draw(record.curves[0]))
    with matplotlib.rc_context({"text.usetex": True, "axes.grid": False}):
        assert svg(draw(record.curves[0])) == plain


def test_the_numbers_of_a_series_are_drawn():
    axes = draw(_curve(_line(), _line("points"), _line("dashed"))).axes[0]
    for line in axes.lines:
        np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
        np.testing.assert_array_equal(line.get_ydata(), [3, 2, 1])
    assert [line.get_linestyle() for line in axes.lines] == ["-", "None", "--"]
    assert axes.lines[1].get_marker() == "o"


@pytest.mark.parametrize(
    ("x", "edges"),
    [
        ((0.5, 1.5, 2.5), [0, 1, 2, 3]),
        ((0.0, 1.0, 2.0, 3.0), [0, 1, 2, 3]),
    ],
)
def test_bars_take_centres_or_edges(x, edges):
    steps = draw(_curve(_line("bars", x=x))).axes[0].patches[0].get_data()
    np.testing.assert_allclose(steps.edges, edges)
    np.testing.assert_array_equal(steps.values, [3, 2, 1])


def test_bars_at_whole_numbers_stand_apart():
    bars = draw(_curve(_line("bars"))).axes[0].patches
    assert [bar.get_x() + bar.get_width() / 2 for bar in bars] == [1, 2, 3]
    assert all(bar.get_width() < 1 for bar in bars)


def test_a_step_changes_halfway_between_centres():
    line = draw(_curve(_line("step"))).axes[0].lines[0]
    assert line.get_drawstyle() == "steps-mid"


@pytest.mark.parametrize("style", ["line", "dashed", "points", "step", "bars"])
@pytest.mark.parametrize("size", [0, 1])
def test_few_points_are_no_trouble(style, size):
    points = (1.0,) * size
    assert svg(draw(_curve(_line(style, x=points, y=points))))


def test_a_curve_without_series_is_no_trouble():
    assert svg(draw(_curve()))


def test_logarithmic_axes_follow_the_curve():
    axes = draw(_curve(_line(), x_scale="log", y_scale="log")).axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")


def test_without_a_positive_value_an_axis_is_linear():
    curve = _curve(_line(y=(0.0, -1.0, -2.0)), x_scale="log", y_scale="log")
    axes = draw(curve).axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "linear")


def test_logarithmic_ticks_are_plain_numbers():
    x = (1e-6, 1.0, 1e6)
    text = svg(draw(_curve(_line(x=x), x_scale="log", y_scale="log")))
    words = _words(text)
    assert {"0.01", "1", "100", "1e+06"} <= set(words)
    assert not any("$" in word for word in words)


def test_many_markers_are_thinned_over_a_logarithmic_axis():
    x = tuple(float(k) for k in range(1, 5001))
    curve = _curve(_line("points", x=x, y=x), x_scale="log")
    drawn = draw(curve).axes[0].lines[0].get_xdata()
    assert len(drawn) <= figures.MAXIMUM_MARKERS
    np.testing.assert_array_equal(drawn[:5], [1, 2, 3, 4, 5])
    assert drawn[-1] == 5000


def test_the_legend_names_two_series_and_not_one():
    assert draw(_curve(_line())).legends == []
    (legend,) = draw(_curve(_line(label="a"), _line(label="_b"))).legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "_b"]


def test_words_are_never_mathematics():
    words = r"$\frac{1}{2}$ and $\undefined$"
    curve = _curve(
        _line(label=words),
        _line(label=words),
        title=words,
        x_label=words,
        y_label=words,
    )
    assert _words(svg(draw(curve))).count(words) == 5


def test_any_payload_is_plain_text_in_a_picture(payload):
    (curve,) = hostile_record(payload).curves
    root = ElementTree.fromstring(svg(draw(curve)))
    tags = {element.tag for element in root.iter()}
    assert tags <= {
        "svg",
        "title",
        "defs",
        "g",
        "path",
        "use",
        "text",
        "clipPath",
        "rect",
    }
    names = {name for element in root.iter() for name in element.attrib}
    assert not any(name.startswith("on") for name in names)
    links = [element.get("href") for element in root.iter("use")]
    assert all(link.startswith("#figure-") for link in links)


def test_letters_that_the_font_lacks_are_no_trouble():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "\u6f22\u5b57" in svg(draw(_curve(_line(), title="\u6f22\u5b57")))


def test_a_picture_is_the_same_every_time(record):
    assert svg(draw(record.curves[0]), "f") == svg(draw(record.curves[0]), "f")


def test_ids_of_two_pictures_on_a_page_differ(record):
    first, second = (svg(draw(record.curves[0]), name) for name in ("a", "b"))
    assert set(_ids(first)) & set(_ids(second)) == set()
    for text in (first, second):
        assert len(_ids(text)) == len(set(_ids(text)))
        used = re.findall(r"url\(#([^)]*)\)", text) + re.findall(
            'href="#([^"]*)"', text
        )
        assert set(used) == set(_ids(text))


def test_the_theme_of_the_page_colours_a_picture(record):
    text = svg(draw(record.curves[0]))
    assert "currentColor" in text
    assert f"var(--series-1, {PALETTE[0]})" in text
    assert INK not in text
    assert "<style" not in text
    assert "font-family" not in text
    assert "background" not in text


def test_a_picture_is_html_without_prolog(record):
    text = svg(draw(record.curves[0]))
    assert text.startswith("<svg ")
    assert "<?xml" not in text
    assert "<!DOCTYPE" not in text
    assert " xmlns" not in text
    assert 'role="img" aria-label="Eigenvalue spectrum"' in text
    assert "<title>Eigenvalue spectrum</title>" in text


def test_the_page_has_the_title_as_a_heading_instead():
    assert draw(_curve(_line())).axes[0].get_title(loc="left") == "T"
    assert draw(_curve(_line()), titled=False).axes[0].get_title(loc="left") == ""


def test_places_on_the_x_axis_can_have_names():
    axes = draw(_curve(_line(), x_ticks=("stem", "$a$", "block = h"))).axes[0]
    assert axes.get_xticks().tolist() == [1, 2, 3]
    labels = axes.get_xticklabels()
    assert [one.get_text() for one in labels] == ["stem", "$a$", "block = h"]
    assert not any(one.get_parse_math() for one in labels)
    assert "$a$" in _words(svg(draw(_curve(_line(), x_ticks=("stem", "$a$", "b")))))


def test_of_too_many_names_evenly_spread_ones_are_shown():
    names = tuple(f"layer {k}" for k in range(1, 51))
    axes = draw(_curve(_line(), x_ticks=names)).axes[0]
    labels = [one.get_text() for one in axes.get_xticklabels()]
    assert axes.get_xticks().tolist() == list(range(1, 51, 4))
    assert labels == [names[k] for k in range(0, 50, 4)]


def test_the_shaded_ranks_are_shown():
    (span,) = draw(_curve(_line(), shaded=(1.5, 2.5))).axes[0].patches
    assert (span.get_x(), span.get_x() + span.get_width()) == (1.5, 2.5)


def test_a_map_shows_the_rows_that_have_a_place(samples):
    figure = draw_map(samples)
    drawn = sum(len(cloud.get_offsets()) for cloud in figure.axes[0].collections)
    assert drawn == np.isfinite(samples.columns["map_x"]).sum()


def test_a_map_without_labels_shows_the_quality(samples):
    names = ("map_x", "map_y", "q_score")
    figure = draw_map(Samples({name: samples.columns[name] for name in names}))
    assert figure.axes[1].get_ylabel() == "q_score"


def test_a_map_colours_by_the_column_asked_for(samples):
    assert draw_map(samples, colour_by="gini").axes[1].get_ylabel() == "gini"


def test_a_map_of_many_labels_counts_them(samples):
    columns = dict(samples.columns) | {"label:fine": np.arange(150).astype(str)}
    seen = np.isfinite(samples.columns["map_x"]).sum()
    label = draw_map(Samples(columns)).axes[0].get_xlabel()
    assert label == f"colours: {seen} labels"


def test_an_unknown_column_is_named(samples):
    with pytest.raises(
        UsageError, match="no column 'gin' in the samples\n.*did you mean gini"
    ):
        draw_map(samples, colour_by="gin")


def test_samples_without_places_have_no_map():
    with pytest.raises(UsageError, match="this report has no map"):
        draw_map(Samples({"row": np.arange(3)}))
