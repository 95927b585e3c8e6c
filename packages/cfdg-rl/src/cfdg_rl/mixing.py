"""The synthetic-ratio interface: how a batch is put together from real and synthetic rows.

Anything that fills the synthetic rings can be mixed in; nothing here knows where their rows come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cfdg_rl.buffer import FixedRows, Ring
from cfdg_rl.streams import Streams
from cfdg_rl.transitions import Transitions, from_rows

OFFLINE, ONLINE = 0, 1  # the two labels of the paper, section 3.2


@dataclass(frozen=True)
class Pools:
    """The four buffers of Algorithm 1: D_off, D_on, D_off_syn and D_on_syn, and the shape of their rows."""

    offline: FixedRows
    online: Ring
    offline_synthetic: Ring
    online_synthetic: Ring
    obs_dim: int
    action_dim: int

    def decode(self, rows: Tensor) -> Transitions:
        """Rows ``(..., D)`` as transitions."""
        return from_rows(rows, self.obs_dim, self.action_dim)

    @property
    def has_synthetic(self) -> bool:
        """Whether a refresh has filled a synthetic buffer."""
        return bool(len(self.offline_synthetic) or len(self.online_synthetic))


@dataclass(frozen=True)
class Batch:
    """A training batch: transitions ``(R, B)`` and each position's label ``(B,)``, OFFLINE or ONLINE."""

    data: Transitions
    labels: Tensor


def split(total: int, *shares: float) -> list[int]:
    """Cut ``total`` into whole parts near ``shares`` that always add up (largest remainder, ties to the last).

    ``split(256, 1/3, 1/3, 1/3) == [85, 85, 86]``; ``split(85, 0.8, 0.2) == [68, 17]``.

    Raises:
        ValueError: if a share is negative or the shares do not add up to 1.
    """
    if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise ValueError(f"shares must be non-negative and add up to 1, found {shares}")
    exact = [total * share for share in shares]
    parts = [int(value + 1e-6) for value in exact]
    remainders = [round(value - part, 6) for value, part in zip(exact, parts, strict=True)]
    neediest = sorted(range(len(parts)), key=lambda i: (remainders[i], i), reverse=True)
    for i in neediest[: total - sum(parts)]:
        parts[i] += 1
    return parts


@dataclass(frozen=True)
class Concatenated:
    """Paradigm 1 of the paper (section 3.3): offline, online and synthetic rows in every batch.

    Until the first refresh the batch is the base algorithm's, half offline and half online.

    Attributes:
        streams: randomness of the draws.
        synthetic_ratio: r, the synthetic share of a batch in [0, 1]; the rest is half offline, half online.
        online_share: share of generated rows that carry the online label (the paper's 8:2 is 0.8).
    """

    streams: Streams
    synthetic_ratio: float = 1 / 3  # paper, section 4.1: online : offline : synthetic = 1 : 1 : 1
    online_share: float = 0.8  # paper, section 4.1

    def __post_init__(self) -> None:
        for name in ("synthetic_ratio", "online_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], found {getattr(self, name)}")

    def __call__(self, pools: Pools, batch_size: int) -> Batch:
        """Draw one batch of ``batch_size`` rows per replica."""
        ratio = self.synthetic_ratio if pools.has_synthetic else 0.0
        offline, online, synthetic = split(batch_size, (1 - ratio) / 2, (1 - ratio) / 2, ratio)
        online_synthetic, offline_synthetic = split(synthetic, self.online_share, 1 - self.online_share)
        parts = [
            (pools.offline, offline, OFFLINE),
            (pools.online, online, ONLINE),
            (pools.online_synthetic, online_synthetic, ONLINE),
            (pools.offline_synthetic, offline_synthetic, OFFLINE),
        ]
        return draw(pools, parts, self.streams)


def draw(pools: Pools, parts: Sequence[tuple[FixedRows | Ring, int, int]], streams: Streams) -> Batch:
    """Concatenate ``count`` rows of each ``(buffer, count, label)`` into one batch."""
    used = [part for part in parts if part[1]]
    rows = torch.cat([buffer.sample(count, streams) for buffer, count, _ in used], dim=1)
    labels = torch.cat([torch.full((count,), label, device=rows.device) for _, count, label in used])
    return Batch(pools.decode(rows), labels)
