"""One state from the states of all ranks of a job, equal on every rank.

Each rank adds up the rows it has read; together they are the whole data set. Ranks may
have seen different numbers of rows, and none at all.
"""

import functools
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Int

from repscope import _distributed
from repscope._checking import InputError, UsageError
from repscope.representations.class_moments import ClassMoments
from repscope.representations.moments import Moments
from repscope.representations.object_moments import ObjectMoments

State = TypeVar("State", Moments, ClassMoments, ObjectMoments)

_KINDS: tuple[type, ...] = (Moments, ClassMoments, ObjectMoments)
# Codes of a rank without a state, and of one with something else.
_ABSENT, _UNKNOWN = -1, -2


def merged_over_ranks(moments: State | None) -> State:
    """Return the merged states of all ranks of torch.distributed.

    A collective call: every rank makes it, with a state of its own. States travel as
    bytes of plain arrays, one rank at a time, and are merged in the order of the ranks,
    so that all ranks get the same bits, and hold two states at most. Without
    torch.distributed, or with one rank, the state itself is returned. No state that is
    passed is changed.

    Args:
        moments: this rank's state; None on a rank that never saw a row.

    Raises:
        InputError: where no rank has a state, or widths, classes or blocks differ; on
            every rank alike.
        UsageError: where ranks pass states of different kinds, or something else; on
            every rank alike.
    """
    if _distributed.n_ranks() == 1:
        if moments is None:
            raise InputError("merging ranks: no rank has a state")
        if not isinstance(moments, _KINDS):
            raise UsageError(
                "merging ranks: no state that can be merged",
                found=type(moments).__name__,
                expected="Moments, ClassMoments or ObjectMoments",
            )
        return moments
    state: Any = moments
    is_state = isinstance(moments, _KINDS)
    data: bytes = state.to_bytes() if is_state else b""
    # All ranks see all headers: either all go on or all raise, and nobody waits.
    headers = _distributed.gathered_integers(_header(state, len(data)))
    kind, sources = _agreed(headers)
    parts = (
        kind.from_bytes(
            _distributed.broadcast_bytes(data, source, int(headers[source, -1]))
        )
        for source in sources
    )
    return functools.reduce(lambda whole, part: whole.merge(part), parts)


def _header(moments: Any, size: int) -> Int[np.ndarray, " 5"]:
    """Return (kind, two sizes of its arrays, whether it has rows, its bytes)."""
    if moments is None:
        return np.array([_ABSENT, 0, 0, 0, 0])
    if isinstance(moments, ClassMoments):
        shape, rows = moments.means.shape, moments.counts.sum()
    elif isinstance(moments, ObjectMoments):
        shape, rows = (moments.n_blocks, moments.d), moments.n
    elif isinstance(moments, Moments):
        shape, rows = (1, moments.d), moments.n
    else:
        return np.array([_UNKNOWN, 0, 0, 0, 0])
    return np.array([_KINDS.index(type(moments)), *shape, rows > 0, size])


def _agreed(headers: Int[np.ndarray, "ranks 5"]) -> tuple[Any, list[int]]:
    """Return the kind of all states, and the ranks whose states have rows."""
    present = np.flatnonzero(headers[:, 0] != _ABSENT)
    if len(present) == 0:
        raise InputError("merging ranks: no rank has a state")
    kinds = np.unique(headers[present, 0])
    if len(kinds) > 1 or kinds[0] == _UNKNOWN:
        raise UsageError(
            "merging ranks: states of one kind are needed",
            found=", ".join(
                f"rank {one}: {_kind_name(headers[one, 0])}" for one in present
            ),
            expected="Moments, ClassMoments or ObjectMoments on all ranks, or None",
        )
    shapes = headers[present, 1:3]
    if (shapes != shapes[0]).any():
        blocks = "blocks" if _KINDS[kinds[0]] is ObjectMoments else "classes"
        first = "" if _KINDS[kinds[0]] is Moments else f"{{}} {blocks} x "
        raise InputError(
            "merging ranks: states of different sizes",
            found=", ".join(
                f"rank {one}: {first.format(headers[one, 1])}{headers[one, 2]} "
                "dimensions"
                for one in present
            ),
            expected="the same on all ranks",
        )
    filled = [int(one) for one in present if headers[one, 3]]
    return _KINDS[kinds[0]], filled or [int(present[0])]


def _kind_name(code: int) -> str:
    return "another object" if code == _UNKNOWN else _KINDS[code].__name__
