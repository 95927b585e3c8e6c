"""One array of numbers <-> model space: code words for its levels and spikes, a normal scale for the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from cfdg_diffusion.tabular.columns.grid import Lattice, learn_lattice
from cfdg_diffusion.tabular.columns.numbers import NormalMap, learn_map

MOST_LEVELS = 4096
"""Words of the extended binary Golay code."""
_CHUNK = 2**19
"""Scores of rows against words that are held at once: what a core keeps near."""
_LEAST_ROWS = 10
"""Of a spike."""
_LARGEST = 100.0
"""No row of a training table is as far out in model space; beyond, a product of float32 could overflow."""

Mode = Literal["auto", "numbers", "levels"]


@dataclass(frozen=True)
class CodecSettings:
    """How columns become dimensions; each default says where it comes from.

    "Measured" is on a mixed table of 11 columns and 20,000 rows: pairs of categories that training does not have, and
    the detection by boosted trees, after one and two minutes of training on one core.

    Raises:
        ValueError: if a value is out of its range; the message names it.
    """

    one_hot_levels: int = 24  # more get bits of the Golay code; measured: 42 levels were better so than one-hot
    spread: float = 1.0  # root mean square of a block's dimensions; measured: 1 / sqrt(dimensions) broke twice as much
    largest_gap: float = 6.0  # between nearest code words, so that rare levels are not far out; measured against 4
    spike_share: float = 0.02  # of the rows; a single value that holds as much is a level beside the number
    number_levels: int = 3  # so few distinct numbers, ten rows of each, are levels alone; measured: 7 better are not
    most_knots: int = 1000  # of the quantile map; as scikit-learn's QuantileTransformer
    keep_bounds: bool = True  # a number never below 0 in training, nor a share or percentage beyond 0 and 100 %

    def __post_init__(self) -> None:
        limits = {"one_hot_levels": 2, "spread": 1e-3, "largest_gap": 1e-3, "spike_share": 1e-6, "most_knots": 4}
        for name, least in {**limits, "number_levels": 0}.items():
            if not least <= getattr(self, name) < np.inf:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected a number of at least {least}")


@dataclass(frozen=True)
class Component:
    """The codec of one array of numbers without missing values.

    Attributes:
        levels: ``(V,)`` int64 or float64 ascending: all values there are, or the spikes beside the number.
        words: ``(L, W)`` float32 model space of each level; with a number, the last word says "none of them".
        lattice: where the number lives if it is not continuous.
        scale: the number's map; None if there are levels only.
    """

    levels: np.ndarray
    words: np.ndarray
    lattice: Lattice | None
    scale: NormalMap | None

    @property
    def width(self) -> int:
        """Dimensions: those of the words, then the number's."""
        return self.words.shape[1] + (self.scale is not None)

    def known(self, values: np.ndarray) -> np.ndarray:
        """Which values can be encoded: all, unless there are levels only."""
        return np.ones(len(values), dtype=bool) if self.scale else self._word_of(values) < len(self.levels)

    def encode(self, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Known values ``(N,)`` -> ``(N, width)`` float32; the number's dimension is 0 beside a spike."""
        word = self._word_of(values)
        rows = np.zeros((len(values), self.width), dtype=np.float32, order="F")
        rows[:, : self.words.shape[1]] = self.words.T.take(word, axis=1).T
        if self.scale is not None:
            rest = word == len(self.levels)
            rows[rest, -1] = self._encode_number(self.scale, values[rest], rng)
        return rows

    def decode(self, rows: np.ndarray) -> np.ndarray:
        """Any finite ``(N, width)`` float32 -> values: the level of the nearest word, or the number."""
        word = nearest_word(rows[:, : self.words.shape[1]], self.words)
        if self.scale is None:
            return self.levels[word]
        rest = word == len(self.levels)
        values = np.empty(len(rows), dtype=self.levels.dtype)
        values[~rest] = self.levels[word[~rest]]
        values[rest] = self._decode_number(self.scale, rows[rest, -1])
        return values

    def _word_of(self, values: np.ndarray) -> np.ndarray:
        """Index of each value's word; ``len(levels)`` for a value that is no level."""
        if not len(self.levels):
            return np.zeros(len(values), dtype=np.int64)
        found = np.minimum(np.searchsorted(self.levels, values), len(self.levels) - 1)
        return np.where(self.levels[found] == values, found, len(self.levels))

    def _encode_number(self, scale: NormalMap, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if self.lattice is None:
            return scale.encode(values.astype(np.float64)).astype(np.float32)
        cells = self.lattice.index(values).astype(np.float64)
        encoded = scale.encode(cells + rng.random(len(cells))).astype(np.float32)
        strayed = np.floor(scale.decode(encoded.astype(np.float64))) != cells  # float32 rounded over an edge
        encoded[strayed] = scale.encode(cells[strayed] + 0.5)
        return encoded

    def _decode_number(self, scale: NormalMap, encoded: np.ndarray) -> np.ndarray:
        values = scale.decode(encoded.astype(np.float64))
        if self.lattice is not None:
            return self.lattice.values(np.floor(values))
        if self.levels.dtype == np.int64:
            return np.clip(np.rint(values), -(2.0**63), 2.0**63 - 1024).astype(np.int64)
        return values

    def state(self) -> dict[str, Any]:
        """Return a tree of arrays and JSON, as :meth:`restore` takes it."""
        grid = None if self.lattice is None else self.lattice.state()
        scale = None if self.scale is None else self.scale.state()
        return {"levels": self.levels, "words": self.words, "grid": grid, "scale": scale}

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> Component:
        """Rebuild what :meth:`state` was taken of."""
        grid = None if state["grid"] is None else Lattice.restore(state["grid"])
        scale = None if state["scale"] is None else NormalMap.restore(state["scale"])
        return cls(state["levels"], state["words"], grid, scale)


def learn_component(
    values: np.ndarray, mode: Mode, precision: np.dtype, bounds: tuple[float, float], settings: CodecSettings
) -> Component:
    """Learn the codec of int64 or float64 values ``(N,)``, N >= 1, all finite.

    Args:
        values: the training rows.
        mode: "levels" for categories, "numbers" never to make a number of levels alone, "auto" to decide.
        precision: the type that floats are stored with.
        bounds: smallest and largest possible value; infinite where there is none.
        settings: see :class:`CodecSettings`.
    """
    distinct, counts = np.unique(values, return_counts=True)
    lattice, spikes = None, np.ones(len(distinct), dtype=bool)
    few = len(distinct) <= settings.number_levels and len(values) >= 10 * len(distinct)
    if mode == "numbers" or (mode == "auto" and not few):
        lattice = learn_lattice(distinct, len(values), precision)
        spikes = _spikes(distinct, counts, lattice, settings.spike_share)
        if (~spikes).sum() <= (1 if mode == "numbers" else 2):
            lattice, spikes = None, np.ones_like(spikes)
    rest, shares = distinct[~spikes], counts[spikes]
    scale = None
    if len(rest):
        places = rest.astype(np.float64) if lattice is None else lattice.index(rest).astype(np.float64)
        limits = bounds if lattice is None else lattice.edges(bounds)
        scale = learn_map(places, counts[~spikes], float(lattice is not None), limits, settings.most_knots)
        shares = np.append(shares, counts[~spikes].sum())
    return Component(distinct[spikes], code_words(shares / len(values), settings), lattice, scale)


def _spikes(distinct: np.ndarray, counts: np.ndarray, lattice: Lattice | None, share: float) -> np.ndarray:
    """Values with that share of the rows and not by chance, on a lattice four times as many as their neighbours."""
    often = counts >= max(share * counts.sum(), _LEAST_ROWS)
    if lattice is None:
        return often
    cells = lattice.index(distinct)
    low, high = np.maximum(cells - 2, cells[0]), np.minimum(cells + 2, cells[-1])
    total = np.append(0, np.cumsum(counts))
    around = total[np.searchsorted(cells, high, "right")] - total[np.searchsorted(cells, low)] - counts
    return often & (counts * (high - low) >= 4 * around)


def code_words(shares: np.ndarray, settings: CodecSettings) -> np.ndarray:
    """Model space ``(L, W)`` of L levels that hold these shares of the rows: weighted mean 0, mean variance 1.

    One level takes no dimension, two take one, up to ``one_hot_levels`` one each; more take 17 to 24 dimensions, whose
    signs are words of the extended binary Golay code: any two levels differ in at least eight of them.

    Raises:
        ValueError: if there are more levels than the code has words.
    """
    levels = len(shares)
    if levels <= 2:
        words, gap = np.array([[-1.0], [1.0]])[:levels, : max(levels - 1, 0)], 2.0
    elif levels <= settings.one_hot_levels:
        words, gap = np.eye(levels), 2**0.5
    else:
        words, gap = _golay(levels), 2 * 8**0.5
    words = words - shares @ words
    deviation = float(shares @ np.square(words).mean(axis=1)) ** 0.5 if levels > 1 else 0.0
    size = min(settings.spread / deviation, settings.largest_gap / gap) if deviation > 0 else 1.0
    return (words * size).astype(np.float32)


def _golay(levels: int) -> np.ndarray:
    """The first words of the extended binary Golay code as signs, less the dimensions in which they all agree."""
    if levels > MOST_LEVELS:
        raise ValueError(f"has {levels} levels, expected at most {MOST_LEVELS}: leave it out or join rare levels")
    generator = 0b101011100011 << 1  # x^11 + x^9 + x^7 + x^6 + x^5 + x + 1
    basis = np.array([[generator << shift >> bit & 1 for bit in range(24)] for shift in range(12)])
    basis[:, 0] = basis[:, 1:].sum(axis=1) % 2
    bits = (np.arange(levels)[:, None] >> np.arange(12) & 1) @ basis % 2
    return 2.0 * bits[:, bits.any(axis=0)] - 1


def nearest_word(rows: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Index ``(N,)`` of the word nearest to each row ``(N, W)``, the first of several."""
    found = np.zeros(len(rows), dtype=np.int64)
    if words.shape[1] == 0:
        return found
    offset = np.square(words).sum(axis=1) / 2
    chunk = max(_CHUNK // len(words), 1)
    for start in range(0, len(rows), chunk):
        part = np.clip(rows[start : start + chunk], -_LARGEST, _LARGEST)
        found[start : start + chunk] = (part @ words.T - offset).argmax(axis=1)
    return found
