"""What does repscope run on? Versions, cores, BLAS, optional extras and free disk.

A run's provenance and ``repscope doctor`` read the same functions. Nothing here names
the machine or its user.
"""

import functools
import importlib.metadata
import os
import platform
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np  # its BLAS must be loaded before `machine` asks for it

_REQUIREMENT = re.compile(
    r"(?P<name>[\w.-]+)\s*(?:\[[^\]]*\])?\s*(?P<bounds>[^;]*)"
    r"(?:;\s*(?P<marker>.*))?"
)
_LOWER_BOUND = re.compile(r">=\s*([\w.]+)")
_EXTRA = re.compile(r"extra\s*==\s*['\"]([\w-]+)['\"]")
# Extras for working on repscope itself, or that only gather others.
_EXTRAS_NOT_SHOWN = ("all", "dev")


@dataclass(frozen=True)
class Dependency:
    """One package that repscope uses.

    Args:
        name: the distribution's name.
        extra: the extra that brings it; "" for the core.
        lower_bound: the least version that works.
        installed: the version found; None when it is not installed.
    """

    name: str
    extra: str
    lower_bound: str
    installed: str | None

    @property
    def is_usable(self) -> bool:
        """Whether it is installed in a version that works."""
        return self.installed is not None and _version_key(
            self.installed
        ) >= _version_key(self.lower_bound)


def dependencies() -> tuple[Dependency, ...]:
    """Return the core dependencies and those of each extra, with what is installed.

    The list is the installed package's own metadata, so that it is written once.
    """
    try:
        requirements = importlib.metadata.requires("repscope") or []
    except importlib.metadata.PackageNotFoundError:
        requirements = []  # run from a source tree that was never installed
    parsed = (_parse_requirement(requirement) for requirement in requirements)
    return tuple(
        dependency for dependency in parsed if dependency.extra not in _EXTRAS_NOT_SHOWN
    )


def report(folder: Path) -> dict[str, dict[str, str]]:
    """Return all of it as section -> fact -> text, to be pasted into an issue.

    Args:
        folder: where results would be written.
    """
    found = dependencies()
    absent = [d for d in found if not d.extra and not d.is_usable]
    return {
        "versions": versions(),
        "machine": machine(),
        "extras": extras(found),
        "disk": {"free here": f"{free_disk_bytes(folder) / 2**30:.1f} GiB"},
        "missing": {d.name: f'pip install "{d.name}>={d.lower_bound}"' for d in absent},
    }


def versions() -> dict[str, str]:
    """Return package → version of Python, repscope and what is installed beside it."""
    found = {d.name: d.installed for d in dependencies() if d.installed}
    return {
        "python": platform.python_version(),
        "repscope": _installed_version("repscope") or "not installed",
        "numpy": np.__version__,
        **found,
    }


def machine() -> dict[str, str]:
    """Return what the speed and the last digits of a run depend on."""
    facts = {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": str(usable_cores()),
        "blas": _blas(),
    }
    memory = memory_bytes()
    if memory:
        facts["memory"] = f"{memory / 2**30:.1f} GiB"
    waiting = os.environ.get("OMP_WAIT_POLICY")
    if waiting:
        facts["OMP_WAIT_POLICY"] = waiting
    return facts


def usable_cores() -> int:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes() -> int | None:
    """Return the machine's memory; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def free_disk_bytes(folder: Path) -> int:
    """Return the free space where a folder is, or will be."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def extras(found: Sequence[Dependency]) -> dict[str, str]:
    """Return extra → what is installed of it, or the command that installs it."""
    state: dict[str, str] = {}
    for name in dict.fromkeys(d.extra for d in found if d.extra):
        of_extra = [d for d in found if d.extra == name]
        ready = all(d.is_usable for d in of_extra)
        parts = ", ".join(f"{d.name} {d.installed}" for d in of_extra)
        state[name] = parts if ready else f'pip install "repscope[{name}]"'
        if ready and any(d.name == "torchvision" for d in of_extra):
            state[name] += torchvision_fault()
    return state


def torchvision_fault() -> str:
    """Return what is wrong with an installed torchvision; "" where it can be imported.

    One that was built for another torch, or for a GPU beside a torch for the CPU, is
    there and fails when it is used.
    """
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError, OSError) as error:
        return (
            f"; torchvision does not fit torch ({error}): install both in one command, "
            "pip install --force-reinstall torch torchvision, from one index"
        )
    return ""


def _parse_requirement(requirement: str) -> Dependency:
    match = _REQUIREMENT.match(requirement)
    assert match is not None, requirement
    extra = _EXTRA.search(match["marker"] or "")
    bound = _LOWER_BOUND.search(match["bounds"])
    return Dependency(
        name=match["name"],
        extra=extra[1] if extra else "",
        lower_bound=bound[1] if bound else "0",
        installed=_installed_version(match["name"]),
    )


def _installed_version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _version_key(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: enough for our lower bounds."""
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+")[0])[:3])


@functools.cache
def _blas() -> str:
    try:
        import threadpoolctl
    except ImportError:  # comes with scikit-learn
        return "unknown"
    for library in threadpoolctl.threadpool_info():
        if library["user_api"] == "blas":
            return (
                f"{library['internal_api']} {library['version']}, "
                f"{library['num_threads']} threads"
            )
    return "unknown"
