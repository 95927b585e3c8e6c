"""Normaliser of columns to mean 0 and standard deviation 1, per replica, and back to original units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_CONSTANT = 1e-6
"""A column whose spread is below this share of its size is constant: float32 resolves no more than 1e-7."""


@dataclass(frozen=True)
class Normaliser:
    """Affine map of each column.

    A constant column has ``std`` 0: it is only centred on the way in, and comes out as its one value.

    Attributes:
        mean: ``(R, D)`` in original units.
        std: ``(R, D)`` in original units, 0 for a constant column.
    """

    mean: Tensor
    std: Tensor

    def expand(self, replicas: int) -> Normaliser:
        """Copy a normaliser that all replicas share for each of them."""
        return Normaliser(self.mean.expand(replicas, -1).clone(), self.std.expand(replicas, -1).clone())

    def encode(self, rows: Tensor) -> Tensor:
        """Map rows ``(R, N, D)`` from original units to model space."""
        divisor = torch.where(self.std > 0, self.std, 1.0)
        return (rows - self.mean[:, None]) / divisor[:, None]

    def decode(self, rows: Tensor) -> Tensor:
        """Map rows ``(R, N, D)`` from model space to original units."""
        return torch.addcmul(self.mean[:, None], rows, self.std[:, None])


def measure(rows: Tensor, shares: Tensor, raw_columns: Sequence[int]) -> Normaliser:
    """Measure weighted rows, in float64.

    Args:
        rows: ``(R or 1, N, D)`` in original units.
        shares: ``(R or 1, N)`` float64 weight of each row; each replica's add up to 1.
        raw_columns: columns to leave as they are (mean 0, std 1).

    Returns:
        A normaliser with leading axis 1 if neither argument has one per replica.
    """
    replicas = max(len(rows), len(shares))
    measured = sorted(set(range(rows.shape[2])) - set(raw_columns))  # the others need no float64 copy
    moments = [
        _moments(rows[replica % len(rows)][:, measured].double(), shares[replica % len(shares)])
        for replica in range(replicas)
    ]
    mean = rows.new_zeros(replicas, rows.shape[2], dtype=torch.double)
    std = torch.ones_like(mean)
    mean[:, measured], std[:, measured] = (torch.stack(parts) for parts in zip(*moments, strict=True))
    return as_normaliser(mean, std, raw_columns)


def as_normaliser(mean: Tensor, std: Tensor, raw_columns: Sequence[int]) -> Normaliser:
    """Make a normaliser of measured moments ``(R, D)``; raw columns stay as they are."""
    raw = list(raw_columns)
    std = torch.where(std <= _CONSTANT * torch.hypot(mean, std), 0.0, std)
    std[:, raw] = 1
    mean = mean.clone()
    mean[:, raw] = 0
    return Normaliser(mean.float(), std.float())


def _moments(rows: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the weighted mean and standard deviation ``(D,)`` of ``rows (N, D)``."""
    origin = rows[0]  # of a constant column nothing is left but this value, to the last bit
    from_origin = rows - origin
    mean = shares @ from_origin
    return origin + mean, (shares @ (from_origin - mean).square()).sqrt()
