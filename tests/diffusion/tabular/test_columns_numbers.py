"""The map of numbers to a normal scale: shape, tails, grids and spikes."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from cfdg_diffusion.tabular.columns import TableCodec
from cfdg_diffusion.tabular.columns.components import CodecSettings, code_words, learn_component, nearest_word
from cfdg_diffusion.tabular.columns.grid import learn_grid
from cfdg_diffusion.tabular.columns.numbers import NormalMap, learn_map

ROWS = 4000
NO_BOUNDS = (-math.inf, math.inf)
FLOAT64 = np.dtype(np.float64)


def draws(seed=0):
    return np.random.default_rng(seed)


def learn(values, bounds=NO_BOUNDS, cell=0.0, knots=1000):
    distinct, counts = np.unique(np.asarray(values, dtype=np.float64), return_counts=True)
    return learn_map(distinct, counts, cell, bounds, knots)


def component(values, mode="auto", bounds=NO_BOUNDS):
    return learn_component(np.asarray(values), mode, FLOAT64, bounds, CodecSettings())


def distance_from_normal(z):
    """Kolmogorov and Smirnov's distance."""
    z = np.sort(z)
    share = torch.special.ndtr(torch.as_tensor(z, dtype=torch.float64)).numpy()
    ranks = np.arange(len(z) + 1) / len(z)
    return max(np.abs(share - ranks[1:]).max(), np.abs(share - ranks[:-1]).max())


SHAPES = {
    "normal": lambda rng, n: rng.normal(5, 3, n),
    "lognormal": lambda rng, n: rng.lognormal(0, 2, n),
    "pareto": lambda rng, n: rng.pareto(1.2, n),
    "cauchy": lambda rng, n: rng.standard_cauchy(n),
    "uniform": lambda rng, n: rng.random(n),
    "two humps": lambda rng, n: np.where(rng.random(n) < 0.3, rng.normal(-50, 1, n), rng.normal(50, 1, n)),
    "far from 0": lambda rng, n: 1e9 + rng.gamma(2, 1, n),
    "tiny": lambda rng, n: rng.gamma(0.3, 1e-200, n),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_model_space_is_near_normal_for_training_rows_and_for_fresh_ones(shape):
    scale = learn(SHAPES[shape](draws(), ROWS))
    assert distance_from_normal(scale.encode(SHAPES[shape](draws(), ROWS))) < (0.005 if shape != "tiny" else 0.01)
    assert distance_from_normal(scale.encode(SHAPES[shape](draws(1), ROWS))) < 2.3 / math.sqrt(ROWS)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_map_is_increasing_and_has_an_inverse_inside_and_outside_the_data(shape):
    values = SHAPES[shape](draws(), ROWS)
    scale = learn(values)
    z = np.linspace(-4.2, 4.2, 5001)
    decoded = scale.decode(z)
    assert (np.diff(decoded) > 0).all()
    np.testing.assert_allclose(scale.encode(decoded), z, atol=1e-5 if shape != "far from 0" else 0.01)
    np.testing.assert_allclose(scale.decode(scale.encode(values)), values, rtol=1e-9, atol=1e-12 * np.abs(values).max())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e300, 1e300), min_size=2, max_size=60, unique=True), st.integers(1, 30))
def test_any_numbers_give_a_monotone_finite_map_that_holds_its_training_rows(values, times):
    scale = learn(np.repeat(values, times))
    decoded = scale.decode(np.concatenate([np.linspace(-40, 40, 801), [-1e38, 1e38]])[np.argsort(np.r_[1:802, 0, 802])])
    assert np.isfinite(decoded).all()
    assert (np.diff(decoded) >= -1e-12 * np.ptp(decoded)).all()
    ordered = np.sort(values)
    encoded = scale.encode(ordered)
    assert (np.diff(encoded) >= -1e-12).all()
    assert np.isfinite(encoded).all()
    error = np.abs(scale.decode(encoded) - ordered)
    assert error.max() <= 1e-6 * (ordered[-1] / 2 - ordered[0] / 2)


