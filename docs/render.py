"""Render what the pages of failures take from the code: facts, thresholds, outputs.

Run: python docs/render.py writes the pages; python docs/render.py --check writes
nothing and exits 1 where one is stale. Between <!-- facts -->, <!-- thresholds --> or
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
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from repscope.diagnosis.check import Check
from repscope.diagnosis.checks import CHECKS

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(
    r"<!-- (facts|thresholds|output) -->\n(.*?)<!-- end -->\n", flags=re.DOTALL
)
EXAMPLE = re.compile(r"^```python\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"(?<![A-Za-z\d.])\d+(?:\.\d+)?")
# Numbers of an example are the same up to this share, or this much.
RELATIVE, ABSOLUTE = 0.05, 0.021
ROW = re.compile(r"^\| `([\w.]+)` \| [^|]* \| (.*) \|$")


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


def stale_pages() -> Iterator[tuple[Path, str]]:
    """Yield each page that differs from what the code gives, with its new text."""
    for check in CHECKS:
        path = page_of(check)
        old = path.read_text(encoding="utf-8")
        new = rendered(check, old)
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
