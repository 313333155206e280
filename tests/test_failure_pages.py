"""The pages of failures say what the code says: facts, thresholds, examples."""

import importlib.util
import re
from pathlib import Path

import pytest

from repscope.diagnosis.checks import CHECKS

ROOT = Path(__file__).parents[1]
SECTIONS = [
    "How it is found",
    "Why it matters",
    "How to repair",
    "A planted example",
    "When this check is wrong",
]
MAXIMUM_LINES = 80

spec = importlib.util.spec_from_file_location("render", ROOT / "docs" / "render.py")
assert spec is not None and spec.loader is not None
render = importlib.util.module_from_spec(spec)
spec.loader.exec_module(render)


def text_of(check):
    return render.page_of(check).read_text(encoding="utf-8")


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.code)
def test_a_page_is_what_the_code_renders(check):
    assert render.rendered(check, text_of(check)) == text_of(check)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.code)
def test_a_page_is_short_and_complete(check):
    text = text_of(check)
    assert text.startswith(f"# {check.code} {check.title}\n")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == SECTIONS
    assert len(text.splitlines()) < MAXIMUM_LINES
    assert {"facts", "output"} <= {kind for kind, _ in render.BLOCK.findall(text)}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.code)
def test_a_page_explains_every_remedy_and_cites_a_source(check):
    parts = re.split(r"^## .*$", text_of(check), flags=re.MULTILINE)[1:]
    sections = dict(zip(SECTIONS, parts, strict=True))
    for remedy in check.remedies:
        assert f"- `{remedy}`: " in sections["How to repair"], remedy
    assert re.search(r"\b(19|20)\d\d\b", sections["Why it matters"])
    assert "ndecided" in sections["How it is found"]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.code)
def test_thresholds_are_named_nowhere_but_in_the_table(check):
    """A number typed twice goes stale: prose holds none but years, codes and limits."""
    written = render.EXAMPLE.sub("", render.BLOCK.sub("", text_of(check)))
    numbers = re.findall(r"(?<![\w/-])\d+\.\d+|\d+ ?%", written)
    assert numbers == []


CHECK = CHECKS[1]
NAME, VALUE = "EFFECTIVE_RANK_COLLAPSED", "5"


def test_a_changed_threshold_makes_a_page_stale():
    fresh = text_of(CHECK)
    stale = fresh.replace(f"| `{NAME}` | {VALUE} |", f"| `{NAME}` | 6 |")
    assert stale != fresh
    assert render.rendered(CHECK, stale) == fresh


@pytest.mark.parametrize("word", ["severity: failure", "COLLAPSED RS102 found"])
def test_changed_facts_and_outputs_make_a_page_stale(word):
    fresh = text_of(CHECK)
    assert render.rendered(CHECK, fresh.replace(word, "other")) == fresh


@pytest.mark.parametrize(
    ("old", "new", "alike"),
    [
        ("skill 0.81 of 400", "skill 0.83 of 400", True),
        ("AUROC 0.96", "AUROC 0.90", False),
        ("lost 89%", "lost 90%", True),
        ("lost 89%", "lost 80%", False),
        ("RS201 found", "RS201 absent", False),
        ("RS201 found", "RS202 found", False),
        ("3 of 64", "three of 64", False),
        ("n = 100", "n = 256", False),
    ],
)
def test_outputs_may_differ_in_the_last_digits_only(old, new, alike):
    assert render.are_alike(old, new) is alike


def test_an_unknown_threshold_is_refused():
    text = text_of(CHECK).replace(f"`{NAME}`", "`OTHER`")
    with pytest.raises(ValueError, match="dimensional_collapse.py has no constant OTH"):
        render.rendered(CHECK, text)


def test_a_threshold_left_out_is_refused():
    text = re.sub(rf"\| `{NAME}` .*\n", "", text_of(CHECK))
    with pytest.raises(ValueError, match=f"{NAME} of the code left out"):
        render.rendered(CHECK, text)


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """Return a folder with two pages, the first of them stale."""
    checks = CHECKS[7:]
    monkeypatch.setattr(render, "CHECKS", checks)
    monkeypatch.setattr(render, "ROOT", tmp_path)
    for check in checks:
        (tmp_path / check.page).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / check.page).write_text((ROOT / check.page).read_text("utf-8"))
    for name, rendered_again in render.DOCUMENTS.items():
        text = rendered_again((ROOT / name).read_text("utf-8"))
        (tmp_path / name).write_text(text, encoding="utf-8")
    path = tmp_path / checks[0].page
    path.write_text(path.read_text("utf-8").replace("severity: advisory", "severity:"))
    return tmp_path


def test_check_names_stale_pages_and_changes_nothing(copied, capsys):
    before = [path.read_text("utf-8") for path in sorted(copied.rglob("*.md"))]
    assert render.main(["--check"]) == 1
    said = capsys.readouterr().err
    assert said == (
        "docs/failures/data_hygiene.md is stale: run python docs/render.py\n"
    )
    assert [path.read_text("utf-8") for path in sorted(copied.rglob("*.md"))] == before


def test_rendering_writes_stale_pages_and_settles(copied, capsys):
    assert render.main([]) == 0
    assert capsys.readouterr().out == "wrote docs/failures/data_hygiene.md\n"
    assert render.main(["--check"]) == 0
    assert capsys.readouterr() == ("", "")
