import base64
import dataclasses
import hashlib
import json
from html.parser import HTMLParser

import jinja2
import numpy as np
import pytest

from report.hostile_strings import PAYLOADS, hostile_record, hostile_samples
from report.report_examples import example_record, example_samples
from repscope.records import (
    Curve,
    Finding,
    Measurement,
    RunRecord,
    Samples,
    Series,
    Status,
    Table,
    Thumbnail,
    to_dict,
)
from repscope.report import page
from repscope.report.page import (
    content_security_policy,
    first_steps,
    gauge,
    render,
    render_notebook,
    safe_link,
)

VOID = {"meta", "link", "img", "input", "br"}


class _Page(HTMLParser):
    """Collects what a parser sees: elements with attributes, ids, addresses, text."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.open, self.texts, self.scripts = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] == ["script"]:
            self.scripts.append(data)
        elif self.open[-1:] != ["style"]:
            self.texts.append(data)

    @property
    def structure(self):
        """Elements and the names of their attributes, outside of pictures."""
        drawn = {"svg", "g", "path", "use", "text", "defs", "clippath", "rect"}
        return [
            (tag, sorted(attributes))
            for tag, attributes in self.elements
            if tag not in drawn
        ]

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def _refuse(name):
    raise AssertionError(f"{name} in JSON")


def _data(parsed):
    """Return the page's two JSON blocks, read strictly."""
    blocks = [text for text in parsed.scripts if text.lstrip().startswith("{")]
    return [json.loads(block, parse_constant=_refuse) for block in blocks]


@pytest.fixture(scope="module")
def benign():
    return _Page(render(hostile_record("word"), hostile_samples(["word"])))


@pytest.fixture(scope="module")
def parsed():
    samples = example_samples(400)
    return _Page(render(example_record(samples), samples))


def test_any_payload_adds_no_element_and_no_attribute(payload, benign):
    record, samples = hostile_record(payload), hostile_samples([payload])
    hostile = _Page(render(record, samples))
    assert hostile.structure == benign.structure
    for tag, attributes in hostile.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), tag
            if name in ("href", "src"):
                assert value.startswith(("#", "data:,")), value
    _data(hostile)


def test_any_payload_adds_nothing_to_a_notebook(payload):
    plain = _Page(render_notebook(hostile_record("word")))
    hostile = _Page(render_notebook(hostile_record(payload)))
    assert hostile.structure == plain.structure


def test_payloads_are_shown_as_text():
    text = _Page(render(hostile_record(PAYLOADS[0]), Samples({}))).text
    assert text.count("<script>window.__pwned=1</script>") > 10


def test_every_element_is_closed(parsed):
    assert parsed.open == []


def test_ids_are_unique_and_every_link_on_the_page_leads_somewhere(parsed):
    ids = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [one["href"] for one in parsed.all("a") + parsed.all("use")]
    inside = {link[1:] for link in links if link.startswith("#")}
    assert inside <= set(ids)
    referenced = {
        one[name]
        for _, one in parsed.elements
        for name in ("aria-labelledby", "aria-describedby", "for")
        if name in one
    }
    assert referenced <= set(ids)


