"""Real images for tests, where they are: in $REPSCOPE_DATA, or in ../shared/data.

Nothing of them is part of the project; a test that needs them is skipped without.
"""

import gzip
import io
import os
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


def data_file(name: str) -> Path:
    """Return the path of a data file, or skip the test that asks for it."""
    named = os.environ.get("REPSCOPE_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    path = folder / name
    if not path.is_file():
        pytest.skip(f"{name} is not there: set REPSCOPE_DATA to the folder that has it")
    return path


def mnist(rows: int, *, part: str = "t10k") -> tuple[np.ndarray, np.ndarray]:
    """Return the first images of MNIST, (rows, 28, 28) bytes, and their digits.

    Args:
        rows: how many.
        part: "t10k" for the test images, "train" for the others.
    """
    images = _idx(data_file(f"mnist/{part}-images-idx3-ubyte.gz"), rows)
    digits = _idx(data_file(f"mnist/{part}-labels-idx1-ubyte.gz"), rows)
    return images, digits.astype(np.int64)


def _idx(path: Path, rows: int) -> np.ndarray:
    """Return the first rows of a gzipped IDX file of bytes."""
    with gzip.open(path) as file:
        n_dimensions = int.from_bytes(file.read(4), "big") & 0xFF
        shape = [int.from_bytes(file.read(4), "big") for _ in range(n_dimensions)]
        shape[0] = min(rows, shape[0])
        values = np.frombuffer(file.read(int(np.prod(shape))), dtype=np.uint8)
    return values.reshape(shape)


def cifar(name: str, rows: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the first images of a Parquet CIFAR, (rows, 32, 32, 3) bytes, and labels.

    Args:
        name: such as "cifar100-test".
        rows: how many.

    Returns:
        The images, and column name -> (rows,) codes.
    """
    path = data_file(f"{name}.parquet")
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow reads Parquet")
    image = pytest.importorskip("PIL.Image", reason="Pillow decodes the images")
    table = next(parquet.ParquetFile(path).iter_batches(batch_size=rows))
    encoded = table.column("img").to_pylist()
    images = [np.asarray(image.open(io.BytesIO(one["bytes"]))) for one in encoded]
    labels = {
        column: np.asarray(table.column(column), dtype=np.int64)
        for column in table.schema.names
        if column != "img"
    }
    return np.stack(images), labels


def shrunk(images: np.ndarray, factor: int) -> np.ndarray:
    """Return (n, d) pixels in [0, 1], averaged over squares of factor x factor."""
    n, height, width = images.shape[:3]
    squares = images.reshape(
        n, height // factor, factor, width // factor, factor, -1
    ).mean(axis=(2, 4))
    return squares.reshape(n, -1) / 255
