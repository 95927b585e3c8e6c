"""Distances between sets of rows, per replica: sliced Wasserstein, and to the nearest neighbour."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_BLOCK = 256  # queries whose distances to all rows are held at once


@dataclass(frozen=True)
class Scale:
    """The standardisation of rows by real ones; a constant column counts in its own units.

    Attributes:
        mean: ``(R, 1, D)``.
        std: ``(R, 1, D)``.
    """

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> Scale:
        """Measure rows ``(R, N, D)``, N at least 2."""
        std = rows.std(1, keepdim=True)
        return cls(rows.mean(1, keepdim=True), torch.where(std > 1e-6, std, 1.0))

    def __call__(self, rows: Tensor) -> Tensor:
        """Standardise rows ``(R, n, D)``."""
        return (rows - self.mean) / self.std


def sliced_wasserstein(one: Tensor, other: Tensor, directions: Tensor) -> Tensor:
    """Compute the mean 1-Wasserstein distance over projections (Rabin et al. 2011), ``(R,)``.

    Args:
        one: ``(R, n, D)`` standardised rows.
        other: ``(R, m, D)`` standardised rows; of the longer set the first rows are taken.
        directions: ``(R, D, P)``, of any lengths.
    """
    count = min(one.shape[1], other.shape[1])
    unit = directions / directions.norm(dim=1, keepdim=True)
    left = (one[:, :count] @ unit).sort(dim=1).values
    right = (other[:, :count] @ unit).sort(dim=1).values
    return (left - right).abs().mean((1, 2))


def nearest_distance(queries: Tensor, rows: Tensor, own: Tensor | None = None) -> Tensor:
    """Compute each query's Euclidean distance to the nearest row, ``(R, q)``.

    Args:
        queries: ``(R, q, D)``.
        rows: ``(R, M, D)``.
        own: ``(R, q)`` index of the row that each query is, which does not count; None for queries that are no rows.
    """
    queries = queries.double()  # float32 would take close rows for equal ones
    rows = rows.double()
    size = rows.square().sum(-1)[:, None]
    found = []
    for start in range(0, queries.shape[1], _BLOCK):
        part = queries[:, start : start + _BLOCK]
        squared = size + part.square().sum(-1, keepdim=True) - 2 * part @ rows.transpose(1, 2)
        if own is not None:
            squared.scatter_(2, own[:, start : start + _BLOCK, None], torch.inf)
        found.append(squared.amin(2).clamp(min=0).sqrt())
    return torch.cat(found, dim=1).float()
