"""What the tests of models share."""

import importlib.util
from types import ModuleType

import pytest


@pytest.fixture
def as_users_have_it():
    """Return a function that loads a module anew, without the tests' type checks.

    They refuse a word outside of a Literal before our own message can.
    """

    def load(module: ModuleType) -> ModuleType:
        spec = importlib.util.spec_from_file_location("unchecked", module.__file__)
        assert spec is not None
        assert spec.loader is not None
        plain = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(plain)
        return plain

    return load
