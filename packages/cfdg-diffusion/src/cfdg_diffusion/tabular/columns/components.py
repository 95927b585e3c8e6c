"""Components: one array of numbers <-> code words for its levels and spikes, and a normal scale for the rest."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from cfdg_diffusion.tabular.columns.grid import Grid, is_closed_set, learn_grid, with_step_of_few
from cfdg_diffusion.tabular.columns.numbers import NormalMap, learn_map

MOST_LEVELS = 4096
"""Number of words of the extended binary Golay code."""
_CHUNK = 2**19
"""Scores of rows against words computed at a time, to fit in a core's cache."""
_LEAST_ROWS = 10
"""Training rows of a spike."""
_LARGEST = 100.0
"""Larger than model space of any training row; a float32 product of much larger numbers could overflow."""

Mode = Literal["auto", "numbers", "levels"]


@dataclass(frozen=True)
class CodecSettings:
    """Settings of the codec from columns to dimensions, with the source of each default.

    "Measured" refers to a mixed table of 11 columns and 20,000 rows: the share of pairs of categories that training
    does not have, and detection by boosted trees, after one and two minutes of training on one core.

    Attributes:
        one_hot_levels: largest number of levels that are one-hot, at least 2; more get bits of the Golay code.
            Measured: 42 levels were better as bits.
        spread: root mean square of a block's dimensions, above 0. Measured: 1 / sqrt(dimensions) broke twice as many
            pairs.
        largest_gap: largest distance of nearest code words, above 0, so that rare levels are not far out; measured
            against 4.
        spike_share: share of the rows from which on a single value is a level beside the number, above 0.
        number_levels: largest number of distinct numbers, with ten rows each, that are levels alone, at least 0.
            Measured: 7 better stay a number.
        most_knots: knots of the quantile map, at least 4; as scikit-learn's ``QuantileTransformer``.
        keep_bounds: keep a number at or above 0 if training did, and shares and percentages within 0 and 100 %.
        keep_range: keep numbers and dates within the smallest and largest of the training rows: True for all columns,
            False for none, or a tuple of column names. The default does so for small closed sets of integers such as
            months or stars: at most 64 without gaps, with ten rows of the smallest and of the largest; names come
            on top of these.

    Raises:
        ValueError: if a value is out of its range; the message names it.
    """

    one_hot_levels: int = 24
    spread: float = 1.0
    largest_gap: float = 6.0
    spike_share: float = 0.02
    number_levels: int = 3
    most_knots: int = 1000
    keep_bounds: bool = True
    keep_range: bool | tuple[Hashable, ...] | None = None

    def keeps_range(self, name: Hashable) -> bool | None:
        """Return whether a column keeps its range; None leaves it to the content."""
        if isinstance(self.keep_range, bool):
            return self.keep_range
        return True if name in (self.keep_range or ()) else None

    def __post_init__(self) -> None:
        limits = {"one_hot_levels": 2, "spread": 1e-3, "largest_gap": 1e-3, "spike_share": 1e-6, "most_knots": 4}
        for name, least in {**limits, "number_levels": 0}.items():
            if not least <= getattr(self, name) < np.inf:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected a number of at least {least}")
        if isinstance(self.keep_range, list):  # as JSON has it
            object.__setattr__(self, "keep_range", tuple(self.keep_range))
        if not isinstance(self.keep_range, bool | tuple | None):
            raise ValueError(
                f"keep_range is {self.keep_range!r}, expected True, False, None or a tuple of column names"
            )


