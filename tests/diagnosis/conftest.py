"""Which sizes of planted features are for the slow tests."""

from pathlib import Path

import pytest

# Every check fires and stays silent at one small and one middle size in the fast tests.
SLOW_SIZES = {(400, 32, 1), (1000, 64, 0), (2000, 128, 0)}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent not in item.path.parents:
            continue
        values = getattr(item, "callspec", None)
        if values is not None and any(
            isinstance(one, tuple) and one in SLOW_SIZES
            for one in values.params.values()
        ):
            item.add_marker(pytest.mark.slow)
