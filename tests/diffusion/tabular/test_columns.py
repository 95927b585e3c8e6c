"""The codec of a whole table: round trips, layout, any rows at all, files, and what it refuses."""

import datetime
import json
import string
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from cfdg_diffusion import storage
from cfdg_diffusion.tabular.columns import CodecSettings, TableCodec

ROWS = 300


def as_json(state):
    return json.dumps(state, allow_nan=False, default=lambda array: [array.dtype.name, array.tolist()])


def through_a_file(state):
    as_json(state)  # which has no infinity
    with tempfile.TemporaryDirectory() as folder:
        storage.save(Path(folder) / "state", state)
        return storage.load(Path(folder) / "state")


def draws(seed=0):
    return np.random.default_rng(seed)


def there_and_back(table, **options):
    codec = TableCodec.learn(table, **options)
    rows = codec.encode(table, draws(1))
    assert rows.dtype == np.float32
    assert rows.shape == (len(table), codec.width)
    assert np.isfinite(rows).all()
    return codec.decode(rows)


def assert_round_trip(table, **options):
    """Exact but for floats, which come back to the precision of a float32 on the scale of their column."""
    back = there_and_back(table, **options)
    exact = [name for name in table if table[name].dtype.kind != "f"]
    assert_frame_equal(back[exact], table[exact].reset_index(drop=True), check_column_type=False)
    assert list(back) == list(table)
    for name in set(table) - set(exact):
        found = back[name]
        wanted = table[name].reset_index(drop=True)
        assert found.dtype == wanted.dtype
        assert (found.isna() == wanted.isna()).all()
        found, wanted = (values.dropna().to_numpy(dtype=np.float64) for values in (found, wanted))
        assert np.abs(found - wanted).max(initial=0) <= 2e-6 * (wanted.max(initial=0) / 2 - wanted.min(initial=0) / 2)


def numbers_of(dtype, rng):
    kind = np.dtype(getattr(dtype, "numpy_dtype", dtype)).kind
    values = rng.gamma(2, 20, ROWS).round(1) if kind == "f" else rng.integers(0, 120, ROWS)
    return pd.Series(values).astype(dtype)


NUMPY = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64"]
MASKED = ["Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64", "Float32", "Float64"]


@pytest.mark.parametrize("dtype", NUMPY + MASKED)
def test_every_dtype_of_numbers_comes_back_exactly_with_its_decimals(dtype):
    series = numbers_of(pd.api.types.pandas_dtype(dtype), draws())
    if dtype[0].isupper() or dtype[0] == "f":
        series[draws(2).random(ROWS) < 0.2] = None
    table = pd.DataFrame({"x": series})
    assert_frame_equal(there_and_back(table), table)


WORDS = ["yes", "no", "", " maybe", "naïve", "数", "NaN"]


def text(dtype, missing):
    values = draws().choice(WORDS, ROWS).astype(object)
    values[::7] = missing
    return pd.Series(values, dtype=dtype)


TEXTS = {
    "object None": text(object, None),
    "object NaN": text(object, np.nan),
    "object NA": text(object, pd.NA),
    "string": text("string", pd.NA),
    "string python": text(pd.StringDtype("python"), pd.NA),
    "str": text("str", np.nan),
    "text and numbers": pd.Series(["a", 1, 2.5, None] * 30, dtype=object),
    "objects of booleans": pd.Series([True, False, None] * 30, dtype=object),
    "numpy's own text": pd.Series([np.str_("a"), np.str_("b")] * 30, dtype=object),
    "unused levels": pd.Series(pd.Categorical(["b", None, "a"] * 30, categories=["c", "b", "a", "z"])),
    "ordered": pd.Series(pd.Categorical(["lo", "hi"] * 30, categories=["lo", "mid", "hi"], ordered=True)),
    "numbers as categories": pd.Series(pd.Categorical([3, 1, 2, 3] * 30, categories=[3, 2, 1])),
    "floats as categories": pd.Series(pd.Categorical([0.1, 2.5, None] * 30)),
    "mixed categories": pd.Series(pd.Categorical(["a", 1, "b"] * 30, categories=["b", 1, "a"])),
    "days as categories": pd.Series(pd.Categorical(pd.to_datetime(["2020-02-29", "2021-01-01"] * 30))),
    "zones as categories": pd.Series(pd.Categorical(pd.to_datetime(["2020-02-29", "2021-01-01"] * 30, utc=True))),
    "bins": pd.cut(pd.Series(np.arange(100.0)), 12),
    "booleans": pd.Series([True, False, True] * 30),
    "nullable booleans": pd.Series([True, None, False] * 30, dtype="boolean"),
    "boolean categories": pd.Series(pd.Categorical([True, None, False] * 30)),
}


