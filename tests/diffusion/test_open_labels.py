"""Cells are given and the label is not: it is drawn from p(label | cells)."""

import numpy as np
import pandas as pd
import pytest

from cfdg_diffusion import DiffusionSettings, TabularDiffusion, TabularSettings
from cfdg_diffusion.open_labels import nearest_labels

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
    one, other = rng.random(4000) < 0.5, rng.random(4000) < 0.3
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