@pytest.mark.parametrize("index", [1.2, 2.0, 4.0])
def test_tails_extrapolate_beyond_the_training_range_as_the_truth_does(index):
    """Pareto: P(X > x) = x^-index, so the quantile at 1 - q is q^(-1 / index)."""
    ratios = []
    for seed in range(8):
        scale = learn(draws(seed).random(ROWS) ** (-1 / index))
        z = -torch.special.ndtri(torch.tensor([1 / (2 * ROWS), 1 / (50 * ROWS)], dtype=torch.float64)).numpy()
        truth = np.array([1 / (2 * ROWS), 1 / (50 * ROWS)]) ** (-1 / index)
        ratios.append(np.log10(scale.decode(z) / truth))
    assert np.abs(np.median(ratios, axis=0)).max() < 0.3  # a factor of two
    assert np.abs(ratios).max() < 1.0  # never another order of magnitude


def test_light_and_bounded_tails_do_not_become_heavy():
    z = np.array([4.5])
    assert learn(draws().normal(size=ROWS)).decode(z) == pytest.approx(4.5, abs=1)
    assert learn(draws().random(ROWS)).decode(z) < 1.01
    assert learn(-draws().exponential(size=ROWS)).decode(-z) == pytest.approx(-12.6, rel=0.3)  # log of P(Z < -4.5)


def test_a_bounded_number_approaches_its_bound_and_never_passes_it():
    values = draws().gamma(0.7, size=ROWS)
    bounded = learn(values, (0.0, math.inf))
    free = learn(values)
    z = np.array([-1e30, -9.0, -6.0, -5.0, -4.0])
    assert bounded.decode(z)[0] == 0
    assert (np.diff(bounded.decode(z)[1:]) > 0).all()
    assert (bounded.decode(z) >= 0).all()
    share = bounded.decode(torch.special.ndtri(torch.tensor([1e-3, 1e-5], dtype=torch.float64)).numpy())
    assert 1e-5 < share[1] / share[0] < 1e-1  # near 0 the quantile goes as q^(1 / 0.7): 1.4e-3 of it
    assert np.abs(free.encode(np.array([values.min()]))) < 5
    edge = learn(np.append(values, 0.0), (0.0, math.inf))
    assert edge.decode(edge.encode(np.zeros(1)))[0] == 0


def test_outliers_of_a_sampler_reach_no_further_than_a_hundred_tables_would():
    scale = learn(draws().pareto(1.2, ROWS))
    limit = scale.decode(np.array([100.0]))[0]
    assert limit == scale.decode(np.array([1e30]))[0]
    assert limit < 30 * (100 * ROWS) ** (1 / 1.2)


def test_twenty_rows_are_enough_for_a_sensible_map():
    values = draws(3).lognormal(3, 1, 20)
    scale = learn(values, (0.0, math.inf))
    assert distance_from_normal(scale.encode(values)) < 0.1
    fresh = scale.decode(draws(4).normal(size=10_000))
    assert fresh.min() >= 0
    assert np.median(fresh) == pytest.approx(np.median(values), rel=0.3)
    assert values.max() < fresh.max() < 20 * values.max()


@pytest.mark.parametrize(
    ("values", "decimals", "step"),
    [
        (np.array([3, 4, 9]), 0, 1),
        (np.arange(100, 2000, 50), 0, 50),
        (np.arange(20) * 0.25 + 7, 2, 25),
        (np.array([0.1, 0.35, 12.0]), 2, 1),
        (np.arange(-9.0, 9.0), 0, 1),
        (np.arange(10, 50) / 1e7, 7, 1),
    ],
)
def test_the_grid_of_integers_and_decimals_is_found_and_comes_back_exactly(values, decimals, step):
    grid = learn_grid(values, len(values), FLOAT64)
    assert (grid.decimals, grid.step) == (decimals, step)
    index = grid.index(values)
    assert (grid.values(index.astype(np.float64)) == values).all()
    assert (grid.index(values + 0.3 * step / 10**decimals) == index).all() or values.dtype == np.int64


