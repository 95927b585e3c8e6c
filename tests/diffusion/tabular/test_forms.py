"""Columns whose values are learnt as others: Arrow's dtypes, decimals, and dates as text or whole numbers."""

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal, assert_series_equal

from cfdg_diffusion import DiffusionSettings, TabularDiffusion, TabularSettings
from cfdg_diffusion.tabular.columns import CodecSettings, TableCodec

TINY = TabularSettings(
    diffusion=DiffusionSettings(width=16, blocks=1, batch_size=32, sampling_steps=4, guidance_weight=0.0)
)
QUIET = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
ROWS = 120


def draws(seed=0):
    return np.random.default_rng(seed)


def wild(codec, rows=200):
    return codec.decode(4 * draws(1).standard_normal((rows, codec.width)))


def through_a_model(table, tmp_path, **options):
    """A sample, an imputed table and a sample with kept cells of a model that was stored in between."""
    model = TabularDiffusion(settings=TINY).fit(table, steps=2, **options)
    model.save(tmp_path / "model.safetensors")
    model = TabularDiffusion.load(tmp_path / "model.safetensors")
    made = model.sample(50, seed=0)
    assert made.dtypes.tolist() == table.dtypes.tolist()
    assert model.dtypes.tolist() == table.dtypes.tolist()
    kept = model.sample(like=table.head(9), fix=["x"])
    assert_series_equal(kept["x"], table["x"].head(9))
    holes = table.head(20)
    holes = holes.assign(x=holes["x"].mask(np.arange(20) % 3 == 0), other=holes["other"].mask(np.arange(20) % 4 == 0))
    if table["x"].isna().any():
        return model, made
    filled = model.impute(holes)
    assert filled["x"].dtype == table["x"].dtype
    assert filled["x"].notna().all()
    assert_series_equal(filled["x"][holes["x"].notna()], table["x"].head(20)[holes["x"].notna()])
    return model, made


def beside(values, dtype=None):
    return pd.DataFrame({"x": pd.Series(values, dtype=dtype), "other": np.arange(len(values)) / 7})


def arrow_series():
    pa = pytest.importorskip("pyarrow")
    numbers = draws().integers(0, 200, ROWS)
    days = [datetime.date(2020, 1, 1) + datetime.timedelta(int(number)) for number in numbers]
    cents = [Decimal(int(number) * 31 + 7) / 100 for number in numbers]
    arrays = {
        "int64": pa.array(numbers),
        "uint8": pa.array(numbers, type=pa.uint8()),
        "double": pa.array(draws().normal(size=ROWS)),
        "float": pa.array(draws().normal(size=ROWS).astype(np.float32)),
        "bool": pa.array(numbers > 70),
        "string": pa.array([f"level {number % 9}" for number in numbers]),
        "large_string": pa.array([f"level {number % 9}" for number in numbers], type=pa.large_string()),
        "dictionary": pa.array([f"level {number % 9}" for number in numbers]).dictionary_encode(),
        "timestamp": pa.array(days).cast(pa.timestamp("ns")),
        "zone": pa.array(days).cast(pa.timestamp("us")).cast(pa.timestamp("us", "Europe/Paris")),
        "date32": pa.array(days),
        "duration": pa.array([datetime.timedelta(seconds=int(number)) for number in numbers]),
        "decimal": pa.array(cents, type=pa.decimal128(10, 2)),
    }
    return {name: pd.Series(array, dtype=pd.ArrowDtype(array.type)) for name, array in arrays.items()}


ARROW = (
    "int64",
    "uint8",
    "double",
    "float",
    "bool",
    "string",
    "large_string",
    "dictionary",
    "timestamp",
    "zone",
    "date32",
)


@pytest.mark.parametrize("name", [*ARROW, "duration", "decimal"])
@pytest.mark.parametrize("gaps", [False, True])
def test_arrow_dtypes_are_learnt_and_come_back(name, gaps, tmp_path):
    series = arrow_series()[name]
    table = beside(series.mask(np.arange(ROWS) % 5 == 0) if gaps else series)
    through_a_model(table, tmp_path)
    codec = TableCodec.learn(table)
    if name not in ("double", "float"):
        assert_frame_equal(codec.decode(codec.encode(table, draws()))[["x"]], table[["x"]])
    assert str(series.dtype) in codec.describe()


