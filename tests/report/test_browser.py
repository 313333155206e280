"""The page in a real browser: it stays within itself, and it can be used."""

import json
from pathlib import Path

import numpy as np
import pytest

from report.hostile_strings import PAYLOADS, hostile_record, hostile_samples
from report.report_examples import example_record, example_samples
from repscope.records import Samples, to_dict
from repscope.report.page import render, render_notebook

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WATCH = """
window.__violations = [];
document.addEventListener('securitypolicyviolation',
  (event) => window.__violations.push(event.violatedDirective + event.blockedURI));
"""


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed"
    )
    if not CHROMIUM.is_file():
        pytest.skip("Debian's chromium is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=str(CHROMIUM), args=list(ARGUMENTS)
        )
        yield browser
        browser.close()


class Visit:
    """A page opened from its file, offline, with everything it does written down."""

    def __init__(self, browser, path, **options):
        settings = {"offline": True, "viewport": {"width": 1280, "height": 900}}
        self.context = browser.new_context(**(settings | options))
        self.context.add_init_script(WATCH)
        self.page = self.context.new_page()
        self.address = path.as_uri()
        self.requests, self.trouble = [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.trouble.append(message.text))
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.page.on("dialog", lambda dialog: self.trouble.append(dialog.message))
        self.page.goto(self.address)

    def assert_quiet(self):
        outside = [url for url in self.requests if not url.startswith("data:")]
        assert outside == [self.address]
        assert self.trouble == []
        assert self.page.evaluate("window.__violations") == []
        assert self.page.evaluate("window.__pwned") is None


@pytest.fixture(scope="module")
def run():
    samples = example_samples(150)
    return example_record(samples), samples


@pytest.fixture(scope="module")
def write(tmp_path_factory):
    def write_page(record, samples):
        path = tmp_path_factory.mktemp("page") / "report.html"
        path.write_text(render(record, samples), "utf-8")
        return path

    return write_page


@pytest.fixture(scope="module")
def example_page(run, write):
    return write(*run)


@pytest.fixture
def visit(browser):
    visits = []

    def open_page(path, **options):
        visits.append(Visit(browser, path, **options))
        return visits[-1].page

    yield open_page
    for one in visits:
        one.assert_quiet()
        one.context.close()


@pytest.fixture
def opened(visit, example_page):
    return visit(example_page)


def _use_everything(page):
    """Touch every control, so that every line of the script sees the words."""
    page.evaluate(
        "document.querySelectorAll('details').forEach((d) => { d.open = true; })"
    )
    for index in range(page.locator("#map-colour option").count()):
        page.select_option("#map-colour", index=index)
        page.locator("#map-canvas").press("n")
    page.select_option("#map-colour", index=0)
    page.locator(".legend").first.click()
    page.fill("#samples-filter", "a")
    for button in page.locator(".sort").all()[:4]:
        button.click()
    page.click("#copy")
    page.locator("#copied:not(:empty)").wait_for()


def test_payloads_are_inert(visit, write):
    everything = " ".join(PAYLOADS[:-1]).encode("utf-8", "replace").decode()
    page = visit(write(hostile_record(everything), hostile_samples(PAYLOADS, 62)))
    _use_everything(page)
    assert page.locator("script").count() == 3
    assert page.locator("img, iframe, object, base, form").count() == 0
    links = page.eval_on_selector_all("a", "all => all.map((one) => one.protocol)")
    assert set(links) == {"file:"}
    assert "<img src=x onerror=window.__pwned=1>" in page.inner_text("#samples-table")


def test_a_notebook_cell_is_inert(visit, tmp_path):
    path = tmp_path / "cell.html"
    text = "".join(render_notebook(hostile_record(one)) for one in PAYLOADS)
    head = '<meta charset="utf-8"><link rel="icon" href="data:,">'
    path.write_text(head + text, "utf-8")
    assert PAYLOADS[0] in visit(path).inner_text("body")


def test_a_comparison_opens(visit, write, comparison):
    page = visit(write(comparison, Samples({})))
    assert "not distinguishable" in page.inner_text("#tables")
    assert page.locator("#map").count() == 0


def test_fifty_thousand_rows_open_and_answer(visit, large_page, tmp_path):
    samples, text = large_page
    path = tmp_path / "report.html"
    path.write_text(text, "utf-8")
    page = visit(path)
    timing = page.evaluate(
        "performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"
    )
    assert timing < 3000  # under 1000 on an idle machine
    page.locator("#map-canvas").press("n")
    on_map = ~np.isnan(samples.columns["map_x"])
    worst = np.where(on_map, samples.columns["q_score"], np.inf).argmin()
    assert page.locator("#map-tip dd").nth(1).inner_text() == str(worst)


