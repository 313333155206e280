"""Can TOML say it, and can a file of TOML be read without harm?

A recipe is small and flat. What is large or deeply nested is refused before it can
take all memory, or more levels of calls than Python has.
"""

import tomllib
from pathlib import Path
from typing import Any

from repscope._checking import UsageError
from repscope.files.file_access import local_path, reading

# A recipe takes about a kilobyte. The parser's time grows with the square of a dotted
# key's length: a key of as many bytes as this takes seconds, one of a megabyte hours.
MAXIMUM_BYTES = 32_000


def read_toml(path: str | Path) -> dict[str, Any]:
    """Return the tables of a TOML file.

    Args:
        path: of a recipe.

    Raises:
        InputError: where there is no such file.
        ResourceError: where it may not be read.
        UsageError: where it is no TOML, or longer than any recipe.
    """
    location = local_path(path)
    with reading(location), location.open("rb") as file:
        content = file.read(MAXIMUM_BYTES + 1)
    if len(content) > MAXIMUM_BYTES:
        raise UsageError(
            f"{location.name}: is no recipe",
            found=f"more than {MAXIMUM_BYTES // 1000} kB",
            expected="a TOML file such as `repscope train --dry-run` prints",
        )
    try:
        return tomllib.loads(content.decode("utf-8"))
    except RecursionError as error:
        raise too_deep(location.name) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{location.name}: no valid TOML: {error}") from error


def too_deep(name: str) -> UsageError:
    """Return the error for values within values within values.

    Args:
        name: of the file or the key.
    """
    return UsageError(
        f"{name}: is nested too deeply",
        expected="tables of numbers, words and short lists",
    )


def check_text(name: str, text: str) -> None:
    """Raise UsageError for a text that TOML cannot hold.

    Names of files may be any bytes; those that are no UTF-8 are no text.

    Args:
        name: of the key.
        text: its value.

    Raises:
        UsageError: showing the bytes.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{name} = {ascii(text)}: a recipe, which is TOML, cannot hold this name",
            found="bytes that are no UTF-8",
            fix="rename it, or give a link to it (ln -s) that has another name",
        ) from error
