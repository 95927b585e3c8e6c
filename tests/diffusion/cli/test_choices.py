"""Every choice of how a file is read can be corrected, is remembered with the model, and is written again."""

import argparse
import csv
import os

import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from cfdg_diffusion import cli
from cfdg_diffusion.cli import options, rules
from cfdg_diffusion.cli.csv_cells import ColumnReading, cast
from cfdg_diffusion.cli.dates import DateFormat, guess
from cfdg_diffusion.cli.formats import Choices, ColumnFormat, CsvFormat
from cfdg_diffusion.cli.main import separated
from cfdg_diffusion.cli.table_files import read_table

QUICK = settings(
    max_examples=int(os.environ.get("CFDG_EXAMPLES", "15")),
    phases=[Phase.explicit, Phase.generate],  # shrinking takes minutes
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def put(path, *lines):
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    return path


def kinds(text):
    """Kind and dtype of each column of a preview."""
    lines = [line.split() for line in text.split("\n\n")[1].splitlines()]
    return {words[0]: (words[1], words[2]) for words in lines}


def column(tmp_path, *cells, kind=None, **said):
    path = put(tmp_path / "one.csv", "x;y", *(f"{cell};0" for cell in cells))
    return read_table(path, Choices({} if kind is None else {"x": kind}, separator=";", **said))


@st.composite
def layouts(draw):
    separator = draw(st.sampled_from([",", ";", "\t", "|", " "]))
    decimal = draw(st.sampled_from([".", ","]))
    thousands = draw(st.sampled_from(["", ".", ",", "'", " ", "\u00a0", "_"]))
    assume(thousands != decimal)
    return separator, decimal, thousands


@QUICK
@given(layout=layouts(), kind=st.sampled_from(["%d.%m.%Y", "%Y%m%d", "%m/%d/%y %H:%M", "%d %b %Y"]), data=st.data())
def test_what_a_user_says_is_remembered_and_written_again(tool, layout, kind, data):
    """A file in any layout is fitted, sampled and read again, each time with the dtypes that were meant."""
    separator, decimal, thousands = layout
    cents = data.draw(st.lists(st.integers(-(10**9), 10**9), min_size=20, max_size=20, unique=True))
    truths = data.draw(st.sampled_from([("yes", "no"), ("Y", "N"), ("t", "f"), ("true", "false")]))
    written = DateFormat.of_pattern(kind)
    days = written.write(pd.Series(pd.to_datetime([f"2024-03-{1 + row:02}" for row in range(20)])))
    rows = []
    for row, cent in enumerate(cents):
        number = f"{cent / 100:,.2f}".translate(str.maketrans({",": thousands, ".": decimal}))
        cells = ["NA" if row % 4 else "-", number, days[row], truths[row % 2], f"{row:03}"]
        rows.append(separator.join(f'"{cell}"' for cell in cells))
    folder = tool.folder()
    put(folder / "t.csv", separator.join(["word", "price", "day", "paid", "code"]), *rows)
    said = [f"--separator={'tab' if separator == chr(9) else separator}", f"--decimal={decimal}", "--missing=-"]
    said += [f"--thousands={thousands}"] if thousands else []
    meant = [f"--kinds=day=datetime:{kind}", "--kinds=paid=boolean", "--kinds=code=integer"]
    dry = tool.run("fit", folder / "t.csv", "--dry-run", *said, *meant).out
    found = kinds(dry)
    assert found["price"][1] == "float64"
    assert found["day"] == ("datetime", "datetime64[s]")
    assert found["paid"][1] == "bool"
    assert found["code"][1] == "int64"
    assert "25.0% missing" in dry.split("\n\n")[1].splitlines()[0]
    tool.fit(folder / "t.csv", folder / "m", *said, *meant)
    tool.run("sample", folder / "m", "-n", "30", "-o", folder / "s.csv")
    again = kinds(tool.run("inspect", folder / "s.csv", *said, "--kinds", f"day=datetime:{kind}").out)
    assert {again["price"][1], again["price"][0]} & {"float64", "constant"}
    assert "filled" in tool.run("impute", folder / "m", folder / "s.csv", "-o", folder / "f.csv").err
    tool.run("sample", folder / "m", "--like", folder / "s.csv", "--fix", "price,day,paid", "-o", folder / "g.csv")
    put(folder / "plain.csv", "word,price,day,paid,code", f"NA,-1.25,{days[0]},{truths[0]},")
    full = tool.run("impute", folder / "m", folder / "plain.csv", "--separator=,", "--decimal=.").out
    assert next(csv.reader(full.splitlines()[1:]))[:4] == ["NA", "-1.25", days[0], truths[0]]


@pytest.mark.parametrize(
    ("cells", "dtype"),
    [
        (["+49151000", "+49151001", "+4930"], "text"),
        (["1E5", "2E3", "7E1"], "text"),
        (["1e5", "-2e3"], "text"),
        (["+1", "-1", "+2"], "int64"),
        (["1E5", "2.5"], "float64"),
        (["-1", "-2"], "int64"),
    ],
)
def test_a_sign_or_a_bare_exponent_in_all_cells_is_a_code(tmp_path, cells, dtype):
    found = column(tmp_path, *cells).table["x"]
    assert (found.tolist() == cells) if dtype == "text" else str(found.dtype) == dtype
    assert column(tmp_path, *cells, kind="number").table["x"].dtype == "float64"


@pytest.mark.parametrize("cells", [["+49", "+50"], ["1.50", "2.00"], ["007", "12"], ["1E5", "2.5"], ["true", "TRUE"]])
def test_a_category_keeps_its_text(tmp_path, cells):
    assert column(tmp_path, *cells, kind="category").table["x"].tolist() == cells
    assert column(tmp_path, "1", "2", "", kind="category").table["x"].dtype == "Int64"


@pytest.mark.parametrize(
    ("said", "missing"), [({}, 3), ({"missing": ("",)}, 1), ({"missing": ("DE",)}, 2), ({"missing": ("NA", "FR")}, 3)]
)
def test_words_for_missing_values_can_be_named(tmp_path, said, missing):
    assert column(tmp_path, "NA", "DE", "", "null", "FR", **said).table["x"].isna().sum() == missing
    assert column(tmp_path, "NA", "DE", "", kind="text").table["x"].isna().tolist() == [False, False, True]


@pytest.mark.parametrize("marks", ["-,?", "-999,?", "-9,-99", "-", "--", "--,?", "-N/A-"])
@pytest.mark.parametrize(
    "command", ["fit t.csv", "sample m -n 1", "impute m t.csv", "report t.csv s.csv", "inspect t.csv"]
)
def test_words_for_missing_values_may_begin_with_a_dash(command, marks):
    words = separated([*command.split(), "--missing", marks, "--decimal", ","])
    parsed = cli.build_parser().parse_args(words)
    said = tuple(word for word in parsed.missing if word)  # the empty cell is missing whatever is said
    assert (said, parsed.decimal) == (tuple(marks.split(",")), ",")


def test_the_words_of_the_help_are_missing_values(tool):
    folder = tool.folder()
    table = put(
        folder / "t.csv", "a,b", *(f"{'-' if row == 3 else row},{'?' if row == 4 else row}" for row in range(60))
    )
    found = kinds(tool.run("fit", table, "--dry-run", "--missing", "-,?").out)
    assert [found[name][1] for name in "ab"] == ["Int64", "Int64"]


@pytest.mark.parametrize(
    ("cells", "pattern"),
    [
        (["20240131", "20230228"], "%Y%m%d"),
        (["31.01.2024", "28.02.2023"], "%d.%m.%Y"),
        (["31/01/2024", "28/02/2023"], "%d/%m/%Y"),
        (["01/31/2024", "02/28/2023"], "%m/%d/%Y"),
        (["31.01.2024 10:11", "28.02.2023 00:00"], "%d.%m.%Y %H:%M"),
        (["8/18/2024", "11/2/2023"], "%-m/%-d/%Y"),
        (["8/18/2024", "11/20/2023"], "%-m/%-d/%Y"),
        (["08/18/2024", "11/02/2023"], "%m/%d/%Y"),
        (["12/18/2024", "11/20/2023"], "%m/%d/%Y"),
        (["18.8.2024", "02.11.2023"], "%d.%-m.%Y"),
        (["8/18/2024 09:05", "11/2/2023 10:00"], "%-m/%-d/%Y %H:%M"),
        (["8/18/2024 9:05", "11/2/2023 0:00"], "%-m/%-d/%Y %-H:%M"),
        (["Aug 8, 2024", "Nov 12, 2023"], "%b %-d, %Y"),
        (["20240818101112", "20231102000000"], "%Y%m%d%H%M%S"),
        (["9999-12-31", "0001-01-01"], "ISO"),
    ],
)
def test_dates_of_common_formats_are_found_and_written_as_they_were(tmp_path, cells, pattern):
    read = column(tmp_path, *cells, kind="datetime")
    assert read.table["x"].dtype.kind == "M"
    assert read.dates["x"].pattern == ("" if pattern == "ISO" else pattern)
    assert read.dates["x"].write(read.table["x"]).tolist() == cells


def test_dates_with_some_leading_zeros_are_written_with_all_of_them(tmp_path):
    read = column(tmp_path, "8/18/2024", "08/19/2024", kind="datetime")
    assert read.dates["x"].pattern == "%m/%d/%Y"
    assert read.table["x"].dt.day.tolist() == [18, 19]


@given(st.lists(st.datetimes().map(lambda moment: moment.replace(microsecond=0)), min_size=1, max_size=5))
def test_dates_without_leading_zeros_are_read_and_written(moments):
    """Also where a percent sign stands before a dash; the reference is written by hand."""
    written = DateFormat.of_pattern("%-m/%-d/%Y %-H:%M:%-S %%-d")
    series = pd.Series(moments, dtype="datetime64[s]")
    texts = [f"{at.month}/{at.day}/{at.year:04} {at.hour}:{at.minute:02}:{at.second} %-d" for at in moments]
    assert written.write(series).tolist() == texts
    assert written.parse(pd.Series(texts, dtype=object)).equals(series)


@pytest.mark.parametrize("kind", ["datetime", "datetime:%-m/%-d/%Y"])
def test_american_dates_come_back_as_they_were(tool, kind):
    folder = tool.folder()
    days = [f"{day.month}/{day.day}/{day.year}" for day in pd.date_range("2024-01-01", periods=60, freq="5D")]
    table = put(folder / "t.csv", "d,x", *(f"{day},{row}" for row, day in enumerate(days)))
    tool.fit(table, folder / "m", "--kinds", f"d={kind}")
    tool.run("sample", folder / "m", "-n", "60", "-o", folder / "s.csv")
    made = [line.split(",")[0] for line in (folder / "s.csv").read_text().splitlines()[1:]]
    assert all(day == f"{int(day.split('/')[0])}/{int(day.split('/')[1])}/{day.split('/')[2]}" for day in made)
    put(folder / "h.csv", "d,x", "8/18/2024,1", ",2")
    tool.run("impute", folder / "m", folder / "h.csv", "-o", folder / "f.csv")
    assert (folder / "f.csv").read_text().splitlines()[1] == "8/18/2024,1"


def test_dates_of_two_formats_and_of_none_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"one\.csv: column 'x' can be read as %d/%m/%Y and as %m/%d/%Y"):
        column(tmp_path, "01/02/2024", "03/04/2024", kind="datetime")
    with pytest.raises(ValueError, match="which is no date of a common format"):
        column(tmp_path, "soon", kind="datetime")
    with pytest.raises(ValueError, match=r"holds '32\.01\.2024' in row 2, expected a date as %d\.%m\.%Y"):
        column(tmp_path, "31.01.2024", "32.01.2024", kind="datetime:%d.%m.%Y")
    with pytest.raises(ValueError, match="expected two words such as yes and no"):
        column(tmp_path, "yes", "no", "perhaps", kind="boolean")


