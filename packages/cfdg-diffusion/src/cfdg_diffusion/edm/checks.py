"""Checks of rows, labels, weights and states: one sentence that says what was found and what was expected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cfdg_diffusion.storage import Tree, leaves, nested


class NotFittedError(ValueError):
    """Error of a model that is asked for rows before its first fit."""


def check_sizes(columns: int, num_labels: int, raw_columns: Sequence[int]) -> None:
    """Refuse sizes below 1 and raw columns beyond the row.

    Raises:
        ValueError: with the size or the columns.
    """
    if columns < 1 or num_labels < 1:
        raise ValueError(f"columns = {columns} and num_labels = {num_labels}, expected at least 1 of each")
    if not all(0 <= column < columns for column in raw_columns):
        raise ValueError(f"raw_columns are {list(raw_columns)}, expected columns in [0, {columns})")


def check_rows(rows: Tensor | np.ndarray, columns: int, replicas: int, device: torch.device) -> Tensor:
    """Return rows as float32 ``(R or 1, N, D)``.

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


def check_labels(labels: Tensor | np.ndarray | None, num_labels: int, replicas: int, device: torch.device) -> Tensor:
    """Return labels as int64 ``(R or 1, n)``.

    Raises:
        ValueError: if the shape is neither ``(n,)`` nor ``(R, n)``, n is 0, or a label is no integer in [0, L).
    """
    if labels is None:
        raise ValueError("labels is None, expected one per row")
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


def check_pairs(rows: Tensor, labels: Tensor) -> None:
    """Refuse rows ``(.., N, D)`` and labels ``(.., N)`` of different numbers.

    Raises:
        ValueError: with both numbers.
    """
    if labels.shape[1] != rows.shape[1]:
        raise ValueError(f"there are {labels.shape[1]} labels for {rows.shape[1]} rows, expected one per row")


def check_steps(start: int, steps: int) -> None:
    """Refuse a training without a step.

    Raises:
        ValueError: if ``steps`` is below 1 or ``start`` outside [0, ``steps``).
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}, expected at least 1")
    if not 0 <= start < steps:
        raise ValueError(f"start is {start}, expected a step from 0 to {steps - 1}")


def check_fitted(labels: Tensor, label_counts: Tensor) -> None:
    """Refuse labels ``(R, n)`` of which the latest fit had no rows, ``label_counts (R, L)``.

    Raises:
        NotFittedError: if there was no fit.
        ValueError: if a label had no rows.
    """
    counts = label_counts.to(labels.device).gather(1, labels)
    if bool((counts == 0).any()):
        error = ValueError if label_counts.any() else NotFittedError
        label = int(labels[counts == 0][0])
        raise error(f"label {label} had no rows in the latest fit, expected a label that was fitted")


def check_weights(weight: float | Tensor | np.ndarray, labels: Tensor) -> float | Tensor:
    """Return one guidance weight, or one per row ``(R, n)`` on the device of ``labels (R, n)``.

    Raises:
        ValueError: if a weight is not finite, or there are neither one nor n of them.
    """
    found = torch.as_tensor(weight, dtype=torch.float32)
    if not bool(found.isfinite().all()) or (found.dim() and found.shape[-1] != labels.shape[1]):
        raise ValueError(f"guidance_weight is {weight}, expected a finite number, or one per row")
    return float(found) if found.dim() == 0 else found.to(labels.device).expand(labels.shape)


def check_known(known: Tensor | np.ndarray, labels: Tensor, columns: int) -> Tensor:
    """Return known cells as float32 ``(R, n, D)`` on the device of ``labels (R, n)``, NaN where a cell is not known.

    Raises:
        ValueError: if the shape is neither ``(n, D)`` nor ``(R, n, D)``.
    """
    found = torch.as_tensor(known).to(labels.device, torch.float32)
    shape = tuple(found.shape)
    found = found[None] if found.dim() == 2 else found
    if found.shape[1:] != (labels.shape[1], columns) or len(found) not in (1, len(labels)):
        raise ValueError(f"known has shape {shape}, expected ({labels.shape[1]}, {columns})")
    return found.expand(len(labels), -1, -1)


def check_state(state: Mapping[str, Any], own: Mapping[str, Any], device: torch.device) -> Tree:
    """Return a copy of ``state`` on a device, with the types of ``own``.

    Raises:
        ValueError: if a tensor is missing, unknown or of another shape than in ``own``.
    """
    expected = leaves(own)
    found = leaves(state)
    if expected.keys() != found.keys():
        raise ValueError(f"state has the wrong tensors: {sorted(expected.keys() ^ found.keys())} missing or unknown")
    for name, tensor in expected.items():
        free = name.startswith("streams.")  # a generator's state is as long as its kind of device needs
        if found[name].shape != tensor.shape and not (free and len(found[name]) == len(tensor)):
            raise ValueError(f"state {name!r} has shape {tuple(found[name].shape)}, expected {tuple(tensor.shape)}")
    return nested({name: found[name].to(device, tensor.dtype, copy=True) for name, tensor in expected.items()})


def check_columns(columns: Sequence[int] | None, total: int, device: torch.device) -> Tensor | None:
    """Return a mask ``(D,)`` of some columns; None for all.

    Raises:
        ValueError: if a column is outside [0, D).
    """
    if columns is None:
        return None
    outside = [column for column in columns if not 0 <= column < total]
    if outside:
        raise ValueError(f"column is {outside[0]}, expected 0 to {total - 1}")
    return torch.zeros(total, dtype=torch.bool, device=device).index_fill(0, torch.tensor(list(columns)), True)
