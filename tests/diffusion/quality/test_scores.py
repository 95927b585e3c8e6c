"""Shapes, pair trends, areas under curves and detection against closed forms."""

from math import erf, sqrt

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("sklearn")

from cfdg_diffusion.quality.detection import detection, detection_auc
from cfdg_diffusion.quality.shapes import bars, kolmogorov_smirnov, shape_score, total_variation
from cfdg_diffusion.quality.tables import Column, read_tables
from cfdg_diffusion.quality.trees import area_under_curve
from cfdg_diffusion.quality.trends import association, binned, pair_scores, trends
from cfdg_diffusion.quality.utility import macro_auc, r_squared

NUMBER = Column("x", "number")
LEVELS = Column("c", "category", ("a", "b", "c"))


def normal_cdf(x):
    return (1 + erf(x / sqrt(2))) / 2


def tables(train, synthetic, holdout):
    return read_tables(*(pd.DataFrame(part) for part in (train, synthetic, holdout)), 10)


def test_kolmogorov_smirnov_of_shifted_uniforms_is_the_shift():
    grid = np.arange(1024) / 1024
    assert kolmogorov_smirnov(grid, grid + 0.25) == pytest.approx(0.25)
    assert kolmogorov_smirnov(grid, np.repeat(grid, 3)) == 0
    assert kolmogorov_smirnov(grid, grid + 2) == 1


def test_kolmogorov_smirnov_of_shifted_gaussians_approaches_the_closed_form():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=40_000), rng.normal(1.0, size=40_000)
    assert kolmogorov_smirnov(first, second) == pytest.approx(2 * normal_cdf(0.5) - 1, abs=0.01)


def test_total_variation_of_counts():
    assert total_variation(np.array([6, 4, 0]), np.array([30, 50, 20])) == pytest.approx(0.3)
    assert total_variation(np.array([1, 0]), np.array([0, 7])) == 1


def test_missing_values_count_as_a_level_and_as_a_distance():
    real, other = np.array([0, 0, 1, 1.0]), np.array([0, np.nan, 1, np.nan])
    assert shape_score(LEVELS, real, other) == pytest.approx(0.5)
    assert shape_score(NUMBER, real, other) == pytest.approx(0.5)
    assert shape_score(NUMBER, real, np.full(4, np.nan)) == 0


def test_bars_are_shares_of_the_same_bins():
    rng = np.random.default_rng(1)
    real, synthetic = np.exp(3 * rng.normal(size=3000)), rng.normal(size=1000)
    found = bars(NUMBER, real, np.append(synthetic, np.nan))
    assert len(found.labels) == len(found.real) == len(found.synthetic)
    assert (sum(found.real), sum(found.synthetic)) == pytest.approx((1, 1))
    assert max(found.real) < 0.5  # a long tail does not end in a single bar (even bins: 0.94)
    assert found.synthetic[-1] == pytest.approx(1 / 1001)


def test_a_pair_scores_one_minus_the_total_variation_of_its_joint_table():
    same = {"a": ["x", "y"] * 50, "b": ["u", "v"] * 50}
    crossed = {"a": ["x", "y"] * 50, "b": ["u", "u", "v", "v"] * 25}  # the same columns, no dependence
    found = trends(tables(same, crossed, same), np.random.default_rng(0))
    assert found.mean == pytest.approx(0.5)
    assert found.baseline == 1
    assert found.kept.value == pytest.approx(0, abs=0.1)
    assert found.association_real[0][1] == pytest.approx(1, abs=0.02)
    assert found.association_synthetic[0][1] < 0.1


def test_bins_come_from_the_training_rows_so_heavy_tails_cost_a_real_draw_nothing():
    def draw(seed):
        rng = np.random.default_rng(seed)
        group = rng.integers(0, 3, 4000)
        return {"x": rng.standard_cauchy(4000) + 3 * group, "g": np.array(list("abc"))[group]}

    found = trends(tables(draw(0), draw(1), draw(2)), np.random.default_rng(0))
    assert found.mean == pytest.approx(found.baseline, abs=0.02)
    assert found.mean > 0.95
    assert found.independent < 0.8
    assert found.kept.low < 1 < found.kept.high
    assert found.relative == pytest.approx(1, abs=0.02)


