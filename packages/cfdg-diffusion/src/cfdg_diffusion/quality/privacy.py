"""Privacy: distances of synthetic rows to the rows that trained the generator and to rows it never saw.

The distance of two rows is ``sqrt(sum of squares over columns)`` where a number or date counts
``asinh(z) - asinh(z')`` with ``z = (x - median) / scale`` (median and interquartile range / 1.349 of the training
rows; near the middle this is a plain scaled difference, in a tail a ratio), a level counts 1 if it differs, and a
number that is missing in only one of the rows counts 1 beside its distance from the median.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from cfdg_diffusion.quality.shapes import Bars
from cfdg_diffusion.quality.tables import Column, Tables, subsample
from cfdg_diffusion.quality.trees import area_under_curve

_NORMAL_95 = 1.96
_BLOCK = 200_000
"""Distances in memory at once, 1.6 MB: they fit in a core's cache, and memory does not grow with the tables."""
_BARS = 30
"""Bars of the histogram of distances."""


@dataclass(frozen=True, slots=True)
class Share:
    """A share or AUC in [0, 1] with its 95 % interval; 0.5 means that nothing leaks."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Privacy:
    """Distances to as many training as holdout rows.

    Attributes:
        rows: training rows and holdout rows that were compared.
        closest_to_train: share of synthetic rows closer to a training row than to any holdout row, ties half.
        membership: AUC of an attack that calls a real row a training row if a synthetic row lies close.
        copies: synthetic rows equal to a training row in every column, of all rows given.
        copies_share, copies_expected: their share, and the share of holdout rows equal to a training row.
        copies_noise: difference of the two shares that chance explains (95 %).
        distance, distance_expected: median distance to the closest training row, of synthetic and of holdout rows.
        ratio, ratio_expected: median of the distance to the closest over that to the second closest training row.
        histogram: distances to the closest training row; ``real`` are the holdout rows.
    """

    rows: int
    closest_to_train: Share
    membership: Share
    copies: int
    copies_share: float
    copies_expected: float
    copies_noise: float
    distance: float
    distance_expected: float
    ratio: float
    ratio_expected: float
    histogram: Bars


@dataclass(frozen=True, slots=True)
class Points:
    """Rows ready for distances: scaled numbers ``(N, P)`` float64 and level codes ``(N, Q)`` int32."""

    numbers: np.ndarray
    codes: np.ndarray


@dataclass(frozen=True, slots=True)
class Nearest:
    """Distances: of each query to its closest and second closest target, and of each target to its closest query."""

    first: np.ndarray
    second: np.ndarray
    back: np.ndarray


def privacy(whole: Tables, sampled: Tables, seed: int) -> Privacy | None:
    """Count copies among all rows and measure distances among the sampled ones; None without a holdout."""
    if whole.holdout is None or sampled.holdout is None:
        return None
    rng = np.random.default_rng([seed, 4])
    rows = min(len(sampled.train), len(sampled.holdout))
    parts = [subsample(sampled.train, rows, rng), subsample(sampled.holdout, rows, rng), sampled.synthetic]
    train, holdout, synthetic = points(whole.columns, whole.train, parts)
    to_train = nearest(synthetic, train)
    to_holdout = nearest(synthetic, holdout)
    fresh = nearest(holdout, train)
    copied = _is_copy(whole.synthetic, whole.train)
    expected = _is_copy(whole.holdout, whole.train)
    return Privacy(
        rows=rows,
        closest_to_train=_closest_share(to_train.first, to_holdout.first, rows),
        membership=_membership(to_train.back, to_holdout.back),
        copies=int(copied.sum()),
        copies_share=float(copied.mean()),
        copies_expected=float(expected.mean()),
        copies_noise=_NORMAL_95 * float(np.sqrt(expected.var() * (1 / len(copied) + 1 / len(expected)))),
        distance=float(np.median(to_train.first)),
        distance_expected=float(np.median(fresh.first)),
        ratio=_ratio(to_train),
        ratio_expected=_ratio(fresh),
        histogram=_histogram(fresh.first, to_train.first),
    )


def points(columns: Sequence[Column], train: np.ndarray, parts: Sequence[np.ndarray]) -> list[Points]:
    """Turn tables ``(N, D)`` into points, scaled by the training rows."""
    levels = np.array([column.has_levels for column in columns])
    centre, scale = _centre_and_scale(train[:, ~levels])
    gaps = np.isnan(np.concatenate([part[:, ~levels] for part in parts])).any(0)
    found = []
    for part in parts:
        scaled = np.arcsinh((part[:, ~levels] - centre) / scale)
        missing = np.isnan(scaled)
        numbers = np.concatenate([np.where(missing, 0, scaled), missing[:, gaps]], axis=1)
        found.append(Points(numbers, np.where(np.isnan(part), -1, part)[:, levels].astype(np.int32)))
    return found


def _centre_and_scale(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return median and IQR / 1.349 per column; the mean absolute deviation if the IQR is 0, and 1 if both are."""
    if numbers.shape[1] == 0:
        return np.zeros(0), np.ones(0)
    filled = np.where(np.isnan(numbers).all(0), 0, numbers)
    lower, centre, upper = np.nanquantile(filled, [0.25, 0.5, 0.75], axis=0)
    spread = (upper - lower) / 1.349
    deviation = np.nanmean(np.abs(filled - centre), axis=0)
    return centre, np.where(spread > 0, spread, np.where(deviation > 0, deviation, 1))


