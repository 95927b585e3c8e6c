"""Columns in original units <-> columns of mean 0 and standard deviation 1, per replica."""

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

    def encode(self, rows: Tensor) -> Tensor:
        """Original units ``(R, N, D)`` -> model space."""
        divisor = torch.where(self.std > 0, self.std, 1.0)
        return (rows - self.mean[:, None]) / divisor[:, None]

    def decode(self, rows: Tensor) -> Tensor:
        """Model space ``(R, N, D)`` -> original units."""
        return torch.addcmul(self.mean[:, None], rows, self.std[:, None])


def measure(rows: Tensor, shares: Tensor, raw_columns: Sequence[int]) -> Normaliser:
    """Statistics of weighted rows, in float64.

    Args:
        rows: ``(R or 1, N, D)`` in original units.
        shares: ``(R or 1, N)`` float64 weight of each row; each replica's add up to 1.
        raw_columns: columns to leave as they are (mean 0, std 1).

    Returns:
        A normaliser with leading axis 1 if neither argument has one per replica.
    """
    replicas, raw = max(len(rows), len(shares)), set(raw_columns)
    taken = [column for column in range(rows.shape[2]) if column not in raw]  # the others need no float64 copy
    moments = [
        _moments(rows[replica % len(rows)][:, taken].double(), shares[replica % len(shares)])
        for replica in range(replicas)
    ]
    found_mean, found_std = (torch.stack(parts) for parts in zip(*moments, strict=True))
    found_std[found_std <= _CONSTANT * torch.hypot(found_mean, found_std)] = 0
    mean, std = torch.zeros(replicas, rows.shape[2]).to(found_mean), torch.ones(replicas, rows.shape[2]).to(found_std)
    mean[:, taken], std[:, taken] = found_mean, found_std
    return Normaliser(mean.float(), std.float())


def _moments(rows: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean and standard deviation ``(D,)`` of ``rows (N, D)``."""
    origin = rows[0]  # of a constant column nothing is left but this value, to the last bit
    from_origin = rows - origin
    mean = shares @ from_origin
    return origin + mean, (shares @ (from_origin - mean).square()).sqrt()
