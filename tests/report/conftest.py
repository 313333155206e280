import pytest

from report.hostile_strings import PAYLOADS
from report.report_examples import example_comparison, example_record, example_samples
from repscope.report.page import render


def pytest_generate_tests(metafunc):
    if "payload" in metafunc.fixturenames:
        names = [f"payload{place:02d}" for place in range(len(PAYLOADS))]
        metafunc.parametrize("payload", PAYLOADS, ids=names)


@pytest.fixture
def samples():
    return example_samples(150)


@pytest.fixture
def record(samples):
    return example_record(samples)


@pytest.fixture
def comparison():
    return example_comparison()


@pytest.fixture(scope="session")
def large_page():
    """50,000 rows with 200 labels and long ids, and their page."""
    classes = [f"a class with a rather long name {place}" for place in range(200)]
    ids = "a/long/path/to/a/folder/of/pictures/\u00e4\u00f6/{:08d}.png"
    samples = example_samples(50_000, classes=classes, ids=ids)
    return samples, render(example_record(samples), samples)
