"""Which object is each view of? Ids checked, rows gathered by object.

Views that are grouped wrongly give a number all the same, of other objects than meant.
So nothing here guesses: a flat matrix needs an id for each row.
"""

from dataclasses import dataclass
from typing import Any

import array_api_compat
import numpy as np
from jaxtyping import Int, Shaped

from repscope._arrays import Array, as_matrix, host, namespace
from repscope._checking import InputError, UsageError, check_length

ObjectId = int | str
# An array, a tensor or a sequence of ids, one for each row.
ObjectIds = Any


def checked_object_views(views: Array) -> Array:
    """Return views as they are, an array (n objects, q views, d features).

    Raises:
        UsageError: for a flat matrix: which rows are views of one object is not known.
        InputError: for another shape, nothing at all, or no real numbers.
    """
    shape = tuple(getattr(views, "shape", ()))
    if len(shape) == 2:
        raise UsageError(
            "views: a flat matrix does not say which rows are views of one object",
            found=f"an array of shape {shape}",
            expected="(n objects, q views, d features), or rows with object ids",
            fix="reshape to (n, q, d) where the views of one object follow each other, "
            "or pass features and object_ids to ObjectMoments.update",
        )
    is_array = array_api_compat.is_array_api_obj(views)
    if not is_array or len(shape) != 3 or 0 in shape:
        raise InputError(
            "views: features of several views of each object are needed",
            found=f"an array of shape {shape}" if is_array else type(views).__name__,
            expected="an array (n objects, q views, d features)",
        )
    # Row checks are those of a matrix: real numbers, no mask, native bytes.
    rows = as_matrix(namespace(views).reshape(views, (-1, shape[2])), "views")
    return namespace(rows).reshape(rows, shape)


def checked_ids(object_ids: ObjectIds, n: int) -> Shaped[np.ndarray, " n"]:
    """Return one id per row, as an array of int64 or of strings.

    Raises:
        InputError: for another number of ids, or ids that are neither integers nor
            strings.
    """
    is_array = array_api_compat.is_array_api_obj(object_ids)
    values = host(object_ids) if is_array else np.asarray(object_ids, dtype=object)
    if values.ndim != 1:
        raise InputError(
            "object_ids: one id for each row is needed",
            found=f"an array of shape {values.shape}",
            expected="one dimension",
        )
    check_length("object_ids", len(values), n)
    if values.dtype == object:
        values = _of_one_kind(values)
    fits = values.dtype.kind in "iU" or (
        values.dtype.kind == "u" and int(values.max()) <= np.iinfo(np.int64).max
    )
    if not fits:
        raise InputError(
            "object_ids: ids must be integers below 2^63, or strings",
            found=f"values of type {values.dtype}",
            fix="pass them as strings",
        )
    return values if values.dtype.kind == "U" else values.astype(np.int64)


def _of_one_kind(values: Shaped[np.ndarray, " n"]) -> Shaped[np.ndarray, " n"]:
    """Return an array of its own type for Python's integers or strings."""
    kinds = {type(value) for value in values.tolist()}
    if kinds == {str}:
        return values.astype(np.str_)
    integers = all(
        issubclass(kind, int | np.integer) and kind is not bool for kind in kinds
    )
    if not integers:
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise InputError(
            "object_ids: ids must be integers or strings, all of one kind",
            found=f"values of type {names}",
        )
    try:
        return values.astype(np.int64)
    except OverflowError as error:
        raise InputError(
            "object_ids: ids must be integers below 2^63, or strings",
            fix="pass them as strings",
        ) from error


def mixed_ids() -> UsageError:
    """Return the error for objects that came with ids and without."""
    return UsageError(
        "object moments: some objects came with ids and some without",
        expected="ids for all, or for none",
        fix="pass object_ids to every update: only they tell objects of batches apart",
    )


@dataclass(frozen=True, eq=False)
class GroupedRows:
    """The rows of each object.

    Args:
        objects: (m,) the ids, each once, ascending.
        counts: (m,) rows of each object.
        starts: (m,) where its rows begin in `order`.
        order: (n,) rows, object by object, as they came within one.
    """

    objects: Shaped[np.ndarray, " m"]
    counts: Int[np.ndarray, " m"]
    starts: Int[np.ndarray, " m"]
    order: Int[np.ndarray, " n"]

    @classmethod
    def of(cls, ids: Shaped[np.ndarray, " n"]) -> "GroupedRows":
        """Return the rows of each id."""
        objects, inverse, counts = np.unique(
            ids, return_inverse=True, return_counts=True
        )
        starts = np.cumsum(counts) - counts
        return cls(objects, counts, starts, np.argsort(inverse, kind="stable"))

    def rows_of(self, chosen: Int[np.ndarray, " k"], q: int) -> Int[np.ndarray, "k q"]:
        """Return the q rows of each chosen object."""
        return self.order[self.starts[chosen][:, None] + np.arange(q)]
