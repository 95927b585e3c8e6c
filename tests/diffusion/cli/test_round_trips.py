"""Every file that the package writes it reads back, for every kind of name and level, in CSV and in Parquet."""

import os

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from cfdg_diffusion import TabularDiffusion
from cfdg_diffusion.cli.csv_files import text_chunks
from cfdg_diffusion.cli.formats import MISSING, Choices, TableFormat
from cfdg_diffusion.cli.model_files import ModelFiles
from cfdg_diffusion.cli.readings import model_readings
from cfdg_diffusion.cli.table_files import layout_like, read_chunks, read_table, written

pytest.importorskip("pyarrow")

ROWS = 14
QUICK = settings(
    max_examples=int(os.environ.get("CFDG_EXAMPLES", "15")),
    phases=[Phase.explicit, Phase.generate],  # shrinking takes minutes
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)
ODD = st.sampled_from(
    [
        *MISSING,
        "a\rb",
        "\r",
        "\n",
        "\r\n",
        '"',
        '""',
        ",",
        ";",
        "\t",
        " ",
        "'",
        "\ufeff",
        "\x1f",
        "\x1c",
        "\x85",
        "\u2028",
    ]
)
WORD = TEXT | ODD
NAMES = st.lists(st.one_of(WORD, st.integers(-5, 99)), min_size=1, max_size=4, unique_by=str)


def one_of(draw, levels):
    """A column of some levels, each of which occurs."""
    return (levels * ROWS)[:ROWS]


def words(draw):
    return draw(st.lists(WORD, min_size=1, max_size=6, unique=True))


def text_column(draw):
    cells = pd.Series(one_of(draw, words(draw)), dtype="str")
    return cells.mask(np.arange(ROWS) % 5 == 4) if draw(st.booleans()) else cells


def category_column(draw):
    levels = draw(
        st.one_of(st.just([3, 1, 2]), st.just([0.5, 1.0, 1e20]), st.just([True, False]), st.just(words(draw)))
    )
    cells = pd.Series(pd.Categorical(one_of(draw, levels), categories=levels, ordered=draw(st.booleans())))
    return cells.mask(np.arange(ROWS) % 5 == 4) if draw(st.booleans()) else cells


