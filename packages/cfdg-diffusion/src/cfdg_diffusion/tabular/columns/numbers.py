"""Quantile map of a number <-> a standard normal scale, with generalised Pareto tails outside the training rows."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

_BEYOND = 100
"""Tails end where a table of this many times the training rows would, so that sampling errors give no absurd value."""
_FARTHEST = 8.0
"""Model space at which a bounded tail meets its bound, in standard deviations."""
_INSIDE = 256
"""Knots over all of model space inside the cells of frequent integers."""
_NOTHING = 1e-200
"""Smaller numbers count as 0, since a slope between two of them would overflow."""
_LEAST_SLOPE = 1e-3
"""Share of model space for all gaps of the data together, so that the map has an inverse inside them too."""


@dataclass(frozen=True)
class Tail:
    """A generalised Pareto tail, P(excess > e) = P(edge) (1 + shape e / scale)^(-1 / shape), beyond the last knot.

    Attributes:
        scale: in the units of the map, above 0.
        shape: negative for a bounded tail, positive for a heavy one, never exactly 0.
        farthest: largest distance from 0 in model space, representable in float32.
        reach: excess at ``farthest``.
    """

    scale: float
    shape: float
    farthest: float
    reach: float

    def outward(self, excess: np.ndarray, edge: float) -> np.ndarray:
        """Map ``excess (N,)`` to model space, as a lower tail: at most ``edge``, the knot's (negative) model space."""
        with np.errstate(divide="ignore", over="ignore"):
            log_share = -np.log1p(np.maximum(self.shape * (excess / self.scale), -1)) / self.shape
            share = np.exp(log_share + _log_ndtr(np.array(edge)))
        return np.where(excess >= self.reach, -self.farthest, np.maximum(_ndtri(share), -self.farthest))

    def inward(self, z: np.ndarray, edge: float) -> np.ndarray:
        """Map model space ``(N,)`` to the excess, the inverse of :meth:`outward`."""
        log_share = _log_ndtr(np.maximum(z, -self.farthest)) - float(_log_ndtr(np.array(edge)))
        excess = np.minimum(self.scale * _stretch(log_share, self.shape), self.reach)
        return np.where(z <= -self.farthest, self.reach, excess)


