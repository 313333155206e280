"""Nothing is left out: each metric and check has all that belongs to it."""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import repscope.metrics
from repscope.diagnosis.checks import CHECKS
from repscope.metrics.catalogue import METRICS

ROOT = Path(__file__).parents[1]
TESTS_OF_METRICS = "\n".join(
    path.read_text(encoding="utf-8") for path in (ROOT / "tests/metrics").glob("*.py")
)


def decorated_functions():
    """Yield the name of every function of repscope.metrics that is a metric."""
    for module in pkgutil.iter_modules(repscope.metrics.__path__):
        imported = importlib.import_module(f"repscope.metrics.{module.name}")
        for name, function in inspect.getmembers(imported, inspect.isfunction):
            if "metric" in vars(function):
                yield name


def test_every_metric_is_in_the_catalogue_once():
    names = [metric.name for metric in METRICS]
    assert sorted(names) == sorted(set(decorated_functions()))


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_states_what_a_reader_needs(metric):
    for said in ("title", "formula", "range", "cost", "source", "misleads"):
        assert getattr(metric, said).strip(), said
    assert (metric.direction == "target") == (metric.target is not None)
    assert metric.minimum_n >= 1


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_has_tests_that_name_it(metric):
    assert re.search(rf"\b{metric.name}\b", TESTS_OF_METRICS)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.code)
def test_a_check_has_its_file_page_and_test(check):
    assert re.fullmatch(r"RS\d{3}", check.code)
    assert check.page == f"docs/failures/{check.name}.md"
    assert (ROOT / "src/repscope/diagnosis" / f"{check.name}.py").is_file()
    for path in (check.page, f"tests/diagnosis/test_{check.name}.py"):
        assert check.code in (ROOT / path).read_text(encoding="utf-8"), path


def test_codes_are_unique_and_in_order():
    codes = [check.code for check in CHECKS]
    assert codes == sorted(set(codes))
