"""Training values come back: extremes of every dtype, spikes and constants, through the codec and through a fit."""

import datetime
import os
from decimal import Decimal
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from cfdg_diffusion import DiffusionSettings, FixedCombinations, Predicate, TabularDiffusion, TabularSettings
from cfdg_diffusion.tabular.columns import TableCodec

EXAMPLES = int(os.environ.get("CFDG_EXAMPLES", "100"))
TINY = TabularSettings(
    diffusion=DiffusionSettings(width=16, blocks=1, batch_size=32, sampling_steps=4, guidance_weight=0.0)
)
QUIET = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


def integers(dtype):
    info = np.iinfo(dtype)
    low, high = int(info.min), min(int(info.max), 2**63 - 1)
    return st.sampled_from([low, low + 1, 0, 1, high - 1, high]) | st.integers(low, high) | st.integers(0, 9)


def floats(dtype):
    info = np.finfo(dtype)
    width = 8 * np.dtype(dtype).itemsize
    extremes = [info.min, info.max, info.tiny, info.smallest_subnormal, 0.0, 1 / 3, 9999.99, 16777217.0, 637.31]
    known = st.sampled_from([float(dtype(value)) for value in extremes if abs(value) <= float(info.max)])
    return known | st.floats(allow_nan=False, allow_infinity=False, width=width) | st.integers(0, 99).map(float)


def moments(unit):
    return st.sampled_from([-(2**63) + 1, 2**63 - 1, 0]) | st.integers(-(2**63) + 1, 2**63 - 1) | sentinels(unit)


def sentinels(unit):
    texts = ["1999-12-31", "2024-05-01T12:30", "1970-01-01", "2262-04-11", "1677-09-22"]
    far = ["0001-01-01", "9999-12-31", "9999-12-31T23:59:59", "12024-01-01", "-0005-01-01", "9999-01-01"]
    known = texts if unit == "ns" else texts + far
    return st.sampled_from([int(np.datetime64(text, unit).astype(np.int64)) for text in known])


def numpy_times(kind, unit):
    return lambda values: pd.Series(np.array(values, dtype=np.int64).view(f"{kind}8[{unit}]"))


def zoned(zone, unit):
    return lambda values: numpy_times("M", unit)(values).dt.tz_localize("UTC").dt.tz_convert(zone)


def of(dtype):
    return lambda values: pd.Series(pd.Series(values, dtype=object).astype(dtype))


def categories(values):
    return pd.Series(pd.Categorical(values))


TEXTS = st.sampled_from(["", "NA", "None", "nan", "a\rb", "\x00", "+49", "1E5", "01234"]) | st.text(max_size=4)
DAYS = st.dates() | st.sampled_from([datetime.date.min, datetime.date.max, datetime.date(2024, 2, 29)])
DECIMALS = st.integers(-(10**10) + 1, 10**10 - 1).map(lambda cents: Decimal(cents).scaleb(-2))
NAMES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
COLUMNS = {
    **{name: (integers(name), of(name)) for name in NAMES},
    **{name: (integers(name.lower()), of(name)) for name in ("Int8", "UInt8", "Int32", "Int64", "UInt64")},
    **{kind.__name__: (floats(kind), of(kind)) for kind in (np.float16, np.float32, np.float64)},
    "Float32": (floats(np.float32), of("Float32")),
    "Float64": (floats(np.float64), of("Float64")),
    "bool": (st.booleans(), of("bool")),
    "boolean": (st.booleans(), of("boolean")),
    **{name: (TEXTS, of(name)) for name in ("object", "string", "str")},
    "text and numbers": (st.sampled_from(["a", "", 1, 2.5, 10**20]), lambda values: of(object)([*values[1:], "a"])),
    "categories of text": (TEXTS, categories),
    "categories of numbers": (integers("int64"), categories),
    "categories of days": (sentinels("s").map(lambda second: np.datetime64(second, "s")), categories),
    **{f"datetime64[{unit}]": (moments(unit), numpy_times("M", unit)) for unit in ("s", "ms", "us", "ns")},
    **{f"timedelta64[{unit}]": (moments(unit), numpy_times("m", unit)) for unit in ("s", "ms", "us", "ns")},
    "Paris": (st.integers(-(10**10), 10**11), zoned("Europe/Paris", "s")),
    "UTC": (moments("ns"), zoned("UTC", "ns")),
    "Chatham": (st.integers(-(10**17), 10**17), zoned("Pacific/Chatham", "us")),
    "decimals": (DECIMALS, of(object)),
}


