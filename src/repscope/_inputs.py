"""Which columns did the user name? The options of a diagnosis, read and joined.

An option such as ``--labels`` takes the names of columns in the features file, a file
with one value per row, or ``FILE:NAME,NAME``.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from repscope._checking import (
    InputError,
    UsageError,
    check_length,
    did_you_mean,
)
from repscope.representations.embedding import Embedding, open_features
from repscope.representations.representation import Representation
from repscope.representations.store import Store, open_store, read_columns

Column = Shaped[np.ndarray, " n"]
Columns = dict[str, np.ndarray]

# The column of ids in a folder that `embed` wrote.
EMBEDDED_ID = "id"
# Suffixes by which a word is meant as a label file even when there is none.
LABEL_SUFFIXES = (".npy", ".npz", ".csv", ".parquet", ".json", ".txt")


@dataclass(frozen=True)
class Sources:
    """The files of a diagnosis, as typed; the fields are the options' names."""

    features: str
    column: str | None = None
    images: str | None = None
    test: str | None = None
    reference: str | None = None


@dataclass(frozen=True)
class Inputs:
    """What a diagnosis reads, as typed; the fields are the options' names."""

    sources: Sources
    labels: str | None = None
    attributes: str | None = None
    ids: str | None = None
    split: str | None = None
    seed: int = 0
    drop_nonfinite: bool = False


@dataclass(frozen=True)
class ImageChoice:
    """Which images, as typed.

    Args:
        source: a path, or the word of a data set.
        part: of it, such as "test"; None for all.
        limit: about how many, as many of each class; None for all.
        labels: names of the label levels to keep, fine to coarse; None for all.
    """

    source: str
    part: str | None = None
    limit: int | None = None
    labels: str | None = None


@dataclass(frozen=True)
class EncoderChoice:
    """How an encoder is run, as typed; the fields are the options' names."""

    architecture: str | None = None
    untrained: bool = False
    layers: str | None = None
    pool: str | None = None
    batch_size: int = 256
    device: str = "auto"
    seed: int = 0
    allowed_failures: float = 0.01


@dataclass(frozen=True, eq=False)
class Opened:
    """A diagnosis' features, and the columns beside them with one value per row.

    With test features, their rows follow those of the features in every column. A
    folder that `embed` wrote brings labels, ids and small pictures of its rows, and is
    whole where no option puts others in their place.
    """

    store: Store
    test: Store | None
    labels: Columns
    attributes: Columns
    ids: Column | None
    split: Column | None
    embedding: Embedding | None = None
    column: str | None = None
    is_whole: bool = False

    @property
    def features(self) -> Store | Representation | Embedding:
        """What to diagnose: the store, or an embedded folder with its labels.

        A folder of which no layer is named is whole: its layers are compared.
        """
        if self.embedding is None or not self.is_whole:
            return self.store
        if self.column is None:
            return self.embedding
        return self.embedding.titled(self.column)

    @property
    def train_labels(self) -> Columns | None:
        """The label levels of the features; None where there is no level."""
        return _part(self.labels, slice(self.store.n))

    @property
    def test_labels(self) -> Columns | None:
        """The label levels of the test features."""
        return _part(self.labels, slice(self.store.n, None))


def open_inputs(inputs: Inputs) -> Opened:
    """Open the features and read the columns that the options name.

    Raises:
        InputError: for a file or column that is not there or of the wrong length.
        UsageError: where two options contradict each other, or one column is needed
            and several are named.
    """
    sources = inputs.sources
    if sources.test is not None and inputs.split is not None:
        raise UsageError(
            "--test and --split both say which rows are for testing",
            fix="give one of them",
        )
    embedding = open_features(sources.features)
    named = (inputs.labels, inputs.attributes, inputs.ids, sources.test)
    is_whole = embedding is not None and all(name is None for name in named)
    if embedding is not None and not is_whole:
        inputs = _with_names(inputs, embedding)
    options = (inputs.labels, inputs.attributes, inputs.ids, inputs.split)
    wanted = [_file_and_names(text) for text in options if text is not None]
    metadata = [name for file, names in wanted if file is None for name in names]
    store = open_store(sources.features, column=sources.column, metadata=metadata)
    test = None
    if sources.test is not None:
        test = open_store(sources.test, column=sources.column, metadata=metadata)
    stores = (store, test) if test else (store,)
    ids = _one_column("--ids", inputs.ids, stores)
    split = _one_column("--split", inputs.split, stores)
    return Opened(
        store,
        test,
        labels=read_named("--labels", inputs.labels, stores),
        attributes=read_named("--attributes", inputs.attributes, stores),
        ids=ids[1] if ids else None,
        split=_true_for_test(*split) if split else None,
        embedding=embedding,
        column=sources.column,
        is_whole=is_whole,
    )


