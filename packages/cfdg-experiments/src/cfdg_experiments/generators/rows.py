"""Draws of rows with a replica axis: at given places, without replacement, and by their labels."""

from __future__ import annotations

import torch
from torch import Tensor

from cfdg_rl.streams import Streams


def rows_at(rows: Tensor, index: Tensor) -> Tensor:
    """Take rows ``(R, n, D)`` of ``rows (R or 1, N, D)`` at the places ``index (R, n)``."""
    return rows.expand(len(index), -1, -1).gather(1, index[..., None].expand(-1, -1, rows.shape[2]))


def draw_different(rows: Tensor, count: int, streams: Streams) -> Tensor:
    """Draw ``(R, n, D)`` different rows of each replica in random order; all N where there are fewer than ``count``."""
    return rows_at(rows, streams.uniform(rows.shape[1]).argsort(dim=1)[:, :count])


class LabelledRows:
    """Rows with a replica axis, from which rows of given labels are drawn uniformly.

    Args:
        rows: ``(R, N, D)``, kept without a copy.
        labels: ``(R, N)`` non-negative integers.
    """

    def __init__(self, rows: Tensor, labels: Tensor) -> None:
        self.rows = rows
        self._by_label = labels.argsort(dim=1, stable=True)
        kinds = range(int(labels.max()) + 1)
        self._counts = torch.stack([(labels == label).sum(1) for label in kinds], dim=1)
        self._first = self._counts.cumsum(1) - self._counts

    def draw(self, labels: Tensor, streams: Streams) -> Tensor:
        """Draw one row ``(R, n, D)`` for each label ``(R, n)``.

        Raises:
            ValueError: if a label has no rows.
        """
        counts = self._counts_of(labels)
        place = (streams.uniform(labels.shape[1]) * counts).long().clamp(max=counts - 1)
        index = self._by_label.gather(1, self._first.gather(1, labels) + place)
        replica = torch.arange(len(index), device=index.device)[:, None] * self.rows.shape[1]
        return self.rows.flatten(0, 1)[index + replica]

    def _counts_of(self, labels: Tensor) -> Tensor:
        unknown = labels >= self._counts.shape[1]
        counts = self._counts.gather(1, labels.masked_fill(unknown, 0)).masked_fill(unknown, 0)
        if bool((counts == 0).any()):
            label = int(labels[counts == 0][0])
            raise ValueError(f"label {label} has 0 rows in the latest fit, expected at least 1")
        return counts


def fitted_rows(rows: LabelledRows | None) -> LabelledRows:
    """Return the rows of the latest fit.

    Raises:
        ValueError: if there was none since construction or ``restore``.
    """
    if rows is None:
        raise ValueError("the generator has not been fitted, expected a fit before a sample")
    return rows
