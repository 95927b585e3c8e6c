"""Comparisons of the arms of a figure: paired intervals, Holm's correction, and summaries of a whole suite of tasks.

Runs of one seed share their offline checkpoint and their evaluation seeds, so that differences of paired seeds decide.
Intervals of statistics over tasks without a closed form are percentile bootstraps, stratified over tasks: each task is
a sample of its own to ``scipy.stats.bootstrap`` (Agarwal et al. 2021, whose conventions for the interquartile mean,
the optimality gap and performance profiles these are).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import integrate, stats

from cfdg_experiments.reports.statistics import Estimate, Strata

SAME = 1e-9  # points of score: differences that are no further apart are equal but for rounding
_SPREAD_OUT = 50_000_000  # numbers that a batch of resamples may hold


@dataclass(frozen=True)
class Comparison:
    """An arm against the reference of its figure.

    Attributes:
        arm: name of the arm.
        difference: mean over tasks of the paired differences, with its t interval, which is NaN of equal differences.
        p: two-sided p-value of that mean; NaN with fewer than two seeds.
        holm: the same after Holm's correction over the arms of the figure.
        probability: share of paired seeds in which the arm is better, ties half.
    """

    arm: str
    difference: Estimate
    p: float
    holm: float
    probability: float

    @property
    def verdict(self) -> str:
        """``better`` or ``worse`` where no interval has 0 and Holm's p is below 0.05, else ``unresolved``."""
        resolved = self.holm < 0.05 and not self.difference.low <= 0 <= self.difference.high
        if not resolved or not math.isfinite(self.holm):
            return "unresolved"
        return "better" if self.difference.mean > 0 else "worse"


def compare(arms: Mapping[str, Strata], confidence: float = 0.95) -> list[Comparison]:
    """Compare arms with their reference.

    Args:
        arms: for each arm one ``(2, n)`` array per task, the reference's and the arm's scores of the same n seeds, as
            :func:`cfdg_experiments.reports.statistics.paired_scores` returns them.
        confidence: of the intervals.

    Returns:
        One comparison per arm, in their order.
    """
    gaps = {arm: [other - base for base, other in strata] for arm, strata in arms.items()}
    found = {arm: paired_mean(strata, confidence) for arm, strata in gaps.items()}
    corrected = holm([p for _, p in found.values()])
    return [
        Comparison(arm, estimate, p, adjusted, float(probability_of_improvement(np.concatenate(gaps[arm]))))
        for (arm, (estimate, p)), adjusted in zip(found.items(), corrected, strict=True)
    ]


def paired_mean(gaps: Strata, confidence: float = 0.95) -> tuple[Estimate, float]:
    """Average paired differences within and then over tasks, with the t interval and the two-sided p-value.

    Degrees of freedom are Welch and Satterthwaite's; the tasks are fixed and the seeds random. One task gives the
    paired t test.

    Where the differences of each task are equal, as few success rates in steps of 10 often are, the t test says
    nothing: there is no interval, and p is that of the exact sign-flip test, 2^(1-n) for n differences of one sign that
    are not 0, so that five or fewer resolve nothing. It is 1 if all are 0, or tasks differ in sign.

    Args:
        gaps: one ``(n,)`` array of differences per task.
        confidence: of the interval.
    """
    tasks = len(gaps)
    mean = float(np.mean([np.mean(gap) for gap in gaps]))
    if any(len(gap) < 2 for gap in gaps):
        return Estimate(mean, math.nan, math.nan, math.nan, tasks), math.nan
    if all(np.ptp(gap) <= SAME for gap in gaps):
        return Estimate(mean, math.nan, math.nan, math.nan, tasks), _sign_flips(gaps)
    parts = [float(np.var(gap, ddof=1)) / len(gap) / tasks**2 for gap in gaps]
    error = math.sqrt(sum(parts))
    degrees = sum(parts) ** 2 / sum(part**2 / (len(gap) - 1) for part, gap in zip(parts, gaps, strict=True))
    half = error * float(stats.t.ppf((1 + confidence) / 2, degrees))
    p = 2 * float(stats.t.sf(abs(mean) / error, degrees))
    return Estimate(mean, mean - half, mean + half, math.nan, tasks), p


