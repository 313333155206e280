"""Which columns beside pictures are their labels, and which of them is the finest?"""

from collections.abc import Callable, Collection, Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Shaped

from repscope._checking import InputError, UsageError, did_you_mean
from repscope.data.folder_layout import SPLIT_WORDS
from repscope.data.levels import encode_level, parents_of

Column = Shaped[np.ndarray, " n"]

# A column of one of these names, or that ends so, is meant as labels.
LABEL_WORDS = ("label", "labels", "class", "target", "targets", "digit", "y")
# What data sets write where a label is missing or kept secret.
NO_LABEL = -1


def says_labels(name: str) -> bool:
    """Return whether a column's name says that it holds labels.

    Example:
        >>> [says_labels(name) for name in ("fine_label", "y_train", "width")]
        [True, True, False]
    """
    words = name.lower().replace("-", "_").split("_")
    telling = [word for word in words if word not in SPLIT_WORDS]
    return bool(telling) and telling[-1] in LABEL_WORDS


def choose_levels(
    source: str,
    columns: Collection[str],
    read: Callable[[str], Column],
    *,
    wanted: Sequence[str] | None,
    likely: Sequence[str],
) -> dict[str, Column]:
    """Return label levels from fine to coarse.

    Args:
        source: the file, for errors.
        columns: the names of all columns that could be labels.
        read: returns a column.
        wanted: the columns asked for, from fine to coarse; none of them for (); None
            takes the likely ones, those with more classes first.
        likely: the columns that are labels by their type or name.

    Raises:
        UsageError: where a column is not there or named twice, or the likely ones are
            no levels of each other.
        InputError: where a likely one lacks some labels.
    """
    if wanted is not None:
        _check_wanted(source, columns, wanted)
        return {name: read(name) for name in wanted}
    found = {name: read(name) for name in likely}
    levels = {
        name: values
        for name, values in found.items()
        if not _is_secret(source, name, values)
    }
    return _fine_to_coarse(source, levels)


def _check_wanted(source: str, columns: Collection[str], wanted: Sequence[str]) -> None:
    for name in wanted:
        if name not in columns:
            raise UsageError(
                f"{source}: has no label column {name!r}",
                fix=did_you_mean(name, columns),
            )
        if list(wanted).count(name) > 1:
            raise UsageError(f"{source}: label column {name!r} is named twice")


def _is_secret(source: str, name: str, values: Column) -> bool:
    """Return whether no row has a label, as in test sets of competitions.

    Raises:
        InputError: where only some have one.
    """
    if values.dtype.kind not in "iuf":
        return False
    missing = (values == NO_LABEL) | (values != values)  # NaN is not itself
    if missing.any() and not missing.all():
        raise InputError(
            f"{source}: column `{name}` lacks {int(missing.sum()):,} of "
            f"{len(values):,} labels, the first in row {int(np.argmax(missing))}",
            fix="drop those rows, or read no labels: labels=[]",
        )
    return bool(missing.all())


def _fine_to_coarse(source: str, levels: dict[str, Column]) -> dict[str, Column]:
    encoded = [
        encode_level(name, values, len(values)) for name, values in levels.items()
    ]
    encoded.sort(key=lambda level: -level.n_classes)
    for fine, coarse in pairwise(encoded):
        try:
            parents_of(fine, coarse)
        except InputError as error:
            names = [level.name for level in encoded]
            raise UsageError(
                f"{source}: {len(names)} columns could be labels, and one is no level "
                "above the other",
                found=", ".join(names),
                expected="one of them, or levels from fine to coarse",
                fix=f'say which: labels=["{names[0]}"]',
            ) from error
    return {level.name: levels[level.name] for level in encoded}
