import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def finished_features(tmp_path_factory):
    # imported here: most tests of representations need no torch
    from representations.embedding_cases import run

    folder = tmp_path_factory.mktemp("finished") / "features"
    run(folder)
    return folder


@pytest.fixture
def folder(finished_features, tmp_path):
    """Return a features folder of its own: `run` of the embedding cases."""
    return Path(shutil.copytree(finished_features, tmp_path / "features"))