def number_column(draw):
    dtype = draw(
        st.sampled_from(["int8", "uint16", "int64", "float32", "float64", "Int64", "Float64", "boolean", "bool"])
    )
    if dtype in ("boolean", "bool"):
        cells = pd.Series([True, False] * (ROWS // 2), dtype=dtype)
    elif "loat" in dtype:
        values = st.floats(-(2.0**100), 2.0**100, width=32) if dtype == "float32" else st.floats(-1e300, 1e300)
        cells = pd.Series(draw(st.lists(values, min_size=ROWS, max_size=ROWS)), dtype=dtype)
    else:
        limits = np.iinfo(dtype.lower())
        whole = st.integers(limits.min, limits.max) | st.sampled_from([limits.min + 1, limits.max - 1, limits.max])
        cells = pd.Series(draw(st.lists(whole, min_size=ROWS, max_size=ROWS)), dtype=dtype)
    can_miss = dtype[0] in "IF" or dtype == "boolean" or "float" in dtype
    return cells.mask(np.arange(ROWS) % 5 == 4) if can_miss and draw(st.booleans()) else cells


def time_column(draw):
    unit = draw(st.sampled_from(["s", "ms", "us", "ns"]))
    seconds = draw(st.lists(st.integers(-(10**9), 3 * 10**9), min_size=ROWS, max_size=ROWS))
    step = draw(st.sampled_from([1, 60, 86_400]))
    values = np.array([second // step * step for second in seconds], dtype="m8[s]").astype(f"m8[{unit}]")
    cells = pd.Series(values)
    if draw(st.booleans()):
        cells = pd.Series(np.datetime64(0, unit) + values)
        cells = cells.dt.tz_localize("UTC").dt.tz_convert("Europe/Paris") if draw(st.booleans()) else cells
    return cells.mask(np.arange(ROWS) % 5 == 4) if draw(st.booleans()) else cells


COLUMNS = st.sampled_from([text_column, category_column, number_column, time_column])


@st.composite
def frames(draw):
    names = draw(NAMES)
    columns = [draw(COLUMNS)(draw) for _ in names]
    return pd.concat(columns, axis=1).set_axis(pd.Index(names), axis=1)


def values(series):
    return [None if pd.isna(value) else value for value in series.astype(object)]


def model_of(tool, table, source, folder):
    """Fit a table in Python, or out of a file."""
    if source == "python":
        model = TabularDiffusion(device="cpu").fit(table, steps=1)
        ModelFiles.of(folder / "m").save(model, TableFormat())
        return folder / "m"
    path = folder / f"train.{source}"
    with written(path) as write:
        write(table)
    tool.fit(path, folder / "m")
    return folder / "m"


LOCAL_MEAN_TIME = pd.date_range("1898-10-21", periods=ROWS, freq="7D", tz="Europe/Paris")
"""Moments 9 minutes and 21 seconds ahead of UTC."""


@QUICK
@example(pd.DataFrame({"t": LOCAL_MEAN_TIME}), "parquet", "csv")
@given(
    table=frames(),
    source=st.sampled_from(["python", "parquet", "csv"]),
    suffix=st.sampled_from(["csv", "tsv", "parquet"]),
)
def test_what_is_written_is_read_back(tool, table, source, suffix):
    folder = tool.folder()
    model = model_of(tool, table, source, folder)
    path = folder / f"sample.{suffix}"
    tool.run("sample", model, "-n", 20, "-o", path, "--seed", 3)
    loaded, form = ModelFiles.of(model).load("cpu")
    expected = loaded.sample(20, seed=3)
    layout = layout_like(path, Choices(), form, expected.columns)
    found = pd.concat([chunk.table for chunk in read_chunks(path, model_readings(loaded, form, layout), layout)])
    assert found.columns.tolist() == expected.columns.tolist()
    for name in expected:
        series = found[name].astype("float32") if expected[name].dtype == "float32" else found[name]
        assert values(series) == values(expected[name]), name
    filled = tool.run("impute", model, path, "-o", folder / f"full.{suffix}").err
    never = [column.name for column in loaded.schema.codec.columns if column.missing_share == 1]
    assert f"filled {int(expected.drop(columns=never).isna().sum().sum()):,} cells" in filled
    fix = [f"--fix={name}" for name in expected]
    tool.run("sample", model, "--like", path, *fix, "-o", folder / f"alike.{suffix}")
    if suffix == "parquet":
        assert read_table(folder / "alike.parquet").table.equals(read_table(path).table)
    else:
        assert (folder / f"alike.{suffix}").read_bytes() == path.read_bytes()
    read_table(path)


@pytest.mark.parametrize("words", [["NA", "DE", "None", "FR"], ["", "null", "x"], ["n/a", "NaN", "nan"]])
def test_levels_that_are_words_for_missing_come_back(tool, words):
    folder = tool.folder()
    pd.DataFrame({"cc": words * 15, "x": range(15 * len(words))}).to_parquet(folder / "c.parquet")
    tool.fit(folder / "c.parquet", folder / "c")
    tool.run("sample", folder / "c", "-n", 60, "-o", folder / "c.csv")
    assert "filled 0 cells" in tool.run("impute", folder / "c", folder / "c.csv", "-o", folder / "full.csv").err
    assert (folder / "c.csv").read_bytes() == (folder / "full.csv").read_bytes()
    tool.run("sample", folder / "c", "--like", folder / "c.csv", "--fix", "cc", "-o", folder / "alike.csv")
    first, again = ([row[0] for row in texts(folder / name)] for name in ("c.csv", "alike.csv"))
    assert first == again
    assert set(first) <= set(words)


def texts(path):
    return next(text_chunks(path, ["cc", "x"], ",", 10**6)).to_numpy().tolist()


def test_the_report_reads_levels_that_are_words_for_missing(tool):
    pytest.importorskip("sklearn")
    folder = tool.folder()
    pd.DataFrame({"cc": ["NA", "DE", "None", "FR"] * 15, "x": range(60)}).to_parquet(folder / "c.parquet")
    pd.DataFrame({"cc": ["NA", "DE", "None", "FR"] * 15, "x": range(60)}).to_csv(folder / "c.csv", index=False)
    told = tool.run("report", folder / "c.parquet", folder / "c.csv", "--json", folder / "r.json").out
    assert "cc             1.000" in told


def test_a_level_beside_missing_cells_of_the_same_text(tool):
    """A column of "" and of missing cells: the missing ones are written NA, which is read as such."""
    folder = tool.folder()
    pd.DataFrame({"c": ["", None, "a"] * 20, "x": range(60)}).to_parquet(folder / "c.parquet")
    tool.fit(folder / "c.parquet", folder / "c")
    tool.run("sample", folder / "c", "-n", 90, "-o", folder / "c.csv")
    loaded = TabularDiffusion.load(folder / "c" / "model.safetensors", device="cpu").sample(90, seed=0)
    lines = (folder / "c.csv").read_text().splitlines()[1:]
    assert sum(line.startswith("NA,") for line in lines) == loaded["c"].isna().sum()
    assert sum(line.startswith('"",') for line in lines) == (loaded["c"] == "").sum()


def test_carriage_returns_are_quoted_on_every_python(tool):
    folder = tool.folder()
    (folder / "cr.csv").write_bytes(b"note,x\n" + b'"a\rb",1\nc,2\n' * 20)
    tool.fit(folder / "cr.csv", folder / "cr", "--label", "note")
    tool.run("sample", folder / "cr", "-n", "10", "--balance", "-o", folder / "out.csv")
    assert len(pd.read_csv(folder / "out.csv")) == 10
    assert b'"a\rb"' in (folder / "out.csv").read_bytes()


def test_a_nul_character_is_refused_in_csv(tool):
    folder = tool.folder()
    pd.DataFrame({"c": ["a\0b", "c"] * 20}).to_parquet(folder / "c.parquet")
    tool.fit(folder / "c.parquet", folder / "c", "--label", "c")
    asked = ["sample", folder / "c", "-n", "9", "--balance", "-o"]
    assert "column 'c'" in tool.run(*asked, folder / "c.csv", status=2).err
    tool.run(*asked, folder / "c2.parquet")


def test_mixed_objects_come_back_with_their_types(tool):
    folder = tool.folder()
    table = pd.DataFrame({"m": ["a", 1, "b", 2.5] * 15, "x": range(60)})
    TabularDiffusion(device="cpu").fit(table, steps=1).save(folder / "m.safetensors")
    model = folder / "m.safetensors"
    tool.run("sample", model, "-n", "20", "-o", folder / "m.csv")
    assert "filled 0 cells" in tool.run("impute", model, folder / "m.csv", "-o", folder / "n.csv").err
    refused = tool.run("sample", model, "-n", "6", "-o", folder / "m.parquet", status=2).err
    assert "column 'm' holds values of " in refused  # of which types depends on the machine's rounding
    assert "that are no type of Parquet, write .csv" in refused
    assert not (folder / "m.parquet").exists()


def test_intervals_are_refused_in_parquet_and_read_in_csv(tool):
    folder = tool.folder()
    table = pd.DataFrame({"m": pd.cut(pd.Series(range(60)), 4), "x": range(60)})
    TabularDiffusion(device="cpu").fit(table, steps=1).save(folder / "m.safetensors")
    refused = tool.run("sample", folder / "m.safetensors", "-n", "6", "-o", folder / "m.parquet", status=2).err
    assert "column 'm' holds categories of interval" in refused
    tool.run("sample", folder / "m.safetensors", "-n", "20", "-o", folder / "m.csv")
    told = tool.run("impute", folder / "m.safetensors", folder / "m.csv", "-o", folder / "n.csv").err
    assert "filled 0 cells" in told
