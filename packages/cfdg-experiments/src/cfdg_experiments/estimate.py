"""How long a table will take, from a few seconds of its real work on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from cfdg_experiments.agents import learner_settings, offline_learner, online_learner
from cfdg_experiments.arms import ARMS, make_model
from cfdg_experiments.profile import Profile, settled
from cfdg_experiments.run import Cell
from cfdg_rl.collect import EnvCollector
from cfdg_rl.mixing import OFFLINE, ONLINE, Batch
from cfdg_rl.rewards import RewardMap
from cfdg_rl.transitions import from_rows, row_width

PROBE_ENV, PROBE_DIMS = "Hopper-v5", (11, 3)  # the slowest of the locomotion environments to step, with Walker2d


@dataclass(frozen=True)
class AgentCosts:
    """Seconds on this machine, for all replicas of a cell together.

    Attributes:
        offline_update: one gradient step of the pre-training.
        update: one gradient step of the fine-tuning.
        env_step: one step of every replica's environment.
    """

    offline_update: float
    update: float
    env_step: float


@dataclass(frozen=True)
class ModelCosts:
    """Seconds on this machine, for all replicas of a cell together.

    Attributes:
        step: one gradient step of the generator.
        row: one generated row for every replica.
    """

    step: float
    row: float


def agent_costs(profile: Profile, algorithm: str) -> AgentCosts:
    """Time an algorithm's updates and steps briefly, with the profile's own sizes on one core per job."""
    offline = offline_learner(profile, algorithm, PROBE_DIMS, torch.device("cpu"))
    size = profile.pretrain.batch_size
    rows = torch.rand(len(profile.seeds), size, row_width(*PROBE_DIMS))
    first, second = (
        Batch(from_rows(rows, *PROBE_DIMS), torch.full((size,), label), label) for label in (OFFLINE, ONLINE)
    )
    offline_update = _seconds(lambda: offline.update(first))
    online = online_learner(profile, algorithm, offline)
    online_update = _seconds(lambda: online.update(second))
    if algorithm == "apl":  # half of its batches are offline ones, which cost more
        online_update = (online_update + offline_update) / 2
    collector = EnvCollector(PROBE_ENV, profile.seeds, RewardMap())
    return AgentCosts(offline_update, online_update, _seconds(lambda: collector.step(online)))


def model_costs(profile: Profile) -> ModelCosts:
    """Time the generator's training and sampling briefly."""
    rows = torch.rand(len(profile.seeds), profile.finetune.batch_size, row_width(*PROBE_DIMS))
    model = make_model(ARMS["cfdg"], profile.diffusion, *PROBE_DIMS, profile.seeds, "cpu")
    labels = (torch.arange(rows.shape[1]) % 2).expand(len(profile.seeds), -1)
    model.fit(rows, labels, steps=2)
    few = 20
    return ModelCosts(
        step=_seconds(lambda: model.fit(rows, labels, steps=few), 1) / few,
        row=_seconds(lambda: model.sample(labels), 1) / labels.shape[1],
    )


def estimate_seconds(profile: Profile, cells: Sequence[Cell], pretrainings: Sequence[Cell]) -> float:
    """Time of the cells, and of one pre-training for each of ``pretrainings``, one after the other on one core."""
    model = model_costs(profile)
    costs: dict[object, AgentCosts] = {}
    total = 0.0
    for cell in cells:
        own = settled(profile, cell.dataset, cell.algorithm)
        key = (cell.algorithm, learner_settings(own, cell.algorithm))
        if key not in costs:
            costs[key] = agent_costs(own, cell.algorithm)
        total += online_seconds(own, costs[key])
        total += refresh_seconds(own, model) if ARMS[cell.arm].augments else 0.0
        total += own.pretrain.steps * costs[key].offline_update if cell in pretrainings else 0.0
    return total


def online_seconds(profile: Profile, costs: AgentCosts) -> float:
    """Collecting, updating and evaluating of one settled cell."""
    plan, evaluation = profile.finetune, profile.evaluation
    updates = sum(plan.updates_at(t) for t in range(plan.round_steps, plan.steps + 1, plan.round_steps))
    played = (plan.steps // evaluation.every + 1) * evaluation.episodes * 500  # half-length episodes
    return updates * costs.update + (plan.steps + played) * costs.env_step


def refresh_seconds(profile: Profile, costs: ModelCosts) -> float:
    """Training and sampling of the generator in one settled cell."""
    plan, refresh = profile.finetune, profile.refresh
    refreshes = (plan.steps - 1) // plan.refresh_every
    later = refresh.steps if refresh.warm_start else refresh.first_steps
    fits = refresh.first_steps + (refreshes - 1) * later if refreshes else 0
    return fits * costs.step + refreshes * plan.synthetic_rows * costs.row


def _seconds(work: Callable[[], object], repeats: int = 20, enough: float = 0.5) -> float:
    """Mean seconds of ``work`` after a first time, over ``repeats`` or as many as take ``enough`` seconds."""
    work()
    began, done = time.perf_counter(), 0
    while done < repeats and time.perf_counter() - began < enough:
        work()
        done += 1
    return (time.perf_counter() - began) / done
