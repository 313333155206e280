"""A run as one self-contained HTML page.

The page asks nothing of the network, runs one script of ours that its content security
policy names by hash, and shows every word of the user as text: the templates escape,
the script only sets text.
"""

import base64
import functools
import hashlib
import importlib.resources
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import jinja2
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from repscope.records import (
    Curve,
    Finding,
    Formula,
    Measurement,
    RunRecord,
    Samples,
    Scalar,
    Status,
    Table,
    Thumbnail,
    to_dict,
)
from repscope.report import figures, page_data, wording

MAXIMUM_CURVE_ROWS = 200
# Bytes of pictures that a page may carry; the first ones, the worst rows, come first.
THUMBNAIL_BYTES = 900_000

_SEVERITIES = ("failure", "warning", "advisory")
_STATUSES = (
    Status.FOUND,
    Status.UNDECIDED,
    Status.ABSENT,
    Status.SKIPPED,
    Status.NOT_APPLICABLE,
)
_PICTURE = re.compile("data:image/(?:png|jpeg|webp|gif);base64,[A-Za-z0-9+/]+=*")
_CLASS_TABLES = ("class_accuracy", "confusions")
_ROW_TABLES = ("worst_samples",)
_MAP_TABLES = ("map",)
_SCRIPTS = ("points.js", "map.js", "page.js")
_FIRST_STEPS = 3
# The check that says whether low scores mark the images to look at.
_QUALITY_CHECK = "RS301"


@dataclass(frozen=True)
class Figure:
    """A curve as the page shows it: the picture, and its numbers as a table."""

    name: str
    curve: Curve
    picture: Markup
    table: page_data.Grid


@dataclass(frozen=True)
class Picture:
    """A thumbnail with the words that stand for it."""

    row: int
    address: str
    caption: str
    description: str


@dataclass(frozen=True)
class Step:
    """One thing to do, and the finding that asks for it."""

    code: str
    title: str
    action: str


def render(record: RunRecord, samples: Samples) -> str:
    """Return a run as one HTML file without anything outside itself.

    Args:
        record: a diagnosis or a comparison.
        samples: the rows; without columns for a comparison.
    """
    script = "".join(_resource(name) for name in _SCRIPTS)
    return _template().render(
        record=record,
        style=Markup(_resource("page.css")),  # our own file
        script=Markup(script),  # our own file
        policy=content_security_policy(script),
        copy=_json({name: to_dict(getattr(record, name)) for name in _COPIED}),
        glossary=_Glossary(record.glossary),
        families=_families(record),
        steps=first_steps(record),
        groups=_grouped(record.findings),
        quality=_quality_words(record.findings),
        figures=[
            _figure(curve, f"figure-{index}")
            for index, curve in enumerate(record.curves, start=1)
        ],
        **_tables(record.tables),
        **_rows(record, samples),
    )


def render_notebook(record: RunRecord) -> str:
    """Return a run as a short piece of HTML without script, for a notebook's cell."""
    return _template("notebook").render(record=record, groups=_grouped(record.findings))


