"""Constraints: kept in every row, counted, stored in the file, and refused when they make no sense."""

import json
from datetime import date, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from dateutil.tz import gettz

from cfdg_diffusion import (
    DiffusionSettings,
    FixedCombinations,
    Inequality,
    Predicate,
    Range,
    TabularDiffusion,
    TabularSettings,
)
from cfdg_diffusion.tabular.columns import CodecSettings
from cfdg_diffusion.tabular.constraint_files import constraint_state, restore_constraint
from cfdg_diffusion.tabular.constraints import broken
from cfdg_diffusion.tabular.rejection import SampleReport, draw_until_met
from cfdg_diffusion.tabular.schema import TableSchema

TINY = TabularSettings(
    diffusion=DiffusionSettings(width=16, blocks=1, batch_size=32, sampling_steps=8, guidance_weight=0.0)
)
COUNTRY = {"paris": "fr", "nice": "fr", "rome": "it", "oslo": "no"}


def stays(rows=500):
    rng = np.random.default_rng(0)
    start = pd.Timestamp("2024-01-01", tz="Europe/Paris") + pd.to_timedelta(rng.integers(0, 300, rows), "D")
    city = pd.Series(rng.choice(list(COUNTRY), rows))
    return pd.DataFrame(
        {
            "start": start,
            "end": start + pd.to_timedelta(rng.integers(0, 30, rows), "D"),
            "city": city,
            "country": city.map(COUNTRY).astype("category"),
            "price": rng.lognormal(4, 1, rows).round(2),
            "y": rng.choice(["a", "b"], rows),
        }
    )


@pytest.fixture(scope="module")
def table():
    return stays()


def rules(table):
    return [
        Inequality("start", "end"),
        FixedCombinations(("city", "country"), table),
        Range("price", 0, 500),
        Range("start", pd.Timestamp("2024-01-01", tz="Europe/Paris"), None),
    ]


@pytest.fixture(scope="module")
def model(table):
    return TabularDiffusion(settings=TINY, constraints=rules(table)).fit(table, label="y", steps=250)


def test_hard_constraints_are_broken_in_no_row_and_counted(model, table):
    made = model.sample(1500, seed=0)
    assert not broken(made, rules(table))[0].any()
    assert model.rejected["start <= end"] > 0
    assert model.rejected["known (city, country)"] > 0
    assert 0 < model.repaired <= 1500
    assert model.unmet == 0
    assert made.dtypes.tolist() == table.dtypes.tolist()
    assert made.index.equals(pd.RangeIndex(1500))
    pd.testing.assert_frame_equal(made, model.sample(1500, seed=0))


def test_without_constraints_nothing_is_rejected(table):
    model = TabularDiffusion(settings=TINY).fit(table, steps=3)
    model.sample(50)
    assert (model.rejected, model.repaired) == ({}, 0)


def test_labels_stay_as_asked_while_rows_are_drawn_again(model):
    asked = pd.Series(["a", "b"] * 200)
    assert model.sample(labels=asked, seed=0)["y"].tolist() == asked.tolist()
    assert model.repaired > 0


def test_streams_count_over_all_tables(model):
    parts = list(model.stream(300, chunk=100, seed=0))
    whole = model.repaired
    model.sample(100)
    assert whole > model.repaired > 0
    assert not any(broken(part, model.constraints)[0].any() for part in parts)


def test_a_rare_event_is_found():
    """Rejection is exact: the accepted draws are the model's own, conditioned on the constraint."""
    rng = np.random.default_rng(0)
    tally = SampleReport()
    rare = Predicate("rare", lambda rows: (rows["u"] > 0.995).to_numpy())
    table = draw_until_met(
        lambda places: pd.DataFrame({"u": rng.random(len(places)), "place": places}), 400, [rare], tally
    )
    assert table["place"].tolist() == list(range(400))
    assert table["u"].min() > 0.995
    assert table["u"].mean() == pytest.approx(0.9975, abs=4 * 0.005 / 12**0.5 / 20)
    assert tally.repaired >= 390
    assert tally.rejected["rare"] > 40_000
    assert tally.unmet == 0


def test_imputing_obeys_constraints_where_it_fills_and_counts_what_cannot_be(model, table):
    holes = table.head(80).copy()
    holes.loc[:39, "country"] = None
    holes.loc[40:, "price"] = np.nan
    filled = model.impute(holes, seed=0)
    assert (filled["country"].astype(str) == filled["city"].map(COUNTRY)).all()
    assert filled.loc[40:, "price"].between(0, 500).all()
    assert model.unmet == 0
    holes.loc[0, "end"] = holes.loc[0, "start"] - pd.Timedelta(1, "D")  # given, and none of its business
    assert model.impute(holes, seed=0).loc[0, "end"] == holes.loc[0, "end"]
    assert model.unmet == 0
    impossible = holes.head(3).assign(price=np.nan)
    model.constraints = (Range("price", 1e6),)
    try:
        assert model.impute(impossible)["price"].notna().all()
        assert model.unmet == 3
    finally:
        model.constraints = tuple(rules(table))