def arrow_columns():
    import pyarrow as pa

    def arrow(kind):
        return lambda values: pd.Series(pa.array(values, type=kind), dtype=pd.ArrowDtype(kind))

    def cast(kind):
        return lambda values: pd.Series(pa.array(values, type=pa.int64()).cast(kind), dtype=pd.ArrowDtype(kind))

    seconds = st.integers(-(10**10), 10**11)
    long = st.integers(-(10**15) + 1, 10**15 - 1).map(lambda units: Decimal(units).scaleb(-10))
    whole = st.integers(-(2**63), 2**63 - 1).map(Decimal)
    return {
        **{f"arrow {name}": (integers(name), arrow(getattr(pa, name)())) for name in NAMES},
        "arrow double": (floats(np.float64), arrow(pa.float64())),
        "arrow float": (floats(np.float32), arrow(pa.float32())),
        "arrow bool": (st.booleans(), arrow(pa.bool_())),
        "arrow string": (TEXTS, arrow(pa.string())),
        "arrow large_string": (TEXTS, arrow(pa.large_string())),
        **{f"arrow timestamp {unit}": (moments(unit), cast(pa.timestamp(unit))) for unit in ("s", "us", "ns")},
        "arrow zone": (seconds, cast(pa.timestamp("s", "Europe/Paris"))),
        "arrow date32": (DAYS, arrow(pa.date32())),
        "arrow date64": (DAYS, arrow(pa.date64())),
        "arrow duration": (moments("us"), cast(pa.duration("us"))),
        "arrow cents": (DECIMALS, arrow(pa.decimal128(10, 2))),
        "arrow long decimals": (long, arrow(pa.decimal128(38, 10))),
        "arrow accounts": (whole, arrow(pa.decimal128(20, 0))),
    }


HAS_ARROW = find_spec("pyarrow") is not None
ALL = COLUMNS | (arrow_columns() if HAS_ARROW else {})
NO_MISSING = {*NAMES, "bool", "arrow duration"}  # pandas cannot mask the last


@st.composite
def spiked_columns(draw, names=tuple(ALL)):
    """A column in which every value has ten rows and more, perhaps with missing values."""
    name = draw(st.sampled_from(names))
    values, make = ALL[name]
    pool = draw(st.lists(values, min_size=1, max_size=6, unique_by=lambda value: (type(value), value)))
    rows = [value for value in pool for _ in range(draw(st.integers(10, 14)))]
    series = make(draw(st.permutations(rows)) if len(rows) < 20 else rows)
    if name not in NO_MISSING and draw(st.booleans()):
        series = series.mask(np.arange(len(series)) % 11 == 0)
    return pd.DataFrame({"x": series})


def draws(seed=0):
    return np.random.default_rng(seed)


def comes_from(found, training):
    if isinstance(training.dtype, pd.ArrowDtype):  # whose values Python may not hold
        return found.dropna().isin(training.dropna()).all()
    return set(found.dropna()) <= set(training.dropna())