def content_security_policy(script: str) -> str:
    """Return the policy under which only `script`, by its hash, may run."""
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return "; ".join(
        [
            "default-src 'none'",
            "img-src data:",
            "style-src 'unsafe-inline'",
            f"script-src 'sha256-{base64.b64encode(digest).decode('ascii')}'",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def first_steps(record: RunRecord) -> list[Step]:
    """Return at most three things to do.

    The actions of what was found, the most severe first; where nothing was found, what
    would settle the undecided.
    """
    found = [f for f in record.findings if f.status is Status.FOUND and f.action]
    found.sort(key=lambda finding: _SEVERITIES.index(finding.severity))
    steps = [Step(one.code, one.title, one.action) for one in found]
    if not steps:
        steps = [
            Step(one.code, f"{one.title} is undecided", one.explanation)
            for one in record.findings
            if one.status is Status.UNDECIDED
        ]
    return steps[:_FIRST_STEPS]


_COPIED = ("title", "verdict", "findings", "measurements")

_NOTEBOOK = """\
<div style="font-family:system-ui,sans-serif;line-height:1.4;max-width:60rem">
<p style="margin:0 0 .3rem"><strong>{{ record.verdict.word }}</strong>
{{ record.verdict.sentence }}</p>
{% for notice in record.notices %}<p style="margin:0">Note: {{ notice }}</p>
{% endfor %}
<ul style="margin:.3rem 0">
{% for finding in groups.prominent %}
<li><strong>{{ finding.code }} {{ finding.title }}</strong>
({{ finding.status.value }}): {{ finding.explanation }}</li>
{% endfor %}
</ul>
<table><caption>Measurements of {{ record.title }}</caption>
<thead><tr><th scope="col">metric</th><th scope="col">value</th>
<th scope="col">95 % interval</th><th scope="col">range</th></tr></thead>
<tbody>
{% for one in record.measurements %}
<tr><th scope="row">{{ one.key }}</th><td>{{ one.value|rounded }}</td>
<td>{{ one.interval|interval }}</td><td>{{ one.range|range_text }}</td></tr>
{% endfor %}
</tbody></table>
</div>
"""


class _Glossary:
    """Finds the formula, and its anchor on the page, of a measurement."""

    def __init__(self, formulas: tuple[Formula, ...]) -> None:
        self.formulas = formulas
        self._index = {one.id: place for place, one in enumerate(formulas, start=1)}

    def anchor(self, measurement: Measurement) -> str:
        place = self._index.get(measurement.formula)
        return f"formula-{place}" if place else "glossary"

    def title(self, measurement: Measurement) -> str:
        place = self._index.get(measurement.formula)
        return self.formulas[place - 1].title if place else measurement.name


def _families(record: RunRecord) -> list[tuple[str, list[Measurement]]]:
    """Return the measurements under their headings, in the order of the glossary."""
    families = {one.id: one.family for one in record.glossary}
    known = dict.fromkeys([*families.values(), ""])
    groups: dict[str, list[Measurement]] = {family: [] for family in known}
    for one in record.measurements:
        groups[families.get(one.formula, "")].append(one)
    return [(family, taken) for family, taken in groups.items() if taken]


@dataclass(frozen=True)
class _Groups:
    """Findings by what there is to say: found, undecided, and the rest."""

    prominent: list[Finding]
    rest: list[Finding]
    counts: list[tuple[str, int]]


def _grouped(findings: tuple[Finding, ...]) -> _Groups:
    def order(finding: Finding) -> tuple[int, int]:
        severity = _SEVERITIES.index(finding.severity)
        return _STATUSES.index(finding.status), severity

    ordered = sorted(findings, key=order)
    shown = (Status.FOUND, Status.UNDECIDED)
    counts = [
        (status.value, sum(one.status is status for one in findings))
        for status in _STATUSES
    ]
    return _Groups(
        prominent=[one for one in ordered if one.status in shown],
        rest=[one for one in ordered if one.status not in shown],
        counts=[(word, count) for word, count in counts if count],
    )


@functools.cache
def _template(name: str = "page") -> jinja2.Template:
    sources = {"page": _resource("template.html.j2"), "notebook": _NOTEBOOK}
    environment = jinja2.Environment(
        loader=jinja2.DictLoader(sources),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_clean_words,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "rounded": wording.rounded,
        "interval": wording.interval_text,
        "range_text": wording.range_text,
        "metric": wording.metric_text,
        "better": wording.better_text,
        "note": wording.note_text,
        "short": wording.shorten,
        "capital": wording.capital,
        "moment": wording.moment_text,
        "gauge": gauge,
        "link": safe_link,
    }
    return environment.get_template(name)


def _clean_words(value: Any) -> Any:
    return wording.clean(value) if type(value) is str else value


def _resource(name: str) -> str:
    here = importlib.resources.files("repscope.report")
    return here.joinpath(name).read_text("utf-8")


def _json(value: Any) -> Markup:
    """Return JSON that no text inside can break out of."""
    return htmlsafe_json_dumps(value, allow_nan=False, separators=(",", ":"))


def gauge(measurement: Measurement) -> dict[str, str] | None:
    """Return where value and interval lie within the range, in percent.

    None where there is no value or the range has no bounds.
    """
    least, greatest = measurement.range
    if measurement.value is None or least is None or greatest is None:
        return None
    if greatest <= least:
        return None
    ends = measurement.interval or (measurement.value, measurement.value)
    places = [
        min(max(100 * (number - least) / (greatest - least), 0.0), 100.0)
        for number in (measurement.value, *ends)
    ]
    return dict(zip(("at", "from", "to"), (f"{p:.1f}%" for p in places), strict=True))


def safe_link(address: str) -> str:
    """Return an address that may stand in a link (https), else nothing."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return ""
    return address if parts.scheme == "https" and parts.hostname else ""


def _figure(curve: Curve, name: str) -> Figure:
    picture = figures.svg(figures.draw(curve, titled=False), name)
    return Figure(
        name=name,
        curve=curve,
        picture=Markup(picture),  # serialised and escaped in figures
        table=_curve_grid(curve),
    )


def _curve_grid(curve: Curve) -> page_data.Grid:
    """Return a curve's numbers, evenly thinned to MAXIMUM_CURVE_ROWS."""
    share = max(MAXIMUM_CURVE_ROWS // max(len(curve.series), 1), 2)
    rows: list[tuple[str, Scalar, float]] = []
    names = dict(enumerate(curve.x_ticks, start=1))
    for series in curve.series:
        pairs = list(zip(series.x, series.y, strict=False))
        step = -(-len(pairs) // share) or 1
        rows += [(series.label, names.get(int(x), x), y) for x, y in pairs[::step]]
    table = Table(
        name=curve.name,
        title=curve.title,
        columns=("series", curve.x_label or "x", curve.y_label or "y"),
        rows=tuple(rows),
    )
    total = sum(min(len(series.x), len(series.y)) for series in curve.series)
    shown = page_data.grid(table, limit=len(rows))
    return page_data.Grid(shown.columns, shown.numeric, shown.rows, total)


def _quality_words(findings: tuple[Finding, ...]) -> dict[str, str]:
    """Return what the rows with the lowest scores are called.

    They are the worst only where the check of them found that scores point at errors.
    """
    judged = [one for one in findings if one.code == _QUALITY_CHECK]
    if any(one.status is Status.FOUND for one in judged):
        pictures = "The samples of lowest quality, the worst first."
        return {
            "title": "Worst samples",
            "short": "Worst samples",
            "pictures": pictures,
        }
    said = {
        Status.ABSENT: "on these features the score does not single out errors",
        Status.UNDECIDED: "whether the score singles out errors is undecided",
    }
    doubt = [
        f"; {said[one.status]} ({one.code})" for one in judged if one.status in said
    ]
    return {
        "title": "Samples with the lowest Q-Score",
        "short": "Lowest Q-Score",
        "pictures": f"The samples with the lowest Q-Score, the lowest first"
        f"{''.join(doubt[:1])}.",
    }


def _tables(tables: tuple[Table, ...]) -> dict[str, list[tuple[Table, page_data.Grid]]]:
    """Return the tables that have rows by where they stand on the page."""
    places = {
        "class_tables": _CLASS_TABLES,
        "row_tables": _ROW_TABLES,
        "map_tables": _MAP_TABLES,
    }
    place_of = {name: place for place, names in places.items() for name in names}
    placed: dict[str, list[tuple[Table, page_data.Grid]]] = {
        place: [] for place in (*places, "other_tables")
    }
    for table in tables:
        if table.rows:
            place = place_of.get(table.name, "other_tables")
            placed[place].append((table, page_data.grid(table)))
    return placed


def _rows(record: RunRecord, samples: Samples) -> dict[str, Any]:
    """Return what the page shows of single rows: pictures, the map, the worst rows."""
    packed = page_data.map_data(samples)
    words = page_data.map_in_words(samples)
    on_map = 0 if packed is None else packed["n"]
    return {
        "pictures": _pictures(record.thumbnails, samples),
        "map_json": None if packed is None else _json(packed),
        "map_points": on_map,
        "map_words": None if words is None else (words, page_data.grid(words)),
        "map_measurements": [
            one for one in record.measurements if one.name.startswith("trustworthiness")
        ],
        "sample_grid": page_data.sample_grid(samples) if len(samples) else None,
    }


def _pictures(thumbnails: tuple[Thumbnail, ...], samples: Samples) -> list[Picture]:
    """Return the thumbnails that are pictures, as many as the page can carry."""
    pictures: list[Picture] = []
    size = 0
    for thumbnail in thumbnails:
        size += len(thumbnail.address)
        if size > THUMBNAIL_BYTES:
            break
        if _PICTURE.fullmatch(thumbnail.address):
            words = page_data.row_in_words(samples, thumbnail.row)
            pictures.append(Picture(thumbnail.row, thumbnail.address, *words))
    return pictures
