"""A file of records, one JSON object per line, that a crash can only cut short.

Lines are handed to the system as they come. What a crash leaves half written is cut
off when the run goes on, together with all lines of steps that are done again.
"""

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from repscope._checking import ResourceError
from repscope.files.saving import resource_error, write_together

Row = Mapping[str, Any]


class JsonLines:
    """A file to which rows are appended.

    Args:
        path: made with the first row.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: io.BufferedWriter | None = None

    def append(self, row: Row) -> None:
        """Write one row; NaN and infinity are refused.

        Raises:
            ResourceError: where it cannot be written.
        """
        # as ASCII, which also holds names of files that are no Unicode
        line = json.dumps(row, allow_nan=False, ensure_ascii=True) + "\n"
        try:
            if self._file is None:
                self._file = self.path.open("ab")
            self._file.write(line.encode("ascii"))
            self._file.flush()
        except OSError as error:
            raise self._failed(error) from error

    def sync(self) -> None:
        """Wait until all rows are on the device.

        Raises:
            ResourceError: where they cannot be written.
        """
        try:
            if self._file is not None:
                os.fsync(self._file.fileno())
        except OSError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Close the file.

        Raises:
            ResourceError: where its last rows cannot be written.
        """
        try:
            if self._file is not None:
                self._file.close()
        except OSError as error:
            raise self._failed(error) from error
        finally:
            self._file = None

    def keep_until(self, step: int) -> None:
        """Keep the rows without a step, and those of steps up to this one.

        The file is replaced whole. A last line that was cut short is dropped, and of
        two rows of one step the first stays.

        Args:
            step: the last that counts.

        Raises:
            ResourceError: where it cannot be written.
        """
        self.close()
        if not self.path.is_file():
            return
        kept = _lines_until(self.path.read_bytes(), step)

        def write(file: io.BufferedIOBase) -> None:
            file.writelines(kept)

        write_together(
            self.path.parent, {self.path.name: write}, sum(len(one) for one in kept)
        )

    def _failed(self, error: OSError) -> ResourceError:
        return resource_error(self.path, error)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file; a last line that was cut short is left out."""
    if not path.is_file():
        return []
    rows = (_row_of(line) for line in path.read_bytes().splitlines(keepends=True))
    return [row for row in rows if row is not None]


def _lines_until(content: bytes, step: int) -> list[bytes]:
    kept, seen = [], set()
    for line in content.splitlines(keepends=True):
        row = _row_of(line)
        if row is None:
            continue
        of_step = row.get("step")
        if of_step is not None and (of_step > step or of_step in seen):
            continue
        seen.add(of_step)
        kept.append(line)
    return kept


def _row_of(line: bytes) -> dict[str, Any] | None:
    """Return a line's row; None for one that is not whole."""
    if not line.endswith(b"\n"):
        return None
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None
    return row if isinstance(row, dict) else None