def nearest(queries: Points, targets: Points) -> Nearest:
    """Measure all pairs of distances, a block of queries at a time, and keep the smallest."""
    size = max(1, _BLOCK // len(targets.numbers))
    first = []
    second = []
    back = np.full(len(targets.numbers), np.inf)
    for start in range(0, len(queries.numbers), size):
        block = _squared(Points(queries.numbers[start : start + size], queries.codes[start : start + size]), targets)
        back = np.minimum(back, block.min(0))
        closest = block.argmin(1)[:, None]
        first.append(np.take_along_axis(block, closest, 1)[:, 0])
        np.put_along_axis(block, closest, np.inf, 1)
        second.append(block.min(1))
    return Nearest(_root(np.concatenate(first)), _root(np.concatenate(second)), _root(back))


def _squared(queries: Points, targets: Points) -> np.ndarray:
    squared = (queries.numbers**2).sum(1)[:, None] + (targets.numbers**2).sum(1)
    squared -= 2 * queries.numbers @ targets.numbers.T
    for column in range(queries.codes.shape[1]):
        squared += queries.codes[:, column, None] != targets.codes[:, column]
    return squared


def _root(squared: np.ndarray) -> np.ndarray:
    """Take the root after rounding: equal rows are at distance 0, and ties do not depend on the order of the sums."""
    return np.sqrt(np.round(np.maximum(squared, 0), 9))


def _closest_share(to_train: np.ndarray, to_holdout: np.ndarray, rows: int) -> Share:
    value = float((to_train < to_holdout).mean() + (to_train == to_holdout).mean() / 2)
    # The real rows are a sample too: many synthetic rows around few real ones are no more than those few.
    half = _NORMAL_95 * np.sqrt(0.25 / min(rows, len(to_train)))
    return Share(value, max(0.0, value - half), min(1.0, value + half))


def _membership(train: np.ndarray, holdout: np.ndarray) -> Share:
    value, variance = area_under_curve(-holdout, -train)
    half = _NORMAL_95 * np.sqrt(variance)
    return Share(value, max(0.0, value - half), min(1.0, value + half))


def _ratio(found: Nearest) -> float:
    """Return the median of closest over second closest; two at distance 0 are equally close."""
    alike = (found.second == 0) | np.isinf(found.second)
    return float(np.median(np.where(alike, 1, found.first / np.where(alike, 1, found.second))))


def _is_copy(rows: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Mark the rows ``(N, D)`` that equal some row of the other table, by 64-bit hashes; missing values are equal."""
    hashes = [pd.util.hash_pandas_object(pd.DataFrame(part + 0.0), index=False).to_numpy() for part in (rows, of)]
    return np.isin(hashes[0], hashes[1])


def _histogram(real: np.ndarray, synthetic: np.ndarray) -> Bars:
    edges = np.linspace(0, max(float(np.quantile(np.concatenate([real, synthetic]), 0.99)), 1e-9), _BARS + 1)
    shares = [np.histogram(part.clip(max=edges[-1]), edges)[0] / len(part) for part in (real, synthetic)]
    labels = [f"{left:.3g} to {right:.3g}" for left, right in pairwise(edges)]
    return Bars(tuple(labels), tuple(map(float, shares[0])), tuple(map(float, shares[1])))
