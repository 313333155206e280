"""One run that nothing interrupts, with which others are compared."""

import os

import pytest

from repscope.training.engine import train
from training.tiny_runs import RECIPE, tiny_images


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    """Only a machine that loses its power would tell; waiting takes most of a test."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """The folder of a run that nothing interrupted; not to be written to."""
    run = tmp_path_factory.mktemp("whole") / "run"
    train(RECIPE, tiny_images(), run)
    return run
