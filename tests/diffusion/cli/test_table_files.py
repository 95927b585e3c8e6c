"""Tables in files: what a CSV column is taken for, what comes back as it went, what is refused, what is left behind."""

import importlib.util
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cfdg_diffusion.cli.csv_cells import ColumnReading, cast
from cfdg_diffusion.cli.dates import DateFormat
from cfdg_diffusion.cli.evidence import Evidence
from cfdg_diffusion.cli.formats import Choices, CsvFormat
from cfdg_diffusion.cli.table_files import check_output, read_chunks, read_table, written

HAS_PYARROW = importlib.util.find_spec("pyarrow") is not None
needs_pyarrow = pytest.mark.skipif(not HAS_PYARROW, reason="Parquet needs pyarrow")


def put(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def column(tmp_path, *cells, kinds=None):
    """The one column of a file, and its date format."""
    read = read_table(
        put(tmp_path / "one.csv", "\n".join(["x,y", *(f"{cell},0" for cell in cells), ""])), Choices(kinds or {})
    )
    return read.table["x"], read.dates.get("x")


@pytest.mark.parametrize(
    ("cells", "dtype"),
    [
        (["1", "-2", "0"], "int64"),
        (["1", "", "3"], "Int64"),
        (["9223372036854775807"[:18], "1"], "int64"),
        (["1.0", "2.0"], "float64"),
        (["1", "2.5", "NA"], "float64"),
        (["1e3", "-.5"], "float64"),
        (["True", "False"], "bool"),
        (["true", "", "FALSE"], "boolean"),
        (["", "NA"], "float64"),
        (["2024-02-29", "1600-01-01", ""], "datetime64[s]"),
        (["2024-02-29T10:11:12.5", "2024-01-01 00:00:00"], "datetime64[ms]"),
        (["2024-02-29T10:11Z"], "datetime64[s, UTC]"),
    ],
)
def test_a_column_is_taken_for_what_all_its_cells_are(tmp_path, cells, dtype):
    assert str(column(tmp_path, *cells)[0].dtype) == dtype


@pytest.mark.parametrize(
    "cells",
    [
        ["01234", "99999"],  # a code, whose zero would be lost
        ["-007", "1"],
        ["12345678901234567890", "1"],  # more digits than a number keeps
        ["1", "2", "three"],
        ["True", "maybe"],
        ["2023-02-29", "2024-01-01"],  # no such day
        ["2024-13-01"],
        ["2024-01-01", "soon"],
        ["2024-01-01T10:00Z", "2024-01-01T10:00"],  # with and without an offset
    ],
)
def test_what_would_change_stays_text(tmp_path, cells):
    found, dates = column(tmp_path, *cells)
    assert found.tolist() == cells
    assert dates is None


def test_a_cell_in_a_late_chunk_decides_too():
    evidence = Evidence()
    evidence.add(pd.Series(["1", "2"]))
    assert evidence.holds == "integer"
    evidence.add(pd.Series(["3", "007"]))
    assert evidence.holds == "text"


def test_kinds_overrule_the_guess(tmp_path):
    assert column(tmp_path, "2024-01-01", kinds={"x": "category"})[0].tolist() == ["2024-01-01"]
    assert column(tmp_path, "12", "13", kinds={"x": "text"})[0].tolist() == ["12", "13"]
    assert column(tmp_path, "007", "12", kinds={"x": "integer"})[0].tolist() == [7, 12]
    with pytest.raises(ValueError, match=r"one\.csv: column 'x' holds 'a' in row 2, expected a number"):
        column(tmp_path, "1", "a", kinds={"x": "number"})
    with pytest.raises(ValueError, match="no column 'z'"):
        column(tmp_path, "1", kinds={"z": "text"})


@pytest.mark.parametrize(
    "cells",
    [
        ["2024-02-29", "1999-12-31"],
        ["2024-02-29T23:59", "1999-12-31T00:00"],
        ["2024-02-29 23:59:59", "1999-12-31 00:00:00"],
        ["2024-02-29T23:59:59.123Z", "1999-12-31T00:00:00.000Z"],
        ["2024-02-29 23:59:59.123456+05:30", "1999-12-31 00:00:00.000001+05:30"],
        ["2024-02-29T23:59:59.123456789", "1999-12-31T00:00:00.000000001"],
        ["2024-02-29T01:00:00-03:00", "1999-12-31T00:00:00-03:00"],
    ],
)
def test_dates_are_written_as_they_were_read(tmp_path, cells):
    found, written_as = column(tmp_path, *cells)
    assert found.dtype.kind == "M"
    assert written_as.write(found).tolist() == cells


def test_dates_with_several_offsets_are_the_same_moments_in_utc(tmp_path):
    found, written_as = column(tmp_path, "2024-01-01T12:00:00+01:00", "2024-06-01T12:00:00+02:00")
    assert written_as.write(found).tolist() == ["2024-01-01T11:00:00+00:00", "2024-06-01T10:00:00+00:00"]


def test_an_offset_may_have_seconds(tmp_path):
    found, written_as = column(tmp_path, "1898-10-21 00:09:21+00:09:21", "1899-01-01 12:00:00+00:09:21")
    assert found.tolist() == [pd.Timestamp("1898-10-21", tz="UTC"), pd.Timestamp("1899-01-01 11:50:39", tz="UTC")]
    assert written_as.write(found).tolist() == ["1898-10-21 00:09:21+00:09:21", "1899-01-01 12:00:00+00:09:21"]


TABLE = '''id,zip,gap,score,day,flag,note,"odd ""name"", é"
1,01234,1,0.1,2020-01-01,True,"a, ""b""",x
2,99999,,-3.25e-07,,False,,y
9,00001,7,12.0,2020-02-29,True,"line
two",z
'''  # fmt: skip


def test_a_file_read_and_written_again_is_the_same_text(tmp_path):
    read = read_table(put(tmp_path / "in.csv", TABLE))
    with written(tmp_path / "out.csv", read.format) as write:
        write(read.table[:1])
        write(read.table[1:])
    assert (tmp_path / "out.csv").read_text(encoding="utf-8") == TABLE


def test_bom_tabs_and_windows_lines_make_no_difference(tmp_path):
    plain = read_table(put(tmp_path / "a.csv", "a,b\n1,x\n2,y\n")).table
    assert read_table(put(tmp_path / "b.csv", "\ufeffa,b\r\n1,x\r\n2,y\r\n")).table.equals(plain)
    assert read_table(put(tmp_path / "c.tsv", "a\tb\n1\tx\n\n2\ty\n")).table.equals(plain)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
@example([1e-06])
@example([1e22])
def test_floats_come_back_bit_by_bit(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("floats") / "x.csv"
    with written(path) as write:
        write(pd.DataFrame({"x": values, "y": 0}))
    assert read_table(path).table["x"].to_numpy().tobytes() == np.array(values).tobytes()


DTYPES = {
    "count": "int64",
    "gap": "Int64",
    "share": "float32",
    "day": "datetime64[s]",
    "moment": "datetime64[us, Europe/Paris]",
    "span": "timedelta64[s]",
    "flag": "bool",
    "maybe": "boolean",
    "size": pd.CategoricalDtype(["s", "m", "l"], ordered=True),
    "stars": pd.CategoricalDtype([1, 2, 3]),
    "code": "str",
}
CELLS = {
    "count": ["1", "2"],
    "gap": ["4", None],
    "share": ["0.5", None],
    "day": ["2020-01-31", None],
    "moment": ["2020-07-01T12:00:00+02:00", "2020-01-01T12:00:00+01:00"],
    "span": ["2 days", None],
    "flag": ["True", "false"],
    "maybe": ["True", None],
    "size": ["l", "s"],
    "stars": ["3", None],
    "code": ["007", None],
}


def readings_of(dtypes):
    return {name: ColumnReading(dtype) for name, dtype in dtypes.items()}


def tables(path, dtypes, rows=50_000):
    return [chunk.table for chunk in read_chunks(path, readings_of(dtypes), CsvFormat(), rows)]


def test_cells_become_what_training_had():
    table = pd.DataFrame(
        {name: cast(pd.Series(cells, dtype=object), ColumnReading(DTYPES_OF[name])) for name, cells in CELLS.items()}
    )
    wide = {**DTYPES_OF, "share": np.dtype("float64")}  # no given number is rounded
    assert table.dtypes.astype(str).tolist() == [str(dtype) for dtype in wide.values()]
    assert table.isna().equals(pd.DataFrame(CELLS).isna())
    assert table["size"].max() == "l"
    assert table["moment"][1] - table["moment"][0] == pd.Timedelta(-182, "D") + pd.Timedelta(1, "h")
    assert table["code"][0] == "007"


DTYPES_OF = {name: pd.api.types.pandas_dtype(dtype) for name, dtype in DTYPES.items()}


def test_gaps_are_kept_where_the_dtype_has_none():
    def read(dtype, *cells):
        return cast(pd.Series(cells, dtype=object), ColumnReading(np.dtype(dtype)))

    assert read("int64", "4", None).tolist() == [4, pd.NA]
    assert read(bool, "True", None).tolist() == [True, pd.NA]
    big = 2**63 - 1
    assert read("int64", str(big), None)[0] == big


@pytest.mark.parametrize(
    ("name", "cell", "expected"),
    [
        ("count", "2.5", "a whole number"),
        ("count", "two", "a whole number"),
        ("share", "half", "a number"),
        ("day", "31.1.2020", "a date"),
        ("day", "2020-01-31T00:00Z", "a date without an offset"),
        ("flag", "yes", "True or False"),
        ("size", "xl", "one of its categories"),
        ("span", "soon", "a duration"),
    ],
)
def test_a_cell_that_does_not_fit_is_named_with_file_column_and_row(tmp_path, name, cell, expected):
    path = put(tmp_path / "holes.csv", f"{name},more\n{CELLS[name][0]},0\n,0\n{cell},0\n")
    with pytest.raises(ValueError, match=rf"holes\.csv: column '{name}' holds '{cell}' in row 3, expected {expected}"):
        tables(path, DTYPES_OF, rows=2)


def test_columns_that_training_had_not_are_copied_as_they_are(tmp_path):
    path = put(tmp_path / "x.csv", "count,more\n1,NA\n2,007\n")
    chunks = tables(path, DTYPES_OF, rows=1)
    assert [chunk["more"].iloc[0] for chunk in chunks] == ["NA", "007"]
    assert [chunk["count"].iloc[0] for chunk in chunks] == [1, 2]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("x.csv", b"", "is empty"),
        ("x.csv", b"\n\n", "is empty"),
        ("x.csv", b"a,b\n", "no rows"),
        ("x.csv", b"a,b\n1,2\n3\n", "has 1 cells in line 3, expected 2"),
        ("x.csv", b"a,b\n1,2,3\n", "has 3 cells in line 2, expected 2"),
        ("x.csv", b"a,b,a\n1,2,3\n", "two columns named 'a'"),
        ("x.csv", b"a;b\n1;2\n", "separated by ';'"),
        ("x.csv", "a,b\n1,é\n".encode("latin-1"), "byte 0xe9 in line 2, expected text in UTF-8"),
        ("x.csv", "a,b\n1,2\n".encode("utf-16"), "NUL bytes"),
        ("x.csv", b"\x89PNG\r\n\x1a\n\x00\x00", "NUL bytes"),
        ("x.xlsx", b"a,b\n1,2\n", "ends in '.xlsx', expected a table"),
        ("x", b"a,b\n1,2\n", "ends in 'nothing', expected a table"),
    ],
)
def test_what_is_no_table_is_refused_in_a_sentence(tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(content)
    for read in (read_table, lambda path: tables(path, {})):
        with pytest.raises(ValueError, match=sentence) as raised:
            read(tmp_path / name)
        assert str(tmp_path / name) in str(raised.value)
        assert "\n" not in str(raised.value)


def test_what_is_not_there_or_a_folder_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_table(tmp_path / "x.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ValueError, match="is a folder"):
        read_table(tmp_path / "folder.csv")


def test_an_output_that_cannot_be_is_refused_before_the_work(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        check_output(tmp_path / "nowhere" / "x.csv", overwrite=False)
    with pytest.raises(ValueError, match="expected a table"):
        check_output(tmp_path / "x.json", overwrite=False)
    put(tmp_path / "x.csv", TABLE)
    with pytest.raises(ValueError, match="exists already"):
        check_output(tmp_path / "x.csv", overwrite=False)
    check_output(tmp_path / "x.csv", overwrite=True)


def test_a_file_that_was_not_finished_leaves_the_old_one(tmp_path):
    path = put(tmp_path / "x.csv", TABLE)

    def interrupted():
        with written(path) as write:
            write(pd.DataFrame({"a": [1]}))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text(encoding="utf-8") == TABLE
    assert [found.name for found in tmp_path.iterdir()] == ["x.csv"]


def test_memory_does_not_grow_with_the_rows(tmp_path):
    """A file of 40 chunks takes as much memory to read and write as one of 4, and far less than its size."""

    def peak(chunks):
        chunk = pd.DataFrame({"a": np.arange(4_000), "b": "a text that is long enough to be seen in memory"})
        path, copy = tmp_path / f"{chunks}.csv", tmp_path / f"{chunks}-copy.csv"
        with written(path) as write:
            for _ in range(chunks):
                write(chunk)
        tracemalloc.start()
        with written(copy) as write:
            for part in read_chunks(path, readings_of({"a": np.dtype("int64")}), CsvFormat(), rows=4_000):
                write(part.table)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert copy.read_bytes() == path.read_bytes()
        return most, path.stat().st_size

    (small, _), (large, size) = peak(3), peak(15)
    assert large < 1.3 * small
    assert large < size


@needs_pyarrow
def test_parquet_keeps_dtypes_and_days(tmp_path):
    read = read_table(put(tmp_path / "in.csv", TABLE))
    for ending in ("a", "b"):
        with written(tmp_path / f"{ending}.parquet", read.format) as write:
            write(read.table[:2])
            write(read.table[2:])
    again = read_table(tmp_path / "a.parquet")
    pd.testing.assert_frame_equal(again.table, read.table)
    assert again.dates == {"day": DateFormat("D")}
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    chunks = tables(tmp_path / "a.parquet", {}, rows=2)
    assert [len(chunk) for chunk in chunks] == [2, 1]
    pd.testing.assert_frame_equal(pd.concat(chunks).astype(read.table.dtypes.to_dict()), read.table)


@needs_pyarrow
def test_parquet_of_others_is_read_in_plain_dtypes(tmp_path):
    import decimal

    import pyarrow
    import pyarrow.parquet

    columns = {
        "small": pyarrow.array([1, None, 3], pyarrow.uint8()),
        "flag": pyarrow.array([True, None, False]),
        "price": pyarrow.array([decimal.Decimal("1.25")] * 3),
        "day": pyarrow.array([0, 1, None], pyarrow.date32()),
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "x.parquet")
    table = read_table(tmp_path / "x.parquet").table
    assert table.dtypes.astype(str).tolist() == ["UInt8", "boolean", "float64", "datetime64[s]"]
    assert table["price"].tolist() == [1.25] * 3
    assert table["day"][1] == pd.Timestamp("1970-01-02")


@needs_pyarrow
def test_a_column_that_is_empty_at_first_may_hold_text_later(tmp_path):
    with written(tmp_path / "x.parquet") as write:
        write(pd.DataFrame({"a": pd.Series([None], dtype=object)}))
        write(pd.DataFrame({"a": pd.Series(["text"], dtype=object)}))
    assert read_table(tmp_path / "x.parquet").table["a"].tolist()[1] == "text"


@needs_pyarrow
@pytest.mark.parametrize("cut", [0, 3, 200])
def test_a_parquet_file_that_is_cut_short_is_refused(tmp_path, cut):
    with written(tmp_path / "x.parquet") as write:
        write(pd.DataFrame({"a": range(100)}))
    (tmp_path / "y.parquet").write_bytes((tmp_path / "x.parquet").read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"y\.parquet is no Parquet file, damaged or cut short"):
        read_table(tmp_path / "y.parquet")


def test_parquet_without_pyarrow_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"pip install 'cfdg-diffusion\[parquet\]'"):
        check_output(tmp_path / "x.parquet", overwrite=False)
