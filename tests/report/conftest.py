import pytest

from report.hostile_strings import PAYLOADS
from report.report_examples import example_comparison, example_record, example_samples


def pytest_generate_tests(metafunc):
    if "payload" in metafunc.fixturenames:
        names = [f"payload{place:02d}" for place in range(len(PAYLOADS))]
        metafunc.parametrize("payload", PAYLOADS, ids=names)


@pytest.fixture
def samples():
    return example_samples(400)


@pytest.fixture
def record(samples):
    return example_record(samples)


@pytest.fixture
def comparison():
    return example_comparison()