def test_a_table_read_with_arrow_dtypes_gives_one_with_arrow_dtypes(tmp_path):
    """Also for a model of plain dtypes, and the other way round."""
    table = pd.DataFrame({name: series for name, series in arrow_series().items()})
    table.to_parquet(tmp_path / "table.parquet")
    read = pd.read_parquet(tmp_path / "table.parquet", dtype_backend="pyarrow")
    model = TabularDiffusion(settings=TINY).fit(read, label="string", steps=2)
    assert model.sample(9).dtypes.tolist() == read.dtypes.tolist()
    assert (model.sample(9, label="level 3")["string"] == "level 3").all()
    assert len(model.sample(9, balance=True)) == 9
    plain = pd.DataFrame({"n": draws().integers(0, 99, ROWS), "t": draws().choice(["a", "b"], ROWS)})
    model = TabularDiffusion(settings=TINY).fit(plain, label="t", steps=2)
    given = plain.head(12).convert_dtypes(dtype_backend="pyarrow")
    assert model.sample(like=given, fix=["n", "t"])["n"].tolist() == given["n"].tolist()
    filled = model.impute(given.assign(n=given["n"].mask(given.index < 4)))
    assert filled["n"].notna().all()
    assert filled["n"][4:].tolist() == given["n"][4:].tolist()


def test_binned_labels_of_arrow_and_decimal_dtypes():
    numbers = draws().gamma(2, 50, ROWS).round(2)
    for values in (arrow_series()["decimal"], pd.Series(numbers, dtype="double[pyarrow]")):
        table = beside(values)
        model = TabularDiffusion(settings=TINY).fit(table, label="x", steps=2)
        assert model.schema.labels.is_binned
        made = model.sample(labels=table["x"].head(7))
        assert made["x"].tolist() == table["x"].head(7).tolist()
        assert made["x"].dtype == table["x"].dtype


def test_arrow_types_without_a_plain_one_are_refused_with_the_call_that_helps():
    pa = pytest.importorskip("pyarrow")
    for array in (pa.array([datetime.time(3)] * 20), pa.array([[1]] * 20), pa.array([5] * 20).dictionary_encode()):
        table = beside(pd.Series(array, dtype=pd.ArrowDtype(array.type)))
        message = r"column 'x' has dtype .*, expected numbers, .*: convert it with series\.astype\(str\)"
        with pytest.raises(ValueError, match=message):
            TableCodec.learn(table)
        TableCodec.learn(table.astype({"x": str}))


def test_sparse_columns_and_periods_are_refused_with_the_call_that_helps():
    for values, call in (
        (pd.arrays.SparseArray([0, 1, 0]), r"series\.sparse\.to_dense"),
        (pd.period_range("2020", periods=3), r"series\.dt\.to_timestamp"),
    ):
        with pytest.raises(ValueError, match=f"column 'x' has dtype .*, expected numbers.*: convert it with {call}"):
            TableCodec.learn(pd.DataFrame({"x": values}))


@QUIET
@given(st.lists(st.integers(-(10**14), 10**14), min_size=30, max_size=60), st.integers(0, 6), st.booleans())
def test_decimals_come_back_with_their_digits(units, digits, in_arrow):
    values = [Decimal(unit).scaleb(-digits) for unit in units]
    series = pd.Series(values, dtype=object)
    if in_arrow:
        pa = pytest.importorskip("pyarrow")
        series = pd.Series(pa.array(values, type=pa.decimal128(15, digits)))
        series = pd.Series(
            pa.array(values, type=pa.decimal128(15, digits)), dtype=pd.ArrowDtype(pa.decimal128(15, digits))
        )
    table = pd.DataFrame({"x": series})
    codec = TableCodec.learn(table)
    fresh = wild(codec)
    assert fresh["x"].dtype == table["x"].dtype
    assert all(isinstance(value, Decimal) for value in fresh["x"])
    assert {value.as_tuple().exponent for value in fresh["x"]} == {-digits}
    back = codec.decode(codec.encode(table, draws()))
    spread = max(units) - min(units)
    tolerance = 0 if spread < 2**20 or codec.width == 0 else Decimal(spread).scaleb(-digits) / 10**5
    assert all(abs(one - other) <= tolerance for one, other in zip(back["x"], table["x"], strict=True))


