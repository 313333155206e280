"""Errors that help: what was got, what is allowed, what to do next.

Every error that a caller can cause is one of the classes below. Each names the
offender, what was found, what was expected and the fix, and carries the exit code of
the command line.
"""

import difflib
from collections.abc import Iterable

EXIT_OK = 0
EXIT_GATE = 1
EXIT_USAGE = 2
EXIT_DATA = 3
EXIT_ENVIRONMENT = 4
EXIT_BUG = 70
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


class RepscopeError(Exception):
    """An error a caller can cause and mend.

    Args:
        what: what is wrong, with the offending argument or file (and row or shard)
            named.
        found: what was got; empty when `what` says it.
        expected: what is allowed.
        fix: what to do or type next.
    """

    exit_code = EXIT_BUG

    def __init__(
        self, what: str, *, found: str = "", expected: str = "", fix: str = ""
    ) -> None:
        self.what, self.found, self.expected, self.fix = what, found, expected, fix
        details = []
        if found or expected:
            parts = [("found", found), ("expected", expected)]
            details.append(
                "  " + "; ".join(f"{name}: {text}" for name, text in parts if text)
            )
        if fix:
            details.append(f"  fix: {fix}")
        super().__init__("\n".join([what, *details]))


class InputError(RepscopeError, ValueError):
    """Bad data: a file, an array or labels that cannot be used (exit code 3)."""

    exit_code = EXIT_DATA


class NonFiniteFeatureError(InputError):
    """Rows with NaN or infinity (exit code 3).

    Args:
        name: the file or array.
        n_bad_rows: how many rows hold a non-finite value.
        first_bad_row: the first of them, counted from 0.
    """

    def __init__(self, name: str, n_bad_rows: int, first_bad_row: int) -> None:
        self.n_bad_rows, self.first_bad_row = n_bad_rows, first_bad_row
        rows = "row contains" if n_bad_rows == 1 else "rows contain"
        super().__init__(
            f"{name}: {n_bad_rows} {rows} NaN or infinity (first: row {first_bad_row})",
            fix="--drop-nonfinite (drop_nonfinite=True in Python) drops, counts them",
        )


class UsageError(RepscopeError, ValueError):
    """A wrong argument, option or expression (exit code 2)."""

    exit_code = EXIT_USAGE


class MissingExtraError(UsageError, ImportError):
    """An optional dependency is not installed (exit code 2)."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(what, fix=f'pip install "repscope[{extra}]"')


class ResourceError(RepscopeError, OSError):
    """The machine stands in the way: disk, memory, permission, device (exit code 4)."""

    exit_code = EXIT_ENVIRONMENT


class Undecidable(Exception):
    """A quantity that the data cannot decide; the reason travels into the record."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """Return a hint that names the closest option, or lists them all.

    Args:
        name: what was typed.
        options: what exists.

    Example:
        >>> did_you_mean("alpah", ["alpha", "rankme"])
        'did you mean alpha?'
    """
    choices = sorted(options)
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]}?"
    return "choose from " + ", ".join(choices) if choices else "there are none"


def check_choice(argument: str, value: str, options: Iterable[str]) -> None:
    """Raise UsageError unless `value` is one of `options`.

    Raises:
        UsageError: with the closest option named.
    """
    choices = sorted(options)
    if value not in choices:
        raise UsageError(
            f"unknown {argument} {value!r}", fix=did_you_mean(value, choices)
        )


def check_length(
    argument: str, length: int, expected: int, of: str = "features"
) -> None:
    """Raise InputError unless an argument has one entry per row.

    Raises:
        InputError: naming both lengths.
    """
    if length != expected:
        raise InputError(
            f"{argument}: one entry per row of {of} is needed",
            found=f"{length:,} entries",
            expected=f"{expected:,}",
            fix=f"pass {argument} in the order of the rows, one for each",
        )
