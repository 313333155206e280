"""Is this plain value what a field of a recipe may hold? With errors that name it.

Values come from TOML or from words such as ``training.epochs=3``. They are checked
against the annotations of frozen dataclasses; nothing is guessed or cut to fit.
"""

import dataclasses
import functools
import math
import tomllib
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from repscope._checking import UsageError, did_you_mean

_NO_VALUE = ("none", "null")


@functools.cache
def fields_of(kind: type) -> Mapping[str, Any]:
    """Return field name → annotation of a dataclass."""
    return typing.get_type_hints(kind)


def record_of(kind: type, plain: Any, where: str) -> Any:
    """Return a dataclass built from a table; unknown keys and wrong types are errors.

    Args:
        kind: a frozen dataclass whose fields all have defaults.
        plain: the table.
        where: its dotted name, for messages; "" at the top.

    Raises:
        UsageError: naming the key, what was found and what is allowed.
    """
    if not isinstance(plain, Mapping):
        raise _wrong(where or "the recipe", plain, "a table")
    hints = fields_of(kind)
    for key in plain:
        if key not in hints:
            raise unknown_key(_dotted(where, str(key)), str(key), hints)
    return kind(
        **{
            key: value_of(hints[key], value, _dotted(where, key))
            for key, value in plain.items()
        }
    )


def value_of(kind: Any, plain: Any, where: str) -> Any:
    """Return a value as its field's annotation asks for it.

    Args:
        kind: the annotation.
        plain: a value of TOML, or None.
        where: the field's dotted name, for messages.

    Raises:
        UsageError: naming the field, what was found and what is allowed.
    """
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return record_of(kind, plain, where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _optional(arguments, plain, where)
    if origin is Literal:
        return _one_of(arguments, plain, where)
    if origin is Mapping:
        return _table(plain, where)
    if origin is tuple and isinstance(plain, list | tuple):
        return tuple(value_of(arguments[0], one, where) for one in plain)
    if kind is float and type(plain) in (int, float) and math.isfinite(plain):
        return float(plain)
    if kind is not float and type(plain) is kind:
        return plain
    raise _wrong(where, plain, _name_of(kind))


def value_of_text(kind: Any, text: str, where: str) -> Any:
    """Return the value that a typed word stands for.

    Args:
        kind: the annotation of the field.
        text: a TOML value; a string needs no quotation marks, ``none`` is no value.
        where: the field's dotted name, for messages.

    Raises:
        UsageError: naming the field, what was found and what is allowed.
    """
    plain = plain_of_text(text)
    if plain is None and kind is str:  # such as the head "none"
        plain = text.strip().lower()
    return value_of(kind, plain, where)


def plain_of_text(text: str) -> Any:
    """Return a typed word as a TOML value, or as the string it is."""
    if text.strip().lower() in _NO_VALUE:
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, KeyError):
        return text


def unknown_key(where: str, key: str, options: Mapping[str, Any]) -> UsageError:
    """Return the error for a key that does not exist."""
    return UsageError(f"unknown key {where!r}", fix=did_you_mean(key, options))


def _optional(kinds: tuple[Any, ...], plain: Any, where: str) -> Any:
    if plain is None and type(None) in kinds:
        return None
    given = [kind for kind in kinds if kind is not type(None)]
    assert len(given) == 1, "a field of a recipe is of one type, or None"
    return value_of(given[0], plain, where)


def _one_of(options: tuple[Any, ...], plain: Any, where: str) -> Any:
    if any(type(plain) is type(option) and plain == option for option in options):
        return plain
    names = [str(option) for option in options]
    raise UsageError(f"{where} = {plain!r}", fix=did_you_mean(str(plain), names))


def _table(plain: Any, where: str) -> dict[str, Any]:
    if not isinstance(plain, Mapping):
        raise _wrong(where, plain, "a table")
    for key, value in plain.items():
        scalars = value if isinstance(value, list | tuple) else [value]
        for one in scalars:
            finite = not isinstance(one, float) or math.isfinite(one)
            if not isinstance(one, bool | int | float | str) or not finite:
                expected = "numbers, words, true or false"
                raise _wrong(_dotted(where, key), value, expected)
    return dict(plain)


def _dotted(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _name_of(kind: Any) -> str:
    names = {
        int: "a whole number",
        float: "a finite number",
        bool: "true or false",
        str: "a word",
    }
    return names.get(kind, "a list")


def _wrong(where: str, plain: Any, expected: str) -> UsageError:
    return UsageError(f"{where} = {plain!r}", expected=expected)