def test_prices_of_a_decimal_column_have_two_digits(tmp_path):
    series = arrow_series()["decimal"]
    _, made = through_a_model(beside(series), tmp_path)
    assert made["x"].map(lambda value: value.as_tuple().exponent).eq(-2).all()
    _, made = through_a_model(beside(series.astype(object), object), tmp_path)
    assert {type(value) for value in made["x"]} == {Decimal}


def test_copied_account_numbers_stay(tmp_path):
    accounts = [Decimal(90071992547409931 + 7 * place) for place in range(ROWS)]
    table = beside(pd.Series(accounts, dtype=object))
    _, made = through_a_model(table, tmp_path)
    assert made["x"].nunique() > 10
    gaps = table.assign(other=table["other"].mask(table.index % 2 == 0))
    model = TabularDiffusion(settings=TINY).fit(table, steps=2)
    assert model.impute(gaps)["x"].tolist() == accounts


def test_decimals_that_float64_does_not_hold_are_refused():
    for value in ("12345678901234567.89", "0.12345678901234567891"):
        with pytest.raises(ValueError, match=r"column 'x' holds [0-9E.+]+, expected .*") as caught:
            TableCodec.learn(pd.DataFrame({"x": [Decimal(value), Decimal("1.5")]}))
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="column 'x' holds an infinite number"):
        TableCodec.learn(pd.DataFrame({"x": [Decimal("Infinity"), Decimal("1.5")]}))
    with pytest.raises(ValueError, match="column 'x' holds objects of type Decimal"):
        TableCodec.learn(pd.DataFrame({"x": [Decimal(1), "a"]}))


FORMATS = [
    "%d.%m.%Y",
    "%Y%m%d",
    "%d/%m/%Y",
    "%Y-%m-%d %H:%M:%S",
    "%b %-d, %Y",
    "%Y-%m-%dT%H:%M:%S.%f",
    "%-d.%-m.%Y",
    "%j %Y",
]


@QUIET
@given(
    st.lists(st.datetimes(), min_size=1, max_size=40),
    st.sampled_from(FORMATS),
    st.sampled_from(["object", "str", "string"]),
)
def test_dates_of_any_format_come_back_as_text(moments, pattern, dtype):
    from cfdg_diffusion.tabular.columns.date_formats import DateFormat

    written = DateFormat(pattern)
    texts = pd.Series(written.write(np.array(moments, dtype="M8[us]")), dtype=dtype)
    table = pd.DataFrame({"x": texts.mask(np.arange(len(texts)) == 1)})
    codec = TableCodec.learn(table, kinds={"x": f"datetime:{pattern}"})
    assert codec.columns[0].kind in ("datetime", "constant")
    assert_frame_equal(codec.decode(codec.encode(table, draws())), table)
    restored = TableCodec.restore(codec.state())
    fresh = wild(restored)["x"]
    assert fresh.dtype == texts.dtype
    written.read(fresh.dropna())


@QUIET
@given(st.lists(st.dates(), min_size=1, max_size=60), st.sampled_from(["int64", "Int64", "int32", "float64", "UInt32"]))
def test_dates_written_as_numbers_come_back_as_numbers_that_are_dates(days, dtype):
    values = pd.Series([10_000 * day.year + 100 * day.month + day.day for day in days], dtype=dtype)
    table = pd.DataFrame({"x": values})
    codec = TableCodec.learn(table, kinds={"x": "datetime"})
    assert_frame_equal(codec.decode(codec.encode(table, draws())), table)
    fresh = wild(codec)["x"]
    assert fresh.dtype == values.dtype
    for number in fresh:
        datetime.datetime.strptime(f"{int(number):08d}", "%Y%m%d")


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pd.date_range("2022-01-01", periods=ROWS).strftime("%Y%m%d").astype("int64"), "datetime"),
        (pd.date_range("2022-01-01", periods=ROWS).strftime("%d.%m.%Y"), "datetime"),
        (pd.date_range("2022-01-01", periods=ROWS).strftime("%d.%m.%Y"), "datetime:%d.%m.%Y"),
        (pd.date_range("2022-01-01", periods=ROWS).strftime("%Y-%m-%d"), "datetime"),
    ],
)
def test_dates_that_are_not_iso(values, kind, tmp_path):
    _, made = through_a_model(beside(values), tmp_path, kinds={"x": kind})
    pattern = {"int64": "%Y%m%d"}.get(str(values.dtype), "%Y-%m-%d" if "-" in str(values[0]) else "%d.%m.%Y")
    assert pd.to_datetime(made["x"].astype(str), format=pattern).notna().all()