def test_the_map_names_the_point_under_the_pointer(opened):
    canvas = opened.locator("#map-canvas")
    canvas.press("n")
    told = opened.inner_text("#map-tip")
    ring = opened.locator("#map-ring").bounding_box()
    canvas.press("Escape")
    assert opened.inner_text("#map-tip") == ""
    opened.mouse.move(ring["x"] + ring["width"] / 2, ring["y"] + ring["height"] / 2)
    assert opened.inner_text("#map-tip") == told


def test_the_keyboard_walks_from_the_worst_sample_on(opened, run):
    columns = run[1].columns
    shown = columns["q_score"][~np.isnan(columns["map_x"])]
    canvas = opened.locator("#map-canvas")
    scores = []
    for key in ("n", "n", "p"):
        canvas.press(key)
        scores.append(float(opened.locator("#map-tip dd").last.inner_text()))
    first, second = sorted(shown)[:2]
    assert scores == pytest.approx([first, second, first], rel=0.01)


def _view(page):
    return page.evaluate("[mapView.zoom, mapView.x, mapView.y]")


def test_the_map_moves_and_zooms_by_keyboard_and_button(opened):
    canvas = opened.locator("#map-canvas")
    canvas.press("+")
    zoom, x, y = _view(opened)
    assert (zoom, x, y) == (1.4, 0.5, 0.5)
    canvas.press("ArrowRight")
    assert _view(opened)[1] > 0.5
    canvas.press("ArrowUp")
    assert _view(opened)[2] > 0.5
    canvas.press("0")
    assert _view(opened) == [1, 0.5, 0.5]
    opened.click("#map-in")
    assert _view(opened)[0] == 1.4
    opened.click("#map-whole")
    assert _view(opened)[0] == 1


def test_dragging_moves_the_map(opened):
    opened.locator("#map-canvas").scroll_into_view_if_needed()
    box = opened.locator("#map-canvas").bounding_box()
    opened.mouse.move(box["x"] + 100, box["y"] + 100)
    opened.mouse.down()
    opened.mouse.move(box["x"] + 180, box["y"] + 100)
    opened.mouse.up()
    zoom, x, y = _view(opened)
    side = min(box["width"], box["height"]) - 28
    assert (zoom, y) == (1, pytest.approx(0.5))
    assert x == pytest.approx(0.5 - 80 / side, rel=0.02)


def test_the_wheel_scrolls_the_page_until_the_map_is_chosen(opened):
    canvas = opened.locator("#map-canvas")
    canvas.hover()
    opened.mouse.wheel(0, -120)
    opened.wait_for_timeout(50)
    assert _view(opened)[0] == 1
    canvas.focus()
    canvas.hover()
    opened.mouse.wheel(0, -120)
    opened.wait_for_timeout(50)
    assert _view(opened)[0] > 1


def test_a_legend_entry_singles_out_a_label(opened):
    entry = opened.locator(".legend").first
    entry.click()
    assert entry.get_attribute("aria-pressed") == "true"
    assert opened.evaluate("mapView.single") == 0
    entry.click()
    assert opened.evaluate("mapView.single") is None


def test_the_map_is_drawn_in_the_colours_of_the_legend(opened):
    opened.evaluate("mapView.draw()")
    colours = opened.evaluate(
        "Array.from(mapView.numbers).filter((_, i) => i % 4 === 0 && i < 36)"
    )
    pixels = opened.evaluate(
        "(() => { const c = mapView.canvas; const d = mapView.context.getImageData("
        "0, 0, c.width, c.height).data; return Array.from(new Set("
        "d.filter((_, i) => i % 4 === 0))); })()"
    )
    # a stamp covers its middle pixel by 85 %
    for colour in colours:
        assert any(abs(0.85 * colour + 0.15 * 255 - pixel) < 2 for pixel in pixels)


def test_a_column_sorts_both_ways_and_says_so(opened):
    heading = opened.locator("#samples-table th", has_text="z max")
    column = heading.evaluate("(cell) => cell.cellIndex")
    read = (
        "(table, column) => Array.from(table.tBodies[0].rows, "
        "(row) => Number(row.cells[column].dataset.number))"
    )
    table = opened.locator("#samples-table")
    for direction in ("ascending", "descending"):
        heading.locator("button").press("Enter")
        assert heading.get_attribute("aria-sort") == direction
        values = table.evaluate(read, column)
        assert values == sorted(values, reverse=direction == "descending")


