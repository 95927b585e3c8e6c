"""Names and types of Parquet files come back as they were: whole-number names, indexes, every type of Arrow."""

import datetime
import decimal
import os

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cfdg_diffusion import TabularDiffusion

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

ROWS = 12
QUICK = settings(
    max_examples=int(os.environ.get("CFDG_EXAMPLES", "15")),
    phases=[Phase.explicit, Phase.generate],  # shrinking takes minutes
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
DAYS = [datetime.date(2024, 1, 1 + day) for day in range(ROWS)]
MOMENTS = [datetime.datetime(2024, 1, 1 + day, day, day) for day in range(ROWS)]
CENTS = [decimal.Decimal(7 * value) / 100 for value in range(ROWS)]
WORDS = ["a", "NA", "b"] * (ROWS // 3)
INTEGERS = [getattr(pa, f"{sign}int{bits}")() for sign in ("", "u") for bits in (8, 16, 32, 64)]
CELLS = {
    **{own: list(range(ROWS)) for own in INTEGERS},
    **{own: [value / 8 for value in range(ROWS)] for own in (pa.float16(), pa.float32(), pa.float64())},
    **{own: [float(cents) for cents in CENTS] for own in (pa.float64(),)},
    **{pa.decimal128(digits, 2): CENTS for digits in (4, 10, 15, 38)},
    **{own: [value % 2 == 0 for value in range(ROWS)] for own in (pa.bool_(),)},
    **{own: WORDS for own in (pa.string(), pa.large_string())},
    **{pa.dictionary(index, pa.string()): WORDS for index in (pa.int8(), pa.int32())},
    **{own: DAYS for own in (pa.date32(), pa.date64())},
    **{pa.timestamp(unit): MOMENTS for unit in ("s", "ms", "us", "ns")},
    **{pa.timestamp("us", zone): MOMENTS for zone in ("UTC", "Europe/Paris", "+01:00")},
    **{pa.duration(unit): list(range(ROWS)) for unit in ("s", "ms", "us", "ns")},
}
DICTIONARIES = [own for own in CELLS if pa.types.is_dictionary(own)]


@st.composite
def tables(draw):
    """A table of any types and names, with missing cells in some columns."""
    names = draw(st.lists(st.text("ab0,: ", max_size=3), min_size=1, max_size=5, unique=True))
    columns = {}
    for name in names:
        own = draw(st.sampled_from(list(CELLS)))
        missing = draw(st.booleans())
        columns[name] = pa.array([None if missing and row % 4 == 3 else x for row, x in enumerate(CELLS[own])], own)
    return pa.table(columns)


@QUICK
@given(table=tables())
def test_names_and_types_come_back(tool, table):
    folder = tool.folder()
    pq.write_table(table, folder / "t.parquet")
    tool.fit(folder / "t.parquet", folder / "m")
    stored = pq.read_table(folder / "t.parquet").schema
    tool.run("sample", folder / "m", "-n", "30", "-o", folder / "s.parquet")
    sampled = pq.read_table(folder / "s.parquet")
    assert sampled.schema.names == stored.names
    assert sampled.schema.types == stored.types
    tool.run("impute", folder / "m", folder / "t.parquet", "-o", folder / "f.parquet")
    filled = pq.read_table(folder / "f.parquet")
    assert filled.schema.types == stored.types
    for name in table.column_names:
        before, after = table[name].to_pylist(), filled[name].to_pylist()
        assert all(cell is not None for cell in after)
        assert all(old is None or old == new for old, new in zip(before, after, strict=True))
    again = ["sample", folder / "m", "--like", folder / "s.parquet", *(f"--fix={name}" for name in table.column_names)]
    tool.run(*again, "-o", folder / "g.parquet")
    assert pq.read_table(folder / "g.parquet").equals(sampled)


@QUICK
@given(
    names=st.lists(st.integers(-3, 30).filter(lambda name: name != 7), min_size=2, max_size=4, unique=True),
    index=st.sampled_from([None, "id", "7"]),
)
def test_names_in_memory_come_back(tool, names, index):
    folder = tool.folder()
    frame = pd.DataFrame(np.random.default_rng(0).random((20, len(names))).round(2), columns=names)
    if index is not None:
        frame.index = pd.Index([7 * row % 20 for row in range(20)], name=index)
    frame.to_parquet(folder / "i.parquet")
    first, second = str(names[0]), str(names[1])
    assert (
        "1 columns" not in tool.run("fit", folder / "i.parquet", f"--drop={first}", "--dry-run").out or len(names) == 2
    )
    tool.fit(folder / "i.parquet", folder / "i", "--constraint", f"{second}: -1..1", f"--kinds={first}=category")
    tool.run("sample", folder / "i", "-n", "20", "-o", folder / "s.parquet")
    found = pd.read_parquet(folder / "s.parquet")
    assert found.columns.tolist() == names
    assert str(found.index.name) == str(index)
    tool.run("impute", folder / "i", folder / "s.parquet", "-o", folder / "f.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "f.parquet"), found)
    tool.run("sample", folder / "i", "-n", "20", "-o", folder / "s.csv")
    tool.run("impute", folder / "i", folder / "s.csv", "-o", folder / "f.csv")
    assert (folder / "f.csv").read_bytes() == (folder / "s.csv").read_bytes()
    tool.run("sample", folder / "i", "--like", folder / "s.csv", f"--fix={second}", "-o", folder / "g.csv")
    found = pd.read_csv(folder / "g.csv")
    assert found[second].tolist() == pd.read_csv(folder / "s.csv")[second].tolist()
    tool.fit(folder / "i.parquet", folder / "l", f"--label={first}")
    tool.run("sample", folder / "l", "-n", "3", f"--label={first}={frame[names[0]].iloc[0]}")


def test_an_index_without_a_name_is_no_column_and_is_kept(tool):
    folder = tool.folder()
    frame = pd.DataFrame({"a": np.arange(20.0), "b": ["x", "y"] * 10}, index=[f"row {row}" for row in range(20)])
    frame.loc["row 3", "a"] = np.nan
    frame.to_parquet(folder / "t.parquet")
    assert "2 columns" in tool.run("fit", folder / "t.parquet", "--dry-run").out
    tool.fit(folder / "t.parquet", folder / "m")
    tool.run("sample", folder / "m", "-n", "5", "-o", folder / "s.parquet")
    assert pd.read_parquet(folder / "s.parquet").columns.tolist() == ["a", "b"]
    tool.run("impute", folder / "m", folder / "t.parquet", "-o", folder / "f.parquet")
    filled = pd.read_parquet(folder / "f.parquet")
    assert filled.index.tolist() == frame.index.tolist()
    assert filled.drop("row 3").equals(frame.drop("row 3"))


@pytest.mark.parametrize("backend", ["numpy_nullable", "pyarrow"])
def test_dtypes_of_pandas_come_back(tool, backend):
    folder = tool.folder()
    frame = pd.DataFrame({"a": range(20), "b": ["x", "y"] * 10, "c": np.arange(20) / 4, "d": [True, False] * 10})
    frame.convert_dtypes(dtype_backend=backend).to_parquet(folder / "t.parquet")
    tool.fit(folder / "t.parquet", folder / "m")
    tool.run("sample", folder / "m", "-n", "5", "-o", folder / "s.parquet")
    assert pd.read_parquet(folder / "s.parquet").dtypes.equals(pd.read_parquet(folder / "t.parquet").dtypes)


@QUICK
@given(
    dtypes=st.lists(st.sampled_from(["Int8", "UInt16", "Int64", "Float32", "Float64", "boolean", "int32", "bool"]),
                    min_size=1, max_size=4)
)  # fmt: skip
def test_nullable_dtypes_of_a_model_made_in_python_come_back(tool, dtypes):
    """Also where no cell is missing, so that Arrow's type alone does not tell them from numpy's."""
    folder = tool.folder()
    cells = {name: pd.Series([0, 1] * 9).astype(dtype) for name, dtype in enumerate(dtypes)}
    model = TabularDiffusion(device="cpu").fit(pd.DataFrame(cells), steps=1)
    model.save(folder / "m.safetensors")
    tool.run("sample", folder / "m.safetensors", "-n", "5", "-o", folder / "s.parquet")
    assert pd.read_parquet(folder / "s.parquet").dtypes.astype(str).tolist() == dtypes


def test_decimals_keep_their_cents(tool):
    folder = tool.folder()
    rng = np.random.default_rng(0)
    cents = [decimal.Decimal(int(cent)) / 100 for cent in rng.integers(100, 99999, 200)]
    pq.write_table(
        pa.table({"price": pa.array(cents, pa.decimal128(10, 2)), "x": rng.normal(size=200)}), folder / "p.parquet"
    )
    tool.fit(folder / "p.parquet", folder / "p")
    lines = tool.run("sample", folder / "p", "-n", "20").out.splitlines()[1:]
    assert all(len(line.split(",")[0].split(".")[1]) == 2 for line in lines)
    tool.run("sample", folder / "p", "-n", "20", "-o", folder / "s.parquet")
    made = pq.read_table(folder / "s.parquet")["price"]
    assert made.type == pa.decimal128(10, 2)
    assert [str(price) for price in made.to_pylist()] == [line.split(",")[0] for line in lines]


def test_columns_that_are_no_cells_are_refused_by_name(tool):
    folder = tool.folder()
    for cells in ([[1], [2]] * 10, [{"a": 1}, {"a": 2}] * 10, [b"a", b"b"] * 10):
        pq.write_table(pa.table({"odd": cells, "x": range(20)}), folder / "t.parquet")
        assert "t.parquet: column 'odd' holds" in tool.run("fit", folder / "t.parquet", "--dry-run", status=2).err
        assert "1 columns" in tool.run("fit", folder / "t.parquet", "--dry-run", "--drop", "odd").out


def test_a_table_of_another_kind_of_file_fits_the_model(tool):
    """Text of dates and numbers in Parquet for a model of a CSV file, and the other way round."""
    folder = tool.folder()
    rows = "".join(f"2024-01-{1 + row:02},{row},0{row},{row / 4}\n" for row in range(20))
    (folder / "t.csv").write_text("day,n,code,r\n" + rows)
    tool.fit(folder / "t.csv", folder / "m")
    texts = pd.read_csv(folder / "t.csv", dtype=str)
    texts.loc[3, "n"] = None
    texts.to_parquet(folder / "t.parquet")
    tool.run("impute", folder / "m", folder / "t.parquet", "-o", folder / "f.parquet")
    filled = pd.read_parquet(folder / "f.parquet")
    assert filled.drop(index=3).equals(texts.drop(index=3))
    assert filled.loc[3, "n"].isdigit()
