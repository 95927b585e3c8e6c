"""Buffers of rows: the fixed offline dataset, a ring with a replica axis, both joined, and generated rows thinned."""

from __future__ import annotations

import torch
from torch import Tensor

from cfdg_rl.streams import Streams


class FixedRows:
    """A dataset of rows ``(N, D)`` that all replicas share.

    Args:
        rows: ``(N, D)``, N at least 1; kept without a copy.

    Raises:
        ValueError: if there are no rows.
    """

    def __init__(self, rows: Tensor) -> None:
        if len(rows) == 0:
            raise ValueError("the offline dataset has 0 rows, expected at least 1")
        self.rows = rows

    def __len__(self) -> int:
        """Return the number of rows N."""
        return self.rows.shape[0]

    def view(self) -> Tensor:
        """Return all rows ``(N, D)``, without a copy."""
        return self.rows

    def sample(self, count: int, streams: Streams) -> Tensor:
        """Draw ``(R, count, D)`` rows uniformly with replacement."""
        return self.rows[streams.integers(len(self), count)]


class Ring:
    """A ring buffer: the latest ``capacity`` rows of each of R replicas, on one device.

    The memory of rows that were not added yet is reserved, and on a CPU not in use.

    Args:
        replicas: R.
        capacity: rows kept per replica, at least 1.
        columns: D.
        device: where the rows live.

    Raises:
        ValueError: if the capacity is below 1.
    """

    def __init__(self, replicas: int, capacity: int, columns: int, device: str | torch.device = "cpu") -> None:
        if capacity < 1:
            raise ValueError(f"capacity is {capacity}, expected at least 1 row")
        self.rows = torch.empty(replicas, capacity, columns, device=device)  # on a CPU memory comes with the rows
        self.size = 0
        self.cursor = 0  # where the next row goes; the oldest row once the ring is full
        self.added = 0  # rows since the last clearing; row i is at place i modulo the capacity
        self.clearings = 0

    def __len__(self) -> int:
        """Return the rows held per replica, at most the capacity."""
        return self.size

    @property
    def capacity(self) -> int:
        """Rows kept per replica."""
        return self.rows.shape[1]

    def add(self, rows: Tensor) -> None:
        """Append ``(R, n, D)`` rows and drop the oldest; of more rows than fit, the last ones stay."""
        rows = rows[:, -self.capacity :]
        slots = (self.cursor + torch.arange(rows.shape[1], device=self.rows.device)) % self.capacity
        self.rows.index_copy_(1, slots, rows.to(self.rows))
        self.cursor = (self.cursor + rows.shape[1]) % self.capacity
        self.size = min(self.size + rows.shape[1], self.capacity)
        self.added += rows.shape[1]

    def clear(self) -> None:
        """Drop every row."""
        self.size = self.cursor = self.added = 0
        self.clearings += 1

    def between(self, first: int, last: int) -> Tensor:
        """Return rows ``(R, last - first, D)`` by their numbers since the last clearing, if possible without a copy.

        Raises:
            ValueError: if some of them are not held.
        """
        if not self.added - self.size <= first <= last <= self.added:
            held = f"{self.added - self.size} to {self.added}"
            raise ValueError(f"rows {first} to {last} were asked for, expected some of {held}")
        start = first % self.capacity
        if start + last - first <= self.capacity:
            return self.rows[:, start : start + last - first]
        return self.rows[:, torch.arange(first, last, device=self.rows.device) % self.capacity]

    def place(self, first: int, rows: Tensor) -> None:
        """Write rows ``(R, n, D)`` under their numbers since the last clearing, in a ring that is being restored."""
        slots = torch.arange(first, first + rows.shape[1], device=self.rows.device) % self.capacity
        self.rows.index_copy_(1, slots, rows.to(self.rows))

    def view(self) -> Tensor:
        """Return the rows held ``(R, size, D)`` without a copy; oldest first only until the ring wraps."""
        return self.rows[:, : self.size]

    def sample(self, count: int, streams: Streams) -> Tensor:
        """Draw ``(R, count, D)`` rows uniformly with replacement, independently for each replica.

        Raises:
            ValueError: if the ring is empty.
        """
        if not self.size:
            raise ValueError("the ring is empty, expected at least 1 row to sample from")
        first = torch.arange(len(streams), device=self.rows.device)[:, None] * self.capacity
        return self.rows.flatten(0, 1)[first + streams.integers(self.size, count)]

    def resume(self, *, added: int, size: int, clearings: int) -> None:
        """Take the counters of a saved ring, whose rows are to be written by :meth:`place`."""
        self.added = added
        self.size = size
        self.clearings = clearings
        self.cursor = added % self.capacity

    def state_dict(self) -> dict[str, Tensor]:
        """Return rows, without a copy, and position, for a checkpoint."""
        return {"rows": self.view(), "cursor": torch.tensor(self.cursor)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.size = state["rows"].shape[1]
        self.rows[:, : self.size] = state["rows"].to(self.rows)
        self.cursor = int(state["cursor"])
        self.added = self.size + self.cursor if self.size == self.capacity else self.size


class JoinedRows:
    """The offline dataset and every replica's own ring, sampled as one buffer."""

    def __init__(self, offline: FixedRows, online: Ring) -> None:
        self.offline = offline
        self.online = online

    def __len__(self) -> int:
        """Return the rows per replica."""
        return len(self.offline) + len(self.online)

    def sample(self, count: int, streams: Streams) -> Tensor:
        """Draw ``(R, count, D)`` rows uniformly with replacement, independently for each replica."""
        index = streams.integers(len(self), count)
        first = len(self.offline)
        start = torch.arange(len(streams), device=index.device)[:, None] * self.online.capacity
        later = self.online.rows.flatten(0, 1)[start + (index - first).clamp(min=0)]
        return torch.where((index < first)[..., None], self.offline.rows[index.clamp(max=first - 1)], later)


class ThinnedRows:
    """Generated rows of which each replica keeps a share; real rows fill the other places.

    Both kinds are drawn for every replica whatever the shares are, so that one replica's draws do not depend on
    another's share.

    Args:
        generated: rows of one label.
        real: rows that take the places of generated ones, of the same label.
        kept: ``(R,)`` shares in [0, 1] of the generated rows that stay.
    """

    def __init__(self, generated: Ring, real: FixedRows | Ring | JoinedRows, kept: Tensor) -> None:
        self.generated = generated
        self.real = real
        self.kept = kept

    def __len__(self) -> int:
        """Return the generated rows per replica."""
        return len(self.generated)

    def sample(self, count: int, streams: Streams) -> Tensor:
        """Draw ``(R, count, D)`` rows: the first ``round(kept count)`` of each replica are generated ones."""
        generated = self.generated.sample(count, streams)
        real = self.real.sample(count, streams)
        place = torch.arange(count, device=generated.device)
        stays = place < (self.kept[:, None] * count).round()
        return torch.where(stays[..., None], generated, real)