@dataclass(frozen=True)
class NormalMap:
    """A strictly increasing map of numbers to a standard normal scale.

    Attributes:
        knots: ``(2, K)`` float64; the first row has numbers divided by ``unit``, the second their model space.
        lower: tail below the first knot.
        upper: tail above the last knot.
        unit: a power of two near the largest number, so that no difference of two numbers overflows.
        bounds: smallest and largest number that :meth:`decode` returns.
    """

    knots: np.ndarray
    lower: Tail
    upper: Tail
    unit: float
    bounds: tuple[float, float]

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Map float64 numbers ``(N,)`` to float64 model space."""
        y, z = self.knots
        values = values / self.unit
        encoded = np.interp(values, y, z)
        above = values > y[-1]
        below = values < y[0]
        encoded[above] = -self.upper.outward(values[above] - y[-1], -z[-1])
        encoded[below] = self.lower.outward(y[0] - values[below], z[0])
        return encoded

    def decode(self, encoded: np.ndarray) -> np.ndarray:
        """Map model space ``(N,)`` to float64 numbers, finite for any finite input."""
        y, z = self.knots
        values = np.interp(encoded, z, y)
        above = encoded > z[-1]
        below = encoded < z[0]
        values[above] = y[-1] + self.upper.inward(-encoded[above], -z[-1])
        values[below] = y[0] - self.lower.inward(encoded[below], z[0])
        with np.errstate(over="ignore"):
            return np.clip(values * self.unit, *self.bounds)

    def state(self) -> dict[str, Any]:
        """Return all fields, as :meth:`restore` takes them."""
        return asdict(self) | {"bounds": list(self.bounds)}  # JSON has no tuples

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> NormalMap:
        """Rebuild what :meth:`state` was taken of."""
        lower = Tail(**state["lower"])
        upper = Tail(**state["upper"])
        return cls(state["knots"], lower, upper, state["unit"], tuple(state["bounds"]))


def learn_map(
    values: np.ndarray, counts: np.ndarray, cell: float, bounds: tuple[float, float], most_knots: int
) -> NormalMap:
    """Learn the map of at least two distinct numbers.

    Every cell edge of integers is a knot if they are few and frequent; dequantised training rows are then exactly
    normal. Otherwise knots are equally spaced in model space, at most one per ten rows.

    Args:
        values: ``(V,)`` distinct numbers in ascending order.
        counts: ``(V,)`` rows of each.
        cell: 1 for integers, which occupy [k, k + 1); 0 for continuous numbers.
        bounds: smallest and largest possible number; infinite where there is none.
        most_knots: largest number of knots K.
    """
    unit = 1.0 if cell else math.ldexp(1.0, int(np.frexp(np.abs(values).max())[1]) - 1)
    rows = int(counts.sum())
    y = values / unit
    y = np.where(np.abs(y) < _NOTHING, 0, y)
    edges, shares = _distribution(y, counts, cell)
    exact = bool(cell) and 5 * len(y) <= rows and len(edges) <= most_knots
    knots = _refined(edges, shares) if exact else _quantiles(edges, shares, rows, most_knots)
    knots_y, knots_z = _strict(*knots)
    centres = y + cell / 2
    count = max(1, min(rows // 4, 30), min(rows // 20, 1000))
    outer = np.repeat(centres[-count - 1 :], np.minimum(counts[-count - 1 :], count + 1))[-count - 1 :]
    inner = -np.repeat(centres[: count + 1], np.minimum(counts[: count + 1], count + 1))[count::-1]
    low = bounds[0] / unit
    high = bounds[1] / unit
    least = 1e-9 * (knots_y[-1] - knots_y[0])
    lower = _learn_tail(inner, (-knots_y[0], knots_z[0]), (-y[0], -low), rows, least)
    upper = _learn_tail(outer, (knots_y[-1], -knots_z[-1]), (y[-1] + cell, high), rows, least)
    largest = sys.float_info.max
    limits = max(bounds[0], -largest), min(bounds[1], largest)
    return NormalMap(np.stack([knots_y, knots_z]), lower, upper, unit, limits)


def _distribution(y: np.ndarray, counts: np.ndarray, cell: float) -> tuple[np.ndarray, np.ndarray]:
    """Compute points of the distribution function, at cell edges or at the middle of each number's rank (Hazen)."""
    rows = counts.sum()
    below = np.cumsum(counts) - counts
    if not cell:
        return y, (below + counts / 2) / rows
    edges = np.stack([y, y + cell], axis=1).reshape(-1)
    shares = np.stack([below, below + counts], axis=1).reshape(-1) / rows
    return edges, shares * (1 - 1 / rows) + 0.5 / rows  # half a row is left for each tail


