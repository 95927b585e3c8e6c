"""From a profile to a learner: what each algorithm pre-trains, what it fine-tunes, and how its batches are mixed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from cfdg_experiments.arms import ARMS
from cfdg_experiments.profile import Profile
from cfdg_rl.agents.apl import APL, APLSettings
from cfdg_rl.agents.capture import Captured
from cfdg_rl.agents.iql import IQL, IQLSettings
from cfdg_rl.agents.pex import PEX
from cfdg_rl.agents.td3_bc import TD3BC, TD3BCSettings
from cfdg_rl.buffer import FixedRows, Ring
from cfdg_rl.datasets.load import Dataset
from cfdg_rl.finetune import FinetunePlan
from cfdg_rl.mixing import Bernoulli, Concatenated, Pools
from cfdg_rl.protocols import Learner
from cfdg_rl.rewards import REWARDS, RewardMap
from cfdg_rl.streams import Streams
from cfdg_rl.transitions import row_width, to_rows

PRETRAINED_AS = {"iql": "iql", "pex": "iql", "apl": "apl"}  # algorithms of one value share their offline checkpoints
_ONE_MILLION = 1_000_000  # rows of the online ring, first in, first out (PEX)
_THREE_MILLION = 3_000_000  # rows of the offline ring of the APL repository


def learner_settings(profile: Profile, algorithm: str) -> IQLSettings | APLSettings | TD3BCSettings:
    """Hyper-parameters of the learner that is pre-trained."""
    if PRETRAINED_AS[algorithm] == "iql":
        return profile.iql
    return profile.apl.td3_bc if profile.apl.learner == "td3-bc" else profile.apl.conservative


def offline_learner(profile: Profile, algorithm: str, dims: tuple[int, int], device: torch.device) -> Learner:
    """An untrained learner for the offline phase; ``dims`` are S and A."""
    settings, own = learner_settings(profile, algorithm), {"seeds": profile.seeds, "device": device}
    if isinstance(settings, IQLSettings):
        return IQL(*dims, settings, **own)
    return TD3BC(*dims, settings, **own) if isinstance(settings, TD3BCSettings) else APL(*dims, settings, **own)


def online_learner(profile: Profile, algorithm: str, offline: Learner) -> Learner:
    """What a pre-trained learner becomes for fine-tuning: itself, or the policy expansion of it."""
    if algorithm == "pex" and isinstance(offline, IQL):
        return PEX(offline, profile.pex)  # takes the target critics over as they are
    offline.go_online()
    return offline


def captured(profile: Profile, agent: Learner) -> Learner:
    """The learner, with its updates replayed as CUDA graphs where the profile asks for it.

    Raises:
        ValueError: if it asks for it on a CPU.
    """
    return Captured(agent) if profile.capture else agent


def reward_map(profile: Profile, algorithm: str, data: Dataset) -> RewardMap:
    """The one map that dataset and environment share."""
    return REWARDS[learner_settings(profile, algorithm).reward](data.episode_returns)


def plan_of(profile: Profile, arm: str, data: Dataset) -> FinetunePlan:
    """The profile's loop with the arm's share of generated rows; a maze's generated rewards snap."""
    share = ARMS[arm].online_share
    plan = profile.finetune if share is None else replace(profile.finetune, online_share=share)
    return replace(plan, sparse_reward=data.sparse)


def make_mixer(profile: Profile, algorithm: str, plan: FinetunePlan, streams: Streams) -> Concatenated | Bernoulli:
    """Paradigm 2 for APL, paradigm 1 for the others."""
    ratio, replay = profile.mixing.synthetic_ratio, profile.apl.replay
    if algorithm == "apl":
        return Bernoulli(streams, replay.probability, replay.gate, ratio)
    return Concatenated(streams, ratio, plan.online_share)


def offline_pools(profile: Profile, algorithm: str, data: Dataset, device: torch.device) -> Pools:
    """The dataset, and rings that stay empty."""
    columns, reward = row_width(data.obs_dim, data.action_dim), reward_map(profile, algorithm, data)
    rows = to_rows(replace(data.transitions, reward=reward(data.transitions.reward))).to(device)
    first, second, third = (Ring(len(profile.seeds), 1, columns, device) for _ in range(3))
    return Pools(FixedRows(rows), first, second, third, data.obs_dim, data.action_dim)


def online_pools(pools: Pools, profile: Profile, algorithm: str, plan: FinetunePlan, augments: bool) -> Pools:
    """The four buffers of a plan, and for APL the archive; without a generator its rings hold one row."""
    replicas, columns, device = len(profile.seeds), pools.offline.rows.shape[1], pools.offline.rows.device
    replay = profile.apl.replay if algorithm == "apl" else None
    synthetic = plan.synthetic_rows if augments else 1

    def ring(rows: int) -> Ring:
        return Ring(replicas, rows, columns, device)

    return replace(
        pools,
        online=ring(min(plan.steps, replay.online_rows if replay else _ONE_MILLION)),
        offline_synthetic=ring(synthetic),
        online_synthetic=ring(synthetic),
        archive=ring(min(plan.steps, _THREE_MILLION)) if replay and replay.offline_gets_online else None,
    )


def save_learner(agent: Learner) -> dict[str, Any]:
    """Weights, counters, optimisers and random streams."""
    return {
        "weights": dict(agent.state_dict()),
        "optimisers": {name: optimiser.state_dict() for name, optimiser in agent.optimisers.items()},
        "streams": {name: streams.state() for name, streams in agent.streams.items()},
    }


def load_learner(agent: Learner, state: Mapping[str, Any]) -> None:
    """The inverse of :func:`save_learner`."""
    agent.load_state_dict(state["weights"])
    for name, optimiser in agent.optimisers.items():
        optimiser.load_state_dict(state["optimisers"][name])
    for name, streams in agent.streams.items():
        streams.restore(state["streams"][name])
