import csv

import numpy as np
import pytest

from repscope._checking import InputError
from repscope.representations import csv_table
from repscope.representations.csv_table import typed
from repscope.representations.store import open_store, read_columns

NAN = float("nan")


def save(folder, text, name="emb.csv"):
    (folder / name).write_text(text)
    return folder / name


def read(path, rows=2, **options):
    return np.concatenate(list(open_store(path, **options).blocks(rows)))


@pytest.mark.parametrize(
    ("text", "values", "columns"),
    [
        ("f0,f1,f2\n1,2,3\n4,5,6\n", [[1, 2, 3], [4, 5, 6]], ()),
        ("f0,f1,f2,label\n1,2,3,0\n4,5,6,1\n", [[1, 2, 3], [4, 5, 6]], ("label",)),
        ("id,f0,f1,f2\n7,2,3,.5\n8,5,6,1e-3\n", [[2, 3, 0.5], [5, 6, 1e-3]], ("id",)),
        ("0,1,2\n.5,2,3\n", [[0.5, 2, 3]], ()),
        (",0,1,2\n0,.5,2,3\n", [[0.5, 2, 3]], ()),
        ("0,1,2,3\n4,5,6,8\n", [[4, 5, 6, 8]], ()),
        ("3,1,2\n4,5,6\n", [[3, 1, 2], [4, 5, 6]], ()),
        (".3,1,2,cat\n.4,5,6,dog\n", [[0.3, 1, 2], [0.4, 5, 6]], ("c3",)),
        ("nan,1.5,2\n4,5,6\n", [[NAN, 1.5, 2], [4, 5, 6]], ()),
        ("f0;f1;f2\n1;2;3\n", [[1, 2, 3]], ()),
        ("f0\tf1\tf2\n1\t2\t3\n", [[1, 2, 3]], ()),
        ("1.0 2.0\n3.0 4.0\n", [[1, 2], [3, 4]], ()),
        ("# made by x\n\nf0,f1\n1,2\n\n3,4\n", [[1, 2], [3, 4]], ()),
        ("\ufefff0,f1\r\n1,2\r\n", [[1, 2]], ()),
        ('name,f0,f1\n"a, ""b""\nc",1,2\n', [[1, 2]], ("name",)),
        ("area, width, class\n1, 2, 0\n", [[1, 2]], ("class",)),
        ("f0,f1,f2,x0,x1\n1,2,3,9,9\n", [[1, 2, 3]], ("x0", "x1")),
        ("f0,f1,f2\n1,,3\nNA,2,nan\n", [[1, NAN, 3], [NAN, 2, NAN]], ()),
        ("f0,f1,f2,f3\n1,,3,4\n2,,3,4\n", [[1, NAN, 3, 4], [2, NAN, 3, 4]], ()),
        ("f0,label,f1\n1,a,3\n", [[1, 3]], ("label",)),
    ],
)
def test_tables_as_people_write_them(text, values, columns, tmp_path):
    path = save(tmp_path, text)
    np.testing.assert_array_equal(read(path), values)
    assert open_store(path).column_names == columns


def test_a_prefix_selects_its_series(tmp_path):
    names = "emb0,emb_1,emb_2,proj0,proj1,proj2,label"
    path = save(tmp_path, f"{names}\n1,2,3,4,5,6,0\n")
    with pytest.raises(InputError, match="2 series of columns could be the") as error:
        open_store(path)
    assert error.value.fix == "say which, such as --column emb"
    np.testing.assert_array_equal(read(path, column="emb"), [[1, 2, 3]])
    np.testing.assert_array_equal(read(path, column="proj"), [[4, 5, 6]])
    with pytest.raises(InputError, match="no columns emd0, emd1, ...") as error:
        open_store(path, column="emd")
    assert error.value.fix == "did you mean emb?"


def test_columns_asked_for_as_metadata_are_no_features(tmp_path):
    path = save(tmp_path, "area,width,colour\n1,2,0\n3,4,1\n")
    assert open_store(path).d == 3
    store = open_store(path, metadata=["colour"])
    assert (store.d, store.column_names) == (2, ("colour",))
    np.testing.assert_array_equal(store.column("colour"), [0, 1])


def test_a_feature_is_no_label(tmp_path):
    store = open_store(save(tmp_path, "area,width\n1,2\n"))
    with pytest.raises(InputError, match="column `area` is one of the features"):
        store.column("area")
    with pytest.raises(InputError, match="emb.csv: no column `label`"):
        store.column("label")