@given(st.lists(st.datetimes().map(lambda moment: moment.replace(microsecond=0)), min_size=1, max_size=5))
def test_patterns_write_every_year_that_they_read(moments):
    written = DateFormat.of_pattern("%d.%m.%Y %H:%M:%S")
    series = pd.Series(moments, dtype="datetime64[s]")
    assert written.parse(written.write(series)).equals(series)
    assert guess(written.write(series)).pattern == written.pattern or moments


@given(st.integers(-(10**12), 10**12), st.sampled_from([".", "'", " "]))
def test_grouped_numbers_are_read_and_badly_grouped_ones_are_not(number, thousands):
    layout = CsvFormat(";", ",", thousands)
    reading = ColumnReading(pd.api.types.pandas_dtype("int64"), layout, ColumnFormat(grouped=True))
    text = f"{number:,}".replace(",", thousands)
    assert cast(pd.Series([text], dtype=object), reading).tolist() == [number]
    with pytest.raises(ValueError, match="expected a whole number"):
        cast(pd.Series([f"1{thousands}23"], dtype=object), reading)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *[
            ("1.234,5", 1234.5),
            ("-12.345.678", -12345678.0),
            ("1.234,5e1", 12345.0),
            ("1234,5", 1234.5),
            ("+1.234", 1234),
        ],
        *[
            (wrong, None)
            for wrong in ("1.234.56", "1.234.5678", "1234.567", "1.23.456", "0.500", "1.234,567.890", "1.")
        ],
    ],
)
def test_groups_after_the_first_have_three_digits(text, number):
    reading = ColumnReading(pd.api.types.pandas_dtype("float64"), CsvFormat(";", ",", "."))
    cells = pd.Series([text], dtype=object)
    if number is None:
        with pytest.raises(ValueError, match="expected a number"):
            cast(cells, reading)
    else:
        assert cast(cells, reading).tolist() == [number]


