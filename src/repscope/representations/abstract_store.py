"""What a store of features is: a matrix on disk, read in blocks of rows.

Every reader of this package returns one; nothing after it needs to know the format.
"""

import abc
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from repscope._checking import InputError, UsageError
from repscope.files.file_access import closest


class Store(abc.ABC):
    """A matrix of features on disk with the columns kept beside it.

    Attributes:
        path: the file or folder.
        n: rows, at least 1.
        d: feature dimensions, at least 1.
        dtype: the NumPy name of the type of the blocks, such as "float32".
        column_names: the metadata columns (labels, ids, splits) that `column` returns.
    """

    path: Path
    n: int
    d: int
    dtype: str
    column_names: tuple[str, ...]

    @property
    def name(self) -> str:
        """The file's name, for messages."""
        return self.path.name

    @abc.abstractmethod
    def blocks(self, rows: int) -> Iterator[np.ndarray]:
        """Yield consecutive (r, d) blocks, 1 <= r <= rows, from the first row on.

        A block is C-contiguous, native-endian, writable and shared with nobody. One
        block is in memory at a time; every call starts again at row 0.

        Raises:
            InputError: where the file changed or is damaged.
        """

    @abc.abstractmethod
    def column(self, name: str) -> Shaped[np.ndarray, " n"]:
        """Return a metadata column, one value per row: integers, floats or strings.

        A missing number is NaN; where a text is missing, the array is of objects and
        holds None there.

        Raises:
            InputError: where there is no such column or it has not n values.
        """

    def holds_images(self, name: str) -> bool:
        """Return whether `images` knows a column of that name."""
        return name in getattr(self, "image_names", ())

    @abc.abstractmethod
    def images(self, name: str, rows: Sequence[int]) -> list[bytes]:
        """Return the encoded images (JPEG, PNG, ...) of some rows, in their order.

        Args:
            name: an image column of a Parquet file: ``{bytes, path}`` or binary.
            rows: from 0 to n - 1.

        Raises:
            InputError: where there is no such column, row or image.
        """


def check_rows(rows: int) -> None:
    """Raise UsageError unless a block may have that many rows."""
    if rows < 1:
        raise UsageError("a block needs rows", found=f"{rows}", expected="at least 1")


def assembled(pieces: Iterable[np.ndarray], n: int, rows: int) -> Iterator[np.ndarray]:
    """Yield blocks of `rows` rows, the last one shorter, from pieces of any size.

    Decoders need several times the memory of what they decode: small pieces keep that
    small beside the block.

    Args:
        pieces: consecutive (r, d) pieces, n rows together.
        n: rows in all.
        rows: rows of a block.
    """
    block, filled, left = np.empty((0, 0)), 0, n
    for piece in pieces:
        taken = 0
        while taken < len(piece):
            if filled == len(block):
                shape = (min(rows, left), piece.shape[1])
                block, filled = np.empty(shape, piece.dtype), 0
            count = min(len(piece) - taken, len(block) - filled)
            block[filled : filled + count] = piece[taken : taken + count]
            filled, taken = filled + count, taken + count
            if filled == len(block):
                left -= filled
                yield block


def check_matrix(label: str, shape: Sequence[int]) -> None:
    """Raise InputError unless a shape is (n, d), neither of them 0."""
    if len(shape) != 2:
        raise InputError(
            f"{label}: one row of features per sample is needed",
            found=f"an array of shape {tuple(shape)}",
            expected="two dimensions (n samples, d features)",
            fix="features.reshape(-1, 1) if each sample has one feature"
            if len(shape) < 2
            else "pool (features.mean(axis=1)) or flatten it (features.reshape(n, -1))",
        )
    if min(shape) < 1:
        raise InputError(
            f"{label}: there is nothing to measure",
            found=f"shape {tuple(shape)}",
            expected="at least one row and one feature",
        )


def check_column_length(label: str, length: int, n: int) -> None:
    """Raise InputError unless a metadata column has one value per row of features."""
    if length != n:
        raise InputError(
            f"{label}: one value per row of features is needed",
            found=f"{length:,} values",
            expected=f"{n:,}",
            fix="save labels and features of the same rows, in the same order",
        )


def no_column(label: str, name: str, options: Iterable[str]) -> InputError:
    """Return the error for a column that is not there."""
    return InputError(f"{label}: no column `{name}`", fix=closest(name, options))


def no_images(label: str, name: str) -> InputError:
    """Return the error for images asked of a format that holds none."""
    return InputError(
        f"{label}: no image column `{name}`",
        expected="a Parquet file with a column of encoded images",
        fix="pass the folder of the images instead",
    )


def is_a_feature(label: str, name: str) -> InputError:
    """Return the error for a label that is also measured as a feature."""
    return InputError(
        f"{label}: column `{name}` is one of the features",
        expected="labels apart from the features: measured together they leak",
        fix="select the features by their common prefix, such as --column emb",
    )
