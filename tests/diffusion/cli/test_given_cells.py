"""Given cells are sacred: equal as text in CSV, as value and type in Parquet, whatever training had in their column."""

import csv
import datetime
import decimal
import os
import zoneinfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cfdg_diffusion.cli.dates import parse_iso

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

WORDS = ["NA", "None", "null", "nan", "a\rb", 'say "hi"', "x,y", " padded ", "line\nbreak", "\u00e9\u4e2d", "=1+1", "'"]


def rows_of(path, separator=","):
    with open(path, encoding="utf-8-sig", newline="") as file:
        return list(csv.reader(file, delimiter=separator))


def write_rows(path, rows, separator=","):
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=separator, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(rows)
    return path


TRAINED = {
    "int": [str(value) for value in range(30)],
    "float": [f"{value}.50" for value in range(30)],
    "truth": ["true", "false"] * 15,
    "word": (WORDS * 3)[:30],
    "day": [f"2024-05-{value + 1:02}" for value in range(30)],
    "moment": [f"2024-05-{value + 1:02} {value % 24:02}:{value % 7:02}" for value in range(30)],
    "phone": [f"+4915{value}" for value in range(30)],
    "lot": [f"{value}E{value % 5}" for value in range(30)],
    "zip": [f"0{value:04}" for value in range(30)],
}
KINDS = ["--kinds", "word=text"]
"""Spelling of given cells by column, of values that training may have or not."""
SPELLINGS = {
    "int": st.one_of(
        st.integers(-(2**63), 2**63 - 1).map(str),
        st.sampled_from(["+49", "300", "-1", "1E2", "3.0", " 7 ", "007", "1e0"]),
    ),
    "float": st.one_of(
        st.floats(allow_nan=False, allow_infinity=False, width=64).map(repr),
        st.sampled_from(["1.50", "1E2", "+.5", "16777217", "50.123456789", "007.10", " 1.0"]),
    ),
    "truth": st.sampled_from(["true", "false", "True", "FALSE"]),
    "word": st.sampled_from(WORDS),
    "day": st.sampled_from(
        ["2024-05-01", "2024-05-01T00:00", "9999-12-31", "0001-01-01", "2024-05-01 00:00:00.000000000", "1600-02-29"]
    ),
    "moment": st.sampled_from(["2024-05-01 13:45:59", "2024-05-01", "9999-12-31T00:00:00"]),
    "phone": st.sampled_from(TRAINED["phone"]),
    "lot": st.sampled_from(TRAINED["lot"]),
    "zip": st.sampled_from(TRAINED["zip"]),
}


@pytest.fixture(scope="module")
def csv_model(tool):
    folder = tool.folder()
    rows = [list(TRAINED), *zip(*TRAINED.values(), strict=True)]
    tool.fit(write_rows(folder / "train.csv", rows), folder / "model", *KINDS)
    return folder


@st.composite
def tables_with_a_hole(draw):
    """Rows of text in the columns of training and one more, and the place of the one missing cell."""
    count = draw(st.integers(1, 4))
    columns = {name: draw(st.lists(cells, min_size=count, max_size=count)) for name, cells in SPELLINGS.items()}
    columns["extra"] = draw(st.lists(st.sampled_from([*WORDS, "", "1.50"]), min_size=count, max_size=count))
    order = draw(st.permutations(list(columns)))
    hole = (draw(st.integers(0, count - 1)), draw(st.sampled_from(list(TRAINED))))
    return {name: columns[name] for name in order}, hole


