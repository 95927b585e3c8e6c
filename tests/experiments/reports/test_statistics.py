from __future__ import annotations

import math

import numpy as np
import pytest

from cfdg_experiments.reports.statistics import (
    mean_band,
    mean_interval,
    mean_over_tasks,
    paired_scores,
    student_quantile,
)


def test_student_quantile_closed_forms():
    for confidence in (0.5, 0.9, 0.95, 0.99):
        tail = (1 + confidence) / 2
        assert student_quantile(confidence, 1) == pytest.approx(math.tan(math.pi * (tail - 0.5)), rel=1e-5)  # Cauchy
        two = (2 * tail - 1) / math.sqrt(2 * tail * (1 - tail))
        assert student_quantile(confidence, 2) == pytest.approx(two, rel=1e-5)
    assert student_quantile(0.95, 1e5) == pytest.approx(1.959964, abs=1e-3)  # the normal limit
    assert student_quantile(0.95, 4) > student_quantile(0.95, 4.5) > student_quantile(0.95, 5)


def test_mean_interval_by_hand():
    found = mean_interval(np.array([1.0, 3.0]))
    assert (found.mean, found.n) == (2.0, 2)
    assert found.std == pytest.approx(math.sqrt(2))
    assert found.half_width == pytest.approx(math.tan(0.475 * math.pi), rel=1e-5)  # t_1 * sqrt(2) / sqrt(2)
    assert found.low == pytest.approx(2 - found.half_width)


def test_one_seed_has_no_interval():
    found = mean_interval(np.array([5.0]))
    assert found.mean == 5.0
    assert math.isnan(found.low)
    assert math.isnan(found.std)
    assert np.isnan(mean_band(np.ones((1, 3)))[1]).all()


def test_band_is_the_interval_of_each_column():
    values = np.random.default_rng(0).normal(size=(4, 3))
    mean, low, high = mean_band(values)
    for column in range(3):
        one = mean_interval(values[:, column])
        assert (mean[column], low[column], high[column]) == pytest.approx((one.mean, one.low, one.high))


@pytest.mark.parametrize("n", [3, 5])
def test_t_interval_covers_the_mean_of_normal_values(n):
    generator = np.random.default_rng(n)
    trials = 2000
    found = [mean_interval(generator.normal(size=n)) for _ in range(trials)]
    covered = np.mean([e.low < 0 < e.high for e in found])
    assert covered == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / trials))


def test_mean_over_tasks_covers_with_unequal_variances():
    generator = np.random.default_rng(1)
    trials = 1000
    scales = np.array([1.0, 3.0, 10.0])
    found = [mean_over_tasks([scale * generator.normal(size=4) for scale in scales]) for _ in range(trials)]
    assert np.mean([e.low < 0 < e.high for e in found]) > 0.93


def test_mean_over_one_task_is_the_interval_of_that_task():
    values = np.array([1.0, 2.0, 4.0])
    one = mean_interval(values)
    many = mean_over_tasks([values])
    assert (one.mean, one.low, one.high) == pytest.approx((many.mean, many.low, many.high))


def test_equal_tasks_shrink_the_interval_with_the_root_of_their_number_and_more_freedom():
    values = np.array([1.0, 2.0, 4.0])
    one = mean_over_tasks([values])
    four = mean_over_tasks([values] * 4)
    assert four.half_width / one.half_width == pytest.approx(student_quantile(0.95, 8) / student_quantile(0.95, 2) / 2)


def test_pairs_follow_the_seeds_not_the_positions():
    pairs = paired_scores(np.array([1.0, 2.0, 3.0]), [0, 1, 2], np.array([30.0, 10.0]), [2, 0])
    np.testing.assert_array_equal(pairs, [[1.0, 3.0], [10.0, 30.0]])


def test_no_common_seed_is_an_error():
    with pytest.raises(ValueError, match="no seed in common"):
        paired_scores(np.ones(1), [0], np.ones(1), [1])


def test_pairing_removes_what_the_seeds_share():
    generator = np.random.default_rng(3)
    checkpoint = 50 * generator.normal(size=5)
    base, other = paired_scores(checkpoint, range(5), checkpoint + 2 + 0.1 * generator.normal(size=5), range(5))
    assert mean_interval(other - base).low > 0
    assert mean_interval(other).low < 0  # unpaired, the same two points are invisible