def test_a_whole_number_of_yyyymmdd_in_parquet_is_a_date_if_it_is_said(tool):
    pq = pytest.importorskip("pyarrow.parquet")
    folder = tool.folder()
    days = pd.date_range("2022-01-01", periods=60)
    frame = pd.DataFrame({"d": days.strftime("%Y%m%d").astype(int), "e": days.strftime("%d.%m.%Y"), "p": [1, 0] * 30})
    frame.to_parquet(folder / "d.parquet")
    said = ["--kinds", "d=datetime", "--kinds", "e=datetime:%d.%m.%Y", "--kinds", "p=boolean"]
    found = kinds(tool.run("fit", folder / "d.parquet", "--dry-run", *said).out)
    assert [found[name][0] for name in "dep"] == ["datetime", "datetime", "boolean"]
    tool.fit(folder / "d.parquet", folder / "m", *said)
    tool.run("sample", folder / "m", "-n", "30", "-o", folder / "s.parquet")
    assert pq.read_table(folder / "s.parquet").schema.types == pq.read_table(folder / "d.parquet").schema.types
    made = pd.read_parquet(folder / "s.parquet")
    assert pd.to_datetime(made["d"].astype(str), format="%Y%m%d").notna().all()
    assert set(made["p"]) <= {0, 1}
    frame.loc[3, "e"] = None
    frame.to_parquet(folder / "h.parquet")
    tool.run("impute", folder / "m", folder / "h.parquet", "-o", folder / "f.parquet")
    assert pd.read_parquet(folder / "f.parquet").drop(index=3).equals(frame.drop(index=3))


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("p: 1,5..2.000,5", "1.5 <= p <= 2000.5"),
        ("p: 1.5..", "1.5 <= p"),
        ("d: 01.01.2023..31.12.2023", "2023-01-01 00:00:00 <= d <= 2023-12-31 00:00:00"),
        ("d: 2023-01-01..", "2023-01-01 00:00:00 <= d"),
    ],
)
def test_bounds_are_written_as_the_cells_of_the_file_or_plainly(tmp_path, rule, told):
    path = put(tmp_path / "t.csv", "p;d", "1,5;18.08.2023", "2.000,25;19.08.2023")
    said = Choices({"d": "datetime:%d.%m.%Y"}, separator=";", decimal=",", thousands=".")
    read = read_table(path, said)
    assert rules.parse(rule, read.table, read.format).name == told
    with pytest.raises(ValueError, match="'1,,5' is no value of column 'p'"):
        rules.parse("p: 1,,5..", read.table, read.format)


