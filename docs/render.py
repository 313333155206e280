"""Render what the documents take from the code: checks, metrics, outputs of examples.

Run: python docs/render.py writes the pages; python docs/render.py --check writes
nothing and exits 1 where one is stale. The tables of metrics, in docs/metrics.md and
between <!-- metrics --> and <!-- end --> of README.md, come from the catalogue. In the
pages of failures, between <!-- facts -->, <!-- thresholds --> or
<!-- output --> and <!-- end --> nothing is written by hand but the meaning of a
threshold. What an example prints may differ in the last digits between machines; it is
stale where words or larger differences of a number do.
"""

import contextlib
import importlib
import io
import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

from repscope.diagnosis.check import Check
from repscope.diagnosis.checks import CHECKS
from repscope.metrics.catalogue import FAMILIES
from repscope.metrics.metric import Metric, metric_of

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(
    r"<!-- (facts|thresholds|output) -->\n(.*?)<!-- end -->\n", flags=re.DOTALL
)
EXAMPLE = re.compile(r"^```python\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"(?<![A-Za-z\d.])\d+(?:\.\d+)?")
# Numbers of an example are the same up to this share, or this much.
RELATIVE, ABSOLUTE = 0.05, 0.021
ROW = re.compile(r"^\| `([\w.]+)` \| [^|]* \| (.*) \|$")

METRICS_PAGE, README = "docs/metrics.md", "README.md"
TABLES = re.compile(r"<!-- metrics -->\n.*?<!-- end -->\n", flags=re.DOTALL)
METRICS_INTRODUCTION = """# Metrics

Written by `python docs/render.py` from `src/repscope/metrics/catalogue.py`;
`repscope ls metrics` prints the same. n rows, d feature dimensions, c classes, q views;
h_ik feature k of row i; λ eigenvalues of the centred covariance (ddof 0), descending.
Logarithms are natural unless a formula says otherwise, and all statistics are taken in
float64. A number that the data cannot decide is null, with a reason.

In Python each is a function, and `measure` takes all that some features allow:

```py
from repscope.metrics.measuring import measure

for one in measure(features, labels={"fine": fine, "coarse": coarse}):
    print(one.key, one.value, one.interval, one.reason)
```

"Unchanged by": scale, a common factor c > 0 of all features; shift, a constant vector
added to every row; rotation of the feature space; duplication, every row twice. Where
the value takes on a power of c, that power is named instead. Each metric is held
against these columns by `tests/metrics/check_metric.py`.
"""
NEEDS = {
    "rows": "features",
    "spectrum": "features",
    "labels": "labels",
    "probe": "labels",
    "failure": "labels",
    "views": "views",
    "attribute": "labels or an attribute",
    "reference": "labels, other features",
    "pair": "other features",
    "curve": "epochs or layers",
    "images": "images",
    "heatmaps": "heatmaps",
    "trainings": "two trainings",
}


def page_of(check: Check) -> Path:
    """Return the path of a check's page."""
    return ROOT / check.page


def module_of(check: Check) -> ModuleType:
    """Return the module that judges."""
    return importlib.import_module(f"repscope.diagnosis.{check.name}")


def constants_of(module: ModuleType) -> dict[str, float]:
    """Return the named numbers of a module."""
    return {
        name: value
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, int | float)
    }


def facts(check: Check) -> str:
    """Return what a check says of itself."""
    source = f"src/repscope/diagnosis/{check.name}.py"
    counts = "does not change" if check.severity == "advisory" else "counts for"
    remedies = ", ".join(f"`{remedy}`" for remedy in check.remedies)
    return (
        f"- severity: {check.severity}, {counts} the verdict\n"
        f"- needs: {check.needs}\n"
        f"- remedies: {remedies}\n"
        f"- judged in: [{source}](../../{source})\n"
    )


def thresholds(check: Check, block: str) -> str:
    """Return a table of thresholds with the values of today.

    Args:
        check: whose module holds the constants; `check.NAME` is one that checks share.
        block: the table, with a name and a meaning in each row.

    Raises:
        ValueError: where a name is unknown, or a constant of the module is left out.
    """
    module = module_of(check)
    shared = importlib.import_module("repscope.diagnosis.check")
    known = constants_of(module)
    known |= {f"check.{name}": value for name, value in constants_of(shared).items()}
    lines, named = ["| threshold | value | meaning |", "|---|---|---|"], set()
    for line in block.splitlines():
        row = ROW.match(line)
        if row is None:
            continue
        name, meaning = row.groups()
        if name not in known:
            raise ValueError(f"{check.page}: {check.name}.py has no constant {name}")
        named.add(name)
        lines.append(f"| `{name}` | {known[name]:g} | {meaning} |")
    left_out = sorted(set(constants_of(module)) - named)
    if left_out:
        raise ValueError(f"{check.page}: {', '.join(left_out)} of the code left out")
    return "\n".join(lines) + "\n"