@pytest.mark.parametrize("name", TEXTS)
def test_categories_and_booleans_come_back_with_dtype_levels_order_and_what_is_missing(name):
    series = TEXTS[name].rename("x")
    codec = TableCodec.learn(series.to_frame())
    for made in (codec, TableCodec.restore(through_a_file(codec.state()))):
        back = made.decode(made.encode(series.to_frame(), draws()))["x"]
        pd.testing.assert_series_equal(back, series)
        if series.dtype == object:
            assert [type(value) for value in back] == [
                type(value.item() if isinstance(value, np.generic) else value) for value in series
            ]


def times(start, step, unit, zone=None, seed=0, missing=True):
    values = pd.Series(np.datetime64(start, "s") + draws(seed).integers(0, 5000, ROWS) * np.timedelta64(step, "s"))
    values = values.astype(f"datetime64[{unit}]")
    values = values if zone is None else values.dt.tz_localize("UTC").dt.tz_convert(zone)
    return values.mask(draws(2).random(ROWS) < 0.1) if missing else values


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Paris", "America/St_Johns", "+05:30"])
@pytest.mark.parametrize("step", [1, 60, 3600, 86_400, 77_777])
def test_dates_come_back_exactly_in_every_unit_zone_and_resolution(unit, zone, step):
    table = pd.DataFrame({"when": times("1969-11-03T05:17:08", step, unit, zone)})
    assert_frame_equal(there_and_back(table), table)


def test_milliseconds_and_microseconds_of_years_come_back_exactly():
    for unit, per_second in (("ms", 10**3), ("us", 10**6)):
        values = draws().integers(-(10**9) * per_second, 10**9 * per_second, ROWS).view(f"M8[{unit}]")
        table = pd.DataFrame({"when": values})
        assert_frame_equal(there_and_back(table), table)


def test_hours_that_a_zone_repeats_or_skips_stay_apart():
    hours = pd.Series(pd.date_range("2024-10-26", "2024-10-29", freq="30min", tz="Europe/Paris"))
    table = pd.DataFrame({"when": pd.concat([hours, hours - pd.Timedelta(days=210)], ignore_index=True)})
    back = there_and_back(table)
    assert_frame_equal(back, table)
    assert back["when"].nunique() == table["when"].nunique()


def days_in(zone):
    days = pd.Series(pd.date_range("2023-01-01", "2024-12-31", freq="D"))
    return days.dt.tz_localize(zone, ambiguous=np.ones(len(days), bool), nonexistent="shift_forward")


def drawn(codec, rows=5000):
    return codec.decode(draws(2).normal(size=(rows, codec.width)))["when"]


@pytest.mark.parametrize("keep_range", [False, True])
def test_midnights_and_opening_hours_are_those_of_the_clocks(keep_range):
    days = days_in("Europe/Berlin")
    hours = pd.Series(draws().integers(9 * 60, 17 * 60, len(days))).astype("m8[m]")
    opened = (days.dt.tz_localize(None) + hours).dt.tz_localize("Europe/Berlin")
    for when, earliest, latest in ((days, 0, 0), (opened, 8.5, 17.5)):
        table = pd.DataFrame({"when": when})
        codec = TableCodec.learn(table, settings=CodecSettings(keep_range=keep_range))
        codec = TableCodec.restore(through_a_file(codec.state()))
        assert_frame_equal(codec.decode(codec.encode(table, draws(1))), table)
        made = drawn(codec)
        assert (made.dt.hour + made.dt.minute / 60).between(earliest, latest).all()
        assert made.between(when.min(), when.max()).all() == keep_range
        assert made.dt.date.nunique() > 350


