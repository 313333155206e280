"""Records come back from JSON as they went in, and refuse what is not theirs."""

import dataclasses
import enum
import json
import math
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from repscope import records
from repscope._checking import InputError
from repscope.records import (
    Curve,
    Finding,
    Formula,
    Measurement,
    Provenance,
    RunRecord,
    Samples,
    Series,
    Status,
    Table,
    Thumbnail,
    Verdict,
    from_json,
    to_dict,
    to_json,
)

RECORDS = [
    *(Measurement, Finding, Series, Curve, Table, Thumbnail),
    *(Formula, Verdict, Provenance, RunRecord),
]
PLAIN = {
    str: st.text(max_size=8),
    int: st.integers(-(2**53), 2**53),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    type(None): st.none(),
}


def values_of(kind):
    """Return a strategy for the values that a field's annotation allows."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind in PLAIN:
        return PLAIN[kind]
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return st.sampled_from(kind)
    if dataclasses.is_dataclass(kind):
        return records_of(kind)
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if origin in (typing.Union, types.UnionType):
        return st.one_of([values_of(one) for one in arguments])
    if origin is Mapping:
        return st.dictionaries(st.text(max_size=5), values_of(arguments[1]), max_size=2)
    if arguments[1:] == (...,):
        return st.lists(values_of(arguments[0]), max_size=2).map(tuple)
    return st.tuples(*(values_of(one) for one in arguments))


@dataclass(frozen=True)
class Plan:
    """A record to be: beartype draws random numbers, which no strategy may."""

    kind: type
    fields: Mapping[str, Any]


def records_of(kind):
    hints = typing.get_type_hints(kind)
    fields = {name: values_of(hint) for name, hint in hints.items()}
    if kind is RunRecord:
        fields["schema_version"] = st.sampled_from(["1.0", "1.7"])
    if kind is Measurement:
        fields["reason"] = st.just("why")
    return st.fixed_dictionaries(fields).map(lambda fields: Plan(kind, fields))


def built(value):
    if isinstance(value, tuple):
        return tuple(built(one) for one in value)
    if not isinstance(value, Plan):
        return value
    fields = {name: built(one) for name, one in value.fields.items()}
    if value.kind is Measurement and fields["value"] is not None:
        fields["reason"] = None
    return value.kind(**fields)


@pytest.mark.parametrize("kind", RECORDS)
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_every_record_returns_from_strict_json(kind, data):
    record = built(data.draw(records_of(kind)))
    text = to_json(record)
    json.loads(text, parse_constant=pytest.fail)
    assert from_json(kind, text) == record
    assert from_json(kind, to_json(record, indent=2)) == record


def test_all_record_classes_are_covered():
    classes = {
        value
        for value in vars(records).values()
        if dataclasses.is_dataclass(value) and value is not Samples
    }
    assert classes == set(RECORDS)


@pytest.mark.parametrize("kind", RECORDS)
def test_records_cannot_be_changed(kind):
    name = dataclasses.fields(kind)[0].name
    record = object.__new__(kind)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(record, name, 1)


@pytest.mark.parametrize(
    ("number", "printed"), [(math.nan, "nan"), (math.inf, "inf"), (-math.inf, "-inf")]
)
@pytest.mark.parametrize(
    "wrap",
    [
        lambda number: Measurement(name="alpha", value=number),
        lambda number: Measurement(name="alpha", value=1.0, interval=(0.0, number)),
        lambda number: Measurement(name="alpha", value=1.0, details={"r": number}),
        lambda number: Series(label="a", x=(number,), y=(0.0,)),
        lambda number: Measurement(name="alpha", value=np.float32(number).item()),
        lambda number: Table(
            name="t", title="t", columns=("a",), rows=((np.float64(number),),)
        ),
    ],
)
def test_numbers_that_are_not_finite_are_not_written(wrap, number, printed):
    message = f"^a record holds the number {printed}\n  expected: a finite number, or"
    with pytest.raises(InputError, match=message):
        to_json(wrap(number))


@pytest.mark.parametrize("value", [{1, 2}, b"x", np.zeros(2), object(), Verdict])
def test_values_of_no_plain_type_are_not_written(value):
    name = type(value).__name__
    with pytest.raises(InputError, match=f"^a record holds a value of type {name}$"):
        to_json({"value": value})


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.float32(0.5), 0.5),
        (np.float64(0.1), 0.1),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (Status.NOT_APPLICABLE, "not applicable"),
        ((1, (2, None)), [1, [2, None]]),
        ({3: np.int8(1)}, {"3": 1}),
    ],
)
def test_numpy_scalars_and_enums_become_plain(value, plain):
    written = to_dict(value)
    assert written == plain
    assert type(written) is type(plain)


VERDICT = '{"word": "WARN", "sentence": "s"'


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (Verdict, "{", "no valid JSON: Expecting property name"),
        (Verdict, "", "no valid JSON: Expecting value"),
        (Verdict, "[" * 10_000, "no valid JSON: "),
        (Verdict, "[]", "Verdict: list instead of an object"),
        (Verdict, "null", "Verdict: NoneType instead of an object"),
        (Verdict, '{"word": "WARN"}', "Verdict: the key 'sentence' is missing"),
        (
            Verdict,
            VERDICT + ', "sentense": 1}',
            "Verdict: unknown key 'sentense'\n  fix: did you mean sentence?",
        ),
        (
            Verdict,
            '{"word": "FINE", "sentence": "s"}',
            "Verdict.word: 'FINE' is not one of ('HEALTHY', 'WARN', 'COLLAPSED', "
            "'UNDECIDED', 'COMPARED')",
        ),
        (Verdict, '{"word": [], "sentence": "s"}', "Verdict.word: [] is not one of"),
        (
            Verdict,
            '{"word": "WARN", "sentence": 3}',
            "Verdict.sentence: 3 is not of type <class 'str'>",
        ),
        (
            Measurement,
            '{"name": "a", "value": "1"}',
            "Measurement.value: '1' fits none of",
        ),
        (Measurement, '{"name": "a", "value": true}', "Measurement.value: True fits"),
        (
            Measurement,
            '{"name": "a", "value": 1, "interval": [1]}',
            "Measurement.interval: [1] fits none of",
        ),
        (
            Measurement,
            '{"name": "a", "value": 1, "n": 1.5}',
            "Measurement.n: 1.5 is not of type <class 'int'>",
        ),
        (
            Measurement,
            '{"name": "a", "value": 1, "range": [1, 2, 3]}',
            "Measurement.range: 3 entries instead of 2",
        ),
        (
            Measurement,
            '{"name": "a", "value": null}',
            "measurement a: give a value or a reason, not both or none",
        ),
        (
            Measurement,
            '{"name": "a", "value": NaN}',
            "the number NaN in JSON\n  expected: finite numbers; null where there is",
        ),
        (Measurement, '{"name": "a", "value": -Infinity}', "the number -Infinity in"),
        (Measurement, '{"name": "a", "value": 1e999}', "the number 1e999 in JSON"),
        (Measurement, '{"name": "a", "value": 1' + "0" * 400 + "}", "the number 1000"),
        (Measurement, '{"name": "a", "n": 1' + "0" * 5000 + "}", "the number 1000"),
        (
            Finding,
            '{"code": "RS101", "title": "t", "status": "lost", "severity": "failure",'
            ' "explanation": "e"}',
            "Finding.status: 'lost' is not one of ('found', 'absent', 'undecided', "
            "'not applicable', 'skipped')",
        ),
        (
            Table,
            '{"name": "t", "title": "t", "columns": ["a"], "rows": [[{}]]}',
            "Table.rows: {} fits none of",
        ),
        (Provenance, '{"inputs": []}', "Provenance.inputs: [] is not of type"),
    ],
)
def test_json_that_is_no_such_record_is_refused(kind, text, message):
    with pytest.raises(InputError, match="^" + re.escape(message)):
        from_json(kind, text)


def test_a_run_of_a_newer_schema_is_refused_before_its_keys_are_read():
    message = re.escape(
        "a run of schema 2.0\n  expected: schema 1.x\n"
        "  fix: read it with the repscope version that wrote it, or run it again"
    )
    with pytest.raises(InputError, match=f"^{message}$"):
        from_json(RunRecord, '{"schema_version": "2.0", "unheard_of": 1}')


def test_whole_numbers_become_floats_only_where_floats_are_meant():
    text = '{"name": "a", "value": 1, "n": 2, "details": {"first_rank": 3, "r": 1.0}}'
    measurement = from_json(Measurement, text)
    assert type(measurement.value) is float
    assert type(measurement.n) is int
    assert type(measurement.details["first_rank"]) is int
    assert type(measurement.details["r"]) is float


@pytest.mark.parametrize(("value", "reason"), [(None, None), (1.0, "too few rows")])
def test_a_measurement_has_a_value_or_a_reason(value, reason):
    message = "^measurement alpha: give a value or a reason, not both or none$"
    with pytest.raises(InputError, match=message):
        Measurement(name="alpha", value=value, reason=reason)


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({}, "cdnv"),
        ({"level": "coarse"}, "cdnv[coarse]"),
        ({"layer": "block 3"}, "cdnv@block 3"),
        ({"level": "fine", "layer": "head"}, "cdnv[fine]@head"),
    ],
)
def test_key_names_level_and_layer(fields, key):
    assert Measurement(name="cdnv", value=0.0, **fields).key == key


def test_samples_have_columns_of_one_length():
    assert len(Samples({"row": np.arange(3), "id": np.array(["a", "b", "c"])})) == 3
    assert len(Samples({})) == 0
    message = re.escape("samples: columns of different lengths [2, 3]")
    with pytest.raises(InputError, match=f"^{message}$"):
        Samples({"a": np.zeros(2), "b": np.zeros(3), "c": np.zeros(2)})
