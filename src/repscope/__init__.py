"""repscope: a check-up for self-supervised image encoders.

>>> import repscope as rs
>>> report = rs.diagnose(features, labels=labels)  # doctest: +SKIP
"""

import importlib
from typing import Any

from repscope._checking import MissingExtraError

__version__ = "0.1.0"

_HOMES = {
    "train": "repscope.training.engine",
    "embed": "repscope.representations.embed",
    "watch": "repscope.diagnosis.watch",
    "diagnose": "repscope.diagnosis.diagnose",
    "compare": "repscope.diagnosis.compare",
    "reproduce": "repscope.experiments.reproduce",
    "open_images": "repscope.data.sources",
    "open_encoder": "repscope.models.third_party",
    "ImageSet": "repscope.data.imageset",
    "Preprocess": "repscope._images",
    "Encoder": "repscope.models.encoder",
    "Recipe": "repscope.training.recipe",
    "Embedding": "repscope.representations.embedding",
    "Report": "repscope.report.report",
    "Representation": "repscope.representations.representation",
    "Moments": "repscope.representations.moments",
    "Measurement": "repscope.records",
    "Finding": "repscope.records",
}

__all__ = ["Embedding", "Encoder", "Finding", "ImageSet", "Measurement", "Moments"]
__all__ += ["Preprocess", "Recipe", "Report", "Representation", "__version__"]
__all__ += ["compare", "diagnose", "embed", "open_encoder", "open_images"]
__all__ += ["reproduce", "train", "watch"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'repscope' has no attribute {name!r}")
    try:
        home = importlib.import_module(_HOMES[name])
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingExtraError(f"repscope.{name} needs torch", "train") from error
    return getattr(home, name)


def __dir__() -> list[str]:
    return sorted(__all__)