def test_a_midnight_that_clocks_leave_out_or_repeat_is_the_first_time_of_the_day():
    table = pd.DataFrame({"when": days_in("America/Havana")})
    made = drawn(TableCodec.learn(table))
    assert set(made.dt.hour) == {0, 1}
    left_out = made[made.dt.date == datetime.date(2024, 3, 10)]
    assert set(left_out.dt.hour) == {1}
    repeated = made[(made.dt.date == datetime.date(2024, 11, 3)) & (made.dt.hour == 0)]
    assert set(repeated) == {pd.Timestamp("2024-11-03 04:00", tz="UTC")}


def test_days_of_utc_and_models_of_before_go_by_one_offset():
    days = pd.Series(pd.date_range("2023-01-01", "2024-12-31", freq="D", tz="UTC"))
    table = pd.DataFrame({"when": days.dt.tz_convert("Europe/Berlin")})
    assert (drawn(TableCodec.learn(table)).dt.tz_convert("UTC").dt.hour == 0).all()
    state = TableCodec.learn(pd.DataFrame({"when": days_in("Europe/Berlin")})).state()
    assert state["columns"][0]["family"].pop("by_clocks")
    assert set(drawn(TableCodec.restore(state)).dt.hour) == {0, 23}


def test_new_dates_keep_to_the_hours_of_the_day():
    opening = pd.Timestamp("2023-01-01") + pd.to_timedelta(draws().integers(0, 500, ROWS), unit="D")
    table = pd.DataFrame({"when": opening + pd.to_timedelta(draws(1).integers(9, 17, ROWS), unit="h")})
    codec = TableCodec.learn(table)
    assert [(block.role, block.part) for block in codec.blocks] == [("number", "day"), ("number", "second")]
    fresh = codec.decode(draws(2).normal(size=(1000, codec.width)))["when"]
    assert fresh.dt.hour.between(9, 16).mean() > 0.99
    assert (fresh.dt.minute == 0).all()


def test_durations_come_back_exactly_and_keep_their_sign():
    values = pd.Series(pd.to_timedelta(draws().integers(0, 10_000, ROWS), unit="s")).mask(draws(1).random(ROWS) < 0.1)
    for unit in ("s", "ms", "us", "ns"):
        table = pd.DataFrame({"took": values.astype(f"timedelta64[{unit}]")})
        codec = TableCodec.learn(table)
        assert_frame_equal(codec.decode(codec.encode(table, draws())), table)
        wild = codec.decode(10 * draws().normal(size=(500, codec.width)))["took"].dropna()
        assert (wild >= pd.Timedelta(0)).all()


SERIES = {
    **{
        dtype: st.integers(np.iinfo(dtype.lower()).min, min(np.iinfo(dtype.lower()).max, 2**63 - 1))
        for dtype in ("int8", "uint8", "int16", "Int16", "UInt8")
    },
    "int64": st.integers(-(10**5), 10**5),
    "uint64": st.integers(2**62, 2**62 + 10**5),
    "Int64": st.integers(-(2**63), -(2**63) + 10**5),
    "float64": st.floats(-1e300, 1e300),
    "float32": st.floats(-(2.0**100), 2.0**100, width=32),
    "float16": st.floats(-6e4, 6e4, width=16),
    "Float64": st.decimals(-1000, 1000, places=2).map(float),
    "bool": st.booleans(),
    "boolean": st.booleans(),
    "object": st.text(max_size=5) | st.integers(2, 9).map(str),
    "string": st.text(string.printable, max_size=3),
    "str": st.text(max_size=3),
    "category": st.sampled_from(["a", "b", 7, 2.5]),
    "datetime64[ns]": st.integers(0, 10**5).map(lambda day: np.datetime64(day, "D")),
    "datetime64[us, Europe/Berlin]": st.integers(0, 10**9).map(lambda second: pd.Timestamp(second, unit="s", tz="UTC")),
    "timedelta64[s]": st.integers(-(10**5), 10**5).map(lambda second: np.timedelta64(second, "s")),
}
NO_MISSING = {"int8", "uint8", "int16", "int64", "uint64", "bool"}
NAMES = st.text(max_size=8) | st.integers(-5, 5)


