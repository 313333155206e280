import json

import numpy as np
import pytest

from repscope.files.parquet_names import class_names, is_image, with_class_names

pa = pytest.importorskip("pyarrow")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (pa.binary(), True),
        (pa.large_binary(), True),
        (pa.struct([("bytes", pa.binary()), ("path", pa.string())]), True),
        (pa.struct([("path", pa.string())]), False),
        (pa.struct([("bytes", pa.string())]), False),
        (pa.list_(pa.binary()), False),
        (pa.string(), False),
    ],
)
def test_which_types_can_hold_pictures(kind, expected):
    assert is_image(kind) == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({"info": {"features": {"y": {"names": ["a", "b"]}}}}, ["a", "b"]),
        ({"info": {"features": {"y": {"names": [1, 2]}}}}, []),
        ({"info": {"features": {"x": {"names": ["a"]}}}}, []),
        ({"info": None}, []),
        ([], []),
    ],
)
def test_class_names_are_those_of_the_metadata(written, expected):
    metadata = {"huggingface": json.dumps(written)}
    schema = pa.schema([("y", pa.int64())], metadata=metadata)
    assert class_names(schema, "y") == expected
    assert class_names(pa.schema([("y", pa.int64())]), "y") == []


@pytest.mark.parametrize(
    ("codes", "names", "expected"),
    [
        ([1, 0], ["a", "b"], ["b", "a"]),
        ([1, -1], ["a", "b"], [1, -1]),
        ([2, 0], ["a", "b"], [2, 0]),
        ([1, 0], ["a", "a"], [1, 0]),
        ([1, 0], [], [1, 0]),
    ],
)
def test_codes_without_a_name_stay(codes, names, expected):
    assert with_class_names(np.array(codes), names).tolist() == expected
