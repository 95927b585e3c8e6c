"""Only documented exceptions leave the package: one sentence for whatever a table or an argument holds."""

import datetime
import os
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cfdg_diffusion import (
    DiffusionSettings,
    FixedCombinations,
    Inequality,
    Predicate,
    Range,
    TabularDiffusion,
    TabularSettings,
)

TINY = TabularSettings(
    diffusion=DiffusionSettings(width=16, blocks=1, batch_size=32, sampling_steps=2, guidance_weight=0.0)
)
EXAMPLES = int(os.environ.get("CFDG_EXAMPLES", "100")) // 4
QUIET = settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
ROWS = 60


def some_table():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "x": np.r_[np.nan, rng.normal(size=ROWS - 1)],
            "n": rng.integers(0, 50, ROWS),
            "small": rng.integers(3, 6, ROWS).astype(np.int8),
            "flag": rng.random(ROWS) < 0.5,
            "d": pd.date_range("2024", periods=ROWS),
            "took": pd.to_timedelta(rng.integers(0, 999, ROWS), "s"),
            "c": pd.Categorical(rng.choice(["lo", "hi"], ROWS)),
            "t": rng.choice(["a", "b", "c"], ROWS),
            "m": np.array(["a", 1, "b", 2.5] * (ROWS // 4), dtype=object),
            "age": rng.integers(18, 90, ROWS),
        }
    )


@pytest.fixture(scope="module")
def models():
    table = some_table()
    labels = (None, "small", "flag", "age", ["t", "small"])
    return {str(label): TabularDiffusion(settings=TINY).fit(table, label=label, steps=1) for label in labels}


SCALARS = st.sampled_from(
    [
        None, np.nan, pd.NA, pd.NaT, np.inf, 0, -1, 3, 300, 2**63, 10**400, 1.5, 1e300, True, "", "a", "2024-01-01",
        "x", b"bytes", 1j, np.int8(4), np.int8(7), np.float32(0.5), np.datetime64("2024-01-01"),
        np.timedelta64(5, "s"), pd.Timestamp("2024-01-01"), pd.Timestamp("2024-01-01", tz="UTC"),
        pd.Timedelta(3, "s"), datetime.date(2024, 1, 1), datetime.time(3),
        Decimal("1.5"), Decimal("NaN"), Decimal("Infinity"), pd.Interval(0, 1), pd.Period("2024"),
    ]
)  # fmt: skip
THINGS = SCALARS | st.sampled_from([[1], {"a": 1}, (1, 2), {3}, np.zeros(2), object, pd.DataFrame(), pd.Series([1])])
NAMES = st.sampled_from(list(some_table().columns))
DTYPES = [None, object, "float64", "int8", "Int64", "boolean", "str", "category", "datetime64[s]", "timedelta64[ns]",
          "int64[pyarrow]", "string[pyarrow]", "Sparse[float64]", "complex128", "uint64", "period[D]"]  # fmt: skip


def column(values, dtype):
    """A column of these values, of that dtype if it can hold them."""
    series = pd.Series([*values], dtype=object)
    try:
        return series.astype(dtype) if dtype else series.infer_objects()
    except Exception:
        return series


@st.composite
def odd_tables(draw):
    """Some rows of the table, with some columns that hold anything."""
    table = some_table().head(8)
    for name in draw(st.lists(NAMES, max_size=2, unique=True)):
        values = draw(
            st.lists(THINGS, min_size=8, max_size=8)
            | st.lists(SCALARS, min_size=1, max_size=1).map(lambda one: one * 8)
        )
        table[name] = column(values, draw(st.sampled_from(DTYPES)))
    return table


