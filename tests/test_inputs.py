"""The options that name columns: names, files, both, and what goes wrong."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from repscope._checking import InputError, UsageError
from repscope._inputs import Inputs, Sources, folders_read, image_source, open_inputs

N = 6
FINE = np.array(["a", "b", "c", "a", "b", "c"])
COARSE = np.array([0, 0, 1, 0, 0, 1])
IS_TRAIN = np.array([1, 1, 0, 1, 1, 0])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Features with columns (npz), without (npy), and label files, in one folder."""
    monkeypatch.chdir(tmp_path)
    features = np.arange(N * 3, dtype=np.float32).reshape(N, 3)
    np.save("emb.npy", features)
    columns = {"fine": FINE, "coarse": COARSE, "is_train": IS_TRAIN}
    np.savez("emb.npz", emb=features, **columns)
    np.savez("test.npz", emb=features[:2], fine=FINE[:2], coarse=COARSE[:2])
    np.save("y.npy", COARSE)
    np.save("long.npy", np.arange(N + 2))
    Path("y.csv").write_text("fine,coarse\n" + "a,0\nb,0\nc,1\n" * 2)
    Path("y.txt").write_text("\n".join(FINE))
    return tmp_path


def opened(features="emb.npz", *, test=None, **options):
    return open_inputs(Inputs(Sources(features, test=test), **options))


def plain(columns):
    return {name: values.tolist() for name, values in columns.items()}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("coarse", {"coarse": COARSE}),
        ("fine,coarse", {"fine": FINE, "coarse": COARSE}),
        ("coarse, fine", {"coarse": COARSE, "fine": FINE}),
        ("y.npy", {"y": COARSE}),
        ("y.txt", {"y": FINE}),
        ("y.csv", {"fine": FINE, "coarse": COARSE}),
        ("y.csv:coarse", {"coarse": COARSE}),
        ("y.csv:coarse,fine", {"coarse": COARSE, "fine": FINE}),
    ],
)
def test_levels_come_in_the_order_that_was_asked(folder, text, expected):
    labels = opened(labels=text).labels
    assert list(labels) == list(expected)
    assert plain(labels) == plain(expected)


def test_an_existing_file_wins_over_a_column_of_its_name(folder):
    Path("fine").write_text("class,row\n" + "\n".join(f"{c},0" for c in COARSE))
    assert plain(opened(labels="fine:class").labels) == plain({"class": COARSE})


def test_a_folder_of_that_name_does_not_hide_a_column(folder):
    Path("coarse").mkdir()
    assert plain(opened(labels="coarse").labels) == plain({"coarse": COARSE})


def test_attributes_ids_and_split_are_read_the_same_way(folder):
    data = opened(attributes="y.csv:fine", ids="fine", split="coarse")
    assert plain(data.attributes) == plain({"fine": FINE})
    assert data.ids.tolist() == FINE.tolist()
    assert data.split.tolist() == COARSE.tolist()


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("is_train", IS_TRAIN, 1 - IS_TRAIN),
        ("Train", IS_TRAIN.astype(bool), 1 - IS_TRAIN),
        ("is_test", IS_TRAIN, IS_TRAIN),
        ("train_or_test", IS_TRAIN, IS_TRAIN),
        ("train_split", np.array(["train", "val"] * 3), ["train", "val"] * 3),
    ],
)
def test_a_flag_called_train_marks_the_training_rows(folder, name, values, expected):
    np.savez("flags.npz", emb=np.eye(N), **{name: values})
    assert list(opened("flags.npz", split=name).split) == list(expected)


def test_test_features_bring_their_own_columns(folder):
    data = opened(test="test.npz", labels="fine,coarse", attributes="coarse")
    assert data.test.n == 2
    assert plain(data.train_labels) == plain({"fine": FINE, "coarse": COARSE})
    assert plain(data.test_labels) == plain({"fine": FINE[:2], "coarse": COARSE[:2]})
    assert len(data.attributes["coarse"]) == N + 2


def test_a_label_file_holds_the_test_rows_last(folder):
    data = opened("emb.npy", test="test.npz", labels="long.npy")
    assert plain(data.train_labels) == {"long": [0, 1, 2, 3, 4, 5]}
    assert plain(data.test_labels) == {"long": [6, 7]}


def test_no_labels_are_none(folder):
    data = opened()
    assert data.train_labels is None
    assert data.test_labels is None


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"labels": "coarze"}, InputError, r"did you mean.*coarse"),
        ({"labels": "fine,coarze"}, InputError, r"did you mean.*coarse"),
        (
            {"labels": "y.csv:fin"},
            InputError,
            r"--labels: y.csv has no column 'fin'\n  fix: did you mean fine\?",
        ),
        ({"labels": "z.npy"}, InputError, r"--labels: there is no file z.npy"),
        ({"labels": "no/z"}, InputError, r"--labels: there is no file no/z"),
        ({"labels": "z.csv:a"}, InputError, r"--labels: there is no file z.csv"),
        ({"labels": "fine,fine"}, UsageError, r"--labels: 'fine' is named twice"),
        (
            {"labels": "long.npy"},
            InputError,
            r"--labels long.npy:long: one entry per row of emb.npz is needed\n"
            r"  found: 8 entries; expected: 6",
        ),
        (
            {"ids": "y.csv"},
            UsageError,
            r"--ids: one column is needed\n  found: fine, coarse\n"
            r"  fix: --ids FILE:NAME takes one of several",
        ),
        ({"split": "fine,coarse"}, UsageError, r"--split: one column is needed"),
        (
            {"split": "coarse", "test": "test.npz"},
            UsageError,
            r"--test and --split both say which rows are for testing",
        ),
        (
            {"labels": "y.npy", "test": "test.npz"},
            InputError,
            r"emb.npz and test.npz is needed\n  found: 6 entries; expected: 8",
        ),
    ],
)
def test_what_cannot_be_read_is_named(folder, options, error, message):
    with pytest.raises(error, match=message):
        opened(**options)


def test_columns_of_a_table_are_not_taken_for_features(folder):
    header = "a,b,label"
    rows = [f"{i}.5,{i}.25,{i % 2}" for i in range(N)]
    Path("emb.csv").write_text("\n".join([header, *rows]))
    data = opened("emb.csv", labels="label")
    assert data.store.d == 2
    assert plain(data.labels) == {"label": [0, 1] * 3}


def test_images_are_a_folder_or_a_column(folder):
    store = opened().store
    Path("pictures").mkdir()
    assert image_source("pictures", store) == Path("pictures")
    with pytest.raises(InputError, match="no folder and no column 'fine'"):
        image_source("fine", store)
    assert image_source(None, store) is None
    with pytest.raises(InputError, match="--images: no folder and no column 'pics'"):
        image_source("pics", store)


def test_everything_that_is_read_is_known():
    sources = Sources("a", images="b", test="c", reference="d", column="x")
    assert folders_read(sources) == [Path("a"), Path("b"), Path("c"), Path("d")]


def test_records_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError, match=re.escape("'seed'")):
        Inputs(Sources("a")).seed = 1