def test_what_is_given_is_kept_though_it_breaks_a_constraint(model, table):
    given = table.head(20).assign(end=table["start"].head(20) - pd.Timedelta(1, "D"))
    made = model.sample(like=given, fix=["start", "end", "city"], seed=0)
    assert (made["end"] < made["start"]).all()
    assert (made["country"].astype(str) == made["city"].map(COUNTRY)).all(), "the others count"
    assert made["price"].between(0, 500).all()
    with pytest.raises(RuntimeError, match="start <= end"):
        model.sample(like=given.assign(start=given["start"] + pd.Timedelta(9999, "D")), fix=["start"], seed=0)


def test_a_file_keeps_constraints_but_no_code(model, table, tmp_path):
    path = tmp_path / "model.safetensors"
    model.save(path)
    loaded = TabularDiffusion.load(path)
    assert [rule.name for rule in loaded.constraints] == [rule.name for rule in model.constraints]
    pd.testing.assert_frame_equal(loaded.sample(400, seed=2), model.sample(400, seed=2))
    model.constraints = (*model.constraints, Predicate("cheap", lambda rows: (rows["price"] < 400).to_numpy()))
    try:
        model.save(path)
    finally:
        model.constraints = model.constraints[:-1]
    with pytest.raises(ValueError, match="had the constraint 'cheap', which is code and never stored: give all"):
        TabularDiffusion.load(path)
    assert TabularDiffusion.load(path, constraints=()).constraints == ()


@pytest.mark.parametrize(
    "rule",
    [
        Range("x", 0, 5.5),
        Range("x", None, np.int64(3)),
        Range("t", pd.Timestamp("2024-03-31 01:00", tz="Europe/Paris"), pd.Timestamp("2025-01-01", tz="Europe/Paris")),
        Range("t", pd.Timestamp("2024-03-31"), np.datetime64("2025-01-01")),
        Range("d", pd.Timedelta(3, "h")),
        Inequality("low", 3, strict=True),
        Range("t", None, np.datetime64("12024-01-01", "s")),
        Range("t", pd.Timestamp(np.datetime64("12024-01-01", "s")).tz_localize("UTC")),
        Range("t", pd.Timestamp("2024-07-01", tz=gettz("Europe/Paris"))),
        Range("t", datetime(2024, 1, 1, 3), datetime(2024, 1, 1, 3, 30)),
        Range("d", timedelta(hours=3), np.timedelta64(2**50, "s")),
        Range("i", pd.Interval(0.1, 1.5), pd.Interval(pd.Timestamp("2024-01-01"), pd.Timestamp("2024-02-01"), "both")),
    ],
)
def test_rules_come_back_from_json(rule):
    state = json.loads(json.dumps(constraint_state(rule)))
    assert restore_constraint(state) == rule


def test_combinations_come_back_from_json_with_gaps_and_dates():
    known = pd.DataFrame({"a": [1, 2, 2], "b": [None, "x", "x"], "t": pd.to_datetime(["2024-01-01", None, None])})
    rule = FixedCombinations(("a", "b", "t"), known)
    assert len(rule.known) == 2, "no row is kept twice"
    back = restore_constraint(json.loads(json.dumps(constraint_state(rule))))
    other = known.assign(b=["y", "x", None])
    for each in (rule, back):
        assert each.holds(known).all()
        assert each.holds(other).tolist() == [False, True, False]


def test_combinations_of_intervals_and_far_dates_are_stored_with_the_model(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=200)
    until = np.where(x > 1, "12024-01-01", np.where(x > 0, "2024-02-29", "2024-01-01")).astype("M8[s]")
    table = pd.DataFrame({"x": x, "band": pd.cut(x, 5), "until": until, "g": rng.choice(["a", "b"], 200)})
    table.loc[0, "band"] = None
    rules = [FixedCombinations(("band", "until"), table), Range("until", None, np.datetime64("12024-01-01", "s"))]
    model = TabularDiffusion(settings=TINY, constraints=rules).fit(table, steps=30)
    model.save(tmp_path / "model.safetensors")
    loaded = TabularDiffusion.load(tmp_path / "model.safetensors")
    made = loaded.sample(100, seed=0)
    assert loaded.rejected["known (band, until)"] > 0
    assert not broken(made, rules)[0].any()
    pd.testing.assert_frame_equal(made, model.sample(100, seed=0))
    assert not broken(table, loaded.constraints)[0].any()


def test_a_bound_with_a_time_in_an_older_file_is_read():
    state = {"type": "range", "column": "t", "low": {"date": "2024-01-01T03:00:00"}, "high": {"date": "2024-01-02"}}
    assert restore_constraint(state) == Range("t", pd.Timestamp("2024-01-01 03:00"), date(2024, 1, 2))