QUICK = settings(
    max_examples=int(os.environ.get("CFDG_EXAMPLES", "15")),
    phases=[Phase.explicit, Phase.generate],  # shrinking takes minutes
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@QUICK
@given(asked=tables_with_a_hole(), seed=st.integers(0, 5))
def test_given_cells_of_csv_stay_as_text(tool, csv_model, asked, seed):
    columns, (row, name) = asked
    rows = [list(columns), *map(list, zip(*columns.values(), strict=True))]
    place = rows[0].index(name)
    rows[row + 1][place] = ""
    holes = write_rows(csv_model / "holes.csv", rows)
    tool.run("impute", csv_model / "model", holes, "-o", csv_model / "full.csv", "--seed", seed, "--force")
    found = rows_of(csv_model / "full.csv")
    assert found[row + 1][place] != ""
    found[row + 1][place] = ""
    assert found == rows


@QUICK
@given(asked=tables_with_a_hole(), fix=st.sets(st.sampled_from(list(TRAINED)), min_size=1))
def test_fixed_cells_of_csv_stay_as_text(tool, csv_model, asked, fix):
    columns, _ = asked
    rows = [list(columns), *map(list, zip(*columns.values(), strict=True))]
    like = write_rows(csv_model / "like.csv", rows)
    named = [part for name in fix for part in ("--fix", name)]
    tool.run("sample", csv_model / "model", "--like", like, *named, "-o", csv_model / "alike.csv", "--force")
    head, *found = rows_of(csv_model / "alike.csv")
    for name in fix:
        assert [own[head.index(name)] for own in found] == columns[name]


def dates(*texts):
    return [datetime.date.fromisoformat(text) for text in texts]


ARROW = {
    "small": (pa.int8(), st.integers(-128, 127)),
    "byte": (pa.uint8(), st.integers(0, 255)),
    "large": (pa.int64(), st.integers(-(2**63), 2**63 - 1) | st.sampled_from([2**63 - 1, 2**63 - 513, -(2**63)])),
    "half": (pa.float32(), st.floats(width=32, allow_nan=False, allow_infinity=False)),
    "real": (pa.float64(), st.floats(allow_nan=False, allow_infinity=False)),
    "price": (pa.decimal128(10, 2), st.integers(-(10**10) + 1, 10**10 - 1).map(lambda c: decimal.Decimal(c) / 100)),
    "truth": (pa.bool_(), st.booleans()),
    "word": (pa.string(), st.sampled_from(WORDS)),
    "long": (pa.large_string(), st.sampled_from(WORDS)),
    "sort": (pa.dictionary(pa.int32(), pa.string()), st.sampled_from(WORDS)),
    "day": (pa.date32(), st.dates()),
    "moment": (
        pa.timestamp("us", "Europe/Paris"),
        st.datetimes(timezones=st.just(datetime.timezone.utc)),  # finer than training's minutes
    ),
    "span": (pa.duration("ms"), st.integers(-(10**9), 10**9)),
}
EXTRA = {
    "account": (pa.decimal128(30, 0), st.integers(-(10**29), 10**29).map(decimal.Decimal)),
    "list": (pa.list_(pa.int8()), st.lists(st.integers(0, 9), max_size=3)),
    "clock": (pa.time32("s"), st.times().map(lambda time: time.replace(microsecond=0))),
}
WIDER = {"small": pa.int64(), "byte": pa.int16(), "half": pa.float64(), "price": pa.decimal128(20, 5)}


def arrow_table(columns, types):
    return pa.table({name: pa.array(cells, types[name]) for name, cells in columns.items()})


@pytest.fixture(scope="module")
def parquet_model(tool):
    folder = tool.folder()
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 100, 36)
    train = {
        "small": numbers,
        "byte": numbers,
        "large": numbers,
        "half": rng.normal(size=36).astype("f"),
        "real": rng.normal(size=36),
        "price": [decimal.Decimal(int(cents)) / 100 for cents in numbers * 37],
        "truth": numbers % 2 == 0,
        "word": WORDS * 3,
        "long": WORDS * 3,
        "sort": WORDS * 3,
        "day": dates(*(f"2024-01-{1 + day % 28:02}" for day in numbers)),
        "moment": [
            datetime.datetime(2024, 1, 1 + int(day) % 28, int(day) % 24, int(day) % 60, tzinfo=datetime.timezone.utc)
            for day in numbers
        ],
        "span": numbers,
    }
    pq.write_table(arrow_table(train, {name: own[0] for name, own in ARROW.items()}), folder / "train.parquet")
    tool.fit(folder / "train.parquet", folder / "model")
    return folder