def test_float32_decimals_are_seen_through_the_digits_that_float64_adds():
    values = np.unique(draws().gamma(2, 20, 500).round(2).astype(np.float32)).astype(np.float64)
    assert learn_grid(values, 500, np.dtype(np.float32)).decimals == 2
    assert learn_grid(values, 500, FLOAT64) is None


def test_continuous_numbers_have_no_grid_and_standardised_integers_are_those_seen():
    assert learn_grid(np.sort(draws().normal(size=50)), 50, FLOAT64) is None
    counts = draws().poisson(20, 2000)
    values = (counts - counts.mean()) / counts.std()
    made = component(values)
    assert made.grid is not None
    decoded = made.decode(draws(1).normal(size=(5000, made.width)).astype(np.float32))
    assert set(decoded) <= set(values)
    assert (made.decode(made.encode(values, draws(2))) == values).all()


def test_integers_are_spread_over_their_cells_and_come_out_normal():
    values = draws().poisson(3, 5000)
    made = component(values, "numbers", (0, math.inf))
    z = made.encode(values, draws(1))
    assert not len(made.levels)
    assert distance_from_normal(z[:, 0]) < 0.012
    assert not (z == made.encode(values, draws(2))).all()
    fresh = made.decode(draws(3).normal(size=(50_000, 1)).astype(np.float32))
    for value in range(9):
        assert (fresh == value).mean() == pytest.approx((values == value).mean(), abs=0.01)
    assert fresh.min() >= 0


@pytest.mark.parametrize("width", [100, 10_000, 2**20])
def test_integers_come_back_exactly_up_to_a_million_of_them(width):
    values = draws().integers(-width // 2, width, 20_000)
    made = component(values, "numbers")
    assert (made.decode(made.encode(values, draws(1))) == values).all()


def test_spikes_stand_beside_the_number_and_keep_their_share():
    rng = draws()
    values = np.where(rng.random(ROWS) < 0.6, 0.0, np.where(rng.random(ROWS) < 0.1, 99999.0, rng.lognormal(8, 1, ROWS)))
    made = component(values, bounds=(0, math.inf))
    assert list(made.levels) == [0.0, 99999.0]
    assert made.words.shape == (3, 3)
    rows = made.encode(values, draws(1))
    decoded = made.decode(rows + 0.2 * draws(2).normal(size=rows.shape).astype(np.float32))
    for spike in made.levels:
        assert (decoded == spike).mean() == pytest.approx((values == spike).mean(), abs=0.01)
    assert (rows[np.isin(values, made.levels), -1] == 0).all()
    assert distance_from_normal(rows[~np.isin(values, made.levels), -1]) < 0.005


def test_a_smooth_histogram_of_integers_has_no_spikes_and_a_heaped_one_has():
    smooth = draws().poisson(10, 5000)
    assert not len(component(smooth).levels)
    heaped = np.append(smooth, np.full(2000, 12))
    assert list(component(heaped).levels) == [12]
    inflated = np.append(draws().poisson(4, 5000) + 1, np.zeros(4000, dtype=np.int64))
    assert list(component(inflated).levels) == [0]


def test_a_few_frequent_numbers_are_levels_unless_they_are_to_be_numbers():
    values = draws().integers(0, 3, 1000)
    assert component(values).scale is None
    assert component(values, "numbers").scale is not None
    assert component(values[:29]).scale is not None


@pytest.mark.parametrize("levels", [25, 100, 1000, 4096])
def test_code_words_of_many_levels_differ_in_eight_signs_and_take_at_most_24_dimensions(levels):
    words = code_words(np.full(levels, 1 / levels), CodecSettings(one_hot_levels=2))
    assert 13 <= words.shape[1] <= 24
    chosen = words[draws().choice(levels, min(levels, 300), replace=False)]
    squares = np.square(chosen[:, None] - chosen[None]).sum(axis=2) + 1e9 * np.eye(len(chosen))
    side = np.ptp(words, axis=0)[0]
    assert squares.min() >= 8 * side**2 * (1 - 1e-5)
    noisy = words + 0.6 * side * np.sign(draws().normal(size=words.shape)) * (np.arange(words.shape[1]) < 3)
    assert (nearest_word(noisy.astype(np.float32), words) == np.arange(levels)).all()  # three wrong signs are mended


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=60), st.floats(0.5, 3))
def test_code_words_have_mean_zero_and_the_spread_asked_for_unless_the_gap_gets_too_wide(counts, spread):
    shares = np.array(counts) / sum(counts)
    words = code_words(shares, CodecSettings(spread=spread)).astype(np.float64)
    assert len(np.unique(words, axis=0)) == len(counts) if len(counts) > 1 else words.shape == (1, 0)
    assert np.abs(shares @ words).max(initial=0) < 1e-5
    deviation = math.sqrt(shares @ np.square(words).sum(axis=1) / max(words.shape[1], 1))
    gap = min((np.linalg.norm(words[0] - other) for other in words[1:]), default=0)
    assert deviation <= spread * (1 + 1e-5)
    assert gap >= 5.9 or len(counts) == 1 or deviation == pytest.approx(spread, rel=1e-4)


