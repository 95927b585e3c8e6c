"""Pair trends: the joint distribution of every pair of columns, on bins that both tables share.

Bins over the range of each table would give a fresh real draw a poor score if tails are heavy; here the edges are
quantiles of the real training rows and serve every table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from cfdg_diffusion.quality.tables import Column, Tables

_MOST_BINS = 10
"""Quantile bins of a number; a joint table of two has 100 cells."""
_ROWS_PER_CELL = 25
"""Fewer bins are used if a cell would expect fewer rows than this: sampling noise would hide the trend."""
_LEAST_DEPENDENCE = 0.005
"""Below this drop of the score by shuffling there is no dependence to keep, and the share kept is not defined."""
_WIDEST = 0.5
"""The share kept is not defined either if its interval would reach further than this to each side."""
_SHUFFLES = 3
"""Shuffled tables whose mean score is that of independent columns."""
_SPLITS = 20
"""Random splits of the real rows that measure sampling noise."""
_SPLIT_COLUMNS = 30
"""Most columns of such a split, drawn at random: fewer pairs are noisier, so the interval is not too narrow."""


@dataclass(frozen=True, slots=True)
class PairTrend:
    """Two columns: 1 - total variation of their joint table, for synthetic and for training rows (None: no holdout)."""

    first: str
    second: str
    score: float
    baseline: float | None


@dataclass(frozen=True, slots=True)
class Kept:
    """Share of the dependence that is kept, with its 95 % interval: 0 for independent columns, 1 for real rows."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Trends:
    """All pairs of columns.

    Attributes:
        mean: mean score of the synthetic rows.
        baseline: mean score of the training rows against the same reference, as of any fresh real draw.
        independent: mean score of the training rows with every column shuffled on its own: dependence lost,
            columns exact.
        noise: standard deviation of the mean score from one real draw to another; None without a holdout.
        relative: ``mean / baseline``; None without a holdout.
        kept: ``(mean - independent) / (baseline - independent)``; None without a holdout, and if there is hardly any
            dependence or there are too few rows to measure it.
        columns: names, in the order of the table.
        pairs: in the order of the table.
        association_real, association_synthetic: bias-corrected Cramér's V in [0, 1] of every pair, ``(D, D)``.
    """

    mean: float
    baseline: float | None
    independent: float
    noise: float | None
    relative: float | None
    kept: Kept | None
    columns: tuple[str, ...]
    pairs: tuple[PairTrend, ...]
    association_real: tuple[tuple[float, ...], ...]
    association_synthetic: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Codes:
    """A table as bins ``(N, D)``, column j's counted from ``starts[j]``; ``total`` bins in all."""

    values: np.ndarray
    starts: np.ndarray
    total: int


def trends(tables: Tables, rng: np.random.Generator) -> Trends | None:
    """Score every pair, or None for a table of one column."""
    if len(tables.columns) < 2:
        return None
    parts = {"real": tables.reference, "train": tables.train, "synthetic": tables.synthetic}
    codes = binned(tables.columns, tables.train, parts, number_of_bins(min(map(len, parts.values()))))
    scores = pair_scores(codes["real"], codes["synthetic"])
    baselines = None if tables.holdout is None else pair_scores(codes["real"], codes["train"])
    names = tuple(column.name for column in tables.columns)
    pairs = tuple(
        PairTrend(names[i], names[j], float(scores[i, j]), None if baselines is None else float(baselines[i, j]))
        for i, j in zip(*np.triu_indices(len(names), 1), strict=True)
    )
    shuffled = [_mean(pair_scores(codes["real"], _shuffled(codes["train"], rng))) for _ in range(_SHUFFLES)]
    independent = float(np.mean(shuffled))
    noise = None if baselines is None else sampling_noise(codes["train"], codes["real"], rng)
    mean = _mean(scores)
    baseline = None if baselines is None else _mean(baselines)
    return Trends(
        mean=mean,
        baseline=baseline,
        independent=independent,
        noise=noise,
        relative=None if not baseline else mean / baseline,
        kept=None if baseline is None or noise is None else _kept(mean, baseline, independent, noise),
        columns=names,
        pairs=pairs,
        association_real=_rows(association(codes["real"])),
        association_synthetic=_rows(association(codes["synthetic"])),
    )


def _mean(scores: np.ndarray) -> float:
    """Average over the pairs of different columns of a symmetric ``(D, D)``."""
    return float(scores[np.triu_indices(len(scores), 1)].mean())


def _kept(mean: float, baseline: float, independent: float, noise: float) -> Kept | None:
    dependence = baseline - independent
    if dependence < _LEAST_DEPENDENCE:
        return None
    value = (mean - independent) / dependence
    half = 1.96 * np.sqrt(2) * noise / dependence
    return Kept(value, float(value - half), float(value + half)) if half <= _WIDEST else None


def sampling_noise(train: Codes, holdout: Codes, rng: np.random.Generator) -> float:
    """Return the standard deviation of the mean score of real against real rows, over random splits of all of them."""
    chosen = np.sort(rng.permutation(len(train.starts))[:_SPLIT_COLUMNS])
    some = _chosen(train, chosen)
    values = np.concatenate([some.values, _chosen(holdout, chosen).values])
    means = []
    for _ in range(_SPLITS):
        first, second = np.split(rng.permutation(values), [len(train.values)])
        means.append(_mean(pair_scores(replace(some, values=first), replace(some, values=second))))
    return float(np.std(means, ddof=1))


def _chosen(codes: Codes, columns: np.ndarray) -> Codes:
    """Select columns and number their bins from 0."""
    sizes = np.diff(np.append(codes.starts, codes.total))[columns]
    starts = np.cumsum(sizes) - sizes
    return Codes(codes.values[:, columns] - codes.starts[columns] + starts, starts, int(sizes.sum()))