def _sign_flips(gaps: Strata) -> float:
    """Return the two-sided p-value of differences that are equal within each task, had each sign been as likely."""
    varied = [gap for gap in gaps if abs(gap[0]) > SAME]
    same_sign = len({bool(gap[0] > 0) for gap in varied}) == 1
    return 2.0 ** (1 - sum(map(len, varied))) if same_sign else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number (Holm 1979); NaN stays NaN and counts for nothing."""
    p = np.asarray(p_values, dtype=np.float64)
    order = [int(index) for index in np.argsort(p) if math.isfinite(p[index])]
    corrected = np.full(len(p), math.nan)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * float(p[index])))
        corrected[index] = highest
    return corrected.tolist()


def probability_of_improvement(gaps: np.ndarray, axis: int = -1) -> np.ndarray:
    """Share of positive differences among ``(..., n)`` of paired seeds, ties half."""
    return np.asarray((np.sign(gaps) / 2 + 0.5).mean(axis=axis))


def interquartile_mean(scores: np.ndarray, axis: int = -1) -> np.ndarray:
    """Average the middle half of ``(..., n)`` scores; a quarter, rounded down, is cut at each end."""
    return np.asarray(stats.trim_mean(scores, 0.25, axis=axis))


def optimality_gap(scores: np.ndarray, target: float = 100.0, axis: int = -1) -> np.ndarray:
    """Average what ``(..., n)`` scores lack of a target, beyond which nothing is won; 0 is the best."""
    return target - np.minimum(scores, target).mean(axis=axis)


def bootstrap_over_tasks(
    statistic: Callable[..., np.ndarray],
    strata: Strata,
    rng: np.random.Generator,
    *,
    resamples: int = 50_000,
    confidence: float = 0.95,
) -> Estimate:
    """Estimate a statistic of the pooled scores of all tasks, seeds resampled within each task.

    Args:
        statistic: maps pooled scores ``(..., n)`` to ``(...)``, with an ``axis`` argument, such as
            :func:`interquartile_mean`, :func:`optimality_gap` or, of paired differences,
            :func:`probability_of_improvement`.
        strata: one ``(n,)`` array per task, at least two seeds in each.
        rng: source of the resampling; the same state gives the same interval.
        resamples: number of resampled data sets.
        confidence: of the percentile interval.

    Raises:
        ValueError: if a task has fewer than two seeds.
    """
    if any(len(stratum) < 2 for stratum in strata):
        raise ValueError(f"tasks have {[len(s) for s in strata]} seeds, expected at least 2 of each")
    point = float(statistic(np.concatenate(list(strata)), axis=-1))
    if all(np.ptp(stratum) == 0 for stratum in strata):
        return Estimate(point, point, point, math.nan, len(strata))

    def pooled(*samples: np.ndarray, axis: int = -1) -> np.ndarray:
        return statistic(np.concatenate(samples, axis=axis), axis=axis)

    found: Any = stats.bootstrap(
        tuple(strata),
        pooled,
        n_resamples=resamples,
        batch=max(1, min(resamples, _SPREAD_OUT // sum(len(stratum) for stratum in strata))),
        vectorized=True,
        method="percentile",
        confidence_level=confidence,
        rng=rng,
    )
    interval = found.confidence_interval
    return Estimate(point, float(interval.low), float(interval.high), math.nan, len(strata))


def performance_profile(strata: Strata, thresholds: np.ndarray) -> np.ndarray:
    """Share of runs with a score above each threshold ``(K,)``, averaged over tasks: ``(K,)``."""
    shares = [(np.asarray(stratum)[:, None] > thresholds).mean(axis=0) for stratum in strata]
    return np.mean(shares, axis=0)


def profile_band(
    strata: Strata,
    thresholds: np.ndarray,
    rng: np.random.Generator,
    *,
    resamples: int = 2_000,
    confidence: float = 0.95,
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper end ``(K,)`` of the pointwise percentile bootstrap of :func:`performance_profile`."""
    total = np.zeros((resamples, len(thresholds)))
    for stratum in strata:
        above = np.asarray(stratum)[:, None] > thresholds
        total += above[rng.integers(len(stratum), size=(resamples, len(stratum)))].mean(axis=1) / len(strata)
    tail = 50 * (1 - confidence)
    low, high = np.percentile(total, [tail, 100 - tail], axis=0)
    return low, high


def area_under_curve(steps: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Mean height ``(...)`` of curves ``(..., K)`` over steps ``(K,)``, by the trapezoidal rule.

    Raises:
        ValueError: if there are fewer than two steps or they do not increase.
    """
    if len(steps) < 2 or bool(np.any(np.diff(steps) <= 0)):
        raise ValueError(f"steps are {np.asarray(steps).tolist()}, expected at least two that increase")
    return np.asarray(integrate.trapezoid(scores, steps, axis=-1)) / float(steps[-1] - steps[0])