def _with_names(inputs: Inputs, embedding: Embedding) -> Inputs:
    """Return the inputs with the columns that an embedded folder has, where unnamed."""
    levels, attributes = (
        ",".join(level.name for level in some) or None
        for some in (embedding.levels, embedding.attributes)
    )
    return dataclasses.replace(
        inputs,
        labels=inputs.labels or levels,
        attributes=inputs.attributes or attributes,
        ids=inputs.ids or EMBEDDED_ID,
    )


def read_named(option: str, text: str | None, stores: Sequence[Store]) -> Columns:
    """Return the columns that ``fine,coarse``, ``FILE`` or ``FILE:fine,coarse`` names.

    An existing file wins over a column of that name.

    Args:
        option: for errors.
        text: as typed; None gives no columns.
        stores: the features, and the test features where there are some; a column is
            read from each and joined.

    Raises:
        InputError: for a file or column that is not there or of the wrong length.
        UsageError: where a column is named twice.
    """
    if text is None:
        return {}
    file, names = _file_and_names(text)
    doubled = [name for name in names if names.count(name) > 1]
    if doubled:
        raise UsageError(f"{option}: {doubled[0]!r} is named twice")
    if file is not None:
        return _columns_of_file(option, file, names, stores)
    _refuse_missing_file(option, text, stores[0])
    return {
        name: np.concatenate([store.column(name) for store in stores]) for name in names
    }


def _file_and_names(text: str) -> tuple[Path | None, list[str]]:
    """Return the file, if it names one, and the columns asked for."""
    if Path(text).is_file():
        return Path(text), []
    before, colon, after = text.rpartition(":")
    if colon and Path(before).is_file():
        return Path(before), _names(after)
    return None, _names(text)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _columns_of_file(
    option: str, file: Path, names: Sequence[str], stores: Sequence[Store]
) -> Columns:
    held = read_columns(file)
    for name in names:
        if name not in held:
            raise InputError(
                f"{option}: {file} has no column {name!r}", fix=did_you_mean(name, held)
            )
    n = sum(store.n for store in stores)
    of = " and ".join(store.name for store in stores)
    for name in names or held:
        check_length(f"{option} {file.name}:{name}", len(held[name]), n, of)
    return {name: held[name] for name in names or held}


def _refuse_missing_file(option: str, text: str, store: Store) -> None:
    file = text.rpartition(":")[0] or text
    is_path = "/" in file or file.endswith(LABEL_SUFFIXES)
    if is_path and text not in store.column_names:
        raise InputError(
            f"{option}: there is no file {file}",
            expected=f"a file ({', '.join(LABEL_SUFFIXES)}) or columns of {store.name}",
        )


def _one_column(
    option: str, text: str | None, stores: Sequence[Store]
) -> tuple[str, Column] | None:
    if text is None:
        return None
    columns = read_named(option, text, stores)
    if len(columns) != 1:
        raise UsageError(
            f"{option}: one column is needed",
            found=", ".join(columns),
            fix=f"{option} FILE:NAME takes one of several",
        )
    return next(iter(columns.items()))


def _true_for_test(name: str, values: Column) -> Column:
    """Return the split with True for test, also from a column such as ``is_train``."""
    says_train = "train" in name.lower() and "test" not in name.lower()
    is_flag = values.dtype == bool or (
        values.dtype.kind in "iu" and bool(np.isin(values, (0, 1)).all())
    )
    return values == 0 if says_train and is_flag else values


def folders_read(sources: Sources) -> list[Path]:
    """Return the paths that are read, in which nothing may be written."""
    read = (sources.features, sources.images, sources.test, sources.reference)
    return [Path(path) for path in read if path]


def _part(labels: Columns, rows: slice) -> Columns | None:
    return {name: values[rows] for name, values in labels.items()} or None


def image_source(text: str | None, store: Store) -> Path | str | None:
    """Return a folder as a path and an image column as its name.

    Raises:
        InputError: where it is neither.
    """
    if text is None or store.holds_images(text):
        return text
    if not Path(text).is_dir():
        raise InputError(
            f"--images: no folder and no column {text!r}",
            expected=f"a folder of images, or an image column of {store.name}",
        )
    return Path(text)
