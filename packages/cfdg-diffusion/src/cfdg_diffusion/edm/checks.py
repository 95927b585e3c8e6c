"""Checks of what users pass: one sentence that says what was found and what was expected."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def check_rows(rows: Tensor | np.ndarray, columns: int, replicas: int, device: torch.device) -> Tensor:
    """Rows as float32 ``(R or 1, N, D)``.

    Raises:
        ValueError: if the shape is neither ``(N, D)`` nor ``(R, N, D)``, N is 0, or a number is not finite.
    """
    found = torch.as_tensor(rows).to(device, torch.float32)
    shape = tuple(found.shape)
    found = found[None] if found.dim() == 2 else found
    if found.dim() != 3 or found.shape[2] != columns or len(found) not in (1, replicas) or found.shape[1] == 0:
        raise ValueError(f"rows have shape {shape}, expected (N, {columns}) or ({replicas}, N, {columns}) with N >= 1")
    finite = found.isfinite().all(dim=0)
    if not bool(finite.all()):
        row, column = (~finite).nonzero()[0].tolist()
        raise ValueError(f"rows hold a number that is not finite in column {column} (first in row {row})")
    return found


def check_labels(labels: Tensor | np.ndarray, num_labels: int, replicas: int, device: torch.device) -> Tensor:
    """Labels as int64 ``(R or 1, n)``.

    Raises:
        ValueError: if the shape is neither ``(n,)`` nor ``(R, n)``, n is 0, or a label is no integer in [0, L).
    """
    found = torch.as_tensor(labels).to(device)
    shape = tuple(found.shape)
    if found.is_floating_point() or found.is_complex() or found.dtype == torch.bool:
        raise ValueError(f"labels have type {found.dtype}, expected integers")
    found = found.long()[None] if found.dim() == 1 else found.long()
    if found.dim() != 2 or len(found) not in (1, replicas) or found.shape[1] == 0:
        raise ValueError(f"labels have shape {shape}, expected (n,) or ({replicas}, n) with n >= 1")
    outside = (found < 0) | (found >= num_labels)
    if bool(outside.any()):
        raise ValueError(f"labels hold {int(found[outside][0])}, expected integers in [0, {num_labels})")
    return found
