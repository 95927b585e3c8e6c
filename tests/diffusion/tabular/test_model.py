"""TabularDiffusion: what comes out looks like what went in, obeys what was asked, and survives a file."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cfdg_diffusion.edm.conditional import DiffusionSettings
from cfdg_diffusion.tabular import TabularDiffusion, TabularSettings
from cfdg_diffusion.tabular.constraints import FixedCombinations, Inequality, Predicate, Range
from cfdg_diffusion.tabular.request import Balance

COUNTRY = {"paris": "fr", "rome": "it", "oslo": "no"}
SMALL = TabularSettings(diffusion=DiffusionSettings(width=64, blocks=2, batch_size=128, guidance_weight=0.0))


def people(rows=600, seed=0):
    rng = np.random.default_rng(seed)
    city = rng.choice(list(COUNTRY), rows, p=[0.5, 0.3, 0.2])
    table = pd.DataFrame(
        {
            "age": rng.integers(18, 90, rows),
            "city": pd.Categorical(city, categories=[*COUNTRY, "bern"]),
            "country": pd.Series(city).map(COUNTRY),
            "income": np.where(rng.random(rows) < 0.3, 0, np.exp(rng.normal(10, 1, rows))).round(2),
            "member": pd.array(rng.random(rows) < 0.4, dtype="boolean"),
            "since": pd.Timestamp("2020-01-01", tz="Europe/Paris") + pd.to_timedelta(rng.integers(0, 900, rows), "D"),
            "class": np.where(rng.random(rows) < 0.1, "rare", "common"),
        },
    )
    table.loc[table.index[rng.random(rows) < 0.1], "income"] = np.nan
    return table.set_index(pd.RangeIndex(10, rows + 10))


@pytest.fixture(scope="module")
def table():
    return people()


@pytest.fixture(scope="module")
def model(table):
    return TabularDiffusion(seed=1, settings=SMALL).fit(table, label="class", steps=600)


def match(made):
    return (made["city"].astype(str).map(COUNTRY) == made["country"]).mean()


def test_names_order_and_dtypes_survive(model, table):
    made = model.sample(400, seed=0)
    assert list(made.columns) == list(table.columns)
    assert made.dtypes.tolist() == table.dtypes.tolist()
    assert made["city"].cat.categories.tolist() == table["city"].cat.categories.tolist()
    assert made["income"].dropna().round(2).equals(made["income"].dropna())
    assert (made["income"] == 0).mean() == pytest.approx(0.27, abs=0.12)
    assert made["income"].isna().mean() == pytest.approx(0.1, abs=0.08)
    assert match(made) > 0.9


def test_dtypes_are_known_without_drawing_rows(model, table):
    drawn = model.sample(3, seed=0)
    pd.testing.assert_series_equal(model.dtypes, drawn.dtypes)
    pd.testing.assert_series_equal(model.dtypes, table.dtypes)
    after = model.sample(3)
    model.sample(3, seed=0)
    _ = model.dtypes
    pd.testing.assert_frame_equal(model.sample(3), after)
    with pytest.raises(ValueError, match="the model has not been fitted, expected fit"):
        _ = TabularDiffusion().dtypes


def test_labels_come_exactly_as_asked_and_with_their_frequencies(model, table):
    assert (model.sample(50, label="rare")["class"] == "rare").all()
    shares = model.sample(1000)["class"].value_counts(normalize=True)
    assert shares["rare"] == pytest.approx((table["class"] == "rare").mean(), abs=0.002)
    assert model.sample(100, balance=True)["class"].value_counts().tolist() == [50, 50]
    asked = pd.Series(["rare", "common", "rare"])
    assert model.sample(labels=asked)["class"].tolist() == asked.tolist()


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(model, table):
    assert model.sample(40, seed=5).equals(model.sample(40, seed=5))
    assert not model.sample(40, seed=5).equals(model.sample(40, seed=6))
    again = TabularDiffusion(seed=1, settings=SMALL).fit(table, label="class", steps=30)
    once = TabularDiffusion(seed=1, settings=SMALL).fit(table, label="class", steps=30)
    assert once.sample(20).equals(again.sample(20))


def test_streamed_tables_add_up(model):
    parts = list(model.stream(25, chunk=10, seed=0))
    assert [len(part) for part in parts] == [10, 10, 5]


@pytest.mark.parametrize("chunk", [1, 2, 4, 7, 100])
def test_labels_are_balanced_over_all_tables_of_a_stream(chunk):
    table = people(90).assign(group=list("abc" * 30))
    model = TabularDiffusion(settings=SMALL).fit(table[["age", "group"]], label="group", steps=1)
    for n in (2, 20, 22):
        parts = list(model.stream(n, chunk=chunk, seed=0, balance=True, steps=1))
        counts = pd.concat(parts)["group"].value_counts().reindex(list("abc"), fill_value=0)
        assert counts.sum() == n
        assert counts.max() - counts.min() <= 1
        again = model.stream(n, chunk=chunk, seed=0, balance=np.True_, steps=1)
        assert pd.concat(again).equals(pd.concat(parts))


def test_balance_goes_on_where_the_rows_before_ended(model, table):
    balance = Balance()
    asked = {"balance": balance, "steps": 1}
    parts = [model.sample(3, **asked), model.sample(like=table.head(5), fix=["age"], **asked), model.sample(1, **asked)]
    assert pd.concat(parts)["class"].value_counts().tolist() in ([5, 4], [4, 5])
    assert model.sample(4, label="rare", **asked)["class"].tolist() == ["rare"] * 4


def test_fixed_columns_are_kept_and_others_go_with_them(model, table):
    like = table.head(200)
    made = model.sample(like=like, fix=["city", "age"], seed=0)
    assert made["city"].tolist() == like["city"].tolist()
    assert made["age"].tolist() == like["age"].tolist()
    assert match(made) > 0.9, "the country follows the city"
    both = model.sample(like=like, fix=["class", "age"], seed=0)
    assert both["class"].tolist() == like["class"].tolist()


def test_imputing_fills_what_is_missing_and_nothing_else(model, table):
    holes = table.head(120).copy()
    holes.loc[holes.index[:40], "country"] = None
    filled = model.impute(holes, seed=0)
    assert not filled.isna().to_numpy().any()
    there = holes["income"].notna()
    assert filled.loc[there, "income"].equals(holes.loc[there, "income"])
    assert filled.index.equals(holes.index)
    assert match(filled.iloc[:40]) > 0.85


def test_a_file_gives_the_same_model(model, tmp_path):
    model.save(tmp_path / "model.safetensors")
    loaded = TabularDiffusion.load(tmp_path / "model.safetensors")
    assert loaded.sample(50, seed=3).equals(model.sample(50, seed=3))
    assert loaded.describe() == model.describe()
    assert loaded.history == model.history


def test_bad_files_are_refused(model, tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(FileNotFoundError, match="is not a file"):
        TabularDiffusion.load(path)
    model.save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="cut short"):
        TabularDiffusion.load(path)
    model._fitted.network.save(path)
    with pytest.raises(ValueError, match="no tabular model"):
        TabularDiffusion.load(path)


def test_constraints_hold_in_every_row_and_rejections_are_counted(model, table):
    def no_members_in_oslo(rows):
        return ~((rows["member"].fillna(False)) & (rows["city"] == "oslo")).to_numpy(bool)

    model.constraints = (
        FixedCombinations(("city", "country"), table),
        Range("age", 30, 60),
        Predicate("no members in oslo", no_members_in_oslo),
    )
    try:
        made = model.sample(300, seed=0)
    finally:
        model.constraints = ()
    assert made["age"].between(30, 60).all()
    assert match(made) == 1
    assert no_members_in_oslo(made).all()
    assert model.rejected["30 <= age <= 60"] > 100


def test_inequalities_between_columns():
    both = pd.DataFrame({"low": [1.0, 2.0, np.nan], "high": [1.0, 1.0, 0.0]})
    assert Inequality("low", "high").holds(both).tolist() == [True, False, True]
    assert Inequality("low", "high", strict=True).holds(both).tolist() == [False, False, True]


def test_a_constraint_that_nothing_fulfils_ends_in_one_sentence(model):
    model.constraints = (Predicate("never", lambda rows: np.zeros(len(rows), bool)),)
    try:
        with pytest.raises(RuntimeError, match="5 of 5 rows still break a constraint, most of them 'never'"):
            model.sample(5)
    finally:
        model.constraints = ()


def test_numeric_labels_are_binned_and_several_columns_combined():
    table = people(300)
    binned = TabularDiffusion(settings=SMALL).fit(table, label="age", steps=400)
    assert len(binned.schema.labels) == 10
    assert binned.sample(200, label=85)["age"].mean() > 70
    both = TabularDiffusion(settings=SMALL).fit(table, label=["class", "member"], steps=20)
    made = both.sample(40, label={"class": "rare", "member": True})
    assert (made["class"] == "rare").all()
    assert made["member"].all()
    assert list(made.columns) == list(table.columns)


@pytest.mark.parametrize(
    "make",
    [
        lambda: people(20)[["age", "income"]],
        lambda: people(1)[["age", "city"]],
        lambda: people(60)[["city", "country", "class"]],
        lambda: people(60).assign(constant=3)[["constant"]],
        lambda: pd.DataFrame(np.random.default_rng(0).normal(size=(40, 200))),
        lambda: pd.DataFrame({"level": [f"level {i % 1000}" for i in range(3000)]}),
    ],
    ids=["twenty-rows", "one-row", "only-categories", "constant", "two-hundred-columns", "a-thousand-levels"],
)
def test_hard_tables(make):
    table = make()
    made = TabularDiffusion(settings=SMALL).fit(table, steps=10).sample(7)
    assert made.shape == (7, table.shape[1])
    assert made.dtypes.tolist() == table.dtypes.tolist()


def test_a_class_of_five_rows():
    table = people(200).assign(group=["few"] * 5 + ["many"] * 195)
    model = TabularDiffusion(settings=SMALL).fit(table, label="group", steps=20)
    assert (model.sample(30, label="few")["group"] == "few").all()


def test_training_stops_early_on_the_held_out_loss_and_keeps_the_best_weights():
    noise = pd.DataFrame(np.random.default_rng(0).normal(size=(210, 12)))
    model = TabularDiffusion(settings=replace(SMALL, patience=3)).fit(noise, steps=6000)
    assert model.history.stopped == "early"
    assert model.history.steps[-1] < 6000
    best = int(np.argmin(model.history.held_out))
    assert model.history.best_step == model.history.steps[best] < model.history.steps[-1]


def test_training_ends_with_its_time_or_when_the_callback_says(table):
    model = TabularDiffusion(settings=SMALL).fit(table, steps=5_000, time_budget=0.5)
    assert model.history.stopped == "time"
    seen = []
    model.fit(table, steps=500, callback=lambda history: seen.append(len(history.steps)) or len(seen) == 3)
    assert (seen, model.history.stopped) == ([1, 2, 3], "callback")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.iloc[:0], "the table has no rows"),
        (lambda t: t.assign(income=np.inf), "income"),
        (lambda t: pd.concat([t, t[["age"]]], axis=1), "'age' comes twice"),
        (lambda t: t.assign(tags=[[1]] * len(t)), "tags"),
    ],
)
def test_tables_that_cannot_be_learnt_name_the_column(table, change, message):
    with pytest.raises(ValueError, match=message):
        TabularDiffusion(settings=SMALL).fit(change(table), steps=5)


def test_wrong_questions_get_one_sentence(model, table):
    with pytest.raises(ValueError, match="not been fitted"):
        TabularDiffusion().sample(3)
    with pytest.raises(ValueError, match="unheard"):
        model.sample(3, label="unheard")
    with pytest.raises(ValueError, match="label names column 'klass'"):
        TabularDiffusion(settings=SMALL).fit(table, label="klass")
    plain = TabularDiffusion(settings=SMALL).fit(table, steps=5)
    with pytest.raises(ValueError, match="fitted without label"):
        plain.sample(3, label="rare")


def test_a_numeric_label_that_is_a_category_is_not_binned(tmp_path):
    rng = np.random.default_rng(0)
    codes = pd.Series(rng.choice(np.arange(100, 500, 10), 400))
    table = pd.DataFrame({"code": codes, "x": rng.normal(size=400)})
    model = TabularDiffusion(settings=SMALL).fit(table, label="code", kinds={"code": "category"}, steps=10)
    assert model.schema.title == "400 rows, 40 labels of code"
    assert not model.schema.labels.is_binned
    model.save(tmp_path / "model.safetensors")
    made = TabularDiffusion.load(tmp_path / "model.safetensors").sample(200, seed=0)
    assert set(made["code"]) <= set(codes)
    assert made["code"].dtype == codes.dtype
    with pytest.raises(ValueError, match="no training row has label 105"):
        model.sample(3, label=105)
    binned = TabularDiffusion(settings=SMALL).fit(table, label="code", kinds={"code": "integer"}, steps=1)
    assert binned.schema.labels.is_binned


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        ({"class": "nonsense"}, "column 'class' cannot be read as 'nonsense', expected category or text for str"),
        ({"class": "datetime"}, "column 'class' holds 'rare' and the like, expected dates of one usual format"),
        ({"klass": "category"}, "kinds names column 'klass', expected one of the table's columns"),
    ],
)
@pytest.mark.parametrize("columns", [["class"], ["class", "age"]])
def test_kinds_of_labels_are_checked(kinds, message, columns):
    with pytest.raises(ValueError, match=message):
        TabularDiffusion(settings=SMALL).fit(people(60)[columns], label="class", kinds=kinds, steps=10**9)
