"""repscope: a check-up for self-supervised image encoders.

>>> import repscope as rs
>>> report = rs.diagnose(features, labels=labels)  # doctest: +SKIP
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "diagnose": "repscope.diagnosis.diagnose",
    "compare": "repscope.diagnosis.compare",
    "Report": "repscope.report.report",
    "Representation": "repscope.representations.representation",
    "Moments": "repscope.representations.moments",
    "Measurement": "repscope.records",
    "Finding": "repscope.records",
}

__all__ = ["Finding", "Measurement", "Moments", "Report", "Representation"]
__all__ += ["__version__", "compare", "diagnose"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'repscope' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