@st.composite
def arrow_tables_with_a_hole(draw):
    """A table with the types of training or wider ones, with more columns, and the place of the one missing cell."""
    count = draw(st.integers(1, 4))
    types = {name: own[0] for name, own in (ARROW | EXTRA).items()}
    columns = {name: draw(st.lists(own[1], min_size=count, max_size=count)) for name, own in (ARROW | EXTRA).items()}
    for name in draw(st.sets(st.sampled_from(list(WIDER)))):
        types[name] = WIDER[name]
        if name in ("small", "byte"):
            columns[name] = draw(st.lists(st.integers(-(2**14), 2**14), min_size=count, max_size=count))
    row, name = draw(st.integers(0, count - 1)), draw(st.sampled_from(list(ARROW)))
    columns[name][row] = None
    return arrow_table(columns, types), row, name


@QUICK
@given(asked=arrow_tables_with_a_hole(), seed=st.integers(0, 5))
def test_given_cells_of_parquet_keep_value_and_type(tool, parquet_model, asked, seed):
    table, row, name = asked
    pq.write_table(table, parquet_model / "holes.parquet")
    model = parquet_model / "model"
    tool.run("impute", model, parquet_model / "holes.parquet", "-o", parquet_model / "full.parquet", "--force")
    found = pq.read_table(parquet_model / "full.parquet")
    assert found.schema.types == pq.read_table(parquet_model / "holes.parquet").schema.types
    for column in table.column_names:
        cells = found[column].to_pylist()
        if column == name:
            assert cells.pop(row) is not None
        assert cells == [cell for place, cell in enumerate(table[column].to_pylist()) if (column, place) != (name, row)]


def test_small_integers_do_not_wrap(tool):
    folder = tool.folder()
    train = pd.DataFrame({"age": np.arange(18, 78, dtype="uint8"), "x": [None, *np.linspace(0, 1, 59)]})
    train.to_parquet(folder / "a.parquet")
    tool.fit(folder / "a.parquet", folder / "a")
    (folder / "h.csv").write_text("age,x\n300,\n-1,0.5\n")
    tool.run("impute", folder / "a", folder / "h.csv", "-o", folder / "full.csv")
    assert [row[0] for row in rows_of(folder / "full.csv")] == ["age", "300", "-1"]
    tool.run("sample", folder / "a", "--like", folder / "h.csv", "--fix", "age", "-o", folder / "alike.csv")
    assert [row[0] for row in rows_of(folder / "alike.csv")] == ["age", "300", "-1"]
    refused = tool.run("impute", folder / "a", folder / "h.csv", "-o", folder / "full.parquet", status=2)
    assert "column 'age'" in refused.err
    assert "300" in refused.err
    assert not (folder / "full.parquet").exists()


def test_hours_that_a_change_of_clocks_repeats_or_leaves_out_are_given_cells(tool):
    """Local times of Berlin without an offset: text stays, and a moment has the offset before the change, as PEP 495.

    2024-10-27 02:30 comes twice, +02:00 and +01:00; 2024-03-31 02:30 does not come, 02:30+01:00 is 03:30+02:00.
    """
    folder = tool.folder()
    days = pd.date_range("2024-01-01", periods=60, freq="7D", tz="Europe/Berlin")
    pd.DataFrame({"at": days, "x": np.linspace(0, 1, 60)}).to_parquet(folder / "t.parquet")
    tool.fit(folder / "t.parquet", folder / "m")
    given_cells = ["2024-10-27 02:30:00", "2024-03-31 02:30:00", "2024-07-01 12:00:00"]
    write_rows(folder / "h.csv", [["at", "x"], *[[cell, "0.5"] for cell in given_cells], ["", "0.5"]])
    told = tool.run("impute", folder / "m", folder / "h.csv", "-o", folder / "f.csv").err
    assert "filled 1 cells" in told
    assert [row[0] for row in rows_of(folder / "f.csv")[1:4]] == given_cells
    tool.run("impute", folder / "m", folder / "h.csv", "-o", folder / "f.parquet")
    moments = [str(cell) for cell in pd.read_parquet(folder / "f.parquet")["at"][:3]]
    assert moments == ["2024-10-27 02:30:00+02:00", "2024-03-31 03:30:00+02:00", "2024-07-01 12:00:00+02:00"]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Europe/Dublin", "Australia/Lord_Howe", "Pacific/Apia"])
