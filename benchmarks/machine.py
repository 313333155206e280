"""One line about where a benchmark ran."""

from repscope import _environment


def describe() -> str:
    machine = ", ".join(f"{k} {v}" for k, v in _environment.machine().items())
    versions = _environment.versions()
    shown = ("python", "numpy", "scipy", "scikit-learn", "torch", "repscope")
    return (
        machine
        + " | "
        + ", ".join(f"{name} {versions[name]}" for name in shown if name in versions)
    )