@st.composite
def tables(draw):
    rows = draw(st.integers(1, 40))
    columns = {}
    for name in draw(st.lists(NAMES, min_size=1, max_size=5, unique=True)):
        dtype = draw(st.sampled_from(sorted(SERIES)))
        values = SERIES[dtype] if dtype in NO_MISSING else SERIES[dtype] | st.none()
        pool = draw(st.lists(values, min_size=1, max_size=rows))
        picked = draw(st.lists(st.sampled_from(pool), min_size=rows, max_size=rows))
        columns[name] = pd.Series(pd.Series(picked, dtype=object).astype(dtype), name=name)
    return pd.DataFrame(columns)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tables(), st.integers(0, 9))
def test_tables_of_any_schema_come_back_and_any_rows_decode_to_that_schema(table, seed):
    assert_round_trip(table)
    codec = TableCodec.learn(table)
    for size in (1, 30, 1e30):
        wild = (size * draws(seed).standard_cauchy((20, codec.width))).astype(np.float32)
        wild[draws(seed).random(wild.shape) < 0.05] = np.nan
        fresh = codec.decode(wild)
        assert (fresh.dtypes == table.dtypes).all()
        assert list(fresh) == list(table)
        for name in table:
            assert not fresh[name].isna().any() or table[name].isna().any()
        again = codec.encode(fresh, draws())
        assert np.isfinite(again).all()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tables())
def test_json_and_arrays_give_the_same_codec_back_through_a_file(table):
    codec = TableCodec.learn(table)
    again = TableCodec.restore(through_a_file(codec.state()))
    rows = codec.encode(table, draws())
    assert (again.encode(table, draws()) == rows).all()
    assert_frame_equal(again.decode(rows), codec.decode(rows))
    assert again.describe() == codec.describe()
    assert as_json(again.state()) == as_json(codec.state())
    assert (again.decode(rows).dtypes == table.dtypes).all()


def mixed(rows=ROWS):
    rng = draws(7)
    return pd.DataFrame(
        {
            "age": rng.integers(18, 90, rows),
            "income": np.where(rng.random(rows) < 0.3, 0.0, rng.lognormal(8, 1, rows)),
            "job": rng.choice(["cook", "clerk", "nurse"], rows),
            "score": pd.Series(rng.normal(size=rows)).mask(rng.random(rows) < 0.2),
            "always": "here",
            3: rng.random(rows) < 0.1,
        }
    )


def test_blocks_cover_all_dimensions_in_order_and_say_what_they_hold():
    table = mixed()
    codec = TableCodec.learn(table)
    rows = codec.encode(table, draws())
    assert [(block.column, block.role) for block in codec.blocks] == [
        ("age", "number"),
        ("income", "spike"),
        ("income", "number"),
        ("job", "category"),
        ("score", "missing"),
        ("score", "number"),
        (3, "category"),
    ]
    assert [block.start for block in codec.blocks[1:]] == [block.stop for block in codec.blocks[:-1]]
    assert (codec.blocks[0].start, codec.blocks[-1].stop) == (0, codec.width)
    for block in codec.blocks:
        held = rows[:, block.dimensions]
        if block.words is not None:
            assert {tuple(row) for row in held} == {tuple(word) for word in block.words}
        assert np.abs(held.mean(axis=0)).max() < 0.1
        assert held.var(axis=0).mean() < 1.1
    assert codec.dimensions(["job"]).tolist() == list(range(3, 6))


