"""The hard columns, each through fit, save, load and sample; three steps where nothing depends on what is learnt."""

import numpy as np
import pandas as pd
import pytest

from cfdg_diffusion import DiffusionSettings, TabularDiffusion, TabularSettings

TINY = TabularSettings(
    diffusion=DiffusionSettings(width=16, blocks=1, batch_size=32, sampling_steps=12, guidance_weight=0.0)
)
N = 400
RNG = np.random.default_rng(0)


def beside(values):
    """The column ``h`` beside a number and a category."""
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"x": rng.normal(size=N), "y": rng.choice(["a", "b"], N)})
    return table.assign(h=values)


def through(tmp_path, table, rows=200, steps=3, **options):
    """A sample of the model that was read back, which is what the model itself samples."""
    model = TabularDiffusion(settings=TINY).fit(table, steps=steps, **options)
    model.save(tmp_path / "model.safetensors")
    loaded = TabularDiffusion.load(tmp_path / "model.safetensors")
    made = loaded.sample(rows, seed=1)
    pd.testing.assert_frame_equal(made, model.sample(rows, seed=1))
    assert made.columns.equals(table.columns)
    assert made.columns.name == table.columns.name
    assert made.dtypes.tolist() == table.dtypes.tolist()
    return made


def test_heavy_tails_reach_beyond_the_training_range(tmp_path):
    table = beside(np.random.default_rng(2).standard_t(1.5, N))
    made = through(tmp_path, table, rows=20_000)["h"]
    assert made.max() > table["h"].max()
    assert made.min() < table["h"].min()
    assert np.isfinite(made).all()


def test_skew_keeps_its_sign(tmp_path):
    table = beside(np.random.default_rng(2).exponential(1e6, N) ** 2)
    made = through(tmp_path, table, rows=2_000)["h"]
    assert made.min() >= 0
    assert made.mean() > 2 * made.median()


@pytest.mark.parametrize("spike", [0.0, 40.5])
def test_a_spike_is_met_exactly_and_the_rest_is_not_drawn_to_it(tmp_path, spike):
    rng = np.random.default_rng(2)
    made = through(tmp_path, beside(np.where(rng.random(N) < 0.8, spike, rng.exponential(1, N) + 41)))["h"]
    assert (made == spike).any()
    assert (made[made != spike] > 40.9).all()


def test_constant_columns_come_back(tmp_path):
    made = through(tmp_path, beside(3).assign(g="a"))
    assert (made["h"] == 3).all()
    assert (made["g"] == "a").all()
    assert (through(tmp_path, beside(3)[["h"]])["h"] == 3).all()


@pytest.mark.parametrize("missing", [np.nan, pd.NaT, pd.array([pd.NA] * N, "Int64"), np.array([None] * N, object)])
def test_a_column_without_any_value_stays_so(tmp_path, missing):
    table = beside(missing)
    assert through(tmp_path, table)["h"].isna().all()
    model = TabularDiffusion(settings=TINY).fit(table, steps=3)
    assert model.impute(table.head(5))["h"].isna().all()


def test_a_thousand_levels(tmp_path):
    table = beside([f"level {index}" for index in range(N)])
    table = pd.concat([table, table.assign(h=[f"level {index}" for index in range(N, 2 * N)])] * 2, ignore_index=True)
    table = pd.concat([table, table.assign(h=table["h"] + "b")], ignore_index=True)
    assert table["h"].nunique() == 1600
    assert set(through(tmp_path, table)["h"]) <= set(table["h"])


def test_two_hundred_columns(tmp_path):
    rng = np.random.default_rng(2)
    numbers = {f"n{index}": rng.normal(size=50).round(2) for index in range(100)}
    flags = {f"c{index}": rng.choice(["u", "v", "w"], 50) for index in range(100)}
    made = through(tmp_path, pd.DataFrame({**numbers, **flags}))
    assert np.isfinite(made[list(numbers)]).all(axis=None)


@pytest.mark.parametrize("columns", [["y"], ["x"], ["y", "h"], ["x", "n"]])
def test_tables_of_one_kind(tmp_path, columns):
    table = beside(RNG.choice(["c", "d"], N)).assign(n=RNG.integers(0, 99, N))
    through(tmp_path, table[columns])


def test_a_table_of_nothing_but_its_label(tmp_path):
    table = beside(0)[["y"]]
    made = through(tmp_path, table, label="y")
    assert made["y"].value_counts(normalize=True)["a"] == pytest.approx((table["y"] == "a").mean(), abs=0.01)


@pytest.mark.parametrize("rows", [1, 2, 20])
def test_few_rows(tmp_path, rows):
    made = through(tmp_path, beside(RNG.normal(size=N)).head(rows), label="y")
    assert set(made["y"]) <= {"a", "b"}