def test_a_spike_has_a_bin_of_its_own():
    rng = np.random.default_rng(3)
    x = np.where(rng.random(5000) < 0.4, 40, rng.normal(40, 10, 5000))[:, None]
    codes = binned((NUMBER,), x, {"x": x}, 10)["x"].values
    assert len(np.unique(codes[x == 40])) == 1
    assert not np.isin(codes[x != 40], codes[x == 40]).any()


def test_levels_nobody_trained_on_are_pooled_apart_from_known_ones():
    train, other = np.array([[0.0], [0], [1], [1]]), np.array([[0.0], [2], [np.nan]])
    codes = binned((LEVELS,), train, {"train": train, "other": other}, 3)
    assert len(np.unique(codes["other"].values)) == 3
    scores = pair_scores(codes["train"], codes["other"])
    assert scores[0, 0] == pytest.approx(1 / 3)


def test_association_is_one_for_a_copy_and_zero_for_noise():
    rng = np.random.default_rng(4)
    values = rng.integers(0, 3, (3000, 2)).astype(float)
    values = np.column_stack([values, (values[:, 0] + 1) % 3])
    columns = (LEVELS,) * 3
    matrix = association(binned(columns, values, {"x": values}, 10)["x"])
    assert matrix[0, 2] == pytest.approx(1, abs=1e-6)
    assert matrix[0, 1] < 0.05
    assert matrix == pytest.approx(matrix.T)


def test_area_under_curve_counts_ties_as_half_and_its_variance_is_delongs():
    rng = np.random.default_rng(5)
    negative, positive = np.round(rng.normal(size=60), 1), np.round(rng.normal(0.7, size=40), 1)
    wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    value, variance = area_under_curve(negative, positive)
    assert value == pytest.approx(wins.mean())
    expected = wins.mean(1).var(ddof=1) / 40 + wins.mean(0).var(ddof=1) / 60
    assert variance == pytest.approx(expected)


def test_detection_of_shifted_gaussians_approaches_the_best_possible_auc():
    rng = np.random.default_rng(6)
    shift = 1.0
    real, synthetic = rng.normal(size=(3000, 2)), rng.normal(size=(3000, 2))
    synthetic[:, 1] += shift
    columns = {"noise": 0, "shifted": 1}
    parts = [{name: part[:, at] for name, at in columns.items()} for part in (real, synthetic)]
    found = detection(tables(parts[0], parts[1], parts[0]), 0)
    best = normal_cdf(shift / sqrt(2))
    assert best - 0.04 < found.auc.value < best + 0.01
    assert found.auc.low < found.auc.value < found.auc.high
    assert found.importance[0][0] == "shifted"
    assert found.importance[0][1] == pytest.approx(found.auc.value - 0.5, abs=0.05)
    x, y = np.array(found.curve).T
    area = (np.diff(x) * (y[1:] + y[:-1]) / 2).sum()
    assert area == pytest.approx(found.auc.value, abs=0.02)


def test_detection_sees_dependence_that_no_column_shows():
    rng = np.random.default_rng(7)
    real = rng.integers(0, 2, (1500, 3)).astype(float)
    real[:, 2] = (real[:, 0] + real[:, 1]) % 2  # every pair is independent, only the triple is not
    synthetic = rng.integers(0, 2, (1500, 3)).astype(float)
    columns = [NUMBER] * 3
    # A real cell holds 1/4 of the real and 1/8 of the synthetic rows: half the synthetic rows are given away.
    assert detection_auc(columns, real, synthetic, 0).value == pytest.approx(0.75, abs=0.03)
    fresh = real[rng.integers(0, 1500, 1500)]
    assert detection_auc(columns, real, fresh, 0).value == pytest.approx(0.5, abs=0.05)


def test_macro_auc_is_the_mean_over_the_classes():
    truth = np.array([0, 0, 1, 1, 2, 2, -1])
    perfect = np.eye(3)[np.maximum(truth, 0)]
    assert macro_auc(truth, perfect) == 1
    blind = perfect.copy()
    blind[:, 2] = 0
    assert macro_auc(truth, blind) == pytest.approx((1 + 1 + 0.5) / 3)
    assert macro_auc(np.zeros(4, int), np.ones((4, 1))) is None


def test_r_squared_of_the_mean_is_zero():
    truth = np.array([1.0, 2, 3, np.nan])
    assert r_squared(truth, np.full(4, 2.0)) == 0
    assert r_squared(truth, truth) == 1
    assert r_squared(np.ones(3), np.ones(3)) is None
