"""The values repscope hands over: measurements, findings, all that a report shows.

Records are frozen and hold only plain values, so that a run can be read, compared and
rendered again without data, weights or a GPU. `to_json` and `from_json` are strict: no
NaN, no infinity, no unknown key, and `from_json(cls, to_json(x)) == x`.
"""

import dataclasses
import enum
import functools
import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import numpy as np

from repscope._checking import InputError, did_you_mean

SCHEMA_VERSION = "1.0"

Direction = Literal["higher", "lower", "target", "none"]
Severity = Literal["failure", "warning", "advisory"]
Scalar = str | int | float | bool | None
Detail = Scalar | tuple[Scalar, ...]

R = TypeVar("R")


class Status(enum.Enum):
    """What a check can answer."""

    FOUND = "found"
    ABSENT = "absent"
    UNDECIDED = "undecided"
    NOT_APPLICABLE = "not applicable"
    SKIPPED = "skipped"


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A fact: one number with everything needed to read it.

    Args:
        name: the metric's name in the catalogue.
        value: the number, or None when it cannot be decided; then `reason` says why.
        reason: why there is no value; None when there is one.
        interval: a 95 % interval, or None; `details["interval"]` names the method.
        range: the least and the greatest possible value, None where unbounded.
        direction: which way is better.
        target: the best value where `direction` is "target".
        n: rows used.
        d: feature dimensions; None where they play no part.
        split: "all", "train" or "test".
        layer: the layer of the encoder, "features" when there is only one.
        level: the label level or attribute; None for label-free numbers.
        formula: the id of the formula in the run's glossary.
        details: numbers and words that qualify the value (ranks fitted, base rate,
            ...).
        replicates: leave-one-block-out values; blocks are fixed by row ids, so that two
            runs on the same rows can be compared pair by pair.
    """

    name: str
    value: float | None
    reason: str | None = None
    interval: tuple[float, float] | None = None
    range: tuple[float | None, float | None] = (None, None)
    direction: Direction = "none"
    target: float | None = None
    n: int = 0
    d: int | None = None
    split: str = "all"
    layer: str = "features"
    level: str | None = None
    formula: str = ""
    details: Mapping[str, Detail] = field(default_factory=dict)
    replicates: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if (self.value is None) == (self.reason is None):
            raise InputError(
                f"measurement {self.name}: give a value or a reason, not both or none"
            )

    @property
    def key(self) -> str:
        """The name by which a run knows it, such as ``ncc_accuracy[coarse]``."""
        level = f"[{self.level}]" if self.level else ""
        layer = f"@{self.layer}" if self.layer != "features" else ""
        return f"{self.name}{level}{layer}"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A judgement: what one check says, with the measurements it rests on.

    Args:
        code: the check's code, stable for ever (``RS102``).
        title: the failure's name.
        status: found, absent, undecided, not applicable or skipped.
        severity: "failure" and "warning" count for the verdict, "advisory" does not.
        explanation: what was seen and what it means, in plain words.
        action: the first thing to do about it; empty unless found.
        evidence: the measurements behind the judgement.
        remedies: codes of the remedies that apply.
        rows: rows of the features that the finding points at, the worst first.
        page: the documentation page.
    """

    code: str
    title: str
    status: Status
    severity: Severity
    explanation: str
    action: str = ""
    evidence: tuple[Measurement, ...] = ()
    remedies: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()
    page: str = ""


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line, cloud or set of bars of a curve."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    style: Literal["line", "dashed", "points", "step", "bars"] = "line"


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A figure as numbers: what to draw and how to read it.

    Where `x_ticks` holds names, they stand at x = 1, 2, ... in place of numbers.
    """

    name: str
    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    x_scale: Literal["linear", "log"] = "linear"
    y_scale: Literal["linear", "log"] = "linear"
    shaded: tuple[float, float] | None = None
    how_to_read: str = ""
    x_ticks: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows under named columns."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Scalar, ...], ...]
    how_to_read: str = ""


@dataclass(frozen=True, kw_only=True)
class Thumbnail:
    """A small picture of one row, as a ``data:image/...`` address."""

    row: int
    address: str
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Formula:
    """A glossary entry: how a number is computed and when it misleads.

    `family` is the heading under which a report lists it.
    """

    id: str
    title: str
    formula: str
    range: str
    direction: Direction
    source: str
    misleads: str
    family: str = ""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The run in one word and one sentence."""

    word: Literal["HEALTHY", "WARN", "COLLAPSED", "UNDECIDED", "COMPARED"]
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a run comes from, enough to run it again and to know what was read."""

    command: str = ""
    created: str = ""
    seconds: float = 0.0
    seed: int = 0
    n: int = 0
    d: int = 0
    dtype: str = ""
    features_fingerprint: str = ""
    ids_fingerprint: str = ""
    labels_fingerprints: Mapping[str, str] = field(default_factory=dict)
    split_fingerprint: str = ""
    split_rule: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """Everything a run says; the report page and `compare` read nothing else."""

    kind: Literal["diagnosis", "comparison"]
    title: str
    verdict: Verdict
    provenance: Provenance
    measurements: tuple[Measurement, ...] = ()
    findings: tuple[Finding, ...] = ()
    curves: tuple[Curve, ...] = ()
    tables: tuple[Table, ...] = ()
    thumbnails: tuple[Thumbnail, ...] = ()
    glossary: tuple[Formula, ...] = ()
    notices: tuple[str, ...] = ()
    next_commands: tuple[str, ...] = ()
    schema_version: str = SCHEMA_VERSION


@dataclass(frozen=True, eq=False)
class Samples:
    """One value per row and column: ids, labels, predictions, scores, map positions.

    Kept beside the run record (``samples.csv`` or ``samples.parquet``), not inside it.

    Args:
        columns: column name → array of n values; all of one length.
    """

    columns: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        lengths = {len(column) for column in self.columns.values()}
        if len(lengths) > 1:
            raise InputError(f"samples: columns of different lengths {sorted(lengths)}")

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))


def to_json(record: Any, *, indent: int | None = None) -> str:
    """Return a record as strict JSON.

    Args:
        record: any record of this module.
        indent: spaces per level; None for one line.

    Raises:
        InputError: where a number is NaN or infinite.

    Example:
        >>> to_json(Verdict(word="HEALTHY", sentence="no failure found"))
        '{"word": "HEALTHY", "sentence": "no failure found"}'
    """
    return json.dumps(to_dict(record), allow_nan=False, indent=indent)


def to_dict(record: Any) -> Any:
    """Return a record as plain dictionaries, lists, strings and finite numbers.

    Raises:
        InputError: where a number is NaN or infinite, or a value is of no plain type.
    """
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        names = [f.name for f in dataclasses.fields(record)]
        return {name: to_dict(getattr(record, name)) for name in names}
    if isinstance(record, enum.Enum):
        return record.value
    if isinstance(record, Mapping):
        return {str(key): to_dict(value) for key, value in record.items()}
    if isinstance(record, tuple | list):
        return [to_dict(value) for value in record]
    if isinstance(record, np.generic):
        return to_dict(record.item())
    if isinstance(record, float) and not math.isfinite(record):
        raise InputError(
            f"a record holds the number {record}",
            expected="a finite number, or None with a reason",
        )
    if record is None or isinstance(record, str | int | float | bool):
        return record
    raise InputError(f"a record holds a value of type {type(record).__name__}")


def from_json(kind: type[R], text: str) -> R:
    """Return the record that `to_json` wrote.

    Args:
        kind: the record class.
        text: JSON; NaN and infinity are refused.

    Raises:
        InputError: where the text is no JSON, holds an unknown or misses a needed key,
            or comes from a newer schema.
    """
    try:
        plain = json.loads(
            text,
            parse_constant=_refuse_constant,
            parse_float=_finite_float,
            parse_int=_finite_int,
        )
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"no valid JSON: {error}") from error
    version = plain.get("schema_version") if isinstance(plain, dict) else None
    if isinstance(version, str):
        _check_schema(version)
    return _decode(kind, plain, kind.__name__)


def _check_schema(version: str) -> None:
    if version.partition(".")[0] != SCHEMA_VERSION.partition(".")[0]:
        raise InputError(
            f"a run of schema {version}",
            expected=f"schema {SCHEMA_VERSION.partition('.')[0]}.x",
            fix="read it with the repscope version that wrote it, or run it again",
        )


def _refuse_constant(name: str) -> float:
    raise InputError(
        f"the number {name[:20]} in JSON",
        expected="finite numbers; null where there is no value",
    )


def _finite_float(text: str) -> float:
    """Return a JSON number; 1e999, which Python reads as infinity, is refused."""
    number = float(text)
    return number if math.isfinite(number) else _refuse_constant(text)


def _finite_int(text: str) -> int:
    _finite_float(text)
    return int(text)


@functools.cache
def _fields_of(kind: type) -> Mapping[str, Any]:
    return typing.get_type_hints(kind)


def _decode(kind: Any, plain: Any, where: str) -> Any:
    """Build a value of type `kind` from plain JSON values."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _decode_record(kind, plain, where)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _decode_enum(kind, plain, where)
    if origin in (typing.Union, types.UnionType):
        return _decode_union(arguments, plain, where)
    if origin is Literal:
        if plain not in arguments:
            raise InputError(f"{where}: {plain!r} is not one of {arguments}")
        return plain
    if origin is tuple and isinstance(plain, list):
        kinds = arguments[:1] * len(plain) if arguments[1:] == (...,) else arguments
        if len(kinds) != len(plain):
            raise InputError(f"{where}: {len(plain)} entries instead of {len(kinds)}")
        return tuple(
            _decode(item, value, where)
            for item, value in zip(kinds, plain, strict=True)
        )
    if origin is Mapping and isinstance(plain, dict):
        return {
            key: _decode(arguments[1], value, where) for key, value in plain.items()
        }
    if kind is float and isinstance(plain, int) and not isinstance(plain, bool):
        return float(plain)
    if isinstance(kind, type) and type(plain) is kind:
        return plain
    raise InputError(f"{where}: {plain!r} is not of type {kind}")


