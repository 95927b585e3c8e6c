"""The set of values that a number can take, counted through: integers, decimals, or the values seen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

_EXACT = 2**52
"""Up to here float64, in which the map computes, tells k and k + 0.5 apart."""
_DIGITS = {2: 3, 4: 6, 8: 15}
"""Decimal digits that a float of so many bytes holds, whatever they are."""
_MOST_VALUES = 1000
_STEP_NEEDS = 8
"""So many distinct values agree on a step of 2 by chance once in 128 tables."""
_SEEN_NEEDS = 5
"""Rows per distinct value from which on the values seen are taken for all there are."""


@dataclass(frozen=True)
class Lattice:
    """``value(k) = (origin + k step) / 10^decimals``, or the k-th of the values seen.

    Attributes:
        decimals: digits after the point.
        origin: smallest training value, in units of 10^-decimals.
        step: distance of neighbours, in the same units.
        grid: ``(V,)`` the values seen, ascending; empty if they are equally spaced.
    """

    decimals: int
    origin: int
    step: int
    grid: np.ndarray

    def index(self, values: np.ndarray) -> np.ndarray:
        """int64 k ``(N,)`` of the lattice point nearest to each int64 or float64 value."""
        if len(self.grid):
            return np.searchsorted((self.grid[1:] + self.grid[:-1]) / 2, values).astype(np.int64)
        low, high = self._limits()
        if values.dtype != np.int64:
            with np.errstate(over="ignore"):
                whole = np.rint(values * 10.0**self.decimals)
            values = np.clip(whole, -(2.0**62), 2.0**62).astype(np.int64)
        values = np.clip(values, self.origin + low * self.step, self.origin + high * self.step)
        return (values - self.origin + self.step // 2) // self.step

    def values(self, index: np.ndarray) -> np.ndarray:
        """The values ``(N,)`` at k within :meth:`edges`: int64 without decimals, else float64."""
        if len(self.grid):
            return self.grid[index.astype(np.int64)]
        whole = self.origin + index.astype(np.int64) * self.step
        return whole / 10.0**self.decimals if self.decimals else whole

    def edges(self, bounds: tuple[float, float]) -> tuple[float, float]:
        """The smallest k and the end of the cell of the largest k whose values are within ``bounds``."""
        if len(self.grid):
            return 0.0, math.nextafter(len(self.grid), 0)
        low, high = self._limits()
        if math.isfinite(bounds[0]):
            low = max(low, -((self.origin - round(bounds[0] * 10**self.decimals)) // self.step))
        if math.isfinite(bounds[1]):
            high = min(high, (round(bounds[1] * 10**self.decimals) - self.origin) // self.step)
        return float(low), math.nextafter(high + 1, -math.inf)

    def _limits(self) -> tuple[int, int]:
        """Smallest and largest k that int64 and float64 have room for."""
        low, high = -((self.origin + 2**63) // self.step), (2**63 - 1 - self.origin) // self.step
        return max(low, -_EXACT), min(high, _EXACT)

    def state(self) -> dict[str, Any]:
        """Return all fields, as :meth:`restore` takes them."""
        return {"decimals": self.decimals, "origin": self.origin, "step": self.step, "seen": self.grid}

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> Lattice:
        """Rebuild what :meth:`state` was taken of."""
        return cls(state["decimals"], state["origin"], state["step"], state["seen"])


def learn_lattice(distinct: np.ndarray, rows: int, precision: np.dtype) -> Lattice | None:
    """The coarsest lattice that holds all values, None if they are continuous.

    Floats are tried as decimals first; failing that, up to a thousand values that come back five times each on average
    (such as standardised integers) are taken for all there are.

    Args:
        distinct: ``(V,)`` int64 or float64, ascending, V >= 1.
        rows: of the table.
        precision: the type that floats are stored with.
    """
    if distinct.dtype == np.int64:
        return _equally_spaced(distinct, 0)
    for decimals in range(_DIGITS[precision.itemsize]):
        if np.abs(distinct[[0, -1]]).max() * 10.0**decimals >= 10.0 ** _DIGITS[precision.itemsize]:
            break
        if _holds(distinct[:1000], decimals, precision) and _holds(distinct, decimals, precision):
            return _equally_spaced(np.rint(distinct * 10.0**decimals).astype(np.int64), decimals)
    if len(distinct) <= _MOST_VALUES and rows >= _SEEN_NEEDS * len(distinct):
        return Lattice(0, 0, 1, distinct)
    return None


def _holds(values: np.ndarray, decimals: int, precision: np.dtype) -> bool:
    """Whether so many decimals give the values back exactly."""
    rounded = np.rint(values * 10.0**decimals) / 10.0**decimals
    return bool((rounded.astype(precision) == values.astype(precision)).all())


def _equally_spaced(whole: np.ndarray, decimals: int) -> Lattice | None:
    """Integers in ascending order and their greatest common step; None if they span more than float64 resolves."""
    if int(whole[-1]) - int(whole[0]) > _EXACT:
        return None
    step = int(np.gcd.reduce(whole - whole[0])) if len(whole) >= _STEP_NEEDS else 1
    return Lattice(decimals, int(whole[0]), max(step, 1), np.empty(0))
