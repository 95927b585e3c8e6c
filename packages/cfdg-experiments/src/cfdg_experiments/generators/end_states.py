"""States with flags of ends, in parts that are read in chunks and never joined; one row in ten judges a rule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from cfdg_diffusion import Streams
from cfdg_diffusion.edm.batches import draw_labels
from cfdg_experiments.generators.rows import rows_at

Flagged = tuple[Tensor, Tensor]
"""States ``(R or 1, n, S)`` and booleans ``(R or 1, n)``, true where an episode ended."""
HELD_OUT_EVERY = 10  # one row in so many judges the rule
CHUNK = 1024  # rows that are read together


class EndStates:
    """States of R replicas, some of which ended an episode.

    A single part is read at once, so that sums and products have the bits of the whole.

    Args:
        parts: at least one row together.
        replicas: R.
    """

    def __init__(self, parts: Sequence[Flagged], replicas: int) -> None:
        self.parts = [part for part in parts if part[0].shape[1]]
        self.replicas = replicas
        self._starts = [0]
        for states, _ in self.parts:
            self._starts.append(self._starts[-1] + states.shape[1])

    def __len__(self) -> int:
        """Count the rows N of a replica."""
        return self._starts[-1]

    @property
    def is_single(self) -> bool:
        """True where there is one part."""
        return len(self.parts) == 1

    def chunks(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield states ``(R, c, S)``, flags ``(R, c)`` and, ``(c,)``, which rows are held out."""
        for (states, ended), start in zip(self.parts, self._starts, strict=False):
            size = states.shape[1] if self.is_single else CHUNK
            for first in range(0, states.shape[1], size):
                own = states[:, first : first + size].expand(self.replicas, -1, -1)
                number = torch.arange(start + first, start + first + own.shape[1], device=states.device)
                flags = ended[:, first : first + size].expand(self.replicas, -1)
                yield own, flags, number % HELD_OUT_EVERY == 0

    def fitted(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the states and flags of the rows that are not held out."""
        for states, ended, held_out in self.chunks():
            yield states[:, ~held_out], ended[:, ~held_out]

    def held_out(self, replica: int) -> tuple[Tensor, Tensor]:
        """Join the held-out states ``(n, S)`` and flags ``(n,)`` of a replica."""
        found = [(states[replica, out], ended[replica, out]) for states, ended, out in self.chunks()]
        return torch.cat([states for states, _ in found]), torch.cat([ended for _, ended in found])

    def moments(self) -> tuple[Tensor, Tensor]:
        """Compute mean and standard deviation ``(R, 1, S)`` of the rows that are not held out."""
        if self.is_single:
            states = next(self.fitted())[0]
            return states.mean(1, keepdim=True), states.std(1, keepdim=True)
        count = sum(states.shape[1] for states, _ in self.fitted())
        total = sum(states.double().sum(1, keepdim=True) for states, _ in self.fitted())
        mean = torch.as_tensor(total) / count
        squares = sum((states.double() - mean).square().sum(1, keepdim=True) for states, _ in self.fitted())
        return mean.float(), (torch.as_tensor(squares) / max(1, count - 1)).sqrt().float()

    def rows_at(self, index: Tensor) -> Tensor:
        """Take states ``(R, n, S)`` at the places ``index (R, n)`` of all rows."""
        found: Tensor | None = None
        for (states, _), start in zip(self.parts, self._starts, strict=False):
            own = (index >= start) & (index < start + states.shape[1])
            taken = rows_at(states, torch.where(own, index - start, 0))
            found = taken if found is None else torch.where(own[..., None], taken, found)
        assert found is not None  # there is a row
        return found


class KindBatches:
    """Source of batches with equally many rows of every kind present; see :class:`cfdg_diffusion.edm.batches`.

    Args:
        states: of which the rows that are not held out are drawn.
        kinds: ``(R, n)`` small integers of these rows, in their order.
        count: of kinds.
    """

    def __init__(self, states: EndStates, kinds: Tensor, count: int) -> None:
        self.states = states
        places = torch.arange(len(states), dtype=torch.int32, device=kinds.device)  # half the memory of the usual type
        places = places[places % HELD_OUT_EVERY != 0]
        self._order = torch.empty(kinds.shape, dtype=places.dtype, device=kinds.device)
        for own, order in zip(kinds, self._order, strict=True):
            torch.cat([places[own == kind] for kind in range(count)], out=order)
        counts = [[int((own == kind).sum()) for kind in range(count)] for own in kinds]
        self.counts = torch.tensor(counts, device=kinds.device)
        self._starts = self.counts.cumsum(1) - self.counts

    def draw(self, streams: Streams, batch_size: int) -> tuple[Tensor, Tensor]:
        """Draw states ``(R, B, S)`` and their kinds ``(R, B)``."""
        kinds, within = draw_labels(streams, batch_size, self.counts)
        index = self._order.gather(1, self._starts.gather(1, kinds) + within)
        return self.states.rows_at(index.long()), kinds