def test_more_dates_as_text_than_levels_are_possible():
    days = pd.Series(pd.date_range("2000-01-01", periods=5000).strftime("%d.%m.%Y"))
    codec = TableCodec.learn(pd.DataFrame({"x": days}), kinds={"x": "datetime"})
    assert codec.width == 1


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        (["05.07.2024", "soon"], "datetime:%d.%m.%Y", "column 'x' holds 'soon', expected a date written %d.%m.%Y"),
        (["5.7.2024"], "datetime:%d.%m.%Y", "column 'x' holds '5.7.2024', expected a date written %d.%m.%Y"),
        (["05.07.2024", 3], "datetime:%d.%m.%Y", "column 'x' holds 3, expected a date written %d.%m.%Y as text"),
        (["05/07/2024"], "datetime", "column 'x' holds '05/07/2024' and the like, which could be %d/%m/%Y or %m/%d/%Y"),
        (["2024 May"], "datetime", "column 'x' holds '2024 May' and the like, expected dates of one usual format"),
        ([20240230], "datetime", "column 'x' holds '20240230', expected a date written %Y%m%d"),
        ([20240101.5], "datetime", "column 'x' has dtype float64, expected dates written %Y%m%d as whole numbers"),
        ([True], "datetime", "column 'x' has dtype bool, expected dates, or text or whole numbers that are dates"),
        (["a"], "datetime:%d.%m", "column 'x' has the date format '%d.%m', expected year, month and day"),
        (["a"], "datetime:%d.%m.%Y%z", "column 'x' has the date format '%d.%m.%Y%z', expected year, month and day"),
        ([[1]], "datetime", r"column 'x' holds .*, expected"),
        (["a", "b", "c"], "boolean", "column 'x' cannot be read as 'boolean', expected category or text"),
        ([1, 2, 3], "text", "column 'x' cannot be read as 'text', expected integer or number or category"),
        (["a"], 5, "column 'x' cannot be read as 5, expected category or text"),
    ],
)
def test_kinds_that_do_not_fit_are_refused_in_one_sentence(values, kind, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")) as caught:
        TableCodec.learn(pd.DataFrame({"x": values}), kinds={"x": kind})
    assert "\n" not in str(caught.value)


def test_yes_and_no_can_be_booleans_and_codes_text(tmp_path):
    answers = pd.Series(draws().choice(["yes", "no"], ROWS))
    model, made = through_a_model(beside(answers), tmp_path, kinds={"x": "boolean"})
    assert set(made["x"]) <= {"yes", "no"}
    assert model.schema.codec.columns[0].kind == "boolean"
    flags = pd.Series(draws().integers(0, 2, ROWS))
    assert TableCodec.learn(beside(flags), kinds={"x": "boolean"}).columns[0].kind == "boolean"
    codes = pd.Series(draws().choice(["+49151", "1E5", "01234"], ROWS))
    for kind in ("text", "category"):
        _, made = through_a_model(beside(codes), tmp_path, kinds={"x": kind})
        assert set(made["x"]) <= set(codes)


CLOSED = {
    "month": (1, 12),
    "day": (1, 31),
    "hour": (0, 23),
    "minute": (0, 59),
    "stars": (1, 5),
    "likert": (1, 7),
    "floats": (1, 9),
}


@pytest.mark.parametrize("name", CLOSED)
def test_integers_of_a_small_closed_set_keep_their_range(name):
    low, high = CLOSED[name]
    values = np.append(np.repeat([low, high], 10), draws().integers(low, high + 1, 1000))
    table = pd.DataFrame({"x": values.astype("float64" if name == "floats" else "int64")})
    codec = TableCodec.learn(table)
    assert wild(codec, 5000)["x"].between(low, high).all()
    assert wild(codec, 5000)["x"].isin([low, high]).any()
    free = TableCodec.learn(table, settings=CodecSettings(keep_range=False, keep_bounds=False))
    assert not wild(free, 5000)["x"].between(low, high).all()


def test_counts_with_a_tail_and_wide_integers_are_no_closed_sets():
    counts = pd.DataFrame({"x": draws().poisson(4, 1000)})
    assert wild(TableCodec.learn(counts), 5000)["x"].max() > counts["x"].max()
    ages = pd.DataFrame({"x": draws().integers(18, 90, 5000)})
    assert wild(TableCodec.learn(ages), 5000)["x"].max() > 89


RANGED = {
    "floats": lambda rng, n: rng.uniform(-90, 90, n),
    "decimals": lambda rng, n: rng.normal(5, 2, n).round(1),
    "float32": lambda rng, n: rng.normal(0, 1e30, n).astype(np.float32),
    "integers": lambda rng, n: rng.poisson(4, n),
    "wide": lambda rng, n: rng.integers(-(2**63) + 1, 2**63 - 1, n),
    "nearly int64": lambda rng, n: 2**63 - 1 - rng.integers(0, 2**60, n),
    "spiked": lambda rng, n: np.where(rng.random(n) < 0.3, -1.0, rng.exponential(1, n)),
    "days": lambda rng, n: np.datetime64("2020-01-01", "s") + rng.integers(0, 900, n).astype("m8[D]"),
    "times": lambda rng, n: np.datetime64("2020-01-01T07:30", "s") + rng.integers(0, 10**6, n).astype("m8[s]"),
    "one day": lambda rng, n: np.datetime64("2020-01-01T07:30", "s") + rng.integers(0, 3600, n).astype("m8[s]"),
    "nanoseconds": lambda rng, n: rng.integers(0, 10**18, n).view("M8[ns]"),
    "durations": lambda rng, n: rng.integers(-(10**6), 10**9, n).view("m8[ms]"),
    "huge": lambda rng, n: rng.normal(0, 1e307, n),
}


@QUIET
@given(st.sampled_from(sorted(RANGED)), st.integers(2, 300), st.integers(0, 10**6), st.sampled_from([1.0, 8.0, 1e30]))
def test_a_range_that_is_to_be_kept_is_kept(name, rows, seed, size):
    table = pd.DataFrame({"x": RANGED[name](draws(seed), rows), "y": RANGED[name](draws(seed + 1), rows)})
    for kept, settings_ in ((["x", "y"], CodecSettings(keep_range=True)), (["x"], CodecSettings(keep_range=("x",)))):
        codec = TableCodec.learn(table, settings=settings_)
        fresh = codec.decode(size * draws(seed).standard_normal((300, codec.width)))
        for column in kept:
            assert fresh[column].between(table[column].min(), table[column].max()).all()
        back = codec.decode(codec.encode(table, draws()))
        for column in kept:
            assert back[column].between(table[column].min(), table[column].max()).all()


def test_a_model_keeps_the_ranges_of_columns_by_name():
    table = pd.DataFrame({"lat": draws().uniform(-90, 90, 300), "free": draws(1).uniform(-90, 90, 300)})
    kept = TabularSettings(diffusion=TINY.diffusion, codec=CodecSettings(keep_range=("lat",)))
    made = TabularDiffusion(settings=kept).fit(table, steps=2).sample(3000, seed=0)
    assert made["lat"].between(table["lat"].min(), table["lat"].max()).all()
    assert not made["free"].between(table["free"].min(), table["free"].max()).all()
    wrong = TabularDiffusion(settings=TabularSettings(codec=CodecSettings(keep_range=("lon",))))
    with pytest.raises(ValueError, match="keep_range names column 'lon', expected one of the table's columns"):
        wrong.fit(table, steps=2)
    with pytest.raises(ValueError, match="keep_range is 'lat', expected True, False, None or a tuple of column names"):
        CodecSettings(keep_range="lat")


def test_keep_range_is_stored_with_the_model(tmp_path):
    for keep in (True, False, None, ("x",)):
        settings_ = TabularSettings(diffusion=TINY.diffusion, codec=CodecSettings(keep_range=keep))
        TabularDiffusion(settings=settings_).fit(beside(range(30)), steps=1).save(tmp_path / "m.safetensors")
        assert TabularDiffusion.load(tmp_path / "m.safetensors").settings == settings_