def allowed(call):
    """Call, and check that an exception is a documented one with one clean sentence."""
    try:
        return call()
    except ValueError as error:
        sentence = str(error)
    except RuntimeError as error:
        sentence = str(error)
        assert "still break a constraint" in sentence
    assert "\n" not in sentence
    assert "np." not in sentence
    return None


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::pandas.errors.PerformanceWarning")
@QUIET
@given(odd_tables(), st.sampled_from(["None", "small", "flag", "age", "['t', 'small']"]))
def test_only_documented_exceptions_escape_from_impute_and_kept_columns(models, table, name):
    model = models[name]
    filled = allowed(lambda: model.impute(table))
    if filled is not None:
        assert filled.shape == table.shape
    for column_name in table.columns:
        kept = allowed(lambda column_name=column_name: model.sample(like=table, fix=[column_name], steps=1))
        if kept is not None:
            same = kept[column_name].isna() == table[column_name].isna().to_numpy()
            assert same.all()


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::pandas.errors.PerformanceWarning")
@QUIET
@given(odd_tables(), THINGS, NAMES | THINGS)
def test_only_documented_exceptions_escape_from_fit(table, kind, label):
    model = TabularDiffusion(settings=TINY)
    allowed(lambda: model.fit(table, steps=1))
    allowed(lambda: model.fit(table, label=label, steps=1))
    allowed(lambda: model.fit(some_table(), kinds={"t": kind, "n": kind}, steps=1))
    allowed(lambda: model.fit(some_table(), kinds=kind, steps=1))
    allowed(lambda: model.fit(kind))


ARGUMENTS = ("n", "label", "labels", "like", "fix", "guidance_weight", "guidance_interval", "steps", "seed", "balance")


@QUIET
@given(
    st.sampled_from(["None", "small", "flag", "age", "['t', 'small']"]),
    st.dictionaries(st.sampled_from(ARGUMENTS), THINGS | st.lists(SCALARS, max_size=3), min_size=1, max_size=3),
)
def test_only_documented_exceptions_escape_from_sample(models, name, arguments):
    large = isinstance(arguments.get("n"), int) and arguments["n"] > 1000
    arguments = {"n": 2, "steps": 1} | arguments | ({"n": 2} if large else {})
    if isinstance(arguments["steps"], int) and arguments["steps"] > 1000:
        return
    allowed(lambda: models[name].sample(**arguments))


@QUIET
@given(
    st.sampled_from(["x", "n", "d", "took", "c", "t", "m", "flag", "absent"]),
    THINGS.filter(lambda thing: not isinstance(thing, dict | tuple)),
    NAMES,
)
def test_only_documented_exceptions_escape_from_constraints(name, thing, other):
    ranges = [allowed(lambda: Range(name, thing, None)), allowed(lambda: Range(name, None, thing))]
    for rule in [*ranges, Inequality(name, other), thing]:
        model = TabularDiffusion(settings=TINY)
        model.constraints = (rule,)
        allowed(lambda model=model: model.fit(some_table(), steps=1))


def test_text_dates_in_other_tables_are_refused_with_the_call_that_helps():
    table = pd.DataFrame({"d": pd.date_range("2024", periods=40), "x": np.r_[np.nan, np.arange(39.0)]})
    model = TabularDiffusion(settings=TINY).fit(table, steps=2)
    message = r"column 'd' has dtype .*, expected datetime64\[.*\]: convert it with pandas\.to_datetime"
    for dates in (["2024-01-01", None], pd.Series(["2024-01-01", None], dtype=object), [5.0, None]):
        given_ = pd.DataFrame({"d": dates, "x": [1.0, 2.0]})
        with pytest.raises(ValueError, match=message):
            model.impute(given_)
        with pytest.raises(ValueError, match=message):
            model.sample(like=given_.head(1), fix=["d"])
    for dates in ([pd.Timestamp("2024-01-01"), None], [datetime.datetime(2024, 1, 1), None]):
        given_ = pd.DataFrame({"d": pd.Series(dates, dtype=object), "x": [1.0, 2.0]})
        assert model.impute(given_)["d"].dtype == table["d"].dtype
        assert model.sample(like=given_.head(1), fix=["d"])["d"].dtype == table["d"].dtype
    days = pd.DataFrame({"d": pd.Series([datetime.date(2024, 1, 1), None], dtype=object), "x": [1.0, 2.0]})
    assert model.impute(days)["d"].iloc[0] == datetime.date(2024, 1, 1)


