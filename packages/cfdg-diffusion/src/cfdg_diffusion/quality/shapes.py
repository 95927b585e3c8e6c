"""Column shapes: the distribution of each column on its own."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from cfdg_diffusion.quality.tables import MISSING, OTHER, Column, Tables

_BARS = 24
"""Most bars in a column's picture; numbers with no more distinct values get a bar each."""
_LEVELS = 12
"""Most levels in a column's picture; the others are one bar."""
_LONG_TAIL = 12.0
"""A range of more than this many standard deviations, estimated from the narrower quartile, gets a log-like axis."""
_DAYS_ONLY = 40 * 86_400
"""Dates that span more seconds than this are shown without their time of day."""


@dataclass(frozen=True, slots=True)
class Bars:
    """Two histograms over the same bins: shares that each sum to 1."""

    labels: tuple[str, ...]
    real: tuple[float, ...]
    synthetic: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ColumnShape:
    """One column of the synthetic rows against the reference (the holdout, or the training rows without one).

    Attributes:
        score: 1 - the larger of the distance between the present values and the difference of missing shares.
        baseline: the same for the training rows against the holdout; None without a holdout.
        missing_real, missing_synthetic: shares of missing values.
        bars: both distributions, for a picture.
    """

    name: str
    kind: str
    score: float
    baseline: float | None
    missing_real: float
    missing_synthetic: float
    bars: Bars


@dataclass(frozen=True, slots=True)
class Shapes:
    """All columns in the order of the table; ``mean`` and ``baseline`` are means over them."""

    mean: float
    baseline: float | None
    columns: tuple[ColumnShape, ...]


def kolmogorov_smirnov(first: np.ndarray, second: np.ndarray) -> float:
    """Return the largest difference of two empirical distribution functions, in [0, 1].

    Two empty samples are at distance 0, an empty and another one at distance 1.

    Args:
        first: finite values ``(N,)``.
        second: finite values ``(M,)``.
    """
    from scipy.stats import ks_2samp

    if len(first) == 0 or len(second) == 0:
        return float(len(first) != len(second))
    with np.errstate(divide="ignore"):  # in the p-value of samples of one value; the p-value is not used
        return float(ks_2samp(first, second, method="asymp").statistic)


def total_variation(first: np.ndarray, second: np.ndarray) -> float:
    """Return half the sum of the differences of two histograms given as counts ``(K,)``, in [0, 1]."""
    return float(np.abs(first / max(first.sum(), 1) - second / max(second.sum(), 1)).sum() / 2)


def shape_score(column: Column, real: np.ndarray, other: np.ndarray) -> float:
    """Return 1 - distance of two columns ``(N,)``: total variation with missing as a level, or Kolmogorov-Smirnov.

    For numbers and dates the distance is the larger of the one between the present values and the difference of
    the missing shares.
    """
    missing = [np.isnan(values) for values in (real, other)]
    if column.has_levels:
        size = len(column.levels) + 1
        levels = [np.where(np.isnan(values), size - 1, values).astype(int) for values in (real, other)]
        return 1 - total_variation(np.bincount(levels[0], minlength=size), np.bincount(levels[1], minlength=size))
    distance = kolmogorov_smirnov(real[~missing[0]], other[~missing[1]])
    return 1 - max(distance, abs(float(missing[0].mean() - missing[1].mean())))


def shapes(tables: Tables) -> Shapes:
    """Score every column of the synthetic rows, and of the training rows, against the reference."""
    found = tuple(_column_shape(tables, index) for index in range(len(tables.columns)))
    baselines = [column.baseline for column in found if column.baseline is not None]
    mean = float(np.mean([column.score for column in found]))
    return Shapes(mean, float(np.mean(baselines)) if baselines else None, found)


def _column_shape(tables: Tables, index: int) -> ColumnShape:
    column = tables.columns[index]
    real = tables.reference[:, index]
    synthetic = tables.synthetic[:, index]
    baseline = None if tables.holdout is None else shape_score(column, real, tables.train[:, index])
    return ColumnShape(
        name=column.name,
        kind=column.kind,
        score=shape_score(column, real, synthetic),
        baseline=baseline,
        missing_real=float(np.isnan(real).mean()),
        missing_synthetic=float(np.isnan(synthetic).mean()),
        bars=bars(column, real, synthetic),
    )


def bars(column: Column, real: np.ndarray, synthetic: np.ndarray) -> Bars:
    """Count two columns ``(N,)`` and ``(M,)`` in the same bins, as shares, missing values last."""
    both = np.concatenate([real, synthetic])
    present = np.unique(both[~np.isnan(both)])
    if column.has_levels:
        labels, codes = _level_bins(column, real, both)
    elif len(present) <= _BARS:
        labels = [column.text(value) for value in present]
        codes = np.searchsorted(present, both)
    else:
        labels, codes = _number_bins(column, real[~np.isnan(real)], both)
    if np.isnan(both).any():
        codes = np.where(np.isnan(both), len(labels), codes)
        labels = [*labels, MISSING]
    counts = [np.bincount(part, minlength=len(labels)) for part in (codes[: len(real)], codes[len(real) :])]
    return Bars(tuple(labels), _shares(counts[0]), _shares(counts[1]))


def _shares(counts: np.ndarray) -> tuple[float, ...]:
    return tuple(float(share) for share in counts / max(counts.sum(), 1))


def _level_bins(column: Column, real: np.ndarray, both: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Assign the most frequent levels of the real column a bar each, and all others one if there are any."""
    counts = np.bincount(real[~np.isnan(real)].astype(int), minlength=len(column.levels))
    order = np.argsort(-counts, kind="stable")
    rank = np.empty(len(order), int)
    rank[order] = np.arange(len(order))
    labels = [column.levels[level] for level in order[:_LEVELS]] + ([OTHER] if len(order) > _LEVELS else [])
    known = np.where(np.isnan(both), 0, both).astype(int)
    return labels, np.minimum(rank[known], _LEVELS) if len(order) else known


def _number_bins(column: Column, real: np.ndarray, both: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Divide the middle 99 % into even bins (log-like if the tail is long); the end bins take what lies outside."""
    source = real if len(real) else both[~np.isnan(both)]
    low, high = np.quantile(source, [0.005, 0.995])
    lower, middle, upper = np.quantile(_without_spike(source), [0.25, 0.5, 0.75])
    scale = min(upper - middle, middle - lower) / 0.6745  # of a normal column the standard deviation
    if scale > 0 and high - low > _LONG_TAIL * scale:
        first = np.arcsinh((low - middle) / scale)
        last = np.arcsinh((high - middle) / scale)
        edges = middle + scale * np.sinh(np.linspace(first, last, _BARS + 1))
    else:
        edges = np.linspace(low, high, _BARS + 1)
    return _ranges(column, edges), np.searchsorted(edges[1:-1], both, side="right").clip(0, _BARS - 1)


def _without_spike(values: np.ndarray) -> np.ndarray:
    """Drop a value that fills a quarter of the column or more, if others are left."""
    distinct, counts = np.unique(values, return_counts=True)
    commonest = counts.argmax()
    if len(distinct) > 1 and counts[commonest] >= len(values) / 4:
        return values[values != distinct[commonest]]
    return values


def _ranges(column: Column, edges: np.ndarray) -> list[str]:
    days = column.kind == "datetime" and edges[-1] - edges[0] > _DAYS_ONLY
    texts = [column.text(edge).partition(" ")[0] if days else column.text(edge) for edge in edges]
    return [f"{left} to {right}" for left, right in pairwise(texts)]