def test_the_filter_shows_matching_rows(opened):
    opened.fill("#samples-filter", "frog train")
    rows = opened.locator("#samples-table tbody tr:visible").all_inner_texts()
    assert rows
    assert all("frog" in row and "train" in row for row in rows)
    assert opened.inner_text("#samples-count") == f"{len(rows)} of 150 rows"


def test_a_thumbnail_opens_larger_and_closes_by_keyboard(opened):
    button = opened.locator(".thumbnail").nth(1)
    button.focus()
    opened.keyboard.press("Enter")
    assert opened.locator("#viewer").is_visible()
    assert opened.inner_text("#viewer p").startswith("row 1, fine: ")
    assert opened.locator("#viewer img").bounding_box()["width"] > 200
    opened.keyboard.press("Escape")
    assert not opened.locator("#viewer").is_visible()
    assert opened.evaluate("document.activeElement.className") == "thumbnail"


def test_the_numbers_can_be_copied_as_json(visit, example_page, run):
    record, _ = run
    permissions = ["clipboard-read", "clipboard-write"]
    page = visit(example_page, permissions=permissions)
    page.click("#copy")
    page.locator("#copied:not(:empty)").wait_for()
    copied = json.loads(page.evaluate("navigator.clipboard.readText()"))
    assert copied["measurements"] == to_dict(record.measurements)
    assert copied["findings"] == to_dict(record.findings)


def test_without_a_clipboard_the_text_is_selected(opened):
    opened.evaluate("void (navigator.clipboard.writeText = () => Promise.reject())")
    opened.click("#copy")
    opened.locator("#copy-text").wait_for()
    area = "document.getElementById('copy-text')"
    selected = f"{area}.value.slice({area}.selectionStart, {area}.selectionEnd)"
    assert (
        json.loads(opened.evaluate(selected))["title"] == "simclr-resnet18, epoch 200"
    )


def test_the_first_tab_skips_to_the_report(opened):
    opened.keyboard.press("Tab")
    assert opened.evaluate("document.activeElement.textContent") == "Skip to the report"
    opened.keyboard.press("Enter")
    assert opened.evaluate("document.activeElement.id") == "main"


def test_paper_shows_what_is_folded_and_hides_controls(opened):
    assert not opened.locator("#finding-RS101").is_visible()
    opened.emulate_media(media="print")
    opened.locator("#findings details[open]").wait_for()
    assert opened.locator("#finding-RS101").is_visible()
    for hidden in ("nav", "#samples-filter", "#map-tip", "#copy"):
        assert not opened.locator(hidden).is_visible()
    opened.emulate_media(media="screen")
    opened.locator("#findings details:not([open])").wait_for()


@pytest.mark.parametrize("width", [400, 700, 1280])
def test_the_page_fits_its_window(visit, example_page, width):
    page = visit(example_page, viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def _contrast(page, selector, background):
    """Return the contrast ratio of text on a background (WCAG 2.1, 1.4.3)."""
    read = (
        "([selector, name]) => {"
        "const rgb = (colour) => Array.from(asNumbers([colour])).slice(0, 3);"
        "const ink = getComputedStyle(document.querySelector(selector)).color;"
        "return [rgb(ink), rgb(themed(name))]; }"
    )
    bright = []
    for colour in page.evaluate(read, [selector, background]):
        parts = [value / 255 for value in colour]
        linear = [
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
            for part in parts
        ]
        bright.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(bright) + 0.05) / (min(bright) + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_in_both_themes(visit, example_page, scheme):
    page = visit(example_page, color_scheme=scheme)
    for selector, background in (
        ("h1", "--paper"),
        (".muted", "--paper"),
        (".reading", "--paper"),
        ("a.chip .chip-name", "--panel"),
        (".verdict strong", "--bad-soft"),
        (".finding.warning .status", "--warn-soft"),
        ("#findings .undecided .status", "--plain-soft"),
        ("dd a, li a", "--paper"),
    ):
        assert _contrast(page, selector, background) >= 4.5, (selector, scheme)


def test_pictures_take_the_ink_of_the_theme(visit, example_page):
    read = "getComputedStyle(document.querySelector('figure text')).fill"
    inks = [
        visit(example_page, color_scheme=scheme).evaluate(read)
        for scheme in ("light", "dark")
    ]
    assert inks == ["rgb(27, 33, 38)", "rgb(227, 231, 234)"]