def output(example: str) -> str:
    """Return what an example prints, as a block."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(example, "example", "exec"), {})
    return f"```text\n{printed.getvalue()}```\n"


def are_alike(old: str, new: str) -> bool:
    """Return whether two texts have the same words and nearly the same numbers."""
    if NUMBER.sub("#", old) != NUMBER.sub("#", new):
        return False
    pairs = zip(NUMBER.findall(old), NUMBER.findall(new), strict=True)
    return all(
        math.isclose(float(one), float(other), rel_tol=RELATIVE, abs_tol=ABSOLUTE)
        for one, other in pairs
    )


def rendered(check: Check, text: str) -> str:
    """Return a page with every block as the code has it now.

    Raises:
        ValueError: where the page names an unknown threshold or leaves one out.
    """

    def block(match: re.Match[str]) -> str:
        kind, old = match.groups()
        if kind == "facts":
            new = facts(check)
        elif kind == "thresholds":
            new = thresholds(check, old)
        else:
            printed = output(EXAMPLE.findall(text[: match.start()])[-1])
            new = old if are_alike(old, printed) else printed
        return f"<!-- {kind} -->\n{new}<!-- end -->\n"

    return BLOCK.sub(block, text)


def cell(text: str) -> str:
    """Return text as it is within one cell of a table."""
    return re.sub(r"([|*<~])", r"\\\1", " ".join(text.split()))


def code(text: str) -> str:
    """Return text of a cell as code, which nothing in it can end."""
    return "`" + " ".join(text.replace("`", "").split()).replace("|", "\\|") + "`"


def laws(entry: Metric) -> str:
    """Return what changes nothing, and the power of the features' scale."""
    same = ["scale", *entry.invariances] if entry.degree == 0 else entry.invariances
    power = "" if entry.degree == 1 else f"^{entry.degree}"
    scaled = [f"times c{power}"] if entry.degree else []
    return "; ".join(part for part in [", ".join(same), *scaled] if part)


def direction(entry: Metric) -> str:
    """Return which way is better; nothing where neither is."""
    words = {"none": "", "target": f"target {entry.target}"}
    return words.get(entry.direction, f"{entry.direction} is better")


def range_and_direction(entry: Metric) -> str:
    """Return the range and which way is better, in one cell."""
    return "; ".join(filter(None, [cell(entry.range), direction(entry)]))


COLUMNS: dict[str, Callable[[Metric], str]] = {
    "metric": lambda entry: f"`{entry.name}`: {cell(entry.title)}",
    "formula": lambda entry: code(entry.formula),
    "needs": lambda entry: NEEDS[entry.needs],
    "range": lambda entry: cell(entry.range),
    "better": lambda entry: direction(entry).removesuffix(" is better"),
    "least n": lambda entry: str(entry.minimum_n),
    "unchanged by": laws,
    "cost": lambda entry: cell(entry.cost),
    "source": lambda entry: cell(entry.source),
    "misleads": lambda entry: cell(entry.misleads),
}
README_COLUMNS: dict[str, Callable[[Metric], str]] = {
    "metric": lambda entry: f"`{entry.name}`",
    **{name: COLUMNS[name] for name in ("formula", "needs")},
    "range; better": range_and_direction,
    **{name: COLUMNS[name] for name in ("least n", "cost", "source", "misleads")},
}


def table(
    entries: Sequence[Metric], columns: dict[str, Callable[[Metric], str]]
) -> str:
    """Return a table with a row for each metric."""
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    for entry in entries:
        cells = " | ".join(told(entry) for told in columns.values())
        lines.append(f"| {cells} |")
    return "\n".join(lines) + "\n"


def families() -> Iterator[tuple[str, list[Metric]]]:
    """Yield the title and the metrics of each family that has any."""
    for title, functions in FAMILIES.items():
        if functions:
            yield title, [metric_of(function) for function in functions]


def metrics_page(_: str = "") -> str:
    """Return the page of all metrics, whatever it was."""
    parts = [f"## {title}\n\n{table(own, COLUMNS)}" for title, own in families()]
    return "\n".join([METRICS_INTRODUCTION, *parts])


def readme(text: str) -> str:
    """Return README.md with the tables of metrics as the catalogue has them now."""
    parts = [
        f"<details>\n<summary>{title}: {', '.join(entry.name for entry in own)}"
        f"</summary>\n\n{table(own, README_COLUMNS)}\n</details>\n"
        for title, own in families()
    ]
    tables = "\n".join(parts)
    return TABLES.sub(lambda _: f"<!-- metrics -->\n{tables}<!-- end -->\n", text)


DOCUMENTS: dict[str, Callable[[str], str]] = {
    METRICS_PAGE: metrics_page,
    README: readme,
}


def stale_pages() -> Iterator[tuple[Path, str]]:
    """Yield each page that differs from what the code gives, with its new text."""
    for check in CHECKS:
        path = page_of(check)
        old = path.read_text(encoding="utf-8")
        new = rendered(check, old)
        if new != old:
            yield path, new
    for name, render_again in DOCUMENTS.items():
        path = ROOT / name
        old = path.read_text(encoding="utf-8") if path.is_file() else ""
        new = render_again(old)
        if new != old:
            yield path, new


def main(arguments: list[str]) -> int:
    """Write stale pages, or with --check only name them; return the exit code."""
    only_check = "--check" in arguments
    count = 0
    for path, new in stale_pages():
        count += 1
        name = path.relative_to(ROOT)
        if only_check:
            sys.stderr.write(f"{name} is stale: run python docs/render.py\n")
        else:
            path.write_text(new, encoding="utf-8")
            sys.stdout.write(f"wrote {name}\n")
    return int(only_check and count > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
