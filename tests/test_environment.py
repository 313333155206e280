"""The environment report: true versions, usable facts, nothing that names a person."""

import getpass
import importlib.metadata
import os
import platform
import re

import numpy as np
import pytest

from repscope import _environment
from repscope._environment import (
    Dependency,
    dependencies,
    extras,
    free_disk_bytes,
    machine,
    memory_bytes,
    report,
    usable_cores,
    versions,
)


@pytest.fixture
def requirements(monkeypatch):
    """Let the package's metadata and the installed versions be given."""

    def give(required, installed):
        def version(name):
            if name not in installed:
                raise importlib.metadata.PackageNotFoundError(name)
            return installed[name]

        monkeypatch.setattr(
            _environment.importlib.metadata, "requires", lambda name: required
        )
        monkeypatch.setattr(_environment.importlib.metadata, "version", version)

    return give


def test_versions_are_those_that_are_imported():
    found = versions()
    assert found["python"] == platform.python_version()
    assert found["numpy"] == np.__version__
    assert found["repscope"] == importlib.metadata.version("repscope")
    assert found["scikit-learn"] == importlib.metadata.version("scikit-learn")


def test_development_tools_are_no_part_of_a_run():
    assert {"pytest", "ruff", "mypy"}.isdisjoint(versions())


@pytest.mark.parametrize(
    ("requirement", "expected"),
    [
        ("numpy>=2.0", Dependency("numpy", "", "2.0", None)),
        ("scikit-learn<2,>=1.5", Dependency("scikit-learn", "", "1.5", None)),
        ("tomli_w", Dependency("tomli_w", "", "0", None)),
        ("torch>=2.10; extra == 'train'", Dependency("torch", "train", "2.10", None)),
        (
            'dask[array] (>=2026.1) ; python_version > "3.11" and extra == "dask"',
            Dependency("dask", "dask", "2026.1", None),
        ),
    ],
)
def test_requirements_are_read(requirements, requirement, expected):
    requirements([requirement], {})
    assert dependencies() == (expected,)


@pytest.mark.parametrize(
    ("installed", "lower_bound", "usable"),
    [
        (None, "2.0", False),
        ("1.26.4", "2.0", False),
        ("2.0.0", "2.0", True),
        ("2.13.0+cpu", "2.10", True),
        ("2.9.1", "2.10", False),
        ("3", "2.10", True),
        ("14.0.0", "14.0.1", False),
    ],
)
def test_a_version_is_compared_by_its_numbers(installed, lower_bound, usable):
    assert Dependency("a", "", lower_bound, installed).is_usable is usable


def test_an_extra_shows_what_is_installed_or_how_to_get_it(requirements):
    required = ["torch>=2.10; extra == 'train'", "pyarrow>=14; extra == 'parquet'"]
    requirements(required, {"pyarrow": "26.0.1"})
    assert extras(dependencies()) == {
        "train": 'pip install "repscope[train]"',
        "parquet": "pyarrow 26.0.1",
    }


def test_what_is_missing_or_too_old_is_reported(requirements, tmp_path):
    required = ["numpy>=2.0", "scipy>=1.13", "jinja2>=3.1.6", "x>=1; extra == 'train'"]
    requirements(required, {"numpy": "1.9", "scipy": "1.17.1"})
    assert report(tmp_path)["missing"] == {
        "numpy": 'pip install "numpy>=2.0"',
        "jinja2": 'pip install "jinja2>=3.1.6"',
    }


def test_nothing_is_missing_here(tmp_path):
    assert report(tmp_path)["missing"] == {}


def test_a_source_tree_that_was_never_installed_has_no_list(requirements, monkeypatch):
    def not_installed(name):
        raise importlib.metadata.PackageNotFoundError(name)

    requirements([], {})
    monkeypatch.setattr(
        _environment.importlib.metadata, "requires", not_installed, raising=True
    )
    assert dependencies() == ()
    assert versions()["repscope"] == "not installed"


def test_the_machine_is_described_without_naming_it():
    facts = machine()
    assert facts["system"].startswith(platform.system())
    assert facts["cores"] == str(usable_cores())
    assert re.search(r"\d+ threads", facts["blas"])
    told = " ".join(facts.values())
    assert platform.node() not in told
    assert getpass.getuser() not in told.split()


def test_the_waiting_policy_is_told_when_set(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    assert machine()["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.delenv("OMP_WAIT_POLICY")
    assert "OMP_WAIT_POLICY" not in machine()


def test_cores_are_those_this_process_may_use():
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)


def test_a_system_that_does_not_tell_its_memory(monkeypatch):
    def unknown(name):
        raise ValueError(name)

    monkeypatch.setattr(_environment.os, "sysconf", unknown)
    assert memory_bytes() is None
    assert "memory" not in machine()


def test_free_disk_is_asked_where_the_folder_will_be(tmp_path):
    there, later = tmp_path, tmp_path / "not" / "yet"
    assert free_disk_bytes(later) == pytest.approx(free_disk_bytes(there), rel=0.1)