def is_of_levels(codec):
    return all(component.scale is None for column in codec.columns for component in column.components)


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")  # of pandas, where it prints float16
@QUIET
@given(spiked_columns())
def test_no_training_value_that_cannot_come_back(table):
    codec = TableCodec.learn(table)
    back = codec.decode(codec.encode(table, draws()))
    assert_frame_equal(back, table, check_exact=True)
    restored = TableCodec.restore(codec.state())
    assert_frame_equal(restored.decode(codec.encode(table, draws())), table, check_exact=True)
    fresh = codec.decode(5 * draws(1).standard_normal((60, codec.width)))
    assert fresh.dtypes.tolist() == table.dtypes.tolist()
    assert table["x"].isna().any() or fresh["x"].notna().all()
    if (is_of_levels(codec) and len(codec.columns[0].components) == 1) or table["x"].nunique() == 1:
        assert comes_from(fresh["x"], table["x"])


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
@settings(max_examples=max(EXAMPLES // 20, 6), deadline=None, suppress_health_check=list(HealthCheck))
@given(spiked_columns(), st.integers(0, 9))
def test_spikes_and_constants_come_back_from_a_model(table, seed):
    table = table.assign(other=np.arange(len(table)) % 7)
    model = TabularDiffusion(settings=TINY).fit(table, steps=2)
    made = model.sample(40, seed=seed)
    assert made.dtypes.tolist() == table.dtypes.tolist()
    if is_of_levels(model.schema.codec) and len(model.schema.codec.columns[0].components) == 1:
        assert comes_from(made["x"], table["x"])
    holes = table.assign(other=table["other"].astype("Int64").mask(table.index % 3 == 0)).head(12)
    given_ = holes["x"].notna()
    assert_frame_equal(model.impute(holes, seed=seed).loc[given_, ["x"]], holes.loc[given_, ["x"]], check_exact=True)


SENTINELS = {
    "9999-12-31": "s",
    "0001-01-01": "us",
    "2262-04-11": "ns",
    "1677-09-22": "ns",
    "12024-01-01": "s",
    "-0005-01-01": "s",
}


@pytest.mark.parametrize("day", SENTINELS)
def test_no_end_dates_stay_where_they_are(day):
    table = pd.DataFrame({"to": np.array([day, "2024-05-01"] * 30, dtype=f"M8[{SENTINELS[day]}]"), "x": range(60)})
    model = TabularDiffusion(settings=TINY).fit(table, steps=3)
    made = model.sample(200, seed=0)["to"]
    assert set(made) <= set(table["to"])
    constant = TabularDiffusion(settings=TINY).fit(table[table.index % 2 == 0], steps=3)
    assert set(constant.sample(9)["to"]) == {table["to"][0]}
    holes = table.assign(to=table["to"].mask(table.index < 12))
    assert set(model.impute(holes)["to"]) <= set(table["to"])


def test_constraints_on_a_no_end_date_keep_its_class():
    status = np.where(np.arange(200) < 70, "open", "closed")
    days = np.datetime64("2023-01-01", "s") + draws().integers(0, 500, 200).astype("m8[D]")
    table = pd.DataFrame({"status": status, "to": np.where(status == "open", np.datetime64("9999-12-31", "s"), days)})
    known = FixedCombinations(("status", "to"), table)
    model = TabularDiffusion(settings=TINY, constraints=[known]).fit(table, label="status", steps=60)
    assert model.sample(20, label="open", seed=0)["to"].eq(pd.Timestamp("9999-12-31")).all()
    counts = model.sample(100, seed=0)["status"].value_counts()
    assert counts["open"] == pytest.approx(35, abs=2)
    rule = Predicate("open ends", lambda rows: (rows["status"] != "open") | (rows["to"] == pd.Timestamp("9999-12-31")))
    model = TabularDiffusion(settings=TINY, constraints=[rule]).fit(table, label="status", steps=60)
    assert len(model.sample(20, label="open", seed=0)) == 20


@pytest.mark.parametrize("top", [9_999.99, 47_000.25, 99_999.99, 130_000.5])
def test_float32_prices_of_any_size_have_their_two_digits(top):
    prices = np.append(draws().uniform(1, top, 400).round(2), top).astype(np.float32)
    codec = TableCodec.learn(pd.DataFrame({"price": prices}))
    fresh = codec.decode(draws(1).standard_normal((500, codec.width)))["price"]
    cents = fresh.to_numpy(np.float64).round(2).astype(np.float32)
    assert fresh.dtype == np.float32
    assert (cents == fresh).all()
    assert_frame_equal(
        codec.decode(codec.encode(pd.DataFrame({"price": prices}), draws())), pd.DataFrame({"price": prices})
    )


def test_whole_numbers_in_float32_stay_whole_up_to_the_last_that_it_holds():
    table = pd.DataFrame({"n": draws().integers(0, 2**24, 300).astype(np.float32)})
    codec = TableCodec.learn(table)
    fresh = codec.decode(draws(1).standard_normal((500, codec.width)))["n"]
    assert (fresh == fresh.round()).all()


def test_continuous_float32_of_any_size_are_not_taken_for_decimals():
    for size in (1e3, 5e4, 1e5):
        values = (size * draws().random(60)).astype(np.float32)
        assert TableCodec.learn(pd.DataFrame({"x": values})).columns[0].components[0].grid is None


def test_account_numbers_that_come_often_come_back():
    """Their span is beyond what float64 tells apart."""
    accounts = draws().integers(0, 2**63 - 1, 100)
    table = pd.DataFrame({"account": np.repeat(accounts, 6)})
    codec = TableCodec.learn(table)
    assert_frame_equal(codec.decode(codec.encode(table, draws())), table)
    assert set(codec.decode(3 * draws(1).standard_normal((300, codec.width)))["account"]) <= set(accounts)


@pytest.mark.skipif(not HAS_ARROW, reason="needs pyarrow")
def test_large_arrow_integers_beside_missing_ones_stay_exact():
    values = pd.Series([None, 2**53 + 1, -(2**63) + 1, 2**63 - 1] * 10, dtype="int64[pyarrow]")
    table = pd.concat([values, values], ignore_index=True).to_frame("x")
    codec = TableCodec.learn(table)
    assert_frame_equal(codec.decode(codec.encode(table, draws())), table, check_exact=True)
