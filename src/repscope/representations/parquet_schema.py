"""Which columns of a Parquet file hold vectors, numbers, text or images?

Types are told apart by the names that Arrow gives them, so that nothing is imported
here; the schemas and types passed in are pyarrow's.
"""

import difflib
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from repscope._checking import InputError
from repscope.files.parquet_names import is_image
from repscope.files.sniffing import ENCODER_FIX, SAVE_FIX
from repscope.representations.arrays_on_disk import listing
from repscope.representations.feature_columns import choose_features, series

# Fewer columns of floats than this are scores, not features.
MINIMUM_SCALARS = 2

_FLOATS = frozenset(["halffloat", "float", "double"])
_INTEGERS = frozenset(
    ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
)
_TEXTS = frozenset(["string", "large_string", "string_view", "bool"])
_LISTS = ("list<", "large_list<", "fixed_size_list<")


def value_type(kind: Any) -> Any:
    """Return what a list type holds, whatever kind of list; None for other types."""
    storage = getattr(kind, "storage_type", kind)
    return storage.value_type if str(storage).startswith(_LISTS) else None


def is_vector(kind: Any) -> bool:
    """Return whether a type is a list of numbers."""
    return str(value_type(kind)) in _FLOATS | _INTEGERS


def is_scalar(kind: Any) -> bool:
    """Return whether a type is a number, a text or a category."""
    if str(kind).startswith("dictionary<"):
        kind = kind.value_type
    return str(kind) in _FLOATS | _INTEGERS | _TEXTS


def described(kind: Any, width: int | None = None) -> str:
    """Return a type in words, such as "list<float>, 768"."""
    held = value_type(kind)
    if held is None:
        return str(kind).partition("<")[0]
    outer = str(getattr(kind, "storage_type", kind)).partition("<")[0]
    size = "" if width is None else f", {width:,}"
    return f"{outer}<{described(held)}>{size}"


def choose_vector(
    name: str, schema: Any, widths: Mapping[str, int | None], column: str | None
) -> str | None:
    """Return the column of vectors; None where the features are columns of numbers.

    Args:
        name: the file, for errors.
        schema: its Arrow schema.
        widths: length of the first vector of each column of vectors.
        column: the column asked for, or None.

    Raises:
        InputError: where the column is missing or no vector, or several could be meant.
    """
    vectors = {key: described(schema.field(key).type, widths[key]) for key in widths}
    if column is not None:
        is_series = column.rstrip("_-. ") in series(schema.names)
        if column not in widths and (column in schema.names or not is_series):
            raise _no_vector(name, schema, vectors, column)
        return column if column in widths else None
    floats = [
        key for key in widths if str(value_type(schema.field(key).type)) in _FLOATS
    ]
    if len(floats) > 1:
        raise InputError(
            f"{name}: {len(floats)} columns of vectors could be the features",
            found=listing({key: vectors[key] for key in floats}),
            expected="one column",
            fix=f"say which, such as --column {floats[0]}",
        )
    return floats[0] if floats else None


def choose_scalars(
    name: str, schema: Any, column: str | None, metadata: Collection[str]
) -> tuple[str, ...]:
    """Return the columns of numbers that are the features.

    Without a prefix asked for, only floats are: integers are labels, ids or counts.

    Raises:
        InputError: where there are none, or two series could be meant.
    """
    accepted = _FLOATS if column is None else _FLOATS | _INTEGERS
    numeric = [field.name for field in schema if str(field.type) in accepted]
    if column is None and len(numeric) < MINIMUM_SCALARS:
        images = [field.name for field in schema if is_image(field.type)]
        but = f", but `{images[0]}` may hold images" if images else ""
        raise InputError(
            f"{name}: no column of vectors{but}",
            found=_all_columns(schema),
            expected="a column such as `emb` (list<float>, 768), of one length",
            fix=ENCODER_FIX if images else SAVE_FIX,
        )
    return tuple(choose_features(name, numeric, column=column, metadata=metadata))


def vector_dtype(schema: Any, name: str) -> str:
    """Return the NumPy name of the numbers in a column of vectors."""
    return str(np.dtype(value_type(schema.field(name).type).to_pandas_dtype()))


def scalars_dtype(schema: Any, names: Collection[str]) -> str:
    """Return the NumPy name of a float type that holds all these columns."""
    dtypes = [np.dtype(schema.field(name).type.to_pandas_dtype()) for name in names]
    return str(np.result_type(np.float16, *dtypes))  # an empty cell becomes NaN


def _no_vector(
    name: str, schema: Any, vectors: Mapping[str, str], column: str
) -> InputError:
    if column in schema.names:
        kind = described(schema.field(column).type)
        what = f"{name}: column `{column}` is {kind}, not a vector of numbers"
    else:
        what = f"{name}: no column `{column}`"
    close = difflib.get_close_matches(column, vectors, n=1) or list(vectors)
    hint = f"did you mean `{close[0]}` ({vectors[close[0]]})?" if close else SAVE_FIX
    found = listing(vectors) if vectors else _all_columns(schema)
    return InputError(what, found=found, expected="a column of vectors", fix=hint)


def _all_columns(schema: Any) -> str:
    return listing({field.name: described(field.type) for field in schema})
