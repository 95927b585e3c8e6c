"""Learners, buffers and mixers, each made from its group of a cell's settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from cfdg_experiments.arms import Arm
from cfdg_experiments.profiles.profile import LearnerSettings, MixingSettings, ReplaySettings
from cfdg_rl.agents.apl import APL
from cfdg_rl.agents.capture import make_eager
from cfdg_rl.agents.iql import IQL, IQLSettings
from cfdg_rl.agents.pex import PEX, PEXSettings
from cfdg_rl.agents.td3_bc import TD3BC, TD3BCSettings
from cfdg_rl.buffer import FixedRows, Ring
from cfdg_rl.composition import branches, split
from cfdg_rl.datasets.load import Dataset
from cfdg_rl.finetune import FinetunePlan, SparseReward
from cfdg_rl.mixing import Bernoulli, Concatenated, Pools
from cfdg_rl.protocols import Learner
from cfdg_rl.rewards import REWARDS, RewardMap
from cfdg_rl.streams import Streams
from cfdg_rl.transitions import row_width, to_rows

ONLINE_ROWS = 1_000_000  # rows of the online ring, first in, first out (PEX)
ARCHIVE_ROWS = 3_000_000  # rows of the offline ring of the APL repository


def offline_learner(
    settings: LearnerSettings, dims: tuple[int, int], seeds: tuple[int, ...], device: torch.device
) -> Learner:
    """Make an untrained learner for the offline phase; ``dims`` are S and A."""
    if isinstance(settings, IQLSettings):
        return IQL(*dims, settings, seeds=seeds, device=device)
    if isinstance(settings, TD3BCSettings):
        return TD3BC(*dims, settings, seeds=seeds, device=device)
    return APL(*dims, settings, seeds=seeds, device=device)


def online_learner(offline: Learner, pex: PEXSettings | None) -> Learner:
    """Make the learner of the online phase: the pre-trained one itself, or with ``pex`` its policy expansion."""
    if pex is not None and isinstance(offline, IQL):
        return PEX(offline, pex)  # takes the target critics over as they are
    offline.go_online()
    return offline


def choose_device(name: str) -> torch.device:
    """Return the device of a profile's ``device``; "auto" is a GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def reward_map(settings: LearnerSettings, data: Dataset) -> RewardMap:
    """Make the one map that dataset and environment share."""
    return REWARDS[settings.reward](data.episode_returns)


def plan_of(plan: FinetunePlan, arm: Arm, data: Dataset, reward: RewardMap) -> FinetunePlan:
    """Give the loop the arm's share of generated rows, and of a task with two rewards these, mapped, to snap to."""
    return replace(plan, online_share=arm.share(plan.online_share), sparse_reward=goal_rewards(data, reward))


def goal_rewards(data: Dataset, reward: RewardMap) -> SparseReward:
    """Return the two rewards of a task with a goal as the learner sees them; False for any other task."""
    return reward.pair(*data.goal_rewards) if data.goal_rewards else False


def make_mixer(
    plan: FinetunePlan, arm: Arm, mixing: MixingSettings, replay: ReplaySettings | None, streams: Streams
) -> Concatenated | Bernoulli:
    """Make the mixer of paradigm 2 from its ``replay`` settings; without them that of paradigm 1.

    Args:
        plan: the profile's, whose share of generated online rows is CFDG's.
        arm: composes the batch.
        mixing: synthetic ratio and protocol.
        replay: APL's replay, None for paradigm 1.
        streams: randomness of the draws.
    """
    composition = arm.composition(mixing.match, mixing.synthetic_ratio, plan.online_share)
    if replay is not None:
        own = branches(composition.synthetic, arm.share(plan.online_share))
        return Bernoulli(streams, replay.probability, replay.gate, own, extra=mixing.extra)
    first = plan.refresh_every if plan.refreshes_at(plan.refresh_every) else plan.steps + 1
    return Concatenated(streams, composition, None if arm.augments else first, extra=mixing.extra)


def offline_pools(data: Dataset, reward: RewardMap, replicas: int, device: torch.device) -> Pools:
    """Make the buffers of the offline phase: the dataset, and rings that stay empty."""
    columns = row_width(data.obs_dim, data.action_dim)
    rows = to_rows(replace(data.transitions, reward=reward(data.transitions.reward))).to(device)
    first, second, third = (Ring(replicas, 1, columns, device) for _ in range(3))
    return Pools(
        offline=FixedRows(rows),
        online=first,
        offline_synthetic=second,
        online_synthetic=third,
        obs_dim=data.obs_dim,
        action_dim=data.action_dim,
    )


def online_pools(pools: Pools, plan: FinetunePlan, replay: ReplaySettings | None, augments: bool) -> Pools:
    """Make the four buffers of a plan, and APL's archive; without a generator its rings hold one row."""
    replicas, _, columns = pools.online.rows.shape
    on, off = split(plan.synthetic_rows, plan.online_share, 1 - plan.online_share) if augments else (1, 1)

    def ring(rows: int) -> Ring:
        return Ring(replicas, max(1, rows), columns, pools.offline.rows.device)

    return replace(
        pools,
        online=ring(min(plan.steps, replay.online_rows if replay else ONLINE_ROWS)),
        offline_synthetic=ring(off),
        online_synthetic=ring(on),
        archive=ring(min(plan.steps, ARCHIVE_ROWS)) if replay and replay.offline_gets_online else None,
    )


def save_learner(agent: Learner) -> dict[str, Any]:
    """Collect weights, counters, optimisers and random streams."""
    return {
        "weights": dict(agent.state_dict()),
        "optimisers": {name: optimiser.state_dict() for name, optimiser in agent.optimisers.items()},
        "streams": {name: streams.state() for name, streams in agent.streams.items()},
    }


def load_learner(agent: Learner, state: Mapping[str, Any]) -> None:
    """Restore what :func:`save_learner` collected, on whatever device that was; see :meth:`Streams.restore`."""
    agent.load_state_dict(state["weights"])
    for name, optimiser in agent.optimisers.items():
        optimiser.load_state_dict(state["optimisers"][name])
        make_eager(optimiser)  # a captured learner makes it capturable again
    for name, streams in agent.streams.items():
        streams.restore(state["streams"][name])
