"""The online phase: Algorithm 1 of the paper."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from cfdg_rl.buffer import Ring
from cfdg_rl.composition import split
from cfdg_rl.mixing import OFFLINE, ONLINE, Pools
from cfdg_rl.protocols import Agent, Collector, Generator, Metrics, Mixer, Parts, PartsGenerator
from cfdg_rl.ranges import COUNT, NATURAL, NOT_NEGATIVE, SHARE, SWITCH, check_ranges
from cfdg_rl.transitions import Transitions, from_rows, to_rows

SparseReward = tuple[float, float] | Literal[False]
"""Rewards of a task that has two, elsewhere and at the goal; False for any other task."""

SCREENED = 16_384  # generated rows of a replica that are screened together


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
    # Of a task with two rewards, elsewhere and at the goal, both as the learner sees them (Dataset.goal_rewards):
    # generated rewards snap to the nearer, and terminal is where that is the goal's.
    sparse_reward: SparseReward = False

    def __post_init__(self) -> None:
        check_ranges(
            self, steps=COUNT, refresh_every=COUNT, warm_up=NATURAL, round_steps=COUNT, updates_per_round=COUNT
        )
        check_ranges(self, restart_rounds=SWITCH, batch_size=COUNT, synthetic_rows=COUNT)
        check_ranges(self, online_share=SHARE, margin=NOT_NEGATIVE)
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
        return t in self.refresh_steps

    @property
    def refresh_steps(self) -> range:
        """Environment steps after which the synthetic buffers are filled anew."""
        return range(self.refresh_every, self.steps, self.refresh_every)

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
    parts = [(pools.offline.view(), OFFLINE), (pools.online.view(), ONLINE)]
    fit_generator(generator, parts)
    clock.append(time.perf_counter())
    on, off = split(plan.synthetic_rows, plan.online_share, 1 - plan.online_share)
    drawn = generator.sample(_labels(pools, off, on))
    limits = joint_bounds(parts, plan.margin)
    rejected = torch.zeros(len(drawn), device=drawn.device)
    for ring, part in zip(
        (pools.offline_synthetic, pools.online_synthetic), drawn.split([off, on], dim=1), strict=True
    ):
        ring.clear()
        if part.shape[1]:
            rejected += fill(ring, part, lambda rows: screen(rows, *limits, pools, plan.sparse_reward))
    clock.append(time.perf_counter())
    fit, sample = (torch.full_like(rejected, after - before) for before, after in itertools.pairwise(clock))
    rejected /= plan.synthetic_rows
    return {"refresh/rejected": rejected, "refresh/fit_seconds": fit, "refresh/sample_seconds": sample}


def fit_generator(generator: Generator, parts: Parts) -> object:
    """Fit a generator on parts where it takes them, which copies no row, and else on all rows joined."""
    if isinstance(generator, PartsGenerator):
        return generator.fit_parts(parts)
    return generator.fit(*join(parts))


def join(parts: Parts) -> tuple[Tensor, Tensor]:
    """Join parts to rows ``(R, N, D)`` and labels ``(R, N)``; parts ``(N, D)`` are shared by all replicas."""
    replicas = max(len(rows) if rows.dim() == 3 else 1 for rows, _ in parts)
    rows = torch.cat([part.expand(replicas, -1, -1) for part, _ in parts], dim=1)
    labels = torch.cat([torch.full(part.shape[-2:-1], label, device=rows.device) for part, label in parts])
    return rows, labels.expand(replicas, -1)


def bounds(rows: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """Compute each replica's and column's range of ``(R, N, D)`` rows, widened on both sides: two ``(R, 1, D)``."""
    return joint_bounds([(rows, OFFLINE)], margin)


def joint_bounds(parts: Parts, margin: float) -> tuple[Tensor, Tensor]:
    """Compute the range as :func:`bounds` does, over all parts."""
    found = [rows if rows.dim() == 3 else rows[None] for rows, _ in parts if rows.shape[-2]]
    low = functools.reduce(torch.minimum, [rows.amin(1, keepdim=True) for rows in found])
    high = functools.reduce(torch.maximum, [rows.amax(1, keepdim=True) for rows in found])
    return low - margin * (high - low), high + margin * (high - low)


def fill(ring: Ring, rows: Tensor, screened: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Tensor:
    """Fill an empty ring with generated rows ``(R, n, D)``, some at a time; return how many were replaced ``(R,)``.

    Args:
        ring: has room for all of them, or keeps the last.
        rows: as generated.
        screened: makes rows storable and tells which are valid.

    Raises:
        ValueError: if some replica has no valid row.
    """
    if rows.shape[1] > ring.capacity:
        storable, valid = screened(rows)
        ring.add(keep_valid(storable, valid))
        return (~valid).sum(1)
    valid = torch.empty(rows.shape[:2], dtype=torch.bool, device=rows.device)
    for start in range(0, rows.shape[1], SCREENED):
        part = slice(start, start + SCREENED)
        storable, valid[:, part] = screened(rows[:, part])
        ring.add(storable)
    for own, kept in zip(ring.view(), valid, strict=True):
        if not bool(kept.all()):
            own.copy_(keep_valid(own[None], kept[None])[0])
    return (~valid).sum(1)


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


def screen(rows: Tensor, low: Tensor, high: Tensor, pools: Pools, sparse_reward: SparseReward) -> tuple[Tensor, Tensor]:
    """Make rows ``(R, n, D)`` storable; also which are finite and within bounds ``(R, n)``."""
    stored = storable(rows, pools.obs_dim, pools.action_dim, sparse_reward)
    return stored, in_range(rows, stored, low, high)


def storable(rows: Tensor, obs_dim: int, action_dim: int, sparse_reward: SparseReward) -> Tensor:
    """Clip actions, decide terminals and snap sparse rewards of generated rows ``(..., D)``, as buffers keep them."""
    data = from_rows(rows, obs_dim, action_dim)
    if sparse_reward:
        data = snap(data, *sparse_reward)
    return to_rows(replace(data, action=data.action.clamp(-1, 1)))


def in_range(rows: Tensor, stored: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Tell which rows ``(R, n, D)`` are finite, and within bounds as they are stored: ``(R, n)``."""
    return rows.isfinite().all(-1) & ((stored >= low) & (stored <= high)).all(-1)


def snap(data: Transitions, elsewhere: float, goal: float) -> Transitions:
    """Round a sparse task's rewards to the nearer of its two; the episode ends where that is the goal's."""
    middle = (elsewhere + goal) / 2
    reached = data.reward > middle if goal > elsewhere else data.reward < middle
    rewards = torch.where(reached, torch.full_like(data.reward, goal), torch.full_like(data.reward, elsewhere))
    return replace(data, reward=rewards, terminal=reached.to(data.reward))


def _labels(pools: Pools, off: int, on: int) -> Tensor:
    """Make labels ``(R, off + on)``: OFFLINE for the first ``off`` rows, ONLINE for the others."""
    rows = pools.online.view()
    labels = torch.full((off + on,), ONLINE, device=rows.device)
    labels[:off] = OFFLINE
    return labels.expand(len(rows), -1)
