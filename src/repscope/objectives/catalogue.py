"""Which objectives are there? The closed table, and building one by its name."""

import typing
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

from repscope._checking import UsageError, check_choice
from repscope.objectives.batch import Objective
from repscope.objectives.contrastive import NTXent
from repscope.objectives.redundancy import BarlowTwins, VICReg

OBJECTIVES: Mapping[str, type[NTXent] | type[VICReg] | type[BarlowTwins]] = (
    MappingProxyType({"nt_xent": NTXent, "vicreg": VICReg, "barlow_twins": BarlowTwins})
)
_KINDS = {float: "a number", bool: "true or false"}


def build_objective(name: str, options: Mapping[str, Any]) -> Objective:
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
    kinds = typing.get_type_hints(chosen)
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