def _refined(edges: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Take all edges as knots, and more inside wide cells, whose rows a single line would make uniform, not normal."""
    ends = _ndtri(shares[[0, -1]])
    inside = _ndtr(np.linspace(ends[0], ends[1], _INSIDE))
    y = np.append(edges, np.interp(inside, shares, edges))
    p = np.append(shares, inside)
    order = np.lexsort((p, y))
    return y[order], _ndtri(p[order])


def _quantiles(edges: np.ndarray, shares: np.ndarray, rows: int, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Space knots equally in model space; the outermost hundred rows, or 1 % of fewer, belong to the tails."""
    outside = (0.5 + min(0.01 * rows, 100)) / rows
    ends = _ndtri(np.array([max(shares[0], outside), min(shares[-1], 1 - outside)]))
    z = np.linspace(ends[0], ends[1], int(np.clip(rows // 10, min(20, most), most)))
    return np.interp(z, _ndtri(shares), edges), z


def _strict(y: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Join knots of the same number at their middle, and separate those of different numbers by a least slope."""
    unique, first = np.unique(y, return_index=True)
    last = np.append(first[1:], len(y)) - 1
    middle = (z[first] + z[last]) / 2
    least = _LEAST_SLOPE * (z[-1] - z[0]) * np.diff(unique) / (unique[-1] - unique[0])
    return unique, np.cumsum(np.append(middle[0], np.maximum(np.diff(middle), least)))


def _learn_tail(
    outer: np.ndarray, knot: tuple[float, float], ends: tuple[float, float], rows: int, least: float
) -> Tail:
    """Fit one tail, mirrored to point up: the shape to all ``outer`` rows, the scale moved out to the knot.

    Args:
        outer: outermost numbers in ascending order; the first is the threshold below the others.
        knot: its number, and its model space on the negative side.
        ends: the outermost training number and the bound.
        rows: all training rows.
        least: the smallest scale.
    """
    edge, edge_z = knot
    extreme, bound = ends
    excess = outer[1:] - outer[0]
    shape, scale = _generalised_pareto(excess[excess > least], least)
    scale += shape * (edge - outer[0])
    log_edge = float(_log_ndtr(np.array(edge_z)))
    log_least = min(-math.log(_BEYOND * rows) - log_edge, -1.0)
    farthest = float(-np.float32(_ndtri(np.exp(np.array(log_least + log_edge)))))
    stretch = float(_stretch(np.array(log_least), shape))
    scale = max(scale, (extreme - edge) / stretch, least)
    if scale * stretch < bound - edge:
        return Tail(scale, shape, farthest, scale * stretch)
    return _bounded_tail(outer, edge, bound, log_least)


def _bounded_tail(outer: np.ndarray, edge: float, bound: float, log_least: float) -> Tail:
    """Fit a tail whose distance from the bound is a power of its share; power 1 is a constant density."""
    distances = bound - outer
    distances = distances[distances > 0]
    power = float(np.log(distances[0] / distances).sum() / max(len(distances) - 1, 1)) if len(distances) else 1.0
    beyond = bound - edge
    if len(distances) and beyond > 0:  # keeps the training row nearest to the bound apart from it
        power = max(power, math.log(beyond / distances[-1]) / -log_least)
    power = min(max(power, 0.05), 20.0)
    room = max(beyond, 0.0)
    return Tail(max(power * room, 1e-300), -power, _FARTHEST, room)


def _generalised_pareto(excess: np.ndarray, least: float) -> tuple[float, float]:
    """Estimate shape and scale as Zhang and Stephens (2009, Technometrics 51), with ten rows' weight on shape 0.

    Fewer than five rows get an exponential tail.
    """
    rows = len(excess)
    if rows < 5:
        return 1e-6, max(float(excess.mean()), least) if rows else least
    trials = 20 + math.isqrt(rows)
    theta = 1 - np.sqrt(trials / (np.arange(1, trials + 1) - 0.5))
    theta = 1 / excess[-1] + theta / (3 * excess[int(rows / 4 + 0.5) - 1])
    theta = np.where(np.abs(theta * excess[-1]) < 1e-9, 1e-9 / excess[-1], theta)  # 0 / 0 is the exponential tail
    shapes = np.log1p(-theta[:, None] * excess).mean(axis=1)
    likelihood = rows * (np.log(-theta / shapes) - shapes - 1)
    weight = np.exp(likelihood - likelihood.max())
    best = float((theta * weight).sum() / weight.sum())
    fitted = float(np.log1p(-best * excess).mean())
    shape = float(np.clip(fitted * rows / (rows + 10), -2, 1))
    shape = math.copysign(max(abs(shape), 1e-6), shape)
    half = np.array(math.log(0.5))  # the median stays where it was fitted
    return shape, -fitted / best * float(_stretch(half, fitted) / _stretch(half, shape))


def _stretch(log_share: np.ndarray, shape: float) -> np.ndarray:
    """Compute (share^-shape - 1) / shape, the distance, in units of scale, beyond which that share of the tail lies."""
    with np.errstate(over="ignore"):
        return np.expm1(-shape * log_share) / shape


def _ndtri(share: np.ndarray) -> np.ndarray:
    return torch.special.ndtri(torch.as_tensor(share, dtype=torch.float64)).numpy()


def _ndtr(z: np.ndarray) -> np.ndarray:
    return torch.special.ndtr(torch.as_tensor(z, dtype=torch.float64)).numpy()


def _log_ndtr(z: np.ndarray) -> np.ndarray:
    return torch.special.log_ndtr(torch.as_tensor(z, dtype=torch.float64)).numpy()