def test_local_times_have_the_offset_that_python_gives_them(zone):
    """Every quarter of an hour of two years with changes, of half an hour and of a whole day too, as datetime does."""
    moments = pd.Series(pd.date_range("2011-01-01", "2012-12-31", freq="15min", unit="s"))
    found = parse_iso(moments.dt.strftime("%Y-%m-%d %H:%M"), pd.api.types.pandas_dtype(f"datetime64[s, {zone}]"))
    own = zoneinfo.ZoneInfo(zone)
    expected = [moment.replace(tzinfo=own).timestamp() for moment in moments.dt.to_pydatetime()]
    assert np.array_equal(found.astype("int64"), expected)


def test_a_label_outside_its_dtype_is_refused(tool):
    folder = tool.folder()
    pd.DataFrame({"y": np.arange(60, dtype="int8") % 5, "x": range(60)}).to_parquet(folder / "y.parquet")
    tool.fit(folder / "y.parquet", folder / "y", "--label", "y")
    assert "258" in tool.run("sample", folder / "y", "-n", "1", "--label", "258", status=2).err
    (folder / "want.csv").write_text("y\n2\n258\n")
    found = tool.run("sample", folder / "y", "--labels", folder / "want.csv", status=2).err
    assert "want.csv: column 'y' holds 258" in found
    (folder / "want.csv").write_text("y\n2\n+3\n4.0\n")
    made = tool.run("sample", folder / "y", "--labels", folder / "want.csv", "--quiet").out
    assert [line.split(",")[0] for line in made.splitlines()] == ["y", "2", "+3", "4.0"]


@pytest.mark.parametrize("cell", ["true", "1.50", "1E2", "+1", "2024-05-01 13:45:59"])
def test_a_spelling_is_no_value(tool, cell):
    """Cells that pandas would print otherwise: in impute the file's own text is written."""
    folder = tool.folder()
    write_rows(folder / "t.csv", [["a", "x"], *[[cell, str(value)] for value in range(20)]])
    tool.fit(folder / "t.csv", folder / "m")
    write_rows(folder / "h.csv", [["a", "x"], [cell, ""], ["", "3"]])
    tool.run("impute", folder / "m", folder / "h.csv", "-o", folder / "f.csv", "--quiet", status=2 * (cell == "?"))
    assert rows_of(folder / "f.csv")[1][0] == cell


def test_account_numbers_beyond_a_float_are_copied(tool):
    folder = tool.folder()
    account = [decimal.Decimal(90071992547409931 + value) for value in range(60)]
    cells = {"account": pa.array(account, pa.decimal128(20, 0)), "x": pa.array([None, *map(float, range(59))])}
    pq.write_table(pa.table(cells), folder / "a.parquet")
    refused = tool.run("fit", folder / "a.parquet", "-o", folder / "m", status=2).err
    assert "a.parquet: column 'account' holds 90071992547409931" in refused
    tool.fit(folder / "a.parquet", folder / "m", "--drop", "account")
    tool.run("impute", folder / "m", folder / "a.parquet", "-o", folder / "f.parquet")
    assert pq.read_table(folder / "f.parquet")["account"].to_pylist() == account
    tool.run("impute", folder / "m", folder / "a.parquet", "-o", folder / "f.csv")
    assert [row[0] for row in rows_of(folder / "f.csv")[1:]] == [str(number) for number in account]
    tool.fit(folder / "a.parquet", folder / "t", "--kinds", "account=text")
    tool.run("sample", folder / "t", "-n", "20", "-o", folder / "s.parquet")
    made = pq.read_table(folder / "s.parquet")["account"]
    assert made.type == pa.decimal128(20, 0)
    assert set(made.to_pylist()) <= set(account)