def test_columns_are_typed(tmp_path):
    path = save(tmp_path, "f0,label,word,rate\n1,0,a,.5\n2,1,b,1\n")
    store = open_store(path, column="f")
    assert store.column("label").dtype == np.int64
    assert store.column("word").tolist() == ["a", "b"]
    assert store.column("rate").tolist() == [0.5, 1.0]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1", "-2"], [1, -2]),
        (["1", "2.5"], [1.0, 2.5]),
        (["1", "NA"], [1.0, NAN]),
        (["007", "8"], ["007", "8"]),
        (["a", ""], ["a", None]),
        (["a", "None"], ["a", "None"]),
        (["1e5", "inf"], [1e5, float("inf")]),
        (["1_0", "2"], ["1_0", "2"]),
        (["9" * 25, "1"], ["9" * 25, "1"]),
        (["", ""], [None, None]),
    ],
)
def test_cells_become_the_narrowest_type(cells, expected):
    column = typed(cells)
    assert column.tolist() == expected or np.array_equal(
        column, expected, equal_nan=True
    )
    assert type(column.tolist()[0]) is type(expected[0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("f0,f1\n1,2\n3\n", "line 3 has 1 cells, the first row 2"),
        ("f0,f1\n1,2\n3,4,5\n", "line 3 has 3 cells, the first row 2"),
        ("f0,f0\n1,2\n", "two columns are named `f0`"),
        ("f0,f1\n", "there is nothing to measure"),
        ("a,b\nx,y\n", "no columns of features"),
        ("label,id\n1,2\n", "no columns of features"),
        ('emb,label\n"[0.1, 0.2]",0\n', "column `emb` holds lists written as text"),
        ("f0,f1,f2\n1,2,3\n1,x,3\n", "line 3, column `f1` is no number"),
        ('f0,f1\n1,"2\n', "line 2 is no row of a table"),
        ('f0,f1\n1,"2"3\n', "line 2 is no row of a table"),
        ("\n\n", "is no table"),
    ],
)
def test_tables_that_are_none(text, message, tmp_path):
    with pytest.raises(InputError, match=f"^emb.csv: {message}"):
        read(save(tmp_path, text))


def test_a_late_word_among_numbers_is_named_with_its_line(tmp_path):
    text = "f0,f1,f2\n" + "1,2,3\n" * 700 + "1,oops,3\n"
    with pytest.raises(InputError, match="line 702, column `f1` is no number") as error:
        read(save(tmp_path, text), rows=50)
    assert error.value.found == "'oops'"


def test_an_endless_line_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_table, "LINE_CHARACTERS", 1000)
    with pytest.raises(InputError, match="a line of 1,000 characters or more"):
        read(save(tmp_path, "f0,f1\n" + "1" * 5000))


def test_text_of_another_encoding_is_refused(tmp_path):
    (tmp_path / "emb.csv").write_bytes("f0,name\n1,é\n".encode("latin-1"))
    with pytest.raises(InputError, match="emb.csv: is not UTF-8 text") as error:
        read(tmp_path / "emb.csv")
    assert error.value.fix == "save it as UTF-8"


def test_values_are_read_as_the_standard_library_reads_them(tmp_path):
    values = np.random.default_rng(0).normal(size=(50, 6)) * 10.0 ** np.arange(-3, 3)
    np.savetxt(tmp_path / "emb.csv", values, delimiter=",", fmt="%.17g")
    with (tmp_path / "emb.csv").open() as file:
        expected = [[float(cell) for cell in row] for row in csv.reader(file)]
    np.testing.assert_array_equal(read(tmp_path / "emb.csv", rows=7), expected)
    np.testing.assert_array_equal(values, expected)


def test_columns_that_are_not_adjacent_are_picked(tmp_path):
    path = save(tmp_path, "f0,word,f1,f2\n1,a,2,3\n")
    np.testing.assert_array_equal(read(path), [[1, 2, 3]])
    single = save(tmp_path, "word,area\na,5\n", "one.csv")
    np.testing.assert_array_equal(read(single), [[5]])


def test_labels_without_a_header_get_numbered_names(tmp_path):
    columns = read_columns(save(tmp_path, "0,1.5\n1,2.5\n", "y.csv"))
    assert {name: column.tolist() for name, column in columns.items()} == {
        "c0": [0, 1],
        "c1": [1.5, 2.5],
    }


@pytest.mark.parametrize("text", ["1.5,,2\n3.5,,4\n", "f0,f1,f2\n1.5,,2\n3.5,,4\n"])
def test_an_empty_feature_is_not_left_out(text, tmp_path):
    np.testing.assert_array_equal(
        read(save(tmp_path, text)), [[1.5, NAN, 2], [3.5, NAN, 4]]
    )