def test_the_policy_lets_only_our_script_run(parsed):
    (script,) = [text for text in parsed.scripts if text.startswith('"use strict"')]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(m["content"] for m in parsed.all("meta") if "http-equiv" in m)
    assert policy == content_security_policy(script)
    assert policy == (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def test_the_script_never_parses_markup(parsed):
    script = "".join(parsed.scripts)
    for danger in (
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "document.write",
        "eval(",
    ):
        assert danger not in script


def test_the_template_is_strict():
    with pytest.raises(jinja2.UndefinedError, match="'record' is undefined"):
        page._template().render()


def test_the_sections_stand_in_order(parsed):
    ids = [one.get("id") for one in parsed.all("section")]
    assert ids == [
        None,
        "steps",
        "findings",
        "figures",
        "classes",
        "tables",
        "worst",
        "map",
        "samples",
        "measurements",
        "glossary",
        "provenance",
    ]


def test_a_reader_is_told_of_dropped_rows_before_any_number(parsed):
    text = parsed.text
    notice = text.index("12 rows held NaN and were dropped.")
    assert text.index("COLLAPSED") < notice < text.index("What to do first")


def test_everything_has_a_name_for_screen_readers(parsed):
    for attributes in parsed.all("section"):
        assert attributes.get("aria-labelledby") or attributes.get("aria-label")
    for attributes in parsed.all("svg"):
        assert attributes["role"] == "img"
        assert attributes["aria-label"]
    for attributes in parsed.all("img"):
        assert "alt" in attributes
    headings = parsed.all("th")
    assert all(one["scope"] in ("col", "row") for one in headings)
    assert len(parsed.all("caption")) == len(parsed.all("table"))
    assert {"main", "nav", "header"} <= {tag for tag, _ in parsed.elements}
    assert parsed.all("a")[0] == {"class": "skip", "href": "#main"}


def test_every_curve_has_a_picture_an_explanation_and_its_numbers(parsed, record):
    assert len(parsed.all("figure")) == len(record.curves)
    for curve in record.curves:
        assert curve.title in parsed.text
        assert curve.how_to_read in parsed.text
    assert "eigenvalues 17 " in parsed.text


def test_every_measurement_links_to_its_formula_and_caveat(parsed, record):
    for one in record.measurements:
        assert one.name in parsed.text
    for formula in record.glossary:
        assert formula.formula in parsed.text
    assert "Caveat: n is below d, or rows repeat." in parsed.text


def test_numbers_are_rounded_for_reading(parsed):
    assert "23.4" in parsed.text
    assert "23.41" not in parsed.text
    assert "0.690 0.664 to 0.716" in parsed.text
    assert "undecided fewer than 8 samples per class" in parsed.text


def test_provenance_is_shown(parsed):
    for words in (
        "repscope diagnose features.npy --labels labels.csv -o out",
        "features fingerprint 9b1c2d3e4f506172",
        "labels fingerprint, fine 00aa11bb22cc33dd",
        "numpy version 2.4.6",
        "took 12.4 s",
        "processor x86_64, 2 cores",
        "repscope compare out other-out",
    ):
        assert words in parsed.text


def test_findings_and_measurements_travel_whole(parsed, record):
    copied, _ = _data(parsed)
    assert copied["findings"] == to_dict(record.findings)
    assert copied["measurements"] == to_dict(record.measurements)


def test_infinite_and_missing_scores_stay_out_of_the_json():
    samples = example_samples(30)
    columns = dict(samples.columns)
    columns["q_score"] = np.where(np.arange(30) % 2, np.nan, np.inf)
    parsed = _Page(render(example_record(samples), Samples(columns)))
    assert len(_data(parsed)) == 2


def test_a_comparison_shows_its_tables_first(comparison):
    parsed = _Page(render(comparison, Samples({})))
    ids = [one.get("id") for one in parsed.all("section")]
    assert ids == ["steps", "tables", "provenance"]
    assert "Differences from the baseline" in parsed.text
    assert "not distinguishable" in parsed.text
    assert len(_data(parsed)) == 1


def _table(name, *rows):
    return Table(name=name, title=f"title {name}", columns=("a",), rows=rows)


def test_a_table_about_the_map_stands_beside_it(record, samples):
    tables = (_table("map", ("near",)),)
    changed = dataclasses.replace(record, tables=tables, curves=())
    text = _Page(render(changed, samples)).text
    assert text.index("Every point is one sample") < text.index("title map")
    assert "Tables" not in text


def test_a_table_without_rows_is_left_out(record, samples):
    changed = dataclasses.replace(record, tables=(_table("other"),), curves=())
    assert "title other" not in _Page(render(changed, samples)).text


def test_an_empty_run_is_a_page_too(record):
    empty = RunRecord(
        kind="diagnosis",
        title="nothing",
        verdict=record.verdict,
        provenance=record.provenance,
    )
    text = _Page(render(empty, Samples({}))).text
    assert "No check found a failure, and none was left undecided." in text


def _finding(code, status=Status.FOUND, severity="failure", action="act"):
    return Finding(
        code=code,
        title=f"title {code}",
        status=status,
        severity=severity,
        explanation=f"why {code}",
        action=action,
    )


def test_the_most_severe_three_come_first(record):
    findings = (
        _finding("A", severity="advisory"),
        _finding("B", severity="warning"),
        _finding("C"),
        _finding("D", status=Status.ABSENT),
        _finding("E"),
        _finding("F", action=""),
    )
    steps = first_steps(dataclasses.replace(record, findings=findings))
    assert [step.code for step in steps] == ["C", "E", "B"]


def test_without_a_failure_the_undecided_is_the_next_thing(record):
    findings = (_finding("A", Status.ABSENT), _finding("B", Status.UNDECIDED))
    (step,) = first_steps(dataclasses.replace(record, findings=findings))
    assert (step.title, step.action) == ("title B is undecided", "why B")


@pytest.mark.parametrize(
    ("address", "link"),
    [
        ("https://example.org/a", "https://example.org/a"),
        ("http://example.org/a", ""),
        ("javascript:alert(1)", ""),
        ("JavaScript:alert(1)//https://", ""),
        ("data:text/html,x", ""),
        ("//example.org", ""),
        ("docs/failures/x.md", ""),
        ("https://[broken", ""),
        ("", ""),
    ],
)
def test_only_https_becomes_a_link(address, link):
    assert safe_link(address) == link


@pytest.mark.parametrize(
    ("value", "interval", "bounds", "expected"),
    [
        (0.25, (0.2, 0.5), (0.0, 1.0), ("25.0%", "20.0%", "50.0%")),
        (2.0, None, (1.0, 5.0), ("25.0%", "25.0%", "25.0%")),
        (1.5, (-1.0, 3.0), (0.0, 1.0), ("100.0%", "0.0%", "100.0%")),
    ],
)
def test_a_gauge_places_value_and_interval(value, interval, bounds, expected):
    one = Measurement(name="m", value=value, interval=interval, range=bounds)
    places = gauge(one)
    assert (places["at"], places["from"], places["to"]) == expected


@pytest.mark.parametrize("bounds", [(None, 1.0), (0.0, None), (1.0, 1.0)])
def test_without_bounds_there_is_no_gauge(bounds):
    assert gauge(Measurement(name="m", value=0.5, range=bounds)) is None


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(1)",
        "data:image/svg+xml;base64,PHN2Zz4=",
        "data:text/html;base64,PHN2Zz4=",
        'data:image/png;base64,AAAA" onerror="x',
        "https://example.org/x.png",
    ],
)
def test_only_pictures_within_the_page_are_shown(record, samples, address):
    thumbnail = Thumbnail(row=0, address=address, width=8, height=8)
    changed = dataclasses.replace(record, thumbnails=(thumbnail,), curves=())
    assert "gallery" not in [
        one.get("class") for one in _Page(render(changed, samples)).all("ul")
    ]


