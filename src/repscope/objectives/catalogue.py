"""Which objectives are there? The closed table, and building one by its name."""

import dataclasses
import typing
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

from repscope._checking import UsageError, check_choice
from repscope.objectives.assignment import SwAV
from repscope.objectives.contrastive import NTXent
from repscope.objectives.distillation import BYOL, SimSiam
from repscope.objectives.instance_discrimination import InstDisc
from repscope.objectives.momentum_contrast import MoCo
from repscope.objectives.objective import AbstractObjective
from repscope.objectives.redundancy import BarlowTwins, VICReg
from repscope.objectives.spectral_contrastive import SpectralContrastive
from repscope.objectives.supervised import CrossEntropy
from repscope.objectives.supervised_contrastive import JointLoss, SupCon

OBJECTIVES: Mapping[str, type[AbstractObjective]] = MappingProxyType(
    {
        "nt_xent": NTXent,
        "supcon": SupCon,
        "joint": JointLoss,
        "spectral": SpectralContrastive,
        "moco": MoCo,
        "inst_disc": InstDisc,
        "byol": BYOL,
        "simsiam": SimSiam,
        "swav": SwAV,
        "barlow_twins": BarlowTwins,
        "vicreg": VICReg,
        "cross_entropy": CrossEntropy,
    }
)
_KINDS = {float: "a number", int: "a whole number", bool: "true or false"}


def build_objective(name: str, options: Mapping[str, Any]) -> AbstractObjective:
    """Return the objective of a recipe.

    Args:
        name: a key of `OBJECTIVES`.
        options: its parameters as plain values; those left out have its defaults.

    Raises:
        UsageError: for an unknown name or option, a value of the wrong type, or one
            outside of its range.

    Example:
        >>> build_objective("nt_xent", {"temperature": 0.2})
        NTXent(temperature=0.2, variant='standard')
    """
    check_choice("objective", name, OBJECTIVES)
    chosen = OBJECTIVES[name]
    kinds = {one.name: one.type for one in dataclasses.fields(chosen)}  # type: ignore[arg-type]
    for option in options:
        check_choice(f"option of {name}", option, kinds)
    values = {
        option: _value(kinds[option], value, f"{name}: {option}")
        for option, value in options.items()
    }
    return chosen(**values)


def _value(kind: Any, value: Any, where: str) -> Any:
    """Return a plain value as its field holds it; only 1 for 1.0 is changed."""
    if typing.get_origin(kind) is Literal:
        choices = typing.get_args(kind)
        if not isinstance(value, str):
            expected = ", ".join(choices)
            raise UsageError(f"{where} is {value!r}", expected=expected)
        check_choice(where, value, choices)
        return value
    if kind is float and type(value) in (int, float):
        return float(value)
    if type(value) is not kind:
        raise UsageError(f"{where} is {value!r}", expected=_KINDS[kind])
    return value
