"""Weighted least squares of outcomes: on rows, and over parts of rows, which are read in chunks and never joined."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from cfdg_diffusion.edm.parts import LabelledParts
from cfdg_experiments.generators.end_states import CHUNK

RIDGE = 1e-6  # keeps least squares solvable where a column is constant; in units of standardised columns
Examples = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Inputs ``(R, c, I)`` and outputs ``(R, c, O)`` of rows ``(R, c, D)``."""
Weighted = tuple[Tensor, Tensor, float]
"""Inputs, outputs, and the weight of each of these rows."""


def least_squares(x: Tensor, y: Tensor, shares: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted least squares of ``y (N, O)`` on ``x (N, I)`` with weights ``(N,)`` that add up to 1.

    Returns:
        Slope ``(I, O)``, intercept ``(1, O)`` and the standard deviation of what is left ``(1, O)``, at least 1e-6.
    """
    weight = shares.double()[:, None]
    x = x.double()
    y = y.double()
    mean_x = (weight * x).sum(0, keepdim=True)
    mean_y = (weight * y).sum(0, keepdim=True)
    centred = x - mean_x
    weighted = (weight * centred).T
    gram = weighted @ centred + RIDGE * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    slope = torch.linalg.solve(gram, weighted @ (y - mean_y))
    left = y - mean_y - centred @ slope
    std = (weight * left.square()).sum(0, keepdim=True).sqrt()
    return slope.float(), (mean_y - mean_x @ slope).float(), std.clamp(min=1e-6).float()


def weighted_chunks(data: LabelledParts, examples: Examples) -> Iterator[Weighted]:
    """Yield the examples of all rows in chunks, in float64; all labels together weigh 1, each the same."""
    share = 1 / int((data.counts > 0).sum())
    for part in data.parts:
        weight = share / int(data.counts[0, part.label])
        rows = part.rows if part.rows.dim() == 3 else part.rows[None]
        for chunk in rows.split(CHUNK, dim=1):
            x, y = examples(chunk.expand(data.replicas, -1, -1))
            yield x.double(), y.double(), weight


def least_squares_of_parts(data: LabelledParts, examples: Examples) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted least squares of all replicas; see :func:`least_squares`.

    Returns:
        Slope ``(R, I, O)``, intercept ``(R, 1, O)`` and the standard deviation of what is left ``(R, 1, O)``.
    """
    mean_x, mean_y = _means(weighted_chunks(data, examples))
    gram = torch.as_tensor(0.0)
    cross = torch.as_tensor(0.0)
    for x, y, weight in weighted_chunks(data, examples):
        weighted = weight * (x - mean_x).mT
        gram = gram + weighted @ (x - mean_x)
        cross = cross + weighted @ (y - mean_y)
    eye = torch.eye(mean_x.shape[-1], dtype=mean_x.dtype, device=mean_x.device)
    slope = torch.linalg.solve(gram + RIDGE * eye, cross)
    variance = torch.zeros_like(mean_y)
    for x, y, weight in weighted_chunks(data, examples):
        left = y - mean_y - (x - mean_x) @ slope
        variance = variance + weight * left.square().sum(1, keepdim=True)
    return slope.float(), (mean_y - mean_x @ slope).float(), variance.sqrt().clamp(min=1e-6).float()


def _means(chunks: Iterator[Weighted]) -> tuple[Tensor, Tensor]:
    """Average inputs ``(R, 1, I)`` and outputs ``(R, 1, O)``."""
    mean_x = torch.as_tensor(0.0)
    mean_y = torch.as_tensor(0.0)
    for x, y, weight in chunks:
        mean_x = mean_x + weight * x.sum(1, keepdim=True)
        mean_y = mean_y + weight * y.sum(1, keepdim=True)
    return mean_x, mean_y