def test_pictures_stop_where_the_page_would_grow_too_large(
    record, samples, monkeypatch
):
    size = len(record.thumbnails[0].address) + len(record.thumbnails[1].address)
    monkeypatch.setattr(page, "THUMBNAIL_BYTES", size)
    parsed = _Page(render(dataclasses.replace(record, curves=()), samples))
    shown = [one["data-row"] for one in parsed.all("img") if "data-row" in one]
    assert shown == ["0", "1"]


def test_the_numbers_of_a_curve_have_the_names_of_its_places():
    series = Series(label="s", x=(1.0, 2.0), y=(0.1, 0.2))
    words = {"name": "c", "title": "c", "x_label": "layer", "y_label": "y"}
    curve = Curve(**words, series=(series,), x_ticks=("stem", "block = h"))
    shown = page._curve_grid(curve)
    assert [row[1].text for row in shown.rows] == ["stem", "block = h"]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (Status.FOUND, "of lowest quality, the worst first."),
        (Status.ABSENT, "the score does not single out errors (RS301)."),
        (Status.UNDECIDED, "whether the score singles out errors is undecided (RS301)"),
        (Status.SKIPPED, "with the lowest Q-Score, the lowest first."),
    ],
)
def test_low_scores_are_the_worst_only_where_the_check_says_so(
    record, samples, status, words
):
    findings = tuple(
        dataclasses.replace(one, status=status) if one.code == "RS301" else one
        for one in record.findings
    )
    text = _Page(render(dataclasses.replace(record, findings=findings), samples)).text
    assert words in text
    assert ("Worst samples" in text) == (status is Status.FOUND)
    assert ("lowest quality" in text) == (status is Status.FOUND)


def test_the_note_of_a_measurement_stands_under_its_name(record, samples):
    text = render(record, samples)
    _, _, cell = text.partition("<code>alpha</code>")[2].partition('<p class="note">')
    assert cell.startswith("first rank 11; last rank 50; r squared 0.981</p></th>")


def test_a_long_curve_shows_every_few_numbers(record):
    x = tuple(float(k) for k in range(1000))
    series = Series(label="s", x=x, y=x)
    curve = Curve(name="c", title="c", x_label="x", y_label="y", series=(series,))
    shown = page._curve_grid(curve)
    assert shown.total == 1000
    assert [row[1].number for row in shown.rows[:3]] == [0.0, 5.0, 10.0]
    assert len(shown.rows) == 200


def test_a_notebook_shows_verdict_findings_and_numbers(record):
    parsed = _Page(render_notebook(record))
    assert parsed.all("script") == parsed.all("style") == []
    assert "COLLAPSED Dimensional collapse" in parsed.text
    assert "RS102 Dimensional collapse (found)" in parsed.text
    assert "linear_accuracy[fine] 0.713 0.690 to 0.735 0 to 1" in parsed.text


def test_the_same_run_gives_the_same_page(record, samples):
    short = dataclasses.replace(record, curves=record.curves[1:2])
    assert render(short, samples) == render(short, samples)


def test_fifty_thousand_rows_stay_under_five_megabytes(large_page):
    samples, text = large_page
    assert len(samples) == 50_000
    assert len(text.encode("utf-8")) < 5_000_000