def _shuffled(codes: Codes, rng: np.random.Generator) -> Codes:
    """Shuffle each column on its own: the same columns, no dependence."""
    return replace(codes, values=rng.permuted(codes.values, axis=0))


def _rows(matrix: np.ndarray) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(value) for value in row) for row in matrix)


def number_of_bins(rows: int) -> int:
    """Return the bins of a number, 3 to 10, such that a cell of a joint table expects 25 rows if possible."""
    return int(np.clip(np.sqrt(rows / _ROWS_PER_CELL), 3, _MOST_BINS))


def binned(columns: tuple[Column, ...], train: np.ndarray, parts: dict[str, np.ndarray], bins: int) -> dict[str, Codes]:
    """Assign the cells of every table to the same bins, whose edges and levels come from the training rows alone."""
    values = {name: np.empty(part.shape, np.int64) for name, part in parts.items()}
    starts = [0]
    for index, column in enumerate(columns):
        edges = _level_table(train[:, index], bins) if column.has_levels else _edges(train[:, index], bins)
        size = len(edges) + 2  # levels or intervals, all others, missing
        for name, part in parts.items():
            assign = _levels_of if column.has_levels else _intervals_of
            values[name][:, index] = starts[-1] + assign(part[:, index], edges)
        starts.append(starts[-1] + size)
    return {name: Codes(found, np.array(starts[:-1]), starts[-1]) for name, found in values.items()}


def _edges(train: np.ndarray, bins: int) -> np.ndarray:
    """Return inner quantiles; a value that fills a whole bin alone (a spike) gets an edge on its left as well."""
    present = train[~np.isnan(train)]
    if len(present) == 0:
        return np.empty(0)
    quantiles = np.quantile(present, np.arange(1, bins) / bins, method="inverted_cdf")
    spikes, counts = np.unique(quantiles, return_counts=True)
    return np.unique(np.concatenate([quantiles, np.nextafter(spikes[counts > 1], -np.inf)]))


def _level_table(train: np.ndarray, bins: int) -> np.ndarray:
    """Return the most frequent codes, sorted: at most twice as many as a number has bins; rarer ones are pooled.

    Levels of a single row, or of less than two rows in a thousand, are pooled too: in a column of names they would
    favour the table they came from.
    """
    levels, counts = np.unique(train[~np.isnan(train)], return_counts=True)
    frequent = np.argsort(-counts, kind="stable")[: 2 * bins]
    return np.sort(levels[frequent[counts[frequent] >= max(2, len(train) / 500)]])


def _intervals_of(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(values), len(edges) + 1, np.searchsorted(edges, values, side="left"))


def _levels_of(values: np.ndarray, levels: np.ndarray) -> np.ndarray:
    if len(levels) == 0:
        return np.where(np.isnan(values), 1, 0)
    place = np.searchsorted(levels, values).clip(max=len(levels) - 1)
    return np.where(np.isnan(values), len(levels) + 1, np.where(levels[place] == values, place, len(levels)))


def _joint(codes: Codes, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Count column ``index`` (K bins) with itself and every later column (L bins in all), as shares ``(K, L)``.

    The second result is the first bin of each of these columns among the L.
    """
    starts = codes.starts[index:] - codes.starts[index]
    width = codes.total - codes.starts[index]
    size = starts[1] if len(starts) > 1 else width
    values = codes.values[:, index:] - codes.starts[index]
    counts = np.bincount((values[:, :1] * width + values).ravel(), minlength=size * width)
    return counts.reshape(size, width) / len(values), starts


def _symmetric(rows: list[np.ndarray]) -> np.ndarray:
    """Build a symmetric ``(D, D)`` from rows that begin at the diagonal."""
    matrix = np.empty((len(rows), len(rows)))
    for index, row in enumerate(rows):
        matrix[index, index:] = matrix[index:, index] = row
    return matrix


def pair_scores(real: Codes, other: Codes) -> np.ndarray:
    """Return 1 - total variation of the joint table of every pair, ``(D, D)``; the diagonal holds single columns."""
    rows = []
    for index in range(len(real.starts)):
        shares, starts = _joint(real, index)
        difference = np.abs(shares - _joint(other, index)[0]).sum(0)
        rows.append(1 - np.add.reduceat(difference, starts) / 2)
    return _symmetric(rows)


def association(codes: Codes) -> np.ndarray:
    """Return Cramér's V of every pair with Bergsma's (2013) bias correction, ``(D, D)`` in [0, 1]."""
    rows = len(codes.values)
    shares = np.bincount(codes.values.ravel(), minlength=codes.total) / rows
    used = np.add.reduceat((shares > 0).astype(float), codes.starts)
    matrix = []
    for index, start in enumerate(codes.starts):
        joint, starts = _joint(codes, index)
        expected = shares[start : start + len(joint), None] * shares[start:]
        chi = (joint - expected) ** 2 / np.where(expected > 0, expected, 1)
        matrix.append(_corrected(np.add.reduceat(chi.sum(0), starts), used[index], used[index:], rows))
    return _symmetric(matrix)


def _corrected(phi: np.ndarray, own: float, others: np.ndarray, rows: int) -> np.ndarray:
    corrected = np.maximum(phi - (own - 1) * (others - 1) / (rows - 1), 0)
    sizes = [size - (size - 1) ** 2 / (rows - 1) for size in (own, others)]
    smaller = np.minimum(sizes[0], sizes[1]) - 1
    return np.where(smaller > 0, np.sqrt(corrected / np.where(smaller > 0, smaller, 1)), 0).clip(max=1)
