"""Class-balanced batches: every label that has rows gets an equal share, however many rows it has."""

from __future__ import annotations

import torch
from torch import Tensor

from cfdg_diffusion.edm.streams import Streams


class BalancedRows:
    """Source of batches with replacement, the same number of rows (to within one) for every label present.

    Rows and labels may each be shared by all replicas, in which case they are stored once.

    Args:
        rows: ``(R or 1, N, D)``.
        labels: ``(R or 1, N)`` integers in [0, ``num_labels``).
        num_labels: L.
    """

    def __init__(self, rows: Tensor, labels: Tensor, num_labels: int) -> None:
        offset = torch.arange(len(labels), device=labels.device)[:, None] * num_labels
        counts = (labels + offset).flatten().bincount(minlength=offset.numel() * num_labels)
        self.counts = counts.view(-1, num_labels)  # (R or 1, L)
        present = self.counts > 0
        self.shares = 1 / (present.sum(1, keepdim=True) * self.counts.gather(1, labels)).double()  # (R or 1, N)
        self._order = labels.argsort(dim=1, stable=True)
        self._starts = self.counts.cumsum(1) - self.counts
        self._rows = rows.flatten(0, 1)
        self._rows_each = rows.shape[1] if len(rows) > 1 else 0  # 0: every replica reads the same rows

    def draw(self, streams: Streams, batch_size: int) -> tuple[Tensor, Tensor]:
        """Draw rows ``(R, B, D)`` and their labels ``(R, B)``."""
        replicas = len(streams)
        labels, within = draw_labels(streams, batch_size, self.counts)
        position = self._starts.expand(replicas, -1).gather(1, labels) + within
        index = self._order.expand(replicas, -1).gather(1, position)
        index = index + torch.arange(replicas, device=streams.device)[:, None] * self._rows_each
        return self._rows[index], labels


def draw_labels(streams: Streams, batch_size: int, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Draw labels ``(R, B)`` and for each the number ``(R, B)`` of one of its rows, uniformly with replacement.

    Labels are drawn systematically: B evenly spaced points with one random shift cut the unit interval into equal
    parts, which gives each label exactly its share in expectation and within one row in every batch.

    Args:
        streams: randomness of the draws, one stream per replica.
        batch_size: B.
        counts: ``(R or 1, L)`` rows of each label.
    """
    replicas = len(streams)
    present = counts > 0
    order = present.to(torch.int8).argsort(dim=1, descending=True, stable=True)  # labels with rows first
    number = present.sum(1, keepdim=True)
    slots = (torch.arange(batch_size, device=streams.device) + streams.uniform(1)) / batch_size * number
    slots = torch.minimum(slots.long(), number - 1)
    labels = order.expand(replicas, -1).gather(1, slots)
    own = counts.expand(replicas, -1).gather(1, labels)
    return labels, torch.minimum((streams.uniform(batch_size) * own).long(), own - 1)