def test_a_class_of_five_rows_is_held_out_by_nobody(tmp_path):
    table = beside(["few"] * 5 + ["many"] * (N - 5))
    model = TabularDiffusion(settings=TINY).fit(table, label="h", steps=3)
    assert model.schema.labels.counts.tolist() in ([5, N - 5], [N - 5, 5])
    assert (model.sample(30, label="few")["h"] == "few").all()
    through(tmp_path, table, label="h")


def test_a_dependency_between_categories_is_learnt(tmp_path):
    """The one test here that trains: a city is in one country."""
    rng = np.random.default_rng(2)
    city = rng.integers(0, 12, 1500)
    table = pd.DataFrame(
        {"city": np.char.add("c", city.astype(str)), "country": np.char.add("k", (city // 4).astype(str))}
    )
    settings = TabularSettings(diffusion=DiffusionSettings(width=64, blocks=2, batch_size=128, guidance_weight=0.0))
    made = TabularDiffusion(settings=settings).fit(table, steps=400).sample(2000, seed=0)
    home = table.drop_duplicates().set_index("city")["country"]
    assert (made["city"].map(home) != made["country"]).mean() < 0.05


@pytest.mark.parametrize("unit", ["s", "ns"])
def test_dates_with_a_zone_whose_clock_changes(tmp_path, unit):
    minutes = pd.to_timedelta(np.random.default_rng(2).integers(0, 10**6, N), "min")
    times = (pd.Timestamp("2020-03-28", tz="America/New_York") + minutes).as_unit(unit)
    made = through(tmp_path, beside(times))["h"]
    assert (made.dt.second == 0).all()


def test_durations(tmp_path):
    made = through(tmp_path, beside(pd.to_timedelta(np.random.default_rng(2).integers(0, 10**5, N), "h")))["h"]
    assert (made >= pd.Timedelta(0)).all()


@pytest.mark.parametrize("dtype", ["Int64", "UInt8", "Float32", "boolean", "string", "str", "object"])
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_nullable_types_with_and_without_gaps(tmp_path, dtype, share):
    rng = np.random.default_rng(2)
    flags = pd.Series(rng.random(N) < 0.5)
    values = flags if dtype == "boolean" else pd.Series(rng.integers(0, 90, N))
    column = (values.astype(str) if dtype in ("string", "str", "object") else values).astype(dtype)
    made = through(tmp_path, beside(column.mask(rng.random(N) < share)))["h"]
    assert made.notna().all() or share > 0


def test_ordered_categories_keep_unused_levels_and_never_use_them(tmp_path):
    made = through(tmp_path, beside(pd.Categorical(RNG.choice(list("ab"), N), list("cab"), ordered=True)), steps=100)[
        "h"
    ]
    assert made.cat.categories.tolist() == list("cab")
    assert made.cat.ordered
    assert set(made) == {"a", "b"}


def test_mixed_objects_keep_the_type_of_each_value(tmp_path):
    values = np.array([1, "1", 2.5], dtype=object)
    made = through(tmp_path, beside(pd.Series(RNG.choice(values, N), dtype=object)))["h"]
    assert {(type(value), value) for value in made} <= {(type(value), value) for value in values}


def test_column_names_that_are_numbers_and_an_index_of_its_own(tmp_path):
    table = beside(RNG.normal(size=N)).set_axis([3, "3", 0.5], axis=1).rename_axis(columns="feature")
    table.index = pd.MultiIndex.from_arrays([np.zeros(N, int), RNG.integers(0, 5, N)])
    made = through(tmp_path, table)
    assert made.index.equals(pd.RangeIndex(200))
    assert [type(name) for name in made.columns] == [int, str, float]


def test_column_names_that_are_tuples_are_refused_by_name():
    table = beside(0)[["x", "h"]]
    table.columns = pd.MultiIndex.from_tuples([("a", "b"), ("a", "c")])
    with pytest.raises(ValueError, match=r"column \('a', 'b'\) has a name of type tuple, expected text"):
        TabularDiffusion(settings=TINY).fit(table, steps=3)


def test_integers_beyond_what_a_float_holds(tmp_path):
    table = beside(np.random.default_rng(2).integers(2**53, 2**62, N))
    made = through(tmp_path, table)["h"]
    assert made.dtype == np.int64
    assert (made >= 0).all()
    model = TabularDiffusion(settings=TINY).fit(table, steps=3)
    assert model.sample(like=table.head(9), fix=["h"])["h"].tolist() == table["h"].head(9).tolist()
    with pytest.raises(ValueError, match="column 'h' holds 9223372036854775813, expected integers below 2"):
        TabularDiffusion(settings=TINY).fit(table.assign(h=np.uint64(2**63 + 5)), steps=3)


@pytest.mark.parametrize("scale", [1e-300, 1e-310, 1e-30, 1e304])
def test_very_small_and_very_large_numbers(tmp_path, scale):
    table = beside(np.random.default_rng(2).normal(size=N) * scale)
    made = through(tmp_path, table)["h"]
    assert np.isfinite(made).all()
    assert made.abs().max() <= min(scale, 1e305) * 1000


def test_a_numeric_label_with_many_equal_values_has_bins_that_all_have_rows(tmp_path):
    rng = np.random.default_rng(2)
    table = beside(np.where(rng.random(N) < 0.9, 0.0, rng.exponential(1, N)))
    model = TabularDiffusion(settings=TINY).fit(table, label="h", steps=3)
    assert model.schema.labels.is_binned
    assert model.schema.labels.counts.min() > 0
    assert len(model.sample(20, balance=True)) == 20
    through(tmp_path, table, label="h")


def test_a_numeric_label_is_met_exactly_when_it_is_asked_for():
    table = beside(np.random.default_rng(2).normal(size=N).round(3))
    model = TabularDiffusion(settings=TINY).fit(table, label="h", steps=3)
    assert model.sample(5, label=0.25)["h"].tolist() == [0.25] * 5
    asked = pd.Series([0.1, -0.2, 2.5], index=[5, 5, 6])
    assert model.sample(labels=asked)["h"].tolist() == asked.tolist()
    assert model.sample(labels=list(asked))["h"].tolist() == asked.tolist()


def with_holes(values, dtype):
    return pd.Series(values).astype(dtype).mask(np.arange(N) % 8 == 3)


HOLED_LABELS = {
    "text": with_holes(np.resize(["a", "b"], N), object),
    "string": with_holes(np.resize(["a", "b"], N), "string"),
    "category": with_holes(np.resize(["a", "b"], N), "category"),
    "boolean": with_holes(np.resize([True, False], N), "boolean"),
    "whole": with_holes(np.resize([1, 2, 3], N), "Int64"),
    "number": with_holes(np.resize([0.5, 1.5], N), float),
    "bins": with_holes(np.random.default_rng(3).normal(size=N).round(3), float),
    "nullable bins": with_holes(np.arange(N), "Int64"),
}


@pytest.mark.parametrize("label", HOLED_LABELS)
def test_a_missing_label_is_a_label(tmp_path, label):
    table = beside(HOLED_LABELS[label])
    through(tmp_path, table, label="h")
    model = TabularDiffusion.load(tmp_path / "model.safetensors")
    labels = model.schema.labels
    missing = labels.find(np.nan)
    assert labels.counts[missing].tolist() == [N // 8]
    assert (labels.encode(table) == missing).tolist() == table["h"].isna().tolist()
    for asked in (np.nan, pd.NA, {"h": None}):
        made = model.sample(6, label=asked)["h"]
        assert made.isna().all()
        assert made.dtype == table["h"].dtype
    assert model.sample(labels=[None, None])["h"].isna().all()
    some = table["h"].head(12)
    for given in (some, some.astype(object), some.tolist()):
        assert model.sample(labels=given)["h"].isna().tolist() == some.isna().tolist()
    made = model.sample(like=table.head(12), fix=["h"])
    assert made["h"].isna().tolist() == some.isna().tolist()
    assert made["h"].dtype == some.dtype


@pytest.mark.parametrize("label", ["text", "bins"])
def test_a_missing_label_tells_what_other_cells_are_and_is_not_filled(label):
    table = beside(HOLED_LABELS[label])
    table["x"] = np.where(table["h"].isna(), 50.0, 0.0) + table["x"]
    diffusion = DiffusionSettings(width=64, blocks=2, batch_size=128, sampling_steps=12, guidance_weight=0.0)
    model = TabularDiffusion(settings=TabularSettings(diffusion=diffusion)).fit(table, label="h", steps=400)
    assert model.sample(100, label=np.nan)["x"].median() > 40
    assert model.sample(300)["h"].isna().mean() == pytest.approx(1 / 8, abs=0.04)
    holes = table.assign(x=np.nan)
    filled = model.impute(holes)
    pd.testing.assert_series_equal(filled["h"], table["h"])
    assert filled["x"][table["h"].isna()].median() > 40
    assert filled["x"][table["h"].notna()].median() < 10


def test_a_missing_label_that_training_had_not_is_refused_and_its_hole_filled():
    whole = pd.Series(np.arange(N, dtype=float))
    model = TabularDiffusion(settings=TINY).fit(beside(whole), label="h", steps=2)
    message = "label column 'h' holds nan, expected finite numbers as in training"
    with pytest.raises(ValueError, match=message):
        model.sample(3, label=np.nan)
    assert model.impute(beside(whole.mask(whole == 3)))["h"].notna().all()
    with pytest.raises(ValueError, match="label column 'h' holds inf, expected finite numbers"):
        model.fit(beside(whole.replace(3, np.inf)), label="h", steps=2)
