"""Comparisons: against scipy's own tests, known corrections, and a second implementation of the bootstrap."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cfdg_experiments.reports.comparisons import (
    area_under_curve,
    bootstrap_over_tasks,
    compare,
    holm,
    interquartile_mean,
    optimality_gap,
    paired_mean,
    performance_profile,
    probability_of_improvement,
    profile_band,
)
from cfdg_experiments.reports.statistics import mean_interval, mean_over_tasks

RNG = np.random.default_rng(0)
GAP = RNG.normal(1.0, 2.0, 8)


def test_one_task_gives_the_paired_t_test():
    estimate, p = paired_mean([GAP])
    assert p == pytest.approx(stats.ttest_1samp(GAP, 0.0).pvalue)
    single = mean_interval(GAP)
    assert (estimate.mean, estimate.low, estimate.high) == pytest.approx((single.mean, single.low, single.high))


def test_several_tasks_have_the_interval_of_their_mean_and_p_decides_as_it_does():
    gaps = [RNG.normal(1.0, 1.0, n) for n in (4, 6, 9)]
    estimate, p = paired_mean(gaps)
    other = mean_over_tasks(gaps)
    assert (estimate.low, estimate.high) == pytest.approx((other.low, other.high))
    narrow, _ = paired_mean(gaps, confidence=1 - p)
    assert min(abs(narrow.low), abs(narrow.high)) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("rounding", [0.0, 1e-13])
def test_equal_differences_have_the_p_value_of_their_signs(rounding):
    """Of success rates in steps of 10: two seeds that are better by 20 each are no proof."""
    for n in (2, 3, 5, 6, 10):
        gap = np.full(n, -20.0) + rounding * RNG.uniform(-1, 1, n)
        estimate, p = paired_mean([gap])
        flipped = stats.permutation_test((gap,), np.mean, permutation_type="samples", n_resamples=2**n)
        assert p == flipped.pvalue == 2.0 ** (1 - n)
        assert (estimate.mean, math.isnan(estimate.low), math.isnan(estimate.high)) == (pytest.approx(-20), True, True)
        found = compare({"arm": [np.stack([np.zeros(n), gap])]})[0]
        assert found.verdict == ("worse" if n > 5 else "unresolved")


def test_equal_differences_of_several_tasks():
    assert paired_mean([np.zeros(4)])[1] == 1.0
    assert paired_mean([np.full(3, 1e-14), np.zeros(2)])[1] == 1.0
    assert paired_mean([np.full(3, 10.0), np.full(2, 20.0), np.zeros(5)])[1] == 2.0**-4
    assert paired_mean([np.full(5, 10.0), np.full(5, -30.0)])[1] == 1.0, "tasks disagree"


def test_a_task_of_equal_differences_beside_one_that_varies_has_the_t_test():
    gaps = [np.full(4, 10.0), GAP]
    estimate, p = paired_mean(gaps)
    other = mean_over_tasks(gaps)
    assert (estimate.low, estimate.high) == pytest.approx((other.low, other.high))
    assert p == pytest.approx(2 * stats.t.sf(estimate.mean / (np.std(GAP, ddof=1) / math.sqrt(8) / 2), 7))


def test_holm_of_a_textbook_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([math.nan, 0.02]) == pytest.approx([math.nan, 0.02], nan_ok=True)


def test_nothing_is_better_whose_interval_holds_zero_or_whose_p_does_not_survive_holm():
    seeds = np.arange(6.0)
    clear = [np.stack([seeds, seeds + 5 + 0.1 * np.sin(seeds)])]
    unclear = [np.stack([seeds, seeds + np.array([3, -2, 4, -3, 2, -1])])]
    found = {c.arm: c for c in compare({"clear": clear, "unclear": unclear, "worse": [clear[0][::-1]]})}
    assert [found[arm].verdict for arm in ("clear", "unclear", "worse")] == ["better", "unresolved", "worse"]
    assert (found["clear"].probability, found["worse"].probability) == (1.0, 0.0)
    weak = np.stack([np.zeros(5), np.array([1.0, 2.0, 0.3, 1.4, 0.2])])
    alone = compare({"a": [weak]})[0]
    among = compare({name: [weak] for name in "abcdef"})[0]
    assert (alone.verdict, among.verdict) == ("better", "unresolved")
    assert alone.difference == among.difference


def test_one_seed_resolves_nothing():
    found = compare({"a": [np.array([[1.0], [9.0]])]})[0]
    assert math.isnan(found.p)
    assert found.verdict == "unresolved"


def drawn_by_hand(statistic, strata, rng, draws):
    """The percentile interval of a bootstrap that draws the seeds of each task by its own indices."""
    parts = [stratum[rng.integers(len(stratum), size=(draws, len(stratum)))] for stratum in strata]
    return np.percentile(statistic(np.concatenate(parts, axis=-1)), [2.5, 97.5])


def test_the_bootstrap_agrees_with_one_that_draws_its_own_indices():
    strata = [RNG.normal(mean, 1.0, 7) for mean in (0.0, 1.0, 3.0)]
    ours = bootstrap_over_tasks(interquartile_mean, strata, np.random.default_rng(1), resamples=20_000)
    theirs = drawn_by_hand(interquartile_mean, strata, np.random.default_rng(2), 20_000)
    assert ours.mean == pytest.approx(stats.trim_mean(np.concatenate(strata), 0.25))
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs), abs=0.03)
    again = bootstrap_over_tasks(interquartile_mean, strata, np.random.default_rng(1), resamples=20_000)
    assert again == ours


@given(st.lists(st.floats(-100, 100), min_size=4, max_size=30), st.floats(-10, 10))
def test_the_interquartile_mean_moves_with_its_values(values, shift):
    values = np.array(values)
    assert interquartile_mean(values + shift) == pytest.approx(interquartile_mean(values) + shift, abs=1e-9)
    assert values.min() - 1e-9 <= interquartile_mean(values) <= values.max() + 1e-9


def test_the_interquartile_mean_and_the_optimality_gap_by_hand():
    assert interquartile_mean(np.array([0.0, 1.0, 2.0, 3.0, 100.0])) == pytest.approx(2.0)
    assert optimality_gap(np.array([50.0, 100.0, 170.0])) == pytest.approx(50 / 3)


def test_equal_seeds_have_an_interval_of_no_width():
    found = bootstrap_over_tasks(optimality_gap, [np.full(3, 40.0)], np.random.default_rng(0))
    assert (found.mean, found.low, found.high) == (60.0, 60.0, 60.0)


def test_a_profile_falls_from_one_to_zero_within_its_band():
    strata = [RNG.normal(50, 10, 5) for _ in range(3)]
    thresholds = np.linspace(0, 100, 21)
    profile = performance_profile(strata, thresholds)
    low, high = profile_band(strata, thresholds, np.random.default_rng(0))
    assert (profile[0], profile[-1]) == (1.0, 0.0)
    assert np.all(np.diff(profile) <= 0)
    assert np.all((low <= profile + 1e-12) & (profile <= high + 1e-12))


def test_the_probability_of_improvement_counts_ties_half():
    gaps = np.array([[1.0, 0.0, -1.0, -1.0], [0.5, 2.0, 1.0, 0.0]])
    assert probability_of_improvement(gaps).tolist() == [0.375, 0.875]
    strata = [np.array([1.0, 2.0, -1.0]), np.array([3.0, 1.0, 0.0])]
    found = bootstrap_over_tasks(probability_of_improvement, strata, np.random.default_rng(0), resamples=2_000)
    assert found.mean == pytest.approx(0.75)
    assert 0.0 <= found.low < found.mean < found.high <= 1.0


def test_the_area_is_the_mean_height_whatever_the_spacing():
    steps = np.array([0, 10, 40])
    assert area_under_curve(steps, np.array([[2.0, 2.0, 2.0], [0.0, 10.0, 40.0]])).tolist() == [2.0, 20.0]


def test_refusals():
    with pytest.raises(ValueError, match=r"tasks have \[1\] seeds, expected at least 2"):
        bootstrap_over_tasks(interquartile_mean, [np.ones(1)], np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"steps are \[3\], expected at least two that increase"):
        area_under_curve(np.array([3]), np.ones((2, 1)))
