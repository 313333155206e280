"""What the documents claim: links lead somewhere, commands and examples are real."""

import importlib.util
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import typer

from repscope._checking import RepscopeError
from repscope.cli import app
from repscope.diagnosis.checks import CHECKS
from repscope.diagnosis.gate import parse_gates
from repscope.metrics.catalogue import METRICS
from repscope.theory.planted import sound

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
SHELL = re.compile(r"^```sh\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
COMMANDS = [
    (path, line.partition("  #")[0].strip())
    for path in DOCUMENTS
    for block in SHELL.findall(path.read_text(encoding="utf-8"))
    for line in block.splitlines()
    if line.startswith("repscope ")
]
spec = importlib.util.spec_from_file_location("render", ROOT / "docs" / "render.py")
assert spec is not None and spec.loader is not None
render = importlib.util.module_from_spec(spec)
spec.loader.exec_module(render)


def name_of(value):
    return str(value.relative_to(ROOT)) if isinstance(value, Path) else None


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_to_files(path):
    text = path.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#\s]+)", text)
    local = [link for link in links if not re.match(r"\w+:", link)]
    assert [link for link in local if not (path.parent / link).exists()] == []


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=name_of)
def test_commands_use_options_that_exist(path, command):
    words = shlex.split(command)[1:]
    group = typer.main.get_command(app)
    verb = words[0] if words[0] in group.commands else "diagnose"
    rest = words[1:] if words[0] in group.commands else words
    context = group.commands[verb].make_context(verb, rest)
    try:
        parse_gates(context.params.get("fail_on") or ())
    except RepscopeError as error:
        pytest.fail(f"{path.name}: {error}")


def test_the_documents_show_commands():
    assert len(COMMANDS) >= 6


def test_the_readme_lists_every_check():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[(RS\d+)\]\(([^)]*)\) \| ([^|]*) \| (\w+) \|", text, re.M)
    assert rows == [
        (check.code, check.page, check.title, check.severity) for check in CHECKS
    ]


@pytest.mark.parametrize("name", render.DOCUMENTS)
def test_tables_of_metrics_are_what_the_catalogue_says(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    fresh = render.DOCUMENTS[name](text) == text
    assert fresh, "stale: run python docs/render.py"
    rows = re.findall(r"^\| `(\w+)`(?::[^|]*)? \|", text, re.MULTILINE)
    assert rows == [entry.name for entry in METRICS]


def test_a_changed_table_is_stale():
    fresh = render.readme((ROOT / render.README).read_text(encoding="utf-8"))
    stale = fresh.replace("| `rankme` |", "| `rank_me` |")
    assert stale != fresh
    assert render.readme(stale) == fresh


def test_no_cell_of_a_table_is_cut_or_left_empty():
    for told in (render.COLUMNS, render.README_COLUMNS):
        for entry in METRICS:
            row = render.table([entry], told).splitlines()[-1]
            assert len(re.findall(r"(?<!\\)\|", row)) == len(told) + 1
            optional = {"better", "unchanged by"}
            empty = {name for name, cell in told.items() if not cell(entry).strip()}
            assert empty <= optional


def test_the_architecture_names_every_file():
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    files = (ROOT / "src/repscope").rglob("*.py")
    names = {path.stem for path in files if path.stem != "__init__"}
    assert {name for name in names if not re.search(rf"\b{name}\b", text)} == set()


def test_make_knows_the_targets_that_the_documents_name():
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    texts = [path.read_text(encoding="utf-8") for path in DOCUMENTS]
    named = {
        target
        for text in texts
        for target in re.findall(r"(?:^|`)make ([a-z][\w-]*)", text, re.MULTILINE)
    }
    assert {"demo", "test", "check"} <= named <= set(targets)


def test_the_example_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    planted = sound(n=200, d=16)
    monkeypatch.chdir(tmp_path)
    np.save("emb.npy", planted.features)
    np.save("y.npy", planted.labels["coarse"])
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    exec(compile(example, "README.md", "exec"), {})
    assert capsys.readouterr().out.split()[0] in ("HEALTHY", "WARN", "COLLAPSED")
    assert (tmp_path / "emb-report" / "report.html").is_file()


def test_the_examples_of_measuring_run(capsys):
    text = (ROOT / "docs/measuring.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 7
    exec("\n".join(blocks), {})  # one page, one story: later blocks use the first
    assert "block1" in capsys.readouterr().out


@pytest.mark.parametrize("page", ["training.md", "watching.md"])
def test_the_examples_of_training_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert blocks
    exec(compile("\n".join(blocks), page, "exec"), {})
