"""The online phase: Algorithm 1 of the paper."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from cfdg_rl.composition import split
from cfdg_rl.mixing import OFFLINE, ONLINE, Pools
from cfdg_rl.protocols import Agent, Collector, Generator, Metrics, Mixer
from cfdg_rl.transitions import Transitions, to_rows


@dataclass(frozen=True)
class FinetunePlan:
    """Numbers of the loop; the paper's names in brackets.

    Raises:
        ValueError: if a number is outside its range.
    """

    steps: int = 1_000_000  # [T] environment steps per replica
    refresh_every: int = 100_000  # [T_diff]; 10,000 for APL
    warm_up: int = 5_000  # PEX: environment steps before the first update
    round_steps: int = 1  # environment steps between updates (APL repository: 1,000)
    updates_per_round: int = 1  # (APL repository: 10,000)
    restart_rounds: bool = False  # begin every round with new episodes, as the APL repository does
    batch_size: int = 256
    synthetic_rows: int = 1_000_000  # paper, section 4.1; made anew at every refresh
    online_share: float = 0.8  # paper, section 4.1: generated online : offline = 8 : 2
    margin: float = 0.1  # rows further outside the data's range than this share of it are rejected
    # Of a sparse task its two rewards, elsewhere and at the goal, as the learner sees them (RewardMap.goal_rewards):
    # generated rewards snap to the nearer, and terminal is where that is the goal's.
    sparse_reward: tuple[float, float] | Literal[False] = False

    def __post_init__(self) -> None:
        for name in ("steps", "refresh_every", "batch_size", "synthetic_rows", "round_steps", "updates_per_round"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        if self.refresh_every > self.steps:
            raise ValueError(
                f"refresh_every (T_diff) is {self.refresh_every}, expected at most the {self.steps} steps of the run"
            )
        if not 0 <= self.warm_up < self.steps:
            raise ValueError(f"warm_up is {self.warm_up}, expected 0 to {self.steps - 1}, below the steps of the run")

    def updates_at(self, t: int) -> int:
        """Return the number of gradient steps after environment step ``t``."""
        return self.updates_per_round if t > self.warm_up and t % self.round_steps == 0 else 0

    def refreshes_at(self, t: int) -> bool:
        """Tell if the synthetic buffers are filled anew after environment step ``t``; at the last it would be vain."""
        return t % self.refresh_every == 0 and t < self.steps

    def restarts_at(self, t: int) -> bool:
        """Tell if environment step ``t`` begins a round with new episodes."""
        return self.restart_rounds and (t - 1) % self.round_steps == 0


def finetune(  # noqa: PLR0913 - the six of Algorithm 1, where to continue, and a hook
    agent: Agent,
    collector: Collector,
    pools: Pools,
    mixer: Mixer,
    generator: Generator | None,
    plan: FinetunePlan,
    start: int = 0,
    after_refresh: Callable[[], Metrics] | None = None,
) -> Iterator[tuple[int, Metrics]]:
    """Run Algorithm 1: collect, refresh the synthetic buffers every T_diff steps, train on the mixture.

    Yields ``(step, metrics)`` after every environment step, metrics ``(R,)``; the caller logs, evaluates and saves.
    Without a generator this is the base algorithm. ``start`` is the number of steps that a restored run has done.
    ``after_refresh`` is called at the time of every refresh, with or without a generator; its metrics join the step's.
    """
    for t in range(start + 1, plan.steps + 1):
        metrics: Metrics = {}
        if plan.restarts_at(t):
            collector.restart()
        pools.store(collector.step(agent))
        if plan.refreshes_at(t):
            metrics = {} if generator is None else refresh(generator, pools, plan)
            metrics = metrics if after_refresh is None else {**metrics, **after_refresh()}
        for _ in range(plan.updates_at(t)):
            metrics = {**metrics, **agent.update(mixer(pools, plan.batch_size))}
        yield t, metrics


def refresh(generator: Generator, pools: Pools, plan: FinetunePlan) -> Metrics:
    """Update M on D_off and D_on, then fill D_off_syn and D_on_syn anew (the body of Algorithm 1's ``if``).

    Returns:
        ``refresh/rejected``, the share of generated rows that were replaced, and seconds of fit and sampling; ``(R,)``.

    Raises:
        ValueError: if some replica has no valid generated row.
    """
    clock = [time.perf_counter()]
    online = pools.online.view()
    offline = pools.offline.view().expand(len(online), -1, -1)
    rows = torch.cat([offline, online], dim=1)
    generator.fit(rows, _labels(rows, offline.shape[1]))
    clock.append(time.perf_counter())
    on, off = split(plan.synthetic_rows, plan.online_share, 1 - plan.online_share)
    drawn = generator.sample(_labels(rows[:, :1].expand(-1, off + on, -1), off))
    low, high = bounds(rows, plan.margin)
    rejected = torch.zeros(len(online), device=rows.device)
    for ring, part in zip(
        (pools.offline_synthetic, pools.online_synthetic), drawn.split([off, on], dim=1), strict=True
    ):
        ring.clear()
        if part.shape[1]:
            storable, valid = screen(part, low, high, pools, plan.sparse_reward)
            ring.add(keep_valid(storable, valid))
            rejected += (~valid).sum(1)
    clock.append(time.perf_counter())
    fit, sample = (torch.full_like(rejected, after - before) for before, after in itertools.pairwise(clock))
    rejected /= plan.synthetic_rows
    return {"refresh/rejected": rejected, "refresh/fit_seconds": fit, "refresh/sample_seconds": sample}


def bounds(rows: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """Compute each replica's and column's range of ``(R, N, D)`` rows, widened on both sides: two ``(R, 1, D)``."""
    low = rows.amin(1, keepdim=True)
    high = rows.amax(1, keepdim=True)
    return low - margin * (high - low), high + margin * (high - low)


def keep_valid(rows: Tensor, valid: Tensor) -> Tensor:
    """Replace rejected rows ``(R, n, D)`` by accepted ones of the same replica, in turn, so that shapes stay fixed.

    Raises:
        ValueError: if some replica has no valid row.
    """
    counts = valid.sum(1, keepdim=True)
    if not bool((counts > 0).all()):
        found = "every generated row of some replica is non-finite or far outside the data's range"
        raise ValueError(f"{found}, expected at least 1 valid row")
    accepted_first = (~valid).to(torch.uint8).argsort(dim=1, stable=True)
    turn = torch.arange(rows.shape[1], device=rows.device) % counts
    return rows.gather(1, accepted_first.gather(1, turn)[..., None].expand_as(rows))


def screen(
    rows: Tensor, low: Tensor, high: Tensor, pools: Pools, sparse_reward: tuple[float, float] | Literal[False]
) -> tuple[Tensor, Tensor]:
    """Clip actions and decide terminals of rows ``(R, n, D)``; also which are finite and within bounds ``(R, n)``."""
    data = pools.decode(rows)
    if sparse_reward:
        data = snap(data, *sparse_reward)
    storable = to_rows(replace(data, action=data.action.clamp(-1, 1)))
    valid = rows.isfinite().all(-1) & ((storable >= low) & (storable <= high)).all(-1)
    return storable, valid


def snap(data: Transitions, elsewhere: float, goal: float) -> Transitions:
    """Round a sparse task's rewards to the nearer of its two; the episode ends where that is the goal's."""
    middle = (elsewhere + goal) / 2
    reached = data.reward > middle if goal > elsewhere else data.reward < middle
    rewards = torch.where(reached, torch.full_like(data.reward, goal), torch.full_like(data.reward, elsewhere))
    return replace(data, reward=rewards, terminal=reached.to(data.reward))


def _labels(rows: Tensor, offline: int) -> Tensor:
    """Make labels ``(R, N)`` of rows ``(R, N, D)``: OFFLINE for the first ``offline`` rows, ONLINE for the others."""
    labels = torch.full(rows.shape[1:2], ONLINE, device=rows.device)
    labels[:offline] = OFFLINE
    return labels.expand(len(rows), -1)
