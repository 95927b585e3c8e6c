"""Augmentation of a running cell: the arm's generator, what happens after each refresh, and the state of both."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from cfdg_experiments.arms import Arm
from cfdg_experiments.generators.context import Context
from cfdg_experiments.generators.interface import ResumableGenerator
from cfdg_experiments.inspection import Inspection
from cfdg_experiments.profile import CellProfile
from cfdg_rl.datasets.load import Dataset
from cfdg_rl.envs.simulate import has_simulator
from cfdg_rl.mixing import Pools
from cfdg_rl.protocols import Learner, Metrics
from cfdg_rl.rewards import RewardMap
from cfdg_rl.streams import Streams


class PresentPolicy:
    """Actions of the policy as it is, drawn from streams of their own.

    The learner's streams stay as they are, so that runs with and without such draws explore alike.

    Args:
        agent: the learner.
        streams: randomness of the draws, one stream per replica.
    """

    def __init__(self, agent: Learner, streams: Streams) -> None:
        self.agent = agent
        self.streams = streams

    def __call__(self, obs: Tensor) -> Tensor:
        """Draw actions ``(R, B, A)`` for observations ``(R, B, S)``."""
        exploration = self.agent.streams["exploration"]
        before = exploration.state()
        exploration.restore(self.streams.state())
        action = self.agent.act(obs, explore=True)
        self.streams.restore(exploration.state())
        exploration.restore(before)
        return action


class Augmentation:
    """The part of a run in which arms differ, beside the composition of a batch.

    Args:
        arm: of the cell.
        profile: settings of the cell.
        data: the dataset.
        agent: the learner, whose policy a generator may ask for actions.
        reward: maps raw rewards to the learner's.
        device: of everything.

    Attributes:
        generator: fills the synthetic buffers; None for an arm of real rows alone.
        refreshes: refreshes so far.
    """

    def __init__(
        self, arm: Arm, profile: CellProfile, data: Dataset, *, agent: Learner, reward: RewardMap, device: torch.device
    ) -> None:
        self.arm = arm
        self.profile = profile
        self.policy = PresentPolicy(agent, Streams(profile.seeds, "present policy", device))
        context = Context(
            dims=(data.obs_dim, data.action_dim),
            seeds=profile.seeds,
            device=str(device),
            diffusion=profile.diffusion,
            schedule=profile.refresh,
            settings=profile.generators,
            policy=self.policy,
            env_id=data.env_id,
            reward=reward,
        )
        self.generator: ResumableGenerator | None = arm.generator(context)
        self.inspection = _inspection(context, profile) if self.generator and profile.inspection.enabled else None
        self.refreshes = 0

    def after_refresh(self, pools: Pools, update: Callable[[], object]) -> Metrics:
        """Do what the arm does at the time of a refresh, once its buffers are full; metrics ``(R,)``.

        Args:
            pools: the buffers.
            update: takes one gradient step of the learner.
        """
        self.refreshes += 1
        like = torch.ones(len(self.profile.seeds))
        found: dict[str, Tensor] = {}
        if self.generator is not None:
            calls = self.generator.network_calls(self.profile.finetune.synthetic_rows)
            found["refresh/network_calls"] = calls * like
        began = time.perf_counter()
        if self.inspection is not None:
            found |= self.inspection(pools)
            found["refresh/inspect_seconds"] = (time.perf_counter() - began) * like
        if self.arm.takes_updates:
            for _ in range(self.further_updates()):
                update()
            found["refresh/update_seconds"] = (time.perf_counter() - began) * like
        return found

    def further_updates(self) -> int:
        """Return the updates that stand for the latest refresh of a generator."""
        ratio = self.profile.generators.updates_per_fit_step
        return round(ratio * self.profile.refresh.steps_at(self.refreshes))

    def state(self) -> dict[str, Any]:
        """Collect everything that changes."""
        state: dict[str, Any] = {"refreshes": self.refreshes, "policy": self.policy.streams.state()}
        for name, part in (("generator", self.generator), ("inspection", self.inspection)):
            if part is not None:
                state[name] = part.state()
        return state

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue where :meth:`state` was taken."""
        self.refreshes = int(state["refreshes"])
        self.policy.streams.restore(state["policy"])
        for name, part in (("generator", self.generator), ("inspection", self.inspection)):
            if part is not None and name in state:
                part.restore(state[name])


def _inspection(context: Context, profile: CellProfile) -> Inspection:
    """Make the inspection, with a simulator where the environment has one."""
    outcomes = context.outcomes() if has_simulator(context.env_id) else None
    return Inspection(context.streams("inspection"), outcomes, profile.inspection)