@pytest.mark.parametrize(("known", "other"), [(None, "UTC"), ("Europe/Paris", None)])
def test_dates_with_and_without_a_zone_are_not_mixed(known, other):
    dates = pd.Series(pd.date_range("2024", periods=40))
    model = TabularDiffusion(settings=TINY).fit(pd.DataFrame({"d": dates.dt.tz_localize(known)}), steps=2)
    given_ = pd.DataFrame({"d": dates.dt.tz_localize(other).mask(dates.index == 3)})
    for table in (given_, given_.astype(object)):
        message = r"column 'd' has dtype .*, expected datetime64\[us.*\]: convert it with Series\.dt\.tz_localize\("
        with pytest.raises(ValueError, match=message):
            model.impute(table)
        with pytest.raises(ValueError, match=message):
            model.sample(like=table.head(3), fix=["d"])


@pytest.mark.parametrize("value", [10**400, -(10**400)])
def test_a_label_beyond_every_float_is_refused(models, value):
    with pytest.raises(ValueError, match="label column 'age' holds an integer that no float64 holds"):
        models["age"].sample(2, label=value, steps=1)


def test_sentences_show_plain_values():
    table = some_table()
    cases = [
        ("small", {"n": 1, "label": np.int8(7)}, r"no training row has label 7, expected one of \d, \d, \d$"),
        (
            "flag",
            {"n": 1, "label": np.int64(7)},
            "no training row has label 7, expected one of (True|False), (True|False)",
        ),
        (
            ["t", "small"],
            {"n": 1, "label": {"small": np.int8(9)}},
            r"no training row has label \{'small': 9\}, expected",
        ),
        ("age", {"n": 2, "label": 10**6}, "label 'age' is 1000000, expected 1[89] to 8[789] as in training"),
        ("age", {"labels": [50, -1]}, "label 'age' is -1, expected 1[89] to 8[789] as in training"),
        ("small", {"n": np.int64(-1)}, "n is -1, expected a number of rows"),
        ("small", {"n": 1, "seed": np.int64(-1)}, "seed is -1, expected an integer"),
        ("small", {"n": 1, "guidance_weight": np.float32(np.inf)}, "guidance_weight is inf, expected a finite number"),
    ]
    for label, arguments, message in cases:
        model = TabularDiffusion(settings=TINY).fit(table, label=label, steps=1)
        with pytest.raises(ValueError, match=message):
            model.sample(**arguments)
    model = TabularDiffusion(settings=TINY).fit(table, steps=1)
    for given_, message in (
        (pd.DataFrame({"n": [3.5]}), "column 'n' holds 3.5, expected integers$"),
        (pd.DataFrame({"n": [2.0**63]}), r"column 'n' holds 9\.2.*e\+18, expected integers below 2\^63"),
        (pd.DataFrame({"n": [-1e30]}), r"column 'n' holds -1e\+30, expected integers at least -2\^63"),
    ):
        with pytest.raises(ValueError, match=message):
            model.sample(like=given_, fix=["n"])


def test_more_rows_widen_the_labels_that_may_be_asked_for():
    table = some_table()
    model = TabularDiffusion(settings=TINY).fit(table, label="age", steps=1)
    older = table.assign(age=table["age"] + 40)
    model.fit(older, label="age", steps=1, warm_start=True)
    assert model.sample(2, label=120, steps=1)["age"].tolist() == [120, 120]
    assert model.sample(2, label=20, steps=1)["age"].tolist() == [20, 20]


def test_constraints_on_decimals_and_days_are_stored(tmp_path):
    prices = [Decimal(place % 7) / 4 for place in range(ROWS)]
    table = pd.DataFrame({"price": pd.Series(prices, dtype=object), "x": range(ROWS)})
    rules = [FixedCombinations(("price",), table), Range("price", Decimal("0"), None)]
    model = TabularDiffusion(settings=TINY, constraints=rules).fit(table, steps=1)
    model.save(tmp_path / "m.safetensors")
    loaded = TabularDiffusion.load(tmp_path / "m.safetensors")
    assert loaded.constraints[1] == rules[1]
    pd.testing.assert_frame_equal(loaded.sample(9, seed=0), model.sample(9, seed=0))


def test_errors_of_a_predicate_of_ones_own_keep_their_type():
    def wrong(rows):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        TabularDiffusion(settings=TINY, constraints=[Predicate("mine", wrong)]).fit(some_table(), steps=1)