def test_some_columns_are_encoded_and_decoded_like_their_dimensions_of_all():
    table = mixed()
    codec = TableCodec.learn(table)
    chosen = ["job", "score", "always", "age"]
    part = codec.encode(table[chosen], draws(), columns=chosen)
    everything = codec.encode(table, draws())[:, codec.dimensions(chosen)]
    np.testing.assert_array_equal(part[:, :-1], everything[:, :-1])  # age has another draw inside its cells
    assert_frame_equal(codec.decode(part, columns=chosen), table[chosen])


def test_columns_may_come_in_another_order_with_more_of_them_and_in_wider_dtypes():
    table = mixed()
    codec = TableCodec.learn(table)
    other = table[list(table)[::-1]].assign(more=1).astype({"age": "Float64", "job": "category", "income": "float64"})
    assert (codec.encode(other.drop(columns="age"), draws(), columns=["job"]) == codec.encode(
        table, draws(), columns=["job"]
    )).all()  # fmt: skip
    assert_frame_equal(codec.decode(codec.encode(other, draws())), codec.decode(codec.encode(table, draws())))


def test_the_same_generator_gives_the_same_rows():
    table = mixed()
    codec = TableCodec.learn(table)
    assert (codec.encode(table, draws(3)) == codec.encode(table, draws(3))).all()
    assert (codec.encode(table, draws(3)) != codec.encode(table, draws(4))).any()


def test_kinds_override_what_dtype_and_content_say():
    table = pd.DataFrame({"zip": draws().integers(10_000, 10_200, ROWS), "stars": draws().integers(1, 4, ROWS)})
    codec = TableCodec.learn(table, kinds={"zip": "category", "stars": "number"})
    assert [(block.column, block.role) for block in codec.blocks] == [("zip", "category"), ("stars", "number")]
    assert_round_trip(table, kinds={"zip": "category", "stars": "number"})
    assert [block.role for block in TableCodec.learn(table).blocks] == ["number", "category"]
    fresh = codec.decode(3 * draws().normal(size=(1000, codec.width)))
    assert set(fresh["zip"]) <= set(table["zip"])


def test_a_thousand_levels_decode_exactly_in_few_dimensions_even_under_noise():
    table = pd.DataFrame({"city": [f"city {i % 1000}" for i in range(3000)]})
    codec = TableCodec.learn(table)
    assert codec.width <= 24
    rows = codec.encode(table, draws())
    size = np.abs(rows - rows.mean(axis=0)).mean()
    noisy = rows + 0.4 * size * draws(1).normal(size=rows.shape).astype(np.float32)
    assert_frame_equal(codec.decode(noisy), table)


def test_one_row_twenty_rows_and_one_kind_alone():
    for table in (
        pd.DataFrame({"a": [1.5], "b": ["x"], "c": [None], "d": [pd.Timestamp("2020-01-01")], "e": [True]}),
        mixed(20),
        mixed(20)[["job", 3]],
        mixed(20)[["age", "income"]],
        pd.DataFrame({"empty": pd.Series([None] * 4, dtype=object), "nothing": [np.nan] * 4}),
    ):
        assert_round_trip(table)
    assert TableCodec.learn(mixed(1)).width == 0


def test_two_hundred_columns():
    table = pd.DataFrame(draws().normal(size=(50, 200))).assign(**{f"c{i}": i for i in range(5)})
    assert_round_trip(table)
    assert TableCodec.learn(table).width == 200


def test_no_rows_encode_and_decode_to_none():
    codec = TableCodec.learn(mixed())
    assert codec.encode(mixed().iloc[:0], draws()).shape == (0, codec.width)
    empty = codec.decode(np.empty((0, codec.width)))
    assert (empty.dtypes == mixed().dtypes).all()
    assert len(empty) == 0


def test_the_index_of_the_table_does_not_matter():
    table = mixed()
    codec = TableCodec.learn(table.set_index(table["age"] * 0))
    assert_frame_equal(codec.decode(codec.encode(table.set_index("job", drop=False), draws(1))), table)


