"""What the names and types of a Parquet file's columns say of its labels and images.

Types are told apart by the names that Arrow gives them, so that nothing is imported
here; the schemas and types passed in are pyarrow's.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Shaped

_BINARIES = frozenset(["binary", "large_binary", "binary_view"])


def is_image(kind: Any) -> bool:
    """Return whether a type can hold encoded images: binary, or ``{bytes, ...}``."""
    if str(kind).startswith("struct<"):
        fields = {field.name: field.type for field in kind}
        return str(fields.get("bytes")) in _BINARIES
    return str(kind) in _BINARIES


def class_names(schema: Any, name: str) -> list[str]:
    """Return the names of a label column's classes, as Hugging Face stores them.

    Args:
        schema: of the file.
        name: the column.

    Returns:
        The name of class 0, 1, ...; empty where the file has none.
    """
    try:
        written = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        names = written["info"]["features"][name]["names"]
    except (ValueError, KeyError, TypeError):
        return []
    is_text = isinstance(names, list) and all(isinstance(one, str) for one in names)
    return names if is_text else []


def with_class_names(
    codes: Shaped[np.ndarray, " n"], names: Sequence[str]
) -> Shaped[np.ndarray, " n"]:
    """Return class names for codes; the codes where one of them has no name."""
    distinct = len(set(names)) == len(names) > 0
    if not distinct or not len(codes) or codes.min() < 0 or codes.max() >= len(names):
        return np.array(codes)
    return np.array(names)[codes]
