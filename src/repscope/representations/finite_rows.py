"""Which rows hold finite numbers only, and a representation without the others."""

import numpy as np
from jaxtyping import Bool

from repscope._arrays import host, namespace
from repscope._checking import InputError, NonFiniteFeatureError
from repscope.representations.representation import Representation


def finite_rows(representation: Representation) -> Bool[np.ndarray, " n"]:
    """Return which rows hold finite numbers only."""
    masks = []
    for _, block in representation.blocks():
        xp = namespace(block)
        if not xp.isdtype(block.dtype, "real floating"):
            masks.append(np.ones(block.shape[0], dtype=bool))
            continue
        finite = xp.isfinite(block)
        masks.append(host(xp.all(finite, axis=1)))
    return np.concatenate(masks)


def without_nonfinite(
    representation: Representation, *, drop: bool
) -> tuple[Representation, int]:
    """Return the rows that hold finite numbers only, and how many were dropped.

    Args:
        representation: the rows.
        drop: whether to drop rows; some that are not finite are an error otherwise.

    Raises:
        NonFiniteFeatureError: where some are not and `drop` is not set.
        InputError: where no row is left.
    """
    finite = finite_rows(representation)
    n_bad = int((~finite).sum())
    if n_bad and not drop:
        first = int(representation.rows[np.flatnonzero(~finite)[0]])
        raise NonFiniteFeatureError(representation.name, n_bad, first)
    return only_rows(representation, finite), n_bad


def only_rows(
    representation: Representation, finite: Bool[np.ndarray, " n"]
) -> Representation:
    """Return the rows that are finite, which must be some on each side of a split.

    Args:
        representation: the rows.
        finite: (n,) which of them are.

    Raises:
        InputError: where no row is left, or none on one side of the split.
    """
    if finite.all():
        return representation
    if not finite.any():
        raise InputError(f"{representation.name}: every row contains NaN or infinity")
    kept = representation.subset(np.flatnonzero(finite))
    if kept.is_test is not None and (kept.is_test.all() or not kept.is_test.any()):
        side = "training" if kept.is_test.all() else "test"
        raise InputError(
            f"{representation.name}: every {side} row contains NaN or infinity",
            expected="finite rows on both sides of the split",
        )
    return kept