def test_ties_go_to_the_first_word():
    words = code_words(np.full(4, 0.25), CodecSettings())
    assert nearest_word(np.zeros((3, 4), dtype=np.float32), words).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("name", "value"),
    [("one_hot_levels", 1), ("spread", 0.0), ("spike_share", -1.0), ("most_knots", 1), ("spread", math.nan)],
)
def test_settings_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=name):
        CodecSettings(**{name: value})


def test_the_map_is_restored_from_its_state():
    scale = learn(draws().pareto(1.2, 300), (0.0, math.inf))
    z = np.linspace(-9, 9, 100)
    assert (NormalMap.restore(scale.state()).decode(z) == scale.decode(z)).all()


@pytest.mark.parametrize(
    ("values", "step"),
    [
        ([1000, 2000, 3000, 5000, 8000], 1000),
        ([1000.0, 2000.0, 5000.0], 1000),
        ([10, 20, 30, 50, 80], 10),
        ([5, 10, 15, 30, 60], 1),
        ([20_000, 50_000], 1),
        ([2, 4, 8, 14, 20, 26], 1),
    ],
)
def test_few_values_have_a_step_where_it_is_no_accident(values, step):
    table = pd.DataFrame({"cost": np.repeat(values, 4)})
    codec = TableCodec.learn(table, {"cost": "integer"})
    assert_frame_equal(codec.decode(codec.encode(table, draws(1))), table)
    made = codec.decode(draws(2).normal(size=(2000, codec.width)))["cost"]
    assert (made % step == 0).all()
    assert step == 1 or made.nunique() > len(values), "other multiples are possible"
    assert step > 1 or (made % 5 > 0).any()


def test_a_step_of_few_values_leaves_levels_alone():
    values = draws().choice([1000, 2000, 3000, 5000, 8000], 5000)
    codec = TableCodec.learn(pd.DataFrame({"cost": values}))
    assert set(codec.decode(draws(2).normal(size=(2000, codec.width)))["cost"]) == set(values)


def test_few_whole_hours_of_few_rows_stay_whole():
    hours = np.datetime64("2024-01-01", "s") + draws().choice([8, 9, 11, 14], 20) * np.timedelta64(3600, "s")
    days = draws(1).integers(0, 300, 20) * np.timedelta64(86_400, "s")
    codec = TableCodec.learn(pd.DataFrame({"when": hours + days}))
    assert (codec.decode(draws(2).normal(size=(2000, codec.width)))["when"].dt.minute == 0).all()