def test_numbers_that_never_were_negative_stay_so_unless_free():
    table = pd.DataFrame(
        {"x": draws().exponential(size=ROWS), "share": draws(1).beta(8, 1, ROWS), "y": -np.arange(300)}
    )
    rows = 8 * draws().normal(size=(2000, 3)).astype(np.float32)
    fresh = TableCodec.learn(table).decode(rows)
    assert fresh["x"].min() >= 0
    assert fresh["share"].between(0, 1).all()
    assert fresh["y"].max() <= 0
    free = TableCodec.learn(table, settings=CodecSettings(keep_bounds=False)).decode(rows)
    assert free["share"].max() > 1 or free["x"].min() < 0


def test_decimals_of_new_rows_are_those_of_the_column():
    prices = draws().gamma(2, 20, ROWS).round(2)
    codec = TableCodec.learn(pd.DataFrame({"price": prices, "quarter": (prices * 4).round() / 4}))
    fresh = codec.decode(draws().normal(size=(1000, codec.width)))
    assert (fresh["price"] == fresh["price"].round(2)).all()
    assert (fresh["quarter"] * 4 == (fresh["quarter"] * 4).round()).all()
    assert fresh["price"].nunique() > 500


def test_missing_patterns_come_back_together():
    missing = draws().random(ROWS) < 0.4
    table = pd.DataFrame({"a": np.arange(300.0), "b": pd.Series(np.arange(300), dtype="Int64")})
    table.loc[missing, ["a", "b"]] = None
    back = there_and_back(table)
    assert (back["a"].isna() == missing).all()
    assert (back["b"].isna() == missing).all()


def test_the_description_has_one_line_per_column():
    table = mixed().assign(
        when=pd.Timestamp("2020-01-01"), gone=np.nan, city=[f"city {i}" for i in range(ROWS)], took=pd.Timedelta(1, "s")
    )
    lines = TableCodec.learn(table).describe().splitlines()
    assert len(lines) == len(table.columns)
    by_name = {line.split()[0]: line for line in lines}
    assert "integer" in by_name["age"]
    assert f"{table['age'].min()} to {table['age'].max()}" in by_name["age"]
    assert "1 spike" in by_name["income"]
    assert "3 levels" in by_name["job"]
    assert "% missing" in by_name["score"]
    assert "always here" in by_name["always"]
    assert "always missing" in by_name["gone"]
    assert "300 levels" in by_name["city"]


def refused(table, message, **options):
    with pytest.raises(ValueError, match=message) as caught:
        TableCodec.learn(table, **options)
    assert "\n" not in str(caught.value)


class Thing:
    """Of no use in a table."""


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[1], [2]], "column 'x' holds objects of type list, expected text"),
        ([{"a": 1}, None], "column 'x' holds objects of type dict"),
        ([Thing(), "a"], "column 'x' holds objects of type Thing"),
        ([True, 1, "a"], "column 'x' mixes booleans with numbers"),
        (pd.Series([1, 2.5, None], dtype=object), "column 'x' holds numbers as objects, .* pandas.to_numeric"),
        (["a", np.inf], "column 'x' holds an infinite number"),
        ([1.0, np.inf], "column 'x' holds an infinite number"),
        (pd.Series([1.0, -np.inf], dtype="Float32"), "column 'x' holds an infinite number"),
        ([1j, 2], "column 'x' has dtype complex128, expected numbers, booleans, text"),
        (pd.period_range("2020", periods=2, freq="D"), r"column 'x' has dtype period\[D\]"),
        (pd.arrays.SparseArray([0, 1]), "column 'x' has dtype Sparse"),
        (np.array([2**64 - 1, 0], dtype=np.uint64), "column 'x' holds 18446744073709551615, expected integers below"),
        (np.array([1, 2], dtype=np.longdouble), "column 'x' has dtype float128"),
        (pd.Categorical(pd.period_range("2020", periods=2, freq="D")), "column 'x' has categories of dtype period"),
        ([f"name {i}" for i in range(4097)], "column 'x' has 4097 levels, expected at most 4096"),
    ],
)
def test_columns_that_cannot_be_learnt_are_refused_in_one_sentence(values, message):
    refused(pd.DataFrame({"x": values}), message)


