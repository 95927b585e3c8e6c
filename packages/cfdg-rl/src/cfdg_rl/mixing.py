"""Batches of real and synthetic rows: the synthetic-ratio interface of the paper.

The synthetic rings may be filled by any generator; nothing here depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cfdg_rl.buffer import FixedRows, JoinedRows, Ring
from cfdg_rl.streams import Streams
from cfdg_rl.transitions import Transitions, from_rows

OFFLINE = 0  # the two labels of the paper, section 3.2
ONLINE = 1


@dataclass(frozen=True)
class Pools:
    """The four buffers of Algorithm 1: D_off, D_on, D_off_syn and D_on_syn, and the shape of their rows.

    Attributes:
        offline: D_off, rows ``(N, D)`` shared by all replicas.
        online: D_on, rows ``(R, n, D)``.
        offline_synthetic: D_off_syn, rows ``(R, n, D)``.
        online_synthetic: D_on_syn, rows ``(R, n, D)``.
        obs_dim: S.
        action_dim: A; D is 2S + A + 2.
        archive: the online rows that a small ``online`` ring drops, for APL's mixed offline buffer; None without one.
    """

    offline: FixedRows
    online: Ring
    offline_synthetic: Ring
    online_synthetic: Ring
    obs_dim: int
    action_dim: int
    archive: Ring | None = None

    def store(self, rows: Tensor) -> None:
        """Add collected rows ``(R, E, D)``."""
        self.online.add(rows)
        if self.archive is not None:
            self.archive.add(rows)

    def decode(self, rows: Tensor) -> Transitions:
        """Split rows ``(..., D)`` into transitions."""
        return from_rows(rows, self.obs_dim, self.action_dim)

    @property
    def has_synthetic(self) -> bool:
        """True once a refresh has filled a synthetic buffer."""
        return bool(len(self.offline_synthetic) or len(self.online_synthetic))


@dataclass(frozen=True)
class Batch:
    """A training batch.

    Attributes:
        data: transitions ``(R, B)``.
        labels: label of each position ``(B,)``, OFFLINE or ONLINE.
        label: the label that all positions share, known without asking the device; None if they differ.
    """

    data: Transitions
    labels: Tensor
    label: int | None = None


def split(total: int, *shares: float) -> list[int]:
    """Cut ``total`` into whole parts near ``shares`` that always add up (largest remainder, ties to the last).

    ``split(256, 1/3, 1/3, 1/3) == [85, 85, 86]``; ``split(85, 0.8, 0.2) == [68, 17]``.

    Raises:
        ValueError: if a share is negative or the shares do not add up to 1.
    """
    if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise ValueError(f"shares are {shares}, expected non-negative numbers that add up to 1")
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

    Raises:
        ValueError: if ``synthetic_ratio`` or ``online_share`` is outside [0, 1].
    """

    streams: Streams
    synthetic_ratio: float = 1 / 3  # paper, section 4.1: online : offline : synthetic = 1 : 1 : 1
    online_share: float = 0.8  # paper, section 4.1

    def __post_init__(self) -> None:
        _shares(self, "synthetic_ratio", "online_share")

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


class Bernoulli:
    """Paradigm 2 (section 3.3), APL's online-offline replay: each batch is all online or all offline.

    With probability p, and once the online ring holds more than ``gate`` rows, a batch comes from the near-on-policy
    ring; else from the offline data, with the archive of all online rows where the pools have one. Synthetic rows join
    the branch of their label. The coin is the same for all replicas, so that the branch is known without a device sync.

    Args:
        streams: randomness of the draws.
        probability: p of the online branch (APL repository: 0.5, constant).
        gate: rows that the online ring must exceed (APL repository: 10,000).
        synthetic_ratio: r, the synthetic share of a batch after the first refresh.

    Raises:
        ValueError: if ``probability`` or ``synthetic_ratio`` is outside [0, 1].
    """

    def __init__(
        self, streams: Streams, probability: float = 0.5, gate: int = 10_000, synthetic_ratio: float = 1 / 3
    ) -> None:
        self.streams = streams
        self.probability = probability
        self.gate = gate
        self.synthetic_ratio = synthetic_ratio
        _shares(self, "probability", "synthetic_ratio")
        self.coin = Streams((0,), "branch")

    def __call__(self, pools: Pools, batch_size: int) -> Batch:
        """Draw one batch of ``batch_size`` rows per replica, all of one label."""
        heads = bool(self.coin.uniform(1) < self.probability)
        if heads and len(pools.online) > self.gate:
            real = pools.online
            synthetic = pools.online_synthetic
            label = ONLINE
        else:
            real = pools.offline if pools.archive is None else JoinedRows(pools.offline, pools.archive)
            synthetic = pools.offline_synthetic
            label = OFFLINE
        ratio = self.synthetic_ratio if len(synthetic) else 0.0
        counts = split(batch_size, 1 - ratio, ratio)
        return draw(pools, [(real, counts[0], label), (synthetic, counts[1], label)], self.streams)


def draw(pools: Pools, parts: Sequence[tuple[FixedRows | Ring | JoinedRows, int, int]], streams: Streams) -> Batch:
    """Concatenate ``count`` rows of each ``(buffer, count, label)`` into one batch."""
    used = [part for part in parts if part[1]]
    rows = torch.cat([buffer.sample(count, streams) for buffer, count, _ in used], dim=1)
    labels = torch.cat([torch.full((count,), label, device=rows.device) for _, count, label in used])
    shared = {label for _, _, label in used}
    return Batch(pools.decode(rows), labels, shared.pop() if len(shared) == 1 else None)


def _shares(settings: object, *names: str) -> None:
    for name in names:
        if not 0 <= getattr(settings, name) <= 1:
            raise ValueError(f"{name} is {getattr(settings, name)}, expected 0 to 1")
