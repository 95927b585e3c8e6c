"""Cells are given and the label is not, or is missing: it is drawn from p(label | cells)."""

import numpy as np
import pandas as pd
import pytest

from cfdg_diffusion import DiffusionSettings, TabularDiffusion, TabularSettings
from cfdg_diffusion.tabular.label_draws import nearest_labels

SMALL = TabularSettings(diffusion=DiffusionSettings(width=32, blocks=1, batch_size=128, guidance_weight=0.0))


def test_the_share_of_each_label_is_its_posterior():
    """Two unit Gaussians at 0 and 2 with shares 3/4 and 1/4; Bayes' rule at each given x."""
    rng = np.random.default_rng(0)
    labels = (rng.random(40_000) < 0.25).astype(np.int64)
    pool = np.stack([rng.normal(2.0 * labels), np.full(40_000, np.nan)], axis=1)
    for x in (-1.0, 0.5, 1.0, 1.5, 3.0):
        given = np.stack([rng.uniform(x - 0.1, x + 0.1, 5_000), np.full(5_000, np.nan)], axis=1)
        found = nearest_labels(given, pool, labels, rng)
        odds = np.exp(2 * x - 2) / 3
        assert found.mean() == pytest.approx(odds / (1 + odds), abs=0.04)


def test_ties_are_broken_at_random():
    labels = np.repeat([0, 1, 0, 1], [600, 400, 100, 900])
    pool = np.repeat([[0.0], [1.0]], 1000, axis=0)
    found = nearest_labels(np.repeat([[0.0], [1.0]], 5000, axis=0), pool, labels, np.random.default_rng(0))
    assert found[:5000].mean() == pytest.approx(0.4, abs=0.06)
    assert found[5000:].mean() == pytest.approx(0.9, abs=0.06)


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(0)
    label = rng.choice(3, 3000, p=[0.7, 0.2, 0.1])
    told = np.where(rng.random(3000) < 0.9, label, rng.choice(3, 3000))
    table = pd.DataFrame({"told": np.array(["p", "q", "r"])[told], "x": rng.normal(size=3000)})
    return TabularDiffusion(settings=SMALL).fit(table.assign(y=np.array(["a", "b", "c"])[label]), label="y", steps=400)


def test_labels_go_with_the_cells_that_are_kept(model):
    given = pd.DataFrame({"told": ["r"] * 600 + ["p"] * 600})
    made = model.sample(like=given, fix=["told"], seed=0)
    assert made["told"].tolist() == given["told"].tolist()
    own = model.sample(20_000, seed=1)
    for told, part in made.groupby("told"):
        expected = own["y"][own["told"] == told].value_counts(normalize=True)
        assert abs(part["y"].value_counts(normalize=True) - expected).max() < 0.06
    assert (made["y"][:600] == "c").mean() > 0.5, "one row in ten is"
    again = model.sample(like=given, fix=["told"], seed=0)
    pd.testing.assert_frame_equal(made, again)


def test_a_label_that_is_asked_for_stays(model):
    given = pd.DataFrame({"told": ["r"] * 30})
    assert set(model.sample(like=given, fix=["told"], label="b", seed=0)["y"]) == {"b"}
    assert model.sample(like=given, fix=["told"], balance=True, seed=0)["y"].value_counts().tolist() == [10, 10, 10]
    assert len(model.sample(like=given.head(0), fix=["told"])) == 0


def test_a_label_column_that_is_not_kept_goes_with_the_cells_and_with_the_label_column_that_is():
    """``told`` says ``one`` only where ``other`` is "yes", and the opposite where ``other`` is "no"."""
    rng = np.random.default_rng(0)
    one = rng.random(4000) < 0.5
    other = rng.random(4000) < 0.3
    told = np.where(rng.random(4000) < 0.95, one ^ ~other, rng.random(4000) < 0.5)
    table = pd.DataFrame({"told": np.where(told, "t", "f"), "x": rng.normal(size=4000)})
    table = table.assign(one=np.where(one, "1", "0"), other=np.where(other, "yes", "no"))
    model = TabularDiffusion(settings=SMALL).fit(table, label=["one", "other"], steps=400)
    given = pd.DataFrame({"told": ["t", "f"] * 400, "other": ["yes"] * 400 + ["no"] * 400})
    made = model.sample(like=given, fix=["told", "other"], seed=0)
    pd.testing.assert_frame_equal(made[["told", "other"]], given)
    agree = (made["one"] == "1") == (made["told"] == "t")
    assert agree[:400].mean() > 0.85
    assert agree[400:].mean() < 0.15