@dataclass(frozen=True)
class Component:
    """The codec of one array of numbers without missing values.

    Attributes:
        levels: ``(V,)`` int64 or float64, ascending; all values, or the spikes beside the number.
        words: ``(L, W)`` float32 code word of each level; beside a number L = V + 1 and the last word means "no level".
        grid: values that the number can take; None if it is continuous or absent.
        scale: map of the number to a normal scale; None if there are levels only.
    """

    levels: np.ndarray
    words: np.ndarray
    grid: Grid | None
    scale: NormalMap | None

    @property
    def width(self) -> int:
        """Dimensions of the code words and of the number."""
        return self.words.shape[1] + (self.scale is not None)

    def known(self, values: np.ndarray) -> np.ndarray:
        """Test which values ``(N,)`` can be encoded; all, unless there are levels only."""
        return np.ones(len(values), dtype=bool) if self.scale else self._word_of(values) < len(self.levels)

    def nearest(self, values: np.ndarray) -> np.ndarray:
        """Replace values ``(N,)`` that cannot be encoded by the nearest level."""
        if self.scale is not None:
            return values
        above = np.clip(np.searchsorted(self.levels, values), 1, max(len(self.levels) - 1, 1))
        above = np.minimum(above, len(self.levels) - 1)
        below = np.maximum(above - 1, 0)
        nearer_below = values - self.levels[below] < self.levels[above] - values
        return np.where(nearer_below, self.levels[below], self.levels[above])

    def encode(self, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Encode known values ``(N,)`` as float32 ``(N, width)``; the number's dimension is 0 beside a spike."""
        word = self._word_of(values)
        rows = np.zeros((len(values), self.width), dtype=np.float32, order="F")
        rows[:, : self.words.shape[1]] = self.words.T.take(word, axis=1).T
        if self.scale is not None:
            rest = word == len(self.levels)
            rows[rest, -1] = self._encode_number(self.scale, values[rest], rng)
        return rows

    def decode(self, rows: np.ndarray) -> np.ndarray:
        """Decode any finite float32 ``(N, width)`` to values ``(N,)``: the level of the nearest word, or the number."""
        word = nearest_word(rows[:, : self.words.shape[1]], self.words)
        if self.scale is None:
            return self.levels[word]
        rest = word == len(self.levels)
        values = np.empty(len(rows), dtype=self.levels.dtype)
        values[~rest] = self.levels[word[~rest]]
        values[rest] = self._decode_number(self.scale, rows[rest, -1])
        return values

    def _word_of(self, values: np.ndarray) -> np.ndarray:
        """Find the index ``(N,)`` of each value's word; ``len(levels)`` for a value that is not a level."""
        if not len(self.levels):
            return np.zeros(len(values), dtype=np.int64)
        found = np.minimum(np.searchsorted(self.levels, values), len(self.levels) - 1)
        return np.where(self.levels[found] == values, found, len(self.levels))

    def _encode_number(self, scale: NormalMap, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if self.grid is None:
            return scale.encode(values.astype(np.float64)).astype(np.float32)
        cells = self.grid.index(values).astype(np.float64)
        encoded = scale.encode(cells + rng.random(len(cells))).astype(np.float32)
        strayed = np.floor(scale.decode(encoded.astype(np.float64))) != cells  # float32 rounded it across an edge
        encoded[strayed] = scale.encode(cells[strayed] + 0.5)
        return encoded

    def _decode_number(self, scale: NormalMap, encoded: np.ndarray) -> np.ndarray:
        values = scale.decode(encoded.astype(np.float64))
        if self.grid is not None:
            return self.grid.values(np.floor(values))
        if self.levels.dtype == np.int64:
            return np.clip(np.rint(values), -(2.0**63), 2.0**63 - 1024).astype(np.int64)
        return values

    def state(self) -> dict[str, Any]:
        """Return a tree of arrays and JSON, as :meth:`restore` takes it."""
        grid = None if self.grid is None else self.grid.state()
        scale = None if self.scale is None else self.scale.state()
        return {"levels": self.levels, "words": self.words, "grid": grid, "scale": scale}

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> Component:
        """Rebuild what :meth:`state` was taken of."""
        grid = None if state["grid"] is None else Grid.restore(state["grid"])
        scale = None if state["scale"] is None else NormalMap.restore(state["scale"])
        return cls(state["levels"], state["words"], grid, scale)


def learn_component(
    values: np.ndarray,
    mode: Mode,
    precision: np.dtype,
    bounds: tuple[float, float],
    settings: CodecSettings,
    keep_range: bool | None = False,
) -> Component:
    """Learn the codec of int64 or float64 values ``(N,)``, N >= 1, all finite.

    Args:
        values: of the training rows.
        mode: "levels" for categories, "numbers" to keep a number, "auto" to make a number of few values levels.
        precision: numpy type that floats are stored with.
        bounds: smallest and largest possible value; infinite where there is none.
        settings: see :class:`CodecSettings`.
        keep_range: no number is decoded outside the training values; None decides for a small closed set of integers.
    """
    distinct, counts = np.unique(values, return_counts=True)
    if keep_range or (keep_range is None and is_closed_set(distinct, counts)):
        bounds = _range(distinct)
    grid = None
    spikes = np.ones(len(distinct), dtype=bool)
    few = len(distinct) <= settings.number_levels and len(values) >= 10 * len(distinct)
    if mode == "numbers" or (mode == "auto" and not few):
        grid = learn_grid(distinct, len(values), precision)
        spikes = _spikes(distinct, counts, grid, settings.spike_share)
        if (~spikes).sum() <= (1 if mode == "numbers" else 2):
            grid = None
            spikes = np.ones_like(spikes)
    rest = distinct[~spikes]
    shares = counts[spikes]
    scale = None
    if len(rest):
        grid = None if grid is None else with_step_of_few(grid, distinct)
        places = rest.astype(np.float64) if grid is None else grid.index(rest).astype(np.float64)
        limits = _inward(bounds) if grid is None else grid.edges(bounds)
        scale = learn_map(places, counts[~spikes], float(grid is not None), limits, settings.most_knots)
        shares = np.append(shares, counts[~spikes].sum())
    return Component(distinct[spikes], code_words(shares / len(values), settings), grid, scale)


def _range(distinct: np.ndarray) -> tuple[float, float]:
    """Return the first and the last value, integers as such: float64 may have none of that size."""
    return distinct[0].item(), distinct[-1].item()


def _inward(bounds: tuple[float, float]) -> tuple[float, float]:
    """Convert bounds, perhaps integers, to float64 that is not beyond them."""
    low = float(bounds[0])
    high = float(bounds[1])
    low = math.nextafter(low, math.inf) if low < bounds[0] else low
    return low, math.nextafter(high, -math.inf) if high > bounds[1] else high


def _spikes(distinct: np.ndarray, counts: np.ndarray, grid: Grid | None, share: float) -> np.ndarray:
    """Find values with at least ``share`` of the rows; on a grid also with four times the rows of their neighbours."""
    often = counts >= max(share * counts.sum(), _LEAST_ROWS)
    if grid is None:
        return often
    cells = grid.index(distinct)
    low = np.maximum(cells - 2, cells[0])
    high = np.minimum(cells + 2, cells[-1])
    total = np.append(0, np.cumsum(counts))
    around = total[np.searchsorted(cells, high, "right")] - total[np.searchsorted(cells, low)] - counts
    return often & (counts * (high - low) >= 4 * around)


def code_words(shares: np.ndarray, settings: CodecSettings) -> np.ndarray:
    """Compute code words ``(L, W)`` float32 of L levels, with mean 0 and mean variance 1 over the rows.

    One level takes no dimension, two levels take one, up to ``one_hot_levels`` take one each. More levels take 17 to 24
    dimensions, whose signs are words of the extended binary Golay code: any two levels differ in at least eight signs.

    Args:
        shares: ``(L,)`` shares of the rows, which sum to 1.
        settings: see :class:`CodecSettings`.

    Raises:
        ValueError: if there are more levels than the code has words.
    """
    levels = len(shares)
    if levels <= 2:
        gap = 2.0
        words = np.array([[-1.0], [1.0]])[:levels, : max(levels - 1, 0)]
    elif levels <= settings.one_hot_levels:
        gap = 2**0.5
        words = np.eye(levels)
    else:
        gap = 2 * 8**0.5
        words = _golay(levels)
    words = words - shares @ words
    deviation = float(shares @ np.square(words).mean(axis=1)) ** 0.5 if levels > 1 else 0.0
    size = min(settings.spread / deviation, settings.largest_gap / gap) if deviation > 0 else 1.0
    return (words * size).astype(np.float32)


def _golay(levels: int) -> np.ndarray:
    """Generate the first words of the extended binary Golay code as signs, without dimensions in which all agree."""
    if levels > MOST_LEVELS:
        raise ValueError(f"has {levels} levels, expected at most {MOST_LEVELS}: leave it out or join rare levels")
    generator = 0b101011100011 << 1  # x^11 + x^9 + x^7 + x^6 + x^5 + x + 1
    basis = np.array([[generator << shift >> bit & 1 for bit in range(24)] for shift in range(12)])
    basis[:, 0] = basis[:, 1:].sum(axis=1) % 2
    bits = (np.arange(levels)[:, None] >> np.arange(12) & 1) @ basis % 2
    return 2.0 * bits[:, bits.any(axis=0)] - 1


def nearest_word(rows: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Find the index ``(N,)`` of the word ``(L, W)`` nearest to each row ``(N, W)``, the first one of a tie."""
    found = np.zeros(len(rows), dtype=np.int64)
    if words.shape[1] == 0:
        return found
    offset = np.square(words).sum(axis=1) / 2
    chunk = max(_CHUNK // len(words), 1)
    for start in range(0, len(rows), chunk):
        part = np.clip(rows[start : start + chunk], -_LARGEST, _LARGEST)
        found[start : start + chunk] = (part @ words.T - offset).argmax(axis=1)
    return found