def test_ranges_are_kept_where_it_is_said(tool):
    folder = tool.folder()
    pd.DataFrame({"lat": [value / 7 for value in range(60)], "n": range(60)}).to_csv(folder / "t.csv", index=False)
    tool.fit(folder / "t.csv", folder / "m", "--keep-range", "lat")
    assert "0.0 <= lat <= 8.4" in tool.run("inspect", folder / "m").out
    tool.fit(folder / "t.csv", folder / "m", "--keep-range")
    assert "0 <= n <= 59" in tool.run("inspect", folder / "m").out
    tool.run("fit", "--keep-range", folder / "t.csv", "-o", folder / "m", "--steps=1", "--quiet", "--force")
    assert "0 <= n <= 59" in tool.run("inspect", folder / "m").out, "the table is no column"
    made = pd.read_csv(tool_output(tool, folder))
    assert made["lat"].between(0, 59 / 7).all()
    pd.DataFrame({"w": ["a", "b"] * 9}).to_csv(folder / "w.csv", index=False)
    assert "'w'" in tool.run("fit", folder / "w.csv", "-o", folder / "n", "--keep-range=w", status=2).err


def tool_output(tool, folder):
    tool.run("sample", folder / "m", "-n", "500", "-o", folder / "s.csv", "--force")
    return folder / "s.csv"


