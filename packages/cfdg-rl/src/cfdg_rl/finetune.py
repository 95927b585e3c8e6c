"""The online phase: Algorithm 1 of the paper."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from cfdg_rl.mixing import OFFLINE, ONLINE, Pools, split
from cfdg_rl.protocols import Agent, Collector, Generator, Metrics, Mixer
from cfdg_rl.transitions import to_rows


@dataclass(frozen=True)
class FinetunePlan:
    """The loop's numbers; the paper's names in brackets."""

    steps: int = 1_000_000  # [T] environment steps per replica
    refresh_every: int = 100_000  # [T_diff]; 10,000 for APL
    warm_up: int = 5_000  # PEX: environment steps before the first update
    batch_size: int = 256
    synthetic_rows: int = 1_000_000  # paper, section 4.1; made anew at every refresh
    online_share: float = 0.8  # paper, section 4.1: generated online : offline = 8 : 2
    margin: float = 0.1  # rows further outside the data's range than this share of it are rejected

    def __post_init__(self) -> None:
        for name in ("steps", "refresh_every", "batch_size", "synthetic_rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, found {getattr(self, name)}")
        if self.refresh_every > self.steps:
            raise ValueError(f"refresh_every (T_diff) is {self.refresh_every}, longer than the run of {self.steps} steps")
        if not 0 <= self.warm_up < self.steps:
            raise ValueError(f"warm_up must lie in [0, {self.steps}), found {self.warm_up}")


def finetune(
    agent: Agent,
    collector: Collector,
    pools: Pools,
    mixer: Mixer,
    generator: Generator | None,
    plan: FinetunePlan,
    start: int = 0,
) -> Iterator[tuple[int, Metrics]]:
    """Algorithm 1: collect, refresh the synthetic buffers every T_diff steps, train on the mixture.

    Yields ``(step, metrics)`` after every environment step; whoever iterates logs, evaluates and saves. Without a
    generator this is the base algorithm. ``start`` continues a restored run.
    """
    for t in range(start + 1, plan.steps + 1):
        metrics: Metrics = {}
        pools.online.add(collector.step(agent))
        if generator and t % plan.refresh_every == 0 and t < plan.steps:
            metrics = refresh(generator, pools, plan)
        if t > plan.warm_up:
            metrics = {**metrics, **agent.update(mixer(pools, plan.batch_size))}
        yield t, metrics


def refresh(generator: Generator, pools: Pools, plan: FinetunePlan) -> Metrics:
    """The body of Algorithm 1's ``if``: update M on D_off and D_on, then fill D_off_syn and D_on_syn anew."""
    began = time.perf_counter()
    online = pools.online.view()
    offline = pools.offline.view().expand(len(online), -1, -1)
    rows = torch.cat([offline, online], dim=1)
    generator.fit(rows, _labels(online, offline.shape[1], online.shape[1]))
    fitted = time.perf_counter()
    counts = dict(zip((ONLINE, OFFLINE), split(plan.synthetic_rows, plan.online_share, 1 - plan.online_share), strict=True))
    drawn = generator.sample(_labels(online, counts[OFFLINE], counts[ONLINE]))
    low, high = bounds(rows, plan.margin)
    kept = [_keep(part, low, high, pools) for part in drawn.split([counts[OFFLINE], counts[ONLINE]], dim=1)]
    for ring, (part, _) in zip((pools.offline_synthetic, pools.online_synthetic), kept, strict=True):
        ring.clear()
        ring.add(part)
    seconds = torch.tensor([fitted - began, time.perf_counter() - fitted]).expand(len(online), 2)
    rejected = sum(rejected for _, rejected in kept) / plan.synthetic_rows
    return {"refresh/rejected": rejected, "refresh/fit_seconds": seconds[:, 0], "refresh/sample_seconds": seconds[:, 1]}


def bounds(rows: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """Per replica and column the range of ``(R, N, D)`` rows, widened on both sides: two ``(R, 1, D)``."""
    low, high = rows.amin(1, keepdim=True), rows.amax(1, keepdim=True)
    return low - margin * (high - low), high + margin * (high - low)


def keep_valid(rows: Tensor, valid: Tensor) -> Tensor:
    """Replace rejected rows ``(R, n, D)`` by accepted ones of the same replica, in turn, so that shapes stay fixed.

    Raises:
        ValueError: if some replica has no valid row.
    """
    counts = valid.sum(1, keepdim=True)
    if not bool((counts > 0).all()):
        raise ValueError("every generated row of some replica is non-finite or far outside the data's range")
    accepted_first = (~valid).to(torch.uint8).argsort(dim=1, stable=True)
    turn = torch.arange(rows.shape[1], device=rows.device) % counts
    return rows.gather(1, accepted_first.gather(1, turn)[..., None].expand_as(rows))


def _keep(rows: Tensor, low: Tensor, high: Tensor, pools: Pools) -> tuple[Tensor, Tensor]:
    """Generated rows made storable (actions clipped, terminals decided, outliers replaced), and the rejected counts."""
    if not rows.shape[1]:
        return rows, torch.zeros(rows.shape[0], device=rows.device)
    data = pools.decode(rows)
    finite = rows.isfinite().all(-1)  # before decoding hides a non-finite terminal
    clean = to_rows(type(data)(data.obs, data.action.clamp(-1, 1), data.reward, data.next_obs, data.terminal))
    valid = finite & ((clean >= low) & (clean <= high)).all(-1)
    return keep_valid(clean, valid), (~valid).sum(1).float()


def _labels(like: Tensor, offline: int, online: int) -> Tensor:
    """Labels ``(R, offline + online)``: the offline rows first."""
    labels = torch.full((offline + online,), OFFLINE, device=like.device)
    labels[offline:] = ONLINE
    return labels.expand(len(like), -1)
