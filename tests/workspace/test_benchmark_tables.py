"""The tables and the arithmetic of the comparison of table generators."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def load():
    """Benchmarks are scripts, not a package: they see each other by their folder."""
    import importlib

    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def tables(load):
    pytest.importorskip("sklearn")
    return load("tables")


@pytest.mark.parametrize("name", ["wine", "breast_cancer", "diabetes", "digits", "mixture"])
def test_halves_are_equal_and_of_different_rows(tables, name):
    split = tables.table(name, 0)
    assert len(split.train) == len(split.holdout)
    assert list(split.train) == list(split.holdout)
    assert split.label in split.train
    assert len(split.train.merge(split.holdout)) == 0
    if split.task == "classification":
        counts = [part[split.label].value_counts() for part in (split.train, split.holdout)]
        assert (counts[0] - counts[1]).abs().max() <= 1


def test_a_table_is_of_its_seed(tables):
    pd.testing.assert_frame_equal(tables.table("wine", 3).train, tables.table("wine", 3).train)
    assert not tables.table("wine", 3).train.equals(tables.table("wine", 4).train)
    with pytest.raises(ValueError, match="no table 'iris', expected one of wine"):
        tables.table("iris", 0)


def test_mixed_keeps_its_laws(tables):
    rows = tables.draw_mixed(20_000, np.random.default_rng(0))
    assert rows.shape == (20_000, 11)
    assert (rows["city"].str[1:].astype(int) // 7 == rows["region"].str[1:].astype(int)).all()
    assert rows.groupby("city")["product"].nunique().max() == 4
    # 0.45 exactly, and those whose rounded hours are 40 by chance: density of a normal of deviation 10 near its mean
    assert (rows["hours"] == 40).mean() == pytest.approx(0.45 + 0.55 * 0.038, abs=0.01)
    assert rows.loc[rows["premium"], "score"].isna().mean() == pytest.approx(0.3, abs=0.015)


def test_broken_dependencies_are_counted(tables):
    train = tables.draw_mixed(2000, np.random.default_rng(0))
    assert tables.dependencies_broken(train, train) == {"city_region": 0, "city_product": 0}
    wrong = train.head(100).assign(region="elsewhere")
    assert tables.dependencies_broken(wrong, train) == {"city_region": 1, "city_product": 0}


def test_the_rare_class_has_250_training_rows(tables):
    train = tables.table("mixture", 1).train
    assert train["class"].value_counts().to_dict() == {"ring": 3750, "crescent": 1000, "rare": 250}


@pytest.mark.parametrize("name", ["ring", "crescent", "rare"])
def test_class_densities_integrate_to_one_and_fit_their_draws(tables, name):
    axis = np.linspace(-7, 7, 561)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    density = np.exp(tables.log_density(name, grid))
    cell = (axis[1] - axis[0]) ** 2
    assert density.sum() * cell == pytest.approx(1, abs=1e-3)
    points = tables.draw(name, 50_000, np.random.default_rng(0))
    assert (density[:, None] * grid).sum(0) * cell == pytest.approx(points.mean(0), abs=0.05)
    assert tables.outside(name, points) == pytest.approx(0.01, abs=0.002)


def test_sliced_wasserstein_of_a_shift_is_its_mean_projection(tables):
    rng = np.random.default_rng(0)
    points = rng.standard_normal((3000, 2))
    assert tables.sliced_wasserstein(points, points, rng) == 0
    # |shift| times the mean of |cos| over the circle, 2 / pi
    found = tables.sliced_wasserstein(points, points + np.array([3.0, 4.0]), rng)
    assert found == pytest.approx(5 * 2 / np.pi, rel=0.1)


def test_missing_numbers_survive_a_library_without_them(load):
    methods = load("tabular_methods")
    rows = pd.DataFrame({"a": [1.0, np.nan, 3.0], "b": ["x", "y", "x"]})
    marked = methods.mark_missing(rows)
    assert marked["a"].tolist() == [1, 2, 3]
    pd.testing.assert_frame_equal(methods.unmark_missing(marked), rows)


def test_forest_codes_return_to_the_table(load):
    methods, peer = load("tabular_methods"), load("peer")
    rows = pd.DataFrame(
        {"x": [0.5, np.nan, 2.5], "three": ["b", "a", "c"], "y": ["n", "m", "n"], "yes": [True, False, True]}
    )
    kinds = peer.kinds_of(rows)
    codes = methods.encode_forest(methods.Job(kinds, "y", "classification", 0, 1.0), rows)
    assert codes.indexes == {"bin_indexes": [2, 3], "cat_indexes": [1], "int_indexes": []}
    generated = np.column_stack([codes.rows, codes.label])
    pd.testing.assert_frame_equal(peer.restored(codes.decode(generated, "y"), kinds), rows, check_dtype=False)


def test_forest_effort_fits_the_budget(load):
    methods = load("tabular_methods")
    for fixed, each in [(0.01, 0.01), (1.0, 0.2), (5.0, 1.0), (2.0, 10.0)]:
        effort = methods.forest_effort(fixed, each, 300, 1000)
        assert effort["n_t"] * (fixed + effort["duplicate_K"] * each) <= 300
    assert methods.forest_effort(0.01, 0.01, 300, 1000) == {"n_t": 50, "duplicate_K": 100, "rows": 1000}
    assert methods.forest_effort(0.0, 60.0, 300, 1000) == {"n_t": 10, "duplicate_K": 1, "rows": 500}


def test_kinds_survive_a_file(load, tmp_path):
    peer = load("peer")
    rows = pd.DataFrame({"i": [1, 2], "f": [0.1, np.nan], "b": [True, False], "c": ["1", "nan-like"]})
    kinds = peer.kinds_of(rows)
    assert kinds == {"i": "integer", "f": "number", "b": "boolean", "c": "category"}
    peer.write_table(rows, tmp_path / "rows.csv")
    read = peer.read_table(tmp_path / "rows.csv", kinds)
    pd.testing.assert_frame_equal(read, rows, check_dtype=False)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


def cell(method, **scores):
    common = {"utility": 0.9, "trends": 0.9, "closest_to_train": 0.5, "copies": 0.0, "real_copies": 0.0}
    return {"table": "wine", "seed": 0, "method": method, "copies_noise": 0.0} | common | scores


def test_bars_ask_for_more_than_the_best_peer(load):
    comparison = load("tabular_comparison")
    cells = [cell("cfdg", detection=0.6), cell("cfdg", detection=0.7), cell("tvae", detection=0.64, utility=0.8)]
    held = {bar.text.split(",")[0]: bar.holds for bar in comparison.bars("wine", comparison.averaged(cells))}
    assert held == {
        "detection AUC 0.6500": False,  # 0.65 against 0.64
        "pair trends 0.9000": False,  # as good is not better
        "TSTR 0.9000": True,
        "closest-to-train share 0.5": True,
        "exact copies 0": True,
    }


def test_a_bar_without_peers_is_not_measured(load):
    comparison = load("tabular_comparison")
    bars = comparison.bars("wine", comparison.averaged([cell("cfdg", detection=0.6)]))
    assert [bar.holds for bar in bars] == [None, None, None, True, True]
    assert "not measured: detection AUC better than every peer" in comparison.compare([cell("cfdg", detection=0.6)])


def test_a_setting_is_changed_wherever_it_is(load):
    pytest.importorskip("sklearn")
    settings = load("settings")
    changed = settings.changed({"patience": 3, "gaussian_rows": 7, "most_knots": 50})
    assert (changed.patience, changed.diffusion.gaussian_rows, changed.codec.most_knots) == (3, 7, 50)
    with pytest.raises(ValueError, match="there is no setting 'depth'"):
        settings.changed({"depth": 3})


def test_settings_are_compared_seed_by_seed(load):
    """Differences of +0.1 and +0.3 on the same seeds: mean 0.2, standard error 0.1."""
    pytest.importorskip("sklearn")
    found = {"default": [{"detection": 0.5}, {"detection": 0.7}], "other": [{"detection": 0.6}, {"detection": 1.0}]}
    lines = load("settings").compared(found).splitlines()
    assert [line.split() for line in lines] == [
        ["detection"], ["default", "0.6"], ["other", "0.8", "(+0.2", "±", "0.1)"]
    ]  # fmt: skip


def test_seeds_of_the_comparison_choose_no_setting(load, monkeypatch, capsys):
    pytest.importorskip("sklearn")
    settings, unseen = load("settings"), load("tabular")._UNSEEN
    for seed in unseen:
        monkeypatch.setattr(sys, "argv", ["settings.py", "--seeds", str(seed)])
        with pytest.raises(SystemExit):
            settings.parse()
        assert "the others are for the comparison" in capsys.readouterr().err
