"""Labelled parts of a data set: rows of one label each, stored where they are and never joined, sorted or copied.

A fit on parts draws what a fit on the joined rows draws: batches of equally many rows of every label present.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cfdg_diffusion.edm.batches import draw_labels
from cfdg_diffusion.edm.normaliser import Normaliser, as_normaliser
from cfdg_diffusion.edm.streams import Streams

_CHUNK = 1024  # rows that are checked or measured together


@dataclass(frozen=True)
class Part:
    """Rows of one label.

    Attributes:
        rows: ``(N, D)`` shared by all replicas, or ``(R, N, D)``.
        label: an integer of at least 0.
    """

    rows: Tensor
    label: int


class LabelledParts:
    """Source of class-balanced batches from parts; see :class:`~cfdg_diffusion.edm.batches.BalancedRows`.

    Args:
        parts: at least one, in the order in which the rows of a label count.
        columns: D.
        num_labels: L.
        replicas: R.

    Raises:
        ValueError: if there is no row, a shape or label is not as described, or a number is not finite.
    """

    def __init__(self, parts: Sequence[Part], columns: int, num_labels: int, replicas: int) -> None:
        self.parts = [part for part in parts if part.rows.shape[-2]]
        self.replicas = replicas
        for part in self.parts:
            _check(part, columns, num_labels, replicas)
        if not self.parts:
            raise ValueError("there are 0 rows to fit, expected at least 1")
        counts = torch.zeros(1, num_labels, dtype=torch.long)
        self._starts = []
        for part in self.parts:  # the first row of a part is row number `start` of its label
            self._starts.append(int(counts[0, part.label]))
            counts[0, part.label] += part.rows.shape[-2]
        self.counts = counts.to(self.parts[0].rows.device)  # (1, L)

    def draw(self, streams: Streams, batch_size: int) -> tuple[Tensor, Tensor]:
        """Draw rows ``(R, B, D)`` and their labels ``(R, B)``."""
        labels, within = draw_labels(streams, batch_size, self.counts)
        rows: Tensor | None = None
        for part, start in zip(self.parts, self._starts, strict=True):
            own = (labels == part.label) & (within >= start) & (within < start + part.rows.shape[-2])
            found = _rows_at(part, torch.where(own, within - start, 0))
            rows = found if rows is None else torch.where(own[..., None], found, rows)
        assert rows is not None  # there is at least one part
        return rows, labels

    def measure(self, raw_columns: Sequence[int]) -> Normaliser:
        """Measure the mean and the spread of each column, every label present counting the same, in float64.

        Args:
            raw_columns: columns to leave as they are (mean 0, std 1).
        """
        first = self.parts[0].rows
        origin = (first[0] if first.dim() == 2 else first[0, 0]).double()  # of a constant column nothing else is left
        share = 1 / (self.counts > 0).sum().double()
        weights = [share / self.counts[0, part.label] for part in self.parts]
        mean = sum(weight * _sums(part, origin)[0] for part, weight in zip(self.parts, weights, strict=True))
        mean = torch.as_tensor(mean).expand(self.replicas, -1)
        square = torch.zeros_like(mean)
        for part, weight in zip(self.parts, weights, strict=True):
            first, second = _sums(part, origin)
            square = square + weight * (second - 2 * mean * first + part.rows.shape[-2] * mean.square())
        return as_normaliser(origin + mean, square.clamp(min=0).sqrt(), raw_columns)


def _check(part: Part, columns: int, num_labels: int, replicas: int) -> None:
    """Refuse a part whose shape, label or numbers are not as described."""
    shape = tuple(part.rows.shape)
    if part.rows.dim() not in (2, 3) or shape[-1] != columns or shape[:-2] not in ((), (1,), (replicas,)):
        raise ValueError(f"rows have shape {shape}, expected (N, {columns}) or ({replicas}, N, {columns})")
    if not 0 <= part.label < num_labels:
        raise ValueError(f"label is {part.label}, expected 0 to {num_labels - 1}")
    for chunk in _chunks(part.rows):
        finite = chunk.isfinite().flatten(0, -2).all(0)
        if not bool(finite.all()):
            column = int((~finite).nonzero()[0])
            raise ValueError(f"rows of label {part.label} hold a number that is not finite in column {column}")


def _chunks(rows: Tensor) -> Iterator[Tensor]:
    for start in range(0, rows.shape[-2], _CHUNK):
        yield rows[..., start : start + _CHUNK, :]


def _sums(part: Part, origin: Tensor) -> tuple[Tensor, Tensor]:
    """Sum the rows of a part and their squares from an origin ``(D,)``: two ``(R or 1, D)``."""
    first = second = origin.new_zeros(1, len(origin))
    for chunk in _chunks(part.rows if part.rows.dim() == 3 else part.rows[None]):
        from_origin = chunk.double() - origin
        first = first + from_origin.sum(1)
        second = second + from_origin.square().sum(1)
    return first, second


def _rows_at(part: Part, index: Tensor) -> Tensor:
    """Take rows ``(R, B, D)`` of a part at ``(R, B)``."""
    if part.rows.dim() == 2:
        return part.rows[index]
    replica = torch.arange(len(part.rows), device=index.device)[:, None]
    return part.rows[replica, index]
