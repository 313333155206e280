import csv
import io
import time
import tracemalloc

import numpy as np
import pytest

from report.report_examples import example_samples
from repscope._checking import InputError, MissingExtraError
from repscope.records import Samples
from repscope.report import samples_file
from repscope.report.samples_file import (
    estimated_bytes,
    file_name,
    read_csv,
    read_parquet,
    write_csv,
    write_parquet,
)


def _written(samples):
    buffer = io.BytesIO()
    write_csv(samples, buffer)
    return buffer.getvalue().decode("utf-8")


def _through_csv(samples, folder):
    path = folder / "samples.csv"
    with path.open("wb") as file:
        write_csv(samples, file)
    return read_csv(path)


def _assert_same(left, right):
    assert list(left.columns) == list(right.columns)
    for name, column in left.columns.items():
        other = right.columns[name]
        assert other.dtype == column.dtype, name
        np.testing.assert_array_equal(other, column, err_msg=name)


COLUMNS = {
    "floats": np.array([0.1, -1e300, 5e-324, np.pi]),
    "whole floats": np.array([1.0, -0.0, 3.0, 1e20]),
    "not a number first": np.array([np.nan, 1.5, np.nan, np.inf]),
    "integers": np.array([0, -5, 2**62, 7]),
    "large integers": np.array([1, 2, 2**63, 2**64 - 1], np.uint64),
    "digits as text": np.array(["007", "1", "1e5", "nan"]),
    "empty text": np.array(["", " ", "a", ""]),
    "quotes": np.array(['"', '""', 'a"b', ","]),
    "breaks": np.array(["a\nb", "a\r\nb", "\r", "\n"]),
    "formulas": np.array(["=1+1", "+1", "-1", "@a"]),
    "apostrophes": np.array(["'", "''", "'=1", "'a"]),
    "tabs": np.array(["\ta", "'\ta", "\uff1da", "a\t"]),
    "unicode": np.array(["\u6f22\u5b57", "\u05e9", "\U0001f600", "\x1b[0m"]),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_comes_back_with_its_type(tmp_path, name):
    samples = Samples(columns={name: COLUMNS[name]})
    _assert_same(samples, _through_csv(samples, tmp_path))


def test_all_columns_come_back_together(tmp_path):
    _assert_same(
        Samples(columns=COLUMNS), _through_csv(Samples(columns=COLUMNS), tmp_path)
    )


def test_a_run_comes_back_over_several_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr(samples_file, "_CHUNK_ROWS", 64)
    samples = example_samples(300)
    _assert_same(samples, _through_csv(samples, tmp_path))


def test_integers_that_outgrow_64_bits_in_a_later_chunk_stay_integers(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(samples_file, "_CHUNK_ROWS", 2)
    samples = Samples(columns={"id": np.array([1, 2, 3, 2**63], np.uint64)})
    _assert_same(samples, _through_csv(samples, tmp_path))


def test_any_payload_comes_back(tmp_path, payload):
    text = payload.encode("utf-8", "backslashreplace").decode("utf-8")
    samples = Samples(columns={f"label:{text}": np.array([text, "a"])})
    _assert_same(samples, _through_csv(samples, tmp_path))


def test_half_a_surrogate_pair_is_written_as_an_escape(tmp_path):
    samples = Samples(columns={"id": np.array(["\ud800"])})
    assert _through_csv(samples, tmp_path).columns["id"].tolist() == ["\\ud800"]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_text_that_a_spreadsheet_would_run_gets_an_apostrophe(start):
    text = f"{start}HYPERLINK(1)"
    rows = list(csv.reader(io.StringIO(_written(Samples({"a": np.array([text])})))))
    assert rows[1] == [f"'{text}"]


def test_numbers_get_no_apostrophe():
    assert _written(Samples({"a": np.array([-1.5]), "b": np.array([-2])})) == (
        '"a","b"\r\n-1.5,-2\r\n'
    )


def test_not_a_number_is_an_empty_cell():
    samples = Samples({"a": np.array([np.nan, 2.0]), "b": np.array(["", "x"])})
    assert _written(samples) == '"a","b"\r\n,""\r\n2.0,"x"\r\n'


def test_truth_values_are_zero_and_one():
    assert _written(Samples({"a": np.array([True, False])})) == '"a"\r\n1\r\n0\r\n'


def test_the_standard_reader_sees_the_same_numbers():
    samples = example_samples(50)
    rows = list(csv.DictReader(io.StringIO(_written(samples))))
    for name in ("z_max", "gini"):
        read = [float(row[name]) for row in rows]
        assert read == samples.columns[name].tolist()


def test_arrow_reads_the_same_numbers_and_text(tmp_path):
    arrow_csv = pytest.importorskip("pyarrow.csv", exc_type=ImportError)
    samples = example_samples(50)
    table = arrow_csv.read_csv(io.BytesIO(_written(samples).encode()))
    for name in ("row", "id", "q_score", "label:fine"):
        assert table.column(name).to_pylist() == samples.columns[name].tolist()


def test_no_rows_leave_the_header(tmp_path):
    samples = Samples({"a": np.zeros(0), "b": np.zeros(0)})
    assert list(_through_csv(samples, tmp_path).columns) == ["a", "b"]


def test_no_columns_come_back_as_none(tmp_path):
    assert _through_csv(Samples({}), tmp_path).columns == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'"a","b"\r\n1\r\n', "the first row has 1 cells, the header 2"),
        (b'"a","b"\r\n1,2\r\n3\r\n', "a row of 1 cells instead of 2"),
        (b'"a"\r\n1\r\nx\r\n', "column 'a': invalid literal for int"),
        (b'"a"\r\n1.5\r\nx\r\n', "column 'a': could not convert string to float: 'x'"),
        (b'"a"\r\n"open\r\n', "no readable CSV: unexpected end of data"),
        (b"\xff\xfe\r\n", "no readable CSV: 'utf-8' codec can't decode"),
        (b'"a"\r\n"' + b"x" * 200_000 + b'"\r\n', "no readable CSV: field larger"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, content, message):
    path = tmp_path / "samples.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"samples.csv: {message}"):
        read_csv(path)


def test_very_wide_text_is_kept_as_objects(monkeypatch, tmp_path):
    monkeypatch.setattr(samples_file, "_FIXED_WIDTH_BYTES", 1000)
    monkeypatch.setattr(samples_file, "_CHUNK_ROWS", 2)
    texts = ["a" * 200, "b", "c", "d" * 300]
    column = _through_csv(Samples({"id": np.array(texts)}), tmp_path).columns["id"]
    assert column.dtype == object
    assert column.tolist() == texts


def test_writing_takes_constant_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(samples_file, "_CHUNK_ROWS", 1000)
    n = 60_000
    samples = Samples({"x": np.linspace(0, 1, n), "row": np.arange(n)})
    with (tmp_path / "samples.csv").open("wb") as file:
        tracemalloc.start()
        write_csv(samples, file)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        size = file.tell()
    assert size > 1.4e6
    assert peak < 0.5e6  # one chunk of 1,000 rows, not the file


def _seconds_to_write(samples, path):
    start = time.process_time()
    with path.open("wb") as file:
        write_csv(samples, file)
    return time.process_time() - start


def test_fifty_thousand_rows_of_twenty_columns_take_under_two_seconds(tmp_path):
    columns = dict(list(example_samples(50_000).columns.items())[-20:])
    seconds = _seconds_to_write(Samples(columns), tmp_path / "samples.csv")
    assert len(columns) == 20
    assert seconds < 2.0


@pytest.mark.slow
def test_a_million_rows_of_fourteen_columns_take_under_fifteen_seconds(tmp_path):
    columns = dict(list(example_samples(1_000_000).columns.items())[:14])
    seconds = _seconds_to_write(Samples(columns), tmp_path / "samples.csv")
    assert seconds < 15.0


def test_the_estimated_size_is_about_right():
    samples = example_samples(2000)
    actual = len(_written(samples))
    assert 0.5 * actual < estimated_bytes(samples) < 2 * actual


def test_parquet_takes_over_above_the_limit(monkeypatch):
    pytest.importorskip("pyarrow")
    assert file_name(200_000) == "samples.csv"
    assert file_name(200_001) == "samples.parquet"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert file_name(200_001) == "samples.csv"


def test_parquet_brings_every_column_back(tmp_path):
    pytest.importorskip("pyarrow")
    samples = Samples(columns=COLUMNS)
    path = tmp_path / "samples.parquet"
    with path.open("wb") as file:
        write_parquet(samples, file)
    _assert_same(samples, read_parquet(path))


@pytest.mark.parametrize("damage", [lambda raw: raw[:40], lambda raw: b"hello"])
def test_damaged_parquet_is_named(tmp_path, damage):
    pytest.importorskip("pyarrow")
    path = tmp_path / "samples.parquet"
    buffer = io.BytesIO()
    write_parquet(Samples({"a": np.arange(5)}), buffer)
    path.write_bytes(damage(buffer.getvalue()))
    with pytest.raises(InputError, match="samples.parquet: no readable Parquet"):
        read_parquet(path)


def test_a_flipped_bit_in_parquet_is_noticed(tmp_path):
    pytest.importorskip("pyarrow")
    buffer = io.BytesIO()
    write_parquet(Samples({"a": np.random.default_rng(0).random(1000)}), buffer)
    raw = bytearray(buffer.getvalue())
    raw[2000] ^= 1
    path = tmp_path / "samples.parquet"
    path.write_bytes(raw)
    with pytest.raises(InputError, match="samples.parquet: no readable Parquet"):
        read_parquet(path)


def test_missing_pyarrow_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r'pip install "repscope\[parquet\]"'):
        read_parquet(tmp_path / "samples.parquet")