def test_the_kept_label_column_may_leave_one_label():
    """One label column of two is kept and every value of it comes with one value of the other."""
    table = pd.DataFrame({"a": list("uvw") * 40, "b": list("xyz") * 40, "n": np.arange(120.0)})
    model = TabularDiffusion(settings=SMALL).fit(table, label=["a", "b"], steps=5)
    made = model.sample(like=table.head(3), fix=["n", "a"], seed=0)
    assert made["b"].tolist() == ["x", "y", "z"]


def test_a_missing_label_is_imputed_from_the_cells_that_are_there(model):
    """Rows that miss the label, or the label and one of two features; the posterior is that of the model's own rows."""
    rng = np.random.default_rng(1)
    holes = pd.DataFrame({"told": ["r"] * 600 + ["p"] * 600, "x": rng.normal(size=1200), "y": pd.Series([None] * 1200)})
    holes.loc[::3, "x"] = np.nan
    holes.loc[5, "y"] = "a"
    filled = model.impute(holes, seed=0)
    assert not filled.isna().any().any()
    assert filled.loc[5, "y"] == "a"
    pd.testing.assert_frame_equal(filled[["told"]], holes[["told"]])
    assert filled["x"][holes["x"].notna()].equals(holes["x"].dropna())
    own = model.sample(20_000, seed=1)
    for told, part in filled.drop(index=5).groupby("told"):
        expected = own["y"][own["told"] == told].value_counts(normalize=True)
        assert abs(part["y"].value_counts(normalize=True).reindex(expected.index).fillna(0) - expected).max() < 0.08
    pd.testing.assert_frame_equal(filled, model.impute(holes, seed=0))


def test_one_of_two_label_columns_is_imputed_in_the_dtype_of_training():
    rng = np.random.default_rng(0)
    code = rng.integers(1, 4, 900)
    flag = rng.random(900) < 0.5
    table = pd.DataFrame({"x": code + 0.1 * rng.normal(size=900), "code": code, "flag": flag})
    model = TabularDiffusion(settings=SMALL).fit(table, label=["code", "flag"], steps=400)
    holes = table.head(300).astype({"code": "float64"})
    holes.loc[:200, "code"] = np.nan
    filled = model.impute(holes, seed=0)
    assert filled.dtypes.to_dict() == table.dtypes.to_dict()
    assert filled["flag"].equals(table["flag"].head(300))
    assert (filled["code"] == table["code"].head(300))[:201].mean() > 0.75, "one in three by chance"


def test_a_missing_numeric_label_is_imputed():
    rng = np.random.default_rng(0)
    x = rng.normal(size=1500)
    table = pd.DataFrame({"x": x, "y": 3 * x + 0.2 * rng.normal(size=1500)})
    model = TabularDiffusion(settings=SMALL).fit(table, label="y", steps=600)
    holes = table.head(400).assign(y=np.nan)
    filled = model.impute(holes, seed=0)
    assert filled["x"].equals(holes["x"])
    assert filled["y"].corr(table["y"].head(400)) > 0.9


def test_a_missing_label_that_training_had_stays():
    table = pd.DataFrame({"x": np.arange(60.0), "y": ["a", "b", None] * 20})
    model = TabularDiffusion(settings=SMALL).fit(table, label="y", steps=5)
    holes = table.head(6).assign(x=[np.nan, 1.0, np.nan, 3.0, 4.0, np.nan])
    filled = model.impute(holes, seed=0)
    assert filled["y"].isna().tolist() == [False, False, True] * 2
    assert filled["x"].notna().all()


def test_labels_alone_are_imputed_with_their_frequencies():
    table = pd.DataFrame({"y": ["a"] * 90 + ["b"] * 10, "one": 1})
    model = TabularDiffusion(settings=SMALL).fit(table, label="y")
    filled = model.impute(pd.DataFrame({"y": [None] * 2000, "one": 1}), seed=0)
    assert (filled["y"] == "b").mean() == pytest.approx(0.1, abs=0.03)
