"""How long a table will take, from a few seconds of its real work on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from cfdg_experiments.arms import ARMS, make_model
from cfdg_experiments.profile import Profile
from cfdg_rl.collect import EnvCollector
from cfdg_rl.iql import IQL
from cfdg_rl.mixing import Batch
from cfdg_rl.rewards import RewardMap
from cfdg_rl.transitions import from_rows, row_width

PROBE_ENV = "Hopper-v5"  # the slowest of the locomotion environments to step, with Walker2d


@dataclass(frozen=True)
class Costs:
    """Seconds on this machine, for all replicas of a cell together.

    Attributes:
        update: one gradient step of the agent.
        env_step: one step of every replica's environment.
        diffusion_step: one gradient step of the generator.
        generated_row: one row for every replica.
    """

    update: float
    env_step: float
    diffusion_step: float
    generated_row: float


def measure_costs(profile: Profile) -> Costs:
    """Time each kind of work briefly, with the profile's own sizes on one core per job."""
    obs_dim, action_dim, seeds = 11, 3, profile.seeds
    agent = IQL(obs_dim, action_dim, replace(profile.iql, normalise_obs=False), seeds=seeds)
    rows = torch.rand(len(seeds), profile.finetune.batch_size, row_width(obs_dim, action_dim))
    batch = Batch(from_rows(rows, obs_dim, action_dim), torch.zeros(rows.shape[1]))
    collector = EnvCollector(PROBE_ENV, seeds, RewardMap())
    model = make_model(ARMS["cfdg"], profile.diffusion, obs_dim, action_dim, seeds, "cpu")
    labels = (torch.arange(rows.shape[1]) % 2).expand(len(seeds), -1)
    model.fit(rows, labels, steps=2)
    few = 20
    return Costs(
        update=_seconds(lambda: agent.update(batch)),
        env_step=_seconds(lambda: collector.step(agent)),
        diffusion_step=_seconds(lambda: model.fit(rows, labels, steps=few), 1) / few,
        generated_row=_seconds(lambda: model.sample(labels), 1) / labels.shape[1],
    )


def estimate_seconds(profile: Profile, costs: Costs, arms: list[str], pretrainings: int, jobs: int) -> float:
    """Wall time of ``pretrainings`` and of one cell per entry of ``arms``, spread over ``jobs`` processes."""
    plan, evaluation = profile.finetune, profile.evaluation
    played = (plan.steps // evaluation.every + 1) * evaluation.episodes * 500  # half-length episodes
    online = plan.steps * (costs.update + costs.env_step) + played * costs.env_step
    refreshes = (plan.steps - 1) // plan.refresh_every
    later = profile.refresh.steps if profile.refresh.warm_start else profile.refresh.first_steps
    fits = profile.refresh.first_steps + (refreshes - 1) * later if refreshes else 0
    augment = fits * costs.diffusion_step + refreshes * plan.synthetic_rows * costs.generated_row
    work = pretrainings * profile.pretrain.steps * costs.update
    work += sum(online + (augment if ARMS[arm].augments else 0) for arm in arms)
    return work / jobs


def _seconds(work: Callable[[], object], repeats: int = 20) -> float:
    work()
    began = time.perf_counter()
    for _ in range(repeats):
        work()
    return (time.perf_counter() - began) / repeats