def test_formulas_are_escaped_in_text_alone(tool):
    folder = tool.folder()
    cells = ["=1+1", "+49", "-x", "@a", "plain"] * 8
    pd.DataFrame({"=note": cells, "n": range(-20, 20)}).to_csv(folder / "t.csv", index=False)
    tool.fit(folder / "t.csv", folder / "m", "--label", "=note")
    asked = ["sample", folder / "m", "-n", "40", "--balance", "--quiet"]
    lines = [line.split(",") for line in tool.run(*asked, "--escape-formulas").out.splitlines()]
    plain = [line.split(",") for line in tool.run(*asked).out.splitlines()]
    assert lines[0] == ["'=note", "n"]
    assert {line[0] for line in lines[1:]} == {"'=1+1", "'+49", "'-x", "'@a", "plain"}
    assert [line[1] for line in lines] == [line[1] for line in plain]


def test_formulas_are_not_escaped_in_parquet(tool):
    pytest.importorskip("pyarrow")
    folder = tool.folder()
    pd.DataFrame({"c": list("ab") * 20, "n": range(40)}).to_csv(folder / "t.csv", index=False)
    tool.fit(folder / "t.csv", folder / "m", "--label", "c")
    refused = tool.run("sample", folder / "m", "-n", "4", "-o", folder / "s.parquet", "--escape-formulas", status=2)
    assert "--escape-formulas" in refused.err


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("a=number", [("a", "number")]),
        ("a=number,b=category", [("a", "number"), ("b", "category")]),
        ("a=number, b=category", [("a", "number"), ("b", "category")]),
        ("d=datetime:%d.%m.%Y,a=boolean,z=text", [("d", "datetime:%d.%m.%Y"), ("a", "boolean"), ("z", "text")]),
        ("d=datetime:%b %d, %Y", [("d", "datetime:%b %d, %Y")]),
        ("d=datetime:%b %d, %Y,z=category", [("d", "datetime:%b %d, %Y"), ("z", "category")]),
        ("last, first=text", [("last, first", "text")]),
        ("last, first=text,z=category", [("last, first", "text"), ("z", "category")]),
        ("a=b=text,c=datetime", [("a=b", "text"), ("c", "datetime")]),
    ],
)
def test_kinds_may_be_a_list_and_formats_may_hold_commas(text, pairs):
    assert options.kinds(text) == pairs


@pytest.mark.parametrize("text", ["a=number,b=nonsense", "d=datetime:%d.%m.%Y,b=nonsense", "a=number,b", "a=number,"])
def test_a_wrong_kind_in_a_list_is_told(text):
    with pytest.raises(argparse.ArgumentTypeError, match=r"is not COLUMN=KIND with one of .*; several: a=KIND,b=KIND"):
        options.kinds(text)


def test_a_list_of_kinds_is_read_by_every_command(tool):
    folder = tool.folder()
    table = put(folder / "t.csv", "day,zip,n", *(f"{1 + row % 28:02}.03.2024,{row % 7},{row}" for row in range(60)))
    for command in (["inspect", table], ["fit", table, "--dry-run"]):
        found = kinds(tool.run(*command, "--kinds", "day=datetime:%d.%m.%Y,zip=category", "--kinds", "n=number").out)
        assert [found[name][0] for name in ("day", "zip", "n")] == ["datetime", "category", "number"]


def test_a_column_with_a_value_for_every_row_is_told_with_the_option_that_drops_it(tool):
    folder = tool.folder()
    table = put(folder / "t.csv", "customer id,x", *(f"C-{row:03},{row}" for row in range(60)))
    finding = "customer id: every row has its own value; values come back word for word and are in the model file"
    note = f"{finding}: --drop 'customer id'\n"
    assert note in tool.run("inspect", table).out
    assert note in tool.run("fit", table, "--dry-run").out
    words = ["fit", table, "-o", folder / "m", "--steps", "1", "--device", "cpu"]
    told = tool.run(*words).err
    assert told.count(note) == 1
    assert told.index(note) < told.index("learnt in")
    assert tool.run(*words, "--force", "--quiet").err == ""
    assert "customer id" not in tool.run(*words, "--force", "--drop", "customer id").err
