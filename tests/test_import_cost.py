"""What importing and asking for help load, and how long that takes."""

import json
import os
import subprocess
import sys
import time

import pytest

HEAVY = ("torch", "matplotlib", "sklearn", "scipy", "pyarrow", "PIL", "jinja2")
# The bound is 0.3 s; help takes 0.1 s on an idle core. The least of several runs, so
# that a busy machine does not decide.
HELP_SECONDS, HELP_RUNS = 0.3, 5


def loaded_after(statement: str, packages: tuple[str, ...]) -> list[str]:
    """Return which packages a fresh interpreter has loaded after a statement."""
    script = (
        "import json, sys\n"
        f"{statement}\n"
        f"print(json.dumps([p for p in {packages!r} if p in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_importing_repscope_loads_nothing_heavy():
    assert loaded_after("import repscope", (*HEAVY, "numpy")) == []


@pytest.mark.parametrize("words", [["--help"], ["diagnose", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(words):
    statement = f"import repscope.cli; repscope.cli.main({words!r})"
    assert loaded_after(statement, (*HEAVY, "numpy")) == []


def test_help_is_fast():
    command = [sys.executable, "-m", "repscope", "--help"]
    seconds = []
    for _ in range(HELP_RUNS):
        start = time.perf_counter()
        subprocess.run(command, capture_output=True, check=True, env={**os.environ})
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < HELP_SECONDS


def test_the_package_lists_its_names_without_loading_them():
    names = "import repscope; assert 'diagnose' in dir(repscope)"
    assert loaded_after(names, HEAVY) == []


def test_an_unknown_name_is_an_attribute_error():
    import repscope

    with pytest.raises(AttributeError, match="no attribute 'diagnos'"):
        repscope.diagnos  # noqa: B018
