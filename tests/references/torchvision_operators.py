"""torchvision where the installed one does not fit torch, for tests only.

A torchvision built for CUDA cannot be imported beside a torch for the CPU: its compiled
operators do not load. Everything that tests need of it is Python; so the operators that
its import asks for are declared, without a body.
"""

import importlib
import sys

import pytest
import torch

_declared = []  # the declarations live as long as their object


def torchvision_or_skip():
    """Return torchvision, or skip the test where it is not installed."""
    try:
        return importlib.import_module("torchvision")
    except ModuleNotFoundError:
        pytest.skip("torchvision is not installed")
    except (ImportError, RuntimeError, OSError):
        _declare()
    for name in [name for name in sys.modules if name.startswith("torchvision")]:
        del sys.modules[name]
    return importlib.import_module("torchvision")


def timm_or_skip():
    """Return timm, or skip the test where it is not installed."""
    torchvision_or_skip()
    return pytest.importorskip("timm")


def _declare():
    if not _declared:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            library.define(
                f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )
        _declared.append(library)