def test_tables_that_cannot_be_learnt_are_refused_in_one_sentence():
    refused(mixed().iloc[:0], "no rows")
    refused(pd.DataFrame(index=range(3)), "no columns")
    refused(pd.DataFrame([[1, 2]], columns=["a", "a"]), "column 'a' comes twice")
    refused(pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", 1), ("a", 2)])), "has a name of type tuple")
    refused(mixed(), "kinds names column 'zip', expected", kinds={"zip": "category"})
    refused(mixed(), "column 'job' cannot be read as 'number', expected category", kinds={"job": "number"})
    refused(
        mixed(), "column 'age' cannot be read as 'text', expected integer or number or category", kinds={"age": "text"}
    )


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("job", ["king"], "column 'job' holds 'king', expected one of its 3 levels"),
        ("job", [None], "column 'job' has missing values, expected none as in training"),
        ("job", [3], "column 'job' holds 3, expected one of its 3 levels"),
        ("age", ["old"], "column 'age' has dtype .*, expected int64 or other numbers"),
        ("age", [40.5], "column 'age' holds 40.5, expected integers"),
        ("age", [np.inf], "column 'age' holds an infinite number"),
        ("always", ["there"], "column 'always' holds 'there', expected one of its 1 levels"),
        ("kids", [9], "column 'kids' holds 9, expected a value seen in training"),
        ("when", ["soon"], "column 'when' has dtype .*, expected datetime64"),
        ("when", [7.5], "column 'when' has dtype float64, expected datetime64"),
        ("gone", [0.0], "column 'gone' holds 0.0, expected nothing as in training"),
    ],
)
def test_rows_that_training_does_not_know_are_refused_in_one_sentence(column, values, message):
    table = mixed().assign(kids=draws().integers(0, 3, ROWS), when=pd.date_range("2020", periods=ROWS), gone=np.nan)
    codec = TableCodec.learn(table)
    new = pd.DataFrame({column: values})
    with pytest.raises(ValueError, match=message):
        codec.encode(new, draws(), columns=[column])


def test_calls_that_do_not_fit_are_refused_in_one_sentence():
    codec = TableCodec.learn(mixed())
    with pytest.raises(ValueError, match="the table has no column 'age'"):
        codec.encode(mixed().drop(columns="age"), draws())
    with pytest.raises(ValueError, match="there is no column 'x', expected one of 'age', 'income'"):
        codec.dimensions(["x"])
    with pytest.raises(ValueError, match="column 'age' comes twice"):
        codec.encode(pd.concat([mixed(), mixed()[["age"]]], axis=1), draws())
    with pytest.raises(ValueError, match=r"rows have shape \(2, 3\), expected \(N, 9\)"):
        codec.decode(np.zeros((2, 3)))


def test_states_of_another_version_or_without_a_part_are_refused():
    state = TableCodec.learn(mixed()).state()
    with pytest.raises(ValueError, match="version 99, expected 1"):
        TableCodec.restore({**state, "version": 99})
    with pytest.raises(ValueError, match="version None"):
        TableCodec.restore({})
    for part in ("columns", "names_dtype"):
        with pytest.raises(ValueError, match="cannot be read"):
            TableCodec.restore({name: value for name, value in state.items() if name != part})
    for column in state["columns"]:
        for part in (column, *column["components"]):
            for name in list(part):
                value = part.pop(name)
                with pytest.raises(ValueError, match="cannot be read"):
                    TableCodec.restore(state)
                part[name] = value


def test_a_zone_without_a_name_is_refused():
    zone = datetime.timezone(datetime.timedelta(hours=2), "ship's time")
    when = pd.Series(pd.to_datetime(["2020-01-01", "2020-06-01"])).dt.tz_localize(zone)
    refused(pd.DataFrame({"x": when}), "column 'x' has dtype .*, expected a time zone known by its name")