def _decode_enum(kind: type[enum.Enum], plain: Any, where: str) -> enum.Enum:
    for member in kind:
        if member.value == plain:
            return member
    options = tuple(member.value for member in kind)
    raise InputError(f"{where}: {plain!r} is not one of {options}")


def _decode_union(kinds: tuple[Any, ...], plain: Any, where: str) -> Any:
    if type(plain) in kinds:  # exact types first: an int stays an int
        return plain
    if plain is None and type(None) in kinds:
        return None
    for kind in kinds:
        try:
            return _decode(kind, plain, where)
        except InputError:
            continue
    raise InputError(f"{where}: {plain!r} fits none of {kinds}")


def _decode_record(kind: type, plain: Any, where: str) -> Any:
    if not isinstance(plain, dict):
        raise InputError(f"{where}: {type(plain).__name__} instead of an object")
    hints = _fields_of(kind)
    for key in plain:
        if key not in hints:
            raise InputError(
                f"{where}: unknown key {key!r}", fix=did_you_mean(key, hints)
            )
    for f in dataclasses.fields(kind):
        required = (
            f.default is dataclasses.MISSING
            and f.default_factory is dataclasses.MISSING
        )
        if required and f.name not in plain:
            raise InputError(f"{where}: the key {f.name!r} is missing")
    return kind(
        **{
            key: _decode(hints[key], value, f"{where}.{key}")
            for key, value in plain.items()
        }
    )
