"""Grids of numbers: the values that a column can take, as integers, decimals or the values seen in training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

_EXACT = 2**52
"""The largest k for which float64 distinguishes k and k + 0.5."""
_DIGITS = {2: 3, 4: 6, 8: 15}
"""Decimal digits that every float keeps, by its size in bytes."""
_CHANCE = math.log(1e-6)
"""Largest chance of random floats of more digits to be decimals, so that they count as such."""
_MOST_VALUES = 1000
"""Distinct values of a grid of seen values."""
_STEP_NEEDS = 8
"""Distinct values from which on a common step is used; 8 share a step of 2 by chance once in 128 tables."""
_TABLES = 1000
"""Tables of random values, of which one has the step of fewer distinct values by chance."""
_MOST_CLOSED = 64
"""Values of a small closed set of integers; minutes are 60."""
_LEAST_AT_ENDS = 10
"""Rows of its smallest and of its largest value."""
_SEEN_NEEDS = 5
"""Rows per distinct value from which on the values seen count as all possible values."""


@dataclass(frozen=True)
class Grid:
    """Numbered values: ``value(k) = (origin + k step) / 10^decimals``, or the k-th of the values seen.

    Attributes:
        decimals: digits after the point.
        origin: smallest training value, in units of 10^-decimals.
        step: distance of neighbours, in the same units.
        seen: ``(V,)`` the values seen, ascending; empty if they are equally spaced.
    """

    decimals: int
    origin: int
    step: int
    seen: np.ndarray

    def index(self, values: np.ndarray) -> np.ndarray:
        """Find int64 k ``(N,)`` of the grid point nearest to each int64 or float64 value ``(N,)``."""
        if len(self.seen):
            return np.searchsorted(self._middles(), values).astype(np.int64)
        low, high = self._limits()
        if values.dtype != np.int64:
            with np.errstate(over="ignore"):
                whole = np.rint(values * 10.0**self.decimals)
            values = np.clip(whole, -(2.0**62), 2.0**62).astype(np.int64)
        values = np.clip(values, self.origin + low * self.step, self.origin + high * self.step)
        return (values - self.origin + self.step // 2) // self.step

    def _middles(self) -> np.ndarray:
        """Compute the middles ``(V - 1,)`` between neighbours seen, of int64 without rounding."""
        low = self.seen[:-1]
        high = self.seen[1:]
        if self.seen.dtype != np.int64:
            with np.errstate(over="ignore"):
                middles = (high + low) / 2
            return np.where(np.isfinite(middles), middles, high / 2 + low / 2)
        return low + ((high.view(np.uint64) - low.view(np.uint64)) // 2).astype(np.int64)

    def values(self, index: np.ndarray) -> np.ndarray:
        """Look up the values ``(N,)`` at k within :meth:`edges`: int64 without decimals, else float64."""
        if len(self.seen):
            return self.seen[index.astype(np.int64)]
        whole = self.origin + index.astype(np.int64) * self.step
        return whole / 10.0**self.decimals if self.decimals else whole

    def edges(self, bounds: tuple[float, float]) -> tuple[float, float]:
        """Find the smallest k whose value is within ``bounds``, and the upper end of the cell of the largest such k."""
        if len(self.seen):
            return 0.0, math.nextafter(len(self.seen), 0)
        low, high = self._limits()
        if math.isfinite(bounds[0]):
            low = max(low, -((self.origin - round(bounds[0] * 10**self.decimals)) // self.step))
        if math.isfinite(bounds[1]):
            high = min(high, (round(bounds[1] * 10**self.decimals) - self.origin) // self.step)
        return float(low), math.nextafter(high + 1, -math.inf)

    def _limits(self) -> tuple[int, int]:
        """Compute the smallest and the largest k that int64 and float64 can represent."""
        low = -((self.origin + 2**63) // self.step)
        high = (2**63 - 1 - self.origin) // self.step
        return max(low, -_EXACT), min(high, _EXACT)

    def state(self) -> dict[str, Any]:
        """Return all fields, as :meth:`restore` takes them."""
        return {"decimals": self.decimals, "origin": self.origin, "step": self.step, "seen": self.seen}

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> Grid:
        """Rebuild what :meth:`state` was taken of."""
        return cls(state["decimals"], state["origin"], state["step"], state["seen"])


def learn_grid(distinct: np.ndarray, rows: int, precision: np.dtype) -> Grid | None:
    """Find the coarsest grid that contains all values; None if they are continuous.

    Floats are tried as decimals first. If that fails, at most a thousand distinct values with five rows each on average
    (standardised integers, for example) count as all possible values.

    Args:
        distinct: ``(V,)`` int64 or float64, ascending, V >= 1.
        rows: of the table.
        precision: numpy type that floats are stored with.
    """
    grid = _equally_spaced(distinct, 0) if distinct.dtype == np.int64 else _decimals(distinct, precision)
    if grid is not None:
        return grid
    if len(distinct) <= _MOST_VALUES and rows >= _SEEN_NEEDS * len(distinct):
        return Grid(0, 0, 1, distinct)
    return None


def with_step_of_few(grid: Grid, distinct: np.ndarray) -> Grid:
    """Coarsen the grid of few values to their common step if it is no accident, as of costs of 1,000, 3,000 and 8,000.

    V random integers share a step of s or more about once in s^(V - 2) tables: each of V - 1 distances from the
    smallest is a multiple of s once in s, and the steps above s count too. So two values never tell a step.

    Args:
        grid: of all values.
        distinct: ``(V,)`` int64 or float64, ascending.
    """
    if len(grid.seen) or not 2 < len(distinct) < _STEP_NEEDS:
        return grid
    step = int(np.gcd.reduce(grid.index(distinct)))
    return replace(grid, step=step) if step ** (len(distinct) - 2) >= _TABLES else grid


def _decimals(distinct: np.ndarray, precision: np.dtype) -> Grid | None:
    """Find the grid of decimals with the fewest digits; None if there is none."""
    for decimals in range(_DIGITS[precision.itemsize]):
        if not _resolves(distinct, decimals, precision):
            break
        if _holds(distinct[:1000], decimals, precision) and _holds(distinct, decimals, precision):
            return _equally_spaced(np.rint(distinct * 10.0**decimals).astype(np.int64), decimals)
    return None


def _resolves(distinct: np.ndarray, decimals: int, precision: np.dtype) -> bool:
    """Test whether floats keep so many decimals apart, and whether decimals among them are no accident.

    The type keeps its guaranteed digits anyway. Beyond these, of the floats near a value spacing / 10^-decimals are
    decimals.
    """
    largest = float(np.abs(distinct[[0, -1]]).max())
    if largest * 10.0**decimals < 10.0 ** _DIGITS[precision.itemsize]:
        return True
    with np.errstate(over="ignore", invalid="ignore"):
        shares = np.spacing(np.abs(distinct[:1000]).astype(precision)).astype(np.float64) * 10.0**decimals
        last = float(np.spacing(precision.type(largest))) * 10.0**decimals
    return last <= 1 and float(np.log(np.minimum(shares, 1)).sum()) < _CHANCE


def is_closed_set(distinct: np.ndarray, counts: np.ndarray) -> bool:
    """Test for a small closed set of integers, such as months, hours or stars.

    They are at most 64 neighbours, or multiples of one step, without gaps. Ten rows each of the smallest and the
    largest say that no rarer one lies beyond, as it would in a count with a tail.

    Args:
        distinct: ``(V,)`` int64, or float64 without decimals, ascending.
        counts: ``(V,)`` rows of each.
    """
    if len(distinct) > _MOST_CLOSED or min(counts[0], counts[-1]) < _LEAST_AT_ENDS:
        return False
    with np.errstate(over="ignore"):
        steps = np.unique(np.diff(distinct))
    return len(steps) <= 1


def _holds(values: np.ndarray, decimals: int, precision: np.dtype) -> bool:
    """Test whether rounding to so many decimals keeps every value exactly."""
    rounded = np.rint(values * 10.0**decimals) / 10.0**decimals
    return bool((rounded.astype(precision) == values.astype(precision)).all())


def _equally_spaced(whole: np.ndarray, decimals: int) -> Grid | None:
    """Make the grid of ascending integers with their greatest common step; None if float64 cannot resolve the span."""
    if int(whole[-1]) - int(whole[0]) > _EXACT:
        return None
    step = int(np.gcd.reduce(whole - whole[0])) if len(whole) >= _STEP_NEEDS else 1
    return Grid(decimals, int(whole[0]), max(step, 1), np.empty(0))
