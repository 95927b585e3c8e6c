"""Draws of rows with a replica axis: at given places, without replacement, and by their labels."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from cfdg_rl.finetune import join
from cfdg_rl.protocols import Parts
from cfdg_rl.streams import Streams

CHUNK = 4096  # rows of a part that are measured together


def rows_at(rows: Tensor, index: Tensor) -> Tensor:
    """Take rows ``(R, n, D)`` of ``rows (R or 1, N, D)`` at the places ``index (R, n)``."""
    return rows.expand(len(index), -1, -1).gather(1, index[..., None].expand(-1, -1, rows.shape[2]))


def draw_different(rows: Tensor, count: int, streams: Streams, places: Tensor | None = None) -> Tensor:
    """Draw ``(R, n, D)`` different rows of each replica in random order; all where there are fewer than ``count``.

    Args:
        rows: ``(R or 1, N, D)``; none but those drawn are copied.
        count: n.
        streams: randomness.
        places: ``(M,)`` indices of the rows to draw from; None for all of them.
    """
    order = streams.uniform(rows.shape[1] if places is None else len(places)).argsort(dim=1)[:, :count]
    return rows_at(rows, order if places is None else places[order])


def as_one(parts: Parts) -> Tensor:
    """Join parts to rows ``(R or 1, N, D)``; a single part is taken as it is stored.

    Raises:
        ValueError: if there is no part.
    """
    if not parts:
        raise ValueError("there are 0 parts of rows, expected at least 1")
    if len(parts) > 1:
        return join(parts)[0]
    rows = parts[0][0]
    return rows if rows.dim() == 3 else rows[None]


def counted(parts: Parts) -> Iterator[tuple[Tensor, int, int]]:
    """Yield rows and label of each part, and how many rows of its label come before it."""
    counts: dict[int, int] = {}
    for rows, label in parts:
        yield rows, label, counts.get(label, 0)
        counts[label] = counts.get(label, 0) + rows.shape[-2]


class StoredRows:
    """Rows of labelled parts where they are stored, from which rows of given labels are drawn uniformly.

    No row is copied: the rows have to stay as they are until the last draw.

    Args:
        parts: rows ``(N, D)``, shared by all replicas, or ``(R, N, D)``, each part with its label.
        replicas: R.
    """

    def __init__(self, parts: Parts, replicas: int) -> None:
        self.parts = [(as_one([part]), part[1]) for part in parts]
        self._starts = [before for _, _, before in counted(self.parts)]
        counts = [0] * (1 + max(label for _, label in parts))
        for rows, label in self.parts:
            counts[label] += rows.shape[1]
        self._counts = torch.tensor(counts, device=self.parts[0][0].device).expand(replicas, -1)

    def draw(self, labels: Tensor, streams: Streams) -> Tensor:
        """Draw one row ``(R, n, D)`` for each label ``(R, n)``.

        Raises:
            ValueError: if a label has no rows.
        """
        place = _places(labels, self._counts, streams)
        drawn = labels.new_zeros(1, 1, 1, dtype=self.parts[0][0].dtype)
        for (rows, label), start in zip(self.parts, self._starts, strict=True):
            if rows.shape[1]:
                own = (labels == label) & (place >= start) & (place < start + rows.shape[1])
                drawn = torch.where(own[..., None], rows_at(rows, torch.where(own, place - start, 0)), drawn)
        return drawn

    def spread(self) -> Tensor:
        """Compute the standard deviation of each column over all rows, ``(R, 1, D)``, a chunk of rows at a time."""
        count = int(self._counts[0].sum())
        mean = sum(chunk.double().sum(1, keepdim=True) for chunk in self._chunks()) / count
        squares = sum((chunk.double() - mean).square().sum(1, keepdim=True) for chunk in self._chunks())
        variance = torch.as_tensor(squares) / max(1, count - 1)
        return variance.sqrt().float().expand(len(self._counts), -1, -1)

    def _chunks(self) -> Iterator[Tensor]:
        for rows, _ in self.parts:
            yield from rows.split(CHUNK, dim=1)


def _places(labels: Tensor, counts: Tensor, streams: Streams) -> Tensor:
    """Draw for each label ``(R, n)`` one of its rows, counted from 0, where replicas hold ``counts (R, L)`` of each.

    Raises:
        ValueError: if a label has no rows.
    """
    unknown = labels >= counts.shape[1]
    own = counts.gather(1, labels.masked_fill(unknown, 0)).masked_fill(unknown, 0)
    if bool((own == 0).any()):
        label = int(labels[own == 0][0])
        raise ValueError(f"label {label} has 0 rows in the latest fit, expected at least 1")
    return (streams.uniform(labels.shape[1]) * own).long().clamp(max=own - 1)


def fitted_rows(rows: StoredRows | None) -> StoredRows:
    """Return the rows of the latest fit.

    Raises:
        ValueError: if there was none since construction or ``restore``.
    """
    if rows is None:
        raise ValueError("the generator has not been fitted, expected a fit before a sample")
    return rows
