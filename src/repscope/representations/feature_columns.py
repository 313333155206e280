"""Which columns of a table are the features? The same answer for CSV and Parquet.

A numbered series (f0, f1, ...) is; so is every other numeric column unless its name or
the caller says that it is a label. A label among the features would be measured as one.
"""

import re
from collections.abc import Collection, Mapping, Sequence

from repscope._checking import InputError
from repscope.files.file_access import closest

# Words that mark a column as metadata wherever they stand in its name.
METADATA_WORDS = frozenset(
    ["label", "labels", "class", "classes", "category", "target", "targets", "y"]
    + ["fine", "coarse", "superclass", "id", "ids", "idx", "index", "row", "unnamed"]
    + ["split", "fold", "group", "subject", "attribute", "background", "shortcut"]
)
# Shorter series are coordinates or levels: x0 and x1, label1 and label2.
SERIES_LENGTH = 3
LISTED = 8

_NUMBERED = re.compile(r"(.*?)[_\-. ]*(\d+)")
_WORD = re.compile(r"[a-z]+")


def choose_features(
    name: str,
    numeric: Sequence[str],
    *,
    column: str | None,
    metadata: Collection[str] = (),
) -> list[str]:
    """Return the names of the feature columns, in the order of the file.

    Args:
        name: the file, for errors.
        numeric: its columns of numbers.
        column: prefix of a series, such as "emb" for emb0, emb1, ...; None for any.
        metadata: columns that will be asked for as labels, ids or attributes.

    Raises:
        InputError: where there are no features, or two series could be them.
    """
    candidates = [key for key in numeric if key not in metadata]
    if column is not None:
        return _asked_series(name, candidates, column)
    candidates = [key for key in candidates if not is_metadata(key)]
    if not candidates:
        raise InputError(
            f"{name}: no columns of features",
            found=f"numbers in {_listed(numeric)}" if numeric else "no numbers",
            expected="numeric columns beside the labels, such as f0, f1, ...",
            fix="name them in a series, or save them with np.save",
        )
    found = {
        prefix: members
        for prefix, members in series(candidates).items()
        if len(members) >= SERIES_LENGTH
    }
    if 2 * sum(map(len, found.values())) <= len(candidates):
        return candidates
    if len(found) > 1:
        raise InputError(
            f"{name}: {len(found)} series of columns could be the features",
            found=_listed([f"{prefix}0..." for prefix in found]),
            expected="one series",
            fix=f"say which, such as --column {next(iter(found))}",
        )
    return next(iter(found.values()))


def is_metadata(column: str) -> bool:
    """Return whether a column's name says that it holds labels, ids or a split."""
    words = _WORD.findall(column.lower())
    return not column or bool(METADATA_WORDS.intersection(words))


def series(columns: Sequence[str]) -> Mapping[str, list[str]]:
    """Return the columns whose names end in a number, by what stands before it.

    Example:
        >>> series(["emb_0", "emb_1", "area"])
        {'emb': ['emb_0', 'emb_1']}
    """
    found: dict[str, list[str]] = {}
    for column in columns:
        numbered = _NUMBERED.fullmatch(column)
        if numbered is not None:
            found.setdefault(numbered[1], []).append(column)
    return found


def _asked_series(name: str, candidates: Sequence[str], column: str) -> list[str]:
    found = series(candidates)
    prefix = column.rstrip("_-. ")
    if prefix in found:
        return found[prefix]
    raise InputError(
        f"{name}: no columns {column}0, {column}1, ...",
        found=_listed(candidates) or "no numbers",
        fix=closest(column, found) if found else "leave --column out",
    )


def _listed(names: Sequence[str]) -> str:
    rest = f" and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
    return ", ".join(f"`{name}`" for name in names[:LISTED]) + rest
