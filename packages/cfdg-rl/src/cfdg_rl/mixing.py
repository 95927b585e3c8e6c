"""Batches of real and synthetic rows: the synthetic-ratio interface of the paper.

The synthetic rings may be filled by any generator; nothing here depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cfdg_rl.buffer import FixedRows, JoinedRows, Ring, ThinnedRows
from cfdg_rl.composition import BASE, PAPER, PAPER_BRANCHES, BranchComposition, Composition, check_shares
from cfdg_rl.streams import Streams
from cfdg_rl.transitions import Transitions, from_rows

OFFLINE = 0  # the two labels of the paper, section 3.2
ONLINE = 1

Real = FixedRows | Ring | JoinedRows
Buffer = Real | ThinnedRows


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
        kept: ``(R, 2)`` shares in [0, 1] of the generated rows of each label that a batch keeps, changed in place; real
            rows of the label fill the other places. None keeps all.
    """

    offline: FixedRows
    online: Ring
    offline_synthetic: Ring
    online_synthetic: Ring
    obs_dim: int
    action_dim: int
    archive: Ring | None = None
    kept: Tensor | None = None

    def store(self, rows: Tensor) -> None:
        """Add collected rows ``(R, E, D)``."""
        self.online.add(rows)
        if self.archive is not None:
            self.archive.add(rows)

    def decode(self, rows: Tensor) -> Transitions:
        """Split rows ``(..., D)`` into transitions."""
        return from_rows(rows, self.obs_dim, self.action_dim)

    def generated(self, label: int, real: Real) -> Ring | ThinnedRows:
        """Return the generated rows of a label, thinned where a share of them is kept."""
        ring = self.online_synthetic if label == ONLINE else self.offline_synthetic
        return ring if self.kept is None else ThinnedRows(ring, real, self.kept[:, label])

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


@dataclass(frozen=True)
class Concatenated:
    """Paradigm 1 of the paper (section 3.3): offline, online and synthetic rows in every batch.

    Until the first refresh the batch is the base algorithm's, half offline and half online.

    Attributes:
        streams: randomness of the draws.
        composition: shares of the buffers in a batch after the first refresh; see :func:`cfdg_rl.composition.native`
            for a synthetic ratio and a share of generated online rows.
        gate: online rows from which on ``composition`` holds; None is once a synthetic buffer has been filled.
        extra: generated rows come on top of the real ones, whose number stays the base's.
    """

    streams: Streams
    composition: Composition = PAPER
    gate: int | None = None
    extra: bool = False

    def __call__(self, pools: Pools, batch_size: int) -> Batch:
        """Draw one batch of ``batch_size`` rows per replica, with ``extra`` of so many real ones."""
        opened = pools.has_synthetic if self.gate is None else len(pools.online) >= self.gate
        counts = (self.composition if opened else BASE).counts(batch_size, extra=self.extra)
        parts = [
            (pools.offline, counts.offline, OFFLINE),
            (pools.online, counts.online, ONLINE),
            (pools.generated(ONLINE, pools.online), counts.online_synthetic, ONLINE),
            (pools.generated(OFFLINE, pools.offline), counts.offline_synthetic, OFFLINE),
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
        composition: shares of synthetic rows in the two branches; see :func:`cfdg_rl.composition.branches`. A branch
            stays real while the synthetic buffer of its label is empty.
        extra: generated rows come on top of the real ones, whose number stays the base's.

    Raises:
        ValueError: if ``probability`` is outside [0, 1].
    """

    def __init__(
        self,
        streams: Streams,
        probability: float = 0.5,
        gate: int = 10_000,
        composition: BranchComposition = PAPER_BRANCHES,
        *,
        extra: bool = False,
    ) -> None:
        check_shares(probability=probability)
        self.streams = streams
        self.probability = probability
        self.gate = gate
        self.composition = composition
        self.extra = extra
        self.coin = Streams((0,), "branch")

    def __call__(self, pools: Pools, batch_size: int) -> Batch:
        """Draw one batch of ``batch_size`` rows per replica, all of one label; with ``extra`` of so many real ones."""
        heads = bool(self.coin.uniform(1) < self.probability)
        if heads and len(pools.online) > self.gate:
            real = pools.online
            label = ONLINE
        else:
            real = pools.offline if pools.archive is None else JoinedRows(pools.offline, pools.archive)
            label = OFFLINE
        synthetic = pools.generated(label, real)
        composition = self.composition if len(synthetic) else BranchComposition()
        counts = composition.counts(batch_size, online=label == ONLINE, extra=self.extra)
        parts = [
            (real, counts.offline + counts.online, label),
            (synthetic, counts.offline_synthetic + counts.online_synthetic, label),
        ]
        return draw(pools, parts, self.streams)


def draw(pools: Pools, parts: Sequence[tuple[Buffer, int, int]], streams: Streams) -> Batch:
    """Concatenate ``count`` rows of each ``(buffer, count, label)`` into one batch."""
    used = [part for part in parts if part[1]]
    rows = torch.cat([buffer.sample(count, streams) for buffer, count, _ in used], dim=1)
    labels = torch.cat([torch.full((count,), label, device=rows.device) for _, count, label in used])
    shared = {label for _, _, label in used}
    return Batch(pools.decode(rows), labels, shared.pop() if len(shared) == 1 else None)