def test_nullable_numbers_are_compared_and_gaps_allowed():
    table = pd.DataFrame({"n": pd.array([1, None, 9], dtype="Int64"), "m": pd.array([0, 4, 12], dtype="Int64")})
    assert Range("n", 0, 5).holds(table).tolist() == [True, True, False]
    assert Inequality("n", "m").holds(table).tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (Range("prize", 0), "constraint '0 <= prize' names column 'prize', which is not in the table, expected one of"),
        (Inequality("start", "price"), "constraint 'start <= price' cannot be tested on this table"),
        (Predicate("odd", lambda rows: np.ones(3)), "constraint 'odd' gave float64 of shape"),
        (
            Predicate("lost", lambda rows: rows["prize"] > 0),
            "constraint 'lost' cannot be tested on this table: 'prize'",
        ),
    ],
)
def test_constraints_that_make_no_sense_are_refused_before_the_training(table, rule, message):
    with pytest.raises(ValueError, match=message):
        TabularDiffusion(settings=TINY, constraints=[rule]).fit(table, steps=10**9)


def test_combinations_of_columns_that_are_not_there_are_refused(table):
    with pytest.raises(ValueError, match="the known rows have no column 'town'"):
        FixedCombinations(("town", "country"), table)


def written_stays(pattern, rows=300):
    rng = np.random.default_rng(0)
    start = pd.Series(pd.Timestamp("2023-01-01") + pd.to_timedelta(rng.integers(0, 700, rows), "D"))
    end = start + pd.to_timedelta(rng.integers(0, 30, rows), "D")
    texts = pd.DataFrame({"start": start.dt.strftime(pattern), "end": end.dt.strftime(pattern)})
    return texts.assign(x=rng.normal(size=rows))


def dates_of(table, pattern):
    return table[["start", "end"]].apply(lambda texts: pd.to_datetime(texts.astype(str).str.zfill(8), format=pattern))


@pytest.mark.parametrize(
    ("pattern", "dtype", "low", "high"),
    [
        ("%d.%m.%Y", "str", "15.06.2023", pd.Timestamp("2024-06-30")),
        ("%d.%m.%Y", "string[pyarrow]", np.datetime64("2023-06-15"), "30.06.2024"),
        ("%d%m%Y", "int64", 15062023, 30062024),
        ("%Y%m%d", "Int64", 20230615, pd.Timestamp("2024-06-30")),
    ],
)
def test_dates_as_text_or_whole_numbers_are_compared_as_dates(pattern, dtype, low, high, tmp_path):
    if "pyarrow" in str(dtype):
        pytest.importorskip("pyarrow")
    table = written_stays(pattern).astype({"start": dtype, "end": dtype})
    rules = [Inequality("start", "end"), Range("start", low, high)]
    kinds = dict.fromkeys(("start", "end"), f"datetime:{pattern}")
    model = TabularDiffusion(settings=TINY, constraints=rules).fit(table, kinds=kinds, steps=60)
    path = tmp_path / "model.safetensors"
    model.save(path)
    loaded = TabularDiffusion.load(path)
    made = model.sample(200, seed=0)
    assert model.rejected["start <= end"] > 0
    assert list(model.rejected) == [rule.name for rule in rules]
    dates = dates_of(made, pattern)
    assert (dates["start"] <= dates["end"]).all()
    assert dates["start"].between(pd.Timestamp("2023-06-15"), pd.Timestamp("2024-06-30")).all()
    assert made.dtypes.tolist() == table.dtypes.tolist()
    pd.testing.assert_frame_equal(loaded.sample(200, seed=0), made)
    holes = table.head(30).astype({"end": object}).assign(end=None)
    filled = dates_of(model.impute(holes, seed=0), pattern)
    assert (filled["start"] <= filled["end"]).all()


def test_training_dates_in_order_break_no_rule():
    table = written_stays("%d.%m.%Y").assign(seen=pd.Timestamp("2022-12-31"))
    table.loc[3, "start"] = None
    schema = TableSchema.learn(table, None, {"start": "datetime", "end": "datetime"}, CodecSettings())
    rules = [Inequality("start", "end"), Inequality("seen", "start"), Range("end", "01.01.2023")]
    assert not broken(table, schema.comparing(rules))[0].any()
    assert broken(table, rules[:1])[0].any(), "as text they are in no order"


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            Range("start", "2023-06-15"),
            "<= start' holds '2023-06-15', expected a date written %d.%m.%Y",
        ),
        (Inequality("start", "x"), "constraint 'start <= x' cannot be tested on this table"),
    ],
)
def test_dates_are_compared_with_dates_alone(rule, message):
    kinds = {"start": "datetime:%d.%m.%Y"}
    with pytest.raises(ValueError, match=message):
        TabularDiffusion(settings=TINY, constraints=[rule]).fit(written_stays("%d.%m.%Y"), kinds=kinds, steps=10**9)
